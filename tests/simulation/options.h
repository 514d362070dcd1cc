// What a run of the simulation is made of: chosen from its seed, or set by a test.
#ifndef DROVER_TESTS_SIMULATION_OPTIONS_H_
#define DROVER_TESTS_SIMULATION_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace drover::simulation {

// A fault planted in the protocol: what docs/internals/protocol/README.md lists, as far as code can have it.
// Each is put between the real parts (in the storage's wrapper, on a stream, in MemoryDatabase), never into
// them.
enum class Planted {
  kNone,
  kNumberReadByController,     // a Hello's attachment number is one more than the database has
  kMarkingLowers,              // a Hello that was delayed lowers a number
  kReturnsWhatIsNotListed,     // attach (c) returns "what is not in the list", not "what has a lower number"
  kRaisedBeforeMarked,         // attach (b) before (a)
  kUnknownClaimForgotten,      // no controller looks for leases under its streams that it does not know
  kNoReturnBehindNumber,       // the janitor lets leases be that are behind their session's number
  kResumeToReady,              // Pausing -> Ready
  kEndsWhileLeasesOwned,       // Paused or Cancelled with leases owned
  kBitmapBeforeKey,            // a resent segment is held against the bitmap before its key is looked at
  kWelcomeLiftsFence,          // a Welcome counts as an acknowledged Status
  kReturnedBeforeSessionEnds,  // leases of an expired session come back before its row is deleted
  kHelloForgetsUnacked,        // a Hello leaves out leases that only wait for their last acknowledgment
  kSegmentsCutAnew,            // a resent segment has other content
  kStateNotLocked,             // a claim goes by a state that was read before
  kNoFence,                    // a segment of a lease that is not its session's is recorded
  kAckBeforeCommit,            // a segment is acknowledged, then committed
  kRegrantWhole,               // a regrant does not subtract what is recorded
  kGivenBackApart,             // tasks given back become a lease in a second transaction
  kCompletionFromMemory,       // each controller judges completion by what it has recorded itself
  kContextDecidedEarly,        // what a Grant needs is decided when it is queued, and a Revoke overtakes it
  kOutageIgnored,              // the janitor ends sessions after an outage
  kWorkerNeverFences,          // a worker believes each Status acknowledged as soon as it is sent
};

struct PlantedName {
  Planted planted;
  std::string_view name;
};
const std::vector<PlantedName>& PlantedNames();

// How often each kind of fault happens, per minute of virtual time; 0: never.
struct FaultRates {
  double stream_cut = 0;
  double controller_crash = 0;
  double controller_drain = 0;
  double worker_crash = 0;
  double worker_stop = 0;
  double worker_drain = 0;
  double worker_clock = 0;  // its wall clock jumps, or Elapsed() leaps forward
  double database_away = 0;
  double person = 0;  // pauses, resumes, cancels, changes a priority
  // Shares of database calls.
  double call_refused = 0;  // rolled back
  double call_unknown = 0;  // committed, and the answer lost
  double call_stalled = 0;  // for up to `stall`
  // Share of requests to the report's store that fail.
  double store_fails = 0;
  // Share of attempts at tasks that fail and may be repeated.
  double task_transient = 0;
  absl::Duration stall = absl::Seconds(8);
  // Share of Hellos that are on their way for seconds.
  double late_hellos = 0;
  // How long at most until one side of a broken stream hears of it.
  absl::Duration silence = absl::Seconds(12);
};

struct Options {
  int controllers = 2;
  int workers = 2;
  int jobs = 2;
  int max_tasks = 120;  // of a job
  int concurrency = 4;
  absl::Duration ttl = absl::Seconds(15);
  absl::Duration faults_for = absl::Seconds(40);
  absl::Duration task_time = absl::Seconds(1);  // the longest attempt
  FaultRates faults;
  Planted planted = Planted::kNone;

  // What this run's faults can't excuse.
  bool no_task_runs_twice = false;
  bool no_session_ends = false;
};

// What a seed stands for: sizes, and a few kinds of faults out of all.
Options OptionsOf(uint64_t seed);
// Streams break and controllers die, never all at once for long: no task may run twice, and no session ends.
Options OnlyStreamsAndControllers(uint64_t seed);
// Nothing but outages of the database, some longer than the TTL: no session may end.
Options OnlyOutages(uint64_t seed);
// Messages and transactions that come late, streams that break, people in a hurry, workers that stand still.
Options MuchComesLate(uint64_t seed);

// A profile's name, as of `drover-simulate --profile`, and what makes a run's options of a seed.
struct Profile {
  std::string_view name;
  Options (*options)(uint64_t seed);
};
const std::vector<Profile>& Profiles();

struct Outcome {
  std::string failure;  // empty: all invariants held, and nothing waited for ever
  int64_t steps = 0;
  int64_t tasks = 0;
  int64_t requests = 0;
  absl::Duration virtual_time;
};

// One run. `trace`: says on standard output what happens.
Outcome Simulate(uint64_t seed, const Options& options, bool trace = false);

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_OPTIONS_H_
