// Creating, reading, listing and changing jobs.
#include <set>
#include <thread>

#include "absl/time/clock.h"
#include "common/failpoint/failpoint.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

using lifecycle::Cause;
using lifecycle::State;

class JobsTest : public StorageTest {};
DROVER_STORAGE_CONTRACT(JobsTest);

TEST_P(JobsTest, KeepsEverythingOfAJobsSpec) {
  NewJob job = SomeJob();
  job.spec.name_space = "team-a";
  job.spec.request = std::string("\0request\xff", 9);
  job.spec.operation = "put_object_tagging";
  job.spec.min_revision = 3;
  job.spec.stores = {{"main", "fingerprint \"1\""}, {"reports", "2"}};
  job.spec.worker_stores = {"main"};
  job.spec.creator = "bob";
  job.spec.manifest_pin = "12:34";
  job.spec.failure_policy = {false, 0.1, 17, 5, true};
  job.spec.confirmation_required = true;
  job.spec.report_wanted = true;
  job.priority = 2147483647;
  const JobId job_id = CreateJob(job);

  const JobRecord record = Get(job_id);

  EXPECT_EQ(record.spec.job_id, job_id);
  EXPECT_EQ(record.spec.name_space, "team-a");
  EXPECT_EQ(record.spec.request, job.spec.request);
  EXPECT_EQ(record.spec.operation, "put_object_tagging");
  EXPECT_EQ(record.spec.min_revision, 3);
  EXPECT_EQ(record.spec.stores, job.spec.stores);
  EXPECT_EQ(record.spec.worker_stores, job.spec.worker_stores);
  EXPECT_EQ(record.spec.creator, "bob");
  EXPECT_EQ(record.spec.manifest_pin, "12:34");
  EXPECT_FALSE(record.spec.failure_policy.enabled);
  EXPECT_EQ(record.spec.failure_policy.failed_fraction, 0.1);
  EXPECT_EQ(record.spec.failure_policy.minimum_executed, 17);
  EXPECT_EQ(record.spec.failure_policy.failed_tasks, 5);
  EXPECT_TRUE(record.spec.failure_policy.pause);
  EXPECT_TRUE(record.spec.confirmation_required);
  EXPECT_TRUE(record.spec.report_wanted);
  EXPECT_EQ(record.spec.created, job.spec.created);
  EXPECT_EQ(record.priority, 2147483647);
  EXPECT_EQ(record.version, 1);
  EXPECT_EQ(record.snapshot.state, State::kNew);
  EXPECT_TRUE(record.snapshot.confirmation_required);
  EXPECT_FALSE(record.snapshot.prepared);
  EXPECT_EQ(record.report_state, ReportState::kPending);
  EXPECT_FALSE(record.snapshot.report_settled);
  EXPECT_EQ(record.start_time, std::nullopt);
  EXPECT_EQ(record.end_time, std::nullopt);
  EXPECT_EQ(record.active, absl::ZeroDuration());
}

TEST_P(JobsTest, ANewJobHasItsEventAndItsPrepareDuty) {
  const JobId job = CreateJob();
  const std::vector<JobEvent> events = Value(storage().ListEvents(job));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].type, "JobCreated");
  EXPECT_EQ(events[0].version, 1);
  EXPECT_EQ(events[0].caller, "ann");
  EXPECT_EQ(events[0].state, State::kNew);
  EXPECT_EQ(events[0].previous, std::nullopt);
  EXPECT_EQ(Acquire(job, DutyKind::kPrepare).epoch, 1);
  EXPECT_TRUE(Get(job).snapshot.report_settled) << "none is wanted";
}

TEST_P(JobsTest, ARepeatedRequestFindsItsJob) {
  NewJob first = SomeJob();
  first.request_id = "r1";
  first.fingerprint = "f1";
  const JobId job_id = CreateJob(first);
  NewJob again = first;
  again.spec.job_id = NewId();

  const Storage::Created found = Value(storage().CreateJob(again));

  EXPECT_FALSE(found.created);
  EXPECT_EQ(found.job_id, job_id);
  EXPECT_THAT(Value(storage().ListJobs({})), SizeIs(1));
}

