#include "common/objectstore/object_store.h"

#include "common/objectstore/file_store.h"
#include "common/objectstore/s3_store.h"

namespace drover {

absl::StatusOr<std::unique_ptr<ObjectStore>> OpenObjectStore(const StoreConfig& config,
                                                             ObjectStoreOptions options, const Clock& clock,
                                                             Random& random) {
  if (config.kind == StoreKind::kFile) return OpenFileStore(config, random);
  return OpenS3Store(config, std::move(options), clock, random);
}

}  // namespace drover
