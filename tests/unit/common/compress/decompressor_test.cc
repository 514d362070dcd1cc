#include "common/compress/decompressor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/status/statusor.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "tests/unit/common/compress/compress.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

// All of a stream, given in pieces of `piece` bytes, with room for `room` bytes each time.
absl::StatusOr<std::string> Unpack(Compression compression, std::string_view in, size_t piece = 1 << 16,
                                   size_t room = 1 << 16) {
  const auto decompressor = MakeDecompressor(compression);
  std::string content;
  std::string out(room, '\0');
  while (true) {
    Decompressor::Step step;
    DROVER_RETURN_IF_ERROR(decompressor->Run(in.substr(0, piece), out.data(), out.size(), step));
    content.append(out, 0, step.produced);
    in.remove_prefix(step.consumed);
    if (in.empty() && step.produced < room) break;
  }
  DROVER_RETURN_IF_ERROR(decompressor->AtEnd());
  return content;
}

std::string Pack(Compression compression, std::string_view content) {
  return compression == Compression::kGzip ? Gzip(content) : Zstd(content);
}

void ExpectRefused(const absl::StatusOr<std::string>& result, std::string_view reason, const char* message) {
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(result.status())->reason, reason);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(message));
}

constexpr std::string_view kInvalid = "COMPRESSED_DATA_INVALID";

class DecompressorTest : public ::testing::TestWithParam<Compression> {
 protected:
  DecompressorTest() {
    for (int i = 0; i < 3000; ++i) StrAppend(&content_, "photos,2024/", i * 7919 % 5000, "/img.jpg\n");
  }
  absl::StatusOr<std::string> Unpack(std::string_view in, size_t piece = 1 << 16, size_t room = 1 << 16) {
    return drover::Unpack(GetParam(), in, piece, room);
  }
  std::string Pack(std::string_view content) { return drover::Pack(GetParam(), content); }

  std::string content_;
};

TEST_P(DecompressorTest, GivesTheContentInPiecesOfAnySize) {
  const std::string packed = Pack(content_);
  for (size_t piece : {1, 7, 1000, 1 << 20}) {
    for (size_t room : {1, 13, 4096, 1 << 20}) {
      const auto content = Unpack(packed, piece, room);
      ASSERT_TRUE(content.ok()) << content.status();
      EXPECT_EQ(*content, content_) << piece << " " << room;
    }
  }
}

TEST_P(DecompressorTest, JoinsMembersAndFramesEmptyOnesToo) {
  const std::string packed = Pack("one\n") + Pack("") + Pack(content_) + Pack("") + Pack("two\n");
  for (size_t piece : {1, 3, 1 << 20}) EXPECT_EQ(*Unpack(packed, piece, 64), "one\n" + content_ + "two\n");
  EXPECT_EQ(*Unpack(Pack("")), "");
}

TEST_P(DecompressorTest, RefusesAStreamThatIsCutOffAnywhere) {
  const std::string packed = Pack("photos,a\nphotos,b\n");
  for (size_t size = 1; size < packed.size(); ++size)
    ExpectRefused(Unpack(packed.substr(0, size), 5, 64), kInvalid, "in the middle of a");
  ExpectRefused(Unpack(packed + packed.substr(0, 6)), kInvalid, "in the middle of a");
  ExpectRefused(Unpack(""), kInvalid, "it is empty");
}

TEST_P(DecompressorTest, RefusesWhatFollowsTheLastMemberOrFrame) {
  for (const char* garbage : {"x", "photos,c\n", "\n", "\x1e"})
    ExpectRefused(Unpack(Pack("photos,a\n") + garbage), kInvalid, "there is something else");
  // As tapes have it.
  ExpectRefused(Unpack(Pack("photos,a\n") + std::string(512, '\0')), kInvalid, "there is something else");
}

TEST_P(DecompressorTest, RefusesAnotherFormat) {
  ExpectRefused(Unpack("photos,a\nphotos,b\n"), kInvalid, "it is no ");
  const bool gzip = GetParam() == Compression::kGzip;
  ExpectRefused(Unpack(gzip ? Zstd("photos,a\n") : Gzip("photos,a\n")), kInvalid, "it is no ");
  ExpectRefused(Unpack("PK\x03\x04 a zip file"), kInvalid, "it is no ");
}

