// What has to be done by somebody, and by nobody in particular: ends sessions whose worker is gone and
// returns their leases, lets jobs settle into Paused, shows preempted ones as such, and removes what jobs
// that have ended leave.
//
// Every controller does all of it, beside the others: each act is a fenced transaction that a second one
// finds done. Each step is a method that a thread calls in a loop here, and that a simulation calls in any
// order.
#ifndef DROVER_SERVICES_CONTROLLER_JANITOR_JANITOR_H_
#define DROVER_SERVICES_CONTROLLER_JANITOR_JANITOR_H_

#include <functional>
#include <map>
#include <vector>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/metrics/metrics.h"
#include "common/sync/mutex.h"
#include "common/sync/named_thread.h"
#include "services/controller/janitor/outage_guard.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct JanitorOptions {
  absl::Duration session_ttl = absl::Seconds(15);
  absl::Duration session_interval = absl::Seconds(1);  // looks at sessions and stranded leases
  absl::Duration settle_interval = absl::Milliseconds(200);
  absl::Duration preempted_after = absl::Seconds(2);  // without a lease, while a higher job runs
  absl::Duration purge_interval = absl::Seconds(10);
};

struct JanitorMetrics {
  Counter sessions_ended;
  Counter leases_returned;
  Gauge oldest_transaction_seconds;
  std::map<lifecycle::State, Gauge> jobs;
};

class Janitor {
 public:
  Janitor(JanitorOptions options, Storage& storage, Clock& clock, JanitorMetrics metrics,
          std::function<void(const JobId&)> job_changed, std::function<void()> work_came_back);
  ~Janitor();
  void Start();
  void Shutdown();

  // ---- the steps

  // Ends expired sessions if no outage forbids it, and returns leases whose session is gone or has moved on:
  // all of them, or as many as half of session_interval allows, so that looks are never late because of it.
  void SessionStep();
  // Pausing -> Paused once no lease is owned; Active -> Paused (preempted).
  void SettleStep();
  // Removes leases of jobs that have ended; sets the gauges.
  void PurgeStep();

 private:
  void Loop(absl::Duration interval, const std::function<void()>& step);
  // Returns these leases and, if that was a whole look full of them, those after them, until none is left,
  // none could be returned or it is `end`.
  void ReturnAll(std::vector<Storage::StrandedLease> stranded, absl::Duration end);
  // How many were returned.
  int64_t Return(const std::vector<Storage::StrandedLease>& stranded);
  void Change(const JobId& job_id, const lifecycle::Request& request);

  const JanitorOptions options_;
  Storage& storage_;
  Clock& clock_;
  const JanitorMetrics metrics_;
  const std::function<void(const JobId&)> job_changed_;
  const std::function<void()> work_came_back_;
  OutageGuard guard_;                           // of the session thread
  std::map<JobId, absl::Duration> idle_since_;  // of the settle thread
  Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<NamedThread> threads_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_JANITOR_JANITOR_H_
