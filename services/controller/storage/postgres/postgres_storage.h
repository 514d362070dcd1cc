// Storage on PostgreSQL 15 or later: all SQL of Drover is in this folder, a file for each subject.
//
//   jobs.cc     creating, reading, changing jobs      record.cc    outcomes coming in
//   claims.cc   looking for work, claiming it         outcomes.cc  outcomes and batches read back
//   leases.cc   who owns what, attaching, returning   duties.cc    duties
//   sessions.cc sessions                              prepare.cc   batches coming in
//   janitor.cc  what time takes away                  report.cc    a report's plan and files
//
// docs/internals/storage.md tells the tables, the indexes and the order of locks.
//
//   DROVER_RETURN_IF_ERROR(MigratePostgres(url, "0.1.0"));
//   DROVER_ASSIGN_OR_RETURN(auto storage, OpenPostgres({.url = url}, SystemClock(), SystemRandom()));
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_POSTGRES_STORAGE_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_POSTGRES_STORAGE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "services/controller/storage/postgres/options.h"
#include "services/controller/storage/storage.h"

namespace drover {

namespace postgres {
class Db;
}  // namespace postgres

// The methods' promises are in storage.h. Thread-safe; calls beyond the pool's size wait for a connection.
class PostgresStorage final : public Storage {
 public:
  explicit PostgresStorage(std::unique_ptr<postgres::Db> db);
  ~PostgresStorage() override;
  PostgresStorage(const PostgresStorage&) = delete;
  PostgresStorage& operator=(const PostgresStorage&) = delete;

  // What of the server's settings would lose acknowledged facts in a crash (fsync, full_page_writes off):
  // sentences for a warning at the start, none if all is well.
  absl::StatusOr<std::vector<std::string>> DurabilityWarnings();

  absl::Status Ping() override;

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
  absl::StatusOr<absl::Duration> OldestTransaction() override;

 private:
  const std::unique_ptr<postgres::Db> db_;
};

// A storage on that database. Connects when first used, so a database that is down is no error here.
// INVALID_ARGUMENT if the options are out of their limits or the URL can't be parsed. `clock` and `random`
// (waits and backoff only) must outlive it.
absl::StatusOr<std::unique_ptr<PostgresStorage>> OpenPostgres(const PostgresOptions& options, Clock& clock,
                                                              Random& random);

// Brings the database's schema to what this program knows, in one transaction under an advisory lock (several
// controllers may start at once). `controller_version`: this program's, "1.2.3". kFailedPrecondition
// (SCHEMA_TOO_NEW) if the schema says that it needs a later controller; one that is newer, but still allows
// this one, is left as it is. kUnavailable if the database can't be reached.
absl::Status MigratePostgres(const std::string& url, std::string_view controller_version);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_POSTGRES_STORAGE_H_
