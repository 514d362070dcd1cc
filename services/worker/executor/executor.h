// Runs the tasks of leases: the highest priority first, so many at a time, again if it is worth it.
//
// Its work is a set of jobs, each with leases, each with unstarted tasks. A slot is a coroutine that takes
// the next group of tasks, runs the job's operation on it, settles the results, and takes the next; it ends
// when there is nothing to take. What is next: of the jobs with something to start, one of the highest
// priority; equals take turns; within a job retries that are due, then its leases in the order in which they
// were granted.
//
//   * At most `concurrency` groups are in flight. An eighth of that is kept for urgent work: only jobs of a
//   higher
//     priority than something that is in flight start there. So long tasks delay higher ones by a slot at
//     most.
//   * A task that failed in a transient way waits without a slot, and is tried again by its job's RetryRules.
//   * A job that is outranked (a higher one has tasks to start) and could start nothing for kOutrankedAfter
//   gives back
//     what is unstarted or waits; what is in flight ends as it would.
//   * A worker that holds far more than it aims to, because it was granted in the hope of a rate that turns
//   out wrong, gives back leases of which nothing was started, the last first: others may be idle.
//   * Before anything starts the report is asked (LeaseReport::MayStart), and before each request
//   (MayRequest).
//   * A batch that can't be decoded is given back once; if the same batch comes back unreadable, its tasks
//   are reported
//     as failed with the code "PayloadInvalid": so a damaged batch neither wanders for ever nor ends a job's
//     other work.
//
// Bounded: it holds what it was granted, and asks for more by Backlog. A task in flight or waiting costs some
// hundred bytes; a batch is decoded when its first task starts, and freed with its last.
#ifndef DROVER_SERVICES_WORKER_EXECUTOR_EXECUTOR_H_
#define DROVER_SERVICES_WORKER_EXECUTOR_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/codec/task_batch.h"
#include "common/codec/task_set.h"
#include "common/http/cancel.h"
#include "services/worker/executor/backlog.h"
#include "services/worker/executor/lease_work.h"
#include "services/worker/executor/rate_limiter.h"
#include "services/worker/executor/retry.h"
#include "services/worker/executor/timers.h"
#include "services/worker/metrics/worker_metrics.h"
#include "services/worker/operations/operation.h"

namespace drover {

namespace v1 {
class Operation;
}  // namespace v1

inline constexpr absl::Duration kOutrankedAfter = absl::Seconds(2);
// More than kSurplusFrom times its aim at two looks in a row, and all but kSurplusLeft times it is given
// back.
inline constexpr absl::Duration kSurplusLook = absl::Milliseconds(500);
inline constexpr int64_t kSurplusFrom = 4;
inline constexpr int64_t kSurplusLeft = 2;
inline constexpr int kMaxConcurrency = 4096;
// Batches remembered as unreadable; the oldest is forgotten first.
inline constexpr size_t kMaxBadBatches = 64;

// Belongs to the one thread that runs its io_context, after construction.
class Executor final : public LeaseRunner {
 public:
  struct Options {
    int concurrency = 64;  // groups in flight, 1 to kMaxConcurrency
    std::string version;   // for the User-Agent: drover/<version> job/<job id>
  };
  // An operation for a job, with its name for metrics.
  struct NamedOperation {
    std::string name;
    std::unique_ptr<Operation> operation;
  };
  using OperationFactory = std::function<absl::StatusOr<NamedOperation>(const v1::Operation&)>;

  // `metrics` may be null. The references, and what `io` still holds, outlive the executor; `timers` outlives
  // `io`.
  Executor(boost::asio::io_context& io, Options options, const Clock& clock, Random& random, Timers& timers,
           OperationFactory factory, const Metrics* metrics);
  ~Executor() override;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // To whom it reports; once, before anything else. `on_change` is called when the appetite may have changed:
  // it must do nothing but make a note of that.
  void Connect(LeaseReport& report, std::function<void()> on_change);

