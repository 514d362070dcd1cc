#include "services/worker/executor/backlog.h"

#include <algorithm>
#include <cmath>

namespace drover {
namespace {

// Shortest time that makes a measurement, unless that many tasks (in rounds of the concurrency) were finished
// in less.
constexpr absl::Duration kWindow = absl::Milliseconds(100);
constexpr int64_t kRounds = 2;
// A lower rate is believed with this time constant.
constexpr absl::Duration kMemory = absl::Seconds(3);
// No stretch is taken for shorter: the clock's own grain.
constexpr absl::Duration kGrain = absl::Microseconds(50);

}  // namespace

void Backlog::Busy(absl::Duration now) {
  if (busy_) return;
  busy_ = true;
  since_ = now;
}

void Backlog::Idle(absl::Duration now) {
  if (!busy_) return;
  Measure(now);
  window_ += now - since_;
  since_ = now;
  busy_ = false;
}

void Backlog::Finished(int64_t tasks, absl::Duration now) {
  finished_ += tasks;
  Measure(now);
}

void Backlog::Measure(absl::Duration now) {
  const absl::Duration window = std::max(kGrain, window_ + (busy_ ? now - since_ : absl::ZeroDuration()));
  if (window < kWindow && finished_ < kRounds * concurrency_) return;
  const double rate = static_cast<double>(finished_) / absl::ToDoubleSeconds(window);
  const double weight = 1 - std::exp(-absl::FDivDuration(window, kMemory));
  rate_ = rate > rate_ ? rate : rate_ + (rate - rate_) * weight;
  finished_ = 0;
  window_ = absl::ZeroDuration();
  since_ = now;
}

int64_t Backlog::target() const {
  if (rate_ == 0) return std::min(4 * concurrency_, kMaxBacklog);
  const double aim = std::min(rate_ * absl::ToDoubleSeconds(kBacklogAim), static_cast<double>(kMaxBacklog));
  return std::clamp(static_cast<int64_t>(aim), std::min(2 * concurrency_, kMaxBacklog), kMaxBacklog);
}

}  // namespace drover
