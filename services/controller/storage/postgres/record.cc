// RECORD: outcomes coming in. Locks in the order leases (sorted) -> segments -> job_state; what decides is
// read from the locked rows, or after them in a statement of its own. Rows of failure_groups are read and
// written under the lock of job_state, so they are never waited for.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/failures.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/job_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"
#include "services/controller/storage/postgres/segments.h"

namespace drover {
namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

// By the key of leases; rows come as they are once locked. A lease that got another id meanwhile is left out.
constexpr char kLockLeasesSql[] = R"sql(
  SELECT l.batch_no, l.lease_id, l.session_id, l.first_task, l.batch_tasks, l.tasks, l.task_count, l.done,
         l.last_seq, l.maybe_ran, l.notes
  FROM drover.leases l
  JOIN unnest($2::int[], $3::bigint[]) AS k (batch_no, lease_id) USING (batch_no, lease_id)
  WHERE l.job_id = $1
  ORDER BY l.batch_no, l.lease_id FOR UPDATE OF l)sql";

// The key filter. By the key of outcome_segments.
constexpr char kStoredKeysSql[] = R"sql(
  SELECT s.batch_no, s.lease_id, s.seq FROM drover.outcome_segments s
  JOIN unnest($2::int[], $3::bigint[], $4::bigint[]) AS k (batch_no, lease_id, seq)
    USING (batch_no, lease_id, seq)
  WHERE s.job_id = $1)sql";

constexpr char kInsertSegmentsSql[] = R"sql(
  INSERT INTO drover.outcome_segments
    (job_id, batch_no, lease_id, seq, tasks, succeeded, failed, payload, recorded_at)
  SELECT $1::uuid, k.*, statement_timestamp() FROM
    unnest($2::int[], $3::bigint[], $4::bigint[], $5::bytea[], $6::int[], $7::int[], $8::bytea[]) AS k)sql";

// The next three by the key of leases, rows locked before.
constexpr char kEndLeasesSql[] = R"sql(
  DELETE FROM drover.leases l USING unnest($2::int[], $3::bigint[]) AS k (batch_no, lease_id)
  WHERE l.job_id = $1 AND l.batch_no = k.batch_no AND l.lease_id = k.lease_id)sql";

constexpr char kUpdateLeasesSql[] = R"sql(
  UPDATE drover.leases l SET
    tasks = k.tasks, task_count = k.task_count, done = k.done, last_seq = k.last_seq, notes = k.notes
  FROM unnest($2::int[], $3::bigint[], $4::bytea[], $5::int[], $6::int[], $7::bigint[], $8::bytea[])
    AS k (batch_no, lease_id, tasks, task_count, done, last_seq, notes)
  WHERE l.job_id = $1 AND l.batch_no = k.batch_no AND l.lease_id = k.lease_id)sql";

constexpr char kGivenBackSql[] = R"sql(
  INSERT INTO drover.leases
    (job_id, batch_no, lease_id, first_task, batch_tasks, tasks, task_count, maybe_ran, notes, attachment,
     came_back)
  SELECT $1::uuid, k.*, 0, 2
  FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::int[], $6::bytea[], $7::int[], $8::boolean[],
              $9::bytea[])
    AS k)sql";

constexpr char kWriteFailuresSql[] = R"sql(
  INSERT INTO drover.failure_groups (job_id, http_status, code, tasks, examples)
  SELECT $1::uuid, k.http_status, k.code, k.tasks, k.examples::bigint[]
  FROM unnest($2::int[], $3::text[], $4::bigint[], $5::text[]) AS k (http_status, code, tasks, examples)
  ON CONFLICT (job_id, http_status, code) DO UPDATE SET tasks = excluded.tasks, examples = excluded.examples)sql";

