#include "services/controller/report/finish_handler.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/codec/outcomes.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/report/report_file_handler.h"
#include "services/controller/report/report_layout.h"

namespace drover {
namespace {

constexpr int kCountsPerQuery = 10'000;
constexpr size_t kMaxReportErrorBytes = 1024;
// Each file that is written makes the finish duty due; these find what was missed, and the deadline.
constexpr absl::Duration kFilesWait = absl::Milliseconds(500);
constexpr absl::Duration kManyFilesWait = absl::Seconds(5);
constexpr size_t kManyFiles = 8;
constexpr absl::Duration kSettleWait = absl::Milliseconds(500);

struct Environment {
  const FinishOptions& options;
  Storage& storage;
  StoreProvider& stores;
  const Clock& clock;
  const JobChangedFn& on_job_changed;
};

// One run of one job's finish duty.
class FinishRun {
 public:
  FinishRun(const Environment& env, DutyContext& context)
      : env_(env), context_(context), duty_(context.duty()) {}

  DutyOutcome Run() {
    absl::StatusOr<JobRecord> job = env_.storage.GetJob(duty_.job_id);
    if (!job.ok()) return OutcomeOf(job.status());
    job_ = *std::move(job);
    if (!lifecycle::IsFinishing(job_.snapshot.state)) return DutyOutcome::Done();
    if (job_.snapshot.report_settled) return End();

    // Only now, in a transaction that looks at them: with an owned lease, outcomes may still come.
    lifecycle::Snapshot now;
    const auto looked = env_.storage.ChangeJob(
        duty_.job_id,
        [&](const lifecycle::Snapshot& snapshot) {
          now = snapshot;
          return std::optional<lifecycle::Change>();
        },
        /*with_leases=*/true);
    if (!looked.ok()) return OutcomeOf(looked.status());
    if (now.owned_leases > 0) return DutyOutcome::Again(LeaseWait());
    job_.snapshot = now;

    if (!job_.spec.report_wanted || now.succeeded + now.failed == 0) {
      return Settle(ReportState::kNotNeeded, "", "");
    }
    return Report();
  }

 private:
  absl::Duration LeaseWait() const {
    const absl::Duration waited = env_.clock.Now() - job_.state_time;
    return std::clamp(waited / 4, env_.options.min_lease_wait, env_.options.max_lease_wait);
  }

  // ---- the report

  DutyOutcome Report() {
    const absl::StatusOr<ReportPlace> place = PlanReportPlace(job_.spec);
    if (!place.ok()) return DutyOutcome::Failed(place.status());
    std::optional<ReportPlan> plan;
    if (job_.report_state != ReportState::kPending) {
      absl::StatusOr<std::optional<ReportPlan>> stored = env_.storage.ReadReportPlan(duty_.job_id);
      if (!stored.ok()) return OutcomeOf(stored.status());
      plan = *std::move(stored);
    }
    bool just_planned = false;
    if (!plan) {
      absl::StatusOr<ReportPlan> made = Plan(*place);
      if (!made.ok()) return OutcomeOf(made.status());
      plan = *std::move(made);
      just_planned = true;
      env_.on_job_changed(duty_.job_id);
    }
    const bool all_written = std::all_of(plan->files.begin(), plan->files.end(),
                                         [](const ReportFile& file) { return file.written; });
    if (all_written) {
      const absl::Status status = WriteManifest(*place, *plan);
      if (status.ok()) return Settle(ReportState::kWritten, ReportManifestKey(*place), "");
      return ManifestNotWritten(*plan, status);
    }
    if (env_.clock.Now() >= plan->deadline) return GiveUp(job_.report_error);
    if (just_planned) return DutyOutcome::Again(env_.options.min_lease_wait);
    return DutyOutcome::Again(plan->files.size() > kManyFiles ? kManyFilesWait : kFilesWait);
  }

