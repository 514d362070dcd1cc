#include "services/controller/api/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "common/strings/strings.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using Edit = std::function<void(v1::CreateJobRequest&)>;

class ValidateTest : public ::testing::Test {
 protected:
  absl::StatusOr<ValidJob> Validate(const Edit& edit = nullptr) {
    v1::CreateJobRequest request = GoodRequest();
    if (edit) edit(request);
    return ValidateCreateJob(request, stores_);
  }
  // The paths that an edited request is refused for; empty if it is accepted.
  std::vector<std::string> Wrong(const Edit& edit) {
    const absl::StatusOr<ValidJob> valid = Validate(edit);
    if (valid.ok()) return {};
    EXPECT_EQ(valid.status().code(), absl::StatusCode::kInvalidArgument) << valid.status();
    return FieldPaths(valid.status());
  }
  std::string Message(const Edit& edit) { return std::string(Validate(edit).status().message()); }

  static v1::CsvManifest& Csv(v1::CreateJobRequest& r) {
    return *r.mutable_job()->mutable_manifest()->mutable_csv();
  }
  static v1::Operation& Operation(v1::CreateJobRequest& r) { return *r.mutable_job()->mutable_operation(); }
  static v1::CopyObject& Copy(v1::CreateJobRequest& r) { return *Operation(r).mutable_copy_object(); }
  static v1::RetryPolicy& Retry(v1::CreateJobRequest& r) { return *r.mutable_job()->mutable_retry_policy(); }
  static v1::FailurePolicy& Failure(v1::CreateJobRequest& r) {
    return *r.mutable_job()->mutable_failure_policy();
  }
  static void UseFileManifest(v1::CreateJobRequest& r) {
    Csv(r).mutable_location()->set_store("local");
    Csv(r).clear_etag();
  }
  static void SetTags(v1::CreateJobRequest& r, const std::vector<std::pair<std::string, std::string>>& tags) {
    Operation(r).mutable_put_object_tagging()->clear_tags();
    for (const auto& [key, value] : tags) {
      v1::Tag* tag = Operation(r).mutable_put_object_tagging()->add_tags();
      tag->set_key(key);
      tag->set_value(value);
    }
  }

  const Stores stores_ = TestStores();
};

TEST_F(ValidateTest, FillsInEveryDefaultSoThatTheStoredJobIsExplicit) {
  const absl::StatusOr<ValidJob> valid = Validate();
  ASSERT_TRUE(valid.ok()) << valid.status();
  const v1::Job& job = valid->job;
  EXPECT_THAT(job.manifest().csv().fields(), ElementsAre(v1::MANIFEST_FIELD_BUCKET, v1::MANIFEST_FIELD_KEY));
  EXPECT_EQ(job.report().scope(), v1::ReportRequest::ALL_TASKS);
  EXPECT_DOUBLE_EQ(job.failure_policy().failed_fraction(), 0.5);
  EXPECT_EQ(job.failure_policy().minimum_executed(), 1000);
  EXPECT_EQ(job.failure_policy().action(), v1::FailurePolicy::FAIL);
  EXPECT_EQ(job.retry_policy().max_attempts(), 5);
  EXPECT_EQ(job.retry_policy().initial_backoff().nanos(), 200'000'000);
  EXPECT_EQ(job.retry_policy().max_backoff().seconds(), 20);
  EXPECT_EQ(job.retry_policy().unavailable_timeout().seconds(), 120);
  EXPECT_EQ(valid->operation, "put_object_tagging");
  EXPECT_EQ(valid->min_revision, 1);
  EXPECT_TRUE(valid->failure_policy.enabled);
  EXPECT_DOUBLE_EQ(valid->failure_policy.failed_fraction, 0.5);
  EXPECT_EQ(valid->failure_policy.minimum_executed, 1000);
}

