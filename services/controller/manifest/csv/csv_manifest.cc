// How it reads: a row is looked for in the caller's chunk itself and its task points there. Only a row that
// began in an earlier chunk is put together in carry_, with a piece of the new chunk; as soon as all that is
// left of carry_ is that piece, reading goes back to the chunk. Nothing may depend on where chunks are cut: a
// row's end is looked for in at most kMaxCsvLineBytes + 2 bytes from its start, however many are at hand.
#include "services/controller/manifest/csv/csv_manifest.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "absl/strings/numbers.h"
#include "common/codec/utf8.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr size_t kMaxBucketNameBytes = 63;
constexpr size_t kMinBucketNameBytes = 3;
// How much of a chunk goes to carry_ at least at a time.
constexpr size_t kMinPiece = 256;

// Kinds of bytes that keep a row off the fast path.
constexpr uint8_t kHasQuote = 1;
constexpr uint8_t kHasPercent = 2;
constexpr uint8_t kHasNul = 4;
constexpr uint8_t kHasNonAscii = 8;

constexpr std::array<uint8_t, 256> kClasses = [] {
  std::array<uint8_t, 256> table{};
  table['"'] = kHasQuote;
  table['%'] = kHasPercent;
  table[0] = kHasNul;
  for (size_t c = 0x80; c < 256; ++c) table[c] = kHasNonAscii;
  return table;
}();

// The classes of all bytes of `text`.
uint8_t Classify(std::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  uint8_t classes = 0;
#ifdef __SSE2__
  if (text.size() >= 16) {
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i percent = _mm_set1_epi8('%');
    const __m128i nul = _mm_setzero_si128();
    __m128i quotes = nul;
    __m128i percents = nul;
    __m128i nuls = nul;
    __m128i all = nul;
    const auto look = [&](const char* from) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      quotes = _mm_or_si128(quotes, _mm_cmpeq_epi8(bytes, quote));
      percents = _mm_or_si128(percents, _mm_cmpeq_epi8(bytes, percent));
      nuls = _mm_or_si128(nuls, _mm_cmpeq_epi8(bytes, nul));
      all = _mm_or_si128(all, bytes);
    };
    for (; end - at >= 16; at += 16) look(at);
    look(end - 16);  // once more over some bytes, never beyond
    if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, percents), _mm_or_si128(nuls, all))) == 0)
      return 0;
    if (_mm_movemask_epi8(quotes) != 0) classes |= kHasQuote;
    if (_mm_movemask_epi8(percents) != 0) classes |= kHasPercent;
    if (_mm_movemask_epi8(nuls) != 0) classes |= kHasNul;
    if (_mm_movemask_epi8(all) != 0) classes |= kHasNonAscii;
    return classes;
  }
#endif
  for (; at != end; ++at) classes |= kClasses[static_cast<uint8_t>(*at)];
  return classes;
}

size_t Find(std::string_view text, char c, size_t from) {
  if (from >= text.size()) return std::string_view::npos;
  const void* found = std::memchr(text.data() + from, c, text.size() - from);
  return found == nullptr ? std::string_view::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

std::string_view FieldName(CsvField field) {
  switch (field) {
    case CsvField::kBucket: return "Bucket";
    case CsvField::kKey: return "Key";
    case CsvField::kVersionId: return "VersionId";
    case CsvField::kIgnore: return "Ignore";
  }
  return "?";
}

bool LooksLikeIpv4(std::string_view name) {
  size_t groups = 1;
  size_t digits = 0;
  for (const char c : name) {
    if (c == '.') {
      ++groups;
      digits = 0;
    } else if (c < '0' || c > '9' || ++digits > 3) {
      return false;
    }
  }
  return groups == 4;
}

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

std::string_view VersionIdsName(CsvPosition::VersionIds ids) {
  switch (ids) {
    case CsvPosition::VersionIds::kUnknown: return "unknown";
    case CsvPosition::VersionIds::kWith: return "with";
    case CsvPosition::VersionIds::kWithout: return "without";
  }
  return "?";
}

}  // namespace

std::string CsvPosition::Serialize() const {
  return StrCat(offset, ":", line, ":", VersionIdsName(version_ids));
}

