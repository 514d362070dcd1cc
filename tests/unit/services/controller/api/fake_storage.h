// A Storage for the API's tests: jobs and sessions in memory, errors on demand. What the API does not call
// answers UNIMPLEMENTED.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_FAKE_STORAGE_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_FAKE_STORAGE_H_

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/status/status.h"
#include "common/sync/mutex.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Thread-safe.
class FakeStorage : public Storage {
 public:
  // ---- for tests

  // While set, every call the API makes returns it.
  void Fail(absl::Status error) {
    MutexLock lock(&mu_);
    error_ = std::move(error);
  }
  // The next CreateJob stores the job and returns this instead of OK.
  void LoseNextCommit(absl::Status error) {
    MutexLock lock(&mu_);
    lost_commit_ = std::move(error);
  }
  // Called by each method first, without the lock: to block or to count.
  std::function<void(const std::string& method)> on_call;

  void Put(const JobRecord& record) {
    MutexLock lock(&mu_);
    records_[record.spec.job_id] = record;
    ++activity_[record.spec.job_id];
  }
  // Put, without a change of the job's pulse.
  void PutQuietly(const JobRecord& record) {
    MutexLock lock(&mu_);
    records_[record.spec.job_id] = record;
  }
  void Drop(const JobId& job_id) {
    MutexLock lock(&mu_);
    records_.erase(job_id);
  }
  void PutSession(const SessionInfo& session) {
    MutexLock lock(&mu_);
    sessions_[session.session_id] = session;
  }
  JobRecord Get(const JobId& job_id) {
    MutexLock lock(&mu_);
    return records_.at(job_id);
  }
  // What its prepare duty began with.
  std::string prepare_progress(const JobId& job_id) {
    MutexLock lock(&mu_);
    return prepare_progress_.at(job_id);
  }
  int calls(const std::string& method) {
    MutexLock lock(&mu_);
    return calls_[method];
  }
  int all_calls() {
    MutexLock lock(&mu_);
    int sum = 0;
    for (const auto& [method, count] : calls_) sum += count;
    return sum;
  }

  // ---- Storage

  absl::Status Ping() override { return Begin("Ping"); }

  absl::StatusOr<Created> CreateJob(const NewJob& job) override {
    DROVER_RETURN_IF_ERROR(Begin("CreateJob"));
    MutexLock lock(&mu_);
    const auto [it, inserted] = requests_.try_emplace(job.request_id, job.fingerprint, job.spec.job_id);
    if (!inserted && it->second.first != job.fingerprint) {
      return Error(absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
                   "this request id was used for another request", {{"job_id", it->second.second}});
    }
    if (inserted) {
      JobRecord record;
      record.spec = job.spec;
      record.priority = job.priority;
      record.version = 1;
      record.state_time = job.spec.created;
      record.report_state = job.spec.report_wanted ? ReportState::kPending : ReportState::kNone;
      records_[job.spec.job_id] = record;
      prepare_progress_[job.spec.job_id] = job.prepare_progress;
    }
    if (!lost_commit_.ok()) return std::exchange(lost_commit_, absl::OkStatus());
    return Created{it->second.second, inserted};
  }

  absl::StatusOr<JobRecord> GetJob(const JobId& job_id) override {
    DROVER_RETURN_IF_ERROR(Begin("GetJob"));
    MutexLock lock(&mu_);
    const auto it = records_.find(job_id);
    if (it == records_.end()) return NoJob(job_id);
    return it->second;
  }

  absl::StatusOr<std::vector<JobRecord>> ListJobs(const JobPageQuery& query) override {
    DROVER_RETURN_IF_ERROR(Begin("ListJobs"));
    MutexLock lock(&mu_);
    std::vector<JobRecord> out;
    for (auto it = records_.rbegin(); it != records_.rend() && out.size() < static_cast<size_t>(query.limit);
         ++it) {
      if (query.before.has_value() && it->first >= *query.before) continue;
      const auto& states = query.states;
      if (!states.empty() && std::count(states.begin(), states.end(), it->second.snapshot.state) == 0)
        continue;
      out.push_back(it->second);
    }
    return out;
  }

  absl::StatusOr<std::vector<JobPulse>> ReadPulses(const std::vector<JobId>& jobs) override {
    DROVER_RETURN_IF_ERROR(Begin("ReadPulses"));
    MutexLock lock(&mu_);
    std::vector<JobPulse> out;
    for (const JobId& job_id : jobs) {
      const auto it = records_.find(job_id);
      if (it == records_.end()) continue;
      out.push_back(
          {job_id, it->second.version, activity_[job_id], lifecycle::IsTerminal(it->second.snapshot.state)});
    }
    return out;
  }

  absl::StatusOr<std::optional<lifecycle::Change>> ChangeJob(const JobId& job_id, const DecideFn& decide,
                                                             bool /*with_leases*/) override {
    DROVER_RETURN_IF_ERROR(Begin("ChangeJob"));
    MutexLock lock(&mu_);
    const auto it = records_.find(job_id);
    if (it == records_.end()) return NoJob(job_id);
    JobRecord& record = it->second;
    DROVER_ASSIGN_OR_RETURN(std::optional<lifecycle::Change> change, decide(record.snapshot));
    if (change.has_value()) {
      record.snapshot.previous = record.snapshot.state;
      record.snapshot.state = change->to;
      record.snapshot.reason_code = change->reason_code;
      if (!change->keep_reason) {
        record.reason_message = change->reason_message;
        record.reason_caller = change->caller;
      }
      ++record.version;
    }
    return change;
  }

