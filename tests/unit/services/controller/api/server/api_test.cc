// The API as clients meet it: a real gRPC server on loopback, over a storage in memory.
#include "services/controller/api/api.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/strings/strings.h"
#include "drover/v1/fleet_service.grpc.pb.h"
#include "drover/v1/job_service.grpc.pb.h"
#include "grpc/health/v1/health.pb.h"
#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/api/signal.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using lifecycle::State;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::SizeIs;

std::string Bytes(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok()) return "";
  return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Calls a unary method whose messages are not compiled in here (health) with serialised bytes; the response's
// bytes, or what went wrong.
std::string CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                    const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  const grpc::ByteBuffer in = Buffer(request);
  grpc::ByteBuffer out;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &in, &out,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  return status.ok() ? Bytes(out) : status.error_message();
}

// Asks the reflection service, a stream in both directions, one question in serialised bytes.
std::string Reflect(const std::shared_ptr<grpc::Channel>& channel, const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto finish_step = [&] {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok) && ok);
  };
  const auto call =
      stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  finish_step();
  call->WriteLast(Buffer(request), grpc::WriteOptions(), nullptr);
  finish_step();
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  finish_step();
  grpc::Status status;
  call->Finish(&status, nullptr);
  finish_step();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return Bytes(answer);
}

class ApiTest : public ::testing::Test {
 protected:
  ~ApiTest() override { Stop(); }

  void Serve(int call_threads = 2, size_t max_queued = 100, AuthorizeFn authorize = Authorize) {
    ApiOptions options{storage_, stores_, SystemClock(), random_};
    options.hooks.job_created = [this] { ++created_; };
    options.hooks.job_changed = [this](const JobId&) { ++changed_; };
    options.call_threads = call_threads;
    options.max_queued_calls = max_queued;
    options.authorize = std::move(authorize);
    options.watcher = {
        .interval = absl::Milliseconds(20), .notified_gap = absl::Milliseconds(1), .max_watches = 2};
    api_.emplace(options);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    api_->Register(builder);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    api_->Start(*server_);
    channel_ = grpc::CreateChannel(StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
    jobs_ = v1::JobService::NewStub(channel_);
  }

  void Stop() {
    if (server_ == nullptr) return;
    api_->Shutdown();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(10));
    server_.reset();
    api_.reset();
  }

  static std::unique_ptr<grpc::ClientContext> Context(
      std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + timeout);
    return context;
  }
  grpc::Status Create(const v1::CreateJobRequest& request, v1::CreateJobResponse* response = nullptr) {
    v1::CreateJobResponse ignored;
    return jobs_->CreateJob(Context().get(), request, response == nullptr ? &ignored : response);
  }
  grpc::Status GetJob(const JobId& job_id) {
    v1::GetJobRequest request;
    request.set_job_id(job_id);
    v1::GetJobResponse response;
    return jobs_->GetJob(Context().get(), request, &response);
  }

  FakeStorage storage_;
  const Stores stores_ = TestStores();
  FakeRandom random_;
  std::atomic<int> created_ = 0;
  std::atomic<int> changed_ = 0;
  std::optional<Api> api_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

TEST_F(ApiTest, CreatesAndChangesAJob) {
  Serve();
  v1::CreateJobResponse created;
  const grpc::Status status = Create(GoodRequest(), &created);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(created_, 1);

  v1::CancelJobRequest cancel;
  cancel.set_job_id(created.job().job_id());
  cancel.set_reason("typo");
  v1::CancelJobResponse cancelled;
  ASSERT_TRUE(jobs_->CancelJob(Context().get(), cancel, &cancelled).ok());
  EXPECT_EQ(cancelled.job().state(), v1::CANCELLING);
  EXPECT_EQ(cancelled.job().state_reason().caller(), "anonymous");
  EXPECT_EQ(changed_, 1);
}

TEST_F(ApiTest, WrongFieldsReachTheClientWithPathsInTheStatusDetails) {
  Serve();
  v1::CreateJobRequest request = GoodRequest();
  request.mutable_job()->mutable_operation()->set_store("mian");
  request.mutable_job()->set_description(std::string(257, 'd'));
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const WireError error = Decode(status);
  EXPECT_EQ(error.info.domain(), "drover");
  EXPECT_EQ(error.info.reason(), "INVALID_FIELD");
  EXPECT_THAT(error.fields(), SizeIs(2));
  EXPECT_THAT(error.fields().at("job.operation.store"), HasSubstr("main, other, local"));
  EXPECT_THAT(error.fields(), Contains(Key("job.description")));
  EXPECT_EQ(storage_.calls("CreateJob"), 0);
}

