#include "services/controller/api/failure_summary.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "common/codec/task_batch.h"
#include "common/log/log.h"
#include "common/status/status.h"

namespace drover {
namespace {

// Batches read at once: some MiB.
constexpr size_t kBatchesPerRead = 8;
// Jobs remembered, however small.
constexpr size_t kMaxJobs = 256;

size_t BytesOf(const v1::ManifestTask& task) {
  constexpr size_t kOverhead = 256;  // of the message and of the map
  return kOverhead + task.bucket().size() + task.key().size() + task.version_id().size();
}

}  // namespace

absl::Status FailureSummaries::Fill(const JobRecord& record, v1::Job& job) {
  if (record.snapshot.failed == 0) return absl::OkStatus();
  DROVER_ASSIGN_OR_RETURN(const Examples examples, ExamplesOf(record));
  v1::FailureSummary& summary = *job.mutable_failure_summary();
  int64_t left = record.snapshot.failed;
  v1::FailureGroup* others = nullptr;
  for (const FailureGroup& group : record.failure_groups) {
    v1::FailureGroup& out = *summary.add_groups();
    out.set_error_code(group.others ? kOtherFailures : group.code);
    out.set_http_status(group.http_status);
    out.set_others(group.others);
    out.set_failed_tasks(group.tasks);
    for (const TaskRef& ref : group.examples) {
      if (const auto it = examples.find(ref); it != examples.end()) *out.add_examples() = it->second;
    }
    left -= group.tasks;
    if (group.others) others = &out;
  }
  if (left > 0) {
    if (others == nullptr) {
      others = summary.add_groups();
      others->set_error_code(kOtherFailures);
      others->set_others(true);
    }
    others->set_failed_tasks(others->failed_tasks() + left);
  }
  return absl::OkStatus();
}

absl::StatusOr<FailureSummaries::Examples> FailureSummaries::ExamplesOf(const JobRecord& record) {
  const JobId& job_id = record.spec.job_id;
  Examples examples = Recall(job_id);
  std::vector<TaskRef> missing;
  for (const FailureGroup& group : record.failure_groups) {
    for (const TaskRef& ref : group.examples) {
      if (!examples.contains(ref)) missing.push_back(ref);
    }
  }
  if (!missing.empty()) {
    DROVER_RETURN_IF_ERROR(Read(job_id, missing, examples));
    Remember(job_id, examples);
  }
  return examples;
}

absl::Status FailureSummaries::Read(const JobId& job_id, const std::vector<TaskRef>& tasks,
                                    Examples& examples) {
  std::set<TaskRef> sorted(tasks.begin(), tasks.end());
  std::set<BatchNo> batch_set;
  for (const TaskRef& ref : sorted) batch_set.insert(ref.batch_no);
  const std::vector<BatchNo> batches(batch_set.begin(), batch_set.end());
  TaskBatchReader reader;
  DecodedBatch batch;
  for (size_t first = 0; first < batches.size(); first += kBatchesPerRead) {
    const size_t end = std::min(batches.size(), first + kBatchesPerRead);
    DROVER_ASSIGN_OR_RETURN(
        const std::vector<BatchPayload> payloads,
        storage_.ReadBatches(job_id, {batches.begin() + static_cast<std::ptrdiff_t>(first),
                                      batches.begin() + static_cast<std::ptrdiff_t>(end)}));
    for (const BatchPayload& payload : payloads) {
      // A job is shown all the same: its report will say what is wrong with the batch.
      if (absl::Status status = reader.Decode(payload.payload, batch); !status.ok()) {
        LogError("batch.unreadable", {{"job", job_id}, {"batch", payload.batch_no}, {"error", status}});
        continue;
      }
      for (auto it = sorted.lower_bound({payload.batch_no, 0});
           it != sorted.end() && it->batch_no == payload.batch_no && it->index < batch.size(); ++it) {
        const Task task = batch[it->index];
        v1::ManifestTask& example = examples[*it];
        example.set_position(payload.first_task + it->index);
        example.set_bucket(std::string(task.bucket));
        example.set_key(std::string(task.key));
        example.set_version_id(std::string(task.version_id));
      }
    }
  }
  return absl::OkStatus();
}

FailureSummaries::Examples FailureSummaries::Recall(const JobId& job_id) {
  MutexLock lock(&mu_);
  for (auto it = jobs_.begin(); it != jobs_.end(); ++it) {
    if (it->job_id != job_id) continue;
    jobs_.splice(jobs_.begin(), jobs_, it);
    return it->examples;
  }
  return {};
}

void FailureSummaries::Remember(const JobId& job_id, const Examples& examples) {
  Remembered job{job_id, examples, 0};
  for (const auto& [ref, task] : examples) job.bytes += BytesOf(task);
  MutexLock lock(&mu_);
  for (auto it = jobs_.begin(); it != jobs_.end(); ++it) {
    if (it->job_id != job_id) continue;
    bytes_ -= it->bytes;
    jobs_.erase(it);
    break;
  }
  bytes_ += job.bytes;
  jobs_.push_front(std::move(job));
  while (!jobs_.empty() && (bytes_ > max_bytes_ || jobs_.size() > kMaxJobs)) {
    bytes_ -= jobs_.back().bytes;
    jobs_.pop_back();
  }
}

}  // namespace drover
