// The rows of one result file, made from the database in bounded memory: pages of batches and their segments
// are read one ahead, on a thread of their own, while the page before is made into text.
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_RESULT_ROWS_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_RESULT_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/codec/task_batch.h"
#include "services/controller/report/rows/report_rows.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Some batches that have rows of a kind, and the segments that say so.
struct RowPage {
  std::vector<BatchCounts> counts;      // of these batches, ascending
  std::vector<BatchPayload> batches;    // the same batches
  std::vector<StoredSegment> segments;  // theirs, in batch order; perhaps others in between
};

// Reads the pages of batches first … end-1 that have rows of `kind`. The size of a page follows the bytes of
// the page before, towards kPageBytes. Not thread-safe.
class RowPageReader {
 public:
  static constexpr int64_t kPageBytes = 4 << 20;
  static constexpr int64_t kFirstPageRows = 8192;
  static constexpr int64_t kMaxPageRows = 128 * 1024;
  static constexpr size_t kMaxPageBatches = 256;
  static constexpr int kCountsPerQuery = 4096;

  RowPageReader(Storage& storage, JobId job_id, BatchNo first, BatchNo end, RowKind kind);

  // The next page; nothing after the last.
  absl::StatusOr<std::optional<RowPage>> Next();
  // Whether there is no page after those that Next() returned.
  bool done() const { return counts_.empty() && counted_; }

 private:
  absl::Status FillCounts();
  std::vector<BatchCounts> TakeCounts();

  Storage& storage_;
  const JobId job_id_;
  const BatchNo end_;
  const RowKind kind_;
  BatchNo next_count_;
  bool counted_ = false;            // up to the end
  std::deque<BatchCounts> counts_;  // of batches with rows, not in a page yet
  int64_t page_rows_ = kFirstPageRows;
};

// Makes pages into text. Not thread-safe.
class RowRenderer {
 public:
  explicit RowRenderer(RowKind kind) : kind_(kind) {}

  // Appends the rows of the page's `index`-th batch to `out`; how many they are. INTERNAL (a broken
  // invariant) if they are not as many as counted, if two segments record one task, or if a payload can't be
  // read. `next_segment` moves on through the page's segments; 0 at the page's first batch.
  absl::StatusOr<int64_t> Render(const RowPage& page, size_t index, size_t& next_segment, std::string& out);

 private:
  const RowKind kind_;
  TaskBatchReader reader_;
  DecodedBatch batch_;
};

// Given text of whole rows, which it takes or clears. An error ends the file.
using EmitRows = std::function<absl::Status(std::string&)>;

// Emits all rows of `file`, in pieces of `piece_bytes` and a batch more, the last one shorter; nothing for a
// file without rows. Returns the number of rows. CANCELLED once `should_stop` says so.
absl::StatusOr<int64_t> EmitResultRows(Storage& storage, const JobId& job_id, const ReportFile& file,
                                       size_t piece_bytes, const std::function<bool()>& should_stop,
                                       const EmitRows& emit);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_RESULT_ROWS_H_
