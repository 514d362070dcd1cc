// RECORD: outcomes coming in; outcomes and batches read back.
#include <algorithm>
#include <numeric>
#include <set>

#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/failures.h"
#include "services/controller/storage/memory/memory_storage.h"

namespace drover {

using memory::JobRows;
using memory::LeaseRow;
using memory::SegmentKey;
using memory::SegmentRow;

namespace {

SegmentKey KeyOf(const SegmentWrite& segment) {
  return {segment.lease.batch_no, segment.lease.lease_id, segment.sequence};
}

TaskSet TasksOf(const LeaseRow& lease) {
  return lease.tasks ? *lease.tasks : TaskSet::All(static_cast<size_t>(lease.batch_tasks));
}

StoredSegment ToStored(BatchNo batch_no, const SegmentRow& segment) {
  return {batch_no, segment.executed, segment.succeeded, segment.failed, segment.payload, segment.recorded};
}

// A broken invariant: said aloud, and rolled back.
absl::Status Alarm(const JobRows& rows, std::string_view reason, std::string_view what) {
  LogError("invariant.broken", {{"job", rows.spec->job_id}, {"reason", reason}, {"what", what}});
  return Error(absl::StatusCode::kInternal, reason, StrCat("job ", rows.spec->job_id, ": ", what));
}

// Whether the segment names tasks of the lease that nothing has recorded, each once, and counts them.
bool Fits(const JobRows& rows, const SegmentWrite& segment, const LeaseRow& lease) {
  if (segment.succeeded < 0 || segment.failed < 0) return false;
  TaskSet left = TasksOf(lease);
  left.Subtract(rows.Recorded(segment.lease, lease.batch_tasks));
  const TaskSet executed =
      segment.executed ? *segment.executed : TaskSet::All(static_cast<size_t>(lease.batch_tasks));
  return executed.count() == static_cast<size_t>(segment.succeeded + segment.failed) &&
         executed.IsSubsetOf(left) && segment.returned.IsSubsetOf(left) &&
         !executed.Intersects(segment.returned);
}

}  // namespace

absl::StatusOr<RecordResult> MemoryStorage::Record(const JobId& job_id,
                                                   const std::vector<SegmentWrite>& segments,
                                                   const lifecycle::FailurePolicy& policy) {
  RecordResult result;
  if (segments.empty()) return result;
  GivenBack apart;
  const absl::Status status = db_.Write("record", job_id, [&](JobRows& rows) -> absl::Status {
    result.results.assign(segments.size(), SegmentResult::kLost);
    result.lease_ended.assign(segments.size(), false);
    std::vector<size_t> order(segments.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, {}, [&](size_t i) { return KeyOf(segments[i]); });

    lifecycle::Snapshot& job = rows.snapshot;
    bool recorded = false;
    bool ended = false;
    for (const size_t i : order) {
      const SegmentWrite& segment = segments[i];
      // The key first: what is stored is stored, whatever became of its lease.
      auto found = rows.leases.find(segment.lease);
      if (rows.segments.contains(KeyOf(segment))) {
        result.results[i] = SegmentResult::kAlready;
        result.lease_ended[i] = found == rows.leases.end();
        continue;
      }
      const bool fenced = found == rows.leases.end() || found->second.session != segment.session ||
                          found->second.last_sequence + 1 != segment.sequence;
      if (fenced && !db_.faults().record_without_fence) continue;
      if (!fenced && !Fits(rows, segment, found->second)) {
        LogWarning("segment.refused", {{"job", job_id},
                                       {"batch", segment.lease.batch_no},
                                       {"lease", segment.lease.lease_id},
                                       {"sequence", segment.sequence}});
        continue;
      }
      rows.segments.emplace(KeyOf(segment), std::make_shared<const SegmentRow>(
                                                SegmentRow{segment.executed, segment.succeeded,
                                                           segment.failed, segment.payload, db_.Now()}));
      AddFailures(segment, rows.failure_groups);
      job.succeeded += segment.succeeded;
      job.failed += segment.failed;
      recorded = true;
      result.results[i] = SegmentResult::kRecorded;
      if (found == rows.leases.end()) continue;  // only without the fence

      LeaseRow& lease = found->second;
      lease.last_sequence = segment.sequence;
      lease.done += segment.succeeded + segment.failed;
      if (!segment.notes.empty()) lease.notes = segment.notes;
      if (!segment.returned.empty()) {
        LeaseRow back;
        back.first_task = lease.first_task;
        back.batch_tasks = lease.batch_tasks;
        back.tasks = segment.returned;
        back.task_count = static_cast<int32_t>(segment.returned.count());
        back.came_back = CameBack::kGivenBack;
        back.maybe_ran = lease.maybe_ran;
        back.notes = lease.notes;
        TaskSet kept = TasksOf(lease);
        kept.Subtract(segment.returned);
        lease.tasks = std::move(kept);
        lease.task_count -= back.task_count;
        const LeaseKey key{segment.lease.batch_no, segment.returned_lease_id};
        if (db_.faults().given_back_apart) {
          apart.emplace_back(key, std::move(back));
        } else {
          rows.leases.emplace(key, std::move(back));
        }
        result.gave_back = true;
      }
      if (lease.done == lease.task_count) {
        result.lease_ended[i] = ended = true;
        rows.leases.erase(segment.lease);
      }
    }
    if (!recorded) return absl::OkStatus();

    result.after = rows.SnapshotNow(false);
    const bool all = job.prepared && job.succeeded + job.failed == job.tasks;
    if (all && !rows.leases.empty()) {
      return Alarm(rows, "LEASES_LEFT", "all tasks are recorded, but leases are left");
    }
    if (!all && ended && job.prepared && job.next_batch == job.batches && rows.leases.empty() &&
        apart.empty()) {
      return Alarm(rows, "TASKS_MISSING", "no lease is left, but tasks are");
    }
    const std::optional<lifecycle::Request> request = lifecycle::AfterRecord(result.after, policy);
    if (!request) return absl::OkStatus();
    if (request->cause == lifecycle::Cause::kAllRecorded && db_.faults().completion_never_judged)
      return absl::OkStatus();
    DROVER_ASSIGN_OR_RETURN(result.change, lifecycle::Decide(result.after, *request));
    if (!result.change) return absl::OkStatus();
    memory::ApplyChange(rows, *result.change, db_.Now());
    result.after = rows.SnapshotNow(false);
    return absl::OkStatus();
  });
  if (absl::IsNotFound(status)) {
    result.results.assign(segments.size(), SegmentResult::kLost);
    result.lease_ended.assign(segments.size(), false);
    return result;
  }
  DROVER_RETURN_IF_ERROR(status);
  std::ranges::move(apart, std::back_inserter(given_back_));
  return result;
}

absl::Status MemoryStorage::InsertGivenBack(const JobId& job_id, const GivenBack& leases) {
  return db_.Write("insert_given_back", job_id, [&](JobRows& rows) {
    for (const auto& [key, lease] : leases) rows.leases.emplace(key, lease);
    return absl::OkStatus();
  });
}

absl::StatusOr<TaskSet> MemoryStorage::ReadRecorded(const JobId& job_id, const LeaseKey& lease,
                                                    int32_t batch_tasks) {
  TaskSet recorded;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    recorded = rows.Recorded(lease, batch_tasks);
    return absl::OkStatus();
  }));
  return recorded;
}