// A lease row as this transaction has it locked, and as the segments change it.
struct LeaseRow {
  SessionId session;  // "" without an owner
  int64_t first_task = 0;
  int32_t batch_tasks = 0;
  std::optional<TaskSet> tasks;
  int32_t task_count = 0;
  int32_t done = 0;
  int64_t last_seq = 0;
  bool maybe_ran = false;
  std::string notes;
  bool changed = false;
  bool ended = false;
};

// Tasks given back, to become a lease of their own.
struct GivenBack {
  BatchNo batch_no = 0;
  LeaseId lease_id = 0;
  const LeaseRow* from = nullptr;
  std::string tasks;
  int32_t count = 0;
};

using SegmentKey = std::tuple<BatchNo, LeaseId, int64_t>;

SegmentKey KeyOf(const SegmentWrite& segment) {
  return {segment.lease.batch_no, segment.lease.lease_id, segment.sequence};
}

// Whether the segment fits what is left of its lease. The controller has checked it against its bitmap (and
// closed the stream if it lied); this is the fence behind the fence.
bool Fits(const SegmentWrite& segment, const LeaseRow& lease) {
  if (segment.succeeded < 0 || segment.failed < 0) return false;
  const int64_t executed = int64_t{segment.succeeded} + segment.failed;
  const TaskSet& returned = segment.returned;
  if (!segment.executed) {  // all of the batch, at once; the lease may name all of it as well
    return lease.task_count == lease.batch_tasks && lease.done == 0 && executed == lease.batch_tasks &&
           returned.empty();
  }
  if (static_cast<int64_t>(segment.executed->count()) != executed) return false;
  if (executed + static_cast<int64_t>(returned.count()) > lease.task_count - lease.done) return false;
  if (segment.executed->Intersects(returned)) return false;
  if (!lease.tasks) {
    return segment.executed->end() <= static_cast<size_t>(lease.batch_tasks) &&
           returned.end() <= static_cast<size_t>(lease.batch_tasks);
  }
  return segment.executed->IsSubsetOf(*lease.tasks) && returned.IsSubsetOf(*lease.tasks);
}

class Recorder {
 public:
  Recorder(Tx& tx, const JobId& job_id, const std::vector<SegmentWrite>& segments)
      : tx_(tx), job_id_(job_id), segments_(segments), order_(segments.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::stable_sort(order_, {}, [&](size_t i) { return KeyOf(segments_[i]); });
    result_.results.assign(segments.size(), SegmentResult::kLost);
    result_.lease_ended.assign(segments.size(), false);
  }

  absl::StatusOr<RecordResult> Record(const lifecycle::FailurePolicy& policy) {
    DROVER_RETURN_IF_ERROR(LockLeases());
    FindStored();
    for (const size_t i : order_) Judge(i);
    if (recorded_.empty()) return result_;
    InsertSegments();
    DROVER_RETURN_IF_ERROR(WriteLeases());
    DROVER_RETURN_IF_ERROR(Count(policy));
    return result_;
  }

 private:
  absl::Status LockLeases() {
    std::set<LeaseKey> keys;
    for (const SegmentWrite& segment : segments_) keys.insert(segment.lease);
    std::vector<int32_t> batch_nos;
    std::vector<int64_t> lease_ids;
    for (const LeaseKey& key : keys) {
      batch_nos.push_back(key.batch_no);
      lease_ids.push_back(key.lease_id);
    }
    const pqxx::result rows = tx_.Query(kLockLeasesSql, job_id_, Int4Array(batch_nos), Int8Array(lease_ids));
    for (const pqxx::row& row : rows) {
      LeaseRow lease;
      lease.session = ReadText(row[2]);
      lease.first_task = row[3].as<int64_t>();
      lease.batch_tasks = row[4].as<int32_t>();
      DROVER_ASSIGN_OR_RETURN(lease.tasks, ReadTasks(row[5], lease.batch_tasks));
      lease.task_count = row[6].as<int32_t>();
      lease.done = row[7].as<int32_t>();
      lease.last_seq = row[8].as<int64_t>();
      lease.maybe_ran = row[9].as<bool>();
      lease.notes = ReadBytes(row[10]);
      leases_.emplace(LeaseKey{row[0].as<int32_t>(), row[1].as<int64_t>()}, std::move(lease));
    }
    return absl::OkStatus();
  }

