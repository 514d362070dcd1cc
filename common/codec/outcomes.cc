// The format of a segment's payload:
//
//   payload := ""              -- every task of the segment succeeded by default
//            | 0x01 content    -- as it is
//            | 0x02 zstd       -- one zstd frame that states its content size, where that is shorter
//   content := count           -- n, 1 to 4096
//              dictionary_size -- d, 1 to n
//              result{d}       -- each used by at least one entry
//              gap{n}          -- of the first entry its index; of the others, how many indexes are left out
//                                 between the entry before and it
//              reference{n}    -- the result of each entry, 0 to d - 1
//              attempts{n}     -- from 1
//              bytes{n}        -- that were moved
//   result  := succeeded status string string  -- 0 or 1; HTTP status 0 to 999; code; message
//   string  := length bytes
//   numbers :  unsigned LEB128 varints, as short as possible
//
// and nothing after that.
#include "common/codec/outcomes.h"

#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <tuple>

#include "common/codec/task_batch.h"
#include "common/codec/utf8.h"
#include "common/codec/varint.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr char kStored = 1;
constexpr char kCompressed = 2;
constexpr int kZstdLevel = 1;
// Shorter contents aren't worth the try.
constexpr size_t kMinBytesToCompress = 64;
constexpr size_t kMaxCodeBytes = kMaxOutcomeCodeChars * 4;
constexpr uint64_t kMaxHttpStatus = 999;
// All entries with a result of their own, each as long as can be.
constexpr size_t kMaxContentBytes = 16 + kMaxBatchTasks * (kMaxCodeBytes + kMaxOutcomeMessageBytes + 32);
static_assert(kMaxContentBytes <= kMaxOutcomesPayloadBytes);

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

[[noreturn]] void BrokenPromise(const char* what) {
  std::fprintf(stderr, "EncodeOutcomes: %s\n", what);
  std::abort();
}

absl::Status BadPayload(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "BAD_OUTCOMES_PAYLOAD", StrCat("outcomes: ", what));
}

bool IsCleanText(std::string_view text, size_t max_bytes) {
  return text.size() <= max_bytes && text.find('\0') == std::string_view::npos && IsValidUtf8(text);
}

// The longest prefix of valid UTF-8 with at most `chars` characters.
std::string_view FirstChars(std::string_view text, size_t chars) {
  size_t at = 0;
  while (at < text.size() && chars > 0) {
    at += Utf8CharBytes(text.substr(at));
    --chars;
  }
  return text.substr(0, at);
}

bool IsCleanCode(std::string_view code) {
  return IsCleanText(code, kMaxCodeBytes) && FirstChars(code, kMaxOutcomeCodeChars).size() == code.size();
}

void PutString(std::string_view text, std::string& out) {
  PutVarint(text.size(), out);
  out.append(text);
}

bool GetString(const char*& in, const char* end, size_t max_bytes, std::string& text) {
  uint64_t length;
  if (!GetVarint(in, end, max_bytes, length) || length > static_cast<uint64_t>(end - in)) return false;
  text.assign(in, length);
  in += length;
  return true;
}

std::string Content(const std::vector<const Outcome*>& entries) {
  using Result = std::tuple<bool, uint16_t, std::string_view, std::string_view>;
  std::map<Result, uint32_t> dictionary;
  std::string results;
  std::string gaps;
  std::string references;
  std::string attempts;
  std::string bytes;
  uint32_t next = 0;
  for (const Outcome* outcome : entries) {
    const auto [it, is_new] =
        dictionary.try_emplace({outcome->succeeded, outcome->http_status, outcome->code, outcome->message},
                               static_cast<uint32_t>(dictionary.size()));
    if (is_new) {
      PutVarint(outcome->succeeded ? 1 : 0, results);
      PutVarint(outcome->http_status, results);
      PutString(outcome->code, results);
      PutString(outcome->message, results);
    }
    PutVarint(outcome->index - next, gaps);
    next = outcome->index + 1;
    PutVarint(it->second, references);
    PutVarint(outcome->attempts, attempts);
    PutVarint(outcome->bytes, bytes);
  }
  std::string content;
  PutVarint(entries.size(), content);
  PutVarint(dictionary.size(), content);
  StrAppend(&content, results, gaps, references, attempts, bytes);
  return content;
}

