// What the worker's unit tests share: virtual time, seeded randomness, and fakes that record.
#ifndef DROVER_TESTS_UNIT_SERVICES_WORKER_TESTING_H_
#define DROVER_TESTS_UNIT_SERVICES_WORKER_TESTING_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/codec/task_batch.h"
#include "common/codec/task_set.h"
#include "drover/v1/worker_service.pb.h"
#include "services/worker/executor/lease_work.h"
#include "services/worker/lease/lease_client.h"

namespace drover {

class ManualClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'700'000'000) + elapsed_; }
  absl::Duration Elapsed() const override { return elapsed_; }
  void Advance(absl::Duration by) { elapsed_ += by; }

 private:
  absl::Duration elapsed_ = absl::Hours(1);
};

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed = 1) : engine_(seed) {}
  uint64_t Next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

// Records what would go to controllers.
class FakeTransport final : public LeaseTransport {
 public:
  void Open(size_t controller) override {
    opened.push_back(controller);
    open = true;
  }
  void Send(std::shared_ptr<const v1::WorkRequest> message) override { sent.push_back(*message); }
  bool status_waiting() const override { return waiting; }
  void Close() override {
    open = false;
    ++closed;
  }

  // Messages sent since the last call, of one kind.
  std::vector<v1::Status> TakeStatuses() {
    std::vector<v1::Status> out;
    for (const auto& message : Take([](const v1::WorkRequest& m) { return m.has_status(); })) {
      out.push_back(message.status());
    }
    return out;
  }
  std::vector<v1::Segment> TakeSegments() {
    std::vector<v1::Segment> out;
    for (const auto& message : Take([](const v1::WorkRequest& m) { return m.has_segment(); })) {
      out.push_back(message.segment());
    }
    return out;
  }
  std::vector<v1::Hello> TakeHellos() {
    std::vector<v1::Hello> out;
    for (const auto& message : Take([](const v1::WorkRequest& m) { return m.has_hello(); })) {
      out.push_back(message.hello());
    }
    return out;
  }

  std::vector<size_t> opened;
  std::vector<v1::WorkRequest> sent;
  bool open = false;
  bool waiting = false;
  int closed = 0;

 private:
  template <typename Is>
  std::vector<v1::WorkRequest> Take(Is is) {
    std::vector<v1::WorkRequest> out;
    std::vector<v1::WorkRequest> rest;
    for (v1::WorkRequest& message : sent) (is(message) ? out : rest).push_back(std::move(message));
    sent = std::move(rest);
    return out;
  }
};

// Records what it is told.
class FakeRunner final : public LeaseRunner {
 public:
  absl::Status SetJob(const v1::JobContext& context) override {
    if (!set_job_error.ok()) return set_job_error;
    contexts.push_back(context);
    return absl::OkStatus();
  }
  void ForgetJob(const std::string& job_id) override { forgotten.push_back(job_id); }
  void Start(LeaseWork work) override { started.push_back(std::move(work)); }
  void Revoke(int64_t lease_id, bool abort, absl::Duration grace) override {
    revoked.push_back({lease_id, abort, grace});
  }
  void Drop(int64_t lease_id) override { dropped.push_back(lease_id); }
  void AbortInFlight() override { ++aborts; }
  void Wake() override { ++wakes; }
  void StartDrain() override { draining = true; }
  Appetite appetite() const override { return wants; }

  struct Revoked {
    int64_t lease_id;
    bool abort;
    absl::Duration grace;
  };
  absl::Status set_job_error;
  std::vector<v1::JobContext> contexts;
  std::vector<std::string> forgotten;
  std::vector<LeaseWork> started;
  std::vector<Revoked> revoked;
  std::vector<int64_t> dropped;
  int aborts = 0;
  int wakes = 0;
  bool draining = false;
  Appetite wants{.credit = 256, .urgent_credit = 0, .urgent_above = 0, .target = 256};
};

inline v1::WorkResponse MakeWelcome(const std::string& session, std::vector<int64_t> lost = {}) {
  v1::WorkResponse response;
  v1::Welcome& welcome = *response.mutable_welcome();
  welcome.set_protocol(1);
  welcome.set_session_id(session);
  welcome.set_resume_token("token of " + session);
  welcome.mutable_ttl()->set_seconds(15);
  welcome.mutable_heartbeat_interval()->set_seconds(3);
  welcome.set_max_message_bytes(8 << 20);
  welcome.set_max_unacked_bytes(1 << 20);
  for (const int64_t id : lost) welcome.add_lost_leases(id);
  return response;
}

inline v1::WorkResponse MakeStatusAck(int64_t number) {
  v1::WorkResponse response;
  response.mutable_status_ack()->set_number(number);
  return response;
}

inline v1::WorkResponse MakeContext(const std::string& job, int32_t priority = 0, int64_t version = 1) {
  v1::WorkResponse response;
  v1::JobContext& context = *response.mutable_job_context();
  context.set_job_id(job);
  context.set_version(version);
  context.set_priority(priority);
  context.mutable_operation()->mutable_no_op();
  return response;
}

inline v1::WorkResponse MakeGrant(int64_t lease, const std::string& job, int32_t batch_tasks,
                                  std::vector<std::pair<int, int>> ranges = {}) {
  v1::WorkResponse response;
  v1::Grant& grant = *response.mutable_grant();
  grant.set_lease_id(lease);
  grant.set_job_id(job);
  grant.set_batch_no(lease % 100'000 * 10);
  grant.set_batch_tasks(batch_tasks);
  grant.set_payload("payload");
  for (const auto& [first, end] : ranges) {
    v1::TaskRange& range = *grant.add_tasks();
    range.set_first(first);
    range.set_end(end);
  }
  return response;
}

inline v1::WorkResponse MakeSegmentAck(int64_t lease, int64_t sequence,
                                       v1::SegmentAck::Result result = v1::SegmentAck::RECORDED) {
  v1::WorkResponse response;
  response.mutable_segment_ack()->set_lease_id(lease);
  response.mutable_segment_ack()->set_sequence(sequence);
  response.mutable_segment_ack()->set_result(result);
  return response;
}

inline Outcome MakeFailure(uint32_t index, const std::string& code = "NoSuchKey",
                           const std::string& message = "gone") {
  Outcome outcome;
  outcome.index = index;
  outcome.succeeded = false;
  outcome.http_status = 404;
  outcome.code = code;
  outcome.message = message;
  return outcome;
}

// The payload of a batch of `count` tasks in `buckets` in turn, each for `run` tasks; keys are "key-<index>".
inline std::string MakePayload(size_t count, std::vector<std::string> buckets = {"bucket"},
                               size_t run = 1 << 20) {
  TaskBatchBuilder builder;
  for (size_t i = 0; i < count; ++i) {
    const std::string key = "key-" + std::to_string(i);
    builder.Add({.bucket = buckets[i / run % buckets.size()], .key = key, .version_id = ""});
  }
  return builder.Finish();
}

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_WORKER_TESTING_H_
