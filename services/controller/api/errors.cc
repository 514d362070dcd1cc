#include "services/controller/api/errors.h"

#include <grpcpp/support/status.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "common/clock/clock.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace drover {
namespace {

// UNAVAILABLE for these reasons is said by the API itself, in words for clients, or by the dispatcher, for
// workers.
constexpr std::string_view kOwnUnavailable[] = {"CONTROLLER_BUSY", "CONTROLLER_SHUTDOWN",
                                                "STORE_UNAVAILABLE"};

struct PublicError {
  absl::StatusCode code;
  std::string message;
  ErrorDetails details;
};

bool IsOwnUnavailable(const std::optional<ErrorDetails>& details) {
  return details.has_value() && std::find(std::begin(kOwnUnavailable), std::end(kOwnUnavailable),
                                          details->reason) != std::end(kOwnUnavailable);
}

PublicError MakePublic(const absl::Status& status) {
  const std::optional<ErrorDetails> details = GetErrorDetails(status);
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (IsOwnUnavailable(details)) break;
      [[fallthrough]];
    case absl::StatusCode::kUnknown: {
      std::string message = "the database does not answer; try again";
      if (status.code() == absl::StatusCode::kUnknown) {
        message =
            "the connection to the database broke during the change, so it may have been made; the same call "
            "can safely be made again";
      }
      return {absl::StatusCode::kUnavailable, message, {"DATABASE_UNAVAILABLE", {}, {}}};
    }
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
      if (!details.has_value())
        return {status.code(), "the call was ended by the client", {"CALL_ENDED", {}, {}}};
      break;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss: break;
    default:
      if (details.has_value()) break;
      // A status that nobody meant for clients.
      return MakePublic(absl::Status(absl::StatusCode::kInternal, status.ToString()));
  }
  if (status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kDataLoss) {
    const std::string number = absl::StrCat(absl::Hex(SystemRandom().Next(), absl::kZeroPad16));
    LogError("api.internal_error", {{"number", number}, {"error", status}});
    return {absl::StatusCode::kInternal,
            StrCat("internal error ", number, "; the controller's log has more about it"),
            {"INTERNAL", {{"number", number}}, {}}};
  }
  return {status.code(), std::string(FromAbsl(status.message())), *details};
}

// As many of `fields` as fit into `room` bytes; says how many did not.
void AddViolations(const ErrorDetails& details, size_t room, google::rpc::Status& out) {
  if (details.fields.empty()) return;
  google::rpc::BadRequest bad;
  size_t used = 0;
  for (size_t i = 0; i < details.fields.size(); ++i) {
    auto* violation = bad.add_field_violations();
    violation->set_field(CutText(details.fields[i].first, 256));
    violation->set_description(CutText(details.fields[i].second, 512));
    used += violation->ByteSizeLong() + 4;
    if (used <= room) continue;
    bad.mutable_field_violations()->RemoveLast();
    if (bad.field_violations_size() > 0) {
      auto* last = bad.mutable_field_violations(bad.field_violations_size() - 1);
      last->set_description(CutText(
          StrCat(last->description(), " (and ", details.fields.size() - i, " more fields are wrong)"), 600));
    }
    break;
  }
  out.add_details()->PackFrom(bad);
}

}  // namespace

std::string CutText(std::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  size_t end = limit > 3 ? limit - 3 : 0;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return StrCat(text.substr(0, end), "...");
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  PublicError error = MakePublic(status);
  error.message = CutText(error.message, kMaxErrorMessageBytes);

  google::rpc::Status out;
  out.set_code(static_cast<int32_t>(error.code));
  out.set_message(error.message);
  google::rpc::ErrorInfo info;
  info.set_domain(std::string(kErrorDomain));
  info.set_reason(error.details.reason);
  for (const auto& [key, value] : error.details.metadata)
    (*info.mutable_metadata())[key] = CutText(value, 256);
  out.add_details()->PackFrom(info);
  if (error.code == absl::StatusCode::kUnavailable || error.code == absl::StatusCode::kResourceExhausted) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(kRetryDelay));
    out.add_details()->PackFrom(retry);
  }
  const size_t used = out.ByteSizeLong();
  // 128: the envelope of one more detail, and what the last violation may grow by.
  AddViolations(error.details, used + 128 < kMaxErrorDetailsBytes ? kMaxErrorDetailsBytes - used - 128 : 0,
                out);
  return grpc::Status(static_cast<grpc::StatusCode>(error.code), error.message, out.SerializeAsString());
}

}  // namespace drover
