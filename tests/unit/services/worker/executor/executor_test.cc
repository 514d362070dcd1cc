// The executor in virtual time, with operations that a test scripts.
#include "services/worker/executor/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <stdexcept>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "tests/unit/services/worker/testing.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// Records what is reported, and holds it to "each task exactly once".
class FakeReport final : public LeaseReport {
 public:
  bool MayStart() override { return may_start && may_request; }
  bool MayRequest() override {
    if (looks_left.has_value() && (*looks_left)-- == 0) may_request = false;
    return may_request;
  }
  void Succeeded(int64_t lease_id, uint32_t first, uint32_t end) override {
    ++calls;
    for (uint32_t index = first; index < end; ++index) Once(lease_id, index);
    succeeded[lease_id].AddRange(first, end);
  }
  void Finished(int64_t lease_id, Outcome outcome) override {
    ++calls;
    Once(lease_id, outcome.index);
    finished[lease_id].push_back(std::move(outcome));
  }
  void GaveBack(int64_t lease_id, const TaskSet& tasks) override {
    tasks.ForEach([&](uint32_t index) { Once(lease_id, index); });
    returned[lease_id].Union(tasks);
  }

  bool may_start = true;
  bool may_request = true;
  std::optional<int> looks_left;  // then MayRequest says no
  int64_t calls = 0;
  std::map<int64_t, TaskSet> succeeded;
  std::map<int64_t, std::vector<Outcome>> finished;
  std::map<int64_t, TaskSet> returned;

 private:
  void Once(int64_t lease_id, uint32_t index) {
    EXPECT_TRUE(seen_.insert({lease_id, index}).second)
        << "lease " << lease_id << " task " << index << " twice";
  }
  std::set<std::pair<int64_t, uint32_t>> seen_;
};

// What a test knows of a group that is being run.
struct Running {
  std::vector<std::string> keys;
  std::set<std::string> buckets;
  std::vector<uint32_t> indexes;
};

using Script = std::function<boost::asio::awaitable<void>(const TaskGroup&, OperationContext&, GroupResult&)>;

class ScriptedOperation final : public Operation {
 public:
  // `limits` may change while it runs.
  ScriptedOperation(const Limits& limits, Script script, std::vector<Running>* log)
      : limits_(limits), script_(std::move(script)), log_(log) {}
  Limits limits() const override { return limits_; }
  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    Running running;
    for (size_t i = 0; i < group.size(); ++i) {
      running.keys.emplace_back(group[i].key);
      running.buckets.emplace(group[i].bucket);
      running.indexes.push_back(group.index(i));
    }
    log_->push_back(std::move(running));
    if (script_) co_await script_(group, context, result);
  }

 private:
  const Limits& limits_;
  const Script script_;
  std::vector<Running>* const log_;
};

Attempt Transient(Transience transience = Transience::kTransient) {
  Attempt attempt = FailedAttempt("SlowDown", "please");
  attempt.outcome.http_status = 503;
  attempt.end = Attempt::End::kTransient;
  attempt.transience = transience;
  return attempt;
}

// A coroutine's own parameters live as long as it does; what a lambda captured, only as long as the lambda.
boost::asio::awaitable<void> Take(absl::Duration duration, const TaskGroup& group, OperationContext& context,
                                  GroupResult& result) {
  if (co_await context.Sleep(duration)) co_return;
  for (size_t i = 0; i < group.size(); ++i) result.Set(i, CancelledAttempt());
}

// Takes `duration`; cancelled if it is cancelled.
Script Taking(absl::Duration duration) {
  return [duration](const TaskGroup& group, OperationContext& context, GroupResult& result) {
    return Take(duration, group, context, result);
  };
}

class ExecutorTest : public ::testing::Test {
 protected:
  explicit ExecutorTest(int concurrency = 8) { Make(concurrency); }
  ~ExecutorTest() override {
    // As at the end of a process: what is suspended goes with the io_context, after the executor.
    executor_.reset();
  }

  void Make(int concurrency) {
    executor_ = std::make_unique<Executor>(
        io_, Executor::Options{.concurrency = concurrency, .version = "1"}, clock_, random_, timers_,
        [this](const v1::Operation& operation) -> absl::StatusOr<Executor::NamedOperation> {
          const std::string& name = operation.custom().name();
          if (name == "refused") return absl::InvalidArgumentError("refused");
          return Executor::NamedOperation{
              "custom", std::make_unique<ScriptedOperation>(limits_[name], scripts_[name], &ran_[name])};
        },
        nullptr);
    executor_->Connect(report_, [this] { ++changes_; });
  }

