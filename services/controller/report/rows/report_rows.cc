#include "services/controller/report/rows/report_rows.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace drover {
namespace {

constexpr std::string_view kDefaultEnding = ",succeeded,200,,Successful\n";

// Appends a column, quoted if it has to be.
void AppendColumn(std::string_view text, std::string& out) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
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

size_t AppendReportRows(const DecodedBatch& batch, const TaskSet& executed, absl::Span<const Outcome> non_default,
                        RowKind kind, KeyEncoding key_encoding, std::string& out) {
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
  const Outcome* next = non_default.data();
  const Outcome* const end = next + non_default.size();
  executed.ForEachRange([&](uint32_t first, uint32_t range_end) {
    range_end = std::min(range_end, static_cast<uint32_t>(batch.size()));
    for (uint32_t index = first; index < range_end; ++index) {
      while (next != end && next->index < index) ++next;
      const bool by_default = next == end || next->index != index;
      if (!by_default && !next->succeeded) continue;
      AppendObject(batch[index], key_encoding, out);
      if (by_default) {
        out.append(kDefaultEnding);
      } else {
        AppendEnding(*next, out);
      }
      ++rows;
    }
  });
  return rows;
}

}  // namespace drover
