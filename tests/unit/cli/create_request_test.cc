#include "cli/create_request.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

#include "cli/exit_code.h"

namespace drover::cli {
namespace {

using ::testing::HasSubstr;

CreateFlags Noop() {
  CreateFlags flags;
  flags.operation = "noop";
  flags.manifest = "local/lists/a/b.csv";
  flags.request_id = "r1";
  return flags;
}

std::string Problem(const CreateFlags& flags) {
  const auto request = BuildCreateRequest(flags);
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(request.status().message());
}

v1::Job JobOf(const std::string& json) {
  v1::Job job;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &job).ok());
  return job;
}

// The request of `flags` over `base` is this protobuf text.
void ExpectRequest(const CreateFlags& flags, const std::string& text, const v1::Job& base = {}) {
  const auto request = BuildCreateRequest(flags, base);
  ASSERT_TRUE(request.ok()) << request.status();
  v1::CreateJobRequest expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &expected));
  std::string difference;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(expected, *request)) << difference;
}

TEST(CreateRequestTest, LeastOfFlagsMakesTheLeastOfRequests) {
  ExpectRequest(Noop(), R"(request_id: "r1" job {
    operation { no_op {} }
    manifest { csv { location { store: "local" bucket: "lists" key: "a/b.csv" } } } })");
}

TEST(CreateRequestTest, EveryFlagOfPutTagsReachesItsField) {
  CreateFlags flags = Noop();
  flags.operation = "put-tags";
  flags.store = "main";
  flags.tags = {"team=blue", "formula=a=b", "empty="};
  flags.manifest_etag = "abc";
  flags.manifest_version = "v1";
  flags.fields = "bucket, IGNORE,Key,VersionId";
  flags.report = "main/reports/2026/blue";
  flags.report_scope = "failed";
  flags.priority = 7;
  flags.description = "d";
  flags.confirmation_required = true;
  flags.failure_fraction = 0.25;
  flags.failure_minimum = 10;
  flags.failure_tasks = 3;
  flags.failure_action = "pause";
  flags.validate_only = true;
  ExpectRequest(flags, R"(request_id: "r1" validate_only: true job {
    operation { store: "main" put_object_tagging {
      tags { key: "team" value: "blue" } tags { key: "formula" value: "a=b" } tags { key: "empty" } } }
    manifest { csv { location { store: "local" bucket: "lists" key: "a/b.csv" version_id: "v1" } etag: "abc"
      fields: MANIFEST_FIELD_BUCKET fields: MANIFEST_FIELD_IGNORE fields: MANIFEST_FIELD_KEY
      fields: MANIFEST_FIELD_VERSION_ID } }
    report { store: "main" bucket: "reports" prefix: "2026/blue" scope: FAILED_TASKS_ONLY }
    priority: 7 description: "d" confirmation_required: true
    failure_policy { failed_fraction: 0.25 minimum_executed: 10 failed_tasks: 3 action: PAUSE } })");
}

TEST(CreateRequestTest, EveryFlagOfCopyReachesItsField) {
  CreateFlags flags = Noop();
  flags.operation = "copy";
  flags.store = "main";
  flags.target_bucket = "archive";
  flags.target_prefix = "old/";
  flags.target_store = "far";
  flags.manifest.reset();
  flags.manifest_store = "main";
  flags.manifest_bucket = "lists";
  flags.manifest_key = "/a";
  flags.report_store = "main";
  flags.report_bucket = "reports";
  flags.report_prefix = "p";
  flags.no_failure_threshold = true;
  ExpectRequest(flags, R"(request_id: "r1" job {
    operation { store: "main" copy_object { target_bucket: "archive" target_key_prefix: "old/" target_store: "far" } }
    manifest { csv { location { store: "main" bucket: "lists" key: "/a" } } }
    report { store: "main" bucket: "reports" prefix: "p" }
    failure_policy { disabled: true } })");
}

