#include "services/controller/outcome/outcome_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "common/strings/strings.h"
#include "tests/unit/services/controller/outcome/outcome_storage.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + elapsed; }
  absl::Duration Elapsed() const override { return elapsed; }

  absl::Duration elapsed;
};

TaskSet Some(std::initializer_list<uint32_t> indexes) {
  TaskSet set;
  for (const uint32_t index : indexes) set.Add(index);
  return set;
}

class OutcomeReaderTest : public testing::Test {
 protected:
  OutcomePage Read(const OutcomeQuery& query, const TaskRef& from = {}, const OutcomeLimits& limits = {}) {
    const auto page = ReadOutcomes(storage_, clock_, query, from, limits);
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? *page : OutcomePage();
  }
  // All pages.
  std::vector<OutcomeRow> ReadAll(const OutcomeQuery& query, const OutcomeLimits& limits) {
    std::vector<OutcomeRow> rows;
    std::optional<TaskRef> from = TaskRef{};
    for (pages_ = 0; from; ++pages_) {
      OutcomePage page = Read(query, *from, limits);
      EXPECT_LE(page.rows.size(), limits.rows);
      std::move(page.rows.begin(), page.rows.end(), std::back_inserter(rows));
      EXPECT_TRUE(!page.next || *page.next > *from) << "a page that does not get on";
      from = page.next;
    }
    return rows;
  }
  static std::vector<std::string> Keys(const std::vector<OutcomeRow>& rows) {
    std::vector<std::string> keys;
    for (const OutcomeRow& row : rows) keys.push_back(row.key);
    return keys;
  }

  OutcomeStorage storage_;
  SetClock clock_;
  int pages_ = 0;
  const OutcomeQuery failed_{"job", false, std::nullopt, ""};
  const OutcomeQuery all_{"job", true, std::nullopt, ""};
};

