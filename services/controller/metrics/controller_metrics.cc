#include "services/controller/metrics/controller_metrics.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "drover/v1/operation.pb.h"
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

// As jobs and workers name them.
std::vector<std::string> OperationNames() {
  const google::protobuf::OneofDescriptor* kinds = v1::Operation::descriptor()->FindOneofByName("kind");
  std::vector<std::string> names;
  for (int i = 0; i < kinds->field_count(); ++i) names.push_back(kinds->field(i)->name());
  return names;
}

// Of the statuses of HTTP; none: there was no answer.
constexpr std::string_view kStatusClasses[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

std::vector<std::string> StatusClasses() { return {std::begin(kStatusClasses), std::end(kStatusClasses)}; }

std::vector<std::string> StoreMethods() { return {"GET", "HEAD", "PUT", "POST", "DELETE"}; }

}  // namespace

const std::vector<MetricDef>& ControllerMetrics() {
  static const auto& table = *new std::vector<MetricDef>{
      {"drover_jobs",
       MetricType::kGauge,
       "Jobs by state, over all controllers, looked at every 10 s.",
       {{"state", StateNames()}}},
      {"drover_tasks_recorded_total",
       MetricType::kCounter,
       "Outcomes recorded by this controller, by the job's operation.",
       {{"operation", OperationNames()}, {"result", {"succeeded", "failed"}}}},
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
      {"drover_store_requests_total",
       MetricType::kCounter,
       "Requests to S3 stores for manifests and reports, by class of the answer's status (none: there was no "
       "answer).",
       {{"store", MetricLabel::kConfigured}, {"method", StoreMethods()}, {"status", StatusClasses()}}},
      {"drover_store_request_seconds",
       MetricType::kHistogram,
       "Time from such a request to its answer; of GET to the answer's head.",
       {{"store", MetricLabel::kConfigured}, {"method", StoreMethods()}},
       kSecondsBuckets},
      {"drover_store_retries_total",
       MetricType::kCounter,
       "Requests of these that repeated one before.",
       {{"store", MetricLabel::kConfigured}, {"method", StoreMethods()}}},
      {"drover_oldest_transaction_seconds",
       MetricType::kGauge,
       "Age of the oldest transaction in the database.",
       {}},
      {"drover_draining", MetricType::kGauge, "1 while this controller is going away.", {}},
  };
  return table;
}

void CountStoreRequest(const Metrics& metrics, std::string_view store, std::string_view method, int status,
                       absl::Duration took, bool retry) {
  const auto status_class = static_cast<size_t>(std::clamp(status / 100, 0, 5));
  metrics.counter("drover_store_requests_total", {store, method, kStatusClasses[status_class]}).Add();
  metrics.histogram("drover_store_request_seconds", {store, method}).Observe(absl::ToDoubleSeconds(took));
  if (retry) metrics.counter("drover_store_retries_total", {store, method}).Add();
}

}  // namespace drover
