// Manifests that came within their request: kept as the first progress of the job's prepare duty, which makes
// batches of them; so neither the stored job nor what is read of it every moment is larger for them.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_INLINE_INLINE_MANIFEST_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_INLINE_INLINE_MANIFEST_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "services/controller/storage/storage.h"

namespace drover::v1 {
class InlineManifest;
}  // namespace drover::v1

namespace drover {

// Of one job: held against the request by CreateJob.
inline constexpr int kMaxInlineObjects = 10'000;
inline constexpr size_t kMaxInlineBytes = 1 << 20;  // as protobuf

// Moves the objects out of a manifest that was checked: returns what NewJob::prepare_progress is to be, and
// leaves their number.
std::string TakeInlineObjects(v1::InlineManifest& manifest);

// The batches of these objects, in their order, as PrepareHandler would make them of a CSV manifest with
// `batch_cap` (see BatchSize()). INVALID_ARGUMENT for anything that TakeInlineObjects did not return.
absl::StatusOr<std::vector<NewBatch>> MakeInlineBatches(std::string_view progress, size_t batch_cap);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_INLINE_INLINE_MANIFEST_H_
