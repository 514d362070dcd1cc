#include "services/controller/outcome/outcome_reader.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "common/codec/task_batch.h"
#include "common/codec/task_set.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

// Of one step; a batch more may be read. With long messages a step's outcomes take some MiB.
constexpr int64_t kStepTasks = 8192;
constexpr int64_t kStepBytes = 2 << 20;
// What a row takes beside its texts.
constexpr size_t kRowBytes = 64;

absl::Status Broken(BatchNo batch_no, std::string_view what) {
  return Error(absl::StatusCode::kInternal, "OUTCOMES_BROKEN", StrCat("batch ", batch_no, ": ", what));
}

// An outcome that the query asks for, as far as can be said without its key.
struct Found {
  Outcome outcome;
  std::optional<absl::Time> recorded;
};

class Reader {
 public:
  Reader(Storage& storage, const Clock& clock, const OutcomeQuery& query, const TaskRef& from,
         const OutcomeLimits& limits)
      : storage_(storage), clock_(clock), query_(query), limits_(limits), from_(from) {}

  absl::StatusOr<OutcomePage> Read() {
    const absl::Duration end = clock_.Elapsed() + limits_.time;
    int batches = 0;
    bool more = true;
    while (more && !full_) {
      if (batches >= limits_.batches || scanned_bytes_ >= limits_.scanned_bytes ||
          (batches > 0 && clock_.Elapsed() >= end)) {
        page_.next = from_;
        break;
      }
      DROVER_ASSIGN_OR_RETURN(
          const SegmentPage segments,
          storage_.ReadSegmentPage(query_.job_id, from_.batch_no,
                                   /*only_failed=*/!query_.include_succeeded, StepLimits()));
      DROVER_ASSIGN_OR_RETURN(const int looked_at, Take(segments.segments));
      batches += looked_at;
      if (full_) break;
      more = segments.next.has_value();
      if (more) from_ = {*segments.next, 0};
      // Whether the next step finds anything is not known: a page that is full already ends here.
      if (more && page_.rows.size() >= limits_.rows) {
        page_.next = from_;
        break;
      }
    }
    return std::move(page_);
  }

 private:
  SegmentPageLimits StepLimits() const {
    SegmentPageLimits limits{kOutcomeStepBatches, kStepTasks, kStepBytes};
    // Without filters every outcome found is a row, but for those before `from` in its batch.
    if (!query_.code && query_.key_prefix.empty()) {
      const auto wanted = static_cast<int64_t>(limits_.rows - page_.rows.size()) + from_.index;
      limits.tasks = std::clamp<int64_t>(wanted, 1, kStepTasks);
    }
    return limits;
  }

  // Adds the rows of these segments, of whole batches in order; how many batches they are. When the page is
  // full, full_ and next are set.
  absl::StatusOr<int> Take(const std::vector<StoredSegment>& segments) {
    std::map<BatchNo, std::vector<Found>> found;  // batches with outcomes to show
    int batches = 0;
    for (size_t first = 0, end = 0; first < segments.size(); first = end) {
      const BatchNo batch_no = segments[first].batch_no;
      while (end < segments.size() && segments[end].batch_no == batch_no) ++end;
      DROVER_ASSIGN_OR_RETURN(std::vector<Found> of_batch, Merge({&segments[first], end - first}));
      ++batches;
      if (!of_batch.empty()) found.emplace(batch_no, std::move(of_batch));
    }
    if (found.empty()) return batches;

    std::vector<BatchNo> numbers;
    for (const auto& [batch_no, of_batch] : found) numbers.push_back(batch_no);
    DROVER_ASSIGN_OR_RETURN(const std::vector<BatchPayload> payloads,
                            storage_.ReadBatches(query_.job_id, numbers));
    for (const BatchPayload& payload : payloads) {
      scanned_bytes_ += payload.payload.size();
      DROVER_RETURN_IF_ERROR(AddRows(payload, found[payload.batch_no]));
      if (full_) break;
    }
    return batches;
  }

