#include "services/controller/report/rows/report_plan.h"

#include <algorithm>

namespace drover {

ReportPlanner::ReportPlanner(ReportScope scope, int64_t max_rows)
    : scope_(scope), max_rows_(std::max<int64_t>(max_rows, 1)) {
  succeeded_.kind = RowKind::kSucceeded;
  failed_.kind = RowKind::kFailed;
}

void ReportPlanner::Add(int64_t batch_no, int64_t succeeded, int64_t failed,
                        std::vector<PlannedFile>& files) {
  if (scope_ == ReportScope::kAllTasks) Count(succeeded_, batch_no, succeeded, files);
  Count(failed_, batch_no, failed, files);
}

void ReportPlanner::Count(PlannedFile& open, int64_t batch_no, int64_t rows,
                          std::vector<PlannedFile>& files) {
  if (rows <= 0) return;
  if (open.rows > 0 && open.rows + rows > max_rows_) {
    files.push_back(open);
    open.rows = 0;
  }
  if (open.rows == 0) open.first_batch = batch_no;
  open.end_batch = batch_no + 1;
  open.rows += rows;
}

void ReportPlanner::Finish(std::vector<PlannedFile>& files) {
  for (PlannedFile* open : {&succeeded_, &failed_}) {
    if (open->rows > 0) files.push_back(*open);
    open->rows = 0;
  }
}

}  // namespace drover
