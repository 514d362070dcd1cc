// Looking for work, and claiming it.
#include <algorithm>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/job_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"
#include "services/controller/storage/postgres/segments.h"
#include "services/controller/storage/slot_dealer.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

using lifecycle::Cause;
using lifecycle::State;

// A job's view; `came_back` by index leases_ownerless, one probe per job.
constexpr char kViewColumns[] =
    "s.job_id, s.state, s.reason_code, s.priority, s.version, s.succeeded + s.failed, s.next_batch, "
    "s.batches, "
    "b.came_back ";
constexpr char kViewTables[] =
    "FROM drover.job_state s CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM drover.leases l "
    "WHERE l.job_id = s.job_id AND l.session_id IS NULL) AS came_back) b ";
// By index leases_owned, one probe per job.
constexpr char kOwnsLease[] =
    "EXISTS (SELECT FROM drover.leases o WHERE o.job_id = s.job_id AND o.session_id IS NOT NULL) ";

JobView ReadView(const pqxx::row& row) {
  JobView view;
  view.job_id = ReadText(row[0]);
  view.state = lifecycle::StateFromNumber(row[1].as<int>()).value_or(State::kNew);
  view.reason_code = ReadText(row[2]);
  view.priority = row[3].as<int32_t>();
  view.version = row[4].as<int64_t>();
  view.executed = row[5].as<int64_t>();
  view.next_batch = row[6].as<int32_t>();
  view.batches = row[7].as<int32_t>();
  view.came_back = row[8].as<bool>();
  return view;
}

absl::StatusOr<std::vector<JobView>> ReadViews(Db& db, std::string_view name, const std::string& where,
                                               int limit) {
  std::vector<JobView> views;
  const absl::Status status = db.Read(name, [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.Query(StrCat("SELECT ", kViewColumns, kViewTables, where, " LIMIT $1::int"), limit);
    for (const pqxx::row& row : rows) views.push_back(ReadView(row));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return views;
}

// Leases of this job without an owner, oldest batch first; those that another transaction has locked are left
// to it, for nobody waits for a lease while holding job_state. By index leases_ownerless.
constexpr char kOwnerlessSql[] = R"sql(
  SELECT batch_no, lease_id, first_task, batch_tasks, task_count, done, tasks, notes
  FROM drover.leases WHERE job_id = $1 AND session_id IS NULL
  ORDER BY batch_no, lease_id LIMIT $2::int FOR UPDATE SKIP LOCKED)sql";

// The lease gets a new id, so that nothing of its former holders fits it any more. By the key, rows locked
// before.
constexpr char kRegrantSql[] = R"sql(
  UPDATE drover.leases l SET
    lease_id = k.new_id, session_id = k.session_id, attachment = k.attachment, tasks = k.tasks,
    task_count = k.task_count, done = 0, last_seq = 0, came_back = 0
  FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::uuid[], $6::bigint[], $7::bytea[], $8::int[])
    AS k (batch_no, lease_id, new_id, session_id, attachment, tasks, task_count)
  WHERE l.job_id = $1 AND l.batch_no = k.batch_no AND l.lease_id = k.lease_id)sql";

// The next batches at the cursor: by the key of batches; payloads are not touched.
constexpr char kNextBatchesSql[] = R"sql(
  SELECT batch_no, first_task, tasks FROM drover.batches
  WHERE job_id = $1 AND batch_no >= $2::int ORDER BY batch_no LIMIT $3::int)sql";

constexpr char kGrantSql[] = R"sql(
  INSERT INTO drover.leases
    (job_id, batch_no, lease_id, first_task, batch_tasks, task_count, session_id, attachment)
  SELECT $1::uuid, batch_no, lease_id, first_task, tasks, tasks, session_id, attachment
  FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::int[], $6::uuid[], $7::bigint[])
    AS k (batch_no, lease_id, first_task, tasks, session_id, attachment))sql";