  absl::StatusOr<bool> SetPriority(const JobId& job_id, int32_t priority,
                                   const std::string& /*caller*/) override {
    DROVER_RETURN_IF_ERROR(Begin("SetPriority"));
    MutexLock lock(&mu_);
    const auto it = records_.find(job_id);
    if (it == records_.end()) return NoJob(job_id);
    if (lifecycle::IsTerminal(it->second.snapshot.state)) {
      return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE", "the job has ended");
    }
    const bool changed = std::exchange(it->second.priority, priority) != priority;
    if (changed) ++it->second.version;
    return changed;
  }

  absl::StatusOr<std::vector<SessionInfo>> ListSessions(const SessionId& after, int limit) override {
    DROVER_RETURN_IF_ERROR(Begin("ListSessions"));
    MutexLock lock(&mu_);
    std::vector<SessionInfo> out;
    for (auto it = sessions_.upper_bound(after);
         it != sessions_.end() && out.size() < static_cast<size_t>(limit); ++it) {
      out.push_back(it->second);
    }
    return out;
  }

  // ---- not called by the API

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
  absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId&, const std::vector<BatchNo>&) override {
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
  absl::StatusOr<RecordResult> Record(const JobId&, const std::vector<SegmentWrite>&,
                                      const lifecycle::FailurePolicy&) override {
    return Unused();
  }
  absl::StatusOr<TaskSet> ReadRecorded(const JobId&, const LeaseKey&, int32_t) override { return Unused(); }
  absl::StatusOr<std::vector<StoredSegment>> ReadSegments(const JobId&, BatchNo, BatchNo, bool) override {
    return Unused();
  }
  absl::StatusOr<SegmentPage> ReadSegmentPage(const JobId&, BatchNo, bool,
                                              const SegmentPageLimits&) override {
    return Unused();
  }
  absl::StatusOr<std::vector<BatchPayload>> ReadBatchRange(const JobId&, BatchNo, BatchNo, int) override {
    return Unused();
  }
  absl::StatusOr<std::vector<BatchCounts>> ReadBatchCounts(const JobId&, BatchNo, int) override {
    return Unused();
  }
  absl::StatusOr<std::vector<Duty>> AcquireDuties(const std::string&, const std::vector<DutyKind>&, int,
                                                  absl::Duration) override {
    return Unused();
  }
  absl::StatusOr<std::vector<bool>> RenewDuties(const std::vector<Duty>&, absl::Duration) override {
    return Unused();
  }
  absl::Status FinishDuty(const Duty&) override { return Unused(); }
  absl::Status ReleaseDuty(const Duty&, absl::Duration, bool) override { return Unused(); }
  absl::Status WakeFinish(const JobId&) override { return Unused(); }
  absl::Status AppendBatches(const Duty&, const PrepareChunk&) override { return Unused(); }
  absl::Status FailPreparation(const Duty&, const lifecycle::Failure&) override { return Unused(); }
  absl::StatusOr<ReportPlan> PlanReport(const Duty&, const ReportPlan&) override { return Unused(); }
  absl::StatusOr<std::optional<ReportPlan>> ReadReportPlan(const JobId&) override { return Unused(); }
  absl::StatusOr<ReportFile> ReadReportFile(const JobId&, int32_t) override { return Unused(); }
  absl::Status SetUpload(const Duty&, const std::string&) override { return Unused(); }
  absl::Status FinishReportFile(const Duty&, const ReportFile&) override { return Unused(); }
  absl::Status SettleReport(const Duty&, ReportState, const std::string&, const std::string&) override {
    return Unused();
  }
  absl::Status NoteReportError(const JobId&, const std::string&) override { return Unused(); }
  absl::StatusOr<int64_t> PurgeEndedLeases(int) override { return Unused(); }
  absl::StatusOr<absl::Duration> OldestTransaction() override { return Unused(); }

 private:
  static absl::Status Unused() { return absl::UnimplementedError("not used by the API"); }
  static absl::Status NoJob(const JobId& job_id) {
    return Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no job has id " + job_id,
                 {{"job_id", job_id}});
  }
  absl::Status Begin(const std::string& method) {
    if (on_call) on_call(method);
    MutexLock lock(&mu_);
    ++calls_[method];
    return error_;
  }

  Mutex mu_;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
  absl::Status lost_commit_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, int> calls_ ABSL_GUARDED_BY(mu_);
  std::map<JobId, JobRecord> records_ ABSL_GUARDED_BY(mu_);
  std::map<JobId, std::string> prepare_progress_ ABSL_GUARDED_BY(mu_);
  std::map<JobId, int64_t> activity_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::pair<std::string, JobId>> requests_
      ABSL_GUARDED_BY(mu_);  // id -> fingerprint, job
  std::map<SessionId, SessionInfo> sessions_ ABSL_GUARDED_BY(mu_);
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_FAKE_STORAGE_H_
