// The controller's settings.
#ifndef DROVER_SERVICES_CONTROLLER_CONFIG_H_
#define DROVER_SERVICES_CONTROLLER_CONFIG_H_

#include <string>

#include "absl/time/time.h"
#include "common/config/config.h"

namespace drover {

struct ControllerConfig {
  std::string listen = "127.0.0.1:7600";
  std::string metrics_listen = "127.0.0.1:7690";
  std::string name;
  std::string database;
  int database_connections = 16;
  std::string stores;
  int call_threads = 4;
  int max_streams = 4096;
  absl::Duration session_ttl = absl::Seconds(15);
  absl::Duration heartbeat = absl::Seconds(3);
  absl::Duration look_interval = absl::Milliseconds(100);
  absl::Duration interrupt_grace = absl::Seconds(30);
  absl::Duration preempted_after = absl::Seconds(2);
  int record_threads = 3;
  int duty_threads = 8;
  absl::Duration report_timeout = absl::Minutes(15);
  absl::Duration manifest_timeout = absl::Minutes(15);
  absl::Duration drain_timeout = absl::Seconds(20);
  std::string log_level = "info";
  std::string log_format = "text";
};

ConfigTable ControllerConfigTable(ControllerConfig* config, const std::string& version);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_CONFIG_H_