class Claimer {
 public:
  Claimer(Tx& tx, const JobId& job_id, const std::vector<ClaimSlot>& slots,
          const std::function<LeaseId()>& new_lease_id)
      : tx_(tx), job_id_(job_id), slots_(slots), new_lease_id_(new_lease_id), dealer_(slots) {}

  absl::StatusOr<ClaimResult> Claim(int max_batches) {
    DROVER_ASSIGN_OR_RETURN(const LockedJob job, LockJob(tx_, job_id_));
    const lifecycle::Snapshot& before = job.snapshot;
    if (!lifecycle::IsClaimable(before.state, before.reason_code)) return result_;
    if (!dealer_.HasCredit() || max_batches <= 0) {
      result_.work_left = before.next_batch < before.batches || HasOwnerless();
      return result_;
    }
    DROVER_ASSIGN_OR_RETURN(const bool ownerless_left, TakeCameBack(max_batches));
    const int room = max_batches - static_cast<int>(result_.leases.size());
    DROVER_ASSIGN_OR_RETURN(const int32_t taken,
                            TakeNext(before.next_batch, std::min(room, before.batches - before.next_batch)));
    result_.work_left = ownerless_left || before.next_batch + taken < before.batches;
    if (result_.leases.empty()) return result_;
    DROVER_ASSIGN_OR_RETURN(const auto change, lifecycle::Decide(before, {Cause::kClaim, "", "", {}}));
    if (change) DROVER_RETURN_IF_ERROR(ApplyChange(tx_, job_id_, before, *change));
    return result_;
  }

 private:
  bool HasOwnerless() {
    return tx_
        .Query("SELECT EXISTS (SELECT FROM drover.leases WHERE job_id = $1 AND session_id IS NULL)",
               job_id_)[0][0]
        .as<bool>();
  }

  // Takes leases that came back; whether some are left.
  absl::StatusOr<bool> TakeCameBack(int limit) {
    const pqxx::result rows = tx_.Query(kOwnerlessSql, job_id_, limit);
    if (rows.empty()) return false;  // what others have locked right now shows up at the next look
    std::vector<SizedLease> begun;
    for (const pqxx::row& row : rows) {
      if (row[5].as<int32_t>() > 0) begun.push_back({Key(row), row[3].as<int32_t>()});
    }
    std::map<LeaseKey, TaskSet> recorded;
    if (!begun.empty()) {
      DROVER_ASSIGN_OR_RETURN(recorded, ReadRecordedTasks(tx_, job_id_, begun));
    }
    std::vector<int32_t> batch_nos, counts;
    std::vector<int64_t> old_ids, new_ids, attachments;
    std::vector<std::string_view> sessions;
    std::vector<std::optional<std::string>> tasks;
    size_t used = 0;
    for (; used < rows.size() && dealer_.HasCredit(); ++used) {
      const pqxx::row row = rows[used];
      const int32_t batch_tasks = row[3].as<int32_t>();
      DROVER_ASSIGN_OR_RETURN(std::optional<TaskSet> left, ReadTasks(row[6], batch_tasks));
      int32_t count = row[4].as<int32_t>();
      if (const auto found = recorded.find(Key(row)); found != recorded.end()) {
        if (!left) left = TaskSet::All(batch_tasks);
        left->Subtract(found->second);
        count = static_cast<int32_t>(left->count());
        if (count != row[4].as<int32_t>() - row[5].as<int32_t>()) {
          return Error(absl::StatusCode::kInternal, "LEASE_COUNT",
                       StrCat("job ", job_id_, " batch ", Key(row).batch_no, ": a lease that came back has ",
                              count, " tasks left by its segments, ",
                              row[4].as<int32_t>() - row[5].as<int32_t>(), " by its counts"));
        }
      }
      ClaimedLease lease;
      lease.slot = dealer_.Deal(count);
      lease.lease_id = new_lease_id_();
      lease.batch_no = Key(row).batch_no;
      lease.first_task = row[2].as<int64_t>();
      lease.batch_tasks = batch_tasks;
      lease.notes = ReadBytes(row[7]);
      batch_nos.push_back(lease.batch_no);
      old_ids.push_back(Key(row).lease_id);
      new_ids.push_back(lease.lease_id);
      sessions.push_back(slots_[lease.slot].session);
      attachments.push_back(slots_[lease.slot].attachment);
      counts.push_back(count);
      tasks.push_back(left ? std::optional<std::string>(left->Encode()) : std::nullopt);
      lease.tasks = std::move(left);
      result_.leases.push_back(std::move(lease));
    }
    const std::vector<std::optional<std::string_view>> views(tasks.begin(), tasks.end());
    const pqxx::result updated =
        tx_.Query(kRegrantSql, job_id_, Int4Array(batch_nos), Int8Array(old_ids), Int8Array(new_ids),
                  UuidArray(sessions), Int8Array(attachments), BytesArray(views), Int4Array(counts));
    if (updated.affected_rows() != used) {
      return Error(absl::StatusCode::kInternal, "REGRANT",
                   StrCat("job ", job_id_, ": a locked lease has gone"));
    }
    return used < rows.size() || static_cast<int>(rows.size()) == limit;
  }

