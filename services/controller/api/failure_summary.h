// Job.failure_summary: the groups of failed tasks as storage counts them, with their examples' keys.
#ifndef DROVER_SERVICES_CONTROLLER_API_FAILURE_SUMMARY_H_
#define DROVER_SERVICES_CONTROLLER_API_FAILURE_SUMMARY_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sync/mutex.h"
#include "drover/v1/job.pb.h"
#include "services/controller/storage/storage.h"

namespace drover {

// The error_code shown of the group of all further kinds.
inline constexpr char kOtherFailures[] = "(other)";

// Puts keys to examples. Storage names an example by batch and place; its key stands in the batch, which is
// read and decoded once and then remembered, since neither ever changes: a job that is watched while its
// counts grow reads no batch again. Thread-safe; Fill blocks on storage.
class FailureSummaries {
 public:
  // `storage` must outlive it; remembers about `max_bytes` of keys, of the 256 jobs asked
  // for last at most.
  explicit FailureSummaries(Storage& storage, size_t max_bytes = size_t{4} << 20)
      : storage_(storage), max_bytes_(max_bytes) {}

  // Sets the job's failure_summary from its record's failure_groups; nothing if no task failed. Failed tasks
  // that are in no group (an older release recorded them) are shown among "(other)". Errors are storage's.
  absl::Status Fill(const JobRecord& record, v1::Job& job);

 private:
  using Examples = std::map<TaskRef, v1::ManifestTask>;
  struct Remembered {
    JobId job_id;
    Examples examples;
    size_t bytes = 0;
  };

  // The examples of the record's groups, as far as they can be read.
  absl::StatusOr<Examples> ExamplesOf(const JobRecord& record);
  absl::Status Read(const JobId& job_id, const std::vector<TaskRef>& tasks, Examples& examples);
  Examples Recall(const JobId& job_id);
  void Remember(const JobId& job_id, const Examples& examples);

  Storage& storage_;
  const size_t max_bytes_;
  Mutex mu_;
  std::list<Remembered> jobs_ ABSL_GUARDED_BY(mu_);  // the one asked for last in front
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_FAILURE_SUMMARY_H_
