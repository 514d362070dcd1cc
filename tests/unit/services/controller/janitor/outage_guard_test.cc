#include "services/controller/janitor/outage_guard.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(15);
constexpr absl::Duration kTolerance = absl::Seconds(3);

// Looks each second from `from` to `to`, each taking 10 ms.
void Look(OutageGuard& guard, int from, int to) {
  for (int second = from; second <= to; ++second) {
    guard.Look(absl::Seconds(second), absl::Seconds(second) + absl::Milliseconds(10), true);
  }
}

TEST(OutageGuard, EndsNothingBeforeAWholeTtlOfItsOwn) {
  OutageGuard guard(kTtl, kTolerance);
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(100)));
  Look(guard, 100, 114);
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(114)));
  Look(guard, 115, 116);
  EXPECT_TRUE(guard.MayEndSessions(absl::Seconds(116)));
}

TEST(OutageGuard, CountsAnewAfterAFailedLook) {
  OutageGuard guard(kTtl, kTolerance);
  Look(guard, 0, 20);
  guard.Look(absl::Seconds(21), absl::Seconds(21), false);
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(21)));
  Look(guard, 22, 36);
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(36)));
  Look(guard, 37, 38);
  EXPECT_TRUE(guard.MayEndSessions(absl::Seconds(38)));
}

TEST(OutageGuard, CountsAStallOfTheDatabaseAsAnOutage) {
  OutageGuard guard(kTtl, kTolerance);
  Look(guard, 0, 20);
  guard.Look(absl::Seconds(21), absl::Seconds(25), true);
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(25)));
}

TEST(OutageGuard, CountsALateLookAsAnOutage) {
  OutageGuard guard(kTtl, kTolerance);
  Look(guard, 0, 20);
  Look(guard, 25, 25);  // this process was stopped for a while
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(25)));
}

TEST(OutageGuard, TrustsNothingThatIsNotFresh) {
  OutageGuard guard(kTtl, kTolerance);
  Look(guard, 0, 20);
  EXPECT_TRUE(guard.MayEndSessions(absl::Seconds(21)));
  EXPECT_FALSE(guard.MayEndSessions(absl::Seconds(30)));
}

}  // namespace
}  // namespace drover
