// This worker's share of a job's limits (v1.RatePolicy): a bucket of tokens that refills with time.
#ifndef DROVER_SERVICES_WORKER_EXECUTOR_RATE_LIMITER_H_
#define DROVER_SERVICES_WORKER_EXECUTOR_RATE_LIMITER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace drover {

// Belongs to one thread; time (Clock::Elapsed()) is passed in. Without a limit it lets everything pass.
class RateLimiter {
 public:
  // 0 means no limit. Keeps the tokens there are, so that a change of the policy is no gift.
  void Configure(double requests_per_second, int64_t max_in_flight, absl::Duration now);

  // When the next request may be made; `now` or earlier: at once. InfiniteDuration() while max_in_flight are
  // under way.
  absl::Duration Next(absl::Duration now, int64_t in_flight) const;
  // A request is made. May go below zero, which later ones pay for.
  void Take(absl::Duration now);
  bool limited() const { return rate_ > 0 || max_in_flight_ > 0; }

 private:
  double TokensAt(absl::Duration now) const;

  double rate_ = 0;
  int64_t max_in_flight_ = 0;
  double tokens_ = 1;
  absl::Duration at_ = absl::ZeroDuration();
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_EXECUTOR_RATE_LIMITER_H_
