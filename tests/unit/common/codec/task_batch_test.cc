#include "common/codec/task_batch.h"

#include <zstd.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "common/codec/varint.h"
#include "common/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

struct OwnedTask {
  std::string bucket;
  std::string key;
  std::string version_id;
};

std::string Encode(const std::vector<OwnedTask>& tasks) {
  TaskBatchBuilder builder;
  for (const OwnedTask& task : tasks) builder.Add({task.bucket, task.key, task.version_id});
  return builder.Finish();
}

// A payload with `content` in its frame, whatever it is.
std::string Frame(std::string_view content, bool with_size = true) {
  std::string payload(1 + ZSTD_compressBound(content.size()), '\0');
  payload[0] = 1;
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, with_size ? 1 : 0);
  const size_t bytes =
      ZSTD_compress2(context, payload.data() + 1, payload.size() - 1, content.data(), content.size());
  ZSTD_freeCCtx(context);
  payload.resize(1 + bytes);
  return payload;
}

std::string Content(std::string_view payload) {
  std::string content(ZSTD_getFrameContentSize(payload.data() + 1, payload.size() - 1), '\0');
  ZSTD_decompress(content.data(), content.size(), payload.data() + 1, payload.size() - 1);
  return content;
}

void ExpectRefused(std::string_view payload, std::string_view why) {
  TaskBatchReader reader;
  DecodedBatch batch;
  const absl::Status status = reader.Decode(payload, batch);
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << why;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(why)));
  ASSERT_TRUE(GetErrorDetails(status).has_value());
  EXPECT_EQ(GetErrorDetails(status)->reason, "BAD_BATCH_PAYLOAD");
  EXPECT_EQ(batch.size(), 0u);
}

void ExpectSame(const DecodedBatch& batch, const std::vector<OwnedTask>& tasks) {
  ASSERT_EQ(batch.size(), tasks.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    EXPECT_EQ(batch[i].bucket, tasks[i].bucket) << i;
    EXPECT_EQ(batch[i].key, tasks[i].key) << i;
    EXPECT_EQ(batch[i].version_id, tasks[i].version_id) << i;
  }
}

TEST(BatchSize, GrowsWithThePositionBetween32AndTheCap) {
  EXPECT_EQ(BatchSize(0, kBatchCapLight), 32u);
  EXPECT_EQ(BatchSize(32 * 256, kBatchCapLight), 32u);
  EXPECT_EQ(BatchSize(33 * 256, kBatchCapLight), 33u);
  EXPECT_EQ(BatchSize(4096 * 256 - 1, kBatchCapLight), 4095u);
  EXPECT_EQ(BatchSize(4096 * 256, kBatchCapLight), 4096u);
  EXPECT_EQ(BatchSize(int64_t{20} * 1000 * 1000 * 1000, kBatchCapLight), 4096u);
  EXPECT_EQ(BatchSize(1'000'000, kBatchCapHeavy), 256u);
  EXPECT_EQ(BatchSize(1'000'000, kBatchCapFunctions), 32u);
}

TEST(TaskBatch, GivesBackWhatWasAdded) {
  const std::vector<OwnedTask> tasks = {{"b", "a/1", ""},
                                        {"b", "a/23", ""},
                                        {"b", "a/2", ""},
                                        {"b", "z", ""},
                                        {"b", std::string(1024, 'k'), ""}};
  const std::string payload = Encode(tasks);
  EXPECT_EQ(payload[0], 1);
  TaskBatchReader reader;
  const absl::StatusOr<DecodedBatch> batch = reader.Decode(payload);
  ASSERT_TRUE(batch.ok()) << batch.status();
  ExpectSame(*batch, tasks);
  EXPECT_FALSE(batch->has_version_ids());
}

TEST(TaskBatch, KeepsSeveralBucketsAndVersionIds) {
  const std::vector<OwnedTask> tasks = {{"first", "k", "v1"},
                                        {"second", "k", ""},
                                        {"first", "k2", "null"},
                                        {"third", "\x01", ""},
                                        {"second", "kk", std::string(1024, 'v')}};
  TaskBatchReader reader;
  const absl::StatusOr<DecodedBatch> batch = reader.Decode(Encode(tasks));
  ASSERT_TRUE(batch.ok()) << batch.status();
  ExpectSame(*batch, tasks);
  EXPECT_TRUE(batch->has_version_ids());
}

