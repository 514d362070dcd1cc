#include "services/worker/metrics/worker_metrics.h"

#include <string>

namespace drover {
namespace {

const std::vector<std::string>& Operations() {
  static const auto& names = *new std::vector<std::string>{
      "no_op",         "put_object_tagging", "copy_object", "delete_object_tagging", "change_object_tagging",
      "delete_object", "undelete_object",    "head_object"};
  return names;
}

constexpr std::string_view kClasses[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

}  // namespace

const std::vector<MetricDef>& WorkerMetrics() {
  static const auto& table = *new std::vector<MetricDef>{
      {"drover_worker_attached", MetricType::kGauge, "1 while the worker is attached to a controller."},
      {"drover_worker_attaches_total",
       MetricType::kCounter,
       "Attempts to attach to a controller, by result.",
       {{"result", {"welcomed", "failed"}}}},
      {"drover_worker_sessions_total", MetricType::kCounter, "Sessions begun."},
      {"drover_worker_leases", MetricType::kGauge, "Leases held."},
      {"drover_worker_leases_lost_total", MetricType::kCounter,
       "Leases that were lost while they were held."},
      {"drover_worker_grants_total", MetricType::kCounter, "Grants received."},
      {"drover_worker_segments_total",
       MetricType::kCounter,
       "Segments of outcomes, by what happened to them.",
       {{"event", {"sent", "resent", "recorded", "lost"}}}},
      {"drover_worker_unacked_bytes", MetricType::kGauge, "Bytes of outcomes that are not acknowledged yet."},
      {"drover_worker_fenced", MetricType::kGauge,
       "1 while the worker starts nothing because its session may have ended."},
      {"drover_worker_fenced_seconds_total", MetricType::kCounter,
       "Seconds spent fenced, counted when a fence is lifted."},
      {"drover_worker_protocol_violations_total", MetricType::kCounter,
       "Messages from controllers that broke the protocol."},
      {"drover_worker_in_flight", MetricType::kGauge, "Groups of tasks in flight."},
      {"drover_worker_unfinished_tasks", MetricType::kGauge, "Tasks held that are not finished."},
      {"drover_worker_waiting_tasks", MetricType::kGauge, "Tasks that wait for another try."},
      {"drover_worker_target_tasks", MetricType::kGauge, "Tasks that the worker aims to hold."},
      {"drover_worker_outranked_total", MetricType::kCounter,
       "Times that a job's unstarted tasks were given back for the sake of a job of higher priority."},
      {"drover_worker_tasks_total",
       MetricType::kCounter,
       "Tasks that ended here, by operation and result.",
       {{"operation", Operations()}, {"result", {"succeeded", "failed", "returned"}}}},
      {"drover_worker_retries_total",
       MetricType::kCounter,
       "Further attempts at a task after a transient error.",
       {{"operation", Operations()}}},
      {"drover_worker_aborted_tasks_total",
       MetricType::kCounter,
       "Tasks whose request was aborted: fence, loss of the lease, interruption, drain.",
       {{"operation", Operations()}}},
      {"drover_store_requests_total",
       MetricType::kCounter,
       "Requests to stores, by store, operation and class of the answer's status (none: there was no "
       "answer).",
       {{"store", MetricLabel::kConfigured},
        {"operation", Operations()},
        {"status", {"none", "1xx", "2xx", "3xx", "4xx", "5xx"}}}},
      {"drover_store_request_seconds",
       MetricType::kHistogram,
       "Time from a request to the end of its answer.",
       {{"store", MetricLabel::kConfigured}, {"operation", Operations()}},
       kSecondsBuckets},
  };
  return table;
}

LeaseMetrics::LeaseMetrics(const Metrics& metrics)
    : attached(metrics.gauge("drover_worker_attached")),
      attaches_ok(metrics.counter("drover_worker_attaches_total", {"welcomed"})),
      attaches_failed(metrics.counter("drover_worker_attaches_total", {"failed"})),
      sessions(metrics.counter("drover_worker_sessions_total")),
      leases(metrics.gauge("drover_worker_leases")),
      leases_lost(metrics.counter("drover_worker_leases_lost_total")),
      grants(metrics.counter("drover_worker_grants_total")),
      segments_sent(metrics.counter("drover_worker_segments_total", {"sent"})),
      segments_resent(metrics.counter("drover_worker_segments_total", {"resent"})),
      segments_recorded(metrics.counter("drover_worker_segments_total", {"recorded"})),
      segments_lost(metrics.counter("drover_worker_segments_total", {"lost"})),
      unacked_bytes(metrics.gauge("drover_worker_unacked_bytes")),
      fenced(metrics.gauge("drover_worker_fenced")),
      fenced_seconds(metrics.counter("drover_worker_fenced_seconds_total")),
      violations(metrics.counter("drover_worker_protocol_violations_total")) {}

ExecutorMetrics::ExecutorMetrics(const Metrics& metrics)
    : in_flight(metrics.gauge("drover_worker_in_flight")),
      unfinished(metrics.gauge("drover_worker_unfinished_tasks")),
      waiting(metrics.gauge("drover_worker_waiting_tasks")),
      target(metrics.gauge("drover_worker_target_tasks")),
      outranked(metrics.counter("drover_worker_outranked_total")) {}

OperationMetrics::OperationMetrics(const Metrics& metrics, std::string_view operation)
    : succeeded(metrics.counter("drover_worker_tasks_total", {operation, "succeeded"})),
      failed(metrics.counter("drover_worker_tasks_total", {operation, "failed"})),
      returned(metrics.counter("drover_worker_tasks_total", {operation, "returned"})),
      retries(metrics.counter("drover_worker_retries_total", {operation})),
      aborted(metrics.counter("drover_worker_aborted_tasks_total", {operation})) {}

StoreRequestMetrics::StoreRequestMetrics(const Metrics& metrics, std::string_view store,
                                         std::string_view operation)
    : seconds(metrics.histogram("drover_store_request_seconds", {store, operation})) {
  for (size_t i = 0; i < by_class.size(); ++i) {
    by_class[i] = metrics.counter("drover_store_requests_total", {store, operation, kClasses[i]});
  }
}

}  // namespace drover
