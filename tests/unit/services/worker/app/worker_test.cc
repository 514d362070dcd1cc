// Whole workers on real time and a real gRPC stream, against scripted controllers.
#include "services/worker/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "absl/time/clock.h"
#include "tests/unit/services/worker/app/fake_controller.h"
#include "tests/unit/services/worker/testing.h"

namespace drover {
namespace {

class RunningWorker {
 public:
  explicit RunningWorker(std::vector<std::string> controllers,
                         absl::Duration drain_timeout = absl::Seconds(30), const Stores& stores = Stores()) {
    WorkerConfig config;
    config.controllers = std::move(controllers);
    config.drain_timeout = drain_timeout;
    auto worker = Worker::Create(config, "test", stores, nullptr, SystemClock(), SystemRandom());
    EXPECT_TRUE(worker.ok()) << worker.status();
    worker_ = *std::move(worker);
    thread_ = std::thread([this] { worker_->Run(); });
  }
  ~RunningWorker() {
    if (thread_.joinable()) DrainAndWait();
  }
  // Of the thread that does everything.
  double CpuSeconds() {
    clockid_t clock;
    timespec time{};
    if (pthread_getcpuclockid(thread_.native_handle(), &clock) == 0) clock_gettime(clock, &time);
    return absl::ToDoubleSeconds(absl::DurationFromTimespec(time));
  }
  // How long it took to end.
  absl::Duration DrainAndWait() {
    const absl::Time start = absl::Now();
    worker_->Drain();
    thread_.join();
    return absl::Now() - start;
  }

 private:
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
};

int64_t Tasks(const v1::Segment& segment) {
  int64_t tasks = segment.outcomes_size();
  for (const v1::TaskRange& range : segment.succeeded()) tasks += range.end() - range.first();
  return tasks;
}

int64_t Returned(const v1::Segment& segment) {
  int64_t tasks = 0;
  for (const v1::TaskRange& range : segment.returned()) tasks += range.end() - range.first();
  return tasks;
}

// Welcomes, acknowledges everything, and grants batches of one no-op job as long as there is credit.
class NoOpJob {
 public:
  NoOpJob(int batches, int tasks, absl::Duration duration = absl::ZeroDuration())
      : batches_(batches), tasks_(tasks), payload_(MakePayload(static_cast<size_t>(tasks))) {
    v1::Operation& no_op = operation_;
    no_op.mutable_no_op()->mutable_duration()->set_seconds(absl::ToInt64Seconds(duration));
    no_op.mutable_no_op()->mutable_duration()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(duration % absl::Seconds(1))));
  }

  void operator()(const v1::WorkRequest& request, FakeController::Stream& stream) {
    if (request.has_hello()) {
      stream.Send(MakeWelcome("s1"));
      received_on_stream_ = 0;
      known_ = false;
    } else if (request.has_status()) {
      if (acks_) stream.Send(MakeStatusAck(request.status().number()));
      const int64_t unseen = (received_on_stream_ - request.status().grants_received()) * tasks_;
      for (int64_t credit = request.status().credit() - unseen; credit > 0 && granted_ < batches_;
           credit -= tasks_) {
        if (!known_) {
          v1::WorkResponse context = MakeContext("j");
          *context.mutable_job_context()->mutable_operation() = operation_;
          stream.Send(context);
          known_ = true;
        }
        v1::WorkResponse grant = MakeGrant(++granted_, "j", tasks_);
        grant.mutable_grant()->set_payload(payload_);
        stream.Send(grant);
        left_[granted_] = tasks_;
        ++received_on_stream_;
      }
    } else if (acks_) {
      done_ += Tasks(request.segment());
      int64_t& left = left_[request.segment().lease_id()];
      left -= Tasks(request.segment()) + Returned(request.segment());
      if (left <= 0) left_.erase(request.segment().lease_id());
      if (left_.empty()) known_ = false;  // with the last lease both sides forget the job
      stream.Send(MakeSegmentAck(request.segment().lease_id(), request.segment().sequence()));
    }
  }

