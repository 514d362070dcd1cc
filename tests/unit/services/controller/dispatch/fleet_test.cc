#include "services/controller/dispatch/fleet.h"

#include <gtest/gtest.h>

#include "common/status/status.h"
#include "tests/unit/services/controller/dispatch/dispatch_fakes.h"

namespace drover {
namespace {

class FixedClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch(); }
  absl::Duration Elapsed() const override { return now; }
  absl::Duration now = absl::Seconds(100);
};

class TestSink final : public StreamSink {
 public:
  void WriteReady() override { ++wakes; }
  void Close(const absl::Status& status) override { closed = status; }
  int wakes = 0;
  std::optional<absl::Status> closed;
};

class FleetTest : public testing::Test {
 protected:
  struct Worker {
    StreamId stream = 0;
    std::shared_ptr<TestSink> sink;
  };

  Worker Attach(const SessionId& session, int64_t attachment, std::vector<HeldLeaseRow> leases = {}) {
    Worker worker;
    worker.sink = std::make_shared<TestSink>();
    worker.stream = fleet_.Open(worker.sink);
    AttachedStream attached;
    attached.session = session;
    attached.attachment = attachment;
    attached.leases = std::move(leases);
    auto* operation = attached.hello.add_operations();
    operation->set_name("no_op");
    operation->set_revision(1);
    auto* store = attached.hello.add_stores();
    store->set_name("main");
    store->set_fingerprint("f1");
    attached.welcome.mutable_welcome()->set_session_id(session);
    fleet_.Attached(worker.stream, std::move(attached));
    return worker;
  }

  void SendStatus(const Worker& worker, int64_t number, int64_t credit, int64_t received = 0,
                  int64_t urgent = 0, int32_t above = 0, bool draining = false) {
    v1::Status status;
    status.set_number(number);
    status.set_credit(credit);
    status.set_grants_received(received);
    status.set_urgent_credit(urgent);
    status.set_urgent_above(above);
    status.set_draining(draining);
    fleet_.OnStatus(worker.stream, status);
  }

  std::vector<v1::WorkResponse> Read(const Worker& worker) {
    std::vector<v1::WorkResponse> messages;
    while (auto message = fleet_.NextMessage(worker.stream)) messages.push_back(*message);
    return messages;
  }

  // Claims one batch of `tasks` for the first slot, as the dispatcher does.
  void GrantBatch(LeaseId lease, int32_t tasks, int32_t priority = 0) {
    const auto slots = fleet_.Slots(job_, priority);
    ASSERT_FALSE(slots.empty());
    ClaimedLease claimed;
    claimed.lease_id = lease;
    claimed.batch_no = static_cast<BatchNo>(lease);
    claimed.batch_tasks = tasks;
    v1::JobContext context;
    context.set_job_id(kJob);
    context.set_version(1);
    ASSERT_TRUE(fleet_.AddGrant(slots[0], kJob, claimed, "payload", context));
  }

  v1::Segment SegmentOf(LeaseId lease, int64_t sequence, int first, int end) {
    v1::Segment segment;
    segment.set_lease_id(lease);
    segment.set_sequence(sequence);
    segment.set_job_id(kJob);
    segment.set_batch_no(lease);
    auto* range = segment.add_succeeded();
    range->set_first(first);
    range->set_end(end);
    return segment;
  }

  HeldLeaseRow Row(LeaseId lease, int32_t tasks, uint32_t recorded, int64_t sequence) {
    HeldLeaseRow row;
    row.job_id = kJob;
    row.key = {static_cast<BatchNo>(lease), lease};
    row.batch_tasks = tasks;
    row.recorded.AddRange(0, recorded);
    row.last_sequence = sequence;
    return row;
  }

  JobView View(lifecycle::State state, int64_t version) {
    JobView view;
    view.job_id = kJob;
    view.state = state;
    view.version = version;
    return view;
  }
  std::vector<Fleet::Withdrawn> Apply(const JobView& view, int64_t context_version = 1) {
    return fleet_.ApplyViews({view}, absl::Seconds(30), [&](const JobView&) {
      v1::JobContext context;
      context.set_job_id(kJob);
      context.set_version(context_version);
      return std::optional<v1::JobContext>(context);
    });
  }

