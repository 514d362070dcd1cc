#include "services/controller/outcome/gatherer.h"

#include <gtest/gtest.h>

#include "common/failpoint/failpoint.h"
#include "common/status/status.h"
#include "tests/unit/services/controller/api/fake_storage.h"

namespace drover {
namespace {

// Time that stands still unless told to go on.
class ManualClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + elapsed_; }
  absl::Duration Elapsed() const override { return elapsed_; }
  void Advance(absl::Duration by) { elapsed_ += by; }

 private:
  absl::Duration elapsed_ = absl::Seconds(1);
};

class FixedRandom final : public Random {
 public:
  uint64_t Next() override { return 1; }
};

// Records what it is told to, unless told to fail.
class RecordingStorage final : public FakeStorage {
 public:
  absl::StatusOr<RecordResult> Record(const JobId& job_id, const std::vector<SegmentWrite>& segments,
                                      const lifecycle::FailurePolicy&) override {
    std::string call = job_id + ":";
    for (const SegmentWrite& segment : segments) {
      call += " " + std::to_string(segment.lease.lease_id) + "/" + std::to_string(segment.sequence);
    }
    calls.push_back(call);
    if (fail) {
      const absl::Status status = fail(segments);
      if (!status.ok()) return status;
    }
    RecordResult result;
    for (const SegmentWrite& segment : segments) {
      const bool fresh = recorded.emplace(segment.lease.lease_id, segment.sequence).second;
      result.results.push_back(fresh ? SegmentResult::kRecorded : SegmentResult::kAlready);
      result.lease_ended.push_back(false);
    }
    return result;
  }

  std::function<absl::Status(const std::vector<SegmentWrite>&)> fail;
  std::vector<std::string> calls;
  std::set<std::pair<LeaseId, int64_t>> recorded;
};

class GathererTest : public testing::Test {
 protected:
  static SegmentWrite Segment(LeaseId lease, int64_t sequence) {
    SegmentWrite segment;
    segment.lease = {static_cast<BatchNo>(lease), lease};
    segment.sequence = sequence;
    segment.session = "s";
    segment.succeeded = 1;
    return segment;
  }
  static bool Has(const std::vector<SegmentWrite>& segments, LeaseId lease, int64_t sequence) {
    for (const SegmentWrite& segment : segments) {
      if (segment.lease.lease_id == lease && segment.sequence == sequence) return true;
    }
    return false;
  }

  using Calls = std::vector<std::string>;
  ManualClock clock_;
  FixedRandom random_;
  RecordingStorage storage_;
  Calls answers_;
  Calls rejected_;
  Gatherer gatherer_{
      GathererOptions{.max_group_segments = 3},
      storage_,
      clock_,
      random_,
      GathererMetrics{},
      Gatherer::Hooks{.policy = [](const JobId&) -> absl::StatusOr<lifecycle::FailurePolicy> {
                        return lifecycle::FailurePolicy{};
                      },
                      .recorded =
                          [this](const JobId&, const SegmentWrite& segment, SegmentResult result, bool) {
                            answers_.push_back(std::to_string(segment.lease.lease_id) + "/" +
                                               std::to_string(segment.sequence) +
                                               (result == SegmentResult::kAlready ? " already" : ""));
                          },
                      .rejected =
                          [this](const JobId&, const SegmentWrite& segment, const absl::Status&) {
                            rejected_.push_back(std::to_string(segment.lease.lease_id) + "/" +
                                                std::to_string(segment.sequence));
                          },
                      .committed = [](const JobId&, const RecordResult&) {}}};
};

TEST_F(GathererTest, RecordsWhatCameTogetherInOneTransactionForEachJobInRotation) {
  gatherer_.Submit("a", Segment(1, 1));
  gatherer_.Submit("b", Segment(2, 1));
  gatherer_.Submit("a", Segment(1, 2));
  gatherer_.Submit("a", Segment(3, 1));
  gatherer_.Submit("a", Segment(4, 1));
  while (gatherer_.Step()) {
  }
  EXPECT_EQ(storage_.calls, (Calls{"a: 1/1 1/2 3/1", "b: 2/1", "a: 4/1"}));
  EXPECT_EQ(gatherer_.pending(), 0);
}

