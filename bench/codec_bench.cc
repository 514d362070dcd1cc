// What the pure steps of a task's way cost, on one core: manifest line → task → batch payload → task → report
// row → checksums. Items are tasks; BM_Encode also says how many bytes of payload a task takes.
//
//   ninja -C build/release codec_bench && build/release/bin/codec_bench
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "common/codec/outcomes.h"
#include "common/codec/task_batch.h"
#include "common/codec/task_set.h"
#include "services/controller/manifest/csv/csv_manifest.h"
#include "services/controller/report/rows/file_hasher.h"
#include "services/controller/report/rows/report_rows.h"

namespace drover {
namespace {

constexpr size_t kTasks = 500'000;
constexpr uint64_t kSeed = 20240301;

// How keys follow one another.
enum KeyOrder : int { kThousandUsers = 0, kMillionUsers = 1, kSorted = 2 };

// Keys like photos/2024/03/user-000123/img_9f8e7d6c.jpg.
std::vector<std::string> MakeKeys(int order) {
  std::mt19937_64 random(kSeed);
  std::vector<std::string> keys;
  keys.reserve(kTasks);
  for (size_t i = 0; i < kTasks; ++i) {
    const auto month = order == kSorted ? 3 : static_cast<unsigned>(random() % 12 + 1);
    const auto user = static_cast<unsigned>(
        order == kSorted ? i / 50 : random() % (order == kThousandUsers ? 1000 : 1000000));
    char key[64];
    std::snprintf(key, sizeof key, "photos/2024/%02u/user-%06u/img_%08x.jpg", month, user,
                  static_cast<unsigned>(random()));
    keys.emplace_back(key);
  }
  return keys;
}

std::string MakeManifest(const std::vector<std::string>& keys) {
  std::string manifest;
  for (const std::string& key : keys) manifest += "photo-archive," + key + "\n";
  return manifest;
}

std::vector<std::string> MakePayloads(const std::vector<std::string>& keys) {
  std::vector<std::string> payloads;
  TaskBatchBuilder builder;
  for (const std::string& key : keys) {
    builder.Add({"photo-archive", key, ""});
    if (builder.Full(kMaxBatchTasks)) payloads.push_back(builder.Finish());
  }
  payloads.push_back(builder.Finish());
  return payloads;
}

void SetTasks(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kTasks));
}

void BM_Encode(benchmark::State& state) {
  const std::vector<std::string> keys = MakeKeys(static_cast<int>(state.range(0)));
  TaskBatchBuilder builder;
  size_t bytes = 0;
  for (auto _ : state) {
    bytes = 0;
    for (const std::string& key : keys) {
      builder.Add({"photo-archive", key, ""});
      if (builder.Full(kMaxBatchTasks)) bytes += builder.Finish().size();
    }
    bytes += builder.Finish().size();
  }
  SetTasks(state);
  state.counters["bytes_per_task"] = static_cast<double>(bytes) / static_cast<double>(keys.size());
}
BENCHMARK(BM_Encode)->Arg(kThousandUsers)->Arg(kMillionUsers)->Arg(kSorted)->Unit(benchmark::kMillisecond);

void BM_Decode(benchmark::State& state) {
  const std::vector<std::string> payloads = MakePayloads(MakeKeys(static_cast<int>(state.range(0))));
  TaskBatchReader reader;
  DecodedBatch batch;
  for (auto _ : state) {
    for (const std::string& payload : payloads) {
      if (!reader.Decode(payload, batch).ok()) std::abort();
      benchmark::DoNotOptimize(batch[batch.size() - 1]);
    }
  }
  SetTasks(state);
}
BENCHMARK(BM_Decode)->Arg(kThousandUsers)->Arg(kMillionUsers)->Arg(kSorted)->Unit(benchmark::kMillisecond);

// A manifest in chunks of 256 KiB, checked and handed out.
void BM_ParseManifest(benchmark::State& state) {
  const std::string manifest = MakeManifest(MakeKeys(kMillionUsers));
  for (auto _ : state) {
    auto parser = CsvManifestParser::Create({{CsvField::kBucket, CsvField::kKey}});
    size_t key_bytes = 0;
    for (size_t at = 0; at < manifest.size(); at += 256 * 1024) {
      const std::string_view chunk = std::string_view(manifest).substr(at, 256 * 1024);
      parser->Feed(chunk, at + chunk.size() == manifest.size(),
                   [&](const Task& task) { key_bytes += task.key.size(); });
    }
    benchmark::DoNotOptimize(key_bytes);
    if (!parser->bad_lines().empty()) std::abort();
  }
  SetTasks(state);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(manifest.size()));
}
BENCHMARK(BM_ParseManifest)->Unit(benchmark::kMillisecond);

