// Sessions, attaching in its three steps and their order, and who gets a lease back.
#include <set>

#include "absl/time/clock.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

using enum SegmentResult;

constexpr absl::Duration kTtl = absl::Minutes(5);

class AttachTest : public StorageTest {
 protected:
  RaiseResult Raise(const SessionId& session, int64_t attachment) {
    SessionInfo info;
    info.session_id = session;
    info.attachment = attachment;
    info.name = "worker";
    info.hello = "hello again";
    return Value(storage().RaiseAttachment(info, kTtl), "RaiseAttachment");
  }
  std::vector<HeldLeaseRow> Mark(const SessionId& session, int64_t attachment, const JobId& job,
                                 const std::vector<ClaimedLease>& leases) {
    std::vector<std::pair<JobId, LeaseKey>> named;
    for (const ClaimedLease& lease : leases) named.emplace_back(job, KeyOf(lease));
    return Value(storage().MarkLeases(session, attachment, named), "MarkLeases");
  }
  int64_t ReturnOlder(const SessionId& session, int64_t attachment) {
    return Value(storage().ReturnOlderLeases(session, attachment), "ReturnOlderLeases");
  }
  // The attachment numbers of the session's leases.
  std::multiset<int64_t> Numbers(const SessionId& session) {
    std::multiset<int64_t> numbers;
    for (int64_t number = 1; number <= 9; ++number) {
      for (size_t n = Value(storage().ListOwnedLeases({{session, number}})).size(); n > 0; --n)
        numbers.insert(number);
    }
    return numbers;
  }
};
DROVER_STORAGE_CONTRACT(AttachTest);

TEST_P(AttachTest, ComesBackWithItsLeasesAndReturnsWhatNeverArrived) {
  const JobId job = ReadyJob({4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);

  // The Hello names the first two; the grant of the third never arrived.
  EXPECT_THAT(Mark(session, 2, job, {leases[0], leases[1]}), SizeIs(2));
  EXPECT_EQ(Raise(session, 2), RaiseResult::kRaised);
  EXPECT_EQ(ReturnOlder(session, 2), 1);

  EXPECT_THAT(Numbers(session), ElementsAre(2, 2));
  EXPECT_EQ(RecordOne(job, WholeBatch(leases[0], session)), kRecorded);
  EXPECT_EQ(RecordOne(job, WholeBatch(leases[2], session)), kLost);
  EXPECT_EQ(Claim(job, session, 2).at(0).batch_no, 2);
}

TEST_P(AttachTest, MarkingTellsWhatIsRecordedAndTheLastSequence) {
  const JobId job = ReadyJob({8, 8});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  ASSERT_EQ(RecordOne(job, Segment(leases[0], session, 1, Range(0, 2))), kRecorded);
  SegmentWrite second = Segment(leases[0], session, 2, Range(4, 5), 1);
  second.returned = Range(6, 8);
  second.returned_lease_id = NewLease();
  ASSERT_EQ(RecordOne(job, second), kRecorded);

  const std::vector<HeldLeaseRow> held = Mark(session, 2, job, leases);

  ASSERT_THAT(held, SizeIs(2));
  EXPECT_EQ(held[0].job_id, job);
  EXPECT_EQ(held[0].key, KeyOf(leases[0]));
  EXPECT_EQ(held[0].batch_tasks, 8);
  EXPECT_EQ(*held[0].tasks, Range(0, 6));
  TaskSet recorded = Range(0, 2);
  recorded.Add(4);
  EXPECT_EQ(held[0].recorded, recorded);
  EXPECT_EQ(held[0].last_sequence, 2);
  EXPECT_EQ(held[1].tasks, std::nullopt);
  EXPECT_EQ(held[1].recorded, TaskSet());
  EXPECT_EQ(held[1].last_sequence, 0);
}

TEST_P(AttachTest, MarkingLeavesOutLeasesOfOthersAndThoseThatAreGone) {
  const JobId job = ReadyJob({4, 4, 4, 4});
  const SessionId session = CreateSession();
  const SessionId other = CreateSession();
  const std::vector<ClaimedLease> mine = Claim(job, session, 1, 3);
  const std::vector<ClaimedLease> theirs = Claim(job, other, 1, 1);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, mine[0], session)}, CameBack::kLost)), 1);
  ASSERT_EQ(RecordOne(job, WholeBatch(mine[1], session)), kRecorded);

  const std::vector<HeldLeaseRow> held = Mark(session, 2, job, {mine[0], mine[1], mine[2], theirs[0]});

  ASSERT_THAT(held, SizeIs(1));
  EXPECT_EQ(held[0].key, KeyOf(mine[2]));
  EXPECT_THAT(Numbers(other), ElementsAre(1));
}

TEST_P(AttachTest, MarkingSpansJobs) {
  const JobId first = ReadyJob({4});
  const JobId second = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease a = Claim(first, session)[0];
  const ClaimedLease b = Claim(second, session)[0];

  const auto held =
      Value(storage().MarkLeases(session, 2, {{second, KeyOf(b)}, {first, KeyOf(a)}, {first, KeyOf(a)}}));

  EXPECT_THAT(held, SizeIs(2));
  EXPECT_THAT(Numbers(session), ElementsAre(2, 2));
}

