#include "tests/integration/storage/postgres_env.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <pqxx/pqxx>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "common/log/log.h"

namespace drover::testing {
namespace {

constexpr char kPgScript[] = DROVER_SOURCE_DIR "/tests/support/pg.sh";

std::string Output(const std::string& command) {
  std::string output;
  FILE* const pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (pipe != nullptr && fgets(buffer, sizeof(buffer), pipe) != nullptr) output += buffer;
  if (pipe == nullptr || pclose(pipe) != 0) {
    std::fprintf(stderr, "failed: %s\n", command.c_str());
    std::exit(1);
  }
  return std::string(absl::StripSuffix(output, "\n"));
}

// A private cluster, gone with the program.
class Cluster {
 public:
  Cluster() {
    char pattern[] = "/tmp/drover-storage-XXXXXX";
    if (mkdtemp(pattern) == nullptr) std::abort();
    directory_ = absl::StrCat(pattern, "/pg");
    std::filesystem::permissions(pattern, std::filesystem::perms(0755));
    Output(absl::StrCat("bash ", kPgScript, " start ", directory_,
                        " --set max_connections=60 --set shared_buffers=64MB"));
    url_ = Output(absl::StrCat("bash ", kPgScript, " uri ", directory_));
  }
  ~Cluster() {
    if (std::system(absl::StrCat("bash ", kPgScript, " kill ", directory_).c_str()) != 0) {
      std::fprintf(stderr, "can't stop the cluster in %s\n", directory_.c_str());
      return;
    }
    std::error_code ignored;
    std::filesystem::remove_all(std::filesystem::path(directory_).parent_path(), ignored);
  }
  const std::string& directory() const { return directory_; }
  const std::string& url() const { return url_; }

 private:
  std::string directory_;
  std::string url_;
};

const Cluster& PrivateCluster() {
  static const Cluster cluster;  // its destructor removes it
  return cluster;
}

const char* GivenUrl() {
  const char* const url = std::getenv("DROVER_TEST_DATABASE");
  return url != nullptr && *url != '\0' ? url : nullptr;
}

std::string Migrated() {
  InitLogging({.level = LogLevel::kError});
  const std::string url = GivenUrl() != nullptr ? GivenUrl() : PrivateCluster().url();
  if (GivenUrl() != nullptr) Sql("DROP SCHEMA IF EXISTS drover CASCADE", url);
  if (const absl::Status status = MigratePostgres(url, "0.1.0"); !status.ok()) {
    std::fprintf(stderr, "can't migrate: %s\n", status.ToString().c_str());
    std::exit(1);
  }
  return url;
}

}  // namespace

const std::string& DatabaseUrl() {
  static const std::string url = Migrated();
  return url;
}

std::string FreshDatabase(const std::string& name) {
  Superuser(absl::StrCat("CREATE DATABASE ", name, " OWNER drover"));
  return absl::StrReplaceAll(PrivateCluster().url(), {{"/drover?", absl::StrCat("/", name, "?")}});
}

void ClearDatabase() {
  // Faster than TRUNCATE on tables that hold next to nothing.
  std::string sql;
  for (const char* const table : {"jobs", "job_state", "batches", "leases", "outcome_segments", "sessions",
                                  "duties", "create_requests", "events", "reports", "report_files"}) {
    absl::StrAppend(&sql, "DELETE FROM drover.", table, ";");
  }
  Sql(sql);
}

std::unique_ptr<PostgresStorage> OpenStorage(PostgresOptions options) {
  if (options.url.empty()) options.url = DatabaseUrl();
  return *OpenPostgres(options, SystemClock(), SystemRandom());
}

std::vector<std::vector<std::string>> Sql(const std::string& sql, const std::string& url) {
  pqxx::connection connection(url);
  pqxx::nontransaction work(connection);
  std::vector<std::vector<std::string>> rows;
  for (const pqxx::row& row : work.exec(sql)) {
    std::vector<std::string> columns;
    for (const pqxx::field& field : row) columns.emplace_back(field.is_null() ? "\\N" : field.c_str());
    rows.push_back(std::move(columns));
  }
  return rows;
}

void Superuser(const std::string& sql) {
  Output(absl::StrCat("bash ", kPgScript, " psql ", PrivateCluster().directory(), " -q -c \"", sql, "\""));
}

bool ControlCluster(const std::string& action) {
  if (GivenUrl() != nullptr) return false;
  DatabaseUrl();  // started
  Output(absl::StrCat("bash ", kPgScript, " ", action, " ", PrivateCluster().directory()));
  return true;
}

}  // namespace drover::testing
