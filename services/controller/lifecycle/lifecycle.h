// The lifecycle of a job: one table of states, and the one function that decides a change.
//
// The table below is the only place that says which state may follow which and why. From it come Decide(),
// the SQL CHECK on (previous_state, state) (storage/migrations holds it; a test compares), the diagram in
// docs/lifecycle.md, the API's error texts and the tests of every pair. storage/ applies what Decide()
// returns, with the event, in one transaction; a state set anywhere else is a bug.
//
// States and their meaning: shared/reference/s3-batch-operations.md, section 1 (S3 Batch Operations), plus a
// person's pause and resume.
#ifndef DROVER_SERVICES_CONTROLLER_LIFECYCLE_LIFECYCLE_H_
#define DROVER_SERVICES_CONTROLLER_LIFECYCLE_LIFECYCLE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace drover::lifecycle {

// The numbers are those of drover.v1.JobState and of the database.
enum class State : int16_t {
  kNew = 1,
  kPreparing = 2,
  kSuspended = 3,
  kReady = 4,
  kActive = 5,
  kPausing = 6,
  kPaused = 7,
  kCompleting = 8,
  kComplete = 9,
  kCancelling = 10,
  kCancelled = 11,
  kFailing = 12,
  kFailed = 13,
};
inline constexpr int kStateCount = 13;

// Why a state changes.
enum class Cause : int16_t {
  kPrepareBegins,   // a controller starts on the manifest
  kPrepared,        // the manifest is read and checked
  kManifestFailed,  // the manifest can't be used
  kConfirm,         // a person confirms
  kClaim,           // tasks are leased
  kPause,           // a person pauses
  kPolicyPause,     // the failure policy pauses
  kPreempted,       // it gave way to higher priority
  kResume,          // a person resumes
  kCancel,          // a person cancels
  kAllRecorded,     // the last outcome is recorded
  kThreshold,       // too many tasks failed
  kSettle,          // no lease is owned, and the report is settled where one is needed
};

// One row of the table: in `from`, `cause` leads to `to`.
struct Transition {
  State from;
  Cause cause;
  State to;
};

inline constexpr Transition kTransitions[] = {
    {State::kNew, Cause::kPrepareBegins, State::kPreparing},
    {State::kNew, Cause::kCancel, State::kCancelling},
    {State::kPreparing, Cause::kPrepared, State::kSuspended},  // confirmation required
    {State::kPreparing, Cause::kPrepared, State::kReady},
    {State::kPreparing, Cause::kPrepared, State::kCompleting},  // empty manifest
    {State::kPreparing, Cause::kManifestFailed, State::kFailing},
    {State::kPreparing, Cause::kCancel, State::kCancelling},
    {State::kSuspended, Cause::kConfirm, State::kReady},
    {State::kSuspended, Cause::kCancel, State::kCancelling},
    {State::kReady, Cause::kClaim, State::kActive},
    {State::kReady, Cause::kPause, State::kPaused},
    {State::kReady, Cause::kPolicyPause, State::kPaused},
    {State::kReady, Cause::kThreshold, State::kFailing},
    {State::kReady, Cause::kCancel, State::kCancelling},
    {State::kActive, Cause::kAllRecorded, State::kCompleting},
    {State::kActive, Cause::kPause, State::kPausing},
    {State::kActive, Cause::kPolicyPause, State::kPausing},
    {State::kActive, Cause::kPreempted, State::kPaused},
    {State::kActive, Cause::kThreshold, State::kFailing},
    {State::kActive, Cause::kCancel, State::kCancelling},
    {State::kPausing, Cause::kSettle, State::kPaused},
    {State::kPausing, Cause::kAllRecorded, State::kCompleting},
    {State::kPausing, Cause::kResume, State::kActive},
    {State::kPausing, Cause::kThreshold, State::kFailing},
    {State::kPausing, Cause::kCancel, State::kCancelling},
    {State::kPaused, Cause::kResume, State::kReady},
    {State::kPaused, Cause::kClaim, State::kActive},  // preempted only
    {State::kPaused, Cause::kThreshold, State::kFailing},
    {State::kPaused, Cause::kCancel, State::kCancelling},
    {State::kCompleting, Cause::kSettle, State::kComplete},
    {State::kCancelling, Cause::kSettle, State::kCancelled},
    {State::kFailing, Cause::kSettle, State::kFailed},
};

