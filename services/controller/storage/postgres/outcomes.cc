// Batches and outcomes read back.
#include <map>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/job_rows.h"
#include "services/controller/storage/postgres/postgres_storage.h"
#include "services/controller/storage/postgres/segments.h"

namespace drover {
namespace postgres {

absl::StatusOr<std::optional<TaskSet>> ReadTasks(const pqxx::field& field, int32_t batch_tasks) {
  if (field.is_null()) return std::optional<TaskSet>();
  DROVER_ASSIGN_OR_RETURN(TaskSet tasks, TaskSet::Decode(ReadBytes(field), static_cast<size_t>(batch_tasks)));
  return std::optional<TaskSet>(std::move(tasks));
}

absl::StatusOr<std::map<LeaseKey, TaskSet>> ReadRecordedTasks(Tx& tx, const JobId& job_id,
                                                              const std::vector<SizedLease>& leases) {
  std::map<LeaseKey, TaskSet> recorded;
  std::map<LeaseKey, int32_t> sizes;
  std::vector<int32_t> batch_nos;
  std::vector<int64_t> lease_ids;
  for (const SizedLease& lease : leases) {
    sizes[lease.key] = lease.batch_tasks;
    batch_nos.push_back(lease.key.batch_no);
    lease_ids.push_back(lease.key.lease_id);
  }
  // By the key of outcome_segments: a range for each lease.
  const pqxx::result rows = tx.Query(R"sql(
      SELECT s.batch_no, s.lease_id, s.tasks FROM drover.outcome_segments s
      JOIN unnest($2::int[], $3::bigint[]) AS k (batch_no, lease_id) USING (batch_no, lease_id)
      WHERE s.job_id = $1)sql",
                                     job_id, Int4Array(batch_nos), Int8Array(lease_ids));
  for (const pqxx::row& row : rows) {
    const LeaseKey key{row[0].as<int32_t>(), row[1].as<int64_t>()};
    DROVER_ASSIGN_OR_RETURN(const std::optional<TaskSet> tasks, ReadTasks(row[2], sizes[key]));
    recorded[key].Union(tasks ? *tasks : TaskSet::All(static_cast<size_t>(sizes[key])));
  }
  return recorded;
}

}  // namespace postgres

namespace {

using namespace postgres;  // NOLINT(build/namespaces): this folder's own

// A number of a binary cursor's row that was cast to text.
template <typename T>
T ReadNumber(const pqxx::field& field) {
  T value = 0;
  if (!absl::SimpleAtoi(ToAbsl(ReadBinary(field)), &value)) throw std::invalid_argument("not a number");
  return value;
}

std::string Join(const std::vector<BatchNo>& numbers) {
  std::string text;
  for (const BatchNo number : numbers) absl::StrAppend(&text, text.empty() ? "" : ",", number);
  return text;
}

BatchPayload ReadPayload(const pqxx::row& row) {
  return {ReadNumber<int32_t>(row[0]), ReadNumber<int64_t>(row[1]), ReadNumber<int32_t>(row[2]),
          std::string(ReadBinary(row[3]))};
}

// ORDER BY names the table's column: the output's, of the same name, is text, and 10 would come before 2.
constexpr char kPayloadColumns[] =
    "SELECT batch_no::text, first_task::text, tasks::text, payload FROM drover.batches ";

// Of outcome_segments named s; what ReadSegment reads begins the row.
constexpr char kSegmentColumns[] =
    "SELECT s.batch_no::text, s.succeeded::text, s.failed::text, s.tasks, s.payload, "
    "(extract(epoch FROM s.recorded_at) * 1000000)::bigint::text";
constexpr int kSegmentColumnCount = 6;

absl::StatusOr<StoredSegment> ReadSegment(const pqxx::row& row) {
  StoredSegment segment;
  segment.batch_no = ReadNumber<int32_t>(row[0]);
  segment.succeeded = ReadNumber<int32_t>(row[1]);
  segment.failed = ReadNumber<int32_t>(row[2]);
  if (!row[3].is_null()) {
    DROVER_ASSIGN_OR_RETURN(segment.executed, TaskSet::Decode(ReadBinary(row[3]), TaskSet::kMaxTasks));
  }
  segment.payload = ReadBinary(row[4]);
  if (!row[5].is_null()) segment.recorded = absl::FromUnixMicros(ReadNumber<int64_t>(row[5]));
  return segment;
}

}  // namespace

