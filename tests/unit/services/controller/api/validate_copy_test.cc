#include "services/controller/api/validate_copy.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::CopyObject Parse(const std::string& text) {
  v1::CopyObject copy;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &copy)) << text;
  return copy;
}

// The paths beneath "p" that are wrong.
std::vector<std::string> Wrong(v1::CopyObject copy, const CopySurroundings& around = {}) {
  FieldErrors errors;
  CheckCopyObject(copy, around, "p", errors);
  return errors.empty() ? std::vector<std::string>() : FieldPaths(errors.ToStatus());
}
// Of a copy into another bucket.
std::vector<std::string> Wrong(const std::string& text) {
  return Wrong(Parse("target_bucket: \"copies\" " + text));
}

TEST(ValidateCopy, TakesEverythingThatFits) {
  EXPECT_THAT(Wrong(R"(target_key_prefix: "p/" metadata_directive: REPLACE
      new_metadata { content_type: "a/b; c=\"d\"" cache_control: "no-cache" content_disposition: "x" content_encoding: "gzip"
                     content_language: "de" expires { seconds: 1 } user_metadata { key: "a-b_c.9" value: "" } }
      tagging_directive: REPLACE new_tags { key: "a" } storage_class: "STANDARD_IA"
      acl_grants { grantee: "id=\"x\"" permission: "READ" } acl_grants { grantee: "uri=\"x\"" permission: "WRITE_ACP" }
      encryption { algorithm: "aws:kms" kms_key_id: "k" bucket_key: true }
      modified_since { seconds: 1 } unmodified_since { seconds: 2 } requester_pays: true checksum_algorithm: "CRC64NVME")"),
              IsEmpty());
  EXPECT_THAT(Wrong("canned_acl: \"bucket-owner-full-control\" encryption { algorithm: \"AES256\" }"),
              IsEmpty());
}

TEST(ValidateCopy, RefusesACopyOntoItselfThatChangesNothing) {
  for (const std::string text :
       {"", "tagging_directive: REPLACE", "canned_acl: \"private\"", "requester_pays: true"}) {
    EXPECT_THAT(Wrong(Parse(text)), ElementsAre("p")) << text;
    EXPECT_THAT(Wrong(Parse(text), {.across_stores = true, .same_objects = false}), IsEmpty()) << text;
    EXPECT_THAT(Wrong(Parse(text), {.across_stores = true, .same_objects = true}), ElementsAre("p")) << text;
    EXPECT_THAT(Wrong(Parse(text), {.versions = true}), IsEmpty()) << text;
  }
  for (const std::string text : {"metadata_directive: REPLACE", "storage_class: \"COLD\"",
                                 "encryption { algorithm: \"AES256\" }", "target_key_prefix: \"a\""}) {
    EXPECT_THAT(Wrong(Parse(text)), IsEmpty()) << text;
  }
}

TEST(ValidateCopy, RefusesWhatWouldBeIgnored) {
  EXPECT_THAT(Wrong("new_metadata { content_type: \"a/b\" } new_tags { key: \"a\" }"),
              ElementsAre("p.new_metadata", "p.new_tags"));
  EXPECT_THAT(
      Wrong("metadata_directive: COPY new_metadata {} tagging_directive: COPY new_tags { key: \"a\" }"),
      ElementsAre("p.new_metadata", "p.new_tags"));
  EXPECT_THAT(Wrong("encryption { algorithm: \"AES256\" kms_key_id: \"k\" bucket_key: true }"),
              ElementsAre("p.encryption.kms_key_id", "p.encryption.bucket_key"));
  EXPECT_THAT(Wrong(Parse("checksum_algorithm: \"SHA1\""), {.across_stores = true, .same_objects = false}),
              ElementsAre("p.checksum_algorithm"));
}