TEST_P(AttachTest, ADelayedHelloTakesNothingFromItsSuccessor) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  // Hello 3 attached elsewhere, with both leases.
  ASSERT_THAT(Mark(session, 3, job, leases), SizeIs(2));
  ASSERT_EQ(Raise(session, 3), RaiseResult::kRaised);
  ASSERT_EQ(ReturnOlder(session, 3), 0);

  // Hello 2, that named one of them, arrives now.
  EXPECT_THAT(Mark(session, 2, job, {leases[0]}), SizeIs(1));
  EXPECT_EQ(Raise(session, 2), RaiseResult::kNotLower);

  EXPECT_THAT(Numbers(session), ElementsAre(3, 3)) << "marking only raises";
  EXPECT_EQ(ReturnOlder(session, 2), 0);
  EXPECT_THAT(Value(storage().ListStrandedLeases(10)), IsEmpty());
}

TEST_P(AttachTest, TwoHellosAtOnceEndWithTheLaterOne) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  // 2 marks, 3 marks, 3 raises, 2 fails to raise, 3 returns.
  Mark(session, 2, job, leases);
  Mark(session, 3, job, {leases[1]});
  EXPECT_EQ(Raise(session, 3), RaiseResult::kRaised);
  EXPECT_EQ(Raise(session, 2), RaiseResult::kNotLower);
  EXPECT_EQ(ReturnOlder(session, 3), 1);

  EXPECT_THAT(Numbers(session), ElementsAre(3));
}

TEST_P(AttachTest, TheSameNumberRaisesOnce) {
  const SessionId session = CreateSession();
  EXPECT_EQ(Raise(session, 2), RaiseResult::kRaised);
  EXPECT_EQ(Raise(session, 2), RaiseResult::kNotLower);
}

TEST_P(AttachTest, ASessionThatIsGoneCantBeRaised) {
  const SessionId session = CreateSession();
  ASSERT_THAT(storage().EndSession(session), IsOk());
  EXPECT_EQ(Raise(session, 2), RaiseResult::kGone);
  EXPECT_EQ(Raise(NewId(), 2), RaiseResult::kGone);
}

TEST_P(AttachTest, MarkedButNotYetRaisedIsNotStranded) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  Mark(session, 2, job, Claim(job, session));
  EXPECT_THAT(Value(storage().ListStrandedLeases(10)), IsEmpty());
}

TEST_P(AttachTest, AClaimThatCommitsLateIsStrandedAndReturned) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  ASSERT_EQ(Raise(session, 2), RaiseResult::kRaised);
  // A controller that still believes in attachment 1 claims for it.
  const std::vector<ClaimedLease> late = Claim(job, session, 1);

  const auto stranded = Value(storage().ListStrandedLeases(10));

  ASSERT_THAT(stranded, SizeIs(2));
  EXPECT_FALSE(stranded[0].session_gone);
  EXPECT_EQ(stranded[0].owned.attachment, 1);
  EXPECT_THAT(Value(storage().ListStrandedLeases(1)), SizeIs(1));
  EXPECT_EQ(Value(storage().ReturnLeases(job, {stranded[0].owned, stranded[1].owned}, CameBack::kGivenBack)),
            2);
  EXPECT_THAT(Value(storage().ListStrandedLeases(10)), IsEmpty());
  EXPECT_THAT(Claim(job, session, 2), SizeIs(2));
}

TEST_P(AttachTest, LeasesOfAnEndedSessionAreStranded) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_THAT(storage().EndSession(session), IsOk());

  const auto stranded = Value(storage().ListStrandedLeases(10));

  ASSERT_THAT(stranded, SizeIs(1));
  EXPECT_TRUE(stranded[0].session_gone);
  EXPECT_EQ(stranded[0].owned.session, session);
  EXPECT_EQ(stranded[0].owned.key, KeyOf(lease));
  // Until it is returned, the lease is the session's: what is in flight may still be recorded.
  EXPECT_EQ(RecordOne(job, WholeBatch(lease, session)), kRecorded);
}

TEST_P(AttachTest, ReturningIsFencedBySessionAndNumber) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  Storage::OwnedLease owned = Owned(job, lease, session);

  owned.attachment = 2;
  EXPECT_EQ(Value(storage().ReturnLeases(job, {owned}, CameBack::kLost)), 0) << "another number";
  owned.attachment = 1;
  owned.session = CreateSession();
  EXPECT_EQ(Value(storage().ReturnLeases(job, {owned}, CameBack::kLost)), 0) << "another session";
  owned.session = session;
  owned.key.lease_id = NewLease();
  EXPECT_EQ(Value(storage().ReturnLeases(job, {owned}, CameBack::kLost)), 0) << "another lease";
  EXPECT_THAT(Numbers(session), ElementsAre(1));
  EXPECT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);
  EXPECT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 0)
      << "returned already";
}

