#include "common/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "common/strings/strings.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() : config_("drover-test", "Tests settings.", "1.2.3") {
    config_.Section("Network");
    config_.AddString("listen", &listen_, "Address to listen on.");
    config_.AddInteger("threads", &threads_, 1, 64, "Threads.");
    config_.AddChoice("mode", &mode_, {"fast", "slow"}, "How | fast.");
    config_.Section("Limits");
    config_.AddDuration("ttl", &ttl_, absl::Seconds(1), absl::Minutes(10), "Time to live.");
    config_.AddBytes("memory", &memory_, 1024, int64_t{1} << 30, "Memory.");
    config_.AddDouble("share", &share_, 0, 1, "Share.");
    config_.AddBool("verbose", &verbose_, "Say more.");
    config_.AddList("hosts", &hosts_, "Hosts.");
    config_.AddSecret("database-url", &database_, "Where the database is.");
    config_.AddCommand("migrate", "Migrates.");
    config_.AddCheck([this] {
      return listen_ == "nowhere" ? absl::InvalidArgumentError("listen: nowhere is no place")
                                  : absl::OkStatus();
    });
  }
  ~ConfigTest() override {
    for (const std::string& file : files_) std::remove(file.c_str());
  }

  absl::StatusOr<ConfigTable::Result> Parse(std::vector<const char*> args) {
    args.insert(args.begin(), "drover-test");
    return config_.Parse(static_cast<int>(args.size()), args.data(), [this](const std::string& name) {
      const auto it = environment_.find(name);
      return it == environment_.end() ? std::nullopt : std::optional<std::string>(it->second);
    });
  }
  std::string File(const std::string& text) {
    files_.push_back(StrCat(testing::TempDir(), "/config-test-", getpid(), "-", files_.size()));
    std::ofstream(files_.back()) << text;
    return files_.back();
  }
  std::string Problem(std::vector<const char*> args) {
    const auto result = Parse(std::move(args));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(result.status().message());
  }

  std::string listen_ = "127.0.0.1:7600";
  int threads_ = 4;
  std::string mode_ = "fast";
  absl::Duration ttl_ = absl::Seconds(15);
  int64_t memory_ = 8 << 20;
  double share_ = 0.5;
  bool verbose_ = false;
  std::vector<std::string> hosts_;
  std::string database_;
  std::map<std::string, std::string> environment_;
  std::vector<std::string> files_;
  ConfigTable config_;
};

TEST_F(ConfigTest, DefaultsHoldWhenNothingIsGiven) {
  const auto result = Parse({});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->command, "");
  EXPECT_FALSE(result->text.has_value());
  EXPECT_EQ(threads_, 4);
  EXPECT_EQ(ttl_, absl::Seconds(15));
}

TEST_F(ConfigTest, FlagWinsOverEnvironmentOverFileOverDefault) {
  const std::string file = File("threads: 10\nttl: 20s\nmode: slow\nmemory: 2MiB\n");
  environment_ = {{"DROVER_THREADS", "11"}, {"DROVER_TTL", "21s"}};
  ASSERT_TRUE(Parse({"--config", file.c_str(), "--threads", "12"}).ok());
  EXPECT_EQ(threads_, 12);
  EXPECT_EQ(ttl_, absl::Seconds(21));
  EXPECT_EQ(mode_, "slow");
  EXPECT_EQ(memory_, 2 << 20);
  EXPECT_EQ(share_, 0.5);
  EXPECT_THAT(
      config_.Effective(),
      AllOf(HasSubstr("threads: 12  # flag --threads\n"), HasSubstr("ttl: 21s  # environment DROVER_TTL\n"),
            HasSubstr(StrCat("mode: slow  # file ", file, "\n")), HasSubstr("share: 0.5  # default\n")));
}

TEST_F(ConfigTest, EveryTypeIsReadFromFlags) {
  ASSERT_TRUE(Parse({"--listen=[::1]:1", "--ttl=1m30s", "--memory=512KiB", "--share=0.25", "--verbose",
                     "--hosts=a, b,c", "--database-url=postgresql://x:y@z"})
                  .ok());
  EXPECT_EQ(listen_, "[::1]:1");
  EXPECT_EQ(ttl_, absl::Seconds(90));
  EXPECT_EQ(memory_, 512 << 10);
  EXPECT_EQ(share_, 0.25);
  EXPECT_TRUE(verbose_);
  EXPECT_THAT(hosts_, ElementsAre("a", "b", "c"));
  EXPECT_EQ(database_, "postgresql://x:y@z");
  ASSERT_TRUE(Parse({"--verbose=false"}).ok());
  EXPECT_FALSE(verbose_);
}

TEST_F(ConfigTest, FileGivesListsAndItsNameMayComeFromTheEnvironment) {
  environment_["DROVER_CONFIG"] = File("hosts: [a, b]\nverbose: true\nlisten: \"0.0.0.0:1\"\n");
  ASSERT_TRUE(Parse({}).ok());
  EXPECT_THAT(hosts_, ElementsAre("a", "b"));
  EXPECT_TRUE(verbose_);
  EXPECT_EQ(listen_, "0.0.0.0:1");
}