  FixedClock clock_;
  CountingRandom random_;
  std::vector<SegmentWrite> submitted_;
  JobInfo job_ = [] {
    JobInfo job;
    job.job_id = kJob;
    job.operation = "no_op";
    job.stores = {{"main", "f1"}};
    return job;
  }();
  Fleet fleet_{FleetLimits{}, clock_, random_,
               [this](const JobId&, SegmentWrite segment) { submitted_.push_back(std::move(segment)); }};
};

TEST_F(FleetTest, GivesNothingBeforeTheFirstStatus) {
  const Worker worker = Attach("s", 1);
  EXPECT_FALSE(fleet_.AnyCredit(0));
  SendStatus(worker, 1, 10);
  EXPECT_TRUE(fleet_.AnyCredit(0));
}

TEST_F(FleetTest, SubtractsGrantsThatTheWorkerHadNotSeenFromItsCredit) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 60);
  EXPECT_EQ(fleet_.Slots(job_, 0)[0].claim.credit, 40) << "queued";
  Read(worker);
  EXPECT_EQ(fleet_.Slots(job_, 0)[0].claim.credit, 40) << "written";
  SendStatus(worker, 2, 100, 0);
  EXPECT_EQ(fleet_.Slots(job_, 0)[0].claim.credit, 40) << "the Status crossed the Grant";
  SendStatus(worker, 3, 40, 1);
  EXPECT_EQ(fleet_.Slots(job_, 0)[0].claim.credit, 40) << "seen: the worker has subtracted it";
}

TEST_F(FleetTest, KeepsUrgentCreditForHigherPriorities) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 0, 0, 64, 5);
  EXPECT_TRUE(fleet_.Slots(job_, 5).empty());
  ASSERT_EQ(fleet_.Slots(job_, 6).size(), 1u);
  EXPECT_EQ(fleet_.Slots(job_, 6)[0].claim.credit, 64);
}

TEST_F(FleetTest, GivesAJobOnlyToWorkersThatCanRunItOnTheSameStore) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 10);
  EXPECT_EQ(fleet_.Slots(job_, 0).size(), 1u);
  JobInfo other = job_;
  other.operation = "copy_object";
  EXPECT_TRUE(fleet_.Slots(other, 0).empty());
  other = job_;
  other.min_revision = 2;
  EXPECT_TRUE(fleet_.Slots(other, 0).empty());
  other = job_;
  other.stores[0].second = "f2";
  EXPECT_TRUE(fleet_.Slots(other, 0).empty()) << "a store of the same name that is another one";
}

TEST_F(FleetTest, GivesNothingToAWorkerThatDrains) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 10, 0, 0, 0, true);
  EXPECT_FALSE(fleet_.AnyCredit(0));
}

TEST_F(FleetTest, AcknowledgesASegmentOnlyOnceItIsRecorded) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  fleet_.OnSegment(worker.stream, SegmentOf(1, 1, 0, 10));
  ASSERT_EQ(submitted_.size(), 1u);
  EXPECT_EQ(submitted_[0].session, "s");
  EXPECT_TRUE(Read(worker).empty());
  fleet_.OnRecorded(kJob, submitted_[0], SegmentResult::kRecorded, true);
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].segment_ack().result(), v1::SegmentAck::RECORDED);
  EXPECT_EQ(fleet_.counts().leases, 0);
}

TEST_F(FleetTest, AcknowledgesEachSegmentOfALeaseThatWasOverBeforeTheFirstAnswer) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  fleet_.OnSegment(worker.stream, SegmentOf(1, 1, 0, 5));
  fleet_.OnSegment(worker.stream, SegmentOf(1, 2, 5, 10));
  ASSERT_EQ(submitted_.size(), 2u);
  // Their commit was in doubt; submitted again, both are recorded already and the lease is gone.
  for (const SegmentWrite& segment : submitted_)
    fleet_.OnRecorded(kJob, segment, SegmentResult::kAlready, true);
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 2u);
  for (const v1::WorkResponse& message : messages) {
    EXPECT_EQ(message.segment_ack().result(), v1::SegmentAck::RECORDED);
  }
  EXPECT_EQ(messages[1].segment_ack().sequence(), 2);
  EXPECT_EQ(fleet_.counts().leases, 0);
  EXPECT_EQ(fleet_.counts().unacked_bytes, 0);
}

