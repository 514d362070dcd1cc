// Duties and what is written under them: preparation and report.
#include <map>

#include "absl/time/clock.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using lifecycle::Cause;
using lifecycle::State;

const auto kDutyLost = IsError(absl::StatusCode::kAborted, "DUTY_LOST");
constexpr absl::Duration kBrief = absl::Milliseconds(30);

class DutiesTest : public StorageTest {
 protected:
  std::vector<Duty> Due(DutyKind kind, absl::Duration lease = absl::Minutes(5), int limit = 100) {
    return Value(storage().AcquireDuties("controller", {kind}, limit, lease), "AcquireDuties");
  }
  // A job that has recorded everything: Completing.
  JobId CompletingJob(const NewJob& spec) {
    const JobId job = ReadyJob({4, 4}, spec);
    const SessionId session = CreateSession();
    const std::vector<ClaimedLease> leases = Claim(job, session);
    Record(job, {WholeBatch(leases[0], session), WholeBatch(leases[1], session, 1)});
    EXPECT_EQ(StateOf(job), State::kCompleting);
    return job;
  }
  static NewJob WithReport() {
    NewJob job = SomeJob();
    job.spec.report_wanted = true;
    return job;
  }
  static ReportPlan TwoFiles() {
    ReportPlan plan;
    plan.created = absl::FromUnixMicros(1700000000123456);
    plan.deadline = plan.created + absl::Minutes(15);
    plan.files.resize(2);
    plan.files[0].key = "results/succeeded";
    plan.files[0].end_batch = 2;
    plan.files[1].part = 1;
    plan.files[1].failed_rows = true;
    plan.files[1].first_batch = 1;
    plan.files[1].end_batch = 2;
    plan.files[1].key = "results/failed";
    return plan;
  }
};
DROVER_STORAGE_CONTRACT(DutiesTest);

TEST_P(DutiesTest, APrepareDutyBeginsWithTheProgressThatItsJobWasCreatedWith) {
  NewJob with = SomeJob();
  with.prepare_progress = std::string("\0keys\xff", 6);
  const JobId job = CreateJob(with);
  const JobId plain = CreateJob();
  std::map<JobId, std::string> progress;
  for (const Duty& duty : Due(DutyKind::kPrepare)) progress[duty.job_id] = duty.progress;
  EXPECT_EQ(progress.at(job), with.prepare_progress);
  EXPECT_EQ(progress.at(plain), "");
}

TEST_P(DutiesTest, OneHolderAtATime) {
  const JobId job = CreateJob();
  const std::vector<Duty> first = Due(DutyKind::kPrepare);
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].job_id, job);
  EXPECT_EQ(first[0].kind, DutyKind::kPrepare);
  EXPECT_EQ(first[0].epoch, 1);
  EXPECT_EQ(first[0].tries, 0);
  EXPECT_EQ(first[0].progress, "");
  EXPECT_THAT(Due(DutyKind::kPrepare), IsEmpty());
  EXPECT_THAT(Due(DutyKind::kFinish), IsEmpty());
}

TEST_P(DutiesTest, TakesTheOldestUpToTheLimit) {
  const JobId first = CreateJob();
  const JobId second = CreateJob();
  EXPECT_EQ(Due(DutyKind::kPrepare, absl::Minutes(1), 1).at(0).job_id, first);
  EXPECT_EQ(Due(DutyKind::kPrepare, absl::Minutes(1), 1).at(0).job_id, second);
}

