// The rules of the worker protocol (proto/drover/v1/worker_service.proto), each in virtual time.
#include "services/worker/lease/lease_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/services/worker/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LeaseClientTest : public ::testing::Test {
 protected:
  explicit LeaseClientTest(size_t controllers = 2) {
    identity_.set_name("w");
    client_ = std::make_unique<LeaseClient>(identity_, LeaseClient::Options{.controllers = controllers},
                                            clock_, random_, transport_, runner_, LeaseMetrics());
  }

  // Attached in session "s1".
  void Attach() {
    client_->Start();
    client_->OnMessage(MakeWelcome("s1"));
    transport_.sent.clear();
    AckStatus();
  }
  // The controller acknowledges the last Status there can have been.
  void AckStatus() {
    clock_.Advance(absl::Seconds(3));
    client_->Tick();
    const std::vector<v1::Status> statuses = transport_.TakeStatuses();
    ASSERT_FALSE(statuses.empty());
    client_->OnMessage(MakeStatusAck(statuses.back().number()));
  }
  void Grant(int64_t lease, int32_t tasks, std::vector<std::pair<int, int>> ranges = {}) {
    if (known_.insert("j").second) client_->OnMessage(MakeContext("j"));
    client_->OnMessage(MakeGrant(lease, "j", tasks, std::move(ranges)));
  }
  // The stream breaks, and the client says Hello again; returns it.
  v1::Hello BreakAndReattach(absl::Status why = absl::UnavailableError("broken")) {
    transport_.TakeHellos();
    client_->OnStreamBroken(why);
    clock_.Advance(kMaxAttachBackoff);
    client_->Tick();
    const std::vector<v1::Hello> hellos = transport_.TakeHellos();
    EXPECT_THAT(hellos, SizeIs(1));
    return hellos.empty() ? v1::Hello() : hellos.back();
  }
  void AdvanceInSteps(absl::Duration by, absl::Duration step = absl::Milliseconds(100)) {
    for (absl::Duration done; done < by; done += step) {
      clock_.Advance(step);
      client_->Tick();
    }
  }
  static std::vector<int64_t> Held(const v1::Hello& hello) {
    std::vector<int64_t> ids;
    for (const v1::HeldLease& lease : hello.held_leases()) ids.push_back(lease.lease_id());
    return ids;
  }

  v1::Hello identity_;
  ManualClock clock_;
  SeededRandom random_;
  FakeTransport transport_;
  FakeRunner runner_;
  std::unique_ptr<LeaseClient> client_;
  std::set<std::string> known_;
};

// --- attaching

TEST_F(LeaseClientTest, FirstHelloAsksForASessionWithNumberOne) {
  client_->Start();
  const std::vector<v1::Hello> hellos = transport_.TakeHellos();
  ASSERT_THAT(hellos, SizeIs(1));
  EXPECT_EQ(hellos[0].session_id(), "");
  EXPECT_EQ(hellos[0].attachment(), 1);
  EXPECT_EQ(hellos[0].name(), "w");
  EXPECT_EQ(hellos[0].min_protocol(), 1);
  EXPECT_THAT(hellos[0].held_leases(), IsEmpty());
}

TEST_F(LeaseClientTest, HellosAreNumberedWithinASessionWhateverBecomesOfThem) {
  Attach();
  EXPECT_EQ(BreakAndReattach().attachment(), 2);
  const v1::Hello aborted = BreakAndReattach(absl::AbortedError("a higher number attached"));
  EXPECT_EQ(aborted.attachment(), 3);
  EXPECT_EQ(aborted.session_id(), "s1");
  EXPECT_EQ(aborted.resume_token(), "token of s1");
  clock_.Advance(kWelcomeTimeout);  // no answer at all
  client_->Tick();
  clock_.Advance(kMaxAttachBackoff);
  client_->Tick();
  const std::vector<v1::Hello> hellos = transport_.TakeHellos();
  ASSERT_THAT(hellos, SizeIs(1));
  EXPECT_EQ(hellos[0].attachment(), 4);
}

TEST_F(LeaseClientTest, HelloNamesEachLeaseUntilItsLastSegmentIsAcknowledged) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  client_->Succeeded(1, 0, 10);
  EXPECT_THAT(Held(BreakAndReattach()), ElementsAre(1, 2));
  client_->OnMessage(MakeWelcome("s1"));
  client_->OnMessage(MakeSegmentAck(1, 1));
  const v1::Hello hello = BreakAndReattach();
  EXPECT_THAT(Held(hello), ElementsAre(2));
  EXPECT_EQ(hello.held_leases(0).job_id(), "j");
  EXPECT_EQ(hello.held_leases(0).batch_no(), 20);
}

TEST_F(LeaseClientTest, ALeaseWithAnAcknowledgedPartIsStillNamed) {
  Attach();
  Grant(1, 1000);
  for (uint32_t i = 0; i < kSegmentSpecialOutcomes; ++i) client_->Finished(1, MakeFailure(i));
  client_->OnMessage(MakeSegmentAck(1, 1));
  EXPECT_THAT(Held(BreakAndReattach()), ElementsAre(1));
}

