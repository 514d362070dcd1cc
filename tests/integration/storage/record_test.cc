// RECORD: the fence, the end of leases, what is given back, completion and threshold.
#include "common/failpoint/failpoint.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using lifecycle::Cause;
using lifecycle::State;
using enum SegmentResult;

class RecordTest : public StorageTest {};
DROVER_STORAGE_CONTRACT(RecordTest);

TEST_P(RecordTest, CountsASegmentOnceHoweverOftenItIsSent) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  const SegmentWrite segment = WholeBatch(leases[0], session, 1);

  EXPECT_EQ(RecordOne(job, segment), kRecorded);
  const RecordResult again = Record(job, {segment});

  EXPECT_THAT(again.results, ElementsAre(kAlready));
  EXPECT_TRUE(again.lease_ended[0]) << "its lease is gone";
  EXPECT_EQ(Get(job).snapshot.succeeded, 3);
  EXPECT_EQ(Get(job).snapshot.failed, 1);
}

TEST_P(RecordTest, AcknowledgesAResentSegmentOfALeaseThatGoesOn) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  const SegmentWrite first = Segment(lease, session, 1, Range(0, 2));

  EXPECT_EQ(RecordOne(job, first), kRecorded);
  const RecordResult again = Record(job, {first, Segment(lease, session, 2, Range(2, 3))});

  EXPECT_THAT(again.results, ElementsAre(kAlready, kRecorded));
  EXPECT_FALSE(again.lease_ended[0]);
  EXPECT_EQ(Get(job).snapshot.succeeded, 3);
}

TEST_P(RecordTest, AcknowledgesAResentSegmentEvenAfterItsLeaseWasRegranted) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  const SegmentWrite first = Segment(lease, session, 1, Range(0, 2));
  ASSERT_EQ(RecordOne(job, first), kRecorded);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);

  EXPECT_EQ(RecordOne(job, first), kAlready) << "ownerless";
  ASSERT_THAT(Claim(job, CreateSession()), SizeIs(1));
  EXPECT_EQ(RecordOne(job, first), kAlready) << "regranted under another id";
}

TEST_P(RecordTest, LosesASegmentOfAnotherSession) {
  const JobId job = ReadyJob({4});
  const ClaimedLease lease = Claim(job, CreateSession())[0];

  const RecordResult result = Record(job, {WholeBatch(lease, CreateSession())});

  EXPECT_THAT(result.results, ElementsAre(kLost));
  EXPECT_FALSE(result.lease_ended[0]);
  EXPECT_EQ(Get(job).snapshot.succeeded, 0);
}

TEST_P(RecordTest, LosesASegmentOfALeaseThatCameBack) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);

  EXPECT_EQ(RecordOne(job, WholeBatch(lease, session)), kLost);
  // Even if the same session gets the batch again: the lease is another one.
  const ClaimedLease again = Claim(job, session)[0];
  EXPECT_NE(again.lease_id, lease.lease_id);
  EXPECT_EQ(RecordOne(job, WholeBatch(lease, session)), kLost);
  EXPECT_EQ(RecordOne(job, WholeBatch(again, session)), kRecorded);
}

TEST_P(RecordTest, LosesASegmentOutOfSequence) {
  const JobId job = ReadyJob({8});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];

  EXPECT_EQ(RecordOne(job, Segment(lease, session, 2, Range(0, 2))), kLost);
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 0, Range(0, 2))), kLost);
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 1, Range(0, 2))), kRecorded);
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 3, Range(2, 4))), kLost);
  EXPECT_EQ(Get(job).snapshot.succeeded, 2);
}

TEST_P(RecordTest, LosesASegmentOfALeaseThatNeverWas) {
  const JobId job = ReadyJob({4});
  ClaimedLease lease;
  lease.lease_id = NewLease();
  lease.batch_tasks = 4;
  EXPECT_EQ(RecordOne(job, WholeBatch(lease, CreateSession())), kLost);
  EXPECT_EQ(RecordOne(NewId(), WholeBatch(lease, CreateSession())), kLost);
}

