#include "tests/integration/storage/harness.h"

#include <algorithm>

#include "common/clock/clock.h"
#include "common/status/status.h"
#include "common/sync/mutex.h"

namespace drover::testing {

using lifecycle::Cause;

TaskSet Range(uint32_t first, uint32_t end) {
  TaskSet set;
  set.AddRange(first, end);
  return set;
}

void StorageTest::SetUp() {
  GetParam().reset();
  storage_ = GetParam().make();
}

std::string StorageTest::NewId() {
  // In the order of their making even within one millisecond, so that tests may say which comes first.
  static Mutex mu;
  static std::string& last = *new std::string;
  MutexLock lock(&mu);
  std::string id = NewUuid7(SystemClock(), SystemRandom());
  while (id <= last) id = NewUuid7(SystemClock(), SystemRandom());
  last = id;
  return id;
}
LeaseId StorageTest::NewLease() { return NewLeaseId(SystemRandom()); }

NewJob StorageTest::SomeJob() {
  NewJob job;
  job.spec.job_id = NewId();
  job.spec.operation = "noop";
  job.spec.request = "request";
  job.spec.creator = "ann";
  job.spec.created = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));
  return job;
}

JobId StorageTest::CreateJob(const NewJob& job) {
  const Storage::Created created = Value(storage().CreateJob(job), "CreateJob");
  EXPECT_TRUE(created.created);
  return created.job_id;
}

Duty StorageTest::Acquire(const JobId& job_id, DutyKind kind, int32_t part, absl::Duration lease) {
  // Others that are due are let go of again.
  const std::vector<Duty> duties =
      Value(storage().AcquireDuties("test", {kind}, 1000, lease), "AcquireDuties");
  Duty wanted;
  for (const Duty& duty : duties) {
    if (duty.job_id == job_id && duty.part == part) {
      wanted = duty;
    } else {
      EXPECT_THAT(storage().ReleaseDuty(duty, absl::ZeroDuration(), false), IsOk());
    }
  }
  EXPECT_EQ(wanted.job_id, job_id) << "duty " << static_cast<int>(kind) << "/" << part << " is not due";
  return wanted;
}

absl::StatusOr<std::optional<lifecycle::Change>> StorageTest::Change(const JobId& job_id, Cause cause,
                                                                     bool with_leases,
                                                                     const std::string& caller) {
  return storage().ChangeJob(
      job_id,
      [&](const lifecycle::Snapshot& snapshot) {
        return lifecycle::Decide(snapshot, {cause, "why", caller, {}});
      },
      with_leases);
}

std::pair<JobId, Duty> StorageTest::PreparingJob(const NewJob& job) {
  const JobId job_id = CreateJob(job);
  EXPECT_THAT(Change(job_id, Cause::kPrepareBegins).status(), IsOk());
  return {job_id, Acquire(job_id, DutyKind::kPrepare)};
}

std::vector<NewBatch> StorageTest::Batches(const std::vector<int32_t>& sizes, int64_t first) {
  std::vector<NewBatch> batches;
  for (const int32_t size : sizes) {
    std::string payload = "\x01payload of ";
    payload += std::to_string(first);
    payload.push_back('\0');
    batches.push_back({first, size, payload});
    first += size;
  }
  return batches;
}

JobId StorageTest::ReadyJob(const std::vector<int32_t>& sizes, const NewJob& job) {
  const auto [job_id, duty] = PreparingJob(job);
  EXPECT_THAT(storage().AppendBatches(duty, {Batches(sizes), "end", true}), IsOk());
  return job_id;
}

SessionId StorageTest::CreateSession(int64_t attachment, absl::Duration ttl) {
  SessionInfo info;
  info.session_id = NewId();
  info.token_hash = "hash";
  info.name = "worker";
  info.version = "1";
  info.controller = "controller";
  info.attachment = attachment;
  info.hello = "hello";
  EXPECT_THAT(storage().CreateSession(info, ttl), IsOk());
  return info.session_id;
}

std::vector<ClaimedLease> StorageTest::Claim(const JobId& job_id, const SessionId& session,
                                             int64_t attachment, int max_batches) {
  return Value(storage().Claim(job_id, {{session, attachment, 1'000'000}}, max_batches, NewLease), "Claim")
      .leases;
}

SegmentWrite StorageTest::WholeBatch(const ClaimedLease& lease, const SessionId& session, int32_t failed) {
  SegmentWrite segment;
  segment.lease = KeyOf(lease);
  segment.sequence = 1;
  segment.session = session;
  segment.succeeded = lease.batch_tasks - failed;
  segment.failed = failed;
  if (failed > 0) segment.payload = "failures";
  return segment;
}

SegmentWrite StorageTest::Segment(const ClaimedLease& lease, const SessionId& session, int64_t sequence,
                                  TaskSet executed, int32_t failed) {
  SegmentWrite segment = WholeBatch(lease, session, failed);
  segment.sequence = sequence;
  segment.succeeded = static_cast<int32_t>(executed.count()) - failed;
  segment.executed = std::move(executed);
  return segment;
}

RecordResult StorageTest::Record(const JobId& job_id, const std::vector<SegmentWrite>& segments,
                                 const lifecycle::FailurePolicy& policy) {
  return Value(storage().Record(job_id, segments, policy), "Record");
}

SegmentResult StorageTest::RecordOne(const JobId& job_id, const SegmentWrite& segment) {
  const RecordResult result = Record(job_id, {segment});
  return result.results.empty() ? SegmentResult::kLost : result.results[0];
}

TaskSet StorageTest::RecordedOf(const JobId& job_id, BatchNo batch_no, int32_t batch_tasks) {
  TaskSet all;
  for (const StoredSegment& segment : Value(storage().ReadSegments(job_id, batch_no, batch_no + 1, false))) {
    const TaskSet tasks =
        segment.executed ? *segment.executed : TaskSet::All(static_cast<size_t>(batch_tasks));
    EXPECT_FALSE(all.Intersects(tasks)) << "recorded twice in batch " << batch_no;
    EXPECT_EQ(tasks.count(), static_cast<size_t>(segment.succeeded + segment.failed));
    all.Union(tasks);
  }
  return all;
}

}  // namespace drover::testing