absl::StatusOr<std::vector<BatchPayload>> PostgresStorage::ReadBatches(const JobId& job_id,
                                                                       const std::vector<BatchNo>& batches) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  std::vector<BatchPayload> payloads;
  if (batches.empty()) return payloads;
  std::map<BatchNo, BatchPayload> found;
  // By the key of batches, after each claim.
  DROVER_RETURN_IF_ERROR(db_->Read("read_batches", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.BinaryQuery(StrCat(kPayloadColumns, "WHERE job_id = '", job_id,
                                                    "' AND batch_no = ANY('{", Join(batches), "}'::int[])"));
    for (const pqxx::row& row : rows) {
      BatchPayload payload = ReadPayload(row);
      found.insert_or_assign(payload.batch_no, std::move(payload));
    }
    return absl::OkStatus();
  }));
  std::map<BatchNo, size_t> wanted;
  for (const BatchNo batch_no : batches) ++wanted[batch_no];
  for (const BatchNo batch_no : batches) {
    const auto it = found.find(batch_no);
    if (it == found.end()) {
      return Error(absl::StatusCode::kNotFound, "BATCH_NOT_FOUND",
                   StrCat("job ", job_id, " has no batch ", batch_no));
    }
    if (--wanted[batch_no] == 0) {
      payloads.push_back(std::move(it->second));
    } else {
      payloads.push_back(it->second);
    }
  }
  return payloads;
}

absl::StatusOr<std::vector<BatchPayload>> PostgresStorage::ReadBatchRange(const JobId& job_id, BatchNo first,
                                                                          BatchNo end, int limit) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  std::vector<BatchPayload> payloads;
  // By the key of batches, once in a report for each batch.
  const absl::Status status = db_->Read("read_batch_range", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.BinaryQuery(StrCat(kPayloadColumns, "WHERE job_id = '", job_id, "' AND batch_no >= ", first,
                              " AND batch_no < ", end, " ORDER BY batches.batch_no LIMIT ", limit));
    payloads.reserve(rows.size());
    for (const pqxx::row& row : rows) payloads.push_back(ReadPayload(row));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return payloads;
}

