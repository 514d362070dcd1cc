// Thousands of runs keep all invariants; each planted fault is caught; and a run is a function of its seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/strings/strings.h"
#include "tests/simulation/options.h"

namespace drover::simulation {
namespace {

// Of `./dev test`; DROVER_SIMULATION_RUNS sets another number, DROVER_SIMULATION_FIRST another first seed.
constexpr int64_t kRuns = 5000;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* const text = std::getenv(name);
  int64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// A program of its own for each core: a run's log is its process's.
class Child {
 public:
  explicit Child(const std::string& arguments)
      : pipe_(popen(StrCat(DROVER_SIMULATE, " ", arguments, " 2>&1").c_str(), "r")) {}
  // What it wrote, and whether it succeeded.
  std::pair<std::string, bool> Wait() {
    std::string output;
    char buffer[4096];
    while (fgets(buffer, sizeof(buffer), pipe_) != nullptr) output += buffer;
    const int status = pclose(pipe_);
    return {output, WIFEXITED(status) && WEXITSTATUS(status) == 0};
  }

 private:
  FILE* const pipe_;
};

void ExpectAllPass(const std::string& profile, int64_t runs) {
  const int64_t first = FromEnvironment("DROVER_SIMULATION_FIRST", 1);
  const int64_t middle = first + runs / 2;
  std::vector<Child> children;
  children.emplace_back(StrCat("--profile ", profile, " --seeds ", first, "-", middle - 1));
  children.emplace_back(StrCat("--profile ", profile, " --seeds ", middle, "-", first + runs - 1));
  for (Child& child : children) {
    const auto [output, passed] = child.Wait();
    EXPECT_TRUE(passed) << output;
    std::printf("%s: %s", profile.c_str(), output.c_str());
  }
}

TEST(Simulation, KeepsItsInvariantsThroughAnyFaults) {
  ExpectAllPass("any", FromEnvironment("DROVER_SIMULATION_RUNS", kRuns) * 7 / 10);
}

TEST(Simulation, KeepsItsInvariantsWhenMuchComesLate) {
  ExpectAllPass("late", FromEnvironment("DROVER_SIMULATION_RUNS", kRuns) / 10);
}

TEST(Simulation, RunsNoTaskTwiceWhileOnlyStreamsBreakAndControllersDie) {
  ExpectAllPass("streams", FromEnvironment("DROVER_SIMULATION_RUNS", kRuns) / 10);
}

TEST(Simulation, EndsNoSessionInAnOutageOfTheDatabase) {
  ExpectAllPass("outages", FromEnvironment("DROVER_SIMULATION_RUNS", kRuns) / 10);
}

TEST(Simulation, IsAFunctionOfItsSeed) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Outcome once = Simulate(seed, OptionsOf(seed));
    const Outcome again = Simulate(seed, OptionsOf(seed));
    EXPECT_EQ(once.steps, again.steps) << "seed " << seed;
    EXPECT_EQ(once.requests, again.requests) << "seed " << seed;
    EXPECT_EQ(once.virtual_time, again.virtual_time) << "seed " << seed;
    EXPECT_GT(once.requests, 0);
  }
}

// ------------------------------------------------------------------------------------------------ planted
// faults

struct PlantedTest {
  Planted planted;
  Options (*profile)(uint64_t);
  const char* symptom;  // of which the run speaks, in some seed
};

class PlantedFaultTest : public ::testing::TestWithParam<PlantedTest> {};

// More than enough: most are found within a few dozen runs (docs/internals/simulation.md).
constexpr uint64_t kMaxRuns = 1500;

TEST_P(PlantedFaultTest, IsCaught) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "tries the simulation, not the code, and takes minutes under this sanitizer";
#endif
  for (uint64_t seed = 1; seed <= kMaxRuns; ++seed) {
    Options options = GetParam().profile(seed);
    options.planted = GetParam().planted;
    const Outcome outcome = Simulate(seed, options);
    if (outcome.failure.empty() || outcome.failure.find(GetParam().symptom) == std::string::npos) continue;
    std::printf("caught by seed %d: %s\n", static_cast<int>(seed), outcome.failure.c_str());
    return;
  }
  ADD_FAILURE() << "not caught in " << kMaxRuns << " runs";
}

INSTANTIATE_TEST_SUITE_P(
    All, PlantedFaultTest,
    ::testing::Values(PlantedTest{Planted::kNumberReadByController, OnlyStreamsAndControllers, ""},
                      PlantedTest{Planted::kMarkingLowers, OptionsOf, "without a lease"},
                      PlantedTest{Planted::kReturnsWhatIsNotListed, MuchComesLate, "without a lease"},
                      PlantedTest{Planted::kRaisedBeforeMarked, OnlyStreamsAndControllers, ""},
                      PlantedTest{Planted::kUnknownClaimForgotten, OptionsOf, "waits for ever"},
                      PlantedTest{Planted::kNoReturnBehindNumber, OptionsOf, "waits for ever"},
                      PlantedTest{Planted::kResumeToReady, MuchComesLate, "job_state_legal"},
                      PlantedTest{Planted::kEndsWhileLeasesOwned, OptionsOf, ""},
                      PlantedTest{Planted::kBitmapBeforeKey, OnlyStreamsAndControllers, "accuses"},
                      PlantedTest{Planted::kWelcomeLiftsFence, MuchComesLate, "has ended"},
                      PlantedTest{Planted::kReturnedBeforeSessionEnds, MuchComesLate, "without a lease"},
                      PlantedTest{Planted::kHelloForgetsUnacked, OnlyStreamsAndControllers, ""},
                      PlantedTest{Planted::kSegmentsCutAnew, OptionsOf, ""},
                      PlantedTest{Planted::kStateNotLocked, MuchComesLate, "a lease is owned"},
                      PlantedTest{Planted::kNoFence, MuchComesLate, ""},
                      PlantedTest{Planted::kAckBeforeCommit, OptionsOf, "not in the database"},
                      PlantedTest{Planted::kRegrantWhole, OptionsOf, ""},
                      PlantedTest{Planted::kGivenBackApart, OptionsOf, "neither recorded nor in a lease"},
                      PlantedTest{Planted::kCompletionFromMemory, OptionsOf, ""},
                      PlantedTest{Planted::kContextDecidedEarly, OptionsOf, "without a JobContext"},
                      PlantedTest{Planted::kOutageIgnored, OnlyOutages, "was ended though it lives"},
                      PlantedTest{Planted::kWorkerNeverFences, OptionsOf, ""}),
    [](const auto& info) {
      for (const PlantedName& each : PlantedNames()) {
        if (each.planted != info.param.planted) continue;
        std::string name;
        bool up = true;
        for (const char c : each.name) {
          if (c != '-') name.push_back(up ? static_cast<char>(std::toupper(c)) : c);
          up = c == '-';
        }
        return name;
      }
      return std::string("Unknown");
    });

}  // namespace
}  // namespace drover::simulation