// The example in task_batch.cc, which authors of workers in other languages go by.
TEST(TaskBatch, LaysOutItsContentAsDocumented) {
  const std::string content = Content(Encode({{"b", "a/1", ""}, {"b", "a/23", ""}}));
  EXPECT_EQ(content, std::string("\x02\x01\x01"
                                 "b"
                                 "\x00\x02\x03\x02\x00"
                                 "a/123",
                                 14));
}

TEST(TaskBatch, CountsRawBytesAndIsFullAtTheirLimit) {
  TaskBatchBuilder builder;
  builder.Add({"bucket", "key", "v"});
  builder.Add({"bucket", "key", "v"});
  EXPECT_EQ(builder.count(), 2u);
  EXPECT_EQ(builder.raw_bytes(), 6u + 2 * 4);
  EXPECT_TRUE(builder.Full(2));
  EXPECT_FALSE(builder.Full(3));
  TaskBatchReader reader;
  EXPECT_EQ(reader.Decode(builder.Finish())->raw_bytes(), 14u);
  EXPECT_EQ(builder.count(), 0u);
  EXPECT_EQ(builder.raw_bytes(), 0u);

  // The largest batch there is: all but full by bytes, and then the largest task.
  const std::string key(1024, 'k');
  std::vector<OwnedTask> tasks;
  while (!builder.Full(kMaxBatchTasks)) {
    tasks.push_back({std::string(255, 'b'), key, std::string(1024, 'v')});
    builder.Add({tasks.back().bucket, tasks.back().key, tasks.back().version_id});
  }
  EXPECT_EQ(tasks.size(), 256u);
  const absl::StatusOr<DecodedBatch> batch = reader.Decode(builder.Finish());
  ASSERT_TRUE(batch.ok()) << batch.status();
  ExpectSame(*batch, tasks);
}

TEST(TaskBatch, HoldsFourThousandAndNinetySixTasksOfAsManyBuckets) {
  std::vector<OwnedTask> tasks;
  tasks.reserve(4096);
  for (int i = 0; i < 4096; ++i) tasks.push_back({"bucket-" + std::to_string(i), "k", ""});
  TaskBatchReader reader;
  const absl::StatusOr<DecodedBatch> batch = reader.Decode(Encode(tasks));
  ASSERT_TRUE(batch.ok()) << batch.status();
  ExpectSame(*batch, tasks);
}

TEST(TaskBatch, TasksOutliveTheMoveOfTheirBatch) {
  TaskBatchReader reader;
  DecodedBatch batch = *reader.Decode(Encode({{"b", "key", "v"}}));
  const Task task = batch[0];
  const DecodedBatch moved = std::move(batch);
  EXPECT_EQ(task, (Task{"b", "key", "v"}));
  EXPECT_EQ(moved[0].key.data(), task.key.data());
}

TEST(TaskBatch, MemoryIsUsedAgainAlsoAfterAMoveOrAnError) {
  TaskBatchReader reader;
  DecodedBatch batch;
  ASSERT_TRUE(reader.Decode(Encode({{"b", "a long enough key", "v"}}), batch).ok());
  ASSERT_FALSE(reader.Decode("\x01rubbish", batch).ok());
  EXPECT_EQ(batch.size(), 0u);
  ASSERT_TRUE(reader.Decode(Encode({{"c", "k", ""}}), batch).ok());
  ExpectSame(batch, {{"c", "k", ""}});
  const DecodedBatch moved = std::move(batch);
  ASSERT_TRUE(reader.Decode(Encode({{"d", "k2", ""}}), batch).ok());
  ExpectSame(batch, {{"d", "k2", ""}});
  ExpectSame(moved, {{"c", "k", ""}});
}

TEST(TaskBatch, EqualTasksGiveEqualBytesFromAUsedBuilder) {
  TaskBatchBuilder builder;
  const auto make = [&builder] {
    for (int i = 0; i < 100; ++i) builder.Add({"b", "key" + std::to_string(i), ""});
    return builder.Finish();
  };
  const std::string first = make();
  builder.Add({"other", "x", "v"});
  builder.Finish();
  EXPECT_EQ(make(), first);
}

