// What `drover` says to the script that called it (docs/cli.md).
#ifndef DROVER_CLI_EXIT_CODE_H_
#define DROVER_CLI_EXIT_CODE_H_

#include "absl/status/status.h"
#include "drover/v1/job.pb.h"

namespace drover::cli {

// Stable: scripts depend on the numbers. The codes of a job's end are those of `job watch` and `job create
// --wait`.
enum class ExitCode {
  kOk = 0,                    // done; the job is complete and no task failed
  kError = 1,                 // the call was refused, or went wrong here
  kUsage = 2,                 // the command line is wrong; nothing was sent
  kCompleteWithFailures = 3,  // the job is complete and tasks failed
  kFailedOrCancelled = 4,     // the job failed or was cancelled
  kUnavailable = 5,           // no server could be reached, or none answered in time
};

// Whether a job in this state will never change again.
bool IsTerminal(v1::JobState state);

// The code for a job that ended; kError for one that didn't.
ExitCode ExitCodeForJob(const v1::Job& job);

// The code for a call's status: OK, unavailable (UNAVAILABLE, DEADLINE_EXCEEDED) or error.
ExitCode ExitCodeForStatus(const absl::Status& status);

}  // namespace drover::cli

#endif  // DROVER_CLI_EXIT_CODE_H_
