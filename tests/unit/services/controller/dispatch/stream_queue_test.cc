#include "services/controller/dispatch/stream_queue.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

QueuedGrant GrantOf(const JobId& job, LeaseId lease, int64_t tasks = 10) {
  QueuedGrant grant;
  grant.job_id = job;
  grant.lease = {0, lease};
  grant.tasks = tasks;
  grant.message.set_job_id(job);
  grant.message.set_lease_id(lease);
  return grant;
}

v1::JobContext ContextOf(const JobId& job, int64_t version = 1) {
  v1::JobContext context;
  context.set_job_id(job);
  context.set_version(version);
  return context;
}

// What the queue writes, in words.
std::vector<std::string> Drain(StreamQueue& queue) {
  std::vector<std::string> written;
  while (auto message = queue.Next([](const JobId& job) { return ContextOf(job); })) {
    switch (message->message_case()) {
      case v1::WorkResponse::kJobContext:
        written.push_back("context " + message->job_context().job_id());
        break;
      case v1::WorkResponse::kGrant:
        written.push_back("grant " + std::to_string(message->grant().lease_id()));
        break;
      case v1::WorkResponse::kSegmentAck:
        written.push_back("ack " + std::to_string(message->segment_ack().lease_id()));
        break;
      case v1::WorkResponse::kRevoke: written.push_back("revoke " + message->revoke().job_id()); break;
      default: written.push_back("other");
    }
  }
  return written;
}

using Words = std::vector<std::string>;

TEST(StreamQueue, SendsAContextBeforeAJobsFirstGrantAndNotBeforeTheSecond) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1));
  queue.PushGrant(GrantOf("a", 2));
  queue.PushGrant(GrantOf("b", 3));
  EXPECT_EQ(Drain(queue), (Words{"context a", "grant 1", "grant 2", "context b", "grant 3"}));
}

TEST(StreamQueue, SendsTheContextAgainOnceTheLastLeaseIsOver) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1));
  Drain(queue);
  queue.PushSegmentAck("a", 1, 1, v1::SegmentAck::RECORDED, true);
  queue.PushGrant(GrantOf("a", 2));
  EXPECT_EQ(Drain(queue), (Words{"ack 1", "context a", "grant 2"}));
}

// Stream.tla's "context-at-enqueue": the Grant was queued while the worker had the context, and is written
// after the acknowledgment with which the worker forgets it.
TEST(StreamQueue, DecidesWhetherAContextIsNeededWhenTheGrantIsWritten) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1));
  Drain(queue);
  queue.PushGrant(GrantOf("a", 2));
  queue.PushSegmentAck("a", 1, 1, v1::SegmentAck::RECORDED, true);
  EXPECT_EQ(Drain(queue), (Words{"ack 1", "context a", "grant 2"}));
}

TEST(StreamQueue, WritesControlBeforeGrants) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1));
  v1::WorkResponse revoke;
  revoke.mutable_revoke()->set_job_id("b");
  queue.PushControl(revoke);
  EXPECT_EQ(Drain(queue), (Words{"revoke b", "context a", "grant 1"}));
}

// A worker that came back with a lease has no context: one is written for the Grant. Were the acknowledgment
// that ends the lease it brought written between the two, it would forget the context again.
TEST(StreamQueue, WritesAGrantRightAfterItsContext) {
  StreamQueue queue;
  queue.AddHeld("a", 7);
  queue.PushGrant(GrantOf("a", 1));
  const auto context = queue.Next([](const JobId& job) { return ContextOf(job); });
  ASSERT_TRUE(context && context->has_job_context());
  queue.PushSegmentAck("a", 7, 1, v1::SegmentAck::RECORDED, true);
  EXPECT_EQ(Drain(queue), (Words{"grant 1", "ack 7"}));
}

TEST(StreamQueue, WithdrawsQueuedGrantsSoThatNoRevokeOvertakesOne) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1));
  queue.PushGrant(GrantOf("b", 2));
  queue.PushGrant(GrantOf("a", 3));
  const auto withdrawn = queue.Withdraw("a");
  ASSERT_EQ(withdrawn.size(), 2u);
  EXPECT_EQ(queue.queued_tasks(), 10);
  EXPECT_EQ(Drain(queue), (Words{"context b", "grant 2"}));
}

TEST(StreamQueue, WithdrawsAGrantWhoseContextIsWrittenAlready) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1));
  const auto context = queue.Next([](const JobId& job) { return ContextOf(job); });
  ASSERT_TRUE(context && context->has_job_context());
  EXPECT_EQ(queue.Withdraw("a").size(), 1u);
  EXPECT_TRUE(queue.empty());
  queue.PushGrant(GrantOf("a", 2));
  EXPECT_EQ(Drain(queue), (Words{"context a", "grant 2"}));
}

TEST(StreamQueue, SendsANewContextOnlyToWhoHasAnOlderOne) {
  StreamQueue queue;
  queue.UpdateContext(ContextOf("a", 5));
  EXPECT_TRUE(queue.empty());
  queue.AddHeld("a", 7);
  queue.UpdateContext(ContextOf("a", 5));
  queue.UpdateContext(ContextOf("a", 5));
  queue.PushGrant(GrantOf("a", 1));
  EXPECT_EQ(Drain(queue), (Words{"context a", "grant 1"}));
}

TEST(StreamQueue, CountsTheTasksThatTheWorkerHadNotSeen) {
  StreamQueue queue;
  queue.PushGrant(GrantOf("a", 1, 100));
  queue.PushGrant(GrantOf("a", 2, 50));
  EXPECT_EQ(queue.queued_tasks(), 150);
  Drain(queue);
  EXPECT_EQ(queue.queued_tasks(), 0);
  EXPECT_EQ(queue.UnseenTasks(0), 150);
  EXPECT_EQ(queue.UnseenTasks(1), 50);
  EXPECT_EQ(queue.UnseenTasks(2), 0);
}

}  // namespace
}  // namespace drover
