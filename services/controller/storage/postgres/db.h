// Transactions on the pool, and the one place where libpqxx's exceptions become statuses.
//
//   absl::Status status = db.Write("set_priority", [&](Tx& tx) -> absl::Status {
//     const pqxx::result rows = tx.Query("UPDATE … WHERE job_id = $1", job_id, priority);
//     if (rows.affected_rows() == 0) return JobNotFound(job_id);    // rolls back
//     return absl::OkStatus();                                      // commits
//   });
//
// READ COMMITTED. Statement, lock and idle timeouts and synchronous_commit are set by SET LOCAL with the
// BEGIN, in one message: no state is left in the session, so PgBouncer's transaction mode serves.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_DB_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_DB_H_

#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "services/controller/storage/postgres/options.h"
#include "services/controller/storage/postgres/pool.h"
#include "services/controller/storage/postgres/pqxx_adapter.h"

namespace drover::postgres {

// A transaction under way. Queries throw what libpqxx throws; Db catches it. Used by one thread.
class Tx {
 public:
  explicit Tx(pqxx::nontransaction& work) : work_(work) {}
  Tx(const Tx&) = delete;
  Tx& operator=(const Tx&) = delete;

  // One statement with parameters $1 …; results are text.
  template <typename... Args>
  pqxx::result Query(const std::string& sql, Args&&... args) {
    return work_.exec_params(sql, std::forward<Args>(args)...);
  }
  // One SELECT without parameters whose result is in binary format, for bytea that is large (ReadBinary).
  // Cast everything else to text. `sql` must hold no foreign text: numbers and checked UUIDs only.
  pqxx::result BinaryQuery(const std::string& sql);
  // Statements without parameters, in one message.
  pqxx::result Script(const std::string& sql) { return work_.exec(sql); }

 private:
  pqxx::nontransaction& work_;
  int cursors_ = 0;
};

// Thread-safe.
class Db {
 public:
  Db(PostgresOptions options, Clock& clock, Random& random);

  using Body = absl::FunctionRef<absl::Status(Tx&)>;

  // Runs `body` in a transaction; commits if it returns OK, else rolls back and returns its status. Errors
  // are those of storage.h: kUnavailable, kUnknown (COMMIT_UNKNOWN), kInternal; never throws. `body` runs
  // once. Failpoints: storage.NAME.before_commit (error: rolled back), storage.NAME.after_commit (error:
  // COMMIT_UNKNOWN).
  absl::Status Write(std::string_view name, Body body);
  // The same for what only reads: a failed COMMIT is kUnavailable.
  absl::Status Read(std::string_view name, Body body);
  // Write, with the connection that is kept for what is vital if all others are in use.
  absl::Status WriteVital(std::string_view name, Body body);
  // Read, likewise, and waiting for a connection for at most `limit`.
  absl::Status ReadVital(absl::Duration limit, std::string_view name, Body body);

 private:
  absl::Status Run(bool write, Urgency urgency, absl::Duration limit, std::string_view name, Body body);

  const absl::Duration acquire_timeout_;
  const std::string begin_write_;
  const std::string begin_read_;
  Pool pool_;
};

// What an exception of libpqxx means, for errors before the COMMIT. `name` says what was tried.
absl::Status FromException(std::string_view name, std::exception_ptr exception, bool connection_open);

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_DB_H_
