// Duties, and what is done under them: preparation and report.
#include <algorithm>
#include <tuple>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/memory/memory_storage.h"

namespace drover {

using lifecycle::Cause;
using lifecycle::State;
using memory::DutyKey;
using memory::DutyRow;
using memory::JobRows;
using memory::ReportRow;
using Tables = memory::MemoryDatabase::Tables;

namespace {

absl::Status DutyLost(const Duty& duty) {
  return Error(absl::StatusCode::kAborted, "DUTY_LOST",
               StrCat("duty ", static_cast<int>(duty.kind), "/", duty.part, " of job ", duty.job_id,
                      " is not held at epoch ", duty.epoch, " any more"),
               {{"job_id", duty.job_id}});
}

DutyKey KeyOf(const Duty& duty) { return {duty.kind, duty.part}; }

DutyRow* FindHeld(JobRows& rows, const Duty& duty) {
  const auto found = rows.duties.find(KeyOf(duty));
  if (found == rows.duties.end() || found->second.epoch != duty.epoch || !found->second.owner) return nullptr;
  return &found->second;
}

// A write under the duty: kAborted (DUTY_LOST) if it is not this holder's any more.
absl::Status WriteUnder(memory::MemoryDatabase& db, std::string_view name, const Duty& duty,
                        absl::FunctionRef<absl::Status(JobRows&, DutyRow&)> body) {
  const absl::Status status = db.Write(name, duty.job_id, [&](JobRows& rows) {
    DutyRow* held = FindHeld(rows, duty);
    return held == nullptr ? DutyLost(duty) : body(rows, *held);
  });
  return absl::IsNotFound(status) ? DutyLost(duty) : status;
}

absl::Status NotPreparing(const JobRows& rows) {
  const std::string state(lifecycle::StateName(rows.snapshot.state));
  return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE",
               StrCat("the job is ", state, ", not PREPARING any more"), {{"state", state}});
}

std::optional<ReportPlan> PlanOf(const JobRows& rows) {
  if (!rows.report || !rows.report->created) return std::nullopt;
  ReportPlan plan;
  plan.created = *rows.report->created;
  plan.deadline = rows.report->deadline;
  for (const auto& [part, file] : rows.report->files) plan.files.push_back(file);
  return plan;
}

ReportRow& ReportOf(JobRows& rows) {
  if (!rows.report) rows.report.emplace();
  return *rows.report;
}

}  // namespace

// ------------------------------------------------------------------------------------------------- duties

absl::StatusOr<std::vector<Duty>> MemoryStorage::AcquireDuties(const std::string& owner,
                                                               const std::vector<DutyKind>& kinds, int limit,
                                                               absl::Duration lease) {
  std::vector<Duty> duties;
  DROVER_RETURN_IF_ERROR(db_.WriteAll("acquire_duties", [&](Tables& tables) {
    const absl::Time now = db_.Now();
    std::vector<std::tuple<absl::Time, JobId, DutyKey>> due;
    for (const auto& [id, rows] : tables.jobs) {
      for (const auto& [key, row] : rows.duties) {
        if (row.due <= now && std::ranges::count(kinds, key.first) > 0) due.emplace_back(row.due, id, key);
      }
    }
    std::ranges::sort(due);
    for (const auto& [time, job_id, key] : due) {
      if (static_cast<int>(duties.size()) >= limit) break;
      DutyRow& row = tables.jobs.at(job_id).duties.at(key);
      row.owner = owner;
      ++row.epoch;
      row.woken = false;
      row.due = now + lease;
      duties.push_back({job_id, key.first, key.second, row.epoch, row.tries, row.progress});
    }
    return absl::OkStatus();
  }));
  return duties;
}

absl::StatusOr<std::vector<bool>> MemoryStorage::RenewDuties(const std::vector<Duty>& duties,
                                                             absl::Duration lease) {
  std::vector<bool> held(duties.size(), false);
  DROVER_RETURN_IF_ERROR(db_.WriteAll("renew_duties", [&](Tables& tables) {
    for (size_t i = 0; i < duties.size(); ++i) {
      const auto job = tables.jobs.find(duties[i].job_id);
      DutyRow* row = job == tables.jobs.end() ? nullptr : FindHeld(job->second, duties[i]);
      if (row == nullptr) continue;
      row->due = db_.Now() + lease;
      held[i] = true;
    }
    return absl::OkStatus();
  }));
  return held;
}

