#include "cli/commands.h"

#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
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

// A file of the test's own, gone at its end.
class TempFile {
 public:
  TempFile(const std::string& name, const std::string& text)
      : path_(StrCat(testing::TempDir(), "/", getpid(), "-", name)) {
    std::ofstream(path_) << text;
  }
  ~TempFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

constexpr char kTwoJobs[] =
    "description: first\n"
    "operation: {no_op: {}}\n"
    "manifest: {redrive: {job_id: j}}\n"
    "---\n"
    "description: second\n"
    "operation:\n"
    "  no_op: {}\n"
    "manifest: {redrive: {job_id: j}}\n";

TEST_F(CommandsTest, CreateChecksAllJobsOfAFileBeforeItMakesTheFirst) {
  const TempFile file("two.yaml", kTwoJobs);
  const Outcome outcome =
      Drover({"job", "create", "-f", file.path(), "--request-id", "night", "--priority", "3"});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  const auto requests = server_.jobs.create_requests();
  ASSERT_EQ(requests.size(), 4u);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].validate_only(), i < 2);
    EXPECT_EQ(requests[i].request_id(), i % 2 == 0 ? "night-1" : "night-2");
    EXPECT_EQ(requests[i].job().description(), i % 2 == 0 ? "first" : "second");
    EXPECT_EQ(requests[i].job().priority(), 3);
  }
}

TEST_F(CommandsTest, ARefusedJobOfAFileLeavesNothingHalfDone) {
  const TempFile file("two.yaml", kTwoJobs);
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("job.operation.store");
  bad.mutable_field_violations(0)->set_description("no store is named \"mian\"");
  google::rpc::Status status;
  status.set_code(3);
  status.add_details()->PackFrom(bad);
  server_.jobs.RefuseJob("second", grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "job.operation.store: no",
                                                status.SerializeAsString()));
  const Outcome outcome = Drover({"job", "create", "-f", file.path()});
  EXPECT_EQ(outcome.code, ExitCode::kError);
  EXPECT_EQ(outcome.out, "");
  // The nearest thing to a store that is not there is the operation, in line 7.
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr(StrCat("the job of ", file.path(), ":5: INVALID_ARGUMENT")),
                    HasSubstr(StrCat(file.path(), ":7:3: job.operation.store: no store is named"))));
  for (const auto& request : server_.jobs.create_requests()) EXPECT_TRUE(request.validate_only());
}

TEST_F(CommandsTest, AWrongFileSendsNothing) {
  const TempFile file("bad.yaml", "operatoin: {}\n---\npriority: high\n");
  const Outcome outcome = Drover({"job", "create", "-f", file.path()});
  EXPECT_EQ(outcome.code, ExitCode::kUsage);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(StrCat(file.path(), ":1:1: there is no field \"operatoin\"")),
                                 HasSubstr(StrCat(file.path(), ":3:11: priority: must be a whole number"))));
  EXPECT_EQ(server_.jobs.calls(), 0);
}

TEST_F(CommandsTest, ValidateOnlyOfAFileCreatesNothing) {
  const TempFile file("two.yaml", kTwoJobs);
  const Outcome outcome = Drover({"job", "create", "-f", file.path(), "--validate-only", "-o", "yaml"});
  EXPECT_EQ(outcome.code, ExitCode::kOk);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("---\n"), HasSubstr("description: first\n"),
                                 HasSubstr("description: second\n")));
  EXPECT_EQ(server_.jobs.create_requests().size(), 2u);
  for (const auto& request : server_.jobs.create_requests()) EXPECT_TRUE(request.validate_only());
}

TEST_F(CommandsTest, WaitingForSeveralJobsEndsWithTheWorstOfTheirCodes) {
  const TempFile file("two.yaml", kTwoJobs);
  server_.jobs.AddStream({{{v1::CANCELLED, 1}}, grpc::Status::OK});
  server_.jobs.AddStream({{{v1::COMPLETE, 1}}, grpc::Status::OK});
  EXPECT_EQ(Drover({"job", "create", "-f", file.path(), "--wait"}).code, ExitCode::kFailedOrCancelled);
}

TEST_F(CommandsTest, YamlIsAnOutputOfEveryCommandThatHasJson) {
  server_.jobs.SetJobs(2);
  EXPECT_THAT(Drover({"job", "get", "j", "-o", "yaml"}).out, HasSubstr("job_id: j\n"));
  EXPECT_THAT(Drover({"job", "list", "-o", "yaml"}).out, HasSubstr("jobs:\n  - job_id: \"0\"\n"));
  EXPECT_THAT(Drover({"job", "cancel", "j", "-o", "yaml"}).out, HasSubstr("state: CANCELLING\n"));
  server_.jobs.AddStream({{{v1::ACTIVE, 1}, {v1::COMPLETE, 2}}, grpc::Status::OK});
  const std::string watched = Drover({"job", "watch", "j", "-o", "yaml"}).out;
  EXPECT_THAT(watched,
              AllOf(HasSubstr("---\n"), HasSubstr("state: ACTIVE\n"), HasSubstr("state: COMPLETE\n")));
}

TEST_F(CommandsTest, ExportIsAJobFile) {
  const std::string out = Drover({"job", "export", "j"}).out;
  EXPECT_THAT(out, AllOf(HasSubstr("# From job j."), Not(HasSubstr("job_id:"))));
}

TEST_F(CommandsTest, CompletionKnowsCommandsOptionsValuesAndJobs) {
  server_.jobs.SetJobs(2);
  const auto complete = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"complete-words", "--"});
    return Drover(words).out;
  };
  EXPECT_EQ(complete({"job", "exp"}), "export\tPrint a job as a file for job create -f\n");
  EXPECT_THAT(complete({"job", "create", "--val"}), HasSubstr("--validate-only\t"));
  EXPECT_EQ(complete({"job", "get", "-o", "y"}), "yaml\n");
  EXPECT_EQ(complete({"job", "create", "--file", ""}), ":files\n");
  EXPECT_EQ(complete({"job", "list", "--status=Active,Comp"}),
            "--status=Active,Completing\n--status=Active,Complete\n");
  EXPECT_EQ(complete({"--server", server_.address, "job", "get", ""}), "0\tState0\n1\tState0\n");
  EXPECT_EQ(complete({"--server", "127.0.0.1:1", "job", "get", ""}), "");
  EXPECT_EQ(complete({}), "");
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
