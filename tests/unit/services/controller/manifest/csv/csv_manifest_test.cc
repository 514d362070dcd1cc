#include "services/controller/manifest/csv/csv_manifest.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace drover {

static void PrintTo(const CsvPosition& position, std::ostream* out) { *out << position.Serialize(); }
static void PrintTo(const BadLine& bad, std::ostream* out) {
  *out << "line " << bad.line << ": " << bad.reason;
}

namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<CsvField> kBucketKey = {CsvField::kBucket, CsvField::kKey};
const std::vector<CsvField> kBucketKeyVersion = {CsvField::kBucket, CsvField::kKey, CsvField::kVersionId};
using VersionIds = CsvPosition::VersionIds;

struct OwnedTask {
  std::string bucket;
  std::string key;
  std::string version_id;

  friend bool operator==(const OwnedTask&, const OwnedTask&) = default;
};

void PrintTo(const OwnedTask& task, std::ostream* out) {
  *out << ShowManifestText(task.bucket) << "," << ShowManifestText(task.key) << ","
       << ShowManifestText(task.version_id);
}

// All that a parser says about a manifest.
struct Reading {
  std::vector<OwnedTask> tasks;
  std::vector<CsvPosition> positions;  // after each task
  std::vector<BadLine> bad_lines;
  CsvPosition end;

  friend bool operator==(const Reading&, const Reading&) = default;
};

// Reads `manifest` from `from` on in chunks whose sizes next_size() tells. Each chunk is a copy of its own,
// gone when the next comes: nothing may point into an old one.
template <typename NextSize>
Reading ReadInChunks(std::string_view manifest, CsvFormat format, NextSize next_size,
                     const CsvPosition& from = {}) {
  absl::StatusOr<CsvManifestParser> parser = CsvManifestParser::Create(std::move(format), from);
  EXPECT_TRUE(parser.ok()) << parser.status();
  Reading reading;
  size_t at = static_cast<size_t>(from.offset);
  do {
    const std::string_view chunk = manifest.substr(at, next_size());
    at += chunk.size();
    const std::vector<char> copy(chunk.begin(), chunk.end());
    parser->Feed({copy.data(), copy.size()}, at == manifest.size(), [&](const Task& task) {
      reading.tasks.push_back(
          {std::string(task.bucket), std::string(task.key), std::string(task.version_id)});
      reading.positions.push_back(parser->position());
    });
  } while (at < manifest.size() && !parser->done());
  EXPECT_TRUE(parser->done());
  reading.bad_lines = parser->bad_lines();
  reading.end = parser->position();
  return reading;
}

Reading Read(std::string_view manifest, std::vector<CsvField> fields = kBucketKey,
             KeyEncoding encoding = KeyEncoding::kUrl) {
  return ReadInChunks(manifest, {std::move(fields), encoding}, [] { return std::string_view::npos; });
}

// What is wrong with `manifest`, of which no line but `line` is bad.
std::string Wrong(std::string_view manifest, int64_t line, std::vector<CsvField> fields = kBucketKey) {
  const Reading reading = Read(manifest, std::move(fields));
  if (reading.bad_lines.size() != 1) {
    ADD_FAILURE() << reading.bad_lines.size() << " bad lines";
    return "";
  }
  EXPECT_EQ(reading.bad_lines[0].line, line);
  return reading.bad_lines[0].reason;
}

TEST(CsvManifest, EachRowIsATaskWithItsKeyDecoded) {
  const Reading reading = Read("photos,2024/a%20b.jpg\nphotos,%C3%A9%2C%22\nother-bucket,plain\n");
  EXPECT_THAT(reading.tasks,
              ElementsAre(OwnedTask{"photos", "2024/a b.jpg", ""}, OwnedTask{"photos", "é,\"", ""},
                          OwnedTask{"other-bucket", "plain", ""}));
  EXPECT_THAT(reading.bad_lines, IsEmpty());
  EXPECT_EQ(reading.end, (CsvPosition{61, 3, VersionIds::kUnknown}));
}

