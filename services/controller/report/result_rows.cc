#include "services/controller/report/result_rows.h"

#include <algorithm>
#include <utility>

#include "common/codec/outcomes.h"
#include "common/codec/task_set.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/duties/pipeline.h"
#include "services/controller/report/report_layout.h"

namespace drover {
namespace {

constexpr size_t kPagesAhead = 1;

int64_t RowsOf(const BatchCounts& counts, RowKind kind) {
  return kind == RowKind::kFailed ? counts.failed : counts.succeeded;
}

// Pages, read one ahead once there is more than one.
class PageStream {
 public:
  explicit PageStream(RowPageReader& reader) : reader_(reader), pages_(kPagesAhead) {}
  ~PageStream() { pages_.Abandon(); }

  absl::StatusOr<std::optional<RowPage>> Next() {
    if (thread_) {
      std::optional<Page> page = pages_.Pop();
      if (page) return *std::move(page);
      return std::optional<RowPage>();
    }
    Page page = reader_.Next();
    if (page.ok() && *page && !reader_.done()) thread_.emplace("report-read", [this] { ReadAhead(); });
    return page;
  }

 private:
  using Page = absl::StatusOr<std::optional<RowPage>>;

  void ReadAhead() {
    while (true) {
      Page page = reader_.Next();
      const bool end = !page.ok() || !*page;
      if (!pages_.Push(std::move(page)) || end) return pages_.Close();
    }
  }

