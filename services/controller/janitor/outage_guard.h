// Whether the janitor may end sessions: only when all its looks during the last whole TTL succeeded on time.
//
// An expired session means that its worker is gone only if the controllers could have renewed it. After an
// outage or a stall of the database, or at a controller's start, every session looks expired though the
// workers are alive; a whole TTL of good looks gives each of them the time to be renewed (ARCHITECTURE.md, "A
// session ends").
#ifndef DROVER_SERVICES_CONTROLLER_JANITOR_OUTAGE_GUARD_H_
#define DROVER_SERVICES_CONTROLLER_JANITOR_OUTAGE_GUARD_H_

#include <optional>

#include "absl/time/time.h"

namespace drover {

// Times are of Clock::Elapsed. Not thread-safe.
class OutageGuard {
 public:
  // A look that fails, takes longer than `tolerance`, or begins later than that after the one before, is an
  // outage.
  OutageGuard(absl::Duration ttl, absl::Duration tolerance) : ttl_(ttl), tolerance_(tolerance) {}

  // A look began and ended at these times.
  void Look(absl::Duration began, absl::Duration ended, bool succeeded) {
    const bool good = succeeded && ended - began <= tolerance_;
    if (!good || (last_ && began - *last_ > tolerance_)) good_since_.reset();
    if (good && !good_since_) good_since_ = ended;
    last_ = began;
  }

  // Whether the last whole TTL before `now` was good.
  bool MayEndSessions(absl::Duration now) const {
    return good_since_ && now - *good_since_ >= ttl_ && now - *last_ <= tolerance_;
  }

 private:
  const absl::Duration ttl_;
  const absl::Duration tolerance_;
  std::optional<absl::Duration> last_;
  std::optional<absl::Duration> good_since_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_JANITOR_OUTAGE_GUARD_H_
