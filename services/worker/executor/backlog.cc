#include "services/worker/executor/backlog.h"

#include <algorithm>
#include <cmath>

namespace drover {
namespace {

// Shortest time that makes a measurement, unless that many tasks (in rounds of the concurrency) were finished
// in less.
constexpr absl::Duration kWindow = absl::Milliseconds(100);
constexpr int64_t kRounds = 2;
// A lower rate is believed with this time constant: it may be chance. A much lower one is other work.
constexpr absl::Duration kMemory = absl::Seconds(3);
constexpr absl::Duration kMemoryOfOtherWork = absl::Milliseconds(300);
constexpr double kMuchLower = 0.25;
// A stretch of work in which less than a round was finished tells something from this length on.
constexpr absl::Duration kSilence = absl::Seconds(1);
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

void Backlog::Stalled(absl::Duration now) {
  finished_ = 0;
  window_ = absl::ZeroDuration();
  since_ = now;
}

absl::Duration Backlog::Window(absl::Duration now) const {
  return window_ + (busy_ ? now - since_ : absl::ZeroDuration());
}

void Backlog::Measure(absl::Duration now) {
  const absl::Duration window = std::max(kGrain, Window(now));
  if (window < kWindow && finished_ < kRounds * concurrency_) return;
  const double rate = static_cast<double>(finished_) / absl::ToDoubleSeconds(window);
  const absl::Duration memory = rate < rate_ * kMuchLower ? kMemoryOfOtherWork : kMemory;
  const double weight = 1 - std::exp(-absl::FDivDuration(window, memory));
  rate_ = rate > rate_ ? rate : rate_ + (rate - rate_) * weight;
  finished_ = 0;
  window_ = absl::ZeroDuration();
  since_ = now;
}

int64_t Backlog::target(absl::Duration now) const {
  if (rate_ == 0) return std::min(4 * concurrency_, kMaxBacklog);
  double rate = rate_;
  if (const absl::Duration window = Window(now); window >= kSilence) {
    rate = std::min(rate, static_cast<double>(finished_ + concurrency_) / absl::ToDoubleSeconds(window));
  }
  const double aim = std::min(rate * absl::ToDoubleSeconds(kBacklogAim), static_cast<double>(kMaxBacklog));
  return std::clamp(static_cast<int64_t>(aim), std::min(2 * concurrency_, kMaxBacklog), kMaxBacklog);
}

}  // namespace drover
