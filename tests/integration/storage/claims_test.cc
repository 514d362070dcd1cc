// Looking for work and claiming it.
#include <map>
#include <set>
#include <thread>

#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using enum SegmentResult;
using lifecycle::Cause;
using lifecycle::State;

class ClaimsTest : public StorageTest {
 protected:
  std::vector<JobId> Claimable(int limit = 100, const std::optional<ClaimablePosition>& after = {}) {
    std::vector<JobId> ids;
    for (const JobView& view : Value(storage().ListClaimable(limit, after))) ids.push_back(view.job_id);
    return ids;
  }
  JobId ReadyJobAt(int32_t priority, const std::vector<int32_t>& sizes = {4, 4}) {
    NewJob job = SomeJob();
    job.priority = priority;
    return ReadyJob(sizes, job);
  }
};
DROVER_STORAGE_CONTRACT(ClaimsTest);

TEST_P(ClaimsTest, TheFirstClaimStartsTheJob) {
  const JobId job = ReadyJob({4, 5});
  const int64_t version = Get(job).version;
  const SessionId session = CreateSession();

  const std::vector<ClaimedLease> leases = Claim(job, session, 1, 1);

  ASSERT_THAT(leases, SizeIs(1));
  EXPECT_EQ(leases[0].batch_no, 0);
  EXPECT_EQ(leases[0].first_task, 0);
  EXPECT_EQ(leases[0].batch_tasks, 4);
  EXPECT_EQ(leases[0].tasks, std::nullopt);
  EXPECT_EQ(leases[0].notes, "");
  EXPECT_GT(leases[0].lease_id, 0);
  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.state, State::kActive);
  EXPECT_EQ(record.version, version + 1);
  EXPECT_EQ(record.snapshot.next_batch, 1);
  EXPECT_EQ(record.leased_tasks, 4);
  const std::vector<ClaimedLease> next = Claim(job, session);
  ASSERT_THAT(next, SizeIs(1));
  EXPECT_EQ(next[0].first_task, 4);
  EXPECT_EQ(Get(job).version, version + 1) << "Active already: no further event";
}

TEST_P(ClaimsTest, DealsEachBatchToTheSlotWithTheMostCredit) {
  const JobId job = ReadyJob({4, 4, 4, 4, 4});
  const SessionId a = CreateSession();
  const SessionId b = CreateSession(2);

  const ClaimResult result = Value(storage().Claim(job, {{a, 1, 3}, {b, 2, 9}}, 100, NewLease));

  // b: 9, 5, (a: 3) b: 1 — wait for a: 3 → -1, b: 1 → -3.
  std::vector<size_t> slots;
  for (const ClaimedLease& lease : result.leases) slots.push_back(lease.slot);
  EXPECT_THAT(slots, ElementsAre(1, 1, 0, 1));
  EXPECT_TRUE(result.work_left);
  EXPECT_THAT(Value(storage().ListOwnedLeases({{a, 1}})), SizeIs(1));
  EXPECT_THAT(Value(storage().ListOwnedLeases({{b, 2}})), SizeIs(3));
}

TEST_P(ClaimsTest, WithoutCreditNothingIsClaimed) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();

  const ClaimResult none = Value(storage().Claim(job, {{session, 1, 0}}, 100, NewLease));
  EXPECT_THAT(none.leases, IsEmpty());
  EXPECT_TRUE(none.work_left);
  EXPECT_THAT(Value(storage().Claim(job, {}, 100, NewLease)).leases, IsEmpty());
  EXPECT_EQ(StateOf(job), State::kReady) << "claiming nothing starts nothing";
}

TEST_P(ClaimsTest, SaysWhetherWorkIsLeft) {
  const JobId job = ReadyJob({4, 4, 4});
  const SessionId session = CreateSession();
  const auto claim = [&](int max) { return Value(storage().Claim(job, {{session, 1, 100}}, max, NewLease)); };
  EXPECT_TRUE(claim(2).work_left);
  EXPECT_FALSE(claim(2).work_left);
  const ClaimResult nothing = claim(2);
  EXPECT_THAT(nothing.leases, IsEmpty());
  EXPECT_FALSE(nothing.work_left);
}

