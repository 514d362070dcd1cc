// Takes up duties from the database and has their handlers do them, with a few threads.
//
//   DutyRunner duties({.owner = controller_id}, storage, SystemClock(), SystemRandom());
//   duties.Register(DutyKind::kPrepare, &prepare);
//   duties.Start();
//   …
//   if (!duties.Shutdown(absl::Seconds(10))) _exit(1);
//
// A duty is held for `lease` and prolonged every third of it. One that could not be prolonged in time is
// regarded as lost, by this controller's clock and counted from when the prolonging was sent, so before
// anybody else gets it; its handler stops, and what it still writes is refused by the duty's epoch. With the
// database away nothing exits: duties run out, and are taken up again when it is back.
#ifndef DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_RUNNER_H_
#define DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_RUNNER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "services/controller/duties/duty_handler.h"
#include "services/controller/duties/duty_table.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct DutyRunnerOptions {
  std::string owner;  // this controller's id, new at each start
  DutyLimits limits;
  absl::Duration lease = absl::Seconds(10);        // at least 1 s
  absl::Duration poll = absl::Milliseconds(250);   // between looks when nothing wakes it
  absl::Duration max_backoff = absl::Seconds(15);  // of a duty, after passing errors
  // Ends the handlers' blocking calls of stores (StoreProvider::Shutdown), when they did not return in half
  // the time that Shutdown() allows. May be empty.
  std::function<void()> interrupt;
  // Told of each run of a handler: for metrics. May be empty; must not block.
  std::function<void(DutyKind, DutyOutcome::What, absl::Duration)> on_run;
};

// Wake() is thread-safe; the rest belongs to one thread.
class DutyRunner {
 public:
  using Options = DutyRunnerOptions;

  // `storage`, `clock`, `random` and the handlers must outlive it, and its threads (see Shutdown).
  DutyRunner(Options options, Storage& storage, const Clock& clock, Random& random);
  // Shuts down, if that was not done, waiting as long as it takes.
  ~DutyRunner();
  DutyRunner(const DutyRunner&) = delete;
  DutyRunner& operator=(const DutyRunner&) = delete;

  // Before Start(). Kinds without a handler are left to other controllers.
  void Register(DutyKind kind, DutyHandler* handler);
  void Start();
  // Looks for duties now instead of at the next poll. Cheap, from any thread.
  void Wake();
  // Takes up no more duties, asks the handlers to stop, and lets go of theirs, to be had at once by another
  // controller. False if some did not end within `bound`: their threads go on by themselves, and the process
  // must end now without destroying what they use.
  [[nodiscard]] bool Shutdown(absl::Duration bound);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_RUNNER_H_
