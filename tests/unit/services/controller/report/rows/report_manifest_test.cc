#include "services/controller/report/rows/report_manifest.h"

#include <nlohmann/json.hpp>

#include "gtest/gtest.h"
#include "services/controller/report/rows/file_hasher.h"

namespace drover {
namespace {

ReportManifest Example() {
  ReportManifest manifest;
  manifest.created = absl::FromUnixMillis(1709287200123);
  manifest.results = {{RowKind::kSucceeded, "reports", "jobs/job-1/results/aa.csv", "m1", "s1", 1000, 91234},
                      {RowKind::kFailed, "reports", "jobs/job-1/results/bb.csv", "m2", "s2", 3, 300}};
  manifest.job_id = "0190-1";
  manifest.status = "Failed";
  manifest.failure_codes = {"FailureThreshold"};
  manifest.failure_reasons = {"more than half of 1,003 tasks failed"};
  manifest.total = 2000;
  manifest.succeeded = 1000;
  manifest.failed = 3;
  manifest.unconfirmed = 2;
  manifest.job_json = R"({"priority": 10, "operation": {"put_tags": {}}})";
  return manifest;
}

TEST(ReportManifest, HoldsTheFieldsOfS3BatchOperationsFirstAndInTheirOrder) {
  const absl::StatusOr<std::string> text = ReportManifestJson(Example());
  ASSERT_TRUE(text.ok()) << text.status();
  const auto json = nlohmann::ordered_json::parse(*text);
  std::vector<std::string> names;
  for (const auto& [name, value] : json.items()) names.push_back(name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"Format", "ReportCreationDate", "Results", "ReportSchema", "JobId",
                                      "Status", "FailureCodes", "FailureReasons", "Counts", "Job"}));
  EXPECT_EQ(json["Format"], "Report_CSV_20180820");
  EXPECT_EQ(json["ReportCreationDate"], "2024-03-01T10:00:00.123Z");
  EXPECT_EQ(json["ReportSchema"],
            "Bucket, Key, VersionId, TaskStatus, HTTPStatusCode, ErrorCode, ResultMessage");
  ASSERT_EQ(json["Results"].size(), 2u);
  const nlohmann::ordered_json expected = {{"TaskExecutionStatus", "succeeded"},
                                           {"Bucket", "reports"},
                                           {"MD5Checksum", "m1"},
                                           {"Key", "jobs/job-1/results/aa.csv"},
                                           {"SHA256Checksum", "s1"},
                                           {"Rows", 1000},
                                           {"Bytes", 91234}};
  EXPECT_EQ(json["Results"][0], expected);
  EXPECT_EQ(json["Results"][1]["TaskExecutionStatus"], "failed");
  EXPECT_EQ(json["Status"], "Failed");
  EXPECT_EQ(json["FailureCodes"][0], "FailureThreshold");
  EXPECT_EQ(json["Counts"]["Total"], 2000);
  EXPECT_EQ(json["Counts"]["Succeeded"], 1000);
  EXPECT_EQ(json["Counts"]["Failed"], 3);
  EXPECT_EQ(json["Counts"]["Unconfirmed"], 2);
  EXPECT_EQ(json["Job"]["priority"], 10);
}

TEST(ReportManifest, WholeSecondsKeepTheirMilliseconds) {
  ReportManifest manifest = Example();
  manifest.created = absl::FromUnixSeconds(1709287200);
  EXPECT_EQ(nlohmann::json::parse(*ReportManifestJson(manifest))["ReportCreationDate"],
            "2024-03-01T10:00:00.000Z");
}

TEST(ReportManifest, WithoutResultsAndFailuresTheListsAreEmptyNotMissing) {
  ReportManifest manifest;
  manifest.created = absl::UnixEpoch();
  const auto json = nlohmann::json::parse(*ReportManifestJson(manifest));
  EXPECT_TRUE(json["Results"].is_array());
  EXPECT_TRUE(json["FailureCodes"].is_array());
  EXPECT_TRUE(json["FailureReasons"].is_array());
  EXPECT_TRUE(json["Job"].is_object());
}

TEST(ReportManifest, RefusesAConfigurationThatIsNoJsonObject) {
  for (const char* job : {"", "{", "[]", "1", "null", "{} x"}) {
    ReportManifest manifest = Example();
    manifest.job_json = job;
    EXPECT_EQ(ReportManifestJson(manifest).status().code(), absl::StatusCode::kInvalidArgument) << job;
  }
}

TEST(ReportManifest, BytesThatAreNotUtf8AreReplaced) {
  ReportManifest manifest = Example();
  manifest.failure_reasons = {"bad \xff byte"};
  EXPECT_EQ(nlohmann::json::parse(*ReportManifestJson(manifest))["FailureReasons"][0],
            "bad \xEF\xBF\xBD byte");
}

// With and without the instructions of this processor.
class FileHasherTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && !Md5Sha256::Available()) GTEST_SKIP() << "this processor has no SHA extensions";
  }
};

INSTANTIATE_TEST_SUITE_P(InOnePass, FileHasherTest, ::testing::Bool());

TEST_P(FileHasherTest, GivesTheKnownDigests) {
  FileHasher hasher(GetParam());
  absl::StatusOr<FileDigest> digest = hasher.Finish();
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(digest->md5, "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(digest->sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest->bytes, 0);
  hasher.Update("a");
  hasher.Update("bc");
  digest = hasher.Finish();
  EXPECT_EQ(digest->md5, "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(digest->sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest->bytes, 3);
}

TEST_P(FileHasherTest, PiecesDoNotMatter) {
  std::string bytes(100'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  FileHasher whole(GetParam());
  whole.Update(bytes);
  FileHasher pieces(GetParam());
  for (size_t at = 0; at < bytes.size(); at += 777) pieces.Update(std::string_view(bytes).substr(at, 777));
  FileHasher moved = std::move(pieces);
  const FileDigest a = *whole.Finish();
  const FileDigest b = *moved.Finish();
  EXPECT_EQ(a.md5, b.md5);
  EXPECT_EQ(a.sha256, b.sha256);
  EXPECT_EQ(b.bytes, 100'000);
}

}  // namespace
}  // namespace drover
