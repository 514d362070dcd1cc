#include "common/log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "common/log/capture.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct LeaseNumber {
  std::string ToString() const { return "L-7"; }
};

class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + elapsed; }
  absl::Duration Elapsed() const override { return elapsed; }
  absl::Duration elapsed;
};

nlohmann::json ParseJsonLine(const std::string& members) {
  return nlohmann::json::parse("{" + members + "}");
}

TEST(LogTest, FormatsEachTypeOfValueReadably) {
  const std::string line = FormatLogLine(LogFormat::kText, "lease.lost",
                                         {{"job", "0194-ab"},
                                          {"lease", int64_t{-17}},
                                          {"big", std::numeric_limits<uint64_t>::max()},
                                          {"held", true},
                                          {"age", absl::Milliseconds(1500)},
                                          {"ratio", 0.5},
                                          {"at", absl::FromUnixSeconds(0)},
                                          {"number", LeaseNumber{}},
                                          {"error", absl::NotFoundError("gone away")}});
  EXPECT_EQ(line,
            "event=lease.lost job=0194-ab lease=-17 big=18446744073709551615 held=true age=1.5s ratio=0.5 "
            "at=1970-01-01T00:00:00+00:00 number=L-7 error=\"NOT_FOUND: gone away\"");
}

TEST(LogTest, HostileValueCannotForgeALineOrAKey) {
  const std::string hostile = "x\ntime=2026 level=error event=forged job=\"1\" \\ \r\t\x1b[31m";
  const std::string line =
      FormatLogLine(LogFormat::kText, "task.failed", {{"message", hostile}, {"job", "a"}});
  EXPECT_EQ(line,
            "event=task.failed message=\"x\\ntime=2026 level=error event=forged job=\\\"1\\\" \\\\ "
            "\\r\\t\\u001b[31m\" "
            "job=a");
}

TEST(LogTest, ValueThatLooksLikeAFieldIsQuoted) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "a=b"}}), "event=e key=\"a=b\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "a b"}}), "event=e key=\"a b\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", ""}}), "event=e key=\"\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "\"q\""}}), "event=e key=\"\\\"q\\\"\"");
}

TEST(LogTest, UnicodeStaysReadableButItsLineEndsAndDirectionMarksDoNot) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "фото"}}), "event=e key=\"фото\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "a\u2028b\u202ec\u0085"}}),
            "event=e key=\"a\\u2028b\\u202ec\\u0085\"");
}

TEST(LogTest, InvalidUtf8IsEscapedByteByByte) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "a\xff\xc3"}}), "event=e key=\"a\\xff\\xc3\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", "\xed\xa0\x80"}}),
            "event=e key=\"\\xed\\xa0\\x80\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "e", {{"key", std::string_view("a\0b", 3)}}),
            "event=e key=\"a\\u0000b\"");
}

TEST(LogTest, JsonHoldsTheSameValuesTyped) {
  const std::string hostile = "x\n\",\"level\":\"error\\";
  const auto json = ParseJsonLine(FormatLogLine(
      LogFormat::kJson, "lease.lost",
      {{"message", hostile}, {"lease", 17}, {"held", false}, {"bytes", "a\xff"}, {"rate", std::nan("")}}));
  EXPECT_EQ(json["event"], "lease.lost");
  EXPECT_EQ(json["message"], hostile);
  EXPECT_EQ(json["lease"], 17);
  EXPECT_EQ(json["held"], false);
  EXPECT_EQ(json["bytes"], "a\ufffd");
  EXPECT_EQ(json["rate"], "nan");
  EXPECT_EQ(json.size(), 6u);
}

TEST(LogTest, LongValueIsCutWithItsLengthAndStaysValidUtf8) {
  std::string value(kMaxLogValueBytes - 1, 'a');
  value += "é and more";
  const std::string line = FormatLogLine(LogFormat::kText, "e", {{"key", value}});
  EXPECT_THAT(line, HasSubstr("aaa...(2058 bytes)"));
  EXPECT_THAT(line, Not(HasSubstr("\\x")));
}

TEST(LogTest, LevelHoldsBackWhatIsBelowIt) {
  LogCapture logs(LogLevel::kWarning);
  LogInfo("quiet");
  LogWarning("loud", {{"n", 1}});
  LogError("louder");
  EXPECT_FALSE(LogEnabled(LogLevel::kInfo));
  EXPECT_THAT(logs.lines(), ElementsAre("level=warning event=loud n=1", "level=error event=louder"));
}

TEST(LogTest, WritesTimeLevelAndServiceToStandardErrorOneLineEach) {
  InitLogging({.level = LogLevel::kInfo, .format = LogFormat::kText, .service = "100%d"});
  testing::internal::CaptureStderr();
  LogInfo("a.b", {{"value", "{} %v\nx"}});
  LogDebug("hidden");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, testing::MatchesRegex(
                        "time=[-0-9T:.]+Z level=info service=100%d event=a.b value=\"[{][}] %v.nx\"\n"));

  InitLogging({.level = LogLevel::kInfo, .format = LogFormat::kJson, .service = "drover-x"});
  testing::internal::CaptureStderr();
  LogWarning("a.b", {{"n", 1}});
  const auto json = nlohmann::json::parse(testing::internal::GetCapturedStderr());
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["service"], "drover-x");
  EXPECT_EQ(json["n"], 1);
  InitLogging({});
}

TEST(LogTest, LinesOfManyThreadsStayWhole) {
  constexpr int kThreads = 4;
  constexpr int kLines = 200;
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kLines; ++i)
        LogInfo("thread.line", {{"thread", t}, {"text", std::string(200, 'x')}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = testing::internal::GetCapturedStderr();
  int lines = 0;
  for (const std::string_view line : Split(text, '\n')) {
    if (line.empty()) continue;
    ++lines;
    EXPECT_TRUE(StartsWith(line, "time=")) << line;
    EXPECT_TRUE(EndsWith(line, " text=" + std::string(200, 'x'))) << line;
  }
  EXPECT_EQ(lines, kThreads * kLines);
}

TEST(LogTest, RateLimitedLinesSayHowManyWereHeldBack) {
  LogCapture logs;
  FakeClock clock;
  LogRateLimit limit(absl::Seconds(10), clock);
  for (int i = 0; i < 5; ++i) LogEvery(limit, LogLevel::kWarning, "store.slow", {{"i", i}});
  clock.elapsed = absl::Seconds(10);
  LogEvery(limit, LogLevel::kWarning, "store.slow", {{"i", 5}});
  clock.elapsed = absl::Seconds(20);
  LogEvery(limit, LogLevel::kWarning, "store.slow", {{"i", 6}});
  EXPECT_THAT(logs.lines(), ElementsAre("level=warning event=store.slow i=0",
                                        "level=warning event=store.slow i=5 suppressed=4",
                                        "level=warning event=store.slow i=6"));
}

TEST(LogTest, NamesOfLevelsAndFormatsAreParsedAndOthersRefused) {
  EXPECT_EQ(*ParseLogLevel("warning"), LogLevel::kWarning);
  EXPECT_EQ(*ParseLogFormat("json"), LogFormat::kJson);
  EXPECT_FALSE(ParseLogLevel("loud").ok());
  EXPECT_FALSE(ParseLogFormat("xml").ok());
}

}  // namespace
}  // namespace drover