TEST_P(RecordTest, LosesASegmentThatDoesNotFitItsLease) {
  const JobId job = ReadyJob({8});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_EQ(RecordOne(job, Segment(lease, session, 1, Range(0, 5))), kRecorded);

  SegmentWrite whole = WholeBatch(lease, session);
  whole.sequence = 2;
  EXPECT_EQ(RecordOne(job, whole), kLost) << "all at once, after some";
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 2, Range(4, 8))), kLost) << "more than is left";
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 2, Range(7, 9))), kLost) << "outside of the batch";
  SegmentWrite wrong_count = Segment(lease, session, 2, Range(5, 7));
  wrong_count.succeeded = 1;
  EXPECT_EQ(RecordOne(job, wrong_count), kLost) << "counts that are not those of the set";
  SegmentWrite both = Segment(lease, session, 2, Range(5, 7));
  both.returned = Range(6, 7);
  both.returned_lease_id = NewLease();
  EXPECT_EQ(RecordOne(job, both), kLost) << "a task both executed and given back";
  EXPECT_EQ(Get(job).snapshot.succeeded, 5);
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 2, Range(5, 8))), kRecorded);
}

TEST_P(RecordTest, TakesTheSegmentsOfALeaseInTheirOrderWithinOneGroup) {
  const JobId job = ReadyJob({6, 6});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);

  const RecordResult result =
      Record(job, {Segment(leases[0], session, 3, Range(4, 6)), WholeBatch(leases[1], session),
                   Segment(leases[0], session, 1, Range(0, 2)), Segment(leases[0], session, 2, Range(2, 4))});

  EXPECT_THAT(result.results, ElementsAre(kRecorded, kRecorded, kRecorded, kRecorded));
  EXPECT_THAT(result.lease_ended, ElementsAre(true, true, false, false));
  EXPECT_EQ(StateOf(job), State::kCompleting);
}

TEST_P(RecordTest, StoresADuplicateWithinOneGroupOnce) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const SegmentWrite segment = Segment(Claim(job, session)[0], session, 1, Range(0, 2));

  EXPECT_THAT(Record(job, {segment, segment}).results, ElementsAre(kRecorded, kAlready));
  EXPECT_EQ(Get(job).snapshot.succeeded, 2);
}

TEST_P(RecordTest, GivenBackTasksBecomeALeaseWithoutOwnerInTheSameStep) {
  const JobId job = ReadyJob({10});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  SegmentWrite segment = Segment(lease, session, 1, Range(0, 3));
  segment.returned = Range(6, 10);
  segment.returned_lease_id = NewLease();
  segment.notes = "upload 17";

  const RecordResult result = Record(job, {segment});

  EXPECT_THAT(result.results, ElementsAre(kRecorded));
  EXPECT_FALSE(result.lease_ended[0]) << "tasks 3 to 5 are still its own";
  EXPECT_TRUE(result.gave_back);
  EXPECT_EQ(Get(job).leased_tasks, 3);
  const SessionId other = CreateSession();
  const std::vector<ClaimedLease> regranted = Claim(job, other);
  ASSERT_THAT(regranted, SizeIs(1));
  EXPECT_EQ(*regranted[0].tasks, Range(6, 10));
  EXPECT_EQ(regranted[0].notes, "upload 17");
  EXPECT_NE(regranted[0].lease_id, segment.returned_lease_id);
  // Both finish: each task once.
  EXPECT_EQ(RecordOne(job, Segment(regranted[0], other, 1, Range(6, 10))), kRecorded);
  const RecordResult last = Record(job, {Segment(lease, session, 2, Range(3, 6))});
  EXPECT_TRUE(last.lease_ended[0]);
  EXPECT_EQ(StateOf(job), State::kCompleting);
  EXPECT_EQ(RecordedOf(job, 0, 10), Range(0, 10));
}