TEST_F(FleetTest, ClosesTheStreamOfAWorkerThatNamesATaskAgain) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  fleet_.OnSegment(worker.stream, SegmentOf(1, 1, 0, 5));
  fleet_.OnSegment(worker.stream, SegmentOf(1, 2, 4, 6));
  ASSERT_TRUE(worker.sink->closed.has_value());
  EXPECT_TRUE(absl::IsInvalidArgument(*worker.sink->closed));
  EXPECT_EQ(submitted_.size(), 1u);
}

TEST_F(FleetTest, ClosesTheStreamOfAWorkerThatSkipsASequenceNumber) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  fleet_.OnSegment(worker.stream, SegmentOf(1, 2, 0, 5));
  ASSERT_TRUE(worker.sink->closed.has_value());
  EXPECT_TRUE(absl::IsInvalidArgument(*worker.sink->closed));
}

TEST_F(FleetTest, SaysLostOfALeaseThatIsNotTheStreams) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  fleet_.OnSegment(worker.stream, SegmentOf(99, 1, 0, 5));
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 2u);  // Welcome, then this
  EXPECT_EQ(messages[1].segment_ack().result(), v1::SegmentAck::LOST);
  EXPECT_TRUE(submitted_.empty());
}

// "bitmap looked at before the key": a correct resend must not be refused.
TEST_F(FleetTest, AcknowledgesAResentSegmentThatWasRecordedBefore) {
  const Worker worker = Attach("s", 2, {Row(1, 10, 4, 1)});
  fleet_.OnSegment(worker.stream, SegmentOf(1, 1, 0, 4));
  EXPECT_FALSE(worker.sink->closed.has_value());
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[1].segment_ack().result(), v1::SegmentAck::RECORDED);
  EXPECT_TRUE(submitted_.empty());
}

TEST_F(FleetTest, RefusesANewSegmentThatNamesWhatEarlierSegmentsRecorded) {
  const Worker worker = Attach("s", 2, {Row(1, 10, 4, 1)});
  fleet_.OnSegment(worker.stream, SegmentOf(1, 2, 3, 5));
  ASSERT_TRUE(worker.sink->closed.has_value());
  EXPECT_TRUE(absl::IsInvalidArgument(*worker.sink->closed));
}

TEST_F(FleetTest, AnswersOnTheNewStreamASegmentThatCameByTheOldOne) {
  const Worker old = Attach("s", 1);
  SendStatus(old, 1, 100);
  GrantBatch(1, 10);
  Read(old);
  fleet_.OnSegment(old.stream, SegmentOf(1, 1, 0, 4));
  const Worker now = Attach("s", 2, {Row(1, 10, 0, 0)});
  EXPECT_TRUE(absl::IsAborted(*old.sink->closed));
  EXPECT_EQ(GetErrorDetails(*old.sink->closed)->reason, "ATTACH_SUPERSEDED");
  fleet_.Closed(old.stream);
  Read(now);
  fleet_.OnRecorded(kJob, submitted_[0], SegmentResult::kRecorded, false);
  ASSERT_EQ(Read(now).size(), 1u);
  fleet_.OnSegment(now.stream, SegmentOf(1, 1, 0, 4));
  EXPECT_EQ(submitted_.size(), 1u) << "it is known to be recorded";
  fleet_.OnSegment(now.stream, SegmentOf(1, 2, 4, 10));
  EXPECT_EQ(submitted_.size(), 2u);
  EXPECT_FALSE(now.sink->closed.has_value());
}

TEST_F(FleetTest, ClosesAStreamThatAttachesBehindANewerOne) {
  const Worker newer = Attach("s", 3);
  const Worker late = Attach("s", 2);
  EXPECT_FALSE(newer.sink->closed.has_value());
  ASSERT_TRUE(late.sink->closed.has_value());
  EXPECT_TRUE(absl::IsAborted(*late.sink->closed));
  EXPECT_EQ(GetErrorDetails(*late.sink->closed)->reason, "ATTACH_SUPERSEDED");
}