  // Which of the segments are stored already. A lease whose row is there has stored exactly the numbers up to
  // its last, so only those have to be looked up; in the common case none.
  void FindStored() {
    std::vector<int32_t> batch_nos;
    std::vector<int64_t> lease_ids, sequences;
    for (const SegmentWrite& segment : segments_) {
      const auto lease = leases_.find(segment.lease);
      if (lease != leases_.end() && segment.sequence > lease->second.last_seq) continue;
      batch_nos.push_back(segment.lease.batch_no);
      lease_ids.push_back(segment.lease.lease_id);
      sequences.push_back(segment.sequence);
    }
    if (batch_nos.empty()) return;
    const pqxx::result rows =
        tx_.Query(kStoredKeysSql, job_id_, Int4Array(batch_nos), Int8Array(lease_ids), Int8Array(sequences));
    for (const pqxx::row& row : rows) {
      stored_.emplace(row[0].as<int32_t>(), row[1].as<int64_t>(), row[2].as<int64_t>());
    }
  }

  // The fence, for one segment.
  void Judge(size_t i) {
    const SegmentWrite& segment = segments_[i];
    const auto found = leases_.find(segment.lease);
    if (stored_.contains(KeyOf(segment))) {
      result_.results[i] = SegmentResult::kAlready;
      result_.lease_ended[i] = found == leases_.end();
      return;
    }
    if (found == leases_.end() || found->second.ended) return;
    LeaseRow& lease = found->second;
    if (lease.session != segment.session || segment.sequence != lease.last_seq + 1) return;
    if (!Fits(segment, lease)) {
      LogWarning("segment.refused", {{"job", job_id_},
                                     {"batch", segment.lease.batch_no},
                                     {"lease", segment.lease.lease_id},
                                     {"sequence", segment.sequence}});
      return;
    }
    lease.changed = true;
    lease.last_seq = segment.sequence;
    lease.done += segment.succeeded + segment.failed;
    if (!segment.notes.empty()) lease.notes = segment.notes;
    if (!segment.returned.empty()) {
      const auto count = static_cast<int32_t>(segment.returned.count());
      if (!lease.tasks) lease.tasks = TaskSet::All(lease.batch_tasks);
      lease.tasks->Subtract(segment.returned);
      lease.task_count -= count;
      given_back_.push_back(
          {segment.lease.batch_no, segment.returned_lease_id, &lease, segment.returned.Encode(), count});
      result_.gave_back = true;
    }
    lease.ended = lease.done == lease.task_count;
    stored_.insert(KeyOf(segment));
    recorded_.push_back(i);
    succeeded_ += segment.succeeded;
    failed_ += segment.failed;
    result_.results[i] = SegmentResult::kRecorded;
    result_.lease_ended[i] = lease.ended;
  }

  void InsertSegments() {
    std::vector<int32_t> batch_nos, succeeded, failed;
    std::vector<int64_t> lease_ids, sequences;
    std::vector<std::string> encoded;
    encoded.reserve(recorded_.size());  // views into it stay
    std::vector<std::optional<std::string_view>> tasks, payloads;
    for (const size_t i : recorded_) {
      const SegmentWrite& segment = segments_[i];
      batch_nos.push_back(segment.lease.batch_no);
      lease_ids.push_back(segment.lease.lease_id);
      sequences.push_back(segment.sequence);
      succeeded.push_back(segment.succeeded);
      failed.push_back(segment.failed);
      if (segment.executed) {
        tasks.emplace_back(encoded.emplace_back(segment.executed->Encode()));
      } else {
        tasks.emplace_back();
      }
      payloads.push_back(segment.payload.empty() ? std::nullopt
                                                 : std::optional<std::string_view>(segment.payload));
    }
    tx_.Query(kInsertSegmentsSql, job_id_, Int4Array(batch_nos), Int8Array(lease_ids), Int8Array(sequences),
              BytesArray(tasks), Int4Array(succeeded), Int4Array(failed), BytesArray(payloads));
  }