TEST_F(LeaseClientTest, SegmentsAreSentAgainUnchangedAndInOrderAfterEachAttach) {
  Attach();
  Grant(1, 2000);
  for (uint32_t i = 0; i < 2 * kSegmentSpecialOutcomes; ++i) client_->Finished(1, MakeFailure(i));
  std::vector<v1::Segment> before = transport_.TakeSegments();
  ASSERT_THAT(before, SizeIs(2));
  client_->Finished(1, MakeFailure(1500));  // not yet in a segment
  for (int attach = 0; attach < 2; ++attach) {
    BreakAndReattach();
    EXPECT_THAT(transport_.TakeSegments(), IsEmpty());  // not before Welcome
    client_->OnMessage(MakeWelcome("s1"));
    const std::vector<v1::Segment> after = transport_.TakeSegments();
    ASSERT_GE(after.size(), 2u);
    EXPECT_EQ(after[0].SerializeAsString(), before[0].SerializeAsString());
    EXPECT_EQ(after[1].SerializeAsString(), before[1].SerializeAsString());
  }
  client_->OnMessage(MakeSegmentAck(1, 1));
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s1"));
  const std::vector<v1::Segment> after = transport_.TakeSegments();
  ASSERT_FALSE(after.empty());
  EXPECT_EQ(after[0].SerializeAsString(), before[1].SerializeAsString());
}

TEST_F(LeaseClientTest, SegmentsCutWhileAwayAreSentAfterWelcomeOnly) {
  Attach();
  Grant(1, 10);
  client_->OnStreamBroken(absl::UnavailableError("broken"));
  client_->Succeeded(1, 0, 10);
  EXPECT_THAT(transport_.TakeSegments(), IsEmpty());
  clock_.Advance(kMaxAttachBackoff);
  client_->Tick();
  EXPECT_THAT(transport_.TakeSegments(), IsEmpty());
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_THAT(transport_.TakeSegments(), SizeIs(1));
}

TEST_F(LeaseClientTest, OutcomesAreNotCutByAgeWhileAway) {
  Attach();
  Grant(1, 10);
  client_->OnStreamBroken(absl::UnavailableError("broken"));
  client_->Finished(1, MakeFailure(0));
  clock_.Advance(kSegmentAge);
  client_->Tick();
  client_->Finished(1, MakeFailure(1));
  client_->OnMessage(MakeWelcome("s1"));
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(1));
  EXPECT_EQ(segments[0].outcomes_size(), 2);
}

TEST_F(LeaseClientTest, LostDropsTheLeaseAndStopsItsTasks) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  client_->Succeeded(1, 0, 5);
  client_->OnMessage(MakeSegmentAck(1, 1, v1::SegmentAck::LOST));
  EXPECT_THAT(runner_.dropped, ElementsAre(1));
  EXPECT_THAT(Held(BreakAndReattach()), ElementsAre(2));
  EXPECT_EQ(client_->unacked_bytes(), 0);
}

TEST_F(LeaseClientTest, LeasesLostWhileAwayAreDroppedAndNotSentAgain) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  client_->Succeeded(1, 0, 10);
  client_->Succeeded(2, 0, 10);
  transport_.TakeSegments();
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s1", {1}));
  EXPECT_THAT(runner_.dropped, ElementsAre(1));
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(1));
  EXPECT_EQ(segments[0].lease_id(), 2);
}

TEST_F(LeaseClientTest, AnotherSessionMeansThatAllLeasesAreLost) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  client_->Succeeded(1, 0, 10);
  transport_.TakeSegments();
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s2"));
  EXPECT_THAT(runner_.dropped, ElementsAre(1, 2));
  EXPECT_THAT(transport_.TakeSegments(), IsEmpty());
  EXPECT_EQ(client_->unacked_bytes(), 0);
  EXPECT_EQ(client_->session_id(), "s2");
  const v1::Hello hello = BreakAndReattach();
  EXPECT_EQ(hello.session_id(), "s2");
  EXPECT_EQ(hello.resume_token(), "token of s2");
  EXPECT_GT(hello.attachment(), 2);  // only ever grows
}

TEST_F(LeaseClientTest, BackoffIsJitteredGrowsAndIsBounded) {
  client_->Start();
  absl::Duration longest;
  for (int i = 0; i < 12; ++i) {
    client_->OnStreamBroken(absl::UnavailableError("down"));
    const absl::Duration wait = client_->next_tick() - clock_.Elapsed();
    EXPECT_GE(wait, kMinAttachBackoff / 2);
    EXPECT_LE(wait, kMaxAttachBackoff);
    longest = std::max(longest, wait);
    clock_.Advance(wait);
    client_->Tick();
  }
  EXPECT_GE(longest, kMaxAttachBackoff / 2);
  EXPECT_THAT(transport_.opened, SizeIs(13));
  EXPECT_NE(transport_.opened[0], transport_.opened[1]);  // the other controller
}

TEST_F(LeaseClientTest, AnAcknowledgedStatusResetsTheBackoff) {
  client_->Start();
  for (int i = 0; i < 8; ++i) {
    client_->OnStreamBroken(absl::UnavailableError("down"));
    clock_.Advance(kMaxAttachBackoff);
    client_->Tick();
  }
  client_->OnMessage(MakeWelcome("s1"));
  AckStatus();
  client_->OnStreamBroken(absl::UnavailableError("down"));
  EXPECT_LE(client_->next_tick() - clock_.Elapsed(), kMinAttachBackoff);
}

