// A Storage for the tests of duties and their handlers: jobs, batches, segments, duties and reports in
// memory, by the contract of storage.h, with a clock to be set and errors on demand. What duties never call
// answers UNIMPLEMENTED.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_DUTIES_DUTY_STORAGE_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_DUTIES_DUTY_STORAGE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock/clock.h"
#include "common/status/status.h"
#include "common/sync/mutex.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Time stands still until it is advanced. Thread-safe.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'700'000'000) + Elapsed(); }
  absl::Duration Elapsed() const override { return absl::Nanoseconds(elapsed_.load()); }
  void Advance(absl::Duration by) { elapsed_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> elapsed_ = 0;
};

// The same numbers at each run. Thread-safe.
class FakeRandom final : public Random {
 public:
  uint64_t Next() override { return state_ += 0x9e3779b97f4a7c15u; }

 private:
  std::atomic<uint64_t> state_ = 42;
};

// Thread-safe.
class DutyStorage : public Storage {
 public:
  explicit DutyStorage(const Clock& clock) : clock_(clock) {}

  // ---- for tests

  // Called by each method that a handler uses, first and without the lock; an error is returned in its stead.
  std::function<absl::Status(const std::string& method)> fault;
  // Called after each method that changed something, with its error to be returned although it happened.
  std::function<absl::Status(const std::string& method)> lost_commit;

  struct Job {
    JobRecord record;
    int64_t owned_leases = 0;
    std::vector<NewBatch> batches;
    std::vector<StoredSegment> segments;  // in batch order
    std::optional<ReportPlan> plan;
    std::vector<std::string> chunk_progress;  // of each chunk stored
    std::vector<lifecycle::State> states;     // entered, in order
    std::vector<std::string> uploads;         // ids stored by SetUpload
    std::string last_report_error;
  };

  // A job in New with its prepare duty.
  void AddJob(JobSpec spec) {
    MutexLock lock(&mu_);
    Job job;
    job.record.spec = spec;
    job.record.state_time = clock_.Now();
    job.record.report_state = spec.report_wanted ? ReportState::kPending : ReportState::kNone;
    jobs_[spec.job_id] = job;
    duties_[{spec.job_id, DutyKind::kPrepare, 0}] = {};
  }
  Job Get(const JobId& job_id) {
    MutexLock lock(&mu_);
    return jobs_.at(job_id);
  }
  // Changes the job behind the handlers' backs.
  void Edit(const JobId& job_id, const std::function<void(Job&)>& edit) {
    MutexLock lock(&mu_);
    edit(jobs_.at(job_id));
  }
  // Puts the job into a finishing state with its finish duty, as the recorder or a person does.
  void BeginFinish(const JobId& job_id, lifecycle::State state) {
    MutexLock lock(&mu_);
    Enter(jobs_.at(job_id), {state, "", "", "", {}});
  }
  void AddDuty(const JobId& job_id, DutyKind kind, int32_t part) {
    MutexLock lock(&mu_);
    duties_[{job_id, kind, part}] = {};
  }
  bool HasDuty(const JobId& job_id, DutyKind kind, int32_t part = 0) {
    MutexLock lock(&mu_);
    return duties_.contains({job_id, kind, part});
  }
  size_t duties() {
    MutexLock lock(&mu_);
    return duties_.size();
  }
  // Takes one duty of this job, whatever its time; aborts if there is none or it is held.
  Duty Take(const JobId& job_id, DutyKind kind, int32_t part = 0, const std::string& owner = "test") {
    MutexLock lock(&mu_);
    const Key key{job_id, kind, part};
    if (!duties_.contains(key) || Held(duties_.at(key))) abort();
    return TakeRow(key, owner, absl::Hours(1));
  }
  // The holder's time is over.
  void Expire(const Duty& duty) {
    MutexLock lock(&mu_);
    DutyRow* row = RowOf(duty);
    if (row != nullptr) row->owner.clear();
  }
  struct DutyState {
    std::string owner;
    absl::Duration due;
    int32_t tries = 0;
  };
  DutyState StateOf(const JobId& job_id, DutyKind kind, int32_t part = 0) {
    MutexLock lock(&mu_);
    const DutyRow& row = duties_.at({job_id, kind, part});
    return {Held(row) ? row.owner : "", row.due, row.tries};
  }

  // ---- Storage

