// no_op: succeeds for each task without any request; rehearses the whole machinery.
//
// Requests      none.
// Parameters    duration: how long each task takes, 0 to 60 s; waits by timer. failure_fraction: the share of
// tasks that
//               fail with the code "Rehearsed", chosen by a hash of the key, so the same ones at each run.
// Transient     nothing.
// Twice         is the same as once.
// Rights        none.
#include "services/worker/operations/no_op.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "common/status/status.h"
#include "drover/v1/operation.pb.h"

namespace drover {
namespace {

constexpr absl::Duration kMaxDuration = absl::Seconds(60);

// FNV-1a with a final mix: stable for ever, since reruns must fail the same tasks.
uint64_t Hash(std::string_view key) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93;
  return hash ^ (hash >> 32);
}

class NoOp final : public Operation {
 public:
  NoOp(absl::Duration duration, double failure_fraction)
      : duration_(duration),
        all_fail_(failure_fraction >= 1),
        fails_below_(all_fail_ ? 0 : static_cast<uint64_t>(std::ldexp(failure_fraction, 64))) {}

  // Tasks that take time are run one by one, as requests would be; those that don't, by the batch.
  Limits limits() const override {
    return {.max_tasks = duration_ > absl::ZeroDuration() ? 1 : kMaxBatchTasks, .same_bucket = false};
  }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    if (duration_ > absl::ZeroDuration() && !co_await context.Sleep(duration_)) {
      for (size_t i = 0; i < group.size(); ++i) result.Set(i, CancelledAttempt());
      co_return;
    }
    if (!all_fail_ && fails_below_ == 0) co_return;
    for (size_t i = 0; i < group.size(); ++i) {
      if (all_fail_ || Hash(group[i].key) < fails_below_) {
        result.Set(i, FailedAttempt("Rehearsed", "This failure was asked for."));
      }
    }
  }

 private:
  const absl::Duration duration_;
  const bool all_fail_;
  const uint64_t fails_below_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeNoOp(const v1::Operation& parameters,
                                                    const OperationEnvironment&) {
  const v1::NoOp& no_op = parameters.no_op();
  const absl::Duration duration =
      absl::Seconds(no_op.duration().seconds()) + absl::Nanoseconds(no_op.duration().nanos());
  if (duration < absl::ZeroDuration() || duration > kMaxDuration) {
    return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID", "no_op.duration must be 0 to 60 s");
  }
  if (!(no_op.failure_fraction() >= 0 && no_op.failure_fraction() <= 1)) {
    return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID",
                 "no_op.failure_fraction must be 0 to 1");
  }
  return std::make_unique<NoOp>(duration, no_op.failure_fraction());
}

}  // namespace drover
