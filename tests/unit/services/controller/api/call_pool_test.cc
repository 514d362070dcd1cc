#include "services/controller/api/call_pool.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/unit/services/controller/api/signal.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

TEST(CallPool, RunsEveryCallThatItTook) {
  std::atomic<int> ran = 0;
  CallPool pool("test", {.threads = 3, .max_queued = 1000});
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(pool.Submit([&] { ++ran; }).ok());
  pool.Shutdown();
  EXPECT_EQ(ran, 1000);
}

TEST(CallPool, RefusesCallsWhenItsQueueIsFullAndTakesThemAgainLater) {
  Signal started;
  Signal go_on;
  std::atomic<int> ran = 0;
  CallPool pool("test", {.threads = 1, .max_queued = 2});
  ASSERT_TRUE(pool.Submit([&] {
                    started.Set();
                    EXPECT_TRUE(go_on.Wait());
                  })
                  .ok());
  ASSERT_TRUE(started.Wait());
  EXPECT_TRUE(pool.Submit([&] { ++ran; }).ok());
  EXPECT_TRUE(pool.Submit([&] { ++ran; }).ok());
  const absl::Status refused = pool.Submit([&] { ran = 1000; });
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "OVERLOADED");
  go_on.Set();
  pool.Shutdown();
  EXPECT_EQ(ran, 2);
}

TEST(CallPool, ShutdownFinishesWhatIsQueuedAndRefusesTheRest) {
  std::atomic<int> ran = 0;
  CallPool pool("test", {.threads = 2, .max_queued = 100});
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(pool.Submit([&] { ++ran; }).ok());
  pool.Shutdown();
  EXPECT_EQ(ran, 50);
  const absl::Status refused = pool.Submit([&] { ++ran; });
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(refused), "CONTROLLER_SHUTDOWN");
  pool.Shutdown();
  EXPECT_EQ(ran, 50);
}

}  // namespace
}  // namespace drover
