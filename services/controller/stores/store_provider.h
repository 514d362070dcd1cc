// The object stores of this controller by name, each opened once, when it is first asked for.
//
// A store that does not answer is shut off for a while (StoreBreaker): a few threads do all duties, and one
// dead store must not hold them all.
//
//   StoreProvider stores(*Stores::Load(path));
//   DROVER_ASSIGN_OR_RETURN(ObjectStore * store, stores.GetPinned("archive", job.spec.stores.at("archive")));
#ifndef DROVER_SERVICES_CONTROLLER_STORES_STORE_PROVIDER_H_
#define DROVER_SERVICES_CONTROLLER_STORES_STORE_PROVIDER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/objectstore/object_store.h"
#include "common/objectstore/stores.h"
#include "common/sync/mutex.h"
#include "services/controller/stores/store_breaker.h"

namespace drover {

// How a controller tries again by itself: briefly, because a duty that fails is put off and leaves its thread
// to others.
ObjectStoreOptions ControllerStoreOptions();

// Told of each request to an S3 store: its name, and as ObjectStoreOptions::on_request. Must not block.
using StoreRequestFn = std::function<void(std::string_view store, std::string_view method, int status,
                                          absl::Duration took, bool retry)>;

// Whether this is Get()'s error for a store that was not even asked: it says less than the error that came
// before.
bool IsStoreShutOff(const absl::Status& status);

// Thread-safe.
class StoreProvider {
 public:
  using Opener = std::function<absl::StatusOr<std::unique_ptr<ObjectStore>>(const StoreConfig&)>;

  // Opens with OpenObjectStore and ControllerStoreOptions(). `on_request` may be empty.
  explicit StoreProvider(Stores stores, StoreRequestFn on_request = nullptr,
                         const Clock& clock = SystemClock());
  // Opens with `open`.
  StoreProvider(Stores stores, Opener open, const Clock& clock = SystemClock());

  // Valid as long as this object. NOT_FOUND (STORE_UNKNOWN) if stores.yaml has none of that name; an error of
  // opening is tried again at the next call. UNAVAILABLE (STORE_SHUT_OFF) for a while if it does not answer;
  // (STORE_CLOSED) after Shutdown().
  absl::StatusOr<ObjectStore*> Get(std::string_view name);
  // The same, if it is still the store that a job pinned: FAILED_PRECONDITION (STORE_MISMATCH) if its
  // fingerprint is another one.
  absl::StatusOr<ObjectStore*> GetPinned(std::string_view name, std::string_view fingerprint);

  // A request to a store ended: what its observer is told.
  void Observe(std::string_view store, int status);

  // Ends calls of all stores, those in progress too (STORE_CLOSED).
  void Shutdown();

  const Stores& stores() const { return stores_; }

 private:
  const Stores stores_;
  const Opener open_;
  const Clock& clock_;
  Mutex breakers_mu_;
  std::map<std::string, StoreBreaker, std::less<>> breakers_ ABSL_GUARDED_BY(breakers_mu_);
  Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, std::unique_ptr<ObjectStore>, std::less<>> open_stores_ ABSL_GUARDED_BY(mu_);
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORES_STORE_PROVIDER_H_
