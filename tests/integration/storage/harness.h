// What the contract tests of Storage share: the implementations under test, and builders that bring a job, a
// session or a lease to where a test begins.
//
// A test takes GetParam().make() twice for two controllers on one database. It uses nothing but the Storage
// interface; what needs SQL (constraints, broken connections) is in postgres_*_test.cc.
#ifndef DROVER_TESTS_INTEGRATION_STORAGE_HARNESS_H_
#define DROVER_TESTS_INTEGRATION_STORAGE_HARNESS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/controller/storage/storage.h"
#include "tests/support/reason.h"

namespace drover::testing {

// An implementation: `reset` empties it, `make` gives another controller's view of the same data.
struct StorageUnderTest {
  std::string name;
  std::function<void()> reset;
  std::function<std::unique_ptr<Storage>()> make;
};
inline void PrintTo(const StorageUnderTest& under_test, std::ostream* out) { *out << under_test.name; }

// Implementations that every contract test of this program runs against: each program that links the tests
// has its own (postgres_under_test.cc here, memory_under_test.cc in the unit tests of storage/memory).
std::vector<StorageUnderTest> StoragesUnderTest();

// Fails the test with the status if it is no value.
template <typename T>
T Value(absl::StatusOr<T> result, const char* what = "") {
  if (!result.ok()) {
    ADD_FAILURE() << what << ": " << result.status();
    return T();
  }
  return *std::move(result);
}

MATCHER_P2(IsError, code, reason, "") {
  *result_listener << arg;
  return arg.code() == code && ReasonOf(arg) == reason;
}
MATCHER(IsOk, "") {
  *result_listener << arg;
  return arg.ok();
}

// {first, …, end - 1}.
TaskSet Range(uint32_t first, uint32_t end);

class StorageTest : public ::testing::TestWithParam<StorageUnderTest> {
 protected:
  void SetUp() override;

  Storage& storage() { return *storage_; }
  std::unique_ptr<Storage> AnotherController() { return GetParam().make(); }

  static std::string NewId();
  static LeaseId NewLease();

  // A job as CreateJob wants it, of the no-op, without report.
  static NewJob SomeJob();
  // Creates a job in New.
  JobId CreateJob(const NewJob& job);
  JobId CreateJob() { return CreateJob(SomeJob()); }
  // Takes the job's duty of that kind, whatever else is due.
  Duty Acquire(const JobId& job_id, DutyKind kind, int32_t part = 0, absl::Duration lease = absl::Minutes(5));
  // Applies lifecycle::Decide of that cause.
  absl::StatusOr<std::optional<lifecycle::Change>> Change(const JobId& job_id, lifecycle::Cause cause,
                                                          bool with_leases = false,
                                                          const std::string& caller = "ann");
  // A job in Preparing, and its duty.
  std::pair<JobId, Duty> PreparingJob(const NewJob& job);
  // Batches of these sizes, beginning at task `first`, each with a payload of its own.
  static std::vector<NewBatch> Batches(const std::vector<int32_t>& sizes, int64_t first = 0);
  // A job that is prepared with batches of these sizes: Ready.
  JobId ReadyJob(const std::vector<int32_t>& sizes, const NewJob& job = SomeJob());

  // A session in the database.
  SessionId CreateSession(int64_t attachment = 1, absl::Duration ttl = absl::Minutes(5));
  // Claims up to `max_batches` for one stream.
  std::vector<ClaimedLease> Claim(const JobId& job_id, const SessionId& session, int64_t attachment = 1,
                                  int max_batches = 100);
  // The key of a claimed lease.
  static LeaseKey KeyOf(const ClaimedLease& lease) { return {lease.batch_no, lease.lease_id}; }
  static Storage::OwnedLease Owned(const JobId& job_id, const ClaimedLease& lease, const SessionId& session,
                                   int64_t attachment = 1) {
    return {job_id, KeyOf(lease), session, attachment};
  }

  // A segment with all tasks of the batch succeeded but `failed`.
  static SegmentWrite WholeBatch(const ClaimedLease& lease, const SessionId& session, int32_t failed = 0);
  // A segment of these tasks, of which `failed` failed.
  static SegmentWrite Segment(const ClaimedLease& lease, const SessionId& session, int64_t sequence,
                              TaskSet executed, int32_t failed = 0);
  RecordResult Record(const JobId& job_id, const std::vector<SegmentWrite>& segments,
                      const lifecycle::FailurePolicy& policy = {});
  SegmentResult RecordOne(const JobId& job_id, const SegmentWrite& segment);

  JobRecord Get(const JobId& job_id) { return Value(storage().GetJob(job_id), "GetJob"); }
  lifecycle::State StateOf(const JobId& job_id) { return Get(job_id).snapshot.state; }
  // The tasks that segments of this batch have recorded; adds a failure if one is recorded twice.
  TaskSet RecordedOf(const JobId& job_id, BatchNo batch_no, int32_t batch_tasks);

 private:
  std::unique_ptr<Storage> storage_;
};

#define DROVER_STORAGE_CONTRACT(suite)                                                              \
  INSTANTIATE_TEST_SUITE_P(All, suite, ::testing::ValuesIn(::drover::testing::StoragesUnderTest()), \
                           [](const auto& info) { return info.param.name; })

}  // namespace drover::testing

#endif  // DROVER_TESTS_INTEGRATION_STORAGE_HARNESS_H_
