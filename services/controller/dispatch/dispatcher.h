// Gives work to workers: attaches streams, claims batches by priority, revokes what has stopped, renews
// sessions and finds leases that went astray.
//
// Each step is a method that a thread calls in a loop here, and that a simulation calls in any order. All
// decisions rest on the database (Storage) and on what is known of the streams (Fleet).
//
// Priority: claim first, give way after. Each look goes strictly by priority, equals in rotation: a level
// gets credit only when those above it have nothing left to claim that the same workers can run. A worker
// full of lower work keeps some credit for jobs above it, so that a higher job is claimed, granted on top and
// started next.
#ifndef DROVER_SERVICES_CONTROLLER_DISPATCH_DISPATCHER_H_
#define DROVER_SERVICES_CONTROLLER_DISPATCH_DISPATCHER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/metrics/metrics.h"
#include "common/sync/mutex.h"
#include "common/sync/named_thread.h"
#include "services/controller/dispatch/attacher.h"
#include "services/controller/dispatch/fleet.h"
#include "services/controller/dispatch/job_info.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct DispatcherOptions {
  std::string controller;  // this process, for logs and `worker list`
  SessionOptions session;
  FleetLimits limits;
  absl::Duration look_interval = absl::Milliseconds(100);
  absl::Duration renew_interval = absl::Seconds(1);
  absl::Duration reconcile_interval = absl::Seconds(3);
  absl::Duration interrupt_grace = absl::Seconds(30);  // for requests in flight of a cancelled job
  int max_jobs_per_page = 256;                         // of claimable jobs
  int max_pages_per_look = 4;  // the first page, and then further ones while there is credit
  int max_batches_per_claim = 256;
  int attach_threads = 4;
  size_t max_waiting_hellos = 1024;
};

struct DispatcherMetrics {
  Counter batches_claimed;
  Histogram claim_seconds;
  Counter attaches;
  Counter leases_returned;
};

class Dispatcher {
 public:
  Dispatcher(DispatcherOptions options, Storage& storage, Fleet& fleet, JobCache& jobs, Clock& clock,
             Random& random, DispatcherMetrics metrics, std::function<void(const JobId&)> job_changed);
  ~Dispatcher();

  void Start();
  // Tells the workers to go, claims nothing more, and waits until they have gone, at most `bound`.
  void Drain(absl::Duration bound);
  void Shutdown();

  // A Hello came on `stream`; answered on a thread of its own.
  void OnHello(StreamId stream, v1::Hello hello);
  // A stream is gone.
  void OnClosed(StreamId stream);
  // A segment of this lease can't be recorded, so the lease can't end here: it is taken from its worker and
  // returned.
  void LoseLease(LeaseId lease);
  // Something changed that a look may find: credit, a job, work that came back.
  void Wake();

  // ---- the steps

  // Looks at the jobs that have leases here, and claims for streams with credit. True if it claimed anything.
  bool LookStep();
  void RenewStep();
  void ReconcileStep();
  // Answers one waiting Hello; false if none waits.
  bool AttachStep();

 private:
  struct PageResult {
    bool claimed = false;
    bool enough = false;  // nothing after these may be claimed for in this look
  };
  enum class ClaimOutcome { kNothing, kAll, kWorkLeft };

  void ReviewJobs();
  bool ClaimWork();
  PageResult ClaimPage(const std::vector<JobView>& views);
  // Whether a worker that can run the job has credit for it.
  bool CanClaim(const JobView& view);
  // Claims what the credit and the share of it (one of `share` equal ones) allow, up to
  // max_batches_per_claim.
  ClaimOutcome ClaimFor(const JobView& view, int64_t share);
  void ReturnWithdrawn(const std::vector<Fleet::Withdrawn>& withdrawn);
  void Loop(absl::Duration interval, const std::function<bool()>& step, bool wakes);

  const DispatcherOptions options_;
  Storage& storage_;
  Fleet& fleet_;
  JobCache& jobs_;
  Clock& clock_;
  Random& random_;
  const DispatcherMetrics metrics_;
  const std::function<void(const JobId&)> job_changed_;

  Mutex mu_;
  CondVar changed_;
  std::deque<std::pair<StreamId, v1::Hello>> hellos_ ABSL_GUARDED_BY(mu_);
  // Grants to return to the database that could not be yet, because it was away.
  std::vector<Fleet::Withdrawn> to_return_ ABSL_GUARDED_BY(mu_);
  // Sessions of workers that drained and went.
  std::vector<SessionId> goodbyes_ ABSL_GUARDED_BY(mu_);
  int64_t wakes_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t rotation_ = 0;                    // of the look thread
  std::optional<ClaimablePosition> resume_;  // of the look thread: where the next look's second page begins
  std::vector<NamedThread> threads_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DISPATCH_DISPATCHER_H_