  // The outcomes that the segments of one batch record, from from_ on, by index.
  absl::StatusOr<std::vector<Found>> Merge(std::span<const StoredSegment> segments) {
    const BatchNo batch_no = segments.front().batch_no;
    const uint32_t first = batch_no == from_.batch_no ? from_.index : 0;
    std::vector<Found> found;
    for (const StoredSegment& segment : segments) {
      scanned_bytes_ += segment.payload.size();
      absl::StatusOr<std::vector<Outcome>> outcomes = DecodeOutcomes(segment.payload);
      if (!outcomes.ok()) return Broken(batch_no, FromAbsl(outcomes.status().message()));
      const auto add = [&](Outcome outcome) {
        if (outcome.index < first || !Wanted(outcome)) return;
        found.push_back({std::move(outcome), segment.recorded});
      };
      TaskSet by_default;  // those without an entry succeeded
      if (query_.include_succeeded) {
        by_default = segment.executed ? *segment.executed
                                      : TaskSet::All(static_cast<size_t>(segment.succeeded) + segment.failed);
        TaskSet entries;
        for (const Outcome& outcome : *outcomes) entries.Add(outcome.index);
        by_default.Subtract(entries);
      }
      for (Outcome& outcome : *outcomes) add(std::move(outcome));
      by_default.ForEach([&](uint32_t index) {
        Outcome outcome;
        outcome.index = index;
        add(std::move(outcome));
      });
    }
    std::sort(found.begin(), found.end(),
              [](const Found& a, const Found& b) { return a.outcome.index < b.outcome.index; });
    const auto twice = std::adjacent_find(found.begin(), found.end(), [](const Found& a, const Found& b) {
      return a.outcome.index == b.outcome.index;
    });
    if (twice != found.end()) return Broken(batch_no, "two segments record the same task");
    return found;
  }

  bool Wanted(const Outcome& outcome) const {
    if (outcome.succeeded && !query_.include_succeeded) return false;
    return !query_.code || outcome.code == *query_.code;
  }

  absl::Status AddRows(const BatchPayload& stored, std::vector<Found>& found) {
    if (absl::Status status = batches_.Decode(stored.payload, batch_); !status.ok()) {
      return Broken(stored.batch_no, FromAbsl(status.message()));
    }
    for (Found& one : found) {
      const uint32_t index = one.outcome.index;
      if (index >= batch_.size()) return Broken(stored.batch_no, "an outcome is of no task of the batch");
      const Task task = batch_[index];
      if (!task.key.starts_with(query_.key_prefix)) continue;
      const size_t bytes = kRowBytes + task.bucket.size() + task.key.size() + task.version_id.size() +
                           one.outcome.code.size() + one.outcome.message.size();
      if (page_.rows.size() >= limits_.rows || (!page_.rows.empty() && bytes_ + bytes > limits_.bytes)) {
        full_ = true;
        page_.next = TaskRef{stored.batch_no, index};
        return absl::OkStatus();
      }
      bytes_ += bytes;
      page_.rows.push_back({stored.first_task + index, stored.batch_no, std::string(task.bucket),
                            std::string(task.key), std::string(task.version_id), std::move(one.outcome),
                            one.recorded});
    }
    return absl::OkStatus();
  }

  Storage& storage_;
  const Clock& clock_;
  const OutcomeQuery& query_;
  const OutcomeLimits& limits_;
  TaskRef from_;
  OutcomePage page_;
  bool full_ = false;  // there is a row that has no room
  size_t bytes_ = 0;
  size_t scanned_bytes_ = 0;
  TaskBatchReader batches_;
  DecodedBatch batch_;
};

}  // namespace

absl::StatusOr<OutcomePage> ReadOutcomes(Storage& storage, const Clock& clock, const OutcomeQuery& query,
                                         const TaskRef& from, const OutcomeLimits& limits) {
  return Reader(storage, clock, query, from, limits).Read();
}

}  // namespace drover