absl::StatusOr<CsvPosition> CsvPosition::Parse(std::string_view text) {
  CsvPosition position;
  const size_t first = text.find(':');
  const size_t second = first == std::string_view::npos ? first : text.find(':', first + 1);
  bool ok = second != std::string_view::npos &&
            absl::SimpleAtoi(ToAbsl(text.substr(0, first)), &position.offset) && position.offset >= 0 &&
            absl::SimpleAtoi(ToAbsl(text.substr(first + 1, second - first - 1)), &position.line) &&
            position.line >= 0 && position.line <= position.offset;
  if (ok) {
    ok = false;
    for (const VersionIds ids : {VersionIds::kUnknown, VersionIds::kWith, VersionIds::kWithout}) {
      if (text.substr(second + 1) != VersionIdsName(ids)) continue;
      position.version_ids = ids;
      ok = true;
    }
  }
  // What Serialize would not write (signs, blanks, leading zeros) isn't one either.
  if (!ok || position.Serialize() != text) {
    return Error(absl::StatusCode::kInvalidArgument, "BAD_CSV_POSITION",
                 StrCat("not a position in a CSV manifest: ", ShowManifestText(text)));
  }
  return position;
}

bool IsValidBucketName(std::string_view name, std::string* why) {
  const auto invalid = [why](std::string reason) {
    if (why != nullptr) *why = std::move(reason);
    return false;
  };
  if (name.empty()) return invalid("empty");
  if (name.size() < kMinBucketNameBytes || name.size() > kMaxBucketNameBytes) {
    return invalid(
        StrCat(name.size(), " bytes long, must be ", kMinBucketNameBytes, " to ", kMaxBucketNameBytes));
  }
  for (const char c : name) {
    if (c >= 'A' && c <= 'Z') return invalid("has a capital letter, must be of a-z, 0-9, - and .");
    if (!IsLowerOrDigit(c) && c != '-' && c != '.') {
      return invalid(StrCat("has ", ShowManifestText({&c, 1}), ", must be of a-z, 0-9, - and ."));
    }
  }
  if (!IsLowerOrDigit(name.front()) || !IsLowerOrDigit(name.back())) {
    return invalid("must begin and end with a letter or digit");
  }
  if (name.find("..") != std::string_view::npos) return invalid("has two dots in a row");
  if (LooksLikeIpv4(name)) return invalid("looks like an IP address");
  return true;
}

std::string ShowManifestText(std::string_view content, size_t limit) {
  constexpr char kHex[] = "0123456789abcdef";
  constexpr std::string_view kCut = "...";
  std::string shown = "\"";
  for (const char c : content) {
    const uint8_t byte = static_cast<uint8_t>(c);
    char piece[4] = {c};
    size_t length = 1;
    if (c == '"' || c == '\\') {
      piece[0] = '\\';
      piece[1] = c;
      length = 2;
    } else if (byte < 0x20 || byte > 0x7e) {
      const char escape[] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      std::memcpy(piece, escape, sizeof escape);
      length = 4;
    }
    // There is always room left for the mark of a cut and the closing quote.
    if (shown.size() + length + kCut.size() + 1 > limit) return StrCat(shown, kCut, "\"");
    shown.append(piece, length);
  }
  return shown += '"';
}

absl::StatusOr<CsvManifestParser> CsvManifestParser::Create(CsvFormat format, const CsvPosition& from) {
  const auto count = [&](CsvField field) {
    return std::count(format.fields.begin(), format.fields.end(), field);
  };
  FieldErrors errors;
  if (format.fields.size() > kMaxCsvColumns) {
    errors.Add("fields", StrCat("at most ", kMaxCsvColumns, " columns, got ", format.fields.size()));
  }
  if (count(CsvField::kBucket) != 1) errors.Add("fields", "must name Bucket exactly once");
  if (count(CsvField::kKey) != 1) errors.Add("fields", "must name Key exactly once");
  if (count(CsvField::kVersionId) > 1) errors.Add("fields", "must name VersionId at most once");
  if (!errors.empty()) return errors.ToStatus();
  return CsvManifestParser(std::move(format), from);
}

CsvManifestParser::CsvManifestParser(CsvFormat format, const CsvPosition& from)
    : format_(std::move(format)), scan_(from), columns_(format_.fields.size()) {
  const auto column = [this](CsvField field) {
    return static_cast<size_t>(std::find(format_.fields.begin(), format_.fields.end(), field) -
                               format_.fields.begin());
  };
  bucket_column_ = column(CsvField::kBucket);
  key_column_ = column(CsvField::kKey);
  version_column_ = column(CsvField::kVersionId);
}

