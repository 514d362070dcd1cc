#include "services/controller/lifecycle/lifecycle.h"

#include <gtest/gtest.h>

#include <set>

#include "common/status/status.h"

namespace drover::lifecycle {
namespace {

constexpr Cause kCauses[] = {
    Cause::kPrepareBegins, Cause::kPrepared,    Cause::kManifestFailed, Cause::kConfirm, Cause::kClaim,
    Cause::kPause,         Cause::kPolicyPause, Cause::kPreempted,      Cause::kResume,  Cause::kCancel,
    Cause::kAllRecorded,   Cause::kThreshold,   Cause::kSettle};

std::vector<State> States() {
  std::vector<State> states;
  for (int i = 1; i <= kStateCount; ++i) states.push_back(*StateFromNumber(i));
  return states;
}

// A snapshot in which every cause that the table allows does apply.
Snapshot Ripe(State state) {
  Snapshot snapshot;
  snapshot.state = state;
  snapshot.prepared = true;
  snapshot.tasks = 10;
  snapshot.succeeded = 10;
  snapshot.report_settled = true;
  if (state == State::kPaused) snapshot.reason_code = kReasonPreempted;
  return snapshot;
}

// ARCHITECTURE.md's table, written down a second time by hand.
const std::set<std::pair<State, State>>& Expected() {
  using S = State;
  static const auto& pairs = *new std::set<std::pair<State, State>>{
      {S::kNew, S::kPreparing},        {S::kNew, S::kCancelling},       {S::kPreparing, S::kSuspended},
      {S::kPreparing, S::kReady},      {S::kPreparing, S::kCompleting}, {S::kPreparing, S::kFailing},
      {S::kPreparing, S::kCancelling}, {S::kSuspended, S::kReady},      {S::kSuspended, S::kCancelling},
      {S::kReady, S::kActive},         {S::kReady, S::kPaused},         {S::kReady, S::kFailing},
      {S::kReady, S::kCancelling},     {S::kActive, S::kCompleting},    {S::kActive, S::kPausing},
      {S::kActive, S::kPaused},        {S::kActive, S::kFailing},       {S::kActive, S::kCancelling},
      {S::kPausing, S::kPaused},       {S::kPausing, S::kCompleting},   {S::kPausing, S::kActive},
      {S::kPausing, S::kFailing},      {S::kPausing, S::kCancelling},   {S::kPaused, S::kReady},
      {S::kPaused, S::kActive},        {S::kPaused, S::kFailing},       {S::kPaused, S::kCancelling},
      {S::kCompleting, S::kComplete},  {S::kFailing, S::kFailed},       {S::kCancelling, S::kCancelled}};
  return pairs;
}

TEST(Lifecycle, AllowsExactlyThePairsOfTheDesign) {
  for (const State from : States()) {
    for (const State to : States()) {
      EXPECT_EQ(IsLegal(from, to), Expected().contains({from, to}))
          << StateName(from) << " -> " << StateName(to);
    }
  }
}

TEST(Lifecycle, DecidesOnlyWhatTheTableAllowsForEveryStateAndCause) {
  for (const State from : States()) {
    for (const Cause cause : kCauses) {
      const auto decided = Decide(Ripe(from), {cause, "because", "anna", {}});
      if (!decided.ok() || !*decided) continue;
      const State to = (*decided)->to;
      EXPECT_TRUE(to == from || IsLegal(from, to)) << StateName(from) << " by " << CauseName(cause);
    }
  }
}

TEST(Lifecycle, ReachesEveryRowOfTheTable) {
  for (const Transition& row : kTransitions) {
    Snapshot snapshot = Ripe(row.from);
    if (row.cause == Cause::kPrepared) {
      snapshot.tasks = row.to == State::kCompleting ? 0 : 10;
      snapshot.confirmation_required = row.to == State::kSuspended;
    }
    const auto decided = Decide(snapshot, {row.cause, "because", "anna", {}});
    ASSERT_TRUE(decided.ok()) << decided.status();
    ASSERT_TRUE(decided->has_value()) << StateName(row.from) << " by " << CauseName(row.cause);
    EXPECT_EQ((*decided)->to, row.to);
  }
}

TEST(Lifecycle, RefusesAPersonWithTheStateAndWhatItNeeds) {
  const auto decided = Decide(Ripe(State::kComplete), {Cause::kResume, "", "anna", {}});
  ASSERT_EQ(decided.status().code(), absl::StatusCode::kFailedPrecondition);
  const auto details = GetErrorDetails(decided.status());
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->reason, "JOB_STATE");
  EXPECT_EQ(details->metadata.at("state"), "COMPLETE");
  EXPECT_EQ(details->metadata.at("needs"), "PAUSING or PAUSED");
}

TEST(Lifecycle, LetsAPersonTakeOverAPauseThatCameByItself) {
  Snapshot preempted = Ripe(State::kPaused);
  const auto taken = Decide(preempted, {Cause::kPause, "maintenance", "anna", {}});
  ASSERT_TRUE(taken.ok() && *taken);
  EXPECT_EQ((*taken)->to, State::kPaused);
  EXPECT_EQ((*taken)->reason_code, kReasonUser);

  preempted.reason_code = kReasonUser;
  EXPECT_FALSE(*Decide(preempted, {Cause::kPause, "again", "anna", {}}));
  EXPECT_EQ(Decide(preempted, {Cause::kClaim, "", "", {}}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(Lifecycle, KeepsTheReasonOfTheWayToTheEnd) {
  Snapshot pausing = Ripe(State::kPausing);
  pausing.reason_code = kReasonFailurePolicy;
  const auto settled = Decide(pausing, {Cause::kSettle, "", "", {}});
  ASSERT_TRUE(settled.ok() && *settled);
  EXPECT_EQ((*settled)->reason_code, kReasonFailurePolicy);
  EXPECT_TRUE((*settled)->keep_reason);
  EXPECT_FALSE((*Decide(Ripe(State::kActive), {Cause::kPause, "why", "who", {}}))->keep_reason);
}

TEST(Lifecycle, EndsNothingWhileALeaseIsOwnedOrTheReportIsOpen) {
  for (const State state : {State::kPausing, State::kCompleting, State::kFailing, State::kCancelling}) {
    Snapshot snapshot = Ripe(state);
    snapshot.owned_leases = 1;
    EXPECT_FALSE(*Decide(snapshot, {Cause::kSettle, "", "", {}})) << StateName(state);
    snapshot.owned_leases = 0;
    snapshot.report_settled = false;
    EXPECT_EQ(Decide(snapshot, {Cause::kSettle, "", "", {}})->has_value(), state == State::kPausing)
        << StateName(state);
  }
}

TEST(Lifecycle, PreemptsOnlyAJobThatOwnsNoLease) {
  Snapshot active = Ripe(State::kActive);
  active.owned_leases = 1;
  EXPECT_FALSE(*Decide(active, {Cause::kPreempted, "", "", {}}));
}

TEST(AfterRecord, CompletesExactlyWhenAllTasksAreRecorded) {
  Snapshot snapshot = Ripe(State::kActive);
  EXPECT_EQ(AfterRecord(snapshot, {})->cause, Cause::kAllRecorded);
  snapshot.succeeded = 9;
  EXPECT_FALSE(AfterRecord(snapshot, {}).has_value());
  snapshot.failed = 1;
  EXPECT_EQ(AfterRecord(snapshot, {})->cause, Cause::kAllRecorded);
  snapshot.prepared = false;
  EXPECT_FALSE(AfterRecord(snapshot, {}).has_value());
}

TEST(AfterRecord, FailsAtMoreThanHalfOfAtLeastAThousand) {
  Snapshot snapshot = Ripe(State::kActive);
  snapshot.tasks = 5000;
  snapshot.failed = 999;
  snapshot.succeeded = 0;
  EXPECT_FALSE(AfterRecord(snapshot, {}).has_value()) << "999 executed";
  snapshot.succeeded = 999;
  EXPECT_FALSE(AfterRecord(snapshot, {}).has_value()) << "exactly half";
  snapshot.failed = 1000;
  const auto request = AfterRecord(snapshot, {});
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->cause, Cause::kThreshold);
  ASSERT_EQ(request->failures.size(), 1u);
  EXPECT_EQ(request->failures[0].code, "FAILURE_THRESHOLD");
}

TEST(AfterRecord, LetsFailingWinOverCompleting) {
  Snapshot snapshot = Ripe(State::kActive);
  snapshot.tasks = 2000;
  snapshot.failed = 1500;
  snapshot.succeeded = 500;
  EXPECT_EQ(AfterRecord(snapshot, {})->cause, Cause::kThreshold);
}

TEST(AfterRecord, CompletesAJobThatStopsAlreadyOnlyByTheTable) {
  Snapshot snapshot = Ripe(State::kCancelling);
  const auto request = AfterRecord(snapshot, {});
  ASSERT_TRUE(request.has_value());
  EXPECT_FALSE(*Decide(snapshot, *request)) << "a cancelled job stays cancelled";
}

TEST(AfterRecord, APolicyThatPausesCountsFromTheLastResume) {
  Snapshot snapshot = Ripe(State::kActive);
  snapshot.tasks = 1000;
  snapshot.succeeded = 80;
  snapshot.failed = 120;
  FailurePolicy policy{.failed_fraction = 0.5, .minimum_executed = 100, .failed_tasks = 110, .pause = true};
  EXPECT_EQ(AfterRecord(snapshot, policy)->message,
            "120 of 200 executed tasks failed: more than 50 % of at least 100");
  snapshot.resumed_executed = 180;
  snapshot.resumed_failed = 110;
  EXPECT_FALSE(AfterRecord(snapshot, policy).has_value()) << "20 executed and 10 failed since";
  policy.minimum_executed = 20;
  EXPECT_FALSE(AfterRecord(snapshot, policy).has_value()) << "half of them is not more than half";
  ++snapshot.failed;
  EXPECT_EQ(AfterRecord(snapshot, policy)->message,
            "11 of 21 tasks executed since the job was resumed failed: more than 50 % of at least 20");
  policy.failed_fraction = 1;
  EXPECT_FALSE(AfterRecord(snapshot, policy).has_value());
  policy.failed_tasks = 10;
  EXPECT_EQ(AfterRecord(snapshot, policy)->message,
            "11 tasks failed since the job was resumed: more than 10");
  policy.pause = false;
  EXPECT_EQ(AfterRecord(snapshot, policy)->message, "121 tasks failed: more than 10")
      << "a pause does not save a job that fails";
}

TEST(Lifecycle, MarksAPersonsResumeAndNothingElse) {
  for (const Transition& row : kTransitions) {
    Snapshot snapshot = Ripe(row.from);
    snapshot.reason_code = row.cause == Cause::kClaim ? kReasonPreempted : kReasonUser;
    const auto change = Decide(snapshot, {row.cause, "", "ann", {}});
    if (!change.ok() || !*change) continue;
    EXPECT_EQ((*change)->resumed, row.cause == Cause::kResume) << CauseName(row.cause);
  }
}

TEST(AfterRecord, HonoursAnAbsoluteNumberAndThePauseAction) {
  Snapshot snapshot = Ripe(State::kActive);
  snapshot.tasks = 100;
  snapshot.failed = 6;
  snapshot.succeeded = 4;
  FailurePolicy policy;
  policy.failed_tasks = 5;
  EXPECT_EQ(AfterRecord(snapshot, policy)->cause, Cause::kThreshold);
  policy.pause = true;
  EXPECT_EQ(AfterRecord(snapshot, policy)->cause, Cause::kPolicyPause);
  policy.enabled = false;
  EXPECT_FALSE(AfterRecord(snapshot, policy).has_value());
}

}  // namespace
}  // namespace drover::lifecycle
