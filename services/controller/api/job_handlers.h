// What each call of JobService does, without gRPC: checks the request, asks whether the caller may, calls
// storage, shows the job. job_service.h puts them on gRPC.
#ifndef DROVER_SERVICES_CONTROLLER_API_JOB_HANDLERS_H_
#define DROVER_SERVICES_CONTROLLER_API_JOB_HANDLERS_H_

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock/clock.h"
#include "common/objectstore/stores.h"
#include "drover/v1/job_service.pb.h"
#include "services/controller/api/caller.h"
#include "services/controller/api/failure_summary.h"
#include "services/controller/api/manifest_pin.h"
#include "services/controller/api/waiting_for.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Called after a commit, from the thread of the call, so that those who would find it by polling look at
// once. May be null. Must not block.
struct ApiHooks {
  std::function<void(const JobId&)> job_changed;  // its state or priority
  std::function<void()> job_created;
};

// A page of a listing ends early when it would be larger than this (a gRPC client takes 4 MiB by default).
inline constexpr size_t kMaxPageBytes = 2 << 20;

struct JobHandlersOptions {
  Storage& storage;
  AttachedWorkers& workers;
  const Stores& stores;
  ManifestPins& pins;
  const Clock& clock;
  Random& random;
  ApiHooks hooks;
  AuthorizeFn authorize = Authorize;
};

// Thread-safe; every method but the constructor blocks on storage. The options' references outlive it. Errors
// carry a reason (docs/api.md), or are storage's; ToGrpcStatus makes both fit for clients.
class JobHandlers {
 public:
  explicit JobHandlers(JobHandlersOptions options);

  absl::StatusOr<v1::CreateJobResponse> CreateJob(const Caller& caller, const v1::CreateJobRequest& request);
  absl::StatusOr<v1::GetJobResponse> GetJob(const Caller& caller, const v1::GetJobRequest& request);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const Caller& caller, const v1::ListJobsRequest& request);
  absl::StatusOr<v1::UpdateJobPriorityResponse> UpdateJobPriority(
      const Caller& caller, const v1::UpdateJobPriorityRequest& request);
  absl::StatusOr<v1::ConfirmJobResponse> ConfirmJob(const Caller& caller,
                                                    const v1::ConfirmJobRequest& request);
  absl::StatusOr<v1::CancelJobResponse> CancelJob(const Caller& caller, const v1::CancelJobRequest& request);
  absl::StatusOr<v1::PauseJobResponse> PauseJob(const Caller& caller, const v1::PauseJobRequest& request);
  absl::StatusOr<v1::ResumeJobResponse> ResumeJob(const Caller& caller, const v1::ResumeJobRequest& request);
  absl::StatusOr<v1::ListTaskOutcomesResponse> ListTaskOutcomes(const Caller& caller,
                                                                const v1::ListTaskOutcomesRequest& request);
  // Whether WatchJob may begin; the job itself is looked up by the watcher. Does not block.
  absl::Status CheckWatch(const Caller& caller, const v1::WatchJobRequest& request);

 private:
  absl::StatusOr<v1::Job> View(const JobId& job_id);
  // Applies a person's change and returns the job as it is after it.
  absl::StatusOr<v1::Job> Change(const JobId& job_id, lifecycle::Request change);
  // The checks that all changes by job id have in common.
  absl::Status CheckChange(const Caller& caller, Action action, const google::protobuf::Message& request,
                           const std::string& job_id, const std::string& reason);
  absl::StatusOr<Storage::Created> Store(const NewJob& job);

  const JobHandlersOptions options_;
  FailureSummaries failures_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_JOB_HANDLERS_H_