TEST_F(LeaseClientTest, AControllerThatSaysNothingForHalfATtlIsLeftForAnotherWithTheSession) {
  Attach();
  Grant(1, 10);
  ASSERT_THAT(transport_.opened, SizeIs(1));
  AdvanceInSteps(absl::Milliseconds(7400));
  EXPECT_THAT(transport_.opened, SizeIs(1));
  AdvanceInSteps(absl::Milliseconds(300));
  ASSERT_THAT(transport_.opened, SizeIs(2));
  EXPECT_NE(transport_.opened[0], transport_.opened[1]);
  const v1::Hello hello = transport_.TakeHellos().back();
  EXPECT_EQ(hello.session_id(), "s1");
  EXPECT_THAT(Held(hello), ElementsAre(1));
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_TRUE(client_->MayStart()) << "in time for the fence as well";
}

TEST_F(LeaseClientTest, TwoSilentControllersLeaveTimeForAThirdOne) {
  Attach();
  const absl::Duration heard = clock_.Elapsed();
  while (transport_.opened.size() < 3 && clock_.Elapsed() - heard < absl::Seconds(15)) {
    AdvanceInSteps(absl::Milliseconds(100));
  }
  EXPECT_THAT(transport_.opened, SizeIs(3));
  EXPECT_LT(clock_.Elapsed() - heard, absl::Seconds(12));
}

TEST_F(LeaseClientTest, WithoutASessionToLoseAHelloHasTime) {
  client_->Start();
  AdvanceInSteps(kWelcomeTimeout - absl::Milliseconds(100));
  EXPECT_EQ(transport_.closed, 0);
  AdvanceInSteps(absl::Milliseconds(200));
  EXPECT_EQ(transport_.closed, 1);
}

TEST_F(LeaseClientTest, AControllerIsNotLeftForTakingAsLongAsItMay) {
  client_->Start();
  v1::WorkResponse welcome = MakeWelcome("s1");
  welcome.mutable_welcome()->mutable_ttl()->set_seconds(3);
  welcome.mutable_welcome()->mutable_heartbeat_interval()->set_seconds(1);
  client_->OnMessage(welcome);
  AdvanceInSteps(absl::Milliseconds(2500));  // a heartbeat, and a renewal that has just been missed
  EXPECT_EQ(transport_.closed, 0);
  AdvanceInSteps(absl::Milliseconds(600));
  EXPECT_EQ(transport_.closed, 1);
}

TEST_F(LeaseClientTest, DrainAttachesElsewhereSoonWithSessionAndLeases) {
  Attach();
  Grant(1, 10);
  v1::WorkResponse drain;
  drain.mutable_drain()->mutable_max_wait()->set_seconds(10);
  client_->OnMessage(drain);
  EXPECT_FALSE(transport_.open);
  clock_.Advance(kMinAttachBackoff);
  client_->Tick();
  const std::vector<v1::Hello> hellos = transport_.TakeHellos();
  ASSERT_THAT(hellos, SizeIs(1));
  EXPECT_EQ(hellos[0].session_id(), "s1");
  EXPECT_THAT(Held(hellos[0]), ElementsAre(1));
  EXPECT_NE(transport_.opened[0], transport_.opened[1]);
  EXPECT_THAT(runner_.dropped, IsEmpty());
}

class OneControllerTest : public LeaseClientTest {
 protected:
  OneControllerTest() : LeaseClientTest(1) {}
};

TEST_F(OneControllerTest, DrainOfTheOnlyControllerWaitsAtRandomUpToWhatItAsksFor) {
  std::set<absl::Duration> waits;
  for (int i = 0; i < 8; ++i) {
    client_ = std::make_unique<LeaseClient>(identity_, LeaseClient::Options{.controllers = 1}, clock_,
                                            random_, transport_, runner_, LeaseMetrics());
    client_->Start();
    client_->OnMessage(MakeWelcome("s1"));
    v1::WorkResponse drain;
    drain.mutable_drain()->mutable_max_wait()->set_seconds(4);
    client_->OnMessage(drain);
    waits.insert(client_->next_tick() - clock_.Elapsed());
  }
  EXPECT_THAT(waits, SizeIs(8));
  EXPECT_LE(*waits.rbegin(), absl::Seconds(4));
  EXPECT_GT(*waits.rbegin(), absl::Seconds(1));
}

// --- the fence

TEST_F(LeaseClientTest, NothingMayStartBeforeThereIsASession) {
  EXPECT_FALSE(client_->MayStart());
  client_->Start();
  EXPECT_FALSE(client_->MayStart());
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_TRUE(client_->MayStart());
}

TEST_F(LeaseClientTest, NothingStartsAfterTwoThirdsOfTheTtlSinceTheSendingOfTheLastAcknowledgedStatus) {
  client_->Start();
  client_->OnMessage(MakeWelcome("s1"));
  AdvanceInSteps(absl::Seconds(3));
  const absl::Duration sent = clock_.Elapsed();
  const int64_t number = transport_.TakeStatuses().back().number();
  clock_.Advance(absl::Seconds(2));  // on its way there and back
  client_->OnMessage(MakeStatusAck(number));
  clock_.Advance(sent + absl::Milliseconds(9999) - clock_.Elapsed());
  EXPECT_TRUE(client_->MayStart());
  EXPECT_TRUE(client_->MayRequest());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(client_->MayStart());
  EXPECT_FALSE(client_->MayRequest());
}

