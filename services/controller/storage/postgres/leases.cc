// Who owns what: attaching, reconciling, returning.
#include <algorithm>
#include <map>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/postgres_storage.h"
#include "services/controller/storage/postgres/segments.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

// All lease rows are locked in the order of their key, wherever more than one is.

// By the key. READ COMMITTED gives the rows as they are once locked; one that has got a new id or another
// owner meanwhile is left out.
constexpr char kLockNamedSql[] = R"sql(
  SELECT l.batch_no, l.lease_id, l.batch_tasks, l.tasks, l.last_seq, l.done
  FROM drover.leases l
  JOIN unnest($3::int[], $4::bigint[]) AS k (batch_no, lease_id) USING (batch_no, lease_id)
  WHERE l.job_id = $1 AND l.session_id = $2
  ORDER BY l.batch_no, l.lease_id FOR UPDATE OF l)sql";

// Only ever raises. By the key, rows locked before.
constexpr char kMarkSql[] = R"sql(
  UPDATE drover.leases l SET attachment = $3::bigint
  FROM unnest($4::int[], $5::bigint[]) AS k (batch_no, lease_id)
  WHERE l.job_id = $1 AND l.batch_no = k.batch_no AND l.lease_id = k.lease_id
    AND l.session_id = $2 AND l.attachment < $3::bigint)sql";

// Index leases_by_session.
constexpr char kJobsOfOlderSql[] = R"sql(
  SELECT DISTINCT job_id FROM drover.leases WHERE session_id = $1 AND attachment < $2::bigint
  ORDER BY job_id)sql";

constexpr char kLockOlderSql[] = R"sql(
  SELECT batch_no, lease_id, attachment FROM drover.leases
  WHERE job_id = $1 AND session_id = $2 AND attachment < $3::bigint
  ORDER BY batch_no, lease_id FOR UPDATE)sql";

constexpr char kLockFencedSql[] = R"sql(
  SELECT l.batch_no, l.lease_id, l.attachment FROM drover.leases l
  JOIN unnest($2::int[], $3::bigint[], $4::uuid[], $5::bigint[])
      AS k (batch_no, lease_id, session_id, attachment)
    USING (batch_no, lease_id, session_id, attachment)
  WHERE l.job_id = $1
  ORDER BY l.batch_no, l.lease_id FOR UPDATE OF l)sql";

// By the key, rows locked (and so checked) before.
constexpr char kReturnSql[] = R"sql(
  UPDATE drover.leases l SET
    session_id = NULL, attachment = 0, came_back = $2::smallint, maybe_ran = maybe_ran OR $2::smallint = 1
  FROM unnest($3::int[], $4::bigint[]) AS k (batch_no, lease_id)
  WHERE l.job_id = $1 AND l.batch_no = k.batch_no AND l.lease_id = k.lease_id
    AND l.session_id IS NOT NULL)sql";

// Makes the locked leases of `rows` (batch, id) ownerless; how many.
int64_t ReturnLocked(Tx& tx, const JobId& job_id, const pqxx::result& rows, CameBack how) {
  if (rows.empty()) return 0;
  std::vector<int32_t> batch_nos;
  std::vector<int64_t> lease_ids;
  for (const pqxx::row& row : rows) {
    batch_nos.push_back(row[0].as<int32_t>());
    lease_ids.push_back(row[1].as<int64_t>());
  }
  return static_cast<int64_t>(
      tx.Query(kReturnSql, job_id, static_cast<int>(how), Int4Array(batch_nos), Int8Array(lease_ids))
          .affected_rows());
}

Storage::OwnedLease ReadOwned(const pqxx::row& row) {
  return {
      ReadText(row[0]), {row[1].as<int32_t>(), row[2].as<int64_t>()}, ReadText(row[3]), row[4].as<int64_t>()};
}

