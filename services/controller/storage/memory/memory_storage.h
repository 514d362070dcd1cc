// Storage in memory: for simulation in virtual time, and for tests that need a whole Storage and no
// PostgreSQL. No program of Drover links it, for nothing of it outlives the process.
//
//   memory::MemoryDatabase database(clock);              // "the database's clock" is the one given
//   MemoryStorage one(database), other(database);        // two controllers on it
//
// Plainly correct rather than fast: one mutex; a transaction is a function on a copy of the job's rows that
// takes their place when it returns OK. The constraints of the SQL schema are checked at each commit. It
// passes the failpoints of PostgresStorage (storage.NAME.before_commit, .after_commit), and the same contract
// tests.
//
//   jobs.cc     creating, reading, changing jobs      record.cc    outcomes coming in, and read back
//   claims.cc   looking for work, claiming it         duties.cc    duties, preparation, report
//   leases.cc   who owns what; sessions
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_MEMORY_MEMORY_STORAGE_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_MEMORY_MEMORY_STORAGE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/sync/mutex.h"
#include "services/controller/storage/memory/rows.h"
#include "services/controller/storage/storage.h"

namespace drover {
namespace memory {

// Departures from the design (docs/internals/protocol/README.md) that a simulation has to catch. None by
// default.
struct PlantedFaults {
  bool record_without_fence = false;  // neither lease, session nor sequence are compared
  bool regrant_whole_lease = false;   // what is recorded is not subtracted at a regrant
  bool marking_lowers = false;        // MarkLeases sets the number, whatever it was
  bool claim_in_any_state = false;    // the state was read before, and not locked
  bool given_back_apart = false;      // tasks given back become a lease only in TakeGivenBack's transaction
  bool completion_never_judged = false;  // the record transaction does not see that a job is complete
};

// The data that several MemoryStorages share. Thread-safe.
class MemoryDatabase {
 public:
  // Told of each transaction on a job that is about to commit, under the lock: what it was (null: it is new)
  // and what it becomes. It must not call the database.
  using CommitFn = std::function<void(std::string_view name, const JobRows* before, const JobRows& after)>;

  explicit MemoryDatabase(const Clock& clock) : clock_(clock) {}
  MemoryDatabase(const MemoryDatabase&) = delete;
  MemoryDatabase& operator=(const MemoryDatabase&) = delete;

  // Before its first use.
  void OnCommit(CommitFn on_commit) { on_commit_ = std::move(on_commit); }
  PlantedFaults& faults() { return faults_; }

  // Forgets everything.
  void Clear();
  // For simulations and tests: the rows as they are. Null if there is no such job. The reference given to
  // `look` ends with the call.
  void Look(const JobId& job_id, absl::FunctionRef<void(const JobRows*)> look) const;
  void LookAtAll(absl::FunctionRef<void(const JobRows&)> look) const;
  std::optional<SessionRow> Session(const SessionId& session) const;

  // ---- for MemoryStorage

  absl::Time Now() const { return clock_.Now(); }
  // A transaction on one job. kNotFound (JOB_NOT_FOUND) if there is none.
  absl::Status Write(std::string_view name, const JobId& job_id,
                     absl::FunctionRef<absl::Status(JobRows&)> body);
  absl::Status Read(const JobId& job_id, absl::FunctionRef<absl::Status(const JobRows&)> body) const;
  // One over all tables, which can't fail: nothing is undone.
  struct Tables {
    std::map<JobId, JobRows> jobs;
    std::map<SessionId, SessionRow> sessions;
    // (namespace, request id) -> (fingerprint, job)
    std::map<std::pair<std::string, std::string>, std::pair<std::string, JobId>> requests;
  };
  absl::Status WriteAll(std::string_view name, absl::FunctionRef<absl::Status(Tables&)> body);
  void ReadAll(absl::FunctionRef<void(const Tables&)> body) const;

 private:
  const Clock& clock_;
  CommitFn on_commit_;
  PlantedFaults faults_;
  mutable Mutex mu_;
  Tables tables_ ABSL_GUARDED_BY(mu_);
};

}  // namespace memory

// The methods' promises are in storage.h. Thread-safe.
class MemoryStorage final : public Storage {
 public:
  // `database` must outlive it.
  explicit MemoryStorage(memory::MemoryDatabase& database) : db_(database) {}

  absl::Status Ping() override { return absl::OkStatus(); }

  absl::StatusOr<Created> CreateJob(const NewJob& job) override;
  absl::StatusOr<JobRecord> GetJob(const JobId& job_id) override;
  absl::StatusOr<std::vector<JobRecord>> ListJobs(const JobPageQuery& query) override;
  absl::StatusOr<std::vector<JobPulse>> ReadPulses(const std::vector<JobId>& jobs) override;
  absl::StatusOr<std::optional<lifecycle::Change>> ChangeJob(const JobId& job_id, const DecideFn& decide,
                                                             bool with_leases) override;
  absl::StatusOr<bool> SetPriority(const JobId& job_id, int32_t priority, const std::string& caller) override;
  absl::StatusOr<std::vector<JobEvent>> ListEvents(const JobId& job_id) override;
  absl::StatusOr<std::vector<std::pair<lifecycle::State, int64_t>>> CountJobs() override;