TEST(CreateRequestTest, OperationsThatDeleteChangeAndLookHaveTheirFlags) {
  CreateFlags flags = Noop();
  flags.store = "main";
  const std::string manifest =
      R"(manifest { csv { location { store: "local" bucket: "lists" key: "a/b.csv" } } })";
  const auto expect = [&](const std::string& operation, const std::string& more = "") {
    ExpectRequest(flags, R"(request_id: "r1" job { operation { store: "main" )" + operation + " } " +
                             manifest + more + " }");
  };
  flags.operation = "delete-tags";
  expect("delete_object_tagging {}");
  flags.operation = "undelete";
  expect("undelete_object {}");
  flags.operation = "head";
  expect("head_object {}");
  flags.operation = "delete";
  expect("delete_object {}");
  flags.bypass_governance = true;
  flags.skip_confirmation = true;
  expect("delete_object { bypass_governance_retention: true }", " skip_confirmation: true");
  flags.bypass_governance = flags.skip_confirmation = false;
  flags.operation = "change-tags";
  flags.add_tags = {"a=b=c", "empty="};
  flags.remove_tags = {"x", "y=z"};
  expect(R"(change_object_tagging { add { key: "a" value: "b=c" } add { key: "empty" }
                                    remove_keys: "x" remove_keys: "y=z" })");
}

TEST(CreateRequestTest, NoopTakesADurationAndAShareOfFailures) {
  CreateFlags flags = Noop();
  flags.noop_duration = "1.5s";
  flags.noop_failure_fraction = 0.1;
  ExpectRequest(flags, R"(request_id: "r1" job {
    operation { no_op { duration { seconds: 1 nanos: 500000000 } failure_fraction: 0.1 } }
    manifest { csv { location { store: "local" bucket: "lists" key: "a/b.csv" } } } })");
}

TEST(CreateRequestTest, JobFileIsTheBaseThatFlagsChange) {
  CreateFlags flags;
  const auto base =
      R"({"operation": {"store": "main", "putObjectTagging": {"tags": [{"key": "a", "value": "b"}]}},
                        "manifest": {"csv": {"location": {"store": "s", "bucket": "b", "key": "k"}}},
                        "labels": {"x": "y"}, "priority": 5})";
  flags.priority = 6;
  flags.manifest_etag = "abc";
  flags.set = {"priority=7", "labels.x=z"};  // comes before the other flags
  ExpectRequest(flags, R"(job {
    operation { store: "main" put_object_tagging { tags { key: "a" value: "b" } } }
    manifest { csv { location { store: "s" bucket: "b" key: "k" } etag: "abc" } }
    labels { key: "x" value: "z" } priority: 6 })",
                JobOf(base));
  flags = CreateFlags();
  ExpectRequest(flags, R"(job { operation { head_object {} } manifest { redrive { job_id: "j" } } })",
                JobOf(R"({"operation": {"headObject": {}}, "manifest": {"redrive": {"jobId": "j"}}})"));
}

TEST(CreateRequestTest, SetMakesWhatHasNoFlag) {
  CreateFlags flags;
  flags.set = {"operation.head_object={}", "manifest.redrive={job_id: j}"};
  ExpectRequest(flags, R"(job { operation { head_object {} } manifest { redrive { job_id: "j" } } })");
  flags.set = {"operation.head_objetc={}"};
  EXPECT_THAT(Problem(flags), HasSubstr("did you mean head_object?"));
}

TEST(CreateRequestTest, RequestIdsOfSeveralJobsAreNumbered) {
  CreateFlags flags;
  EXPECT_EQ(RequestIdOf(flags, "", 0, 1), "");
  EXPECT_EQ(RequestIdOf(flags, "own", 1, 2), "own");
  flags.request_id = "night";
  EXPECT_EQ(RequestIdOf(flags, "own", 0, 1), "night");
  EXPECT_EQ(RequestIdOf(flags, "own", 1, 2), "night-2");
}