// What the preparation of a job does with the bytes of its manifest.
void BM_ParseAndEncode(benchmark::State& state) {
  const std::string manifest = MakeManifest(MakeKeys(kMillionUsers));
  TaskBatchBuilder builder;
  for (auto _ : state) {
    auto parser = CsvManifestParser::Create({{CsvField::kBucket, CsvField::kKey}});
    size_t bytes = 0;
    parser->Feed(manifest, true, [&](const Task& task) {
      builder.Add(task);
      if (builder.Full(kMaxBatchTasks)) bytes += builder.Finish().size();
    });
    bytes += builder.Finish().size();
    benchmark::DoNotOptimize(bytes);
  }
  SetTasks(state);
}
BENCHMARK(BM_ParseAndEncode)->Unit(benchmark::kMillisecond);

// Rows of batches that are decoded already; the argument is how many of a thousand tasks failed.
void BM_ReportRows(benchmark::State& state) {
  const std::vector<std::string> payloads = MakePayloads(MakeKeys(kMillionUsers));
  TaskBatchReader reader;
  std::vector<DecodedBatch> batches;
  std::vector<std::vector<Outcome>> outcomes;
  std::mt19937_64 random(kSeed);
  for (const std::string& payload : payloads) {
    batches.push_back(*reader.Decode(payload));
    std::vector<Outcome> failed;
    for (uint32_t i = 0; i < batches.back().size(); ++i) {
      if (static_cast<int64_t>(random() % 1000) >= state.range(0)) continue;
      Outcome& outcome = failed.emplace_back();
      outcome.index = i;
      outcome.succeeded = false;
      outcome.http_status = 404;
      outcome.code = "NoSuchKey";
      outcome.message = "The specified key does not exist.";
    }
    outcomes.push_back(std::move(failed));
  }
  const TaskSet all = TaskSet::All(kMaxBatchTasks);
  std::string out;
  for (auto _ : state) {
    for (size_t i = 0; i < batches.size(); ++i) {
      out.clear();
      AppendReportRows(batches[i], all, outcomes[i], RowKind::kSucceeded, KeyEncoding::kUrl, out);
      AppendReportRows(batches[i], all, outcomes[i], RowKind::kFailed, KeyEncoding::kUrl, out);
      benchmark::DoNotOptimize(out.data());
    }
  }
  SetTasks(state);
}
BENCHMARK(BM_ReportRows)->Arg(0)->Arg(10)->Arg(1000)->Unit(benchmark::kMillisecond);

// What one result file costs: decode, rows, both checksums.
void BM_ReportFile(benchmark::State& state) {
  const std::vector<std::string> payloads = MakePayloads(MakeKeys(kMillionUsers));
  TaskBatchReader reader;
  DecodedBatch batch;
  const TaskSet all = TaskSet::All(kMaxBatchTasks);
  FileHasher hasher;
  std::string out;
  for (auto _ : state) {
    for (const std::string& payload : payloads) {
      if (!reader.Decode(payload, batch).ok()) std::abort();
      out.clear();
      AppendReportRows(batch, all, {}, RowKind::kSucceeded, KeyEncoding::kUrl, out);
      hasher.Update(out);
    }
    benchmark::DoNotOptimize(hasher.Finish());
  }
  SetTasks(state);
}
BENCHMARK(BM_ReportFile)->Unit(benchmark::kMillisecond);

void BM_Hash(benchmark::State& state) {
  const std::string bytes(1024 * 1024, 'x');
  FileHasher hasher;
  for (auto _ : state) hasher.Update(bytes);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(BM_Hash);

// A segment of 512 tasks, of which the argument failed.
void BM_Outcomes(benchmark::State& state) {
  std::vector<Outcome> failed;
  for (uint32_t i = 0; i < state.range(0); ++i) {
    Outcome& outcome = failed.emplace_back();
    outcome.index = i * 2;
    outcome.succeeded = false;
    outcome.http_status = 404;
    outcome.code = "NoSuchKey";
    outcome.message = "The specified key does not exist.";
  }
  size_t bytes = 0;
  for (auto _ : state) {
    const std::string payload = EncodeOutcomes(failed);
    bytes = payload.size();
    benchmark::DoNotOptimize(DecodeOutcomes(payload));
  }
  state.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK(BM_Outcomes)->Arg(0)->Arg(5)->Arg(256);

}  // namespace
}  // namespace drover

BENCHMARK_MAIN();