TEST_F(ApiTest, FieldsThatAreNotCarriedOutAreUnimplementedByPath) {
  Serve();
  v1::CreateJobRequest request = GoodRequest();
  request.mutable_job()->mutable_rate_policy()->set_max_in_flight(5);
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Decode(status).info.reason(), "FIELD_NOT_SUPPORTED");
  EXPECT_THAT(Decode(status).fields(), Contains(Key("job.rate_policy.max_in_flight")));
  EXPECT_THAT(status.error_message(), HasSubstr("job.rate_policy.max_in_flight"));
}

TEST_F(ApiTest, UnknownFieldsOnTheWireAreRefused) {
  Serve();
  v1::CreateJobRequest request = GoodRequest();
  auto* job = request.mutable_job();
  job->GetReflection()->MutableUnknownFields(job)->AddVarint(900, 1);
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Decode(status).info.reason(), "UNKNOWN_FIELD");
  EXPECT_THAT(Decode(status).fields(), Contains(Key("job.#900")));
}

TEST_F(ApiTest, TheLargestErrorStillFitsIntoAClientsTrailers) {
  Serve();
  v1::CreateJobRequest request = GoodRequest();
  request.clear_request_id();
  v1::Job& job = *request.mutable_job();
  // Names of stores made of characters that gRPC escapes, as long as an error shows them.
  std::string name;
  for (int i = 0; i < 100; ++i) name += "€";
  job.mutable_operation()->set_store(name);
  job.mutable_manifest()->mutable_csv()->mutable_location()->set_store(name);
  job.mutable_report()->set_store(name);
  job.set_priority(-1);
  job.set_description(std::string(300, 'x'));
  job.mutable_operation()->mutable_put_object_tagging()->clear_tags();
  for (int i = 0; i < 10; ++i) {
    v1::Tag* tag = job.mutable_operation()->mutable_put_object_tagging()->add_tags();
    tag->set_key(std::string(1000, 'k') + std::to_string(i));
    tag->set_value(std::string(1000, 'v'));
  }
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_GT(Decode(status).bad_request.field_violations_size(), 5);
}

TEST_F(ApiTest, AnOversizedMessageIsRefusedClearlyAndReachesNoHandler) {
  Serve();
  v1::CreateJobRequest request = GoodRequest();
  request.mutable_job()->set_description(std::string(kMaxGrpcMessageBytes + 1, 'x'));
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("larger than max"));
  EXPECT_TRUE(Create(GoodRequest()).ok());  // the connection is as good as before
}

TEST_F(ApiTest, TheDatabaseBeingAwayIsUnavailable) {
  Serve();
  storage_.Fail(absl::UnavailableError("connection to 10.0.0.1 refused"));
  const grpc::Status status = GetJob(TestJobId(1));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Decode(status).info.reason(), "DATABASE_UNAVAILABLE");
  EXPECT_TRUE(Decode(status).retry.has_value());
}

