// Outcomes read back: failed tasks by kind, pages of segments, and the failure policy of a job that was
// resumed.
#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/codec/outcomes.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using lifecycle::Cause;
using lifecycle::State;
using enum SegmentResult;

// A failed task.
struct Failed {
  uint32_t index = 0;
  std::string code;
  uint16_t http_status = 0;
};

class OutcomesTest : public StorageTest {
 protected:
  // The segment with these of its tasks failed.
  static SegmentWrite With(SegmentWrite segment, const std::vector<Failed>& failures) {
    std::vector<Outcome> outcomes;
    for (const Failed& failed : failures) {
      Outcome outcome;
      outcome.index = failed.index;
      outcome.succeeded = false;
      outcome.code = failed.code;
      outcome.http_status = failed.http_status;
      outcome.message = absl::StrCat("of task ", failed.index);
      outcomes.push_back(outcome);
    }
    const auto tasks = segment.succeeded + segment.failed;
    segment.failed = static_cast<int32_t>(failures.size());
    segment.succeeded = tasks - segment.failed;
    segment.payload = EncodeOutcomes(outcomes);
    return segment;
  }
  // The whole batch, all of it failed with this code.
  static SegmentWrite AllFailed(const ClaimedLease& lease, const SessionId& session, const std::string& code,
                                uint16_t http_status) {
    std::vector<Failed> failures;
    for (int32_t i = 0; i < lease.batch_tasks; ++i)
      failures.push_back({static_cast<uint32_t>(i), code, http_status});
    return With(WholeBatch(lease, session), failures);
  }

  static int64_t Sum(const std::vector<FailureGroup>& groups) {
    int64_t sum = 0;
    for (const FailureGroup& group : groups) sum += group.tasks;
    return sum;
  }

  SegmentPage Page(const JobId& job, BatchNo first, bool only_failed, const SegmentPageLimits& limits = {}) {
    return Value(storage().ReadSegmentPage(job, first, only_failed, limits), "ReadSegmentPage");
  }
  static std::vector<BatchNo> BatchesOf(const SegmentPage& page) {
    std::vector<BatchNo> batches;
    for (const StoredSegment& segment : page.segments) batches.push_back(segment.batch_no);
    return batches;
  }
};
DROVER_STORAGE_CONTRACT(OutcomesTest);

TEST_P(OutcomesTest, FailedTasksAreCountedByCodeAndStatusWithTheirFirstTasks) {
  const JobId job = ReadyJob({8, 8});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  EXPECT_THAT(Get(job).failure_groups, IsEmpty());

  Record(job, {With(WholeBatch(leases[1], session), {{5, "NoSuchKey", 404}, {7, "AccessDenied", 403}})});
  Record(job,
         {With(WholeBatch(leases[0], session),
               {{0, "NoSuchKey", 404}, {1, "NoSuchKey", 404}, {2, "NoSuchKey", 404}, {3, "NoSuchKey", 0}})});

  const BatchNo first = leases[0].batch_no;
  const BatchNo second = leases[1].batch_no;
  EXPECT_THAT(Get(job).failure_groups,
              ElementsAre(FailureGroup{"NoSuchKey", 404, false, 4, {{second, 5}, {first, 0}, {first, 1}}},
                          FailureGroup{"AccessDenied", 403, false, 1, {{second, 7}}},
                          FailureGroup{"NoSuchKey", 0, false, 1, {{first, 3}}}));
  EXPECT_EQ(Get(job).snapshot.failed, 6);
}

TEST_P(OutcomesTest, ASegmentSentAgainAndALostLeaseAreCountedOnce) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  const SegmentWrite first = With(Segment(lease, session, 1, Range(0, 2)), {{0, "NoSuchKey", 404}});
  Record(job, {first});
  Record(job, {first});
  // What the worker did not record runs again elsewhere; what it sends late is lost.
  Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost));
  const SessionId other = CreateSession();
  const ClaimedLease again = Claim(job, other)[0];
  EXPECT_EQ(RecordOne(job, With(Segment(lease, session, 2, Range(2, 4)), {{2, "SlowDown", 503}})), kLost);
  Record(job, {With(Segment(again, other, 1, Range(2, 4)), {{3, "NoSuchKey", 404}})});

  EXPECT_THAT(
      Get(job).failure_groups,
      ElementsAre(FailureGroup{"NoSuchKey", 404, false, 2, {{lease.batch_no, 0}, {lease.batch_no, 3}}}));
}

