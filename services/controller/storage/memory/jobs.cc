// Creating, reading, listing and changing jobs.
#include <algorithm>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/failures.h"
#include "services/controller/storage/memory/memory_storage.h"

namespace drover {

using lifecycle::State;
using memory::JobRows;
using Tables = memory::MemoryDatabase::Tables;

namespace {

JobRecord ToRecord(const JobRows& rows, absl::Time now) {
  JobRecord job;
  job.spec = *rows.spec;
  job.snapshot = rows.SnapshotNow(false);
  job.reason_message = rows.reason_message;
  job.reason_caller = rows.reason_caller;
  job.priority = rows.priority;
  job.version = rows.version;
  const bool stopping = job.snapshot.state == State::kCancelling || job.snapshot.state == State::kFailing;
  job.unconfirmed = stopping ? CountUnconfirmed(rows) : rows.unconfirmed;
  job.failures = rows.failures;
  job.owns_lease = rows.OwnedLeases() > 0;
  job.state_time = rows.state_time;
  job.start_time = rows.start_time;
  job.end_time = rows.end_time;
  job.active = rows.active;
  if (rows.snapshot.state == State::kActive || rows.snapshot.state == State::kPausing)
    job.active += now - rows.state_time;
  job.report_state = rows.report_state;
  job.report_settled = rows.report_settled;
  job.report_files = rows.report_files;
  job.report_files_written = rows.report_files_written;
  if (rows.report) {
    job.report_error = rows.report->error;
    job.report_manifest_key = rows.report->manifest_key;
  }
  return job;
}

JobRows NewRows(const NewJob& job, absl::Time now) {
  JobRows rows;
  rows.spec = std::make_shared<const JobSpec>(job.spec);
  rows.snapshot.confirmation_required = job.spec.confirmation_required;
  rows.priority = job.priority;
  rows.state_time = now;
  rows.reason_caller = job.spec.creator;
  rows.report_state = job.spec.report_wanted ? ReportState::kPending : ReportState::kNone;
  rows.batches = std::make_shared<const std::vector<memory::BatchRow>>();
  memory::DutyRow prepare;
  prepare.due = now;
  prepare.progress = job.prepare_progress;
  rows.duties.emplace(memory::DutyKey{DutyKind::kPrepare, 0}, prepare);
  JobEvent event;
  event.job_id = job.spec.job_id;
  event.version = 1;
  event.time = now;
  event.type = "JobCreated";
  event.caller = job.spec.creator;
  event.priority = job.priority;
  rows.events.push_back(std::move(event));
  return rows;
}

}  // namespace

absl::StatusOr<Storage::Created> MemoryStorage::CreateJob(const NewJob& job) {
  const JobSpec& spec = job.spec;
  if (!IsUuid(spec.job_id))
    return Error(absl::StatusCode::kInvalidArgument, "BAD_JOB_ID", "a job id must be a UUID");
  Created result{spec.job_id, true};
  DROVER_RETURN_IF_ERROR(db_.WriteAll("create_job", [&](Tables& tables) -> absl::Status {
    if (!job.request_id.empty()) {
      const auto [request, taken] =
          tables.requests.try_emplace({spec.name_space, job.request_id}, job.fingerprint, spec.job_id);
      if (!taken) {
        const auto& [fingerprint, job_id] = request->second;
        if (fingerprint != job.fingerprint) {
          return Error(absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
                       StrCat("request_id ", job.request_id, " was used before with another request"),
                       {{"request_id", job.request_id}, {"job_id", job_id}});
        }
        result = {job_id, job_id == spec.job_id};
        return absl::OkStatus();
      }
    }
    // The same id is the same call again, after a commit in doubt.
    tables.jobs.try_emplace(spec.job_id, NewRows(job, db_.Now()));
    return absl::OkStatus();
  }));
  return result;
}

absl::StatusOr<JobRecord> MemoryStorage::GetJob(const JobId& job_id) {
  JobRecord job;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    job = ToRecord(rows, db_.Now());
    job.failure_groups = rows.failure_groups;
    SortFailureGroups(job.failure_groups);
    for (const auto& [key, lease] : rows.leases) {
      if (lease.owned()) job.leased_tasks += lease.task_count - lease.done;
    }
    return absl::OkStatus();
  }));
  return job;
}

