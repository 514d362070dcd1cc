// A real PostgreSQL for the tests: the database that DROVER_TEST_DATABASE names (its schema drover is
// dropped!), or a private cluster by tests/support/pg.sh, started when first asked for and removed at the end
// of the program.
#ifndef DROVER_TESTS_INTEGRATION_STORAGE_POSTGRES_ENV_H_
#define DROVER_TESTS_INTEGRATION_STORAGE_POSTGRES_ENV_H_

#include <memory>
#include <string>
#include <vector>

#include "services/controller/storage/postgres/postgres_storage.h"

namespace drover::testing {

// The URL of the database, migrated; ends the program with a message if there is none to be had.
const std::string& DatabaseUrl();
// An empty database of its own in that cluster, not migrated.
std::string FreshDatabase(const std::string& name);
// Empties all tables of Drover.
void ClearDatabase();
// Another storage on the database.
std::unique_ptr<PostgresStorage> OpenStorage(PostgresOptions options = {});
// Runs SQL on a connection of its own, and returns the rows as text (NULL: "\\N"); throws what libpqxx
// throws.
std::vector<std::vector<std::string>> Sql(const std::string& sql, const std::string& url = DatabaseUrl());
// Runs SQL as superuser of the private cluster.
void Superuser(const std::string& sql);
// pg.sh with this action on the private cluster; false if the cluster is not ours.
bool ControlCluster(const std::string& action);

}  // namespace drover::testing

#endif  // DROVER_TESTS_INTEGRATION_STORAGE_POSTGRES_ENV_H_