TEST_P(DutiesTest, ASuccessorTakesOverWhenTheTimeIsOver) {
  const auto [job, unused] = PreparingJob(SomeJob());
  ASSERT_THAT(storage().ReleaseDuty(unused, absl::ZeroDuration(), false), IsOk());
  const Duty stale = Due(DutyKind::kPrepare, kBrief).at(0);
  absl::SleepFor(kBrief * 2);
  ASSERT_THAT(storage().AppendBatches(stale, {Batches({4}), "4", false}), IsOk())
      << "nobody has taken it yet";

  const Duty successor = Due(DutyKind::kPrepare).at(0);

  EXPECT_EQ(successor.epoch, stale.epoch + 1);
  EXPECT_EQ(successor.progress, "4");
  EXPECT_THAT(storage().AppendBatches(stale, {Batches({4}, 4), "8", false}), kDutyLost);
  EXPECT_THAT(storage().FailPreparation(stale, {"X", "x", {}}), kDutyLost);
  EXPECT_THAT(storage().FinishDuty(stale), kDutyLost);
  EXPECT_THAT(storage().ReleaseDuty(stale, absl::ZeroDuration(), true), kDutyLost);
  EXPECT_THAT(Value(storage().RenewDuties({stale, successor}, absl::Minutes(1))), ElementsAre(false, true));
  EXPECT_THAT(storage().AppendBatches(successor, {Batches({4}, 4), "8", false}), IsOk());
  EXPECT_EQ(Get(job).snapshot.tasks, 8);
}

TEST_P(DutiesTest, RenewingProlongs) {
  CreateJob();
  const Duty duty = Due(DutyKind::kPrepare, kBrief).at(0);
  ASSERT_THAT(Value(storage().RenewDuties({duty}, absl::Minutes(1))), ElementsAre(true));
  absl::SleepFor(kBrief * 2);
  EXPECT_THAT(Due(DutyKind::kPrepare), IsEmpty());
  EXPECT_THAT(Value(storage().RenewDuties({}, absl::Minutes(1))), IsEmpty());
}

TEST_P(DutiesTest, LetGoOfItIsTakenUpAfterTheDelay) {
  CreateJob();
  Duty duty = Due(DutyKind::kPrepare).at(0);
  ASSERT_THAT(storage().ReleaseDuty(duty, kBrief, true), IsOk());
  EXPECT_THAT(storage().FinishDuty(duty), kDutyLost) << "nobody holds it";
  EXPECT_THAT(Value(storage().RenewDuties({duty}, absl::Minutes(1))), ElementsAre(false));
  absl::SleepFor(kBrief * 2);

  duty = Due(DutyKind::kPrepare).at(0);
  EXPECT_EQ(duty.tries, 1);
  EXPECT_EQ(duty.epoch, 2);
  ASSERT_THAT(storage().ReleaseDuty(duty, absl::ZeroDuration(), false), IsOk());
  duty = Due(DutyKind::kPrepare).at(0);
  EXPECT_EQ(duty.tries, 1) << "not a failed one";
  ASSERT_THAT(storage().ReleaseDuty(duty, absl::Minutes(5), false), IsOk());
  EXPECT_THAT(Due(DutyKind::kPrepare), IsEmpty()) << "not before the delay is over";
}

TEST_P(DutiesTest, AFinishedDutyIsGone) {
  CreateJob();
  const Duty duty = Due(DutyKind::kPrepare, kBrief).at(0);
  EXPECT_THAT(storage().FinishDuty(duty), IsOk());
  absl::SleepFor(kBrief * 2);
  EXPECT_THAT(Due(DutyKind::kPrepare), IsEmpty());
  EXPECT_THAT(storage().FinishDuty(duty), IsOk()) << "again, after a commit in doubt";
}

TEST_P(DutiesTest, WakingMakesItDue) {
  const JobId job = CompletingJob(SomeJob());
  Duty duty = Due(DutyKind::kFinish).at(0);
  ASSERT_THAT(storage().ReleaseDuty(duty, absl::Minutes(5), false), IsOk());
  EXPECT_THAT(Due(DutyKind::kFinish), IsEmpty());

  ASSERT_THAT(storage().WakeFinish(job), IsOk());

  duty = Due(DutyKind::kFinish).at(0);
  ASSERT_THAT(storage().WakeFinish(job), IsOk());
  EXPECT_THAT(Due(DutyKind::kFinish), IsEmpty()) << "waking takes nothing from its holder";
  ASSERT_THAT(storage().ReleaseDuty(duty, absl::Minutes(5), false), IsOk());
  EXPECT_THAT(Due(DutyKind::kFinish), SizeIs(1)) << "what woke it while it was held is not forgotten";
  EXPECT_THAT(storage().WakeFinish(NewId()), IsOk());
}

