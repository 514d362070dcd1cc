#include "common/http/cancel.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace drover {
namespace {

TEST(CancelToken, RunsEachHookOnceInTheOrderOfTheirMaking) {
  CancelToken token;
  std::vector<int> ran;
  const CancelToken::Hook first(&token, [&] { ran.push_back(1); });
  const CancelToken::Hook second(&token, [&] { ran.push_back(2); });
  EXPECT_FALSE(token.cancelled());
  token.Cancel();
  token.Cancel();
  EXPECT_TRUE(token.cancelled());
  EXPECT_EQ(ran, (std::vector<int>{1, 2}));
}

TEST(CancelToken, ForgetsHooksThatAreGone) {
  CancelToken token;
  int ran = 0;
  auto first = std::make_unique<CancelToken::Hook>(&token, [&] { ran += 1; });
  auto second = std::make_unique<CancelToken::Hook>(&token, [&] { ran += 10; });
  auto third = std::make_unique<CancelToken::Hook>(&token, [&] { ran += 100; });
  second.reset();
  token.Cancel();
  EXPECT_EQ(ran, 101);
}

TEST(CancelToken, LetsAHookDestroyItselfAndItsNeighbour) {
  CancelToken token;
  std::unique_ptr<CancelToken::Hook> first, second;
  int ran = 0;
  first = std::make_unique<CancelToken::Hook>(&token, [&] {
    ++ran;
    second.reset();
    first.reset();
  });
  second = std::make_unique<CancelToken::Hook>(&token, [&] { ++ran; });
  token.Cancel();
  EXPECT_EQ(ran, 1);
}

TEST(CancelToken, NeverFiresForAHookMadeAfterwardsOrWithoutAToken) {
  CancelToken token;
  token.Cancel();
  int ran = 0;
  {
    const CancelToken::Hook late(&token, [&] { ++ran; });
    const CancelToken::Hook none(nullptr, [&] { ++ran; });
  }
  EXPECT_EQ(ran, 0);
}

}  // namespace
}  // namespace drover
