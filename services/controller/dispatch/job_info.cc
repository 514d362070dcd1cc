#include "services/controller/dispatch/job_info.h"

#include "common/status/status.h"
#include "drover/v1/job.pb.h"

namespace drover {
namespace {

// While fewer tasks than this are executed, outcomes are wanted after 1 s instead of 5 (ARCHITECTURE.md,
// "Run").
constexpr int64_t kEarlyTasks = 1000;

}  // namespace

v1::JobContext MakeContext(const JobInfo& info, int32_t priority, int64_t version, int64_t executed) {
  const bool early = executed < kEarlyTasks;
  v1::JobContext context;
  context.set_job_id(info.job_id);
  // Grows with the job's version, and once more when the job stops being early.
  context.set_version(version * 2 + (early ? 0 : 1));
  *context.mutable_operation() = info.parameters;
  *context.mutable_retry_policy() = info.retry_policy;
  context.set_priority(priority);
  context.set_early(early);
  return context;
}

std::shared_ptr<const JobInfo> JobCache::Peek(const JobId& job_id) {
  MutexLock lock(&mu_);
  const auto found = jobs_.find(job_id);
  if (found == jobs_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second.second);
  return found->second.first;
}

absl::StatusOr<std::shared_ptr<const JobInfo>> JobCache::Get(const JobId& job_id) {
  if (auto info = Peek(job_id)) return info;
  DROVER_ASSIGN_OR_RETURN(JobRecord record, storage_.GetJob(job_id));
  v1::Job job;
  if (!job.ParseFromString(record.spec.request)) {
    return Error(absl::StatusCode::kInternal, "JOB_UNREADABLE", "the stored request of a job can't be parsed",
                 {{"job_id", job_id}});
  }
  auto info = std::make_shared<JobInfo>();
  info->job_id = job_id;
  info->operation = record.spec.operation;
  info->min_revision = record.spec.min_revision;
  for (const std::string& store : record.spec.worker_stores) {
    const auto pin = record.spec.stores.find(store);
    info->stores.emplace_back(store, pin == record.spec.stores.end() ? "" : pin->second);
  }
  info->failure_policy = record.spec.failure_policy;
  info->parameters = job.operation();
  info->retry_policy = job.retry_policy();

  MutexLock lock(&mu_);
  if (jobs_.find(job_id) == jobs_.end()) {
    recent_.push_front(job_id);
    jobs_[job_id] = {info, recent_.begin()};
    while (jobs_.size() > kMaxJobs) {
      jobs_.erase(recent_.back());
      recent_.pop_back();
    }
  }
  return std::shared_ptr<const JobInfo>(std::move(info));
}

}  // namespace drover
