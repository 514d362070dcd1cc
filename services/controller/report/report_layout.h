// Where a job's report goes and what its manifest.json says: pure functions of the job.
//
//   <prefix>/job-<id>/manifest.json
//   <prefix>/job-<id>/results/<40 hex digits>.csv
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_REPORT_LAYOUT_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_REPORT_LAYOUT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "services/controller/report/rows/report_plan.h"
#include "services/controller/report/rows/report_rows.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Report rows write keys as the manifest does; every manifest that is read today has them percent-encoded.
inline constexpr KeyEncoding kReportKeyEncoding = KeyEncoding::kUrl;

struct ReportPlace {
  std::string store;
  std::string fingerprint;  // of the store, as the job pinned it
  std::string bucket;
  std::string folder;  // "<prefix>/job-<id>", without a slash at its end
  ReportScope scope = ReportScope::kAllTasks;
};

// Of a stored job that wants a report. INTERNAL if its request can't be read.
absl::StatusOr<ReportPlace> PlanReportPlace(const JobSpec& spec);

std::string ReportManifestKey(const ReportPlace& place);

// The plan's files with their parts and keys. A key depends on nothing but the job, the part and its kind:
// whoever plans the same report again, plans the same keys.
std::vector<ReportFile> PlanReportFiles(const JobId& job_id, const ReportPlace& place,
                                        const std::vector<PlannedFile>& files);

inline RowKind RowKindOf(const ReportFile& file) {
  return file.failed_rows ? RowKind::kFailed : RowKind::kSucceeded;
}

// The text of manifest.json of a job in Completing, Failing or Cancelling, as it will be once it has ended.
absl::StatusOr<std::string> ReportManifestOf(const JobRecord& job, const ReportPlace& place,
                                             const ReportPlan& plan);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_REPORT_LAYOUT_H_
