#include "services/controller/api/job_handlers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/strings/strings.h"
#include "services/controller/api/validate.h"
#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using lifecycle::State;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class JobHandlersTest : public ::testing::Test {
 protected:
  JobHandlers Make(AuthorizeFn authorize = Authorize) {
    return JobHandlers({storage_, workers_, stores_, pins_, clock_, random_, hooks_, std::move(authorize)});
  }
  JobId Create() {
    const auto response = handlers_.CreateJob(caller_, GoodRequest());
    EXPECT_TRUE(response.ok()) << response.status();
    return response->job().job_id();
  }
  // Puts the job into a state as if it had got there by itself.
  void Move(const JobId& job_id, State state, std::string reason_code = "") {
    JobRecord record = storage_.Get(job_id);
    record.snapshot.state = state;
    record.snapshot.reason_code = std::move(reason_code);
    storage_.Put(record);
  }

  FakeStorage storage_;
  const Stores stores_ = TestStores();
  FakeClock clock_;
  FakeRandom random_;
  AttachedWorkers workers_{storage_, clock_};
  ManifestPins pins_{stores_, [](const StoreConfig&, const ObjectRef&) -> absl::StatusOr<ObjectInfo> {
                       return ObjectInfo{10, "10-99", "", {}};
                     }};
  std::vector<JobId> changed_;
  int created_ = 0;
  const ApiHooks hooks_{[this](const JobId& job_id) { changed_.push_back(job_id); }, [this] { ++created_; }};
  const Caller caller_{"anonymous"};
  JobHandlers handlers_ = Make();
};

TEST_F(JobHandlersTest, AJobThatNobodyCanRunSaysWhatItWaitsFor) {
  const JobId job_id = Create();
  JobRecord record = storage_.Get(job_id);
  record.snapshot.state = State::kReady;
  record.snapshot.tasks = 5;
  storage_.Put(record);
  v1::GetJobRequest get;
  get.set_job_id(job_id);
  EXPECT_EQ(handlers_.GetJob(caller_, get)->job().waiting_for(), "a worker: none is attached");
  EXPECT_EQ(handlers_.ListJobs(caller_, {})->jobs(0).waiting_for(), "a worker: none is attached");
}

TEST_F(JobHandlersTest, CreatesAJobAndShowsIt) {
  const auto response = handlers_.CreateJob(caller_, GoodRequest());
  ASSERT_TRUE(response.ok()) << response.status();
  const v1::Job& job = response->job();
  EXPECT_TRUE(ValidateJobId(job.job_id()).ok());
  EXPECT_EQ(job.state(), v1::NEW);
  EXPECT_EQ(job.creator(), "anonymous");
  EXPECT_EQ(job.priority(), 10);
  EXPECT_EQ(job.retry_policy().max_attempts(), 5);  // defaults are stored
  EXPECT_EQ(job.create_time().seconds(), absl::ToUnixSeconds(clock_.Now()));
  EXPECT_EQ(job.report_status().state(), v1::ReportStatus::PENDING);
  EXPECT_EQ(created_, 1);

  const JobSpec spec = storage_.Get(job.job_id()).spec;
  EXPECT_EQ(spec.operation, "put_object_tagging");
  EXPECT_EQ(spec.stores.size(), 2u);
  EXPECT_THAT(spec.worker_stores, ElementsAre("main"));
  EXPECT_EQ(spec.manifest_pin, "");
  EXPECT_TRUE(spec.report_wanted);
}

TEST_F(JobHandlersTest, ARepeatedCallReturnsTheJobMadeBefore) {
  const JobId first = Create();
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(Create(), first);
  EXPECT_EQ(created_, 1);
}

TEST_F(JobHandlersTest, ARequestIdUsedForAnotherRequestIsRefused) {
  Create();
  v1::CreateJobRequest other = GoodRequest();
  other.mutable_job()->set_priority(11);
  const absl::Status status = handlers_.CreateJob(caller_, other).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(status), "REQUEST_ID_REUSED");
}