TEST_F(FleetTest, RevokesOnceForEachVersionOfAStoppedJobAndWithdrawsWhatWaits) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  GrantBatch(2, 10);
  const auto withdrawn = Apply(View(lifecycle::State::kCancelling, 5));
  ASSERT_EQ(withdrawn.size(), 1u);
  EXPECT_EQ(withdrawn[0].lease.lease_id, 2);
  auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].revoke().mode(), v1::Revoke::ABORT);
  EXPECT_EQ(messages[0].revoke().grace().seconds(), 30);
  EXPECT_TRUE(Apply(View(lifecycle::State::kCancelling, 5)).empty());
  EXPECT_TRUE(Read(worker).empty());
}

TEST_F(FleetTest, RevokesAgainAfterAGrantThatCrossedTheStop) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  Apply(View(lifecycle::State::kPausing, 5));
  Read(worker);
  GrantBatch(2, 10);  // its claim committed before the pause
  Apply(View(lifecycle::State::kPausing, 5));
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 1u) << "withdrawn before it was written, and the rest revoked again";
  EXPECT_EQ(messages[0].revoke().mode(), v1::Revoke::FINISH);
}

TEST_F(FleetTest, TakesLeasesFromAWorkerThatDoesNotAbortInTimeButNotFromOneThatMayFinish) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  Apply(View(lifecycle::State::kPausing, 5));
  clock_.now += absl::Hours(1);  // tasks in flight may take as long as they take
  EXPECT_TRUE(Apply(View(lifecycle::State::kPausing, 5)).empty());
  Apply(View(lifecycle::State::kCancelling, 6));
  Read(worker);
  clock_.now += absl::Seconds(34);
  Apply(View(lifecycle::State::kCancelling, 7));  // another change of the job gives no more time
  Read(worker);
  EXPECT_EQ(fleet_.counts().leases, 1);
  clock_.now += absl::Seconds(1);
  const auto taken = Apply(View(lifecycle::State::kCancelling, 7));
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].lease.lease_id, 1);
  EXPECT_EQ(taken[0].how, CameBack::kLost);
  EXPECT_EQ(fleet_.counts().leases, 0);
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].segment_ack().result(), v1::SegmentAck::LOST);
}

TEST_F(FleetTest, RevokesAgainAfterAnAttach) {
  const Worker worker = Attach("s", 2, {Row(1, 10, 0, 0)});
  Read(worker);
  Apply(View(lifecycle::State::kPausing, 5));
  ASSERT_EQ(Read(worker).size(), 1u);
  const Worker again = Attach("s", 3, {Row(1, 10, 0, 0)});
  Read(again);
  Apply(View(lifecycle::State::kPausing, 5));
  EXPECT_EQ(Read(again).size(), 1u);
}

TEST_F(FleetTest, SendsTheContextOfHeldLeasesAfterAnAttach) {
  const Worker worker = Attach("s", 2, {Row(1, 10, 0, 0)});
  Read(worker);
  Apply(View(lifecycle::State::kActive, 5), 10);
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].job_context().version(), 10);
}

TEST_F(FleetTest, ReturnsGrantsThatWereNeverWrittenWhenAStreamEnds) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  GrantBatch(2, 10);
  const auto unsent = fleet_.Closed(worker.stream);
  ASSERT_EQ(unsent.leases.size(), 1u);
  EXPECT_EQ(unsent.leases[0].second.lease_id, 2);
  EXPECT_FALSE(unsent.goodbye);
}

TEST_F(FleetTest, SaysGoodbyeOnlyForADrainedWorkerWithoutLeases) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  Read(worker);
  SendStatus(worker, 2, 0, 1, 0, 0, true);
  EXPECT_FALSE(fleet_.MayGo(worker.stream));
  fleet_.OnSegment(worker.stream, SegmentOf(1, 1, 0, 10));
  fleet_.OnRecorded(kJob, submitted_[0], SegmentResult::kRecorded, true);
  EXPECT_TRUE(fleet_.MayGo(worker.stream));
  EXPECT_TRUE(fleet_.Closed(worker.stream).goodbye);
}

