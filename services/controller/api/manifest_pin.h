// What a `file` manifest is when its job is created, so that preparation can tell whether it changed since.
#ifndef DROVER_SERVICES_CONTROLLER_API_MANIFEST_PIN_H_
#define DROVER_SERVICES_CONTROLLER_API_MANIFEST_PIN_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/objectstore/object_store.h"
#include "common/objectstore/stores.h"
#include "drover/v1/manifest.pb.h"
#include "services/controller/api/call_pool.h"

namespace drover {

// A look at a file takes at most this long (a hung network file system); then the call is UNAVAILABLE.
inline constexpr absl::Duration kManifestLookTimeout = absl::Seconds(2);

// Reads one object's size and times: ObjectStore::Head of the store.
using HeadFn = std::function<absl::StatusOr<ObjectInfo>(const StoreConfig&, const ObjectRef&)>;

// Thread-safe.
class ManifestPins {
 public:
  // `stores` outlives this object, which has two threads of its own for the looks.
  ManifestPins(const Stores& stores, HeadFn head, absl::Duration timeout = kManifestLookTimeout);
  // Waits for looks that are under way.
  ~ManifestPins() = default;

  // The pin of a validated manifest: for a `file` store ObjectInfo::etag (size and modification time) of the
  // file, to be given to ObjectStore::Open as the expected ETag; empty for other stores, and when there is no
  // such file: the job then fails while it prepares and says so, as with a missing object. UNAVAILABLE
  // (STORE_UNAVAILABLE) when the file system does not answer in time.
  absl::StatusOr<std::string> Pin(const v1::Manifest& manifest);

 private:
  const Stores& stores_;
  const HeadFn head_;
  const absl::Duration timeout_;
  CallPool pool_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_MANIFEST_PIN_H_