TEST(ValidateCopy, Metadata) {
  const auto wrong = [](const std::string& text) {
    return Wrong("metadata_directive: REPLACE new_metadata { " + text + " }");
  };
  EXPECT_THAT(wrong("content_type: \"a\\r\\nx: y\""), ElementsAre("p.new_metadata.content_type"));
  EXPECT_THAT(wrong("content_language: \" de\""), ElementsAre("p.new_metadata.content_language"));
  EXPECT_THAT(wrong("content_disposition: \"ü\""), ElementsAre("p.new_metadata.content_disposition"));
  EXPECT_THAT(wrong("content_encoding: \"gzip,aws-chunked\""),
              ElementsAre("p.new_metadata.content_encoding"));
  EXPECT_THAT(wrong("expires { seconds: 1 nanos: 5 }"), ElementsAre("p.new_metadata.expires"));
  EXPECT_THAT(wrong("expires { seconds: 999999999999 }"), ElementsAre("p.new_metadata.expires"));
  EXPECT_THAT(wrong(StrCat("content_type: \"", std::string(1025, 'x'), "\" cache_control: \"",
                           std::string(1024, 'y'), "\"")),
              ElementsAre("p.new_metadata"));
  for (const char* key : {"", "Upper", "a b", "a:b", "x-amz-meta-a", "ä", "a\\n"}) {
    EXPECT_THAT(wrong(StrCat("user_metadata { key: \"", key, "\" value: \"v\" }")), ::testing::SizeIs(1))
        << key;
  }
  EXPECT_THAT(wrong("user_metadata { key: \"a\" value: \"b\\n\" }"),
              ElementsAre("p.new_metadata.user_metadata[\"a\"]"));
  EXPECT_THAT(wrong(StrCat("user_metadata { key: \"a\" value: \"", std::string(2047, 'x'), "\" }")),
              IsEmpty());
  EXPECT_THAT(wrong(StrCat("user_metadata { key: \"a\" value: \"", std::string(2048, 'x'), "\" }")),
              ElementsAre("p.new_metadata.user_metadata"));
}

TEST(ValidateCopy, Acl) {
  EXPECT_THAT(Wrong("canned_acl: \"secret\""), ElementsAre("p.canned_acl"));
  EXPECT_THAT(Wrong("canned_acl: \"private\" acl_grants { grantee: \"id=\\\"x\\\"\" permission: \"READ\" }"),
              ElementsAre("p.acl_grants"));
  for (const char* grantee : {"", "x", "id=x", "id=\\\"\\\"", "id=\\\"x\\\", id=\\\"y\\\"", "id=\\\"x",
                              "id=\\\"x\\ny\\\"", "name=\\\"x\\\""}) {
    EXPECT_THAT(Wrong(StrCat("acl_grants { grantee: \"", grantee, "\" permission: \"READ\" }")),
                ElementsAre("p.acl_grants[0].grantee"))
        << grantee;
  }
  for (const char* permission : {"", "read", "WRITE", "ALL"}) {
    EXPECT_THAT(Wrong(StrCat("acl_grants { grantee: \"id=\\\"x\\\"\" permission: \"", permission, "\" }")),
                ElementsAre("p.acl_grants[0].permission"))
        << permission;
  }
  v1::CopyObject copy = Parse("target_bucket: \"copies\"");
  for (int i = 0; i < kMaxAclGrants + 1; ++i) copy.add_acl_grants();
  EXPECT_THAT(Wrong(copy), ElementsAre("p.acl_grants"));
}

TEST(ValidateCopy, TheRest) {
  EXPECT_THAT(Wrong("storage_class: \"cold\""), ElementsAre("p.storage_class"));
  EXPECT_THAT(Wrong(StrCat("storage_class: \"", std::string(65, 'A'), "\"")), ElementsAre("p.storage_class"));
  EXPECT_THAT(Wrong("encryption {}"), ElementsAre("p.encryption.algorithm"));
  EXPECT_THAT(Wrong("encryption { algorithm: \"aws:kms\" kms_key_id: \"a\\nb\" }"),
              ElementsAre("p.encryption.kms_key_id"));
  EXPECT_THAT(Wrong("modified_since { nanos: 1 } unmodified_since { seconds: -99999999999 }"),
              ElementsAre("p.modified_since", "p.unmodified_since"));
  EXPECT_THAT(Wrong("checksum_algorithm: \"MD5\""), ElementsAre("p.checksum_algorithm"));
}

TEST(ValidateCopy, WorkersOfTheFirstRevisionGetOnlyWhatTheyCarryOut) {
  EXPECT_EQ(CopyRevision(Parse("")), 1);
  EXPECT_EQ(CopyRevision(Parse("target_bucket: \"b\" target_key_prefix: \"p\" metadata_directive: COPY "
                               "tagging_directive: COPY")),
            1);
  for (const std::string text :
       {"metadata_directive: REPLACE", "tagging_directive: REPLACE", "target_store: \"t\"",
        "storage_class: \"A\"", "requester_pays: true", "modified_since {}"}) {
    EXPECT_EQ(CopyRevision(Parse(text)), 2) << text;
  }
}

}  // namespace
}  // namespace drover
