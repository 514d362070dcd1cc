// Duties: the right of one controller to do one piece of a job's work. Only the database's clock says when
// one is due.
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/duty_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {
namespace postgres {

absl::Status DutyLost(const Duty& duty) {
  return Error(absl::StatusCode::kAborted, "DUTY_LOST",
               StrCat("duty ", static_cast<int>(duty.kind), "/", duty.part, " of job ", duty.job_id,
                      " is not held at epoch ", duty.epoch, " any more"),
               {{"job_id", duty.job_id}});
}

absl::StatusOr<std::string> HoldDuty(Tx& tx, const Duty& duty) {
  if (!IsUuid(duty.job_id)) return DutyLost(duty);
  const pqxx::result rows = tx.Query(R"sql(
      SELECT epoch, owner IS NOT NULL, progress FROM drover.duties
      WHERE job_id = $1 AND kind = $2::smallint AND part = $3::int FOR UPDATE)sql",
                                     duty.job_id, static_cast<int>(duty.kind), duty.part);
  if (rows.empty() || rows[0][0].as<int64_t>() != duty.epoch || !rows[0][1].as<bool>()) return DutyLost(duty);
  return ReadBytes(rows[0][2]);
}

void DropDuty(Tx& tx, const Duty& duty) {
  tx.Query("DELETE FROM drover.duties WHERE job_id = $1 AND kind = $2::smallint AND part = $3::int",
           duty.job_id, static_cast<int>(duty.kind), duty.part);
}

void WakeFinishDuty(Tx& tx, const JobId& job_id) {
  tx.Query(R"sql(
      UPDATE drover.duties SET
        woken = owner IS NOT NULL,
        due_at = CASE WHEN owner IS NULL THEN least(due_at, clock_timestamp()) ELSE due_at END
      WHERE job_id = $1 AND kind = 2 AND part = 0)sql",
           job_id);
}

}  // namespace postgres

namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

// Index duties_due in its order, each controller several times a second. statement_timestamp() rather than
// clock_timestamp(), which no index can serve; it is only ever earlier.
constexpr char kAcquireSql[] = R"sql(
  WITH due AS MATERIALIZED (
    SELECT job_id, kind, part FROM drover.duties
    WHERE due_at <= statement_timestamp() AND kind = ANY($2::smallint[])
    ORDER BY due_at LIMIT $3::int FOR UPDATE SKIP LOCKED)
  UPDATE drover.duties d SET
    owner = $1, epoch = d.epoch + 1, woken = false,
    due_at = clock_timestamp() + $4::bigint * interval '1 microsecond'
  FROM due WHERE d.job_id = due.job_id AND d.kind = due.kind AND d.part = due.part
  RETURNING d.job_id, d.kind, d.part, d.epoch, d.tries, d.progress)sql";

}  // namespace

