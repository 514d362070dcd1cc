#include "common/failpoint/failpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

class FailpointTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = absl::StrCat(testing::TempDir(), "/failpoints-", getpid());
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override {
    ASSERT_TRUE(failpoint::Configure("").ok());
    std::filesystem::remove_all(dir_);
  }
  std::string Read(const std::string& name) const {
    std::ifstream in(dir_ + "/" + name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  bool WaitForMarker(const std::string& name) const {
    for (int i = 0; i < 1000; ++i) {
      if (std::filesystem::exists(dir_ + "/" + name)) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }
  std::string dir_;
};

TEST_F(FailpointTest, DoesNothingUntilConfiguredAndForOtherNames) {
  EXPECT_EQ(failpoint::Hit("a"), failpoint::Action::kNone);
  failpoint::Scoped points("b=error");
  EXPECT_EQ(failpoint::Hit("a"), failpoint::Action::kNone);
  EXPECT_EQ(failpoint::Hit("b"), failpoint::Action::kError);
  EXPECT_EQ(failpoint::Hits("b"), 1);
}

TEST_F(FailpointTest, SkipAndCountBoundWhichHitsFail) {
  failpoint::Scoped points("a=2*skip(1)error;b=skip(2)error*1;c=3*error");
  std::string seen;
  for (int i = 0; i < 5; ++i) {
    for (const char* name : {"a", "b", "c"}) {
      seen += failpoint::Hit(name) == failpoint::Action::kError ? *name : '.';
    }
    seen += ' ';
  }
  EXPECT_EQ(seen, "..c a.c abc ... ... ");
  EXPECT_EQ(failpoint::Hits("a"), 5);
}

TEST_F(FailpointTest, ErrorCarriesItsCodeAndThePointsName) {
  failpoint::Scoped points("store.get=error(4);store.put=error");
  EXPECT_EQ(failpoint::HitStatus("store.get"), absl::DeadlineExceededError("failpoint store.get"));
  EXPECT_EQ(failpoint::HitStatus("store.put"), absl::UnavailableError("failpoint store.put"));
  EXPECT_TRUE(failpoint::HitStatus("store.head").ok());
}

TEST_F(FailpointTest, MarkerFileTellsEachActionTaken) {
  failpoint::Scoped points("a=skip(1)error*2", dir_);
  failpoint::Hit("a");
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/a"));
  for (int i = 0; i < 4; ++i) failpoint::Hit("a");
  EXPECT_EQ(Read("a"), absl::StrCat(getpid(), " 1 error\n", getpid(), " 2 error\n"));
}

TEST_F(FailpointTest, SleepDelaysTheCaller) {
  failpoint::Scoped points("a=sleep(50)*1");
  const absl::Time start = absl::Now();
  failpoint::Hit("a");
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(50));
}

TEST_F(FailpointTest, PauseWaitsForItsFile) {
  failpoint::Scoped points("a=pause", dir_);
  std::atomic<bool> passed{false};
  std::thread thread([&] {
    failpoint::Hit("a");
    passed = true;
  });
  ASSERT_TRUE(WaitForMarker("a"));
  EXPECT_FALSE(passed);
  std::ofstream(dir_ + "/a.go").close();
  thread.join();
  EXPECT_TRUE(passed);
}

TEST_F(FailpointTest, PauseEndsByResumeAndByReconfiguring) {
  for (const bool resume : {true, false}) {
    ASSERT_TRUE(failpoint::Configure("a=pause", dir_).ok());
    std::filesystem::remove(dir_ + "/a");
    std::thread thread([] { failpoint::Hit("a"); });
    ASSERT_TRUE(WaitForMarker("a"));
    if (resume) {
      failpoint::Resume("a");
    } else {
      ASSERT_TRUE(failpoint::Configure("").ok());
    }
    thread.join();
  }
}

TEST_F(FailpointTest, KillEndsTheProcessAfterItsMarker) {
  const pid_t child = fork();
  if (child == 0) {
    failpoint::Scoped points("a=skip(1)kill", dir_);
    failpoint::Hit("a");
    failpoint::Hit("a");
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(Read("a"), absl::StrCat(child, " 1 kill\n"));
}

TEST_F(FailpointTest, StopStopsTheProcessUntilContinued) {
  const pid_t child = fork();
  if (child == 0) {
    failpoint::Scoped points("a=stop", dir_);
    failpoint::Hit("a");
    _exit(7);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  kill(child, SIGCONT);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(FailpointTest, ReadsTheEnvironment) {
  setenv("DROVER_FAILPOINTS", " a = error ; b=off", 1);
  setenv("DROVER_FAILPOINT_DIR", dir_.c_str(), 1);
  bool configured = false;
  EXPECT_TRUE(failpoint::ConfigureFromEnvironment(&configured).ok());
  EXPECT_TRUE(configured);
  EXPECT_EQ(failpoint::Hit("a"), failpoint::Action::kError);
  EXPECT_EQ(failpoint::Hit("b"), failpoint::Action::kNone);
  EXPECT_EQ(Read("b"), absl::StrCat(getpid(), " 1 off\n"));
  unsetenv("DROVER_FAILPOINTS");
  unsetenv("DROVER_FAILPOINT_DIR");
  EXPECT_TRUE(failpoint::ConfigureFromEnvironment(&configured).ok());
  EXPECT_FALSE(configured);
}

TEST_F(FailpointTest, BadSpecIsRefusedAndChangesNothing) {
  failpoint::Scoped points("keep=error");
  for (const char* spec : {"a", "=kill", "A=kill", "a=explode", "a=sleep", "a=sleep(x)", "a=sleep(-1)",
                           "a=sleep(600001)", "a=skip(x)kill", "a=0*kill", "a=kill*0", "a=kill*x", "a=kill2",
                           "a=error(0)", "a=error(17)", "a=2*kill*2", "a=kill;a=stop", "a/b=kill"}) {
    EXPECT_EQ(failpoint::Configure(spec).code(), absl::StatusCode::kInvalidArgument) << spec;
  }
  EXPECT_EQ(failpoint::Hit("keep"), failpoint::Action::kError);
}

}  // namespace
}  // namespace drover
