#include "services/controller/api/manifest_pin.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>

#include "common/strings/strings.h"
#include "tests/unit/services/controller/api/signal.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

v1::Manifest ManifestIn(const std::string& store) {
  v1::Manifest manifest;
  auto* location = manifest.mutable_csv()->mutable_location();
  location->set_store(store);
  location->set_bucket("manifests");
  location->set_key("list.csv");
  return manifest;
}

TEST(ManifestPins, AFileIsPinnedByItsSizeAndModificationTime) {
  const Stores stores = TestStores();
  ManifestPins pins(stores, [](const StoreConfig& store, const ObjectRef& ref) -> absl::StatusOr<ObjectInfo> {
    EXPECT_EQ(store.name, "local");
    EXPECT_EQ(ref.bucket, "manifests");
    EXPECT_EQ(ref.key, "list.csv");
    return ObjectInfo{100, "100-17", "", {}};
  });
  EXPECT_EQ(*pins.Pin(ManifestIn("local")), "100-17");
}

TEST(ManifestPins, AnObjectInS3IsNotLookedAt) {
  const Stores stores = TestStores();
  std::atomic<int> looks = 0;
  ManifestPins pins(stores, [&](const StoreConfig&, const ObjectRef&) -> absl::StatusOr<ObjectInfo> {
    ++looks;
    return ObjectInfo{};
  });
  EXPECT_EQ(*pins.Pin(ManifestIn("main")), "");
  EXPECT_EQ(looks, 0);
}

TEST(ManifestPins, AMissingFileIsNoErrorYet) {
  const Stores stores = TestStores();
  ManifestPins pins(stores, [](const StoreConfig&, const ObjectRef&) -> absl::StatusOr<ObjectInfo> {
    return Error(absl::StatusCode::kNotFound, "OBJECT_NOT_FOUND", "no such file");
  });
  const absl::StatusOr<std::string> pin = pins.Pin(ManifestIn("local"));
  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_EQ(*pin, "");
}

TEST(ManifestPins, AFileSystemThatHangsDoesNotHangTheCall) {
  const Stores stores = TestStores();
  const auto go_on = std::make_shared<Signal>();
  ManifestPins pins(
      stores,
      [go_on](const StoreConfig&, const ObjectRef&) -> absl::StatusOr<ObjectInfo> {
        EXPECT_TRUE(go_on->Wait());
        return ObjectInfo{};
      },
      absl::Milliseconds(20));
  const absl::Status status = pins.Pin(ManifestIn("local")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(status), "STORE_UNAVAILABLE");
  go_on->Set();
}

TEST(ManifestPins, ThePinOfARealFileChangesWhenItIsWritten) {
  const std::filesystem::path root =
      std::filesystem::path(::testing::TempDir()) / StrCat("drover-pin-", getpid());
  std::filesystem::create_directories(root / "manifests");
  std::ofstream(root / "manifests" / "list.csv") << "b,k\n";
  const Stores stores = *Stores::Parse(
      StrCat("stores:\n  - {name: local, kind: file, root: ", root.string(), "}\n"), "stores.yaml");
  const std::unique_ptr<ObjectStore> store = *OpenObjectStore(*stores.Find("local"));
  ManifestPins pins(stores, [&](const StoreConfig&, const ObjectRef& ref) { return store->Head(ref); });
  const std::string before = *pins.Pin(ManifestIn("local"));
  EXPECT_NE(before, "");
  EXPECT_EQ(*pins.Pin(ManifestIn("local")), before);
  std::ofstream(root / "manifests" / "list.csv") << "b,k\nb,l\n";
  EXPECT_NE(*pins.Pin(ManifestIn("local")), before);
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace drover
