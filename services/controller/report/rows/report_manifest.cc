#include "services/controller/report/rows/report_manifest.h"

#include <nlohmann/json.hpp>

#include "common/status/status.h"

namespace drover {
namespace {

// Keeps fields in the order in which they are added.
using Json = nlohmann::ordered_json;

}  // namespace

absl::StatusOr<std::string> ReportManifestJson(const ReportManifest& manifest) {
  Json job = Json::parse(manifest.job_json, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!job.is_object()) {
    return Error(absl::StatusCode::kInvalidArgument, "BAD_JOB_JSON",
                 "the job's configuration is not a JSON object");
  }
  Json results = Json::array();
  for (const ReportResultFile& file : manifest.results) {
    results.push_back({{"TaskExecutionStatus", RowKindName(file.kind)},
                       {"Bucket", file.bucket},
                       {"MD5Checksum", file.md5},
                       {"Key", file.key},
                       {"SHA256Checksum", file.sha256},
                       {"Rows", file.rows},
                       {"Bytes", file.bytes}});
  }
  const Json json = {
      {"Format", kReportFormat},
      {"ReportCreationDate",
       absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", manifest.created, absl::UTCTimeZone())},
      {"Results", std::move(results)},
      {"ReportSchema", kReportSchema},
      {"JobId", manifest.job_id},
      {"Status", manifest.status},
      {"FailureCodes", manifest.failure_codes},
      {"FailureReasons", manifest.failure_reasons},
      {"Counts",
       {{"Total", manifest.total},
        {"Succeeded", manifest.succeeded},
        {"Failed", manifest.failed},
        {"Unconfirmed", manifest.unconfirmed}}},
      {"Job", std::move(job)},
  };
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace drover
