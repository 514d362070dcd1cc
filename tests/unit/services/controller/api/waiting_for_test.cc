#include "services/controller/api/waiting_for.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "drover/v1/worker_service.pb.h"
#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using lifecycle::State;

JobRecord WaitingJob(State state = State::kReady) {
  JobRecord record = GoodRecord(TestJobId(1), state);
  record.spec.operation = "copy_object";
  record.spec.min_revision = 2;
  record.spec.stores = {{"main", "f1"}, {"other", "f2"}, {"reports", "f3"}};
  record.spec.worker_stores = {"main", "other"};
  record.snapshot.tasks = 10;
  return record;
}

std::string WaitsFor(const WorkerAbilities& workers) { return WaitingFor(WaitingJob().spec, workers); }

TEST(Waits, OnlyWhileItHasTasksToRunAndRunsNone) {
  EXPECT_TRUE(Waits(WaitingJob()));
  EXPECT_TRUE(Waits(WaitingJob(State::kActive)));
  JobRecord record = WaitingJob(State::kPaused);
  EXPECT_FALSE(Waits(record)) << "a person's pause says whose it is";
  record.snapshot.reason_code = "PREEMPTED";
  EXPECT_TRUE(Waits(record));
  EXPECT_FALSE(Waits(WaitingJob(State::kPreparing)));
  EXPECT_FALSE(Waits(WaitingJob(State::kCompleting)));
  record = WaitingJob(State::kActive);
  record.owns_lease = true;
  EXPECT_FALSE(Waits(record));
  record = WaitingJob(State::kActive);
  record.snapshot.succeeded = 7;
  record.snapshot.failed = 3;
  EXPECT_FALSE(Waits(record));
}

TEST(WaitingFor, SaysWhatIsMissing) {
  EXPECT_EQ(WaitsFor({}), "a worker: none is attached");
  EXPECT_EQ(WaitsFor({{{{{"no_op", 1}}, {}}, 3}}),
            "a worker that can run copy_object at revision 2 (3 are attached)");
  EXPECT_EQ(WaitsFor({{{{{"copy_object", 1}}, {{"main", "f1"}, {"other", "f2"}}}, 1}}),
            "a worker that can run copy_object at revision 2 (1 is attached)");
  EXPECT_EQ(WaitsFor({{{{{"copy_object", 2}}, {{"main", "f1"}}}, 2}}),
            "a worker that can run copy_object at revision 2 and reaches store other (2 are attached)");
  EXPECT_EQ(
      WaitsFor({{{{{"copy_object", 3}}, {{"main", "moved"}, {"other", "f2"}}}, 2}}),
      "a worker that can run copy_object at revision 2 and reaches store main, as the job pinned it when "
      "it was created (2 are attached)");
  EXPECT_EQ(
      WaitsFor(
          {{{{{"copy_object", 2}}, {{"main", "f1"}}}, 1}, {{{{"copy_object", 2}}, {{"other", "f2"}}}, 1}}),
      "a worker that can run copy_object at revision 2 and reaches all of the stores main, other (2 are "
      "attached)");
}

TEST(WaitingFor, AJobThatSomeWorkerCanRunWaitsForItsTurn) {
  EXPECT_EQ(
      WaitsFor({{{{{"no_op", 1}}, {}}, 3}, {{{{"copy_object", 2}}, {{"main", "f1"}, {"other", "f2"}}}, 2}}),
      "its turn: 2 of 5 attached workers can run it");
}

class AttachedWorkersTest : public ::testing::Test {
 protected:
  void Attach(int n, int32_t revision, bool draining = false) {
    v1::Hello hello;
    v1::OperationSupport* operation = hello.add_operations();
    operation->set_name("copy_object");
    operation->set_revision(revision);
    for (const auto& [name, fingerprint] : WaitingJob().spec.stores) {
      v1::StoreSupport* store = hello.add_stores();
      store->set_name(name);
      store->set_fingerprint(fingerprint);
    }
    SessionInfo session;
    session.session_id = TestJobId(n);
    session.hello = hello.SerializeAsString();
    session.draining = draining;
    storage_.PutSession(session);
  }
  FakeStorage storage_;
  FakeClock clock_;
  AttachedWorkers workers_{storage_, clock_};
};

TEST_F(AttachedWorkersTest, ReadsSessionsOfAllControllersPageByPage) {
  for (int n = 0; n < 501; ++n) Attach(n, 1);
  Attach(501, 2);
  EXPECT_EQ(workers_.WaitingFor(WaitingJob()), "its turn: 1 of 502 attached workers can run it");
}

TEST_F(AttachedWorkersTest, AWorkerThatDrainsTakesNothingMore) {
  Attach(1, 2, true);
  EXPECT_EQ(workers_.WaitingFor(WaitingJob()), "a worker: none is attached");
}

TEST_F(AttachedWorkersTest, ReadsThemOnceASecondAndOnlyForJobsThatWait) {
  EXPECT_EQ(workers_.WaitingFor(GoodRecord(TestJobId(1), State::kComplete)), "");
  EXPECT_EQ(storage_.calls("ListSessions"), 0);
  for (int i = 0; i < 100; ++i) workers_.WaitingFor(WaitingJob());
  EXPECT_EQ(storage_.calls("ListSessions"), 1);
  Attach(1, 2);
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(workers_.WaitingFor(WaitingJob()), "its turn: 1 of 1 attached workers can run it");
}

TEST_F(AttachedWorkersTest, WhileTheDatabaseIsAwayWhatWasReadCounts) {
  Attach(1, 1);
  const std::string before = workers_.WaitingFor(WaitingJob());
  storage_.Fail(absl::UnavailableError("away"));
  clock_.Advance(absl::Seconds(5));
  EXPECT_EQ(workers_.WaitingFor(WaitingJob()), before);
  AttachedWorkers others(storage_, clock_);
  EXPECT_EQ(others.WaitingFor(WaitingJob()), "");
}

}  // namespace
}  // namespace drover
