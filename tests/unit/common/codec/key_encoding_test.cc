#include "common/codec/key_encoding.h"

#include <random>
#include <string>

#include "common/codec/utf8.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

std::string Encoded(std::string_view key) {
  std::string out;
  AppendUrlEncoded(key, out);
  return out;
}

// nullopt-like: "!" and the offset for text that can't be decoded.
std::string Decoded(std::string_view text) {
  std::string out = "left over";
  size_t bad_offset = 0;
  if (!UrlDecode(text, out, bad_offset)) return "!" + std::to_string(bad_offset);
  return out;
}

TEST(UrlEncoding, LeavesUnreservedBytesAndSlashesAndEscapesTheRest) {
  const std::string unreserved = "ABCXYZabcxyz0123456789-._~/";
  EXPECT_EQ(Encoded(unreserved), unreserved);
  EXPECT_EQ(Encoded(" +%?&=#\"',;:@[]{}|\\^`<>!*()$"),
            "%20%2B%25%3F%26%3D%23%22%27%2C%3B%3A%40%5B%5D%7B%7D%7C%5C%5E%60%3C%3E%21%2A%28%29%24");
  EXPECT_EQ(Encoded("é\n\x7f"), "%C3%A9%0A%7F");
  EXPECT_EQ(Encoded("//a//"), "//a//");
}

// The 16 bytes at a time of the fast path and the bytes one by one of the rest have to agree on each byte.
TEST(UrlEncoding, TreatsEachByteAlikeWhereverItIs) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string one(1, static_cast<char>(byte));
    const std::string escaped = Encoded(one);
    for (size_t before = 0; before < 40; ++before) {
      ASSERT_EQ(Encoded(std::string(before, 'x') + one + std::string(20, 'y')),
                std::string(before, 'x') + escaped + std::string(20, 'y'))
          << byte << " at " << before;
    }
  }
}

TEST(UrlEncoding, APlusIsAPlus) { EXPECT_EQ(Decoded("a+b%2Bc%20d"), "a+b+c d"); }

TEST(UrlEncoding, DecodesSmallAndCapitalHexDigits) { EXPECT_EQ(Decoded("%c3%A9%4a"), "éJ"); }

TEST(UrlEncoding, SaysWhereAnEscapeIsBroken) {
  EXPECT_EQ(Decoded("%"), "!0");
  EXPECT_EQ(Decoded("ab%2"), "!2");
  EXPECT_EQ(Decoded("%41%4g"), "!3");
  EXPECT_EQ(Decoded("%%41"), "!0");
  EXPECT_EQ(Decoded("a% 1"), "!1");
}

TEST(UrlEncoding, RandomKeysMakeTheRoundTrip) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    std::mt19937_64 random(seed);
    std::string key(random() % 100, '\0');
    for (char& c : key) c = static_cast<char>(random() % 4 == 0 ? random() : 'a' + random() % 26);
    ASSERT_EQ(Decoded(Encoded(key)), key) << "seed " << seed;
  }
}

TEST(Utf8, KnowsCharactersOfEachLength) {
  EXPECT_EQ(Utf8CharBytes(""), 0u);
  EXPECT_EQ(Utf8CharBytes("ab"), 1u);
  EXPECT_EQ(Utf8CharBytes("é"), 2u);
  EXPECT_EQ(Utf8CharBytes("€"), 3u);
  EXPECT_EQ(Utf8CharBytes("\xF0\x9F\x90\x82"), 4u);
  EXPECT_EQ(Utf8CharBytes("\xf4\x8f\xbf\xbf"), 4u);  // U+10FFFF, the last
}

TEST(Utf8, RefusesWhatRfc3629Forbids) {
  EXPECT_FALSE(IsValidUtf8("\x80"));  // a continuation alone
  EXPECT_FALSE(IsValidUtf8("\xc3"));  // cut off
  EXPECT_FALSE(IsValidUtf8("\xe2\x82"));
  EXPECT_FALSE(IsValidUtf8("\xc0\xaf"));  // overlong
  EXPECT_FALSE(IsValidUtf8("\xe0\x80\xaf"));
  EXPECT_FALSE(IsValidUtf8("\xf0\x80\x80\xaf"));
  EXPECT_FALSE(IsValidUtf8("\xed\xa0\x80"));      // a surrogate
  EXPECT_FALSE(IsValidUtf8("\xf4\x90\x80\x80"));  // over U+10FFFF
  EXPECT_FALSE(IsValidUtf8("\xf5\x80\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("\xc3("));
}

TEST(Utf8, FindsTheFirstInvalidByteAnywhere) {
  for (size_t at = 0; at < 40; ++at) {
    std::string text(40, 'a');
    text[at] = '\xff';
    EXPECT_EQ(FindInvalidUtf8(text), at);
  }
  EXPECT_EQ(FindInvalidUtf8("éé€\xF0\x9F\x90\x82 and so on, for long"), 11u + 20u);
  EXPECT_TRUE(IsValidUtf8(""));
}

}  // namespace
}  // namespace drover
