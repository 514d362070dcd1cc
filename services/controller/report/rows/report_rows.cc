#include "services/controller/report/rows/report_rows.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace drover {
namespace {

// What follows the version id, and what follows the key if there is none.
constexpr std::string_view kDefaultEnding = ",succeeded,200,,Successful\n";
constexpr std::string_view kDefaultEndingWithoutVersion = ",,succeeded,200,,Successful\n";

constexpr bool MustBeQuoted(char c) { return c == ',' || c == '"' || c == '\r' || c == '\n'; }

// Appends a column, quoted if it has to be.
void AppendColumn(std::string_view text, std::string& out) {
  if (std::none_of(text.begin(), text.end(), MustBeQuoted)) {
    out.append(text);
    return;
  }
  out.push_back('"');
  for (const char c : text) {
    if (c == '"') out.push_back('"');
    out.push_back(c);
  }
  out.push_back('"');
}

void AppendKey(std::string_view key, KeyEncoding key_encoding, std::string& out) {
  if (key_encoding == KeyEncoding::kUrl) {
    AppendUrlEncoded(key, out);
  } else {
    AppendColumn(key, out);
  }
}

void AppendObject(const Task& task, KeyEncoding key_encoding, std::string& out) {
  AppendColumn(task.bucket, out);
  out.push_back(',');
  AppendKey(task.key, key_encoding, out);
  out.push_back(',');
  if (!task.version_id.empty()) AppendColumn(task.version_id, out);
}

void AppendEnding(const Outcome& outcome, std::string& out) {
  out.push_back(',');
  out.append(RowKindName(outcome.succeeded ? RowKind::kSucceeded : RowKind::kFailed));
  out.push_back(',');
  char status[8];
  out.append(status, std::to_chars(status, status + sizeof status, outcome.http_status).ptr);
  out.push_back(',');
  AppendColumn(outcome.code, out);
  out.push_back(',');
  AppendColumn(outcome.message, out);
  out.push_back('\n');
}

}  // namespace

std::string_view RowKindName(RowKind kind) { return kind == RowKind::kSucceeded ? "succeeded" : "failed"; }

size_t AppendReportRows(const DecodedBatch& batch, const TaskSet& executed,
                        absl::Span<const Outcome> non_default, RowKind kind, KeyEncoding key_encoding,
                        std::string& out) {
  size_t rows = 0;
  if (kind == RowKind::kFailed) {
    for (const Outcome& outcome : non_default) {
      if (outcome.succeeded || outcome.index >= batch.size() || !executed.Contains(outcome.index)) continue;
      AppendObject(batch[outcome.index], key_encoding, out);
      AppendEnding(outcome, out);
      ++rows;
    }
    return rows;
  }
  std::string_view bucket;
  std::string bucket_column;
  const Outcome* next = non_default.data();
  const Outcome* const end = next + non_default.size();
  executed.ForEachRange([&](uint32_t first, uint32_t range_end) {
    range_end = std::min(range_end, static_cast<uint32_t>(batch.size()));
    for (uint32_t index = first; index < range_end; ++index) {
      while (next != end && next->index < index) ++next;
      const bool by_default = next == end || next->index != index;
      if (!by_default && !next->succeeded) continue;
      ++rows;
      const Task task = batch[index];
      if (!by_default || !task.version_id.empty()) {
        AppendObject(task, key_encoding, out);
        if (by_default) {
          out.append(kDefaultEnding);
        } else {
          AppendEnding(*next, out);
        }
        continue;
      }
      // The common row, in three pieces.
      if (task.bucket.data() != bucket.data()) {
        bucket = task.bucket;
        bucket_column.clear();
        AppendColumn(bucket, bucket_column);
        bucket_column.push_back(',');
      }
      out.append(bucket_column);
      AppendKey(task.key, key_encoding, out);
      out.append(kDefaultEndingWithoutVersion);
    }
  });
  return rows;
}

}  // namespace drover