absl::StatusOr<std::vector<JobRecord>> MemoryStorage::ListJobs(const JobPageQuery& query) {
  if (query.before && !IsUuid(*query.before))
    return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "not a job id");
  std::vector<JobRecord> jobs;
  db_.ReadAll([&](const Tables& tables) {
    for (auto job = tables.jobs.rbegin(); job != tables.jobs.rend(); ++job) {
      if (static_cast<int>(jobs.size()) >= query.limit) return;
      const auto& [id, rows] = *job;
      if (query.before && id >= *query.before) continue;
      if (!query.states.empty() && std::ranges::count(query.states, rows.snapshot.state) == 0) continue;
      jobs.push_back(ToRecord(rows, db_.Now()));
    }
  });
  return jobs;
}

absl::StatusOr<std::vector<Storage::JobPulse>> MemoryStorage::ReadPulses(const std::vector<JobId>& jobs) {
  std::vector<JobPulse> pulses;
  for (const JobId& job_id : jobs) {
    db_.Look(job_id, [&](const JobRows* rows) {
      if (rows == nullptr) return;
      const lifecycle::Snapshot& job = rows->snapshot;
      pulses.push_back({job_id, rows->version,
                        job.tasks + job.succeeded + job.failed + rows->report_files +
                            rows->report_files_written + (rows->report_settled ? 1 : 0),
                        lifecycle::IsTerminal(job.state)});
    });
  }
  return pulses;
}

absl::StatusOr<std::optional<lifecycle::Change>> MemoryStorage::ChangeJob(const JobId& job_id,
                                                                          const DecideFn& decide,
                                                                          bool with_leases) {
  std::optional<lifecycle::Change> applied;
  DROVER_RETURN_IF_ERROR(db_.Write("change_job", job_id, [&](JobRows& rows) -> absl::Status {
    DROVER_ASSIGN_OR_RETURN(applied, decide(rows.SnapshotNow(with_leases)));
    if (applied) memory::ApplyChange(rows, *applied, db_.Now());
    return absl::OkStatus();
  }));
  return applied;
}

absl::StatusOr<bool> MemoryStorage::SetPriority(const JobId& job_id, int32_t priority,
                                                const std::string& caller) {
  bool changed = false;
  DROVER_RETURN_IF_ERROR(db_.Write("set_priority", job_id, [&](JobRows& rows) -> absl::Status {
    if (lifecycle::IsTerminal(rows.snapshot.state)) {
      const std::string state(lifecycle::StateName(rows.snapshot.state));
      return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE",
                   StrCat("a job that is ", state, " has no use for a priority"), {{"state", state}});
    }
    if (rows.priority == priority) return absl::OkStatus();
    rows.priority = priority;
    JobEvent event;
    event.job_id = job_id;
    event.version = ++rows.version;
    event.time = db_.Now();
    event.type = "JobPriorityChanged";
    event.state = rows.snapshot.state;
    event.caller = caller;
    event.priority = priority;
    rows.events.push_back(std::move(event));
    changed = true;
    return absl::OkStatus();
  }));
  return changed;
}

absl::StatusOr<std::vector<JobEvent>> MemoryStorage::ListEvents(const JobId& job_id) {
  std::vector<JobEvent> events;
  db_.Look(job_id, [&](const JobRows* rows) {
    if (rows != nullptr) events = rows->events;
  });
  return events;
}

absl::StatusOr<std::vector<std::pair<State, int64_t>>> MemoryStorage::CountJobs() {
  std::map<State, int64_t> counts;
  db_.LookAtAll([&](const JobRows& rows) { ++counts[rows.snapshot.state]; });
  return std::vector<std::pair<State, int64_t>>(counts.begin(), counts.end());
}

}  // namespace drover
