// Reads a CSV manifest of S3 Batch Operations (S3BatchOperations_CSV_20180820) as a stream of chunks: checks
// each line and hands out its task, without an allocation per line and with memory bounded by the longest
// line allowed.
//
//   DROVER_ASSIGN_OR_RETURN(CsvManifestParser parser, CsvManifestParser::Create(format, position));
//   while (read(chunk)) parser.Feed(chunk, last, [&](const Task& task) {
//     builder.Add(task);                                   // the views die when this returns
//     if (builder.Full(size)) Store(builder.Finish(), parser.position());  // where the next run may go on
//   });
//   if (!parser.bad_lines().empty()) …                     // the job fails, naming them
//
// What a manifest is (each rule has a test; docs tell users the same):
//   * Lines end in LF or CRLF; the last may have no end. A line with nothing in it is skipped, but counted.
//     There is no header line. A UTF-8 byte order mark at the very start is skipped. A manifest without rows
//     is fine.
//   * Each row has exactly the columns of the format. A column may be quoted: "…", with a quote doubled
//     inside, and may then hold commas and line ends (which stay as they are); line numbers count physical
//     lines, and a row is named by its first. Nothing may stand between a closing quote and the comma. A
//     quote inside an unquoted column is an ordinary character. A CR that isn't before LF is one too.
//   * Bucket: as S3's naming rules have it (3 to 63 of a-z, 0-9, `-`, `.`; a letter or digit at both ends; no
//     two dots in a row; not like an IPv4 address).
//   * Key: percent-decoded unless the format says plain; `+` is a plus. 1 to 1,024 bytes of UTF-8 after
//     decoding.
//   * VersionId: up to 1,024 bytes of UTF-8 without control characters; `null` names the null version; empty
//     means none. Either every row has one or none has: the first row decides, a row that differs from it is
//     bad.
//   * No NUL anywhere, neither written out nor as %00. A row is at most 64 KiB.
//   * A row that is too long, or with a quote that isn't closed within 64 KiB or before the end, is bad;
//     reading goes on at the next physical line.
//   * Ignored columns are free, but for NUL and the row's length.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_CSV_CSV_MANIFEST_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_CSV_CSV_MANIFEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/codec/key_encoding.h"
#include "common/codec/task.h"

namespace drover {

inline constexpr size_t kMaxCsvLineBytes = 64 * 1024;        // of a row, its line end not counted
inline constexpr size_t kMaxCsvColumns = 64;                 // of a format
inline constexpr size_t kMaxBadLines = 10;                   // that are named
inline constexpr int64_t kMaxLinesAfterBadLine = 1'000'000;  // physical lines read to name more of them,
inline constexpr int64_t kMaxBytesAfterBadLine = 1 << 30;    // and bytes
inline constexpr size_t kMaxShownBytes = 100;                // of content in a reason, escaped

// What a column holds.
enum class CsvField { kBucket, kKey, kVersionId, kIgnore };

struct CsvFormat {
  // The columns in order: Bucket and Key once each, VersionId at most once, Ignore as often as need be.
  std::vector<CsvField> fields;
  KeyEncoding key_encoding = KeyEncoding::kUrl;
};

// A place between two rows: all that a parser needs to go on there.
struct CsvPosition {
  // What the rows so far have in their VersionId columns; unknown before the first row.
  enum class VersionIds { kUnknown, kWith, kWithout };

  int64_t offset = 0;  // of the next unread byte of the manifest: the start of a line, or the end
  int64_t line = 0;    // physical lines before it; the next line has number line + 1
  VersionIds version_ids = VersionIds::kUnknown;

  // As text for storing it, e.g. "1048576:20000:with". Parse reads it back; INVALID_ARGUMENT for anything
  // else.
  std::string Serialize() const;
  static absl::StatusOr<CsvPosition> Parse(std::string_view text);

  friend bool operator==(const CsvPosition&, const CsvPosition&) = default;
};

// A line that can't be used.
struct BadLine {
  int64_t line = 0;    // its number, from 1, in physical lines
  std::string reason;  // the column and what is wrong; content of the manifest is escaped and cut

