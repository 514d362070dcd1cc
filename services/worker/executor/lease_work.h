// What the lease client (lease/) and the executor (executor/) promise each other. All of it happens on the
// worker's one logic thread; calls may nest (a report within a Start), so neither side relies on the other's
// state during one.
#ifndef DROVER_SERVICES_WORKER_EXECUTOR_LEASE_WORK_H_
#define DROVER_SERVICES_WORKER_EXECUTOR_LEASE_WORK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/codec/outcomes.h"
#include "common/codec/task_set.h"

namespace drover {

namespace v1 {
class JobContext;
}  // namespace v1

// A lease as it was granted.
struct LeaseWork {
  int64_t lease_id = 0;
  std::string job_id;
  int64_t batch_no = 0;
  int64_t first_task = 0;    // position in the manifest of the batch's task 0
  uint32_t batch_tasks = 0;  // tasks in the batch, 1 to kMaxBatchTasks
  TaskSet tasks;             // those to run: not empty, all below batch_tasks
  std::string payload;       // the batch, as it came
};

// How much more work would be welcome; what a Status says.
struct Appetite {
  int64_t credit = 0;         // tasks of any job
  int64_t urgent_credit = 0;  // besides, tasks of jobs with a priority above urgent_above
  int32_t urgent_above = 0;
  int64_t target = 0;  // tasks that it aims to hold: credit is what is missing to it
};

// Runs leases. Implemented by Executor.
class LeaseRunner {
 public:
  virtual ~LeaseRunner() = default;

  // What the leases of a job need; again whenever it changes. An error if this worker can't run it (an
  // unknown operation, parameters out of range, an unknown store): nothing has changed then.
  virtual absl::Status SetJob(const v1::JobContext& context) = 0;
  // No lease of the job is left.
  virtual void ForgetJob(const std::string& job_id) = 0;
  // Takes a lease of a job that SetJob was called for. Each of its tasks will be reported exactly once
  // (LeaseReport), unless the lease is dropped before.
  virtual void Start(LeaseWork work) = 0;
  // Starts nothing more of the lease and gives back what is unstarted. With `abort`, tasks in flight get
  // `grace` and are then aborted and reported as failed with the code "Interrupted". Unknown leases are let
  // pass.
  virtual void Revoke(int64_t lease_id, bool abort, absl::Duration grace) = 0;
  // The lease is lost: stops its tasks and reports nothing more about it.
  virtual void Drop(int64_t lease_id) = 0;
  // The fence: aborts all requests in flight. Their tasks count as unstarted again.
  virtual void AbortInFlight() = 0;
  // LeaseReport::MayStart() may have become true.
  virtual void Wake() = 0;
  // Gives back everything unstarted, now and whatever is granted from here on.
  virtual void StartDrain() = 0;

  virtual Appetite appetite() const = 0;
};

// Takes what became of tasks. Implemented by LeaseClient.
class LeaseReport {
 public:
  virtual ~LeaseReport() = default;

  // Whether a task may be started now: there is a session, it is not fenced, not too much is unacknowledged.
  virtual bool MayStart() = 0;
  // Whether a request may be written now: the fence alone. Asked right before each request.
  virtual bool MayRequest() = 0;

  // Tasks first … end - 1 succeeded in the default way (Outcome::IsDefault).
  virtual void Succeeded(int64_t lease_id, uint32_t first, uint32_t end) = 0;
  // A task ended in any other way, or in the default one.
  virtual void Finished(int64_t lease_id, Outcome outcome) = 0;
  // Tasks are given back.
  virtual void GaveBack(int64_t lease_id, const TaskSet& tasks) = 0;
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_EXECUTOR_LEASE_WORK_H_
