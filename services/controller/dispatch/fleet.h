// The streams attached to this controller, their credit and their leases: all that a controller remembers of
// workers, and nothing that could not be rebuilt from the database and a new Hello.
//
// Events come in (a message of a worker, a commit, a look at the database), messages go into the streams'
// queues. No I/O, no threads, time injected: the reactor (worker_service/), the Dispatcher and the Gatherer
// drive it, and so can a simulation. Thread-safe; sinks are called without the lock held.
#ifndef DROVER_SERVICES_CONTROLLER_DISPATCH_FLEET_H_
#define DROVER_SERVICES_CONTROLLER_DISPATCH_FLEET_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/sync/mutex.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/dispatch/job_info.h"
#include "services/controller/dispatch/stream_queue.h"
#include "services/controller/storage/storage.h"

namespace drover {

using StreamId = int64_t;

// The other side of a stream. Methods don't block, may be called from any thread, and don't call back into
// Fleet before they return... except for NextMessage, which a sink may call from WriteReady.
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  // NextMessage may have something.
  virtual void WriteReady() = 0;
  // The stream is over; what is queued may be dropped.
  virtual void Close(const absl::Status& status) = 0;
};

// Limits that a worker is told and held to.
struct FleetLimits {
  int64_t max_message_bytes = 8 << 20;
  int64_t max_unacked_bytes = 4 << 20;       // of segments of one stream
  int64_t max_queued_grant_bytes = 4 << 20;  // of one stream: nothing more is claimed for it beyond
  int max_control_messages = 65536;          // queued for one stream: a worker that does not read is cut off
  // What a worker gets beyond the grace time of a Revoke with ABORT to send its last segments. Then it loses
  // the leases.
  absl::Duration revoke_slack = absl::Seconds(5);
};

// What a controller knows of a worker after its attach.
struct AttachedStream {
  SessionId session;
  int64_t attachment = 0;
  v1::Hello hello;
  std::vector<HeldLeaseRow> leases;  // held, and still its own
  v1::WorkResponse welcome;
};

class Fleet {
 public:
  // `submit` hands a checked segment to the Gatherer; called without the lock, in the order of the stream.
  using SubmitFn = std::function<void(const JobId&, SegmentWrite)>;
  Fleet(FleetLimits limits, const Clock& clock, Random& random, SubmitFn submit);

  // ---- the reactor's side

  StreamId Open(std::shared_ptr<StreamSink> sink);
  // The stream's next message, to be written now; nothing: wait for WriteReady.
  std::optional<v1::WorkResponse> NextMessage(StreamId stream);
  void OnStatus(StreamId stream, const v1::Status& status);
  void OnSegment(StreamId stream, const v1::Segment& segment);
  // The stream is gone. Grants that were never written are returned by the caller.
  struct Unsent {
    SessionId session;
    int64_t attachment = 0;
    std::vector<std::pair<JobId, LeaseKey>> leases;
    bool goodbye = false;  // it drained and holds nothing: its session can end
  };
  Unsent Closed(StreamId stream);
  bool IsOpen(StreamId stream) const;
  // Whether the worker is draining and all its leases are over.
  bool MayGo(StreamId stream) const;

  // ---- attaching

  // The attach of `stream` succeeded. An older stream of the session is closed; if a newer one is here
  // already, this one is.
  void Attached(StreamId stream, AttachedStream attached);
  void Close(StreamId stream, const absl::Status& status);

  // ---- claiming

  // The streams that may run the job and have credit for it, at this priority.
  struct Slot {
    StreamId stream = 0;
    ClaimSlot claim;
  };
  std::vector<Slot> Slots(const JobInfo& job, int32_t priority) const;
  // Whether any stream could take anything of a job of this priority. If none can, none can of a lower one.
  bool AnyCredit(int32_t priority) const;
  // Between these two a lease of the session may be in the database that is not known here.
  void BeginClaim(const std::vector<Slot>& slots);
  void EndClaim(const std::vector<Slot>& slots);
  // A lease was claimed for the slot's stream: queues its Grant; false if that stream is over (it is then
  // returned by the caller).
  bool AddGrant(const Slot& slot, const JobId& job_id, const ClaimedLease& lease, std::string payload,
                const v1::JobContext& context);

  // ---- what the database says of jobs

  // Jobs that have leases here.
  std::vector<JobId> JobsWithLeases() const;
  // Revokes what has stopped, updates contexts. Returns the Grants that were withdrawn, to be returned; and
  // leases of workers that were told to abort and have not in time, as lost: a job must not wait for a worker
  // that takes no notice.
  struct Withdrawn {
    SessionId session;
    int64_t attachment = 0;
    JobId job_id;
    LeaseKey lease;
    CameBack how = CameBack::kGivenBack;
  };
  std::vector<Withdrawn> ApplyViews(
      const std::vector<JobView>& views, absl::Duration grace,
      const std::function<std::optional<v1::JobContext>(const JobView&)>& context);

