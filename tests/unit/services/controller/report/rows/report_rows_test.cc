#include "services/controller/report/rows/report_rows.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace drover {
namespace {

struct OwnedTask {
  std::string bucket;
  std::string key;
  std::string version_id;
};

DecodedBatch Batch(const std::vector<OwnedTask>& tasks) {
  TaskBatchBuilder builder;
  for (const OwnedTask& task : tasks) builder.Add({task.bucket, task.key, task.version_id});
  return *TaskBatchReader().Decode(builder.Finish());
}

Outcome Failed(uint32_t index, std::string code, std::string message) {
  Outcome outcome;
  outcome.index = index;
  outcome.succeeded = false;
  outcome.http_status = 404;
  outcome.code = std::move(code);
  outcome.message = std::move(message);
  return outcome;
}

std::string Rows(const DecodedBatch& batch, const TaskSet& executed, const std::vector<Outcome>& outcomes,
                 RowKind kind, KeyEncoding encoding = KeyEncoding::kUrl) {
  std::string out = "before\n";
  const size_t rows = AppendReportRows(batch, executed, outcomes, kind, encoding, out);
  EXPECT_TRUE(out.starts_with("before\n"));
  out.erase(0, 7);
  if (out.find('"') == std::string::npos) {
    EXPECT_EQ(rows, static_cast<size_t>(std::count(out.begin(), out.end(), '\n')));
  }
  return out;
}

// Columns of CSV rows, by RFC 4180 and a few lines of its own.
std::vector<std::vector<std::string>> ParseCsv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, std::vector<std::string>(1));
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        rows.back().back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        rows.back().back() += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      rows.back().emplace_back();
    } else if (c == '\n') {
      rows.emplace_back(1);
    } else {
      rows.back().back() += c;
    }
  }
  rows.pop_back();
  return rows;
}

TEST(ReportRows, APlainSuccessIsWrittenAsS3BatchOperationsDoes) {
  const DecodedBatch batch = Batch({{"photos", "2024/a.jpg", ""}, {"photos", "2024/b c.jpg", ""}});
  EXPECT_EQ(Rows(batch, TaskSet::All(2), {}, RowKind::kSucceeded),
            "photos,2024/a.jpg,,succeeded,200,,Successful\n"
            "photos,2024/b%20c.jpg,,succeeded,200,,Successful\n");
  EXPECT_EQ(Rows(batch, TaskSet::All(2), {}, RowKind::kFailed), "");
}

TEST(ReportRows, HttpStatusComesBeforeTheErrorCode) {
  const DecodedBatch batch = Batch({{"photos", "a", ""}, {"photos", "b", "v2"}});
  EXPECT_EQ(Rows(batch, TaskSet::All(2), {Failed(1, "NoSuchVersion", "It is gone")}, RowKind::kFailed),
            "photos,b,v2,failed,404,NoSuchVersion,It is gone\n");
}

TEST(ReportRows, ATaskIsInOneKindOfRowsOnly) {
  const DecodedBatch batch = Batch({{"b1x", "a", ""}, {"b1x", "b", ""}, {"b1x", "c", ""}, {"b1x", "d", ""}});
  TaskSet executed = TaskSet::All(4);
  TaskSet unexecuted;
  unexecuted.Add(3);
  executed.Subtract(unexecuted);
  Outcome other = Failed(2, "", "checksum=abc");
  other.succeeded = true;
  other.http_status = 204;
  const std::vector<Outcome> outcomes = {Failed(0, "X", "y"), other};
  EXPECT_EQ(Rows(batch, executed, outcomes, RowKind::kSucceeded),
            "b1x,b,,succeeded,200,,Successful\n"
            "b1x,c,,succeeded,204,,checksum=abc\n");
  EXPECT_EQ(Rows(batch, executed, outcomes, RowKind::kFailed), "b1x,a,,failed,404,X,y\n");
}