  friend bool operator==(const BadLine&, const BadLine&) = default;
};

// Whether `name` keeps to S3's rules for bucket names; `why`, if not null, says what it breaks.
bool IsValidBucketName(std::string_view name, std::string* why = nullptr);

// `content` for people: printable ASCII as it is, other bytes as \xNN, quotes and backslashes escaped, in
// double quotes, at most `limit` characters in all (then ending in `..."`).
std::string ShowManifestText(std::string_view content, size_t limit = kMaxShownBytes);

// One pass over one manifest. Movable, not thread-safe.
class CsvManifestParser {
 public:
  // A parser that goes on at `from`. INVALID_ARGUMENT, with the path `fields`, for columns that aren't as
  // above.
  static absl::StatusOr<CsvManifestParser> Create(CsvFormat format, const CsvPosition& from = {});

  // Reads the next bytes of the manifest; the first call's begin at the position the parser was created with.
  // `last` says that none follow (the chunk may be empty). Calls sink(const Task&) for each row, until a bad
  // line is found; the views are valid until the sink returns, and position() then is the one just after that
  // row.
  template <typename Sink>
  void Feed(std::string_view chunk, bool last, Sink&& sink) {
    Begin(chunk, last);
    Task task;
    while (Next(task)) sink(std::as_const(task));
  }

  // Where the next row begins that has not been handed out; it stays at the first bad line once there is one.
  const CsvPosition& position() const { return bad_lines_.empty() ? scan_ : first_bad_; }
  // The first bad lines, ascending, at most kMaxBadLines. Not empty: the manifest can't be used.
  const std::vector<BadLine>& bad_lines() const { return bad_lines_; }
  // No more bytes are wanted: all was read, or enough bad lines were, or were looked for long enough.
  bool done() const { return done_; }

 private:
  // Where a row ends, seen from its start.
  struct Row {
    enum class End { kFound, kNeedsMore, kTooLong, kOpenQuote };
    End end = End::kNeedsMore;
    size_t bytes = 0;     // before its line end
    size_t next = 0;      // where the next row begins
    size_t column = 0;    // kOpenQuote: the one with the quote, from 0
    int64_t lines = 1;    // physical lines it is made of
    uint8_t classes = 0;  // which kinds of special bytes it has
  };

  CsvManifestParser(CsvFormat format, const CsvPosition& from);
  void Begin(std::string_view chunk, bool last);
  // The next good row; false if more bytes are needed or none come.
  bool Next(Task& task);
  std::string_view Unread();
  bool FetchMore();
  void Advance(size_t bytes);
  void Skip();
  void CheckEnough();
  Row FindRow(std::string_view unread, bool final) const;
  Row FindQuotedRow(std::string_view unread, bool final) const;
  void TakeUnusable(const Row& row, std::string_view unread);
  // What is wrong with a row, or the empty string and its task.
  std::string Parse(std::string_view row, uint8_t classes, Task& task);
  std::string SplitQuoted(std::string_view row);
  std::string DecodeKey(std::string_view text, uint8_t classes, Task& task);
  std::string CheckVersionId(std::string_view version_id);
  std::string ColumnName(size_t column) const;
  void Bad(const CsvPosition& at, std::string reason);

  CsvFormat format_;
  size_t bucket_column_ = 0;
  size_t key_column_ = 0;
  size_t version_column_ = 0;  // columns: there is none

  CsvPosition scan_;       // the next unread byte
  CsvPosition first_bad_;  // the first bad line, once there is one
  std::vector<BadLine> bad_lines_;
  bool done_ = false;
  bool skipping_ = false;  // in the middle of a line that is known to be bad

  std::string_view in_;  // what is unread of this Feed's chunk
  bool last_ = false;
  std::string carry_;          // the start of a row that began in an earlier chunk, and some of this one
  size_t carry_start_ = 0;     // what is unread of carry_ begins here
  size_t carry_appended_ = 0;  // bytes at the end of carry_ that are from this Feed's chunk

  // Buffers of the row at hand.
  std::vector<std::string_view> columns_;
  std::string unquoted_;
  std::string key_;
  std::string good_bucket_;  // the last bucket name that was checked
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_CSV_CSV_MANIFEST_H_
