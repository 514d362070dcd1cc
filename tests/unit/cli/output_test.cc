#include "cli/output.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace drover::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Time kNow = absl::FromUnixSeconds(1'800'000'100);

v1::Job ParseJob(const std::string& text) {
  v1::Job job;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &job));
  return job;
}

v1::Job TaggingJob() {
  return ParseJob(
      R"(job_id: "0194" operation { store: "main" put_object_tagging { tags { key: "a" value: "b" } } }
    manifest { csv { location { store: "main" bucket: "lists" key: "k.csv" } etag: "e1" } }
    report { store: "main" bucket: "reports" prefix: "p" } priority: 10 description: "tag all" state: ACTIVE
    state_reason { code: "USER_REQUEST" message: "go on" caller: "anna" }
    progress { total_tasks: 20000 succeeded_tasks: 12300 failed_tasks: 45 } creator: "anonymous"
    create_time { seconds: 1800000000 } state_time { seconds: 1800000050 } start_time { seconds: 1800000040 })");
}

absl::Status WithDetails(const google::rpc::Status& rpc) {
  absl::Status status(static_cast<absl::StatusCode>(rpc.code()), rpc.message());
  status.SetPayload(kRpcStatusPayload, absl::Cord(rpc.SerializeAsString()));
  return status;
}

TEST(OutputTest, CountsHaveThousandsSeparators) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
  EXPECT_EQ(FormatCount(-123456), "-123,456");
}

TEST(OutputTest, SpansHaveTwoUnitsAtMost) {
  EXPECT_EQ(FormatSpan(absl::Milliseconds(850)), "850ms");
  EXPECT_EQ(FormatSpan(absl::Seconds(59)), "59s");
  EXPECT_EQ(FormatSpan(absl::Seconds(130)), "2m10s");
  EXPECT_EQ(FormatSpan(absl::Minutes(185)), "3h05m");
  EXPECT_EQ(FormatSpan(absl::Hours(102)), "4d06h");
  EXPECT_EQ(FormatSpan(-absl::Seconds(5)), "0ms");
  EXPECT_EQ(FormatSpan(absl::InfiniteDuration()), "?");
}

TEST(OutputTest, EveryStateHasANameAndIsFoundByIt) {
  for (int state = v1::NEW; state <= v1::JobState_MAX; ++state) {
    const auto value = static_cast<v1::JobState>(state);
    EXPECT_EQ(StateFromName(StateName(value)), value);
    EXPECT_EQ(StateFromName(v1::JobState_Name(value)), value);
  }
  EXPECT_EQ(StateFromName("activ"), v1::JOB_STATE_UNSPECIFIED);
}

TEST(OutputTest, ControlCharactersOfAServerDoNotReachTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[31mb\nc\x7f\xc2\x9b"
                      "d é"),
            "a?[31mb c??d é");
  v1::Job job = TaggingJob();
  job.set_description("\x1b]0;x\x07");
  job.mutable_state_reason()->set_message("\x1b[2J");
  job.add_failures()->set_reason("\x1b[2J");
  job.mutable_manifest()->mutable_csv()->mutable_location()->set_key("\x1b");
  for (const std::string& text : {JobDetails(job, kNow), JobTable({job}, kNow), JobSummary(job)}) {
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  }
}

TEST(OutputTest, TableAlignsColumnsByCharacters) {
  EXPECT_EQ(FormatTable({{"A"}, {"N", true}, {"B"}}, {{"é", "7", "x"}, {"long", "1,000", ""}}),
            "A         N  B\n"
            "é         7  x\n"
            "long  1,000\n");
}

TEST(OutputTest, JobTableHasARowForEachJob) {
  v1::Job other;
  other.set_job_id("0195");
  other.set_state(v1::PREPARING);
  other.mutable_operation()->mutable_invoke_http();
  other.set_description(std::string(50, 'd'));
  EXPECT_EQ(JobTable({TaggingJob(), other}, kNow),
            "JOB   STATE      PRIORITY  OPERATION     TASKS   DONE  FAILED    AGE  DESCRIPTION\n"
            "0194  Active           10  put-tags     20,000  61.7%      45  1m40s  tag all\n"
            "0195  Preparing         0  invoke_http       0      -       0      -  " +
                std::string(39, 'd') + "…\n");
}

TEST(OutputTest, JobDetailsTellWhatTheJobWaitsFor) {
  v1::Job job = TaggingJob();
  EXPECT_THAT(JobDetails(job, kNow), Not(HasSubstr("Waits for")));
  job.set_waiting_for("a worker: none is attached");
  EXPECT_THAT(JobDetails(job, kNow), HasSubstr("Waits for     a worker: none is attached\n"));
}

