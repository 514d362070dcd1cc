#include "services/controller/report/rows/report_plan.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Counts {
  int64_t batch_no;
  int64_t succeeded;
  int64_t failed;
};

std::vector<PlannedFile> Plan(ReportScope scope, int64_t max_rows, const std::vector<Counts>& batches) {
  ReportPlanner planner(scope, max_rows);
  std::vector<PlannedFile> files;
  for (const Counts& counts : batches) planner.Add(counts.batch_no, counts.succeeded, counts.failed, files);
  planner.Finish(files);
  return files;
}

TEST(ReportPlan, CutsSucceededRowsBeforeTheLimitAndFewFailuresNotAtAll) {
  const std::vector<PlannedFile> files =
      Plan(ReportScope::kAllTasks, 100, {{0, 60, 1}, {1, 40, 0}, {2, 60, 0}, {3, 41, 2}, {4, 100, 0}});
  EXPECT_THAT(files, ElementsAre(PlannedFile{RowKind::kSucceeded, 0, 2, 100},  //
                                 PlannedFile{RowKind::kSucceeded, 2, 3, 60},   //
                                 PlannedFile{RowKind::kSucceeded, 3, 4, 41},   //
                                 PlannedFile{RowKind::kSucceeded, 4, 5, 100},  //
                                 PlannedFile{RowKind::kFailed, 0, 4, 3}));
}

TEST(ReportPlan, CutsFailedRowsByTheirCount) {
  EXPECT_THAT(Plan(ReportScope::kAllTasks, 100, {{0, 0, 99}, {7, 0, 1}, {8, 0, 1}}),
              ElementsAre(PlannedFile{RowKind::kFailed, 0, 8, 100}, PlannedFile{RowKind::kFailed, 8, 9, 1}));
}

TEST(ReportPlan, AKindWithoutRowsHasNoFile) {
  EXPECT_THAT(Plan(ReportScope::kAllTasks, 100, {}), IsEmpty());
  EXPECT_THAT(Plan(ReportScope::kAllTasks, 100, {{0, 0, 0}, {1, 0, 0}}), IsEmpty());
  EXPECT_THAT(Plan(ReportScope::kAllTasks, 100, {{0, 0, 0}, {1, 5, 0}, {2, 0, 0}}),
              ElementsAre(PlannedFile{RowKind::kSucceeded, 1, 2, 5}));
}

TEST(ReportPlan, FailedTasksOnlyHasNoSucceededFiles) {
  EXPECT_THAT(Plan(ReportScope::kFailedTasksOnly, 100, {{0, 60, 1}, {1, 60, 1}}),
              ElementsAre(PlannedFile{RowKind::kFailed, 0, 2, 2}));
}

TEST(ReportPlan, AFileHoldsAMillionRowsUnlessToldOtherwise) {
  ReportPlanner planner(ReportScope::kAllTasks);
  std::vector<PlannedFile> files;
  for (int64_t batch = 0; batch < 245; ++batch) planner.Add(batch, 4096, 0, files);
  planner.Finish(files);
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0], (PlannedFile{RowKind::kSucceeded, 0, 244, 244 * 4096}));
  EXPECT_EQ(files[1], (PlannedFile{RowKind::kSucceeded, 244, 245, 4096}));
}

TEST(ReportPlan, ABatchOverTheLimitIsOneFile) {
  EXPECT_THAT(
      Plan(ReportScope::kAllTasks, 10, {{0, 11, 0}, {1, 1, 0}}),
      ElementsAre(PlannedFile{RowKind::kSucceeded, 0, 1, 11}, PlannedFile{RowKind::kSucceeded, 1, 2, 1}));
}

TEST(ReportPlan, EachRowOfEachBatchIsInExactlyOneFile) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const int64_t max_rows = 10 + static_cast<int64_t>(random() % 100);
    std::vector<Counts> batches;
    int64_t batch_no = 0;
    for (size_t n = random() % 100; n > 0; --n, batch_no += 1 + random() % 3) {
      batches.push_back(
          {batch_no, static_cast<int64_t>(random() % 10), static_cast<int64_t>(random() % 4 / 3)});
    }
    const std::vector<PlannedFile> files = Plan(ReportScope::kAllTasks, max_rows, batches);
    EXPECT_EQ(files, Plan(ReportScope::kAllTasks, max_rows, batches));
    for (const RowKind kind : {RowKind::kSucceeded, RowKind::kFailed}) {
      const auto rows_of = [kind](const Counts& c) {
        return kind == RowKind::kSucceeded ? c.succeeded : c.failed;
      };
      int64_t planned = 0;
      int64_t total = 0;
      int64_t last_end = 0;
      for (const Counts& counts : batches) total += rows_of(counts);
      for (const PlannedFile& file : files) {
        if (file.kind != kind) continue;
        int64_t rows = 0;
        for (const Counts& counts : batches) {
          if (counts.batch_no >= file.first_batch && counts.batch_no < file.end_batch)
            rows += rows_of(counts);
        }
        EXPECT_EQ(rows, file.rows);
        EXPECT_GT(file.rows, 0);
        EXPECT_LE(file.rows, max_rows);
        EXPECT_GE(file.first_batch, last_end);
        last_end = file.end_batch;
        planned += file.rows;
      }
      EXPECT_EQ(planned, total);
    }
  }
}

}  // namespace
}  // namespace drover
