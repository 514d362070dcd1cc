#include "services/controller/metrics/controller_metrics.h"

#include <string>

#include "services/controller/lifecycle/lifecycle.h"

namespace drover {
namespace {

std::vector<std::string> StateNames() {
  std::vector<std::string> names;
  for (int i = 1; i <= lifecycle::kStateCount; ++i) {
    names.emplace_back(lifecycle::StateName(*lifecycle::StateFromNumber(i)));
  }
  return names;
}

}  // namespace

const std::vector<MetricDef>& ControllerMetrics() {
  static const auto& table = *new std::vector<MetricDef>{
      {"drover_jobs",
       MetricType::kGauge,
       "Jobs by state, over all controllers, looked at every 10 s.",
       {{"state", StateNames()}}},
      {"drover_tasks_recorded_total",
       MetricType::kCounter,
       "Outcomes recorded by this controller.",
       {{"result", {"succeeded", "failed"}}}},
      {"drover_record_commit_seconds",
       MetricType::kHistogram,
       "Time of a record transaction.",
       {},
       kSecondsBuckets},
      {"drover_record_group_segments",
       MetricType::kHistogram,
       "Segments recorded in one transaction.",
       {},
       kCountBuckets},
      {"drover_record_retries_total",
       MetricType::kCounter,
       "Groups of segments that were submitted again.",
       {}},
      {"drover_record_rejected_total",
       MetricType::kCounter,
       "Segments that can't be recorded; never in a sound system.",
       {}},
      {"drover_segments_pending", MetricType::kGauge, "Segments received and not yet recorded.", {}},
      {"drover_batches_claimed_total",
       MetricType::kCounter,
       "Batches claimed for workers of this controller.",
       {}},
      {"drover_claim_seconds", MetricType::kHistogram, "Time of a claim transaction.", {}, kSecondsBuckets},
      {"drover_streams", MetricType::kGauge, "Workers attached to this controller.", {}},
      {"drover_leases", MetricType::kGauge, "Leases of workers attached to this controller.", {}},
      {"drover_unacked_bytes",
       MetricType::kGauge,
       "Bytes of segments received and not yet acknowledged.",
       {}},
      {"drover_oldest_lease_seconds",
       MetricType::kGauge,
       "Age of the oldest lease of a worker attached here.",
       {}},
      {"drover_attaches_total", MetricType::kCounter, "Hellos answered with Welcome.", {}},
      {"drover_leases_returned_total",
       MetricType::kCounter,
       "Leases made ownerless: given back, stray, or lost.",
       {{"by", {"dispatch", "janitor"}}}},
      {"drover_sessions_ended_total", MetricType::kCounter, "Sessions ended because they expired.", {}},
      {"drover_mismatched_stores",
       MetricType::kGauge,
       "Stores of attached workers whose fingerprint differs from this controller's store of that name.",
       {}},
      {"drover_duties_total",
       MetricType::kCounter,
       "Runs of duties.",
       {{"duty", {"prepare", "finish", "report_file"}}, {"result", {"done", "again", "failed", "ended"}}}},
      {"drover_oldest_transaction_seconds",
       MetricType::kGauge,
       "Age of the oldest transaction in the database.",
       {}},
      {"drover_draining", MetricType::kGauge, "1 while this controller is going away.", {}},
  };
  return table;
}

}  // namespace drover
