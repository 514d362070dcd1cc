// What a job says about its manifest, in the terms of the code that reads it; and what goes wrong with
// manifests, in the terms of the job's failure.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_MANIFEST_PLAN_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_MANIFEST_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/compress/decompressor.h"
#include "common/objectstore/object_store.h"
#include "services/controller/lifecycle/lifecycle.h"
#include "services/controller/manifest/csv/csv_manifest.h"
#include "services/controller/storage/storage.h"

namespace drover {

inline constexpr int64_t kMaxTasksPerJob = 20'000'000'000;
inline constexpr int64_t kMaxBatchesPerJob = std::numeric_limits<BatchNo>::max();

// Codes of lifecycle::Failure (drover.v1.JobFailure.code); docs/manifests.md says them to users.
inline constexpr std::string_view kManifestNotFound = "MANIFEST_NOT_FOUND";
inline constexpr std::string_view kManifestEtagMismatch = "MANIFEST_ETAG_MISMATCH";
inline constexpr std::string_view kManifestChanged = "MANIFEST_CHANGED";
inline constexpr std::string_view kManifestAccessDenied = "MANIFEST_ACCESS_DENIED";
inline constexpr std::string_view kManifestInvalid = "MANIFEST_INVALID";
inline constexpr std::string_view kManifestSha256Mismatch = "MANIFEST_SHA256_MISMATCH";
inline constexpr std::string_view kManifestUnavailable = "MANIFEST_UNAVAILABLE";
inline constexpr std::string_view kManifestTooLarge = "MANIFEST_TOO_LARGE";
inline constexpr std::string_view kManifestCorrupt = "MANIFEST_CORRUPT";
inline constexpr std::string_view kManifestUnsupported = "MANIFEST_UNSUPPORTED";

struct ManifestPlan {
  // The objects are the duty's progress (inline/inline_manifest.h): of the rest only batch_cap is set.
  bool in_request = false;
  std::string store;
  std::string fingerprint;  // of the store, as the job pinned it
  ObjectRef object;
  std::string etag;    // that the client named; "": none
  std::string pin;     // ObjectInfo::etag when the job was created (files); "": not known
  std::string sha256;  // that the client named, small hex; "": none
  CsvFormat format;
  std::optional<Compression> compression;
  size_t batch_cap = 0;  // of BatchSize(), by the weight of the operation
};

// Of a stored job. INVALID_ARGUMENT (MANIFEST_UNSUPPORTED) for a manifest that this controller can't prepare.
absl::StatusOr<ManifestPlan> PlanManifest(const JobSpec& spec);

// How the job fails when reading its manifest gives `error`, of the store or of DecompressingReader; nothing
// when that may pass (the store can't be reached, an error of the disk, the store was shut down). `opened`
// says whether the manifest was open before, so that it has changed since; else the client named an ETag that
// isn't the present one (`present`,
// "" if that could not be found out).
std::optional<lifecycle::Failure> FailureOfStoreError(const ManifestPlan& plan, const absl::Status& error,
                                                      bool opened, std::string_view present);

// MANIFEST_INVALID with these lines. `looks` is what the file, read as not compressed, looks compressed with.
lifecycle::Failure FailureOfBadLines(const std::vector<BadLine>& lines, std::optional<Compression> looks);

// `code` with `reason` cut to what a failure may hold.
lifecycle::Failure MakeFailure(std::string_view code, std::string_view reason);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_MANIFEST_PLAN_H_
