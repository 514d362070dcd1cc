// What time takes away, and what operators want to know.
#include "common/status/status.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {

using postgres::Tx;

absl::StatusOr<int64_t> PostgresStorage::PurgeEndedLeases(int limit) {
  int64_t purged = 0;
  // Index leases_ownerless, in keyed steps, every few seconds; rows that somebody has locked are left for the
  // next time.
  const absl::Status status = db_->Write("purge_ended_leases", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        DELETE FROM drover.leases WHERE (job_id, batch_no, lease_id) IN (
          SELECT l.job_id, l.batch_no, l.lease_id
          FROM drover.leases l JOIN drover.job_state s ON s.job_id = l.job_id
          WHERE l.session_id IS NULL AND s.state IN (9, 11, 13)
          LIMIT $1::int FOR UPDATE OF l SKIP LOCKED))sql",
                                       limit);
    purged = static_cast<int64_t>(rows.affected_rows());
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return purged;
}

absl::StatusOr<absl::Duration> PostgresStorage::OldestTransaction() {
  absl::Duration oldest;
  // What pg_stat_activity shows to this role: its own sessions, or all with pg_read_all_stats.
  const absl::Status status = db_->Read("oldest_transaction", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        SELECT coalesce((extract(epoch FROM max(clock_timestamp() - xact_start)) * 1000000)::bigint, 0)
        FROM pg_catalog.pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL)sql");
    oldest = absl::Microseconds(rows[0][0].as<int64_t>());
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return oldest;
}

}  // namespace drover
