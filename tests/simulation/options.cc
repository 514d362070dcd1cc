#include "tests/simulation/options.h"

#include "tests/simulation/virtual_time.h"

namespace drover::simulation {
namespace {

// Sizes and times, without any fault.
Options Sizes(Dice& dice) {
  Options options;
  options.controllers = dice.Between(1, 3);
  options.workers = dice.Between(1, 4);
  options.jobs = dice.Between(1, 4);
  options.max_tasks = dice.Chance(0.2) ? 300 : dice.Between(10, 120);
  options.concurrency = dice.Between(1, 6);
  constexpr int kTtls[] = {3, 6, 15};
  options.ttl = absl::Seconds(kTtls[dice.Below(3)]);
  options.faults_for = dice.Between(absl::Seconds(10), absl::Seconds(40));
  options.task_time =
      dice.Between(absl::Milliseconds(50), dice.Chance(0.8) ? absl::Seconds(1) : absl::Seconds(5));
  return options;
}

}  // namespace

const std::vector<PlantedName>& PlantedNames() {
  static const std::vector<PlantedName>& names = *new std::vector<PlantedName>{
      {Planted::kNone, "none"},
      {Planted::kNumberReadByController, "number-read-by-controller"},
      {Planted::kMarkingLowers, "marking-lowers"},
      {Planted::kReturnsWhatIsNotListed, "returns-what-is-not-listed"},
      {Planted::kRaisedBeforeMarked, "raised-before-marked"},
      {Planted::kUnknownClaimForgotten, "unknown-claim-forgotten"},
      {Planted::kNoReturnBehindNumber, "no-return-behind-number"},
      {Planted::kResumeToReady, "resume-to-ready"},
      {Planted::kEndsWhileLeasesOwned, "ends-while-leases-owned"},
      {Planted::kBitmapBeforeKey, "bitmap-before-key"},
      {Planted::kWelcomeLiftsFence, "welcome-lifts-fence"},
      {Planted::kReturnedBeforeSessionEnds, "returned-before-session-ends"},
      {Planted::kHelloForgetsUnacked, "hello-forgets-unacked"},
      {Planted::kSegmentsCutAnew, "segments-cut-anew"},
      {Planted::kStateNotLocked, "state-not-locked"},
      {Planted::kNoFence, "no-fence"},
      {Planted::kAckBeforeCommit, "ack-before-commit"},
      {Planted::kRegrantWhole, "regrant-whole"},
      {Planted::kGivenBackApart, "given-back-apart"},
      {Planted::kCompletionFromMemory, "completion-from-memory"},
      {Planted::kContextDecidedEarly, "context-decided-early"},
      {Planted::kOutageIgnored, "outage-ignored"},
      {Planted::kWorkerNeverFences, "worker-never-fences"},
  };
  return names;
}

const std::vector<Profile>& Profiles() {
  static const std::vector<Profile>& profiles = *new std::vector<Profile>{
      {"any", OptionsOf},
      {"streams", OnlyStreamsAndControllers},
      {"outages", OnlyOutages},
      {"late", MuchComesLate},
  };
  return profiles;
}

Options OptionsOf(uint64_t seed) {
  Dice dice(seed * 0x9e3779b97f4a7c15 + 1);
  Options options = Sizes(dice);
  FaultRates& faults = options.faults;
  // Few kinds at once find more than all of them always.
  const auto sometimes = [&](double& rate, double most) {
    if (dice.Chance(0.4)) rate = dice.NextUnit() * most;
  };
  sometimes(faults.stream_cut, 20);
  sometimes(faults.controller_crash, 8);
  sometimes(faults.controller_drain, 4);
  sometimes(faults.worker_crash, 8);
  sometimes(faults.worker_stop, 8);
  sometimes(faults.worker_drain, 4);
  sometimes(faults.worker_clock, 4);
  sometimes(faults.database_away, 4);
  sometimes(faults.person, 20);
  sometimes(faults.call_refused, 0.05);
  sometimes(faults.call_unknown, 0.05);
  sometimes(faults.call_stalled, 0.01);
  sometimes(faults.late_hellos, 0.3);
  sometimes(faults.store_fails, 0.3);
  sometimes(faults.task_transient, 0.2);
  faults.silence = dice.Chance(0.5) ? absl::Milliseconds(200) : absl::Seconds(12);
  return options;
}

Options OnlyStreamsAndControllers(uint64_t seed) {
  Dice dice(seed * 0x9e3779b97f4a7c15 + 2);
  Options options = Sizes(dice);
  options.controllers = dice.Between(2, 3);
  options.ttl = absl::Seconds(15);
  FaultRates& faults = options.faults;
  faults.stream_cut = dice.NextUnit() * 40;
  faults.controller_crash = dice.NextUnit() * 6;
  faults.call_refused = dice.NextUnit() * 0.03;
  faults.call_unknown = dice.NextUnit() * 0.05;
  faults.call_stalled = dice.NextUnit() * 0.01;
  faults.stall = absl::Seconds(2);
  faults.late_hellos = dice.NextUnit() * 0.3;
  faults.silence = absl::Milliseconds(600);
  options.no_task_runs_twice = true;
  options.no_session_ends = true;
  return options;
}

Options OnlyOutages(uint64_t seed) {
  Dice dice(seed * 0x9e3779b97f4a7c15 + 3);
  Options options = Sizes(dice);
  options.ttl = absl::Seconds(dice.Chance(0.5) ? 6 : 15);
  options.faults_for = 8 * options.ttl;
  options.task_time = dice.Between(absl::Seconds(1), absl::Seconds(5));
  options.max_tasks = 200;
  options.faults.database_away = 3;
  options.no_session_ends = true;
  return options;
}

Options MuchComesLate(uint64_t seed) {
  Dice dice(seed * 0x9e3779b97f4a7c15 + 4);
  Options options = Sizes(dice);
  options.controllers = dice.Between(2, 3);
  options.ttl = absl::Seconds(dice.Chance(0.5) ? 3 : 6);
  FaultRates& faults = options.faults;
  faults.stream_cut = dice.NextUnit() * 60;
  faults.worker_stop = dice.Chance(0.5) ? dice.NextUnit() * 30 : 0;
  faults.person = dice.Chance(0.5) ? dice.NextUnit() * 120 : 0;
  faults.call_unknown = dice.Chance(0.5) ? dice.NextUnit() * 0.05 : 0;
  faults.call_stalled = dice.NextUnit() * 0.04;
  faults.stall = absl::Seconds(3);
  faults.late_hellos = 0.3;
  faults.silence = absl::Milliseconds(300);
  return options;
}

}  // namespace drover::simulation
