// Storage with the batches and segments of one job, to read outcomes back from.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_OUTCOME_OUTCOME_STORAGE_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_OUTCOME_OUTCOME_STORAGE_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/codec/outcomes.h"
#include "common/codec/task_batch.h"
#include "common/status/status.h"
#include "tests/unit/services/controller/api/fake_storage.h"

namespace drover {

// A failed outcome.
inline Outcome FailedOutcome(uint32_t index, std::string code = "NoSuchKey", uint16_t http_status = 404,
                             std::string message = "gone") {
  Outcome outcome;
  outcome.index = index;
  outcome.succeeded = false;
  outcome.http_status = http_status;
  outcome.code = std::move(code);
  outcome.message = std::move(message);
  return outcome;
}

// Not thread-safe.
class OutcomeStorage : public FakeStorage {
 public:
  // Appends a batch of tasks with these keys.
  void AddBatch(const std::vector<std::string>& keys, std::string_view bucket = "photos") {
    TaskBatchBuilder builder;
    for (const std::string& key : keys) builder.Add({bucket, key, ""});
    batches_.push_back(
        {static_cast<BatchNo>(batches_.size()), tasks_, static_cast<int32_t>(keys.size()), builder.Finish()});
    tasks_ += static_cast<int64_t>(keys.size());
  }
  // The last batch can't be read any more.
  void SpoilLastBatch() { batches_.back().payload = "\x07"; }
  // Records these tasks of a batch (absent: all of it), of which those of `outcomes` did not just succeed.
  void AddSegment(BatchNo batch_no, std::optional<TaskSet> executed, const std::vector<Outcome>& outcomes) {
    StoredSegment segment;
    segment.batch_no = batch_no;
    const auto tasks =
        executed ? static_cast<int32_t>(executed->count()) : batches_[static_cast<size_t>(batch_no)].tasks;
    for (const Outcome& outcome : outcomes) segment.failed += outcome.succeeded ? 0 : 1;
    segment.succeeded = tasks - segment.failed;
    segment.executed = std::move(executed);
    segment.payload = EncodeOutcomes(outcomes);
    segment.recorded = absl::FromUnixSeconds(1'700'000'000 + batch_no);
    segments_.push_back(std::move(segment));
  }

  absl::StatusOr<SegmentPage> ReadSegmentPage(const JobId&, BatchNo first, bool only_failed,
                                              const SegmentPageLimits& limits) override {
    ++segment_reads;
    if (on_read) on_read();
    if (fail) return *fail;
    std::map<BatchNo, std::vector<StoredSegment>> found;
    for (const StoredSegment& segment : segments_) {
      const int32_t counted = only_failed ? segment.failed : segment.succeeded + segment.failed;
      if (segment.batch_no >= first && counted > 0) found[segment.batch_no].push_back(segment);
    }
    SegmentPage page;
    int batches = 0;
    int64_t tasks = 0;
    int64_t bytes = 0;
    for (const auto& [batch_no, segments] : found) {
      if (batches == limits.batches || tasks >= limits.tasks || bytes >= limits.bytes) {
        page.next = page.segments.back().batch_no + 1;
        break;
      }
      ++batches;
      for (const StoredSegment& segment : segments) {
        tasks += only_failed ? segment.failed : segment.succeeded + segment.failed;
        bytes += static_cast<int64_t>(segment.payload.size());
        page.segments.push_back(segment);
        segments_given += 1;
      }
    }
    return page;
  }
  absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId&,
                                                        const std::vector<BatchNo>& batches) override {
    std::vector<BatchPayload> payloads;
    for (const BatchNo batch_no : batches) {
      payloads.push_back(batches_.at(static_cast<size_t>(batch_no)));
      ++batches_read;
    }
    return payloads;
  }

  std::function<void()> on_read;
  std::optional<absl::Status> fail;
  int segment_reads = 0;
  int segments_given = 0;
  int batches_read = 0;

 private:
  std::vector<BatchPayload> batches_;
  std::vector<StoredSegment> segments_;
  int64_t tasks_ = 0;
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_OUTCOME_OUTCOME_STORAGE_H_