TEST_F(FleetTest, AcknowledgesAStatusOnlyAfterItsRenewal) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 0);
  SendStatus(worker, 2, 0);
  Read(worker);
  const auto asked = fleet_.TakeRenewals();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_TRUE(fleet_.TakeRenewals().empty());
  EXPECT_TRUE(Read(worker).empty());
  fleet_.Renewed(asked, {"s"});
  const auto messages = Read(worker);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].status_ack().number(), 2);
}

TEST_F(FleetTest, AsksAgainForARenewalThatFailed) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 0);
  const auto asked = fleet_.TakeRenewals();
  fleet_.RenewalFailed(asked);
  EXPECT_EQ(fleet_.TakeRenewals().size(), 1u);
}

TEST_F(FleetTest, ClosesAStreamWhoseSessionIsNotRenewed) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 0);
  fleet_.Renewed(fleet_.TakeRenewals(), {});
  ASSERT_TRUE(worker.sink->closed.has_value());
  EXPECT_TRUE(absl::IsAborted(*worker.sink->closed));
  EXPECT_EQ(GetErrorDetails(*worker.sink->closed)->reason, "SESSION_NOT_RENEWED");
}

TEST_F(FleetTest, FindsLeasesThatNobodyKnowsOfButNotWhileAClaimIsUnderWay) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 100);
  GrantBatch(1, 10);
  const std::vector<Storage::OwnedLease> owned = {
      {kJob, {1, 1}, "s", 1}, {kJob, {2, 2}, "s", 1}, {kJob, {3, 3}, "s", 0}};

  auto mark = fleet_.MarkForReconcile();
  ASSERT_EQ(fleet_.Unknown(mark, owned).size(), 1u);
  EXPECT_EQ(fleet_.Unknown(mark, owned)[0].key.lease_id, 2);

  const auto slots = fleet_.Slots(job_, 0);
  fleet_.BeginClaim(slots);
  EXPECT_TRUE(fleet_.Unknown(mark, owned).empty()) << "a claim began since the mark";
  EXPECT_TRUE(fleet_.MarkForReconcile().attachments.empty());
  fleet_.EndClaim(slots);
  EXPECT_TRUE(fleet_.Unknown(mark, owned).empty()) << "it may have committed after the look";
  mark = fleet_.MarkForReconcile();
  EXPECT_EQ(fleet_.Unknown(mark, owned).size(), 1u);
}

TEST_F(FleetTest, ClaimsNothingMoreForAWorkerThatReadsSlowly) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 1'000'000);
  const auto slots = fleet_.Slots(job_, 0);
  v1::JobContext context;
  context.set_job_id(kJob);
  for (LeaseId lease = 1; lease <= 6; ++lease) {
    ClaimedLease claimed;
    claimed.lease_id = lease;
    claimed.batch_tasks = 10;
    ASSERT_TRUE(fleet_.AddGrant(slots[0], kJob, claimed, std::string(1 << 20, 'x'), context));
  }
  EXPECT_TRUE(fleet_.Slots(job_, 0).empty());
  Read(worker);
  EXPECT_FALSE(fleet_.Slots(job_, 0).empty());
}

TEST_F(FleetTest, CutsOffAWorkerThatSendsWithoutWaitingForAcknowledgments) {
  const Worker worker = Attach("s", 1);
  SendStatus(worker, 1, 1'000'000);
  for (LeaseId lease = 1; lease < 20 && !worker.sink->closed; ++lease) {
    GrantBatch(lease, 1000);
    v1::Segment segment = SegmentOf(lease, 1, 0, 1);
    for (int task = 1; task < 1000; ++task) {
      auto* outcome = segment.add_outcomes();
      outcome->set_task(task);
      outcome->set_attempts(1);
      outcome->set_message(std::string(1000, 'x'));
    }
    fleet_.OnSegment(worker.stream, segment);
  }
  ASSERT_TRUE(worker.sink->closed.has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(*worker.sink->closed));
}

}  // namespace
}  // namespace drover