absl::StatusOr<std::vector<Duty>> PostgresStorage::AcquireDuties(const std::string& owner,
                                                                 const std::vector<DutyKind>& kinds,
                                                                 int limit, absl::Duration lease) {
  std::vector<int16_t> numbers;
  for (const DutyKind kind : kinds) numbers.push_back(static_cast<int16_t>(kind));
  std::vector<Duty> duties;
  const absl::Status status = db_->Write("acquire_duties", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.Query(kAcquireSql, owner, Int2Array(numbers), limit, absl::ToInt64Microseconds(lease));
    for (const pqxx::row& row : rows) {
      Duty duty;
      duty.job_id = ReadText(row[0]);
      duty.kind = static_cast<DutyKind>(row[1].as<int>());
      duty.part = row[2].as<int32_t>();
      duty.epoch = row[3].as<int64_t>();
      duty.tries = row[4].as<int32_t>();
      duty.progress = ReadBytes(row[5]);
      duties.push_back(std::move(duty));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return duties;
}

absl::StatusOr<std::vector<bool>> PostgresStorage::RenewDuties(const std::vector<Duty>& duties,
                                                               absl::Duration lease) {
  std::vector<bool> held(duties.size(), false);
  if (duties.empty()) return held;
  std::vector<std::string_view> jobs;
  std::vector<int16_t> kinds;
  std::vector<int32_t> parts;
  std::vector<int64_t> epochs;
  for (const Duty& duty : duties) {
    jobs.push_back(duty.job_id);
    kinds.push_back(static_cast<int16_t>(duty.kind));
    parts.push_back(duty.part);
    epochs.push_back(duty.epoch);
  }
  // By the key; this controller's duties, every few seconds. Locked in the order of the key, as everywhere.
  const absl::Status status = db_->WriteVital("renew_duties", [&](Tx& tx) -> absl::Status {
    tx.Query(R"sql(
        SELECT FROM drover.duties d
        JOIN unnest($1::uuid[], $2::smallint[], $3::int[]) AS k (job_id, kind, part)
          USING (job_id, kind, part)
        ORDER BY d.job_id, d.kind, d.part FOR UPDATE OF d)sql",
             UuidArray(jobs), Int2Array(kinds), Int4Array(parts));
    const pqxx::result rows = tx.Query(R"sql(
        UPDATE drover.duties d SET due_at = clock_timestamp() + $5::bigint * interval '1 microsecond'
        FROM unnest($1::uuid[], $2::smallint[], $3::int[], $4::bigint[]) WITH ORDINALITY
          AS k (job_id, kind, part, epoch, i)
        WHERE d.job_id = k.job_id AND d.kind = k.kind AND d.part = k.part AND d.epoch = k.epoch
          AND d.owner IS NOT NULL
        RETURNING k.i)sql",
                                       UuidArray(jobs), Int2Array(kinds), Int4Array(parts), Int8Array(epochs),
                                       absl::ToInt64Microseconds(lease));
    for (const pqxx::row& row : rows) held[row[0].as<size_t>() - 1] = true;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return held;
}

absl::Status PostgresStorage::FinishDuty(const Duty& duty) {
  return db_->Write("finish_duty", [&](Tx& tx) -> absl::Status {
    const absl::StatusOr<std::string> progress = HoldDuty(tx, duty);
    if (!progress.ok()) {
      // Gone altogether: finished already, perhaps by a commit whose result was unknown.
      const pqxx::result rows =
          tx.Query("SELECT FROM drover.duties WHERE job_id = $1 AND kind = $2::smallint AND part = $3::int",
                   duty.job_id, static_cast<int>(duty.kind), duty.part);
      return rows.empty() ? absl::OkStatus() : progress.status();
    }
    DropDuty(tx, duty);
    return absl::OkStatus();
  });
}

absl::Status PostgresStorage::ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) {
  return db_->Write("release_duty", [&](Tx& tx) -> absl::Status {
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, duty).status());
    // What woke it while it was held makes it due at once; a failed try still waits.
    tx.Query(R"sql(
        UPDATE drover.duties SET
          owner = NULL, woken = false, tries = CASE WHEN $5::boolean THEN tries + 1 ELSE tries END,
          due_at = clock_timestamp() +
            CASE WHEN woken AND NOT $5::boolean THEN '0' ELSE $4::bigint * interval '1 microsecond' END
        WHERE job_id = $1 AND kind = $2::smallint AND part = $3::int)sql",
             duty.job_id, static_cast<int>(duty.kind), duty.part, absl::ToInt64Microseconds(delay), failed);
    return absl::OkStatus();
  });
}

absl::Status PostgresStorage::WakeFinish(const JobId& job_id) {
  if (!IsUuid(job_id)) return absl::OkStatus();
  return db_->Write("wake_finish", [&](Tx& tx) -> absl::Status {
    WakeFinishDuty(tx, job_id);
    return absl::OkStatus();
  });
}

}  // namespace drover