TEST_P(ClaimsTest, OnlyClaimableStatesAreClaimed) {
  const SessionId session = CreateSession();
  const JobId paused = ReadyJob({4});
  ASSERT_THAT(Change(paused, Cause::kPause).status(), IsOk());
  const JobId cancelled = ReadyJob({4});
  ASSERT_THAT(Change(cancelled, Cause::kCancel).status(), IsOk());
  const JobId fresh = CreateJob();
  NewJob confirm = SomeJob();
  confirm.spec.confirmation_required = true;
  const JobId suspended = ReadyJob({4}, confirm);
  ASSERT_EQ(StateOf(suspended), State::kSuspended);

  for (const JobId& job : {paused, cancelled, fresh, suspended}) {
    const ClaimResult result = Value(storage().Claim(job, {{session, 1, 100}}, 100, NewLease));
    EXPECT_THAT(result.leases, IsEmpty());
    EXPECT_FALSE(result.work_left);
  }
  EXPECT_THAT(Claimable(), IsEmpty());
  ASSERT_THAT(Change(suspended, Cause::kConfirm).status(), IsOk());
  ASSERT_THAT(Change(paused, Cause::kResume).status(), IsOk());
  EXPECT_THAT(Claimable(), ElementsAre(paused, suspended));
}

TEST_P(ClaimsTest, APreemptedJobIsClaimedAndActiveAgain) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  ASSERT_EQ(RecordOne(job, WholeBatch(Claim(job, session, 1, 1)[0], session)), kRecorded);
  ASSERT_EQ(Value(Change(job, Cause::kPreempted, true))->to, State::kPaused);
  EXPECT_THAT(Claimable(), ElementsAre(job));

  EXPECT_THAT(Claim(job, session), SizeIs(1));

  EXPECT_EQ(StateOf(job), State::kActive);
  EXPECT_EQ(Get(job).snapshot.reason_code, "");
}

TEST_P(ClaimsTest, WhatCameBackGoesFirst) {
  const JobId job = ReadyJob({4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session, 1, 2);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, leases[1], session)}, CameBack::kLost)), 1);
  EXPECT_TRUE(Value(storage().ViewJobs({job})).at(0).came_back);

  const ClaimResult result = Value(storage().Claim(job, {{session, 1, 1}}, 100, NewLease));

  ASSERT_THAT(result.leases, SizeIs(1));
  EXPECT_EQ(result.leases[0].batch_no, 1);
  EXPECT_TRUE(result.work_left);
  EXPECT_FALSE(Value(storage().ViewJobs({job})).at(0).came_back);
}

TEST_P(ClaimsTest, ARegrantIsTheLeaseLessWhatIsRecorded) {
  const JobId job = ReadyJob({10});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  ASSERT_EQ(RecordOne(job, Segment(lease, session, 1, Range(0, 3))), kRecorded);
  SegmentWrite second = Segment(lease, session, 2, Range(7, 8));
  second.returned = Range(8, 10);
  second.returned_lease_id = NewLease();
  ASSERT_EQ(RecordOne(job, second), kRecorded);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);
  const SessionId other = CreateSession();

  const std::vector<ClaimedLease> again = Claim(job, other);

  ASSERT_THAT(again, SizeIs(2));
  std::map<size_t, ClaimedLease> by_count;
  for (const ClaimedLease& each : again) by_count[each.tasks->count()] = each;
  EXPECT_EQ(*by_count[4].tasks, Range(3, 7));
  EXPECT_EQ(*by_count[2].tasks, Range(8, 10));
  EXPECT_EQ(by_count[4].batch_tasks, 10);
  EXPECT_EQ(Get(job).leased_tasks, 6);
  // Sequence numbers begin anew with the new id, and the rest completes the job.
  EXPECT_EQ(RecordOne(job, Segment(by_count[4], other, 1, Range(3, 7))), kRecorded);
  EXPECT_EQ(RecordOne(job, Segment(by_count[2], other, 1, Range(8, 10))), kRecorded);
  EXPECT_EQ(StateOf(job), State::kCompleting);
  EXPECT_EQ(RecordedOf(job, 0, 10), Range(0, 10));
}

TEST_P(ClaimsTest, ALeaseMayComeBackAgainAndAgain) {
  const JobId job = ReadyJob({10});
  for (uint32_t i = 0; i < 9; ++i) {
    const SessionId session = CreateSession();
    const ClaimedLease lease = Claim(job, session).at(0);
    EXPECT_EQ(lease.tasks.value_or(Range(0, 10)), Range(i, 10));
    ASSERT_EQ(RecordOne(job, Segment(lease, session, 1, Range(i, i + 1))), kRecorded);
    ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);
  }
  EXPECT_EQ(Claim(job, CreateSession()).at(0).tasks, Range(9, 10));
}

