#include "services/controller/duties/duty_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/sync/mutex.h"
#include "tests/unit/services/controller/duties/duty_storage.h"

namespace drover {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

// Waits until `condition` holds; false if it does not within the deadline.
bool Eventually(const std::function<bool()>& condition) {
  const absl::Time end = absl::Now() + kDeadline;
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

// Does what it is told, and notes for whom.
class ScriptedHandler : public DutyHandler {
 public:
  using Script = std::function<DutyOutcome(DutyContext&)>;
  explicit ScriptedHandler(Script script) : script_(std::move(script)) {}

  DutyOutcome Run(DutyContext& context) override {
    {
      MutexLock lock(&mu_);
      jobs_.push_back(context.duty().job_id);
    }
    return script_(context);
  }
  std::vector<JobId> jobs() {
    MutexLock lock(&mu_);
    return jobs_;
  }
  size_t runs() { return jobs().size(); }

 private:
  const Script script_;
  Mutex mu_;
  std::vector<JobId> jobs_ ABSL_GUARDED_BY(mu_);
};

class DutyRunnerTest : public ::testing::Test {
 protected:
  DutyRunnerTest() : storage_(SystemClock()) {}

  static DutyRunnerOptions Options() {
    DutyRunnerOptions options;
    options.owner = "me";
    options.poll = absl::Milliseconds(5);
    options.lease = absl::Seconds(1);
    return options;
  }
  std::unique_ptr<DutyRunner> Make(DutyRunnerOptions options, DutyHandler* prepare,
                                   DutyHandler* finish = nullptr, DutyHandler* file = nullptr) {
    auto runner = std::make_unique<DutyRunner>(std::move(options), storage_, SystemClock(), random_);
    if (prepare != nullptr) runner->Register(DutyKind::kPrepare, prepare);
    if (finish != nullptr) runner->Register(DutyKind::kFinish, finish);
    if (file != nullptr) runner->Register(DutyKind::kReportFile, file);
    return runner;
  }

  FakeRandom random_;
  DutyStorage storage_;
};

TEST_F(DutyRunnerTest, RunsEachDutyOnceAndRemovesWhatIsDone) {
  ScriptedHandler prepare([](DutyContext&) { return DutyOutcome::Done(); });
  for (int i = 0; i < 50; ++i) storage_.AddDuty(absl::StrCat("job-", i), DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  const std::vector<JobId> jobs = prepare.jobs();
  EXPECT_EQ(jobs.size(), 50u);
  EXPECT_EQ(std::set<JobId>(jobs.begin(), jobs.end()).size(), 50u);
}

TEST_F(DutyRunnerTest, LeavesKindsWithoutHandlerToOthers) {
  ScriptedHandler prepare([](DutyContext&) { return DutyOutcome::Done(); });
  storage_.AddDuty("job", DutyKind::kReportFile, 7);
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return prepare.runs() == 1 && storage_.duties() == 1; }));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  EXPECT_EQ(storage_.StateOf("job", DutyKind::kReportFile, 7).owner, "");
}

TEST_F(DutyRunnerTest, PutsAFailingDutyOffAndCountsItsTries) {
  std::atomic<int> runs = 0;
  ScriptedHandler prepare([&](DutyContext& context) {
    EXPECT_EQ(context.duty().tries, runs.load());
    return ++runs < 3 ? DutyOutcome::Failed(absl::UnavailableError("store away")) : DutyOutcome::Done();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  const absl::Time start = absl::Now();
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
  EXPECT_EQ(runs, 3);
  // 100 to 200 ms after the first, 200 to 400 after the second.
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(300));
}

TEST_F(DutyRunnerTest, AnExceptionOfAHandlerIsAPassingErrorAndNotTheEnd) {
  std::atomic<int> runs = 0;
  ScriptedHandler prepare([&](DutyContext&) -> DutyOutcome {
    if (++runs == 1) throw std::runtime_error("bad luck");
    return DutyOutcome::Done();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
  EXPECT_EQ(runs, 2);
}

TEST_F(DutyRunnerTest, WakeFindsADutyBeforeTheNextPoll) {
  ScriptedHandler prepare([](DutyContext&) { return DutyOutcome::Done(); });
  DutyRunnerOptions options = Options();
  options.poll = absl::Hours(1);
  const auto runner = Make(options, &prepare);
  std::atomic<int> looks = 0;
  storage_.fault = [&](const std::string& method) {
    if (method == "AcquireDuties") ++looks;
    return absl::OkStatus();
  };
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return looks >= 1; }));
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  runner->Wake();
  EXPECT_TRUE(Eventually([&] { return prepare.runs() == 1; }));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
}

