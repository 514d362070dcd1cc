// Follows jobs for WatchJob: one loop over all watched jobs, however many watch them.
//
// Each look reads the pulses of all watched jobs in one statement (a few, if there are many), and the whole
// job only where its pulse changed. A watcher gets the latest state only: it is asked for the next one when
// it has written the last, so a slow reader skips states, never the last one. The database being away ends no
// watch: the loop looks again, at growing intervals, and goes on where it was.
#ifndef DROVER_SERVICES_CONTROLLER_API_JOB_WATCHER_H_
#define DROVER_SERVICES_CONTROLLER_API_JOB_WATCHER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/log/log.h"
#include "common/sync/mutex.h"
#include "common/sync/named_thread.h"
#include "drover/v1/job.pb.h"
#include "services/controller/api/failure_summary.h"
#include "services/controller/api/waiting_for.h"
#include "services/controller/storage/storage.h"

namespace drover {

// One who watches. Must not block. End may come from another thread than Show, at the same time.
class JobSink {
 public:
  virtual ~JobSink() = default;
  // The job as it is now. No other call follows until JobWatcher::Written(). `last`: it has ended, and no
  // call follows at all.
  virtual void Show(const v1::Job& job, bool last) = 0;
  // The watch is over without a last state (the job is gone, the controller shuts down); no call follows. May
  // come before Written().
  virtual void End(const absl::Status& status) = 0;
};

struct JobWatcherOptions {
  absl::Duration interval = absl::Milliseconds(200);  // of the looks, and between two states for one sink
  absl::Duration max_backoff = absl::Seconds(2);      // of the looks while the database does not answer
  // Between two looks at a job that might wait for a worker: workers come and go without its pulse changing.
  absl::Duration waiting_interval = absl::Seconds(2);
  absl::Duration notified_gap = absl::Milliseconds(20);  // least time between two looks for NotifyChanged
  size_t max_watches = 1000;                             // of this controller
  size_t pulses_per_call = 500;
};

// Thread-safe.
class JobWatcher {
 public:
  using WatchId = int64_t;

  // Everything referred to outlives the watcher.
  JobWatcher(Storage& storage, AttachedWorkers& workers, const Clock& clock, JobWatcherOptions options = {});
  // Shuts down.
  ~JobWatcher();
  JobWatcher(const JobWatcher&) = delete;
  JobWatcher& operator=(const JobWatcher&) = delete;

  // Starts the loop's thread.
  void Start();
  // Ends all watches with UNAVAILABLE (CONTROLLER_SHUTDOWN), refuses new ones, and stops the thread. May be
  // called twice.
  void Shutdown();

  // Begins a watch: `sink` gets the state at once, or End(NOT_FOUND). RESOURCE_EXHAUSTED (TOO_MANY_WATCHES)
  // at the limit, UNAVAILABLE (CONTROLLER_SHUTDOWN) after Shutdown(); the sink is not called then.
  absl::StatusOr<WatchId> Add(const JobId& job_id, std::shared_ptr<JobSink> sink);
  // The sink has written what it was shown, and wants the next state. Nothing for a watch that is over.
  void Written(WatchId id);
  // Ends a watch from the sink's side. A call on the sink may be under way.
  void Remove(WatchId id);

  // This job changed: look at it now rather than at the next interval. Cheap; jobs that nobody watches are
  // ignored.
  void NotifyChanged(const JobId& job_id);

  // One look, and the time until the next one is due. What the thread does; for tests in virtual time.
  absl::Duration Look();

 private:
  struct Watch {
    JobId job_id;
    std::shared_ptr<JobSink> sink;
    bool writing = false;  // was shown something that it has not written yet
    bool any_shown = false;
    Storage::JobPulse shown_pulse;  // of the last look that led to a state shown
    std::string shown_hash;         // of the state shown last, which is not shown twice in a row
    absl::Duration shown_at;
    bool may_wait = false;  // it was in a state in which it may wait for workers
    absl::Duration read_at;
  };
  using PulseMap = std::map<JobId, Storage::JobPulse>;

  void Run();
  // The jobs to look at now: all of them once in an interval, between that only those notified.
  std::vector<JobId> TakeJobs(absl::Duration now) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<PulseMap> ReadPulses(const std::vector<JobId>& jobs);
  // Looks at one job whose pulse was read (null: it is gone). An error: the database did not answer.
  absl::Status LookAt(const JobId& job_id, const Storage::JobPulse* pulse, absl::Duration now);
  bool IsDue(const Watch& watch, const Storage::JobPulse& pulse, absl::Duration now) const;
  bool AnyDue(const JobId& job_id, const Storage::JobPulse& pulse, absl::Duration now)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Shows the job to those of its watches that are due.
  void ShowDue(const v1::Job& job, const Storage::JobPulse& pulse, absl::Duration now)
      ABSL_LOCKS_EXCLUDED(mu_);
  void EndJob(const JobId& job_id, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Duration LookFailed(const absl::Status& status, absl::Duration now) ABSL_LOCKS_EXCLUDED(mu_);
  void Erase(WatchId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Storage& storage_;
  AttachedWorkers& workers_;
  FailureSummaries failures_;
  const Clock& clock_;
  const JobWatcherOptions options_;
  LogRateLimit unavailable_log_;

  Mutex mu_;
  CondVar changed_;
  std::map<WatchId, Watch> watches_ ABSL_GUARDED_BY(mu_);
  std::map<JobId, std::set<WatchId>> by_job_ ABSL_GUARDED_BY(mu_);
  std::set<JobId> notified_ ABSL_GUARDED_BY(mu_);  // watched jobs to be looked at before the interval is over
  WatchId next_id_ ABSL_GUARDED_BY(mu_) = 1;
  absl::Duration next_full_look_ ABSL_GUARDED_BY(mu_);
  int failed_looks_ ABSL_GUARDED_BY(mu_) = 0;  // in a row
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<NamedThread> thread_;  // started and joined by Start() and Shutdown()
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_JOB_WATCHER_H_
