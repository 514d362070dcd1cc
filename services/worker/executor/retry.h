// When a task is tried again: the policy of a job as a pure function.
#ifndef DROVER_SERVICES_WORKER_EXECUTOR_RETRY_H_
#define DROVER_SERVICES_WORKER_EXECUTOR_RETRY_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/objectstore/object_store.h"  // kMaxRetryAfter
#include "common/objectstore/transient.h"

namespace drover {

namespace v1 {
class RetryPolicy;
}  // namespace v1

// v1.RetryPolicy, within its limits.
struct RetryRules {
  int max_attempts = 5;
  absl::Duration initial_backoff = absl::Milliseconds(200);
  absl::Duration max_backoff = absl::Seconds(20);
  absl::Duration unavailable_timeout = absl::Seconds(120);
};

// Fields that are left out get their defaults, others are brought within their limits.
RetryRules RetryRulesFrom(const v1::RetryPolicy& policy);

// What is remembered of a task between its attempts.
struct RetryState {
  uint32_t attempts = 0;                            // made so far
  std::optional<absl::Duration> unavailable_since;  // first failure of a row of kUnavailable ones
};

// Counts a failed attempt in `state`, and says how long to wait before the next one; nothing if there is to
// be none. Exponential with full jitter. Failures of the kind kUnavailable are tried again until
// unavailable_timeout has passed since the first of them, whatever max_attempts says. `now` is on
// Clock::Elapsed()'s scale.
std::optional<absl::Duration> NextAttempt(const RetryRules& rules, Transience transience,
                                          std::optional<absl::Duration> retry_after, absl::Duration now,
                                          Random& random, RetryState& state);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_EXECUTOR_RETRY_H_
