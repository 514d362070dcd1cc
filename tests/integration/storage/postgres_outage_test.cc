// The database that goes away: what a caller is told, and that the next call works as soon as it is back.
#include <future>
#include <pqxx/pqxx>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/storage/harness.h"
#include "tests/integration/storage/postgres_env.h"

namespace drover::testing {
namespace {

using ::testing::AnyOf;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using enum SegmentResult;
using lifecycle::State;

const auto kUnavailable = IsError(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE");

class PostgresOutageTest : public StorageTest {
 protected:
  // Ends the server's side of every connection but the one that says so, and waits until they are gone.
  static void TerminateAll() {
    Sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'");
  }
  static bool AwaitStatement(const std::string& like, const std::string& state) {
    for (int i = 0; i < 1000; ++i) {
      const auto rows =
          Sql(absl::StrCat("SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%",
                           like, "%' AND ", state));
      if (!rows.empty()) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }
};
INSTANTIATE_TEST_SUITE_P(All, PostgresOutageTest, ::testing::Values(StoragesUnderTest().front()),
                         [](const auto& info) { return info.param.name; });

TEST_P(PostgresOutageTest, OpensWhileTheDatabaseIsDown) {
  PostgresOptions options;
  options.url = "postgresql://drover@127.0.0.1:1/drover";
  options.acquire_timeout = absl::Milliseconds(200);
  const std::unique_ptr<PostgresStorage> storage = OpenStorage(options);

  EXPECT_THAT(storage->Ping(), kUnavailable);
  EXPECT_THAT(storage->GetJob(NewId()).status(), kUnavailable);
  EXPECT_THAT(MigratePostgres(options.url, "0.1.0"), kUnavailable);
}

TEST_P(PostgresOutageTest, NeverSaysThePassword) {
  PostgresOptions options;
  options.url = "postgresql://drover:s3cret@127.0.0.1:1/drover";
  EXPECT_THAT(std::string(OpenStorage(options)->Ping().ToString()),
              ::testing::Not(::testing::HasSubstr("s3cret")));
}

TEST_P(PostgresOutageTest, RefusesOptionsOutOfTheirLimits) {
  const auto open = [](PostgresOptions options) {
    options.url = "postgresql:///x";
    return OpenPostgres(options, SystemClock(), SystemRandom()).status().code();
  };
  EXPECT_EQ(open({}), absl::StatusCode::kOk);
  EXPECT_EQ(open({.pool_size = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open({.pool_size = kMaxPoolSize + 1}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open({.statement_timeout = absl::ZeroDuration()}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenPostgres({}, SystemClock(), SystemRandom()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(PostgresOutageTest, IdleConnectionsThatWereEndedAreNotUsedAgain) {
  const JobId job = ReadyJob({4});
  for (int i = 0; i < 5; ++i) {
    TerminateAll();
    EXPECT_THAT(storage().GetJob(job).status(), IsOk()) << "its end was noticed before it was used";
  }
}

TEST_P(PostgresOutageTest, ATransactionThatIsCutOffDidNotHappen) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec(absl::StrCat("SELECT * FROM drover.job_state WHERE job_id = '", job, "' FOR UPDATE"));
  auto record = std::async(std::launch::async,
                           [&] { return storage().Record(job, {WholeBatch(lease, session)}, {}).status(); });
  ASSERT_TRUE(AwaitStatement("UPDATE drover.job_state", "wait_event_type = 'Lock'"));

  Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");

  EXPECT_THAT(record.get(), kUnavailable);
  work.commit();
  EXPECT_EQ(Get(job).snapshot.succeeded, 0);
  EXPECT_EQ(RecordOne(job, WholeBatch(lease, session)), kRecorded);
}

TEST_P(PostgresOutageTest, AConnectionThatBreaksInTheCommitLeavesItUnknown) {
  // The commit waits for a standby that there is none of; its backend is ended while it waits.
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  if (!ControlCluster("status")) GTEST_SKIP() << "needs a cluster of its own";
  const auto standby = [](const std::string& name) {
    Superuser(absl::StrCat("ALTER SYSTEM SET synchronous_standby_names = '", name, "'"));
    Superuser("SELECT pg_reload_conf()");
  };
  standby("nobody");
  auto record = std::async(std::launch::async,
                           [&] { return storage().Record(job, {WholeBatch(lease, session)}, {}).status(); });
  const bool waiting = AwaitStatement("COMMIT", "wait_event = 'SyncRep'");
  Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");

  EXPECT_TRUE(waiting);
  EXPECT_THAT(record.get(), IsError(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN"));
  standby("");
  EXPECT_EQ(RecordOne(job, WholeBatch(lease, session)), kAlready)
      << "submitted again, it turns out to have happened";
  EXPECT_EQ(StateOf(job), State::kCompleting);
}

TEST_P(PostgresOutageTest, GoesOnWhenTheServerIsStartedAgain) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  ASSERT_EQ(RecordOne(job, WholeBatch(leases[0], session)), kRecorded);
  if (!ControlCluster("kill")) GTEST_SKIP() << "needs a cluster of its own";
  EXPECT_THAT(storage().Ping(), kUnavailable);
  EXPECT_EQ(storage().Record(job, {WholeBatch(leases[1], session)}, {}).status().code(),
            absl::StatusCode::kUnavailable);
  ASSERT_TRUE(ControlCluster("start"));

  // Within the longest backoff.
  EXPECT_EQ(RecordOne(job, WholeBatch(leases[1], session)), kRecorded);
  EXPECT_EQ(RecordOne(job, WholeBatch(leases[0], session)), kAlready) << "what was acknowledged survived";
  EXPECT_THAT(Value(storage().EndExpiredSessions()), IsEmpty());
}

TEST_P(PostgresOutageTest, WaitingForALockIsBounded) {
  const JobId job = ReadyJob({4});
  PostgresOptions options;
  options.lock_timeout = absl::Milliseconds(100);
  const std::unique_ptr<PostgresStorage> impatient = OpenStorage(options);
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec(absl::StrCat("SELECT * FROM drover.job_state WHERE job_id = '", job, "' FOR UPDATE"));

  EXPECT_THAT(impatient->SetPriority(job, 3, "ann").status(), kUnavailable);
  work.commit();
  EXPECT_TRUE(Value(impatient->SetPriority(job, 3, "ann"))) << "the connection is of use again";
}

TEST_P(PostgresOutageTest, WaitingForAConnectionIsBounded) {
  const JobId job = ReadyJob({4});
  PostgresOptions options;
  options.pool_size = 1;
  options.acquire_timeout = absl::Milliseconds(100);
  const std::unique_ptr<PostgresStorage> narrow = OpenStorage(options);
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec(absl::StrCat("SELECT * FROM drover.job_state WHERE job_id = '", job, "' FOR UPDATE"));
  auto first = std::async(std::launch::async, [&] { return narrow->SetPriority(job, 3, "ann").status(); });
  ASSERT_TRUE(AwaitStatement("FROM drover.job_state", "wait_event_type = 'Lock'"));

  EXPECT_THAT(narrow->GetJob(job).status(), IsError(absl::StatusCode::kUnavailable, "DATABASE_BUSY"));

  work.commit();
  EXPECT_THAT(first.get(), IsOk());
  EXPECT_THAT(narrow->GetJob(job).status(), IsOk());
}

TEST_P(PostgresOutageTest, SessionsAreRenewedWhileThePoolIsFullOfSlowCalls) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  PostgresOptions options;
  options.pool_size = 4;
  options.acquire_timeout = absl::Milliseconds(100);
  const std::unique_ptr<PostgresStorage> full = OpenStorage(options);
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec(absl::StrCat("SELECT * FROM drover.job_state WHERE job_id = '", job, "' FOR UPDATE"));
  std::vector<std::future<absl::Status>> slow;
  for (int i = 0; i < 3; ++i) {
    slow.push_back(
        std::async(std::launch::async, [&, i] { return full->SetPriority(job, i, "ann").status(); }));
  }
  for (int i = 0; i < 1000 && Sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").size() < 3;
       ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }

  EXPECT_THAT(full->GetJob(job).status(), IsError(absl::StatusCode::kUnavailable, "DATABASE_BUSY"));
  EXPECT_THAT(Value(full->RenewSessions({{session, 1, false}}, absl::Minutes(1))), SizeIs(1));
  EXPECT_THAT(full->Ping(), IsOk());

  work.commit();
  for (auto& call : slow) EXPECT_THAT(call.get(), IsOk());
}

TEST_P(PostgresOutageTest, ThePoolOpensNoMoreThanItMay) {
  const JobId job = ReadyJob({4});
  PostgresOptions options;
  options.pool_size = 3;
  options.url = absl::StrCat(DatabaseUrl(), "&application_name=narrow");
  const std::unique_ptr<PostgresStorage> narrow = OpenStorage(options);
  std::vector<std::future<absl::Status>> calls;
  for (int i = 0; i < 24; ++i) {
    calls.push_back(std::async(std::launch::async, [&] { return narrow->GetJob(job).status(); }));
  }
  for (auto& call : calls) EXPECT_THAT(call.get(), IsOk());
  const auto rows = Sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'narrow'");
  EXPECT_LE(std::stoi(rows[0][0]), 3);
}

TEST_P(PostgresOutageTest, LeavesNothingInTheSession) {
  // One connection: what a call leaves behind would be seen by the next, as behind a pooler in transaction
  // mode.
  PostgresOptions options;
  options.pool_size = 1;
  options.statement_timeout = absl::Seconds(17);
  options.url = absl::StrCat(DatabaseUrl(), "&application_name=lonely");
  const std::unique_ptr<PostgresStorage> lonely = OpenStorage(options);
  const JobId job = ReadyJob({4});
  ASSERT_THAT(lonely->GetJob(job).status(), IsOk());
  ASSERT_THAT(lonely->SetPriority(job, 4, "ann").status(), IsOk());
  ASSERT_THAT(lonely->SetPriority(NewId(), 4, "ann").status(),
              IsError(absl::StatusCode::kNotFound, "JOB_NOT_FOUND"));
  ASSERT_THAT(lonely->ReadBatchRange(job, 0, 1, 1).status(), IsOk());

  const auto rows = Sql("SELECT state, xact_start FROM pg_stat_activity WHERE application_name = 'lonely'");

  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_EQ(rows[0][0], "idle");
  EXPECT_EQ(rows[0][1], "\\N");
}

TEST_P(PostgresOutageTest, TellsTheAgeOfTheOldestTransaction) {
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec("SELECT 1");
  absl::SleepFor(absl::Milliseconds(30));
  EXPECT_GE(Value(storage().OldestTransaction()), absl::Milliseconds(30));
}

TEST_P(PostgresOutageTest, WarnsOfAServerThatMayForget) {
  if (!ControlCluster("status")) GTEST_SKIP() << "needs a cluster of its own";
  const std::unique_ptr<PostgresStorage> postgres = OpenStorage();
  EXPECT_THAT(Value(postgres->DurabilityWarnings()), IsEmpty());
  Superuser("ALTER SYSTEM SET fsync = off");
  Superuser("SELECT pg_reload_conf()");
  for (int i = 0; i < 500 && Value(postgres->DurabilityWarnings()).empty(); ++i)
    absl::SleepFor(absl::Milliseconds(10));
  EXPECT_THAT(Value(postgres->DurabilityWarnings()), SizeIs(1));
  Superuser("ALTER SYSTEM RESET fsync");
  Superuser("SELECT pg_reload_conf()");
}

}  // namespace
}  // namespace drover::testing