TEST_F(GathererTest, JoinsASegmentThatIsHereAlready) {
  gatherer_.Submit("a", Segment(1, 1));
  gatherer_.Submit("a", Segment(1, 1));
  while (gatherer_.Step()) {
  }
  EXPECT_EQ(storage_.calls, (Calls{"a: 1/1"}));
  EXPECT_EQ(answers_, (Calls{"1/1"}));
}

TEST_F(GathererTest, SubmitsAGroupWhoseResultIsUnknownAgainThroughTheSameFilter) {
  bool committed = false;
  storage_.fail = [&](const std::vector<SegmentWrite>& segments) -> absl::Status {
    if (committed) return absl::OkStatus();
    committed = true;
    for (const SegmentWrite& segment : segments)
      storage_.recorded.emplace(segment.lease.lease_id, segment.sequence);
    return Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", "the connection broke");
  };
  gatherer_.Submit("a", Segment(1, 1));
  EXPECT_TRUE(gatherer_.Step());
  EXPECT_TRUE(answers_.empty());
  EXPECT_FALSE(gatherer_.Step()) << "it waits a little first";
  clock_.Advance(absl::Seconds(5));
  EXPECT_TRUE(gatherer_.Step());
  EXPECT_EQ(answers_, (Calls{"1/1 already"}));
}

TEST_F(GathererTest, KeepsEverythingThroughAnOutage) {
  bool down = true;
  storage_.fail = [&](const std::vector<SegmentWrite>&) -> absl::Status {
    return down ? absl::UnavailableError("down") : absl::OkStatus();
  };
  for (int i = 1; i <= 5; ++i) gatherer_.Submit("a", Segment(1, i));
  for (int i = 0; i < 60; ++i) {
    gatherer_.Step();
    clock_.Advance(absl::Seconds(1));
  }
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(gatherer_.pending(), 5);
  down = false;
  while (gatherer_.Step()) clock_.Advance(absl::Seconds(5));
  EXPECT_EQ(answers_, (Calls{"1/1", "1/2", "1/3", "1/4", "1/5"})) << "in order";
}

TEST_F(GathererTest, TriesAFailedGroupOneByOneAndNothingOfALeaseAfterAFailure) {
  storage_.fail = [&](const std::vector<SegmentWrite>& segments) -> absl::Status {
    return Has(segments, 1, 1) ? absl::InternalError("poison") : absl::OkStatus();
  };
  gatherer_.Submit("a", Segment(1, 1));
  gatherer_.Submit("a", Segment(2, 1));
  gatherer_.Submit("a", Segment(1, 2));
  while (gatherer_.Step()) {
  }
  EXPECT_EQ(storage_.calls, (Calls{"a: 1/1 2/1 1/2", "a: 1/1", "a: 2/1"}));
  EXPECT_EQ(answers_, (Calls{"2/1"}));
  EXPECT_EQ(rejected_, (Calls{"1/1", "1/2"}));
  EXPECT_EQ(gatherer_.pending(), 0);
}

TEST_F(GathererTest, KeepsTheOrderOfALeaseWhenASingleTryFailsForAPassingReason) {
  int singles = 0;
  storage_.fail = [&](const std::vector<SegmentWrite>& segments) -> absl::Status {
    if (segments.size() > 1) return absl::InternalError("the group");
    return ++singles == 1 ? absl::UnavailableError("a moment") : absl::OkStatus();
  };
  gatherer_.Submit("a", Segment(1, 1));
  gatherer_.Submit("a", Segment(1, 2));
  EXPECT_TRUE(gatherer_.Step());
  EXPECT_TRUE(answers_.empty()) << "2 must not be recorded before 1";
  storage_.fail = nullptr;
  clock_.Advance(absl::Seconds(5));
  while (gatherer_.Step()) {
  }
  EXPECT_EQ(answers_, (Calls{"1/1", "1/2"}));
}

TEST_F(GathererTest, RecordsOnThreadsAndStopsWithinItsBound) {
  gatherer_.Start();
  for (int i = 1; i <= 100; ++i) gatherer_.Submit("a", Segment(1, i));
  gatherer_.Shutdown(absl::Seconds(30));
  EXPECT_EQ(answers_.size(), 100u);
}

}  // namespace
}  // namespace drover
