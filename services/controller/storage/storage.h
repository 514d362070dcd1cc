// What the controller knows, behind one interface: each method is one short transaction (or a few, where it
// says so) on the database, in the order of locks that docs/architecture.md gives: duties -> leases (sorted)
// -> segments -> job_state; rows of sessions alone.
//
// Two implementations: PostgresStorage (postgres/), and an in-memory one for simulation, held to the same
// contract tests. All methods block and are thread-safe. No gRPC and no SQL types here.
//
// ERRORS. kUnavailable: the database can't be reached or refused the transaction for a passing reason (it was
// rolled back, nothing happened). kUnknown (reason COMMIT_UNKNOWN): the connection broke while committing; it
// may have happened. Everything else says what is wrong with the call: kNotFound, kFailedPrecondition,
// kAlreadyExists … kInternal means a broken invariant.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_STORAGE_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_STORAGE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/codec/task_set.h"
#include "services/controller/lifecycle/lifecycle.h"

namespace drover {

// Ids are UUIDs in canonical form; lease ids are random positive 63-bit numbers, new at each grant.
using JobId = std::string;
using SessionId = std::string;
using LeaseId = int64_t;
using BatchNo = int32_t;

// ----------------------------------------------------------------------------------------------------------
// jobs

// What has become of a job's report; the numbers are those of drover.v1.ReportStatus.State.
enum class ReportState : int16_t {
  kNone = 0,
  kPending = 1,
  kWriting = 2,
  kWritten = 3,
  kFailed = 4,
  kNotNeeded = 5
};

// What hardly changes: written once by CreateJob.
struct JobSpec {
  JobId job_id;
  std::string name_space;    // "" is the default namespace
  std::string request;       // serialised drover.v1.Job without output fields, defaults filled in
  std::string operation;     // name as in Hello, e.g. "put_object_tagging"
  int32_t min_revision = 1;  // of the operation
  std::map<std::string, std::string>
      stores;  // name -> fingerprint pinned at creation: objects, manifest, report
  std::vector<std::string> worker_stores;  // of those, the ones that a worker needs
  std::string creator;
  std::string manifest_pin;  // what a `file` manifest was at creation (size and time), opaque
  lifecycle::FailurePolicy failure_policy;
  bool confirmation_required = false;
  bool report_wanted = false;
  absl::Time created;
};

// A task, by its batch and its place in it.
struct TaskRef {
  BatchNo batch_no = 0;
  uint32_t index = 0;
  friend auto operator<=>(const TaskRef&, const TaskRef&) = default;
};

// A job's failed tasks are counted by error code and HTTP status: the first so many pairs that occur each in
// a group of its own, all further ones together.
inline constexpr int kMaxFailureGroups = 32;
// The first so many tasks of a group are kept by name.
inline constexpr int kMaxFailureExamples = 3;

// Failed tasks of one kind.
struct FailureGroup {
  std::string code;         // empty: their outcomes had none, or can't be read
  int32_t http_status = 0;  // 0: there was no answer
  bool others = false;      // those of further kinds, together; code and http_status say nothing then
  int64_t tasks = 0;
  std::vector<TaskRef> examples;  // in the order of recording
  friend bool operator==(const FailureGroup&, const FailureGroup&) = default;
};

// The whole of a job as the API shows it.
struct JobRecord {
  JobSpec spec;
  lifecycle::Snapshot snapshot;  // owned_leases is not read here
  std::string reason_message;
  std::string reason_caller;
  int32_t priority = 0;
  int64_t version = 0;
  int64_t unconfirmed = 0;
  int64_t leased_tasks = 0;  // covered by owned leases less recorded; read by GetJob only
  bool owns_lease = false;   // a session holds a lease of it
  std::vector<lifecycle::Failure> failures;
  // Exact: they add up to snapshot.failed (less what an older release recorded, which did not count them).
  // Most tasks first, the others last. Read by GetJob only.
  std::vector<FailureGroup> failure_groups;
  absl::Time state_time;
  std::optional<absl::Time> start_time;
  std::optional<absl::Time> end_time;
  absl::Duration active;  // time spent Active and Pausing, up to now
  ReportState report_state = ReportState::kNone;
  std::string report_error;
  std::string report_manifest_key;
  std::optional<absl::Time> report_settled;
  int32_t report_files = 0;
  int32_t report_files_written = 0;
};

struct NewJob {
  JobSpec spec;
  int32_t priority = 0;
  std::string request_id;
  std::string fingerprint;       // of the request, to tell a repeated call from a reused id
  std::string prepare_progress;  // Duty::progress that its prepare duty begins with
};

struct JobPageQuery {
  std::vector<lifecycle::State> states;  // empty: all
  std::optional<JobId> before;           // only jobs created before this one (ids sort by time)
  int limit = 100;
};

// How a change of a job's state is decided: under the lock of its job_state row. No value: leave it as it is.
using DecideFn = std::function<absl::StatusOr<std::optional<lifecycle::Change>>(const lifecycle::Snapshot&)>;

// ------------------------------------------------------------------------------------------------------
// dispatch

// A job as the dispatcher sees it at each look.
struct JobView {
  JobId job_id;
  lifecycle::State state = lifecycle::State::kNew;
  std::string reason_code;
  int32_t priority = 0;
  int64_t version = 0;
  int64_t executed = 0;  // recorded tasks
  BatchNo next_batch = 0;
  BatchNo batches = 0;
  bool came_back = false;  // it has ownerless leases
};

// A place in the order of ListClaimable: that of a job.
struct ClaimablePosition {
  int32_t priority = 0;
  JobId job_id;
};

// A stream that can take work.
struct ClaimSlot {
  SessionId session;
  int64_t attachment = 0;
  int64_t credit = 0;  // tasks; a batch is granted while some is left, so it may be overrun by one batch
};

struct ClaimedLease {
  size_t slot = 0;  // index into the slots of the call
  LeaseId lease_id = 0;
  BatchNo batch_no = 0;
  int64_t first_task = 0;
  int32_t batch_tasks = 0;
  std::optional<TaskSet> tasks;  // absent: all of the batch
  std::string notes;             // serialised notes of earlier holders
};

struct ClaimResult {
  std::vector<ClaimedLease> leases;
  bool work_left = false;  // the job has more to claim
};

struct BatchPayload {
  BatchNo batch_no = 0;
  int64_t first_task = 0;
  int32_t tasks = 0;
  std::string payload;
};

// -------------------------------------------------------------------------------------------------------
// leases

struct LeaseKey {
  BatchNo batch_no = 0;
  LeaseId lease_id = 0;
  friend auto operator<=>(const LeaseKey&, const LeaseKey&) = default;
};

struct HeldLeaseRow {
  JobId job_id;
  LeaseKey key;
  int32_t batch_tasks = 0;
  std::optional<TaskSet> tasks;  // absent: all
  TaskSet recorded;              // what its segments have recorded (of tasks 0 … batch_tasks-1)
  int64_t last_sequence = 0;
};

// Why a lease has no owner: its worker was lost (it may have started its tasks), or gave it back unstarted.
enum class CameBack : int16_t { kNo = 0, kLost = 1, kGivenBack = 2 };

// ------------------------------------------------------------------------------------------------------
// outcomes

// A segment as it is to be recorded.
struct SegmentWrite {
  LeaseKey lease;
  int64_t sequence = 0;
  SessionId session;
  std::optional<TaskSet> executed;  // absent: exactly all tasks of the batch
  int32_t succeeded = 0;
  int32_t failed = 0;
  std::string payload;            // EncodeOutcomes(); empty: all succeeded in the default way
  TaskSet returned;               // given back; empty: none
  LeaseId returned_lease_id = 0;  // id of the ownerless lease that they become
  std::string notes;              // serialised notes for the successor of this lease; empty: unchanged
};

enum class SegmentResult { kRecorded, kAlready, kLost };

struct RecordResult {
  std::vector<SegmentResult> results;       // one for each segment, in the order of the call
  std::vector<bool> lease_ended;            // the lease is over with this segment
  std::optional<lifecycle::Change> change;  // what the job became by it
  bool gave_back = false;                   // ownerless leases were made
  lifecycle::Snapshot after;                // meaningful if any segment was recorded
};

struct StoredSegment {
  BatchNo batch_no = 0;
  std::optional<TaskSet> executed;  // absent: all of the batch
  int32_t succeeded = 0;
  int32_t failed = 0;
  std::string payload;
  std::optional<absl::Time> recorded;  // by the database's clock; absent: by an older release
};

// How much a page of segments holds: it ends with the batch that reaches one of these.
struct SegmentPageLimits {
  int batches = 64;
  int64_t tasks = 65536;    // failed ones only, with only_failed
  int64_t bytes = 4 << 20;  // of payloads
};

struct SegmentPage {
  std::vector<StoredSegment> segments;  // of whole batches, in batch order
  std::optional<BatchNo> next;          // from where on there may be more; absent: there is nothing more now
};

struct BatchCounts {
  BatchNo batch_no = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
};

// ------------------------------------------------------------------------------------------------------
// sessions

struct SessionInfo {
  SessionId session_id;
  std::string token_hash;  // hex SHA-256 of the resume token
  std::string name;
  std::string version;
  std::string controller;
  int64_t attachment = 1;
  std::string hello;  // serialised drover.v1.Hello (operations, stores, labels), without token
  bool draining = false;
  absl::Time created;
  absl::Time expires;
  int32_t leases = 0;  // read by ListSessions only
};

enum class RaiseResult { kRaised, kNotLower, kGone };

// --------------------------------------------------------------------------------------------------------
// duties

enum class DutyKind : int16_t {
  kPrepare = 1,     // read the manifest
  kFinish = 2,      // wait for leases, plan the report, end the job
  kReportFile = 3,  // write one result file; part is its number
};

// A duty held by this controller until its expiry; every write under it names the epoch.
struct Duty {
  JobId job_id;
  DutyKind kind = DutyKind::kPrepare;
  int32_t part = 0;
  int64_t epoch = 0;
  int32_t tries = 0;     // how often it was put off after an error
  std::string progress;  // opaque to storage
};

// A batch to be appended by a preparation.
struct NewBatch {
  int64_t first_task = 0;
  int32_t tasks = 0;
  std::string payload;
};

// A result file of a report.
struct ReportFile {
  int32_t part = 0;
  bool failed_rows = false;  // rows of failed tasks, else of succeeded ones
  BatchNo first_batch = 0;
  BatchNo end_batch = 0;
  std::string key;
  std::string upload_id;  // of an upload under way, to be aborted by a successor
  int64_t rows = 0;
  int64_t bytes = 0;
  std::string md5;     // hex
  std::string sha256;  // hex
  bool written = false;
};

struct ReportPlan {
  absl::Time created;   // the report's creation date
  absl::Time deadline;  // given up after this
  std::vector<ReportFile> files;
};

// ---------------------------------------------------------------------------------------------------------
// events

struct JobEvent {
  JobId job_id;
  int64_t version = 0;
  absl::Time time;
  std::string type;  // JobCreated, JobStatusChanged, JobPriorityChanged
  std::optional<lifecycle::State> previous;
  lifecycle::State state = lifecycle::State::kNew;
  std::string reason_code;
  std::string reason_message;
  std::string caller;
  int32_t priority = 0;
};

class Storage {
 public:
  virtual ~Storage() = default;

