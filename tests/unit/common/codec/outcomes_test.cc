#include "common/codec/outcomes.h"

#include <zstd.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "common/codec/utf8.h"
#include "common/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

Outcome Failed(uint32_t index, std::string code = "NoSuchKey",
               std::string message = "The specified key does not exist.") {
  Outcome outcome;
  outcome.index = index;
  outcome.succeeded = false;
  outcome.http_status = 404;
  outcome.code = std::move(code);
  outcome.message = std::move(message);
  return outcome;
}

std::string Stored(std::initializer_list<int> content) {
  std::string out = "\x01";
  for (const int byte : content) out.push_back(static_cast<char>(byte));
  return out;
}

void ExpectRefused(std::string_view payload, std::string_view why) {
  const absl::Status status = DecodeOutcomes(payload).status();
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << why;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(why)));
  EXPECT_EQ(GetErrorDetails(status)->reason, "BAD_OUTCOMES_PAYLOAD");
}

TEST(Outcomes, NoneHaveNoPayload) {
  EXPECT_EQ(EncodeOutcomes({}), "");
  ASSERT_TRUE(DecodeOutcomes("").ok());
  EXPECT_TRUE(DecodeOutcomes("")->empty());
}

TEST(Outcomes, APlainSuccessIsTheDefault) {
  EXPECT_TRUE(Outcome().IsDefault());
  const auto differs = [](auto change) {
    Outcome outcome;
    change(outcome);
    return !outcome.IsDefault();
  };
  EXPECT_TRUE(differs([](Outcome& o) { o.succeeded = false; }));
  EXPECT_TRUE(differs([](Outcome& o) { o.http_status = 204; }));
  EXPECT_TRUE(differs([](Outcome& o) { o.code = "x"; }));
  EXPECT_TRUE(differs([](Outcome& o) { o.message = ""; }));
  EXPECT_TRUE(differs([](Outcome& o) { o.attempts = 2; }));
  EXPECT_TRUE(differs([](Outcome& o) { o.bytes = 1; }));
  EXPECT_FALSE(differs([](Outcome& o) { o.index = 7; }));
}

TEST(Outcomes, MakeTheRoundTripInOrderOfIndex) {
  Outcome copied;
  copied.index = 4095;
  copied.attempts = std::numeric_limits<uint32_t>::max();
  copied.bytes = std::numeric_limits<uint64_t>::max();
  Outcome unanswered = Failed(0, "ConnectionReset", "");
  unanswered.http_status = 0;
  const absl::StatusOr<std::vector<Outcome>> decoded =
      DecodeOutcomes(EncodeOutcomes({copied, Failed(17), unanswered, Failed(18)}));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, (std::vector<Outcome>{unanswered, Failed(17), Failed(18), copied}));
}

TEST(Outcomes, LayOutAsDocumented) {
  Outcome outcome = Failed(3, "C", "m");
  outcome.attempts = 5;
  outcome.bytes = 7;
  EXPECT_EQ(EncodeOutcomes({outcome}), Stored({1, 1, 0, 0x94, 0x03, 1, 'C', 1, 'm', 3, 0, 5, 7}));
}

TEST(Outcomes, ASegmentThatFailedInOneWayIsSmall) {
  std::vector<Outcome> outcomes;
  for (uint32_t i = 0; i < 4096; ++i) outcomes.push_back(Failed(i));
  const std::string payload = EncodeOutcomes(outcomes);
  EXPECT_EQ(payload[0], 2);
  EXPECT_LT(payload.size(), 150u);
  EXPECT_EQ(*DecodeOutcomes(payload), outcomes);
}

TEST(Outcomes, AFullBatchOfTheLongestTextsMakesTheRoundTrip) {
  std::mt19937_64 random(3);
  std::vector<Outcome> outcomes;
  for (uint32_t i = 0; i < 4096; ++i) {
    std::string message(1024, '\0');
    for (char& c : message) c = static_cast<char>('!' + random() % 90);
    std::string code;
    for (int n = 0; n < 64; ++n) code += "\xF0\x9F\x90\x82";
    outcomes.push_back(Failed(i, code, message));
  }
  const std::string payload = EncodeOutcomes(outcomes);
  EXPECT_LE(payload.size(), kMaxOutcomesPayloadBytes);
  const absl::StatusOr<std::vector<Outcome>> decoded = DecodeOutcomes(payload);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, outcomes);
}

