// Which result files a report consists of. A pure streaming decision over the counts of each batch, in batch
// order, in constant memory; the same counts give the same files, so a planner that died is simply run again.
//
// A file holds the rows of one kind of a range of batches: at most kMaxReportFileRows of them. So the
// succeeded rows of a large job are cut into many files, and a few failures, however far apart, make one. A
// kind without rows has no file.
//
//   ReportPlanner planner(ReportScope::kAllTasks);
//   std::vector<PlannedFile> files;
//   for (const auto& [batch, succeeded, failed] : counts) planner.Add(batch, succeeded, failed, files);
//   planner.Finish(files);
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_PLAN_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_PLAN_H_

#include <array>
#include <cstdint>
#include <vector>

#include "services/controller/report/rows/report_rows.h"

namespace drover {

inline constexpr int64_t kMaxReportFileRows = 1'000'000;

enum class ReportScope { kAllTasks, kFailedTasksOnly };

struct PlannedFile {
  RowKind kind = RowKind::kSucceeded;
  int64_t first_batch = 0;  // the first batch with a row of this file
  int64_t end_batch = 0;    // the last such batch + 1
  int64_t rows = 0;         // 1 to the planner's limit

  friend bool operator==(const PlannedFile&, const PlannedFile&) = default;
};

// Not thread-safe.
class ReportPlanner {
 public:
  // `max_rows` (≥ 1) per file; a single batch with more of a kind still goes into one file.
  explicit ReportPlanner(ReportScope scope, int64_t max_rows = kMaxReportFileRows);

  // The outcomes counted in batch `batch_no`, which is above that of the call before; batches without any may
  // be left out. Appends to `files` those that are complete now.
  void Add(int64_t batch_no, int64_t succeeded, int64_t failed, std::vector<PlannedFile>& files);
  // No batch follows: appends the last files.
  void Finish(std::vector<PlannedFile>& files);

 private:
  void Count(PlannedFile& open, int64_t batch_no, int64_t rows, std::vector<PlannedFile>& files);

  ReportScope scope_;
  int64_t max_rows_;
  PlannedFile succeeded_;  // being filled; no rows: none
  PlannedFile failed_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_PLAN_H_
