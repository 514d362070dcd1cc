#include "services/controller/outcome/gatherer.h"

#include <algorithm>
#include <tuple>

#include "absl/status/statusor.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

// A passing failure: nothing is known to be wrong with the segments.
bool Passing(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kResourceExhausted: return true;
    default: return false;
  }
}

size_t Weight(const SegmentWrite& segment) { return 128 + segment.payload.size() + segment.notes.size(); }

}  // namespace

Gatherer::Gatherer(GathererOptions options, Storage& storage, Clock& clock, Random& random,
                   GathererMetrics metrics, Hooks hooks)
    : options_(options),
      storage_(storage),
      clock_(clock),
      random_(random),
      metrics_(metrics),
      hooks_(std::move(hooks)) {}

Gatherer::~Gatherer() { Shutdown(absl::ZeroDuration()); }

void Gatherer::Start() {
  for (int i = 0; i < options_.threads; ++i) threads_.emplace_back(StrCat("record-", i), [this] { Run(); });
}

void Gatherer::Shutdown(absl::Duration bound) {
  const absl::Duration end = clock_.Elapsed() + bound;
  {
    MutexLock lock(&mu_);
    while (pending_ > 0 && clock_.Elapsed() < end) changed_.WaitWithTimeout(&mu_, absl::Milliseconds(20));
    stopping_ = true;
    changed_.NotifyAll();
  }
  threads_.clear();  // joins them
}

void Gatherer::Submit(const JobId& job_id, SegmentWrite segment) {
  MutexLock lock(&mu_);
  Job& job = jobs_[job_id];
  if (!job.keys.emplace(segment.lease.lease_id, segment.sequence).second) return;  // joined
  job.segments.push_back(std::move(segment));
  ++pending_;
  if (!job.busy && !job.queued) {
    job.queued = true;
    turn_.push_back(job_id);
  }
  changed_.NotifyOne();
}

int64_t Gatherer::pending() const {
  MutexLock lock(&mu_);
  return pending_;
}

void Gatherer::Run() {
  while (true) {
    if (Step()) continue;
    MutexLock lock(&mu_);
    if (stopping_) return;
    // Jobs that wait out a backoff are looked at again soon; a new segment wakes at once.
    if (turn_.empty()) {
      changed_.Wait(&mu_);
    } else {
      changed_.WaitWithTimeout(&mu_, absl::Milliseconds(10));
    }
  }
}

bool Gatherer::Step() {
  JobId job_id;
  std::vector<SegmentWrite> group;
  {
    MutexLock lock(&mu_);
    if (stopping_) return false;
    const absl::Duration now = clock_.Elapsed();
    for (size_t i = 0; i < turn_.size() && job_id.empty(); ++i) {
      JobId candidate = std::move(turn_.front());
      turn_.pop_front();
      if (jobs_[candidate].not_before <= now) {
        job_id = std::move(candidate);
      } else {
        turn_.push_back(std::move(candidate));
      }
    }
    if (job_id.empty()) return false;
    Job& job = jobs_[job_id];
    job.queued = false;
    job.busy = true;
    size_t bytes = 0;
    while (!job.segments.empty() && group.size() < options_.max_group_segments &&
           bytes < options_.max_group_bytes) {
      bytes += Weight(job.segments.front());
      group.push_back(std::move(job.segments.front()));
      job.segments.pop_front();
    }
  }
  RecordGroup(job_id, std::move(group));
  return true;
}

