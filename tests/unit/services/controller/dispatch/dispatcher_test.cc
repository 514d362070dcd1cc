#include "services/controller/dispatch/dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/strings/strings.h"
#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/dispatch/dispatch_fakes.h"

namespace drover {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int32_t kBatchTasks = 10;

class StillClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch(); }
  absl::Duration Elapsed() const override { return absl::Seconds(100); }
};

class NoSink final : public StreamSink {
 public:
  void WriteReady() override {}
  void Close(const absl::Status&) override {}
};

JobId IdOf(int n) { return StrCat("01940000-0000-7000-8000-", 100'000'000'000 + n); }

// Claimable jobs with batches of ten tasks each.
class ClaimStorage final : public FakeStorage {
 public:
  void Add(int n, int32_t priority, BatchNo batches, const std::string& operation = "no_op") {
    JobRecord record;
    record.spec.job_id = IdOf(n);
    record.spec.operation = operation;
    Put(record);
    JobView view;
    view.job_id = IdOf(n);
    view.state = lifecycle::State::kActive;
    view.priority = priority;
    view.batches = batches;
    views_.push_back(view);
    std::ranges::sort(views_, [](const JobView& a, const JobView& b) {
      return a.priority != b.priority ? a.priority > b.priority : a.job_id < b.job_id;
    });
  }

  absl::StatusOr<std::vector<JobView>> ListClaimable(int limit,
                                                     const std::optional<ClaimablePosition>& after) override {
    ++listed;
    std::vector<JobView> page;
    for (const JobView& view : views_) {
      if (after && (view.priority > after->priority ||
                    (view.priority == after->priority && view.job_id <= after->job_id))) {
        continue;
      }
      if (view.next_batch < view.batches && page.size() < static_cast<size_t>(limit)) page.push_back(view);
    }
    return page;
  }
  absl::StatusOr<std::vector<JobView>> ViewJobs(const std::vector<JobId>&) override {
    return std::vector<JobView>();
  }
  absl::StatusOr<ClaimResult> Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots, int max_batches,
                                    const std::function<LeaseId()>& new_lease_id) override {
    ClaimResult result;
    JobView& view = *std::ranges::find(views_, job_id, &JobView::job_id);
    int64_t credit = slots.at(0).credit;
    while (credit > 0 && view.next_batch < view.batches && max_batches-- > 0) {
      ClaimedLease lease;
      lease.lease_id = new_lease_id();
      lease.batch_no = view.next_batch++;
      lease.batch_tasks = kBatchTasks;
      credit -= kBatchTasks;
      result.leases.push_back(lease);
      claimed.push_back(job_id);
    }
    result.work_left = view.next_batch < view.batches;
    return result;
  }
  absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId&,
                                                        const std::vector<BatchNo>& batches) override {
    return std::vector<BatchPayload>(batches.size());
  }

  int listed = 0;
  std::vector<JobId> claimed;  // the job of each batch, in order

 private:
  std::vector<JobView> views_;
};

class DispatcherTest : public ::testing::Test {
 protected:
  // A worker that runs `operation` and has this credit.
  StreamId Attach(const std::string& operation, int64_t credit) {
    const StreamId stream = fleet_.Open(std::make_shared<NoSink>());
    AttachedStream attached;
    attached.session = StrCat("session-", stream);
    attached.attachment = 1;
    auto* support = attached.hello.add_operations();
    support->set_name(operation);
    support->set_revision(1);
    fleet_.Attached(stream, std::move(attached));
    Say(stream, 1, credit);
    return stream;
  }
  void Say(StreamId stream, int64_t number, int64_t credit) {
    v1::Status status;
    status.set_number(number);
    status.set_credit(credit);
    fleet_.OnStatus(stream, status);
  }
  void LookWhileItClaims() {
    for (int i = 0; dispatcher_.LookStep(); ++i) ASSERT_LT(i, 1000) << "never ends";
  }

  StillClock clock_;
  CountingRandom random_;
  ClaimStorage storage_;
  JobCache jobs_{storage_};
  Fleet fleet_{FleetLimits{}, clock_, random_, [](const JobId&, SegmentWrite) {}};
  DispatcherOptions options_ = [] {
    DispatcherOptions options;
    options.max_jobs_per_page = 8;
    options.max_pages_per_look = 3;
    options.max_batches_per_claim = 4;
    return options;
  }();
  Dispatcher dispatcher_{options_, storage_, fleet_, jobs_, clock_, random_, {}, [](const JobId&) {}};
};

