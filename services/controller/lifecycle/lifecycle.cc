#include "services/controller/lifecycle/lifecycle.h"

#include <set>
#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::lifecycle {
namespace {

const Transition* Find(State from, Cause cause, std::optional<State> to = std::nullopt) {
  for (const Transition& row : kTransitions) {
    if (row.from == from && row.cause == cause && (!to || row.to == *to)) return &row;
  }
  return nullptr;
}

bool ByPerson(Cause cause) {
  return cause == Cause::kConfirm || cause == Cause::kPause || cause == Cause::kResume ||
         cause == Cause::kCancel;
}

// The states in which `cause` is possible, for error texts: "READY or ACTIVE".
std::string StatesFor(Cause cause) {
  std::vector<std::string_view> names;
  for (const Transition& row : kTransitions) {
    if (row.cause == cause) names.push_back(StateName(row.from));
  }
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    StrAppend(&text, i == 0 ? "" : (i + 1 == names.size() ? " or " : ", "), names[i]);
  }
  return text;
}

absl::Status Refused(const Snapshot& snapshot, Cause cause) {
  return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE",
               StrCat("a job that is ", StateName(snapshot.state), " can't be changed by '", CauseName(cause),
                      "'; that needs ", StatesFor(cause)),
               {{"state", std::string(StateName(snapshot.state))}, {"needs", StatesFor(cause)}});
}

Change MakeChange(const Snapshot& snapshot, const Request& request, State to) {
  Change change;
  change.to = to;
  change.reason_message = request.message;
  change.caller = request.caller;
  change.failures = request.failures;
  change.resumed = request.cause == Cause::kResume;
  switch (request.cause) {
    case Cause::kConfirm:
    case Cause::kPause:
    case Cause::kResume:
    case Cause::kCancel: change.reason_code = kReasonUser; break;
    case Cause::kPreempted: change.reason_code = kReasonPreempted; break;
    case Cause::kPolicyPause: change.reason_code = kReasonFailurePolicy; break;
    case Cause::kManifestFailed:
    case Cause::kThreshold:
      if (!request.failures.empty()) change.reason_code = request.failures.front().code;
      break;
    case Cause::kSettle:
      // Pausing -> Paused, Failing -> Failed …: the reason of the way there is the reason of the end.
      change.reason_code = snapshot.reason_code;
      change.keep_reason = true;
      break;
    default: break;
  }
  return change;
}

// How the recorded outcomes cross the policy's threshold, for people; nothing if they don't.
std::optional<std::string> Crossed(const Snapshot& snapshot, const FailurePolicy& policy) {
  // Only a policy that pauses forgets what was before a resume: a job that fails is not to be saved by a
  // person's pause.
  const int64_t executed_before = policy.pause ? snapshot.resumed_executed : 0;
  const int64_t executed = snapshot.succeeded + snapshot.failed - executed_before;
  const int64_t failed = snapshot.failed - (policy.pause ? snapshot.resumed_failed : 0);
  const bool resumed = executed_before > 0;
  if (executed >= policy.minimum_executed &&
      static_cast<double>(failed) > policy.failed_fraction * static_cast<double>(executed)) {
    return StrCat(failed, " of ", executed,
                  resumed ? " tasks executed since the job was resumed failed" : " executed tasks failed",
                  ": more than ", policy.failed_fraction * 100, " % of at least ", policy.minimum_executed);
  }
  if (policy.failed_tasks.has_value() && failed > *policy.failed_tasks) {
    return StrCat(failed, " tasks failed", resumed ? " since the job was resumed" : "", ": more than ",
                  *policy.failed_tasks);
  }
  return std::nullopt;
}

}  // namespace

std::string_view StateName(State state) {
  switch (state) {
    case State::kNew: return "NEW";
    case State::kPreparing: return "PREPARING";
    case State::kSuspended: return "SUSPENDED";
    case State::kReady: return "READY";
    case State::kActive: return "ACTIVE";
    case State::kPausing: return "PAUSING";
    case State::kPaused: return "PAUSED";
    case State::kCompleting: return "COMPLETING";
    case State::kComplete: return "COMPLETE";
    case State::kCancelling: return "CANCELLING";
    case State::kCancelled: return "CANCELLED";
    case State::kFailing: return "FAILING";
    case State::kFailed: return "FAILED";
  }
  return "UNKNOWN";
}

std::optional<State> StateFromNumber(int number) {
  if (number < 1 || number > kStateCount) return std::nullopt;
  return static_cast<State>(number);
}

