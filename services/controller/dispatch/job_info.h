// What the dispatcher needs of a job and what never changes, read once and kept.
#ifndef DROVER_SERVICES_CONTROLLER_DISPATCH_JOB_INFO_H_
#define DROVER_SERVICES_CONTROLLER_DISPATCH_JOB_INFO_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/sync/mutex.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct JobInfo {
  JobId job_id;
  std::string operation;  // name as in Hello
  int32_t min_revision = 1;
  std::vector<std::pair<std::string, std::string>> stores;  // that a worker needs: name, pinned fingerprint
  lifecycle::FailurePolicy failure_policy;
  v1::Operation parameters;
  v1::RetryPolicy retry_policy;
};

// The context that a worker gets, made of what never changes and what does.
v1::JobContext MakeContext(const JobInfo& info, int32_t priority, int64_t version, int64_t executed);

// Reads jobs through `storage` and keeps the most recently used ones. Thread-safe.
class JobCache {
 public:
  static constexpr size_t kMaxJobs = 4096;
  explicit JobCache(Storage& storage) : storage_(storage) {}
  // The job; Storage::GetJob's errors.
  absl::StatusOr<std::shared_ptr<const JobInfo>> Get(const JobId& job_id);
  // The job if it is kept here; reads nothing.
  std::shared_ptr<const JobInfo> Peek(const JobId& job_id);

 private:
  Storage& storage_;
  Mutex mu_;
  std::list<JobId> recent_ ABSL_GUARDED_BY(mu_);  // most recently used first
  std::map<JobId, std::pair<std::shared_ptr<const JobInfo>, std::list<JobId>::iterator>> jobs_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DISPATCH_JOB_INFO_H_
