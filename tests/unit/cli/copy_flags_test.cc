#include "cli/copy_flags.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

namespace drover::cli {
namespace {

v1::CopyObject Parse(const std::string& text) {
  v1::CopyObject copy;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &copy));
  return copy;
}

TEST(CopyFlags, SayWhatTheCopiesAreToBe) {
  CopyFlags flags;
  EXPECT_EQ(flags.First(), "");
  flags.metadata = {
      "content-type=a/b; c=d", "Expires=2030-01-02T03:04:05Z", "Cache-Control=x", "content-DISPOSITION=y",
      "Content-Encoding=z",    "Content-Language=de",          "mine=1=2"};
  flags.tags = {"a=1", "b="};
  flags.storage_class = "COLD";
  flags.acl = "private";
  flags.kms_key = "key";
  flags.modified_since = "1970-01-01T00:00:01Z";
  flags.unmodified_since = "1970-01-01T01:00:02+01:00";
  flags.requester_pays = true;
  v1::CopyObject copy =
      Parse("target_bucket: \"kept\" new_tags { key: \"old\" } new_metadata { content_type: \"old\" }");
  ASSERT_TRUE(SetCopy(flags, copy).ok());
  EXPECT_EQ(copy.DebugString(), Parse(R"(target_bucket: "kept" metadata_directive: REPLACE
      new_metadata { content_type: "a/b; c=d" cache_control: "x" content_disposition: "y" content_encoding: "z"
                     content_language: "de" expires { seconds: 1893553445 } user_metadata { key: "mine" value: "1=2" } }
      tagging_directive: REPLACE new_tags { key: "a" value: "1" } new_tags { key: "b" }
      storage_class: "COLD" canned_acl: "private" encryption { algorithm: "aws:kms" kms_key_id: "key" }
      modified_since { seconds: 1 } unmodified_since { seconds: 2 } requester_pays: true)")
                                    .DebugString());
  EXPECT_EQ(flags.First(), "--new-metadata");
}

TEST(CopyFlags, TakeEverythingAway) {
  CopyFlags flags;
  flags.no_metadata = true;
  flags.no_tags = true;
  v1::CopyObject copy = Parse("new_tags { key: \"old\" }");
  ASSERT_TRUE(SetCopy(flags, copy).ok());
  EXPECT_EQ(copy.metadata_directive(), v1::CopyObject::REPLACE);
  EXPECT_EQ(copy.tagging_directive(), v1::CopyObject::REPLACE);
  EXPECT_EQ(copy.new_tags_size(), 0);
  EXPECT_EQ(flags.First(), "--no-metadata");
}

TEST(CopyFlags, RefuseWhatMakesNoSense) {
  const auto refused = [](auto edit) {
    CopyFlags flags;
    edit(flags);
    v1::CopyObject copy;
    return std::string(SetCopy(flags, copy).message());
  };
  EXPECT_THAT(refused([](CopyFlags& f) { f.metadata = {"name"}; }), testing::HasSubstr("NAME=VALUE"));
  EXPECT_THAT(refused([](CopyFlags& f) { f.metadata = {"Expires=soon"}; }), testing::HasSubstr("\"soon\""));
  EXPECT_THAT(refused([](CopyFlags& f) { f.tags = {"=v"}; }), testing::HasSubstr("KEY=VALUE"));
  EXPECT_THAT(refused([](CopyFlags& f) {
                f.tags = {"a=b"};
                f.no_tags = true;
              }),
              testing::HasSubstr("--no-tags"));
  EXPECT_THAT(refused([](CopyFlags& f) {
                f.metadata = {"a=b"};
                f.no_metadata = true;
              }),
              testing::HasSubstr("--no-metadata"));
  EXPECT_THAT(refused([](CopyFlags& f) { f.modified_since = "yesterday"; }),
              testing::HasSubstr("--modified-since"));
  EXPECT_THAT(refused([](CopyFlags& f) { f.unmodified_since = "2026"; }),
              testing::HasSubstr("--unmodified-since"));
}

}  // namespace
}  // namespace drover::cli
