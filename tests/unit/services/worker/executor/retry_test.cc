#include "services/worker/executor/retry.h"

#include <gtest/gtest.h>

#include "drover/v1/job.pb.h"
#include "services/worker/executor/backlog.h"
#include "services/worker/executor/rate_limiter.h"
#include "services/worker/executor/timers.h"
#include "tests/unit/services/worker/testing.h"

namespace drover {
namespace {

TEST(RetryRules, LeftOutFieldsGetTheDocumentedDefaults) {
  const RetryRules rules = RetryRulesFrom(v1::RetryPolicy());
  EXPECT_EQ(rules.max_attempts, 5);
  EXPECT_EQ(rules.initial_backoff, absl::Milliseconds(200));
  EXPECT_EQ(rules.max_backoff, absl::Seconds(20));
  EXPECT_EQ(rules.unavailable_timeout, absl::Seconds(120));
}

TEST(RetryRules, WhatIsOutOfRangeIsBroughtWithin) {
  v1::RetryPolicy policy;
  policy.set_max_attempts(1'000'000);
  policy.mutable_initial_backoff()->set_seconds(-5);
  policy.mutable_max_backoff()->set_seconds(1'000'000);
  policy.mutable_unavailable_timeout()->set_seconds(1'000'000);
  const RetryRules rules = RetryRulesFrom(policy);
  EXPECT_EQ(rules.max_attempts, 20);
  EXPECT_EQ(rules.initial_backoff, absl::Milliseconds(10));
  EXPECT_EQ(rules.max_backoff, absl::Minutes(10));
  EXPECT_EQ(rules.unavailable_timeout, absl::Hours(1));
}

TEST(NextAttempt, WaitsAreExponentialWithFullJitterAndBounded) {
  SeededRandom random;
  const RetryRules rules{
      .max_attempts = 20, .initial_backoff = absl::Milliseconds(100), .max_backoff = absl::Seconds(2)};
  absl::Duration bound = rules.initial_backoff;
  for (uint32_t attempts = 0; attempts < 8; ++attempts) {
    absl::Duration shortest = absl::InfiniteDuration();
    absl::Duration longest;
    for (int i = 0; i < 500; ++i) {
      RetryState state{.attempts = attempts, .unavailable_since = std::nullopt};
      const auto wait =
          NextAttempt(rules, Transience::kTransient, std::nullopt, absl::Hours(1), random, state);
      ASSERT_TRUE(wait.has_value());
      EXPECT_EQ(state.attempts, attempts + 1);
      shortest = std::min(shortest, *wait);
      longest = std::max(longest, *wait);
    }
    EXPECT_LT(shortest, bound * 0.05);
    EXPECT_GT(longest, bound * 0.95);
    EXPECT_LE(longest, bound);
    bound = std::min(bound * 2, rules.max_backoff);
  }
}

TEST(NextAttempt, RetryAfterIsHonouredUpToAMinute) {
  SeededRandom random;
  RetryState state;
  EXPECT_EQ(NextAttempt({}, Transience::kUnavailable, absl::Seconds(7), absl::Hours(1), random, state),
            absl::Seconds(7));
  EXPECT_EQ(NextAttempt({}, Transience::kUnavailable, absl::Hours(2), absl::Hours(1), random, state),
            absl::Seconds(60));
}

TEST(NextAttempt, UnavailableIsTriedUntilItsTimeoutAndOnceAtItsEnd) {
  SeededRandom random;
  RetryState state;
  absl::Duration now = absl::Hours(1);
  absl::Duration last = now;
  while (true) {
    const auto wait = NextAttempt({}, Transience::kUnavailable, std::nullopt, now, random, state);
    if (!wait.has_value()) break;
    now += *wait;
    last = now;
    ASSERT_LE(now, absl::Hours(1) + absl::Seconds(120));
  }
  EXPECT_GT(state.attempts, 5u);
  EXPECT_EQ(last, absl::Hours(1) + absl::Seconds(120));
}

TEST(NextAttempt, AnAnswerInBetweenStartsTheTimeoutAnew) {
  SeededRandom random;
  RetryState state;
  NextAttempt({}, Transience::kUnavailable, std::nullopt, absl::Hours(1), random, state);
  NextAttempt({}, Transience::kTransient, std::nullopt, absl::Hours(2), random, state);
  EXPECT_FALSE(state.unavailable_since.has_value());
  EXPECT_TRUE(
      NextAttempt({}, Transience::kUnavailable, std::nullopt, absl::Hours(3), random, state).has_value());
}

TEST(Timers, RunInOrderOfTimeAndAdditionAndMayAddAndCancel) {
  Timers timers;
  std::string order;
  timers.At(absl::Seconds(2), [&] { order += 'c'; });
  timers.At(absl::Seconds(1), [&] {
    order += 'a';
    timers.At(absl::Seconds(1), [&] { order += 'b'; });
  });
  const Timers::Id cancelled = timers.At(absl::Seconds(2), [&] { order += 'x'; });
  timers.At(absl::Seconds(2), [&] { order += 'd'; });
  timers.At(absl::Seconds(9), [&] { order += 'z'; });
  timers.Cancel(cancelled);
  timers.RunDue(absl::Seconds(2));
  EXPECT_EQ(order, "abcd");
  EXPECT_EQ(timers.next(), absl::Seconds(9));
  timers.Cancel(cancelled);  // again: nothing
}

TEST(Timers, SayWhenANewOneComesFirst) {
  Timers timers;
  int earlier = 0;
  timers.OnEarlier([&] { ++earlier; });
  timers.At(absl::Seconds(5), [] {});
  timers.At(absl::Seconds(6), [] {});
  timers.At(absl::Seconds(4), [] {});
  EXPECT_EQ(earlier, 2);
}

TEST(RateLimiter, AChangeOfThePolicyIsNoGift) {
  RateLimiter limiter;
  limiter.Configure(10, 0, absl::Seconds(0));
  limiter.Take(absl::Seconds(0));
  limiter.Configure(10, 0, absl::Seconds(0));
  EXPECT_EQ(limiter.Next(absl::Seconds(0), 0), absl::Milliseconds(100));
  limiter.Configure(0, 0, absl::Seconds(0));
  EXPECT_EQ(limiter.Next(absl::Seconds(0), 0), absl::Seconds(0));
}

TEST(Backlog, TimeWithoutWorkDoesNotCount) {
  Backlog backlog(10);
  absl::Duration now;
  for (int i = 0; i < 100; ++i) {
    backlog.Busy(now);
    now += absl::Milliseconds(10);
    backlog.Finished(10, now);  // 1,000/s while there is work
    backlog.Idle(now);
    now += absl::Seconds(10);
  }
  EXPECT_NEAR(backlog.rate(), 1000, 10);
  EXPECT_NEAR(static_cast<double>(backlog.target(now)), 2000, 20);
}

TEST(Backlog, AMuchLowerRateIsBelievedWithinSeconds) {
  Backlog backlog(10);
  absl::Duration now;
  backlog.Busy(now);
  now += absl::Milliseconds(1);
  backlog.Finished(1000, now);  // 1,000,000/s
  EXPECT_EQ(backlog.target(now), kMaxBacklog);
  for (int i = 0; i < 30; ++i) {
    now += absl::Milliseconds(100);
    backlog.Finished(10, now);  // 100/s
  }
  EXPECT_LT(backlog.target(now), 2000);
}

TEST(Backlog, TasksThatTakeLongLowerItBeforeOneHasEnded) {
  Backlog backlog(10);
  absl::Duration now;
  backlog.Busy(now);
  now += absl::Milliseconds(1);
  backlog.Finished(1000, now);
  now += absl::Milliseconds(900);
  EXPECT_EQ(backlog.target(now), kMaxBacklog);
  now += absl::Milliseconds(9100);
  EXPECT_EQ(backlog.target(now), 20);  // 10 in 10 s would be 1/s; never less than two rounds
}

TEST(Backlog, TimeInWhichNothingMayStartDoesNotCount) {
  Backlog backlog(10);
  absl::Duration now;
  backlog.Busy(now);
  now += absl::Milliseconds(1);
  backlog.Finished(1000, now);
  now += absl::Seconds(10);
  backlog.Stalled(now);
  EXPECT_EQ(backlog.target(now), kMaxBacklog);
}

}  // namespace
}  // namespace drover