  // Whether the database answers now; for the health service.
  virtual absl::Status Ping() = 0;

  // ---- jobs

  // Stores a job in state New with its prepare duty and its JobCreated event. The same request id with the
  // same fingerprint: the id of the job made before, and `created` false; with another: kAlreadyExists
  // (REQUEST_ID_REUSED).
  struct Created {
    JobId job_id;
    bool created = true;
  };
  virtual absl::StatusOr<Created> CreateJob(const NewJob& job) = 0;
  // kNotFound (JOB_NOT_FOUND).
  virtual absl::StatusOr<JobRecord> GetJob(const JobId& job_id) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<JobRecord>> ListJobs(const JobPageQuery& query) = 0;
  // The version of each of these jobs and its counters' sum: cheap, for WatchJob to see that something
  // changed. Jobs that are gone are left out.
  struct JobPulse {
    JobId job_id;
    int64_t version = 0;
    int64_t activity = 0;  // grows with tasks found, recorded, and report files written
    bool terminal = false;
  };
  virtual absl::StatusOr<std::vector<JobPulse>> ReadPulses(const std::vector<JobId>& jobs) = 0;
  // Locks the job's state, asks `decide`, applies the change: state, reason, version + 1, its times,
  // JobStatusChanged event; one that is `resumed` keeps the counts as the snapshot's resumed_executed and
  // resumed_failed; entering Completing, Failing or Cancelling also inserts the finish duty and
  // removes the prepare duty. The snapshot has owned_leases when `with_leases`. Ending a job in Failed or
  // Cancelled counts tasks of leases that came back as lost into `unconfirmed`. Returns the change applied,
  // if any. kNotFound.
  virtual absl::StatusOr<std::optional<lifecycle::Change>> ChangeJob(const JobId& job_id,
                                                                     const DecideFn& decide,
                                                                     bool with_leases) = 0;
  // Sets the priority with its event; false if the job has it already. kNotFound; kFailedPrecondition
  // (JOB_STATE) once the job has ended.
  virtual absl::StatusOr<bool> SetPriority(const JobId& job_id, int32_t priority,
                                           const std::string& caller) = 0;
  virtual absl::StatusOr<std::vector<JobEvent>> ListEvents(const JobId& job_id) = 0;
  // Jobs by state, for the metric.
  virtual absl::StatusOr<std::vector<std::pair<lifecycle::State, int64_t>>> CountJobs() = 0;