absl::StatusOr<std::string> Decompress(std::string_view frame) {
  const unsigned long long content_bytes = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (content_bytes == ZSTD_CONTENTSIZE_ERROR) return BadPayload("no zstd frame");
  if (content_bytes == ZSTD_CONTENTSIZE_UNKNOWN) return BadPayload("frame without a content size");
  if (content_bytes > kMaxContentBytes) return BadPayload("content too long");
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) {
    return BadPayload("not exactly one whole frame");
  }
  std::string content(content_bytes, '\0');
  const size_t bytes = ZSTD_decompress(content.data(), content.size(), frame.data(), frame.size());
  if (ZSTD_isError(bytes)) return BadPayload(ZSTD_getErrorName(bytes));
  if (bytes != content.size()) return BadPayload("content size differs from the stated one");
  return content;
}

// A content, taken apart: what an entry shares with others stands in the dictionary, once.
struct Parsed {
  std::vector<Outcome> dictionary;
  std::vector<uint32_t> indexes;
  std::vector<uint32_t> references;
  std::vector<uint32_t> attempts;
  std::vector<uint64_t> bytes;
};

absl::Status ParseDictionary(const char*& in, const char* end, std::vector<Outcome>& dictionary) {
  for (Outcome& result : dictionary) {
    uint64_t succeeded;
    uint64_t status;
    if (!GetVarint(in, end, 1, succeeded)) return BadPayload("bad result");
    if (!GetVarint(in, end, kMaxHttpStatus, status)) return BadPayload("bad HTTP status");
    result.succeeded = succeeded != 0;
    result.http_status = static_cast<uint16_t>(status);
    if (!GetString(in, end, kMaxCodeBytes, result.code) || !IsCleanCode(result.code))
      return BadPayload("bad code");
    if (!GetString(in, end, kMaxOutcomeMessageBytes, result.message) ||
        !IsCleanText(result.message, kMaxOutcomeMessageBytes)) {
      return BadPayload("bad message");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Parsed> Parse(std::string_view content) {
  const char* in = content.data();
  const char* const end = in + content.size();
  uint64_t count;
  uint64_t dictionary_size;
  if (!GetVarint(in, end, kMaxBatchTasks, count) || count == 0) return BadPayload("bad count");
  if (!GetVarint(in, end, count, dictionary_size) || dictionary_size == 0)
    return BadPayload("bad dictionary size");

  Parsed parsed{std::vector<Outcome>(dictionary_size), std::vector<uint32_t>(count),
                std::vector<uint32_t>(count), std::vector<uint32_t>(count), std::vector<uint64_t>(count)};
  DROVER_RETURN_IF_ERROR(ParseDictionary(in, end, parsed.dictionary));
  uint64_t next = 0;
  for (uint32_t& index : parsed.indexes) {
    uint64_t gap;
    if (next >= kMaxBatchTasks || !GetVarint(in, end, kMaxBatchTasks - 1 - next, gap))
      return BadPayload("bad index");
    index = static_cast<uint32_t>(next + gap);
    next = index + 1;
  }
  std::vector<bool> used(dictionary_size);
  for (uint32_t& reference : parsed.references) {
    uint64_t value;
    if (!GetVarint(in, end, dictionary_size - 1, value)) return BadPayload("bad reference");
    used[value] = true;
    reference = static_cast<uint32_t>(value);
  }
  if (std::find(used.begin(), used.end(), false) != used.end()) return BadPayload("unused result");
  for (uint32_t& attempts : parsed.attempts) {
    uint64_t value;
    if (!GetVarint(in, end, std::numeric_limits<uint32_t>::max(), value) || value == 0)
      return BadPayload("bad attempts");
    attempts = static_cast<uint32_t>(value);
  }
  for (uint64_t& bytes : parsed.bytes) {
    if (!GetVarint(in, end, std::numeric_limits<uint64_t>::max(), bytes)) return BadPayload("bad bytes");
  }
  if (in != end) return BadPayload("bytes after the end");
  return parsed;
}

// Of a payload that is not empty.
absl::StatusOr<Parsed> ParsePayload(std::string_view payload) {
  if (payload.size() > kMaxOutcomesPayloadBytes) return BadPayload("too long");
  const char codec = payload[0];
  payload.remove_prefix(1);
  if (codec == kStored) return Parse(payload);
  if (codec != kCompressed) return BadPayload(StrCat("unknown codec ", static_cast<uint8_t>(codec)));
  DROVER_ASSIGN_OR_RETURN(const std::string content, Decompress(payload));
  return Parse(content);
}

}  // namespace

bool Outcome::IsDefault() const {
  return succeeded && http_status == kDefaultHttpStatus && code.empty() && message == kDefaultMessage &&
         attempts == 1 && bytes == 0;
}

std::string SanitizeOutcomeText(std::string_view text, size_t max_bytes) {
  std::string clean;
  clean.reserve(std::min(text.size(), max_bytes));
  while (!text.empty()) {
    const size_t length = text[0] == '\0' ? 0 : Utf8CharBytes(text);
    const std::string_view next = length == 0 ? kReplacement : text.substr(0, length);
    if (next.size() > max_bytes - clean.size()) break;
    clean.append(next);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return clean;
}

void SanitizeOutcome(Outcome& outcome) {
  if (!IsCleanCode(outcome.code)) {
    outcome.code = SanitizeOutcomeText(outcome.code, kMaxCodeBytes);
    outcome.code.resize(FirstChars(outcome.code, kMaxOutcomeCodeChars).size());
  }
  if (!IsCleanText(outcome.message, kMaxOutcomeMessageBytes)) {
    outcome.message = SanitizeOutcomeText(outcome.message, kMaxOutcomeMessageBytes);
  }
  if (outcome.http_status > kMaxHttpStatus) outcome.http_status = 0;
  if (outcome.attempts == 0) outcome.attempts = 1;
}

std::string EncodeOutcomes(absl::Span<const Outcome> non_default) {
  if (non_default.empty()) return "";
  std::vector<Outcome> clean(non_default.begin(), non_default.end());
  std::vector<const Outcome*> entries;
  entries.reserve(clean.size());
  for (Outcome& outcome : clean) {
    SanitizeOutcome(outcome);
    entries.push_back(&outcome);
  }
  std::sort(entries.begin(), entries.end(),
            [](const Outcome* a, const Outcome* b) { return a->index < b->index; });
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i - 1]->index == entries[i]->index) BrokenPromise("two outcomes of one task");
  }
  if (entries.back()->index >= kMaxBatchTasks) BrokenPromise("index out of limits");

  const std::string content = Content(entries);
  std::string payload;
  if (content.size() >= kMinBytesToCompress) {
    payload.resize(1 + ZSTD_compressBound(content.size()));
    payload[0] = kCompressed;
    const size_t bytes =
        ZSTD_compress(payload.data() + 1, payload.size() - 1, content.data(), content.size(), kZstdLevel);
    if (!ZSTD_isError(bytes) && bytes < content.size()) {
      payload.resize(1 + bytes);
      return payload;
    }
  }
  payload.assign(1, kStored);
  return payload += content;
}

