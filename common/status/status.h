// Errors with a stable reason and, for bad requests, the fields that are wrong. They travel as payloads of an
// absl::Status; services/controller/api turns them into google.rpc.ErrorInfo and BadRequest details.
//
//   return Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no job has id abc", {{"job_id", "abc"}});
//   FieldErrors errors;
//   if (priority < 0) errors.Add("job.priority", "must be 0 to 2147483647, got -1");
//   if (!errors.empty()) return errors.ToStatus();
#ifndef DROVER_COMMON_STATUS_STATUS_H_
#define DROVER_COMMON_STATUS_STATUS_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace drover {

struct ErrorDetails {
  std::string reason;  // UPPER_SNAKE_CASE, stable
  std::map<std::string, std::string> metadata;
  std::vector<std::pair<std::string, std::string>> fields;  // path, what is wrong
};

// A status with a reason.
absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view message,
                   std::map<std::string, std::string> metadata = {});

// The details of a status made here; nothing for any other.
std::optional<ErrorDetails> GetErrorDetails(const absl::Status& status);

// Gathers wrong fields of one request.
class FieldErrors {
 public:
  void Add(std::string_view path, std::string_view description);
  bool empty() const { return fields_.empty(); }
  // INVALID_ARGUMENT (or `code`) with reason `reason`; the message joins the first fields.
  absl::Status ToStatus(absl::StatusCode code = absl::StatusCode::kInvalidArgument,
                        std::string_view reason = "INVALID_FIELD") const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

}  // namespace drover

// Evaluates an expression that yields an absl::Status, and returns it from the function if it is an error.
#define DROVER_RETURN_IF_ERROR(expr)                                                       \
  do {                                                                                     \
    if (absl::Status drover_status_ = (expr); !drover_status_.ok()) return drover_status_; \
  } while (false)

// DROVER_ASSIGN_OR_RETURN(auto value, Function()): the value of a StatusOr, or returns its error.
#define DROVER_ASSIGN_OR_RETURN(lhs, expr) \
  DROVER_ASSIGN_OR_RETURN_(DROVER_CONCAT_(drover_or_, __LINE__), lhs, expr)
#define DROVER_ASSIGN_OR_RETURN_(var, lhs, expr) \
  auto var = (expr);                             \
  if (!var.ok()) return var.status();            \
  lhs = *std::move(var)
#define DROVER_CONCAT_(a, b) DROVER_CONCAT2_(a, b)
#define DROVER_CONCAT2_(a, b) a##b

#endif  // DROVER_COMMON_STATUS_STATUS_H_