TEST(CsvManifest, APlusIsAPlus) {
  EXPECT_THAT(Read("photos,a+b%2Bc\n").tasks, ElementsAre(OwnedTask{"photos", "a+b+c", ""}));
}

TEST(CsvManifest, PlainKeysAreTakenAsTheyAre) {
  EXPECT_THAT(Read("photos,100%25 sure%zz\n", kBucketKey, KeyEncoding::kPlain).tasks,
              ElementsAre(OwnedTask{"photos", "100%25 sure%zz", ""}));
}

TEST(CsvManifest, ColumnsMayComeInAnyOrderAndBeIgnored) {
  EXPECT_THAT(
      Read("1,v1,k1,bucket,x\n,v2,k2,bucket,\"\"\n",
           {CsvField::kIgnore, CsvField::kVersionId, CsvField::kKey, CsvField::kBucket, CsvField::kIgnore})
          .tasks,
      ElementsAre(OwnedTask{"bucket", "k1", "v1"}, OwnedTask{"bucket", "k2", "v2"}));
}

TEST(CsvManifest, WindowsLineEndsAreLineEnds) {
  const Reading reading = Read("photos,a\r\nphotos,\"b\"\r\n\r\nphotos,c\r\n");
  EXPECT_THAT(reading.tasks, ElementsAre(OwnedTask{"photos", "a", ""}, OwnedTask{"photos", "b", ""},
                                         OwnedTask{"photos", "c", ""}));
  EXPECT_EQ(reading.end.line, 4);
}

TEST(CsvManifest, ACarriageReturnElsewhereIsAnOrdinaryCharacter) {
  EXPECT_THAT(Read("photos,a\rb\nphotos,c\r\r\nphotos,d\r").tasks,
              ElementsAre(OwnedTask{"photos", "a\rb", ""}, OwnedTask{"photos", "c\r", ""},
                          OwnedTask{"photos", "d\r", ""}));
}

TEST(CsvManifest, AByteOrderMarkIsSkippedAtTheStartOnly) {
  EXPECT_THAT(Read("\xEF\xBB\xBFphotos,a\n").tasks, ElementsAre(OwnedTask{"photos", "a", ""}));
  EXPECT_THAT(Read("\xEF\xBB\xBF\"photos\",a\n").tasks, ElementsAre(OwnedTask{"photos", "a", ""}));
  EXPECT_THAT(Read("\xEF\xBB\xBF\"photos\",\"a,\nb\"\n").tasks,
              ElementsAre(OwnedTask{"photos", "a,\nb", ""}));
  EXPECT_THAT(Read("\xEF\xBB\xBF").tasks, IsEmpty());
  EXPECT_THAT(Read("\xEF\xBB\xBF").bad_lines, IsEmpty());
  EXPECT_THAT(Wrong("photos,a\n\xEF\xBB\xBFphotos,b\n", 2), HasSubstr("Bucket: has \"\\xef\""));
}

TEST(CsvManifest, BlankLinesAreSkippedButCounted) {
  EXPECT_THAT(Read("\n\nphotos,a\n\r\n\nphotos,b\n\n").tasks,
              ElementsAre(OwnedTask{"photos", "a", ""}, OwnedTask{"photos", "b", ""}));
  EXPECT_THAT(Wrong("\n\nphotos,a\n\r\nphotos\n", 5), HasSubstr("1 column, must be 2"));
  EXPECT_THAT(Wrong("photos,a\n  \n", 2), HasSubstr("1 column, must be 2"));
}

TEST(CsvManifest, TheLastLineNeedsNoEnd) {
  const Reading reading = Read("photos,a\nphotos,b");
  EXPECT_THAT(reading.tasks, ElementsAre(OwnedTask{"photos", "a", ""}, OwnedTask{"photos", "b", ""}));
  EXPECT_EQ(reading.end, (CsvPosition{17, 2, VersionIds::kUnknown}));
  EXPECT_THAT(Read("photos,\"b\"").tasks, ElementsAre(OwnedTask{"photos", "b", ""}));
}