TEST_F(DutyRunnerTest, TakesADutyUpAgainWhenItIsDueAndNotOnlyAtTheNextPoll) {
  std::atomic<int> runs = 0;
  ScriptedHandler prepare([&](DutyContext&) {
    return ++runs < 3 ? DutyOutcome::Again(absl::Milliseconds(50)) : DutyOutcome::Done();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  DutyRunnerOptions options = Options();
  options.poll = absl::Hours(1);
  const auto runner = Make(options, &prepare);
  const absl::Time start = absl::Now();
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(100));
  EXPECT_EQ(runs, 3);
}

TEST_F(DutyRunnerTest, KeepsADutyThatTakesLongerThanItsLease) {
  std::atomic<bool> lost = false;
  ScriptedHandler prepare([&](DutyContext& context) {
    const absl::Time end = absl::Now() + absl::Milliseconds(2500);
    while (absl::Now() < end && !context.lost()) absl::SleepFor(absl::Milliseconds(5));
    lost = context.lost();
    return DutyOutcome::Done();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
  EXPECT_FALSE(lost);
  EXPECT_EQ(prepare.runs(), 1u);
}

TEST_F(DutyRunnerTest, ADutyThatCouldNotBeRenewedInTimeIsLost) {
  storage_.fault = [](const std::string& method) {
    return method == "RenewDuties" ? absl::UnavailableError("database away") : absl::OkStatus();
  };
  std::atomic<bool> lost = false;
  absl::Duration after;
  ScriptedHandler prepare([&](DutyContext& context) {
    const absl::Time start = absl::Now();
    while (absl::Now() < start + kDeadline && !context.lost()) absl::SleepFor(absl::Milliseconds(5));
    after = absl::Now() - start;
    lost = context.lost();
    return DutyOutcome::Ended();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  DutyRunnerOptions options = Options();
  options.poll = absl::Hours(1);  // so that it is not taken up a second time
  const auto runner = Make(options, &prepare);
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return lost.load(); }));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  EXPECT_LE(after, absl::Seconds(5));
}

TEST_F(DutyRunnerTest, ADutyTakenOverByAnotherControllerIsLostAtTheNextRenewal) {
  std::atomic<bool> running = false;
  std::atomic<bool> lost = false;
  ScriptedHandler prepare([&](DutyContext& context) {
    running = true;
    while (!context.ShouldStop()) absl::SleepFor(absl::Milliseconds(5));
    lost = context.lost();
    return DutyOutcome::Done();  // refused: it is not ours any more
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  DutyRunnerOptions options = Options();
  options.lease = absl::Seconds(3);
  const auto runner = Make(options, &prepare);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return running.load(); }));
  storage_.Expire({"job", DutyKind::kPrepare, 0, 1, 0, ""});
  const Duty taken = storage_.Take("job", DutyKind::kPrepare, 0, "other");
  EXPECT_TRUE(Eventually([&] { return lost.load(); }));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  EXPECT_EQ(storage_.StateOf("job", DutyKind::kPrepare).owner, "other");
  EXPECT_TRUE(storage_.FinishDuty(taken).ok());
}

TEST_F(DutyRunnerTest, AHandlerThatDoesNotNoticeItsLossDoesNotKeepOthersFromTheDuty) {
  std::atomic<bool> renewals_fail = true;
  storage_.fault = [&](const std::string& method) {
    return method == "RenewDuties" && renewals_fail ? absl::UnavailableError("database away")
                                                    : absl::OkStatus();
  };
  std::atomic<bool> let_go = false;
  std::atomic<bool> lost = false;
  ScriptedHandler prepare([&](DutyContext& context) {
    while (!let_go) {
      absl::SleepFor(absl::Milliseconds(1));
      lost = context.lost();
    }
    return DutyOutcome::Ended();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  DutyRunnerOptions options = Options();
  options.poll = absl::Hours(1);
  const auto runner = Make(options, &prepare);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return lost.load(); }));
  renewals_fail = false;
  // Another controller gets it, though renewals work again.
  std::vector<Duty> taken;
  ASSERT_TRUE(Eventually([&] {
    taken = *storage_.AcquireDuties("other", {DutyKind::kPrepare}, 1, absl::Hours(1));
    return !taken.empty();
  }));
  let_go = true;
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  EXPECT_TRUE(storage_.FinishDuty(taken.front()).ok());
}

TEST(DutyContext, OnceLostStaysLostThoughALateRenewalCame) {
  FakeClock clock;
  DutyContext context(Duty{}, clock, absl::Seconds(10));
  clock.Advance(absl::Seconds(9));
  EXPECT_FALSE(context.lost());
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(context.lost());
  context.Prolong(absl::Hours(1));
  EXPECT_TRUE(context.lost());
}

TEST_F(DutyRunnerTest, LivesThroughADatabaseThatIsAway) {
  std::atomic<bool> away = true;
  std::atomic<int> calls = 0;
  storage_.fault = [&](const std::string&) {
    ++calls;
    return away ? absl::UnavailableError("database away") : absl::OkStatus();
  };
  ScriptedHandler prepare([](DutyContext&) { return DutyOutcome::Done(); });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return calls >= 4; }));
  EXPECT_EQ(prepare.runs(), 0u);
  away = false;
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
}

