#include "services/controller/report/report_layout.h"

#include <openssl/evp.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "common/hash/sha256.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/job.pb.h"
#include "google/protobuf/util/json_util.h"
#include "services/controller/report/rows/report_manifest.h"

namespace drover {
namespace {

constexpr size_t kKeyHexDigits = 40;

absl::StatusOr<v1::Job> ParseRequest(const JobSpec& spec) {
  v1::Job job;
  if (!job.ParseFromString(spec.request))
    return absl::InternalError("the job's stored request can't be read");
  return job;
}

std::string HexName(std::string_view seed) { return Sha256Hex(seed).substr(0, kKeyHexDigits); }

// The state that the job comes to, in S3 Batch Operations' words.
std::string_view FinalStatus(lifecycle::State state) {
  switch (state) {
    case lifecycle::State::kFailing:
    case lifecycle::State::kFailed: return "Failed";
    case lifecycle::State::kCancelling:
    case lifecycle::State::kCancelled: return "Cancelled";
    default: return "Complete";
  }
}

// The request as it was stored, with what is known of the job beside it.
absl::StatusOr<std::string> JobJson(const JobRecord& record) {
  DROVER_ASSIGN_OR_RETURN(v1::Job job, ParseRequest(record.spec));
  job.set_job_id(record.spec.job_id);
  job.set_priority(record.priority);
  job.set_creator(record.spec.creator);
  SetTimestamp(absl::FromUnixMillis(absl::ToUnixMillis(record.spec.created)), job.mutable_create_time());
  if (!record.snapshot.reason_code.empty()) {
    job.mutable_state_reason()->set_code(record.snapshot.reason_code);
    job.mutable_state_reason()->set_message(record.reason_message);
    job.mutable_state_reason()->set_caller(record.reason_caller);
  }
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(job, &json);
  if (!status.ok()) return absl::InternalError(StrCat("the job as JSON: ", status.ToString()));
  return json;
}

}  // namespace

absl::StatusOr<ReportPlace> PlanReportPlace(const JobSpec& spec) {
  DROVER_ASSIGN_OR_RETURN(const v1::Job job, ParseRequest(spec));
  ReportPlace place;
  place.store = job.report().store();
  const auto pinned = spec.stores.find(place.store);
  if (pinned != spec.stores.end()) place.fingerprint = pinned->second;
  place.bucket = job.report().bucket();
  const std::string& prefix = job.report().prefix();
  place.folder = StrCat(prefix, prefix.empty() ? "" : "/", "job-", spec.job_id);
  place.scope = job.report().scope() == v1::ReportRequest::FAILED_TASKS_ONLY ? ReportScope::kFailedTasksOnly
                                                                             : ReportScope::kAllTasks;
  return place;
}

std::string ReportManifestKey(const ReportPlace& place) { return StrCat(place.folder, "/manifest.json"); }

std::vector<ReportFile> PlanReportFiles(const JobId& job_id, const ReportPlace& place,
                                        const std::vector<PlannedFile>& files) {
  std::vector<ReportFile> result;
  result.reserve(files.size());
  for (const PlannedFile& planned : files) {
    ReportFile file;
    file.part = static_cast<int32_t>(result.size());
    file.failed_rows = planned.kind == RowKind::kFailed;
    file.first_batch = static_cast<BatchNo>(planned.first_batch);
    file.end_batch = static_cast<BatchNo>(planned.end_batch);
    file.rows = planned.rows;
    const std::string name = HexName(StrCat(job_id, " ", RowKindName(planned.kind), " ", file.part));
    file.key = StrCat(place.folder, "/results/", name, ".csv");
    result.push_back(std::move(file));
  }
  return result;
}

absl::StatusOr<std::string> ReportManifestOf(const JobRecord& job, const ReportPlace& place,
                                             const ReportPlan& plan) {
  ReportManifest manifest;
  manifest.created = plan.created;
  for (const ReportFile& file : plan.files) {
    manifest.results.push_back(
        {RowKindOf(file), place.bucket, file.key, file.md5, file.sha256, file.rows, file.bytes});
  }
  manifest.job_id = job.spec.job_id;
  manifest.status = FinalStatus(job.snapshot.state);
  for (const lifecycle::Failure& failure : job.failures) {
    manifest.failure_codes.push_back(failure.code);
    manifest.failure_reasons.push_back(failure.reason);
  }
  manifest.total = job.snapshot.tasks;
  manifest.succeeded = job.snapshot.succeeded;
  manifest.failed = job.snapshot.failed;
  manifest.unconfirmed = job.unconfirmed;
  DROVER_ASSIGN_OR_RETURN(manifest.job_json, JobJson(job));
  return ReportManifestJson(manifest);
}

}  // namespace drover