// The API's name of a state, e.g. "ACTIVE".
std::string_view StateName(State state);
// The number as a state; nothing for a number that is none.
std::optional<State> StateFromNumber(int number);
// A short name, e.g. "cancel".
std::string_view CauseName(Cause cause);

// Complete, Failed, Cancelled.
bool IsTerminal(State state);
// Ready, Active, or Paused because it was preempted: claims are allowed.
bool IsClaimable(State state, std::string_view reason_code);
// Completing, Failing, Cancelling: only the report is left to do.
bool IsFinishing(State state);

// Whether the table lets `to` follow `from` for any cause.
bool IsLegal(State from, State to);

// The SQL of the CHECK constraint on (previous_state, state), made from the table; a new job has
// previous_state 0.
std::string CheckConstraintSql();

// Reason codes of states (drover.v1.StateReason.code).
inline constexpr std::string_view kReasonUser = "USER_REQUEST";
inline constexpr std::string_view kReasonPreempted = "PREEMPTED";
inline constexpr std::string_view kReasonFailurePolicy = "FAILURE_POLICY";

// When a job with failing tasks stops: once at least minimum_executed tasks are recorded and more than
// failed_fraction of them failed, or once more than failed_tasks failed. With `pause` both count from the
// job's last resume on: who resumes it has mended the cause, and what failed before says nothing any more.
struct FailurePolicy {
  bool enabled = true;
  double failed_fraction = 0.5;
  int64_t minimum_executed = 1000;
  std::optional<int64_t> failed_tasks;
  bool pause = false;  // pause instead of failing
};

// What is known of a job when a change is decided, read under the lock of its job_state row.
struct Snapshot {
  State state = State::kNew;
  State previous = State::kNew;
  std::string reason_code;
  bool confirmation_required = false;
  bool prepared = false;
  int64_t tasks = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int32_t batches = 0;
  int32_t next_batch = 0;
  int64_t owned_leases = 0;     // read only where a change depends on it: kSettle, kPreempted
  bool report_settled = false;  // written, not needed or given up
  // succeeded + failed, and failed, as they were when a person last resumed the job; 0 before.
  int64_t resumed_executed = 0;
  int64_t resumed_failed = 0;
};

// Why a job fails; at most 64 and 1,024 bytes.
struct Failure {
  struct BadLine {
    int64_t line = 0;
    std::string reason;
  };
  std::string code;
  std::string reason;
  std::vector<BadLine> bad_lines;
};

// A change to be applied: state, reason and event in one transaction.
struct Change {
  State to = State::kNew;
  std::string reason_code;
  std::string reason_message;
  std::string caller;
  std::vector<Failure> failures;
  // The job keeps its reason as it is, a person's words and name included; reason_code repeats it.
  bool keep_reason = false;
  // A person resumes the job: its present counts become resumed_executed and resumed_failed.
  bool resumed = false;
};

// What asks for the change.
struct Request {
  Cause cause;
  std::string message;  // a person's words, or what happened
  std::string caller;   // who; empty when it comes by itself
  std::vector<Failure> failures;
};

// The change that `request` makes of a job in `snapshot`. No value: the job is there already (a second
// cancel, a second pause), or the cause does not apply any more to a job that goes on by itself.
// FAILED_PRECONDITION (reason JOB_STATE, metadata state) when a person asks for what this state does not
// allow.
absl::StatusOr<std::optional<Change>> Decide(const Snapshot& snapshot, const Request& request);

// What the record transaction asks for after its counters changed: kThreshold (it wins), kPolicyPause,
// kAllRecorded or nothing. Exact over recorded outcomes.
std::optional<Request> AfterRecord(const Snapshot& snapshot, const FailurePolicy& policy);

}  // namespace drover::lifecycle

#endif  // DROVER_SERVICES_CONTROLLER_LIFECYCLE_LIFECYCLE_H_
