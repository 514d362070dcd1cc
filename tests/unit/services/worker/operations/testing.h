// A worker's operations against HTTP servers that the test scripts.
#ifndef DROVER_TESTS_UNIT_SERVICES_WORKER_OPERATIONS_TESTING_H_
#define DROVER_TESTS_UNIT_SERVICES_WORKER_OPERATIONS_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/registry.h"
#include "services/worker/operations/store_clients.h"
#include "tests/support/http/test_server.h"

namespace drover {

// Lets every request through, unless told otherwise.
class PlainContext final : public OperationContext {
 public:
  boost::asio::awaitable<absl::StatusOr<S3Response>> Send(S3Client& store, S3Request request) override {
    ++requests;
    if (fenced || requests > fence_after) co_return absl::CancelledError("fenced");
    request.user_agent = "drover/test job/j";
    co_return co_await store.Send(std::move(request), &cancel_);
  }
  boost::asio::awaitable<bool> Sleep(absl::Duration duration) override {
    slept += duration;
    co_return !fenced;
  }
  const CancelToken& cancel() const override { return cancel_; }
  void Cancel() { cancel_.Cancel(); }

  bool fenced = false;
  int fence_after = std::numeric_limits<int>::max();  // requests
  int requests = 0;
  absl::Duration slept;

 private:
  CancelToken cancel_;
};

class OperationsTest : public ::testing::Test {
 protected:
  // A store "s" at `server`, none without; and a store "t" at `target`, if there is one.
  void Connect(const TestServer* server, const TestServer* target = nullptr) {
    std::string text = server == nullptr ? "stores: []\n" : "stores:\n";
    const auto add = [&](std::string_view name, const TestServer& at) {
      StrAppend(&text, "  - name: ", name, "\n    kind: s3\n    endpoint: http://127.0.0.1:", at.port(),
                "\n    credentials:\n      anonymous: true\n");
    };
    if (server != nullptr) add("s", *server);
    if (target != nullptr) add("t", *target);
    absl::StatusOr<Stores> stores = Stores::Parse(text, "stores.yaml");
    ASSERT_TRUE(stores.ok()) << stores.status();
    auto clients = StoreClients::Create(io_, SystemClock(), *stores);
    ASSERT_TRUE(clients.ok()) << clients.status();
    clients_ = *std::move(clients);
  }

  absl::StatusOr<std::unique_ptr<Operation>> Make(const v1::Operation& parameters) {
    const OperationType* type = FindOperationType(parameters);
    if (type == nullptr) return absl::UnimplementedError("unknown");
    return type->make(parameters, {*clients_, SystemClock()});
  }

  // Runs the operation on a group of tasks; what it said of each, by its number in the group. Those of which
  // it said nothing succeeded in the default way.
  std::map<size_t, Attempt> RunGroup(Operation& operation, const std::vector<Task>& tasks) {
    TaskBatchBuilder builder;
    for (const Task& task : tasks) builder.Add(task);
    const DecodedBatch batch = *TaskBatchReader().Decode(builder.Finish());
    std::vector<uint32_t> indexes(tasks.size());
    std::iota(indexes.begin(), indexes.end(), 0u);
    GroupResult result;
    bool done = false;
    boost::asio::co_spawn(
        io_,
        [&]() -> boost::asio::awaitable<void> {
          const TaskGroup group(batch, 7, indexes);
          co_await operation.Run(group, context_, result);
          done = true;
        },
        boost::asio::detached);
    io_.restart();
    while (!done && io_.run_one_for(std::chrono::seconds(10)) > 0) {
    }
    EXPECT_TRUE(done);
    std::map<size_t, Attempt> attempts;
    for (auto& [i, attempt] : result.attempts()) {
      EXPECT_LT(i, tasks.size());
      EXPECT_TRUE(attempts.emplace(i, std::move(attempt)).second) << "said twice of task " << i;
    }
    return attempts;
  }

  // Runs the operation on one task, and returns what it said about it; nothing: the default success.
  std::optional<Attempt> Run(const v1::Operation& parameters, const Task& task) {
    auto made = Make(parameters);
    EXPECT_TRUE(made.ok()) << made.status();
    if (!made.ok()) return FailedAttempt("NotMade", "");
    std::map<size_t, Attempt> attempts = RunGroup(**made, {task});
    if (attempts.empty()) return std::nullopt;
    return std::move(attempts.begin()->second);
  }

  static v1::Operation Tagging(std::vector<std::pair<std::string, std::string>> tags) {
    v1::Operation operation;
    operation.set_store("s");
    operation.mutable_put_object_tagging();
    for (const auto& [key, value] : tags) {
      v1::Tag& tag = *operation.mutable_put_object_tagging()->add_tags();
      tag.set_key(key);
      tag.set_value(value);
    }
    return operation;
  }
  static v1::Operation Copy(const std::string& bucket, const std::string& prefix) {
    v1::Operation operation;
    operation.set_store("s");
    operation.mutable_copy_object()->set_target_bucket(bucket);
    operation.mutable_copy_object()->set_target_key_prefix(prefix);
    return operation;
  }
  static std::string ErrorXml(const std::string& code, const std::string& message) {
    return StrCat("<?xml version=\"1.0\"?><Error><Code>", code, "</Code><Message>", message,
                  "</Message></Error>");
  }
  // A server that answers every request in the same way.
  static TestServer::Handler Answering(int status, std::string body, std::string headers = "") {
    return [=](TestServer::Peer& peer) {
      while (peer.ReadRequest()) peer.Answer(status, body, headers);
    };
  }

  boost::asio::io_context io_{1};
  std::unique_ptr<StoreClients> clients_;
  PlainContext context_;
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_WORKER_OPERATIONS_TESTING_H_
