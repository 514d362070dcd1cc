// The worker's settings.
#ifndef DROVER_SERVICES_WORKER_CONFIG_H_
#define DROVER_SERVICES_WORKER_CONFIG_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/config/config.h"

namespace drover {

struct WorkerConfig {
  std::vector<std::string> controllers = {"127.0.0.1:7600"};
  std::string stores;  // path of stores.yaml; "": no stores
  std::string name;    // "": the host's name
  std::vector<std::string> labels;
  int concurrency = 64;
  absl::Duration drain_timeout = absl::Seconds(30);
  std::string metrics_listen = "127.0.0.1:7691";
  std::string log_level = "info";
  std::string log_format = "text";
};

// Declares the settings; `config` is written when the table is parsed, and must outlive it.
ConfigTable WorkerConfigTable(WorkerConfig* config, const std::string& version);

// "key=value" each: 1 to 32 of them, keys and values of 1 to 128 characters. INVALID_ARGUMENT says which is
// wrong.
absl::StatusOr<std::map<std::string, std::string>> ParseLabels(const std::vector<std::string>& labels);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_CONFIG_H_
