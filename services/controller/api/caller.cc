#include "services/controller/api/caller.h"

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {

std::string_view ActionName(Action action) {
  switch (action) {
    case Action::kCreateJob: return "create a job";
    case Action::kGetJob: return "see a job";
    case Action::kListJobs: return "list jobs";
    case Action::kUpdatePriority: return "change a job's priority";
    case Action::kConfirmJob: return "confirm a job";
    case Action::kCancelJob: return "cancel a job";
    case Action::kPauseJob: return "pause a job";
    case Action::kResumeJob: return "resume a job";
    case Action::kWatchJob: return "watch a job";
    case Action::kListOutcomes: return "read a job's outcomes";
    case Action::kListWorkers: return "list workers";
  }
  return "do this";
}

Caller CallerOf(const grpc::CallbackServerContext&) { return {"anonymous"}; }

absl::Status Authorize(const Caller& caller, Action action, std::string_view job_id) {
  // Nobody without a name does anything: what is kept with each change must say who asked.
  if (caller.name.empty()) {
    return Error(
        absl::StatusCode::kPermissionDenied, "PERMISSION_DENIED",
        StrCat("a caller without a name may not ", ActionName(action)),
        {{"action", std::string(ActionName(action))}, {"caller", ""}, {"job_id", std::string(job_id)}});
  }
  return absl::OkStatus();
}

}  // namespace drover
