// Whether this controller can serve: whether the database answers, asked every second.
#ifndef DROVER_SERVICES_CONTROLLER_API_HEALTH_H_
#define DROVER_SERVICES_CONTROLLER_API_HEALTH_H_

#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/sync/mutex.h"
#include "common/sync/named_thread.h"

namespace drover {

struct HealthPollerOptions {
  absl::Duration interval = absl::Seconds(1);  // of the pings
  absl::Duration timeout = absl::Seconds(3);   // a ping that takes longer counts as no answer
};

// Thread-safe.
class HealthPoller {
 public:
  // `ping` may block; `report` is told at the start (false), and then each change, from the poller's threads.
  HealthPoller(std::function<absl::Status()> ping, std::function<void(bool)> report, const Clock& clock,
               HealthPollerOptions options = {});
  // Stops; waits for a ping that is under way.
  ~HealthPoller();
  HealthPoller(const HealthPoller&) = delete;
  HealthPoller& operator=(const HealthPoller&) = delete;

  // Starts the two threads: one asks, the other sees when no answer comes.
  void Start();
  // Reports false for the last time, and asks no more. Does not wait. May be called twice.
  void StopServing();
  // StopServing(), and waits for the threads' ends. May be called twice.
  void Stop();

 private:
  void Ping();
  void Watch();
  void ReportLocked(bool serving) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::function<absl::Status()> ping_;
  const std::function<void(bool)> report_;
  const Clock& clock_;
  const HealthPollerOptions options_;

  Mutex mu_;
  CondVar changed_;
  absl::Duration asked_at_ ABSL_GUARDED_BY(mu_);
  bool asking_ ABSL_GUARDED_BY(mu_) = false;  // a ping is under way
  bool serving_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<NamedThread> ping_thread_;
  std::optional<NamedThread> watch_thread_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_HEALTH_H_