TEST_F(ValidateTest, KeepsWhatTheClientChose) {
  const absl::StatusOr<ValidJob> valid = Validate([](auto& r) {
    Copy(r).set_target_bucket("copies");
    Copy(r).set_target_key_prefix("2024/");
    Csv(r).add_fields(v1::MANIFEST_FIELD_IGNORE);
    Csv(r).add_fields(v1::MANIFEST_FIELD_KEY);
    Csv(r).add_fields(v1::MANIFEST_FIELD_VERSION_ID);
    Csv(r).add_fields(v1::MANIFEST_FIELD_BUCKET);
    Csv(r).set_sha256(std::string(64, 'A'));
    r.mutable_job()->set_confirmation_required(true);
    r.mutable_job()->mutable_report()->set_scope(v1::ReportRequest::FAILED_TASKS_ONLY);
    r.mutable_job()->mutable_report()->set_prefix("a/b");
    Failure(r).set_failed_fraction(1);
    Failure(r).set_minimum_executed(7);
    Retry(r).set_max_attempts(20);
    Retry(r).mutable_unavailable_timeout();
  });
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->operation, "copy_object");
  EXPECT_EQ(valid->job.operation().copy_object().target_bucket(), "copies");
  EXPECT_EQ(valid->job.operation().copy_object().target_key_prefix(), "2024/");
  EXPECT_EQ(valid->job.operation().copy_object().metadata_directive(), v1::CopyObject::COPY);
  EXPECT_EQ(valid->job.manifest().csv().fields_size(), 4);
  EXPECT_EQ(valid->job.manifest().csv().sha256(), std::string(64, 'a'));
  EXPECT_TRUE(valid->job.confirmation_required());
  EXPECT_EQ(valid->job.report().scope(), v1::ReportRequest::FAILED_TASKS_ONLY);
  EXPECT_EQ(valid->job.retry_policy().max_attempts(), 20);
  EXPECT_EQ(valid->job.retry_policy().unavailable_timeout().seconds(), 0);
  EXPECT_EQ(valid->failure_policy.minimum_executed, 7);
}

TEST_F(ValidateTest, PinsTheFingerprintOfEveryStoreTheJobUses) {
  const absl::StatusOr<ValidJob> valid =
      Validate([](auto& r) { Csv(r).mutable_location()->set_store("other"); });
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_THAT(valid->stores, UnorderedElementsAre(Pair("main", stores_.Find("main")->Fingerprint()),
                                                  Pair("other", stores_.Find("other")->Fingerprint()),
                                                  Pair("local", stores_.Find("local")->Fingerprint())));
  EXPECT_THAT(valid->worker_stores, ElementsAre("main"));
}

TEST_F(ValidateTest, ACopyToAnotherStorePinsItAndNeedsWorkersThatReachIt) {
  const absl::StatusOr<ValidJob> valid = Validate([](auto& r) { Copy(r).set_target_store("other"); });
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->stores.at("other"), stores_.Find("other")->Fingerprint());
  EXPECT_THAT(valid->worker_stores, ElementsAre("main", "other"));
  EXPECT_EQ(valid->min_revision, 2);
  // Its own name is no other store.
  const auto own = Validate([](auto& r) {
    Copy(r).set_target_store("main");
    Copy(r).set_target_bucket("copies");
  });
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_THAT(own->worker_stores, ElementsAre("main"));
  const std::string path = "job.operation.copy_object";
  EXPECT_THAT(Wrong([](auto& r) { Copy(r).set_target_store("main"); }), ElementsAre(path));
  EXPECT_THAT(Wrong([](auto& r) {
                Copy(r).set_target_store("nowhere");
                Copy(r).set_target_bucket("copies");
              }),
              ElementsAre(path + ".target_store"));
  EXPECT_THAT(Wrong([](auto& r) { Copy(r).set_target_store("local"); }), ElementsAre(path + ".target_store"));
}

TEST_F(ValidateTest, ACopyOntoItselfMayBringOldVersionsBack) {
  EXPECT_THAT(Wrong([](auto& r) {
                Copy(r);
                for (const auto field :
                     {v1::MANIFEST_FIELD_BUCKET, v1::MANIFEST_FIELD_KEY, v1::MANIFEST_FIELD_VERSION_ID}) {
                  Csv(r).add_fields(field);
                }
              }),
              IsEmpty());
  EXPECT_THAT(Wrong([](auto& r) {
                Copy(r).set_target_bucket("copies");
                Copy(r).set_tagging_directive(v1::CopyObject::REPLACE);
                Copy(r).add_new_tags();
              }),
              ElementsAre("job.operation.copy_object.new_tags[0].key"));
}

