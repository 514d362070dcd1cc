// PREPARE: batches coming in. Locks in the order duty -> batches -> job_state.
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/duty_rows.h"
#include "services/controller/storage/postgres/job_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

using lifecycle::Cause;
using lifecycle::State;

constexpr char kAppendSql[] = R"sql(
  INSERT INTO drover.batches (job_id, batch_no, first_task, tasks, payload)
  SELECT $1::uuid, $2::int + (k.i - 1)::int, k.first_task, k.tasks, k.payload
  FROM unnest($3::bigint[], $4::int[], $5::bytea[]) WITH ORDINALITY AS k (first_task, tasks, payload, i))sql";

constexpr char kProgressSql[] = R"sql(
  UPDATE drover.duties SET progress = $2, tries = 0 WHERE job_id = $1 AND kind = 1 AND part = 0)sql";

// In a statement of its own: the state may have changed since it was last read.
absl::Status NotPreparing(Tx& tx, const JobId& job_id) {
  const pqxx::result rows = tx.Query("SELECT state FROM drover.job_state WHERE job_id = $1", job_id);
  if (rows.empty()) return JobNotFound(job_id);
  const std::string state(
      lifecycle::StateName(lifecycle::StateFromNumber(rows[0][0].as<int>()).value_or(State::kNew)));
  return Error(absl::StatusCode::kFailedPrecondition, "JOB_STATE",
               StrCat("the job is ", state, ", not PREPARING any more"), {{"state", state}});
}

// The chunk's tasks follow each other, beginning at `first`; the number after the last.
absl::StatusOr<int64_t> EndOf(const Storage::PrepareChunk& chunk, int64_t first) {
  int64_t next = first;
  for (const NewBatch& batch : chunk.batches) {
    if (batch.first_task != next || batch.tasks <= 0) {
      return Error(absl::StatusCode::kInternal, "CHUNK_GAP",
                   StrCat("a batch begins at task ", batch.first_task, ", not at ", next));
    }
    next += batch.tasks;
  }
  return next;
}

void InsertBatches(Tx& tx, const JobId& job_id, BatchNo next_no, const std::vector<NewBatch>& batches) {
  std::vector<int64_t> first_tasks;
  std::vector<int32_t> tasks;
  std::vector<std::optional<std::string_view>> payloads;
  for (const NewBatch& batch : batches) {
    first_tasks.push_back(batch.first_task);
    tasks.push_back(batch.tasks);
    payloads.emplace_back(batch.payload);
  }
  tx.Query(kAppendSql, job_id, next_no, Int8Array(first_tasks), Int4Array(tasks), BytesArray(payloads));
}

// The chunk, within its transaction. `stopped` is set when the job is not Preparing any more: the duty has
// then gone with it, and nothing else was written.
absl::Status Append(Tx& tx, const Duty& duty, const Storage::PrepareChunk& chunk, absl::Status& stopped) {
  DROVER_ASSIGN_OR_RETURN(const std::string progress, HoldDuty(tx, duty));
  // Only the duty's holder changes these; the state may change until the row is locked below.
  const pqxx::result before = tx.Query(
      StrCat("SELECT ", kSnapshotColumns, " FROM drover.job_state s WHERE s.job_id = $1"), duty.job_id);
  if (before.empty()) return JobNotFound(duty.job_id);
  const lifecycle::Snapshot known = ReadSnapshot(before[0]);
  const int64_t first = chunk.batches.empty() ? known.tasks : chunk.batches.front().first_task;
  DROVER_ASSIGN_OR_RETURN(const int64_t end, EndOf(chunk, first));
  const bool again = first < known.tasks && end == known.tasks && progress == chunk.progress;
  if (again && !chunk.last) return absl::OkStatus();  // a commit whose result was unknown did happen
  if (first != known.tasks) {
    return Error(
        absl::StatusCode::kInternal, "CHUNK_GAP",
        StrCat("job ", duty.job_id, " has ", known.tasks, " tasks, and the chunk begins at ", first));
  }
  if (known.state == State::kPreparing) {
    if (!chunk.batches.empty()) InsertBatches(tx, duty.job_id, known.batches, chunk.batches);
    tx.Query(kProgressSql, duty.job_id, Bytes(chunk.progress));
    const pqxx::result rows = tx.Query(
        StrCat("UPDATE drover.job_state s SET batches = batches + $2::int, tasks = tasks + $3::bigint, "
               "prepared = $4::boolean WHERE job_id = $1 AND state = 2 RETURNING ",
               kSnapshotColumns),
        duty.job_id, static_cast<int32_t>(chunk.batches.size()), end - first, chunk.last);
    if (!rows.empty()) {
      if (!chunk.last) return absl::OkStatus();
      DropDuty(tx, duty);
      const lifecycle::Snapshot after = ReadSnapshot(rows[0]);
      DROVER_ASSIGN_OR_RETURN(const auto change, lifecycle::Decide(after, {Cause::kPrepared, "", "", {}}));
      return change ? ApplyChange(tx, duty.job_id, after, *change) : absl::OkStatus();
    }
  }
  stopped = NotPreparing(tx, duty.job_id);
  return stopped;
}

// Takes away the prepare duty of a job that has left Preparing.
absl::Status DropStaleDuty(Db& db, const Duty& duty) {
  return db.Write("drop_prepare_duty", [&](Tx& tx) -> absl::Status {
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, duty).status());
    DROVER_ASSIGN_OR_RETURN(const LockedJob job, LockJob(tx, duty.job_id));
    if (job.snapshot.state != State::kNew && job.snapshot.state != State::kPreparing) DropDuty(tx, duty);
    return absl::OkStatus();
  });
}

}  // namespace

absl::Status PostgresStorage::AppendBatches(const Duty& duty, const PrepareChunk& chunk) {
  absl::Status stopped;
  const absl::Status status =
      db_->Write("append_batches", [&](Tx& tx) { return Append(tx, duty, chunk, stopped); });
  // Rolled back, batches and all. If this fails too, the duty's next holder gets here again.
  if (!stopped.ok()) DropStaleDuty(*db_, duty).IgnoreError();
  return status;
}

absl::Status PostgresStorage::FailPreparation(const Duty& duty, const lifecycle::Failure& failure) {
  return db_->Write("fail_preparation", [&](Tx& tx) -> absl::Status {
    DROVER_RETURN_IF_ERROR(HoldDuty(tx, duty).status());
    DropDuty(tx, duty);
    DROVER_ASSIGN_OR_RETURN(const LockedJob job, LockJob(tx, duty.job_id));
    const lifecycle::Request request{Cause::kManifestFailed, failure.reason, "", {failure}};
    DROVER_ASSIGN_OR_RETURN(const auto change, lifecycle::Decide(job.snapshot, request));
    // None: a person has cancelled it meanwhile, and that stands.
    return change ? ApplyChange(tx, duty.job_id, job.snapshot, *change) : absl::OkStatus();
  });
}

}  // namespace drover
