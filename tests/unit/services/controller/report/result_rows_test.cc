#include "services/controller/report/result_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/status/status.h"
#include "tests/support/reason.h"
#include "tests/unit/services/controller/duties/duty_storage.h"
#include "tests/unit/services/controller/report/executed_job.h"

namespace drover {
namespace {

constexpr char kRowsOf[] = "job";

class ResultRowsTest : public ::testing::Test {
 protected:
  ResultRowsTest() : storage_(clock_) {}

  void Add(const ExecutedJob& job) {
    JobSpec spec;
    spec.job_id = kRowsOf;
    storage_.AddJob(spec);
    storage_.Edit(kRowsOf, [&](DutyStorage::Job& row) {
      row.batches = job.batches;
      row.segments = job.segments;
    });
  }
  absl::StatusOr<int64_t> Emit(bool failed, std::string& text, size_t piece_bytes = 1000) {
    ReportFile file;
    file.failed_rows = failed;
    file.end_batch = static_cast<BatchNo>(storage_.Get(kRowsOf).batches.size());
    return EmitResultRows(
        storage_, kRowsOf, file, piece_bytes, [] { return false; },
        [&](std::string& piece) {
          pieces_.push_back(piece.size());
          text += piece;
          piece.clear();
          return absl::OkStatus();
        });
  }

  FakeClock clock_;
  DutyStorage storage_;
  std::vector<size_t> pieces_;
};

TEST_F(ResultRowsTest, MergesTheSegmentsOfEachBatchInTheBatchesOrder) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    ExecutedJobOptions options;
    options.seed = seed;
    options.failed = seed % 3 == 0 ? 0.5 : 0.03;
    options.not_executed = seed % 2 == 0 ? 0.3 : 0;
    options.untouched = seed % 5 == 0 ? 0.5 : 0;
    const ExecutedJob job = MakeExecutedJob(options);
    Add(job);
    std::string text;
    auto rows = Emit(/*failed=*/false, text);
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(*rows, job.succeeded);
    EXPECT_EQ(text, job.succeeded_rows) << seed;
    text.clear();
    rows = Emit(/*failed=*/true, text);
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(*rows, job.failed);
    EXPECT_EQ(text, job.failed_rows) << seed;
  }
}