TEST_P(ClaimsTest, ListsClaimableJobsByPriorityThenAge) {
  const JobId low = ReadyJobAt(0);
  const JobId high = ReadyJobAt(10);
  const JobId also_high = ReadyJobAt(10);
  EXPECT_THAT(Claimable(), ElementsAre(high, also_high, low));
  EXPECT_THAT(Claimable(1), ElementsAre(high));
  const JobView view = Value(storage().ListClaimable(1, {})).at(0);
  EXPECT_EQ(view.priority, 10);
  EXPECT_EQ(view.state, State::kReady);
  EXPECT_EQ(view.next_batch, 0);
  EXPECT_EQ(view.batches, 2);
  EXPECT_FALSE(view.came_back);

  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> all = Claim(high, session);
  EXPECT_THAT(Claimable(), ElementsAre(also_high, low)) << "nothing left to claim";
  ASSERT_EQ(Value(storage().ReturnLeases(high, {Owned(high, all[0], session)}, CameBack::kGivenBack)), 1);
  EXPECT_THAT(Claimable(), ElementsAre(high, also_high, low)) << "something came back";
  Value(storage().SetPriority(low, 11, "ann"));
  EXPECT_THAT(Claimable(1), ElementsAre(low));
}

TEST_P(ClaimsTest, ListsWhatComesAfterAPlace) {
  const JobId low = ReadyJobAt(0);
  const JobId high = ReadyJobAt(10);
  const JobId also_high = ReadyJobAt(10);
  const JobId middle = ReadyJobAt(5);
  EXPECT_THAT(Claimable(100, {{10, high}}), ElementsAre(also_high, middle, low));
  EXPECT_THAT(Claimable(1, {{10, high}}), ElementsAre(also_high));
  EXPECT_THAT(Claimable(2, {{10, high}}), ElementsAre(also_high, middle));
  EXPECT_THAT(Claimable(100, {{10, also_high}}), ElementsAre(middle, low));
  EXPECT_THAT(Claimable(100, {{0, low}}), IsEmpty());
  // A place stays where it is, whatever becomes of its job.
  Value(storage().SetPriority(also_high, 1, "ann"));
  EXPECT_THAT(Claimable(100, {{10, also_high}}), ElementsAre(middle, also_high, low));
  EXPECT_THAT(Claimable(1, {{7, high}}), ElementsAre(middle)) << "a place without a job";
}

TEST_P(ClaimsTest, AJobSaysWhetherItOwnsALease) {
  const JobId job = ReadyJob({4, 4});
  EXPECT_FALSE(Get(job).owns_lease);
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session, 1, 1)[0];
  EXPECT_TRUE(Get(job).owns_lease);
  EXPECT_TRUE(Value(storage().ListJobs({})).at(0).owns_lease);
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kGivenBack)), 1);
  EXPECT_FALSE(Get(job).owns_lease);
  EXPECT_FALSE(Value(storage().ListJobs({})).at(0).owns_lease);
}

TEST_P(ClaimsTest, ViewsJobsInWhateverState) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  ASSERT_EQ(RecordOne(job, WholeBatch(Claim(job, session, 1, 1)[0], session)), kRecorded);
  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk());

  const std::vector<JobView> views = Value(storage().ViewJobs({job, NewId()}));

  ASSERT_THAT(views, SizeIs(1));
  EXPECT_EQ(views[0].state, State::kCancelling);
  EXPECT_EQ(views[0].executed, 4);
  EXPECT_EQ(views[0].next_batch, 1);
}

TEST_P(ClaimsTest, TellsWhoIsIdleWhoRunsAndWhoMayBePaused) {
  const JobId idle = ReadyJobAt(1);
  const JobId running = ReadyJobAt(5);
  const JobId pausing = ReadyJobAt(3);
  const JobId finished = ReadyJobAt(9, {4});
  const SessionId session = CreateSession();
  EXPECT_EQ(Value(storage().HighestRunningPriority()), std::nullopt);
  ASSERT_EQ(RecordOne(idle, WholeBatch(Claim(idle, session, 1, 1)[0], session)), kRecorded);
  ASSERT_EQ(RecordOne(finished, WholeBatch(Claim(finished, session)[0], session)), kRecorded);
  Claim(running, session, 1, 1);
  const ClaimedLease last = Claim(pausing, session, 1, 1)[0];
  ASSERT_THAT(Change(pausing, Cause::kPause).status(), IsOk());

  const std::vector<JobView> idles = Value(storage().ListIdleActive(10));
  ASSERT_THAT(idles, SizeIs(1));
  EXPECT_EQ(idles[0].job_id, idle);
  EXPECT_EQ(Value(storage().HighestRunningPriority()), 5);
  EXPECT_THAT(Value(storage().ListPausable(10)), IsEmpty());
  ASSERT_EQ(RecordOne(pausing, WholeBatch(last, session)), kRecorded);
  EXPECT_THAT(Value(storage().ListPausable(10)), ElementsAre(pausing));
}

