// Gathers the segments of each job from all streams and records them together.
//
// While one group of a job is being committed the next one gathers, so groups grow with the load and a lone
// segment waits for nobody. Jobs are recorded side by side on a bounded number of threads, in rotation; a job
// has at most one transaction under way here (they would only wait for each other's job_state row). A segment
// is acknowledged only after its commit.
//
// Failures. A group whose commit failed for a passing reason, or whose result is unknown, is submitted again,
// through the same filter in the database, until it is answered. If a group fails for another reason its
// segments are tried one by one, those of a lease in order and none after one that failed; what can't be
// recorded alone either is reported as rejected. A key (lease, sequence) occurs once: a segment already here
// is joined.
#ifndef DROVER_SERVICES_CONTROLLER_OUTCOME_GATHERER_H_
#define DROVER_SERVICES_CONTROLLER_OUTCOME_GATHERER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/metrics/metrics.h"
#include "common/sync/mutex.h"
#include "common/sync/named_thread.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct GathererOptions {
  int threads = 3;  // transactions at the same time
  size_t max_group_segments = 512;
  size_t max_group_bytes = 4 << 20;
  absl::Duration min_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
};

// What the gatherer counts.
struct GathererMetrics {
  Histogram group_segments;
  Histogram commit_seconds;
  Counter retries;
  Counter rejected;
};

class Gatherer {
 public:
  struct Hooks {
    // The policy of a job; asked once for each group.
    std::function<absl::StatusOr<lifecycle::FailurePolicy>(const JobId&)> policy;
    // A segment is recorded, was already, or is lost.
    std::function<void(const JobId&, const SegmentWrite&, SegmentResult, bool lease_over)> recorded;
    // A segment can't be recorded for a reason that won't pass.
    std::function<void(const JobId&, const SegmentWrite&, const absl::Status&)> rejected;
    // A group is committed: counters, state or claimable work changed.
    std::function<void(const JobId&, const RecordResult&)> committed;
  };

  Gatherer(GathererOptions options, Storage& storage, Clock& clock, Random& random, GathererMetrics metrics,
           Hooks hooks);
  ~Gatherer();

  void Start();
  // Records what is here and stops, at the latest after `bound`.
  void Shutdown(absl::Duration bound);

  // Takes a checked segment. Segments of a lease come in order. Never blocks: what may be here is bounded by
  // what streams may leave unacknowledged.
  void Submit(const JobId& job_id, SegmentWrite segment);

  // One group of one job, if there is any: what a thread does, and a simulation. False if there is nothing
  // due.
  bool Step();

  int64_t pending() const;

 private:
  struct Job {
    std::deque<SegmentWrite> segments;
    std::set<std::pair<LeaseId, int64_t>> keys;  // of `segments` and of the group under way
    bool busy = false;
    bool queued = false;
    int failures = 0;
    absl::Duration not_before;  // by Clock::Elapsed
  };

  void Run();
  void RecordGroup(const JobId& job_id, std::vector<SegmentWrite> group);
  absl::Status RecordOnce(const JobId& job_id, const std::vector<SegmentWrite>& group);
  // The segment is answered: its key may come again.
  void Release(const JobId& job_id, const SegmentWrite& segment);
  void RecordOneByOne(const JobId& job_id, std::vector<SegmentWrite> group, std::vector<SegmentWrite>& again);

  const GathererOptions options_;
  Storage& storage_;
  Clock& clock_;
  Random& random_;
  const GathererMetrics metrics_;
  const Hooks hooks_;
  mutable Mutex mu_;
  CondVar changed_;
  std::map<JobId, Job> jobs_ ABSL_GUARDED_BY(mu_);
  std::deque<JobId> turn_ ABSL_GUARDED_BY(mu_);  // jobs with segments and no transaction under way
  int64_t pending_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<NamedThread> threads_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_OUTCOME_GATHERER_H_
