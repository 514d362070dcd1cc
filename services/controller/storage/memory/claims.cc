// Looking for work, and claiming it.
#include <algorithm>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/memory/memory_storage.h"
#include "services/controller/storage/slot_dealer.h"

namespace drover {

using lifecycle::Cause;
using lifecycle::State;
using memory::JobRows;
using memory::LeaseRow;

namespace {

JobView ToView(const JobRows& rows) {
  const lifecycle::Snapshot& job = rows.snapshot;
  JobView view;
  view.job_id = rows.spec->job_id;
  view.state = job.state;
  view.reason_code = job.reason_code;
  view.priority = rows.priority;
  view.version = rows.version;
  view.executed = job.succeeded + job.failed;
  view.next_batch = job.next_batch;
  view.batches = job.batches;
  view.came_back = rows.HasOwnerless();
  return view;
}

bool HasWork(const JobRows& rows) {
  return rows.snapshot.next_batch < rows.snapshot.batches || rows.HasOwnerless();
}

// Highest priority first, oldest first among equals; at most `limit`.
void SortAndCut(std::vector<JobView>& views, int limit) {
  std::ranges::sort(views, [](const JobView& a, const JobView& b) {
    return a.priority != b.priority ? a.priority > b.priority : a.job_id < b.job_id;
  });
  if (views.size() > static_cast<size_t>(limit)) views.resize(static_cast<size_t>(limit));
}

}  // namespace

absl::StatusOr<std::vector<JobView>> MemoryStorage::ListClaimable(
    int limit, const std::optional<ClaimablePosition>& after) {
  if (after && !IsUuid(after->job_id))
    return Error(absl::StatusCode::kInvalidArgument, "BAD_PAGE", "not a job id");
  std::vector<JobView> views;
  db_.LookAtAll([&](const JobRows& rows) {
    if (lifecycle::IsClaimable(rows.snapshot.state, rows.snapshot.reason_code) && HasWork(rows))
      views.push_back(ToView(rows));
  });
  if (after) {
    std::erase_if(views, [&](const JobView& view) {
      return view.priority != after->priority ? view.priority > after->priority
                                              : view.job_id <= after->job_id;
    });
  }
  SortAndCut(views, limit);
  return views;
}

absl::StatusOr<std::vector<JobView>> MemoryStorage::ViewJobs(const std::vector<JobId>& jobs) {
  std::vector<JobView> views;
  for (const JobId& job_id : jobs) {
    db_.Look(job_id, [&](const JobRows* rows) {
      if (rows != nullptr) views.push_back(ToView(*rows));
    });
  }
  return views;
}

absl::StatusOr<ClaimResult> MemoryStorage::Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots,
                                                 int max_batches,
                                                 const std::function<LeaseId()>& new_lease_id) {
  ClaimResult result;
  DROVER_RETURN_IF_ERROR(db_.Write("claim", job_id, [&](JobRows& rows) -> absl::Status {
    lifecycle::Snapshot& job = rows.snapshot;
    const bool claimable = lifecycle::IsClaimable(job.state, job.reason_code);
    if (!claimable && !db_.faults().claim_in_any_state) return absl::OkStatus();
    SlotDealer dealer(slots);
    const auto room = [&] {
      return dealer.HasCredit() && static_cast<int>(result.leases.size()) < max_batches;
    };
    const auto grant = [&](ClaimedLease claimed, LeaseRow lease) {
      lease.session = slots[claimed.slot].session;
      lease.attachment = slots[claimed.slot].attachment;
      lease.came_back = CameBack::kNo;
      rows.leases.emplace(LeaseKey{claimed.batch_no, claimed.lease_id}, std::move(lease));
      result.leases.push_back(std::move(claimed));
    };

    // What came back goes first, with a new id: nothing of its former holders fits it any more.
    std::vector<LeaseKey> ownerless;
    for (const auto& [key, lease] : rows.leases) {
      if (!lease.owned()) ownerless.push_back(key);
    }
    for (const LeaseKey& key : ownerless) {
      if (!room()) break;
      LeaseRow lease = std::move(rows.leases.extract(key).mapped());
      if (lease.done > 0 && !db_.faults().regrant_whole_lease) {
        if (!lease.tasks) lease.tasks = TaskSet::All(static_cast<size_t>(lease.batch_tasks));
        lease.tasks->Subtract(rows.Recorded(key, lease.batch_tasks));
        lease.task_count = static_cast<int32_t>(lease.tasks->count());
      }
      lease.done = 0;
      lease.last_sequence = 0;
      ClaimedLease claimed;
      claimed.slot = dealer.Deal(lease.task_count);
      claimed.lease_id = new_lease_id();
      claimed.batch_no = key.batch_no;
      claimed.first_task = lease.first_task;
      claimed.batch_tasks = lease.batch_tasks;
      claimed.tasks = lease.tasks;
      claimed.notes = lease.notes;
      grant(std::move(claimed), std::move(lease));
    }
    // Then the batches at the cursor.
    for (; job.next_batch < job.batches && room(); ++job.next_batch) {
      const memory::BatchRow& batch = (*rows.batches)[static_cast<size_t>(job.next_batch)];
      LeaseRow lease;
      lease.first_task = batch.first_task;
      lease.batch_tasks = batch.tasks;
      lease.task_count = batch.tasks;
      ClaimedLease claimed;
      claimed.slot = dealer.Deal(batch.tasks);
      claimed.lease_id = new_lease_id();
      claimed.batch_no = job.next_batch;
      claimed.first_task = batch.first_task;
      claimed.batch_tasks = batch.tasks;
      grant(std::move(claimed), std::move(lease));
    }
    result.work_left = HasWork(rows);
    if (result.leases.empty() || !claimable) return absl::OkStatus();
    DROVER_ASSIGN_OR_RETURN(const auto change, lifecycle::Decide(job, {Cause::kClaim, "", "", {}}));
    if (change) memory::ApplyChange(rows, *change, db_.Now());
    return absl::OkStatus();
  }));
  return result;
}