TEST(OutputTest, JobDetailsAnswerWhatWhereAndHowFar) {
  const std::string text = JobDetails(TaggingJob(), kNow);
  EXPECT_THAT(text, AllOf(HasSubstr("State         Active, for 50s\n"),
                          HasSubstr("Reason        USER_REQUEST: go on (anna)\n"),
                          HasSubstr("Operation     put-tags in store main a=b\n"),
                          HasSubstr("Manifest      csv main/lists/k.csv (ETag e1)\n"),
                          HasSubstr("Report        to come: main/reports/p\n"),
                          HasSubstr("  failed      45\n"), HasSubstr("  done        61.7%\n"),
                          HasSubstr("Created       2027-01-15 08:00:00Z by anonymous\n")));
}

TEST(OutputTest, FailedJobNamesItsBadManifestLines) {
  v1::Job job = TaggingJob();
  job.set_state(v1::FAILED);
  v1::JobFailure& failure = *job.add_failures();
  failure.set_code("MANIFEST_INVALID");
  failure.set_reason("2 lines can't be used");
  failure.add_bad_lines()->set_line(17);
  failure.mutable_bad_lines(0)->set_reason("key is longer than 1,024 bytes");
  job.mutable_report_status()->set_state(v1::ReportStatus::NOT_NEEDED);
  EXPECT_THAT(JobDetails(job, kNow), HasSubstr("Failures\n  MANIFEST_INVALID: 2 lines can't be used\n"
                                               "    line 17: key is longer than 1,024 bytes\n"));
  EXPECT_EQ(JobSummary(job),
            "job 0194 is Failed: 12,300 succeeded, 45 failed, of 20,000 tasks\n"
            "  MANIFEST_INVALID: 2 lines can't be used\n"
            "    line 17: key is longer than 1,024 bytes\n"
            "report none, as no task was executed\n");
}

TEST(OutputTest, SummaryTellsWhereTheReportIsAndHowLongItTook) {
  v1::Job job = TaggingJob();
  job.set_state(v1::COMPLETE);
  job.mutable_end_time()->set_seconds(1800000170);
  job.mutable_report_status()->set_state(v1::ReportStatus::WRITTEN);
  job.mutable_report_status()->set_manifest_key("p/job-0194/manifest.json");
  EXPECT_EQ(JobSummary(job),
            "job 0194 is Complete: 12,300 succeeded, 45 failed, of 20,000 tasks in 2m10s\n"
            "report written: main/reports/p/job-0194/manifest.json\n");
}

TEST(OutputTest, WorkerTableShowsMismatchedStores) {
  v1::Worker worker;
  worker.set_name("w1");
  worker.set_session_id("s1");
  worker.add_operations("noop");
  worker.add_operations("copy");
  worker.add_mismatched_stores("main");
  worker.set_leases(3);
  worker.set_draining(true);
  (*worker.mutable_labels())["zone"] = "b";
  (*worker.mutable_labels())["arch"] = "x";
  worker.mutable_expire_time()->set_seconds(1800000112);
  const std::string text = WorkerTable({worker}, kNow);
  EXPECT_THAT(text, AllOf(HasSubstr("draining"), HasSubstr("noop,copy"), HasSubstr("  main  "),
                          HasSubstr("12s"), HasSubstr("arch=x,zone=b")));
}

TEST(OutputTest, JsonIsProtobufsWithZerosShown) {
  v1::JobProgress progress;
  progress.set_total_tasks(5);
  EXPECT_EQ(ToJson(progress, false),
            "{\"totalTasks\":\"5\",\"succeededTasks\":\"0\",\"failedTasks\":\"0\",\"unconfirmedTasks\":\"0\","
            "\"leasedTasks\":\"0\"}\n");
  EXPECT_THAT(ToJson(progress, true), HasSubstr("\n \"totalTasks\": \"5\",\n"));
}

TEST(OutputTest, ErrorListsEachWrongField) {
  google::rpc::Status rpc;
  rpc.set_code(3);
  rpc.set_message("job.priority: must be 0 or more; job.description: too long");
  google::rpc::ErrorInfo info;
  info.set_reason("INVALID_FIELD");
  info.set_domain("drover");
  rpc.add_details()->PackFrom(info);
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("job.priority");
  violation->set_description("must be 0 or more");
  violation = bad.add_field_violations();
  violation->set_field("job.description");
  violation->set_description("too long");
  rpc.add_details()->PackFrom(bad);
  EXPECT_EQ(DescribeError(WithDetails(rpc)),
            "INVALID_ARGUMENT (INVALID_FIELD)\n"
            "  job.priority: must be 0 or more\n"
            "  job.description: too long\n");
  rpc.set_message("the request is refused");
  EXPECT_THAT(DescribeError(WithDetails(rpc)),
              HasSubstr("INVALID_ARGUMENT (INVALID_FIELD): the request is refused\n  job.priority"));
}

TEST(OutputTest, ErrorWithoutDetailsIsItsCodeAndMessage) {
  EXPECT_EQ(DescribeError(absl::NotFoundError("no job has id x")), "NOT_FOUND: no job has id x\n");
  absl::Status status = absl::InternalError("broken");
  status.SetPayload(kRpcStatusPayload, absl::Cord("\xff\xff"));
  EXPECT_EQ(DescribeError(status), "INTERNAL: broken\n");
}

}  // namespace
}  // namespace drover::cli