TEST(CreateRequestTest, WrongFlagsAreExplainedInTheirOwnWords) {
  const auto with = [](auto change) {
    CreateFlags flags = Noop();
    change(flags);
    return Problem(flags);
  };
  EXPECT_THAT(with([](CreateFlags& f) { f.operation = ""; }), HasSubstr("--operation is missing"));
  EXPECT_THAT(with([](CreateFlags& f) { f.operation = "explode"; }),
              HasSubstr("unknown operation \"explode\""));
  EXPECT_THAT(with([](CreateFlags& f) { f.tags = {"a=b"}; }),
              HasSubstr("--tag belongs to --operation put-tags"));
  EXPECT_THAT(with([](CreateFlags& f) { f.add_tags = {"a=b"}; }),
              HasSubstr("--add-tag belongs to --operation change-tags"));
  EXPECT_THAT(with([](CreateFlags& f) { f.remove_tags = {"a"}; }),
              HasSubstr("--remove-tag belongs to --operation change-tags"));
  EXPECT_THAT(with([](CreateFlags& f) { f.bypass_governance = true; }),
              HasSubstr("--bypass-governance belongs to --operation delete"));
  EXPECT_THAT(with([](CreateFlags& f) { f.operation = "change-tags", f.add_tags = {"=b"}; }),
              HasSubstr("--add-tag is KEY=VALUE"));
  EXPECT_THAT(with([](CreateFlags& f) { f.target_bucket = "b"; }),
              HasSubstr("--target-bucket belongs to --operation copy"));
  EXPECT_THAT(with([](CreateFlags& f) { f.noop_duration = "soon"; }), HasSubstr("--noop-duration"));
  EXPECT_THAT(with([](CreateFlags& f) { f.manifest.reset(); }),
              HasSubstr("--manifest STORE/BUCKET/KEY is missing"));
  for (const char* bad : {"", "a", "a/b", "a/b/", "/b/c", "a//c"}) {
    EXPECT_THAT(with([&](CreateFlags& f) { f.manifest = bad; }), HasSubstr("--manifest is STORE/BUCKET/KEY"))
        << bad;
  }
  EXPECT_THAT(with([](CreateFlags& f) { f.manifest_key = "k"; }), HasSubstr("either --manifest"));
  EXPECT_THAT(with([](CreateFlags& f) { f.fields = "Bucket,Size"; }), HasSubstr("not \"Size\""));
  EXPECT_THAT(with([](CreateFlags& f) { f.report = "main"; }), HasSubstr("--report is STORE/BUCKET"));
  EXPECT_THAT(with([](CreateFlags& f) { f.report_prefix = "p"; }), HasSubstr("needs store and bucket"));
  EXPECT_THAT(with([](CreateFlags& f) { f.report_scope = "all"; }), HasSubstr("needs store and bucket"));
  EXPECT_THAT(with([](CreateFlags& f) { f.report = "a/b", f.report_scope = "some"; }),
              HasSubstr("all or failed"));
  EXPECT_THAT(with([](CreateFlags& f) { f.failure_action = "cry"; }), HasSubstr("fail or pause"));
  EXPECT_THAT(with([](CreateFlags& f) { f.no_failure_threshold = true, f.failure_tasks = 1; }),
              HasSubstr("--no-failure-threshold"));
  CreateFlags tags = Noop();
  tags.operation = "put-tags";
  tags.tags = {"novalue"};
  EXPECT_THAT(Problem(tags), HasSubstr("--tag is KEY=VALUE"));
  tags.tags = {"=v"};
  EXPECT_THAT(Problem(tags), HasSubstr("--tag is KEY=VALUE"));
}

TEST(ExitCodeTest, TellsHowAJobEnded) {
  v1::Job job;
  job.set_state(v1::COMPLETE);
  EXPECT_EQ(ExitCodeForJob(job), ExitCode::kOk);
  job.mutable_progress()->set_failed_tasks(1);
  EXPECT_EQ(ExitCodeForJob(job), ExitCode::kCompleteWithFailures);
  job.set_state(v1::FAILED);
  EXPECT_EQ(ExitCodeForJob(job), ExitCode::kFailedOrCancelled);
  job.set_state(v1::CANCELLED);
  EXPECT_EQ(ExitCodeForJob(job), ExitCode::kFailedOrCancelled);
  job.set_state(v1::ACTIVE);
  EXPECT_EQ(ExitCodeForJob(job), ExitCode::kError);
}

TEST(ExitCodeTest, OnlyTheEndStatesAreTerminal) {
  for (int state = v1::JobState_MIN; state <= v1::JobState_MAX; ++state) {
    const bool terminal = state == v1::COMPLETE || state == v1::FAILED || state == v1::CANCELLED;
    EXPECT_EQ(IsTerminal(static_cast<v1::JobState>(state)), terminal) << state;
  }
}

TEST(ExitCodeTest, TellsUnavailableFromRefused) {
  EXPECT_EQ(ExitCodeForStatus(absl::OkStatus()), ExitCode::kOk);
  EXPECT_EQ(ExitCodeForStatus(absl::UnavailableError("")), ExitCode::kUnavailable);
  EXPECT_EQ(ExitCodeForStatus(absl::DeadlineExceededError("")), ExitCode::kUnavailable);
  EXPECT_EQ(ExitCodeForStatus(absl::NotFoundError("")), ExitCode::kError);
}

}  // namespace
}  // namespace drover::cli