  // A job whose operation is scripts_[job].
  void Job(const std::string& job, int32_t priority = 0,
           std::function<void(v1::JobContext&)> edit = nullptr) {
    v1::JobContext context;
    context.set_job_id(job);
    context.set_priority(priority);
    context.mutable_operation()->mutable_custom()->set_name(job);
    if (edit) edit(context);
    ASSERT_TRUE(executor_->SetJob(context).ok());
  }
  void Lease(int64_t id, const std::string& job, uint32_t tasks, std::string payload = "",
             std::optional<TaskSet> only = std::nullopt) {
    LeaseWork work;
    work.lease_id = id;
    work.job_id = job;
    work.batch_no = id;
    work.batch_tasks = tasks;
    work.tasks = only.value_or(TaskSet::All(tasks));
    work.payload = payload.empty() ? MakePayload(tasks) : payload;
    executor_->Start(std::move(work));
  }
  // Runs what can run now.
  void Poll() {
    io_.restart();
    io_.poll();
  }
  void Advance(absl::Duration by, absl::Duration step = absl::Milliseconds(10)) {
    Poll();
    const absl::Duration end = clock_.Elapsed() + by;
    while (clock_.Elapsed() < end) {
      clock_.Advance(std::min(step, end - clock_.Elapsed()));
      timers_.RunDue(clock_.Elapsed());
      Poll();
    }
  }
  size_t Started(const std::string& job) { return ran_[job].size(); }

  ManualClock clock_;
  SeededRandom random_;
  Timers timers_;
  boost::asio::io_context io_{1};
  FakeReport report_;
  std::map<std::string, Operation::Limits> limits_;
  std::map<std::string, Script> scripts_;
  std::map<std::string, std::vector<Running>> ran_;
  std::unique_ptr<Executor> executor_;
  int changes_ = 0;
};

// --- what runs, and in what order

TEST_F(ExecutorTest, RunsEachTaskOfALeaseOnce) {
  Job("a");
  Lease(1, "a", 100);
  Poll();
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(100));
  EXPECT_EQ(Started("a"), 100u);
  EXPECT_EQ(executor_->unfinished(), 0);
}

TEST_F(ExecutorTest, RunsOnlyTheTasksOfTheLease) {
  Job("a");
  TaskSet only;
  only.AddRange(3, 5);
  only.Add(9);
  Lease(1, "a", 10, "", only);
  Poll();
  EXPECT_EQ(report_.succeeded[1], only);
  std::vector<std::string> keys;
  for (const Running& running : ran_["a"]) keys.insert(keys.end(), running.keys.begin(), running.keys.end());
  EXPECT_THAT(keys, UnorderedElementsAre("key-3", "key-4", "key-9"));
}

TEST_F(ExecutorTest, AGroupIsNoLargerThanTheOperationAllowsAndInOneBucket) {
  limits_["a"] = {.max_tasks = 10, .same_bucket = true};
  Job("a");
  Lease(1, "a", 100, MakePayload(100, {"b1", "b2"}, 25));
  Poll();
  for (const Running& running : ran_["a"]) {
    EXPECT_LE(running.keys.size(), 10u);
    EXPECT_THAT(running.buckets, SizeIs(1));
  }
  EXPECT_EQ(Started("a"), 12u);  // 10 + 10 + 5, four times
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(100));
}

TEST_F(ExecutorTest, AnOperationTakesSmallerGroupsOnceItHasLearntThatItMust) {
  limits_["a"] = {.max_tasks = 10, .same_bucket = true};
  scripts_["a"] = [this](const TaskGroup&, OperationContext&, GroupResult&) -> boost::asio::awaitable<void> {
    limits_["a"].max_tasks = 1;
    co_return;
  };
  Job("a");
  Lease(1, "a", 100);
  Poll();
  EXPECT_THAT(ran_["a"].front().keys, SizeIs(10));
  EXPECT_THAT(ran_["a"].back().keys, SizeIs(1));
  EXPECT_GT(Started("a"), 20u);
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(100));
}

TEST_F(ExecutorTest, AWholeBatchThatNeedsNoRequestIsOneGroupAndOneReport) {
  limits_["a"] = {.max_tasks = kMaxBatchTasks, .same_bucket = false};
  Job("a");
  Lease(1, "a", 4096, MakePayload(4096, {"b1", "b2"}, 1));
  Poll();
  EXPECT_EQ(Started("a"), 1u);
  EXPECT_EQ(report_.calls, 1);
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(4096));
}

TEST_F(ExecutorTest, KeepsToItsConcurrencyLessTheReserve) {
  scripts_["a"] = Taking(absl::Seconds(1));
  Job("a");
  Lease(1, "a", 100);
  Poll();
  EXPECT_EQ(executor_->in_flight(), 7u);  // 8, one of them kept for urgent work
  Advance(absl::Seconds(1));
  EXPECT_EQ(executor_->in_flight(), 7u);
  EXPECT_EQ(Started("a"), 14u);
}

TEST_F(ExecutorTest, OneSlotIsUsedWhole) {
  Make(1);
  scripts_["a"] = Taking(absl::Seconds(1));
  Job("a");
  Lease(1, "a", 3);
  Poll();
  EXPECT_EQ(executor_->in_flight(), 1u);
}

