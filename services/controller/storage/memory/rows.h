// What the in-memory database holds: the tables of docs/internals/storage.md, those of one job together in
// one value. Nothing here is thread-safe; MemoryDatabase guards it.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_MEMORY_ROWS_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_MEMORY_ROWS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/codec/task_set.h"
#include "services/controller/storage/storage.h"

namespace drover::memory {

struct BatchRow {
  int64_t first_task = 0;
  int32_t tasks = 0;
  std::shared_ptr<const std::string> payload;
};

struct LeaseRow {
  SessionId session;  // "" without an owner
  int64_t attachment = 0;
  int64_t first_task = 0;
  int32_t batch_tasks = 0;
  std::optional<TaskSet> tasks;  // absent: all of the batch
  int32_t task_count = 0;        // that it covers
  int32_t done = 0;              // of those, recorded
  int64_t last_sequence = 0;
  CameBack came_back = CameBack::kNo;
  bool maybe_ran = false;  // a holder of these tasks was lost: some may have run without a trace
  std::string notes;

  bool owned() const { return !session.empty(); }
};

struct SegmentRow {
  std::optional<TaskSet> executed;  // absent: all of the batch
  int32_t succeeded = 0;
  int32_t failed = 0;
  std::string payload;
  absl::Time recorded;
};
using SegmentKey = std::tuple<BatchNo, LeaseId, int64_t>;  // the last: its sequence number

struct DutyRow {
  std::optional<std::string> owner;
  int64_t epoch = 0;
  absl::Time due;  // without an owner: when it may be taken; else until when it is held
  int32_t tries = 0;
  std::string progress;
  bool woken = false;
};
using DutyKey = std::pair<DutyKind, int32_t>;  // the second: its part

struct ReportRow {
  std::optional<absl::Time> created;  // absent: there is no plan yet, only an error
  absl::Time deadline;
  std::string manifest_key;
  std::string error;
  std::map<int32_t, ReportFile> files;  // by part
};

// All rows of one job.
struct JobRows {
  std::shared_ptr<const JobSpec> spec;
  lifecycle::Snapshot snapshot;  // owned_leases and report_settled are not kept here
  int32_t priority = 0;
  int64_t version = 1;
  int64_t unconfirmed = 0;
  std::string reason_message;
  std::string reason_caller;
  std::vector<lifecycle::Failure> failures;
  std::vector<FailureGroup> failure_groups;  // in the order in which they came up
  absl::Time state_time;
  std::optional<absl::Time> start_time;
  std::optional<absl::Time> end_time;
  absl::Duration active;  // without the stretch under way
  ReportState report_state = ReportState::kNone;
  std::optional<absl::Time> report_settled;
  int32_t report_files = 0;
  int32_t report_files_written = 0;
  std::shared_ptr<const std::vector<BatchRow>> batches;  // by number; replaced when some are appended
  std::map<LeaseKey, LeaseRow> leases;
  std::map<SegmentKey, std::shared_ptr<const SegmentRow>> segments;
  std::map<DutyKey, DutyRow> duties;
  std::optional<ReportRow> report;
  std::vector<JobEvent> events;

  int64_t OwnedLeases() const;
  bool HasOwnerless() const;
  // The snapshot as a decision gets it; owned_leases only if asked for.
  lifecycle::Snapshot SnapshotNow(bool with_leases) const;
  // What segments of this lease have recorded.
  TaskSet Recorded(const LeaseKey& lease, int32_t batch_tasks) const;
};

struct SessionRow {
  SessionInfo info;
};

// The constraints of the schema (migrations/0001_core.sql): kInternal (DATABASE_REFUSED) if the rows break
// one.
absl::Status CheckConstraints(const JobRows& rows);

// Text as the database takes it: NUL and what is not UTF-8 become U+FFFD.
std::string CleanText(std::string_view text);

// Tasks of leases whose holder was lost, less those recorded: they may have run without a trace.
int64_t CountUnconfirmed(const JobRows& rows);

// Makes the change of a job: state, reason, version, times, its event; a finishing state gets the finish duty
// and loses the prepare duty; Failed and Cancelled count what may have run without a trace.
void ApplyChange(JobRows& rows, const lifecycle::Change& change, absl::Time now);

// Makes the job's finish duty due: at once, or, if it is held, when it is let go of.
void WakeFinishDuty(JobRows& rows, absl::Time now);

absl::Status JobNotFound(const JobId& job_id);

}  // namespace drover::memory

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_MEMORY_ROWS_H_
