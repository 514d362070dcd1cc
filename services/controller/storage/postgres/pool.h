// A bounded pool of connections to one database.
//
// One connection of a pool of four or more is kept for what can't wait: a controller whose pool is full of
// slow records must still renew its sessions, or its workers stop themselves.
//
// Connections are opened when needed and kept. One that broke is closed, and so are all idle ones of its
// time: they have most likely lost the same server. While the database can't be reached, one caller at a time
// tries, with jittered backoff between attempts; the others wait, each no longer than its own limit.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_POOL_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_POOL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/log/log.h"
#include "common/sync/mutex.h"
#include "services/controller/storage/postgres/options.h"
#include "services/controller/storage/postgres/pqxx_adapter.h"

namespace drover::postgres {

// `url` with the settings that PostgresOptions::url promises, where it has none of its own.
std::string ConnInfo(const std::string& url);

enum class Urgency { kUsual, kVital };

// Thread-safe. Outlives every connection that it gave out.
class Pool {
 public:
  Pool(PostgresOptions options, Clock& clock, Random& random);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // A connection for the caller alone, which must give it back by Release; waits for at most `limit`.
  // kUnavailable (DATABASE_UNAVAILABLE, or DATABASE_BUSY when all connections are in use).
  absl::StatusOr<std::unique_ptr<Connection>> Acquire(absl::Duration limit, Urgency urgency);
  // Takes it back; `broken` ones are closed.
  void Release(std::unique_ptr<Connection> connection, bool broken);

 private:
  // Opens a connection outside of the lock; total_ counts it already.
  absl::StatusOr<std::unique_ptr<Connection>> Connect();
  // How many connections callers of that urgency may have in use.
  int Limit(Urgency urgency) const;
  absl::Duration Backoff() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const PostgresOptions options_;
  const std::string conninfo_;
  Clock& clock_;
  Random& random_;
  LogRateLimit log_limit_{absl::Seconds(10)};

  Mutex mu_;
  CondVar changed_;
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mu_);
  int total_ ABSL_GUARDED_BY(mu_) = 0;            // idle, in use, and being opened
  int failures_ ABSL_GUARDED_BY(mu_) = 0;         // attempts to connect that failed in a row
  bool probing_ ABSL_GUARDED_BY(mu_) = false;     // one caller tries while failures_ > 0
  absl::Duration retry_at_ ABSL_GUARDED_BY(mu_);  // by Clock::Elapsed
  absl::Status last_error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_POOL_H_