TEST_F(LeaseClientTest, TheAcceptedHelloCountsAsAStatusFromItsSending) {
  client_->Start();
  clock_.Advance(absl::Seconds(4));  // a slow attach
  client_->OnMessage(MakeWelcome("s1"));
  clock_.Advance(absl::Milliseconds(5999));
  EXPECT_TRUE(client_->MayStart());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(client_->MayStart());
}

TEST_F(LeaseClientTest, RequestsInFlightAreAbortedOnceAtFiveSixthsOfTheTtl) {
  client_->Start();
  client_->OnMessage(MakeWelcome("s1"));
  client_->OnStreamBroken(absl::UnavailableError("cut off"));
  AdvanceInSteps(absl::Milliseconds(12'400));
  EXPECT_EQ(runner_.aborts, 0);
  AdvanceInSteps(absl::Milliseconds(100));
  EXPECT_EQ(runner_.aborts, 1);
  AdvanceInSteps(absl::Seconds(5));
  EXPECT_EQ(runner_.aborts, 1);
}

TEST_F(LeaseClientTest, TheFenceHoldsOnWakingFromASuspensionBeforeAnythingElseHappens) {
  Attach();
  Grant(1, 10);
  clock_.Advance(absl::Hours(1));
  EXPECT_FALSE(client_->MayRequest());  // no Tick came first
  EXPECT_EQ(runner_.aborts, 1);
}

TEST_F(LeaseClientTest, AWelcomeDoesNotLiftTheFence) {
  Attach();
  Grant(1, 10);
  AdvanceInSteps(absl::Seconds(11));
  EXPECT_FALSE(client_->MayStart());
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_FALSE(client_->MayStart());
  const int wakes = runner_.wakes;
  client_->OnMessage(MakeStatusAck(transport_.TakeStatuses().back().number()));
  EXPECT_TRUE(client_->MayStart());
  EXPECT_GT(runner_.wakes, wakes);
  EXPECT_THAT(runner_.dropped, IsEmpty());
}

TEST_F(LeaseClientTest, AWelcomeThatIsTheFirstThingSeenAfterASuspensionDoesNotLiftTheFence) {
  Attach();
  Grant(1, 10);
  client_->OnStreamBroken(absl::UnavailableError("broken"));
  clock_.Advance(kMaxAttachBackoff);
  client_->Tick();  // Hello
  clock_.Advance(absl::Hours(1));
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_FALSE(client_->MayStart());
}

TEST_F(LeaseClientTest, TheAcknowledgmentOfAnOldStatusDoesNotLiftTheFence) {
  Attach();
  AdvanceInSteps(absl::Seconds(3));
  const int64_t number = transport_.TakeStatuses().back().number();
  clock_.Advance(absl::Seconds(10));
  client_->OnMessage(MakeStatusAck(number));
  EXPECT_FALSE(client_->MayStart());
}

TEST_F(LeaseClientTest, ANewSessionBeginsUnfenced) {
  Attach();
  Grant(1, 10);
  AdvanceInSteps(absl::Seconds(14));
  EXPECT_FALSE(client_->MayStart());
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s2"));
  EXPECT_TRUE(client_->MayStart());
  EXPECT_THAT(runner_.dropped, ElementsAre(1));
}

TEST_F(LeaseClientTest, UnacknowledgedOutcomesAreKeptThroughTheFence) {
  Attach();
  Grant(1, 10);
  client_->Succeeded(1, 0, 10);
  const std::vector<v1::Segment> before = transport_.TakeSegments();
  AdvanceInSteps(absl::Seconds(14));
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s1"));
  const std::vector<v1::Segment> after = transport_.TakeSegments();
  ASSERT_THAT(after, SizeIs(1));
  EXPECT_EQ(after[0].SerializeAsString(), before[0].SerializeAsString());
}

// --- segments

TEST_F(LeaseClientTest, ALeaseThatEndsIsASegmentAtOnceWithDefaultSuccessesAsRanges) {
  Attach();
  Grant(1, 100, {{10, 20}, {30, 32}});
  client_->Succeeded(1, 10, 15);
  client_->Finished(1, MakeFailure(15));
  client_->Succeeded(1, 17, 20);
  client_->Succeeded(1, 16, 17);
  Outcome plain;
  plain.index = 30;
  client_->Finished(1, plain);  // the default, said the long way
  EXPECT_THAT(transport_.TakeSegments(), IsEmpty());
  Outcome second_try;
  second_try.index = 31;
  second_try.attempts = 2;
  client_->Finished(1, second_try);
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(1));
  const v1::Segment& segment = segments[0];
  EXPECT_EQ(segment.sequence(), 1);
  EXPECT_EQ(segment.job_id(), "j");
  EXPECT_EQ(segment.batch_no(), 10);
  ASSERT_EQ(segment.succeeded_size(), 3);
  EXPECT_EQ(segment.succeeded(0).first(), 10);
  EXPECT_EQ(segment.succeeded(0).end(), 15);
  EXPECT_EQ(segment.succeeded(1).first(), 16);
  EXPECT_EQ(segment.succeeded(1).end(), 20);
  EXPECT_EQ(segment.succeeded(2).first(), 30);
  EXPECT_EQ(segment.succeeded(2).end(), 31);
  ASSERT_EQ(segment.outcomes_size(), 2);
  EXPECT_EQ(segment.outcomes(0).code(), "NoSuchKey");
  EXPECT_EQ(segment.outcomes(0).http_status(), 404);
  EXPECT_FALSE(segment.outcomes(0).succeeded());
  EXPECT_EQ(segment.outcomes(1).attempts(), 2);
  EXPECT_TRUE(segment.outcomes(1).succeeded());
}

TEST_F(LeaseClientTest, SegmentsAreNumberedFromOneAndCutAtManyOutcomes) {
  Attach();
  Grant(1, 2000);
  for (uint32_t i = 0; i < 1100; ++i) client_->Finished(1, MakeFailure(i));
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(2));
  EXPECT_EQ(segments[0].sequence(), 1);
  EXPECT_EQ(segments[0].outcomes_size(), static_cast<int>(kSegmentSpecialOutcomes));
  EXPECT_EQ(segments[1].sequence(), 2);
}