TEST_F(ApiTest, ARefusedCallerGetsPermissionDenied) {
  Serve(1, 10, [](const Caller& caller, Action, std::string_view) {
    EXPECT_EQ(caller.name, "anonymous");
    return Error(absl::StatusCode::kPermissionDenied, "PERMISSION_DENIED", "not today");
  });
  EXPECT_EQ(Create(GoodRequest()).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  v1::WatchJobRequest request;
  request.set_job_id(TestJobId(1));
  const auto context = Context();
  EXPECT_EQ(jobs_->WatchJob(context.get(), request)->Finish().error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(storage_.calls("CreateJob"), 0);
}

TEST_F(ApiTest, CallsBeyondThreadsAndQueueAreRefusedAndTheOthersFinish) {
  Signal go_on;
  std::atomic<int> inside = 0;
  storage_.on_call = [&](const std::string& method) {
    if (method != "GetJob") return;
    ++inside;
    EXPECT_TRUE(go_on.Wait());
  };
  storage_.Put(GoodRecord(TestJobId(1)));
  Serve(/*call_threads=*/1, /*max_queued=*/2);
  std::vector<std::future<grpc::Status>> calls;
  calls.reserve(10);
  for (int i = 0; i < 10; ++i)
    calls.push_back(std::async(std::launch::async, [&] { return GetJob(TestJobId(1)); }));
  // One runs, two wait, seven are refused while those still hang.
  ASSERT_TRUE(Eventually([&] {
    int done = 0;
    for (auto& call : calls) done += call.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    return done == 7;
  }));
  EXPECT_EQ(inside, 1);
  go_on.Set();
  int ok = 0;
  int refused = 0;
  for (auto& call : calls) {
    const grpc::Status status = call.get();
    if (status.ok()) {
      ++ok;
    } else {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
      EXPECT_EQ(Decode(status).info.reason(), "OVERLOADED");
      ++refused;
    }
  }
  EXPECT_EQ(ok, 3);
  EXPECT_EQ(refused, 7);
}

TEST_F(ApiTest, ACallWhoseClientLeftWhileItWaitedIsNotBegun) {
  Signal go_on;
  std::atomic<int> inside = 0;
  storage_.on_call = [&](const std::string& method) {
    if (method != "GetJob") return;
    ++inside;
    EXPECT_TRUE(go_on.Wait());
  };
  storage_.Put(GoodRecord(TestJobId(1)));
  Serve(/*call_threads=*/1);
  auto first = std::async(std::launch::async, [&] { return GetJob(TestJobId(1)); });
  ASSERT_TRUE(Eventually([&] { return inside == 1; }));
  v1::GetJobRequest request;
  request.set_job_id(TestJobId(1));
  v1::GetJobResponse response;
  const absl::Time deadline = absl::Now() + absl::Milliseconds(100);
  EXPECT_EQ(jobs_->GetJob(Context(std::chrono::milliseconds(100)).get(), request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  // The server counts from when the call came in.
  ASSERT_TRUE(Eventually([&] { return absl::Now() > deadline + absl::Milliseconds(100); }));
  go_on.Set();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(GetJob(TestJobId(1)).ok());
  EXPECT_EQ(inside, 2);
}

// ---- watching

class WatchApiTest : public ApiTest {
 protected:
  void SetJob(int64_t succeeded, State state) {
    JobRecord record = GoodRecord(TestJobId(1), state);
    record.snapshot.succeeded = succeeded;
    storage_.Put(record);
  }
  std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> Watch(grpc::ClientContext* context) {
    v1::WatchJobRequest request;
    request.set_job_id(TestJobId(1));
    return jobs_->WatchJob(context, request);
  }
};

TEST_F(WatchApiTest, FollowsAJobToItsEnd) {
  SetJob(0, State::kActive);
  Serve();
  const auto context = Context();
  const auto reader = Watch(context.get());
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.job().state(), v1::ACTIVE);
  SetJob(5, State::kActive);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.job().progress().succeeded_tasks(), 5);
  SetJob(9, State::kComplete);
  api_->NotifyChanged(TestJobId(1));
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.job().state(), v1::COMPLETE);
  EXPECT_EQ(response.job().progress().succeeded_tasks(), 9);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(WatchApiTest, OfAnEndedJobSendsItsStateAndEnds) {
  SetJob(3, State::kFailed);
  Serve();
  const auto context = Context();
  const auto reader = Watch(context.get());
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.job().state(), v1::FAILED);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(WatchApiTest, OfNoJobIsNotFoundAndOfNoIdInvalid) {
  Serve();
  const auto context = Context();
  const grpc::Status status = Watch(context.get())->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Decode(status).info.reason(), "JOB_NOT_FOUND");
  v1::WatchJobRequest request;
  request.set_job_id("7");
  const auto second = Context();
  EXPECT_EQ(jobs_->WatchJob(second.get(), request)->Finish().error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WatchApiTest, OutlivesAnOutageOfTheDatabase) {
  SetJob(0, State::kActive);
  Serve();
  const auto context = Context();
  const auto reader = Watch(context.get());
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  storage_.Fail(absl::UnavailableError("down"));
  const int before = storage_.calls("ReadPulses");
  ASSERT_TRUE(Eventually([&] { return storage_.calls("ReadPulses") > before + 1; }));
  SetJob(9, State::kCancelled);
  storage_.Fail(absl::OkStatus());
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.job().state(), v1::CANCELLED);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(WatchApiTest, AWatchFreesItsPlaceWhenItsClientLeaves) {
  SetJob(0, State::kActive);
  Serve();  // two watches at most
  v1::WatchJobResponse response;
  const auto first = Context();
  const auto first_reader = Watch(first.get());
  ASSERT_TRUE(first_reader->Read(&response));
  const auto second = Context();
  const auto second_reader = Watch(second.get());
  ASSERT_TRUE(second_reader->Read(&response));
  const auto third = Context();
  const grpc::Status refused = Watch(third.get())->Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Decode(refused).info.reason(), "TOO_MANY_WATCHES");
  first->TryCancel();
  EXPECT_EQ(first_reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(Eventually([&] {
    const auto context = Context();
    const auto reader = Watch(context.get());
    const bool read = reader->Read(&response);
    context->TryCancel();
    reader->Finish();
    return read;
  }));
}

TEST_F(WatchApiTest, AReaderThatDoesNotReadGetsTheLastStateWhenItDoes) {
  SetJob(0, State::kActive);
  Serve();
  const auto context = Context();
  const auto reader = Watch(context.get());
  // States of 10 KB: the windows of gRPC are full long before the last one.
  for (int i = 1; i <= 300; ++i) {
    JobRecord record = GoodRecord(TestJobId(1), i == 300 ? State::kComplete : State::kActive);
    record.snapshot.succeeded = i;
    record.reason_message = std::string(10'000, 'x');
    storage_.Put(record);
    api_->NotifyChanged(TestJobId(1));
    absl::SleepFor(absl::Milliseconds(2));
  }
  v1::WatchJobResponse response;
  int64_t last = -1;
  int states = 0;
  while (reader->Read(&response)) {
    EXPECT_GT(response.job().progress().succeeded_tasks(), last);
    last = response.job().progress().succeeded_tasks();
    ++states;
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(last, 300);
  EXPECT_LT(states, 100);
}

TEST_F(WatchApiTest, ShutdownEndsWatchesSoThatTheServerCanStop) {
  SetJob(0, State::kActive);
  Serve();
  const auto context = Context();
  const auto reader = Watch(context.get());
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  const absl::Time begun = absl::Now();
  Stop();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(5));
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Decode(status).info.reason(), "CONTROLLER_SHUTDOWN");
}

TEST_F(WatchApiTest, ManyWatchesThatComeAndGoLeaveNothingBehind) {
  SetJob(0, State::kActive);
  Serve();
  std::vector<std::thread> clients;
  clients.reserve(4);
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto context = Context();
        const auto reader = Watch(context.get());
        v1::WatchJobResponse response;
        if (i % 2 == 0) reader->Read(&response);
        context->TryCancel();
        reader->Finish();
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    SetJob(i, State::kActive);
    api_->NotifyChanged(TestJobId(1));
    absl::SleepFor(absl::Milliseconds(1));
  }
  for (std::thread& client : clients) client.join();
  ASSERT_TRUE(Eventually([&] {  // both places are free again
    const auto a = Context();
    const auto b = Context();
    const auto first = Watch(a.get());
    const auto second = Watch(b.get());
    v1::WatchJobResponse response;
    const bool both = first->Read(&response) && second->Read(&response);
    a->TryCancel();
    b->TryCancel();
    first->Finish();
    second->Finish();
    return both;
  }));
}

// ---- fleet, health, reflection

TEST_F(ApiTest, ListsWorkers) {
  SessionInfo session;
  session.session_id = TestJobId(1);
  session.name = "w";
  storage_.PutSession(session);
  Serve();
  v1::ListWorkersResponse response;
  const grpc::Status status =
      v1::FleetService::NewStub(channel_)->ListWorkers(Context().get(), {}, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.workers_size(), 1);
  EXPECT_EQ(response.workers(0).name(), "w");
}

TEST_F(ApiTest, HealthServesOnlyWhileTheDatabaseAnswers) {
  Serve();
  using grpc::health::v1::HealthCheckResponse;
  const auto health = [&](const std::string& service) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    response.ParseFromString(CallRaw(channel_, "/grpc.health.v1.Health/Check", request.SerializeAsString()));
    return response.status();
  };
  const auto serving = HealthCheckResponse::SERVING;
  const auto not_serving = HealthCheckResponse::NOT_SERVING;
  for (const char* service :
       {"", "drover.v1.JobService", "drover.v1.FleetService", "drover.v1.WorkerService"}) {
    EXPECT_TRUE(Eventually([&] { return health(service) == serving; })) << service;
  }
  storage_.Fail(absl::UnavailableError("down"));
  EXPECT_TRUE(Eventually([&] { return health("") == not_serving; }));
  EXPECT_TRUE(Eventually([&] { return health("drover.v1.JobService") == not_serving; }));
  storage_.Fail(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return health("") == serving; }));
}

TEST_F(ApiTest, ReflectionNamesAndDescribesTheServices) {
  Serve();
  // grpc.reflection.v1alpha: ServerReflectionRequest{list_services = 7: ""}
  const std::string services = Reflect(channel_, std::string("\x3a\x00", 2));
  for (const std::string service :
       {"drover.v1.JobService", "drover.v1.FleetService", "grpc.health.v1.Health"}) {
    EXPECT_THAT(services, HasSubstr(service));
    // ServerReflectionRequest{file_containing_symbol = 4: service}; the answer holds the file's descriptor.
    const std::string file =
        Reflect(channel_, StrCat("\x22", std::string(1, static_cast<char>(service.size())), service));
    EXPECT_THAT(file, HasSubstr(".proto")) << service;
  }
}

TEST_F(ApiTest, CallsAfterShutdownAreUnavailable) {
  Serve();
  api_->Shutdown();
  const grpc::Status status = GetJob(TestJobId(1));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Decode(status).info.reason(), "CONTROLLER_SHUTDOWN");
}

}  // namespace
}  // namespace drover