void CsvManifestParser::Begin(std::string_view chunk, bool last) {
  in_ = chunk;
  last_ = last;
  carry_appended_ = 0;
}

std::string_view CsvManifestParser::Unread() {
  if (carry_.empty()) return in_;
  const size_t left = carry_.size() - carry_start_;
  if (left > carry_appended_) return std::string_view(carry_).substr(carry_start_);
  // What is left lies in the chunk too, just before in_.
  if (carry_appended_ != 0) in_ = std::string_view(in_.data() - left, in_.size() + left);
  carry_.clear();
  carry_start_ = 0;
  carry_appended_ = 0;
  return in_;
}

// Moves bytes of the chunk to carry_; false if it has none.
bool CsvManifestParser::FetchMore() {
  if (carry_.empty()) {
    carry_.assign(in_);
    in_ = {};
    return false;
  }
  if (in_.empty()) return false;
  carry_.erase(0, carry_start_);
  carry_start_ = 0;
  const size_t piece = std::min(in_.size(), std::max(kMinPiece, carry_.size()));
  carry_.append(in_.substr(0, piece));
  in_.remove_prefix(piece);
  carry_appended_ += piece;
  return true;
}

// The bytes stay where they are until the next call of Unread or FetchMore.
void CsvManifestParser::Advance(size_t bytes) {
  scan_.offset += static_cast<int64_t>(bytes);
  if (carry_.empty()) {
    in_.remove_prefix(bytes);
  } else {
    carry_start_ += bytes;
  }
}