TEST_F(ExecutorTest, TheNextTaskIsAlwaysOneOfTheHighestPriority) {
  scripts_["low"] = Taking(absl::Seconds(1));
  scripts_["high"] = Taking(absl::Seconds(1));
  Job("low", 1);
  Lease(1, "low", 100);
  Poll();
  Job("high", 9);
  Lease(2, "high", 10);
  Advance(absl::Milliseconds(1100));
  EXPECT_EQ(Started("high"), 8u);  // one on the slot that is kept, seven as slots came free
  EXPECT_EQ(Started("low"), 7u);
}

TEST_F(ExecutorTest, ALongTaskDelaysHigherWorkByNoMoreThanASlot) {
  scripts_["low"] = Taking(absl::Hours(1));
  scripts_["high"] = Taking(absl::Milliseconds(10));
  Job("low", 1);
  Lease(1, "low", 100);
  Advance(absl::Seconds(1));
  Job("high", 2);
  Lease(2, "high", 20);
  Poll();
  EXPECT_EQ(Started("high"), 1u);  // at once
  Advance(absl::Milliseconds(250));
  EXPECT_EQ(report_.succeeded[2], TaskSet::All(20));
}

TEST_F(ExecutorTest, EqualJobsTakeTurns) {
  Make(1);
  scripts_["a"] = scripts_["b"] = Taking(absl::Milliseconds(10));
  Job("a", 3);
  Job("b", 3);
  Lease(1, "a", 50);
  Lease(2, "b", 50);
  Advance(absl::Milliseconds(200));
  EXPECT_NEAR(static_cast<double>(Started("a")), static_cast<double>(Started("b")), 1);
}

TEST_F(ExecutorTest, LeasesOfAJobRunInTheOrderInWhichTheyWereGranted) {
  Make(1);
  scripts_["a"] = Taking(absl::Milliseconds(10));
  Job("a");
  Lease(5, "a", 3);
  Lease(2, "a", 3);
  Advance(absl::Milliseconds(25));
  EXPECT_EQ(report_.succeeded[5].count(), 2u);
  EXPECT_EQ(report_.succeeded[2].count(), 0u);
}

TEST_F(ExecutorTest, APriorityThatChangesCountsFromTheNextTask) {
  Make(1);
  scripts_["a"] = scripts_["b"] = Taking(absl::Milliseconds(10));
  Job("a", 5);
  Job("b", 1);
  Lease(1, "a", 50);
  Lease(2, "b", 50);
  Advance(absl::Milliseconds(50));
  EXPECT_EQ(Started("b"), 0u);
  Job("b", 7);
  const size_t before = Started("a");
  Advance(absl::Milliseconds(100));
  EXPECT_LE(Started("a"), before + 1);
  EXPECT_GE(Started("b"), 9u);
}

TEST_F(ExecutorTest, NothingStartsWhileTheReportSaysNo) {
  report_.may_start = false;
  Job("a");
  Lease(1, "a", 5);
  Advance(absl::Seconds(1));
  EXPECT_EQ(Started("a"), 0u);
  report_.may_start = true;
  executor_->Wake();
  Poll();
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(5));
}