TEST(Outcomes, RandomOnesMakeTheRoundTrip) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::vector<Outcome> outcomes;
    const uint32_t step = 1 + static_cast<uint32_t>(random() % 100);
    for (uint32_t index = static_cast<uint32_t>(random() % step); index < 4096;
         index += 1 + random() % step) {
      Outcome outcome = Failed(index, "Code" + std::to_string(random() % 5), std::string(random() % 20, 'm'));
      outcome.succeeded = random() % 2 == 0;
      outcome.http_status = static_cast<uint16_t>(random() % 1000);
      outcome.attempts = 1 + static_cast<uint32_t>(random() % 6);
      outcome.bytes = random() >> (random() % 64);
      outcomes.push_back(outcome);
    }
    const absl::StatusOr<std::vector<Outcome>> decoded = DecodeOutcomes(EncodeOutcomes(outcomes));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, outcomes);
  }
}

TEST(Outcomes, WhatAWorkerSendsIsBroughtWithinTheLimits) {
  Outcome outcome = Failed(1, std::string(65, 'c'), std::string(1025, 'm'));
  outcome.http_status = 1000;
  outcome.attempts = 0;
  SanitizeOutcome(outcome);
  EXPECT_EQ(outcome.code, std::string(64, 'c'));
  EXPECT_EQ(outcome.message, std::string(1024, 'm'));
  EXPECT_EQ(outcome.http_status, 0);
  EXPECT_EQ(outcome.attempts, 1u);

  Outcome raw = Failed(1, std::string("N\0L", 3), "bad \xff byte");
  EXPECT_EQ(*DecodeOutcomes(EncodeOutcomes({raw})),
            (std::vector<Outcome>{Failed(1, "N\xEF\xBF\xBDL", "bad \xEF\xBF\xBD byte")}));
}

TEST(Outcomes, CodesAreLimitedInCharactersNotBytes) {
  std::string code;
  for (int i = 0; i < 65; ++i) code += "é";
  Outcome outcome = Failed(1, code);
  SanitizeOutcome(outcome);
  EXPECT_EQ(outcome.code, code.substr(0, 128));
}

TEST(SanitizeOutcomeText, CutsBetweenCharacters) {
  EXPECT_EQ(SanitizeOutcomeText("abcdef", 3), "abc");
  EXPECT_EQ(SanitizeOutcomeText("aé", 2), "a");
  EXPECT_EQ(SanitizeOutcomeText("aé", 3), "aé");
  EXPECT_EQ(SanitizeOutcomeText("\xF0\x9F\x90\x82", 3), "");
  EXPECT_EQ(SanitizeOutcomeText("ab\xff", 4), "ab");  // the replacement takes three bytes
  EXPECT_EQ(SanitizeOutcomeText("", 0), "");
}

