// The manifest.json of a completion report: S3 Batch Operations' fields, and after them Drover's own.
//
//   {"Format": "Report_CSV_20180820", "ReportCreationDate": "2024-03-01T10:00:00.123Z",
//    "Results": [{"TaskExecutionStatus": "succeeded", "Bucket": "reports", "MD5Checksum": "…",
//                 "Key": "jobs/job-…/results/….csv", "SHA256Checksum": "…", "Rows": 1000, "Bytes": 91234}],
//    "ReportSchema": "Bucket, Key, VersionId, TaskStatus, HTTPStatusCode, ErrorCode, ResultMessage",
//    "JobId": "…", "Status": "Failed", "FailureCodes": ["FailureThreshold"], "FailureReasons": ["…"],
//    "Counts": {"Total": 1000, "Succeeded": 400, "Failed": 600, "Unconfirmed": 0}, "Job": {…}}
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_MANIFEST_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/controller/report/rows/report_rows.h"

namespace drover {

inline constexpr std::string_view kReportFormat = "Report_CSV_20180820";
inline constexpr std::string_view kReportSchema =
    "Bucket, Key, VersionId, TaskStatus, HTTPStatusCode, ErrorCode, ResultMessage";

struct ReportResultFile {
  RowKind kind = RowKind::kSucceeded;
  std::string bucket;
  std::string key;
  std::string md5;     // hex of the whole file
  std::string sha256;  // hex of the whole file
  int64_t rows = 0;
  int64_t bytes = 0;
};

struct ReportManifest {
  absl::Time created;  // fixed once in the database, so that a report written again is the same
  std::vector<ReportResultFile> results;

  std::string job_id;
  std::string status;  // what the job comes to: Complete, Failed, Cancelled
  std::vector<std::string> failure_codes;
  std::vector<std::string> failure_reasons;
  int64_t total = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t unconfirmed = 0;      // may have run, without an outcome; no rows
  std::string job_json = "{}";  // the job's configuration, a JSON object; no secrets
};

// The text of manifest.json, fields in the order above. Bytes that aren't UTF-8 are replaced.
// INVALID_ARGUMENT if `job_json` is not a JSON object.
absl::StatusOr<std::string> ReportManifestJson(const ReportManifest& manifest);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_MANIFEST_H_
