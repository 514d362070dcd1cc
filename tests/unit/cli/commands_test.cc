#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "common/strings/strings.h"
#include "tests/unit/cli/fake_server.h"

namespace drover::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
  ExitCode code;
  std::string out;
  std::string err;
};

Outcome Drover(std::vector<std::string> words) {
  std::vector<const char*> argv = {"drover"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const ExitCode code = Run(static_cast<int>(argv.size()), argv.data(), "1.2.3");
  return {code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

class CommandsTest : public testing::Test {
 protected:
  CommandsTest() { setenv("DROVER_SERVER", server_.address.c_str(), 1); }
  ~CommandsTest() override { unsetenv("DROVER_SERVER"); }

  FakeServer server_;
};

TEST_F(CommandsTest, WrongCommandLinesAreUsageAndSendNothing) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {},
           {"job"},
           {"job", "frobnicate"},
           {"job", "get"},
           {"job", "get", "a", "b"},
           {"job", "get", "a", "--frob"},
           {"job", "get", "a", "-o", "xml"},
           {"job", "get", "a", "--timeout", "soon"},
           {"job", "get", "a", "--timeout", "inf"},
           {"job", "get", "a", "--server", "a:1,,b:2"},
           {"job", "list", "--status", "Bad"},
           {"job", "list", "--limit", "-1"},
           {"job", "priority", "a", "-1"},
           {"job", "priority", "a", "2147483648"},
           {"job", "create", "--operation", "noop"},
           {"job", "create", "--operation", "noop", "--manifest", "a/b/c", "--from", "/nonexistent/job.json"},
           {"worker"}}) {
    const Outcome outcome = Drover(words);
    EXPECT_EQ(outcome.code, ExitCode::kUsage) << testing::PrintToString(words);
    EXPECT_NE(outcome.err, "") << testing::PrintToString(words);
    EXPECT_EQ(outcome.out, "") << testing::PrintToString(words);
  }
  EXPECT_THAT(Drover({"job", "frobnicate"}).err, HasSubstr("frobnicate"));
  EXPECT_EQ(server_.jobs.calls(), 0);
}

TEST_F(CommandsTest, HelpAndVersionAreNoErrors) {
  EXPECT_EQ(Drover({"--help"}).code, ExitCode::kOk);
  EXPECT_THAT(Drover({"job", "create", "--help"}).out,
              AllOf(HasSubstr("Examples:"), HasSubstr("--failure-minimum")));
  EXPECT_THAT(Drover({"--version"}).out, HasSubstr("drover 1.2.3"));
}

TEST_F(CommandsTest, EveryFlagIsInTheDocumentation) {
  std::ifstream file(DROVER_SOURCE_DIR "/docs/cli.md");
  const std::string docs(std::istreambuf_iterator<char>(file), {});
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"job", "create", "--help"},
                                             {"job", "list", "--help"},
                                             {"job", "watch", "--help"},
                                             {"job", "cancel", "--help"}}) {
    const std::string help = Drover(words).out;
    const std::string options = help.substr(0, help.find("Examples:"));
    int flags = 0;
    for (size_t at = options.find("--"); at != std::string::npos; at = options.find("--", at + 2)) {
      const std::string flag =
          options.substr(at, options.find_first_not_of("-abcdefghijklmnopqrstuvwxyz", at) - at);
      EXPECT_THAT(docs, HasSubstr(flag));
      ++flags;
    }
    EXPECT_GT(flags, 0);
  }
}

TEST_F(CommandsTest, CreatePrintsTheJobInEachFormat) {
  v1::Job job;
  job.set_job_id("0194");
  job.set_state(v1::NEW);
  server_.jobs.SetCreated(job);
  const std::vector<std::string> create = {"job",        "create", "--operation", "noop",
                                           "--manifest", "a/b/c",  "-o"};
  const auto with = [&](const std::string& format) {
    std::vector<std::string> words = create;
    words.push_back(format);
    return Drover(words);
  };
  EXPECT_EQ(with("table").out, "job 0194 created, New\n");
  EXPECT_EQ(with("id").out, "0194\n");
  EXPECT_THAT(with("json").out, HasSubstr("\"jobId\": \"0194\""));
  EXPECT_EQ(server_.jobs.created().request_id().size(), 36u);
}