TEST_P(DecompressorTest, SeesDamage) {
  const std::string packed = Pack(content_);
  std::string damaged = packed;
  damaged[damaged.size() - (GetParam() == Compression::kGzip ? 6 : 2)] ^= 1;  // the checksum
  ExpectRefused(Unpack(damaged), kInvalid, "is damaged: ");
  damaged = packed;
  damaged.replace(12, 50, 50, '\xff');  // the tables of its codes
  ExpectRefused(Unpack(damaged), kInvalid, "is damaged: ");
}

TEST_P(DecompressorTest, HostileBytesGiveAnErrorOrBoundedContent) {
  std::mt19937 random(1);
  const std::string packed = Pack(content_) + Pack("x,y\n");
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = packed;
    for (int i = random() % 4; i >= 0; --i) bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto content = Unpack(bytes, 1 + random() % 5000, 1 + random() % 5000);
    if (!content.ok()) {
      ++refused;
      EXPECT_THAT(GetErrorDetails(content.status())->reason, ::testing::StartsWith("COMPRESSED_DATA_"));
    }
  }
  EXPECT_GT(refused, 2500);  // the rest changed bytes that mean nothing, such as a time stamp
}

INSTANTIATE_TEST_SUITE_P(Formats, DecompressorTest, ::testing::Values(Compression::kGzip, Compression::kZstd),
                         [](const auto& info) { return std::string(CompressionName(info.param)); });

TEST(ZstdDecompressor, SkipsSkippableFrames) {
  const std::string skippable = std::string("\x5a\x2a\x4d\x18\x05\0\0\0", 8) + "12345";
  EXPECT_EQ(*Unpack(Compression::kZstd, skippable + Zstd("a\n") + skippable + Zstd("b\n"), 3, 2), "a\nb\n");
  EXPECT_EQ(*Unpack(Compression::kZstd, skippable), "");
}

TEST(ZstdDecompressor, RefusesAWindowThatWouldTakeMuchMemory) {
  const std::string content(20 << 20, 'k');
  EXPECT_EQ(Unpack(Compression::kZstd, Zstd(content, 23))->size(), content.size());
  for (int log : {24, 27}) {
    ExpectRefused(Unpack(Compression::kZstd, Zstd(content, log)), "COMPRESSED_DATA_UNSUPPORTED",
                  "a window of more than 8 MiB");
  }
}

TEST(ZstdDecompressor, RefusesFormatsOfOldReleases) {
  for (char first : {'\x1e', '\x22', '\x24', '\x25', '\x26', '\x27'})
    ExpectRefused(Unpack(Compression::kZstd, std::string(1, first) + "\xb5\x2f\xfd rest of it"), kInvalid,
                  "no zstd");
}

TEST(ZstdDecompressor, RefusesADictionary) {
  // A frame header that names dictionary 7.
  const std::string frame("\x28\xb5\x2f\xfd\x21\x07\x04\x21\0\0abcd", 14);
  ExpectRefused(Unpack(Compression::kZstd, frame), "COMPRESSED_DATA_UNSUPPORTED", "a dictionary");
}

TEST(DetectCompression, KnowsBothFormatsByTheirFirstBytes) {
  EXPECT_EQ(DetectCompression(Gzip("a")), Compression::kGzip);
  EXPECT_EQ(DetectCompression(Zstd("a")), Compression::kZstd);
  EXPECT_EQ(DetectCompression(std::string("\x50\x2a\x4d\x18\0\0\0\0", 8)), Compression::kZstd);
  EXPECT_EQ(DetectCompression("photos,a\n"), std::nullopt);
  EXPECT_EQ(DetectCompression(""), std::nullopt);
  EXPECT_EQ(DetectCompression("\x28\xb5\x2f"), std::nullopt);
}

}  // namespace
}  // namespace drover