  // Takes up to `limit` batches from the cursor; how many.
  absl::StatusOr<int32_t> TakeNext(BatchNo cursor, int limit) {
    if (limit <= 0 || !dealer_.HasCredit()) return 0;
    const pqxx::result rows = tx_.Query(kNextBatchesSql, job_id_, cursor, limit);
    std::vector<int32_t> batch_nos, counts;
    std::vector<int64_t> lease_ids, first_tasks, attachments;
    std::vector<std::string_view> sessions;
    for (size_t i = 0; i < rows.size() && dealer_.HasCredit(); ++i) {
      const pqxx::row row = rows[static_cast<pqxx::result::size_type>(i)];
      ClaimedLease lease;
      lease.batch_no = row[0].as<int32_t>();
      lease.first_task = row[1].as<int64_t>();
      lease.batch_tasks = row[2].as<int32_t>();
      lease.slot = dealer_.Deal(lease.batch_tasks);
      lease.lease_id = new_lease_id_();
      batch_nos.push_back(lease.batch_no);
      lease_ids.push_back(lease.lease_id);
      first_tasks.push_back(lease.first_task);
      counts.push_back(lease.batch_tasks);
      sessions.push_back(slots_[lease.slot].session);
      attachments.push_back(slots_[lease.slot].attachment);
      result_.leases.push_back(std::move(lease));
    }
    const auto taken = static_cast<int32_t>(batch_nos.size());
    if (taken == 0 || batch_nos.front() != cursor || batch_nos.back() != cursor + taken - 1) {
      return Error(absl::StatusCode::kInternal, "BATCH_MISSING",
                   StrCat("job ", job_id_, ": batches at ", cursor, " are missing"));
    }
    tx_.Query(kGrantSql, job_id_, Int4Array(batch_nos), Int8Array(lease_ids), Int8Array(first_tasks),
              Int4Array(counts), UuidArray(sessions), Int8Array(attachments));
    tx_.Query("UPDATE drover.job_state SET next_batch = next_batch + $2::int WHERE job_id = $1", job_id_,
              taken);
    return taken;
  }

  static LeaseKey Key(const pqxx::row& row) { return {row[0].as<int32_t>(), row[1].as<int64_t>()}; }

  Tx& tx_;
  const JobId& job_id_;
  const std::vector<ClaimSlot>& slots_;
  const std::function<LeaseId()>& new_lease_id_;
  SlotDealer dealer_;
  ClaimResult result_;
};

}  // namespace

