#include "services/controller/api/page_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using lifecycle::State;
using ::testing::ElementsAre;

TEST(PageToken, LeadsBackToItsPlace) {
  const PageQuery query = JobsQuery({State::kReady});
  const std::string token = EncodePageToken(query, TestJobId(7));
  EXPECT_EQ(*DecodePageToken(query, token), TestJobId(7));
  EXPECT_EQ(token.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
            token.npos);
}

TEST(PageToken, NoTokenIsTheFirstPage) { EXPECT_EQ(*DecodePageToken(JobsQuery({}), ""), ""); }

TEST(PageToken, TheSameFilterWrittenDifferentlyIsTheSameQuery) {
  const std::string token = EncodePageToken(JobsQuery({State::kReady, State::kActive}), "x");
  EXPECT_EQ(*DecodePageToken(JobsQuery({State::kActive, State::kReady, State::kActive}), token), "x");
}

TEST(PageToken, OfAnotherQueryIsRefusedAsSuch) {
  const std::string token = EncodePageToken(JobsQuery({State::kReady}), "x");
  for (const PageQuery& other : {JobsQuery({}), JobsQuery({State::kActive}), WorkersQuery()}) {
    const absl::Status status = DecodePageToken(other, token).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(status), "PAGE_TOKEN_QUERY");
    EXPECT_THAT(FieldPaths(status), ElementsAre("page_token"));
  }
}

TEST(PageToken, EveryDamagedTokenIsRefused) {
  const PageQuery query = JobsQuery({});
  const std::string token = EncodePageToken(query, TestJobId(1));
  for (size_t i = 0; i < token.size(); ++i) {
    std::string damaged = token;
    damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
    EXPECT_EQ(ReasonOf(DecodePageToken(query, damaged).status()), "PAGE_TOKEN_INVALID") << damaged;
    // A cut token leads nowhere; cut to nothing it is the first page.
    EXPECT_EQ(DecodePageToken(query, token.substr(0, i)).value_or(""), "") << i;
  }
}

TEST(PageToken, GarbageAndOverlongTokensAreRefused) {
  for (const std::string& garbage : {std::string("x"), std::string("next"), std::string(1025, 'A'),
                                     std::string("\0\xff", 2), std::string("AQ==")}) {
    const absl::Status status = DecodePageToken(WorkersQuery(), garbage).status();
    EXPECT_EQ(ReasonOf(status), "PAGE_TOKEN_INVALID");
    EXPECT_THAT(FieldPaths(status), ElementsAre("page_token"));
  }
}

TEST(PageToken, TheLongestCursorStaysWithinTheLimit) {
  const std::string token = EncodePageToken(WorkersQuery(), std::string(512, 'c'));
  EXPECT_LE(token.size(), kMaxPageTokenBytes);
  EXPECT_EQ(*DecodePageToken(WorkersQuery(), token), std::string(512, 'c'));
}

}  // namespace
}  // namespace drover