TEST_F(ValidateTest, ANoOpNeedsNoStoreAndMayNameOne) {
  const auto without = Validate([](auto& r) {
    Operation(r).clear_store();
    Operation(r).mutable_no_op()->mutable_duration()->set_seconds(60);
    Operation(r).mutable_no_op()->set_failure_fraction(1);
  });
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_EQ(without->operation, "no_op");
  EXPECT_THAT(without->worker_stores, IsEmpty());
  const auto with = Validate([](auto& r) { Operation(r).mutable_no_op(); });
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_THAT(with->worker_stores, ElementsAre("main"));
}

TEST_F(ValidateTest, TheFingerprintTellsRequestsApartButNotTheirIds) {
  const std::string base = Validate()->fingerprint;
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(Validate()->fingerprint, base);
  EXPECT_EQ(Validate([](auto& r) { r.set_request_id("another"); })->fingerprint, base);
  EXPECT_NE(Validate([](auto& r) { r.mutable_job()->set_priority(11); })->fingerprint, base);
  EXPECT_NE(Validate([](auto& r) { SetTags(r, {{"project", "else"}}); })->fingerprint, base);
}

TEST_F(ValidateTest, RequestId) {
  EXPECT_THAT(Wrong([](auto& r) { r.clear_request_id(); }), ElementsAre("request_id"));
  EXPECT_THAT(Wrong([](auto& r) { r.set_request_id(std::string(65, 'a')); }), ElementsAre("request_id"));
  EXPECT_THAT(Wrong([](auto& r) { r.set_request_id("a\tb"); }), ElementsAre("request_id"));
  EXPECT_THAT(Wrong([](auto& r) { r.set_request_id("schlüssel"); }), ElementsAre("request_id"));
  EXPECT_THAT(Wrong([](auto& r) { r.set_request_id(std::string(64, '~')); }), IsEmpty());
}

TEST_F(ValidateTest, PriorityAndDescription) {
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->set_priority(-1); }), ElementsAre("job.priority"));
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->set_priority(2147483647); }), IsEmpty());
  // Characters, not bytes.
  const auto repeated = [](int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += "ü";
    return text;
  };
  EXPECT_THAT(Wrong([&](auto& r) { r.mutable_job()->set_description(repeated(256)); }), IsEmpty());
  EXPECT_THAT(Wrong([&](auto& r) { r.mutable_job()->set_description(repeated(257)); }),
              ElementsAre("job.description"));
  EXPECT_THAT(Message([&](auto& r) { r.mutable_job()->set_description(repeated(257)); }),
              HasSubstr("must be at most 256 characters, has 257"));
  EXPECT_THAT(Wrong([&](auto& r) { r.mutable_job()->set_description(std::string("a\0b", 3)); }),
              ElementsAre("job.description"));
}

TEST_F(ValidateTest, JobOperationAndManifestAreRequired) {
  EXPECT_THAT(Wrong([](auto& r) { r.clear_job(); }), ElementsAre("job"));
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->clear_operation(); }), ElementsAre("job.operation"));
  EXPECT_THAT(Wrong([](auto& r) { Operation(r).clear_put_object_tagging(); }), ElementsAre("job.operation"));
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->clear_manifest(); }), ElementsAre("job.manifest"));
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->clear_report(); }), IsEmpty());
}