TEST_P(JobsTest, ARequestIdIsNotForAnotherRequest) {
  NewJob first = SomeJob();
  first.request_id = "r1";
  first.fingerprint = "f1";
  CreateJob(first);
  NewJob other = SomeJob();
  other.request_id = "r1";
  other.fingerprint = "f2";

  EXPECT_THAT(storage().CreateJob(other).status(),
              IsError(absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED"));
  other.spec.name_space = "elsewhere";
  EXPECT_THAT(storage().CreateJob(other).status(), IsOk());
}

TEST_P(JobsTest, OneRequestSentByManyAtOnceMakesOneJob) {
  NewJob job = SomeJob();
  job.request_id = "r1";
  job.fingerprint = "f1";
  std::vector<std::string> found(8);
  std::vector<std::thread> threads;
  for (std::string& id : found) {
    threads.emplace_back([&] {
      NewJob mine = job;
      mine.spec.job_id = NewId();
      id = Value(storage().CreateJob(mine)).job_id;
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_THAT(std::set<std::string>(found.begin(), found.end()), SizeIs(1));
  EXPECT_THAT(Value(storage().ListJobs({})), SizeIs(1));
}

TEST_P(JobsTest, AJobThatIsNotThereIsNotFound) {
  const auto not_found = IsError(absl::StatusCode::kNotFound, "JOB_NOT_FOUND");
  EXPECT_THAT(storage().GetJob(NewId()).status(), not_found);
  EXPECT_THAT(storage().GetJob("'; DROP SCHEMA drover; --").status(), not_found);
  EXPECT_THAT(Change(NewId(), Cause::kCancel).status(), not_found);
  EXPECT_THAT(storage().SetPriority(NewId(), 1, "ann").status(), not_found);
  EXPECT_THAT(storage().Claim(NewId(), {}, 1, NewLease).status(), not_found);
  EXPECT_THAT(Value(storage().ListEvents(NewId())), IsEmpty());
}

TEST_P(JobsTest, ListsNewestFirstByPagesAndStates) {
  const JobId a = CreateJob();
  const JobId b = ReadyJob({1});
  const JobId c = CreateJob();
  const auto ids = [&](const JobPageQuery& query) {
    std::vector<JobId> found;
    for (const JobRecord& job : Value(storage().ListJobs(query))) found.push_back(job.spec.job_id);
    return found;
  };
  EXPECT_THAT(ids({}), ElementsAre(c, b, a));
  EXPECT_THAT(ids({.limit = 2}), ElementsAre(c, b));
  EXPECT_THAT(ids({.before = b, .limit = 2}), ElementsAre(a));
  EXPECT_THAT(ids({.states = {State::kNew}}), ElementsAre(c, a));
  EXPECT_THAT(ids({.states = {State::kNew, State::kReady}, .before = c}), ElementsAre(b, a));
  EXPECT_THAT(ids({.states = {State::kFailed}}), IsEmpty());
  EXPECT_THAT(Value(storage().CountJobs()),
              UnorderedElementsAre(Pair(State::kNew, 2), Pair(State::kReady, 1)));
}

TEST_P(JobsTest, AChangeGoesWithItsEvent) {
  const JobId job = ReadyJob({4});
  const int64_t version = Get(job).version;

  ASSERT_THAT(Change(job, Cause::kPause, false, "carol").status(), IsOk());

  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.state, State::kPaused);
  EXPECT_EQ(record.snapshot.previous, State::kReady);
  EXPECT_EQ(record.snapshot.reason_code, lifecycle::kReasonUser);
  EXPECT_EQ(record.reason_message, "why");
  EXPECT_EQ(record.reason_caller, "carol");
  EXPECT_EQ(record.version, version + 1);
  const std::vector<JobEvent> events = Value(storage().ListEvents(job));
  const JobEvent& last = events.back();
  EXPECT_EQ(last.version, version + 1);
  EXPECT_EQ(last.type, "JobStatusChanged");
  EXPECT_EQ(last.previous, State::kReady);
  EXPECT_EQ(last.state, State::kPaused);
  EXPECT_EQ(last.reason_code, lifecycle::kReasonUser);
  EXPECT_EQ(last.reason_message, "why");
  EXPECT_EQ(last.caller, "carol");
  EXPECT_EQ(last.time, record.state_time);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].version, static_cast<int64_t>(i) + 1);
}

TEST_P(JobsTest, AJobThatComesToItsEndKeepsThePersonsReason) {
  const JobId job = ReadyJob({4});
  ASSERT_THAT(Change(job, Cause::kCancel, false, "carol").status(), IsOk());
  ASSERT_THAT(Change(job, Cause::kSettle, true).status(), IsOk());

  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.state, State::kCancelled);
  EXPECT_EQ(record.snapshot.reason_code, lifecycle::kReasonUser);
  EXPECT_EQ(record.reason_message, "why");
  EXPECT_EQ(record.reason_caller, "carol");
  const JobEvent last = Value(storage().ListEvents(job)).back();
  EXPECT_EQ(last.state, State::kCancelled);
  EXPECT_EQ(last.reason_message, "why");
  EXPECT_EQ(last.caller, "carol");
}

TEST_P(JobsTest, NoChangeLeavesTheJobAsItIs) {
  const JobId job = ReadyJob({4});
  const int64_t version = Get(job).version;

  EXPECT_EQ(Value(Change(job, Cause::kAllRecorded)), std::nullopt);
  EXPECT_THAT(Change(job, Cause::kConfirm).status(),
              IsError(absl::StatusCode::kFailedPrecondition, "JOB_STATE"));

  EXPECT_EQ(Get(job).version, version);
}

TEST_P(JobsTest, APersonTakesOverAPreemptedPause) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session, 1, 1)[0];
  ASSERT_THAT(Record(job, {WholeBatch(lease, session)}).results, SizeIs(1));
  ASSERT_THAT(Change(job, Cause::kPreempted, true).status(), IsOk());
  ASSERT_EQ(Get(job).snapshot.reason_code, lifecycle::kReasonPreempted);
  const absl::Time since = Get(job).state_time;

  ASSERT_THAT(Change(job, Cause::kPause).status(), IsOk());

  EXPECT_EQ(StateOf(job), State::kPaused);
  EXPECT_EQ(Get(job).snapshot.previous, State::kActive) << "the pair stays legal";
  EXPECT_EQ(Get(job).state_time, since);
  EXPECT_THAT(Claim(job, session), IsEmpty());
}

