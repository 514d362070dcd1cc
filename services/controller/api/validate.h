// Checks a CreateJobRequest in full and makes the job that is stored.
//
//   DROVER_ASSIGN_OR_RETURN(ValidJob valid, ValidateCreateJob(request, stores));
//   valid.job            the request's job with every default filled in
//   valid.fingerprint    tells a repeated call from a request id used again for something else
//
// All wrong fields are named at once, each with its path and what to do. Nothing is read but the arguments:
// whether the manifest or a bucket exists is found out while the job is prepared, as S3 Batch Operations
// does.
#ifndef DROVER_SERVICES_CONTROLLER_API_VALIDATE_H_
#define DROVER_SERVICES_CONTROLLER_API_VALIDATE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/objectstore/stores.h"
#include "drover/v1/job_service.pb.h"
#include "services/controller/lifecycle/lifecycle.h"
#include "services/controller/outcome/outcome_reader.h"

namespace drover {

// Limits of a request, with those of keys and version ids in common/codec/task.h and of copies in
// validate_copy.h; docs/api.md lists them.
// Characters are Unicode code points.
inline constexpr size_t kMaxRequestIdBytes = 64;
inline constexpr size_t kMaxDescriptionChars = 256;
inline constexpr size_t kMaxReasonChars = 256;
inline constexpr int kMaxTags = 10;
inline constexpr size_t kMaxTagKeyChars = 128;
inline constexpr size_t kMaxTagValueChars = 256;
inline constexpr int kMaxRemovedTagKeys = 100;
inline constexpr size_t kMaxEtagBytes = 256;
inline constexpr size_t kMaxReportPrefixBytes = 512;
inline constexpr absl::Duration kMaxNoOpDuration = absl::Seconds(60);

// Defaults of a request.
inline constexpr double kDefaultFailedFraction = 0.5;
inline constexpr int64_t kDefaultMinimumExecuted = 1000;
inline constexpr int32_t kDefaultMaxAttempts = 5;
inline constexpr int32_t kMaxMaxAttempts = 20;
inline constexpr absl::Duration kDefaultInitialBackoff = absl::Milliseconds(200);
inline constexpr absl::Duration kDefaultMaxBackoff = absl::Seconds(20);
inline constexpr absl::Duration kDefaultUnavailableTimeout = absl::Seconds(120);

// A request that can be carried out.
struct ValidJob {
  v1::Job job;                                // with all defaults
  std::string operation;                      // e.g. "put_object_tagging"
  int32_t min_revision = 1;                   // of the operation, for these parameters
  std::map<std::string, std::string> stores;  // name -> fingerprint, of every store that the job uses
  std::vector<std::string> worker_stores;     // of those, the ones a worker must reach
  lifecycle::FailurePolicy failure_policy;
  std::string prepare_progress;  // NewJob's: the objects of an inline manifest, which `job` has no more
  // Hex SHA-256 over the deterministic serialisation of the job as the client sent it, without defaults: a
  // call repeated after an upgrade that changed a default is still the same call.
  std::string fingerprint;
};

// The checks of supported_fields.h first, then INVALID_ARGUMENT (INVALID_FIELD) with every field that is
// wrong.
absl::StatusOr<ValidJob> ValidateCreateJob(const v1::CreateJobRequest& request, const Stores& stores);

// INVALID_ARGUMENT on field job_id unless it is a UUID in lower case.
absl::Status ValidateJobId(std::string_view job_id);
// INVALID_ARGUMENT on field reason: at most kMaxReasonChars, no control characters.
absl::Status ValidateReason(std::string_view reason);
// INVALID_ARGUMENT on field priority: 0 to 2147483647.
absl::Status ValidatePriority(int32_t priority);
// The page size to use: kDefaultPageSize for 0. INVALID_ARGUMENT on field page_size outside 0 to
// kMaxPageSize.
absl::StatusOr<int> ValidatePageSize(int32_t page_size);
inline constexpr int kDefaultPageSize = 100;
inline constexpr int kMaxPageSize = 1000;
// What a ListTaskOutcomesRequest asks for, but for its page. INVALID_ARGUMENT with every field that is wrong:
// job_id; error_code over kMaxOutcomeCodeChars; key_prefix over kMaxKeyBytes.
absl::StatusOr<OutcomeQuery> ValidateOutcomeQuery(const v1::ListTaskOutcomesRequest& request);
// The states asked for. INVALID_ARGUMENT on field states for a value that is no state.
absl::StatusOr<std::vector<lifecycle::State>> ValidateStates(
    const google::protobuf::RepeatedField<int>& states);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_VALIDATE_H_
