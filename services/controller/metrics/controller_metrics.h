// Every metric that the controller exports: the table from which docs/metrics.md is made, held against a live
// scrape.
#ifndef DROVER_SERVICES_CONTROLLER_METRICS_CONTROLLER_METRICS_H_
#define DROVER_SERVICES_CONTROLLER_METRICS_CONTROLLER_METRICS_H_

#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics/metrics.h"

namespace drover {

// The label "store" is configured: the stores of stores.yaml.
const std::vector<MetricDef>& ControllerMetrics();

// Counts a request to an S3 store, as ObjectStoreOptions::on_request tells of it. Thread-safe.
void CountStoreRequest(const Metrics& metrics, std::string_view store, std::string_view method, int status,
                       absl::Duration took, bool retry);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_METRICS_CONTROLLER_METRICS_H_