TEST_F(ResultRowsTest, HandsOnPiecesOfTheSizeAskedForAndABatchMoreAtMost) {
  ExecutedJobOptions options;
  options.batches = 200;
  const ExecutedJob job = MakeExecutedJob(options);
  Add(job);
  std::string text;
  ASSERT_TRUE(Emit(false, text, 20'000).ok());
  ASSERT_GT(pieces_.size(), 10u);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (i + 1 < pieces_.size()) {
      EXPECT_GE(pieces_[i], 20'000u);
    }
    EXPECT_LE(pieces_[i], 20'000u + 120 * 100);
  }
}

TEST_F(ResultRowsTest, AFileWithoutRowsHasNoPiece) {
  ExecutedJobOptions options;
  options.failed = 0;
  Add(MakeExecutedJob(options));
  std::string text;
  const auto rows = Emit(/*failed=*/true, text);
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(*rows, 0);
  EXPECT_TRUE(pieces_.empty());
}

TEST_F(ResultRowsTest, PagesKeepToTheirBytesHoweverLargeTheResultsAre) {
  // Batches of 4,096 tasks, each with a result of a kilobyte that does not compress: 4 MB of them a batch.
  ExecutedJob job;
  std::mt19937 random(1);
  TaskBatchBuilder builder;
  for (int b = 0; b < 12; ++b) {
    std::vector<Outcome> outcomes;
    for (uint32_t i = 0; i < 4096; ++i) {
      builder.Add({"photos", absl::StrCat(b, "-", i), ""});
      Outcome outcome;
      outcome.index = i;
      for (int c = 0; c < 500; ++c) outcome.message += static_cast<char>('!' + random() % 90);
      outcomes.push_back(outcome);
    }
    job.batches.push_back({b * 4096, 4096, builder.Finish()});
    job.segments.push_back({b, std::nullopt, 4096, 0, EncodeOutcomes(outcomes)});
  }
  Add(job);
  RowPageReader reader(storage_, kRowsOf, 0, 12, RowKind::kSucceeded);
  int pages = 0;
  for (size_t seen = 0; seen < 12; ++pages) {
    const auto page = reader.Next();
    ASSERT_TRUE(page.ok() && *page);
    seen += (*page)->batches.size();
    int64_t bytes = 0;
    for (const StoredSegment& segment : (*page)->segments)
      bytes += static_cast<int64_t>(segment.payload.size());
    // The target, and at most one batch more; the first page knows nothing yet.
    EXPECT_LE(bytes, RowPageReader::kPageBytes + 3 * 1024 * 1024) << pages;
  }
  EXPECT_TRUE(reader.done());
  const auto none = reader.Next();
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
}

TEST_F(ResultRowsTest, PagesGrowWhereBatchesAreSmall) {
  ExecutedJobOptions options;
  options.batches = 5000;
  options.max_batch_tasks = 32;
  Add(MakeExecutedJob(options));
  RowPageReader reader(storage_, kRowsOf, 0, 5000, RowKind::kSucceeded);
  int pages = 0;
  while (true) {
    const auto page = reader.Next();
    ASSERT_TRUE(page.ok());
    if (!*page) break;
    ++pages;
    EXPECT_LE((*page)->batches.size(), RowPageReader::kMaxPageBatches);
  }
  EXPECT_LE(pages, 25);
}

TEST_F(ResultRowsTest, ATaskThatIsRecordedTwiceIsABrokenInvariantAndNoRow) {
  ExecutedJob job = MakeExecutedJob({});
  StoredSegment again = job.segments[3];
  job.segments.insert(job.segments.begin() + 4, again);
  Add(job);
  std::string text;
  const auto rows = Emit(false, text);
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(ReasonOf(rows.status()), "OUTCOMES_BROKEN");
}

TEST_F(ResultRowsTest, CountsThatDisagreeWithTheOutcomesAreABrokenInvariant) {
  ExecutedJob job = MakeExecutedJob({});
  ++job.segments[5].succeeded;
  Add(job);
  std::string text;
  EXPECT_EQ(ReasonOf(Emit(false, text).status()), "OUTCOMES_BROKEN");
}

TEST_F(ResultRowsTest, APayloadThatCanNotBeReadIsABrokenInvariant) {
  ExecutedJob job = MakeExecutedJob({});
  job.batches[7].payload[0] ^= 0x55;
  Add(job);
  std::string text;
  EXPECT_EQ(ReasonOf(Emit(false, text).status()), "OUTCOMES_BROKEN");
}

TEST_F(ResultRowsTest, AnErrorOfTheDatabaseOnTheReadingThreadIsPassedOn) {
  ExecutedJobOptions options;
  options.batches = 3000;
  options.max_batch_tasks = 32;
  Add(MakeExecutedJob(options));
  std::atomic<int> reads = 0;
  storage_.fault = [&](const std::string& method) {
    return method == "ReadSegments" && ++reads == 4 ? absl::UnavailableError("away") : absl::OkStatus();
  };
  std::string text;
  EXPECT_EQ(Emit(false, text).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ResultRowsTest, StopsInTheMiddleWhenAsked) {
  ExecutedJobOptions options;
  options.batches = 1000;
  Add(MakeExecutedJob(options));
  int pieces = 0;
  ReportFile file;
  file.end_batch = 1000;
  const auto rows = EmitResultRows(
      storage_, kRowsOf, file, 1000, [&] { return pieces >= 3; },
      [&](std::string& piece) {
        piece.clear();
        ++pieces;
        return absl::OkStatus();
      });
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(pieces, 3);
}

}  // namespace
}  // namespace drover
