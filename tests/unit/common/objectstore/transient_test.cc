#include "common/objectstore/transient.h"

#include <gtest/gtest.h>

#include "common/status/status.h"

namespace drover {
namespace {

TEST(Transient, WaitsLongerForStoresThatAreDownOrAskForLess) {
  EXPECT_EQ(ClassifyAnswer(503, "SlowDown"), Transience::kUnavailable);
  EXPECT_EQ(ClassifyAnswer(503, ""), Transience::kUnavailable);
  EXPECT_EQ(ClassifyAnswer(429, "TooManyRequests"), Transience::kUnavailable);
  EXPECT_EQ(ClassifyAnswer(400, "RequestLimitExceeded"), Transience::kUnavailable);
}

TEST(Transient, TriesAgainAfterAccidents) {
  for (int status : {408, 500, 502, 504})
    EXPECT_EQ(ClassifyAnswer(status, ""), Transience::kTransient) << status;
  EXPECT_EQ(ClassifyAnswer(500, "InternalError"), Transience::kTransient);
  EXPECT_EQ(ClassifyAnswer(400, "RequestTimeout"), Transience::kTransient);
  EXPECT_EQ(ClassifyAnswer(409, "OperationAborted"), Transience::kTransient);
}

TEST(Transient, KnowsAnErrorThatA200Carries) {
  S3Response response;
  response.status = 200;
  EXPECT_EQ(ClassifyAnswer(response), Transience::kPermanent);
  response.error_code = "InternalError";
  EXPECT_EQ(ClassifyAnswer(response), Transience::kTransient);
  response.error_code = "SlowDown";
  EXPECT_EQ(ClassifyAnswer(response), Transience::kUnavailable);
}

TEST(Transient, DoesNotRepeatWhatWouldFailAgain) {
  for (int status : {400, 403, 404, 405, 409, 411, 412, 413, 416, 501, 507}) {
    EXPECT_EQ(ClassifyAnswer(status, ""), Transience::kPermanent) << status;
  }
  EXPECT_EQ(ClassifyAnswer(404, "NoSuchKey"), Transience::kPermanent);
  EXPECT_EQ(ClassifyAnswer(403, "AccessDenied"), Transience::kPermanent);
  EXPECT_EQ(ClassifyAnswer(500, "NotImplemented"), Transience::kPermanent);
}

TEST(Transient, SortsErrorsOfConnections) {
  const auto classify = [](std::string_view kind) {
    return ClassifyHttpError(Error(absl::StatusCode::kUnavailable, kind, "x"));
  };
  for (const char* kind :
       {"HTTP_RESOLVE_FAILED", "HTTP_CONNECT_FAILED", "HTTP_CONNECT_TIMEOUT", "HTTP_CONNECTION_LOST"}) {
    EXPECT_EQ(classify(kind), Transience::kUnavailable) << kind;
  }
  for (const char* kind :
       {"HTTP_QUEUE_TIMEOUT", "HTTP_IDLE_TIMEOUT", "HTTP_TOTAL_TIMEOUT", "HTTP_MALFORMED_RESPONSE"}) {
    EXPECT_EQ(classify(kind), Transience::kTransient) << kind;
  }
  for (const char* kind :
       {"HTTP_TLS_FAILED", "HTTP_INVALID_REQUEST", "HTTP_BODY_TOO_LARGE", "HTTP_CANCELLED", "OTHER"}) {
    EXPECT_EQ(classify(kind), Transience::kPermanent) << kind;
  }
  EXPECT_EQ(ClassifyHttpError(absl::UnavailableError("from elsewhere")), Transience::kPermanent);
}

TEST(RetryAfterTest, ReadsSecondsAndDatesAndIgnoresNonsense) {
  const absl::Time now = absl::FromUnixSeconds(1445412480);  // Wed, 21 Oct 2015 07:28:00 GMT
  const auto read = [&](std::string_view value) {
    HttpHeaders headers;
    headers.Add("retry-after", value);
    return RetryAfter(headers, now);
  };
  EXPECT_EQ(read("120"), absl::Seconds(120));
  EXPECT_EQ(read(" 0 "), absl::ZeroDuration());
  EXPECT_EQ(read("Wed, 21 Oct 2015 07:29:30 GMT"), absl::Seconds(90));
  EXPECT_EQ(read("Wed, 21 Oct 2015 07:00:00 GMT"), absl::ZeroDuration());
  for (const char* nonsense : {"", "soon", "-1", "1.5", "99999999999999999999"}) {
    EXPECT_EQ(read(nonsense), std::nullopt) << nonsense;
  }
  EXPECT_EQ(RetryAfter({}, now), std::nullopt);
}

}  // namespace
}  // namespace drover
