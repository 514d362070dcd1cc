#include "services/controller/config.h"

#include "common/status/status.h"

namespace drover {

ConfigTable ControllerConfigTable(ControllerConfig* config, const std::string& version) {
  ConfigTable table("drover-controller", "Keeps jobs, leases their tasks to workers, and records outcomes.",
                    version);
  table.Section("Network");
  table.AddString("listen", &config->listen, "Address of the gRPC server, host:port.");
  table.AddString("metrics-listen", &config->metrics_listen,
                  "Address of the metrics' HTTP server, host:port; port 0: any. Empty: none.");
  table.AddString("name", &config->name,
                  "A name for logs and `worker list`. Default: host name and listen address.");
  table.AddInteger("call-threads", &config->call_threads, 1, 64,
                   "Calls of clients that may wait for the database at the same time.");
  table.AddInteger("max-streams", &config->max_streams, 1, 65536,
                   "Workers that may be attached at the same time.");
  table.Section("Database");
  table.AddSecret(
      "database", &config->database,
      "PostgreSQL connection string (URI or key=value). May hold a password: better given as a file.");
  table.AddInteger("database-connections", &config->database_connections, 4, 256,
                   "Most connections to the database.");
  table.Section("Stores");
  table.AddString(
      "stores", &config->stores,
      "Path of stores.yaml: the stores that jobs may name. Left out: none, so no job can be created.");
  table.Section("Workers");
  table.AddDuration("session-ttl", &config->session_ttl, absl::Seconds(3), absl::Minutes(10),
                    "A worker that is not heard of for so long has lost its session and its leases.");
  table.AddDuration("heartbeat", &config->heartbeat, absl::Milliseconds(100), absl::Minutes(1),
                    "How often a worker says how it is; at most a third of session-ttl.");
  table.AddDuration("look-interval", &config->look_interval, absl::Milliseconds(10), absl::Seconds(10),
                    "How often the dispatcher looks for work that nobody told it of.");
  table.AddDuration(
      "interrupt-grace", &config->interrupt_grace, absl::ZeroDuration(), absl::Hours(1),
      "How long requests in flight of a cancelled or failing job may take before they are aborted.");
  table.AddDuration(
      "preempted-after", &config->preempted_after, absl::Milliseconds(100), absl::Minutes(1),
      "A job that gets no worker for so long while a higher one runs is shown as Paused (preempted).");
  table.Section("Work of the controller");
  table.AddInteger("record-threads", &config->record_threads, 1, 32, "Record transactions at the same time.");
  table.AddInteger("duty-threads", &config->duty_threads, 3, 64,
                   "Duties at the same time: at most 3 preparations, 4 jobs being finished, 2 report files.");
  table.AddDuration("manifest-timeout", &config->manifest_timeout, absl::Seconds(1), absl::Hours(24),
                    "How long a manifest's store may be out of reach before the job fails.");
  table.AddDuration("report-timeout", &config->report_timeout, absl::Seconds(1), absl::Hours(24),
                    "How long a report that can't be written is tried before it is given up.");
  table.AddDuration("drain-timeout", &config->drain_timeout, absl::ZeroDuration(), absl::Minutes(10),
                    "On SIGTERM: how long workers get to attach elsewhere.");
  table.Section("Observability");
  table.AddChoice("log-level", &config->log_level, {"debug", "info", "warning", "error"},
                  "Lines below this level are not written.");
  table.AddChoice("log-format", &config->log_format, {"text", "json"},
                  "Format of the log on standard error.");
  table.AddCommand("migrate", "Brings the database's schema up to date, and exits.");
  table.AddCheck([config]() -> absl::Status {
    if (config->heartbeat * 3 <= config->session_ttl) return absl::OkStatus();
    return Error(absl::StatusCode::kInvalidArgument, "INVALID_SETTING",
                 "heartbeat: must be at most a third of session-ttl, or a late one ends a session");
  });
  table.AddCheck([config]() -> absl::Status {
    if (!config->database.empty()) return absl::OkStatus();
    return Error(absl::StatusCode::kInvalidArgument, "INVALID_SETTING",
                 "database: is required, e.g. --database postgresql:///drover?host=/run/postgresql");
  });
  return table;
}

}  // namespace drover
