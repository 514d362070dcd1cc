// Which failures of a store are worth another try: the one list, for the worker's retries and for
// ObjectStore.
#ifndef DROVER_COMMON_OBJECTSTORE_TRANSIENT_H_
#define DROVER_COMMON_OBJECTSTORE_TRANSIENT_H_

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/objectstore/s3_client.h"

namespace drover {

enum class Transience {
  kPermanent,    // the same request would fail again
  kTransient,    // may well pass on another try
  kUnavailable,  // the store is down or asks to slow down (503, 429, connection errors): worth trying for
                 // longer
};

// Of an answer of the store with an error: by its S3 error code if that is known, else by its status.
// The answer "ok" is kPermanent: there is nothing to try again.
Transience ClassifyAnswer(int http_status, std::string_view error_code);
Transience ClassifyAnswer(const S3Response& response);

// Of an error of HttpClient::Send(). Statuses from elsewhere are kPermanent.
Transience ClassifyHttpError(const absl::Status& status);

// The wait that the store asks for by Retry-After (seconds, or an HTTP date relative to `now`); nullopt
// without one or for nonsense. Never negative; not capped.
std::optional<absl::Duration> RetryAfter(const HttpHeaders& headers, absl::Time now);

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_TRANSIENT_H_