  absl::StatusOr<JobRecord> GetJob(const JobId& job_id) override {
    DROVER_RETURN_IF_ERROR(Fault("GetJob"));
    MutexLock lock(&mu_);
    const auto found = jobs_.find(job_id);
    if (found == jobs_.end()) return Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no such job");
    return found->second.record;
  }

  absl::StatusOr<std::optional<lifecycle::Change>> ChangeJob(const JobId& job_id, const DecideFn& decide,
                                                             bool with_leases) override {
    DROVER_RETURN_IF_ERROR(Fault("ChangeJob"));
    MutexLock lock(&mu_);
    const auto found = jobs_.find(job_id);
    if (found == jobs_.end()) return Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no such job");
    lifecycle::Snapshot snapshot = found->second.record.snapshot;
    snapshot.owned_leases = with_leases ? found->second.owned_leases : 0;
    DROVER_ASSIGN_OR_RETURN(const std::optional<lifecycle::Change> change, decide(snapshot));
    if (change) Enter(found->second, *change);
    DROVER_RETURN_IF_ERROR(Lost("ChangeJob"));
    return change;
  }

  absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId& job_id,
                                                        const std::vector<BatchNo>& batches) override {
    DROVER_RETURN_IF_ERROR(Fault("ReadBatches"));
    MutexLock lock(&mu_);
    std::vector<BatchPayload> result;
    for (BatchNo number : batches) result.push_back(PayloadOf(jobs_.at(job_id), number));
    return result;
  }

  absl::StatusOr<std::vector<StoredSegment>> ReadSegments(const JobId& job_id, BatchNo first, BatchNo end,
                                                          bool only_failed) override {
    DROVER_RETURN_IF_ERROR(Fault("ReadSegments"));
    MutexLock lock(&mu_);
    std::vector<StoredSegment> result;
    for (const StoredSegment& segment : jobs_.at(job_id).segments) {
      if (segment.batch_no >= first && segment.batch_no < end && (!only_failed || segment.failed > 0)) {
        result.push_back(segment);
      }
    }
    return result;
  }

  absl::StatusOr<std::vector<BatchPayload>> ReadBatchRange(const JobId& job_id, BatchNo first, BatchNo end,
                                                           int limit) override {
    DROVER_RETURN_IF_ERROR(Fault("ReadBatchRange"));
    MutexLock lock(&mu_);
    const Job& job = jobs_.at(job_id);
    std::vector<BatchPayload> result;
    const BatchNo last = std::min(end, static_cast<BatchNo>(job.batches.size()));
    for (BatchNo number = first; number < last && limit-- > 0; ++number)
      result.push_back(PayloadOf(job, number));
    return result;
  }

  absl::StatusOr<std::vector<BatchCounts>> ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                           int limit) override {
    DROVER_RETURN_IF_ERROR(Fault("ReadBatchCounts"));
    MutexLock lock(&mu_);
    std::vector<BatchCounts> result;
    for (const StoredSegment& segment : jobs_.at(job_id).segments) {
      if (segment.batch_no < first) continue;
      if (result.empty() || result.back().batch_no != segment.batch_no) {
        if (static_cast<int>(result.size()) == limit) break;
        result.push_back({segment.batch_no, 0, 0});
      }
      result.back().succeeded += segment.succeeded;
      result.back().failed += segment.failed;
    }
    return result;
  }

  absl::StatusOr<std::vector<Duty>> AcquireDuties(const std::string& owner,
                                                  const std::vector<DutyKind>& kinds, int limit,
                                                  absl::Duration lease) override {
    DROVER_RETURN_IF_ERROR(Fault("AcquireDuties"));
    MutexLock lock(&mu_);
    std::vector<Duty> result;
    for (auto& [key, row] : duties_) {
      if (static_cast<int>(result.size()) == limit) break;
      if (std::find(kinds.begin(), kinds.end(), key.kind) == kinds.end()) continue;
      if (Held(row) || row.due > clock_.Elapsed()) continue;
      result.push_back(TakeRow(key, owner, lease));
    }
    return result;
  }

  absl::StatusOr<std::vector<bool>> RenewDuties(const std::vector<Duty>& duties,
                                                absl::Duration lease) override {
    DROVER_RETURN_IF_ERROR(Fault("RenewDuties"));
    MutexLock lock(&mu_);
    std::vector<bool> result;
    for (const Duty& duty : duties) {
      DutyRow* row = RowOf(duty);
      result.push_back(row != nullptr);
      if (row != nullptr) row->held_until = clock_.Elapsed() + lease;
    }
    return result;
  }

  absl::Status FinishDuty(const Duty& duty) override {
    DROVER_RETURN_IF_ERROR(Fault("FinishDuty"));
    MutexLock lock(&mu_);
    if (RowOf(duty) == nullptr) return DutyLost();
    duties_.erase(KeyOf(duty));
    return absl::OkStatus();
  }

  absl::Status ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) override {
    DROVER_RETURN_IF_ERROR(Fault("ReleaseDuty"));
    MutexLock lock(&mu_);
    DutyRow* row = RowOf(duty);
    if (row == nullptr) return DutyLost();
    row->owner.clear();
    row->due = clock_.Elapsed() + delay;
    if (failed) ++row->tries;
    return absl::OkStatus();
  }

  absl::Status AppendBatches(const Duty& duty, const PrepareChunk& chunk) override {
    DROVER_RETURN_IF_ERROR(Fault("AppendBatches"));
    MutexLock lock(&mu_);
    DutyRow* row = RowOf(duty);
    if (row == nullptr) return DutyLost();
    Job& job = jobs_.at(duty.job_id);
    lifecycle::Snapshot& snapshot = job.record.snapshot;
    if (snapshot.state != lifecycle::State::kPreparing) {
      return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE", "not preparing");
    }
    for (const NewBatch& batch : chunk.batches) {
      job.batches.push_back(batch);
      snapshot.tasks += batch.tasks;
    }
    snapshot.batches = static_cast<int32_t>(job.batches.size());
    job.chunk_progress.push_back(chunk.progress);
    row->progress = chunk.progress;
    if (chunk.last) {
      snapshot.prepared = true;
      const auto change = lifecycle::Decide(snapshot, {lifecycle::Cause::kPrepared, "", "", {}});
      if (!change.ok() || !*change) abort();
      duties_.erase(KeyOf(duty));
      Enter(job, **change);
    }
    return Lost("AppendBatches");
  }

  absl::Status FailPreparation(const Duty& duty, const lifecycle::Failure& failure) override {
    DROVER_RETURN_IF_ERROR(Fault("FailPreparation"));
    MutexLock lock(&mu_);
    if (RowOf(duty) == nullptr) return DutyLost();
    Job& job = jobs_.at(duty.job_id);
    const auto change = lifecycle::Decide(job.record.snapshot,
                                          {lifecycle::Cause::kManifestFailed, failure.reason, "", {failure}});
    if (!change.ok()) return change.status();
    duties_.erase(KeyOf(duty));
    if (*change) Enter(job, **change);
    return Lost("FailPreparation");
  }

  absl::StatusOr<ReportPlan> PlanReport(const Duty& finish, const ReportPlan& plan) override {
    DROVER_RETURN_IF_ERROR(Fault("PlanReport"));
    MutexLock lock(&mu_);
    if (RowOf(finish) == nullptr) return DutyLost();
    Job& job = jobs_.at(finish.job_id);
    if (job.plan) return *job.plan;
    job.plan = plan;
    job.record.report_state = ReportState::kWriting;
    for (const ReportFile& file : plan.files) {
      if (!file.written) duties_[{finish.job_id, DutyKind::kReportFile, file.part}] = {};
    }
    DROVER_RETURN_IF_ERROR(Lost("PlanReport"));
    return plan;
  }
  absl::StatusOr<std::optional<ReportPlan>> ReadReportPlan(const JobId& job_id) override {
    DROVER_RETURN_IF_ERROR(Fault("ReadReportPlan"));
    MutexLock lock(&mu_);
    return jobs_.at(job_id).plan;
  }
  absl::StatusOr<ReportFile> ReadReportFile(const JobId& job_id, int32_t part) override {
    DROVER_RETURN_IF_ERROR(Fault("ReadReportFile"));
    MutexLock lock(&mu_);
    return jobs_.at(job_id).plan->files.at(part);
  }
  absl::Status SetUpload(const Duty& file_duty, const std::string& upload_id) override {
    DROVER_RETURN_IF_ERROR(Fault("SetUpload"));
    MutexLock lock(&mu_);
    if (RowOf(file_duty) == nullptr) return DutyLost();
    Job& job = jobs_.at(file_duty.job_id);
    job.plan->files.at(file_duty.part).upload_id = upload_id;
    job.uploads.push_back(upload_id);
    return absl::OkStatus();
  }
  absl::Status FinishReportFile(const Duty& file_duty, const ReportFile& file) override {
    DROVER_RETURN_IF_ERROR(Fault("FinishReportFile"));
    MutexLock lock(&mu_);
    if (RowOf(file_duty) == nullptr) return DutyLost();
    duties_.erase(KeyOf(file_duty));
    Job& job = jobs_.at(file_duty.job_id);
    job.plan->files.at(file.part) = file;
    job.plan->files.at(file.part).written = true;
    const auto finish = duties_.find({file_duty.job_id, DutyKind::kFinish, 0});
    if (finish != duties_.end()) finish->second.due = clock_.Elapsed();
    return Lost("FinishReportFile");
  }
  absl::Status SettleReport(const Duty& finish, ReportState state, const std::string& manifest_key,
                            const std::string& error) override {
    DROVER_RETURN_IF_ERROR(Fault("SettleReport"));
    MutexLock lock(&mu_);
    if (RowOf(finish) == nullptr) return DutyLost();
    Job& job = jobs_.at(finish.job_id);
    job.record.report_state = state;
    job.record.report_manifest_key = manifest_key;
    job.record.report_error = error;
    job.record.snapshot.report_settled = true;
    std::erase_if(duties_, [&](const auto& row) {
      return row.first.job_id == finish.job_id && row.first.kind == DutyKind::kReportFile;
    });
    return Lost("SettleReport");
  }
  absl::Status NoteReportError(const JobId& job_id, const std::string& error) override {
    DROVER_RETURN_IF_ERROR(Fault("NoteReportError"));
    MutexLock lock(&mu_);
    jobs_.at(job_id).record.report_error = error;
    return absl::OkStatus();
  }

  // ---- never called by duties

  absl::Status Ping() override { return Unused(); }
  absl::StatusOr<Created> CreateJob(const NewJob&) override { return Unused(); }
  absl::StatusOr<std::vector<JobRecord>> ListJobs(const JobPageQuery&) override { return Unused(); }
  absl::StatusOr<std::vector<JobPulse>> ReadPulses(const std::vector<JobId>&) override { return Unused(); }
  absl::StatusOr<bool> SetPriority(const JobId&, int32_t, const std::string&) override { return Unused(); }
  absl::StatusOr<std::vector<JobEvent>> ListEvents(const JobId&) override { return Unused(); }
  absl::StatusOr<std::vector<std::pair<lifecycle::State, int64_t>>> CountJobs() override { return Unused(); }
  absl::StatusOr<std::vector<JobView>> ListClaimable(int, const std::optional<ClaimablePosition>&) override {
    return Unused();
  }
  absl::StatusOr<std::vector<JobView>> ViewJobs(const std::vector<JobId>&) override { return Unused(); }
  absl::StatusOr<ClaimResult> Claim(const JobId&, const std::vector<ClaimSlot>&, int,
                                    const std::function<LeaseId()>&) override {
    return Unused();
  }
  absl::StatusOr<std::vector<JobView>> ListIdleActive(int) override { return Unused(); }
  absl::StatusOr<std::optional<int32_t>> HighestRunningPriority() override { return Unused(); }
  absl::StatusOr<std::vector<JobId>> ListPausable(int) override { return Unused(); }
  absl::Status CreateSession(const SessionInfo&, absl::Duration) override { return Unused(); }
  absl::Status CheckSession(const SessionId&, const std::string&) override { return Unused(); }
  absl::StatusOr<std::vector<HeldLeaseRow>> MarkLeases(
      const SessionId&, int64_t, const std::vector<std::pair<JobId, LeaseKey>>&) override {
    return Unused();
  }
  absl::StatusOr<RaiseResult> RaiseAttachment(const SessionInfo&, absl::Duration) override {
    return Unused();
  }
  absl::StatusOr<int64_t> ReturnOlderLeases(const SessionId&, int64_t) override { return Unused(); }
  absl::StatusOr<std::vector<SessionId>> RenewSessions(const std::vector<Renewal>&, absl::Duration) override {
    return Unused();
  }
  absl::StatusOr<std::vector<OwnedLease>> ListOwnedLeases(
      const std::vector<std::pair<SessionId, int64_t>>&) override {
    return Unused();
  }
  absl::StatusOr<int64_t> ReturnLeases(const JobId&, const std::vector<OwnedLease>&, CameBack) override {
    return Unused();
  }
  absl::Status EndSession(const SessionId&) override { return Unused(); }
  absl::StatusOr<std::vector<SessionId>> EndExpiredSessions() override { return Unused(); }
  absl::StatusOr<std::vector<StrandedLease>> ListStrandedLeases(int) override { return Unused(); }
  absl::StatusOr<std::vector<SessionInfo>> ListSessions(const SessionId&, int) override { return Unused(); }
  absl::StatusOr<RecordResult> Record(const JobId&, const std::vector<SegmentWrite>&,
                                      const lifecycle::FailurePolicy&) override {
    return Unused();
  }
  absl::StatusOr<TaskSet> ReadRecorded(const JobId&, const LeaseKey&, int32_t) override { return Unused(); }
  absl::StatusOr<SegmentPage> ReadSegmentPage(const JobId&, BatchNo, bool,
                                              const SegmentPageLimits&) override {
    return Unused();
  }
  absl::Status WakeFinish(const JobId&) override { return Unused(); }
  absl::StatusOr<int64_t> PurgeEndedLeases(int) override { return Unused(); }
  absl::StatusOr<absl::Duration> OldestTransaction() override { return Unused(); }

 private:
  struct Key {
    JobId job_id;
    DutyKind kind;
    int32_t part;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct DutyRow {
    std::string owner;
    absl::Duration held_until;
    absl::Duration due;
    int64_t epoch = 0;
    int32_t tries = 0;
    std::string progress;
  };

  static absl::Status Unused() { return absl::UnimplementedError("not for duties"); }
  static absl::Status DutyLost() {
    return Error(absl::StatusCode::kAborted, "DUTY_LOST", "held by a successor");
  }
  static Key KeyOf(const Duty& duty) { return {duty.job_id, duty.kind, duty.part}; }

  absl::Status Fault(const std::string& method) { return fault ? fault(method) : absl::OkStatus(); }
  absl::Status Lost(const std::string& method) {
    return lost_commit ? lost_commit(method) : absl::OkStatus();
  }

  bool Held(const DutyRow& row) const { return !row.owner.empty() && row.held_until > clock_.Elapsed(); }

  Duty TakeRow(const Key& key, const std::string& owner, absl::Duration lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    DutyRow& row = duties_.at(key);
    row.owner = owner;
    row.held_until = clock_.Elapsed() + lease;
    ++row.epoch;
    return {key.job_id, key.kind, key.part, row.epoch, row.tries, row.progress};
  }

  // The row that the duty still holds by its epoch; null if it does not.
  DutyRow* RowOf(const Duty& duty) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = duties_.find(KeyOf(duty));
    if (found == duties_.end() || found->second.epoch != duty.epoch || found->second.owner.empty())
      return nullptr;
    return &found->second;
  }

  void Enter(Job& job, const lifecycle::Change& change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    lifecycle::Snapshot& snapshot = job.record.snapshot;
    snapshot.previous = snapshot.state;
    snapshot.state = change.to;
    snapshot.reason_code = change.reason_code;
    if (!change.keep_reason) job.record.reason_message = change.reason_message;
    job.record.state_time = clock_.Now();
    if (!change.failures.empty()) job.record.failures = change.failures;
    job.states.push_back(change.to);
    if (lifecycle::IsFinishing(change.to)) {
      duties_.erase({job.record.spec.job_id, DutyKind::kPrepare, 0});
      duties_[{job.record.spec.job_id, DutyKind::kFinish, 0}] = {};
    }
  }

  static BatchPayload PayloadOf(const Job& job, BatchNo number) {
    const NewBatch& batch = job.batches.at(static_cast<size_t>(number));
    return {number, batch.first_task, batch.tasks, batch.payload};
  }

  const Clock& clock_;
  Mutex mu_;
  std::map<JobId, Job> jobs_ ABSL_GUARDED_BY(mu_);
  std::map<Key, DutyRow> duties_ ABSL_GUARDED_BY(mu_);
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_DUTIES_DUTY_STORAGE_H_