absl::Status MemoryStorage::FinishDuty(const Duty& duty) {
  const absl::Status status = db_.Write("finish_duty", duty.job_id, [&](JobRows& rows) {
    const auto found = rows.duties.find(KeyOf(duty));
    // Gone altogether: finished already, perhaps by a commit whose result was unknown.
    if (found == rows.duties.end()) return absl::OkStatus();
    if (FindHeld(rows, duty) == nullptr) return DutyLost(duty);
    rows.duties.erase(found);
    return absl::OkStatus();
  });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status MemoryStorage::ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) {
  return WriteUnder(db_, "release_duty", duty, [&](JobRows&, DutyRow& row) {
    // What woke it while it was held makes it due at once; a failed try still waits.
    row.due = db_.Now() + (row.woken && !failed ? absl::ZeroDuration() : delay);
    row.owner.reset();
    row.woken = false;
    if (failed) ++row.tries;
    return absl::OkStatus();
  });
}

absl::Status MemoryStorage::WakeFinish(const JobId& job_id) {
  const absl::Status status = db_.Write("wake_finish", job_id, [&](JobRows& rows) {
    memory::WakeFinishDuty(rows, db_.Now());
    return absl::OkStatus();
  });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

// -------------------------------------------------------------------------------------------- preparation

absl::Status MemoryStorage::AppendBatches(const Duty& duty, const PrepareChunk& chunk) {
  return WriteUnder(db_, "append_batches", duty, [&](JobRows& rows, DutyRow& row) -> absl::Status {
    lifecycle::Snapshot& job = rows.snapshot;
    const int64_t first = chunk.batches.empty() ? job.tasks : chunk.batches.front().first_task;
    int64_t end = first;
    for (const NewBatch& batch : chunk.batches) {
      if (batch.first_task != end || batch.tasks <= 0) {
        return Error(absl::StatusCode::kInternal, "CHUNK_GAP",
                     StrCat("a batch begins at task ", batch.first_task, ", not at ", end));
      }
      end += batch.tasks;
    }
    const bool again = first < job.tasks && end == job.tasks && row.progress == chunk.progress;
    if (again && !chunk.last) return absl::OkStatus();  // a commit whose result was unknown did happen
    if (first != job.tasks) {
      return Error(
          absl::StatusCode::kInternal, "CHUNK_GAP",
          StrCat("job ", duty.job_id, " has ", job.tasks, " tasks, and the chunk begins at ", first));
    }
    if (job.state != State::kPreparing) return NotPreparing(rows);
    if (!chunk.batches.empty()) {
      auto batches = std::make_shared<std::vector<memory::BatchRow>>(*rows.batches);
      for (const NewBatch& batch : chunk.batches) {
        batches->push_back(
            {batch.first_task, batch.tasks, std::make_shared<const std::string>(batch.payload)});
      }
      rows.batches = std::move(batches);
    }
    job.batches += static_cast<int32_t>(chunk.batches.size());
    job.tasks = end;
    job.prepared = chunk.last;
    row.progress = chunk.progress;
    row.tries = 0;
    if (!chunk.last) return absl::OkStatus();
    rows.duties.erase(KeyOf(duty));
    DROVER_ASSIGN_OR_RETURN(const auto change,
                            lifecycle::Decide(rows.SnapshotNow(false), {Cause::kPrepared, "", "", {}}));
    if (change) memory::ApplyChange(rows, *change, db_.Now());
    return absl::OkStatus();
  });
}

absl::Status MemoryStorage::FailPreparation(const Duty& duty, const lifecycle::Failure& failure) {
  return WriteUnder(db_, "fail_preparation", duty, [&](JobRows& rows, DutyRow&) -> absl::Status {
    rows.duties.erase(KeyOf(duty));
    const lifecycle::Request request{Cause::kManifestFailed, failure.reason, "", {failure}};
    DROVER_ASSIGN_OR_RETURN(const auto change, lifecycle::Decide(rows.SnapshotNow(false), request));
    // None: a person has cancelled it meanwhile, and that stands.
    if (change) memory::ApplyChange(rows, *change, db_.Now());
    return absl::OkStatus();
  });
}

// ------------------------------------------------------------------------------------------------- report

absl::StatusOr<ReportPlan> MemoryStorage::PlanReport(const Duty& finish, const ReportPlan& plan) {
  ReportPlan stored;
  DROVER_RETURN_IF_ERROR(WriteUnder(db_, "plan_report", finish, [&](JobRows& rows, DutyRow&) {
    if (std::optional<ReportPlan> first = PlanOf(rows)) {
      stored = *std::move(first);
      return absl::OkStatus();
    }
    ReportRow& report = ReportOf(rows);
    report.created = plan.created;
    report.deadline = plan.deadline;
    rows.report_state = ReportState::kWriting;
    rows.report_files = static_cast<int32_t>(plan.files.size());
    rows.report_files_written = 0;
    for (const ReportFile& file : plan.files) {
      report.files[file.part] = file;
      report.files[file.part].upload_id.clear();
      if (file.written) {
        ++rows.report_files_written;
        continue;
      }
      DutyRow duty;
      duty.due = db_.Now();
      rows.duties.emplace(DutyKey{DutyKind::kReportFile, file.part}, std::move(duty));
    }
    stored = PlanOf(rows).value_or(plan);
    return absl::OkStatus();
  }));
  return stored;
}

absl::StatusOr<std::optional<ReportPlan>> MemoryStorage::ReadReportPlan(const JobId& job_id) {
  std::optional<ReportPlan> plan;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    plan = PlanOf(rows);
    return absl::OkStatus();
  }));
  return plan;
}