TEST_F(ValidateTest, StoresMustBeConfiguredAndOfAKindThatFits) {
  EXPECT_THAT(
      Message([](auto& r) { Operation(r).set_store("mian"); }),
      AllOf(HasSubstr("job.operation.store"), HasSubstr("\"mian\""), HasSubstr("main, other, local")));
  EXPECT_THAT(Wrong([](auto& r) { Operation(r).clear_store(); }), ElementsAre("job.operation.store"));
  EXPECT_THAT(Wrong([](auto& r) { Operation(r).set_store("local"); }), ElementsAre("job.operation.store"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->set_store("no"); }),
              ElementsAre("job.manifest.csv.location.store"));
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->mutable_report()->set_store("no"); }),
              ElementsAre("job.report.store"));
  EXPECT_THAT(Wrong([](auto& r) { r.mutable_job()->mutable_report()->clear_store(); }),
              ElementsAre("job.report.store"));
}

TEST_F(ValidateTest, NoOpParameters) {
  const auto no_op = [](auto& r) -> v1::NoOp& { return *Operation(r).mutable_no_op(); };
  EXPECT_THAT(Wrong([&](auto& r) { no_op(r).mutable_duration()->set_seconds(61); }),
              ElementsAre("job.operation.no_op.duration"));
  EXPECT_THAT(Wrong([&](auto& r) { no_op(r).mutable_duration()->set_nanos(-1); }),
              ElementsAre("job.operation.no_op.duration"));
  EXPECT_THAT(Wrong([&](auto& r) { no_op(r).mutable_duration()->set_nanos(1'000'000'000); }),
              ElementsAre("job.operation.no_op.duration"));
  EXPECT_THAT(Wrong([&](auto& r) {
                no_op(r).mutable_duration()->set_seconds(1);
                no_op(r).mutable_duration()->set_nanos(-1);
              }),
              ElementsAre("job.operation.no_op.duration"));
  EXPECT_THAT(
      Wrong([&](auto& r) { no_op(r).mutable_duration()->set_nanos(std::numeric_limits<int32_t>::min()); }),
      ElementsAre("job.operation.no_op.duration"));
  EXPECT_THAT(
      Wrong([&](auto& r) { no_op(r).mutable_duration()->set_seconds(std::numeric_limits<int64_t>::max()); }),
      ElementsAre("job.operation.no_op.duration"));
  for (const double bad : {-0.1, 1.1, std::nan("")}) {
    EXPECT_THAT(Wrong([&](auto& r) { no_op(r).set_failure_fraction(bad); }),
                ElementsAre("job.operation.no_op.failure_fraction"));
  }
}

TEST_F(ValidateTest, Tags) {
  const std::string path = "job.operation.put_object_tagging.tags";
  EXPECT_THAT(Wrong([](auto& r) { SetTags(r, {}); }), IsEmpty());
  std::vector<std::pair<std::string, std::string>> ten;
  ten.reserve(11);
  for (int i = 0; i < 10; ++i) ten.emplace_back(StrCat("k", i), "v");
  EXPECT_THAT(Wrong([&](auto& r) { SetTags(r, ten); }), IsEmpty());
  ten.emplace_back("k10", "v");
  EXPECT_THAT(Wrong([&](auto& r) { SetTags(r, ten); }), ElementsAre(path));
  EXPECT_THAT(Wrong([](auto& r) { SetTags(r, {{"a", "1"}, {"b", "2"}, {"a", "3"}}); }),
              ElementsAre(path + "[2].key"));
  EXPECT_THAT(Wrong([](auto& r) { SetTags(r, {{"", "1"}}); }), ElementsAre(path + "[0].key"));
  EXPECT_THAT(Wrong([](auto& r) { SetTags(r, {{std::string(128, 'k'), std::string(256, 'v')}}); }),
              IsEmpty());
  EXPECT_THAT(Wrong([](auto& r) { SetTags(r, {{std::string(129, 'k'), std::string(257, 'v')}}); }),
              ElementsAre(path + "[0].key", path + "[0].value"));
}

TEST_F(ValidateTest, ChangesOfTags) {
  const std::string path = "job.operation.change_object_tagging";
  const auto change = [](auto& r) -> v1::ChangeObjectTagging& {
    return *Operation(r).mutable_change_object_tagging();
  };
  EXPECT_THAT(Wrong([&](auto& r) { change(r); }), ElementsAre(path));
  EXPECT_THAT(Wrong([&](auto& r) { change(r).add_add()->set_key("a"); }), IsEmpty());
  EXPECT_THAT(Wrong([&](auto& r) { change(r).add_remove_keys("a"); }), IsEmpty());
  EXPECT_THAT(Wrong([&](auto& r) { change(r).add_add(); }), ElementsAre(path + ".add[0].key"));
  EXPECT_THAT(Wrong([&](auto& r) {
                for (int i = 0; i < 11; ++i) change(r).add_add()->set_key(StrCat("k", i));
              }),
              ElementsAre(path + ".add"));
  EXPECT_THAT(Wrong([&](auto& r) {
                for (const char* key : {"b", "", "b", "a", "x\ny"}) change(r).add_remove_keys(key);
                change(r).add_remove_keys(std::string(129, 'k'));
                change(r).add_add()->set_key("a");
              }),
              ElementsAre(path + ".remove_keys[1]", path + ".remove_keys[2]", path + ".remove_keys[3]",
                          path + ".remove_keys[4]", path + ".remove_keys[5]"));
  const auto many = [&](int keys) {
    return Wrong([&](auto& r) {
      for (int i = 0; i < keys; ++i) change(r).add_remove_keys(StrCat("k", i));
    });
  };
  EXPECT_THAT(many(100), IsEmpty());
  EXPECT_THAT(many(101), ElementsAre(path + ".remove_keys"));
}

TEST_F(ValidateTest, JobsThatDeleteAreConfirmedUnlessTheySayOtherwise) {
  const auto confirmed = [&](const Edit& edit) {
    const absl::StatusOr<ValidJob> valid = Validate(edit);
    EXPECT_TRUE(valid.ok()) << valid.status();
    return valid.ok() && valid->job.confirmation_required();
  };
  EXPECT_TRUE(confirmed([](auto& r) { Operation(r).mutable_delete_object(); }));
  EXPECT_TRUE(confirmed([](auto& r) {
    Operation(r).mutable_delete_object();
    r.mutable_job()->set_confirmation_required(true);
  }));
  EXPECT_FALSE(confirmed([](auto& r) {
    Operation(r).mutable_delete_object();
    r.mutable_job()->set_skip_confirmation(true);
  }));
  EXPECT_FALSE(confirmed([](auto& r) { Operation(r).mutable_delete_object_tagging(); }));
  EXPECT_FALSE(confirmed([](auto& r) { r.mutable_job()->set_skip_confirmation(true); }));
  EXPECT_THAT(Wrong([](auto& r) {
                r.mutable_job()->set_skip_confirmation(true);
                r.mutable_job()->set_confirmation_required(true);
              }),
              ElementsAre("job.skip_confirmation"));
}

TEST_F(ValidateTest, Copies) {
  EXPECT_THAT(Wrong([](auto& r) { Copy(r); }), ElementsAre("job.operation.copy_object"));
  EXPECT_THAT(Message([](auto& r) { Copy(r); }), HasSubstr("onto itself"));
  EXPECT_THAT(Wrong([](auto& r) { Copy(r).set_target_bucket("Upper"); }),
              ElementsAre("job.operation.copy_object.target_bucket"));
  EXPECT_THAT(Wrong([](auto& r) { Copy(r).set_target_bucket("ab"); }),
              ElementsAre("job.operation.copy_object.target_bucket"));
  EXPECT_THAT(Wrong([](auto& r) { Copy(r).set_target_key_prefix(std::string(512, 'p')); }), IsEmpty());
  EXPECT_THAT(Wrong([](auto& r) { Copy(r).set_target_key_prefix(std::string(513, 'p')); }),
              ElementsAre("job.operation.copy_object.target_key_prefix"));
}

TEST_F(ValidateTest, ManifestLocation) {
  const std::string path = "job.manifest.csv.location";
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->clear_bucket(); }),
              ElementsAre(path + ".bucket"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->set_bucket("A_b"); }),
              ElementsAre(path + ".bucket"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->clear_key(); }), ElementsAre(path + ".key"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->set_key(std::string(1025, 'k')); }),
              ElementsAre(path + ".key"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->set_version_id("v1"); }), IsEmpty());
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).mutable_location()->set_key("/odd//../key"); }), IsEmpty());
}

