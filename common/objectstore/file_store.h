// The ObjectStore of kind `file`. Use OpenObjectStore().
#ifndef DROVER_COMMON_OBJECTSTORE_FILE_STORE_H_
#define DROVER_COMMON_OBJECTSTORE_FILE_STORE_H_

#include <memory>

#include "common/objectstore/object_store.h"

namespace drover {

// Never fails: the root is looked up at each call, so that it may be mounted later.
std::unique_ptr<ObjectStore> OpenFileStore(const StoreConfig& config, Random& random);

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_FILE_STORE_H_
