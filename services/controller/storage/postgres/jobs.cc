// Creating, reading and changing jobs.
#include <nlohmann/json.hpp>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/failures.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/job_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

using lifecycle::State;

// Takes the request id, or waits for the transaction that is taking it and then finds it taken. By the key.
constexpr char kTakeRequestIdSql[] = R"sql(
  INSERT INTO drover.create_requests (namespace, request_id, fingerprint, job_id, created_at)
  VALUES ($1, $2, $3, $4, statement_timestamp())
  ON CONFLICT DO NOTHING)sql";

constexpr char kFindRequestIdSql[] = R"sql(
  SELECT fingerprint, job_id FROM drover.create_requests WHERE namespace = $1 AND request_id = $2)sql";

constexpr char kInsertJobSql[] = R"sql(
  INSERT INTO drover.jobs
    (job_id, namespace, request, operation, min_revision, stores, worker_stores, creator, manifest_pin,
     policy_enabled, policy_failed_fraction, policy_minimum_executed, policy_failed_tasks, policy_pause,
     report_wanted, created_at)
  VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9, $10, $11, $12, nullif($13, '')::bigint, $14,
          $15, $16)
  ON CONFLICT (job_id) DO NOTHING)sql";

constexpr char kInsertStateSql[] = R"sql(
  WITH state AS (
    INSERT INTO drover.job_state
      (job_id, state, previous_state, priority, version, confirmation_required, state_at, report_state,
       reason_caller)
    VALUES ($1, 1, 0, $2, 1, $3, statement_timestamp(), CASE WHEN $4::boolean THEN 1 ELSE 0 END, $5)
  ), duty AS (
    INSERT INTO drover.duties (job_id, kind, part, progress, due_at, created_at)
    VALUES ($1, 1, 0, nullif($6, ''::bytea), statement_timestamp(), statement_timestamp())
  )
  INSERT INTO drover.events (job_id, version, at, state, priority, type, caller)
  VALUES ($1, 1, statement_timestamp(), 1, $2, 'JobCreated', $5))sql";

// What ReadJob reads after the columns of the snapshot; times are microseconds since the epoch. `owns_lease`
// by index leases_owned, one probe per job. While a job is Cancelling or Failing its unconfirmed tasks are
// counted from its leases; that is stored when it ends (ApplyChange).
constexpr char kJobColumns[] = R"sql(
    s.job_id, s.version,
    CASE WHEN s.state IN (10, 12) THEN
      (SELECT coalesce(sum(u.task_count - u.done), 0) FROM drover.leases u WHERE u.job_id = s.job_id AND u.maybe_ran)
      ELSE s.unconfirmed END AS unconfirmed,
    s.reason_message, s.reason_caller, s.failures::text AS failures,
    (extract(epoch FROM s.state_at) * 1000000)::bigint AS state_at,
    (extract(epoch FROM s.started_at) * 1000000)::bigint AS started_at,
    (extract(epoch FROM s.ended_at) * 1000000)::bigint AS ended_at,
    (extract(epoch FROM s.active_time +
      CASE WHEN s.state IN (5, 6) THEN statement_timestamp() - s.state_at ELSE '0' END) * 1000000)::bigint AS active,
    s.report_state, (extract(epoch FROM s.report_settled_at) * 1000000)::bigint AS report_settled_at,
    s.report_files, s.report_files_written, r.manifest_key, r.error,
    EXISTS (SELECT FROM drover.leases o WHERE o.job_id = s.job_id AND o.session_id IS NOT NULL) AS owns_lease,
    j.namespace, j.request, j.operation, j.min_revision, j.stores::text AS stores,
    j.worker_stores::text AS worker_stores, j.creator, j.manifest_pin,
    j.policy_enabled, j.policy_failed_fraction, j.policy_minimum_executed, j.policy_failed_tasks, j.policy_pause,
    j.report_wanted, (extract(epoch FROM j.created_at) * 1000000)::bigint AS created_at)sql";

// By the key of leases, or index leases_owned.
constexpr char kLeasedTasks[] = R"sql(,
    (SELECT coalesce(sum(l.task_count - l.done), 0) FROM drover.leases l
     WHERE l.job_id = s.job_id AND l.session_id IS NOT NULL) AS leased_tasks)sql";