TEST_F(CommandsTest, CreateWithWaitEndsWithTheJobsOwnCode) {
  v1::Job job;
  job.set_job_id("0194");
  server_.jobs.SetCreated(job);
  server_.jobs.AddStream({{{v1::ACTIVE, 1}, {v1::CANCELLED, 2}}, grpc::Status::OK});
  const Outcome outcome = Drover({"job", "create", "--operation", "put-tags", "--tag", "a=b", "--tag",
                                  "[c=d]", "--manifest", "a/b/c", "--request-id", "r7", "--wait"});
  EXPECT_EQ(outcome.code, ExitCode::kFailedOrCancelled);
  EXPECT_THAT(outcome.out, HasSubstr("is Cancelled"));
  EXPECT_EQ(server_.jobs.created().request_id(), "r7");
  ASSERT_EQ(server_.jobs.created().job().operation().put_object_tagging().tags_size(), 2);
  EXPECT_EQ(server_.jobs.created().job().operation().put_object_tagging().tags(1).key(), "[c");
}

TEST_F(CommandsTest, CreateReadsAJobFile) {
  const std::string path = StrCat(testing::TempDir(), "/job-", getpid(), ".json");
  std::ofstream(path)
      << R"({"operation": {"noOp": {}}, "manifest": {"inline": {"objects": [{"bucket": "b", "key": "k"}]}}})";
  EXPECT_EQ(Drover({"job", "create", "--from", path, "--description", "d"}).code, ExitCode::kOk);
  EXPECT_EQ(server_.jobs.created().job().manifest().inline_().objects_size(), 1);
  EXPECT_EQ(server_.jobs.created().job().description(), "d");
  std::remove(path.c_str());
}

TEST_F(CommandsTest, WatchInJsonIsAnObjectALine) {
  server_.jobs.AddStream({{{v1::ACTIVE, 1}, {v1::COMPLETE, 2}}, grpc::Status::OK});
  const Outcome outcome = Drover({"job", "watch", "j", "-o", "json"});
  EXPECT_EQ(outcome.code, ExitCode::kOk);
  const std::vector<std::string_view> lines = Split(outcome.out, '\n');
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(std::string(lines[0]), HasSubstr("\"state\":\"ACTIVE\""));
  EXPECT_THAT(std::string(lines[1]), HasSubstr("\"state\":\"COMPLETE\""));
  EXPECT_EQ(lines[2], "");
}

TEST_F(CommandsTest, WatchShowsProgressAndTheEnd) {
  server_.jobs.AddStream({{{v1::READY, 1}}, grpc::Status::OK});
  server_.jobs.AddStream({{{v1::ACTIVE, 2}, {v1::COMPLETE, 3}}, grpc::Status::OK});
  const Outcome outcome = Drover({"job", "watch", "j"});
  EXPECT_EQ(outcome.code, ExitCode::kOk);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("Ready "), HasSubstr("connection lost"), HasSubstr("Active ")));
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("is Complete"), Not(HasSubstr("Active"))));
}

TEST_F(CommandsTest, GlobalOptionsMayStandAnywhere) {
  EXPECT_THAT(Drover({"-o", "json", "job", "get", "j"}).out, HasSubstr("\"jobId\": \"j\""));
  EXPECT_THAT(Drover({"job", "get", "j", "-o", "json", "--timeout=5s"}).out, HasSubstr("\"jobId\": \"j\""));
}

TEST_F(CommandsTest, ChangeCarriesItsReason) {
  const Outcome outcome = Drover({"job", "cancel", "j", "--reason", "wrong bucket", "-o", "json"});
  EXPECT_EQ(outcome.code, ExitCode::kOk);
  EXPECT_THAT(outcome.out, HasSubstr("\"description\": \"wrong bucket\""));
  EXPECT_EQ(Drover({"job", "cancel", "j"}).out, "job j is Cancelling, priority 0\n");
}

TEST_F(CommandsTest, RefusedAndUnavailableHaveTheirOwnCodes) {
  server_.jobs.SetGetStatus(grpc::Status(grpc::StatusCode::NOT_FOUND, "no job has id j"));
  const Outcome refused = Drover({"job", "get", "j"});
  EXPECT_EQ(refused.code, ExitCode::kError);
  EXPECT_EQ(refused.err, "drover: NOT_FOUND: no job has id j\n");
  EXPECT_EQ(Drover({"job", "get", "j", "--server", "127.0.0.1:1"}).code, ExitCode::kUnavailable);
}

}  // namespace
}  // namespace drover::cli
