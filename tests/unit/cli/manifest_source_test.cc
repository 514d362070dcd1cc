#include "cli/manifest_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "cli/create_request.h"

namespace drover::cli {
namespace {

using ::testing::HasSubstr;

// "store|bucket|key|version", or what is wrong.
std::string Place(const std::string& text) {
  const auto location = ParseManifestPlace(text);
  if (!location.ok()) return std::string(location.status().message());
  return location->store() + "|" + location->bucket() + "|" + location->key() + "|" + location->version_id();
}

TEST(ParseManifestPlace, ReadsEverySpelling) {
  EXPECT_EQ(Place("main/lists/a/b.csv"), "main|lists|a/b.csv|");
  EXPECT_EQ(Place("s3://lists/a%20/b.csv"), "|lists|a%20/b.csv|");
  EXPECT_EQ(Place("arn:aws:s3:::lists/a/b.csv"), "|lists|a/b.csv|");
}

TEST(ParseManifestPlace, ReadsAwsAddressesInVirtualHostAndPathStyle) {
  EXPECT_EQ(Place("https://lists.s3.eu-central-1.amazonaws.com/a%20b/c.csv"), "|lists|a b/c.csv|");
  EXPECT_EQ(Place("https://lists.s3.amazonaws.com/c.csv"), "|lists|c.csv|");
  EXPECT_EQ(Place("https://lists.s3-eu-west-1.amazonaws.com/c.csv"), "|lists|c.csv|");
  EXPECT_EQ(Place("https://my.s3.lists.s3.dualstack.eu-west-1.amazonaws.com/c.csv"), "|my.s3.lists|c.csv|");
  EXPECT_EQ(Place("https://lists.s3.cn-north-1.amazonaws.com.cn/c.csv"), "|lists|c.csv|");
  EXPECT_EQ(Place("https://s3.eu-central-1.amazonaws.com/lists/a/c.csv"), "|lists|a/c.csv|");
  EXPECT_EQ(Place("https://lists.s3.eu-central-1.amazonaws.com/c.csv?versionId=a%2Fb"), "|lists|c.csv|a/b");
}

TEST(ParseManifestPlace, RefusesWhatIsNoPlace) {
  for (const char* text :
       {"", "main", "main/lists", "main/lists/", "/lists/a", "main//a", "s3://lists", "s3:///a",
        "arn:aws:s3:::lists", "https://lists.example.com/a", "https://s3.amazonaws.com/lists",
        "https://lists.s3.amazonaws.com/", "https://lists.s3.amazonaws.com",
        "https://lists.s3.amazonaws.com/a%zz", "https://lists.s3.amazonaws.com/a?x=1",
        "https://.s3.amazonaws.com/a", "https://lists.s3.amazonaws.com/a?versionId=1&x=2"}) {
    EXPECT_THAT(Place(text), HasSubstr("--manifest is STORE/BUCKET/KEY, not")) << text;
  }
}

class InlineTest : public ::testing::Test {
 protected:
  // "bucket|key" of each object, or what is wrong.
  std::string Objects() {
    v1::InlineManifest manifest;
    const absl::Status status = SetInlineObjects(flags_, manifest);
    if (!status.ok()) return std::string(status.message());
    std::string text;
    for (const v1::InlineObject& object : manifest.objects())
      text += object.bucket() + "|" + object.key() + "\n";
    return text;
  }
  ManifestSourceFlags flags_;
};

TEST_F(InlineTest, TakesKeysAsTheyAre) {
  flags_.keys = {"photos/a b%20,\"c", "other/x/y"};
  EXPECT_EQ(Objects(), "photos|a b%20,\"c\nother|x/y\n");
  flags_.keys_bucket = "photos";
  EXPECT_EQ(Objects(), "photos|photos/a b%20,\"c\nphotos|other/x/y\n");
}

TEST_F(InlineTest, TakesALineForEachKeyOfAFile) {
  flags_.keys = {"photos/first"};
  flags_.keys_from = "keys.txt";
  flags_.keys_text = "photos/a\r\n\nphotos/b \nphotos/c";
  EXPECT_EQ(Objects(), "photos|first\nphotos|a\nphotos|b \nphotos|c\n");
}

TEST_F(InlineTest, NamesTheLineThatIsNoKey) {
  flags_.keys_from = "keys.txt";
  flags_.keys_text = "photos/a\n\nphotos\n";
  EXPECT_THAT(Objects(), HasSubstr("keys.txt:3: a line is BUCKET/KEY"));
}

TEST(ReadKeysFile, ReadsAFileUpToItsLimit) {
  char name[] = "/tmp/drover-keys-XXXXXX";
  const std::string root = mkdtemp(name);
  const std::string path = root + "/keys";
  std::ofstream(path) << "photos/a\n";
  EXPECT_EQ(*ReadKeysFile(path), "photos/a\n");
  std::ofstream(path) << std::string(kMaxKeysFileBytes + 1, 'k');
  EXPECT_THAT(std::string(ReadKeysFile(path).status().message()), HasSubstr("too long"));
  EXPECT_THAT(std::string(ReadKeysFile(root + "/none").status().message()), HasSubstr("cannot read"));
  std::filesystem::remove_all(root);
}

class CreateManifestTest : public ::testing::Test {
 protected:
  CreateManifestTest() { flags_.operation = "noop"; }
  v1::Manifest Build() {
    const auto request = BuildCreateRequest(flags_);
    EXPECT_TRUE(request.ok()) << request.status();
    return request.ok() ? request->job().manifest() : v1::Manifest();
  }
  std::string Wrong() { return std::string(BuildCreateRequest(flags_).status().message()); }
  CreateFlags flags_;
};

TEST_F(CreateManifestTest, KeysMakeAnInlineManifest) {
  flags_.source.keys = {"photos/a"};
  EXPECT_EQ(Build().inline_().objects(0).key(), "a");
  flags_.manifest = "main/lists/a.csv";
  EXPECT_THAT(Wrong(), HasSubstr("--key and --keys-from go with no flag of a CSV manifest"));
}

TEST_F(CreateManifestTest, AnAddressNeedsItsStore) {
  flags_.manifest = "s3://lists/a.csv";
  EXPECT_THAT(Wrong(), HasSubstr("needs --manifest-store"));
  flags_.manifest_store = "main";
  EXPECT_EQ(Build().csv().location().store(), "main");
  flags_.manifest = "main/lists/a.csv";
  EXPECT_THAT(Wrong(), HasSubstr("give either --manifest, or"));
}

TEST_F(CreateManifestTest, CompressionIsSaid) {
  flags_.manifest = "main/lists/a.csv.gz";
  flags_.source.compression = "gzip";
  EXPECT_EQ(Build().csv().compression(), v1::CsvManifest::GZIP);
  flags_.source.compression = "zip";
  EXPECT_THAT(Wrong(), HasSubstr("--compression is none, gzip or zstd"));
}

TEST_F(CreateManifestTest, StandardInputNeedsAPlace) {
  flags_.manifest = "-";
  EXPECT_TRUE(UploadsManifest(flags_));
  EXPECT_THAT(Wrong(), HasSubstr("needs --upload"));
  flags_.source.upload = "main/lists/";
  EXPECT_TRUE(Build().has_csv());
  flags_.manifest_etag = "x";
  EXPECT_THAT(Wrong(), HasSubstr("goes with no other --manifest-"));
  flags_.manifest_etag.reset();
  flags_.manifest = "main/lists/a.csv";
  EXPECT_THAT(Wrong(), HasSubstr("--upload goes with --manifest -"));
}

}  // namespace
}  // namespace drover::cli
