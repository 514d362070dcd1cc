#include "services/worker/config.h"

#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/worker/executor/executor.h"

namespace drover {
namespace {

constexpr size_t kMaxLabels = 32;
constexpr size_t kMaxLabelChars = 128;
constexpr size_t kMaxNameChars = 128;
constexpr size_t kMaxControllers = 64;

absl::Status Invalid(std::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, "INVALID_SETTING", message);
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseLabels(const std::vector<std::string>& labels) {
  if (labels.size() > kMaxLabels) return Invalid(StrCat("labels: at most 32, got ", labels.size()));
  std::map<std::string, std::string> parsed;
  for (const std::string& label : labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos) return Invalid(StrCat("labels: expected key=value, got ", label));
    std::string key = label.substr(0, equals);
    std::string value = label.substr(equals + 1);
    if (key.empty() || key.size() > kMaxLabelChars || value.empty() || value.size() > kMaxLabelChars) {
      return Invalid(StrCat("labels: key and value have 1 to 128 characters, got ", label));
    }
    if (!parsed.emplace(std::move(key), std::move(value)).second) {
      return Invalid(StrCat("labels: given twice: ", label));
    }
  }
  return parsed;
}

ConfigTable WorkerConfigTable(WorkerConfig* config, const std::string& version) {
  ConfigTable table("drover-worker", "Runs the tasks of jobs: requests to stores, on behalf of controllers.",
                    version);
  table.Section("Controllers");
  table.AddList(
      "controllers", &config->controllers,
      "Addresses of the controllers, host:port each. The worker is attached to one of them at a time.");
  table.AddString("name", &config->name,
                  "A name for people, at most 128 characters. Default: the host's name.");
  table.AddList("labels", &config->labels, "key=value each, at most 32: for jobs that select their workers.");
  table.Section("Work");
  table.AddString(
      "stores", &config->stores,
      "Path of stores.yaml: the stores that this worker can reach. Left out: none, for no-op jobs only.");
  table.AddInteger("concurrency", &config->concurrency, 1, kMaxConcurrency,
                   "Most requests in flight. An eighth of it is kept for work of higher priority.");
  table.AddDuration("drain-timeout", &config->drain_timeout, absl::Seconds(1), absl::Hours(1),
                    "On SIGTERM: how long tasks in flight may take to end, and outcomes to be acknowledged.");
  table.Section("Observability");
  table.AddString("metrics-listen", &config->metrics_listen,
                  "Address of the metrics' HTTP server, host:port; port 0: any. Empty: none.");
  table.AddChoice("log-level", &config->log_level, {"debug", "info", "warning", "error"},
                  "Lines below this level are not written.");
  table.AddChoice("log-format", &config->log_format, {"text", "json"},
                  "Format of the log on standard error.");
  table.AddCheck([config]() -> absl::Status {
    if (config->controllers.empty() || config->controllers.size() > kMaxControllers) {
      return Invalid("controllers: 1 to 64 addresses");
    }
    for (const std::string& controller : config->controllers) {
      if (controller.empty()) return Invalid("controllers: an address is empty");
    }
    if (config->name.size() > kMaxNameChars) return Invalid("name: at most 128 characters");
    return ParseLabels(config->labels).status();
  });
  return table;
}

}  // namespace drover