  // The same for whoever plans: no outcome is recorded any more.
  absl::StatusOr<ReportPlan> Plan(const ReportPlace& place) {
    ReportPlanner planner(place.scope, env_.options.max_file_rows);
    std::vector<PlannedFile> planned;
    BatchNo next = 0;
    while (true) {
      DROVER_ASSIGN_OR_RETURN(const std::vector<BatchCounts> page,
                              env_.storage.ReadBatchCounts(duty_.job_id, next, kCountsPerQuery));
      for (const BatchCounts& counts : page)
        planner.Add(counts.batch_no, counts.succeeded, counts.failed, planned);
      if (page.size() < static_cast<size_t>(kCountsPerQuery)) break;
      next = page.back().batch_no + 1;
    }
    planner.Finish(planned);

    ReportPlan plan;
    plan.created = absl::FromUnixMillis(absl::ToUnixMillis(env_.clock.Now()));
    plan.deadline = plan.created + env_.options.report_timeout;
    plan.files = PlanReportFiles(duty_.job_id, place, planned);
    DROVER_RETURN_IF_ERROR(CheckTotals(place, plan));
    WriteSmallFiles(place, plan);
    DROVER_RETURN_IF_ERROR(failpoint::HitStatus("finish.before_plan"));
    return env_.storage.PlanReport(duty_, plan);
  }

  // Invariant 1: a report has a row for each executed task.
  absl::Status CheckTotals(const ReportPlace& place, const ReportPlan& plan) const {
    int64_t succeeded = 0;
    int64_t failed = 0;
    for (const ReportFile& file : plan.files) (file.failed_rows ? failed : succeeded) += file.rows;
    const bool all = place.scope == ReportScope::kAllTasks;
    if (failed == job_.snapshot.failed && (!all || succeeded == job_.snapshot.succeeded))
      return absl::OkStatus();
    LogError("report.counts_broken", {{"job", duty_.job_id},
                                      {"succeeded", job_.snapshot.succeeded},
                                      {"failed", job_.snapshot.failed},
                                      {"succeeded_rows", succeeded},
                                      {"failed_rows", failed}});
    return Error(absl::StatusCode::kInternal, "OUTCOMES_BROKEN", "segments and counters of the job disagree");
  }

  // All or none as far as it goes: what could not be written is left to the duty of that file.
  void WriteSmallFiles(const ReportPlace& place, ReportPlan& plan) {
    int64_t rows = 0;
    for (const ReportFile& file : plan.files) rows += file.rows;
    if (rows > env_.options.small_rows || context_.ShouldStop()) return;
    const absl::StatusOr<ObjectStore*> store = env_.stores.GetPinned(place.store, place.fingerprint);
    if (!store.ok()) return;
    for (ReportFile& file : plan.files) {
      const absl::StatusOr<bool> written = WriteSmallReportFile(
          env_.storage, **store, duty_.job_id, place.bucket, env_.options.small_file_bytes, context_, file);
      if (!written.ok() && !context_.ShouldStop()) {
        job_.report_error = Cut(FromAbsl(written.status().message()));
        env_.storage.NoteReportError(duty_.job_id, job_.report_error).IgnoreError();
      }
      if (!written.ok() || !*written) return;
    }
  }

  absl::Status WriteManifest(const ReportPlace& place, const ReportPlan& plan) {
    DROVER_RETURN_IF_ERROR(failpoint::HitStatus("finish.before_manifest"));
    if (context_.ShouldStop()) return absl::CancelledError("stopped");
    if (job_.snapshot.state != lifecycle::State::kCompleting) {
      // Counted from the leases that came back; none is owned any more, so only now is it final.
      DROVER_ASSIGN_OR_RETURN(const JobRecord now, env_.storage.GetJob(duty_.job_id));
      job_.unconfirmed = now.unconfirmed;
    }
    DROVER_ASSIGN_OR_RETURN(const std::string text, ReportManifestOf(job_, place, plan));
    DROVER_ASSIGN_OR_RETURN(ObjectStore * store, env_.stores.GetPinned(place.store, place.fingerprint));
    const ObjectRef ref = {place.bucket, ReportManifestKey(place), ""};
    // A file store puts by an upload of its own.
    if (store->config().kind == StoreKind::kFile)
      DROVER_RETURN_IF_ERROR(AbortUnknownUploads(*store, ref, context_));
    return store->Put(ref, text, "application/json").status();
  }