TEST_P(OutcomesTest, KindsBeyondTheLimitAreCountedTogether) {
  const JobId job = ReadyJob({64, 64});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  std::vector<Failed> failures;
  for (uint32_t i = 0; i < 64; ++i) failures.push_back({i, absl::StrCat("Code", i), 500});

  Record(job, {With(WholeBatch(leases[0], session), failures)});
  Record(job, {With(WholeBatch(leases[1], session), failures)});

  const std::vector<FailureGroup> groups = Get(job).failure_groups;
  ASSERT_THAT(groups, SizeIs(kMaxFailureGroups + 1));
  EXPECT_EQ(Sum(groups), 128);
  for (size_t i = 0; i + 1 < groups.size(); ++i) {
    EXPECT_FALSE(groups[i].others);
    EXPECT_EQ(groups[i].tasks, 2) << groups[i].code;
    EXPECT_THAT(groups[i].examples, SizeIs(2));
  }
  EXPECT_TRUE(groups.back().others) << "last, though it is the largest";
  EXPECT_EQ(groups.back().tasks, 2 * (64 - kMaxFailureGroups));
  EXPECT_THAT(groups.back().examples, SizeIs(kMaxFailureExamples));
}

TEST_P(OutcomesTest, FailuresThatAPayloadDoesNotTellOfHaveNoCode) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  SegmentWrite fewer = With(WholeBatch(leases[0], session), {{0, "NoSuchKey", 404}});
  fewer.failed = 3;
  fewer.succeeded = 1;

  Record(job, {fewer, WholeBatch(leases[1], session, 2)});

  EXPECT_THAT(Get(job).failure_groups,
              ElementsAre(FailureGroup{"", 0, false, 4, {}},
                          FailureGroup{"NoSuchKey", 404, false, 1, {{leases[0].batch_no, 0}}}));
}