absl::StatusOr<std::vector<BatchPayload>> MemoryStorage::ReadBatches(const JobId& job_id,
                                                                     const std::vector<BatchNo>& batches) {
  std::vector<BatchPayload> payloads;
  if (batches.empty()) return payloads;
  DROVER_RETURN_IF_ERROR(db_.Read(job_id, [&](const JobRows& rows) -> absl::Status {
    for (const BatchNo number : batches) {
      if (number < 0 || static_cast<size_t>(number) >= rows.batches->size()) {
        return Error(absl::StatusCode::kNotFound, "BATCH_NOT_FOUND",
                     StrCat("job ", job_id, " has no batch ", number));
      }
      const memory::BatchRow& batch = (*rows.batches)[static_cast<size_t>(number)];
      payloads.push_back({number, batch.first_task, batch.tasks, *batch.payload});
    }
    return absl::OkStatus();
  }));
  return payloads;
}

absl::StatusOr<std::vector<JobView>> MemoryStorage::ListIdleActive(int limit) {
  std::vector<JobView> views;
  db_.LookAtAll([&](const JobRows& rows) {
    if (rows.snapshot.state == State::kActive && HasWork(rows) && rows.OwnedLeases() == 0)
      views.push_back(ToView(rows));
  });
  SortAndCut(views, limit);
  return views;
}

absl::StatusOr<std::optional<int32_t>> MemoryStorage::HighestRunningPriority() {
  std::optional<int32_t> highest;
  db_.LookAtAll([&](const JobRows& rows) {
    if (rows.OwnedLeases() > 0) highest = std::max(highest.value_or(rows.priority), rows.priority);
  });
  return highest;
}

absl::StatusOr<std::vector<JobId>> MemoryStorage::ListPausable(int limit) {
  std::vector<JobId> jobs;
  db_.LookAtAll([&](const JobRows& rows) {
    if (static_cast<int>(jobs.size()) < limit && rows.snapshot.state == State::kPausing &&
        rows.OwnedLeases() == 0)
      jobs.push_back(rows.spec->job_id);
  });
  return jobs;
}

}  // namespace drover
