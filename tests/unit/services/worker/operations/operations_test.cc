// Each operation's requests and what it makes of the answers, against an HTTP server that the test scripts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "absl/time/clock.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/registry.h"
#include "services/worker/operations/store_clients.h"
#include "tests/support/http/test_server.h"
#include "tests/unit/services/worker/operations/testing.h"
#include "tests/unit/services/worker/testing.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// --- put_object_tagging

TEST_F(OperationsTest, TaggingPutsTheWholeSetWithItsMd5) {
  std::string head;
  std::string body;
  TestServer server([&](TestServer::Peer& peer) {
    while (peer.ReadRequest()) {
      head = peer.head();
      body = peer.body();
      peer.Answer(200, "");
    }
  });
  Connect(&server);
  EXPECT_FALSE(Run(Tagging({{"class", "cold & old"}, {"a", ""}}), {"bucket", "a key/ü", ""}).has_value());
  EXPECT_THAT(head, StartsWith("PUT /bucket/a%20key/%C3%BC?tagging"));
  EXPECT_EQ(head.find("versionId"), std::string::npos);
  EXPECT_THAT(head, HasSubstr("drover/test job/j"));
  EXPECT_THAT(head, HasSubstr(ContentMd5(body)));
  EXPECT_THAT(body, HasSubstr("<Key>class</Key><Value>cold &amp; old</Value>"));
  EXPECT_THAT(body, HasSubstr("<Key>a</Key>"));
}

TEST_F(OperationsTest, TaggingNamesTheVersion) {
  TestServer server(Answering(200, ""));
  Connect(&server);
  EXPECT_FALSE(Run(Tagging({}), {"bucket", "k", "v+1"}).has_value());
  EXPECT_THAT(server.requests().at(0), HasSubstr("tagging="));
  EXPECT_THAT(server.requests().at(0), HasSubstr("versionId=v%2B1"));
}

TEST_F(OperationsTest, TheStoresRefusalIsTheOutcome) {
  TestServer server(Answering(404, ErrorXml("NoSuchKey", "The key does not exist.")));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kDone);
  EXPECT_FALSE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 404);
  EXPECT_EQ(attempt->outcome.code, "NoSuchKey");
  EXPECT_EQ(attempt->outcome.message, "The key does not exist.");
}

TEST_F(OperationsTest, AnAnswerOtherThan200IsAnOutcomeOfItsOwn) {
  TestServer server(Answering(204, ""));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 204);
}

TEST_F(OperationsTest, ABusyStoreIsTransientAndItsWishIsPassedOn) {
  TestServer server(Answering(503, ErrorXml("SlowDown", "Please."), "Retry-After: 7\r\n"));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kTransient);
  EXPECT_EQ(attempt->transience, Transience::kUnavailable);
  EXPECT_EQ(attempt->retry_after, absl::Seconds(7));
  EXPECT_EQ(attempt->outcome.code, "SlowDown");
}

TEST_F(OperationsTest, AnInternalErrorIsTransient) {
  TestServer server(Answering(500, ErrorXml("InternalError", "We encountered an internal error.")));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kTransient);
  EXPECT_EQ(attempt->transience, Transience::kTransient);
}

TEST_F(OperationsTest, AConnectionThatBreaksIsTransientAndNamed) {
  TestServer server([](TestServer::Peer& peer) {
    if (peer.ReadRequest()) peer.Reset();
  });
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kTransient);
  EXPECT_EQ(attempt->transience, Transience::kUnavailable);
  EXPECT_EQ(attempt->outcome.code, "ConnectionLost");
  EXPECT_EQ(attempt->outcome.http_status, 0);
}

TEST_F(OperationsTest, AStoreThatIsNotThereIsTransient) {
  {
    const TestServer gone([](TestServer::Peer&) {});
    Connect(&gone);
  }
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kTransient);
  EXPECT_EQ(attempt->outcome.code, "ConnectionFailed");
}

TEST_F(OperationsTest, WhatTheFenceStopsIsCancelledWithoutARequest) {
  TestServer server(Answering(200, ""));
  Connect(&server);
  context_.fenced = true;
  const std::optional<Attempt> attempt = Run(Tagging({}), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kCancelled);
  EXPECT_THAT(server.requests(), SizeIs(0));
}

// --- copy_object

TEST_F(OperationsTest, CopyNamesItsSourceEncodedAndPutsThePrefixInFront) {
  std::string source;
  std::string target;
  TestServer server([&](TestServer::Peer& peer) {
    while (peer.ReadRequest()) {
      source = peer.Header("x-amz-copy-source");
      target = peer.target();
      EXPECT_EQ(peer.method(), "PUT");
      EXPECT_EQ(peer.body(), "");
      peer.Answer(200, "<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>");
    }
  });
  Connect(&server);
  EXPECT_FALSE(Run(Copy("target", "copies/"), {"bucket", "a b+c?d", "v=1"}).has_value());
  EXPECT_EQ(source, "/bucket/a%20b%2Bc%3Fd?versionId=v%3D1");
  EXPECT_EQ(target, "/target/copies/a%20b%2Bc%3Fd");
  EXPECT_FALSE(Run(Copy("", "copies-"), {"bucket", "k", ""}).has_value());
  EXPECT_EQ(source, "/bucket/k");
  EXPECT_EQ(target, "/bucket/copies-k");
}

TEST_F(OperationsTest, AnErrorInTheBodyOfA200IsAnError) {
  TestServer server(Answering(200, ErrorXml("InternalError", "It failed late.")));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Copy("target", ""), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_FALSE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.code, "InternalError");
  EXPECT_EQ(attempt->outcome.http_status, 200);
  EXPECT_EQ(attempt->end, Attempt::End::kTransient);
}

