// Migrations: from nothing, by several at once, and by a controller that is too old.
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/status/status.h"
#include "services/controller/storage/postgres/migrations.h"
#include "tests/integration/storage/harness.h"
#include "tests/integration/storage/postgres_env.h"

namespace drover::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(PostgresMigrate, BringsAnEmptyDatabaseUpToDateOnceHoweverManyTry) {
  const std::string url = FreshDatabase("migrate_once");
  std::vector<absl::Status> results(6);
  std::vector<std::thread> threads;
  for (absl::Status& result : results) {
    threads.emplace_back([&] { result = MigratePostgres(url, "0.1.0"); });
  }
  for (std::thread& thread : threads) thread.join();

  for (const absl::Status& result : results) EXPECT_THAT(result, IsOk());
  EXPECT_THAT(Sql("SELECT * FROM drover.schema_version", url), SizeIs(postgres::Migrations().size()));
}

TEST(PostgresMigrate, RefusesAControllerOlderThanTheSchemaAllows) {
  const std::string url = FreshDatabase("migrate_old");
  ASSERT_THAT(MigratePostgres(url, "0.1.0"), IsOk());
  Sql("INSERT INTO drover.schema_version VALUES (99, '0099_later', '1.2.0', '1.2.0', now())", url);

  const absl::Status refused = MigratePostgres(url, "1.1.9");

  EXPECT_THAT(refused, IsError(absl::StatusCode::kFailedPrecondition, "SCHEMA_TOO_NEW"));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("needs controller 1.2.0 or later, and this one is 1.1.9"));
  EXPECT_THAT(MigratePostgres(url, "1.2.0"), IsOk())
      << "a newer schema that allows this controller is left alone";
  EXPECT_THAT(MigratePostgres(url, "1.10.0"), IsOk()) << "ten is more than two";
}

TEST(PostgresMigrate, WithoutASchemaCallsSaySo) {
  PostgresOptions options;
  options.url = FreshDatabase("migrate_not");
  EXPECT_THAT(OpenStorage(options)->CountJobs().status(),
              IsError(absl::StatusCode::kFailedPrecondition, "SCHEMA_MISMATCH"));
}

}  // namespace
}  // namespace drover::testing