void Gatherer::RecordGroup(const JobId& job_id, std::vector<SegmentWrite> group) {
  std::vector<SegmentWrite> again;
  const absl::Status status = RecordOnce(job_id, group);
  bool passing = false;
  if (!status.ok()) {
    passing = Passing(status);
    LogWarning("record.failed",
               {{"job", job_id}, {"segments", group.size()}, {"passing", passing}, {"error", status}});
    if (passing) {
      again = group;
    } else {
      RecordOneByOne(job_id, group, again);
    }
  }

  MutexLock lock(&mu_);
  Job& job = jobs_[job_id];
  for (auto segment = again.rbegin(); segment != again.rend(); ++segment)
    job.segments.push_front(std::move(*segment));
  job.busy = false;
  if (again.empty()) {
    job.failures = 0;
    job.not_before = absl::ZeroDuration();
  } else {
    metrics_.retries.Add();
    const absl::Duration longest = std::min(
        options_.max_backoff, options_.min_backoff * static_cast<int64_t>(1LL << std::min(job.failures, 10)));
    ++job.failures;
    job.not_before = clock_.Elapsed() + options_.min_backoff + random_.NextUnit() * longest;
  }
  if (job.segments.empty()) {
    jobs_.erase(job_id);
  } else if (!job.queued) {
    job.queued = true;
    turn_.push_back(job_id);
  }
  changed_.NotifyAll();
}

void Gatherer::Release(const JobId& job_id, const SegmentWrite& segment) {
  MutexLock lock(&mu_);
  jobs_[job_id].keys.erase({segment.lease.lease_id, segment.sequence});
  --pending_;
}

absl::Status Gatherer::RecordOnce(const JobId& job_id, const std::vector<SegmentWrite>& group) {
  DROVER_RETURN_IF_ERROR(failpoint::HitStatus("record.group"));
  if (group.size() > 1) DROVER_RETURN_IF_ERROR(failpoint::HitStatus("record.many"));
  DROVER_ASSIGN_OR_RETURN(const lifecycle::FailurePolicy policy, hooks_.policy(job_id));
  const absl::Duration start = clock_.Elapsed();
  DROVER_ASSIGN_OR_RETURN(const RecordResult result, storage_.Record(job_id, group, policy));
  metrics_.commit_seconds.Observe(absl::ToDoubleSeconds(clock_.Elapsed() - start));
  metrics_.group_segments.Observe(static_cast<double>(group.size()));
  DROVER_RETURN_IF_ERROR(failpoint::HitStatus("record.after_commit"));
  for (size_t i = 0; i < group.size(); ++i) {
    // First out of here, then the answer: a copy that a new stream sends is either joined, and its lease is
    // known by now to whoever answers, or submitted again and found recorded.
    Release(job_id, group[i]);
    hooks_.recorded(job_id, group[i], result.results[i], result.lease_ended[i]);
  }
  hooks_.committed(job_id, result);
  return absl::OkStatus();
}

void Gatherer::RecordOneByOne(const JobId& job_id, std::vector<SegmentWrite> group,
                              std::vector<SegmentWrite>& again) {
  std::stable_sort(group.begin(), group.end(), [](const SegmentWrite& a, const SegmentWrite& b) {
    return std::tie(a.lease, a.sequence) < std::tie(b.lease, b.sequence);
  });
  std::set<LeaseId> failed;    // for good: nothing of these leases is tried any more
  std::set<LeaseId> deferred;  // for now: what follows waits for its turn
  for (SegmentWrite& segment : group) {
    const LeaseId lease = segment.lease.lease_id;
    if (failed.contains(lease)) {
      Release(job_id, segment);
      hooks_.rejected(job_id, segment,
                      absl::FailedPreconditionError("an earlier segment of the lease was rejected"));
      continue;
    }
    if (deferred.contains(lease)) {
      again.push_back(std::move(segment));
      continue;
    }
    const absl::Status status = RecordOnce(job_id, {segment});
    if (status.ok()) continue;
    if (Passing(status)) {
      deferred.insert(lease);
      again.push_back(std::move(segment));
    } else {
      failed.insert(lease);
      metrics_.rejected.Add();
      Release(job_id, segment);
      LogError("segment.rejected", {{"job", job_id},
                                    {"session", segment.session},
                                    {"lease", lease},
                                    {"sequence", segment.sequence},
                                    {"error", status}});
      hooks_.rejected(job_id, segment, status);
    }
  }
}

}  // namespace drover