TEST_F(OperationsTest, AnObjectThatIsTooLargeFailsWithTheStoresWords) {
  TestServer server(Answering(400, ErrorXml("InvalidRequest",
                                            "The specified copy source is larger than the maximum "
                                            "allowable size for a copy source: 5368709120")));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Copy("target", ""), {"bucket", "k", ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kDone);
  EXPECT_EQ(attempt->outcome.code, "InvalidRequest");
  EXPECT_THAT(attempt->outcome.message, HasSubstr("5368709120"));
}

TEST_F(OperationsTest, ACopyOntoItselfIsRefusedWithoutARequest) {
  TestServer server(Answering(200, ""));
  Connect(&server);
  for (const std::string bucket : {"", "bucket"}) {
    const std::optional<Attempt> attempt = Run(Copy(bucket, ""), {"bucket", "k", ""});
    ASSERT_TRUE(attempt.has_value());
    EXPECT_EQ(attempt->outcome.code, "CopyOntoItself");
    EXPECT_EQ(attempt->end, Attempt::End::kDone);
  }
  EXPECT_EQ(context_.requests, 0);
  // An old version becomes the current one: that changes something.
  EXPECT_FALSE(Run(Copy("", ""), {"bucket", "k", "v1"}).has_value());
}

TEST_F(OperationsTest, AKeyThatThePrefixMakesTooLongIsRefusedWithoutARequest) {
  TestServer server(Answering(200, ""));
  Connect(&server);
  const std::optional<Attempt> attempt =
      Run(Copy("target", "prefix/"), {"bucket", std::string(1020, 'k'), ""});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->outcome.code, "KeyTooLong");
  EXPECT_EQ(context_.requests, 0);
}

TEST_F(OperationsTest, AStoreThatIsNotKnownHereIsNotFound) {
  Connect(nullptr);
  EXPECT_TRUE(absl::IsNotFound(Make(Tagging({})).status()));
  EXPECT_TRUE(absl::IsNotFound(Make(Copy("target", "")).status()));
}

// --- no_op

TEST_F(OperationsTest, NoOpMakesNoRequestAndNeedsNoStore) {
  Connect(nullptr);
  v1::Operation operation;
  operation.mutable_no_op();
  EXPECT_FALSE(Run(operation, {"bucket", "k", ""}).has_value());
  EXPECT_EQ(context_.requests, 0);
  EXPECT_EQ((*Make(operation))->limits().max_tasks, kMaxBatchTasks);
}

TEST_F(OperationsTest, NoOpTakesItsTimeTaskByTask) {
  Connect(nullptr);
  v1::Operation operation;
  operation.mutable_no_op()->mutable_duration()->set_seconds(2);
  EXPECT_FALSE(Run(operation, {"bucket", "k", ""}).has_value());
  EXPECT_EQ(context_.slept, absl::Seconds(2));
  EXPECT_EQ((*Make(operation))->limits().max_tasks, 1u);
  context_.fenced = true;
  EXPECT_EQ(Run(operation, {"bucket", "k", ""})->end, Attempt::End::kCancelled);
}

TEST_F(OperationsTest, NoOpFailsTheSameShareOfKeysAtEachRun) {
  Connect(nullptr);
  const auto failed = [&](double fraction) {
    v1::Operation parameters;
    parameters.mutable_no_op()->set_failure_fraction(fraction);
    const std::unique_ptr<Operation> operation = *Make(parameters);
    const DecodedBatch batch = *TaskBatchReader().Decode(MakePayload(4000));
    std::vector<uint32_t> indexes(4000);
    for (uint32_t i = 0; i < 4000; ++i) indexes[i] = i;
    GroupResult result;
    const TaskGroup group(batch, 0, indexes);
    boost::asio::co_spawn(io_, operation->Run(group, context_, result), boost::asio::detached);
    io_.restart();
    io_.run();
    std::set<size_t> tasks;
    for (const auto& [i, attempt] : result.attempts()) {
      EXPECT_EQ(attempt.outcome.code, "Rehearsed");
      EXPECT_FALSE(attempt.outcome.succeeded);
      tasks.insert(i);
    }
    return tasks;
  };
  EXPECT_THAT(failed(0), SizeIs(0));
  EXPECT_THAT(failed(1), SizeIs(4000));
  EXPECT_NEAR(static_cast<double>(failed(0.25).size()), 1000, 100);
  EXPECT_EQ(failed(0.25), failed(0.25));
  // A higher fraction fails those tasks and more.
  EXPECT_TRUE(std::ranges::includes(failed(0.5), failed(0.25)));
}

TEST_F(OperationsTest, NoOpRefusesWhatIsOutOfRange) {
  Connect(nullptr);
  v1::Operation operation;
  operation.mutable_no_op()->mutable_duration()->set_seconds(61);
  EXPECT_TRUE(absl::IsInvalidArgument(Make(operation).status()));
  operation.mutable_no_op()->mutable_duration()->set_seconds(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(Make(operation).status()));
  operation.mutable_no_op()->mutable_duration()->set_seconds(0);
  for (const double fraction : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    operation.mutable_no_op()->set_failure_fraction(fraction);
    EXPECT_TRUE(absl::IsInvalidArgument(Make(operation).status()));
  }
}

TEST(OperationTypes, NamesAreThoseOfTheOneof) {
  for (const OperationType& type : OperationTypes()) {
    const auto* field = v1::Operation::descriptor()->FindFieldByName(std::string(type.name));
    ASSERT_NE(field, nullptr) << type.name;
    EXPECT_EQ(field->number(), type.kind);
    EXPECT_EQ(field->containing_oneof()->name(), "kind");
    EXPECT_EQ(type.revision, type.name == "copy_object" ? 2 : 1) << type.name;
  }
}

}  // namespace
}  // namespace drover