absl::Status MarkOfJob(Tx& tx, const SessionId& session, int64_t attachment, const JobId& job_id,
                       const std::vector<LeaseKey>& keys, std::vector<HeldLeaseRow>& held) {
  std::vector<int32_t> batch_nos;
  std::vector<int64_t> lease_ids;
  for (const LeaseKey& key : keys) {
    batch_nos.push_back(key.batch_no);
    lease_ids.push_back(key.lease_id);
  }
  const pqxx::result rows =
      tx.Query(kLockNamedSql, job_id, session, Int4Array(batch_nos), Int8Array(lease_ids));
  if (rows.empty()) return absl::OkStatus();
  tx.Query(kMarkSql, job_id, session, attachment, Int4Array(batch_nos), Int8Array(lease_ids));
  std::vector<SizedLease> begun;
  for (const pqxx::row& row : rows) {
    HeldLeaseRow lease;
    lease.job_id = job_id;
    lease.key = {row[0].as<int32_t>(), row[1].as<int64_t>()};
    lease.batch_tasks = row[2].as<int32_t>();
    DROVER_ASSIGN_OR_RETURN(lease.tasks, ReadTasks(row[3], lease.batch_tasks));
    lease.last_sequence = row[4].as<int64_t>();
    if (row[5].as<int32_t>() > 0) begun.push_back({lease.key, lease.batch_tasks});
    held.push_back(std::move(lease));
  }
  if (begun.empty()) return absl::OkStatus();
  DROVER_ASSIGN_OR_RETURN(auto recorded, ReadRecordedTasks(tx, job_id, begun));
  for (HeldLeaseRow& lease : held) {
    if (const auto found = recorded.find(lease.key); found != recorded.end())
      lease.recorded = std::move(found->second);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<HeldLeaseRow>> PostgresStorage::MarkLeases(
    const SessionId& session, int64_t attachment, const std::vector<std::pair<JobId, LeaseKey>>& leases) {
  std::map<JobId, std::vector<LeaseKey>> by_job;
  for (const auto& [job_id, key] : leases) {
    if (IsUuid(job_id)) by_job[job_id].push_back(key);
  }
  std::vector<HeldLeaseRow> held;
  if (!IsUuid(session)) return held;
  for (auto& [job_id, keys] : by_job) {
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    std::vector<HeldLeaseRow> of_job;
    DROVER_RETURN_IF_ERROR(db_->Write("mark_leases", [&](Tx& tx) -> absl::Status {
      return MarkOfJob(tx, session, attachment, job_id, keys, of_job);
    }));
    std::ranges::move(of_job, std::back_inserter(held));
  }
  return held;
}

absl::StatusOr<int64_t> PostgresStorage::ReturnOlderLeases(const SessionId& session, int64_t attachment) {
  if (!IsUuid(session)) return 0;
  std::vector<JobId> jobs;
  DROVER_RETURN_IF_ERROR(db_->Read("jobs_of_older_leases", [&](Tx& tx) -> absl::Status {
    for (const pqxx::row& row : tx.Query(kJobsOfOlderSql, session, attachment))
      jobs.push_back(ReadText(row[0]));
    return absl::OkStatus();
  }));
  int64_t returned = 0;
  for (const JobId& job_id : jobs) {
    DROVER_RETURN_IF_ERROR(db_->Write("return_older_leases", [&](Tx& tx) -> absl::Status {
      returned += ReturnLocked(tx, job_id, tx.Query(kLockOlderSql, job_id, session, attachment),
                               CameBack::kGivenBack);
      return absl::OkStatus();
    }));
  }
  return returned;
}

absl::StatusOr<std::vector<Storage::OwnedLease>> PostgresStorage::ListOwnedLeases(
    const std::vector<std::pair<SessionId, int64_t>>& attachments) {
  std::vector<OwnedLease> leases;
  if (attachments.empty()) return leases;
  std::vector<std::string_view> sessions;
  std::vector<int64_t> numbers;
  for (const auto& [session, number] : attachments) {
    sessions.push_back(session);
    numbers.push_back(number);
  }
  // Index leases_by_session, for the streams of this controller, every few seconds.
  const absl::Status status = db_->Read("list_owned_leases", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        SELECT l.job_id, l.batch_no, l.lease_id, l.session_id, l.attachment FROM drover.leases l
        JOIN unnest($1::uuid[], $2::bigint[]) AS k (session_id, attachment)
          USING (session_id, attachment))sql",
                                       UuidArray(sessions), Int8Array(numbers));
    for (const pqxx::row& row : rows) leases.push_back(ReadOwned(row));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return leases;
}

absl::StatusOr<int64_t> PostgresStorage::ReturnLeases(const JobId& job_id,
                                                      const std::vector<OwnedLease>& leases, CameBack how) {
  if (how == CameBack::kNo) return absl::InvalidArgumentError("a lease comes back lost or given back");
  if (leases.empty() || !IsUuid(job_id)) return 0;
  std::vector<int32_t> batch_nos;
  std::vector<int64_t> lease_ids, attachments;
  std::vector<std::string_view> sessions;
  for (const OwnedLease& lease : leases) {
    batch_nos.push_back(lease.key.batch_no);
    lease_ids.push_back(lease.key.lease_id);
    sessions.push_back(lease.session);
    attachments.push_back(lease.attachment);
  }
  int64_t returned = 0;
  const absl::Status status = db_->Write("return_leases", [&](Tx& tx) -> absl::Status {
    const pqxx::result locked = tx.Query(kLockFencedSql, job_id, Int4Array(batch_nos), Int8Array(lease_ids),
                                         UuidArray(sessions), Int8Array(attachments));
    returned = ReturnLocked(tx, job_id, locked, how);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return returned;
}

absl::StatusOr<std::vector<Storage::StrandedLease>> PostgresStorage::ListStrandedLeases(int limit) {
  std::vector<StrandedLease> leases;
  // Joins all owned leases with all sessions: some thousands of each, every few seconds.
  const absl::Status status = db_->Read("list_stranded_leases", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        SELECT l.job_id, l.batch_no, l.lease_id, l.session_id, l.attachment, s.session_id IS NULL
        FROM drover.leases l LEFT JOIN drover.sessions s ON s.session_id = l.session_id
        WHERE l.session_id IS NOT NULL AND (s.session_id IS NULL OR l.attachment < s.attachment)
        ORDER BY l.job_id, l.batch_no, l.lease_id LIMIT $1::int)sql",
                                       limit);
    for (const pqxx::row& row : rows) leases.push_back({ReadOwned(row), row[5].as<bool>()});
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return leases;
}

}  // namespace drover