bool CsvManifestParser::Next(Task& task) {
  for (;;) {
    if (!bad_lines_.empty()) CheckEnough();
    if (done_) return false;
    if (skipping_) {
      Skip();
      if (skipping_ && !last_) return false;
      continue;
    }
    const std::string_view unread = Unread();
    const bool final = last_ && (carry_.empty() || in_.empty());
    if (unread.empty()) {
      done_ = last_;
      return false;
    }
    const Row row = FindRow(unread, final);
    if (row.end == Row::End::kNeedsMore) {
      if (!FetchMore()) return false;
      continue;
    }
    if (row.end != Row::End::kFound) {
      TakeUnusable(row, unread);
      continue;
    }
    std::string_view text = unread.substr(0, row.bytes);
    if (scan_.offset == 0 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const CsvPosition start = scan_;
    Advance(row.next);
    scan_.line += row.lines;
    if (text.empty()) continue;
    std::string wrong = Parse(text, row.classes, task);
    if (!wrong.empty()) {
      Bad(start, std::move(wrong));
      continue;
    }
    if (bad_lines_.empty()) return true;
  }
}

// After a bad line: whether enough of them were named, or looked for long enough.
void CsvManifestParser::CheckEnough() {
  done_ = done_ || bad_lines_.size() >= kMaxBadLines ||
          scan_.line - first_bad_.line > kMaxLinesAfterBadLine ||
          scan_.offset - first_bad_.offset > kMaxBytesAfterBadLine;
}

// Leaves out what is left of a line that is bad.
void CsvManifestParser::Skip() {
  const std::string_view unread = Unread();
  const size_t line_end = Find(unread, '\n', 0);
  if (line_end != std::string_view::npos) {
    Advance(line_end + 1);
    ++scan_.line;
    skipping_ = false;
    return;
  }
  Advance(unread.size());
  if (!carry_.empty() && !in_.empty()) return Skip();  // the line goes on in the chunk
  if (last_) {
    ++scan_.line;
    skipping_ = false;
  }
}

// A row that is too long, or with an open quote: bad, and only its first line is taken.
void CsvManifestParser::TakeUnusable(const Row& row, std::string_view unread) {
  if (row.end == Row::End::kOpenQuote) {
    Bad(scan_, StrCat(ColumnName(row.column), ": its quote is not closed within ", kMaxCsvLineBytes,
                      " bytes or before the end of the manifest"));
  } else {
    Bad(scan_, StrCat("row longer than ", kMaxCsvLineBytes, " bytes: ", ShowManifestText(unread)));
  }
  skipping_ = true;
}

CsvManifestParser::Row CsvManifestParser::FindRow(std::string_view unread, bool final) const {
  if (unread.size() > kMaxCsvLineBytes + 2) {
    unread = unread.substr(0, kMaxCsvLineBytes + 2);
    final = false;
  }
  const size_t line_end = Find(unread, '\n', 0);
  Row row;
  row.bytes = line_end == std::string_view::npos ? unread.size() : line_end;
  row.classes = Classify(unread.substr(0, row.bytes));
  if ((row.classes & kHasQuote) != 0) return FindQuotedRow(unread, final);
  if (line_end == std::string_view::npos) {
    row.next = unread.size();
    if (unread.size() == kMaxCsvLineBytes + 2) {
      row.end = Row::End::kTooLong;
      return row;
    }
    if (!final) return row;
  } else {
    row.next = line_end + 1;
    if (row.bytes > 0 && unread[row.bytes - 1] == '\r') --row.bytes;
  }
  row.end = row.bytes > kMaxCsvLineBytes ? Row::End::kTooLong : Row::End::kFound;
  return row;
}

// As FindRow, for a row with a quote in it, which may go on behind a line end. `unread` is cut to the longest
// row.
CsvManifestParser::Row CsvManifestParser::FindQuotedRow(std::string_view unread, bool final) const {
  const bool is_cut = unread.size() == kMaxCsvLineBytes + 2;
  Row row;
  size_t at = scan_.offset == 0 && unread.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  size_t line_end = Find(unread, '\n', at);
  for (;; ++row.column) {
    if (at < unread.size() && unread[at] == '"') {
      for (++at;; ++at) {
        at = Find(unread, '"', at);
        if (at == std::string_view::npos) {
          if (is_cut || final) row.end = Row::End::kOpenQuote;
          return row;
        }
        ++at;
        if (at >= unread.size() || unread[at] != '"') break;
      }
    }
    if (line_end < at) line_end = Find(unread, '\n', at);  // it was inside the quotes
    const size_t comma = Find(unread.substr(0, line_end), ',', at);
    if (comma == std::string_view::npos) break;
    at = comma + 1;
  }
  if (line_end == std::string_view::npos) {
    if (is_cut) row.end = Row::End::kTooLong;
    if (is_cut || !final) return row;
    row.bytes = unread.size();
    row.next = unread.size();
  } else {
    row.bytes = line_end;
    row.next = line_end + 1;
    if (unread[row.bytes - 1] == '\r') --row.bytes;
  }
  if (row.bytes > kMaxCsvLineBytes) {
    row.end = Row::End::kTooLong;
    return row;
  }
  row.end = Row::End::kFound;
  row.classes = Classify(unread.substr(0, row.bytes));
  row.lines = 1 + std::count(unread.begin(), unread.begin() + static_cast<ptrdiff_t>(row.bytes), '\n');
  return row;
}

std::string CsvManifestParser::Parse(std::string_view row, uint8_t classes, Task& task) {
  if ((classes & kHasQuote) != 0) {
    std::string wrong = SplitQuoted(row);
    if (!wrong.empty()) return wrong;
  } else {
    size_t found = 0;
    for (size_t at = 0;; ++found) {
      const size_t comma = Find(row, ',', at);
      if (found < columns_.size()) columns_[found] = row.substr(at, comma - at);
      if (comma == std::string_view::npos) break;
      at = comma + 1;
    }
    if (++found != columns_.size()) {
      return StrCat(found, found == 1 ? " column" : " columns", ", must be ", columns_.size(), ": ",
                    ShowManifestText(row));
    }
  }
  if ((classes & kHasNul) != 0) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (Find(columns_[i], '\0', 0) != std::string_view::npos) {
        return StrCat(ColumnName(i), ": has a NUL byte: ", ShowManifestText(columns_[i]));
      }
    }
  }
  task.bucket = columns_[bucket_column_];
  if (task.bucket.empty() || task.bucket != good_bucket_) {
    std::string why;
    if (!IsValidBucketName(task.bucket, &why)) {
      return StrCat("Bucket: ", why, task.bucket.empty() ? "" : ": ",
                    task.bucket.empty() ? "" : ShowManifestText(task.bucket));
    }
    good_bucket_ = task.bucket;
  }
  std::string wrong = DecodeKey(columns_[key_column_], classes, task);
  if (!wrong.empty()) return wrong;
  task.version_id = {};
  if (version_column_ < columns_.size()) {
    task.version_id = columns_[version_column_];
    return CheckVersionId(task.version_id);
  }
  return {};
}

