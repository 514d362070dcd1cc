// Client against a scripted JobService behind real gRPC servers on loopback.
#include "cli/client.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/output.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/unit/cli/fake_server.h"

namespace drover::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Nobody listens there.
constexpr char kNobody[] = "127.0.0.1:1";

struct Watched {
  absl::StatusOr<v1::Job> result = absl::UnknownError("");
  std::vector<std::string> states;
  int breaks = 0;
};

Watched Watch(Client& client, absl::Duration patience = absl::Seconds(30)) {
  Watched watched;
  watched.result = client.WatchJob(
      "j", {.patience = patience,
            .on_job = [&](const v1::Job& job) { watched.states.push_back(StateName(job.state())); },
            .on_break = [&](const absl::Status&) { ++watched.breaks; }});
  return watched;
}

TEST(ClientTest, CallGoesToTheNextServerWhenOneIsGoneAndStaysThere) {
  FakeServer server;
  Client client({kNobody, server.address}, absl::Seconds(20));
  ASSERT_EQ(client.GetJob("a")->job_id(), "a");
  ASSERT_EQ(client.GetJob("b")->job_id(), "b");
  EXPECT_EQ(server.jobs.calls(), 2);
}

TEST(ClientTest, NoServerAtAllIsUnavailableAndNamesOne) {
  Client client({kNobody}, absl::Seconds(20));
  const auto job = client.GetJob("a");
  EXPECT_EQ(job.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(job.status().message()), HasSubstr(kNobody));
}

TEST(ClientTest, RefusalIsFinalAndKeepsItsDetails) {
  FakeServer first;
  FakeServer second;
  google::rpc::Status rpc;
  rpc.set_code(5);
  google::rpc::ErrorInfo info;
  info.set_reason("JOB_NOT_FOUND");
  rpc.add_details()->PackFrom(info);
  first.jobs.SetGetStatus(
      grpc::Status(grpc::StatusCode::NOT_FOUND, "no job has id a", rpc.SerializeAsString()));
  Client client({first.address, second.address}, absl::Seconds(20));
  EXPECT_EQ(DescribeError(client.GetJob("a").status()), "NOT_FOUND (JOB_NOT_FOUND): no job has id a\n");
  EXPECT_EQ(second.jobs.calls(), 0);
}

TEST(ClientTest, ListFollowsPagesUpToTheLimit) {
  FakeServer server;
  server.jobs.SetJobs(450);
  Client client({server.address}, absl::Seconds(20));
  const auto all = client.ListJobs({}, 0);
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 450u);
  EXPECT_EQ(all->back().job_id(), "449");
  EXPECT_EQ(server.jobs.calls(), 3);
  EXPECT_EQ(client.ListJobs({}, 210)->size(), 210u);
  EXPECT_EQ(client.ListJobs({}, 3)->size(), 3u);
}

TEST(ClientTest, WatchEndsWithTheTerminalState) {
  FakeServer server;
  server.jobs.AddStream({{{v1::ACTIVE, 1}, {v1::COMPLETE, 2}}, grpc::Status::OK});
  Client client({server.address}, absl::Seconds(20));
  const Watched watched = Watch(client);
  ASSERT_TRUE(watched.result.ok()) << watched.result.status();
  EXPECT_THAT(watched.states, ElementsAre("Active", "Complete"));
  EXPECT_EQ(watched.breaks, 0);
}

TEST(ClientTest, WatchSurvivesBrokenAndEarlyEndedStreams) {
  FakeServer first;
  FakeServer second;
  first.jobs.AddStream({{{v1::PREPARING, 1}}, grpc::Status(grpc::StatusCode::UNAVAILABLE, "going away")});
  second.jobs.AddStream({{{v1::ACTIVE, 3}}, grpc::Status::OK});
  first.jobs.AddStream({{{v1::READY, 2}, {v1::FAILED, 4}}, grpc::Status::OK});
  Client client({first.address, second.address}, absl::Seconds(20));
  const Watched watched = Watch(client);
  ASSERT_TRUE(watched.result.ok()) << watched.result.status();
  EXPECT_THAT(watched.states, ElementsAre("Preparing", "Active", "Failed"));
  EXPECT_EQ(watched.breaks, 2);
}

TEST(ClientTest, WatchGivesUpWhenPatienceIsOver) {
  Client client({kNobody}, absl::Seconds(20));
  const Watched watched = Watch(client, absl::Milliseconds(500));
  EXPECT_EQ(watched.result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_GE(watched.breaks, 1);
}

TEST(ClientTest, WatchOfAnUnknownJobEndsAtOnce) {
  FakeServer server;
  server.jobs.AddStream({{}, grpc::Status(grpc::StatusCode::NOT_FOUND, "no such job")});
  Client client({server.address}, absl::Seconds(20));
  const Watched watched = Watch(client);
  EXPECT_EQ(watched.result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(watched.breaks, 0);
}

}  // namespace
}  // namespace drover::cli
