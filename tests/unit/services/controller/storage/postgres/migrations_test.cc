// The schema as text: what must agree with the code without a database to ask.
#include "services/controller/storage/postgres/migrations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "services/controller/lifecycle/lifecycle.h"

namespace drover::postgres {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Migrations, AreNumberedWithoutGapsAndSayWhoMayRunOnThem) {
  ASSERT_FALSE(Migrations().empty());
  int expected = 1;
  for (const Migration& migration : Migrations()) {
    EXPECT_EQ(migration.version, expected++);
    EXPECT_EQ(std::stoi(std::string(migration.name)), migration.version);
    const auto least = LeastController(migration);
    ASSERT_TRUE(least.ok()) << least.status();
    EXPECT_FALSE(*IsOlder(*least, "0.1.0"));
  }
}

TEST(Migrations, TheCheckOnStatesIsThatOfTheLifecycle) {
  EXPECT_THAT(std::string(Migrations().front().sql), HasSubstr(lifecycle::CheckConstraintSql()));
}

TEST(Migrations, EveryTableIsNamedWithItsSchema) {
  for (const Migration& migration : Migrations()) {
    const std::string sql(migration.sql);
    for (const std::string statement : {"CREATE TABLE ", "ALTER TABLE ", " ON "}) {
      for (size_t at = sql.find(statement); at != std::string::npos; at = sql.find(statement, at + 1)) {
        const std::string rest = sql.substr(at + statement.size(), 40);
        if (statement == " ON " && rest.starts_with("COLUMN")) continue;
        EXPECT_TRUE(rest.starts_with("drover.") || rest.starts_with("TABLE") ||
                    rest.starts_with("CONFLICT") || sql.rfind("--", at) > sql.rfind('\n', at))
            << statement << rest;
      }
    }
  }
}

TEST(Migrations, LeaveNothingInASession) {
  // A pooler in transaction mode would hand it to somebody else.
  for (const Migration& migration : Migrations()) {
    for (const char* const word : {"search_path", "LISTEN", "PREPARE", "TEMP"}) {
      EXPECT_THAT(std::string(migration.sql), Not(HasSubstr(word)));
    }
  }
}

TEST(Versions, AreComparedByNumber) {
  EXPECT_TRUE(*IsOlder("0.9.0", "0.10.0"));
  EXPECT_TRUE(*IsOlder("1.2.3", "1.2.4"));
  EXPECT_FALSE(*IsOlder("1.2.3", "1.2.3"));
  EXPECT_FALSE(*IsOlder("2.0.0", "1.9.9"));
  EXPECT_FALSE(*IsOlder("1.2.3-rc1", "1.2.3")) << "a candidate counts as its release";
  for (const char* const bad : {"", "1", "1.2", "1.2.x", "1.2.3.4", "-1.2.3", "1..3", "v1.2.3"}) {
    EXPECT_FALSE(IsOlder(bad, "1.2.3").ok()) << bad;
  }
}

}  // namespace
}  // namespace drover::postgres