  absl::Status WriteLeases() {
    std::vector<int32_t> ended_batches, batches, counts, done;
    std::vector<int64_t> ended_ids, ids, last_seqs;
    std::vector<std::string> encoded;
    encoded.reserve(leases_.size());
    std::vector<std::optional<std::string_view>> tasks, notes;
    for (const auto& [key, lease] : leases_) {
      if (lease.ended) {
        ended_batches.push_back(key.batch_no);
        ended_ids.push_back(key.lease_id);
      } else if (lease.changed) {
        batches.push_back(key.batch_no);
        ids.push_back(key.lease_id);
        counts.push_back(lease.task_count);
        done.push_back(lease.done);
        last_seqs.push_back(lease.last_seq);
        notes.push_back(NullIfEmpty(lease.notes));
        if (lease.tasks) {
          tasks.emplace_back(encoded.emplace_back(lease.tasks->Encode()));
        } else {
          tasks.emplace_back();
        }
      }
    }
    bool all = true;
    if (!ended_ids.empty()) {
      const auto rows = tx_.Query(kEndLeasesSql, job_id_, Int4Array(ended_batches), Int8Array(ended_ids));
      all = rows.affected_rows() == ended_ids.size();
      any_ended_ = true;
    }
    if (!ids.empty()) {
      const auto rows =
          tx_.Query(kUpdateLeasesSql, job_id_, Int4Array(batches), Int8Array(ids), BytesArray(tasks),
                    Int4Array(counts), Int4Array(done), Int8Array(last_seqs), BytesArray(notes));
      all = all && rows.affected_rows() == ids.size();
    }
    if (!all) return Alarm("LEASE_MOVED", "a locked lease has gone");
    if (!given_back_.empty()) InsertGivenBack();
    return absl::OkStatus();
  }

  void InsertGivenBack() {
    std::vector<int32_t> batch_nos, batch_tasks, counts;
    std::vector<int64_t> lease_ids, first_tasks;
    std::vector<bool> maybe_ran;
    std::vector<std::optional<std::string_view>> tasks, notes;
    for (const GivenBack& given : given_back_) {
      batch_nos.push_back(given.batch_no);
      lease_ids.push_back(given.lease_id);
      first_tasks.push_back(given.from->first_task);
      batch_tasks.push_back(given.from->batch_tasks);
      tasks.emplace_back(given.tasks);
      counts.push_back(given.count);
      maybe_ran.push_back(given.from->maybe_ran);
      notes.push_back(NullIfEmpty(given.from->notes));
    }
    tx_.Query(kGivenBackSql, job_id_, Int4Array(batch_nos), Int8Array(lease_ids), Int8Array(first_tasks),
              Int4Array(batch_tasks), BytesArray(tasks), Int4Array(counts), BoolArray(maybe_ran),
              BytesArray(notes));
  }

