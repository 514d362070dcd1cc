// What does a piece of a job's work: a DutyHandler for each kind of duty, called by the DutyRunner.
//
//   DutyOutcome Run(DutyContext& duty) override {
//     while (more) {
//       if (duty.ShouldStop()) return DutyOutcome::Again(absl::ZeroDuration());
//       absl::Status status = storage_.AppendBatches(duty.duty(), …);   // fenced by the duty's epoch
//       if (!status.ok()) return OutcomeOf(status);
//     }
//     return DutyOutcome::Ended();
//   }
#ifndef DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_HANDLER_H_
#define DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_HANDLER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "services/controller/storage/storage.h"

namespace drover {

// What a handler did with a duty, and what is to become of the duty.
struct DutyOutcome {
  enum class What {
    kEnded,   // nothing: storage has ended it already, or somebody else holds it
    kDone,    // its row is to be removed
    kAgain,   // it is to be taken up again after `delay`, by anybody; nothing went wrong
    kFailed,  // a passing error: the same after a wait that grows with the number of tries
  };
  What what = What::kEnded;
  absl::Duration delay;
  absl::Status error;  // kFailed

  static DutyOutcome Ended() { return {}; }
  static DutyOutcome Done() { return {What::kDone, absl::ZeroDuration(), absl::OkStatus()}; }
  static DutyOutcome Again(absl::Duration delay) { return {What::kAgain, delay, absl::OkStatus()}; }
  static DutyOutcome Failed(absl::Status error) {
    return {What::kFailed, absl::ZeroDuration(), std::move(error)};
  }
};

// What an error of a fenced write of Storage means for the duty: kEnded when it is lost or the job has moved
// on (kAborted; kFailedPrecondition: cancelled meanwhile; kNotFound: the job is gone), else kFailed. After
// COMMIT_UNKNOWN the next holder finds in the database how far it got.
inline DutyOutcome OutcomeOf(const absl::Status& error) {
  switch (error.code()) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound: return DutyOutcome::Ended();
    default: return DutyOutcome::Failed(error);
  }
}

// A duty in a handler's hands. The handler's thread reads it; the runner's changes what it says. Thread-safe.
class DutyContext {
 public:
  // Held until the clock's Elapsed() is `held_until`.
  DutyContext(Duty duty, const Clock& clock, absl::Duration held_until)
      : duty_(std::move(duty)), clock_(clock), held_until_ns_(absl::ToInt64Nanoseconds(held_until)) {}
  DutyContext(const DutyContext&) = delete;
  DutyContext& operator=(const DutyContext&) = delete;

  const Duty& duty() const { return duty_; }
  // It was not prolonged in time, or the database says that it is not ours: another controller may be at it.
  // Nothing may be begun any more; what is written under it is refused by storage. Once lost it stays so,
  // whatever a late answer says.
  bool lost() const {
    if (lost_.load(std::memory_order_relaxed)) return true;
    if (absl::ToInt64Nanoseconds(clock_.Elapsed()) < held_until_ns_.load(std::memory_order_relaxed))
      return false;
    lost_.store(true, std::memory_order_relaxed);
    return true;
  }
  // The controller is going away: return soon, at a place where a successor can go on.
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  bool ShouldStop() const { return stopping() || lost(); }

  void Prolong(absl::Duration held_until) {
    held_until_ns_.store(absl::ToInt64Nanoseconds(held_until), std::memory_order_relaxed);
  }
  void MarkLost() { lost_.store(true, std::memory_order_relaxed); }
  void Stop() { stopping_.store(true, std::memory_order_relaxed); }

 private:
  const Duty duty_;
  const Clock& clock_;
  std::atomic<int64_t> held_until_ns_;
  mutable std::atomic<bool> lost_{false};
  std::atomic<bool> stopping_{false};
};

// Does duties of one kind, several at once from several threads: it keeps nothing about a duty between calls.
class DutyHandler {
 public:
  virtual ~DutyHandler() = default;
  // Blocks until the duty is done, has to wait, is lost, or `context` says to stop. Never holds a thread to
  // wait for something that isn't under way: that is kAgain.
  virtual DutyOutcome Run(DutyContext& context) = 0;
};

// Called with a job's id after a handler changed something about it that others want to see; must not block.
using JobChangedFn = std::function<void(const JobId&)>;

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_HANDLER_H_
