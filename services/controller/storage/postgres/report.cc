// REPORT: its plan, its files, its end. Locks in the order duties (finish before files) -> reports ->
// job_state.
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/duty_rows.h"
#include "services/controller/storage/postgres/job_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

// A row may be there before the plan, with the error of an attempt to make it.
constexpr char kPlanSql[] = R"sql(
  INSERT INTO drover.reports (job_id, created_at, deadline) VALUES ($1, $2::timestamptz, $3::timestamptz)
  ON CONFLICT (job_id) DO UPDATE SET created_at = excluded.created_at, deadline = excluded.deadline)sql";

constexpr char kPlanFilesSql[] = R"sql(
  WITH files AS (
    INSERT INTO drover.report_files
      (job_id, part, failed_rows, first_batch, end_batch, key, written, file_rows, bytes, md5, sha256)
    SELECT $1::uuid, k.* FROM
      unnest($2::int[], $3::boolean[], $4::int[], $5::int[], $6::text[], $7::boolean[], $8::bigint[],
             $9::bigint[], $10::text[], $11::text[]) AS k
    RETURNING job_id, part, written)
  INSERT INTO drover.duties (job_id, kind, part, due_at, created_at)
  SELECT job_id, 3, part, statement_timestamp(), statement_timestamp() FROM files WHERE NOT written)sql";

constexpr char kFileColumns[] =
    "SELECT part, failed_rows, first_batch, end_batch, key, upload_id, file_rows, bytes, md5, sha256, "
    "written "
    "FROM drover.report_files ";

ReportFile ReadFile(const pqxx::row& row) {
  ReportFile file;
  file.part = row[0].as<int32_t>();
  file.failed_rows = row[1].as<bool>();
  file.first_batch = row[2].as<int32_t>();
  file.end_batch = row[3].as<int32_t>();
  file.key = ReadText(row[4]);
  file.upload_id = ReadText(row[5]);
  file.rows = row[6].as<int64_t>();
  file.bytes = row[7].as<int64_t>();
  file.md5 = ReadText(row[8]);
  file.sha256 = ReadText(row[9]);
  file.written = row[10].as<bool>();
  return file;
}

std::optional<ReportPlan> ReadPlan(Tx& tx, const JobId& job_id) {
  const pqxx::result reports = tx.Query(R"sql(
      SELECT (extract(epoch FROM created_at) * 1000000)::bigint,
             (extract(epoch FROM deadline) * 1000000)::bigint
      FROM drover.reports WHERE job_id = $1 AND created_at IS NOT NULL)sql",
                                        job_id);
  if (reports.empty()) return std::nullopt;
  ReportPlan plan;
  plan.created = ReadTime(reports[0][0]).value_or(absl::InfinitePast());
  plan.deadline = ReadTime(reports[0][1]).value_or(absl::InfinitePast());
  for (const pqxx::row& row : tx.Query(StrCat(kFileColumns, "WHERE job_id = $1 ORDER BY part"), job_id)) {
    plan.files.push_back(ReadFile(row));
  }
  return plan;
}

}  // namespace

absl::StatusOr<ReportPlan> PostgresStorage::PlanReport(const Duty& finish, const ReportPlan& plan) {
  ReportPlan stored;
  const absl::Status status = db_->Write("plan_report", [&](Tx& tx) -> absl::Status {
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, finish).status());
    if (std::optional<ReportPlan> first = ReadPlan(tx, finish.job_id)) {
      stored = *std::move(first);
      return absl::OkStatus();
    }
    std::vector<int32_t> parts, first_batches, end_batches;
    std::vector<int64_t> rows, bytes;
    std::vector<bool> failed_rows, written;
    std::vector<std::string_view> keys, md5s, sha256s;
    int32_t files_written = 0;
    for (const ReportFile& file : plan.files) {
      parts.push_back(file.part);
      failed_rows.push_back(file.failed_rows);
      first_batches.push_back(file.first_batch);
      end_batches.push_back(file.end_batch);
      keys.push_back(file.key);
      written.push_back(file.written);
      rows.push_back(file.rows);
      bytes.push_back(file.bytes);
      md5s.push_back(file.md5);
      sha256s.push_back(file.sha256);
      if (file.written) ++files_written;
    }
    tx.Query(kPlanSql, finish.job_id, Timestamp(plan.created), Timestamp(plan.deadline));
    tx.Query(kPlanFilesSql, finish.job_id, Int4Array(parts), BoolArray(failed_rows), Int4Array(first_batches),
             Int4Array(end_batches), TextArray(keys), BoolArray(written), Int8Array(rows), Int8Array(bytes),
             TextArray(md5s), TextArray(sha256s));
    tx.Query(R"sql(
        UPDATE drover.job_state SET report_state = 2, report_files = $2::int, report_files_written = $3::int
        WHERE job_id = $1)sql",
             finish.job_id, static_cast<int32_t>(parts.size()), files_written);
    stored = ReadPlan(tx, finish.job_id).value_or(plan);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return stored;
}