  // LeaseRunner.
  absl::Status SetJob(const v1::JobContext& context) override;
  void ForgetJob(const std::string& job_id) override;
  void Start(LeaseWork work) override;
  void Revoke(int64_t lease_id, bool abort, absl::Duration grace) override;
  void Drop(int64_t lease_id) override;
  void AbortInFlight() override;
  void Wake() override;
  void StartDrain() override;
  Appetite appetite() const override;

  // The end of a drain: aborts what is in flight; its tasks are given back.
  void AbortDrain();

  // Groups in flight; tasks held that are not reported.
  size_t in_flight() const { return groups_.size(); }
  int64_t unfinished() const { return unfinished_; }

 private:
  struct Job;
  struct Lease;
  struct Group;
  class Context;
  enum class Abort { kNone, kFence, kLost, kInterrupted, kDrain };
  using Level = std::list<std::shared_ptr<Job>>;

  // Starting.
  void SchedulePump();
  void Pump();
  bool Pick(Group& group);
  bool SlotFree(int32_t priority) const;
  // Takes tasks of the job's next lease; false if that lease turned out to have none.
  bool TakeTasks(const std::shared_ptr<Job>& job, Group& group);
  bool Decode(const std::shared_ptr<Lease>& lease);
  void RefuseBatch(const std::shared_ptr<Lease>& lease, const absl::Status& why);
  boost::asio::awaitable<void> Slot(std::shared_ptr<Group> group);

  // Settling.
  void Settle(Group& group, GroupResult& result);
  void SettleTask(const std::shared_ptr<Lease>& lease, uint32_t index, Attempt& attempt, Abort abort);
  void WaitForRetry(const std::shared_ptr<Lease>& lease, uint32_t index, absl::Duration wait, Outcome last);
  void Unstart(const std::shared_ptr<Lease>& lease, uint32_t index);
  void Report(Lease& lease, Outcome outcome);
  void Interrupt(Lease& lease, uint32_t index, uint32_t attempts, const Outcome* last);
  void GiveBack(Lease& lease, const TaskSet& tasks);
  // Gives back what is unstarted; waiting tasks too, or reports them as interrupted.
  void GiveBackUnstarted(const std::shared_ptr<Lease>& lease, bool interrupt_waiting);
  void EndIfDone(Lease& lease);
  // Tasks to hold: the backlog's aim, as far as kMaxHeldPayload allows.
  int64_t Target() const;
  void CountUnfinished(Job& job, int64_t change);
  void AbortGroups(Abort reason, const Lease* only);

  // The jobs with something to start, by priority.
  void Enqueue(const std::shared_ptr<Job>& job);
  void Dequeue(Job& job);
  void QueueLease(const std::shared_ptr<Lease>& lease, bool front);
  void UnqueueLease(Lease& lease);
  void WatchOutranked();
  void CheckOutranked();
  void WatchSurplus();
  void CheckSurplus();

  boost::asio::io_context& io_;
  const Options options_;
  const size_t reserved_;
  const Clock& clock_;
  Random& random_;
  Timers& timers_;
  const OperationFactory factory_;
  const Metrics* const metrics_;
  const ExecutorMetrics counts_;
  LeaseReport* report_ = nullptr;
  std::function<void()> on_change_;

  absl::flat_hash_map<std::string, std::shared_ptr<Job>> jobs_;
  std::map<int64_t, std::shared_ptr<Lease>> leases_;
  std::map<int32_t, Level, std::greater<>> ready_;
  std::vector<std::shared_ptr<Group>> groups_;  // in flight
  int64_t unfinished_ = 0;
  int64_t waiting_ = 0;
  Backlog backlog_;
  double payload_bytes_per_task_ = 0;  // of late leases, the larger ones remembered longer
  TaskBatchReader reader_;
  std::deque<std::pair<std::string, int64_t>> bad_batches_;
  bool draining_ = false;
  bool pump_posted_ = false;
  bool watching_ = false;
  bool watching_surplus_ = false;
  bool had_surplus_ = false;                    // at the last look
  std::optional<absl::Duration> limiter_wake_;  // a timer will pump then
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_EXECUTOR_EXECUTOR_H_