// Fills columns_ from a row that has quotes.
std::string CsvManifestParser::SplitQuoted(std::string_view row) {
  unquoted_.clear();
  unquoted_.reserve(row.size());  // so that views of it stay valid
  size_t found = 0;
  for (size_t at = 0;; ++found) {
    std::string_view column;
    if (at < row.size() && row[at] == '"') {
      const size_t start = unquoted_.size();
      for (++at;;) {
        const size_t quote = std::min(Find(row, '"', at), row.size());
        unquoted_.append(row, at, quote - at);
        at = std::min(quote + 1, row.size());
        if (at >= row.size() || row[at] != '"') break;
        unquoted_.push_back('"');
        ++at;
      }
      column = std::string_view(unquoted_).substr(start);
      if (at < row.size() && row[at] != ',') {
        return StrCat(ColumnName(found),
                      ": text after the closing quote: ", ShowManifestText(row.substr(at)));
      }
    } else {
      const size_t comma = std::min(Find(row, ',', at), row.size());
      column = row.substr(at, comma - at);
      at = comma;
    }
    if (found < columns_.size()) columns_[found] = column;
    if (at >= row.size()) break;
    ++at;
  }
  if (++found == columns_.size()) return {};
  return StrCat(found, found == 1 ? " column" : " columns", ", must be ", columns_.size(), ": ",
                ShowManifestText(row));
}

std::string CsvManifestParser::DecodeKey(std::string_view text, uint8_t classes, Task& task) {
  task.key = text;
  if (text.empty()) return "Key: empty";
  if ((classes & kHasPercent) != 0 && format_.key_encoding == KeyEncoding::kUrl) {
    size_t bad_offset = 0;
    if (!UrlDecode(text, key_, bad_offset)) {
      return StrCat("Key: percent sign without two hex digits at byte ", bad_offset + 1, ": ",
                    ShowManifestText(text.substr(bad_offset, 3)), " in ", ShowManifestText(text));
    }
    task.key = key_;
    if (Find(task.key, '\0', 0) != std::string_view::npos)
      return StrCat("Key: has a NUL: ", ShowManifestText(text));
  }
  if (task.key.size() > kMaxKeyBytes) {
    return StrCat("Key: ", task.key.size(), " bytes, at most ", kMaxKeyBytes, ": ", ShowManifestText(text));
  }
  if ((classes & (kHasPercent | kHasNonAscii)) != 0) {
    const size_t invalid = FindInvalidUtf8(task.key);
    if (invalid != task.key.size()) {
      return StrCat("Key: not UTF-8 at byte ", invalid + 1, ": ", ShowManifestText(task.key));
    }
  }
  return {};
}

std::string CsvManifestParser::CheckVersionId(std::string_view version_id) {
  if (version_id.size() > kMaxVersionIdBytes) {
    return StrCat("VersionId: ", version_id.size(), " bytes, at most ", kMaxVersionIdBytes, ": ",
                  ShowManifestText(version_id));
  }
  for (const char c : version_id) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
      return StrCat("VersionId: has a control character: ", ShowManifestText(version_id));
    }
  }
  if (!IsValidUtf8(version_id)) return StrCat("VersionId: not UTF-8: ", ShowManifestText(version_id));
  const CsvPosition::VersionIds ids =
      version_id.empty() ? CsvPosition::VersionIds::kWithout : CsvPosition::VersionIds::kWith;
  if (scan_.version_ids == CsvPosition::VersionIds::kUnknown) scan_.version_ids = ids;
  if (scan_.version_ids == ids) return {};
  return ids == CsvPosition::VersionIds::kWith
             ? StrCat("VersionId: ", ShowManifestText(version_id), ", but the rows before have none")
             : "VersionId: empty, but the rows before have one";
}

std::string CsvManifestParser::ColumnName(size_t column) const {
  if (column >= format_.fields.size()) return StrCat("column ", column + 1);
  const CsvField field = format_.fields[column];
  return field == CsvField::kIgnore ? StrCat("column ", column + 1, " (ignored)")
                                    : std::string(FieldName(field));
}

void CsvManifestParser::Bad(const CsvPosition& at, std::string reason) {
  if (bad_lines_.empty()) first_bad_ = at;
  bad_lines_.push_back({at.line + 1, std::move(reason)});
}

}  // namespace drover