  DutyOutcome ManifestNotWritten(const ReportPlan& plan, const absl::Status& error) {
    if (context_.ShouldStop()) return DutyOutcome::Again(absl::ZeroDuration());
    const bool keep = IsStoreShutOff(error) && !job_.report_error.empty();
    const std::string text = keep ? job_.report_error : std::string(error.message());
    if (env_.clock.Now() >= plan.deadline) return GiveUp(text);
    const absl::Status noted = env_.storage.NoteReportError(duty_.job_id, Cut(text));
    if (!noted.ok()) return OutcomeOf(noted);
    return DutyOutcome::Failed(error);
  }

  DutyOutcome GiveUp(std::string_view last_error) {
    const std::string error = StrCat("not written within ", absl::FormatDuration(env_.options.report_timeout),
                                     last_error.empty() ? "" : ": ", last_error);
    LogWarning("report.given_up", {{"job", duty_.job_id}, {"error", error}});
    return Settle(ReportState::kFailed, "", Cut(error));
  }

  static std::string Cut(std::string_view text) { return SanitizeOutcomeText(text, kMaxReportErrorBytes); }

  // ---- the end

  DutyOutcome Settle(ReportState state, const std::string& manifest_key, const std::string& error) {
    absl::Status status = failpoint::HitStatus("finish.before_settle");
    if (status.ok()) status = env_.storage.SettleReport(duty_, state, manifest_key, error);
    if (!status.ok()) return OutcomeOf(status);
    job_.report_state = state;
    return End();
  }

  DutyOutcome End() {
    if (job_.report_state == ReportState::kFailed) AbortUploads();
    absl::Status status = failpoint::HitStatus("finish.before_end");
    if (!status.ok()) return OutcomeOf(status);
    const auto ended = env_.storage.ChangeJob(
        duty_.job_id,
        [](const lifecycle::Snapshot& snapshot) {
          return lifecycle::Decide(snapshot, {lifecycle::Cause::kSettle, "", "", {}});
        },
        /*with_leases=*/true);
    if (!ended.ok()) return OutcomeOf(ended.status());
    if (!*ended) return DutyOutcome::Again(kSettleWait);
    LogInfo("job.ended", {{"job", duty_.job_id},
                          {"state", lifecycle::StateName((*ended)->to)},
                          {"tasks", job_.snapshot.tasks},
                          {"succeeded", job_.snapshot.succeeded},
                          {"failed", job_.snapshot.failed}});
    env_.on_job_changed(duty_.job_id);
    return DutyOutcome::Done();
  }

  // Of files that were under way when the report was given up: nobody comes back to them. As far as it can be
  // done.
  void AbortUploads() {
    const absl::StatusOr<std::optional<ReportPlan>> plan = env_.storage.ReadReportPlan(duty_.job_id);
    const absl::StatusOr<ReportPlace> place = PlanReportPlace(job_.spec);
    if (!plan.ok() || !*plan || !place.ok()) return;
    const absl::StatusOr<ObjectStore*> store = env_.stores.GetPinned(place->store, place->fingerprint);
    if (!store.ok()) return;
    for (const ReportFile& file : (*plan)->files) {
      if (file.written || file.upload_id.empty() || context_.ShouldStop()) continue;
      const absl::Status status = (*store)->AbortUpload({place->bucket, file.key, ""}, file.upload_id);
      if (!status.ok()) {
        LogWarning("report.upload_left", {{"job", duty_.job_id}, {"key", file.key}, {"error", status}});
      }
    }
  }

  const Environment& env_;
  DutyContext& context_;
  const Duty& duty_;
  JobRecord job_;
};

class FinishHandler : public DutyHandler {
 public:
  FinishHandler(FinishOptions options, Storage& storage, StoreProvider& stores, const Clock& clock,
                JobChangedFn on_job_changed)
      : options_(options),
        on_job_changed_(on_job_changed ? std::move(on_job_changed) : [](const JobId&) {}),
        env_{options_, storage, stores, clock, on_job_changed_} {}

  DutyOutcome Run(DutyContext& context) override { return FinishRun(env_, context).Run(); }

 private:
  const FinishOptions options_;
  const JobChangedFn on_job_changed_;
  const Environment env_;
};

}  // namespace

std::unique_ptr<DutyHandler> MakeFinishHandler(FinishOptions options, Storage& storage, StoreProvider& stores,
                                               const Clock& clock, JobChangedFn on_job_changed) {
  return std::make_unique<FinishHandler>(options, storage, stores, clock, std::move(on_job_changed));
}

}  // namespace drover