  // ---- recording

  // A segment's commit is known.
  void OnRecorded(const JobId& job_id, const SegmentWrite& segment, SegmentResult result, bool lease_over);
  // The lease's recorded tasks as the database has them, after a conflict.
  void SetRecorded(LeaseId lease, const TaskSet& recorded);
  // A lease can't go on here (a segment that can't be recorded): it is lost to its worker, and to be returned
  // as lost.
  std::optional<Withdrawn> LoseLease(LeaseId lease);

  // ---- renewal

  struct RenewalView {
    StreamId stream = 0;
    Storage::Renewal renewal;
    int64_t status_number = 0;
  };
  // Streams from which a Status came since the last call.
  std::vector<RenewalView> TakeRenewals();
  // Acknowledges those that were renewed; closes the streams of the others (ABORTED).
  void Renewed(const std::vector<RenewalView>& asked, const std::vector<SessionId>& renewed);
  // The renewal failed: they are asked for again.
  void RenewalFailed(const std::vector<RenewalView>& asked);

  // ---- reconciling

  struct ReconcileMark {
    std::vector<std::pair<SessionId, int64_t>> attachments;  // streams without a claim under way
    std::map<SessionId, int64_t> claims;                     // their count of claims
  };
  ReconcileMark MarkForReconcile() const;
  // Those of the database's leases that nobody here knows of, though no claim began since `mark`.
  std::vector<Storage::OwnedLease> Unknown(const ReconcileMark& mark,
                                           const std::vector<Storage::OwnedLease>& owned) const;

  // ---- drain

  void DrainAll(absl::Duration max_wait);

  struct Counts {
    int64_t streams = 0;
    int64_t leases = 0;
    int64_t unacked_bytes = 0;
    absl::Duration oldest_lease;  // age
  };
  Counts counts() const;
  // Fingerprints that attached workers claim, for the mismatch metric: streams whose store differs from
  // `expected`.
  int64_t MismatchedStores(const std::map<std::string, std::string>& expected) const;

 private:
  struct Lease {
    StreamId stream = 0;
    JobId job_id;
    LeaseKey key;
    int32_t batch_tasks = 0;
    TaskSet open;  // neither recorded, nor submitted, nor given back
    TaskSet all;   // what the lease covers
    int64_t next_sequence = 1;
    int64_t recorded_sequence = 0;
    std::map<int64_t, int64_t> unacked;  // sequence -> bytes
    absl::Duration since;                // when it came here, by Clock::Elapsed
  };
  // The last Revoke of a job on a stream.
  struct Revoked {
    int64_t version = 0;                                  // of the job
    absl::Duration abort_due = absl::InfiniteDuration();  // by Clock::Elapsed: all segments are here by then
  };
  struct Stream {
    std::shared_ptr<StreamSink> sink;
    bool attached = false;
    bool closed = false;
    SessionId session;
    int64_t attachment = 0;
    std::map<std::string, int32_t> operations;
    std::map<std::string, std::string> stores;
    StreamQueue queue;
    std::map<JobId, std::set<LeaseId>> leases;
    std::map<JobId, Revoked> revoked;
    v1::Status status;           // the last one
    int64_t renewed_number = 0;  // Status whose renewal was asked for
    int64_t claims_under_way = 0;
    int64_t claims = 0;
    int64_t unacked_bytes = 0;
  };
  // What is to be done once the lock is released.
  struct Effects {
    std::vector<std::shared_ptr<StreamSink>> wake;
    std::vector<std::pair<std::shared_ptr<StreamSink>, absl::Status>> close;
    void Run();
  };

  Stream* Find(StreamId stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  const Stream* Find(StreamId stream) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseLocked(Stream& stream, const absl::Status& status, Effects& effects)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropLease(LeaseId lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes the lease from its worker, as lost; to be returned by the caller. Nothing if the stream is over.
  std::optional<Withdrawn> TakeLease(LeaseId lease, Effects& effects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t Credit(const Stream& stream, int32_t priority) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ForgetUnusedContexts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const FleetLimits limits_;
  const Clock& clock_;
  Random& random_;
  const SubmitFn submit_;
  mutable Mutex mu_;
  StreamId next_stream_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<StreamId, Stream> streams_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<LeaseId, Lease> leases_ ABSL_GUARDED_BY(mu_);
  std::map<JobId, v1::JobContext> contexts_ ABSL_GUARDED_BY(mu_);
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DISPATCH_FLEET_H_