TEST_F(LeaseClientTest, SegmentsAreCutAtManyBytes) {
  Attach();
  Grant(1, 2000);
  for (uint32_t i = 0; i < 400; ++i) client_->Finished(1, MakeFailure(i, "C", std::string(1000, 'x')));
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(1));
  EXPECT_LE(segments[0].ByteSizeLong(), kSegmentBytes + 1024);
  EXPECT_GE(segments[0].ByteSizeLong(), kSegmentBytes / 2);
}

TEST_F(LeaseClientTest, OutcomesWaitFiveSecondsAtMost) {
  Attach();
  Grant(1, 10);
  client_->Succeeded(1, 0, 1);
  AdvanceInSteps(absl::Milliseconds(4900));
  EXPECT_THAT(transport_.TakeSegments(), IsEmpty());
  AdvanceInSteps(absl::Milliseconds(100));
  EXPECT_THAT(transport_.TakeSegments(), SizeIs(1));
}

TEST_F(LeaseClientTest, OutcomesOfAnEarlyJobWaitOneSecondAtMost) {
  Attach();
  v1::WorkResponse context = MakeContext("e");
  context.mutable_job_context()->set_early(true);
  client_->OnMessage(context);
  client_->OnMessage(MakeGrant(1, "e", 10));
  client_->Succeeded(1, 0, 1);
  AdvanceInSteps(absl::Milliseconds(900));
  EXPECT_THAT(transport_.TakeSegments(), IsEmpty());
  EXPECT_LE(client_->next_tick(), clock_.Elapsed() + absl::Milliseconds(100));
  AdvanceInSteps(absl::Milliseconds(100));
  EXPECT_THAT(transport_.TakeSegments(), SizeIs(1));
}

TEST_F(LeaseClientTest, GivenBackTasksAreSaidAtOnceWithTheOutcomesSoFar) {
  Attach();
  Grant(1, 100);
  client_->Succeeded(1, 0, 10);
  TaskSet rest;
  rest.AddRange(12, 100);
  client_->GaveBack(1, rest);
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(1));
  EXPECT_EQ(segments[0].succeeded(0).end(), 10);
  ASSERT_EQ(segments[0].returned_size(), 1);
  EXPECT_EQ(segments[0].returned(0).first(), 12);
  EXPECT_EQ(segments[0].returned(0).end(), 100);
  EXPECT_EQ(client_->leases(), 1u);  // two tasks are still out
  client_->Succeeded(1, 10, 12);
  client_->OnMessage(MakeSegmentAck(1, 1));
  EXPECT_EQ(client_->leases(), 1u);
  client_->OnMessage(MakeSegmentAck(1, 2));
  EXPECT_EQ(client_->leases(), 0u);
}

TEST_F(LeaseClientTest, TextsAreMadeFitToBeStored) {
  Attach();
  Grant(1, 1);
  client_->Finished(
      1, MakeFailure(0, std::string(200, 'c'), std::string("a\0b\xff", 4) + std::string(3000, 'm')));
  const v1::Segment segment = transport_.TakeSegments().at(0);
  EXPECT_EQ(segment.outcomes(0).code().size(), kMaxOutcomeCodeChars);
  EXPECT_LE(segment.outcomes(0).message().size(), kMaxOutcomeMessageBytes);
  EXPECT_EQ(segment.outcomes(0).message().find('\0'), std::string::npos);
  EXPECT_NE(segment.SerializeAsString(), "");
}

TEST_F(LeaseClientTest, AtTheLimitOfUnacknowledgedBytesNothingStartsUntilThereIsRoom) {
  Attach();  // 1 MiB
  Grant(1, 4096);
  uint32_t task = 0;
  while (client_->MayStart()) client_->Finished(1, MakeFailure(task++, "C", std::string(1000, 'x')));
  EXPECT_GE(client_->unacked_bytes(), 1 << 20);
  EXPECT_LE(client_->unacked_bytes(), (1 << 20) + 2048);
  EXPECT_TRUE(client_->MayRequest());  // what has started goes on
  const int wakes = runner_.wakes;
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_GE(segments.size(), 3u);
  client_->OnMessage(MakeSegmentAck(1, 1));
  client_->OnMessage(MakeSegmentAck(1, 2));
  EXPECT_TRUE(client_->MayStart());
  EXPECT_EQ(runner_.wakes, wakes + 1);
}

