// Named points at which a test makes this process fail, stop or wait: for the fault tests.
//
//   if (failpoint::Hit("recorder.after_commit") == failpoint::Action::kError) return ...;
//   DROVER_RETURN_IF_ERROR(failpoint::HitStatus("store.get"));
//
// Points do nothing until configured, by the environment of the process
//
//   DROVER_FAILPOINTS="recorder.after_commit=kill;claim.before_grant=skip(5)sleep(500)*3;store.get=2*error"
//   DROVER_FAILPOINT_DIR=/tmp/points
//
// or by a test in the same process (Configure, Scoped). Cost while nothing is configured: one relaxed load.
//
//   spec    = point { ";" point }
//   point   = name "=" [ count "*" ] [ "skip(" hits ")" ] action [ "*" count ]
//   action  = "kill"            SIGKILL to this process
//           | "stop"            SIGSTOP to this process
//           | "sleep(" ms ")"   the calling thread sleeps, at most 10 minutes
//           | "pause"           the calling thread waits until the file DIR/name.go exists, or Resume(name);
//           at most
//                               10 minutes, so that a forgotten one does not hang a machine
//           | "error" [ "(" code ")" ]   the caller fails; code is a number of absl::StatusCode (default 14,
//           UNAVAILABLE) | "off"             only counts and marks
//
// Names are [a-z0-9_.-]+. `skip` lets that many hits pass first; `count` bounds how often the action is taken
// (default: always). When an action is taken and DROVER_FAILPOINT_DIR is set, a line "PID COUNT ACTION" is
// first appended to the file DIR/name, which a test can wait for.
//
// Thread-safe. Built with DROVER_FAILPOINTS=OFF, the points stay but configuring one is FAILED_PRECONDITION.
#ifndef DROVER_COMMON_FAILPOINT_FAILPOINT_H_
#define DROVER_COMMON_FAILPOINT_FAILPOINT_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace drover::failpoint {

// What the caller is to do.
enum class Action { kNone, kError };

namespace internal {
extern std::atomic<bool> g_configured;
absl::Status HitConfigured(std::string_view name);
}  // namespace internal

// Passes the point: takes the action that is configured for it, and returns what is left to the caller.
inline Action Hit(std::string_view name) {
  if (!internal::g_configured.load(std::memory_order_relaxed)) return Action::kNone;
  return internal::HitConfigured(name).ok() ? Action::kNone : Action::kError;
}

// The same, with `error` as a status: its code and the message "failpoint NAME".
inline absl::Status HitStatus(std::string_view name) {
  if (!internal::g_configured.load(std::memory_order_relaxed)) return absl::OkStatus();
  return internal::HitConfigured(name);
}

// Replaces all points by `spec` ("" for none); `directory` is where marker files go ("" for none).
// INVALID_ARGUMENT says what is wrong with the spec and leaves the points as they were.
absl::Status Configure(std::string_view spec, std::string_view directory = "");

// Configure from DROVER_FAILPOINTS and DROVER_FAILPOINT_DIR. For main(); logs nothing. True in `*configured`
// if any.
absl::Status ConfigureFromEnvironment(bool* configured);

// How often the point was passed since it was configured, skipped hits included; 0 for an unknown one.
int64_t Hits(std::string_view name);

// Lets a thread that waits at a `pause` go on, and every later hit of that point pass.
void Resume(std::string_view name);

// For tests: configures, and takes everything away again at the end of the scope. Aborts on a bad spec.
class Scoped {
 public:
  explicit Scoped(std::string_view spec, std::string_view directory = "");
  ~Scoped();
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;
};

}  // namespace drover::failpoint

#endif  // DROVER_COMMON_FAILPOINT_FAILPOINT_H_
