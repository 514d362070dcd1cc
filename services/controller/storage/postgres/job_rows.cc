#include "services/controller/storage/postgres/job_rows.h"

#include <nlohmann/json.hpp>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::postgres {
namespace {

using lifecycle::State;

// The numbers of states in the SQL of this folder.
static_assert(static_cast<int>(State::kReady) == 4 && static_cast<int>(State::kActive) == 5 &&
              static_cast<int>(State::kPausing) == 6 && static_cast<int>(State::kPaused) == 7 &&
              static_cast<int>(State::kComplete) == 9 && static_cast<int>(State::kCancelling) == 10 &&
              static_cast<int>(State::kCancelled) == 11 && static_cast<int>(State::kFailing) == 12 &&
              static_cast<int>(State::kFailed) == 13);
static_assert(static_cast<int>(ReportState::kNone) == 0);

// Tasks that a batch has at most: what an example's number is made with.
constexpr int64_t kTaskPlaces = TaskSet::kMaxTasks;
static_assert(kTaskPlaces == 4096, "stored numbers are made with it");

State ToState(const pqxx::field& field) {
  return lifecycle::StateFromNumber(field.as<int>()).value_or(State::kNew);  // 0, before New, reads as New
}

// By the key of job_state. A change to the state that it is in already (a person takes over a preempted
// pause) keeps previous_state and state_at.
constexpr char kApplySql[] = R"sql(
  WITH changed AS (
    UPDATE drover.job_state s SET
      state = $2::smallint,
      previous_state = CASE WHEN s.state = $2::smallint THEN s.previous_state ELSE s.state END,
      state_at = CASE WHEN s.state = $2::smallint THEN s.state_at ELSE statement_timestamp() END,
      active_time = s.active_time +
        CASE WHEN s.state IN (5, 6) AND s.state <> $2::smallint THEN statement_timestamp() - s.state_at
             ELSE '0' END,
      started_at =
        CASE WHEN $2::smallint = 5 THEN coalesce(s.started_at, statement_timestamp()) ELSE s.started_at END,
      ended_at = CASE WHEN $2::smallint IN (9, 11, 13) THEN statement_timestamp() ELSE s.ended_at END,
      version = s.version + 1,
      reason_code = CASE WHEN $9 THEN s.reason_code ELSE $3 END,
      reason_message = CASE WHEN $9 THEN s.reason_message ELSE $4 END,
      reason_caller = CASE WHEN $9 THEN s.reason_caller ELSE $5 END,
      failures = coalesce(nullif($6, '')::jsonb, s.failures),
      unconfirmed = s.unconfirmed + $7::bigint,
      resumed_executed = CASE WHEN $10 THEN s.succeeded + s.failed ELSE s.resumed_executed END,
      resumed_failed = CASE WHEN $10 THEN s.failed ELSE s.resumed_failed END
    WHERE s.job_id = $1
    RETURNING s.job_id, s.version, s.state, s.priority, s.reason_code, s.reason_message, s.reason_caller)
  INSERT INTO drover.events
    (job_id, version, at, state, previous_state, priority, type, reason_code, reason_message, caller)
  SELECT job_id, version, statement_timestamp(), state, $8::smallint, priority, 'JobStatusChanged', reason_code,
    reason_message, reason_caller
  FROM changed)sql";

// By the key of duties.
constexpr char kInsertFinishSql[] = R"sql(
  INSERT INTO drover.duties (job_id, kind, part, due_at, created_at)
  VALUES ($1, 2, 0, statement_timestamp(), statement_timestamp())
  ON CONFLICT DO NOTHING)sql";

// A prepare duty that a chunk's transaction holds right now is left: that transaction waits for job_state,
// which we have, and takes the duty away itself when it finds the job not Preparing any more.
constexpr char kDropPrepareSql[] = R"sql(
  DELETE FROM drover.duties WHERE (job_id, kind, part) IN
    (SELECT job_id, kind, part FROM drover.duties WHERE job_id = $1 AND kind = 1 FOR UPDATE SKIP LOCKED))sql";

// By the key of leases; once in a job's life.
constexpr char kUnconfirmedSql[] = R"sql(
  SELECT coalesce(sum(task_count - done), 0) FROM drover.leases WHERE job_id = $1 AND maybe_ran)sql";

}  // namespace

lifecycle::Snapshot ReadSnapshot(const pqxx::row& row) {
  lifecycle::Snapshot snapshot;
  snapshot.state = ToState(row[0]);
  snapshot.previous = ToState(row[1]);
  snapshot.reason_code = ReadText(row[2]);
  snapshot.confirmation_required = row[3].as<bool>();
  snapshot.prepared = row[4].as<bool>();
  snapshot.tasks = row[5].as<int64_t>();
  snapshot.succeeded = row[6].as<int64_t>();
  snapshot.failed = row[7].as<int64_t>();
  snapshot.batches = row[8].as<int32_t>();
  snapshot.next_batch = row[9].as<int32_t>();
  snapshot.report_settled = row[10].as<bool>();
  snapshot.resumed_executed = row[12].as<int64_t>();
  snapshot.resumed_failed = row[13].as<int64_t>();
  return snapshot;
}