absl::StatusOr<std::optional<ReportPlan>> PostgresStorage::ReadReportPlan(const JobId& job_id) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  std::optional<ReportPlan> plan;
  const absl::Status status = db_->Read("read_report_plan", [&](Tx& tx) -> absl::Status {
    plan = ReadPlan(tx, job_id);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return plan;
}

absl::StatusOr<ReportFile> PostgresStorage::ReadReportFile(const JobId& job_id, int32_t part) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  ReportFile file;
  const absl::Status status = db_->Read("read_report_file", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.Query(StrCat(kFileColumns, "WHERE job_id = $1 AND part = $2::int"), job_id, part);
    if (rows.empty()) {
      return Error(absl::StatusCode::kNotFound, "REPORT_FILE_NOT_FOUND",
                   StrCat("the report of job ", job_id, " has no file ", part));
    }
    file = ReadFile(rows[0]);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return file;
}

absl::Status PostgresStorage::SetUpload(const Duty& file_duty, const std::string& upload_id) {
  return db_->Write("set_upload", [&](Tx& tx) -> absl::Status {
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, file_duty).status());
    tx.Query("UPDATE drover.report_files SET upload_id = $3 WHERE job_id = $1 AND part = $2::int",
             file_duty.job_id, file_duty.part, upload_id);
    return absl::OkStatus();
  });
}

absl::Status PostgresStorage::FinishReportFile(const Duty& file_duty, const ReportFile& file) {
  if (!IsUuid(file_duty.job_id)) return DutyLost(file_duty);
  return db_->Write("finish_report_file", [&](Tx& tx) -> absl::Status {
    // The finish duty first, which is woken below: SettleReport locks it before the files' duties as well.
    tx.Query("SELECT FROM drover.duties WHERE job_id = $1 AND kind = 2 AND part = 0 FOR UPDATE",
             file_duty.job_id);
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, file_duty).status());
    const pqxx::result updated =
        tx.Query(R"sql(
        UPDATE drover.report_files SET
          file_rows = $3::bigint, bytes = $4::bigint, md5 = $5, sha256 = $6, written = true, upload_id = ''
        WHERE job_id = $1 AND part = $2::int AND NOT written)sql",
                 file_duty.job_id, file_duty.part, file.rows, file.bytes, file.md5, file.sha256);
    DropDuty(tx, file_duty);
    WakeFinishDuty(tx, file_duty.job_id);
    tx.Query(
        "UPDATE drover.job_state SET report_files_written = report_files_written + $2::int WHERE job_id = $1",
        file_duty.job_id, static_cast<int32_t>(updated.affected_rows()));
    return absl::OkStatus();
  });
}

absl::Status PostgresStorage::SettleReport(const Duty& finish, ReportState state,
                                           const std::string& manifest_key, const std::string& error) {
  if (state != ReportState::kWritten && state != ReportState::kFailed && state != ReportState::kNotNeeded) {
    return absl::InvalidArgumentError("a report settles as written, failed or not needed");
  }
  return db_->Write("settle_report", [&](Tx& tx) -> absl::Status {
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, finish).status());
    tx.Query("SELECT FROM drover.duties WHERE job_id = $1 AND kind = 3 ORDER BY part FOR UPDATE",
             finish.job_id);
    tx.Query("DELETE FROM drover.duties WHERE job_id = $1 AND kind = 3", finish.job_id);
    tx.Query(R"sql(
        INSERT INTO drover.reports (job_id, manifest_key, error) VALUES ($1, $2, $3)
        ON CONFLICT (job_id) DO UPDATE SET manifest_key = excluded.manifest_key, error = excluded.error)sql",
             finish.job_id, manifest_key, CleanText(error));
    tx.Query(R"sql(
        UPDATE drover.job_state SET report_state = $2::smallint, report_settled_at = statement_timestamp()
        WHERE job_id = $1)sql",
             finish.job_id, static_cast<int>(state));
    return absl::OkStatus();
  });
}

absl::Status PostgresStorage::NoteReportError(const JobId& job_id, const std::string& error) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  return db_->Write("note_report_error", [&](Tx& tx) -> absl::Status {
    // SettleReport holds the finish duty too: what it said of the report must not be overwritten by a file's
    // duty that comes late.
    tx.Query("SELECT FROM drover.duties WHERE job_id = $1 AND kind = 2 AND part = 0 FOR UPDATE", job_id);
    const pqxx::result open =
        tx.Query("SELECT FROM drover.job_state WHERE job_id = $1 AND report_settled_at IS NULL", job_id);
    if (open.empty()) return absl::OkStatus();
    tx.Query(R"sql(
        INSERT INTO drover.reports (job_id, error) VALUES ($1, $2)
        ON CONFLICT (job_id) DO UPDATE SET error = excluded.error)sql",
             job_id, CleanText(error));
    return absl::OkStatus();
  });
}

}  // namespace drover
