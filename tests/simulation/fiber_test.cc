#include "tests/simulation/fiber.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/simulation/virtual_time.h"

namespace drover::simulation {
namespace {

using ::testing::ElementsAre;

TEST(Fiber, GoesOnWhereItLeftOff) {
  std::vector<int> steps;
  Fiber fiber([&] {
    steps.push_back(1);
    Fiber::Suspend();
    steps.push_back(3);
  });
  fiber.Resume();
  steps.push_back(2);
  EXPECT_FALSE(fiber.done());
  fiber.Resume();
  EXPECT_TRUE(fiber.done());
  EXPECT_THAT(steps, ElementsAre(1, 2, 3));
}

TEST(Fiber, AKilledOneUnwindsItsStackAndDoesNothingMore) {
  std::vector<std::string> steps;
  struct Note {
    std::vector<std::string>& steps;
    ~Note() { steps.push_back("unwound"); }
  };
  {
    Fiber fiber([&] {
      const Note note{steps};
      Fiber::Suspend();
      steps.push_back("went on");
    });
    fiber.Resume();
  }
  EXPECT_THAT(steps, ElementsAre("unwound"));
}

TEST(Process, ThreadsTakeTurnsInVirtualTime) {
  Agenda agenda;
  Process process(agenda);
  std::vector<std::string> steps;
  process.Spawn([&] {
    process.Sleep(absl::Seconds(2));
    steps.push_back("two");
  });
  process.Spawn([&] {
    process.Sleep(absl::Seconds(1));
    steps.push_back("one");
    process.Sleep(absl::Seconds(2));
    steps.push_back("three");
  });
  while (agenda.Step()) {
  }
  EXPECT_THAT(steps, ElementsAre("one", "two", "three"));
  EXPECT_EQ(agenda.now(), absl::Seconds(3));
}

TEST(Process, ASignalEndsAWaitAndIsRememberedUntilThen) {
  Agenda agenda;
  Process process(agenda);
  Signal signal;
  std::vector<absl::Duration> woken;
  process.Spawn([&] {
    process.Wait(signal, absl::Hours(1));
    woken.push_back(agenda.now());
    process.Sleep(absl::Seconds(5));  // the signal comes meanwhile
    process.Wait(signal, absl::Hours(1));
    woken.push_back(agenda.now());
    process.Wait(signal, absl::Seconds(10));
    woken.push_back(agenda.now());
  });
  agenda.After(absl::Seconds(1), [&] { signal.Give(); });
  agenda.After(absl::Seconds(3), [&] { signal.Give(); });
  while (agenda.Step()) {
  }
  EXPECT_THAT(woken, ElementsAre(absl::Seconds(1), absl::Seconds(6), absl::Seconds(16)));
}

TEST(Process, DyingTakesItsThreadsAlong) {
  Agenda agenda;
  Process process(agenda);
  bool went_on = false;
  process.Spawn([&] {
    process.Sleep(absl::Seconds(2));
    went_on = true;
  });
  agenda.After(absl::Seconds(1), [&] { process.KillThreads(); });
  while (agenda.Step()) {
  }
  EXPECT_FALSE(went_on);
}

}  // namespace
}  // namespace drover::simulation