TEST_P(OutcomesTest, ControllersThatRecordAtOnceCountEachFailureOnce) {
  constexpr int kBatches = 60;
  const JobId job = ReadyJob(std::vector<int32_t>(kBatches, 4));
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  ASSERT_THAT(leases, SizeIs(kBatches));
  const std::unique_ptr<Storage> other = AnotherController();
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (Storage* controller : {&storage(), other.get(), &storage(), other.get()}) {
    threads.emplace_back([&, controller] {
      for (size_t i = next++; i < leases.size(); i = next++) {
        // More kinds than have a group, in an order of its own for each batch.
        const std::vector<Failed> failures = {{0, absl::StrCat("Code", i), 500},
                                              {1, absl::StrCat("Code", kBatches - i), 500},
                                              {2, "Common", 503}};
        EXPECT_THAT(
            controller->Record(job, {With(WholeBatch(leases[i], session), failures)}, {.enabled = false})
                .status(),
            IsOk());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  const JobRecord record = Get(job);
  EXPECT_EQ(record.snapshot.failed, 3 * kBatches);
  EXPECT_EQ(Sum(record.failure_groups), 3 * kBatches);
  ASSERT_THAT(record.failure_groups, SizeIs(kMaxFailureGroups + 1));
  EXPECT_EQ(record.failure_groups[0].code, "Common");
  EXPECT_EQ(record.failure_groups[0].tasks, kBatches);
}

TEST_P(OutcomesTest, APageHasWholeBatchesInOrderAndSaysWhereToGoOn) {
  const JobId job = ReadyJob({4, 4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  const absl::Time before = absl::Now() - absl::Seconds(60);
  Record(job, {WholeBatch(leases[3], session), Segment(leases[1], session, 1, Range(2, 4)),
               WholeBatch(leases[0], session)});
  Record(job, {Segment(leases[1], session, 2, Range(0, 2))});

  const SegmentPage all = Page(job, 0, false);
  EXPECT_THAT(BatchesOf(all), ElementsAre(0, 1, 1, 3));
  EXPECT_EQ(all.next, std::nullopt);
  for (const StoredSegment& segment : all.segments) {
    ASSERT_TRUE(segment.recorded.has_value());
    EXPECT_GT(*segment.recorded, before);
  }

  const SegmentPage two = Page(job, 0, false, {.batches = 2});
  EXPECT_THAT(BatchesOf(two), ElementsAre(0, 1, 1));
  ASSERT_EQ(two.next, 2);
  EXPECT_THAT(BatchesOf(Page(job, *two.next, false, {.batches = 2})), ElementsAre(3));
  EXPECT_EQ(Page(job, *two.next, false, {.batches = 2}).next, std::nullopt);
  EXPECT_THAT(BatchesOf(Page(job, 0, false, {.tasks = 5})), ElementsAre(0, 1, 1));
  EXPECT_THAT(BatchesOf(Page(job, 0, false, {.tasks = 4})), ElementsAre(0));
  EXPECT_THAT(Page(job, 4, false).segments, IsEmpty());
  EXPECT_EQ(Page(job, 4, false).next, std::nullopt);
}

TEST_P(OutcomesTest, APageOfFailuresLeavesOutSegmentsWithoutAny) {
  const JobId job = ReadyJob({4, 4, 4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  SegmentWrite notes = Segment(leases[4], session, 1, TaskSet());
  notes.notes = "an upload";
  Record(job, {WholeBatch(leases[0], session), AllFailed(leases[1], session, "NoSuchKey", 404),
               Segment(leases[2], session, 1, Range(0, 2)),
               With(Segment(leases[2], session, 2, Range(2, 4)), {{2, "SlowDown", 503}}),
               AllFailed(leases[3], session, "NoSuchKey", 404), notes});

  const SegmentPage failed = Page(job, 0, true);
  EXPECT_THAT(BatchesOf(failed), ElementsAre(1, 2, 3));
  EXPECT_EQ(failed.segments[1].failed, 1);
  EXPECT_EQ(failed.segments[1].executed, Range(2, 4));
  EXPECT_EQ(Page(job, 0, true, {.tasks = 4}).next, 2);
  EXPECT_EQ(Page(job, 0, true, {.tasks = 5}).next, 3) << "of batch 2 only the failed task counts";
  EXPECT_EQ(Page(job, 0, true, {.bytes = 1}).next, 2);
  EXPECT_THAT(BatchesOf(Page(job, 2, false)), ElementsAre(2, 2, 3)) << "nothing was executed of batch 4";
}

// A job that pauses once more than 2 tasks failed, or more than half of at least 8.
constexpr lifecycle::FailurePolicy kPausing{
    .failed_fraction = 0.5, .minimum_executed = 8, .failed_tasks = 2, .pause = true};

TEST_P(OutcomesTest, AJobThatItsPolicyPausedIsJudgedFromItsResumeOn) {
  const JobId job = ReadyJob({4, 4, 4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  EXPECT_EQ(Record(job, {WholeBatch(leases[0], session, 3)}, kPausing).change->to, State::kPausing);
  // In flight while it pauses: counted, and nothing new to decide.
  EXPECT_EQ(Record(job, {WholeBatch(leases[1], session, 4)}, kPausing).change, std::nullopt);
  ASSERT_THAT(Change(job, Cause::kResume).status(), IsOk());
  EXPECT_EQ(Get(job).snapshot.resumed_executed, 8);
  EXPECT_EQ(Get(job).snapshot.resumed_failed, 7);

  EXPECT_EQ(Record(job, {Segment(leases[2], session, 1, Range(0, 3), 2)}, kPausing).change, std::nullopt)
      << "two since the resume";
  const RecordResult third = Record(job, {Segment(leases[2], session, 2, Range(3, 4), 1)}, kPausing);
  ASSERT_TRUE(third.change.has_value());
  EXPECT_EQ(third.change->to, State::kPausing);
  EXPECT_EQ(third.change->reason_message, "3 tasks failed since the job was resumed: more than 2");
}

TEST_P(OutcomesTest, WhoTookOverAPauseOfThePolicyAndResumesIsNotPausedAtOnce) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  ASSERT_EQ(Record(job, {WholeBatch(leases[0], session, 3)}, kPausing).change->to, State::kPausing);
  ASSERT_THAT(Change(job, Cause::kPause).status(), IsOk());
  ASSERT_EQ(Get(job).snapshot.reason_code, lifecycle::kReasonUser);
  ASSERT_THAT(Change(job, Cause::kResume).status(), IsOk());

  EXPECT_EQ(Record(job, {Segment(leases[1], session, 1, Range(0, 2), 1)}, kPausing).change, std::nullopt);
}

TEST_P(OutcomesTest, APauseDoesNotSaveAJobWhosePolicyFails) {
  const lifecycle::FailurePolicy failing{.failed_tasks = 2};
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  Record(job, {Segment(leases[0], session, 1, Range(0, 2), 2)}, failing);
  ASSERT_THAT(Change(job, Cause::kPause).status(), IsOk());
  ASSERT_THAT(Change(job, Cause::kResume).status(), IsOk());

  EXPECT_EQ(Record(job, {Segment(leases[0], session, 2, Range(2, 3), 1)}, failing).change->to,
            State::kFailing);
}

TEST_P(OutcomesTest, TwoControllersPauseAResumedJobAtTheSameFailure) {
  constexpr int kBatches = 40;
  const JobId job = ReadyJob(std::vector<int32_t>(kBatches, 1));
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  const lifecycle::FailurePolicy policy{.failed_tasks = 9, .pause = true};
  const std::unique_ptr<Storage> other = AnotherController();
  size_t begin = 0;
  // Each round has ten failures, the tenth of which pauses the job: recorded by two controllers at once.
  for (int round = 1; round <= 4; ++round) {
    std::atomic<size_t> next{begin};
    std::atomic<int> pauses{0};
    std::vector<std::thread> threads;
    for (Storage* controller : {&storage(), other.get()}) {
      threads.emplace_back([&, controller] {
        for (size_t i = next++; i < begin + 10; i = next++) {
          const auto result = controller->Record(job, {WholeBatch(leases[i], session, 1)}, policy);
          ASSERT_THAT(result.status(), IsOk());
          if (result->change && result->change->to == State::kPausing) {
            ++pauses;
            EXPECT_EQ(result->after.failed, round * 10);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    begin += 10;
    if (round == 4) {
      EXPECT_EQ(pauses, 0) << "all tasks are recorded: there is nothing left to pause";
      EXPECT_EQ(StateOf(job), State::kCompleting);
      break;
    }
    EXPECT_EQ(pauses, 1) << "round " << round;
    ASSERT_THAT(Change(job, Cause::kResume).status(), IsOk());
  }
}

}  // namespace
}  // namespace drover::testing
