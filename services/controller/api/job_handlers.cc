#include "services/controller/api/job_handlers.h"

#include <optional>
#include <utility>
#include <vector>

#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/api/job_view.h"
#include "services/controller/api/outcome_view.h"
#include "services/controller/api/page_token.h"
#include "services/controller/api/supported_fields.h"
#include "services/controller/api/validate.h"

namespace drover {
namespace {

// A response whose `job` is this one, or the error.
template <typename Response>
absl::StatusOr<Response> WithJob(absl::StatusOr<v1::Job> job) {
  if (!job.ok()) return job.status();
  Response response;
  *response.mutable_job() = *std::move(job);
  return response;
}

JobSpec MakeSpec(const Caller& caller, const ValidJob& valid, std::string job_id, std::string pin,
                 absl::Time now) {
  JobSpec spec;
  spec.job_id = std::move(job_id);
  spec.request = valid.job.SerializeAsString();
  spec.operation = valid.operation;
  spec.min_revision = valid.min_revision;
  spec.stores = valid.stores;
  spec.worker_stores = valid.worker_stores;
  spec.creator = caller.name;
  spec.manifest_pin = std::move(pin);
  spec.failure_policy = valid.failure_policy;
  spec.confirmation_required = valid.job.confirmation_required();
  spec.report_wanted = valid.job.has_report();
  spec.created = now;
  return spec;
}

}  // namespace

JobHandlers::JobHandlers(JobHandlersOptions options)
    : options_(std::move(options)), failures_(options_.storage) {}

absl::StatusOr<v1::CreateJobResponse> JobHandlers::CreateJob(const Caller& caller,
                                                             const v1::CreateJobRequest& request) {
  DROVER_RETURN_IF_ERROR(options_.authorize(caller, Action::kCreateJob, ""));
  DROVER_ASSIGN_OR_RETURN(const ValidJob valid, ValidateCreateJob(request, options_.stores));
  if (request.validate_only()) {
    v1::CreateJobResponse response;
    *response.mutable_job() = valid.job;
    return response;
  }
  DROVER_ASSIGN_OR_RETURN(std::string pin, options_.pins.Pin(valid.job.manifest()));

  NewJob job;
  job.spec = MakeSpec(caller, valid, NewUuid7(options_.clock, options_.random), std::move(pin),
                      options_.clock.Now());
  job.priority = valid.job.priority();
  job.request_id = request.request_id();
  job.fingerprint = valid.fingerprint;
  job.prepare_progress = valid.prepare_progress;
  DROVER_ASSIGN_OR_RETURN(const Storage::Created created, Store(job));
  if (created.created) {
    LogInfo("job.created",
            {{"job", created.job_id}, {"operation", job.spec.operation}, {"caller", caller.name}});
    if (options_.hooks.job_created) options_.hooks.job_created();
  }
  return WithJob<v1::CreateJobResponse>(View(created.job_id));
}

absl::StatusOr<Storage::Created> JobHandlers::Store(const NewJob& job) {
  absl::StatusOr<Storage::Created> created = options_.storage.CreateJob(job);
  // Whether the commit happened is not known: the request id makes a second try harmless, and tells.
  if (absl::IsUnknown(created.status())) created = options_.storage.CreateJob(job);
  return created;
}

absl::StatusOr<v1::GetJobResponse> JobHandlers::GetJob(const Caller& caller,
                                                       const v1::GetJobRequest& request) {
  DROVER_RETURN_IF_ERROR(options_.authorize(caller, Action::kGetJob, request.job_id()));
  DROVER_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  DROVER_RETURN_IF_ERROR(ValidateJobId(request.job_id()));
  return WithJob<v1::GetJobResponse>(View(request.job_id()));
}

absl::StatusOr<v1::ListJobsResponse> JobHandlers::ListJobs(const Caller& caller,
                                                           const v1::ListJobsRequest& request) {
  DROVER_RETURN_IF_ERROR(options_.authorize(caller, Action::kListJobs, ""));
  DROVER_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  DROVER_ASSIGN_OR_RETURN(const int page_size, ValidatePageSize(request.page_size()));
  JobPageQuery query;
  DROVER_ASSIGN_OR_RETURN(query.states, ValidateStates(request.states()));
  const PageQuery page_query = JobsQuery(query.states);
  DROVER_ASSIGN_OR_RETURN(const std::string before, DecodePageToken(page_query, request.page_token()));
  if (!before.empty()) query.before = before;
  query.limit = page_size + 1;  // one more than shown tells whether there is another page
  DROVER_ASSIGN_OR_RETURN(const std::vector<JobRecord> records, options_.storage.ListJobs(query));

  v1::ListJobsResponse response;
  size_t bytes = 0;
  for (const JobRecord& record : records) {
    DROVER_ASSIGN_OR_RETURN(v1::Job job, ViewJob(record, options_.workers.WaitingFor(record)));
    bytes += job.ByteSizeLong();
    const bool full =
        response.jobs_size() == page_size || (response.jobs_size() > 0 && bytes > kMaxPageBytes);
    if (full) {
      response.set_next_page_token(
          EncodePageToken(page_query, response.jobs(response.jobs_size() - 1).job_id()));
      break;
    }
    *response.add_jobs() = std::move(job);
  }
  return response;
}

absl::StatusOr<v1::UpdateJobPriorityResponse> JobHandlers::UpdateJobPriority(
    const Caller& caller, const v1::UpdateJobPriorityRequest& request) {
  DROVER_RETURN_IF_ERROR(CheckChange(caller, Action::kUpdatePriority, request, request.job_id(), ""));
  DROVER_RETURN_IF_ERROR(ValidatePriority(request.priority()));
  DROVER_ASSIGN_OR_RETURN(const bool changed,
                          options_.storage.SetPriority(request.job_id(), request.priority(), caller.name));
  if (changed && options_.hooks.job_changed) options_.hooks.job_changed(request.job_id());
  return WithJob<v1::UpdateJobPriorityResponse>(View(request.job_id()));
}

absl::StatusOr<v1::ConfirmJobResponse> JobHandlers::ConfirmJob(const Caller& caller,
                                                               const v1::ConfirmJobRequest& request) {
  DROVER_RETURN_IF_ERROR(
      CheckChange(caller, Action::kConfirmJob, request, request.job_id(), request.reason()));
  return WithJob<v1::ConfirmJobResponse>(
      Change(request.job_id(), {lifecycle::Cause::kConfirm, request.reason(), caller.name, {}}));
}

absl::StatusOr<v1::CancelJobResponse> JobHandlers::CancelJob(const Caller& caller,
                                                             const v1::CancelJobRequest& request) {
  DROVER_RETURN_IF_ERROR(
      CheckChange(caller, Action::kCancelJob, request, request.job_id(), request.reason()));
  return WithJob<v1::CancelJobResponse>(
      Change(request.job_id(), {lifecycle::Cause::kCancel, request.reason(), caller.name, {}}));
}

absl::StatusOr<v1::PauseJobResponse> JobHandlers::PauseJob(const Caller& caller,
                                                           const v1::PauseJobRequest& request) {
  DROVER_RETURN_IF_ERROR(CheckChange(caller, Action::kPauseJob, request, request.job_id(), request.reason()));
  return WithJob<v1::PauseJobResponse>(
      Change(request.job_id(), {lifecycle::Cause::kPause, request.reason(), caller.name, {}}));
}

absl::StatusOr<v1::ResumeJobResponse> JobHandlers::ResumeJob(const Caller& caller,
                                                             const v1::ResumeJobRequest& request) {
  DROVER_RETURN_IF_ERROR(
      CheckChange(caller, Action::kResumeJob, request, request.job_id(), request.reason()));
  return WithJob<v1::ResumeJobResponse>(
      Change(request.job_id(), {lifecycle::Cause::kResume, request.reason(), caller.name, {}}));
}

absl::StatusOr<v1::ListTaskOutcomesResponse> JobHandlers::ListTaskOutcomes(
    const Caller& caller, const v1::ListTaskOutcomesRequest& request) {
  DROVER_RETURN_IF_ERROR(options_.authorize(caller, Action::kListOutcomes, request.job_id()));
  DROVER_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  DROVER_ASSIGN_OR_RETURN(const OutcomeQuery query, ValidateOutcomeQuery(request));
  OutcomeLimits limits;
  limits.bytes = kMaxPageBytes;
  DROVER_ASSIGN_OR_RETURN(const int page_size, ValidatePageSize(request.page_size()));
  limits.rows = static_cast<size_t>(page_size);
  const PageQuery page_query = OutcomesQuery(query);
  DROVER_ASSIGN_OR_RETURN(const std::string cursor, DecodePageToken(page_query, request.page_token()));
  DROVER_ASSIGN_OR_RETURN(const TaskRef from, ParseOutcomeCursor(cursor));
  // Before the outcomes: what is settled now gains nothing while they are read.
  DROVER_ASSIGN_OR_RETURN(const JobRecord job, options_.storage.GetJob(query.job_id));
  DROVER_ASSIGN_OR_RETURN(const OutcomePage page,
                          ReadOutcomes(options_.storage, options_.clock, query, from, limits));

  v1::ListTaskOutcomesResponse response;
  for (const OutcomeRow& row : page.rows) *response.add_outcomes() = ViewOutcome(row);
  if (page.next) response.set_next_page_token(EncodePageToken(page_query, OutcomeCursor(*page.next)));
  response.set_earlier_batches_open(MayRecordMore(job.snapshot));
  return response;
}

absl::Status JobHandlers::CheckWatch(const Caller& caller, const v1::WatchJobRequest& request) {
  return CheckChange(caller, Action::kWatchJob, request, request.job_id(), "");
}

absl::StatusOr<v1::Job> JobHandlers::View(const JobId& job_id) {
  DROVER_ASSIGN_OR_RETURN(const JobRecord record, options_.storage.GetJob(job_id));
  DROVER_ASSIGN_OR_RETURN(v1::Job job, ViewJob(record, options_.workers.WaitingFor(record)));
  DROVER_RETURN_IF_ERROR(failures_.Fill(record, job));
  return job;
}

absl::StatusOr<v1::Job> JobHandlers::Change(const JobId& job_id, lifecycle::Request change) {
  DROVER_ASSIGN_OR_RETURN(
      const std::optional<lifecycle::Change> applied,
      options_.storage.ChangeJob(
          job_id, [&](const lifecycle::Snapshot& snapshot) { return lifecycle::Decide(snapshot, change); },
          /*with_leases=*/false));
  if (applied.has_value()) {
    LogInfo("job.changed", {{"job", job_id},
                            {"cause", lifecycle::CauseName(change.cause)},
                            {"state", lifecycle::StateName(applied->to)},
                            {"caller", change.caller}});
    if (options_.hooks.job_changed) options_.hooks.job_changed(job_id);
  }
  return View(job_id);
}

absl::Status JobHandlers::CheckChange(const Caller& caller, Action action,
                                      const google::protobuf::Message& request, const std::string& job_id,
                                      const std::string& reason) {
  DROVER_RETURN_IF_ERROR(options_.authorize(caller, action, job_id));
  DROVER_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  DROVER_RETURN_IF_ERROR(ValidateJobId(job_id));
  return ValidateReason(reason);
}

}  // namespace drover