TEST_P(DutiesTest, PreparesInChunks) {
  const auto [job, duty] = PreparingJob(SomeJob());
  ASSERT_THAT(storage().AppendBatches(duty, {Batches({32, 32}), "line 64", false}), IsOk());
  EXPECT_EQ(StateOf(job), State::kPreparing);
  EXPECT_EQ(Get(job).snapshot.tasks, 64);
  EXPECT_EQ(Get(job).snapshot.batches, 2);
  ASSERT_THAT(storage().AppendBatches(duty, {Batches({32, 7}, 64), "line 103", true}), IsOk());

  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.state, State::kReady);
  EXPECT_TRUE(record.snapshot.prepared);
  EXPECT_EQ(record.snapshot.tasks, 103);
  EXPECT_EQ(record.snapshot.batches, 4);
  EXPECT_THAT(storage().AppendBatches(duty, {Batches({1}, 103), "", true}), kDutyLost) << "done";
  const std::vector<BatchPayload> batches = Value(storage().ReadBatchRange(job, 0, 10, 10));
  ASSERT_THAT(batches, SizeIs(4));
  EXPECT_EQ(batches[3].first_task, 96);
  EXPECT_EQ(batches[3].tasks, 7);
}

TEST_P(DutiesTest, AnEmptyManifestCompletesAtOnce) {
  const auto [job, duty] = PreparingJob(SomeJob());
  ASSERT_THAT(storage().AppendBatches(duty, {{}, "", true}), IsOk());
  EXPECT_EQ(StateOf(job), State::kCompleting);
  EXPECT_EQ(Due(DutyKind::kFinish).at(0).job_id, job);
}

TEST_P(DutiesTest, AJobToBeConfirmedIsSuspended) {
  NewJob spec = SomeJob();
  spec.spec.confirmation_required = true;
  EXPECT_EQ(StateOf(ReadyJob({4}, spec)), State::kSuspended);
}

TEST_P(DutiesTest, AChunkInDoubtIsAppendedOnce) {
  const auto [job, duty] = PreparingJob(SomeJob());
  const Storage::PrepareChunk chunk{Batches({4, 4}), "8", false};
  ASSERT_THAT(storage().AppendBatches(duty, chunk), IsOk());

  EXPECT_THAT(storage().AppendBatches(duty, chunk), IsOk());

  EXPECT_EQ(Get(job).snapshot.tasks, 8);
  EXPECT_EQ(Get(job).snapshot.batches, 2);
}

TEST_P(DutiesTest, AChunkThatDoesNotFollowIsRefused) {
  const auto [job, duty] = PreparingJob(SomeJob());
  ASSERT_THAT(storage().AppendBatches(duty, {Batches({4}), "4", false}), IsOk());
  const auto gap = IsError(absl::StatusCode::kInternal, "CHUNK_GAP");
  EXPECT_THAT(storage().AppendBatches(duty, {Batches({4}, 5), "9", false}), gap);
  EXPECT_THAT(storage().AppendBatches(duty, {Batches({4}, 3), "7", false}), gap);
  EXPECT_THAT(storage().AppendBatches(duty, {{{4, 2, ""}, {7, 2, ""}}, "9", false}), gap);
  EXPECT_EQ(Get(job).snapshot.tasks, 4);
}

TEST_P(DutiesTest, APreparationThatWasCancelledStopsAndItsDutyGoes) {
  const auto [job, duty] = PreparingJob(SomeJob());
  ASSERT_THAT(storage().AppendBatches(duty, {Batches({4}), "4", false}), IsOk());
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());

  EXPECT_FALSE(storage().AppendBatches(duty, {Batches({4}, 4), "8", false}).ok());

  EXPECT_EQ(Get(job).snapshot.tasks, 4);
  EXPECT_EQ(StateOf(job), State::kCancelling);
  EXPECT_THAT(Due(DutyKind::kPrepare), IsEmpty());
  EXPECT_THAT(storage().FinishDuty(duty), IsOk());
}