TEST_F(ValidateTest, FileManifestsAreConfinedAndHaveNoVersions) {
  const std::string path = "job.manifest.csv.location";
  EXPECT_THAT(Wrong([](auto& r) { UseFileManifest(r); }), IsEmpty());
  for (const char* key : {"/etc/passwd", "a/../../b", "a//b", ".", "a/"}) {
    EXPECT_THAT(Wrong([&](auto& r) {
                  UseFileManifest(r);
                  Csv(r).mutable_location()->set_key(key);
                }),
                ElementsAre(path + ".key"))
        << key;
  }
  for (const char* bucket : {"..", "a/b", "."}) {
    EXPECT_THAT(Wrong([&](auto& r) {
                  UseFileManifest(r);
                  Csv(r).mutable_location()->set_bucket(bucket);
                }),
                ElementsAre(path + ".bucket"))
        << bucket;
  }
  EXPECT_THAT(Wrong([](auto& r) {
                UseFileManifest(r);
                Csv(r).mutable_location()->set_version_id("v1");
              }),
              ElementsAre(path + ".version_id"));
}

TEST_F(ValidateTest, TheEtagIsRequiredForS3AndRefusedForFiles) {
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).clear_etag(); }), ElementsAre("job.manifest.csv.etag"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).set_etag("a\nb"); }), ElementsAre("job.manifest.csv.etag"));
  EXPECT_THAT(Wrong([](auto& r) {
                UseFileManifest(r);
                Csv(r).set_etag("abc");
              }),
              ElementsAre("job.manifest.csv.etag"));
}