TEST(CsvManifest, AnEmptyManifestHasNoTasksAndIsFine) {
  for (const char* manifest : {"", "\n", "\r\n\n"}) {
    const Reading reading = Read(manifest);
    EXPECT_THAT(reading.tasks, IsEmpty());
    EXPECT_THAT(reading.bad_lines, IsEmpty());
    EXPECT_EQ(reading.end.offset, static_cast<int64_t>(std::string_view(manifest).size()));
  }
}

TEST(CsvManifest, QuotedColumnsMayHoldCommasQuotesAndLineEnds) {
  const Reading reading =
      Read("\"photos\",\"a,\"\"b\"\"\"\nphotos,\"two\r\nlines\"\nphotos,c\"d\"\nphotos,\"%22\"\nphotos\n");
  EXPECT_THAT(reading.tasks,
              ElementsAre(OwnedTask{"photos", "a,\"b\"", ""}, OwnedTask{"photos", "two\r\nlines", ""},
                          OwnedTask{"photos", "c\"d\"", ""}, OwnedTask{"photos", "\"", ""}));
  EXPECT_EQ(reading.positions[1].line, 3);
  ASSERT_EQ(reading.bad_lines.size(), 1u);
  EXPECT_EQ(reading.bad_lines[0].line, 6);  // physical lines
}

TEST(CsvManifest, ABadRowOfSeveralLinesIsNamedByItsFirst) {
  EXPECT_THAT(Wrong("photos,a\nphotos,\"x\ny\",z\nphotos,b\n", 2), HasSubstr("3 columns, must be 2"));
}

TEST(CsvManifest, TextAfterAClosingQuoteIsBad) {
  EXPECT_THAT(Wrong("photos,\"a\"b\n", 1),
              AllOf(HasSubstr("Key: text after the closing quote"), HasSubstr("\"b\"")));
}

TEST(CsvManifest, AnOpenQuoteMakesOnlyItsLineBad) {
  const Reading reading = Read("photos,a\nphotos,\"b\nphotos\nphotos,c\n");
  EXPECT_THAT(reading.bad_lines,
              ElementsAre(AllOf(Field(&BadLine::line, 2),
                                Field(&BadLine::reason, HasSubstr("Key: its quote is not"))),
                          AllOf(Field(&BadLine::line, 3), Field(&BadLine::reason, HasSubstr("1 column")))));
  EXPECT_THAT(Wrong("\"", 1), HasSubstr("Bucket: its quote is not closed"));
}

