#include "services/controller/api/job_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using lifecycle::State;

TEST(JobView, ShowsTheRequestAndEverythingTheServiceSets) {
  JobRecord record = GoodRecord(TestJobId(1), State::kFailing);
  record.spec.created = absl::FromUnixMillis(1'700'000'000'250);
  record.snapshot.previous = State::kActive;
  record.snapshot.reason_code = "FAILURE_THRESHOLD";
  record.snapshot.tasks = 100;
  record.snapshot.succeeded = 20;
  record.snapshot.failed = 30;
  record.reason_message = "30 of 50";
  record.priority = 77;
  record.version = 9;
  record.unconfirmed = 4;
  record.leased_tasks = 5;
  record.active = absl::Milliseconds(1500);
  record.failures = {{"FAILURE_THRESHOLD", "30 of 50", {}}};
  record.state_time = absl::FromUnixSeconds(1'700'000'010);
  record.start_time = absl::FromUnixSeconds(1'700'000'005);
  record.report_state = ReportState::kWriting;
  record.report_files = 3;
  record.report_files_written = 1;
  record.report_error = "slow";

  const absl::StatusOr<v1::Job> job = ViewJob(record, "");
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->job_id(), TestJobId(1));
  EXPECT_EQ(job->operation().put_object_tagging().tags(0).key(), "project");
  EXPECT_EQ(job->priority(), 77);  // the present one, not that of the request
  EXPECT_EQ(job->state(), v1::FAILING);
  EXPECT_EQ(job->previous_state(), v1::ACTIVE);
  EXPECT_EQ(job->state_reason().code(), "FAILURE_THRESHOLD");
  EXPECT_EQ(job->state_reason().message(), "30 of 50");
  EXPECT_EQ(job->progress().total_tasks(), 100);
  EXPECT_EQ(job->progress().succeeded_tasks(), 20);
  EXPECT_EQ(job->progress().failed_tasks(), 30);
  EXPECT_EQ(job->progress().unconfirmed_tasks(), 4);
  EXPECT_EQ(job->progress().leased_tasks(), 5);
  EXPECT_EQ(job->progress().active_duration().seconds(), 1);
  EXPECT_EQ(job->progress().active_duration().nanos(), 500'000'000);
  EXPECT_EQ(job->failures(0).code(), "FAILURE_THRESHOLD");
  EXPECT_EQ(job->creator(), "anonymous");
  EXPECT_EQ(job->create_time().seconds(), 1'700'000'000);
  EXPECT_EQ(job->create_time().nanos(), 250'000'000);
  EXPECT_EQ(job->state_time().seconds(), 1'700'000'010);
  EXPECT_EQ(job->start_time().seconds(), 1'700'000'005);
  EXPECT_FALSE(job->has_end_time());
  EXPECT_EQ(job->version(), 9);
  EXPECT_EQ(job->report_status().state(), v1::ReportStatus::WRITING);
  EXPECT_EQ(job->report_status().files(), 3);
  EXPECT_EQ(job->report_status().files_written(), 1);
  EXPECT_EQ(job->report_status().error(), "slow");
}

TEST(JobView, ShowsBadLinesOfAManifest) {
  JobRecord record = GoodRecord(TestJobId(1), State::kFailed);
  record.failures = {{"MANIFEST_INVALID", "2 bad lines", {{3, "Key: empty"}, {9, "Bucket: has capitals"}}}};
  const absl::StatusOr<v1::Job> job = ViewJob(record, "");
  ASSERT_TRUE(job.ok());
  ASSERT_EQ(job->failures(0).bad_lines_size(), 2);
  EXPECT_EQ(job->failures(0).bad_lines(1).line(), 9);
  EXPECT_EQ(job->failures(0).bad_lines(1).reason(), "Bucket: has capitals");
}

TEST(JobView, ANewJobHasNoStateBeforeAndNoReason) {
  const absl::StatusOr<v1::Job> job = ViewJob(GoodRecord(TestJobId(1)), "");
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->previous_state(), v1::JOB_STATE_UNSPECIFIED);
  EXPECT_FALSE(job->has_state_reason());
  EXPECT_FALSE(job->has_report_status());
  EXPECT_TRUE(job->failures().empty());
}

TEST(JobView, StatesAndReportStatesHaveTheNumbersOfTheApi) {
  for (int number = 1; number <= lifecycle::kStateCount; ++number) {
    const State state = *lifecycle::StateFromNumber(number);
    EXPECT_EQ(v1::JobState_Name(static_cast<v1::JobState>(number)), lifecycle::StateName(state));
  }
  EXPECT_EQ(v1::JobState_MAX, lifecycle::kStateCount);
  EXPECT_EQ(static_cast<int>(ReportState::kPending), v1::ReportStatus::PENDING);
  EXPECT_EQ(static_cast<int>(ReportState::kWriting), v1::ReportStatus::WRITING);
  EXPECT_EQ(static_cast<int>(ReportState::kWritten), v1::ReportStatus::WRITTEN);
  EXPECT_EQ(static_cast<int>(ReportState::kFailed), v1::ReportStatus::FAILED);
  EXPECT_EQ(static_cast<int>(ReportState::kNotNeeded), v1::ReportStatus::NOT_NEEDED);
}

TEST(JobView, TheEtagChangesWithTheVersion) { EXPECT_NE(JobEtag(1), JobEtag(2)); }

TEST(JobView, AStoredRequestThatCannotBeReadIsAnInternalError) {
  JobRecord record = GoodRecord(TestJobId(1));
  record.spec.request = "\xff\xff";
  EXPECT_EQ(ViewJob(record, "").status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace drover