TEST_F(ValidateTest, ManifestColumns) {
  const auto fields = [](auto& r, std::initializer_list<v1::ManifestField> list) {
    for (const v1::ManifestField field : list) Csv(r).add_fields(field);
  };
  constexpr auto B = v1::MANIFEST_FIELD_BUCKET;
  constexpr auto K = v1::MANIFEST_FIELD_KEY;
  constexpr auto V = v1::MANIFEST_FIELD_VERSION_ID;
  constexpr auto I = v1::MANIFEST_FIELD_IGNORE;
  EXPECT_THAT(Wrong([&](auto& r) { fields(r, {I, V, K, I, B}); }), IsEmpty());
  EXPECT_THAT(Wrong([&](auto& r) { fields(r, {B}); }), ElementsAre("job.manifest.csv.fields"));
  EXPECT_THAT(Wrong([&](auto& r) { fields(r, {B, K, K}); }), ElementsAre("job.manifest.csv.fields"));
  EXPECT_THAT(Wrong([&](auto& r) { fields(r, {B, K, V, V}); }), ElementsAre("job.manifest.csv.fields"));
  EXPECT_THAT(Wrong([&](auto& r) { fields(r, {B, K, v1::MANIFEST_FIELD_UNSPECIFIED}); }),
              ElementsAre("job.manifest.csv.fields"));
  EXPECT_THAT(Wrong([&](auto& r) {
                fields(r, {B, K});
                for (int i = 0; i < 63; ++i) fields(r, {I});
              }),
              ElementsAre("job.manifest.csv.fields"));
}

TEST_F(ValidateTest, ManifestSha256) {
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).set_sha256(std::string(63, '0')); }),
              ElementsAre("job.manifest.csv.sha256"));
  EXPECT_THAT(Wrong([](auto& r) { Csv(r).set_sha256(std::string(64, 'g')); }),
              ElementsAre("job.manifest.csv.sha256"));
}

