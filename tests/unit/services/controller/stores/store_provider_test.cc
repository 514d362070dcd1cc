#include "services/controller/stores/store_provider.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "tests/support/reason.h"
#include "tests/unit/services/controller/stores/memory_store.h"

namespace drover {
namespace {

Stores TwoStores() {
  auto stores = Stores::Parse(
      "stores:\n"
      "  - {name: main, kind: s3, endpoint: 'http://127.0.0.1:9000', credentials: {anonymous: true}}\n"
      "  - {name: local, kind: file, root: /tmp}\n",
      "stores.yaml");
  if (!stores.ok()) abort();
  return *std::move(stores);
}

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + elapsed_; }
  absl::Duration Elapsed() const override { return elapsed_; }
  void Advance(absl::Duration by) { elapsed_ += by; }

 private:
  absl::Duration elapsed_;
};

class StoreProviderTest : public ::testing::Test {
 protected:
  StoreProviderTest()
      : provider_(
            TwoStores(),
            [this](const StoreConfig& config) -> absl::StatusOr<std::unique_ptr<ObjectStore>> {
              ++opened_;
              if (!open_error_.ok()) return open_error_;
              return std::make_unique<MemoryStore>(std::make_shared<MemoryStoreState>(), config);
            },
            clock_) {}

  FakeClock clock_;
  int opened_ = 0;
  absl::Status open_error_;
  StoreProvider provider_;
};

TEST_F(StoreProviderTest, OpensAStoreOnceAndKeepsIt) {
  const auto first = provider_.Get("main");
  const auto second = provider_.Get("main");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
  EXPECT_EQ((*first)->config().name, "main");
  EXPECT_EQ(opened_, 1);
}

TEST_F(StoreProviderTest, NamesAStoreThatIsNotConfigured) {
  const auto none = provider_.Get("archive");
  EXPECT_EQ(ReasonOf(none.status()), "STORE_UNKNOWN");
  EXPECT_EQ(ReasonOf(provider_.GetPinned("archive", "x").status()), "STORE_UNKNOWN");
}

TEST_F(StoreProviderTest, RefusesAStoreThatIsNotTheOneThatWasPinned) {
  EXPECT_EQ(ReasonOf(provider_.GetPinned("main", "0123").status()), "STORE_MISMATCH");
  EXPECT_TRUE(provider_.GetPinned("main", provider_.stores().Find("main")->Fingerprint()).ok());
}

TEST_F(StoreProviderTest, TriesAgainToOpenWhatDidNotOpen) {
  open_error_ = absl::UnavailableError("not now");
  EXPECT_FALSE(provider_.Get("main").ok());
  open_error_ = absl::OkStatus();
  EXPECT_TRUE(provider_.Get("main").ok());
  EXPECT_EQ(opened_, 2);
}

TEST_F(StoreProviderTest, AStoreThatDoesNotAnswerIsShutOffAndTheOthersAreNot) {
  for (int i = 0; i < StoreBreaker::kFailures; ++i) {
    ASSERT_TRUE(provider_.Get("main").ok());
    provider_.Observe("main", i % 2 == 0 ? 0 : 503);
  }
  EXPECT_EQ(ReasonOf(provider_.Get("main").status()), "STORE_SHUT_OFF");
  EXPECT_TRUE(IsStoreShutOff(provider_.Get("main").status()));
  EXPECT_TRUE(provider_.Get("local").ok());
}

TEST_F(StoreProviderTest, OneCallerAtATimeTriesAStoreThatIsShutOff) {
  for (int i = 0; i < StoreBreaker::kFailures; ++i) provider_.Observe("main", 0);
  EXPECT_FALSE(provider_.Get("main").ok());
  absl::Duration pause = StoreBreaker::kFirstPause;
  for (int tries = 0; tries < 8; ++tries) {
    clock_.Advance(pause - absl::Milliseconds(1));
    EXPECT_FALSE(provider_.Get("main").ok()) << tries;
    clock_.Advance(absl::Milliseconds(1));
    EXPECT_TRUE(provider_.Get("main").ok()) << tries;
    EXPECT_FALSE(provider_.Get("main").ok()) << tries;
    provider_.Observe("main", 0);
    pause = std::min(2 * pause, StoreBreaker::kMaxPause);
  }
  EXPECT_EQ(pause, StoreBreaker::kMaxPause);
}

TEST_F(StoreProviderTest, AStoreThatAnsweredIsSoonTriedAgainWhenItIsShutOffTheNextTime) {
  for (int i = 0; i < StoreBreaker::kFailures; ++i) provider_.Observe("main", 0);
  for (int tries = 0; tries < 8; ++tries) {
    clock_.Advance(StoreBreaker::kMaxPause);
    ASSERT_TRUE(provider_.Get("main").ok());
  }
  provider_.Observe("main", 200);
  for (int i = 0; i < StoreBreaker::kFailures; ++i) provider_.Observe("main", 0);
  EXPECT_FALSE(provider_.Get("main").ok());
  clock_.Advance(StoreBreaker::kFirstPause);
  EXPECT_TRUE(provider_.Get("main").ok());
}

TEST_F(StoreProviderTest, AnAnswerOpensAStoreForAll) {
  for (int i = 0; i < StoreBreaker::kFailures; ++i) provider_.Observe("main", 0);
  ASSERT_FALSE(provider_.Get("main").ok());
  provider_.Observe("main", 404);
  EXPECT_TRUE(provider_.Get("main").ok());
  EXPECT_TRUE(provider_.Get("main").ok());
}

TEST_F(StoreProviderTest, FailuresBetweenAnswersShutNothingOff) {
  for (int i = 0; i < 10 * StoreBreaker::kFailures; ++i) {
    provider_.Observe("main", i % StoreBreaker::kFailures == 0 ? 200 : 503);
    ASSERT_TRUE(provider_.Get("main").ok());
  }
}

TEST_F(StoreProviderTest, GivesNothingOnceShutDown) {
  provider_.Shutdown();
  EXPECT_EQ(ReasonOf(provider_.Get("main").status()), "STORE_CLOSED");
  EXPECT_EQ(opened_, 0);
}

}  // namespace
}  // namespace drover
