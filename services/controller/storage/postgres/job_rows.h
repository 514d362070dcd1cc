// Rows of job_state and of jobs: reading them, locking one, and the one place where a job's state changes.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_JOB_ROWS_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_JOB_ROWS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/controller/lifecycle/lifecycle.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/storage.h"

namespace drover::postgres {

// The columns that ReadSnapshot reads, of job_state named s.
inline constexpr char kSnapshotColumns[] =
    "s.state, s.previous_state, s.reason_code, s.confirmation_required, s.prepared, s.tasks, s.succeeded, "
    "s.failed, "
    "s.batches, s.next_batch, (s.report_state = 0 OR s.report_settled_at IS NOT NULL), s.priority, "
    "s.resumed_executed, s.resumed_failed";
inline constexpr int kSnapshotPriority = 11;  // the column of that list

// A snapshot from the columns above, which begin the row.
lifecycle::Snapshot ReadSnapshot(const pqxx::row& row);

struct LockedJob {
  lifecycle::Snapshot snapshot;
  int32_t priority = 0;
};

// Locks the job's job_state row, and reads it as it is then; kNotFound. Whoever holds it waits for nothing
// more than rows of its own.
absl::StatusOr<LockedJob> LockJob(Tx& tx, const JobId& job_id);

// Whether the job owns a lease; whether it has any, owned or not. To be trusted only after LockJob, in the
// same transaction: no claim is then under way, and no record that has not counted yet.
absl::StatusOr<int64_t> CountOwnedLeases(Tx& tx, const JobId& job_id);
bool HasLeases(Tx& tx, const JobId& job_id);

// Makes the change of a job whose row this transaction has locked: state, reason, version, times, its event;
// a finishing state gets the finish duty and loses the prepare duty; Failed and Cancelled count what may have
// run without a trace. Waits for no row.
absl::Status ApplyChange(Tx& tx, const JobId& job_id, const lifecycle::Snapshot& snapshot,
                         const lifecycle::Change& change);

absl::Status JobNotFound(const JobId& job_id);

// A job's failure groups as one JSON value, of failure_groups named g: [[http_status, code, tasks, [example
// …]] …], or NULL. The status of the group of all others is kOthersStatus; an example is batch_no * 4096 +
// index.
inline constexpr char kFailureGroupsJson[] =
    "json_agg(json_build_array(g.http_status, g.code, g.tasks, g.examples))::text FROM drover.failure_groups "
    "g";
inline constexpr int32_t kOthersStatus = -1;
// What that value says; none for "" (NULL).
std::vector<FailureGroup> FailureGroupsFromJson(const std::string& json);
// A group's examples as a bigint[] in text.
std::string ExamplesArray(const std::vector<TaskRef>& examples);

// Failures as JSON: [{"code":…,"reason":…,"bad_lines":[{"line":…,"reason":…}]}].
std::string FailuresToJson(const std::vector<lifecycle::Failure>& failures);
std::vector<lifecycle::Failure> FailuresFromJson(const std::string& json);

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_JOB_ROWS_H_