TEST_P(RecordTest, ALeaseEndsWhenTheRestIsGivenBack) {
  const JobId job = ReadyJob({10});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_EQ(RecordOne(job, Segment(lease, session, 1, Range(0, 3))), kRecorded);
  SegmentWrite rest = Segment(lease, session, 2, TaskSet());
  rest.returned = Range(3, 10);
  rest.returned_lease_id = NewLease();

  const RecordResult result = Record(job, {rest});

  EXPECT_TRUE(result.lease_ended[0]);
  EXPECT_EQ(RecordOne(job, Segment(lease, session, 3, Range(3, 4))), kLost);
  EXPECT_EQ(RecordOne(job, rest), kAlready);
  EXPECT_EQ(Claim(job, session)[0].tasks, Range(3, 10));
}

TEST_P(RecordTest, GivesBackALeaseUntouched) {
  const JobId job = ReadyJob({10});
  const SessionId session = CreateSession();
  SegmentWrite all = Segment(Claim(job, session)[0], session, 1, TaskSet());
  all.returned = Range(0, 10);
  all.returned_lease_id = NewLease();

  EXPECT_TRUE(Record(job, {all}).lease_ended[0]);

  EXPECT_EQ(Get(job).leased_tasks, 0);
  EXPECT_EQ(Claim(job, session)[0].tasks, Range(0, 10));
}

TEST_P(RecordTest, RecordsABatchThatWasGivenBackWholeAndThenRunWhole) {
  const JobId job = ReadyJob({10});
  const SessionId session = CreateSession();
  SegmentWrite all = Segment(Claim(job, session)[0], session, 1, TaskSet());
  all.returned = Range(0, 10);
  all.returned_lease_id = NewLease();
  ASSERT_EQ(RecordOne(job, all), kRecorded);

  EXPECT_EQ(RecordOne(job, WholeBatch(Claim(job, session)[0], session)), kRecorded);
  EXPECT_EQ(StateOf(job), State::kCompleting);
}

TEST_P(RecordTest, KeepsNotesOfALeaseForItsSuccessor) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  SegmentWrite note = Segment(lease, session, 1, TaskSet());
  note.notes = std::string("a\0b", 3);
  ASSERT_EQ(RecordOne(job, note), kRecorded);
  ASSERT_EQ(RecordOne(job, Segment(lease, session, 2, Range(0, 1))), kRecorded) << "no notes: unchanged";
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);

  const ClaimedLease next = Claim(job, session)[0];

  EXPECT_EQ(next.notes, std::string("a\0b", 3));
  EXPECT_EQ(*next.tasks, Range(1, 4));
}

TEST_P(RecordTest, TheLeaseDecidesNotTheState) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());

  const RecordResult result = Record(job, {WholeBatch(leases[0], session, 2)});

  EXPECT_THAT(result.results, ElementsAre(kRecorded));
  EXPECT_EQ(result.change, std::nullopt);
  EXPECT_EQ(StateOf(job), State::kCancelling);
  EXPECT_EQ(Get(job).snapshot.failed, 2);
  // The last outcomes of a cancelled job don't complete it.
  EXPECT_THAT(Record(job, {WholeBatch(leases[1], session)}).results, ElementsAre(kRecorded));
  EXPECT_EQ(StateOf(job), State::kCancelling);
}

TEST_P(RecordTest, ThePresentJobCompletesWithItsLastOutcomeAndNotBefore) {
  const JobId job = ReadyJob({3, 3});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);

  EXPECT_EQ(Record(job, {WholeBatch(leases[0], session)}).change, std::nullopt);
  EXPECT_EQ(Record(job, {Segment(leases[1], session, 1, Range(0, 2))}).change, std::nullopt);
  EXPECT_EQ(StateOf(job), State::kActive);
  const RecordResult last = Record(job, {Segment(leases[1], session, 2, Range(2, 3))});

  ASSERT_TRUE(last.change.has_value());
  EXPECT_EQ(last.change->to, State::kCompleting);
  EXPECT_EQ(last.after.state, State::kCompleting);
  EXPECT_EQ(last.after.succeeded, 6);
  EXPECT_EQ(Acquire(job, DutyKind::kFinish).job_id, job);
}