// By the key of failure_groups; in the same statement as the counters, so that they agree.
std::string FailureGroups() {
  return StrCat(", (SELECT ", kFailureGroupsJson, " WHERE g.job_id = s.job_id) AS failure_groups");
}

constexpr char kJobTables[] = R"sql(
  FROM drover.job_state s JOIN drover.jobs j ON j.job_id = s.job_id
  LEFT JOIN drover.reports r ON r.job_id = s.job_id )sql";

std::string JobSelect() { return StrCat("SELECT ", kSnapshotColumns, ", ", kJobColumns); }

JobSpec ReadSpec(const pqxx::row& row) {
  JobSpec spec;
  spec.job_id = ReadText(row["job_id"]);
  spec.name_space = ReadText(row["namespace"]);
  spec.request = ReadBytes(row["request"]);
  spec.operation = ReadText(row["operation"]);
  spec.min_revision = row["min_revision"].as<int32_t>();
  spec.stores = nlohmann::json::parse(ReadText(row["stores"])).get<std::map<std::string, std::string>>();
  spec.worker_stores = nlohmann::json::parse(ReadText(row["worker_stores"])).get<std::vector<std::string>>();
  spec.creator = ReadText(row["creator"]);
  spec.manifest_pin = ReadText(row["manifest_pin"]);
  lifecycle::FailurePolicy& policy = spec.failure_policy;
  policy.enabled = row["policy_enabled"].as<bool>();
  policy.failed_fraction = row["policy_failed_fraction"].as<double>();
  policy.minimum_executed = row["policy_minimum_executed"].as<int64_t>();
  if (!row["policy_failed_tasks"].is_null()) policy.failed_tasks = row["policy_failed_tasks"].as<int64_t>();
  policy.pause = row["policy_pause"].as<bool>();
  spec.confirmation_required = row["confirmation_required"].as<bool>();
  spec.report_wanted = row["report_wanted"].as<bool>();
  spec.created = ReadTime(row["created_at"]).value_or(absl::InfinitePast());
  return spec;
}

JobRecord ReadJob(const pqxx::row& row) {
  JobRecord job;
  job.spec = ReadSpec(row);
  job.snapshot = ReadSnapshot(row);
  job.priority = row["priority"].as<int32_t>();
  job.version = row["version"].as<int64_t>();
  job.unconfirmed = row["unconfirmed"].as<int64_t>();
  job.owns_lease = row["owns_lease"].as<bool>();
  job.reason_message = ReadText(row["reason_message"]);
  job.reason_caller = ReadText(row["reason_caller"]);
  job.failures = FailuresFromJson(ReadText(row["failures"]));
  job.state_time = ReadTime(row["state_at"]).value_or(absl::InfinitePast());
  job.start_time = ReadTime(row["started_at"]);
  job.end_time = ReadTime(row["ended_at"]);
  job.active = absl::Microseconds(row["active"].as<int64_t>());
  job.report_state = static_cast<ReportState>(row["report_state"].as<int>());
  job.report_settled = ReadTime(row["report_settled_at"]);
  job.report_files = row["report_files"].as<int32_t>();
  job.report_files_written = row["report_files_written"].as<int32_t>();
  job.report_manifest_key = ReadText(row["manifest_key"]);
  job.report_error = ReadText(row["error"]);
  return job;
}

}  // namespace