// --- jobs and revocation

TEST_F(LeaseClientTest, AJobIsForgottenWithItsLastLease) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  client_->Succeeded(1, 0, 10);
  client_->OnMessage(MakeSegmentAck(1, 1));
  EXPECT_THAT(runner_.forgotten, IsEmpty());
  client_->Succeeded(2, 0, 10);
  client_->OnMessage(MakeSegmentAck(2, 1));
  EXPECT_THAT(runner_.forgotten, ElementsAre("j"));
}

TEST_F(LeaseClientTest, AContextWhoseGrantNeverCameIsForgottenWithARevokeOrTheStream) {
  Attach();
  client_->OnMessage(MakeContext("revoked"));
  client_->OnMessage(MakeContext("left"));
  Grant(1, 10);
  v1::WorkResponse revoke;
  revoke.mutable_revoke()->set_job_id("revoked");
  client_->OnMessage(revoke);
  EXPECT_THAT(runner_.forgotten, ElementsAre("revoked"));
  BreakAndReattach();
  EXPECT_THAT(runner_.forgotten, ElementsAre("revoked", "left"));  // "j" has a lease
}

TEST_F(LeaseClientTest, AnOlderJobContextChangesNothing) {
  Attach();
  client_->OnMessage(MakeContext("j", 5, 7));
  client_->OnMessage(MakeContext("j", 1, 6));
  client_->OnMessage(MakeContext("j", 9, 8));
  ASSERT_THAT(runner_.contexts, SizeIs(2));
  EXPECT_EQ(runner_.contexts[1].priority(), 9);
}

TEST_F(LeaseClientTest, RevokeReachesALeaseOrAllLeasesOfTheJob) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  client_->OnMessage(MakeContext("other"));
  client_->OnMessage(MakeGrant(3, "other", 10));
  v1::WorkResponse revoke;
  revoke.mutable_revoke()->set_job_id("j");
  revoke.mutable_revoke()->set_lease_id(2);
  revoke.mutable_revoke()->set_mode(v1::Revoke::FINISH);
  client_->OnMessage(revoke);
  ASSERT_THAT(runner_.revoked, SizeIs(1));
  EXPECT_EQ(runner_.revoked[0].lease_id, 2);
  EXPECT_FALSE(runner_.revoked[0].abort);
  revoke.mutable_revoke()->set_lease_id(0);
  revoke.mutable_revoke()->set_mode(v1::Revoke::ABORT);
  revoke.mutable_revoke()->mutable_grace()->set_seconds(30);
  client_->OnMessage(revoke);
  ASSERT_THAT(runner_.revoked, SizeIs(3));
  EXPECT_EQ(runner_.revoked[1].lease_id, 1);
  EXPECT_EQ(runner_.revoked[2].lease_id, 2);
  EXPECT_TRUE(runner_.revoked[1].abort);
  EXPECT_EQ(runner_.revoked[1].grace, absl::Seconds(30));
}

// --- status

TEST_F(LeaseClientTest, AStatusIsSentAtLeastEveryHeartbeatAndNumberedFromOneOnEachStream) {
  client_->Start();
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_EQ(transport_.TakeStatuses().at(0).number(), 1);
  for (int64_t number = 2; number <= 4; ++number) {
    AdvanceInSteps(absl::Milliseconds(3100));
    const std::vector<v1::Status> statuses = transport_.TakeStatuses();
    ASSERT_THAT(statuses, SizeIs(1));
    EXPECT_EQ(statuses[0].number(), number);
    client_->OnMessage(MakeStatusAck(number));  // silence would end the stream
  }
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_EQ(transport_.TakeStatuses().at(0).number(), 1);
}

TEST_F(LeaseClientTest, AStatusCountsTheGrantsOfItsStream) {
  Attach();
  Grant(1, 10);
  Grant(2, 10);
  clock_.Advance(absl::Seconds(3));
  client_->Tick();
  EXPECT_EQ(transport_.TakeStatuses().back().grants_received(), 2);
  BreakAndReattach();
  client_->OnMessage(MakeWelcome("s1"));
  EXPECT_EQ(transport_.TakeStatuses().back().grants_received(), 0);
}

TEST_F(LeaseClientTest, AQuarterOfTheTargetEatenIsSaidAtOnceAndLessIsNot) {
  Attach();
  runner_.wants = {.credit = 1000, .target = 1000};
  clock_.Advance(absl::Seconds(3));
  client_->Tick();
  EXPECT_EQ(transport_.TakeStatuses().at(0).credit(), 1000);
  Grant(1, 1000);
  runner_.wants.credit = 200;
  clock_.Advance(absl::Milliseconds(1));
  client_->Tick();
  EXPECT_THAT(transport_.TakeStatuses(), IsEmpty());
  runner_.wants.credit = 250;
  client_->Tick();
  EXPECT_EQ(transport_.TakeStatuses().at(0).credit(), 250);
}