TEST_P(RecordTest, CompletesAJobThatIsPausing) {
  const JobId job = ReadyJob({3});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_THAT(Change(job, Cause::kPause).status(), IsOk());
  ASSERT_EQ(StateOf(job), State::kPausing);

  EXPECT_EQ(Record(job, {WholeBatch(lease, session)}).change->to, State::kCompleting);
}

TEST_P(RecordTest, TheThresholdIsExactOverRecordedOutcomes) {
  const lifecycle::FailurePolicy policy{.failed_fraction = 0.5, .minimum_executed = 4};
  const JobId job = ReadyJob({8, 8});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);

  EXPECT_EQ(Record(job, {Segment(leases[0], session, 1, Range(0, 3), 3)}, policy).change, std::nullopt)
      << "fewer than the minimum";
  EXPECT_EQ(Record(job, {Segment(leases[0], session, 2, Range(3, 6))}, policy).change, std::nullopt)
      << "half is not more than half";
  const RecordResult over = Record(job, {Segment(leases[0], session, 3, Range(6, 7), 1)}, policy);

  ASSERT_TRUE(over.change.has_value());
  EXPECT_EQ(over.change->to, State::kFailing);
  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.reason_code, "FAILURE_THRESHOLD");
  ASSERT_THAT(record.failures, SizeIs(1));
  EXPECT_EQ(record.failures[0].code, "FAILURE_THRESHOLD");
  EXPECT_EQ(Acquire(job, DutyKind::kFinish).job_id, job);
}

TEST_P(RecordTest, TheThresholdWinsOverCompletion) {
  const lifecycle::FailurePolicy policy{.minimum_executed = 4};
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();

  const RecordResult result = Record(job, {WholeBatch(Claim(job, session)[0], session, 3)}, policy);

  EXPECT_EQ(result.change->to, State::kFailing);
  EXPECT_EQ(result.after.succeeded + result.after.failed, result.after.tasks);
}

TEST_P(RecordTest, APolicyMayPauseInstead) {
  const lifecycle::FailurePolicy policy{.failed_tasks = 1, .pause = true};
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();

  const RecordResult result = Record(job, {WholeBatch(Claim(job, session)[0], session, 2)}, policy);

  EXPECT_EQ(result.change->to, State::kPausing);
  EXPECT_EQ(Get(job).snapshot.reason_code, lifecycle::kReasonFailurePolicy);
}

TEST_P(RecordTest, ACommitWhoseResultIsUnknownIsSubmittedAgainWithoutHarm) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  SegmentWrite back = Segment(leases[1], session, 1, Range(0, 1));
  back.returned = Range(2, 4);
  back.returned_lease_id = NewLease();
  const std::vector<SegmentWrite> group = {WholeBatch(leases[0], session), back};
  {
    const failpoint::Scoped point("storage.record.after_commit=error");
    EXPECT_THAT(storage().Record(job, group, {}).status(),
                IsError(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN"));
  }

  EXPECT_THAT(Record(job, group).results, ElementsAre(kAlready, kAlready));
  EXPECT_EQ(Get(job).snapshot.succeeded, 5);
  EXPECT_THAT(Claim(job, session), SizeIs(1)) << "given back once";
}

TEST_P(RecordTest, NothingIsLeftOfARecordThatWasRolledBack) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  {
    const failpoint::Scoped point("storage.record.before_commit=error");
    EXPECT_EQ(storage().Record(job, {WholeBatch(lease, session)}, {}).status().code(),
              absl::StatusCode::kUnavailable);
  }

  EXPECT_EQ(Get(job).snapshot.succeeded, 0);
  EXPECT_TRUE(RecordedOf(job, 0, 4).empty());
  EXPECT_EQ(RecordOne(job, WholeBatch(lease, session)), kRecorded);
}

