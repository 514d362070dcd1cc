#include "services/controller/storage/memory/rows.h"

#include <algorithm>

#include "common/codec/utf8.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::memory {

using lifecycle::State;

namespace {

absl::Status Refused(const JobRows& rows, std::string_view constraint) {
  return Error(absl::StatusCode::kInternal, "DATABASE_REFUSED",
               StrCat("job ", rows.spec->job_id, " violates ", constraint));
}

}  // namespace

int64_t JobRows::OwnedLeases() const {
  return std::count_if(leases.begin(), leases.end(), [](const auto& lease) { return lease.second.owned(); });
}

bool JobRows::HasOwnerless() const {
  return std::any_of(leases.begin(), leases.end(), [](const auto& lease) { return !lease.second.owned(); });
}

lifecycle::Snapshot JobRows::SnapshotNow(bool with_leases) const {
  lifecycle::Snapshot now = snapshot;
  now.report_settled = report_state == ReportState::kNone || report_settled.has_value();
  now.owned_leases = with_leases ? OwnedLeases() : 0;
  return now;
}

TaskSet JobRows::Recorded(const LeaseKey& lease, int32_t batch_tasks) const {
  TaskSet recorded;
  for (auto it = segments.lower_bound({lease.batch_no, lease.lease_id, 0});
       it != segments.end() && std::get<0>(it->first) == lease.batch_no &&
       std::get<1>(it->first) == lease.lease_id;
       ++it) {
    const SegmentRow& segment = *it->second;
    recorded.Union(segment.executed ? *segment.executed : TaskSet::All(static_cast<size_t>(batch_tasks)));
  }
  return recorded;
}

absl::Status CheckConstraints(const JobRows& rows) {
  const lifecycle::Snapshot& job = rows.snapshot;
  const bool is_new = job.state == State::kNew && job.previous == State::kNew;
  if (!is_new && !lifecycle::IsLegal(job.previous, job.state)) return Refused(rows, "job_state_legal");
  if (rows.priority < 0) return Refused(rows, "job_state_priority");
  if (job.next_batch < 0 || job.next_batch > job.batches) return Refused(rows, "job_state_cursor");
  if (job.succeeded < 0 || job.failed < 0 || job.succeeded + job.failed > job.tasks)
    return Refused(rows, "job_state_counts");
  if (rows.unconfirmed < 0 || rows.unconfirmed > job.tasks - job.succeeded - job.failed)
    return Refused(rows, "job_state_unconfirmed");
  if (rows.report_files_written < 0 || rows.report_files_written > rows.report_files)
    return Refused(rows, "job_state_report");
  for (const auto& [key, lease] : rows.leases) {
    if (lease.owned() != (lease.came_back == CameBack::kNo)) return Refused(rows, "leases_owner");
    if (lease.done < 0 || lease.done >= lease.task_count || lease.task_count > lease.batch_tasks)
      return Refused(rows, "leases_count");
  }
  return absl::OkStatus();
}

std::string CleanText(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const size_t bytes = text.front() == '\0' ? 0 : Utf8CharBytes(text);
    clean.append(bytes == 0 ? "\xef\xbf\xbd" : text.substr(0, bytes));
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return clean;
}

int64_t CountUnconfirmed(const JobRows& rows) {
  int64_t tasks = 0;
  for (const auto& [key, lease] : rows.leases) {
    if (lease.maybe_ran) tasks += lease.task_count - lease.done;
  }
  return tasks;
}

void ApplyChange(JobRows& rows, const lifecycle::Change& change, absl::Time now) {
  lifecycle::Snapshot& job = rows.snapshot;
  const State from = job.state;
  if (change.to == State::kFailed || change.to == State::kCancelled) {
    rows.unconfirmed += CountUnconfirmed(rows);
  }
  // A change to the state that it is in already (a person takes over a preempted pause) keeps these.
  if (change.to != from) {
    if (from == State::kActive || from == State::kPausing) rows.active += now - rows.state_time;
    job.previous = from;
    rows.state_time = now;
  }
  job.state = change.to;
  if (change.to == State::kActive && !rows.start_time) rows.start_time = now;
  if (lifecycle::IsTerminal(change.to)) rows.end_time = now;
  ++rows.version;
  if (change.resumed) {
    job.resumed_executed = job.succeeded + job.failed;
    job.resumed_failed = job.failed;
  }
  if (!change.keep_reason) {
    job.reason_code = change.reason_code;
    rows.reason_message = CleanText(change.reason_message);
    rows.reason_caller = change.caller;
  }
  if (!change.failures.empty()) {
    rows.failures = change.failures;
    for (lifecycle::Failure& failure : rows.failures) {
      failure.reason = CleanText(failure.reason);
      for (lifecycle::Failure::BadLine& bad : failure.bad_lines) bad.reason = CleanText(bad.reason);
    }
  }
  JobEvent event;
  event.job_id = rows.spec->job_id;
  event.version = rows.version;
  event.time = now;
  event.type = "JobStatusChanged";
  event.previous = from;
  event.state = change.to;
  event.reason_code = job.reason_code;
  event.reason_message = rows.reason_message;
  event.caller = rows.reason_caller;
  event.priority = rows.priority;
  rows.events.push_back(std::move(event));
  if (lifecycle::IsFinishing(change.to)) {
    DutyRow finish;
    finish.due = now;
    rows.duties.emplace(DutyKey{DutyKind::kFinish, 0}, std::move(finish));
    rows.duties.erase({DutyKind::kPrepare, 0});
  }
}

void WakeFinishDuty(JobRows& rows, absl::Time now) {
  const auto found = rows.duties.find({DutyKind::kFinish, 0});
  if (found == rows.duties.end()) return;
  DutyRow& duty = found->second;
  duty.woken = duty.owner.has_value();
  if (!duty.owner) duty.due = std::min(duty.due, now);
}

absl::Status JobNotFound(const JobId& job_id) {
  return Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", StrCat("no job has id ", job_id),
               {{"job_id", job_id}});
}

}  // namespace drover::memory