TEST_F(ExecutorTest, AnOperationThatNeverWaitsLetsOthersHaveTheThread) {
  Job("a");
  for (int64_t id = 1; id <= 10; ++id) Lease(id, "a", 1000);
  io_.restart();
  const size_t handlers = io_.poll_one();  // one turn
  EXPECT_EQ(handlers, 1u);
  io_.poll_one();
  EXPECT_LT(Started("a"), 10'000u);
  Poll();
  EXPECT_EQ(Started("a"), 10'000u);
}

// --- giving way

TEST_F(ExecutorTest, AJobThatIsOutrankedForTwoSecondsGivesBackWhatIsUnstarted) {
  Make(2);
  scripts_["low"] = scripts_["high"] = Taking(absl::Milliseconds(100));
  Job("low", 1);
  Lease(1, "low", 50);
  Advance(absl::Milliseconds(50));
  Job("high", 2);
  Lease(2, "high", 1000);
  Advance(absl::Milliseconds(1900));
  EXPECT_THAT(report_.returned, IsEmpty());
  Advance(absl::Milliseconds(600));
  TaskSet rest = TaskSet::All(50);
  rest.Subtract(report_.succeeded[1]);
  EXPECT_EQ(report_.returned[1], rest);
  EXPECT_GE(report_.succeeded[1].count(), 1u);  // what was in flight has ended as it would
  EXPECT_EQ(report_.returned.count(2), 0u);
}

TEST_F(ExecutorTest, AJobThatStillProgressesKeepsWhatItHas) {
  scripts_["low"] = Taking(absl::Milliseconds(100));
  scripts_["high"] = Taking(absl::Milliseconds(100));
  Job("low", 1);
  Lease(1, "low", 4000, MakePayload(4000));
  // The higher job may run two at a time: the lower one goes on beside it.
  Job("high", 2, [](v1::JobContext& context) { context.mutable_rate_policy()->set_max_in_flight(2); });
  Lease(2, "high", 1000);
  Advance(absl::Seconds(10));
  EXPECT_THAT(report_.returned, IsEmpty());
  EXPECT_GT(report_.succeeded[1].count(), 100u);
}

TEST_F(ExecutorTest, AFencedWorkerGivesNothingBackForItsOwnStandstill) {
  Make(2);
  scripts_["low"] = scripts_["high"] = Taking(absl::Milliseconds(100));
  Job("low", 1);
  Job("high", 2);
  Lease(1, "low", 50);
  Lease(2, "high", 50);
  Advance(absl::Milliseconds(50));
  report_.may_request = false;
  Advance(absl::Seconds(10));
  EXPECT_THAT(report_.returned, IsEmpty());
}

// --- retries

TEST_F(ExecutorTest, ATransientFailureIsTriedAgainAndItsAttemptsAreCounted) {
  int calls = 0;
  scripts_["a"] = [&](const TaskGroup&, OperationContext&,
                      GroupResult& result) -> boost::asio::awaitable<void> {
    if (++calls < 3) result.Set(0, Transient());
    co_return;
  };
  Job("a");
  Lease(1, "a", 1);
  Advance(absl::Seconds(5));
  ASSERT_THAT(report_.finished[1], SizeIs(1));
  EXPECT_TRUE(report_.finished[1][0].succeeded);
  EXPECT_EQ(report_.finished[1][0].attempts, 3u);
  EXPECT_EQ(report_.finished[1][0].http_status, 200);
}

TEST_F(ExecutorTest, AfterItsLastAttemptTheLastAnswerIsReported) {
  scripts_["a"] = [](const TaskGroup&, OperationContext&,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    result.Set(0, Transient());
    co_return;
  };
  Job("a", 0, [](v1::JobContext& context) { context.mutable_retry_policy()->set_max_attempts(4); });
  Lease(1, "a", 1);
  Advance(absl::Minutes(2), absl::Milliseconds(100));
  ASSERT_THAT(report_.finished[1], SizeIs(1));
  EXPECT_EQ(report_.finished[1][0].code, "SlowDown");
  EXPECT_EQ(report_.finished[1][0].attempts, 4u);
  EXPECT_EQ(Started("a"), 4u);
}

TEST_F(ExecutorTest, APermanentFailureIsNotTriedAgain) {
  scripts_["a"] = [](const TaskGroup&, OperationContext&,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    result.Set(0, FailedAttempt("NoSuchKey", "gone"));
    co_return;
  };
  Job("a");
  Lease(1, "a", 3);
  Advance(absl::Minutes(1), absl::Seconds(1));
  EXPECT_THAT(report_.finished[1], SizeIs(3));
  EXPECT_EQ(Started("a"), 3u);
}

TEST_F(ExecutorTest, AnUnavailableStoreIsTriedUntilTheTimeoutWhateverTheAttempts) {
  scripts_["a"] = [](const TaskGroup&, OperationContext&,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    result.Set(0, Transient(Transience::kUnavailable));
    co_return;
  };
  Job("a", 0, [](v1::JobContext& context) {
    context.mutable_retry_policy()->mutable_unavailable_timeout()->set_seconds(30);
  });
  Lease(1, "a", 1);
  Advance(absl::Milliseconds(29'900));
  EXPECT_THAT(report_.finished[1], IsEmpty());
  EXPECT_GT(Started("a"), 5u);
  Advance(absl::Milliseconds(300));
  ASSERT_THAT(report_.finished[1], SizeIs(1));
  EXPECT_GT(report_.finished[1][0].attempts, 5u);
}

TEST_F(ExecutorTest, WaitingForAnotherTryHoldsNoSlot) {
  Make(1);
  scripts_["a"] = [](const TaskGroup&, OperationContext&,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    Attempt attempt = Transient(Transience::kUnavailable);
    attempt.retry_after = absl::Seconds(10);
    result.Set(0, std::move(attempt));
    co_return;
  };
  Job("a");
  Lease(1, "a", 50);
  Poll();
  EXPECT_EQ(Started("a"), 50u);  // all have been tried once
  EXPECT_EQ(executor_->in_flight(), 0u);
  Advance(absl::Milliseconds(9'900), absl::Milliseconds(100));
  EXPECT_EQ(Started("a"), 50u);
  Advance(absl::Milliseconds(200));
  EXPECT_EQ(Started("a"), 100u);
}

TEST_F(ExecutorTest, OnlyTheTransientMembersOfAGroupAreTriedAgain) {
  limits_["a"] = {.max_tasks = 10, .same_bucket = true};
  bool first = true;
  scripts_["a"] = [&](const TaskGroup&, OperationContext&,
                      GroupResult& result) -> boost::asio::awaitable<void> {
    if (std::exchange(first, false)) {
      result.Set(2, Transient());
      result.Set(5, FailedAttempt("NoSuchKey", "gone"));
      result.Set(7, Transient());
    }
    co_return;
  };
  Job("a");
  Lease(1, "a", 10);
  Advance(absl::Seconds(5));
  std::vector<uint32_t> again;
  for (size_t i = 1; i < ran_["a"].size(); ++i) {
    again.insert(again.end(), ran_["a"][i].indexes.begin(), ran_["a"][i].indexes.end());
  }
  EXPECT_THAT(again, UnorderedElementsAre(2, 7));
  EXPECT_EQ(report_.succeeded[1].count(), 7u);
  EXPECT_THAT(report_.finished[1],
              UnorderedElementsAre(AllOf(Field(&Outcome::index, 2u), Field(&Outcome::attempts, 2u)),
                                   AllOf(Field(&Outcome::index, 5u), Field(&Outcome::code, "NoSuchKey")),
                                   AllOf(Field(&Outcome::index, 7u), Field(&Outcome::succeeded, true))));
}

TEST_F(ExecutorTest, AnOperationThatThrowsFailsItsTasks) {
  scripts_["a"] = [](const TaskGroup&, OperationContext&, GroupResult&) -> boost::asio::awaitable<void> {
    throw std::runtime_error("oops");
    co_return;
  };
  Job("a");
  Lease(1, "a", 2);
  Poll();
  EXPECT_THAT(report_.finished[1], AllOf(SizeIs(2), Each(Field(&Outcome::code, "InternalError"))));
}

// --- the fence

TEST_F(ExecutorTest, AbortedByTheFenceTasksCountAsUnstartedAndRunAgainWhenItLifts) {
  scripts_["a"] = Taking(absl::Seconds(1));
  Job("a");
  Lease(1, "a", 3);
  Advance(absl::Milliseconds(500));
  EXPECT_EQ(executor_->in_flight(), 3u);
  report_.may_request = false;
  executor_->AbortInFlight();
  Advance(absl::Seconds(5));
  EXPECT_EQ(executor_->in_flight(), 0u);
  EXPECT_EQ(executor_->unfinished(), 3);
  EXPECT_THAT(report_.finished, IsEmpty());
  report_.may_request = true;
  executor_->Wake();
  Advance(absl::Seconds(2));
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(3));  // one attempt each: the aborted one does not count
}

TEST_F(ExecutorTest, ARequestThatTheFenceForbidsIsNotMadeAndTheTaskWaits) {
  const auto http = *HttpClient::Create(io_, clock_, {});
  S3Client store(StoreConfig(), *http, clock_);
  int asked = 0;
  scripts_["a"] = [&](const TaskGroup&, OperationContext& context,
                      GroupResult& result) -> boost::asio::awaitable<void> {
    ++asked;
    report_.may_request = false;  // it falls between the start of the task and its request
    const absl::StatusOr<S3Response> answer = co_await context.Send(store, S3Request());
    if (std::optional<Attempt> attempt = AttemptOf(answer, absl::Now())) result.Set(0, *std::move(attempt));
  };
  Job("a");
  Lease(1, "a", 1);
  Advance(absl::Seconds(1));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(http->counters().requests, 0u);
  EXPECT_EQ(executor_->unfinished(), 1);
  EXPECT_EQ(report_.calls, 0);
}

TEST_F(ExecutorTest, ARequestIsNotWrittenIfTheFenceFallsWhileItWaitsForItsConnection) {
  const auto http = *HttpClient::Create(io_, clock_, {});
  boost::asio::ip::tcp::acceptor server(io_, {boost::asio::ip::address_v4::loopback(), 0});
  StoreConfig config;
  config.origin.host = "127.0.0.1";
  config.origin.port = server.local_endpoint().port();
  config.path_style = true;
  S3Client store(config, *http, clock_);
  bool cancelled = false;
  scripts_["a"] = [&](const TaskGroup&, OperationContext& context,
                      GroupResult& result) -> boost::asio::awaitable<void> {
    S3Request request;
    request.method = "GET";
    request.bucket = "bucket";
    const absl::StatusOr<S3Response> answer = co_await context.Send(store, std::move(request));
    cancelled = absl::IsCancelled(answer.status());
    if (std::optional<Attempt> attempt = AttemptOf(answer, absl::Now())) result.Set(0, *std::move(attempt));
  };
  Job("a");
  Lease(1, "a", 1);
  // The look before the request passes; the one at its write, when it has a connection, does not.
  report_.looks_left = 1;
  for (int i = 0; i < 1000 && !cancelled; ++i) io_.run_one_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(cancelled);
  EXPECT_EQ(report_.calls, 0) << "the task waits, as if it had not been started";
}

// --- leases that end early

TEST_F(ExecutorTest, ALostLeaseStopsAndReportsNothingMore) {
  scripts_["a"] = Taking(absl::Seconds(1));
  Job("a");
  Lease(1, "a", 100);
  Lease(2, "a", 2);
  Poll();
  executor_->Drop(1);
  Advance(absl::Seconds(3));
  EXPECT_EQ(report_.succeeded.count(1), 0u);
  EXPECT_EQ(report_.finished.count(1), 0u);
  EXPECT_EQ(report_.returned.count(1), 0u);
  EXPECT_EQ(report_.succeeded[2], TaskSet::All(2));
  EXPECT_EQ(executor_->unfinished(), 0);
}

TEST_F(ExecutorTest, ALostLeaseWhoseTasksWaitForARetryIsForgotten) {
  scripts_["a"] = [](const TaskGroup&, OperationContext&,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    result.Set(0, Transient());
    co_return;
  };
  Job("a");
  Lease(1, "a", 20);
  Poll();
  executor_->Drop(1);
  EXPECT_EQ(timers_.size(), 0u);
  Advance(absl::Seconds(5));
  EXPECT_EQ(Started("a"), 20u);
  EXPECT_EQ(report_.calls, 0);
}

TEST_F(ExecutorTest, RevokedToFinishWhatIsUnstartedComesBackAtOnceAndTheRestEnds) {
  scripts_["a"] = Taking(absl::Seconds(1));
  Job("a");
  Lease(1, "a", 100);
  Poll();
  executor_->Revoke(1, false, absl::Seconds(30));
  EXPECT_EQ(report_.returned[1].count(), 93u);
  Advance(absl::Seconds(2));
  EXPECT_EQ(report_.succeeded[1].count(), 7u);
  EXPECT_EQ(Started("a"), 7u);
  executor_->Revoke(1, false, absl::ZeroDuration());  // again, after its end
}

TEST_F(ExecutorTest, RevokedToAbortTasksInFlightGetTheirGraceAndAreThenReportedAsInterrupted) {
  int number = 0;
  scripts_["a"] = [&](const TaskGroup& group, OperationContext& context, GroupResult& result) {
    return Taking(absl::Seconds(10 * ++number))(group, context, result);
  };
  Job("a");
  Lease(1, "a", 20);
  Poll();
  executor_->Revoke(1, true, absl::Seconds(30));
  EXPECT_EQ(report_.returned[1].count(), 13u);
  Advance(absl::Milliseconds(29'900), absl::Milliseconds(100));
  EXPECT_EQ(report_.succeeded[1].count(), 2u);
  EXPECT_THAT(report_.finished[1], IsEmpty());
  Advance(absl::Milliseconds(200), absl::Milliseconds(100));
  EXPECT_EQ(report_.succeeded[1].count() + report_.finished[1].size(), 7u);
  EXPECT_THAT(report_.finished[1],
              AllOf(SizeIs(testing::Ge(4u)),
                    Each(AllOf(Field(&Outcome::code, "Interrupted"), Field(&Outcome::succeeded, false)))));
}

TEST_F(ExecutorTest, RevokedTasksThatWaitForARetryGoBackOrAreReportedWithTheirLastAnswer) {
  scripts_["a"] = [](const TaskGroup&, OperationContext&,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    result.Set(0, Transient());
    co_return;
  };
  Job("a");
  Lease(1, "a", 2);
  Lease(2, "a", 2);
  Poll();
  executor_->Revoke(1, false, absl::ZeroDuration());
  EXPECT_EQ(report_.returned[1], TaskSet::All(2));
  executor_->Revoke(2, true, absl::Seconds(30));
  EXPECT_THAT(report_.finished[2],
              AllOf(SizeIs(2), Each(AllOf(Field(&Outcome::code, "Interrupted"),
                                          Field(&Outcome::message, HasSubstr("SlowDown"))))));
  Advance(absl::Seconds(60), absl::Milliseconds(500));
  EXPECT_EQ(Started("a"), 4u);
}

TEST_F(ExecutorTest, ATransientFailureAfterARevokeIsNotTriedAgain) {
  scripts_["a"] = [](const TaskGroup&, OperationContext& context,
                     GroupResult& result) -> boost::asio::awaitable<void> {
    co_await context.Sleep(absl::Seconds(1));
    result.Set(0, Transient());
  };
  Job("a");
  Lease(1, "a", 1);
  Poll();
  executor_->Revoke(1, false, absl::ZeroDuration());
  Advance(absl::Seconds(10));
  EXPECT_EQ(report_.returned[1], TaskSet::All(1));
  EXPECT_EQ(Started("a"), 1u);
}

TEST_F(ExecutorTest, ADrainGivesBackWhatIsUnstartedAndWhatIsGrantedLater) {
  scripts_["a"] = Taking(absl::Seconds(1));
  Job("a");
  Lease(1, "a", 100);
  Poll();
  executor_->StartDrain();
  EXPECT_EQ(report_.returned[1].count(), 93u);
  Lease(2, "a", 10);
  EXPECT_EQ(report_.returned[2], TaskSet::All(10));
  Advance(absl::Seconds(2));
  EXPECT_EQ(report_.succeeded[1].count(), 7u);
  EXPECT_EQ(executor_->unfinished(), 0);
}

TEST_F(ExecutorTest, TheEndOfADrainAbortsWhatIsInFlightAndGivesItBack) {
  scripts_["a"] = Taking(absl::Hours(1));
  Job("a");
  Lease(1, "a", 5);
  Poll();
  executor_->StartDrain();
  executor_->AbortDrain();
  Poll();
  EXPECT_EQ(report_.returned[1], TaskSet::All(5));
  EXPECT_EQ(executor_->unfinished(), 0);
}

// --- payloads

TEST_F(ExecutorTest, AnUnreadableBatchIsGivenBackOnceAndThenFailedAsSuch) {
  Job("a");
  Lease(1, "a", 10, "garbage");
  Poll();
  EXPECT_EQ(report_.returned[1], TaskSet::All(10));
  LeaseWork work;
  work.lease_id = 2;
  work.job_id = "a";
  work.batch_no = 1;
  work.batch_tasks = 10;
  work.tasks = TaskSet::All(10);
  work.payload = "garbage";
  executor_->Start(std::move(work));
  Lease(3, "a", 4);
  Poll();
  EXPECT_THAT(report_.finished[2], AllOf(SizeIs(10), Each(Field(&Outcome::code, "PayloadInvalid"))));
  EXPECT_EQ(report_.succeeded[3], TaskSet::All(4));  // others go on
  EXPECT_EQ(executor_->unfinished(), 0);
}

TEST_F(ExecutorTest, ABatchOfAnotherSizeThanTheGrantSaysIsUnreadable) {
  Job("a");
  Lease(1, "a", 10, MakePayload(9));
  Poll();
  EXPECT_EQ(report_.returned[1], TaskSet::All(10));
}

TEST_F(ExecutorTest, AJobThatCannotBeMadeIsRefused) {
  v1::JobContext context;
  context.set_job_id("x");
  context.mutable_operation()->mutable_custom()->set_name("refused");
  EXPECT_TRUE(absl::IsInvalidArgument(executor_->SetJob(context)));
}

// --- rates and appetite

TEST_F(ExecutorTest, ARateLimitIsKept) {
  scripts_["a"] = Taking(absl::Milliseconds(1));
  Job("a", 0, [](v1::JobContext& context) { context.mutable_rate_policy()->set_max_tasks_per_second(50); });
  Lease(1, "a", 1000);
  Advance(absl::Seconds(4));
  EXPECT_GE(Started("a"), 195u);
  EXPECT_LE(Started("a"), 206u);
}

TEST_F(ExecutorTest, AJobThatWaitsForItsLimitLetsLowerOnesRun) {
  scripts_["high"] = scripts_["low"] = Taking(absl::Milliseconds(10));
  Job("high", 9, [](v1::JobContext& context) { context.mutable_rate_policy()->set_max_tasks_per_second(1); });
  Job("low", 1);
  Lease(1, "high", 100);
  Lease(2, "low", 50);
  Advance(absl::Milliseconds(200));
  EXPECT_EQ(report_.succeeded[2], TaskSet::All(50));
  EXPECT_EQ(Started("high"), 1u);
}

TEST_F(ExecutorTest, AJobsRequestsInFlightAreBounded) {
  scripts_["a"] = Taking(absl::Milliseconds(100));
  Job("a", 0, [](v1::JobContext& context) { context.mutable_rate_policy()->set_max_in_flight(3); });
  Lease(1, "a", 30);
  Poll();
  EXPECT_EQ(executor_->in_flight(), 3u);
  Advance(absl::Seconds(2));
  EXPECT_EQ(report_.succeeded[1], TaskSet::All(30));
}

TEST_F(ExecutorTest, AnIdleWorkerAsksForAFewRounds) {
  const Appetite appetite = executor_->appetite();
  EXPECT_EQ(appetite.credit, 32);
  EXPECT_EQ(appetite.urgent_credit, 0);
}

TEST_F(ExecutorTest, ABusyWorkerAsksForUrgentWorkAboveItsHighest) {
  scripts_["a"] = scripts_["b"] = Taking(absl::Seconds(1));
  Job("a", 5);
  Job("b", 7);
  Lease(1, "a", 100);
  Poll();
  EXPECT_EQ(executor_->appetite().credit, 0);
  EXPECT_EQ(executor_->appetite().urgent_credit, 8);
  EXPECT_EQ(executor_->appetite().urgent_above, 5);
  Lease(2, "b", 100);
  EXPECT_EQ(executor_->appetite().urgent_above, 7);
}

TEST_F(ExecutorTest, LowerWorkThatIsHeldDoesNotLetTheHighestRunDry) {
  scripts_["low"] = scripts_["high"] = scripts_["mid"] = Taking(absl::Seconds(1));
  Job("low", 1);
  Job("mid", 4);
  Job("high", 7);
  Lease(1, "low", 30);
  Poll();
  Lease(2, "high", 10);
  Poll();
  // It aims at 32 tasks, and holds 10 of the highest: 22 more, of whatever is above the low ones, in round
  // numbers.
  EXPECT_EQ(executor_->appetite().credit, 0);
  EXPECT_EQ(executor_->appetite().urgent_above, 1);
  EXPECT_EQ(executor_->appetite().urgent_credit, 16);
  Lease(3, "high", 15);
  EXPECT_EQ(executor_->appetite().urgent_above, 7);
  EXPECT_EQ(executor_->appetite().urgent_credit, 8);
}

TEST_F(ExecutorTest, WhatIsHeldOfManyLevelsIsBounded) {
  scripts_["low"] = scripts_["mid"] = scripts_["high"] = Taking(absl::Seconds(1));
  Job("low", 1);
  Job("mid", 4);
  Job("high", 7);
  Lease(1, "low", 32);
  Lease(2, "mid", 28);
  Lease(3, "high", 4);
  // Twice its aim is held: more comes only of what is higher than all of it.
  EXPECT_EQ(executor_->appetite().urgent_above, 7);
  EXPECT_EQ(executor_->appetite().urgent_credit, 8);
}

TEST_F(ExecutorTest, AWorkerThatEatsFastAsksForMuchAfterItsFirstMeal) {
  limits_["a"] = {.max_tasks = kMaxBatchTasks, .same_bucket = false};
  scripts_["a"] = [this](const TaskGroup&, OperationContext&, GroupResult&) -> boost::asio::awaitable<void> {
    clock_.Advance(absl::Microseconds(200));
    co_return;
  };
  Job("a");
  Lease(1, "a", 256);
  Poll();
  EXPECT_EQ(executor_->appetite().credit, kMaxBacklog);
}

TEST_F(ExecutorTest, AWorkerWithASlowStoreHoldsTwoSecondsOfWork) {
  scripts_["a"] = Taking(absl::Milliseconds(20));  // 7 at a time: 350/s
  Job("a");
  for (int64_t id = 1; id <= 4; ++id) Lease(id, "a", 1000);
  Advance(absl::Seconds(5));
  EXPECT_NEAR(static_cast<double>(executor_->appetite().target), 700, 140);
}

TEST_F(ExecutorTest, AWorkerThatWasFastGivesBackWhatItCannotEat) {
  limits_["fast"] = {.max_tasks = kMaxBatchTasks, .same_bucket = false};
  scripts_["fast"] = [this](const TaskGroup&, OperationContext&,
                            GroupResult&) -> boost::asio::awaitable<void> {
    clock_.Advance(absl::Microseconds(200));
    co_return;
  };
  scripts_["slow"] = Taking(absl::Milliseconds(500));  // 7 at a time: 14/s
  Job("fast");
  Lease(1, "fast", 256);
  Poll();
  Job("slow");
  for (int64_t id = 10; id < 60; ++id) Lease(id, "slow", 100);
  Poll();
  Advance(absl::Milliseconds(900), absl::Milliseconds(50));
  EXPECT_TRUE(report_.returned.empty());
  Advance(absl::Seconds(6), absl::Milliseconds(50));
  // The first ones are kept, up to twice what it aims at now; the last ones went back, whole.
  EXPECT_FALSE(report_.returned.contains(10));
  ASSERT_TRUE(report_.returned.contains(59));
  EXPECT_EQ(report_.returned[59], TaskSet::All(100));
  EXPECT_LT(report_.returned.size(), 50u);
  EXPECT_GT(report_.returned.size(), 40u);
  EXPECT_EQ(executor_->appetite().credit, 0);
}

TEST_F(ExecutorTest, AWorkerThatMayStartNothingGivesNothingBack) {
  limits_["fast"] = {.max_tasks = kMaxBatchTasks, .same_bucket = false};
  scripts_["fast"] = [this](const TaskGroup&, OperationContext&,
                            GroupResult&) -> boost::asio::awaitable<void> {
    clock_.Advance(absl::Microseconds(200));
    co_return;
  };
  Job("fast");
  Lease(1, "fast", 256);
  Poll();
  report_.may_start = false;
  for (int64_t id = 10; id < 60; ++id) Lease(id, "fast", 100);
  Advance(absl::Seconds(20), absl::Milliseconds(50));
  EXPECT_TRUE(report_.returned.empty());
}

TEST_F(ExecutorTest, AStoreThatStopsAnsweringShrinksTheAppetite) {
  scripts_["a"] = Taking(absl::Milliseconds(20));
  Job("a");
  Lease(1, "a", 700);
  Advance(absl::Milliseconds(1500));
  const int64_t before = executor_->appetite().target;
  scripts_["b"] = Taking(absl::Seconds(30));
  Job("b", 9);
  Lease(2, "b", 1000);
  Advance(absl::Minutes(2), absl::Milliseconds(100));
  EXPECT_LT(executor_->appetite().target, before / 4);
  EXPECT_GE(executor_->appetite().target, 16);
}

}  // namespace
}  // namespace drover