absl::StatusOr<Storage::Created> PostgresStorage::CreateJob(const NewJob& job) {
  const JobSpec& spec = job.spec;
  if (!IsUuid(spec.job_id))
    return Error(absl::StatusCode::kInvalidArgument, "BAD_JOB_ID", "a job id must be a UUID");
  Created result{spec.job_id, true};
  const absl::Status status = db_->Write("create_job", [&](Tx& tx) -> absl::Status {
    if (!job.request_id.empty()) {
      const pqxx::result taken =
          tx.Query(kTakeRequestIdSql, spec.name_space, job.request_id, job.fingerprint, spec.job_id);
      if (taken.affected_rows() == 0) {
        // In a statement of its own: the row may have been committed after the snapshot of the INSERT.
        const pqxx::result rows = tx.Query(kFindRequestIdSql, spec.name_space, job.request_id);
        if (rows.empty()) {
          return Error(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE",
                       "create_job: the request id moves");
        }
        if (ReadText(rows[0][0]) != job.fingerprint) {
          return Error(absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
                       StrCat("request_id ", job.request_id, " was used before with another request"),
                       {{"request_id", job.request_id}, {"job_id", ReadText(rows[0][1])}});
        }
        result.job_id = ReadText(rows[0][1]);
        result.created = result.job_id == spec.job_id;
        return absl::OkStatus();
      }
    }
    const lifecycle::FailurePolicy& policy = spec.failure_policy;
    const pqxx::result inserted = tx.Query(
        kInsertJobSql, spec.job_id, spec.name_space, Bytes(spec.request), spec.operation, spec.min_revision,
        nlohmann::json(spec.stores).dump(), nlohmann::json(spec.worker_stores).dump(), spec.creator,
        spec.manifest_pin, policy.enabled, policy.failed_fraction, policy.minimum_executed,
        policy.failed_tasks ? absl::StrCat(*policy.failed_tasks) : "", policy.pause, spec.report_wanted,
        Timestamp(spec.created));
    // The same id is the same call again, after a commit in doubt.
    if (inserted.affected_rows() == 0) return absl::OkStatus();
    tx.Query(kInsertStateSql, spec.job_id, job.priority, spec.confirmation_required, spec.report_wanted,
             spec.creator, Bytes(job.prepare_progress));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<JobRecord> PostgresStorage::GetJob(const JobId& job_id) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  JobRecord job;
  // By keys; a person's call.
  const absl::Status status = db_->Read("get_job", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(
        StrCat(JobSelect(), kLeasedTasks, FailureGroups(), kJobTables, "WHERE s.job_id = $1"), job_id);
    if (rows.empty()) return JobNotFound(job_id);
    job = ReadJob(rows[0]);
    job.leased_tasks = rows[0]["leased_tasks"].as<int64_t>();
    job.failure_groups = FailureGroupsFromJson(ReadText(rows[0]["failure_groups"]));
    SortFailureGroups(job.failure_groups);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return job;
}

absl::StatusOr<std::vector<JobRecord>> PostgresStorage::ListJobs(const JobPageQuery& query) {
  std::vector<JobRecord> jobs;
  std::vector<int16_t> states;
  for (const State state : query.states) states.push_back(static_cast<int16_t>(state));
  // Backwards through the key of job_state; with states, by index job_state_by_state where they are few. Ids
  // are UUIDv7, so their order is that of creation.
  std::string where = "WHERE true";
  if (!states.empty()) absl::StrAppend(&where, " AND s.state = ANY($2::smallint[])");
  if (query.before) {
    if (!IsUuid(*query.before)) return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "not a job id");
    absl::StrAppend(&where, " AND s.job_id < '", *query.before, "'");
  }
  const absl::Status status = db_->Read("list_jobs", [&](Tx& tx) -> absl::Status {
    const std::string sql = StrCat(JobSelect(), kJobTables, where, " ORDER BY s.job_id DESC LIMIT $1::int");
    const pqxx::result rows =
        states.empty() ? tx.Query(sql, query.limit) : tx.Query(sql, query.limit, Int2Array(states));
    for (const pqxx::row& row : rows) jobs.push_back(ReadJob(row));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return jobs;
}

absl::StatusOr<std::vector<Storage::JobPulse>> PostgresStorage::ReadPulses(const std::vector<JobId>& jobs) {
  std::vector<JobPulse> pulses;
  if (jobs.empty()) return pulses;
  // By the key, for the watched jobs of this controller, several times a second.
  const absl::Status status = db_->Read("read_pulses", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        SELECT job_id, version,
               tasks + succeeded + failed + report_files + report_files_written
                 + (report_settled_at IS NOT NULL)::int,
               state IN (9, 11, 13)
        FROM drover.job_state WHERE job_id = ANY($1::uuid[]))sql",
                                       UuidArray(jobs));
    for (const pqxx::row& row : rows) {
      pulses.push_back({ReadText(row[0]), row[1].as<int64_t>(), row[2].as<int64_t>(), row[3].as<bool>()});
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return pulses;
}

absl::StatusOr<std::optional<lifecycle::Change>> PostgresStorage::ChangeJob(const JobId& job_id,
                                                                            const DecideFn& decide,
                                                                            bool with_leases) {
  std::optional<lifecycle::Change> applied;
  const absl::Status status = db_->Write("change_job", [&](Tx& tx) -> absl::Status {
    DROVER_ASSIGN_OR_RETURN(LockedJob job, LockJob(tx, job_id));
    if (with_leases) {
      DROVER_ASSIGN_OR_RETURN(job.snapshot.owned_leases, CountOwnedLeases(tx, job_id));
    }
    DROVER_ASSIGN_OR_RETURN(applied, decide(job.snapshot));
    if (!applied) return absl::OkStatus();
    return ApplyChange(tx, job_id, job.snapshot, *applied);
  });
  if (!status.ok()) return status;
  return applied;
}

absl::StatusOr<bool> PostgresStorage::SetPriority(const JobId& job_id, int32_t priority,
                                                  const std::string& caller) {
  bool changed = false;
  const absl::Status status = db_->Write("set_priority", [&](Tx& tx) -> absl::Status {
    DROVER_ASSIGN_OR_RETURN(const LockedJob job, LockJob(tx, job_id));
    if (lifecycle::IsTerminal(job.snapshot.state)) {
      const std::string state(lifecycle::StateName(job.snapshot.state));
      return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE",
                   StrCat("a job that is ", state, " has no use for a priority"), {{"state", state}});
    }
    if (job.priority == priority) return absl::OkStatus();
    tx.Query(R"sql(
        WITH changed AS (
          UPDATE drover.job_state SET priority = $2, version = version + 1 WHERE job_id = $1
          RETURNING job_id, version, state, priority)
        INSERT INTO drover.events (job_id, version, at, state, priority, type, caller)
        SELECT job_id, version, statement_timestamp(), state, priority, 'JobPriorityChanged', $3
        FROM changed)sql",
             job_id, priority, caller);
    changed = true;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return changed;
}

absl::StatusOr<std::vector<JobEvent>> PostgresStorage::ListEvents(const JobId& job_id) {
  std::vector<JobEvent> events;
  if (!IsUuid(job_id)) return events;
  const absl::Status status = db_->Read("list_events", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
            SELECT version, (extract(epoch FROM at) * 1000000)::bigint, type, coalesce(previous_state, 0), state,
                   reason_code, reason_message, caller, priority
            FROM drover.events WHERE job_id = $1 ORDER BY version)sql",
                                       job_id);
    for (const pqxx::row& row : rows) {
      JobEvent event;
      event.job_id = job_id;
      event.version = row[0].as<int64_t>();
      event.time = ReadTime(row[1]).value_or(absl::InfinitePast());
      event.type = ReadText(row[2]);
      event.previous = lifecycle::StateFromNumber(row[3].as<int>());
      event.state = lifecycle::StateFromNumber(row[4].as<int>()).value_or(State::kNew);
      event.reason_code = ReadText(row[5]);
      event.reason_message = ReadText(row[6]);
      event.caller = ReadText(row[7]);
      event.priority = row[8].as<int32_t>();
      events.push_back(std::move(event));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return events;
}

absl::StatusOr<std::vector<std::pair<State, int64_t>>> PostgresStorage::CountJobs() {
  std::vector<std::pair<State, int64_t>> counts;
  // Index-only through job_state_by_state, once a scrape.
  const absl::Status status = db_->Read("count_jobs", [&](Tx& tx) -> absl::Status {
    for (const pqxx::row& row :
         tx.Query("SELECT state, count(*) FROM drover.job_state GROUP BY state ORDER BY state")) {
      counts.emplace_back(lifecycle::StateFromNumber(row[0].as<int>()).value_or(State::kNew),
                          row[1].as<int64_t>());
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return counts;
}

}  // namespace drover