TEST_F(DutyRunnerTest, ADutyWhoseReleaseFailedIsTakenUpAgainWhenItsLeaseIsOver) {
  std::atomic<int> releases = 0;
  storage_.fault = [&](const std::string& method) {
    if (method == "FinishDuty" && ++releases == 1) return absl::UnavailableError("database away");
    return absl::OkStatus();
  };
  ScriptedHandler prepare([](DutyContext&) { return DutyOutcome::Done(); });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
  EXPECT_EQ(prepare.runs(), 2u);
}

TEST_F(DutyRunnerTest, LongPreparationsDoNotKeepReportsWaiting) {
  std::atomic<bool> go_on = false;
  ScriptedHandler prepare([&](DutyContext& context) {
    while (!go_on && !context.stopping()) absl::SleepFor(absl::Milliseconds(1));
    return DutyOutcome::Done();
  });
  ScriptedHandler finish([](DutyContext&) { return DutyOutcome::Done(); });
  ScriptedHandler file([](DutyContext&) { return DutyOutcome::Done(); });
  for (int i = 0; i < 20; ++i) storage_.AddDuty(absl::StrCat("big-", i), DutyKind::kPrepare, 0);
  DutyRunnerOptions options = Options();
  options.limits = {.threads = 4, .prepare = 10, .finish = 10, .report_file = 10};
  const auto runner = Make(options, &prepare, &finish, &file);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return prepare.runs() >= 2; }));
  for (int i = 0; i < 10; ++i) {
    storage_.AddDuty("other", DutyKind::kReportFile, i);
    storage_.AddDuty(absl::StrCat("job-", i), DutyKind::kFinish, 0);
  }
  EXPECT_TRUE(Eventually([&] { return finish.runs() == 10 && file.runs() == 10; }));
  EXPECT_EQ(prepare.runs(), 2u);
  go_on = true;
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
}

TEST_F(DutyRunnerTest, ShutdownHandsDutiesBackAtOnce) {
  std::atomic<bool> running = false;
  ScriptedHandler prepare([&](DutyContext& context) {
    running = true;
    while (!context.ShouldStop()) absl::SleepFor(absl::Milliseconds(1));
    // What a store that is shut down says is no try of the job's.
    return DutyOutcome::Failed(absl::CancelledError("store closed"));
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return running.load(); }));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  const auto state = storage_.StateOf("job", DutyKind::kPrepare);
  EXPECT_EQ(state.owner, "");
  EXPECT_EQ(state.tries, 0);
  EXPECT_LE(state.due, SystemClock().Elapsed());
}

TEST_F(DutyRunnerTest, ShutdownInterruptsHandlersThatHangInAStore) {
  std::atomic<bool> running = false;
  std::atomic<bool> interrupted = false;
  ScriptedHandler prepare([&](DutyContext&) {
    running = true;
    while (!interrupted) absl::SleepFor(absl::Milliseconds(1));
    return DutyOutcome::Failed(absl::CancelledError("store closed"));
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  DutyRunnerOptions options = Options();
  options.interrupt = [&] { interrupted = true; };
  const auto runner = Make(options, &prepare);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return running.load(); }));
  EXPECT_TRUE(runner->Shutdown(absl::Seconds(1)));
  EXPECT_EQ(storage_.StateOf("job", DutyKind::kPrepare).owner, "");
}

TEST_F(DutyRunnerTest, ShutdownIsBoundedWhateverAHandlerDoes) {
  struct Stuck {
    std::atomic<bool> running = false;
    std::atomic<bool> let_go = false;
    std::atomic<bool> over = false;
  };
  const auto stuck = std::make_shared<Stuck>();
  ScriptedHandler prepare([stuck](DutyContext&) {
    stuck->running = true;
    while (!stuck->let_go) absl::SleepFor(absl::Milliseconds(1));
    stuck->over = true;
    return DutyOutcome::Done();
  });
  storage_.AddDuty("job", DutyKind::kPrepare, 0);
  auto runner = Make(Options(), &prepare);
  runner->Start();
  ASSERT_TRUE(Eventually([&] { return stuck->running.load(); }));
  const absl::Time start = absl::Now();
  EXPECT_FALSE(runner->Shutdown(absl::Milliseconds(200)));
  EXPECT_LE(absl::Now() - start, absl::Seconds(10));
  runner.reset();
  EXPECT_LE(absl::Now() - start, absl::Seconds(10));
  // The process would end here; the test lets the thread finish, since it uses what the test owns.
  stuck->let_go = true;
  EXPECT_TRUE(Eventually([&] { return storage_.duties() == 0; }));
}

TEST_F(DutyRunnerTest, ShutdownWithoutStartOrTwiceIsNothing) {
  ScriptedHandler prepare([](DutyContext&) { return DutyOutcome::Done(); });
  const auto idle = Make(Options(), &prepare);
  EXPECT_TRUE(idle->Shutdown(kDeadline));
  const auto runner = Make(Options(), &prepare);
  runner->Start();
  EXPECT_TRUE(runner->Shutdown(kDeadline));
  EXPECT_TRUE(runner->Shutdown(kDeadline));
}

}  // namespace
}  // namespace drover