TEST_F(LeaseClientTest, UrgentCreditThatWasUsedIsSaidAgainAtOnceThoughItIsTheSame) {
  Attach();
  runner_.wants = {.credit = 0, .urgent_credit = 64, .urgent_above = 1, .target = 4000};
  clock_.Advance(absl::Seconds(3));
  client_->Tick();
  transport_.TakeStatuses();
  Grant(1, 10);
  clock_.Advance(absl::Milliseconds(1));
  client_->Tick();
  EXPECT_THAT(transport_.TakeStatuses(), IsEmpty());  // less than a quarter
  Grant(2, 32);
  client_->Tick();
  const std::vector<v1::Status> statuses = transport_.TakeStatuses();
  ASSERT_THAT(statuses, SizeIs(1));
  EXPECT_EQ(statuses[0].urgent_credit(), 64);
  EXPECT_EQ(statuses[0].grants_received(), 2);
  clock_.Advance(absl::Milliseconds(1));
  client_->Tick();
  EXPECT_THAT(transport_.TakeStatuses(), IsEmpty());
}

TEST_F(LeaseClientTest, ChangesAreGatheredToTwentyStatusesASecond) {
  Attach();
  int sent = 0;
  for (int i = 0; i < 1000; ++i) {
    runner_.wants.urgent_credit = 64;
    runner_.wants.urgent_above = i;
    clock_.Advance(absl::Milliseconds(1));
    client_->Tick();
    sent += static_cast<int>(transport_.TakeStatuses().size());
  }
  EXPECT_GE(sent, 15);
  EXPECT_LE(sent, 20);
}

TEST_F(LeaseClientTest, AChangeTooSoonAfterAStatusIsDueWhenTheGapIsOver) {
  Attach();
  clock_.Advance(absl::Seconds(3));
  client_->Tick();
  transport_.TakeStatuses();
  runner_.wants.urgent_credit = 64;
  clock_.Advance(absl::Milliseconds(10));
  client_->Tick();
  EXPECT_THAT(transport_.TakeStatuses(), IsEmpty());
  EXPECT_EQ(client_->next_tick(), clock_.Elapsed() + absl::Milliseconds(40));
  clock_.Advance(absl::Milliseconds(40));
  client_->Tick();
  EXPECT_EQ(transport_.TakeStatuses().at(0).urgent_credit(), 64);
}

TEST_F(LeaseClientTest, NoSecondStatusQueuesUpBehindOneThatIsNotWritten) {
  Attach();
  transport_.waiting = true;
  AdvanceInSteps(absl::Seconds(8));
  EXPECT_THAT(transport_.TakeStatuses(), IsEmpty());
}

TEST_F(LeaseClientTest, AFencedWorkerAsksForNothing) {
  Attach();
  AdvanceInSteps(absl::Seconds(11));
  client_->OnMessage(MakeWelcome("s1"));  // to the Hello that it has sent for lack of acknowledgments
  EXPECT_EQ(transport_.TakeStatuses().back().credit(), 0);
}

TEST_F(LeaseClientTest, ADrainingWorkerSaysSoAndIsDoneWithTheLastAcknowledgment) {
  Attach();
  Grant(1, 10);
  client_->StartDrain();
  EXPECT_TRUE(runner_.draining);
  clock_.Advance(kStatusGap);
  client_->Tick();
  const v1::Status status = transport_.TakeStatuses().back();
  EXPECT_TRUE(status.draining());
  EXPECT_EQ(status.credit(), 0);
  EXPECT_EQ(status.urgent_credit(), 0);
  client_->GaveBack(1, TaskSet::All(10));
  EXPECT_FALSE(client_->done());
  client_->OnMessage(MakeSegmentAck(1, 1));
  EXPECT_TRUE(client_->done());
}

// --- controllers that misbehave

struct Garbage {
  const char* what;
  v1::WorkResponse message;
};

std::vector<Garbage> GarbageMessages() {
  std::vector<Garbage> all;
  all.push_back({"a Grant without a context", MakeGrant(9, "unknown", 10)});
  all.push_back({"a Grant of no tasks", MakeGrant(9, "j", 0)});
  all.push_back({"a Grant of too large a batch", MakeGrant(9, "j", 4097)});
  all.push_back({"a Grant beyond its batch", MakeGrant(9, "j", 10, {{5, 11}})});
  all.push_back({"a Grant of a negative task", MakeGrant(9, "j", 10, {{-1, 5}})});
  all.push_back({"a Grant of an empty range", MakeGrant(9, "j", 10, {{5, 5}})});
  all.push_back({"a Grant of ranges out of order", MakeGrant(9, "j", 10, {{5, 7}, {1, 2}})});
  all.push_back({"a Grant of overlapping ranges", MakeGrant(9, "j", 10, {{1, 4}, {3, 6}})});
  all.push_back({"a Grant of a lease that is held", MakeGrant(1, "j", 10)});
  all.push_back({"a Grant without an id", MakeGrant(0, "j", 10)});
  all.push_back({"a second Welcome", MakeWelcome("s1")});
  all.push_back({"a StatusAck from the future", MakeStatusAck(1000)});
  all.push_back({"a StatusAck of nothing", MakeStatusAck(0)});
  all.push_back({"a SegmentAck without a result", MakeSegmentAck(1, 1, v1::SegmentAck::RESULT_UNSPECIFIED)});
  v1::WorkResponse negative = MakeGrant(9, "j", 10);
  negative.mutable_grant()->set_first_task(-5);
  all.push_back({"a Grant at a negative position", negative});
  return all;
}