absl::StatusOr<LockedJob> LockJob(Tx& tx, const JobId& job_id) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  const pqxx::result rows = tx.Query(
      StrCat("SELECT ", kSnapshotColumns, " FROM drover.job_state s WHERE s.job_id = $1 FOR UPDATE"), job_id);
  if (rows.empty()) return JobNotFound(job_id);
  return LockedJob{ReadSnapshot(rows[0]), rows[0][kSnapshotPriority].as<int32_t>()};
}

absl::StatusOr<int64_t> CountOwnedLeases(Tx& tx, const JobId& job_id) {
  // Index leases_owned.
  const pqxx::result rows =
      tx.Query("SELECT count(*) FROM drover.leases WHERE job_id = $1 AND session_id IS NOT NULL", job_id);
  return rows[0][0].as<int64_t>();
}

bool HasLeases(Tx& tx, const JobId& job_id) {
  // The key of leases.
  return tx.Query("SELECT EXISTS (SELECT FROM drover.leases WHERE job_id = $1)", job_id)[0][0].as<bool>();
}

absl::Status ApplyChange(Tx& tx, const JobId& job_id, const lifecycle::Snapshot& snapshot,
                         const lifecycle::Change& change) {
  int64_t unconfirmed = 0;
  if (change.to == State::kFailed || change.to == State::kCancelled) {
    unconfirmed = tx.Query(kUnconfirmedSql, job_id)[0][0].as<int64_t>();
  }
  const pqxx::result rows = tx.Query(
      kApplySql, job_id, static_cast<int>(change.to), change.reason_code, CleanText(change.reason_message),
      change.caller, change.failures.empty() ? "" : FailuresToJson(change.failures), unconfirmed,
      static_cast<int>(snapshot.state), change.keep_reason, change.resumed);
  if (rows.affected_rows() != 1) return JobNotFound(job_id);
  if (lifecycle::IsFinishing(change.to)) {
    tx.Query(kInsertFinishSql, job_id);
    tx.Query(kDropPrepareSql, job_id);
  }
  return absl::OkStatus();
}

absl::Status JobNotFound(const JobId& job_id) {
  return Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", StrCat("no job has id ", job_id),
               {{"job_id", job_id}});
}

std::vector<FailureGroup> FailureGroupsFromJson(const std::string& json) {
  std::vector<FailureGroup> groups;
  if (json.empty()) return groups;
  for (const nlohmann::json& item : nlohmann::json::parse(json)) {
    FailureGroup group{item.at(1), item.at(0), false, item.at(2), {}};
    group.others = group.http_status == kOthersStatus;
    if (group.others) group.http_status = 0;
    for (const int64_t example : item.at(3)) {
      group.examples.push_back(
          {static_cast<BatchNo>(example / kTaskPlaces), static_cast<uint32_t>(example % kTaskPlaces)});
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

std::string ExamplesArray(const std::vector<TaskRef>& examples) {
  std::string text = "{";
  for (const TaskRef& task : examples) {
    StrAppend(&text, text.size() == 1 ? "" : ",", int64_t{task.batch_no} * kTaskPlaces + task.index);
  }
  return text + "}";
}

std::string FailuresToJson(const std::vector<lifecycle::Failure>& failures) {
  nlohmann::json list = nlohmann::json::array();
  for (const lifecycle::Failure& failure : failures) {
    nlohmann::json bad_lines = nlohmann::json::array();
    for (const auto& bad : failure.bad_lines)
      bad_lines.push_back({{"line", bad.line}, {"reason", bad.reason}});
    list.push_back({{"code", failure.code}, {"reason", failure.reason}, {"bad_lines", std::move(bad_lines)}});
  }
  // A reason may quote bytes of a manifest: what is not UTF-8 becomes U+FFFD.
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<lifecycle::Failure> FailuresFromJson(const std::string& json) {
  std::vector<lifecycle::Failure> failures;
  if (json.empty()) return failures;
  for (const nlohmann::json& item : nlohmann::json::parse(json)) {
    lifecycle::Failure failure{item.at("code"), item.at("reason"), {}};
    for (const nlohmann::json& bad : item.at("bad_lines")) {
      failure.bad_lines.push_back({bad.at("line"), bad.at("reason")});
    }
    failures.push_back(std::move(failure));
  }
  return failures;
}

}  // namespace drover::postgres