TEST_P(JobsTest, PreemptedNeedsThatNoLeaseIsOwned) {
  const JobId job = ReadyJob({4, 4});
  Claim(job, CreateSession(), 1, 1);
  EXPECT_EQ(Value(Change(job, Cause::kPreempted, true)), std::nullopt);
  EXPECT_EQ(StateOf(job), State::kActive);
}

TEST_P(JobsTest, AFinishingJobGetsItsFinishDutyAndLosesThatOfPreparing) {
  const JobId job = CreateJob();
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());

  EXPECT_EQ(Acquire(job, DutyKind::kFinish).epoch, 1);
  EXPECT_THAT(Value(storage().AcquireDuties("c", {DutyKind::kPrepare}, 10, absl::Seconds(1))), IsEmpty());
  EXPECT_EQ(Value(Change(job, Cause::kCancel)), std::nullopt) << "a second cancel";
}

TEST_P(JobsTest, EndsOnlyWithoutOwnedLeases) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());

  EXPECT_EQ(Value(Change(job, Cause::kSettle, true)), std::nullopt);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kGivenBack)), 1);
  EXPECT_EQ(Value(Change(job, Cause::kSettle, true))->to, State::kCancelled);

  EXPECT_NE(Get(job).end_time, std::nullopt);
  EXPECT_EQ(Get(job).unconfirmed, 0);
}

TEST_P(JobsTest, TellsWhenAJobStartedAndHowLongItWasActive) {
  const JobId job = ReadyJob({4, 4});
  EXPECT_EQ(Get(job).start_time, std::nullopt);
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session, 1, 1)[0];
  const JobRecord active = Get(job);
  ASSERT_NE(active.start_time, std::nullopt);
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_GE(Get(job).active, absl::Milliseconds(20)) << "up to now";
  ASSERT_THAT(Change(job, Cause::kPause).status(), IsOk());
  ASSERT_THAT(Record(job, {WholeBatch(lease, session)}).results, SizeIs(1));
  ASSERT_THAT(Change(job, Cause::kSettle, true).status(), IsOk());
  ASSERT_EQ(StateOf(job), State::kPaused);

  const absl::Duration paused = Get(job).active;
  EXPECT_GE(paused, absl::Milliseconds(20));
  absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(Get(job).active, paused) << "Paused does not count";
  ASSERT_THAT(Change(job, Cause::kResume).status(), IsOk());
  Claim(job, session);
  EXPECT_EQ(Get(job).start_time, active.start_time) << "the first start stays";
}

