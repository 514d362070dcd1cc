// The pure parts of the adapter: what is sent to the server, byte by byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "services/controller/storage/postgres/pool.h"
#include "services/controller/storage/postgres/pqxx_adapter.h"

namespace drover::postgres {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Hex(const BinaryParameter& parameter) {
  std::string text;
  for (const unsigned char byte : parameter) {
    constexpr char kDigits[] = "0123456789abcdef";
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

TEST(BinaryArrays, HaveTheServersFormat) {
  EXPECT_EQ(Hex(Int4Array({})),
            "00000000"
            "00000000"
            "00000017");
  EXPECT_EQ(Hex(Int4Array({1, -2})),
            "00000001"
            "00000000"
            "00000017"
            "00000002"
            "00000001"
            "00000004"
            "00000001"
            "00000004"
            "fffffffe");
  EXPECT_EQ(Hex(Int8Array({0x0102030405060708})),
            "00000001"
            "00000000"
            "00000014"
            "00000001"
            "00000001"
            "00000008"
            "0102030405060708");
  EXPECT_EQ(Hex(BoolArray({true, false})),
            "00000001"
            "00000000"
            "00000010"
            "00000002"
            "00000001"
            "00000001"
            "01"
            "00000001"
            "00");
  EXPECT_EQ(Hex(BytesArray({std::string_view("\0a", 2), std::nullopt, ""})),
            "00000001"
            "00000001"
            "00000011"
            "00000003"
            "00000001"
            "00000002"
            "0061"
            "ffffffff"
            "00000000");
  EXPECT_EQ(Hex(TextArray({"hi"})),
            "00000001"
            "00000000"
            "00000019"
            "00000001"
            "00000001"
            "00000002"
            "6869");
}

TEST(BinaryArrays, TakeUuidsAndNothingElse) {
  const std::string id = "0190a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b";
  EXPECT_THAT(Hex(UuidArray(std::vector<std::string>{id})),
              ::testing::EndsWith("0000001"
                                  "0"
                                  "0190a2b3c4d57e6f8a9b0c1d2e3f4a5b"));
  for (const char* const bad :
       {"", "0190a2b3", "0190a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5g", "0190a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b0"}) {
    EXPECT_THROW(UuidArray(std::vector<std::string>{bad}), std::invalid_argument) << bad;
  }
}

TEST(Text, OfForeignBytesBecomesUtf8WithoutNul) {
  EXPECT_EQ(CleanText("grün"), "grün");
  EXPECT_EQ(CleanText(std::string("a\0b\xff\xc3", 5)),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(CleanText(""), "");
}

TEST(Times, AreExactToTheMicrosecond) {
  EXPECT_EQ(Timestamp(absl::FromUnixMicros(1700000000123456)), "2023-11-14 22:13:20.123456+00");
  EXPECT_EQ(Timestamp(absl::UnixEpoch()), "1970-01-01 00:00:00.000000+00");
}

TEST(ConnInfo, AddsWhatTheUrlDoesNotSay) {
  EXPECT_THAT(ConnInfo("postgresql://h/db"),
              AllOf(StartsWith("postgresql://h/db?"), HasSubstr("connect_timeout=5&"),
                    HasSubstr("client_encoding=UTF8")));
  EXPECT_THAT(ConnInfo("postgres://h/db?connect_timeout=60"),
              AllOf(StartsWith("postgres://h/db?connect_timeout=60&"), Not(HasSubstr("connect_timeout=5"))));
  EXPECT_THAT(ConnInfo("host=h dbname=db"),
              AllOf(StartsWith("host=h dbname=db "), HasSubstr(" application_name=drover-controller")));
}

}  // namespace
}  // namespace drover::postgres