  void set_operation(const v1::Operation& operation) { operation_ = operation; }
  int64_t done() const { return done_; }
  void set_acks(bool acks) { acks_ = acks; }

 private:
  const int batches_;
  const int tasks_;
  const std::string payload_;
  v1::Operation operation_;
  std::atomic<bool> acks_{true};
  std::atomic<int64_t> done_{0};
  int64_t granted_ = 0;
  int64_t received_on_stream_ = 0;
  bool known_ = false;
  std::map<int64_t, int64_t> left_;  // tasks of leases that are not over
};

TEST(Worker, RunsAJobOverARealStreamAndEndsWhenDrained) {
  NoOpJob job(20, 500);
  FakeController controller([&](const auto& request, auto& stream) { job(request, stream); });
  RunningWorker worker({controller.address()});
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (job.done() < 20 * 500 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(job.done(), 20 * 500);
  EXPECT_LT(worker.DrainAndWait(), absl::Seconds(2));
}

TEST(Worker, HelloSaysWhatItIs) {
  NoOpJob job(0, 1);
  FakeController controller([&](const auto& request, auto& stream) { job(request, stream); });
  RunningWorker worker({controller.address()});
  ASSERT_TRUE(controller.WaitFor([](const auto& all) { return !all.empty(); }));
  const v1::Hello hello = controller.received()[0].hello();
  EXPECT_EQ(hello.version(), "test");
  EXPECT_FALSE(hello.name().empty());
  ASSERT_EQ(hello.codecs_size(), 1);
  EXPECT_EQ(hello.codecs(0), kTaskBatchCodec);
  std::vector<std::string> operations;
  for (const v1::OperationSupport& operation : hello.operations()) {
    operations.push_back(operation.name());
    EXPECT_EQ(operation.revision(), operation.name() == "copy_object" ? 2 : 1);
    // The names are those of the oneof: what CreateJob and the dispatcher look for.
    EXPECT_NE(v1::Operation::descriptor()->FindFieldByName(operation.name()), nullptr);
  }
  EXPECT_THAT(operations, testing::UnorderedElementsAre("no_op", "put_object_tagging", "copy_object",
                                                        "delete_object_tagging", "change_object_tagging",
                                                        "delete_object", "undelete_object", "head_object"));
}

TEST(Worker, AStreamThatIsCutIsFollowedByAnotherToTheOtherControllerWithSessionAndLeases) {
  NoOpJob job(1, 10, absl::Milliseconds(300));
  std::atomic<bool> cut{false};
  const auto script = [&](const v1::WorkRequest& request, FakeController::Stream& stream) {
    job(request, stream);
    if (request.has_status() && request.status().grants_received() > 0 && !cut.exchange(true)) {
      stream.End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "cut"));
    }
  };
  FakeController a(script);
  FakeController b(script);
  RunningWorker worker({a.address(), b.address()});
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (job.done() < 10 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(job.done(), 10);
  std::vector<v1::Hello> hellos;
  for (const auto* controller : {&a, &b}) {
    for (const v1::WorkRequest& request : controller->received()) {
      if (request.has_hello()) hellos.push_back(request.hello());
    }
  }
  ASSERT_EQ(hellos.size(), 2u);  // one each
  if (hellos[0].attachment() > hellos[1].attachment()) std::swap(hellos[0], hellos[1]);
  EXPECT_EQ(hellos[0].attachment(), 1);
  EXPECT_EQ(hellos[1].attachment(), 2);
  EXPECT_EQ(hellos[1].session_id(), "s1");
  ASSERT_EQ(hellos[1].held_leases_size(), 1);
}

TEST(Worker, ADrainEndsAtItsBoundThoughNothingIsAcknowledged) {
  NoOpJob job(1, 100);
  job.set_acks(false);
  FakeController controller([&](const auto& request, auto& stream) { job(request, stream); });
  RunningWorker worker({controller.address()}, absl::Seconds(1));
  ASSERT_TRUE(controller.WaitFor([](const auto& all) {
    return std::any_of(all.begin(), all.end(), [](const auto& request) { return request.has_segment(); });
  }));
  const absl::Duration took = worker.DrainAndWait();
  EXPECT_GE(took, absl::Milliseconds(950));
  EXPECT_LE(took, absl::Seconds(2));
}

