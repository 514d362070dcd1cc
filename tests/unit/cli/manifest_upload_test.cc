// Uploads into a store of files; tests/integration/manifests_test.py has the S3 side.
#include "cli/manifest_upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "common/hash/sha256.h"

namespace drover::cli {
namespace {

using ::testing::HasSubstr;

class ManifestUploadTest : public ::testing::Test {
 protected:
  ManifestUploadTest() {
    char name[] = "/tmp/drover-upload-XXXXXX";
    root_ = mkdtemp(name);
    std::ofstream(root_ + "/stores.yaml")
        << "stores:\n"
        << "  - {name: local, kind: file, root: " << root_ << "/files}\n"
        << "  - {name: main, kind: s3, endpoint: 'http://127.0.0.1:1', credentials: {anonymous: true}}\n";
    std::filesystem::create_directories(root_ + "/files");
  }
  ~ManifestUploadTest() override { std::filesystem::remove_all(root_); }

  ManifestUpload Open(const std::string& target) {
    auto upload = ManifestUpload::Open(root_ + "/stores.yaml", target, "id/1");
    if (!upload.ok()) abort();
    return *std::move(upload);
  }
  std::string Wrong(const std::string& stores, const std::string& target) {
    return std::string(ManifestUpload::Open(stores, target, "id").status().message());
  }
  // `text` as a pipe gives it: a few bytes at a time.
  static ReadInput Input(std::string text, size_t piece = 777) {
    return [text = std::move(text), piece, at = size_t{0}](char* buffer, size_t size) mutable {
      const size_t n = std::min({size, piece, text.size() - at});
      std::memcpy(buffer, text.data() + at, n);
      at += n;
      return absl::StatusOr<size_t>(n);
    };
  }
  std::string Stored(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(root_ + "/files/" + path, std::ios::binary).rdbuf();
    return text.str();
  }
  bool AnyFile() {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_ + "/files"))
      if (entry.is_regular_file()) return true;
    return false;
  }

  std::string root_;
};

TEST_F(ManifestUploadTest, StoresTheInputAndNamesItInTheJob) {
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "photos,key-" + std::to_string(i) + "\n";
  ManifestUpload upload = Open("local/lists/a/b.csv");
  EXPECT_EQ(upload.place(), "local/lists/a/b.csv");
  v1::CsvManifest manifest;
  upload.Announce(manifest);
  ASSERT_TRUE(upload.Run(Input(text), false, manifest).ok());
  EXPECT_EQ(Stored("lists/a/b.csv"), text);
  EXPECT_EQ(manifest.location().store(), "local");
  EXPECT_EQ(manifest.location().bucket(), "lists");
  EXPECT_EQ(manifest.location().key(), "a/b.csv");
  EXPECT_EQ(manifest.sha256(), Sha256Hex(text));
  EXPECT_EQ(manifest.etag(), "");
  EXPECT_EQ(manifest.compression(), v1::CsvManifest::COMPRESSION_UNSPECIFIED);
  ASSERT_TRUE(upload.Remove().ok());
  EXPECT_FALSE(AnyFile());
}

TEST_F(ManifestUploadTest, AFolderGetsAKeyOfTheRequestId) {
  EXPECT_EQ(Open("local/lists/new/").place(), "local/lists/new/drover-id/1.csv");
}

TEST_F(ManifestUploadTest, AnEmptyInputIsAnEmptyManifest) {
  v1::CsvManifest manifest;
  ASSERT_TRUE(Open("local/lists/a.csv").Run(Input(""), false, manifest).ok());
  EXPECT_TRUE(AnyFile());
  EXPECT_EQ(manifest.sha256(), Sha256Hex(""));
}

TEST_F(ManifestUploadTest, SeesWhetherTheInputIsCompressedUnlessItWasSaid) {
  v1::CsvManifest manifest;
  ASSERT_TRUE(Open("local/lists/1").Run(Input("\x1f\x8b rest", 1), false, manifest).ok());
  EXPECT_EQ(manifest.compression(), v1::CsvManifest::GZIP);
  ASSERT_TRUE(Open("local/lists/2").Run(Input("\x28\xb5\x2f\xfd rest", 1), false, manifest).ok());
  EXPECT_EQ(manifest.compression(), v1::CsvManifest::ZSTD);
  ASSERT_TRUE(Open("local/lists/3").Run(Input("photos,a\n"), true, manifest).ok());
  EXPECT_EQ(manifest.compression(), v1::CsvManifest::ZSTD);
}

TEST_F(ManifestUploadTest, ReplacesNothing) {
  v1::CsvManifest manifest;
  ASSERT_TRUE(Open("local/lists/a.csv").Run(Input("photos,a\n"), false, manifest).ok());
  const absl::Status status = Open("local/lists/a.csv").Run(Input("photos,b\n"), false, manifest);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("local/lists/a.csv exists already"));
  EXPECT_EQ(Stored("lists/a.csv"), "photos,a\n");
}

TEST_F(ManifestUploadTest, AnInputThatBreaksLeavesNothingBehind) {
  int reads = 0;
  const ReadInput broken = [&](char* buffer, size_t size) -> absl::StatusOr<size_t> {
    if (++reads > 20) return absl::CancelledError("interrupted");
    std::memset(buffer, 'x', size);
    return size;
  };
  v1::CsvManifest manifest;
  EXPECT_EQ(Open("local/lists/a.csv").Run(broken, false, manifest).code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(AnyFile());
}

TEST_F(ManifestUploadTest, ARehearsalHasAnETagWhereOneWillBe) {
  v1::CsvManifest manifest;
  Open("main/lists/a.csv").Announce(manifest);
  EXPECT_NE(manifest.etag(), "");
  Open("local/lists/a.csv").Announce(manifest);
  EXPECT_EQ(manifest.etag(), "");
}

TEST_F(ManifestUploadTest, WhatIsWrongIsSaidInTermsOfTheFlags) {
  const std::string stores = root_ + "/stores.yaml";
  EXPECT_THAT(Wrong("", "local/lists/a"), HasSubstr("needs --stores FILE"));
  EXPECT_THAT(Wrong(root_ + "/none.yaml", "local/lists/a"), HasSubstr("none.yaml"));
  EXPECT_THAT(Wrong(stores, "other/lists/a"), HasSubstr("has no store \"other\""));
  for (const char* target : {"", "local", "local/lists", "s3://lists/a", "/lists/a"})
    EXPECT_THAT(Wrong(stores, target), HasSubstr("--upload is STORE/BUCKET/KEY")) << target;
}

TEST(IsRefusal, OnlyWhatIsCertain) {
  EXPECT_TRUE(IsRefusal(absl::InvalidArgumentError("")));
  EXPECT_TRUE(IsRefusal(absl::AlreadyExistsError("")));
  for (const absl::Status& status :
       {absl::UnavailableError(""), absl::DeadlineExceededError(""), absl::UnknownError(""),
        absl::InternalError(""), absl::CancelledError("")})
    EXPECT_FALSE(IsRefusal(status)) << status;
}

}  // namespace
}  // namespace drover::cli