// The budget of the design: at most 16 bytes per task in the database, of which the payload takes 12.
TEST(TaskBatch, TakesTwelveBytesAtMostForATaskWithARandomKey) {
  std::mt19937_64 random(7);
  TaskBatchBuilder builder;
  while (!builder.Full(kMaxBatchTasks)) {
    char key[64];
    std::snprintf(key, sizeof key, "photos/2024/%02u/user-%06u/img_%08x.jpg",
                  static_cast<unsigned>(random() % 12 + 1), static_cast<unsigned>(random() % 1'000'000),
                  static_cast<unsigned>(random()));
    builder.Add({"photo-archive", key, ""});
  }
  EXPECT_LE(builder.Finish().size(), 12 * kMaxBatchTasks);
}

TEST(TaskBatch, RandomTasksMakeTheRoundTrip) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto text = [&random](size_t least, size_t most, int letters) {
      std::string out(least + random() % (most - least + 1), '\0');
      for (char& c : out) c = static_cast<char>(random() % static_cast<uint64_t>(letters));
      return out;
    };
    const int letters = 1 + static_cast<int>(random() % 256);
    const bool versions = random() % 2 == 0;
    const size_t longest = random() % 4 == 0 ? 1024 : 40;
    std::vector<std::string> buckets;
    for (size_t i = random() % 5 + 1; i > 0; --i) buckets.push_back(text(1, 255, 256));
    std::vector<OwnedTask> tasks;
    TaskBatchBuilder builder;
    for (size_t n = random() % 500 + 1; n > 0 && !builder.Full(kMaxBatchTasks); --n) {
      tasks.push_back({buckets[random() % buckets.size()], text(1, longest, letters),
                       versions ? text(0, longest, 256) : ""});
      builder.Add({tasks.back().bucket, tasks.back().key, tasks.back().version_id});
    }
    TaskBatchReader reader;
    const absl::StatusOr<DecodedBatch> batch = reader.Decode(builder.Finish());
    ASSERT_TRUE(batch.ok()) << batch.status();
    ExpectSame(*batch, tasks);
  }
}

TEST(TaskBatchReader, RefusesFramesThatAreNotAsDocumented) {
  const std::string good = Encode({{"b", "a/1", ""}, {"b", "a/23", ""}});
  ExpectRefused("", "empty");
  ExpectRefused("\x02" + good.substr(1), "unknown codec 2");
  ExpectRefused("\x01", "no zstd frame");
  ExpectRefused("\x01not a frame", "no zstd frame");
  ExpectRefused(good + "x", "not exactly one whole frame");
  ExpectRefused(good + good.substr(1), "not exactly one whole frame");
  ExpectRefused(good.substr(0, good.size() - 1), "not exactly one whole frame");
  ExpectRefused(Frame(Content(good), /*with_size=*/false), "without a content size");
  ExpectRefused(Frame(std::string(10 << 20, '\0')), "content too long");
  ExpectRefused(std::string(kMaxBatchPayloadBytes + 1, '\x01'), "too long");
}

