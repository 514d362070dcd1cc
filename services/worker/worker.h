// A whole worker: stream, lease client, executor and stores, on one thread.
#ifndef DROVER_SERVICES_WORKER_WORKER_H_
#define DROVER_SERVICES_WORKER_WORKER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock/clock.h"
#include "common/metrics/metrics.h"
#include "common/objectstore/stores.h"
#include "services/worker/config.h"

namespace drover {

// SIGTERM or SIGINT drain it: it gives back what is unstarted, lets what is in flight end for two thirds of
// drain_timeout (all but three seconds of it, if that is more), aborts the rest and gives it back, waits for
// the last acknowledgments, and is over after drain_timeout at the latest. A second signal aborts at once.
// Should its thread hang, SIGALRM ends the process a few seconds later.
class Worker {
 public:
  // The references outlive it; `metrics` may be null. INVALID_ARGUMENT if the settings or a store are wrong.
  static absl::StatusOr<std::unique_ptr<Worker>> Create(const WorkerConfig& config,
                                                        const std::string& version, const Stores& stores,
                                                        const Metrics* metrics, const Clock& clock,
                                                        Random& random);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Works on the calling thread, until drained. No outage of controllers, database or stores ends it.
  void Run();
  // Drains, as SIGTERM does. Thread-safe.
  void Drain();

 private:
  class Impl;
  explicit Worker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_WORKER_H_