TEST_F(JobHandlersTest, ALostCommitIsAskedAboutByTheRequestId) {
  storage_.LoseNextCommit(Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", "connection broke"));
  const auto response = handlers_.CreateJob(caller_, GoodRequest());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(storage_.calls("CreateJob"), 2);
  EXPECT_EQ(Create(), response->job().job_id());
}

TEST_F(JobHandlersTest, AFileManifestIsPinned) {
  v1::CreateJobRequest request = GoodRequest();
  request.mutable_job()->mutable_manifest()->mutable_csv()->mutable_location()->set_store("local");
  request.mutable_job()->mutable_manifest()->mutable_csv()->clear_etag();
  const auto response = handlers_.CreateJob(caller_, request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(storage_.Get(response->job().job_id()).spec.manifest_pin, "10-99");
}

TEST_F(JobHandlersTest, ValidateOnlyChecksEverythingAndCreatesNothing) {
  v1::CreateJobRequest request = GoodRequest();
  request.set_validate_only(true);
  const auto response = handlers_.CreateJob(caller_, request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->job().job_id(), "");
  EXPECT_EQ(response->job().retry_policy().max_attempts(), 5);
  EXPECT_EQ(storage_.all_calls(), 0);
  request.mutable_job()->set_priority(-1);
  EXPECT_EQ(ReasonOf(handlers_.CreateJob(caller_, request).status()), "INVALID_FIELD");
}

TEST_F(JobHandlersTest, TheObjectsOfAnInlineManifestAreStoredForThePreparationOnly) {
  v1::CreateJobRequest request = GoodRequest();
  v1::InlineObject& object = *request.mutable_job()->mutable_manifest()->mutable_inline_()->add_objects();
  object.set_bucket("photos");
  object.set_key("a");
  const auto response = handlers_.CreateJob(caller_, request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->job().manifest().inline_().objects_size(), 0);
  EXPECT_EQ(response->job().manifest().inline_().object_count(), 1);
  EXPECT_THAT(storage_.prepare_progress(response->job().job_id()), testing::HasSubstr("photos"));
  EXPECT_THAT(storage_.Get(response->job().job_id()).spec.request,
              testing::Not(testing::HasSubstr("photos")));
}

TEST_F(JobHandlersTest, NothingIsStoredOfARequestThatIsRefused) {
  v1::CreateJobRequest request = GoodRequest();
  request.mutable_job()->mutable_operation()->set_store("nowhere");
  EXPECT_FALSE(handlers_.CreateJob(caller_, request).ok());
  EXPECT_EQ(storage_.all_calls(), 0);
  EXPECT_EQ(created_, 0);
}

TEST_F(JobHandlersTest, GetJob) {
  v1::GetJobRequest request;
  request.set_job_id(Create());
  EXPECT_EQ(handlers_.GetJob(caller_, request)->job().job_id(), request.job_id());
  request.set_job_id(TestJobId(9));
  EXPECT_EQ(ReasonOf(handlers_.GetJob(caller_, request).status()), "JOB_NOT_FOUND");
  request.set_job_id("9");
  EXPECT_THAT(FieldPaths(handlers_.GetJob(caller_, request).status()), ElementsAre("job_id"));
}

TEST_F(JobHandlersTest, ListJobsPagesThroughAllJobsNewestFirst) {
  for (int i = 0; i < 7; ++i) storage_.Put(GoodRecord(TestJobId(i)));
  v1::ListJobsRequest request;
  request.set_page_size(3);
  std::vector<std::string> ids;
  int pages = 0;
  do {
    const auto response = handlers_.ListJobs(caller_, request);
    ASSERT_TRUE(response.ok()) << response.status();
    for (const v1::Job& job : response->jobs()) ids.push_back(job.job_id());
    request.set_page_token(response->next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(pages, 3);
  ASSERT_EQ(ids.size(), 7u);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(ids[i], TestJobId(6 - i));
}

TEST_F(JobHandlersTest, ListJobsHasNoTokenAfterAFullLastPage) {
  for (int i = 0; i < 4; ++i) storage_.Put(GoodRecord(TestJobId(i)));
  v1::ListJobsRequest request;
  request.set_page_size(4);
  EXPECT_EQ(handlers_.ListJobs(caller_, request)->next_page_token(), "");
}

TEST_F(JobHandlersTest, ListJobsFiltersByState) {
  storage_.Put(GoodRecord(TestJobId(1), State::kActive));
  storage_.Put(GoodRecord(TestJobId(2), State::kComplete));
  storage_.Put(GoodRecord(TestJobId(3), State::kActive));
  v1::ListJobsRequest request;
  request.add_states(v1::ACTIVE);
  request.set_page_size(1);
  const auto response = handlers_.ListJobs(caller_, request);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->jobs(0).job_id(), TestJobId(3));
  // The token is good for this filter only; the page size may change.
  request.set_page_token(response->next_page_token());
  request.set_page_size(50);
  EXPECT_EQ(handlers_.ListJobs(caller_, request)->jobs(0).job_id(), TestJobId(1));
  request.add_states(v1::COMPLETE);
  EXPECT_EQ(ReasonOf(handlers_.ListJobs(caller_, request).status()), "PAGE_TOKEN_QUERY");
}

TEST_F(JobHandlersTest, APageOfLargeJobsEndsBeforeItIsTooLargeForAClient) {
  JobRecord record = GoodRecord(TestJobId(0), State::kFailed);
  lifecycle::Failure failure{"MANIFEST_INVALID", "bad lines", {}};
  for (int i = 0; i < 10; ++i) failure.bad_lines.push_back({i, std::string(1000, 'x')});
  record.failures = {failure};
  for (int i = 0; i < 900; ++i) {
    record.spec.job_id = TestJobId(i);
    storage_.Put(record);
  }
  v1::ListJobsRequest request;
  request.set_page_size(1000);
  int seen = 0;
  do {
    const auto response = handlers_.ListJobs(caller_, request);
    ASSERT_TRUE(response.ok());
    EXPECT_LE(response->ByteSizeLong(), kMaxPageBytes + 100'000);
    seen += response->jobs_size();
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(seen, 900);
}

TEST_F(JobHandlersTest, APersonsChangesAreKeptWithReasonAndCaller) {
  const JobId job_id = Create();
  Move(job_id, State::kReady);
  v1::PauseJobRequest pause;
  pause.set_job_id(job_id);
  pause.set_reason("too loud");
  const auto paused = handlers_.PauseJob({"ada"}, pause);
  ASSERT_TRUE(paused.ok()) << paused.status();
  EXPECT_EQ(paused->job().state(), v1::PAUSED);
  EXPECT_EQ(paused->job().state_reason().code(), "USER_REQUEST");
  EXPECT_EQ(paused->job().state_reason().message(), "too loud");
  EXPECT_EQ(paused->job().state_reason().caller(), "ada");
  EXPECT_THAT(changed_, ElementsAre(job_id));

  v1::ResumeJobRequest resume;
  resume.set_job_id(job_id);
  EXPECT_EQ(handlers_.ResumeJob(caller_, resume)->job().state(), v1::READY);
  v1::CancelJobRequest cancel;
  cancel.set_job_id(job_id);
  EXPECT_EQ(handlers_.CancelJob(caller_, cancel)->job().state(), v1::CANCELLING);
  EXPECT_EQ(changed_.size(), 3u);
  EXPECT_EQ(handlers_.CancelJob(caller_, cancel)->job().state(), v1::CANCELLING);  // no change: no wake
  EXPECT_EQ(changed_.size(), 3u);
}

TEST_F(JobHandlersTest, ConfirmsOnlyASuspendedJob) {
  const JobId job_id = Create();
  v1::ConfirmJobRequest confirm;
  confirm.set_job_id(job_id);
  const absl::Status refused = handlers_.ConfirmJob(caller_, confirm).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(refused), "JOB_STATE");
  EXPECT_EQ(GetErrorDetails(refused)->metadata.at("state"), "NEW");
  Move(job_id, State::kSuspended);
  EXPECT_EQ(handlers_.ConfirmJob(caller_, confirm)->job().state(), v1::READY);
}

TEST_F(JobHandlersTest, ChangesThePriority) {
  v1::UpdateJobPriorityRequest request;
  request.set_job_id(Create());
  request.set_priority(2147483647);
  EXPECT_EQ(handlers_.UpdateJobPriority(caller_, request)->job().priority(), 2147483647);
  EXPECT_EQ(changed_.size(), 1u);
  EXPECT_TRUE(handlers_.UpdateJobPriority(caller_, request).ok());
  EXPECT_EQ(changed_.size(), 1u);
  request.set_priority(-1);
  EXPECT_THAT(FieldPaths(handlers_.UpdateJobPriority(caller_, request).status()), ElementsAre("priority"));
}

TEST_F(JobHandlersTest, ReasonsAreLimited) {
  v1::CancelJobRequest cancel;
  cancel.set_job_id(TestJobId(1));
  cancel.set_reason(std::string(257, 'x'));
  EXPECT_THAT(FieldPaths(handlers_.CancelJob(caller_, cancel).status()), ElementsAre("reason"));
  EXPECT_EQ(storage_.all_calls(), 0);
}

// Each call, by name, as a caller would make it.
std::vector<std::pair<std::string, std::function<absl::Status(JobHandlers&, const Caller&)>>> AllCalls() {
  const auto by_id = [](auto request) {
    request.set_job_id(TestJobId(1));
    return request;
  };
  return {
      {"create a job", [](auto& h, auto& c) { return h.CreateJob(c, GoodRequest()).status(); }},
      {"see a job", [=](auto& h, auto& c) { return h.GetJob(c, by_id(v1::GetJobRequest())).status(); }},
      {"list jobs", [](auto& h, auto& c) { return h.ListJobs(c, {}).status(); }},
      {"change a job's priority",
       [=](auto& h, auto& c) {
         return h.UpdateJobPriority(c, by_id(v1::UpdateJobPriorityRequest())).status();
       }},
      {"confirm a job",
       [=](auto& h, auto& c) { return h.ConfirmJob(c, by_id(v1::ConfirmJobRequest())).status(); }},
      {"cancel a job",
       [=](auto& h, auto& c) { return h.CancelJob(c, by_id(v1::CancelJobRequest())).status(); }},
      {"pause a job", [=](auto& h, auto& c) { return h.PauseJob(c, by_id(v1::PauseJobRequest())).status(); }},
      {"resume a job",
       [=](auto& h, auto& c) { return h.ResumeJob(c, by_id(v1::ResumeJobRequest())).status(); }},
      {"read a job's outcomes",
       [=](auto& h, auto& c) {
         return h.ListTaskOutcomes(c, by_id(v1::ListTaskOutcomesRequest())).status();
       }},
      {"watch a job", [=](auto& h, auto& c) { return h.CheckWatch(c, by_id(v1::WatchJobRequest())); }},
  };
}

TEST_F(JobHandlersTest, EveryCallAsksOnceWhetherItMayAndDoesNothingWhenItMayNot) {
  for (const auto& [name, call] : AllCalls()) {
    SCOPED_TRACE(name);
    std::vector<std::string> asked;
    JobHandlers handlers = Make([&](const Caller&, Action action, std::string_view) {
      asked.push_back(std::string(ActionName(action)));
      return Error(absl::StatusCode::kPermissionDenied, "PERMISSION_DENIED", "no");
    });
    EXPECT_EQ(call(handlers, caller_).code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(asked, ElementsAre(name));
    EXPECT_EQ(storage_.all_calls(), 0);
  }
}

TEST_F(JobHandlersTest, ACallerWithoutANameMayDoNothing) {
  for (const auto& [name, call] : AllCalls()) {
    EXPECT_EQ(ReasonOf(call(handlers_, Caller{})), "PERMISSION_DENIED") << name;
  }
  EXPECT_EQ(storage_.all_calls(), 0);
}

TEST_F(JobHandlersTest, TheDatabasesErrorsComeThroughAndWakeNobody) {
  storage_.Fail(absl::UnavailableError("down"));
  for (const auto& [name, call] : AllCalls()) {
    if (name == "watch a job") continue;  // the watcher waits for the database
    EXPECT_EQ(call(handlers_, caller_).code(), absl::StatusCode::kUnavailable) << name;
  }
  EXPECT_THAT(changed_, IsEmpty());
  EXPECT_EQ(created_, 0);
}

}  // namespace
}  // namespace drover
