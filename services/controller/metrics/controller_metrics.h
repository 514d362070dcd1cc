// Every metric that the controller exports: the table from which docs/metrics.md is made, held against a live
// scrape.
#ifndef DROVER_SERVICES_CONTROLLER_METRICS_CONTROLLER_METRICS_H_
#define DROVER_SERVICES_CONTROLLER_METRICS_CONTROLLER_METRICS_H_

#include <vector>

#include "common/metrics/metrics.h"

namespace drover {

const std::vector<MetricDef>& ControllerMetrics();

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_METRICS_CONTROLLER_METRICS_H_