TEST(CsvManifest, ARowIsAtMost64KiB) {
  const auto row = [](size_t bytes) { return "photos,k," + std::string(bytes - 9, 'x'); };
  const std::vector<CsvField> fields = {CsvField::kBucket, CsvField::kKey, CsvField::kIgnore};
  for (const char* line_end : {"\n", "\r\n", ""}) {
    EXPECT_EQ(Read(row(kMaxCsvLineBytes) + line_end, fields).tasks.size(), 1u);
    EXPECT_THAT(Wrong(row(kMaxCsvLineBytes + 1) + line_end, 1, fields),
                AllOf(HasSubstr("row longer than 65536 bytes"), HasSubstr("photos,k,xxx")));
  }
  const Reading reading = Read(row(1'000'000) + "\nphotos\n" + row(70'000) + "\nphotos,k,\n", fields);
  EXPECT_THAT(reading.bad_lines,
              ElementsAre(Field(&BadLine::line, 1), Field(&BadLine::line, 2), Field(&BadLine::line, 3)));
  // With quotes it is the same, though the row has many lines.
  std::string lines = "photos,k,\"";
  while (lines.size() < 70'000) lines += "photos,k,\n";
  const Reading quoted = Read(lines + "\"\n", fields);
  ASSERT_FALSE(quoted.bad_lines.empty());
  EXPECT_EQ(quoted.bad_lines[0].line, 1);
  EXPECT_THAT(quoted.bad_lines[0].reason,
              HasSubstr("column 3 (ignored): its quote is not closed within 65536 bytes"));
}

TEST(CsvManifest, ANulIsBadWhereverItIs) {
  EXPECT_THAT(Wrong(std::string("photos,a\0b\n", 11), 1),
              AllOf(HasSubstr("Key: has a NUL"), HasSubstr("a\\x00b")));
  EXPECT_THAT(Wrong(std::string("pho\0tos,a\n", 10), 1), HasSubstr("Bucket: has a NUL"));
  EXPECT_THAT(Wrong("photos,a%00b\n", 1), HasSubstr("Key: has a NUL"));
  EXPECT_THAT(
      Wrong(std::string("photos,a,\0\n", 11), 1, {CsvField::kBucket, CsvField::kKey, CsvField::kIgnore}),
      HasSubstr("column 3 (ignored): has a NUL"));
}

TEST(CsvManifest, KeysAreUtf8AfterDecoding) {
  EXPECT_THAT(Read("photos,\xC3\xA9%C3%A9\xC3%A9\n").tasks, ElementsAre(OwnedTask{"photos", "ééé", ""}));
  EXPECT_THAT(Wrong("photos,ab%FFc\n", 1),
              AllOf(HasSubstr("Key: not UTF-8 at byte 3"), HasSubstr("ab\\xffc")));
  EXPECT_THAT(Wrong("photos,\xC3\n", 1), HasSubstr("Key: not UTF-8 at byte 1"));
  EXPECT_THAT(Wrong("photos,%ED%A0%80\n", 1), HasSubstr("Key: not UTF-8"));
}

TEST(CsvManifest, BrokenPercentEscapesAreBad) {
  EXPECT_THAT(Wrong("photos,ab%\n", 1), AllOf(HasSubstr("Key: percent sign"), HasSubstr("byte 3")));
  EXPECT_THAT(Wrong("photos,a%2\n", 1), HasSubstr("\"%2\" in \"a%2\""));
  EXPECT_THAT(Wrong("photos,%G1\n", 1), HasSubstr("\"%G1\""));
}

TEST(CsvManifest, KeysHave1To1024BytesAfterDecoding) {
  EXPECT_THAT(Wrong("photos,\n", 1), "Key: empty");
  EXPECT_THAT(Wrong("photos,\"\"\n", 1), "Key: empty");
  std::string escaped;
  for (int i = 0; i < 1024; ++i) escaped += "%41";
  EXPECT_THAT(Read("photos," + escaped + "\n").tasks,
              ElementsAre(OwnedTask{"photos", std::string(1024, 'A'), ""}));
  EXPECT_THAT(Wrong("photos," + escaped + "A\n", 1), HasSubstr("Key: 1025 bytes, at most 1024"));
  EXPECT_THAT(Wrong("photos," + std::string(1025, 'k') + "\n", 1),
              HasSubstr("Key: 1025 bytes, at most 1024"));
}

TEST(CsvManifest, BucketsKeepToS3sNamingRules) {
  EXPECT_TRUE(IsValidBucketName("abc"));
  EXPECT_TRUE(IsValidBucketName("0-a.b-9"));
  EXPECT_TRUE(IsValidBucketName(std::string(63, 'b')));
  EXPECT_TRUE(IsValidBucketName("1.2.3"));
  EXPECT_TRUE(IsValidBucketName("1.2.3.4444"));
  const auto why = [](std::string_view name) {
    std::string reason;
    EXPECT_FALSE(IsValidBucketName(name, &reason));
    EXPECT_FALSE(IsValidBucketName(name));
    return reason;
  };
  EXPECT_EQ(why(""), "empty");
  EXPECT_EQ(why("ab"), "2 bytes long, must be 3 to 63");
  EXPECT_EQ(why(std::string(64, 'b')), "64 bytes long, must be 3 to 63");
  EXPECT_THAT(why("Photos"), HasSubstr("capital letter"));
  EXPECT_THAT(why("my_bucket"), HasSubstr("has \"_\""));
  EXPECT_THAT(why("-ab"), HasSubstr("begin and end"));
  EXPECT_THAT(why("ab."), HasSubstr("begin and end"));
  EXPECT_THAT(why("a..b"), HasSubstr("two dots"));
  EXPECT_THAT(why("192.168.5.4"), HasSubstr("IP address"));
  EXPECT_THAT(Wrong("photos,a\nPhotos,b\n", 2),
              AllOf(HasSubstr("Bucket: has a capital letter"), HasSubstr("\"Photos\"")));
  EXPECT_THAT(Wrong(",b\n", 1), "Bucket: empty");
}

TEST(CsvManifest, AWrongNumberOfColumnsIsBad) {
  EXPECT_THAT(Wrong("photos,a,b\n", 1), HasSubstr("3 columns, must be 2: \"photos,a,b\""));
  EXPECT_THAT(Wrong("photos,a,\n", 1), HasSubstr("3 columns, must be 2"));
  EXPECT_THAT(Wrong("photos,\"a\",\n", 1), HasSubstr("3 columns, must be 2"));
  EXPECT_THAT(Wrong("\"photos\"\n", 1), HasSubstr("1 column, must be 2"));
  EXPECT_THAT(Wrong("photos,a\n", 1, kBucketKeyVersion), HasSubstr("2 columns, must be 3"));
  EXPECT_THAT(Wrong("photos" + std::string(60'000, ',') + "\n", 1), HasSubstr("60001 columns, must be 2"));
}

TEST(CsvManifest, EveryRowHasAVersionIdOrNone) {
  EXPECT_THAT(Read("photos,a,v1\nphotos,b,null\n", kBucketKeyVersion).tasks,
              ElementsAre(OwnedTask{"photos", "a", "v1"}, OwnedTask{"photos", "b", "null"}));
  EXPECT_THAT(Read("photos,a,\nphotos,b,\"\"\n", kBucketKeyVersion).tasks,
              ElementsAre(OwnedTask{"photos", "a", ""}, OwnedTask{"photos", "b", ""}));
  EXPECT_THAT(Wrong("photos,a,v1\n\nphotos,b,\nphotos,c,v3\n", 3, kBucketKeyVersion),
              "VersionId: empty, but the rows before have one");
  EXPECT_THAT(Wrong("photos,a,\nphotos,b,v2\nphotos,c,\n", 2, kBucketKeyVersion),
              "VersionId: \"v2\", but the rows before have none");
}

TEST(CsvManifest, VersionIdsAreShortTextWithoutControlCharacters) {
  EXPECT_EQ(Read("photos,a," + std::string(1024, 'v') + "\n", kBucketKeyVersion).tasks.size(), 1u);
  EXPECT_THAT(Wrong("photos,a," + std::string(1025, 'v') + "\n", 1, kBucketKeyVersion),
              HasSubstr("VersionId: 1025 bytes, at most 1024"));
  EXPECT_THAT(Wrong("photos,a,v\t1\n", 1, kBucketKeyVersion),
              HasSubstr("VersionId: has a control character: \"v\\x091\""));
  EXPECT_THAT(Wrong("photos,a,v\x7f\n", 1, kBucketKeyVersion), HasSubstr("control character"));
  EXPECT_THAT(Wrong("photos,a,\xff\n", 1, kBucketKeyVersion), HasSubstr("VersionId: not UTF-8"));
}

TEST(CsvManifest, NoTaskIsHandedOutAfterABadLineAndThePositionStaysThere) {
  const Reading reading = Read("photos,a\nphotos\nphotos,b\nphotos,c,d\nphotos,e\n");
  EXPECT_THAT(reading.tasks, ElementsAre(OwnedTask{"photos", "a", ""}));
  EXPECT_THAT(reading.bad_lines, ElementsAre(Field(&BadLine::line, 2), Field(&BadLine::line, 4)));
  EXPECT_EQ(reading.end, (CsvPosition{9, 1, VersionIds::kUnknown}));
}

TEST(CsvManifest, TenBadLinesAreNamed) {
  std::string manifest;
  for (int i = 0; i < 20; ++i) manifest += "photos,a\nphotos\n";
  absl::StatusOr<CsvManifestParser> parser = CsvManifestParser::Create({kBucketKey});
  parser->Feed(manifest, false, [](const Task&) {});
  EXPECT_TRUE(parser->done());
  ASSERT_EQ(parser->bad_lines().size(), kMaxBadLines);
  EXPECT_EQ(parser->bad_lines()[9].line, 20);
  parser->Feed(manifest, true, [](const Task&) { ADD_FAILURE(); });
  EXPECT_EQ(parser->bad_lines().size(), kMaxBadLines);
}

TEST(CsvManifest, FurtherBadLinesAreLookedForAMillionLinesFar) {
  for (const std::string line : {"\n", "photos,a\n"}) {
    std::string far;
    for (int64_t i = 0; i < kMaxLinesAfterBadLine; ++i) far += line;
    // The last line that is looked at is bad; the one after it isn't looked at.
    std::string manifest = "photos\n" + far.substr(0, far.size() - line.size()) + "photos\nphotos\n";
    EXPECT_THAT(Read(manifest).bad_lines,
                ElementsAre(Field(&BadLine::line, 1), Field(&BadLine::line, kMaxLinesAfterBadLine + 1)));
    manifest = "photos\n" + far + "photos\n";
    EXPECT_THAT(Read(manifest).bad_lines, ElementsAre(Field(&BadLine::line, 1)));
  }
}

// Bytes are bounded as well: a line without an end is not read to the end of a manifest of any size.
TEST(CsvManifest, ALineWithoutAnEndIsNotReadForEver) {
  absl::StatusOr<CsvManifestParser> parser = CsvManifestParser::Create({kBucketKey});
  const std::string chunk(16 << 20, 'x');
  int64_t fed = 0;
  while (!parser->done() && fed <= 2 * kMaxBytesAfterBadLine) {
    parser->Feed(chunk, false, [](const Task&) { ADD_FAILURE(); });
    fed += static_cast<int64_t>(chunk.size());
  }
  EXPECT_TRUE(parser->done());
  EXPECT_LE(fed, kMaxBytesAfterBadLine + 2 * static_cast<int64_t>(chunk.size()));
  EXPECT_EQ(parser->bad_lines().size(), 1u);
}

TEST(CsvManifest, WhatIsShownOfAManifestIsEscapedAndShort) {
  EXPECT_EQ(ShowManifestText("plain"), "\"plain\"");
  EXPECT_EQ(ShowManifestText("a\"b\\c\n\x1b[31m"), "\"a\\\"b\\\\c\\x0a\\x1b[31m\"");
  EXPECT_EQ(ShowManifestText("é"), "\"\\xc3\\xa9\"");
  EXPECT_EQ(ShowManifestText(std::string(98, 'x')).size(), 100u);
  EXPECT_EQ(ShowManifestText("abcdefghijkl", 10), "\"abcde...\"");
  for (size_t n = 0; n < 200; ++n) {
    EXPECT_LE(ShowManifestText(std::string(n, '\n')).size(), kMaxShownBytes);
    EXPECT_LE(ShowManifestText(std::string(n, 'a')).size(), kMaxShownBytes);
  }
  for (const char* manifest : {"%s,a\n", "photos,%%%s\n", "photos,a,%s\n", "photos,\"a\"%s\n"}) {
    std::string line = manifest;
    line.replace(line.find("%s"), 2, std::string(5000, '\x1b'));
    EXPECT_LE(Wrong(line, 1).size(), 300u);
    EXPECT_THAT(Wrong(line, 1), testing::Not(HasSubstr("\x1b")));
  }
}

TEST(CsvManifest, RefusesFormatsThatAreNone) {
  const auto path = [](std::vector<CsvField> fields) {
    const absl::Status status = CsvManifestParser::Create({std::move(fields)}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return GetErrorDetails(status)->fields.at(0).first;
  };
  EXPECT_EQ(path({}), "fields");
  EXPECT_EQ(path({CsvField::kBucket}), "fields");
  EXPECT_EQ(path({CsvField::kBucket, CsvField::kKey, CsvField::kKey}), "fields");
  EXPECT_EQ(path({CsvField::kBucket, CsvField::kKey, CsvField::kVersionId, CsvField::kVersionId}), "fields");
  std::vector<CsvField> many(kMaxCsvColumns + 1, CsvField::kIgnore);
  many[0] = CsvField::kBucket;
  many[1] = CsvField::kKey;
  EXPECT_EQ(path(many), "fields");
}

TEST(CsvPosition, IsStoredAsTextAndReadBack) {
  for (const VersionIds ids : {VersionIds::kUnknown, VersionIds::kWith, VersionIds::kWithout}) {
    const CsvPosition position{int64_t{1} << 50, 123, ids};
    const absl::StatusOr<CsvPosition> parsed = CsvPosition::Parse(position.Serialize());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, position);
  }
  EXPECT_EQ((CsvPosition{1048576, 20000, VersionIds::kWith}).Serialize(), "1048576:20000:with");
  for (const char* text : {"", ":", "1:2", "1:1:", "1:1:maybe", "-1:0:with", "1:2:with", "+1:1:with",
                           " 1:1:with", "01:1:with", "1:1:with ", "99999999999999999999:1:with", "a:b:c"}) {
    EXPECT_EQ(CsvPosition::Parse(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

// A writer of its own of random good manifests, that remembers what it wrote.
std::string RandomManifest(std::mt19937_64& random, std::vector<OwnedTask>& tasks) {
  const bool versions = random() % 2 == 0;
  const auto text = [&random](std::string_view letters, size_t most) {
    std::string out;
    for (size_t n = 1 + random() % most; n > 0; --n) out += letters[random() % letters.size()];
    return out;
  };
  const auto column = [&random](const std::string& value, bool must_be_quoted) {
    if (!must_be_quoted && random() % 4 != 0) return value;
    std::string out = "\"";
    for (const char c : value) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + "\"";
  };
  std::string manifest = random() % 4 == 0 ? "\xEF\xBB\xBF" : "";
  const bool windows = random() % 3 == 0;
  const size_t longest = random() % 3 == 0 ? 300 : 20;
  for (size_t rows = random() % 60; rows > 0; --rows) {
    OwnedTask task{"bucket-" + text("ab", 2), text("ab/,\"\n\r +%\x01~", longest),
                   versions ? text("v1,\"", 6) : ""};
    std::string encoded;
    bool must_be_quoted = false;
    for (const char c : task.key) {
      if (c == '%' || random() % 3 == 0) {
        char escape[4];
        std::snprintf(escape, sizeof escape, random() % 2 == 0 ? "%%%02X" : "%%%02x",
                      static_cast<unsigned char>(c));
        encoded += escape;
      } else {
        encoded += c;
        must_be_quoted = must_be_quoted || c == ',' || c == '"' || c == '\n' || c == '\r';
      }
    }
    manifest += column(task.bucket, false) + "," + column(encoded, must_be_quoted) + "," +
                column(task.version_id, !task.version_id.empty()) + "," + column(text("xyz", 9), false);
    tasks.push_back(task);
    if (rows > 1 || random() % 2 == 0) manifest += windows ? "\r\n" : "\n";
    if (rows > 1 && random() % 5 == 0) manifest += "\n";
  }
  return manifest;
}

const std::vector<CsvField> kFourColumns = {CsvField::kBucket, CsvField::kKey, CsvField::kVersionId,
                                            CsvField::kIgnore};

TEST(CsvManifestProperty, ReadsWhatAnotherWriterWroteInChunksOfAnySizeAndFromAnyPosition) {
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::vector<OwnedTask> tasks;
    const std::string manifest = RandomManifest(random, tasks);
    const Reading whole = Read(manifest, kFourColumns);
    ASSERT_EQ(whole.tasks, tasks);
    ASSERT_THAT(whole.bad_lines, IsEmpty());
    ASSERT_EQ(whole.end.offset, static_cast<int64_t>(manifest.size()));
    ASSERT_EQ(whole.end.line, std::count(manifest.begin(), manifest.end(), '\n') +
                                  (!manifest.empty() && manifest.back() != '\n' ? 1 : 0));

    const size_t largest = 1 + random() % 100;
    ASSERT_EQ(ReadInChunks(manifest, {kFourColumns}, [&] { return random() % (largest + 1); }), whole);
    ASSERT_EQ(ReadInChunks(manifest, {kFourColumns}, [] { return 1; }), whole);

    if (tasks.empty()) continue;
    const size_t done = random() % tasks.size();
    const absl::StatusOr<CsvPosition> from = CsvPosition::Parse(whole.positions[done].Serialize());
    ASSERT_TRUE(from.ok());
    const Reading rest =
        ReadInChunks(manifest, {kFourColumns}, [&] { return 1 + random() % (2 * largest); }, *from);
    ASSERT_EQ(rest.tasks,
              std::vector<OwnedTask>(tasks.begin() + static_cast<ptrdiff_t>(done) + 1, tasks.end()));
    ASSERT_EQ(rest.end, whole.end);
  }
}

// Whatever the bytes are: how they are cut into chunks changes nothing, tasks keep to the limits, and memory
// outside of the chunk is never touched (asan).
TEST(CsvManifestProperty, HostileBytesGiveTheSameAnswerInChunksOfAnySize) {
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    constexpr std::string_view kPieces[] = {",",   "\"",        "\n",   "\r",           "%",     "%4",
                                            "%41", "abc",       "\"\"", "\r\n",         "a,b\n", "\xff",
                                            "é",   "abc,k,,\n", "%00",  "\xEF\xBB\xBF", "A",     "abc,\"",
                                            "\",", "\",,\n",    "v",    "abc,k,v,\n"};
    std::string manifest;
    for (size_t n = random() % 60; n > 0; --n) {
      manifest +=
          random() % 20 == 0 ? std::string(1, '\0') : std::string(kPieces[random() % std::size(kPieces)]);
    }
    if (random() % 8 == 0) {
      // Rows around the longest: the limit must be seen at the same byte.
      manifest.insert(random() % (manifest.size() + 1),
                      std::string(kMaxCsvLineBytes - 40 + random() % 80, 'x'));
    }
    const Reading whole = Read(manifest, kFourColumns);
    const size_t largest = 1 + random() % (manifest.size() > 1000 ? 70'000 : 20);
    ASSERT_EQ(ReadInChunks(manifest, {kFourColumns}, [&] { return random() % (largest + 1); }), whole);
    for (const OwnedTask& task : whole.tasks) {
      ASSERT_TRUE(IsValidBucketName(task.bucket));
      ASSERT_GE(task.key.size(), 1u);
      ASSERT_LE(task.key.size(), kMaxKeyBytes);
    }
    ASSERT_LE(whole.bad_lines.size(), kMaxBadLines);
    ASSERT_TRUE(std::is_sorted(whole.bad_lines.begin(), whole.bad_lines.end(),
                               [](const BadLine& a, const BadLine& b) { return a.line < b.line; }));
  }
}

}  // namespace
}  // namespace drover