absl::StatusOr<ReportFile> MemoryStorage::ReadReportFile(const JobId& job_id, int32_t part) {
  ReportFile file;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    if (!rows.report || !rows.report->files.contains(part)) {
      return Error(absl::StatusCode::kNotFound, "REPORT_FILE_NOT_FOUND",
                   StrCat("the report of job ", job_id, " has no file ", part));
    }
    file = rows.report->files.at(part);
    return absl::OkStatus();
  }));
  return file;
}

absl::Status MemoryStorage::SetUpload(const Duty& file_duty, const std::string& upload_id) {
  return WriteUnder(db_, "set_upload", file_duty, [&](JobRows& rows, DutyRow&) {
    ReportOf(rows).files[file_duty.part].upload_id = upload_id;
    return absl::OkStatus();
  });
}

absl::Status MemoryStorage::FinishReportFile(const Duty& file_duty, const ReportFile& file) {
  return WriteUnder(db_, "finish_report_file", file_duty, [&](JobRows& rows, DutyRow&) {
    ReportFile& stored = ReportOf(rows).files[file_duty.part];
    if (!stored.written) {
      stored.rows = file.rows;
      stored.bytes = file.bytes;
      stored.md5 = file.md5;
      stored.sha256 = file.sha256;
      stored.written = true;
      stored.upload_id.clear();
      ++rows.report_files_written;
    }
    rows.duties.erase(KeyOf(file_duty));
    memory::WakeFinishDuty(rows, db_.Now());
    return absl::OkStatus();
  });
}

absl::Status MemoryStorage::SettleReport(const Duty& finish, ReportState state,
                                         const std::string& manifest_key, const std::string& error) {
  if (state != ReportState::kWritten && state != ReportState::kFailed && state != ReportState::kNotNeeded) {
    return absl::InvalidArgumentError("a report settles as written, failed or not needed");
  }
  return WriteUnder(db_, "settle_report", finish, [&](JobRows& rows, DutyRow&) {
    std::erase_if(rows.duties, [](const auto& duty) { return duty.first.first == DutyKind::kReportFile; });
    ReportRow& report = ReportOf(rows);
    report.manifest_key = manifest_key;
    report.error = memory::CleanText(error);
    rows.report_state = state;
    rows.report_settled = db_.Now();
    return absl::OkStatus();
  });
}

absl::Status MemoryStorage::NoteReportError(const JobId& job_id, const std::string& error) {
  return db_.Write("note_report_error", job_id, [&](JobRows& rows) {
    if (!rows.report_settled) ReportOf(rows).error = memory::CleanText(error);
    return absl::OkStatus();
  });
}

}  // namespace drover
