// drover-worker: runs the tasks of jobs.

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "common/clock/clock.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/metrics/metrics.h"
#include "common/objectstore/stores.h"
#include "services/worker/config.h"
#include "services/worker/metrics/worker_metrics.h"
#include "services/worker/worker.h"

namespace {

int Fail(std::string_view what, const absl::Status& status) {
  drover::LogError("worker.failed", {{"what", what}, {"status", status}});
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  drover::WorkerConfig config;
  drover::ConfigTable table = drover::WorkerConfigTable(&config, DROVER_VERSION);
  table.ParseOrExit(argc, argv);
  drover::InitLogging({.level = *drover::ParseLogLevel(config.log_level),
                       .format = *drover::ParseLogFormat(config.log_format),
                       .service = "drover-worker"});
  bool failpoints = false;
  if (absl::Status status = drover::failpoint::ConfigureFromEnvironment(&failpoints); !status.ok()) {
    return Fail("failpoints", status);
  }
  if (failpoints) drover::LogWarning("failpoints.configured");

  drover::Stores stores;
  if (!config.stores.empty()) {
    absl::StatusOr<drover::Stores> loaded = drover::Stores::Load(config.stores);
    if (!loaded.ok()) return Fail("stores", loaded.status());
    stores = *std::move(loaded);
  }
  std::vector<std::string> names;
  for (const drover::StoreConfig& store : stores.list()) names.push_back(store.name);
  absl::StatusOr<std::unique_ptr<drover::Metrics>> metrics =
      drover::Metrics::Create(drover::WorkerMetrics(), {{"store", names}});
  if (!metrics.ok()) return Fail("metrics", metrics.status());
  std::unique_ptr<drover::MetricsServer> metrics_server;
  if (!config.metrics_listen.empty()) {
    absl::StatusOr<std::unique_ptr<drover::MetricsServer>> server =
        drover::MetricsServer::Start(config.metrics_listen, **metrics);
    if (!server.ok()) return Fail("metrics server", server.status());
    metrics_server = *std::move(server);
    drover::LogInfo("metrics.listening", {{"port", metrics_server->port()}});
  }

  absl::StatusOr<std::unique_ptr<drover::Worker>> worker = drover::Worker::Create(
      config, DROVER_VERSION, stores, metrics->get(), drover::SystemClock(), drover::SystemRandom());
  if (!worker.ok()) return Fail("start", worker.status());
  (*worker)->Run();
  return 0;
}
