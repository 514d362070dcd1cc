#include "services/controller/duties/duty_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

const std::vector<DutyKind> kAll = {DutyKind::kPrepare, DutyKind::kFinish, DutyKind::kReportFile};

TEST(DutyTable, AsksForNoMoreThanTheKindWithLeastRoom) {
  DutyTable table({.threads = 8, .prepare = 3, .finish = 4, .report_file = 2}, kAll);
  const auto ask = table.NextAsk();
  ASSERT_TRUE(ask);
  EXPECT_THAT(ask->kinds, UnorderedElementsAre(DutyKind::kPrepare, DutyKind::kFinish, DutyKind::kReportFile));
  EXPECT_EQ(ask->limit, 2);
}

TEST(DutyTable, LeavesAKindOutThatRunsAtItsLimit) {
  DutyTable table({.threads = 8, .prepare = 3, .finish = 4, .report_file = 2}, kAll);
  table.Started(DutyKind::kReportFile);
  table.Started(DutyKind::kReportFile);
  const auto ask = table.NextAsk();
  ASSERT_TRUE(ask);
  EXPECT_THAT(ask->kinds, UnorderedElementsAre(DutyKind::kPrepare, DutyKind::kFinish));
  EXPECT_EQ(ask->limit, 3);
  table.Ended(DutyKind::kReportFile);
  EXPECT_EQ(table.NextAsk()->limit, 1);
}

TEST(DutyTable, KeepsAThreadForEachKindThatHasNoneRunning) {
  DutyTable table({.threads = 4, .prepare = 4, .finish = 4, .report_file = 4}, kAll);
  table.Started(DutyKind::kPrepare);
  table.Started(DutyKind::kPrepare);
  // Two of four threads are left, one each for the others: preparations get no more.
  const auto ask = table.NextAsk();
  ASSERT_TRUE(ask);
  EXPECT_THAT(ask->kinds, UnorderedElementsAre(DutyKind::kFinish, DutyKind::kReportFile));
  EXPECT_EQ(ask->limit, 1);
  table.Started(DutyKind::kReportFile);
  EXPECT_THAT(table.NextAsk()->kinds, ElementsAre(DutyKind::kFinish));
  table.Started(DutyKind::kFinish);
  EXPECT_FALSE(table.NextAsk());
  EXPECT_EQ(table.running(), 4);
}

TEST(DutyTable, WhateverMixtureIsTakenNoKindIsStarved) {
  // Every answer to an ask, over and over, keeps within the threads and leaves room for a kind that has none.
  for (int threads = 3; threads <= 9; ++threads) {
    for (int seed = 0; seed < 200; ++seed) {
      DutyTable table({.threads = threads, .prepare = 3, .finish = 4, .report_file = 2}, kAll);
      std::map<DutyKind, int> running;
      unsigned state = static_cast<unsigned>(seed) * 2654435761u + 1;
      while (const auto ask = table.NextAsk()) {
        ASSERT_GT(ask->limit, 0);
        const DutyKind taken = ask->kinds[(state = state * 1664525u + 1013904223u) % ask->kinds.size()];
        for (int i = 0; i < ask->limit; ++i) {
          table.Started(taken);
          ++running[taken];
        }
        ASSERT_LE(table.running(), threads);
      }
      for (DutyKind kind : kAll) EXPECT_GE(running[kind], 1) << threads << " " << seed;
      EXPECT_LE(running[DutyKind::kPrepare], 3);
      EXPECT_LE(running[DutyKind::kFinish], 4);
      EXPECT_LE(running[DutyKind::kReportFile], 2);
    }
  }
}

TEST(DutyTable, HasAThreadForEachKindHoweverFewAreConfigured) {
  DutyTable table({.threads = 1, .prepare = 1, .finish = 1, .report_file = 1}, kAll);
  ASSERT_TRUE(table.NextAsk());
  EXPECT_EQ(table.NextAsk()->kinds.size(), 3u);
}

TEST(DutyBackoff, DoublesUpToItsMaximumAndSpreadsOverTheUpperHalf) {
  EXPECT_EQ(DutyBackoff(0, absl::Seconds(15), 0), absl::Milliseconds(100));
  EXPECT_EQ(DutyBackoff(3, absl::Seconds(15), 0), absl::Milliseconds(800));
  EXPECT_EQ(DutyBackoff(3, absl::Seconds(15), 0.5), absl::Milliseconds(1200));
  EXPECT_EQ(DutyBackoff(1000, absl::Seconds(15), 0), absl::Milliseconds(7500));
  EXPECT_LE(DutyBackoff(1000, absl::Seconds(15), 0.999999), absl::Seconds(15));
  EXPECT_GE(DutyBackoff(-5, absl::Seconds(15), 0), absl::Milliseconds(100));
}

}  // namespace
}  // namespace drover
