// Bringing the schema up to date.
#include <array>
#include <charconv>

#include "common/clock/clock.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/postgres/migrations.h"
#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover {
namespace postgres {
namespace {

// The key of the advisory lock: "drover" in ASCII.
constexpr int64_t kMigrationLock = 0x64726f766572;

// A migration may rewrite a table, and another controller's migration may be waited for.
constexpr absl::Duration kMigrationTimeout = absl::Minutes(10);

constexpr char kBootstrapSql[] = R"sql(
  CREATE SCHEMA IF NOT EXISTS drover;
  CREATE TABLE IF NOT EXISTS drover.schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    least_controller text NOT NULL,
    applied_by text NOT NULL,
    applied_at timestamptz NOT NULL
  );
  COMMENT ON TABLE drover.schema_version IS
    'migrations applied; the last one''s least_controller is the oldest controller that may run here')sql";

absl::StatusOr<std::array<int, 3>> ParseVersion(std::string_view text) {
  std::array<int, 3> version{};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (size_t i = 0; i < version.size(); ++i) {
    const auto [next, error] = std::from_chars(at, end, version[i]);
    if (error != std::errc() || version[i] < 0 || (i + 1 < version.size() && (next == end || *next != '.'))) {
      return Error(absl::StatusCode::kInvalidArgument, "BAD_VERSION", StrCat("'", text, "' is no version"));
    }
    at = i + 1 < version.size() ? next + 1 : next;
  }
  if (at != end && *at != '-' && *at != '+') {  // 1.2.3-rc1 counts as 1.2.3
    return Error(absl::StatusCode::kInvalidArgument, "BAD_VERSION", StrCat("'", text, "' is no version"));
  }
  return version;
}

absl::Status Apply(Tx& tx, const Migration& migration, std::string_view controller_version) {
  DROVER_ASSIGN_OR_RETURN(const std::string_view least, LeastController(migration));
  tx.Script(std::string(migration.sql));
  tx.Query("INSERT INTO drover.schema_version VALUES ($1, $2, $3, $4, clock_timestamp())", migration.version,
           std::string(migration.name), std::string(least), std::string(controller_version));
  LogInfo("database.migrated", {{"migration", migration.name}});
  return absl::OkStatus();
}

absl::Status ApplyAll(Tx& tx, std::string_view controller_version) {
  tx.Query("SELECT pg_advisory_xact_lock($1::bigint)", kMigrationLock);
  // In a statement after the lock: what another controller applied while we waited is seen.
  tx.Script(kBootstrapSql);
  const pqxx::result rows =
      tx.Script("SELECT version, least_controller FROM drover.schema_version ORDER BY version DESC LIMIT 1");
  int present = 0;
  if (!rows.empty()) {
    present = rows[0][0].as<int>();
    const std::string least = ReadText(rows[0][1]);
    DROVER_ASSIGN_OR_RETURN(const bool too_old, IsOlder(controller_version, least));
    if (too_old) {
      return Error(absl::StatusCode::kFailedPrecondition, "SCHEMA_TOO_NEW",
                   StrCat("the database's schema (version ", present, ") needs controller ", least,
                          " or later, and this one is ", controller_version),
                   {{"least_controller", least}});
    }
  }
  for (const Migration& migration : Migrations()) {
    if (migration.version > present) DROVER_RETURN_IF_ERROR(Apply(tx, migration, controller_version));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string_view> LeastController(const Migration& migration) {
  constexpr std::string_view kMark = "-- least-controller: ";
  const size_t begin = migration.sql.find(kMark);
  if (begin == std::string_view::npos) {
    return Error(absl::StatusCode::kInternal, "BAD_MIGRATION",
                 StrCat(migration.name, " names no least-controller"));
  }
  const std::string_view rest = migration.sql.substr(begin + kMark.size());
  return StripWhitespace(rest.substr(0, rest.find('\n')));
}

absl::StatusOr<bool> IsOlder(std::string_view a, std::string_view b) {
  DROVER_ASSIGN_OR_RETURN(const auto left, ParseVersion(a));
  DROVER_ASSIGN_OR_RETURN(const auto right, ParseVersion(b));
  return left < right;
}

}  // namespace postgres

absl::Status MigratePostgres(const std::string& url, std::string_view controller_version) {
  PostgresOptions options;
  options.url = url;
  options.pool_size = 1;
  options.statement_timeout = postgres::kMigrationTimeout;
  options.lock_timeout = postgres::kMigrationTimeout;
  options.idle_in_transaction_timeout = postgres::kMigrationTimeout;
  postgres::Db db(options, SystemClock(), SystemRandom());
  return db.Write("migrate", [&](postgres::Tx& tx) { return postgres::ApplyAll(tx, controller_version); });
}

}  // namespace drover