absl::StatusOr<std::vector<StoredSegment>> MemoryStorage::ReadSegments(const JobId& job_id, BatchNo first,
                                                                       BatchNo end, bool only_failed) {
  std::vector<StoredSegment> segments;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    for (const auto& [key, segment] : rows.segments) {
      const BatchNo batch_no = std::get<0>(key);
      if (batch_no < first || batch_no >= end || (only_failed && segment->failed == 0)) continue;
      segments.push_back(ToStored(batch_no, *segment));
    }
    return absl::OkStatus();
  }));
  return segments;
}

absl::StatusOr<SegmentPage> MemoryStorage::ReadSegmentPage(const JobId& job_id, BatchNo first,
                                                           bool only_failed,
                                                           const SegmentPageLimits& limits) {
  SegmentPage page;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    int batches = 0;
    int64_t tasks = 0;
    int64_t bytes = 0;
    for (const auto& [key, segment] : rows.segments) {
      const BatchNo batch_no = std::get<0>(key);
      const int32_t counted = segment->failed + (only_failed ? 0 : segment->succeeded);
      if (batch_no < first || counted == 0) continue;
      if (page.segments.empty() || page.segments.back().batch_no != batch_no) {
        if (batches >= limits.batches || tasks >= limits.tasks || bytes >= limits.bytes) {
          if (batches > 0) {
            page.next = page.segments.back().batch_no + 1;
            break;
          }
        }
        ++batches;
      }
      tasks += counted;
      bytes += static_cast<int64_t>(segment->payload.size());
      page.segments.push_back(ToStored(batch_no, *segment));
    }
    return absl::OkStatus();
  }));
  return page;
}

absl::StatusOr<std::vector<BatchPayload>> MemoryStorage::ReadBatchRange(const JobId& job_id, BatchNo first,
                                                                        BatchNo end, int limit) {
  std::vector<BatchPayload> payloads;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    for (BatchNo number = std::max(first, 0);
         number < std::min(end, static_cast<BatchNo>(rows.batches->size())) &&
         static_cast<int>(payloads.size()) < limit;
         ++number) {
      const memory::BatchRow& batch = (*rows.batches)[static_cast<size_t>(number)];
      payloads.push_back({number, batch.first_task, batch.tasks, *batch.payload});
    }
    return absl::OkStatus();
  }));
  return payloads;
}

absl::StatusOr<std::vector<BatchCounts>> MemoryStorage::ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                                        int limit) {
  std::map<BatchNo, BatchCounts> by_batch;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) {
    for (const auto& [key, segment] : rows.segments) {
      const BatchNo batch_no = std::get<0>(key);
      if (batch_no < first || segment->succeeded + segment->failed == 0) continue;
      BatchCounts& counts = by_batch[batch_no];
      counts.batch_no = batch_no;
      counts.succeeded += segment->succeeded;
      counts.failed += segment->failed;
    }
    return absl::OkStatus();
  }));
  std::vector<BatchCounts> counts;
  for (const auto& [batch_no, of_batch] : by_batch) {
    if (static_cast<int>(counts.size()) < limit) counts.push_back(of_batch);
  }
  return counts;
}

}  // namespace drover
