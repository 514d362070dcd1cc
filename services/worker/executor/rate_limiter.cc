#include "services/worker/executor/rate_limiter.h"

#include <algorithm>

namespace drover {
namespace {

// A burst is what comes in this time, at least one request.
constexpr absl::Duration kBurst = absl::Milliseconds(100);

}  // namespace

void RateLimiter::Configure(double requests_per_second, int64_t max_in_flight, absl::Duration now) {
  tokens_ = TokensAt(now);
  at_ = now;
  rate_ = std::max(0.0, requests_per_second);
  max_in_flight_ = std::max<int64_t>(0, max_in_flight);
}

double RateLimiter::TokensAt(absl::Duration now) const {
  const double most = std::max(1.0, rate_ * absl::ToDoubleSeconds(kBurst));
  return std::min(most, tokens_ + rate_ * absl::ToDoubleSeconds(std::max(now - at_, absl::ZeroDuration())));
}

absl::Duration RateLimiter::Next(absl::Duration now, int64_t in_flight) const {
  if (max_in_flight_ > 0 && in_flight >= max_in_flight_) return absl::InfiniteDuration();
  if (rate_ <= 0) return now;
  const double tokens = TokensAt(now);
  // A hair less than one is one: else a timer that comes on the dot would wait again for nothing.
  if (tokens >= 1 - 1e-6) return now;
  return now + absl::Seconds((1 - tokens) / rate_);
}

void RateLimiter::Take(absl::Duration now) {
  if (rate_ <= 0) return;
  tokens_ = TokensAt(now) - 1;
  at_ = now;
}

}  // namespace drover