TEST_F(OutcomeReaderTest, ShowsWhatIsKnownOfATask) {
  storage_.AddBatch({"a", "b"});
  storage_.AddBatch({"c", "d"}, "videos");
  Outcome outcome = FailedOutcome(1, "SlowDown", 503, "slow down");
  outcome.attempts = 5;
  outcome.bytes = 17;
  storage_.AddSegment(1, std::nullopt, {outcome});

  const OutcomePage page = Read(failed_);

  ASSERT_THAT(page.rows, SizeIs(1));
  const OutcomeRow& row = page.rows[0];
  EXPECT_EQ(row.position, 3);
  EXPECT_EQ(row.batch_no, 1);
  EXPECT_EQ(row.bucket, "videos");
  EXPECT_EQ(row.key, "d");
  EXPECT_EQ(row.version_id, "");
  EXPECT_EQ(row.outcome, outcome);
  EXPECT_EQ(row.recorded, absl::FromUnixSeconds(1'700'000'001));
  EXPECT_EQ(page.next, std::nullopt);
  EXPECT_EQ(storage_.batches_read, 1);
}

TEST_F(OutcomeReaderTest, MergesTheSegmentsOfABatchInTheOrderOfTheManifest) {
  storage_.AddBatch({"0", "1", "2", "3", "4"});
  storage_.AddSegment(0, Some({1, 4}), {FailedOutcome(1)});
  storage_.AddSegment(0, Some({0, 2}), {FailedOutcome(0), FailedOutcome(2)});

  EXPECT_THAT(Keys(Read(failed_).rows), ElementsAre("0", "1", "2"));
  const std::vector<OutcomeRow> rows = Read(all_).rows;
  EXPECT_THAT(Keys(rows), ElementsAre("0", "1", "2", "4")) << "3 was not executed";
  EXPECT_TRUE(rows[3].outcome.IsDefault());
}

TEST_F(OutcomeReaderTest, PagesHaveEveryRowOnceWhateverTheirSize) {
  std::mt19937_64 random(7);
  std::vector<std::string> failed;
  std::vector<std::string> all;
  for (BatchNo batch_no = 0; batch_no < 60; ++batch_no) {
    std::vector<std::string> keys;
    for (int i = 0; i < 40; ++i) keys.push_back(StrCat("key-", batch_no, "-", i));
    storage_.AddBatch(keys);
    TaskSet halves[2];
    std::vector<Outcome> outcomes[2];
    for (uint32_t i = 0; i < 40; ++i) {
      if (random() % 8 == 0) continue;  // not executed
      const size_t half = random() % 2;
      halves[half].Add(i);
      all.push_back(keys[i]);
      if (random() % 4 != 0 || batch_no % 3 == 0) continue;
      outcomes[half].push_back(FailedOutcome(i));
      failed.push_back(keys[i]);
    }
    for (const size_t half : {1, 0}) {
      if (!halves[half].empty()) storage_.AddSegment(batch_no, halves[half], outcomes[half]);
    }
  }
  for (const size_t rows : {1, 3, 40, 41, 1000, 100000}) {
    EXPECT_EQ(Keys(ReadAll(failed_, {.rows = rows})), failed) << rows;
    EXPECT_EQ(Keys(ReadAll(all_, {.rows = rows})), all) << rows;
  }
  EXPECT_EQ(Keys(ReadAll(all_, {.rows = 100000, .bytes = 200})), all) << "two rows a page";
  EXPECT_EQ(Keys(ReadAll(all_, {.rows = 100000, .bytes = 1})), all) << "one row a page, however large";
  EXPECT_EQ(Keys(ReadAll(all_, {.rows = 100000, .batches = 1})), all);
  EXPECT_EQ(Keys(ReadAll(all_, {.rows = 100000, .scanned_bytes = 1})), all);
  EXPECT_EQ(Keys(ReadAll(all_, {.rows = 100000, .time = absl::ZeroDuration()})), all);
}

TEST_F(OutcomeReaderTest, FiltersByCodeAndKeyPrefix) {
  storage_.AddBatch({"a/1", "a/2", "b/1", "b/2", "b/3"});
  storage_.AddSegment(
      0, std::nullopt,
      {FailedOutcome(0, "SlowDown", 503), FailedOutcome(1), FailedOutcome(2), FailedOutcome(3, "")});

  EXPECT_THAT(Keys(Read({"job", false, "NoSuchKey", ""}).rows), ElementsAre("a/2", "b/1"));
  EXPECT_THAT(Keys(Read({"job", false, std::nullopt, "b/"}).rows), ElementsAre("b/1", "b/2"));
  EXPECT_THAT(Keys(Read({"job", true, std::nullopt, "b/"}).rows), ElementsAre("b/1", "b/2", "b/3"));
  EXPECT_THAT(Keys(Read({"job", false, "NoSuchKey", "b/"}).rows), ElementsAre("b/1"));
  EXPECT_THAT(Keys(Read({"job", false, "", ""}).rows), ElementsAre("b/2"));
  EXPECT_THAT(Keys(Read({"job", true, "", ""}).rows), ElementsAre("b/2", "b/3")) << "a success has no code";
  EXPECT_THAT(Read({"job", false, "NoSuch", ""}).rows, IsEmpty());
}

TEST_F(OutcomeReaderTest, APageEndsWithItsBudgetThoughNothingWasFound) {
  for (BatchNo batch_no = 0; batch_no < 200; ++batch_no) {
    storage_.AddBatch({StrCat("key-", batch_no)});
    storage_.AddSegment(batch_no, std::nullopt, {FailedOutcome(0, batch_no == 150 ? "Rare" : "Common")});
  }
  const OutcomeQuery rare{"job", false, "Rare", ""};

  const OutcomePage page = Read(rare, {}, {.batches = 64});
  EXPECT_THAT(page.rows, IsEmpty());
  EXPECT_EQ(page.next, (TaskRef{64, 0}));
  EXPECT_EQ(storage_.segments_given, 64);
  EXPECT_EQ(storage_.batches_read, 0) << "keys of batches without a match are not read";
  EXPECT_THAT(Keys(ReadAll(rare, {.batches = 64})), ElementsAre("key-150"));
  EXPECT_EQ(pages_, 4);

  // By time: looked at between steps.
  storage_.on_read = [&] { clock_.elapsed += absl::Milliseconds(300); };
  storage_.segments_given = 0;
  EXPECT_EQ(Read(rare, {}, {.time = absl::Seconds(1)}).next, (TaskRef{64, 0}));
  EXPECT_EQ(storage_.segments_given, 4 * kOutcomeStepBatches);
}

TEST_F(OutcomeReaderTest, APageOfFailuresReadsNoMoreBatchesThanItNeeds) {
  for (BatchNo batch_no = 0; batch_no < 100; ++batch_no) {
    storage_.AddBatch({StrCat("a-", batch_no), StrCat("b-", batch_no)});
    storage_.AddSegment(batch_no, std::nullopt, {FailedOutcome(0), FailedOutcome(1)});
  }
  const OutcomePage page = Read(failed_, {}, {.rows = 4});
  EXPECT_THAT(page.rows, SizeIs(4));
  EXPECT_EQ(page.next, (TaskRef{2, 0}));
  EXPECT_EQ(storage_.batches_read, 2);
  const OutcomePage next = Read(failed_, {2, 1}, {.rows = 1});
  EXPECT_THAT(Keys(next.rows), ElementsAre("b-2"));
}

TEST_F(OutcomeReaderTest, WhatIsRecordedBehindAPageIsSeenByTheNextListing) {
  storage_.AddBatch({"a", "b"});
  storage_.AddBatch({"c"});
  storage_.AddSegment(0, Some({1}), {FailedOutcome(1)});
  storage_.AddSegment(1, std::nullopt, {FailedOutcome(0)});
  const OutcomePage first = Read(failed_, {}, {.rows = 1});
  ASSERT_THAT(Keys(first.rows), ElementsAre("b"));
  storage_.AddSegment(0, Some({0}), {FailedOutcome(0)});

  EXPECT_THAT(Keys(Read(failed_, *first.next).rows), ElementsAre("c"));
  EXPECT_THAT(Keys(Read(failed_).rows), ElementsAre("a", "b", "c"));
}

TEST_F(OutcomeReaderTest, SaysSoWhenWhatIsStoredCannotBeRead) {
  storage_.AddBatch({"a"});
  storage_.AddSegment(0, std::nullopt, {FailedOutcome(0)});
  storage_.SpoilLastBatch();
  EXPECT_EQ(ReadOutcomes(storage_, clock_, failed_, {}, {}).status().code(), absl::StatusCode::kInternal);

  storage_.fail = absl::UnavailableError("away");
  EXPECT_EQ(ReadOutcomes(storage_, clock_, failed_, {}, {}).status(), *storage_.fail);
}

TEST_F(OutcomeReaderTest, ATaskRecordedTwiceOrOutsideItsBatchIsAnError) {
  storage_.AddBatch({"a", "b"});
  storage_.AddSegment(0, Some({0}), {FailedOutcome(0)});
  storage_.AddSegment(0, Some({0, 1}), {FailedOutcome(0)});
  const absl::Status twice = ReadOutcomes(storage_, clock_, failed_, {}, {}).status();
  EXPECT_EQ(twice.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(GetErrorDetails(twice)->reason, "OUTCOMES_BROKEN");

  storage_.AddBatch({"c"});
  storage_.AddSegment(1, Some({3}), {FailedOutcome(3)});
  EXPECT_EQ(ReadOutcomes(storage_, clock_, failed_, {1, 0}, {}).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace drover