TEST_F(ValidateTest, ReportPlace) {
  const auto report = [](auto& r) -> v1::ReportRequest& { return *r.mutable_job()->mutable_report(); };
  EXPECT_THAT(Wrong([&](auto& r) { report(r).clear_bucket(); }), ElementsAre("job.report.bucket"));
  for (const std::string& prefix :
       {std::string("/a"), std::string("a/"), std::string(513, 'p'), std::string("../a")}) {
    EXPECT_THAT(Wrong([&](auto& r) { report(r).set_prefix(prefix); }), ElementsAre("job.report.prefix"))
        << prefix;
  }
  EXPECT_THAT(Wrong([&](auto& r) {
                report(r).set_store("main");
                report(r).set_prefix(std::string(512, 'p'));
              }),
              IsEmpty());
}

TEST_F(ValidateTest, FailurePolicyRanges) {
  for (const double bad : {0.0, -1.0, 1.01, std::nan("")}) {
    EXPECT_THAT(Wrong([&](auto& r) { Failure(r).set_failed_fraction(bad); }),
                ElementsAre("job.failure_policy.failed_fraction"))
        << bad;
  }
  EXPECT_THAT(Wrong([](auto& r) { Failure(r).set_minimum_executed(0); }),
              ElementsAre("job.failure_policy.minimum_executed"));
  EXPECT_THAT(Wrong([](auto& r) { Failure(r).set_failed_tasks(-1); }),
              ElementsAre("job.failure_policy.failed_tasks"));
  EXPECT_THAT(Wrong([](auto& r) { Failure(r).set_failed_tasks(0); }), IsEmpty());
}

TEST_F(ValidateTest, AFailurePolicyMayBeANumberMayPauseAndMayBeNone) {
  v1::CreateJobRequest request = GoodRequest();
  Failure(request).set_failed_tasks(7);
  Failure(request).set_action(v1::FailurePolicy::PAUSE);
  const auto pausing = ValidateCreateJob(request, stores_);
  ASSERT_TRUE(pausing.ok()) << pausing.status();
  EXPECT_TRUE(pausing->failure_policy.enabled);
  EXPECT_TRUE(pausing->failure_policy.pause);
  EXPECT_EQ(pausing->failure_policy.failed_tasks, 7);
  EXPECT_DOUBLE_EQ(pausing->failure_policy.failed_fraction, 0.5) << "the fraction holds beside the number";
  EXPECT_EQ(pausing->job.failure_policy().action(), v1::FailurePolicy::PAUSE);

  Failure(request).Clear();
  Failure(request).set_disabled(true);
  const auto none = ValidateCreateJob(request, stores_);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->failure_policy.enabled);
  EXPECT_FALSE(none->job.failure_policy().has_failed_fraction()) << "no default of what does not hold";

  for (const auto set : std::vector<void (*)(v1::FailurePolicy&)>{
           [](v1::FailurePolicy& p) { p.set_failed_fraction(0.5); },
           [](v1::FailurePolicy& p) { p.set_minimum_executed(1000); },
           [](v1::FailurePolicy& p) { p.set_failed_tasks(1); },
           [](v1::FailurePolicy& p) { p.set_action(v1::FailurePolicy::FAIL); }}) {
    EXPECT_THAT(Wrong([&](auto& r) {
                  Failure(r).set_disabled(true);
                  set(Failure(r));
                }),
                ElementsAre("job.failure_policy.disabled"));
  }
}

TEST_F(ValidateTest, RetryPolicyRanges) {
  const auto set = [](google::protobuf::Duration* d, int64_t s, int32_t n = 0) {
    d->set_seconds(s);
    d->set_nanos(n);
  };
  for (const int bad : {0, 21, -1}) {
    EXPECT_THAT(Wrong([&](auto& r) { Retry(r).set_max_attempts(bad); }),
                ElementsAre("job.retry_policy.max_attempts"));
  }
  EXPECT_THAT(Wrong([&](auto& r) { set(Retry(r).mutable_initial_backoff(), 0, 9'999'999); }),
              ElementsAre("job.retry_policy.initial_backoff"));
  EXPECT_THAT(Wrong([&](auto& r) { set(Retry(r).mutable_initial_backoff(), 61); }),
              ElementsAre("job.retry_policy.initial_backoff"));
  EXPECT_THAT(Wrong([&](auto& r) { set(Retry(r).mutable_max_backoff(), 601); }),
              ElementsAre("job.retry_policy.max_backoff"));
  EXPECT_THAT(Wrong([&](auto& r) { set(Retry(r).mutable_unavailable_timeout(), 3601); }),
              ElementsAre("job.retry_policy.unavailable_timeout"));
  EXPECT_THAT(Wrong([&](auto& r) {
                set(Retry(r).mutable_initial_backoff(), 5);
                set(Retry(r).mutable_max_backoff(), 4);
              }),
              ElementsAre("job.retry_policy.max_backoff"));
}

