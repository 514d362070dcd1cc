// Who calls, and the one place that says what they may do.
//
//   const Caller caller = CallerOf(context);
//   DROVER_RETURN_IF_ERROR(authorize(caller, Action::kCancelJob, job_id));
//
// Every handler asks once, before it reads or changes anything. Nobody is authenticated yet: every caller is
// "anonymous", and whoever has a name may do everything.
#ifndef DROVER_SERVICES_CONTROLLER_API_CALLER_H_
#define DROVER_SERVICES_CONTROLLER_API_CALLER_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace grpc {
class CallbackServerContext;
}  // namespace grpc

namespace drover {

// Who makes a call.
struct Caller {
  std::string name;  // kept with what they create and change; never empty for a call that came by gRPC
};

// What a call wants to do.
enum class Action {
  kCreateJob,
  kGetJob,
  kListJobs,
  kUpdatePriority,
  kConfirmJob,
  kCancelJob,
  kPauseJob,
  kResumeJob,
  kWatchJob,
  kListOutcomes,
  kListWorkers,
};

// E.g. "create a job", for messages.
std::string_view ActionName(Action action);

// The caller of a gRPC call: "anonymous" until there is authentication.
Caller CallerOf(const grpc::CallbackServerContext& context);

// Whether `caller` may do `action` (to the job `job_id`; empty where the action names none). OK, or
// PERMISSION_DENIED (PERMISSION_DENIED, metadata action and caller). Reads nothing; thread-safe.
absl::Status Authorize(const Caller& caller, Action action, std::string_view job_id);

// The shape of Authorize, for tests that refuse.
using AuthorizeFn = std::function<absl::Status(const Caller&, Action, std::string_view)>;

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_CALLER_H_
