#include "services/controller/api/job_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/api/signal.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using lifecycle::State;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Keeps what it is shown. Thread-safe.
class Sink final : public JobSink {
 public:
  void Show(const v1::Job& job, bool last) override {
    MutexLock lock(&mu_);
    succeeded_.push_back(job.progress().succeeded_tasks());
    state_ = job.state();
    waiting_for_ = job.waiting_for();
    last_ = last;
  }
  void End(const absl::Status& status) override {
    MutexLock lock(&mu_);
    ended_ = status;
  }
  // The succeeded tasks of each state shown: tests count states by them.
  std::vector<int64_t> shown() {
    MutexLock lock(&mu_);
    return succeeded_;
  }
  v1::JobState state() {
    MutexLock lock(&mu_);
    return state_;
  }
  std::string waiting_for() {
    MutexLock lock(&mu_);
    return waiting_for_;
  }
  bool last() {
    MutexLock lock(&mu_);
    return last_;
  }
  absl::Status ended() {
    MutexLock lock(&mu_);
    return ended_;
  }

 private:
  Mutex mu_;
  std::vector<int64_t> succeeded_ ABSL_GUARDED_BY(mu_);
  v1::JobState state_ ABSL_GUARDED_BY(mu_) = v1::JOB_STATE_UNSPECIFIED;
  std::string waiting_for_ ABSL_GUARDED_BY(mu_);
  bool last_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status ended_ ABSL_GUARDED_BY(mu_);
};

// Virtual time: the loop's thread is not started.
class JobWatcherTest : public ::testing::Test {
 protected:
  void SetJob(int64_t succeeded, State state = State::kActive, int64_t version = 1) {
    JobRecord record = GoodRecord(job_, state);
    record.snapshot.tasks = 1000;
    record.snapshot.succeeded = succeeded;
    record.version = version;
    record.active = clock_.Elapsed();
    storage_.Put(record);
  }
  JobWatcher::WatchId Watch(std::shared_ptr<Sink> sink) {
    const absl::StatusOr<JobWatcher::WatchId> id = watcher_.Add(job_, std::move(sink));
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or(0);
  }
  void LookAfter(absl::Duration time) {
    clock_.Advance(time);
    watcher_.Look();
  }

  const JobId job_ = TestJobId(1);
  FakeStorage storage_;
  FakeClock clock_;
  AttachedWorkers workers_{storage_, clock_};
  JobWatcher watcher_{storage_, workers_, clock_, {.max_watches = 3}};
  const std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
};

constexpr absl::Duration kInterval = absl::Milliseconds(200);

TEST_F(JobWatcherTest, ShowsTheStateAtOnceAndEachChangeAfterwards) {
  SetJob(1);
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  EXPECT_THAT(sink_->shown(), ElementsAre(1));
  watcher_.Written(id);
  LookAfter(kInterval);  // nothing changed
  EXPECT_THAT(sink_->shown(), ElementsAre(1));
  SetJob(2);
  LookAfter(kInterval);
  EXPECT_THAT(sink_->shown(), ElementsAre(1, 2));
}

TEST_F(JobWatcherTest, ReadsWholeJobsOnlyWhenTheirPulseChanged) {
  SetJob(1, State::kPreparing);
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  watcher_.Written(id);
  for (int i = 0; i < 10; ++i) LookAfter(kInterval);
  EXPECT_EQ(storage_.calls("GetJob"), 1);
  EXPECT_EQ(storage_.calls("ReadPulses"), 11);
}

TEST_F(JobWatcherTest, ShowsThatAWorkerIsMissingThoughThePulseDoesNotChange) {
  JobRecord record = GoodRecord(job_, State::kActive);
  record.snapshot.tasks = 1000;
  record.owns_lease = true;
  storage_.Put(record);
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  watcher_.Written(id);
  record.owns_lease = false;  // the last worker was lost
  storage_.PutQuietly(record);
  for (int i = 0; i < 15; ++i) LookAfter(kInterval);
  EXPECT_EQ(sink_->shown().size(), 2u);
  EXPECT_EQ(sink_->waiting_for(), "a worker: none is attached");
}

