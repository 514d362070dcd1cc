// Status and Segment messages of a hostile worker, at the controller's Fleet: nothing that they say records a
// task outside of the leases granted, or one task twice, and a stream that was closed stays so. The input is
// a list of messages, each a byte for its kind, two for its length, and its protobuf bytes.
#include <fuzzer/FuzzedDataProvider.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "services/controller/dispatch/fleet.h"
#include "tests/fuzz/fuzz.h"

namespace drover {
namespace {

constexpr char kJob[] = "01940000-0000-7000-8000-000000000001";
constexpr int32_t kTasks = 64;
constexpr LeaseId kLeases = 3;

class StillClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch(); }
  absl::Duration Elapsed() const override { return absl::Seconds(100); }
};

class CountingRandom final : public Random {
 public:
  uint64_t Next() override { return ++next_; }

 private:
  uint64_t next_ = 1000;
};

class Sink final : public StreamSink {
 public:
  void WriteReady() override {}
  void Close(const absl::Status& status) override { closed = status; }
  std::optional<absl::Status> closed;
};

class OneWorker {
 public:
  OneWorker() {
    stream_ = fleet_.Open(sink_);
    AttachedStream attached;
    attached.session = "session";
    attached.attachment = 1;
    auto* operation = attached.hello.add_operations();
    operation->set_name("no_op");
    operation->set_revision(1);
    fleet_.Attached(stream_, std::move(attached));
    v1::Status status;
    status.set_number(1);
    status.set_credit(1000);
    fleet_.OnStatus(stream_, status);
    JobInfo job;
    job.job_id = kJob;
    job.operation = "no_op";
    for (LeaseId lease = 1; lease <= kLeases; ++lease) {
      const auto slots = fleet_.Slots(job, 0);
      DROVER_FUZZ_EXPECT(!slots.empty());
      ClaimedLease claimed;
      claimed.lease_id = lease;
      claimed.batch_no = lease;
      claimed.batch_tasks = kTasks;
      v1::JobContext context;
      context.set_job_id(kJob);
      context.set_version(1);
      fleet_.AddGrant(slots[0], kJob, claimed, "payload", context);
    }
    while (fleet_.NextMessage(stream_)) {
    }
  }

  void Send(bool segment, const std::string& bytes) {
    if (sink_->closed) return;
    if (segment) {
      v1::Segment message;
      if (message.ParseFromString(bytes)) fleet_.OnSegment(stream_, message);
    } else {
      v1::Status message;
      if (message.ParseFromString(bytes)) fleet_.OnStatus(stream_, message);
    }
    while (fleet_.NextMessage(stream_)) {
    }
  }

 private:
  void Submitted(const JobId& job, const SegmentWrite& segment) {
    DROVER_FUZZ_EXPECT(job == kJob);
    DROVER_FUZZ_EXPECT(segment.lease.lease_id >= 1 && segment.lease.lease_id <= kLeases);
    TaskSet all = segment.executed.value_or(TaskSet::All(kTasks));
    const size_t executed = all.count();
    DROVER_FUZZ_EXPECT(!all.Intersects(segment.returned));
    all.Union(segment.returned);
    DROVER_FUZZ_EXPECT(!all.empty() && all.end() <= kTasks);
    TaskSet& before = seen_[segment.lease.lease_id];
    DROVER_FUZZ_EXPECT(!all.Intersects(before));
    before.Union(all);
    DROVER_FUZZ_EXPECT(segment.succeeded >= 0 && segment.failed >= 0);
    DROVER_FUZZ_EXPECT(static_cast<size_t>(segment.succeeded + segment.failed) == executed);
    DROVER_FUZZ_EXPECT(segment.sequence == ++sequences_[segment.lease.lease_id]);
  }

  StillClock clock_;
  CountingRandom random_;
  std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
  std::map<LeaseId, TaskSet> seen_;
  std::map<LeaseId, int64_t> sequences_;
  Fleet fleet_{FleetLimits{}, clock_, random_,
               [this](const JobId& job, const SegmentWrite& segment) { Submitted(job, segment); }};
  StreamId stream_ = 0;
};

}  // namespace
}  // namespace drover

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider provider(data, size);
  drover::OneWorker worker;
  for (int i = 0; i < 16 && provider.remaining_bytes() > 0; ++i) {
    const bool segment = provider.ConsumeBool();
    const size_t length = provider.ConsumeIntegral<uint16_t>();
    worker.Send(segment, provider.ConsumeBytesAsString(length));
  }
  return 0;
}
