#include "services/worker/executor/retry.h"

#include <algorithm>

#include "drover/v1/job.pb.h"

namespace drover {
namespace {

constexpr int kMostAttempts = 20;
constexpr absl::Duration kMinBackoff = absl::Milliseconds(10);
constexpr absl::Duration kMaxInitialBackoff = absl::Seconds(60);
constexpr absl::Duration kMaxMaxBackoff = absl::Minutes(10);
constexpr absl::Duration kMaxUnavailable = absl::Hours(1);

absl::Duration Read(const google::protobuf::Duration& duration, absl::Duration low, absl::Duration high) {
  return std::clamp(absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos()), low, high);
}

}  // namespace

RetryRules RetryRulesFrom(const v1::RetryPolicy& policy) {
  RetryRules rules;
  if (policy.has_max_attempts()) rules.max_attempts = std::clamp(policy.max_attempts(), 1, kMostAttempts);
  if (policy.has_initial_backoff()) {
    rules.initial_backoff = Read(policy.initial_backoff(), kMinBackoff, kMaxInitialBackoff);
  }
  if (policy.has_max_backoff()) rules.max_backoff = Read(policy.max_backoff(), kMinBackoff, kMaxMaxBackoff);
  if (policy.has_unavailable_timeout()) {
    rules.unavailable_timeout = Read(policy.unavailable_timeout(), absl::ZeroDuration(), kMaxUnavailable);
  }
  return rules;
}

std::optional<absl::Duration> NextAttempt(const RetryRules& rules, Transience transience,
                                          std::optional<absl::Duration> retry_after, absl::Duration now,
                                          Random& random, RetryState& state) {
  ++state.attempts;
  if (transience == Transience::kPermanent) return std::nullopt;
  if (transience != Transience::kUnavailable) {
    state.unavailable_since.reset();
  } else if (!state.unavailable_since.has_value()) {
    state.unavailable_since = now;
  }
  absl::Duration left = absl::ZeroDuration();
  if (transience == Transience::kUnavailable)
    left = *state.unavailable_since + rules.unavailable_timeout - now;
  const bool attempts_left = state.attempts < static_cast<uint32_t>(rules.max_attempts);
  if (!attempts_left && left <= absl::ZeroDuration()) return std::nullopt;

  const int doublings = static_cast<int>(std::min<uint32_t>(state.attempts - 1, 16));
  const absl::Duration bound = std::min(rules.max_backoff, rules.initial_backoff * (1 << doublings));
  absl::Duration wait = bound * random.NextUnit();
  if (retry_after.has_value()) wait = std::max(wait, std::min(*retry_after, kMaxRetryAfter));
  // Where only the time is left, the last try comes when it ends, not after.
  if (!attempts_left) wait = std::min(wait, left);
  return wait;
}

}  // namespace drover