TEST_F(ConfigTest, EveryWrongValueIsNamedWithItsOriginAndNothingChanges) {
  environment_ = {{"DROVER_TTL", "11m"}, {"DROVER_MEMORY", "12PiB"}};
  const std::string problem = Problem(
      {"--threads=65", "--mode=medium", "--share=2", "--verbose=perhaps", "--hosts=a,,b", "--listen=other"});
  EXPECT_THAT(problem, HasSubstr("threads: must be 1 to 64, got \"65\" (flag --threads)"));
  EXPECT_THAT(problem, HasSubstr("mode: must be one of fast, slow, got \"medium\""));
  EXPECT_THAT(problem, HasSubstr("ttl: must be 1s to 10m, got \"11m\" (environment DROVER_TTL)"));
  EXPECT_THAT(problem, HasSubstr("memory: must be a number of bytes like"));
  EXPECT_THAT(problem, HasSubstr("share: must be 0 to 1"));
  EXPECT_THAT(problem, HasSubstr("verbose: must be true or false"));
  EXPECT_THAT(problem, HasSubstr("hosts: must not have empty elements"));
  EXPECT_EQ(listen_, "127.0.0.1:7600");
  EXPECT_EQ(threads_, 4);
}

TEST_F(ConfigTest, FileWithUnknownOrRepeatedKeysOrNoMapIsRefused) {
  EXPECT_THAT(Problem({"--config", File("listen: a\nthraeds: 1\n").c_str()}),
              HasSubstr("line 2: thraeds: no such setting"));
  EXPECT_THAT(Problem({"--config", File("threads: 1\nthreads: 2\n").c_str()}),
              HasSubstr("line 2: threads: given twice"));
  EXPECT_THAT(Problem({"--config", File("- a\n").c_str()}), HasSubstr("must be a map"));
  EXPECT_THAT(Problem({"--config", File("threads: {a: 1}\n").c_str()}), HasSubstr("single value"));
  EXPECT_THAT(Problem({"--config", File("a: [\n").c_str()}), HasSubstr("config-test"));
  EXPECT_EQ(Parse({"--config", "/nonexistent/x"}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ConfigTest, UnknownFlagsAndCommandsAreRefused) {
  EXPECT_THAT(Problem({"--thraeds=1"}), HasSubstr("--thraeds"));
  EXPECT_THAT(Problem({"explode"}), HasSubstr("explode"));
  EXPECT_THAT(Problem({"--threads"}), HasSubstr("--threads"));
}

TEST_F(ConfigTest, CommandIsFoundWithFlagsOnEitherSide) {
  const auto result = Parse({"--threads=2", "migrate", "--ttl=30s"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->command, "migrate");
  EXPECT_EQ(threads_, 2);
  EXPECT_EQ(ttl_, absl::Seconds(30));
}

TEST_F(ConfigTest, SecretIsReadFromAFileAndNeverPrinted) {
  const std::string file = File("pa55word\n");
  ASSERT_TRUE(Parse({"--database-url-file", file.c_str()}).ok());
  EXPECT_EQ(database_, "pa55word");
  environment_["DROVER_DATABASE_URL"] = "pa55word";
  EXPECT_THAT(Problem({"--database-url-file", file.c_str()}),
              AllOf(HasSubstr("give only one of"), Not(HasSubstr("pa55"))));
  ASSERT_TRUE(Parse({}).ok());
  EXPECT_THAT(config_.Effective(), AllOf(HasSubstr("database-url: (set)"), Not(HasSubstr("pa55"))));
  EXPECT_THAT(config_.Markdown() + config_.Help(), Not(HasSubstr("pa55")));
}

TEST_F(ConfigTest, CheckOverSeveralSettingsIsReported) {
  EXPECT_EQ(Problem({"--listen=nowhere"}), "listen: nowhere is no place");
}

TEST_F(ConfigTest, HelpVersionAndMarkdownAnswerWithoutRunning) {
  EXPECT_EQ(*Parse({"--version"})->text, "drover-test 1.2.3\n");
  EXPECT_THAT(*Parse({"--help"})->text,
              AllOf(HasSubstr("--ttl  (duration, 1s to 10m; default 15s)"), HasSubstr("migrate")));
  EXPECT_THAT(*Parse({"--help-markdown"})->text,
              AllOf(HasSubstr("### Limits\n"),
                    HasSubstr("| `ttl` | `DROVER_TTL` | duration, 1s to 10m | `15s` | Time to live. |\n"),
                    HasSubstr("| How \\| fast. |\n"), HasSubstr("bytes, 1KiB to 1GiB | `8MiB`")));
  EXPECT_THAT(*Parse({"--print-config"})->text, HasSubstr("threads: 4  # default"));
}

TEST(ConfigParseTest, DurationsAndBytesRefuseWhatIsNotOne) {
  for (const char* text : {"", "15", "inf", "-inf", "abc", "1s2"})
    EXPECT_FALSE(ParseDurationSetting(text).ok()) << text;
  for (const char* text : {"", "-1", "KiB", "1kb", "1.5MiB", "9999999999GiB", "99999999999999999999"}) {
    EXPECT_FALSE(ParseBytesSetting(text).ok()) << text;
  }
  EXPECT_EQ(*ParseBytesSetting("3GiB"), int64_t{3} << 30);
  EXPECT_EQ(*ParseBytesSetting("17"), 17);
}

}  // namespace
}  // namespace drover