std::string_view CauseName(Cause cause) {
  switch (cause) {
    case Cause::kPrepareBegins: return "prepare";
    case Cause::kPrepared: return "prepared";
    case Cause::kManifestFailed: return "manifest failed";
    case Cause::kConfirm: return "confirm";
    case Cause::kClaim: return "claim";
    case Cause::kPause: return "pause";
    case Cause::kPolicyPause: return "failure policy";
    case Cause::kPreempted: return "preempted";
    case Cause::kResume: return "resume";
    case Cause::kCancel: return "cancel";
    case Cause::kAllRecorded: return "all recorded";
    case Cause::kThreshold: return "failure threshold";
    case Cause::kSettle: return "settle";
  }
  return "unknown";
}

bool IsTerminal(State state) {
  return state == State::kComplete || state == State::kFailed || state == State::kCancelled;
}

bool IsClaimable(State state, std::string_view reason_code) {
  return state == State::kReady || state == State::kActive ||
         (state == State::kPaused && reason_code == kReasonPreempted);
}

bool IsFinishing(State state) {
  return state == State::kCompleting || state == State::kFailing || state == State::kCancelling;
}

bool IsLegal(State from, State to) {
  for (const Transition& row : kTransitions) {
    if (row.from == from && row.to == to) return true;
  }
  return false;
}

std::string CheckConstraintSql() {
  std::set<std::pair<int, int>> pairs = {{0, static_cast<int>(State::kNew)}};
  for (const Transition& row : kTransitions)
    pairs.emplace(static_cast<int>(row.from), static_cast<int>(row.to));
  std::string sql = "(previous_state, state) IN (";
  bool first = true;
  for (const auto& [from, to] : pairs) {
    StrAppend(&sql, first ? "" : ", ", "(", from, ",", to, ")");
    first = false;
  }
  return StrCat(sql, ")");
}

absl::StatusOr<std::optional<Change>> Decide(const Snapshot& snapshot, const Request& request) {
  const State state = snapshot.state;
  switch (request.cause) {
    case Cause::kPrepared: {
      if (state != State::kPreparing) return std::optional<Change>();
      const State to = snapshot.tasks == 0              ? State::kCompleting
                       : snapshot.confirmation_required ? State::kSuspended
                                                        : State::kReady;
      return std::optional<Change>(MakeChange(snapshot, request, to));
    }
    case Cause::kClaim:
      if (state == State::kActive) return std::optional<Change>();
      if (!IsClaimable(state, snapshot.reason_code)) return Refused(snapshot, request.cause);
      return std::optional<Change>(MakeChange(snapshot, request, State::kActive));
    case Cause::kPause:
      // Who pauses a preempted job, or one that the failure policy is pausing, takes it over: the next claim,
      // or nobody, must not undo a person's pause.
      if (state == State::kPaused || state == State::kPausing) {
        if (snapshot.reason_code == kReasonUser) return std::optional<Change>();
        return std::optional<Change>(MakeChange(snapshot, request, state));
      }
      break;
    case Cause::kCancel:
      if (state == State::kCancelling || state == State::kCancelled) return std::optional<Change>();
      break;
    case Cause::kPreempted:
      if (state != State::kActive || snapshot.owned_leases != 0) return std::optional<Change>();
      break;
    case Cause::kAllRecorded:
      if (!snapshot.prepared || snapshot.succeeded + snapshot.failed != snapshot.tasks)
        return std::optional<Change>();
      break;
    case Cause::kSettle:
      if (snapshot.owned_leases != 0) return std::optional<Change>();
      if (state != State::kPausing && !snapshot.report_settled) return std::optional<Change>();
      break;
    default: break;
  }
  const Transition* row = Find(state, request.cause);
  if (row == nullptr) {
    if (ByPerson(request.cause)) return Refused(snapshot, request.cause);
    return std::optional<Change>();
  }
  return std::optional<Change>(MakeChange(snapshot, request, row->to));
}

std::optional<Request> AfterRecord(const Snapshot& snapshot, const FailurePolicy& policy) {
  const int64_t executed = snapshot.succeeded + snapshot.failed;
  const bool done = snapshot.prepared && executed == snapshot.tasks;
  const bool stoppable = Find(snapshot.state, Cause::kThreshold) != nullptr;
  const std::optional<std::string> crossed =
      policy.enabled && stoppable ? Crossed(snapshot, policy) : std::nullopt;
  if (crossed && !policy.pause) {
    return Request{Cause::kThreshold, *crossed, "", {{"FAILURE_THRESHOLD", *crossed, {}}}};
  }
  if (crossed && !done && snapshot.state == State::kActive) {
    return Request{Cause::kPolicyPause, *crossed, "", {}};
  }
  if (done) return Request{Cause::kAllRecorded, "", "", {}};
  return std::nullopt;
}

}  // namespace drover::lifecycle
