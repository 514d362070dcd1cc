// drover.v1.JobService on gRPC's callback API: thin reactors over JobHandlers and JobWatcher.
#ifndef DROVER_SERVICES_CONTROLLER_API_JOB_SERVICE_H_
#define DROVER_SERVICES_CONTROLLER_API_JOB_SERVICE_H_

#include "drover/v1/job_service.grpc.pb.h"
#include "services/controller/api/call_pool.h"
#include "services/controller/api/job_handlers.h"
#include "services/controller/api/job_watcher.h"

namespace drover {

// Thread-safe. Unary calls run on `pool`; watches are fed by `watcher`'s thread.
class JobService final : public v1::JobService::CallbackService {
 public:
  // All of them outlive the service and every call to it.
  JobService(JobHandlers& handlers, JobWatcher& watcher, CallPool& pool);

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const v1::CreateJobRequest* request,
                                      v1::CreateJobResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context, const v1::GetJobRequest* request,
                                   v1::GetJobResponse* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context, const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* UpdateJobPriority(grpc::CallbackServerContext* context,
                                              const v1::UpdateJobPriorityRequest* request,
                                              v1::UpdateJobPriorityResponse* response) override;
  grpc::ServerUnaryReactor* ConfirmJob(grpc::CallbackServerContext* context,
                                       const v1::ConfirmJobRequest* request,
                                       v1::ConfirmJobResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::CancelJobResponse* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* context, const v1::PauseJobRequest* request,
                                     v1::PauseJobResponse* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* context,
                                      const v1::ResumeJobRequest* request,
                                      v1::ResumeJobResponse* response) override;
  grpc::ServerUnaryReactor* ListTaskOutcomes(grpc::CallbackServerContext* context,
                                             const v1::ListTaskOutcomesRequest* request,
                                             v1::ListTaskOutcomesResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(grpc::CallbackServerContext* context,
                                                           const v1::WatchJobRequest* request) override;

 private:
  JobHandlers& handlers_;
  JobWatcher& watcher_;
  CallPool& pool_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_JOB_SERVICE_H_
