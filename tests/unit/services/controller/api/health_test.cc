#include "services/controller/api/health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "tests/unit/services/controller/api/signal.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;

// The reports of a poller, and what its pings answer.
struct Probe {
  std::atomic<bool> answers = true;
  Mutex mu;
  std::vector<bool> reports ABSL_GUARDED_BY(mu);

  std::function<void(bool)> Report() {
    return [this](bool serving) {
      MutexLock lock(&mu);
      reports.push_back(serving);
    };
  }
  std::vector<bool> Seen() {
    MutexLock lock(&mu);
    return reports;
  }
};

constexpr HealthPollerOptions kQuick = {.interval = absl::Milliseconds(1), .timeout = absl::Milliseconds(20)};

TEST(HealthPoller, ServesOnlyWhileTheDatabaseAnswers) {
  Probe probe;
  HealthPoller poller([&] { return probe.answers ? absl::OkStatus() : absl::UnavailableError("down"); },
                      probe.Report(), SystemClock(), kQuick);
  poller.Start();
  ASSERT_TRUE(Eventually([&] { return probe.Seen() == std::vector<bool>{false, true}; }));
  probe.answers = false;
  ASSERT_TRUE(Eventually([&] { return probe.Seen().size() == 3; }));
  probe.answers = true;
  ASSERT_TRUE(Eventually([&] { return probe.Seen().size() == 4; }));
  poller.Stop();
  EXPECT_THAT(probe.Seen(), ElementsAre(false, true, false, true, false));
}

TEST(HealthPoller, APingThatHangsIsNoAnswer) {
  Probe probe;
  std::atomic<bool> hang = false;
  Signal go_on;
  HealthPoller poller(
      [&] {
        if (hang) {
          EXPECT_TRUE(go_on.Wait());
        }
        return absl::OkStatus();
      },
      probe.Report(), SystemClock(), kQuick);
  poller.Start();
  ASSERT_TRUE(Eventually([&] { return probe.Seen().size() == 2; }));
  hang = true;
  ASSERT_TRUE(Eventually([&] { return probe.Seen() == std::vector<bool>{false, true, false}; }));
  hang = false;
  go_on.Set();
  ASSERT_TRUE(Eventually([&] { return probe.Seen().size() == 4; }));
  poller.Stop();
}

TEST(HealthPoller, StopsWithoutHavingStarted) {
  Probe probe;
  HealthPoller poller([] { return absl::OkStatus(); }, probe.Report(), SystemClock(), kQuick);
  poller.Stop();
  EXPECT_THAT(probe.Seen(), ElementsAre());
}

}  // namespace
}  // namespace drover