TEST_P(DutiesTest, AManifestThatCantBeUsedFailsTheJob) {
  const auto [job, duty] = PreparingJob(SomeJob());
  ASSERT_THAT(storage().FailPreparation(duty, {"MANIFEST_CHANGED", "its ETag is another one", {}}), IsOk());

  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.state, State::kFailing);
  EXPECT_EQ(record.snapshot.reason_code, "MANIFEST_CHANGED");
  EXPECT_EQ(record.reason_message, "its ETag is another one");
  EXPECT_THAT(record.failures, SizeIs(1));
  EXPECT_THAT(storage().FinishDuty(duty), IsOk()) << "gone";
  EXPECT_EQ(Due(DutyKind::kFinish).at(0).job_id, job);
}

TEST_P(DutiesTest, AReportIsPlannedOnce) {
  const JobId job = CompletingJob(WithReport());
  const Duty finish = Due(DutyKind::kFinish).at(0);
  EXPECT_EQ(Value(storage().ReadReportPlan(job)), std::nullopt);

  const ReportPlan first = Value(storage().PlanReport(finish, TwoFiles()));
  ReportPlan other = TwoFiles();
  other.created += absl::Seconds(1);
  other.files.pop_back();
  const ReportPlan second = Value(storage().PlanReport(finish, other));

  for (const ReportPlan& plan : {first, second, *Value(storage().ReadReportPlan(job))}) {
    EXPECT_EQ(plan.created, TwoFiles().created);
    EXPECT_EQ(plan.deadline, TwoFiles().deadline);
    ASSERT_THAT(plan.files, SizeIs(2));
    EXPECT_EQ(plan.files[1].key, "results/failed");
    EXPECT_TRUE(plan.files[1].failed_rows);
    EXPECT_EQ(plan.files[1].first_batch, 1);
    EXPECT_FALSE(plan.files[1].written);
  }
  const JobRecord record = Get(job);
  EXPECT_EQ(record.report_state, ReportState::kWriting);
  EXPECT_EQ(record.report_files, 2);
  EXPECT_EQ(record.report_files_written, 0);
  EXPECT_THAT(Due(DutyKind::kReportFile), SizeIs(2));
}

TEST_P(DutiesTest, FilesAreWrittenUnderTheirOwnDuties) {
  const JobId job = CompletingJob(WithReport());
  const Duty finish = Due(DutyKind::kFinish).at(0);
  Value(storage().PlanReport(finish, TwoFiles()));
  ASSERT_THAT(storage().ReleaseDuty(finish, absl::Minutes(5), false), IsOk());
  const Duty stale = Acquire(job, DutyKind::kReportFile, 1, absl::ZeroDuration());
  ASSERT_THAT(storage().SetUpload(stale, "upload 1"), IsOk());
  const Duty duty = Acquire(job, DutyKind::kReportFile, 1);
  EXPECT_EQ(Value(storage().ReadReportFile(job, 1)).upload_id, "upload 1") << "for the successor to abort";
  EXPECT_THAT(storage().SetUpload(stale, "upload 2"), kDutyLost);
  ReportFile file = TwoFiles().files[1];
  file.rows = 1;
  file.bytes = 99;
  file.md5 = "abc";
  file.sha256 = "def";
  EXPECT_THAT(storage().FinishReportFile(stale, file), kDutyLost);

  ASSERT_THAT(storage().FinishReportFile(duty, file), IsOk());

  const ReportFile written = Value(storage().ReadReportFile(job, 1));
  EXPECT_TRUE(written.written);
  EXPECT_EQ(written.rows, 1);
  EXPECT_EQ(written.bytes, 99);
  EXPECT_EQ(written.md5, "abc");
  EXPECT_EQ(written.sha256, "def");
  EXPECT_EQ(Get(job).report_files_written, 1);
  EXPECT_THAT(storage().FinishReportFile(duty, file), kDutyLost) << "done";
  EXPECT_EQ(Get(job).report_files_written, 1);
  EXPECT_THAT(Due(DutyKind::kFinish), SizeIs(1)) << "woken";
  EXPECT_THAT(storage().ReadReportFile(job, 2).status(),
              IsError(absl::StatusCode::kNotFound, "REPORT_FILE_NOT_FOUND"));
}

