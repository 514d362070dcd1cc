// ListTaskOutcomes, and the failure summary of a job.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/strings/strings.h"
#include "services/controller/api/failure_summary.h"
#include "services/controller/api/job_handlers.h"
#include "services/controller/api/outcome_view.h"
#include "services/controller/api/page_token.h"
#include "tests/unit/services/controller/api/testing.h"
#include "tests/unit/services/controller/outcome/outcome_storage.h"

namespace drover {
namespace {

using lifecycle::State;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class TaskOutcomesTest : public ::testing::Test {
 protected:
  TaskOutcomesTest() {
    for (BatchNo batch_no = 0; batch_no < 5; ++batch_no) {
      storage_.AddBatch({StrCat("a/", batch_no), StrCat("b/", batch_no), StrCat("c/", batch_no)});
      storage_.AddSegment(batch_no, std::nullopt, {FailedOutcome(0), FailedOutcome(1, "SlowDown", 503)});
    }
    PutJob(State::kActive, 15);
    request_.set_job_id(TestJobId(1));
  }

  void PutJob(State state, int64_t tasks) {
    JobRecord record = GoodRecord(TestJobId(1), state);
    record.snapshot.prepared = true;
    record.snapshot.tasks = tasks;
    record.snapshot.succeeded = 5;
    record.snapshot.failed = 10;
    storage_.Put(record);
  }

  v1::ListTaskOutcomesResponse List() {
    const auto response = handlers_.ListTaskOutcomes({"anonymous"}, request_);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *response : v1::ListTaskOutcomesResponse();
  }
  absl::Status Refused() { return handlers_.ListTaskOutcomes({"anonymous"}, request_).status(); }
  static std::vector<std::string> Keys(const v1::ListTaskOutcomesResponse& response) {
    std::vector<std::string> keys;
    for (const v1::RecordedOutcome& outcome : response.outcomes()) keys.push_back(outcome.task().key());
    return keys;
  }

  OutcomeStorage storage_;
  const Stores stores_ = TestStores();
  FakeClock clock_;
  FakeRandom random_;
  AttachedWorkers workers_{storage_, clock_};
  ManifestPins pins_{stores_, [](const StoreConfig&, const ObjectRef&) -> absl::StatusOr<ObjectInfo> {
                       return ObjectInfo{10, "10-99", "", {}};
                     }};
  JobHandlers handlers_{{storage_, workers_, stores_, pins_, clock_, random_, {}, Authorize}};
  v1::ListTaskOutcomesRequest request_;
};

TEST_F(TaskOutcomesTest, ShowsFailedTasksInTheOrderOfTheManifest) {
  const v1::ListTaskOutcomesResponse response = List();
  EXPECT_THAT(Keys(response),
              ElementsAre("a/0", "b/0", "a/1", "b/1", "a/2", "b/2", "a/3", "b/3", "a/4", "b/4"));
  EXPECT_EQ(response.next_page_token(), "");
  const v1::RecordedOutcome& outcome = response.outcomes(3);
  EXPECT_EQ(outcome.task().position(), 4);
  EXPECT_EQ(outcome.task().bucket(), "photos");
  EXPECT_FALSE(outcome.succeeded());
  EXPECT_EQ(outcome.error_code(), "SlowDown");
  EXPECT_EQ(outcome.http_status(), 503);
  EXPECT_EQ(outcome.message(), "gone");
  EXPECT_EQ(outcome.attempts(), 1);
  EXPECT_EQ(outcome.batch(), 1);
  EXPECT_EQ(outcome.record_time().seconds(), 1'700'000'001);

  request_.set_include_succeeded(true);
  EXPECT_THAT(List().outcomes(), SizeIs(15));
  EXPECT_TRUE(List().outcomes(2).succeeded());
  request_.set_error_code("SlowDown");
  request_.set_key_prefix("b/3");
  EXPECT_THAT(Keys(List()), ElementsAre("b/3"));
}

TEST_F(TaskOutcomesTest, PagesFollowEachOtherAndMayChangeTheirSize) {
  request_.set_page_size(3);
  std::vector<std::string> keys;
  do {
    const v1::ListTaskOutcomesResponse response = List();
    for (const std::string& key : Keys(response)) keys.push_back(key);
    request_.set_page_token(response.next_page_token());
    request_.set_page_size(request_.page_size() + 1);
  } while (!request_.page_token().empty());
  EXPECT_THAT(keys, ElementsAre("a/0", "b/0", "a/1", "b/1", "a/2", "b/2", "a/3", "b/3", "a/4", "b/4"));
}

TEST_F(TaskOutcomesTest, ATokenIsGoodForItsQueryOnly) {
  request_.set_page_size(1);
  request_.set_error_code("NoSuchKey");
  const std::string token = List().next_page_token();
  ASSERT_NE(token, "");
  const v1::ListTaskOutcomesRequest good = request_;
  const std::vector<void (*)(v1::ListTaskOutcomesRequest&)> changes = {
      [](v1::ListTaskOutcomesRequest& r) { r.set_job_id(TestJobId(2)); },
      [](v1::ListTaskOutcomesRequest& r) { r.set_include_succeeded(true); },
      [](v1::ListTaskOutcomesRequest& r) { r.set_error_code("SlowDown"); },
      [](v1::ListTaskOutcomesRequest& r) { r.clear_error_code(); },
      [](v1::ListTaskOutcomesRequest& r) { r.set_error_code(""); },
      [](v1::ListTaskOutcomesRequest& r) { r.set_key_prefix("a"); },
  };
  for (const auto change : changes) {
    request_ = good;
    change(request_);
    request_.set_page_token(token);
    EXPECT_EQ(Refused().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(Refused()), "PAGE_TOKEN_QUERY") << request_.ShortDebugString();
    EXPECT_THAT(FieldPaths(Refused()), ElementsAre("page_token"));
  }
  request_ = good;
  request_.set_page_token(token);
  EXPECT_THAT(Keys(List()), ElementsAre("a/1"));
  // A token of another listing, whose cursor is no place here.
  request_.set_page_token(
      EncodePageToken(OutcomesQuery({TestJobId(1), false, "NoSuchKey", ""}), TestJobId(3)));
  EXPECT_EQ(ReasonOf(Refused()), "PAGE_TOKEN_INVALID");
  EXPECT_THAT(FieldPaths(Refused()), ElementsAre("page_token"));
}

TEST_F(TaskOutcomesTest, OfAJobThatMayRecordMoreEarlierBatchesAreOpen) {
  PutJob(State::kActive, 16);
  EXPECT_TRUE(List().earlier_batches_open());
  PutJob(State::kCancelling, 16);
  EXPECT_TRUE(List().earlier_batches_open()) << "tasks in flight are recorded";
  PutJob(State::kCompleting, 15);
  EXPECT_FALSE(List().earlier_batches_open());
  PutJob(State::kCancelled, 16);
  EXPECT_FALSE(List().earlier_batches_open());
}

TEST_F(TaskOutcomesTest, RefusesWhatIsWrongByItsField) {
  request_.set_page_size(1001);
  EXPECT_THAT(FieldPaths(Refused()), ElementsAre("page_size"));
  request_.set_page_size(0);
  request_.set_error_code(std::string(65, 'x'));
  request_.set_key_prefix(std::string(1025, 'x'));
  EXPECT_THAT(FieldPaths(Refused()), ElementsAre("error_code", "key_prefix"));
  request_ = {};
  EXPECT_THAT(FieldPaths(Refused()), ElementsAre("job_id"));
  request_.set_job_id(TestJobId(9));
  EXPECT_EQ(Refused().code(), absl::StatusCode::kNotFound);
}

TEST(OutcomeCursor, LeadsBackToItsPlaceAndNowhereElse) {
  EXPECT_EQ(*ParseOutcomeCursor(""), TaskRef());
  for (const TaskRef& ref : {TaskRef{0, 0}, TaskRef{7, 4095}, TaskRef{2147483647, 1}}) {
    EXPECT_EQ(*ParseOutcomeCursor(OutcomeCursor(ref)), ref);
  }
  for (const char* wrong : {"1", "1.", ".1", "1.2.3", "-1.0", "1.-1", "1.4096", "2147483648.0", "a.b"}) {
    EXPECT_EQ(ParseOutcomeCursor(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
}

class FailureSummariesTest : public ::testing::Test {
 protected:
  FailureSummariesTest() {
    for (BatchNo batch_no = 0; batch_no < 40; ++batch_no)
      storage_.AddBatch({StrCat("a/", batch_no), StrCat("b/", batch_no)});
  }
  v1::FailureSummary Of(const JobRecord& record) {
    v1::Job job;
    const absl::Status status = summaries_.Fill(record, job);
    EXPECT_TRUE(status.ok()) << status;
    return job.failure_summary();
  }
  static JobRecord Record(int job, std::vector<FailureGroup> groups, int64_t failed) {
    JobRecord record = GoodRecord(TestJobId(job), State::kActive);
    record.failure_groups = std::move(groups);
    record.snapshot.failed = failed;
    return record;
  }

  OutcomeStorage storage_;
  FailureSummaries summaries_{storage_};
};

TEST_F(FailureSummariesTest, PutsKeysToExamplesAndReadsNoBatchTwice) {
  JobRecord record =
      Record(1, {{"NoSuchKey", 404, false, 7, {{3, 1}, {3, 0}}}, {"", 0, true, 2, {{20, 1}}}}, 9);
  const v1::FailureSummary summary = Of(record);
  ASSERT_THAT(summary.groups(), SizeIs(2));
  EXPECT_EQ(summary.groups(0).error_code(), "NoSuchKey");
  EXPECT_EQ(summary.groups(0).http_status(), 404);
  EXPECT_EQ(summary.groups(0).failed_tasks(), 7);
  ASSERT_THAT(summary.groups(0).examples(), SizeIs(2));
  EXPECT_EQ(summary.groups(0).examples(0).key(), "b/3");
  EXPECT_EQ(summary.groups(0).examples(0).position(), 7);
  EXPECT_EQ(summary.groups(0).examples(0).bucket(), "photos");
  EXPECT_EQ(summary.groups(0).examples(1).key(), "a/3");
  EXPECT_EQ(summary.groups(1).error_code(), "(other)");
  EXPECT_TRUE(summary.groups(1).others());
  EXPECT_EQ(summary.groups(1).examples(0).key(), "b/20");
  EXPECT_EQ(storage_.batches_read, 2);

  record.failure_groups[0].tasks = 70;
  record.failure_groups[0].examples.push_back({4, 0});
  EXPECT_EQ(Of(record).groups(0).examples(2).key(), "a/4");
  EXPECT_EQ(storage_.batches_read, 3) << "only the new one";
}

TEST_F(FailureSummariesTest, IsEmptyWithoutFailuresAndCountsWhatIsInNoGroupAsOther) {
  EXPECT_THAT(Of(Record(1, {}, 0)).groups(), IsEmpty());
  const v1::FailureSummary old = Of(Record(1, {}, 5));
  ASSERT_THAT(old.groups(), SizeIs(1));
  EXPECT_TRUE(old.groups(0).others());
  EXPECT_EQ(old.groups(0).failed_tasks(), 5);
  const v1::FailureSummary mixed = Of(Record(1, {{"X", 500, false, 2, {}}, {"", 0, true, 1, {}}}, 5));
  ASSERT_THAT(mixed.groups(), SizeIs(2));
  EXPECT_EQ(mixed.groups(1).failed_tasks(), 3);
}

TEST_F(FailureSummariesTest, ForgetsTheJobsAskedForLongAgo) {
  FailureSummaries small(storage_, 1000);
  for (int job = 0; job < 20; ++job) {
    v1::Job out;
    ASSERT_TRUE(small.Fill(Record(job, {{"X", 500, false, 1, {{job, 0}}}}, 1), out).ok());
  }
  EXPECT_EQ(storage_.batches_read, 20);
  v1::Job out;
  ASSERT_TRUE(small.Fill(Record(19, {{"X", 500, false, 1, {{19, 0}}}}, 1), out).ok());
  EXPECT_EQ(storage_.batches_read, 20);
  ASSERT_TRUE(small.Fill(Record(0, {{"X", 500, false, 1, {{0, 0}}}}, 1), out).ok());
  EXPECT_EQ(storage_.batches_read, 21);
}

TEST_F(FailureSummariesTest, AnExampleThatCannotBeReadIsLeftOut) {
  storage_.SpoilLastBatch();
  const v1::FailureSummary summary = Of(Record(1, {{"X", 500, false, 2, {{39, 0}, {38, 9}, {1, 0}}}}, 2));
  ASSERT_THAT(summary.groups(0).examples(), SizeIs(1));
  EXPECT_EQ(summary.groups(0).examples(0).key(), "a/1");
}

}  // namespace
}  // namespace drover
