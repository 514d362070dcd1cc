#include "common/codec/task_set.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

std::vector<std::pair<uint32_t, uint32_t>> Ranges(const TaskSet& set) {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  set.ForEachRange([&](uint32_t first, uint32_t end) { ranges.emplace_back(first, end); });
  return ranges;
}

std::set<uint32_t> Indexes(const TaskSet& set) {
  std::set<uint32_t> indexes;
  set.ForEach([&](uint32_t index) { indexes.insert(index); });
  return indexes;
}

TaskSet SetOf(const std::set<uint32_t>& indexes) {
  TaskSet set;
  for (const uint32_t index : indexes) set.Add(index);
  return set;
}

std::string Bytes(std::initializer_list<int> bytes) {
  std::string out;
  for (const int byte : bytes) out.push_back(static_cast<char>(byte));
  return out;
}

TEST(TaskSet, NewOneIsEmpty) {
  const TaskSet set;
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.count(), 0u);
  EXPECT_EQ(set.end(), 0u);
  EXPECT_FALSE(set.Contains(0));
  EXPECT_EQ(set.Encode(), "");
  EXPECT_TRUE(Ranges(set).empty());
  EXPECT_EQ(set, TaskSet::All(0));
}

TEST(TaskSet, AllHasEachIndexBelowItsSize) {
  for (const size_t n : {1u, 63u, 64u, 65u, 4095u, 4096u}) {
    const TaskSet set = TaskSet::All(n);
    EXPECT_EQ(set.count(), n);
    EXPECT_EQ(set.end(), n);
    EXPECT_TRUE(set.Contains(static_cast<uint32_t>(n - 1)));
    EXPECT_FALSE(set.Contains(static_cast<uint32_t>(n)));
    EXPECT_THAT(Ranges(set), ElementsAre(Pair(0, n)));
  }
}

TEST(TaskSet, RunsAreMaximalAndAscending) {
  TaskSet set;
  set.Add(5);
  set.AddRange(70, 200);
  set.Add(6);
  set.AddRange(200, 201);
  set.AddRange(9, 9);
  set.Add(4095);
  EXPECT_THAT(Ranges(set), ElementsAre(Pair(5, 7), Pair(70, 201), Pair(4095, 4096)));
}

TEST(TaskSet, SetsMadeInDifferentWaysAreEqual) {
  TaskSet set = TaskSet::All(4096);
  TaskSet upper;
  upper.AddRange(3, 4096);
  set.Subtract(upper);
  EXPECT_EQ(set, TaskSet::All(3));
  set.Subtract(set);
  EXPECT_EQ(set, TaskSet());
  EXPECT_TRUE(set.empty());
}

TEST(TaskSet, EncodesRunLengthsAsDocumented) {
  EXPECT_EQ(TaskSet::All(4096).Encode(), Bytes({0x00, 0x80, 0x20}));
  EXPECT_EQ(SetOf({3, 5, 6}).Encode(), Bytes({3, 1, 1, 2}));
}

TEST(TaskSet, AgreesWithASetOfNumbers) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const uint32_t limit = 1 + static_cast<uint32_t>(random() % 4096);
    const auto make = [&](std::set<uint32_t>& model) {
      TaskSet set;
      for (size_t n = random() % 30; n > 0; --n) {
        uint32_t first = static_cast<uint32_t>(random() % limit);
        const uint32_t end = std::min(limit, first + 1 + static_cast<uint32_t>(random() % 100));
        set.AddRange(first, end);
        for (; first < end; ++first) model.insert(first);
      }
      return set;
    };
    std::set<uint32_t> model_a;
    std::set<uint32_t> model_b;
    const TaskSet a = make(model_a);
    const TaskSet b = make(model_b);
    EXPECT_EQ(Indexes(a), model_a);
    EXPECT_EQ(a.count(), model_a.size());
    EXPECT_EQ(a.empty(), model_a.empty());

    std::set<uint32_t> both;
    std::set<uint32_t> either = model_a;
    std::set<uint32_t> only_a;
    std::set_intersection(model_a.begin(), model_a.end(), model_b.begin(), model_b.end(),
                          std::inserter(both, both.end()));
    std::set_difference(model_a.begin(), model_a.end(), model_b.begin(), model_b.end(),
                        std::inserter(only_a, only_a.end()));
    either.insert(model_b.begin(), model_b.end());
    EXPECT_EQ(a.Intersects(b), !both.empty());
    EXPECT_EQ(a.IsSubsetOf(b), only_a.empty());
    TaskSet combined = a;
    combined.Union(b);
    EXPECT_EQ(combined, SetOf(either));
    EXPECT_TRUE(a.IsSubsetOf(combined));
    TaskSet rest = a;
    rest.Subtract(b);
    EXPECT_EQ(rest, SetOf(only_a));
    EXPECT_FALSE(rest.Intersects(b));

    const absl::StatusOr<TaskSet> decoded = TaskSet::Decode(combined.Encode(), limit);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, combined);
    if (!combined.empty()) {
      EXPECT_FALSE(TaskSet::Decode(combined.Encode(), combined.end() - 1).ok());
    }
  }
}

TEST(TaskSet, RefusesBytesThatNoSetHas) {
  const auto refused = [](const std::string& bytes, size_t limit) {
    const absl::Status status = TaskSet::Decode(bytes, limit).status();
    return status.code() == absl::StatusCode::kInvalidArgument &&
           GetErrorDetails(status)->reason == "BAD_TASK_SET";
  };
  EXPECT_TRUE(refused(Bytes({0}), 10));           // a gap without a run
  EXPECT_TRUE(refused(Bytes({0, 0}), 10));        // an empty run
  EXPECT_TRUE(refused(Bytes({0, 1, 0, 1}), 10));  // two runs that are one
  EXPECT_TRUE(refused(Bytes({0, 11}), 10));       // beyond the limit
  EXPECT_TRUE(refused(Bytes({10, 1}), 10));
  EXPECT_TRUE(refused(Bytes({0, 0x81, 0x00}), 10));       // 1, but in two bytes
  EXPECT_TRUE(refused(Bytes({0, 0x80}), 10));             // cut off
  EXPECT_TRUE(refused(Bytes({0, 0x81, 0x20}), 100'000));  // beyond what any batch holds
  EXPECT_TRUE(refused(Bytes({5, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}), 4096));
  EXPECT_TRUE(refused(Bytes({0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 127}), 4096));
}

TEST(TaskSet, WhatDecodesFromRandomBytesEncodesToTheSameBytes) {
  size_t accepted = 0;
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937_64 random(seed);
    std::string bytes(random() % 12, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % (random() % 3 == 0 ? 256 : 20));
    const std::vector<char> exact(bytes.begin(), bytes.end());
    const absl::StatusOr<TaskSet> set = TaskSet::Decode({exact.data(), exact.size()}, 4096);
    if (!set.ok()) continue;
    ++accepted;
    ASSERT_EQ(set->Encode(), bytes) << "seed " << seed;
  }
  EXPECT_GT(accepted, 1000u);
}

TEST(TaskSetDeathTest, EndsTheProcessForAnIndexNoBatchHas) {
  TaskSet set;
  EXPECT_DEATH(set.Add(4096), "out of limits");
  EXPECT_DEATH(TaskSet::All(4097), "out of limits");
}

}  // namespace
}  // namespace drover
