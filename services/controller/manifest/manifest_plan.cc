#include "services/controller/manifest/manifest_plan.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "common/codec/outcomes.h"
#include "common/codec/task_batch.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/job.pb.h"

namespace drover {
namespace {

constexpr size_t kMaxFailureReasonBytes = 1024;

absl::Status Unsupported(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, kManifestUnsupported, what);
}

// Tasks that move data or call functions come in smaller batches, so that a fleet can share a small job and a
// lost worker leaves little to do again.
size_t BatchCap(const v1::Operation& operation) {
  switch (operation.kind_case()) {
    case v1::Operation::kCopyObject:
    case v1::Operation::kComputeObjectChecksum:
    case v1::Operation::kUpdateObjectEncryption: return kBatchCapHeavy;
    case v1::Operation::kInvokeHttp:
    case v1::Operation::kInvokeGrpc:
    case v1::Operation::kCustom: return kBatchCapFunctions;
    default: return kBatchCapLight;
  }
}

absl::StatusOr<CsvFormat> FormatOf(const v1::CsvManifest& csv) {
  CsvFormat format;
  for (int field : csv.fields()) {
    switch (field) {
      case v1::MANIFEST_FIELD_BUCKET: format.fields.push_back(CsvField::kBucket); break;
      case v1::MANIFEST_FIELD_KEY: format.fields.push_back(CsvField::kKey); break;
      case v1::MANIFEST_FIELD_VERSION_ID: format.fields.push_back(CsvField::kVersionId); break;
      case v1::MANIFEST_FIELD_IGNORE: format.fields.push_back(CsvField::kIgnore); break;
      default: return Unsupported(StrCat("this controller knows no column ", field, " of a CSV manifest"));
    }
  }
  if (format.fields.empty()) format.fields = {CsvField::kBucket, CsvField::kKey};
  return format;
}

absl::StatusOr<std::optional<Compression>> CompressionOf(const v1::CsvManifest& csv) {
  switch (csv.compression()) {
    case v1::CsvManifest::COMPRESSION_UNSPECIFIED: return std::nullopt;
    case v1::CsvManifest::GZIP: return Compression::kGzip;
    case v1::CsvManifest::ZSTD: return Compression::kZstd;
    default:
      return Unsupported(
          StrCat("this controller knows no compression ", csv.compression(), " of a manifest"));
  }
}

}  // namespace

absl::StatusOr<ManifestPlan> PlanManifest(const JobSpec& spec) {
  v1::Job job;
  if (!job.ParseFromString(spec.request)) return Unsupported("the stored request can't be read");
  ManifestPlan plan;
  plan.batch_cap = BatchCap(job.operation());
  if (job.manifest().has_inline_()) {
    plan.in_request = true;
    return plan;
  }
  if (!job.manifest().has_csv())
    return Unsupported("this controller prepares CSV manifests and inline ones only");
  const v1::CsvManifest& csv = job.manifest().csv();
  DROVER_ASSIGN_OR_RETURN(plan.format, FormatOf(csv));
  DROVER_ASSIGN_OR_RETURN(plan.compression, CompressionOf(csv));
  plan.store = csv.location().store();
  const auto pinned = spec.stores.find(plan.store);
  if (pinned != spec.stores.end()) plan.fingerprint = pinned->second;
  plan.object = {csv.location().bucket(), csv.location().key(), csv.location().version_id()};
  plan.etag = csv.etag();
  plan.pin = spec.manifest_pin;
  plan.sha256 = absl::AsciiStrToLower(csv.sha256());
  return plan;
}

std::optional<lifecycle::Failure> FailureOfStoreError(const ManifestPlan& plan, const absl::Status& error,
                                                      bool opened, std::string_view present) {
  const std::optional<ErrorDetails> details = GetErrorDetails(error);
  const std::string reason = details ? details->reason : "";
  const std::string message = StrCat("the manifest in store '", plan.store, "': ", error.message());
  if (reason == "OBJECT_NOT_FOUND" || reason == "OBJECT_NAME_INVALID")
    return MakeFailure(kManifestNotFound, message);
  if (reason == "OBJECT_DENIED") return MakeFailure(kManifestAccessDenied, message);
  if (reason == "COMPRESSED_DATA_INVALID") return MakeFailure(kManifestCorrupt, message);
  if (reason == "COMPRESSED_DATA_TOO_LARGE") return MakeFailure(kManifestTooLarge, message);
  if (reason == "COMPRESSED_DATA_UNSUPPORTED") return MakeFailure(kManifestUnsupported, message);
  if (reason == "STORE_REFUSED") return MakeFailure(kManifestUnavailable, message);
  if (reason != "OBJECT_CHANGED") return std::nullopt;
  if (opened) return MakeFailure(kManifestChanged, "the manifest changed while it was read");
  if (plan.etag.empty())
    return MakeFailure(kManifestChanged, "the manifest changed after the job was created");
  return MakeFailure(kManifestEtagMismatch,
                     StrCat("the job names a manifest with ETag ", plan.etag, ", but the object has ",
                            present.empty() ? "another one" : StrCat("ETag ", present)));
}

lifecycle::Failure FailureOfBadLines(const std::vector<BadLine>& lines, std::optional<Compression> looks) {
  std::string reason = "the manifest can't be used";
  if (!lines.empty()) {
    reason = StrCat("the manifest has lines that can't be used; the first is line ", lines.front().line, ": ",
                    lines.front().reason);
  }
  if (looks.has_value()) {
    StrAppend(&reason, "; it looks like a file compressed with ", CompressionName(*looks),
              ": then the job must say so in job.manifest.csv.compression");
  }
  lifecycle::Failure failure = MakeFailure(kManifestInvalid, reason);
  for (const BadLine& line : lines) failure.bad_lines.push_back({line.line, line.reason});
  return failure;
}

lifecycle::Failure MakeFailure(std::string_view code, std::string_view reason) {
  return {std::string(code), SanitizeOutcomeText(reason, kMaxFailureReasonBytes), {}};
}

}  // namespace drover