  // Adds to the counters, which locks job_state, and makes what follows from the values that come back.
  absl::Status Count(const lifecycle::FailurePolicy& policy) {
    const pqxx::result rows = tx_.Query(
        StrCat(
            "UPDATE drover.job_state s SET succeeded = succeeded + $2::bigint, failed = failed + $3::bigint "
            "WHERE job_id = $1 RETURNING ",
            kSnapshotColumns),
        job_id_, succeeded_, failed_);
    if (rows.empty()) return Alarm("JOB_MISSING", "it has leases, but no state");
    lifecycle::Snapshot& after = result_.after;
    after = ReadSnapshot(rows[0]);
    if (failed_ > 0) CountFailures();
    const int64_t executed = after.succeeded + after.failed;
    const std::optional<lifecycle::Request> request = lifecycle::AfterRecord(after, policy);
    const bool complete = after.prepared && executed == after.tasks;
    if (complete && HasLeases(tx_, job_id_)) {
      return Alarm("LEASES_LEFT", "all tasks are recorded, but leases are left");
    }
    if (!complete && any_ended_ && after.prepared && after.next_batch == after.batches &&
        !HasLeases(tx_, job_id_)) {
      return Alarm("TASKS_MISSING", StrCat("no lease is left, but only ", executed, " of ", after.tasks,
                                           " tasks are recorded"));
    }
    if (!request) return absl::OkStatus();
    DROVER_ASSIGN_OR_RETURN(result_.change, lifecycle::Decide(after, *request));
    if (!result_.change) return absl::OkStatus();
    DROVER_RETURN_IF_ERROR(ApplyChange(tx_, job_id_, after, *result_.change));
    after.previous = result_.change->to == after.state ? after.previous : after.state;
    after.state = result_.change->to;
    after.reason_code = result_.change->reason_code;
    return absl::OkStatus();
  }

  // Adds the failed tasks to the job's groups. job_state is locked: nobody else reads or writes them now.
  void CountFailures() {
    // By the key of failure_groups, like what follows; in groups of outcomes that have failures.
    const pqxx::result rows =
        tx_.Query(StrCat("SELECT ", kFailureGroupsJson, " WHERE g.job_id = $1"), job_id_);
    std::vector<FailureGroup> groups = FailureGroupsFromJson(ReadText(rows[0][0]));
    const std::vector<FailureGroup> before = groups;
    for (const size_t i : recorded_) AddFailures(segments_[i], groups);
    std::vector<int32_t> statuses;
    std::vector<std::string_view> codes;
    std::vector<int64_t> tasks;
    std::vector<std::string> examples;
    for (size_t i = 0; i < groups.size(); ++i) {  // AddFailures leaves the old ones where they are
      const FailureGroup& group = groups[i];
      if (i < before.size() && group == before[i]) continue;
      statuses.push_back(group.others ? kOthersStatus : group.http_status);
      codes.push_back(group.code);
      tasks.push_back(group.tasks);
      examples.push_back(ExamplesArray(group.examples));
    }
    tx_.Query(kWriteFailuresSql, job_id_, Int4Array(statuses), TextArray(codes), Int8Array(tasks),
              TextArray({examples.begin(), examples.end()}));
  }

  // A broken invariant: said aloud, and rolled back.
  absl::Status Alarm(std::string_view reason, std::string_view what) {
    LogError("invariant.broken", {{"job", job_id_}, {"reason", reason}, {"what", what}});
    return Error(absl::StatusCode::kInternal, reason, StrCat("job ", job_id_, ": ", what));
  }

  static std::optional<std::string_view> NullIfEmpty(const std::string& text) {
    if (text.empty()) return std::nullopt;
    return text;
  }

  Tx& tx_;
  const JobId& job_id_;
  const std::vector<SegmentWrite>& segments_;
  std::vector<size_t> order_;            // of segments_, by key
  std::map<LeaseKey, LeaseRow> leases_;  // addresses are stable: GivenBack points into it
  std::set<SegmentKey> stored_;
  std::vector<size_t> recorded_;
  std::vector<GivenBack> given_back_;
  int64_t succeeded_ = 0;
  int64_t failed_ = 0;
  bool any_ended_ = false;
  RecordResult result_;
};

}  // namespace

absl::StatusOr<RecordResult> PostgresStorage::Record(const JobId& job_id,
                                                     const std::vector<SegmentWrite>& segments,
                                                     const lifecycle::FailurePolicy& policy) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  RecordResult result;
  if (segments.empty()) return result;
  const absl::Status status = db_->Write("record", [&](Tx& tx) -> absl::Status {
    DROVER_ASSIGN_OR_RETURN(result, Recorder(tx, job_id, segments).Record(policy));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return result;
}

}  // namespace drover