TEST_P(AttachTest, ListsWhatTheDatabaseShowsUnderTheseSessionsAndNumbers) {
  const JobId job = ReadyJob({4, 4, 4});
  const SessionId a = CreateSession();
  const SessionId b = CreateSession(3);
  const ClaimedLease of_a = Claim(job, a, 1, 1)[0];
  const ClaimedLease of_b = Claim(job, b, 3, 1)[0];

  const auto owned = Value(storage().ListOwnedLeases({{a, 1}, {b, 3}, {a, 2}}));

  std::vector<LeaseKey> keys;
  for (const auto& lease : owned) keys.push_back(lease.key);
  EXPECT_THAT(keys, UnorderedElementsAre(KeyOf(of_a), KeyOf(of_b)));
  EXPECT_THAT(Value(storage().ListOwnedLeases({{b, 2}})), IsEmpty());
  EXPECT_THAT(Value(storage().ListOwnedLeases({})), IsEmpty());
}

TEST_P(AttachTest, OnlyTheStreamWhoseNumberItIsRenewsASession) {
  const SessionId a = CreateSession();
  const SessionId b = CreateSession(2);
  const SessionId gone = NewId();

  const auto renewed = Value(storage().RenewSessions({{b, 2, true}, {a, 2, false}, {gone, 1, false}}, kTtl));

  EXPECT_THAT(renewed, ElementsAre(b));
  const auto sessions = Value(storage().ListSessions("", 10));
  ASSERT_THAT(sessions, SizeIs(2));
  EXPECT_EQ(sessions[0].session_id, a);
  EXPECT_FALSE(sessions[0].draining);
  EXPECT_TRUE(sessions[1].draining);
}

TEST_P(AttachTest, ASessionEndsWhenItsTimeIsOverByTheDatabasesClock) {
  const SessionId living = CreateSession();
  EXPECT_THAT(Value(storage().EndExpiredSessions()), IsEmpty());
  const SessionId brief = CreateSession(1, absl::Milliseconds(1));
  const SessionId renewed = CreateSession(1, absl::Milliseconds(1));
  absl::SleepFor(absl::Milliseconds(10));
  // Expired, but not ended yet: it may still renew, and come back.
  EXPECT_THAT(Value(storage().RenewSessions({{renewed, 1, false}}, kTtl)), ElementsAre(renewed));

  EXPECT_THAT(Value(storage().EndExpiredSessions()), ElementsAre(brief));

  EXPECT_THAT(Value(storage().EndExpiredSessions()), IsEmpty());
  EXPECT_THAT(storage().CheckSession(brief, "hash"), IsError(absl::StatusCode::kNotFound, "SESSION_GONE"));
  EXPECT_THAT(storage().CheckSession(renewed, "hash"), IsOk());
  EXPECT_THAT(storage().CheckSession(living, "hash"), IsOk());
}

TEST_P(AttachTest, ASessionIsItsTokens) {
  const SessionId session = CreateSession();
  EXPECT_THAT(storage().CheckSession(session, "hash"), IsOk());
  EXPECT_THAT(storage().CheckSession(session, "hasH"),
              IsError(absl::StatusCode::kPermissionDenied, "RESUME_TOKEN"));
  EXPECT_THAT(storage().CheckSession(session, ""),
              IsError(absl::StatusCode::kPermissionDenied, "RESUME_TOKEN"));
  EXPECT_THAT(storage().CheckSession("no uuid", "hash"),
              IsError(absl::StatusCode::kNotFound, "SESSION_GONE"));
}

TEST_P(AttachTest, ListsSessionsByIdWithTheirLeases) {
  const JobId job = ReadyJob({4, 4});
  const SessionId a = CreateSession(7);
  const SessionId b = CreateSession();
  Claim(job, a, 7);

  const auto first = Value(storage().ListSessions("", 1));
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].session_id, a);
  EXPECT_EQ(first[0].leases, 2);
  EXPECT_EQ(first[0].attachment, 7);
  EXPECT_EQ(first[0].hello, "hello");
  EXPECT_EQ(first[0].name, "worker");
  EXPECT_EQ(first[0].token_hash, "") << "no use outside of CheckSession";
  EXPECT_GT(first[0].expires, first[0].created);
  const auto rest = Value(storage().ListSessions(a, 10));
  ASSERT_THAT(rest, SizeIs(1));
  EXPECT_EQ(rest[0].session_id, b);
  EXPECT_EQ(rest[0].leases, 0);
}

TEST_P(AttachTest, RaisingStoresWhatTheHelloSays) {
  const SessionId session = CreateSession();
  ASSERT_EQ(Raise(session, 2), RaiseResult::kRaised);
  const auto sessions = Value(storage().ListSessions("", 10));
  EXPECT_EQ(sessions.at(0).hello, "hello again");
  EXPECT_EQ(sessions.at(0).attachment, 2);
}

}  // namespace
}  // namespace drover::testing
