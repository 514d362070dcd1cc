// A job whose tasks have run, made up from a seed, with what its report must say, written down independently
// of the code under test.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_REPORT_EXECUTED_JOB_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_REPORT_EXECUTED_JOB_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/codec/outcomes.h"
#include "common/codec/task_batch.h"
#include "common/codec/task_set.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct ExecutedJob {
  std::vector<NewBatch> batches;
  std::vector<StoredSegment> segments;
  std::string succeeded_rows;  // in the manifest's order
  std::string failed_rows;
  int64_t tasks = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
};

struct ExecutedJobOptions {
  uint32_t seed = 1;
  int batches = 40;
  int max_batch_tasks = 120;
  double failed = 0.05;     // of executed tasks
  double not_executed = 0;  // of all tasks
  double untouched = 0;     // of batches: nothing of them was executed
};

inline std::string PercentEncoded(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || c == '/';
    if (plain) {
      out += c;
    } else {
      absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return out;
}

inline std::string Quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

inline ExecutedJob MakeExecutedJob(const ExecutedJobOptions& options) {
  std::mt19937 random(options.seed);
  const auto chance = [&](double p) { return std::uniform_real_distribution<>(0, 1)(random) < p; };
  const auto below = [&](int n) { return std::uniform_int_distribution<>(0, n - 1)(random); };
  const std::vector<std::string> odd = {"a b",      "100%",   "ünïcode",   "plus+",
                                        "quote\"d", "com,ma", "line\nend", "//"};
  const std::vector<std::pair<int, std::string>> errors = {
      {404, "NoSuchKey"}, {403, "AccessDenied"}, {0, "Interrupted"}, {500, "Internal,Error"}};

  ExecutedJob job;
  TaskBatchBuilder builder;
  for (int b = 0; b < options.batches; ++b) {
    const int count = 1 + below(options.max_batch_tasks);
    std::vector<std::string> prefixes;  // of the rows: bucket,key,version
    for (int i = 0; i < count; ++i) {
      const std::string bucket = chance(0.2) ? "archive" : "photos";
      const std::string key = absl::StrCat("k/", b, "/", i, "/", odd[static_cast<size_t>(below(8))]);
      const std::string version = chance(0.3) ? absl::StrCat("v", below(1000)) : "";
      builder.Add({bucket, key, version});
      prefixes.push_back(absl::StrCat(bucket, ",", PercentEncoded(key), ",", version));
    }
    job.batches.push_back({job.tasks, count, builder.Finish()});
    job.tasks += count;
    if (chance(options.untouched)) continue;

    // Each executed task falls to one of a few segments.
    const int segments = 1 + below(3);
    std::vector<TaskSet> executed(static_cast<size_t>(segments));
    std::vector<std::vector<Outcome>> outcomes(static_cast<size_t>(segments));
    std::vector<StoredSegment> rows(static_cast<size_t>(segments));
    for (int i = 0; i < count; ++i) {
      if (chance(options.not_executed)) continue;
      const auto s = static_cast<size_t>(below(segments));
      executed[s].Add(static_cast<uint32_t>(i));
      Outcome outcome;
      outcome.index = static_cast<uint32_t>(i);
      outcome.succeeded = !chance(options.failed);
      if (!outcome.succeeded) {
        const auto& [status, code] = errors[static_cast<size_t>(below(4))];
        outcome.http_status = static_cast<uint16_t>(status);
        outcome.code = code;
        outcome.message = absl::StrCat("it said \"no\", ", below(3), " times");
      } else if (chance(0.1)) {
        outcome.message = absl::StrCat("sum=", below(100));
      }
      const std::string row =
          absl::StrCat(prefixes[static_cast<size_t>(i)], ",", outcome.succeeded ? "succeeded" : "failed", ",",
                       outcome.http_status, ",", Quoted(outcome.code), ",", Quoted(outcome.message), "\n");
      (outcome.succeeded ? job.succeeded_rows : job.failed_rows) += row;
      ++(outcome.succeeded ? job.succeeded : job.failed);
      ++(outcome.succeeded ? rows[s].succeeded : rows[s].failed);
      if (!outcome.IsDefault()) outcomes[s].push_back(outcome);
    }
    for (size_t s = 0; s < rows.size(); ++s) {
      if (executed[s].empty()) continue;
      rows[s].batch_no = b;
      if (executed[s] != TaskSet::All(static_cast<size_t>(count))) rows[s].executed = executed[s];
      rows[s].payload = EncodeOutcomes(outcomes[s]);
      job.segments.push_back(rows[s]);
    }
  }
  return job;
}

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_REPORT_EXECUTED_JOB_H_