TEST(ReportRows, TasksThatWereNotExecutedHaveNoRowWhateverTheOutcomesSay) {
  const DecodedBatch batch = Batch({{"b1x", "a", ""}});
  EXPECT_EQ(Rows(batch, TaskSet(), {Failed(0, "X", "y")}, RowKind::kFailed), "");
  EXPECT_EQ(Rows(batch, TaskSet(), {}, RowKind::kSucceeded), "");
  EXPECT_EQ(Rows(batch, TaskSet::All(4096), {Failed(7, "X", "y")}, RowKind::kFailed), "");
  EXPECT_EQ(Rows(batch, TaskSet::All(4096), {}, RowKind::kSucceeded), "b1x,a,,succeeded,200,,Successful\n");
}

TEST(ReportRows, ColumnsAreQuotedOnlyWhereNeeded) {
  const DecodedBatch batch = Batch({{"b1x", "a,\"b\"\nc", "v,1"}});
  EXPECT_EQ(Rows(batch, TaskSet::All(1), {Failed(0, "A,B", "said \"no\"\r\nand left")}, RowKind::kFailed),
            "b1x,a%2C%22b%22%0Ac,\"v,1\",failed,404,\"A,B\",\"said \"\"no\"\"\r\nand left\"\n");
  EXPECT_EQ(Rows(batch, TaskSet::All(1), {}, RowKind::kSucceeded, KeyEncoding::kPlain),
            "b1x,\"a,\"\"b\"\"\nc\",\"v,1\",succeeded,200,,Successful\n");
}

TEST(ReportRows, BucketsMayChangeFromRowToRow) {
  const DecodedBatch batch =
      Batch({{"first", "k", ""}, {"second", "k", ""}, {"first", "k", ""}, {"first", "k", "v"}});
  EXPECT_EQ(Rows(batch, TaskSet::All(4), {}, RowKind::kSucceeded),
            "first,k,,succeeded,200,,Successful\n"
            "second,k,,succeeded,200,,Successful\n"
            "first,k,,succeeded,200,,Successful\n"
            "first,k,v,succeeded,200,,Successful\n");
}

// Both kinds together: each executed task once, in order within its kind, and each column as it was.
TEST(ReportRows, RandomBatchesCanBeReadBackAsCsv) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto text = [&random](size_t most) {
      constexpr std::string_view kBytes = "abc,\"\n\r %/+é";
      std::string out;
      for (size_t n = random() % (most + 1); n > 0; --n) out += kBytes[random() % kBytes.size()];
      return out;
    };
    std::vector<OwnedTask> tasks;
    TaskSet executed;
    std::vector<Outcome> outcomes;
    std::vector<std::vector<std::string>> expected[2];
    const KeyEncoding encoding = random() % 2 == 0 ? KeyEncoding::kUrl : KeyEncoding::kPlain;
    for (uint32_t i = 0; i < 1 + random() % 100; ++i) {
      tasks.push_back(
          {"bucket" + std::to_string(random() % 2), "k" + text(20), random() % 2 == 0 ? "" : text(5)});
      if (random() % 5 == 0) continue;
      executed.Add(i);
      std::string key;
      if (encoding == KeyEncoding::kUrl) {
        AppendUrlEncoded(tasks.back().key, key);
      } else {
        key = tasks.back().key;
      }
      std::vector<std::string> row = {tasks.back().bucket, key, tasks.back().version_id};
      if (random() % 3 != 0) {
        row.insert(row.end(), {"succeeded", "200", "", "Successful"});
        expected[0].push_back(row);
        continue;
      }
      Outcome outcome = Failed(i, text(6), text(30));
      outcome.succeeded = random() % 2 == 0;
      outcome.http_status = static_cast<uint16_t>(random() % 600);
      row.insert(row.end(), {outcome.succeeded ? "succeeded" : "failed", std::to_string(outcome.http_status),
                             outcome.code, outcome.message});
      expected[outcome.succeeded ? 0 : 1].push_back(row);
      outcomes.push_back(std::move(outcome));
    }
    const DecodedBatch batch = Batch(tasks);
    EXPECT_EQ(ParseCsv(Rows(batch, executed, outcomes, RowKind::kSucceeded, encoding)), expected[0]);
    EXPECT_EQ(ParseCsv(Rows(batch, executed, outcomes, RowKind::kFailed, encoding)), expected[1]);
  }
}

}  // namespace
}  // namespace drover
