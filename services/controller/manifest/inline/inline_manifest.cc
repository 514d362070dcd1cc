#include "services/controller/manifest/inline/inline_manifest.h"

#include <utility>

#include "common/codec/task_batch.h"
#include "common/strings/strings.h"
#include "drover/v1/manifest.pb.h"

namespace drover {

std::string TakeInlineObjects(v1::InlineManifest& manifest) {
  v1::InlineManifest taken;
  taken.mutable_objects()->Swap(manifest.mutable_objects());
  manifest.set_object_count(taken.objects_size());
  return taken.SerializeAsString();
}

absl::StatusOr<std::vector<NewBatch>> MakeInlineBatches(std::string_view progress, size_t batch_cap) {
  v1::InlineManifest manifest;
  if (!manifest.ParseFromArray(progress.data(), static_cast<int>(progress.size())))
    return absl::InvalidArgumentError("the objects of an inline manifest can't be read");
  std::vector<NewBatch> batches;
  TaskBatchBuilder builder;
  int64_t first_task = 0;
  const auto close = [&] {
    NewBatch batch;
    batch.first_task = first_task;
    batch.tasks = static_cast<int32_t>(builder.count());
    batch.payload = builder.Finish();
    first_task += batch.tasks;
    batches.push_back(std::move(batch));
  };
  for (const v1::InlineObject& object : manifest.objects()) {
    if (object.bucket().empty() || object.bucket().size() > kMaxBucketBytes || object.key().empty() ||
        object.key().size() > kMaxKeyBytes || object.version_id().size() > kMaxVersionIdBytes) {
      return absl::InvalidArgumentError("an object of an inline manifest is out of limits");
    }
    builder.Add({object.bucket(), object.key(), object.version_id()});
    if (builder.Full(BatchSize(first_task, batch_cap))) close();
  }
  if (builder.count() > 0) close();
  return batches;
}

}  // namespace drover
