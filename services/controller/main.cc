// drover-controller: keeps jobs, leases their tasks to workers, and records outcomes.

#include <signal.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/clock.h"
#include "common/clock/clock.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/metrics/metrics.h"
#include "common/objectstore/stores.h"
#include "services/controller/config.h"
#include "services/controller/controller.h"
#include "services/controller/metrics/controller_metrics.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace {

int Fail(std::string_view what, const absl::Status& status) {
  drover::LogError("controller.failed", {{"what", what}, {"error", status}});
  return 1;
}

// Waits out a database that is away: a controller that starts first is no reason to restart it.
absl::Status MigrateWhenThere(const std::string& database, const std::string& version,
                              const sigset_t& signals) {
  while (true) {
    const absl::Status status = drover::MigratePostgres(database, version);
    if (!absl::IsUnavailable(status)) return status;
    drover::LogWarning("migrate.waiting", {{"error", status}});
    const timespec second = {1, 0};
    if (sigtimedwait(&signals, nullptr, &second) > 0) return absl::CancelledError("told to stop");
  }
}

}  // namespace

int main(int argc, char** argv) {
  drover::ControllerConfig config;
  drover::ConfigTable table = drover::ControllerConfigTable(&config, DROVER_VERSION);
  const std::string command = table.ParseOrExit(argc, argv);
  drover::InitLogging({.level = *drover::ParseLogLevel(config.log_level),
                       .format = *drover::ParseLogFormat(config.log_format),
                       .service = "drover-controller"});
  bool failpoints = false;
  if (absl::Status status = drover::failpoint::ConfigureFromEnvironment(&failpoints); !status.ok()) {
    return Fail("failpoints", status);
  }
  if (failpoints) drover::LogWarning("failpoints.configured");

  if (command == "migrate") {
    const absl::Status status = drover::MigratePostgres(config.database, DROVER_VERSION);
    if (!status.ok()) return Fail("migrate", status);
    drover::LogInfo("migrate.done");
    return 0;
  }

  // Signals are waited for here; every thread made later inherits that they are blocked.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  drover::Stores stores;
  if (!config.stores.empty()) {
    absl::StatusOr<drover::Stores> loaded = drover::Stores::Load(config.stores);
    if (!loaded.ok()) return Fail("stores", loaded.status());
    stores = *std::move(loaded);
  }
  std::vector<std::string> store_names;
  for (const drover::StoreConfig& store : stores.list()) store_names.push_back(store.name);
  auto metrics = drover::Metrics::Create(drover::ControllerMetrics(), {{"store", store_names}});
  if (!metrics.ok()) return Fail("metrics", metrics.status());
  std::unique_ptr<drover::MetricsServer> metrics_server;
  if (!config.metrics_listen.empty()) {
    auto server = drover::MetricsServer::Start(config.metrics_listen, **metrics);
    if (!server.ok()) return Fail("metrics server", server.status());
    metrics_server = *std::move(server);
  }

  if (const absl::Status status = MigrateWhenThere(config.database, DROVER_VERSION, signals); !status.ok()) {
    return absl::IsCancelled(status) ? 0 : Fail("migrate", status);
  }
  auto controller = drover::Controller::Start(config, DROVER_VERSION, stores, **metrics,
                                              drover::SystemClock(), drover::SystemRandom());
  if (!controller.ok()) return Fail("start", controller.status());

  int signal_number = 0;
  sigwait(&signals, &signal_number);
  if (!(*controller)->Stop()) _exit(1);
  return 0;
}
