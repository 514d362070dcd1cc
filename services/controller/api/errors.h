// Errors as clients see them (https://google.aip.dev/193): a gRPC status whose details are a
// google.rpc.Status with
//   ErrorInfo   domain "drover", a stable reason, metadata
//   BadRequest  the path of each wrong field and what to do about it
//   RetryInfo   with UNAVAILABLE and RESOURCE_EXHAUSTED: when to try again
// docs/api.md has the table of reasons.
#ifndef DROVER_SERVICES_CONTROLLER_API_ERRORS_H_
#define DROVER_SERVICES_CONTROLLER_API_ERRORS_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace grpc {
class Status;
}  // namespace grpc

namespace drover {

inline constexpr std::string_view kErrorDomain = "drover";
// Both travel in the trailers, of which a gRPC client takes 8 KiB: longer messages are cut, and field
// violations that don't fit are left out (the last one says how many).
inline constexpr size_t kMaxErrorMessageBytes = 700;
inline constexpr size_t kMaxErrorDetailsBytes = 3000;
// The delay that RetryInfo names.
inline constexpr absl::Duration kRetryDelay = absl::Seconds(1);

// The error as a client gets it; OK for OK.
//
// Only what the API means to say goes out: the message of a status that carries a reason (common/status).
// UNAVAILABLE and UNKNOWN that come from the database become UNAVAILABLE (DATABASE_UNAVAILABLE), and
// everything else without a reason, INTERNAL and DATA_LOSS become INTERNAL with the number of a line in this
// controller's log, which has the whole error: SQL, addresses and the like stay there.
grpc::Status ToGrpcStatus(const absl::Status& status);

// `text` cut to at most `limit` bytes at the border of a character, then ending in "...".
std::string CutText(std::string_view text, size_t limit);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_ERRORS_H_
