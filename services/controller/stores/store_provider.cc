#include "services/controller/stores/store_provider.h"

#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr char kStoreShutOff[] = "STORE_SHUT_OFF";

}  // namespace

ObjectStoreOptions ControllerStoreOptions() {
  ObjectStoreOptions options;
  options.max_attempts = 4;
  options.max_retry_time = absl::Seconds(10);
  return options;
}

bool IsStoreShutOff(const absl::Status& status) {
  const std::optional<ErrorDetails> details = GetErrorDetails(status);
  return details && details->reason == kStoreShutOff;
}

StoreProvider::StoreProvider(Stores stores, StoreRequestFn on_request, const Clock& clock)
    : StoreProvider(
          std::move(stores),
          [this, on_request = std::move(on_request)](const StoreConfig& config) {
            ObjectStoreOptions options = ControllerStoreOptions();
            options.on_request = [this, on_request, name = config.name](std::string_view method, int status,
                                                                        absl::Duration took, bool retry) {
              Observe(name, status);
              if (on_request) on_request(name, method, status, took, retry);
            };
            return OpenObjectStore(config, std::move(options));
          },
          clock) {}

StoreProvider::StoreProvider(Stores stores, Opener open, const Clock& clock)
    : stores_(std::move(stores)), open_(std::move(open)), clock_(clock) {
  MutexLock lock(&breakers_mu_);
  for (const StoreConfig& store : stores_.list()) breakers_[store.name];
}

absl::StatusOr<ObjectStore*> StoreProvider::Get(std::string_view name) {
  const StoreConfig* config = stores_.Find(name);
  if (config == nullptr) {
    return Error(absl::StatusCode::kNotFound, "STORE_UNKNOWN",
                 StrCat("no store is named '", name, "' in this controller's stores.yaml"),
                 {{"store", std::string(name)}});
  }
  {
    MutexLock lock(&breakers_mu_);
    if (!breakers_.find(name)->second.Admit(clock_.Elapsed())) {
      return Error(absl::StatusCode::kUnavailable, kStoreShutOff,
                   StrCat("store ", name, ": it did not answer ", StoreBreaker::kFailures,
                          " times in a row, and is tried again in a while"),
                   {{"store", std::string(name)}});
    }
  }
  MutexLock lock(&mu_);
  if (closed_) return Error(absl::StatusCode::kUnavailable, "STORE_CLOSED", "the controller is stopping");
  const auto found = open_stores_.find(name);
  if (found != open_stores_.end()) return found->second.get();
  DROVER_ASSIGN_OR_RETURN(std::unique_ptr<ObjectStore> store, open_(*config));
  return open_stores_.emplace(std::string(name), std::move(store)).first->second.get();
}

absl::StatusOr<ObjectStore*> StoreProvider::GetPinned(std::string_view name, std::string_view fingerprint) {
  const StoreConfig* config = stores_.Find(name);
  if (config != nullptr && config->Fingerprint() != fingerprint) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "STORE_MISMATCH",
        StrCat("the store '", name, "' of this controller is another one than when the job was created"),
        {{"store", std::string(name)}});
  }
  return Get(name);
}

void StoreProvider::Observe(std::string_view store, int status) {
  MutexLock lock(&breakers_mu_);
  const auto found = breakers_.find(store);
  if (found != breakers_.end()) found->second.Observe(status, clock_.Elapsed());
}

void StoreProvider::Shutdown() {
  MutexLock lock(&mu_);
  closed_ = true;
  for (const auto& [name, store] : open_stores_) store->Shutdown();
}

}  // namespace drover