TEST_F(DispatcherTest, JobsThatNoWorkerCanRunDoNotHideOthers) {
  for (int n = 0; n < 100; ++n) storage_.Add(n, 10, 1, "delete_object");
  storage_.Add(100, 10, 1);
  storage_.Add(101, 5, 1);
  Attach("no_op", 1000);
  int looks = 0;
  for (; storage_.claimed.size() < 2 && looks < 20; ++looks) {
    storage_.listed = 0;
    dispatcher_.LookStep();
    EXPECT_LE(storage_.listed, options_.max_pages_per_look);
  }
  EXPECT_THAT(storage_.claimed, ElementsAre(IdOf(100), IdOf(101)));
  EXPECT_LE(looks, 100 / (8 * 2) + 1);
}

TEST_F(DispatcherTest, WhatIsHighestIsLookedAtInEachLook) {
  for (int n = 0; n < 100; ++n) storage_.Add(n, 10, 1, "delete_object");
  Attach("no_op", 1000);
  dispatcher_.LookStep();
  storage_.Add(500, 11, 1);
  dispatcher_.LookStep();
  EXPECT_THAT(storage_.claimed, ElementsAre(IdOf(500)));
}

TEST_F(DispatcherTest, StartsOverOnceItHasSeenAllJobs) {
  for (int n = 0; n < 300; n += 10) storage_.Add(n, 10, 1, "delete_object");
  Attach("no_op", 1000);
  for (int i = 0; i < 2; ++i) dispatcher_.LookStep();
  storage_.Add(105, 10, 1);  // where it has been already
  for (int i = 0; i < 2; ++i) dispatcher_.LookStep();
  EXPECT_THAT(storage_.claimed, ElementsAre(IdOf(105)));
}

TEST_F(DispatcherTest, OnePageIsEnoughWhileTheCreditEndsThere) {
  for (int n = 0; n < 100; ++n) storage_.Add(n, 10, 1);
  Attach("no_op", 8 * kBatchTasks);
  dispatcher_.LookStep();
  EXPECT_EQ(storage_.listed, 1);
  EXPECT_EQ(storage_.claimed.size(), 8u);
}

TEST_F(DispatcherTest, ALowerJobGetsNothingWhileAHigherOneHasWorkAndCredit) {
  storage_.Add(1, 10, 10);  // three claims' worth
  storage_.Add(2, 5, 10);
  Attach("no_op", 12 * kBatchTasks);
  LookWhileItClaims();
  ASSERT_EQ(storage_.claimed.size(), 12u);
  EXPECT_THAT(std::vector(storage_.claimed.begin(), storage_.claimed.begin() + 10), Each(IdOf(1)));
  EXPECT_THAT(std::vector(storage_.claimed.begin() + 10, storage_.claimed.end()), Each(IdOf(2)));
}

TEST_F(DispatcherTest, WhatEqualJobsLeaveOfTheirSharesIsTheirsBeforeALowerOne) {
  storage_.Add(1, 10, 20);
  storage_.Add(2, 10, 1);
  storage_.Add(3, 5, 20);
  Attach("no_op", 20 * kBatchTasks);
  LookWhileItClaims();
  EXPECT_EQ(storage_.claimed.size(), 20u);
  EXPECT_THAT(storage_.claimed, Contains(IdOf(2)).Times(1));
  EXPECT_THAT(storage_.claimed, Contains(IdOf(1)).Times(19));
}

TEST_F(DispatcherTest, CreditOfWorkersThatCanNotRunTheHigherJobIsTheLowerOnes) {
  storage_.Add(1, 10, 100);
  storage_.Add(2, 5, 2, "copy_object");
  Attach("copy_object", 1000);
  LookWhileItClaims();
  EXPECT_THAT(storage_.claimed, ElementsAre(IdOf(2), IdOf(2)));
}

TEST_F(DispatcherTest, WithoutCreditItDoesNotLook) {
  storage_.Add(1, 10, 1);
  Attach("no_op", 0);
  EXPECT_FALSE(dispatcher_.LookStep());
  EXPECT_EQ(storage_.listed, 0);
  EXPECT_THAT(storage_.claimed, IsEmpty());
}

}  // namespace
}  // namespace drover
