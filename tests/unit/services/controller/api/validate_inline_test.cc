// Inline manifests: the rules of a CSV manifest's rows, with the path of each object that breaks one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/strings/strings.h"
#include "services/controller/api/validate.h"
#include "services/controller/manifest/inline/inline_manifest.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ValidateInlineTest : public ::testing::Test {
 protected:
  ValidateInlineTest() {
    request_ = GoodRequest();
    request_.mutable_job()->clear_manifest();
  }
  v1::InlineManifest& manifest() { return *request_.mutable_job()->mutable_manifest()->mutable_inline_(); }
  v1::InlineObject& Add(const std::string& bucket, const std::string& key, const std::string& version = "") {
    v1::InlineObject& object = *manifest().add_objects();
    object.set_bucket(bucket);
    object.set_key(key);
    object.set_version_id(version);
    return object;
  }
  absl::StatusOr<ValidJob> Validate() { return ValidateCreateJob(request_, stores_); }
  std::vector<std::string> Wrong() { return FieldPaths(Validate().status()); }

  const Stores stores_ = TestStores();
  v1::CreateJobRequest request_;
};

TEST_F(ValidateInlineTest, TheObjectsGoToThePreparationAndTheJobKeepsTheirNumber) {
  Add("photos", "a b%zz,\"\n");
  Add("photos", std::string(1024, 'k'));
  const absl::StatusOr<ValidJob> valid = Validate();
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_THAT(valid->job.manifest().inline_().objects(), IsEmpty());
  EXPECT_EQ(valid->job.manifest().inline_().object_count(), 2);
  v1::InlineManifest taken;
  ASSERT_TRUE(taken.ParseFromString(valid->prepare_progress));
  ASSERT_THAT(taken.objects(), SizeIs(2));
  EXPECT_EQ(taken.objects(0).key(), "a b%zz,\"\n");
}

TEST_F(ValidateInlineTest, TheFingerprintTellsOtherObjectsApart) {
  Add("photos", "a");
  const std::string one = Validate()->fingerprint;
  EXPECT_EQ(Validate()->fingerprint, one);
  manifest().mutable_objects(0)->set_key("b");
  EXPECT_NE(Validate()->fingerprint, one);
}

TEST_F(ValidateInlineTest, ObjectsAreRequired) {
  manifest();
  EXPECT_THAT(Wrong(), ElementsAre("job.manifest.inline.objects"));
}

TEST_F(ValidateInlineTest, TheNumberIsTheServicesToSay) {
  Add("photos", "a");
  manifest().set_object_count(1);
  EXPECT_EQ(ReasonOf(Validate().status()), "OUTPUT_ONLY_FIELD");
}

TEST_F(ValidateInlineTest, EachObjectThatBreaksARuleIsNamed) {
  Add("photos", "a");
  Add("Photos", "a");
  Add("", "a");
  Add("photos", "");
  Add("photos", std::string(1025, 'k'));
  Add("photos", std::string("a\0b", 3));
  Add("photos", "a", std::string(1025, 'v'));
  Add("photos", "a", "v\n1");
  Add("photos", "a", "v1");
  EXPECT_THAT(
      Wrong(),
      ElementsAre("job.manifest.inline.objects[1].bucket", "job.manifest.inline.objects[2].bucket",
                  "job.manifest.inline.objects[3].key", "job.manifest.inline.objects[4].key",
                  "job.manifest.inline.objects[5].key", "job.manifest.inline.objects[6].version_id",
                  "job.manifest.inline.objects[7].version_id", "job.manifest.inline.objects[8].version_id"));
}

TEST_F(ValidateInlineTest, EitherEveryObjectHasAVersionOrNoneHas) {
  Add("photos", "a", "null");
  Add("photos", "b", "v2");
  EXPECT_TRUE(Validate().ok());
  Add("photos", "c");
  EXPECT_THAT(Wrong(), ElementsAre("job.manifest.inline.objects[2].version_id"));
}

TEST_F(ValidateInlineTest, AtMostTenThousandObjects) {
  for (int i = 0; i < 10'000; ++i) Add("photos", StrCat("k", i));
  EXPECT_TRUE(Validate().ok()) << Validate().status();
  Add("photos", "one-more");
  EXPECT_THAT(Wrong(), ElementsAre("job.manifest.inline.objects"));
  EXPECT_THAT(std::string(Validate().status().message()), HasSubstr("got 10001"));
}

TEST_F(ValidateInlineTest, AtMostAMebibyte) {
  while (manifest().ByteSizeLong() + 1040 <= 1 << 20) Add("photos", std::string(1024, 'k'));
  EXPECT_TRUE(Validate().ok()) << Validate().status();
  Add("photos", std::string(1024, 'k'));
  EXPECT_THAT(Wrong(), ElementsAre("job.manifest.inline.objects"));
}

TEST_F(ValidateInlineTest, AHostileListMakesABoundedError) {
  for (int i = 0; i < 10'000; ++i) Add("Photos", "");
  EXPECT_THAT(Wrong(), SizeIs(100));  // bucket and key of 50 objects
}

}  // namespace
}  // namespace drover