TEST(SanitizeOutcomeText, ReplacesWhatCannotBeStored) {
  EXPECT_EQ(SanitizeOutcomeText(std::string("a\0b", 3), 100),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(SanitizeOutcomeText("\xed\xa0\x80", 100), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  EXPECT_EQ(SanitizeOutcomeText("\xc3", 100), "\xEF\xBF\xBD");
  EXPECT_EQ(SanitizeOutcomeText("line\nbreak\ttab", 100), "line\nbreak\ttab");
}

TEST(SanitizeOutcomeText, AlwaysGivesValidTextWithinTheLimit) {
  for (uint64_t seed = 1; seed <= 5000; ++seed) {
    std::mt19937_64 random(seed);
    std::string text(random() % 60, '\0');
    constexpr char kBytes[] = "a\xc3\xa9\xf0\x9f\x90\x82\xed\xa0\xff\xe2\x82\xac\0";
    for (char& c : text) c = kBytes[random() % sizeof kBytes];
    const size_t limit = random() % 70;
    const std::string clean = SanitizeOutcomeText(text, limit);
    ASSERT_LE(clean.size(), limit) << "seed " << seed;
    ASSERT_TRUE(IsValidUtf8(clean)) << "seed " << seed;
    ASSERT_EQ(clean.find('\0'), std::string::npos) << "seed " << seed;
    ASSERT_EQ(SanitizeOutcomeText(clean, limit), clean) << "seed " << seed;
  }
}

TEST(DecodeOutcomes, RefusesWhatBreaksALimit) {
  ASSERT_TRUE(DecodeOutcomes(Stored({1, 1, 0, 0, 0, 0, 3, 0, 1, 0})).ok());
  ExpectRefused("\x03", "unknown codec 3");
  ExpectRefused("\x02rubbish", "no zstd frame");
  ExpectRefused("\x01", "bad count");
  ExpectRefused(Stored({0, 0}), "bad count");
  ExpectRefused(Stored({0x81, 0x20}), "bad count");
  ExpectRefused(Stored({1, 2}), "bad dictionary size");
  ExpectRefused(Stored({1, 1, 2}), "bad result");
  ExpectRefused(Stored({1, 1, 0, 0xe8, 0x07}), "bad HTTP status");  // 1000
  ExpectRefused(Stored({1, 1, 0, 0, 5, 'c'}), "bad code");
  ExpectRefused(Stored({1, 1, 0, 0, 1, 0}), "bad code");  // NUL
  ExpectRefused(Stored({1, 1, 0, 0, 0, 1, 0xff}), "bad message");
  ExpectRefused(Stored({1, 1, 0, 0, 0, 0, 0x80, 0x20, 0, 1, 0}), "bad index");  // 4096
  ExpectRefused(Stored({2, 1, 0, 0, 0, 0, 0xff, 0x1f, 0, 0, 0, 1, 1, 0, 0}), "bad index");
  ExpectRefused(Stored({1, 1, 0, 0, 0, 0, 3, 1, 1, 0}), "bad reference");
  ExpectRefused(Stored({2, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 1, 1, 1, 1, 0, 0}), "unused result");
  ExpectRefused(Stored({1, 1, 0, 0, 0, 0, 3, 0, 0, 0}), "bad attempts");
  ExpectRefused(Stored({1, 1, 0, 0, 0, 0, 3, 0, 1}), "bad bytes");
  ExpectRefused(Stored({1, 1, 0, 0, 0, 0, 3, 0, 1, 0, 0}), "after the end");

  std::string bomb(64 << 20, '\0');
  std::string payload(1 + ZSTD_compressBound(bomb.size()), '\x02');
  payload.resize(1 + ZSTD_compress(payload.data() + 1, payload.size() - 1, bomb.data(), bomb.size(), 1));
  ExpectRefused(payload, "content too long");
}

TEST(DecodeOutcomes, SurvivesDamagedBytes) {
  std::vector<Outcome> outcomes;
  for (uint32_t i = 0; i < 9; ++i) outcomes.push_back(Failed(i * 3, "Code" + std::to_string(i % 3)));
  const std::string compressed = EncodeOutcomes(outcomes);
  outcomes.resize(1);
  outcomes[0].message = "short";
  const std::string stored = EncodeOutcomes(outcomes);
  ASSERT_EQ(compressed[0], 2);
  ASSERT_EQ(stored[0], 1);
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937_64 random(seed);
    std::string damaged = random() % 2 == 0 ? compressed : stored;
    for (size_t n = random() % 3 + 1; n > 0; --n)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const std::vector<char> exact(damaged.begin(), damaged.end());
    const absl::StatusOr<std::vector<Outcome>> decoded = DecodeOutcomes({exact.data(), exact.size()});
    if (!decoded.ok()) continue;
    for (Outcome outcome : *decoded) {
      const Outcome before = outcome;
      SanitizeOutcome(outcome);
      ASSERT_EQ(outcome, before) << "seed " << seed;
      ASSERT_LT(outcome.index, 4096u) << "seed " << seed;
    }
  }
}

TEST(EncodeOutcomesDeathTest, EndsTheProcessForOutcomesThatContradictEachOther) {
  EXPECT_DEATH(EncodeOutcomes({Failed(1), Failed(1)}), "two outcomes of one task");
  EXPECT_DEATH(EncodeOutcomes({Failed(4096)}), "index out of limits");
}

TEST(CountFailures, CountsByCodeAndStatusWhateverTheMessage) {
  Outcome denied = Failed(7, "AccessDenied", "no");
  denied.http_status = 403;
  Outcome retried;
  retried.index = 2;
  retried.attempts = 3;
  Outcome no_answer = Failed(9, "NoSuchKey", "gone");
  no_answer.http_status = 0;
  std::vector<Outcome> outcomes = {denied, retried, no_answer};
  for (const uint32_t index : {1, 4, 5, 8, 4095}) {
    outcomes.push_back(Failed(index, "NoSuchKey", "message " + std::to_string(index)));
  }
  EXPECT_THAT(*CountFailures(EncodeOutcomes(outcomes)),
              ::testing::ElementsAre(FailureCount{"NoSuchKey", 404, 5, {1, 4, 5}},
                                     FailureCount{"AccessDenied", 403, 1, {7}},
                                     FailureCount{"NoSuchKey", 0, 1, {9}}));
}

TEST(CountFailures, OfSuccessesAndOfNothingThereAreNone) {
  Outcome retried;
  retried.attempts = 2;
  EXPECT_TRUE(CountFailures(EncodeOutcomes({retried}))->empty());
  EXPECT_TRUE(CountFailures("")->empty());
}

TEST(CountFailures, RefusesWhatDecodeOutcomesRefuses) {
  const std::string payload = EncodeOutcomes({Failed(1), Failed(2, "Other")});
  for (size_t length = 1; length < payload.size(); ++length) {
    const std::string cut = payload.substr(0, length);
    EXPECT_EQ(CountFailures(cut).status(), DecodeOutcomes(cut).status()) << length;
    EXPECT_FALSE(CountFailures(cut).ok()) << length;
  }
}

}  // namespace
}  // namespace drover
