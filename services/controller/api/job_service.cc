#include "services/controller/api/job_service.h"

#include <memory>
#include <optional>

#include "common/sync/mutex.h"
#include "services/controller/api/unary_call.h"

namespace drover {
namespace {

// One WatchJob stream. gRPC and the watcher call from different threads; at most one write and one Finish are
// under way. Owned by itself until OnDone, and by the watcher while that still knows it.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchJobResponse>,
                           public JobSink,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  explicit WatchReactor(JobWatcher& watcher) : watcher_(watcher) {}

  // Keeps itself alive until OnDone, whoever lets go of it. Once, before Start or End.
  void Own() {
    MutexLock lock(&mu_);
    self_ = shared_from_this();
  }

  // Begins the watch, or ends the call with the reason why not.
  void Start(const JobId& job_id) {
    // Held until the id is known: the watcher may show the first state at once. It calls nobody under its own
    // lock.
    MutexLock lock(&mu_);
    const absl::StatusOr<JobWatcher::WatchId> id = watcher_.Add(job_id, shared_from_this());
    if (id.ok()) {
      watch_id_ = *id;
    } else {
      EndLocked(ToGrpcStatus(id.status()));
    }
  }

  void Show(const v1::Job& job, bool last) override {
    MutexLock lock(&mu_);
    if (over_) return;
    *response_.mutable_job() = job;
    if (last) {
      over_ = true;
      StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
      return;
    }
    writing_ = true;
    StartWrite(&response_);
  }

  void End(const absl::Status& status) override {
    MutexLock lock(&mu_);
    EndLocked(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override {
    JobWatcher::WatchId written = 0;  // to be told without the lock
    {
      MutexLock lock(&mu_);
      writing_ = false;
      if (over_) {
        FinishLocked();
      } else if (!ok) {
        EndLocked(ToGrpcStatus(absl::CancelledError()));
      } else {
        written = watch_id_;
      }
    }
    if (written != 0) watcher_.Written(written);
  }

  void OnCancel() override {
    MutexLock lock(&mu_);
    EndLocked(ToGrpcStatus(absl::CancelledError()));
  }

  void OnDone() override {
    std::shared_ptr<WatchReactor> self;
    JobWatcher::WatchId id = 0;
    {
      MutexLock lock(&mu_);
      self.swap(self_);
      id = watch_id_;
    }
    if (id != 0) watcher_.Remove(id);
  }

 private:
  void EndLocked(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (over_) return;
    over_ = true;
    final_status_ = std::move(status);
    if (!writing_) FinishLocked();
  }

  // gRPC wants the write to be over before Finish.
  void FinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!final_status_.has_value()) return;
    Finish(*std::move(final_status_));
    final_status_.reset();
  }

  JobWatcher& watcher_;
  Mutex mu_;
  std::shared_ptr<WatchReactor> self_ ABSL_GUARDED_BY(mu_);
  JobWatcher::WatchId watch_id_ ABSL_GUARDED_BY(mu_) = 0;  // 0: there is none
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;  // nothing is shown any more
  std::optional<grpc::Status> final_status_ ABSL_GUARDED_BY(mu_);
  v1::WatchJobResponse response_;  // gRPC's while writing_
};

}  // namespace

JobService::JobService(JobHandlers& handlers, JobWatcher& watcher, CallPool& pool)
    : handlers_(handlers), watcher_(watcher), pool_(pool) {}

grpc::ServerUnaryReactor* JobService::CreateJob(grpc::CallbackServerContext* context,
                                                const v1::CreateJobRequest* request,
                                                v1::CreateJobResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.CreateJob(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::GetJob(grpc::CallbackServerContext* context,
                                             const v1::GetJobRequest* request, v1::GetJobResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.GetJob(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::ListJobs(grpc::CallbackServerContext* context,
                                               const v1::ListJobsRequest* request,
                                               v1::ListJobsResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.ListJobs(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::UpdateJobPriority(grpc::CallbackServerContext* context,
                                                        const v1::UpdateJobPriorityRequest* request,
                                                        v1::UpdateJobPriorityResponse* response) {
  return RunUnary(pool_, context, response, [this, request](const Caller& caller) {
    return handlers_.UpdateJobPriority(caller, *request);
  });
}

grpc::ServerUnaryReactor* JobService::ConfirmJob(grpc::CallbackServerContext* context,
                                                 const v1::ConfirmJobRequest* request,
                                                 v1::ConfirmJobResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.ConfirmJob(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::CancelJob(grpc::CallbackServerContext* context,
                                                const v1::CancelJobRequest* request,
                                                v1::CancelJobResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.CancelJob(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::PauseJob(grpc::CallbackServerContext* context,
                                               const v1::PauseJobRequest* request,
                                               v1::PauseJobResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.PauseJob(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::ResumeJob(grpc::CallbackServerContext* context,
                                                const v1::ResumeJobRequest* request,
                                                v1::ResumeJobResponse* response) {
  return RunUnary(pool_, context, response,
                  [this, request](const Caller& caller) { return handlers_.ResumeJob(caller, *request); });
}

grpc::ServerUnaryReactor* JobService::ListTaskOutcomes(grpc::CallbackServerContext* context,
                                                       const v1::ListTaskOutcomesRequest* request,
                                                       v1::ListTaskOutcomesResponse* response) {
  return RunUnary(pool_, context, response, [this, request](const Caller& caller) {
    return handlers_.ListTaskOutcomes(caller, *request);
  });
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* JobService::WatchJob(grpc::CallbackServerContext* context,
                                                                     const v1::WatchJobRequest* request) {
  const auto reactor = std::make_shared<WatchReactor>(watcher_);
  reactor->Own();
  const absl::Status allowed = handlers_.CheckWatch(CallerOf(*context), *request);
  if (allowed.ok()) {
    reactor->Start(request->job_id());
  } else {
    reactor->End(allowed);
  }
  return reactor.get();
}

}  // namespace drover