absl::StatusOr<std::vector<JobView>> PostgresStorage::ListClaimable(
    int limit, const std::optional<ClaimablePosition>& after) {
  constexpr char kClaimable[] =
      "s.state IN (4, 5, 7) AND (s.state <> 7 OR s.reason_code = 'PREEMPTED') "
      "AND (s.next_batch < s.batches OR b.came_back) ";
  // Index job_state_live in its order; each controller, every 100 ms.
  if (!after) {
    return ReadViews(*db_, "list_claimable",
                     StrCat("WHERE ", kClaimable, "ORDER BY s.priority DESC, s.job_id"), limit);
  }
  if (!IsUuid(after->job_id)) return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "not a job id");
  // The rest of that priority, then the lower ones: two ranges of the index, so that nothing before the place
  // is passed over row by row, as it would be with one condition on both columns.
  std::vector<JobView> views;
  const absl::Status status = db_->Read("list_claimable_after", [&](Tx& tx) -> absl::Status {
    const std::string same =
        StrCat("SELECT ", kViewColumns, kViewTables, "WHERE ", kClaimable,
               "AND s.priority = $2::int AND s.job_id > $3::uuid ORDER BY s.job_id LIMIT $1::int");
    for (const pqxx::row& row : tx.Query(same, limit, after->priority, after->job_id)) {
      views.push_back(ReadView(row));
    }
    const int left = limit - static_cast<int>(views.size());
    if (left <= 0) return absl::OkStatus();
    const std::string lower =
        StrCat("SELECT ", kViewColumns, kViewTables, "WHERE ", kClaimable,
               "AND s.priority < $2::int ORDER BY s.priority DESC, s.job_id LIMIT $1::int");
    for (const pqxx::row& row : tx.Query(lower, left, after->priority)) views.push_back(ReadView(row));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return views;
}

absl::StatusOr<std::vector<JobView>> PostgresStorage::ViewJobs(const std::vector<JobId>& jobs) {
  std::vector<JobView> views;
  if (jobs.empty()) return views;
  // By the key: the jobs of this controller's leases, at each look.
  const absl::Status status = db_->Read("view_jobs", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(
        StrCat("SELECT ", kViewColumns, kViewTables, "WHERE s.job_id = ANY($1::uuid[])"), UuidArray(jobs));
    for (const pqxx::row& row : rows) views.push_back(ReadView(row));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return views;
}

absl::StatusOr<ClaimResult> PostgresStorage::Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots,
                                                   int max_batches,
                                                   const std::function<LeaseId()>& new_lease_id) {
  ClaimResult result;
  const absl::Status status = db_->Write("claim", [&](Tx& tx) -> absl::Status {
    DROVER_ASSIGN_OR_RETURN(result, Claimer(tx, job_id, slots, new_lease_id).Claim(max_batches));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<std::vector<JobView>> PostgresStorage::ListIdleActive(int limit) {
  // Index job_state_live; every second or so.
  return ReadViews(*db_, "list_idle_active",
                   StrCat("WHERE s.state = 5 AND (s.next_batch < s.batches OR b.came_back) AND NOT ",
                          kOwnsLease, "ORDER BY s.priority DESC, s.job_id"),
                   limit);
}

absl::StatusOr<std::optional<int32_t>> PostgresStorage::HighestRunningPriority() {
  std::optional<int32_t> highest;
  // Index job_state_live in its order, ends at the first hit; every second or so.
  const absl::Status status = db_->Read("highest_running", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(
        StrCat("SELECT s.priority FROM drover.job_state s WHERE s.state IN (4, 5, 6, 7, 10, 12) AND ",
               kOwnsLease, "ORDER BY s.priority DESC, s.job_id LIMIT 1"));
    if (!rows.empty()) highest = rows[0][0].as<int32_t>();
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return highest;
}

absl::StatusOr<std::vector<JobId>> PostgresStorage::ListPausable(int limit) {
  std::vector<JobId> jobs;
  // Index job_state_by_state; every second or so.
  const absl::Status status = db_->Read("list_pausable", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.Query(StrCat("SELECT s.job_id FROM drover.job_state s WHERE s.state = 6 AND NOT ", kOwnsLease,
                        "ORDER BY s.job_id LIMIT $1::int"),
                 limit);
    for (const pqxx::row& row : rows) jobs.push_back(ReadText(row[0]));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return jobs;
}

}  // namespace drover
