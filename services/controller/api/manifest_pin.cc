#include "services/controller/api/manifest_pin.h"

#include <memory>
#include <optional>
#include <utility>

#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "common/sync/mutex.h"

namespace drover {
namespace {

// The result of a look, waited for no longer than the timeout; the look itself may end later.
struct Look {
  Mutex mu;
  CondVar done;
  std::optional<absl::StatusOr<ObjectInfo>> result ABSL_GUARDED_BY(mu);
};

absl::Status NotInTime(std::string_view store) {
  return Error(
      absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE",
      StrCat("store \"", store, "\" did not answer in time when the manifest was looked at; try again"),
      {{"store", std::string(store)}});
}

}  // namespace

ManifestPins::ManifestPins(const Stores& stores, HeadFn head, absl::Duration timeout)
    : stores_(stores),
      head_(std::move(head)),
      timeout_(timeout),
      pool_("manifest-pins", {.threads = 2, .max_queued = 64}) {}

absl::StatusOr<std::string> ManifestPins::Pin(const v1::Manifest& manifest) {
  const v1::ObjectLocation& location = manifest.csv().location();
  const StoreConfig* store = stores_.Find(location.store());
  if (store == nullptr || store->kind != StoreKind::kFile) return std::string();

  const auto look = std::make_shared<Look>();
  const absl::Status submitted =
      pool_.Submit([look, head = head_, store, ref = ObjectRef{location.bucket(), location.key(), ""}] {
        absl::StatusOr<ObjectInfo> info = head(*store, ref);
        MutexLock lock(&look->mu);
        look->result = std::move(info);
        look->done.NotifyAll();
      });
  if (!submitted.ok()) return NotInTime(store->name);

  MutexLock lock(&look->mu);
  bool timed_out = false;
  while (!look->result.has_value() && !timed_out) timed_out = look->done.WaitWithTimeout(&look->mu, timeout_);
  if (!look->result.has_value()) return NotInTime(store->name);
  const absl::StatusOr<ObjectInfo>& info = *look->result;
  if (info.ok()) return info->etag;
  // Not there, or not readable: preparation meets the same and fails the job with it.
  LogInfo("api.manifest_not_pinned", {{"store", store->name}, {"error", info.status()}});
  return std::string();
}

}  // namespace drover
