#include "services/controller/storage/postgres/db.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "common/failpoint/failpoint.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::postgres {
namespace {

int64_t TimeoutMillis(absl::Duration timeout) {
  return std::max<int64_t>(1, absl::ToInt64Milliseconds(timeout));
}

std::string BeginScript(std::string_view begin, const PostgresOptions& options) {
  return StrCat(begin, "; SET LOCAL statement_timeout = ", TimeoutMillis(options.statement_timeout),
                "; SET LOCAL lock_timeout = ", TimeoutMillis(options.lock_timeout),
                "; SET LOCAL idle_in_transaction_session_timeout = ",
                TimeoutMillis(options.idle_in_transaction_timeout));
}

absl::Status Unavailable(std::string_view name, std::string_view what) {
  return Error(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE",
               StrCat(name, ": ", StripWhitespace(what)));
}

// SQLSTATEs (appendix A of PostgreSQL's manual) that say "not now": the transaction was rolled back, and may
// succeed when it is tried again.
bool IsPassing(std::string_view state) {
  return StartsWith(state, "08") ||  // connection exception
         StartsWith(state, "40") ||  // serialization failure, deadlock
         StartsWith(state, "53") ||  // out of memory, disk full, too many connections
         StartsWith(state, "57") ||  // shutdown, crash, starting up, statement_timeout
         StartsWith(state, "58") ||  // input/output error
         state == "55P03" ||         // lock_timeout
         state == "25P03" ||         // idle_in_transaction_session_timeout
         state == "25006";           // read-only: a standby that is not promoted yet
}

absl::Status FromSqlError(std::string_view name, const pqxx::sql_error& error) {
  const std::string& state = error.sqlstate();
  const std::string text = StrCat(name, ": ", StripWhitespace(error.what()), " (", state, ")");
  if (IsPassing(state)) return Error(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE", text);
  if (state == "22021" || state == "22P05") {
    return Error(absl::StatusCode::kInvalidArgument, "INVALID_TEXT", text);  // not UTF-8, or a NUL
  }
  if (StartsWith(state, "42") || state == "3F000") {
    return Error(absl::StatusCode::kFailedPrecondition, "SCHEMA_MISMATCH",
                 text);  // not migrated, or no privilege
  }
  return Error(absl::StatusCode::kInternal, "DATABASE_REFUSED", text);  // a constraint, or a bug
}

// Ends what is left of a failed transaction; false if the connection is of no more use.
bool RollBack(Connection& connection) {
  if (!connection.IsOpen()) return false;
  try {
    pqxx::nontransaction work(connection.raw());
    work.exec("ROLLBACK");
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

pqxx::result Tx::BinaryQuery(const std::string& sql) {
  // Only a binary cursor makes the server answer a simple query in binary format. The cursor ends with the
  // transaction.
  const std::string cursor = StrCat("c", ++cursors_);
  return work_.exec(StrCat("DECLARE ", cursor, " BINARY CURSOR FOR ", sql, "; FETCH ALL FROM ", cursor));
}

absl::Status FromException(std::string_view name, std::exception_ptr exception, bool connection_open) {
  try {
    std::rethrow_exception(exception);
  } catch (const pqxx::broken_connection& error) {
    return Unavailable(name, error.what());
  } catch (const pqxx::transaction_rollback& error) {
    return Unavailable(name, error.what());
  } catch (const pqxx::sql_error& error) {
    return connection_open ? FromSqlError(name, error) : Unavailable(name, error.what());
  } catch (const std::exception& error) {
    if (!connection_open) return Unavailable(name, error.what());
    return Error(absl::StatusCode::kInternal, "STORAGE_BUG", StrCat(name, ": ", error.what()));
  }
}

Db::Db(PostgresOptions options, Clock& clock, Random& random)
    : acquire_timeout_(options.acquire_timeout),
      begin_write_(StrCat(BeginScript("BEGIN", options), "; SET LOCAL synchronous_commit = on")),
      begin_read_(BeginScript("BEGIN READ ONLY", options)),
      pool_(std::move(options), clock, random) {}

absl::Status Db::Write(std::string_view name, Body body) {
  return Run(true, Urgency::kUsual, acquire_timeout_, name, body);
}
absl::Status Db::Read(std::string_view name, Body body) {
  return Run(false, Urgency::kUsual, acquire_timeout_, name, body);
}
absl::Status Db::WriteVital(std::string_view name, Body body) {
  return Run(true, Urgency::kVital, acquire_timeout_, name, body);
}
absl::Status Db::ReadVital(absl::Duration limit, std::string_view name, Body body) {
  return Run(false, Urgency::kVital, limit, name, body);
}

absl::Status Db::Run(bool write, Urgency urgency, absl::Duration limit, std::string_view name, Body body) {
  DROVER_ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, pool_.Acquire(limit, urgency));
  absl::Status status;
  bool committing = false;
  bool committed = false;
  try {
    pqxx::nontransaction work(connection->raw());
    work.exec(write ? begin_write_ : begin_read_);
    Tx tx(work);
    status = body(tx);
    if (status.ok() && write) status = failpoint::HitStatus(StrCat("storage.", name, ".before_commit"));
    if (status.ok()) {
      committing = true;
      work.exec("COMMIT");
      committed = true;
    }
  } catch (...) {
    status = FromException(name, std::current_exception(), connection->IsOpen());
    if (write && committing && !connection->IsOpen()) {
      status = Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN",
                     StrCat(name, ": the connection broke while committing; it may have happened"));
    }
  }
  const bool usable = committed ? connection->IsOpen() : RollBack(*connection);
  pool_.Release(std::move(connection), !usable);
  if (committed && write) {
    if (!failpoint::HitStatus(StrCat("storage.", name, ".after_commit")).ok()) {
      return Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", StrCat(name, ": failpoint after commit"));
    }
  }
  return status;
}

}  // namespace drover::postgres