TEST(Worker, ADrainGivesBackLongTasksBeforeItsBound) {
  NoOpJob job(1, 100, absl::Seconds(60));
  FakeController controller([&](const auto& request, auto& stream) { job(request, stream); });
  RunningWorker worker({controller.address()}, absl::Seconds(2));
  ASSERT_TRUE(controller.WaitFor([](const auto& all) {
    return std::any_of(all.begin(), all.end(),
                       [](const auto& request) { return request.status().grants_received() > 0; });
  }));
  const absl::Duration took = worker.DrainAndWait();
  EXPECT_LT(took, absl::Milliseconds(1900));
  int64_t returned = 0;
  bool said = false;
  for (const v1::WorkRequest& request : controller.received()) {
    if (request.has_segment()) returned += Returned(request.segment());
    said |= request.status().draining();
  }
  EXPECT_EQ(returned, 100);
  EXPECT_TRUE(said);
}

TEST(Worker, WithoutAnyControllerItGoesOnTryingAndEndsWhenDrained) {
  RunningWorker worker({"127.0.0.1:1"});
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_LT(worker.DrainAndWait(), absl::Seconds(2));
}

TEST(Worker, AControllerOfGarbageEndsNothing) {
  SeededRandom random(7);
  FakeController controller([&](const v1::WorkRequest& request, FakeController::Stream& stream) {
    if (request.has_hello()) stream.Send(MakeWelcome("s1"));
    for (int i = 0; i < 20; ++i) {
      std::string bytes;
      for (uint64_t n = random.Next() % 60; n > 0; --n) bytes += static_cast<char>(random.Next());
      v1::WorkResponse response;
      if (response.ParseFromString(bytes)) stream.Send(response);
    }
    stream.Send(MakeContext("j"));
    v1::WorkResponse grant = MakeGrant(static_cast<int64_t>(random.Next() >> 2), "j", 10);
    grant.mutable_grant()->set_payload("garbage");
    stream.Send(grant);
  });
  RunningWorker worker({controller.address()}, absl::Seconds(1));
  EXPECT_TRUE(controller.WaitFor([](const auto& all) {
    return std::count_if(all.begin(), all.end(), [](const auto& request) { return request.has_hello(); }) >=
           2;
  }));
  EXPECT_LT(worker.DrainAndWait(), absl::Seconds(2));
}

// Not a test of anything but speed: DROVER_WORKER_BENCH=5000000 runs that many no-op tasks, or, with
// DROVER_WORKER_BENCH_STORES=stores.yaml, puts tags on as many objects of its store "bench".
TEST(Worker, Throughput) {
  const char* tasks = std::getenv("DROVER_WORKER_BENCH");
  if (tasks == nullptr) GTEST_SKIP() << "DROVER_WORKER_BENCH is not set";
  Stores stores;
  v1::Operation operation;
  operation.mutable_no_op();
  if (const char* path = std::getenv("DROVER_WORKER_BENCH_STORES"); path != nullptr) {
    stores = *Stores::Load(path);
    operation.set_store("bench");
    v1::Tag& tag = *operation.mutable_put_object_tagging()->add_tags();
    tag.set_key("class");
    tag.set_value("cold");
  }
  const int batches = std::atoi(tasks) / 4096;
  NoOpJob job(batches, 4096);
  job.set_operation(operation);
  FakeController controller([&](const auto& request, auto& stream) { job(request, stream); });
  const absl::Time start = absl::Now();
  RunningWorker worker({controller.address()}, absl::Seconds(30), stores);
  while (job.done() < int64_t{4096} * batches && absl::Now() < start + absl::Minutes(2)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  std::printf("%lld tasks in %.3f s: %.0f/s, %.2f us of CPU on the worker's thread each\n",
              static_cast<long long>(job.done()), seconds, static_cast<double>(job.done()) / seconds,
              worker.CpuSeconds() * 1e6 / static_cast<double>(job.done()));
}

}  // namespace
}  // namespace drover