TEST_F(JobWatcherTest, ReadsEachJobOnceForAllWhoWatchIt) {
  SetJob(1);
  const auto other = std::make_shared<Sink>();
  Watch(sink_);
  Watch(other);
  LookAfter(absl::ZeroDuration());
  EXPECT_THAT(sink_->shown(), ElementsAre(1));
  EXPECT_THAT(other->shown(), ElementsAre(1));
  EXPECT_EQ(storage_.calls("GetJob"), 1);
}

TEST_F(JobWatcherTest, ShowsAtMostFiveStatesASecondHoweverOftenItIsWoken) {
  SetJob(0);
  const auto id = Watch(sink_);
  for (int i = 0; i < 1000; ++i) {
    SetJob(i + 1);
    watcher_.NotifyChanged(job_);
    LookAfter(absl::Milliseconds(1));
    watcher_.Written(id);
  }
  EXPECT_GE(sink_->shown().size(), 4u);
  EXPECT_LE(sink_->shown().size(), 6u);  // five, and the first
}

TEST_F(JobWatcherTest, ASlowReaderSkipsStatesButGetsTheLastOne) {
  SetJob(1);
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  for (int i = 2; i < 10; ++i) {  // it does not read
    SetJob(i);
    LookAfter(kInterval);
  }
  SetJob(1000, State::kComplete, 2);
  LookAfter(kInterval);
  EXPECT_THAT(sink_->shown(), ElementsAre(1));
  watcher_.Written(id);
  LookAfter(kInterval);
  EXPECT_THAT(sink_->shown(), ElementsAre(1, 1000));
  EXPECT_TRUE(sink_->last());
}

TEST_F(JobWatcherTest, EndsAfterTheTerminalState) {
  for (const State state : {State::kComplete, State::kFailed, State::kCancelled}) {
    SetJob(5, state);
    const auto sink = std::make_shared<Sink>();
    const auto id = Watch(sink);
    LookAfter(kInterval);
    EXPECT_THAT(sink->shown(), ElementsAre(5));
    EXPECT_EQ(sink->state(), static_cast<v1::JobState>(state));
    EXPECT_TRUE(sink->last());
    watcher_.Written(id);
    SetJob(6, state);
    LookAfter(kInterval);
    EXPECT_THAT(sink->shown(), ElementsAre(5));
    EXPECT_TRUE(sink->ended().ok());
  }
}

TEST_F(JobWatcherTest, AJobThatIsNotThereEndsTheWatchWithNotFound) {
  Watch(sink_);
  LookAfter(absl::ZeroDuration());
  EXPECT_THAT(sink_->shown(), IsEmpty());
  EXPECT_EQ(sink_->ended().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(sink_->ended()), "JOB_NOT_FOUND");
}

TEST_F(JobWatcherTest, AJobThatIsPurgedWhileWatchedEndsTheWatch) {
  SetJob(1);
  Watch(sink_);
  LookAfter(absl::ZeroDuration());
  storage_.Drop(job_);
  LookAfter(kInterval);
  EXPECT_EQ(sink_->ended().code(), absl::StatusCode::kNotFound);
}

TEST_F(JobWatcherTest, AnOutageOfTheDatabaseEndsNoWatchAndIsNotHammered) {
  SetJob(1);
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  watcher_.Written(id);
  storage_.Fail(absl::UnavailableError("down"));
  const int before = storage_.all_calls();
  absl::Duration outage;
  while (outage < absl::Seconds(60)) {  // as the loop's thread would: it waits as long as Look() says
    clock_.Advance(kInterval);
    outage += kInterval;
    const absl::Duration wait = watcher_.Look();
    clock_.Advance(wait);
    outage += wait;
  }
  EXPECT_LE(storage_.all_calls() - before, 40);
  EXPECT_TRUE(sink_->ended().ok());
  storage_.Fail(absl::OkStatus());
  SetJob(2);
  LookAfter(absl::Seconds(2));
  EXPECT_THAT(sink_->shown(), ElementsAre(1, 2));
}

