// The write queue of one worker stream.
//
// Acknowledgments, Welcome, Revoke, Drain and new JobContexts go before Grants, but not between a Grant and
// the context that was written for it. What a Grant needs is decided when it is written, not when it is
// queued: the wire is first in, first out, so at that moment it is certain which leases of the job the worker
// will hold, and so whether it still has the job's context. Queued Grants can be withdrawn, so that a Revoke
// never overtakes one (docs/internals/protocol.md; the counterexamples are in Stream.tla).
//
// Not thread-safe: Fleet guards it.
#ifndef DROVER_SERVICES_CONTROLLER_DISPATCH_STREAM_QUEUE_H_
#define DROVER_SERVICES_CONTROLLER_DISPATCH_STREAM_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "drover/v1/worker_service.pb.h"
#include "services/controller/storage/storage.h"

namespace drover {

// A lease on its way to a worker, and how many tasks it has.
struct QueuedGrant {
  JobId job_id;
  LeaseKey lease;
  int64_t tasks = 0;
  v1::Grant message;
};

class StreamQueue {
 public:
  // The job's context as it is now, for a Grant about to be written.
  using ContextFn = std::function<v1::JobContext(const JobId&)>;

  void PushControl(v1::WorkResponse message);
  // An acknowledgment; `lease_over` when the worker forgets the lease with it.
  void PushSegmentAck(const JobId& job_id, LeaseId lease, int64_t sequence, v1::SegmentAck::Result result,
                      bool lease_over);
  void PushGrant(QueuedGrant grant);
  // The worker came back with this lease: it has it, and it is sent the job's context anew.
  void AddHeld(const JobId& job_id, LeaseId lease);
  // Queues `context` if the worker has, or is about to have, an older version of it.
  void UpdateContext(const v1::JobContext& context);
  // Takes the job's queued Grants (or the one of `lease`, if not 0) back out.
  std::vector<QueuedGrant> Withdraw(const JobId& job_id, LeaseId lease = 0);
  // All queued Grants, when the stream is over.
  std::vector<QueuedGrant> WithdrawAll();

  // The next message to write; nothing if there is none.
  std::optional<v1::WorkResponse> Next(const ContextFn& context);

  bool empty() const { return control_.empty() && grants_.empty() && !pending_grant_; }
  size_t control_size() const { return control_.size(); }
  // Tasks of Grants not yet written.
  int64_t queued_tasks() const { return queued_tasks_; }
  // Bytes of their payloads.
  int64_t queued_bytes() const { return queued_bytes_; }
  // Tasks of written Grants beyond the first `received`: those that the worker had not seen.
  int64_t UnseenTasks(int64_t received) const;
  // The worker has seen the first `received` Grants: nobody asks for fewer any more.
  void ForgetSeen(int64_t received);
  int64_t grants_written() const { return grants_written_; }

 private:
  struct Control {
    v1::WorkResponse message;
    JobId job_id;  // of an acknowledgment that ends a lease
    LeaseId over = 0;
  };
  struct KnownJob {
    std::set<LeaseId> leases;  // written and not yet acknowledged as over
    int64_t version = -1;      // of the context last written
  };

  // The pending Grant, which is there, as written now.
  v1::WorkResponse TakePending();

  std::deque<Control> control_;
  std::deque<QueuedGrant> grants_;
  std::optional<QueuedGrant> pending_grant_;  // its context has just been written
  std::map<JobId, KnownJob> known_;
  int64_t queued_tasks_ = 0;
  int64_t queued_bytes_ = 0;
  int64_t grants_written_ = 0;
  std::deque<std::pair<int64_t, int64_t>> unseen_;  // number of a written Grant, its tasks
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DISPATCH_STREAM_QUEUE_H_
