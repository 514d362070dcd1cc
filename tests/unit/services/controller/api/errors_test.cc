#include "services/controller/api/errors.h"

#include <gmock/gmock.h>
#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include "common/codec/utf8.h"
#include "common/log/capture.h"
#include "common/strings/strings.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

TEST(Errors, CarryReasonDomainMetadataAndFields) {
  FieldErrors fields;
  fields.Add("job.priority", "must be 0 to 2147483647, got -1");
  fields.Add("request_id", "is required");
  const grpc::Status status = ToGrpcStatus(fields.ToStatus());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const WireError error = Decode(status);
  EXPECT_EQ(error.status.code(), 3);
  EXPECT_EQ(error.status.message(), status.error_message());
  EXPECT_EQ(error.info.domain(), "drover");
  EXPECT_EQ(error.info.reason(), "INVALID_FIELD");
  EXPECT_THAT(error.fields(), ElementsAre(Pair("job.priority", "must be 0 to 2147483647, got -1"),
                                          Pair("request_id", "is required")));
  EXPECT_FALSE(error.retry.has_value());

  const WireError not_found =
      Decode(ToGrpcStatus(Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no", {{"job_id", "7"}})));
  EXPECT_THAT(not_found.info.metadata(), Contains(Pair("job_id", "7")));
  EXPECT_EQ(not_found.bad_request.field_violations_size(), 0);
}

TEST(Errors, OkIsOk) { EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok()); }

TEST(Errors, TheDatabaseBeingAwayIsUnavailableWithRetryAdviceAndWithoutItsWords) {
  for (const absl::Status& status :
       {absl::UnavailableError("connection to server at 10.1.2.3 failed for user drover"),
        Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", "10.1.2.3 broke in COMMIT")}) {
    const grpc::Status out = ToGrpcStatus(status);
    EXPECT_EQ(out.error_code(), grpc::StatusCode::UNAVAILABLE);
    const WireError error = Decode(out);
    EXPECT_EQ(error.info.reason(), "DATABASE_UNAVAILABLE");
    ASSERT_TRUE(error.retry.has_value());
    EXPECT_EQ(error.retry->retry_delay().seconds(), 1);
    EXPECT_THAT(out.error_message(), Not(HasSubstr("10.1.2.3")));
    EXPECT_THAT(out.error_details(), Not(HasSubstr("10.1.2.3")));
  }
}

TEST(Errors, WhatTheWorkerProtocolSaysReachesTheWorkerAsItIs) {
  for (const absl::Status& status :
       {Error(absl::StatusCode::kUnavailable, "CONTROLLER_BUSY", "try another one"),
        Error(absl::StatusCode::kAborted, "ATTACH_SUPERSEDED", "a newer stream is attached")}) {
    const grpc::Status out = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(out.error_code()), static_cast<int>(status.code()));
    EXPECT_EQ(out.error_message(), std::string(status.message()));
    EXPECT_EQ(Decode(out).info.reason(), GetErrorDetails(status)->reason);
  }
}

TEST(Errors, OverloadHasRetryAdviceToo) {
  EXPECT_TRUE(
      Decode(ToGrpcStatus(Error(absl::StatusCode::kResourceExhausted, "OVERLOADED", "x"))).retry.has_value());
}

TEST(Errors, InternalErrorsLeakNothingAndLeadToTheLog) {
  const std::string secret = "ERROR: duplicate key in SELECT token FROM sessions";
  for (const absl::Status& status :
       {absl::InternalError(secret), absl::NotFoundError(secret), absl::FailedPreconditionError(secret),
        absl::DataLossError(secret),
        Error(absl::StatusCode::kInternal, "BROKEN", secret, {{"sql", secret}})}) {
    LogCapture logs;
    const grpc::Status out = ToGrpcStatus(status);
    EXPECT_EQ(out.error_code(), grpc::StatusCode::INTERNAL);
    EXPECT_THAT(out.error_message(), Not(HasSubstr("SELECT")));
    EXPECT_THAT(out.error_details(), Not(HasSubstr("SELECT")));
    const std::string number = Decode(out).info.metadata().at("number");
    EXPECT_THAT(out.error_message(), HasSubstr(number));
    EXPECT_THAT(logs.lines(), Contains(AllOf(HasSubstr(number), HasSubstr("SELECT"))));
  }
}

TEST(Errors, AreCutToWhatTrailersCanCarry) {
  FieldErrors fields;
  for (int i = 0; i < 1000; ++i) fields.Add(StrCat("job.labels[", i, "]"), std::string(300, 'x'));
  const grpc::Status out = ToGrpcStatus(fields.ToStatus());
  EXPECT_LE(out.error_message().size(), kMaxErrorMessageBytes);
  EXPECT_LE(out.error_details().size(), kMaxErrorDetailsBytes);
  const WireError error = Decode(out);
  const int shown = error.bad_request.field_violations_size();
  ASSERT_GT(shown, 3);
  EXPECT_THAT(error.bad_request.field_violations(shown - 1).description(),
              HasSubstr(StrCat("and ", 1000 - shown, " more")));
}

TEST(Errors, CutsTextBetweenCharacters) {
  EXPECT_EQ(CutText("short", 5), "short");
  EXPECT_EQ(CutText("shorter", 6), "sho...");
  std::string text;
  for (int i = 0; i < 100; ++i) text += "€";
  for (size_t limit = 3; limit < 20; ++limit) {
    EXPECT_LE(CutText(text, limit).size(), limit);
    EXPECT_TRUE(IsValidUtf8(CutText(text, limit))) << limit;
  }
}

}  // namespace
}  // namespace drover