TEST(TaskBatchReader, RefusesContentsThatBreakALimit) {
  const auto content = [](std::initializer_list<int> bytes) {
    std::string out;
    for (const int byte : bytes) out.push_back(static_cast<char>(byte));
    return Frame(out);
  };
  ASSERT_TRUE(TaskBatchReader().Decode(content({1, 1, 1, 'b', 0, 1, 0, 'k'})).ok());
  ExpectRefused(Frame(""), "bad task count");
  ExpectRefused(content({0, 1, 1, 'b', 0}), "bad task count");
  ExpectRefused(content({0x81, 0x20}), "bad task count");                           // 4097
  ExpectRefused(content({0x81, 0x00, 1, 1, 'b', 0, 1, 0, 'k'}), "bad task count");  // 1, but in two bytes
  ExpectRefused(content({1, 0, 0, 1, 0, 'k'}), "bad bucket count");
  ExpectRefused(content({1, 2, 1, 'b', 1, 'c', 0, 1, 0, 'k'}), "bad bucket count");
  ExpectRefused(content({1, 1, 0, 0, 1, 0, 'k'}), "bad bucket name");
  ExpectRefused(content({1, 1, 9, 'b'}), "bad bucket name");
  ExpectRefused(content({2, 2, 1, 'b', 1, 'c', 0, 2, 0, 0, 1, 1, 0, 'k', 'k'}), "bad bucket");
  ExpectRefused(content({1, 1, 1, 'b', 1, 1, 0, 'k'}), "prefix longer than the key before");
  ExpectRefused(content({2, 1, 1, 'b', 0, 2, 1, 0, 0, 'k'}), "prefix longer than the key before");
  ExpectRefused(content({1, 1, 1, 'b', 0, 0, 0}), "bad key length");
  ExpectRefused(content({2, 1, 1, 'b', 0, 1, 1, 0x80, 0x08, 0}), "bad key length");  // 1 + 1024
  ExpectRefused(content({1, 1, 1, 'b', 0, 0x81, 0x08, 0}), "bad suffix length");
  ExpectRefused(content({1, 1, 1, 'b', 0, 1, 2, 'k'}), "bad version flag");
  ExpectRefused(content({1, 1, 1, 'b', 0, 1, 1, 0x81, 0x08}), "bad version id length");
  ExpectRefused(content({1, 1, 1, 'b', 0, 1, 0}), "length differs");
  ExpectRefused(content({1, 1, 1, 'b', 0, 1, 0, 'k', 'k'}), "length differs");
  ExpectRefused(content({1, 1, 1, 'b', 0, 1, 1, 3, 'k', 'v'}), "length differs");
}

// A few bytes that would unfold to 4 MiB of keys.
TEST(TaskBatchReader, RefusesSharedPrefixesThatUnfoldBeyondTheLimit) {
  std::string content;
  PutVarint(4096, content);
  content += std::string(
      "\x01\x01"
      "b",
      3);
  PutVarint(0, content);
  for (int i = 1; i < 4096; ++i) PutVarint(1024, content);
  PutVarint(1024, content);
  for (int i = 1; i < 4096; ++i) PutVarint(0, content);
  PutVarint(0, content);
  content += std::string(1024, 'k');
  ExpectRefused(Frame(content), "keys too long together");
}

// Under asan this is the test that the reader never reads beyond what it was given.
TEST(TaskBatchReader, SurvivesDamagedBytes) {
  const std::string good =
      Encode({{"b", "photos/1", "v1"}, {"c", "photos/23", ""}, {"b", "photos/24", "v3"}, {"c", "x", ""}});
  const std::string content = Content(good);
  TaskBatchReader reader;
  DecodedBatch batch;
  size_t accepted = 0;
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937_64 random(seed);
    std::string damaged = random() % 2 == 0 ? good : content;
    const bool is_content = damaged == content;
    for (size_t n = random() % 3 + 1; n > 0; --n) {
      const size_t at = random() % damaged.size();
      switch (random() % 4) {
        case 0: damaged[at] = static_cast<char>(random()); break;
        case 1: damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8)); break;
        case 2: damaged.resize(std::max<size_t>(at, 1)); break;
        default: damaged.insert(at, 1, static_cast<char>(random())); break;
      }
    }
    // An exact allocation, so that a byte too many is seen.
    const std::string payload = is_content ? Frame(damaged) : damaged;
    const std::vector<char> exact(payload.begin(), payload.end());
    if (!reader.Decode({exact.data(), exact.size()}, batch).ok()) continue;
    ++accepted;
    size_t bytes = 0;
    for (size_t i = 0; i < batch.size(); ++i) bytes += batch[i].key.size() + batch[i].version_id.size();
    ASSERT_LE(bytes, kMaxBatchRawBytes) << "seed " << seed;
  }
  EXPECT_GT(accepted, 0u);  // damage to a key's letters can't be noticed
}

TEST(TaskBatchBuilderDeathTest, EndsTheProcessRatherThanMakeAPayloadThatCannotBeRead) {
  TaskBatchBuilder builder;
  EXPECT_DEATH(builder.Add({"", "k", ""}), "bucket name out of limits");
  EXPECT_DEATH(builder.Add({"b", "", ""}), "key out of limits");
  EXPECT_DEATH(builder.Add({"b", std::string(1025, 'k'), ""}), "key out of limits");
  EXPECT_DEATH(builder.Add({"b", "k", std::string(1025, 'v')}), "version id out of limits");
  EXPECT_DEATH(builder.Finish(), "no tasks");
}

}  // namespace
}  // namespace drover
