#include "cli/exit_code.h"

namespace drover::cli {

bool IsTerminal(v1::JobState state) {
  return state == v1::COMPLETE || state == v1::FAILED || state == v1::CANCELLED;
}

ExitCode ExitCodeForJob(const v1::Job& job) {
  switch (job.state()) {
    case v1::COMPLETE:
      return job.progress().failed_tasks() == 0 ? ExitCode::kOk : ExitCode::kCompleteWithFailures;
    case v1::FAILED:
    case v1::CANCELLED: return ExitCode::kFailedOrCancelled;
    default: return ExitCode::kError;
  }
}

ExitCode ExitCodeForStatus(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ? ExitCode::kUnavailable
                                                                         : ExitCode::kError;
}

}  // namespace drover::cli
