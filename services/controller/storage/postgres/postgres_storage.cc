#include "services/controller/storage/postgres/postgres_storage.h"

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"

namespace drover {
namespace {

using postgres::Db;
using postgres::Tx;

// A health check must answer soon, whatever the pool is doing.
constexpr absl::Duration kPingWait = absl::Milliseconds(500);

absl::Status BadOption(std::string_view path, std::string_view what) {
  FieldErrors errors;
  errors.Add(path, what);
  return errors.ToStatus();
}

}  // namespace

PostgresStorage::PostgresStorage(std::unique_ptr<Db> db) : db_(std::move(db)) {}
PostgresStorage::~PostgresStorage() = default;

absl::Status PostgresStorage::Ping() {
  return db_->ReadVital(kPingWait, "ping", [](Tx& tx) -> absl::Status {
    tx.Script("SELECT 1");
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<std::string>> PostgresStorage::DurabilityWarnings() {
  std::vector<std::string> warnings;
  const absl::Status status = db_->Read("durability", [&](Tx& tx) -> absl::Status {
    const pqxx::result rows =
        tx.Script("SELECT current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on'");
    if (!rows[0][0].as<bool>()) {
      warnings.push_back(
          "fsync is off in PostgreSQL: a crash of its machine may lose acknowledged outcomes, and the "
          "database with them");
    }
    if (!rows[0][1].as<bool>()) {
      warnings.push_back(
          "full_page_writes is off in PostgreSQL: a crash of its machine may damage the database");
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return warnings;
}

absl::StatusOr<std::unique_ptr<PostgresStorage>> OpenPostgres(const PostgresOptions& options, Clock& clock,
                                                              Random& random) {
  if (options.url.empty()) return BadOption("database.url", "must be given");
  if (options.pool_size < 1 || options.pool_size > kMaxPoolSize) {
    return BadOption("database.pool_size",
                     StrCat("must be 1 to ", kMaxPoolSize, ", got ", options.pool_size));
  }
  for (const absl::Duration timeout :
       {options.statement_timeout, options.lock_timeout, options.idle_in_transaction_timeout}) {
    if (timeout < absl::Milliseconds(1)) return BadOption("database.timeouts", "must be at least 1 ms");
  }
  return std::make_unique<PostgresStorage>(std::make_unique<Db>(options, clock, random));
}

}  // namespace drover