absl::StatusOr<TaskSet> PostgresStorage::ReadRecorded(const JobId& job_id, const LeaseKey& lease,
                                                      int32_t batch_tasks) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  TaskSet recorded;
  const absl::Status status = db_->Read("read_recorded", [&](Tx& tx) -> absl::Status {
    DROVER_ASSIGN_OR_RETURN(auto by_lease, ReadRecordedTasks(tx, job_id, {{lease, batch_tasks}}));
    recorded = std::move(by_lease[lease]);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return recorded;
}

absl::StatusOr<std::vector<StoredSegment>> PostgresStorage::ReadSegments(const JobId& job_id, BatchNo first,
                                                                         BatchNo end, bool only_failed) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  std::vector<StoredSegment> segments;
  // By the key of outcome_segments, or index outcome_segments_failed; a report reads each segment once.
  const absl::Status status = db_->Read("read_segments", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.BinaryQuery(
        StrCat(kSegmentColumns, " FROM drover.outcome_segments s WHERE s.job_id = '", job_id,
               "' AND s.batch_no >= ", first, " AND s.batch_no < ", end,
               only_failed ? " AND s.failed > 0" : "", " ORDER BY s.batch_no, s.lease_id, s.seq"));
    segments.reserve(rows.size());
    for (const pqxx::row& row : rows) {
      DROVER_ASSIGN_OR_RETURN(StoredSegment segment, ReadSegment(row));
      segments.push_back(std::move(segment));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return segments;
}

absl::StatusOr<SegmentPage> PostgresStorage::ReadSegmentPage(const JobId& job_id, BatchNo first,
                                                             bool only_failed,
                                                             const SegmentPageLimits& limits) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  SegmentPage page;
  if (limits.batches < 1 || limits.tasks < 1 || limits.bytes < 1) {
    return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "a page has room for one batch at least");
  }
  // Index outcome_segments_failed, or the key of outcome_segments, in their order; a person's call. First the
  // batches, then how many of them fit, then their segments: in one statement, so that the segments are those
  // that were counted. The size of a payload is known without reading it (STORAGE EXTERNAL). The order is by
  // batch only: any other would tempt the planner to walk the whole key for it.
  const std::string_view kind = only_failed ? "s.failed > 0" : "s.succeeded + s.failed > 0";
  const std::string sql =
      StrCat(R"sql(
      WITH found AS (
        SELECT s.batch_no, sum()sql",
             only_failed ? "s.failed" : "s.succeeded + s.failed", R"sql() AS tasks,
          sum(coalesce(octet_length(s.payload), 0)) AS bytes
        FROM drover.outcome_segments s WHERE s.job_id = ')sql",
             job_id, "' AND s.batch_no >= ", first, " AND ", kind,
             " GROUP BY s.batch_no ORDER BY s.batch_no LIMIT ", limits.batches + 1, R"sql(
      ), sized AS (
        SELECT batch_no, row_number() OVER w AS place, sum(tasks) OVER w - tasks AS tasks_before,
          sum(bytes) OVER w - bytes AS bytes_before
        FROM found WINDOW w AS (ORDER BY batch_no)
      ), chosen AS (
        SELECT max(batch_no) AS last, count(*) AS batches FROM sized
        WHERE place <= )sql",
             limits.batches, " AND tasks_before < ", limits.tasks, " AND bytes_before < ", limits.bytes, ") ",
             kSegmentColumns, R"sql(,
        (SELECT (count(*) > (SELECT batches FROM chosen))::int::text FROM found)
      FROM drover.outcome_segments s
      WHERE s.job_id = ')sql",
             job_id, "' AND s.batch_no >= ", first, " AND s.batch_no <= (SELECT last FROM chosen) AND ", kind,
             " ORDER BY s.batch_no");
  const absl::Status status = db_->Read("read_segment_page", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.BinaryQuery(sql);
    page.segments.reserve(rows.size());
    for (const pqxx::row& row : rows) {
      DROVER_ASSIGN_OR_RETURN(StoredSegment segment, ReadSegment(row));
      page.segments.push_back(std::move(segment));
    }
    if (!rows.empty() && ReadNumber<int>(rows[0][kSegmentColumnCount]) != 0) {
      page.next = page.segments.back().batch_no + 1;
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return page;
}

absl::StatusOr<std::vector<BatchCounts>> PostgresStorage::ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                                          int limit) {
  if (!IsUuid(job_id)) return JobNotFound(job_id);
  std::vector<BatchCounts> counts;
  // By the key of outcome_segments, in its order; once in a report.
  const absl::Status status = db_->Read("read_batch_counts", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows = tx.Query(R"sql(
        SELECT batch_no, sum(succeeded), sum(failed) FROM drover.outcome_segments
        WHERE job_id = $1 AND batch_no >= $2::int GROUP BY batch_no HAVING sum(succeeded + failed) > 0
        ORDER BY batch_no LIMIT $3::int)sql",
                                       job_id, first, limit);
    counts.reserve(rows.size());
    for (const pqxx::row& row : rows) {
      counts.push_back({row[0].as<int32_t>(), row[1].as<int64_t>(), row[2].as<int64_t>()});
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return counts;
}

}  // namespace drover