  RowPageReader& reader_;
  BoundedQueue<Page> pages_;
  std::optional<NamedThread> thread_;  // joined first: after the queue was abandoned
};

absl::Status Broken(BatchNo batch_no, std::string_view what) {
  return Error(absl::StatusCode::kInternal, "OUTCOMES_BROKEN", StrCat("batch ", batch_no, ": ", what));
}

}  // namespace

RowPageReader::RowPageReader(Storage& storage, JobId job_id, BatchNo first, BatchNo end, RowKind kind)
    : storage_(storage), job_id_(std::move(job_id)), end_(end), kind_(kind), next_count_(first) {}

absl::Status RowPageReader::FillCounts() {
  while (counts_.empty() && !counted_) {
    DROVER_ASSIGN_OR_RETURN(const std::vector<BatchCounts> found,
                            storage_.ReadBatchCounts(job_id_, next_count_, kCountsPerQuery));
    counted_ = found.size() < static_cast<size_t>(kCountsPerQuery);
    for (const BatchCounts& counts : found) {
      if (counts.batch_no >= end_) {
        counted_ = true;
        break;
      }
      next_count_ = counts.batch_no + 1;
      if (RowsOf(counts, kind_) > 0) counts_.push_back(counts);
    }
    if (next_count_ >= end_) counted_ = true;
  }
  return absl::OkStatus();
}

std::vector<BatchCounts> RowPageReader::TakeCounts() {
  std::vector<BatchCounts> taken;
  int64_t rows = 0;
  while (!counts_.empty() && taken.size() < kMaxPageBatches && rows < page_rows_) {
    rows += RowsOf(counts_.front(), kind_);
    taken.push_back(counts_.front());
    counts_.pop_front();
  }
  return taken;
}

absl::StatusOr<std::optional<RowPage>> RowPageReader::Next() {
  DROVER_RETURN_IF_ERROR(FillCounts());
  RowPage page;
  page.counts = TakeCounts();
  if (page.counts.empty()) return std::optional<RowPage>();

  const BatchNo first = page.counts.front().batch_no;
  const BatchNo end = page.counts.back().batch_no + 1;
  const int count = static_cast<int>(page.counts.size());
  if (end - first == count) {
    DROVER_ASSIGN_OR_RETURN(page.batches, storage_.ReadBatchRange(job_id_, first, end, count));
  } else {
    std::vector<BatchNo> numbers;
    for (const BatchCounts& counts : page.counts) numbers.push_back(counts.batch_no);
    DROVER_ASSIGN_OR_RETURN(page.batches, storage_.ReadBatches(job_id_, numbers));
  }
  DROVER_ASSIGN_OR_RETURN(
      page.segments, storage_.ReadSegments(job_id_, first, end, /*only_failed=*/kind_ == RowKind::kFailed));
  if (page.batches.size() != page.counts.size()) return Broken(first, "batches are missing");

  int64_t bytes = 1;
  int64_t rows = 0;
  for (const BatchPayload& batch : page.batches) bytes += static_cast<int64_t>(batch.payload.size());
  for (const StoredSegment& segment : page.segments) bytes += static_cast<int64_t>(segment.payload.size());
  for (const BatchCounts& counts : page.counts) rows += RowsOf(counts, kind_);
  const double wanted =
      static_cast<double>(rows) * static_cast<double>(kPageBytes) / static_cast<double>(bytes);
  const int64_t most = std::min(4 * page_rows_, kMaxPageRows);
  page_rows_ = std::clamp<int64_t>(static_cast<int64_t>(std::min(wanted, 1e12)), 1, most);
  return std::optional<RowPage>(std::move(page));
}

absl::StatusOr<int64_t> RowRenderer::Render(const RowPage& page, size_t index, size_t& next_segment,
                                            std::string& out) {
  const BatchPayload& stored = page.batches[index];
  const BatchNo number = stored.batch_no;
  if (number != page.counts[index].batch_no) return Broken(number, "not the batch that was asked for");
  if (absl::Status status = reader_.Decode(stored.payload, batch_); !status.ok()) {
    return Broken(number, FromAbsl(status.message()));
  }

  TaskSet executed;
  std::vector<Outcome> outcomes;
  bool sorted = true;
  while (next_segment < page.segments.size() && page.segments[next_segment].batch_no < number) ++next_segment;
  for (; next_segment < page.segments.size() && page.segments[next_segment].batch_no == number;
       ++next_segment) {
    const StoredSegment& segment = page.segments[next_segment];
    const TaskSet tasks = segment.executed ? *segment.executed : TaskSet::All(batch_.size());
    if (executed.Intersects(tasks)) return Broken(number, "two segments record the same task");
    executed.Union(tasks);
    if (segment.payload.empty()) continue;
    absl::StatusOr<std::vector<Outcome>> decoded = DecodeOutcomes(segment.payload);
    if (!decoded.ok()) return Broken(number, FromAbsl(decoded.status().message()));
    sorted = sorted && outcomes.empty();
    std::move(decoded->begin(), decoded->end(), std::back_inserter(outcomes));
  }
  if (!sorted) {
    std::sort(outcomes.begin(), outcomes.end(),
              [](const Outcome& a, const Outcome& b) { return a.index < b.index; });
  }
  const auto rows =
      static_cast<int64_t>(AppendReportRows(batch_, executed, outcomes, kind_, kReportKeyEncoding, out));
  const int64_t counted = RowsOf(page.counts[index], kind_);
  if (rows != counted) {
    return Broken(number,
                  StrCat(rows, " rows of ", RowKindName(kind_), " tasks, but ", counted, " are counted"));
  }
  return rows;
}

absl::StatusOr<int64_t> EmitResultRows(Storage& storage, const JobId& job_id, const ReportFile& file,
                                       size_t piece_bytes, const std::function<bool()>& should_stop,
                                       const EmitRows& emit) {
  RowPageReader reader(storage, job_id, file.first_batch, file.end_batch, RowKindOf(file));
  PageStream pages(reader);
  RowRenderer renderer(RowKindOf(file));
  int64_t rows = 0;
  std::string text;
  while (true) {
    DROVER_ASSIGN_OR_RETURN(const std::optional<RowPage> page, pages.Next());
    if (!page) break;
    size_t next_segment = 0;
    for (size_t i = 0; i < page->batches.size(); ++i) {
      if (should_stop()) return absl::CancelledError("stopped");
      DROVER_ASSIGN_OR_RETURN(const int64_t of_batch, renderer.Render(*page, i, next_segment, text));
      rows += of_batch;
      if (text.size() >= piece_bytes) DROVER_RETURN_IF_ERROR(emit(text));
    }
  }
  if (!text.empty()) DROVER_RETURN_IF_ERROR(emit(text));
  return rows;
}

}  // namespace drover
