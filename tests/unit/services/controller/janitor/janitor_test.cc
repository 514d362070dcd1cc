#include "services/controller/janitor/janitor.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/services/controller/api/fake_storage.h"

namespace drover {
namespace {

constexpr char kJob[] = "01940000-0000-7000-8000-000000000001";

class SlowClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + now; }
  absl::Duration Elapsed() const override { return now; }
  absl::Duration now = absl::Seconds(100);
};

// Leases whose session is gone.
class StrandedStorage final : public FakeStorage {
 public:
  explicit StrandedStorage(SlowClock& clock) : clock_(clock) {}

  absl::StatusOr<std::vector<StrandedLease>> ListStrandedLeases(int limit) override {
    ++looks;
    std::vector<StrandedLease> leases;
    for (int64_t i = 0; i < std::min<int64_t>(limit, stranded); ++i) {
      leases.push_back({{kJob, {static_cast<BatchNo>(i), i + 1}, "s", 1}, true});
    }
    return leases;
  }
  absl::StatusOr<int64_t> ReturnLeases(const JobId&, const std::vector<OwnedLease>& leases,
                                       CameBack) override {
    clock_.now += cost;
    if (!error.ok()) return error;
    stranded -= static_cast<int64_t>(leases.size());
    return static_cast<int64_t>(leases.size());
  }
  absl::StatusOr<std::vector<SessionId>> EndExpiredSessions() override { return std::vector<SessionId>(); }

  int64_t stranded = 0;
  int looks = 0;
  absl::Duration cost = absl::Milliseconds(20);  // of returning a look's leases
  absl::Status error;

 private:
  SlowClock& clock_;
};

class JanitorTest : public ::testing::Test {
 protected:
  SlowClock clock_;
  StrandedStorage storage_{clock_};
  Janitor janitor_{{}, storage_, clock_, {}, [](const JobId&) {}, [] {}};
};

TEST_F(JanitorTest, ReturnsAllLeasesOfALostFleetInOneTurn) {
  storage_.stranded = 10'500;
  janitor_.SessionStep();
  EXPECT_EQ(storage_.stranded, 0);
  EXPECT_EQ(storage_.looks, 11);
}

TEST_F(JanitorTest, AnOrdinaryTurnLooksOnce) {
  storage_.stranded = 10;
  janitor_.SessionStep();
  EXPECT_EQ(storage_.stranded, 0);
  EXPECT_EQ(storage_.looks, 1);
}

TEST_F(JanitorTest, ATurnEndsInTimeForTheNextLook) {
  storage_.stranded = 1'000'000;
  storage_.cost = absl::Milliseconds(100);
  const absl::Duration began = clock_.now;
  janitor_.SessionStep();
  EXPECT_GT(storage_.stranded, 0);
  EXPECT_LE(clock_.now - began, JanitorOptions().session_interval);
  janitor_.SessionStep();
  EXPECT_LT(storage_.stranded, 995'000) << "and the next one goes on";
}

TEST_F(JanitorTest, LeasesThatCanNotBeReturnedAreLeftToTheNextTurn) {
  storage_.stranded = 5'000;
  storage_.error = absl::UnavailableError("away");
  janitor_.SessionStep();
  EXPECT_EQ(storage_.looks, 1);
}

}  // namespace
}  // namespace drover