TEST_P(RecordTest, ReadsOutcomesBackInBatchOrder) {
  const JobId job = ReadyJob({4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  SegmentWrite failing = Segment(leases[2], session, 1, Range(1, 3), 1);
  failing.payload = std::string("\0payload\xff", 9);
  ASSERT_THAT(Record(job, {failing, WholeBatch(leases[0], session)}).results,
              ElementsAre(kRecorded, kRecorded));

  const std::vector<StoredSegment> all = Value(storage().ReadSegments(job, 0, 3, false));
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_EQ(all[0].batch_no, 0);
  EXPECT_EQ(all[0].executed, std::nullopt);
  EXPECT_EQ(all[0].payload, "");
  EXPECT_EQ(all[1].batch_no, 2);
  EXPECT_EQ(*all[1].executed, Range(1, 3));
  EXPECT_EQ(all[1].succeeded, 1);
  EXPECT_EQ(all[1].failed, 1);
  EXPECT_EQ(all[1].payload, std::string("\0payload\xff", 9));
  EXPECT_THAT(Value(storage().ReadSegments(job, 0, 3, true)), SizeIs(1));
  EXPECT_THAT(Value(storage().ReadSegments(job, 0, 2, true)), IsEmpty());
  EXPECT_THAT(Value(storage().ReadSegments(job, 0, 2, false)), SizeIs(1));
  EXPECT_EQ(Value(storage().ReadRecorded(job, KeyOf(leases[2]), 4)), Range(1, 3));
  EXPECT_EQ(Value(storage().ReadRecorded(job, KeyOf(leases[0]), 4)), Range(0, 4));
  EXPECT_EQ(Value(storage().ReadRecorded(job, KeyOf(leases[1]), 4)), TaskSet());

  const std::vector<BatchCounts> counts = Value(storage().ReadBatchCounts(job, 0, 10));
  ASSERT_THAT(counts, SizeIs(2));
  EXPECT_EQ(counts[0].batch_no, 0);
  EXPECT_EQ(counts[0].succeeded, 4);
  EXPECT_EQ(counts[1].batch_no, 2);
  EXPECT_EQ(counts[1].failed, 1);
  EXPECT_EQ(Value(storage().ReadBatchCounts(job, 1, 10)).at(0).batch_no, 2);
  EXPECT_THAT(Value(storage().ReadBatchCounts(job, 0, 1)), SizeIs(1));
}

TEST_P(RecordTest, TasksOfALostWorkerAreUnconfirmedWhenTheJobStops) {
  const JobId job = ReadyJob({4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  ASSERT_EQ(RecordOne(job, Segment(leases[0], session, 1, Range(0, 1))), kRecorded);
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, leases[0], session)}, CameBack::kLost)), 1);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, leases[1], session)}, CameBack::kGivenBack)), 1);
  ASSERT_EQ(RecordOne(job, WholeBatch(leases[2], session)), kRecorded);
  EXPECT_EQ(Get(job).unconfirmed, 3) << "known before the end, for the report";

  ASSERT_THAT(Change(job, Cause::kSettle, /*with_leases=*/true).status(), IsOk());

  EXPECT_EQ(StateOf(job), State::kCancelled);
  EXPECT_EQ(Get(job).unconfirmed, 3) << "of the lost lease, less what was recorded";
  EXPECT_EQ(Value(storage().PurgeEndedLeases(1)), 1);
  EXPECT_EQ(Value(storage().PurgeEndedLeases(10)), 1);
  EXPECT_EQ(Value(storage().PurgeEndedLeases(10)), 0);
  EXPECT_EQ(Get(job).unconfirmed, 3);
}

TEST_P(RecordTest, ALostWorkersTasksStayUnconfirmedIfTheNextWorkerGivesThemBackUnstarted) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lost = Claim(job, session)[0];
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lost, session)}, CameBack::kLost)), 1);
  SegmentWrite back = Segment(Claim(job, session)[0], session, 1, TaskSet());
  back.returned = Range(0, 4);
  back.returned_lease_id = NewLease();
  ASSERT_EQ(RecordOne(job, back), kRecorded);
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());

  ASSERT_THAT(Change(job, Cause::kSettle, /*with_leases=*/true).status(), IsOk());

  EXPECT_EQ(Get(job).unconfirmed, 4);
}

}  // namespace
}  // namespace drover::testing
