#include "common/objectstore/transient.h"

#include <algorithm>

#include "common/http/http_date.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

struct CodeClass {
  std::string_view code;
  Transience transience;
};

// By S3's error code, where it says more than the status.
constexpr CodeClass kCodes[] = {
    // The store asks for less: wait, and longer.
    {"SlowDown", Transience::kUnavailable},
    {"ServiceUnavailable", Transience::kUnavailable},
    {"Throttling", Transience::kUnavailable},
    {"ThrottlingException", Transience::kUnavailable},
    {"RequestThrottled", Transience::kUnavailable},
    {"RequestLimitExceeded", Transience::kUnavailable},
    {"BandwidthLimitExceeded", Transience::kUnavailable},
    {"TooManyRequests", Transience::kUnavailable},
    // An accident of the store's, or one on the way there. Also what a 200 of CopyObject and
    // CompleteMultipartUpload carries when it fails late.
    {"InternalError", Transience::kTransient},
    {"InternalServerError", Transience::kTransient},
    {"RequestTimeout", Transience::kTransient},  // 400: the body did not arrive in time
    {"IncompleteBody", Transience::kTransient},  // 400: the connection was cut within the body
    {"OperationAborted",
     Transience::kTransient},  // 409: something else is being done to this bucket or object
    {"ConditionalRequestConflict", Transience::kTransient},  // 409: a conditional write met another write
    {"BadDigest", Transience::kTransient},                   // 400: the body was damaged on its way
    // Drover's own, of answers with status 200 that are not what S3 answers (operation.h): half of a page, a
    // proxy's words.
    {"MalformedResponse", Transience::kTransient},
    // Drover's own, of copies across two stores (services/worker/operations/copy_across_stores.h): what was
    // read or stored is not what it should be. Damaged on its way, or changed meanwhile.
    {"SourceChanged", Transience::kTransient},
    {"SourceChecksumMismatch", Transience::kTransient},
    {"TargetChecksumMismatch", Transience::kTransient},
    // 5xx by status, but nothing that passes.
    {"NotImplemented", Transience::kPermanent},
};

Transience ByStatus(int status) {
  switch (status) {
    case 429:  // too many requests
    case 503:  // unavailable, or slow down
    case 509:  // bandwidth limit, of some gateways
      return Transience::kUnavailable;
    case 408:  // request timeout
    case 425:  // too early
    case 500:  // internal error
    case 502:  // a proxy found no server
    case 504:  // ... or got no answer in time
      return Transience::kTransient;
    default: return Transience::kPermanent;
  }
}

}  // namespace

Transience ClassifyAnswer(int http_status, std::string_view error_code) {
  for (const CodeClass& known : kCodes) {
    if (known.code == error_code) return known.transience;
  }
  return ByStatus(http_status);
}

Transience ClassifyAnswer(const S3Response& response) {
  if (response.ok()) return Transience::kPermanent;
  return ClassifyAnswer(response.status, response.error_code);
}

Transience ClassifyHttpError(const absl::Status& status) {
  const auto error = GetHttpError(status);
  if (!error.has_value()) return Transience::kPermanent;
  switch (error->kind) {
    // Nobody there, or gone in the middle: servers are restarted, load balancers change.
    case HttpErrorKind::kResolveFailed:
    case HttpErrorKind::kConnectFailed:
    case HttpErrorKind::kConnectTimeout:
    case HttpErrorKind::kConnectionLost: return Transience::kUnavailable;
    // Each of these has taken its time already: they count as attempts.
    case HttpErrorKind::kQueueTimeout:
    case HttpErrorKind::kIdleTimeout:
    case HttpErrorKind::kTotalTimeout:
    // A proxy's half-written page, for instance.
    case HttpErrorKind::kMalformedResponse: return Transience::kTransient;
    // A wrong certificate stays wrong until somebody acts.
    case HttpErrorKind::kTlsFailed:
    case HttpErrorKind::kInvalidRequest:
    case HttpErrorKind::kBodyTooLarge:
    case HttpErrorKind::kCancelled: return Transience::kPermanent;
  }
  return Transience::kPermanent;
}

std::optional<absl::Duration> RetryAfter(const HttpHeaders& headers, absl::Time now) {
  const std::string_view value = StripWhitespace(headers.Get("Retry-After"));
  if (value.empty()) return std::nullopt;
  int64_t seconds = 0;
  if (value.find_first_not_of("0123456789") == value.npos) {
    if (!ParseInteger(value, &seconds)) return std::nullopt;
    return absl::Seconds(seconds);
  }
  const std::optional<absl::Time> when = ParseHttpDate(value);
  if (!when.has_value()) return std::nullopt;
  return std::max(*when - now, absl::ZeroDuration());
}

}  // namespace drover