TEST_F(ValidateTest, DefaultBackoffsGiveWayToTheOneThatIsGiven) {
  const auto long_first = Validate([](auto& r) { Retry(r).mutable_initial_backoff()->set_seconds(30); });
  ASSERT_TRUE(long_first.ok()) << long_first.status();
  EXPECT_EQ(long_first->job.retry_policy().max_backoff().seconds(), 30);
  const auto short_longest = Validate([](auto& r) { Retry(r).mutable_max_backoff()->set_nanos(50'000'000); });
  ASSERT_TRUE(short_longest.ok()) << short_longest.status();
  EXPECT_EQ(short_longest->job.retry_policy().initial_backoff().nanos(), 50'000'000);
}

TEST_F(ValidateTest, NamesAllWrongFieldsAtOnce) {
  EXPECT_THAT(Wrong([](auto& r) {
                r.clear_request_id();
                r.mutable_job()->set_priority(-5);
                Operation(r).set_store("x");
                Csv(r).clear_etag();
              }),
              ElementsAre("request_id", "job.priority", "job.operation.store", "job.manifest.csv.etag"));
}

TEST_F(ValidateTest, WhatIsNotCarriedOutIsSaidBeforeWhatIsWrong) {
  const auto valid = Validate([](auto& r) {
    Operation(r).mutable_restore_object();
    r.clear_request_id();
  });
  EXPECT_EQ(valid.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(FieldPaths(valid.status()), Contains("job.operation.restore_object"));
}

TEST(ValidateOthers, JobIds) {
  EXPECT_TRUE(ValidateJobId("01890000-0001-7000-8000-000000000000").ok());
  for (const char* bad :
       {"", "x", "01890000-0001-7000-8000-00000000000", "01890000-0001-7000-8000-00000000000A"}) {
    EXPECT_THAT(FieldPaths(ValidateJobId(bad)), ElementsAre("job_id")) << bad;
  }
}

TEST(ValidateOthers, ReasonsPrioritiesAndPageSizes) {
  EXPECT_TRUE(ValidateReason("").ok());
  EXPECT_TRUE(ValidateReason(std::string(256, 'r')).ok());
  EXPECT_THAT(FieldPaths(ValidateReason(std::string(257, 'r'))), ElementsAre("reason"));
  EXPECT_THAT(FieldPaths(ValidateReason("a\x1b[31m")), ElementsAre("reason"));
  EXPECT_TRUE(ValidatePriority(0).ok());
  EXPECT_THAT(FieldPaths(ValidatePriority(-1)), ElementsAre("priority"));
  EXPECT_EQ(*ValidatePageSize(0), 100);
  EXPECT_EQ(*ValidatePageSize(1000), 1000);
  EXPECT_THAT(FieldPaths(ValidatePageSize(1001).status()), ElementsAre("page_size"));
  EXPECT_THAT(FieldPaths(ValidatePageSize(-1).status()), ElementsAre("page_size"));
}

TEST(ValidateOthers, States) {
  v1::ListJobsRequest request;
  request.add_states(v1::READY);
  request.add_states(v1::FAILED);
  EXPECT_THAT(*ValidateStates(request.states()),
              ElementsAre(lifecycle::State::kReady, lifecycle::State::kFailed));
  request.add_states(v1::JOB_STATE_UNSPECIFIED);
  EXPECT_THAT(FieldPaths(ValidateStates(request.states()).status()), ElementsAre("states[2]"));
}

}  // namespace
}  // namespace drover
