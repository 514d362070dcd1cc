#include "services/worker/operations/operation.h"

#include "common/strings/strings.h"

namespace drover {
namespace {

// The code of a task that got no (whole) answer. Stable: they stand in reports.
std::string_view CodeOf(HttpErrorKind kind) {
  switch (kind) {
    case HttpErrorKind::kInvalidRequest: return "InvalidRequest";
    case HttpErrorKind::kQueueTimeout: return "ConnectionQueueTimeout";
    case HttpErrorKind::kResolveFailed: return "StoreNotResolved";
    case HttpErrorKind::kConnectFailed: return "ConnectionFailed";
    case HttpErrorKind::kConnectTimeout: return "ConnectionTimeout";
    case HttpErrorKind::kTlsFailed: return "TlsFailed";
    case HttpErrorKind::kConnectionLost: return "ConnectionLost";
    case HttpErrorKind::kIdleTimeout: return "ResponseTimeout";
    case HttpErrorKind::kTotalTimeout: return "RequestTimeout";
    case HttpErrorKind::kMalformedResponse: return "MalformedResponse";
    case HttpErrorKind::kBodyTooLarge: return "ResponseTooLarge";
    case HttpErrorKind::kCancelled: return "Cancelled";
  }
  return "InternalError";
}

}  // namespace

Attempt FailedAttempt(std::string_view code, std::string_view message) {
  Attempt attempt;
  attempt.outcome.succeeded = false;
  attempt.outcome.http_status = 0;
  attempt.outcome.code = code;
  attempt.outcome.message = message;
  return attempt;
}

Attempt CancelledAttempt() {
  Attempt attempt = FailedAttempt("Cancelled", "cancelled");
  attempt.end = Attempt::End::kCancelled;
  return attempt;
}

Attempt UnreadableAttempt(const S3Response& answer, std::string_view why) {
  Attempt attempt = FailedAttempt(CodeOf(HttpErrorKind::kMalformedResponse), why);
  attempt.outcome.http_status = static_cast<uint16_t>(answer.status);
  attempt.end = Attempt::End::kTransient;
  attempt.transience = ClassifyAnswer(answer.status, attempt.outcome.code);
  return attempt;
}

std::optional<Attempt> AttemptOf(const absl::StatusOr<S3Response>& answer, absl::Time now) {
  if (!answer.ok()) {
    const std::optional<HttpError> error = GetHttpError(answer.status());
    if (absl::IsCancelled(answer.status()) ||
        (error.has_value() && error->kind == HttpErrorKind::kCancelled)) {
      return CancelledAttempt();
    }
    Attempt attempt = FailedAttempt(error.has_value() ? CodeOf(error->kind) : "InternalError",
                                    FromAbsl(answer.status().message()));
    attempt.transience = ClassifyHttpError(answer.status());
    if (attempt.transience != Transience::kPermanent) attempt.end = Attempt::End::kTransient;
    return attempt;
  }
  const S3Response& response = *answer;
  if (response.ok()) {
    if (response.status == kDefaultHttpStatus) return std::nullopt;
    Attempt attempt;
    attempt.outcome.http_status = static_cast<uint16_t>(response.status);
    return attempt;
  }
  Attempt attempt = FailedAttempt(response.error_code, response.error_message);
  attempt.outcome.http_status = static_cast<uint16_t>(response.status);
  attempt.transience = ClassifyAnswer(response);
  if (attempt.transience != Transience::kPermanent) {
    attempt.end = Attempt::End::kTransient;
    attempt.retry_after = RetryAfter(response.headers, now);
  }
  return attempt;
}

S3Request ObjectRequest(std::string_view method, const Task& task) {
  S3Request request;
  request.method = method;
  request.bucket = task.bucket;
  request.key = task.key;
  if (!task.version_id.empty()) request.query.emplace_back("versionId", std::string(task.version_id));
  return request;
}

}  // namespace drover
