#include "common/strings/strings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace drover {
namespace {

using ::testing::ElementsAre;

TEST(StringsTest, StrCatTakesViewsOfBothKindsAndNumbers) {
  const std::string owned = "own";
  const std::string_view view = "view";
  EXPECT_EQ(StrCat(owned, " ", view, " ", ToAbsl(view), " ", 17, " ", 0.5, " ", std::string_view("a\0b", 3)),
            std::string("own view view 17 0.5 a\0b", 24));
  std::string out = "x";
  StrAppend(&out, view, -1);
  EXPECT_EQ(out, "xview-1");
}

TEST(StringsTest, SplitKeepsEmptyParts) {
  EXPECT_THAT(Split("a,,b,", ','), ElementsAre("a", "", "b", ""));
  EXPECT_THAT(Split("", ','), ElementsAre(""));
}

TEST(StringsTest, StripTakesBlanksAtBothEndsOnly) {
  EXPECT_EQ(StripWhitespace(" \t a b \r\n"), "a b");
  EXPECT_EQ(StripWhitespace(" \n "), "");
}

TEST(StringsTest, ConsumePrefixTakesAllOrNothing) {
  std::string_view text = "s3://bucket";
  EXPECT_FALSE(ConsumePrefix(&text, "s3:///"));
  EXPECT_TRUE(ConsumePrefix(&text, "s3://"));
  EXPECT_EQ(text, "bucket");
}

TEST(StringsTest, ParseIntegerRefusesWhatDoesNotFit) {
  int64_t wide = 0;
  EXPECT_TRUE(ParseInteger("-9223372036854775808", &wide));
  EXPECT_EQ(wide, std::numeric_limits<int64_t>::min());
  EXPECT_FALSE(ParseInteger("9223372036854775808", &wide));
  EXPECT_FALSE(ParseInteger("1x", &wide));
  EXPECT_FALSE(ParseInteger("", &wide));
  int32_t narrow = 0;
  EXPECT_FALSE(ParseInteger("2147483648", &narrow));
  uint32_t positive = 0;
  EXPECT_FALSE(ParseInteger("-1", &positive));
}

}  // namespace
}  // namespace drover
