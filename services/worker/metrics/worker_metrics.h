// The worker's metrics: the one table of them (docs/metrics.md shows it), and the handles that its parts
// hold.
#ifndef DROVER_SERVICES_WORKER_METRICS_WORKER_METRICS_H_
#define DROVER_SERVICES_WORKER_METRICS_WORKER_METRICS_H_

#include <array>
#include <string_view>
#include <vector>

#include "common/metrics/metrics.h"

namespace drover {

// All of them. The values of the label `store` are given to Metrics::Create.
const std::vector<MetricDef>& WorkerMetrics();

// Of the lease client. Default-constructed handles do nothing, here and below.
struct LeaseMetrics {
  explicit LeaseMetrics(const Metrics& metrics);
  LeaseMetrics() = default;

  Gauge attached;           // 1 while attached
  Counter attaches_ok;      // Hellos that were welcomed
  Counter attaches_failed;  // Hellos that were not
  Counter sessions;         // sessions begun
  Gauge leases;             // held
  Counter leases_lost;
  Counter grants;
  Counter segments_sent;
  Counter segments_resent;
  Counter segments_recorded;
  Counter segments_lost;
  Gauge unacked_bytes;
  Gauge fenced;            // 1 while fenced
  Counter fenced_seconds;  // added when a fence is lifted
  Counter violations;      // messages from controllers that broke the protocol
};

// Of the executor as a whole.
struct ExecutorMetrics {
  explicit ExecutorMetrics(const Metrics& metrics);
  ExecutorMetrics() = default;

  Gauge in_flight;    // groups of tasks
  Gauge unfinished;   // tasks held
  Gauge waiting;      // tasks that wait for another try
  Gauge target;       // tasks that it aims to hold
  Counter outranked;  // times that a job's unstarted tasks were given back for a higher one's sake
};

// Of one operation.
struct OperationMetrics {
  OperationMetrics(const Metrics& metrics, std::string_view operation);
  OperationMetrics() = default;

  Counter succeeded;
  Counter failed;
  Counter returned;  // tasks given back
  Counter retries;   // further attempts
  Counter aborted;   // tasks whose request was aborted (fence, loss, interruption, drain)
};

// Of one operation's requests to one store.
struct StoreRequestMetrics {
  StoreRequestMetrics(const Metrics& metrics, std::string_view store, std::string_view operation);
  StoreRequestMetrics() = default;

  // By the answer's status: [0] for none at all, [1] 1xx … [5] 5xx.
  std::array<Counter, 6> by_class;
  Histogram seconds;
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_METRICS_WORKER_METRICS_H_
