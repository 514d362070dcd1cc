// How the controller reaches its database.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_OPTIONS_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_OPTIONS_H_

#include <string>

#include "absl/time/time.h"

namespace drover {

inline constexpr int kDefaultPoolSize = 8;
inline constexpr int kMaxPoolSize = 256;

struct PostgresOptions {
  // A libpq connection string, either form ("postgresql://…" or "host=… dbname=…"). May hold a password:
  // never logged. Set unless it says otherwise: connect_timeout 5 s, TCP keepalives that find a dead server
  // within 15 s, client_encoding UTF8, application_name drover-controller.
  std::string url;
  // Connections at most, 1 to kMaxPoolSize; opened when first needed.
  int pool_size = kDefaultPoolSize;
  // How long a call may wait for one of them, or for the database to come back, before it is kUnavailable.
  absl::Duration acquire_timeout = absl::Seconds(5);
  // Limits of one statement, of waiting for one lock, and of a transaction that does nothing (its controller
  // hangs): set in each transaction, as a pooler in transaction mode needs it. At least 1 ms.
  absl::Duration statement_timeout = absl::Seconds(30);
  absl::Duration lock_timeout = absl::Seconds(10);
  absl::Duration idle_in_transaction_timeout = absl::Seconds(30);
  // After a failed attempt to connect the next one waits for a random part (at least half) of a time that
  // doubles from the first to the second of these.
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_OPTIONS_H_
