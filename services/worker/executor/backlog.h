// How many tasks a worker aims to hold: about two seconds' worth, by the rate at which it has been finishing
// them.
#ifndef DROVER_SERVICES_WORKER_EXECUTOR_BACKLOG_H_
#define DROVER_SERVICES_WORKER_EXECUTOR_BACKLOG_H_

#include <cstdint>

#include "absl/time/time.h"

namespace drover {

inline constexpr absl::Duration kBacklogAim = absl::Seconds(2);
// A no-op worker gets through so many in a fraction of a second; leases wait as they came, some ten bytes a
// task.
inline constexpr int64_t kMaxBacklog = 256 * 1024;

// Belongs to one thread. Time on Clock::Elapsed()'s scale comes with each event, and only time in which there
// was work counts: a worker that waits for work, or may not start any, is not slow. The rate follows a faster
// one at once, and a slower one within seconds, so that a worker which eats no-ops is not fed by the spoon.
class Backlog {
 public:
  explicit Backlog(int concurrency) : concurrency_(concurrency) {}

  // The worker has work from `now` on. Let pass while it has some already.
  void Busy(absl::Duration now);
  // It has none.
  void Idle(absl::Duration now);
  // Tasks were finished.
  void Finished(int64_t tasks, absl::Duration now);
  // Nothing may be started, whatever there is: the time since the last event, and what was finished in it,
  // tell nothing.
  void Stalled(absl::Duration now);

  // Tasks to hold: at least 2 × concurrency (4 × while nothing was measured), at most kMaxBacklog. Tasks that
  // take long lower it before the first of them has ended.
  int64_t target(absl::Duration now) const;
  // Tasks a second; 0 while nothing was measured.
  double rate() const { return rate_; }

 private:
  void Measure(absl::Duration now);
  // Time with work that is not yet in the rate.
  absl::Duration Window(absl::Duration now) const;

  const int64_t concurrency_;
  double rate_ = 0;
  bool busy_ = false;
  absl::Duration since_ = absl::ZeroDuration();   // of the stretch of work under way
  absl::Duration window_ = absl::ZeroDuration();  // time with work that is not yet in the rate
  int64_t finished_ = 0;                          // tasks of that time
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_EXECUTOR_BACKLOG_H_