  // ---- dispatch

  // Claimable jobs that have something to claim, highest priority first, oldest first among equals; at most
  // `limit`. With `after`, only those that come after this place, whether or not its job is still there; what
  // comes before it costs nothing.
  virtual absl::StatusOr<std::vector<JobView>> ListClaimable(
      int limit, const std::optional<ClaimablePosition>& after) = 0;
  // The same view of these jobs, in whatever state they are.
  virtual absl::StatusOr<std::vector<JobView>> ViewJobs(const std::vector<JobId>& jobs) = 0;
  // CLAIM. Locks job_state; if the job is claimable then: takes leases that came back first (SKIP LOCKED; the
  // tasks left are the lease's less those recorded, read after the lock), then batches from the cursor,
  // dealing each to the slot with the most credit left, until no credit or no work is left or `max_batches`
  // are claimed. Sets Active, and start_time at the first. Each lease gets a new id from `new_lease_id`.
  virtual absl::StatusOr<ClaimResult> Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots,
                                            int max_batches,
                                            const std::function<LeaseId()>& new_lease_id) = 0;
  // Payloads, in the order of the call; batches never change.
  virtual absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId& job_id,
                                                                const std::vector<BatchNo>& batches) = 0;
  // Active jobs that have work left and own no lease: candidates for Paused (preempted).
  virtual absl::StatusOr<std::vector<JobView>> ListIdleActive(int limit) = 0;
  // The highest priority among jobs that own a lease; nothing if none does.
  virtual absl::StatusOr<std::optional<int32_t>> HighestRunningPriority() = 0;
  // Jobs in Pausing that own no lease.
  virtual absl::StatusOr<std::vector<JobId>> ListPausable(int limit) = 0;

  // ---- leases and sessions (docs/internals/protocol.md)

  // A new session with attachment `info.attachment`, expiring `ttl` from the database's now.
  virtual absl::Status CreateSession(const SessionInfo& info, absl::Duration ttl) = 0;
  // kNotFound (SESSION_GONE), kPermissionDenied (RESUME_TOKEN). Reads nothing of its number.
  virtual absl::Status CheckSession(const SessionId& session, const std::string& token_hash) = 0;
  // Attach (a): gives `attachment` to those of these leases whose row has this session and a lower number;
  // returns the rows (of all those that the session owns, whatever their number) with what their segments
  // have recorded. A transaction for each job.
  virtual absl::StatusOr<std::vector<HeldLeaseRow>> MarkLeases(
      const SessionId& session, int64_t attachment,
      const std::vector<std::pair<JobId, LeaseKey>>& leases) = 0;
  // Attach (b): raises the session's number and renews it, if it exists and its number is lower.
  virtual absl::StatusOr<RaiseResult> RaiseAttachment(const SessionInfo& info, absl::Duration ttl) = 0;
  // Attach (c): returns (CameBack::kGivenBack: they never arrived) the session's leases with a lower number.
  // A transaction for each job. Returns how many.
  virtual absl::StatusOr<int64_t> ReturnOlderLeases(const SessionId& session, int64_t attachment) = 0;
  // Renews those of these sessions whose number is the one given; returns the renewed ones. One UPDATE,
  // sorted by id.
  struct Renewal {
    SessionId session;
    int64_t attachment = 0;
    bool draining = false;
  };
  virtual absl::StatusOr<std::vector<SessionId>> RenewSessions(const std::vector<Renewal>& sessions,
                                                               absl::Duration ttl) = 0;
  // Leases that the database shows under these sessions and numbers, for reconciling.
  struct OwnedLease {
    JobId job_id;
    LeaseKey key;
    SessionId session;
    int64_t attachment = 0;
  };
  virtual absl::StatusOr<std::vector<OwnedLease>> ListOwnedLeases(
      const std::vector<std::pair<SessionId, int64_t>>& attachments) = 0;
  // Makes these leases of one job ownerless, each only if its row still has that session and number. Returns
  // how many.
  virtual absl::StatusOr<int64_t> ReturnLeases(const JobId& job_id, const std::vector<OwnedLease>& leases,
                                               CameBack how) = 0;
  // Ends a session now: deletes its row, in a transaction of its own (a worker that drained and said
  // goodbye).
  virtual absl::Status EndSession(const SessionId& session) = 0;
  // Janitor: deletes the sessions that have expired by the database's clock, each transaction alone; returns
  // them.
  virtual absl::StatusOr<std::vector<SessionId>> EndExpiredSessions() = 0;
  // Janitor: leases whose session is gone, or whose number is behind their session's; at most `limit`.
  struct StrandedLease {
    OwnedLease owned;
    bool session_gone = false;
  };
  virtual absl::StatusOr<std::vector<StrandedLease>> ListStrandedLeases(int limit) = 0;
  // Sessions by id, after `after`.
  virtual absl::StatusOr<std::vector<SessionInfo>> ListSessions(const SessionId& after, int limit) = 0;

  // ---- outcomes

  // RECORD, of one job: locks lease rows (sorted), applies the fence to each segment in order of (batch,
  // lease, sequence), stores the new ones, ends or shrinks leases, makes given-back tasks ownerless leases,
  // adds the counters and the failure groups (AddFailures of failures.h, for each segment stored), and
  // applies what lifecycle::AfterRecord says of the values that the counter update returned.
  virtual absl::StatusOr<RecordResult> Record(const JobId& job_id, const std::vector<SegmentWrite>& segments,
                                              const lifecycle::FailurePolicy& policy) = 0;
  // What the segments of one lease have recorded so far, whoever owns it.
  virtual absl::StatusOr<TaskSet> ReadRecorded(const JobId& job_id, const LeaseKey& lease,
                                               int32_t batch_tasks) = 0;
  // Segments of batches first … end-1 in batch order; `only_failed` uses the partial index.
  virtual absl::StatusOr<std::vector<StoredSegment>> ReadSegments(const JobId& job_id, BatchNo first,
                                                                  BatchNo end, bool only_failed) = 0;
  // The segments, of batches first …, that record any task (only_failed: any failed one), all of one moment.
  // Bounded work: what is before `first`, or has no failed task, is not read.
  virtual absl::StatusOr<SegmentPage> ReadSegmentPage(const JobId& job_id, BatchNo first, bool only_failed,
                                                      const SegmentPageLimits& limits) = 0;
  // Batches first … with their payloads, in order, at most `limit` of them and before `end`.
  virtual absl::StatusOr<std::vector<BatchPayload>> ReadBatchRange(const JobId& job_id, BatchNo first,
                                                                   BatchNo end, int limit) = 0;
  // Counts of executed tasks of batches first …, in order, at most `limit` batches that have any.
  virtual absl::StatusOr<std::vector<BatchCounts>> ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                                   int limit) = 0;

  // ---- duties

  // Takes up to `limit` duties of these kinds that nobody holds (or whose holder's time is over) and whose
  // time has come, for `owner` and `lease` long; epoch + 1. Oldest first, SKIP LOCKED.
  virtual absl::StatusOr<std::vector<Duty>> AcquireDuties(const std::string& owner,
                                                          const std::vector<DutyKind>& kinds, int limit,
                                                          absl::Duration lease) = 0;
  // Prolongs those of these duties that are still held at their epoch; returns which are (same order).
  virtual absl::StatusOr<std::vector<bool>> RenewDuties(const std::vector<Duty>& duties,
                                                        absl::Duration lease) = 0;
  // The duty is done: its row goes. kAborted (DUTY_LOST) when it is held by a successor.
  virtual absl::Status FinishDuty(const Duty& duty) = 0;
  // Lets go of it, to be taken up again after `delay` by anybody; `failed` counts a try.
  virtual absl::Status ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) = 0;
  // Makes the job's finish duty due now.
  virtual absl::Status WakeFinish(const JobId& job_id) = 0;

  // PREPARE. A chunk: appends batches after the present last one, sets the duty's progress; adds to the job's
  // batches and tasks. All only if the duty's epoch is still its own (kAborted, DUTY_LOST) and the job is
  // still Preparing (kFailedPrecondition, JOB_STATE). With `last`, the job is prepared and leaves Preparing
  // by Decide(kPrepared), and the duty is done.
  struct PrepareChunk {
    std::vector<NewBatch> batches;
    std::string progress;
    bool last = false;
  };
  virtual absl::Status AppendBatches(const Duty& duty, const PrepareChunk& chunk) = 0;
  // The manifest can't be used: the job goes to Failing with `failure`; the duty is done.
  virtual absl::Status FailPreparation(const Duty& duty, const lifecycle::Failure& failure) = 0;

  // REPORT. All kAborted (DUTY_LOST) when the duty is not held any more.
  // Stores the plan and a kReportFile duty for each file; the job's report becomes Writing. A file that is
  // `written` already (small reports) is stored as it is and gets no duty. Once planned, a second call
  // changes nothing and returns the first plan.
  virtual absl::StatusOr<ReportPlan> PlanReport(const Duty& finish, const ReportPlan& plan) = 0;
  // The plan, if there is one.
  virtual absl::StatusOr<std::optional<ReportPlan>> ReadReportPlan(const JobId& job_id) = 0;
  virtual absl::StatusOr<ReportFile> ReadReportFile(const JobId& job_id, int32_t part) = 0;
  // Stores the id of the upload before its first part is sent.
  virtual absl::Status SetUpload(const Duty& file_duty, const std::string& upload_id) = 0;
  // The file is written: stores rows, bytes and hashes; the duty is done; the finish duty becomes due.
  virtual absl::Status FinishReportFile(const Duty& file_duty, const ReportFile& file) = 0;
  // The report is settled: Written with its key, NotNeeded, or Failed with `error`; remaining file duties go.
  virtual absl::Status SettleReport(const Duty& finish, ReportState state, const std::string& manifest_key,
                                    const std::string& error) = 0;
  // Notes the last error of a report that is still tried; nothing once it is settled.
  virtual absl::Status NoteReportError(const JobId& job_id, const std::string& error) = 0;

  // ---- janitor

  // Removes ownerless leases of jobs that have ended, at most `limit`.
  virtual absl::StatusOr<int64_t> PurgeEndedLeases(int limit) = 0;
  // Age of the oldest transaction in the database, for the metric.
  virtual absl::StatusOr<absl::Duration> OldestTransaction() = 0;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_STORAGE_H_