TEST_P(DutiesTest, AFileWrittenBeforeThePlanNeedsNoDuty) {
  const JobId job = CompletingJob(WithReport());
  const Duty finish = Due(DutyKind::kFinish).at(0);
  ReportPlan plan = TwoFiles();
  plan.files[0].written = true;
  plan.files[0].rows = 7;
  plan.files[0].bytes = 70;
  plan.files[0].md5 = "m";
  plan.files[0].sha256 = "s";

  Value(storage().PlanReport(finish, plan));

  const std::vector<Duty> duties = Due(DutyKind::kReportFile);
  ASSERT_THAT(duties, SizeIs(1));
  EXPECT_EQ(duties[0].part, 1);
  EXPECT_EQ(Get(job).report_files_written, 1);
  const ReportFile file = Value(storage().ReadReportFile(job, 0));
  EXPECT_TRUE(file.written);
  EXPECT_EQ(file.rows, 7);
  EXPECT_EQ(file.bytes, 70);
  EXPECT_EQ(file.md5, "m");
  EXPECT_EQ(file.sha256, "s");
}

TEST_P(DutiesTest, TheJobEndsWhenItsReportIsSettled) {
  const JobId job = CompletingJob(WithReport());
  const Duty finish = Due(DutyKind::kFinish).at(0);
  Value(storage().PlanReport(finish, TwoFiles()));
  EXPECT_EQ(Value(Change(job, Cause::kSettle, true)), std::nullopt);

  ASSERT_THAT(storage().SettleReport(finish, ReportState::kWritten, "job/manifest.json", ""), IsOk());
  EXPECT_EQ(Value(Change(job, Cause::kSettle, true))->to, State::kComplete);

  const JobRecord record = Get(job);
  EXPECT_EQ(record.report_state, ReportState::kWritten);
  EXPECT_EQ(record.report_manifest_key, "job/manifest.json");
  EXPECT_NE(record.report_settled, std::nullopt);
  EXPECT_THAT(Due(DutyKind::kReportFile), IsEmpty()) << "remaining ones go";
  EXPECT_THAT(storage().FinishDuty(finish), IsOk());
}

TEST_P(DutiesTest, AReportThatCantBeWrittenSaysWhy) {
  const JobId job = CompletingJob(WithReport());
  const Duty stale = Due(DutyKind::kFinish, absl::ZeroDuration()).at(0);
  ASSERT_THAT(storage().NoteReportError(job, "access denied"), IsOk());
  EXPECT_EQ(Get(job).report_error, "access denied");
  EXPECT_EQ(Value(storage().ReadReportPlan(job)), std::nullopt) << "an error is no plan";
  const Duty finish = Due(DutyKind::kFinish).at(0);
  EXPECT_THAT(storage().SettleReport(stale, ReportState::kFailed, "", "x"), kDutyLost);
  EXPECT_THAT(storage().PlanReport(stale, TwoFiles()).status(), kDutyLost);

  ASSERT_THAT(storage().SettleReport(finish, ReportState::kFailed, "", "access denied for 15 minutes"),
              IsOk());

  EXPECT_EQ(Get(job).report_state, ReportState::kFailed);
  EXPECT_EQ(Get(job).report_error, "access denied for 15 minutes");
  ASSERT_THAT(storage().NoteReportError(job, "a file's duty, late"), IsOk());
  EXPECT_EQ(Get(job).report_error, "access denied for 15 minutes") << "it is settled";
  EXPECT_EQ(Value(Change(job, Cause::kSettle, true))->to, State::kComplete);
  EXPECT_EQ(storage().SettleReport(finish, ReportState::kWriting, "", "").code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace drover::testing