TEST_P(ClaimsTest, AnIdleJobWhoseTasksAllCameBackIsIdleToo) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  EXPECT_THAT(Value(storage().ListIdleActive(10)), IsEmpty());
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kGivenBack)), 1);
  EXPECT_THAT(Value(storage().ListIdleActive(10)), SizeIs(1));
}

TEST_P(ClaimsTest, ReadsPayloadsInTheOrderAsked) {
  const auto [job, duty] = PreparingJob(SomeJob());
  std::string every_byte;
  for (int i = 0; i < 65536; ++i) every_byte.push_back(static_cast<char>(i * 31 >> 3));
  ASSERT_THAT(
      storage().AppendBatches(duty, {{{0, 3, every_byte}, {3, 2, "two"}, {5, 1, "\\x6869"}}, "", true}),
      IsOk());

  const std::vector<BatchPayload> payloads = Value(storage().ReadBatches(job, {2, 0, 2}));

  ASSERT_THAT(payloads, SizeIs(3));
  EXPECT_EQ(payloads[0].payload, "\\x6869");
  EXPECT_EQ(payloads[0].first_task, 5);
  EXPECT_EQ(payloads[0].tasks, 1);
  EXPECT_EQ(payloads[1].batch_no, 0);
  EXPECT_EQ(payloads[1].payload, every_byte);
  EXPECT_EQ(payloads[2].payload, "\\x6869");
  EXPECT_THAT(storage().ReadBatches(job, {3}).status(),
              IsError(absl::StatusCode::kNotFound, "BATCH_NOT_FOUND"));
  EXPECT_THAT(Value(storage().ReadBatches(job, {})), IsEmpty());
  const std::vector<BatchPayload> range = Value(storage().ReadBatchRange(job, 1, 10, 10));
  ASSERT_THAT(range, SizeIs(2));
  EXPECT_EQ(range[0].payload, "two");
  EXPECT_EQ(range[1].batch_no, 2);
  EXPECT_THAT(Value(storage().ReadBatchRange(job, 0, 2, 10)), SizeIs(2));
  EXPECT_THAT(Value(storage().ReadBatchRange(job, 0, 10, 1)), SizeIs(1));
}

TEST_P(ClaimsTest, ReadsARangeInTheOrderOfNumbersNotOfDigits) {
  const JobId job = ReadyJob(std::vector<int32_t>(12, 2));
  const SessionId session = CreateSession();
  std::vector<SegmentWrite> segments;
  for (const ClaimedLease& lease : Claim(job, session)) segments.push_back(WholeBatch(lease, session));
  Record(job, segments);

  const std::vector<BatchPayload> batches = Value(storage().ReadBatchRange(job, 0, 12, 11));
  const std::vector<StoredSegment> stored = Value(storage().ReadSegments(job, 0, 12, false));

  ASSERT_THAT(batches, SizeIs(11));
  for (size_t i = 0; i < batches.size(); ++i) EXPECT_EQ(batches[i].batch_no, static_cast<BatchNo>(i));
  ASSERT_THAT(stored, SizeIs(12));
  for (size_t i = 0; i < stored.size(); ++i) EXPECT_EQ(stored[i].batch_no, static_cast<BatchNo>(i));
}

TEST_P(ClaimsTest, ManyClaimersShareOutEveryBatchOnce) {
  const JobId job = ReadyJob(std::vector<int32_t>(200, 1));
  const std::unique_ptr<Storage> other = AnotherController();
  std::vector<std::vector<ClaimedLease>> claimed(8);
  std::vector<SessionId> sessions;
  for (size_t i = 0; i < claimed.size(); ++i) sessions.push_back(CreateSession());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < claimed.size(); ++i) {
    threads.emplace_back([&, i] {
      Storage& mine = i % 2 == 0 ? storage() : *other;
      while (true) {
        const ClaimResult result = Value(mine.Claim(job, {{sessions[i], 1, 3}}, 3, NewLease));
        if (result.leases.empty()) return;
        claimed[i].insert(claimed[i].end(), result.leases.begin(), result.leases.end());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  std::set<BatchNo> seen;
  std::set<LeaseId> ids;
  for (const std::vector<ClaimedLease>& leases : claimed) {
    for (const ClaimedLease& lease : leases) {
      EXPECT_TRUE(seen.insert(lease.batch_no).second) << "batch " << lease.batch_no << " claimed twice";
      EXPECT_TRUE(ids.insert(lease.lease_id).second);
    }
  }
  EXPECT_THAT(seen, SizeIs(200));
}

}  // namespace
}  // namespace drover::testing