absl::StatusOr<std::vector<Outcome>> DecodeOutcomes(std::string_view payload) {
  if (payload.empty()) return std::vector<Outcome>();
  DROVER_ASSIGN_OR_RETURN(const Parsed parsed, ParsePayload(payload));
  std::vector<Outcome> outcomes;
  outcomes.reserve(parsed.indexes.size());
  for (size_t i = 0; i < parsed.indexes.size(); ++i) {
    Outcome& outcome = outcomes.emplace_back(parsed.dictionary[parsed.references[i]]);
    outcome.index = parsed.indexes[i];
    outcome.attempts = parsed.attempts[i];
    outcome.bytes = parsed.bytes[i];
  }
  return outcomes;
}

absl::StatusOr<std::vector<FailureCount>> CountFailures(std::string_view payload) {
  std::vector<FailureCount> counts;
  if (payload.empty()) return counts;
  DROVER_ASSIGN_OR_RETURN(const Parsed parsed, ParsePayload(payload));
  // Results that differ only in their message share a count.
  constexpr size_t kNone = std::numeric_limits<size_t>::max();
  std::map<std::pair<std::string_view, uint16_t>, size_t> places;
  std::vector<size_t> place_of(parsed.dictionary.size(), kNone);
  for (size_t i = 0; i < parsed.indexes.size(); ++i) {
    const Outcome& result = parsed.dictionary[parsed.references[i]];
    if (result.succeeded) continue;
    size_t& place = place_of[parsed.references[i]];
    if (place == kNone) {
      place = places.try_emplace({result.code, result.http_status}, counts.size()).first->second;
      if (place == counts.size()) counts.push_back({result.code, result.http_status, 0, {}});
    }
    FailureCount& count = counts[place];
    ++count.tasks;
    if (count.first.size() < kFirstFailures) count.first.push_back(parsed.indexes[i]);
  }
  return counts;
}

}  // namespace drover