  absl::StatusOr<std::vector<JobView>> ListClaimable(int limit,
                                                     const std::optional<ClaimablePosition>& after) override;
  absl::StatusOr<std::vector<JobView>> ViewJobs(const std::vector<JobId>& jobs) override;
  absl::StatusOr<ClaimResult> Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots, int max_batches,
                                    const std::function<LeaseId()>& new_lease_id) override;
  absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId& job_id,
                                                        const std::vector<BatchNo>& batches) override;
  absl::StatusOr<std::vector<JobView>> ListIdleActive(int limit) override;
  absl::StatusOr<std::optional<int32_t>> HighestRunningPriority() override;
  absl::StatusOr<std::vector<JobId>> ListPausable(int limit) override;

  absl::Status CreateSession(const SessionInfo& info, absl::Duration ttl) override;
  absl::Status CheckSession(const SessionId& session, const std::string& token_hash) override;
  absl::StatusOr<std::vector<HeldLeaseRow>> MarkLeases(
      const SessionId& session, int64_t attachment,
      const std::vector<std::pair<JobId, LeaseKey>>& leases) override;
  absl::StatusOr<RaiseResult> RaiseAttachment(const SessionInfo& info, absl::Duration ttl) override;
  absl::StatusOr<int64_t> ReturnOlderLeases(const SessionId& session, int64_t attachment) override;
  absl::StatusOr<std::vector<SessionId>> RenewSessions(const std::vector<Renewal>& sessions,
                                                       absl::Duration ttl) override;
  absl::StatusOr<std::vector<OwnedLease>> ListOwnedLeases(
      const std::vector<std::pair<SessionId, int64_t>>& attachments) override;
  absl::StatusOr<int64_t> ReturnLeases(const JobId& job_id, const std::vector<OwnedLease>& leases,
                                       CameBack how) override;
  absl::Status EndSession(const SessionId& session) override;
  absl::StatusOr<std::vector<SessionId>> EndExpiredSessions() override;
  absl::StatusOr<std::vector<StrandedLease>> ListStrandedLeases(int limit) override;
  absl::StatusOr<std::vector<SessionInfo>> ListSessions(const SessionId& after, int limit) override;

  absl::StatusOr<RecordResult> Record(const JobId& job_id, const std::vector<SegmentWrite>& segments,
                                      const lifecycle::FailurePolicy& policy) override;
  absl::StatusOr<TaskSet> ReadRecorded(const JobId& job_id, const LeaseKey& lease,
                                       int32_t batch_tasks) override;
  absl::StatusOr<std::vector<StoredSegment>> ReadSegments(const JobId& job_id, BatchNo first, BatchNo end,
                                                          bool only_failed) override;
  absl::StatusOr<SegmentPage> ReadSegmentPage(const JobId& job_id, BatchNo first, bool only_failed,
                                              const SegmentPageLimits& limits) override;
  absl::StatusOr<std::vector<BatchPayload>> ReadBatchRange(const JobId& job_id, BatchNo first, BatchNo end,
                                                           int limit) override;
  absl::StatusOr<std::vector<BatchCounts>> ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                           int limit) override;

  absl::StatusOr<std::vector<Duty>> AcquireDuties(const std::string& owner,
                                                  const std::vector<DutyKind>& kinds, int limit,
                                                  absl::Duration lease) override;
  absl::StatusOr<std::vector<bool>> RenewDuties(const std::vector<Duty>& duties,
                                                absl::Duration lease) override;
  absl::Status FinishDuty(const Duty& duty) override;
  absl::Status ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) override;
  absl::Status WakeFinish(const JobId& job_id) override;
  absl::Status AppendBatches(const Duty& duty, const PrepareChunk& chunk) override;
  absl::Status FailPreparation(const Duty& duty, const lifecycle::Failure& failure) override;
  absl::StatusOr<ReportPlan> PlanReport(const Duty& finish, const ReportPlan& plan) override;
  absl::StatusOr<std::optional<ReportPlan>> ReadReportPlan(const JobId& job_id) override;
  absl::StatusOr<ReportFile> ReadReportFile(const JobId& job_id, int32_t part) override;
  absl::Status SetUpload(const Duty& file_duty, const std::string& upload_id) override;
  absl::Status FinishReportFile(const Duty& file_duty, const ReportFile& file) override;
  absl::Status SettleReport(const Duty& finish, ReportState state, const std::string& manifest_key,
                            const std::string& error) override;
  absl::Status NoteReportError(const JobId& job_id, const std::string& error) override;

  absl::StatusOr<int64_t> PurgeEndedLeases(int limit) override;
  absl::StatusOr<absl::Duration> OldestTransaction() override { return absl::ZeroDuration(); }

  // With PlantedFaults::given_back_apart: the second transaction, by the leases that Record kept back.
  using GivenBack = std::vector<std::pair<LeaseKey, memory::LeaseRow>>;
  GivenBack TakeGivenBack() { return std::move(given_back_); }
  absl::Status InsertGivenBack(const JobId& job_id, const GivenBack& leases);

 private:
  memory::MemoryDatabase& db_;
  GivenBack given_back_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_MEMORY_MEMORY_STORAGE_H_
