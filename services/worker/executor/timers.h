// Timers on an injected clock: whoever owns the real time calls RunDue at next().
#ifndef DROVER_SERVICES_WORKER_EXECUTOR_TIMERS_H_
#define DROVER_SERVICES_WORKER_EXECUTOR_TIMERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/time/time.h"

namespace drover {

// Belongs to one thread. Times are on Clock::Elapsed()'s scale.
class Timers {
 public:
  using Id = std::pair<absl::Duration, uint64_t>;

  // Called when a timer becomes the next one; it must only make a note of that.
  void OnEarlier(std::function<void()> note) { on_earlier_ = std::move(note); }

  // Runs `action` once `when` has come; actions of the same time in the order in which they were added.
  Id At(absl::Duration when, std::function<void()> action) {
    const Id id{when, ++last_};
    const bool earlier = pending_.empty() || id < pending_.begin()->first;
    pending_.emplace(id, std::move(action));
    if (earlier && on_earlier_) on_earlier_();
    return id;
  }
  // It does not run any more. An id that has run or was cancelled is let pass.
  void Cancel(const Id& id) { pending_.erase(id); }

  // Runs what is due, also what actions add that is due by then. Actions may add and cancel.
  void RunDue(absl::Duration now) {
    while (!pending_.empty() && pending_.begin()->first.first <= now) {
      auto node = pending_.extract(pending_.begin());
      node.mapped()();
    }
  }
  // When RunDue has something to do; InfiniteDuration() if nothing is pending.
  absl::Duration next() const {
    return pending_.empty() ? absl::InfiniteDuration() : pending_.begin()->first.first;
  }
  size_t size() const { return pending_.size(); }

 private:
  std::map<Id, std::function<void()>> pending_;
  uint64_t last_ = 0;
  std::function<void()> on_earlier_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_EXECUTOR_TIMERS_H_