TEST_F(LeaseClientTest, AMessageThatBreaksTheProtocolClosesTheStreamAndLeavesWhatIsHeld) {
  Attach();
  Grant(1, 10);
  for (const Garbage& garbage : GarbageMessages()) {
    SCOPED_TRACE(garbage.what);
    const int closed = transport_.closed;
    client_->OnMessage(garbage.message);
    EXPECT_EQ(transport_.closed, closed + 1);
    EXPECT_FALSE(client_->attached());
    EXPECT_GE(client_->next_tick(), clock_.Elapsed() + kMaxAttachBackoff / 2);
    clock_.Advance(kMaxAttachBackoff);
    client_->Tick();
    EXPECT_THAT(Held(transport_.TakeHellos().at(0)), ElementsAre(1));
    client_->OnMessage(MakeWelcome("s1"));
    EXPECT_TRUE(client_->attached());
    AckStatus();
  }
  EXPECT_THAT(runner_.dropped, IsEmpty());
}

TEST_F(LeaseClientTest, AJobThatThisWorkerCannotRunClosesTheStream) {
  Attach();
  runner_.set_job_error = absl::InvalidArgumentError("what is this");
  client_->OnMessage(MakeContext("odd"));
  EXPECT_FALSE(client_->attached());
}

TEST_F(LeaseClientTest, WelcomesThatMakeNoSenseAreRefused) {
  for (const auto& change : std::vector<void (*)(v1::Welcome&)>{
           [](v1::Welcome& w) { w.set_protocol(2); },
           [](v1::Welcome& w) { w.set_session_id(""); },
       }) {
    client_ = std::make_unique<LeaseClient>(identity_, LeaseClient::Options{.controllers = 2}, clock_,
                                            random_, transport_, runner_, LeaseMetrics());
    client_->Start();
    v1::WorkResponse welcome = MakeWelcome("s1");
    change(*welcome.mutable_welcome());
    client_->OnMessage(welcome);
    EXPECT_FALSE(client_->attached());
    EXPECT_FALSE(client_->MayStart());
  }
}

TEST_F(LeaseClientTest, AMessageBeforeWelcomeClosesTheStream) {
  client_->Start();
  client_->OnMessage(MakeContext("j"));
  EXPECT_FALSE(transport_.open);
}

TEST_F(LeaseClientTest, AcknowledgmentsOfWhatIsNotHeldAreLetPass) {
  Attach();
  Grant(1, 10);
  client_->OnMessage(MakeSegmentAck(77, 1));
  client_->OnMessage(MakeSegmentAck(77, 1, v1::SegmentAck::LOST));
  client_->OnMessage(MakeSegmentAck(1, 5));
  EXPECT_TRUE(client_->attached());
  EXPECT_EQ(client_->leases(), 1u);
}

TEST_F(LeaseClientTest, BlamedTwiceInAMinuteItStartsOverWithANewSession) {
  Attach();
  Grant(1, 10);
  v1::Hello hello = BreakAndReattach(absl::InvalidArgumentError("a task outside its lease"));
  EXPECT_EQ(hello.session_id(), "s1");
  EXPECT_THAT(Held(hello), ElementsAre(1));
  client_->OnMessage(MakeWelcome("s1"));
  hello = BreakAndReattach(absl::InvalidArgumentError("a task outside its lease"));
  EXPECT_EQ(hello.session_id(), "");
  EXPECT_EQ(hello.attachment(), 1);
  EXPECT_THAT(Held(hello), IsEmpty());
  EXPECT_THAT(runner_.dropped, ElementsAre(1));
  EXPECT_FALSE(client_->MayStart());
}

TEST_F(LeaseClientTest, BlamedOnceInAWhileItKeepsItsSession) {
  Attach();
  for (int i = 0; i < 3; ++i) {
    const v1::Hello hello = BreakAndReattach(absl::InvalidArgumentError("hm"));
    EXPECT_EQ(hello.session_id(), "s1");
    client_->OnMessage(MakeWelcome("s1"));
    clock_.Advance(kBlamedWindow);
  }
}

TEST_F(LeaseClientTest, AReportOfATaskThatIsNotOutIsNotSent) {
  Attach();
  Grant(1, 10, {{0, 5}});
  client_->Succeeded(1, 0, 2);
  client_->Succeeded(1, 1, 3);
  client_->Finished(1, MakeFailure(7));
  client_->GaveBack(1, TaskSet::All(6));
  client_->Succeeded(99, 0, 1);
  client_->Succeeded(1, 2, 5);
  const std::vector<v1::Segment> segments = transport_.TakeSegments();
  ASSERT_THAT(segments, SizeIs(1));
  ASSERT_EQ(segments[0].succeeded_size(), 1);
  EXPECT_EQ(segments[0].succeeded(0).end(), 5);
  EXPECT_EQ(segments[0].outcomes_size(), 0);
}

}  // namespace
}  // namespace drover
