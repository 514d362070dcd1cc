#include "cli/outcomes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cli/client.h"
#include "cli/commands.h"
#include "common/strings/strings.h"
#include "tests/unit/cli/fake_server.h"

namespace drover::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::RecordedOutcome Failed() {
  v1::RecordedOutcome outcome;
  outcome.mutable_task()->set_position(1234);
  outcome.mutable_task()->set_bucket("photos");
  outcome.mutable_task()->set_key("a b,\n\x1b[31m");
  outcome.set_error_code("NoSuchKey");
  outcome.set_http_status(404);
  outcome.set_message("The key\ris gone.");
  outcome.set_attempts(2);
  return outcome;
}

TEST(OutcomeLine, HasTheColumnsOfItsHeaderAndNoControlCharacter) {
  const std::string header = OutcomeHeader();
  const std::string line = OutcomeLine(Failed());
  EXPECT_EQ(header.find("RESULT"), line.find("failed"));
  EXPECT_EQ(header.find("CODE"), line.find("NoSuchKey"));
  EXPECT_EQ(header.find("OBJECT"), line.find("photos/"));
  EXPECT_THAT(line, HasSubstr("1234"));
  EXPECT_EQ(std::count_if(line.begin(), line.end(), [](char c) { return c > 0 && c < 0x20; }), 1) << line;

  v1::RecordedOutcome succeeded;
  succeeded.set_succeeded(true);
  succeeded.mutable_task()->set_bucket("b");
  succeeded.mutable_task()->set_key("k");
  succeeded.mutable_task()->set_version_id("v1");
  EXPECT_THAT(OutcomeLine(succeeded), HasSubstr("succeeded"));
  EXPECT_TRUE(EndsWith(OutcomeLine(succeeded), "b/k version v1\n"));
}

TEST(ManifestLine, CanBeReadAsAManifest) {
  EXPECT_EQ(ManifestLine(Failed().task()), "photos,a%20b%2C%0A%1B%5B31m\n");
  v1::ManifestTask task;
  task.set_bucket("b");
  task.set_key("k");
  task.set_version_id("v1");
  EXPECT_EQ(ManifestLine(task), "b,k,v1\n");
}

TEST(SummaryTable, ShowsSharesAndExamplesBeneathEachOther) {
  v1::FailureSummary summary;
  v1::FailureGroup& first = *summary.add_groups();
  first.set_error_code("NoSuchKey");
  first.set_http_status(404);
  first.set_failed_tasks(3000);
  for (const char* key : {"a", "b"}) {
    first.add_examples()->set_bucket("photos");
    first.mutable_examples(first.examples_size() - 1)->set_key(key);
  }
  v1::FailureGroup& others = *summary.add_groups();
  others.set_error_code("(other)");
  others.set_others(true);
  others.set_failed_tasks(1000);
  EXPECT_EQ(SummaryTable(summary),
            "FAILED  SHARE  HTTP  CODE       EXAMPLES\n"
            " 3,000  75.0%   404  NoSuchKey  photos/a\n"
            "                                photos/b\n"
            " 1,000  25.0%        (other)    -\n");
}

class OutcomesCommandTest : public testing::Test {
 protected:
  OutcomesCommandTest() { setenv("DROVER_SERVER", server_.address.c_str(), 1); }
  ~OutcomesCommandTest() override { unsetenv("DROVER_SERVER"); }

  ExitCode Drover(std::vector<std::string> words) {
    std::vector<const char*> argv = {"drover"};
    for (const std::string& word : words) argv.push_back(word.c_str());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitCode code = cli::Run(static_cast<int>(argv.size()), argv.data(), "1.2.3");
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return code;
  }
  size_t Lines() const { return static_cast<size_t>(std::count(out_.begin(), out_.end(), '\n')); }

  FakeServer server_;
  std::string out_;
  std::string err_;
};

TEST_F(OutcomesCommandTest, FollowsPagesPastEmptyOnesUpToTheLimit) {
  server_.jobs.SetOutcomes(10);
  EXPECT_EQ(Drover({"job", "outcomes", "j", "--limit", "0"}), ExitCode::kOk);
  EXPECT_EQ(Lines(), 11u) << "a header, once, and ten outcomes";
  EXPECT_THAT(err_, HasSubstr("earlier batches may still gain outcomes"));
  EXPECT_EQ(Drover({"job", "outcomes", "j", "--limit", "4"}), ExitCode::kOk);
  EXPECT_EQ(Lines(), 5u);
  EXPECT_THAT(err_, HasSubstr("more than 4"));
  EXPECT_EQ(Drover({"job", "outcomes", "j", "--limit", "10"}), ExitCode::kOk);
  EXPECT_EQ(Lines(), 11u);
  EXPECT_THAT(err_, Not(HasSubstr("more than")));
  EXPECT_EQ(Drover({"job", "outcomes", "j", "-o", "json"}), ExitCode::kOk);
  EXPECT_EQ(Lines(), 10u) << "a line for each";
  EXPECT_THAT(out_, HasSubstr("\"position\":\"9\""));
}

TEST_F(OutcomesCommandTest, SendsItsFilters) {
  EXPECT_EQ(Drover({"job", "outcomes", "j", "--all", "--code", "NoSuchKey", "--prefix", "2024/"}),
            ExitCode::kOk);
  EXPECT_EQ(Drover({"job", "outcomes", "j", "--failed", "--code", ""}), ExitCode::kOk);
  EXPECT_EQ(Drover({"job", "outcomes", "j"}), ExitCode::kOk);
  const std::vector<v1::ListTaskOutcomesRequest> requests = server_.jobs.outcome_requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].job_id(), "j");
  EXPECT_TRUE(requests[0].include_succeeded());
  EXPECT_EQ(requests[0].error_code(), "NoSuchKey");
  EXPECT_EQ(requests[0].key_prefix(), "2024/");
  EXPECT_FALSE(requests[1].include_succeeded());
  EXPECT_TRUE(requests[1].has_error_code());
  EXPECT_FALSE(requests[2].has_error_code());
  EXPECT_EQ(Drover({"job", "outcomes", "j", "--all", "--failed"}), ExitCode::kUsage);
}

}  // namespace
}  // namespace drover::cli