TEST_F(JobWatcherTest, AnOutageBetweenPulseAndJobLosesNoChange) {
  SetJob(1);
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  watcher_.Written(id);
  SetJob(2);
  storage_.on_call = [&](const std::string& method) {
    if (method == "GetJob") storage_.Fail(absl::UnavailableError("down"));
  };
  LookAfter(kInterval);
  EXPECT_THAT(sink_->shown(), ElementsAre(1));
  storage_.on_call = nullptr;
  storage_.Fail(absl::OkStatus());
  LookAfter(absl::Seconds(2));
  EXPECT_THAT(sink_->shown(), ElementsAre(1, 2));
}

TEST_F(JobWatcherTest, AStateThatWasReadAheadOfItsPulseIsShownOnce) {
  SetJob(1);
  // The job changes between the look at its pulse and the reading of it.
  storage_.on_call = [&](const std::string& method) {
    if (method == "GetJob") SetJob(2);
  };
  const auto id = Watch(sink_);
  LookAfter(absl::ZeroDuration());
  storage_.on_call = nullptr;
  watcher_.Written(id);
  LookAfter(kInterval);
  LookAfter(kInterval);
  EXPECT_THAT(sink_->shown(), ElementsAre(2));
}

TEST_F(JobWatcherTest, NotificationsOfJobsThatNobodyWatchesCostNothing) {
  watcher_.Look();
  for (int i = 0; i < 100; ++i) watcher_.NotifyChanged(TestJobId(i));
  const int before = storage_.all_calls();
  watcher_.Look();
  EXPECT_EQ(storage_.all_calls(), before);
}

TEST_F(JobWatcherTest, RefusesWatchesBeyondItsLimitAndTakesThemWhenOthersEnd) {
  const auto first = Watch(std::make_shared<Sink>());
  Watch(std::make_shared<Sink>());
  Watch(std::make_shared<Sink>());
  const absl::Status refused = watcher_.Add(job_, sink_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "TOO_MANY_WATCHES");
  watcher_.Remove(first);
  EXPECT_TRUE(watcher_.Add(job_, sink_).ok());
}

TEST_F(JobWatcherTest, AWatchThatWasRemovedIsShownNothing) {
  SetJob(1);
  watcher_.Remove(Watch(sink_));
  LookAfter(absl::ZeroDuration());
  EXPECT_THAT(sink_->shown(), IsEmpty());
}

TEST_F(JobWatcherTest, ShutdownEndsAllWatchesAndRefusesNewOnes) {
  SetJob(1);
  Watch(sink_);
  watcher_.Shutdown();
  EXPECT_EQ(sink_->ended().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(sink_->ended()), "CONTROLLER_SHUTDOWN");
  EXPECT_EQ(ReasonOf(watcher_.Add(job_, sink_).status()), "CONTROLLER_SHUTDOWN");
}

TEST(JobWatcherThread, ANotifiedChangeIsShownLongBeforeTheNextLook) {
  FakeStorage storage;
  JobRecord record = GoodRecord(TestJobId(1), State::kActive);
  storage.Put(record);
  // An interval that would let the test time out, but for the rate limit: states a watcher is due for are its
  // own.
  AttachedWorkers workers(storage, SystemClock());
  JobWatcher watcher(storage, workers, SystemClock(),
                     {.interval = absl::Milliseconds(50), .notified_gap = absl::Milliseconds(1)});
  watcher.Start();
  const auto sink = std::make_shared<Sink>();
  const auto id = watcher.Add(TestJobId(1), sink);
  ASSERT_TRUE(id.ok());
  ASSERT_TRUE(Eventually([&] { return sink->shown().size() == 1; }));
  watcher.Written(*id);
  record.snapshot.succeeded = 9;
  record.snapshot.state = State::kComplete;
  storage.Put(record);
  watcher.NotifyChanged(TestJobId(1));
  ASSERT_TRUE(Eventually([&] { return sink->last(); }));
  watcher.Shutdown();
}

}  // namespace
}  // namespace drover