TEST_P(JobsTest, SetsThePriorityWithItsEvent) {
  const JobId job = ReadyJob({4});
  const int64_t version = Get(job).version;

  EXPECT_TRUE(Value(storage().SetPriority(job, 7, "carol")));
  EXPECT_FALSE(Value(storage().SetPriority(job, 7, "carol"))) << "it has it already";

  EXPECT_EQ(Get(job).priority, 7);
  EXPECT_EQ(Get(job).version, version + 1);
  const JobEvent last = Value(storage().ListEvents(job)).back();
  EXPECT_EQ(last.type, "JobPriorityChanged");
  EXPECT_EQ(last.priority, 7);
  EXPECT_EQ(last.caller, "carol");
  EXPECT_EQ(last.state, State::kReady);
}

TEST_P(JobsTest, AnEndedJobHasNoUseForAPriority) {
  const JobId job = CreateJob();
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());
  EXPECT_TRUE(Value(storage().SetPriority(job, 7, "ann"))) << "not yet ended";
  ASSERT_THAT(Change(job, Cause::kSettle, true).status(), IsOk());
  EXPECT_THAT(storage().SetPriority(job, 8, "ann").status(),
              IsError(absl::StatusCode::kFailedPrecondition, "JOB_STATE"));
}

TEST_P(JobsTest, KeepsFailuresWithTheirBadLines) {
  const auto [job, duty] = PreparingJob(SomeJob());
  const lifecycle::Failure failure{
      "MANIFEST_LINE", "line 3: \"quoted\" \xff", {{3, "bad"}, {70000000000, "worse"}}};

  ASSERT_THAT(storage().FailPreparation(duty, failure), IsOk());

  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.state, State::kFailing);
  ASSERT_THAT(record.failures, SizeIs(1));
  EXPECT_EQ(record.reason_message, "line 3: \"quoted\" \xef\xbf\xbd");
  EXPECT_EQ(record.failures[0].code, "MANIFEST_LINE");
  EXPECT_EQ(record.failures[0].reason, "line 3: \"quoted\" \xef\xbf\xbd") << "what is not UTF-8 is replaced";
  ASSERT_THAT(record.failures[0].bad_lines, SizeIs(2));
  EXPECT_EQ(record.failures[0].bad_lines[1].line, 70000000000);
  EXPECT_EQ(record.failures[0].bad_lines[1].reason, "worse");
}

TEST_P(JobsTest, PulsesTellThatSomethingChanged) {
  const JobId job = ReadyJob({4, 4});
  const auto pulse = [&] { return Value(storage().ReadPulses({job, NewId()})).at(0); };
  const Storage::JobPulse before = pulse();
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  const Storage::JobPulse claimed = pulse();
  EXPECT_GT(claimed.version, before.version);
  ASSERT_THAT(Record(job, {WholeBatch(leases[0], session)}).results, SizeIs(1));
  const Storage::JobPulse recorded = pulse();

  EXPECT_EQ(recorded.version, claimed.version);
  EXPECT_GT(recorded.activity, claimed.activity);
  EXPECT_FALSE(recorded.terminal);
  EXPECT_THAT(Value(storage().ReadPulses({NewId()})), IsEmpty());
}

TEST_P(JobsTest, ACreationInDoubtIsRepeatedWithoutHarm) {
  for (const char* const request_id : {"", "r1"}) {
    NewJob job = SomeJob();
    job.request_id = request_id;
    {
      const failpoint::Scoped point("storage.create_job.after_commit=error");
      EXPECT_THAT(storage().CreateJob(job).status(), IsError(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN"));
    }
    const Storage::Created again = Value(storage().CreateJob(job));
    EXPECT_EQ(again.job_id, job.spec.job_id);
    EXPECT_TRUE(again.created);
    EXPECT_THAT(Value(storage().ListEvents(job.spec.job_id)), SizeIs(1));
  }
  EXPECT_THAT(Value(storage().ListJobs({})), SizeIs(2));
}

TEST_P(JobsTest, AChangeInDoubtHasHappened) {
  const JobId job = ReadyJob({4});
  {
    const failpoint::Scoped point("storage.change_job.after_commit=error");
    EXPECT_THAT(Change(job, Cause::kPause).status(), IsError(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN"));
  }
  EXPECT_EQ(StateOf(job), State::kPaused);
  EXPECT_EQ(Value(Change(job, Cause::kPause)), std::nullopt) << "asking again changes nothing";
}

}  // namespace
}  // namespace drover::testing
