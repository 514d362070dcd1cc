// The ObjectStore of kind `s3`. Use OpenObjectStore().
#ifndef DROVER_COMMON_OBJECTSTORE_S3_STORE_H_
#define DROVER_COMMON_OBJECTSTORE_S3_STORE_H_

#include <memory>

#include "common/objectstore/object_store.h"

namespace drover {

// Starts a thread for the store's connections. INVALID_ARGUMENT if its authorities (ca_file) can't be loaded.
absl::StatusOr<std::unique_ptr<ObjectStore>> OpenS3Store(const StoreConfig& config,
                                                         ObjectStoreOptions options, const Clock& clock,
                                                         Random& random);

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_S3_STORE_H_
