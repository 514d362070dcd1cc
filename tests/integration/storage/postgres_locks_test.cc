// What only a look at the database itself can show: constraints, alarms, and who waits for whom.
#include <future>
#include <pqxx/pqxx>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/log/capture.h"
#include "tests/integration/storage/harness.h"
#include "tests/integration/storage/postgres_env.h"

namespace drover::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using enum SegmentResult;
using lifecycle::Cause;
using lifecycle::State;

class PostgresLocksTest : public StorageTest {};
INSTANTIATE_TEST_SUITE_P(All, PostgresLocksTest, ::testing::Values(StoragesUnderTest().front()),
                         [](const auto& info) { return info.param.name; });

// A transaction of another program that holds rows until it is let go of.
class Holder {
 public:
  explicit Holder(const std::string& sql) : connection_(DatabaseUrl()), work_(connection_) {
    work_.exec(sql);
  }
  void Commit() { work_.commit(); }

 private:
  pqxx::connection connection_;
  pqxx::work work_;
};

// Waits until that many statements of others wait for a lock; false after 10 s.
bool AwaitWaiters(int count) {
  for (int i = 0; i < 1000; ++i) {
    const auto rows = Sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
    if (std::stoi(rows[0][0]) >= count) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

std::string RowOf(const char* table, const JobId& job) {
  return absl::StrCat("SELECT * FROM drover.", table, " WHERE job_id = '", job, "' FOR UPDATE");
}

TEST_P(PostgresLocksTest, TheDatabaseRefusesEveryPairOfStatesThatTheTableDoesNotHave) {
  const JobId job = ReadyJob({4});
  for (int from = 0; from <= lifecycle::kStateCount; ++from) {
    for (int to = 0; to <= lifecycle::kStateCount + 1; ++to) {
      const auto before = lifecycle::StateFromNumber(from);
      const auto after = lifecycle::StateFromNumber(to);
      const bool legal = from == 0 ? to == static_cast<int>(State::kNew)
                                   : before && after && lifecycle::IsLegal(*before, *after);
      const std::string sql = absl::StrCat("UPDATE drover.job_state SET previous_state = ", from,
                                           ", state = ", to, " WHERE job_id = '", job, "'");
      if (legal) {
        EXPECT_NO_THROW(Sql(sql)) << from << " to " << to;
      } else {
        EXPECT_THROW(Sql(sql), pqxx::check_violation) << from << " to " << to;
      }
    }
  }
}

TEST_P(PostgresLocksTest, TheDatabaseRefusesWhatBreaksAnInvariant) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session, 1, 1)[0];
  ASSERT_EQ(RecordOne(job, Segment(lease, session, 1, Range(0, 2))), kRecorded);
  for (const char* const change : {
           "UPDATE drover.job_state SET succeeded = 9",   // more than there are
           "UPDATE drover.job_state SET failed = -1",     //
           "UPDATE drover.job_state SET next_batch = 3",  // beyond the last batch
           "UPDATE drover.job_state SET priority = -1",   //
           "UPDATE drover.leases SET session_id = NULL",  // without saying why it came back
           "UPDATE drover.leases SET done = 4",           // done, but there
           "UPDATE drover.leases SET task_count = 5",     // more than the batch
           "UPDATE drover.batches SET tasks = 0",         //
           "UPDATE drover.duties SET kind = 9",           //
       }) {
    if (std::string_view(change).find("duties") != std::string_view::npos) CreateJob();
    EXPECT_THROW(Sql(change), pqxx::check_violation) << change;
  }
  EXPECT_THROW(Sql("INSERT INTO drover.outcome_segments SELECT * FROM drover.outcome_segments"),
               pqxx::unique_violation);
  EXPECT_THROW(Sql("INSERT INTO drover.batches SELECT * FROM drover.batches"), pqxx::unique_violation);
}

TEST_P(PostgresLocksTest, LeasesLeftAtCompletionAreAnAlarmAndNoCompletion) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  Sql(absl::StrCat(
      "INSERT INTO drover.leases (job_id, batch_no, lease_id, first_task, batch_tasks, task_count, ",
      "attachment, came_back) VALUES ('", job, "', 0, 77, 0, 4, 4, 0, 1)"));
  const LogCapture logs;

  EXPECT_THAT(storage().Record(job, {WholeBatch(lease, session)}, {}).status(),
              IsError(absl::StatusCode::kInternal, "LEASES_LEFT"));

  EXPECT_EQ(StateOf(job), State::kActive);
  EXPECT_EQ(Get(job).snapshot.succeeded, 0) << "rolled back";
  EXPECT_THAT(logs.lines(), Contains(HasSubstr("event=invariant.broken")));
}

TEST_P(PostgresLocksTest, MissingTasksAreAnAlarm) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const std::vector<ClaimedLease> leases = Claim(job, session);
  Sql(absl::StrCat("DELETE FROM drover.leases WHERE batch_no = 1 AND job_id = '", job, "'"));

  const LogCapture logs;
  EXPECT_THAT(storage().Record(job, {WholeBatch(leases[0], session)}, {}).status(),
              IsError(absl::StatusCode::kInternal, "TASKS_MISSING"));

  EXPECT_EQ(Get(job).snapshot.succeeded, 0);
}

TEST_P(PostgresLocksTest, AClaimWaitsForNoLease) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session, 1, 1)[0];
  ASSERT_EQ(Value(storage().ReturnLeases(job, {Owned(job, lease, session)}, CameBack::kLost)), 1);
  Holder holder(RowOf("leases", job));

  const std::vector<ClaimedLease> claimed = Claim(job, session);

  ASSERT_THAT(claimed, SizeIs(1));
  EXPECT_EQ(claimed[0].batch_no, 1) << "the one that came back is left for later";
  holder.Commit();
  EXPECT_EQ(Claim(job, session).at(0).batch_no, 0);
}

TEST_P(PostgresLocksTest, AClaimDecidesByTheStateItFindsAfterWaiting) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  Holder holder(RowOf("job_state", job));
  auto claim = std::async(std::launch::async, [&] { return Claim(job, session); });
  ASSERT_TRUE(AwaitWaiters(1));
  holder.Commit();
  EXPECT_THAT(claim.get(), SizeIs(1)) << "nothing had changed";

  // And one that was cancelled by the transaction it waited for.
  const JobId other = ReadyJob({4});
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec(absl::StrCat("UPDATE drover.job_state SET previous_state = state, state = 10 WHERE job_id = '",
                         other, "'"));
  auto late = std::async(std::launch::async, [&] { return Claim(other, session); });
  ASSERT_TRUE(AwaitWaiters(1));
  work.commit();
  EXPECT_THAT(late.get(), IsEmpty());
}

TEST_P(PostgresLocksTest, ARecordSeesThatItsLeaseCameBackWhileItWaited) {
  const JobId job = ReadyJob({4});
  const SessionId session = CreateSession();
  const ClaimedLease lease = Claim(job, session)[0];
  pqxx::connection connection(DatabaseUrl());
  pqxx::work work(connection);
  work.exec(absl::StrCat(
      "UPDATE drover.leases SET session_id = NULL, attachment = 0, came_back = 1 WHERE job_id = '", job,
      "'"));
  auto record = std::async(std::launch::async, [&] { return RecordOne(job, WholeBatch(lease, session)); });
  ASSERT_TRUE(AwaitWaiters(1));

  work.commit();

  EXPECT_EQ(record.get(), kLost);
}

TEST_P(PostgresLocksTest, TheSameSegmentsFromTwoControllersAreRecordedOnce) {
  const JobId job = ReadyJob({4, 4});
  const SessionId session = CreateSession();
  std::vector<SegmentWrite> group;
  for (const ClaimedLease& lease : Claim(job, session)) group.push_back(WholeBatch(lease, session));
  const std::unique_ptr<Storage> other = AnotherController();
  Holder holder(RowOf("leases", job));
  auto first =
      std::async(std::launch::async, [&] { return Value(storage().Record(job, group, {})).results; });
  auto second = std::async(std::launch::async, [&] { return Value(other->Record(job, group, {})).results; });
  ASSERT_TRUE(AwaitWaiters(2));

  holder.Commit();

  std::vector<std::vector<SegmentResult>> results = {first.get(), second.get()};
  EXPECT_THAT(results, ::testing::UnorderedElementsAre(ElementsAre(kRecorded, kRecorded),
                                                       ElementsAre(kAlready, kAlready)));
  EXPECT_EQ(Get(job).snapshot.succeeded, 8);
}

TEST_P(PostgresLocksTest, ACancelWaitsForNoChunkAndTheChunkIsNotAppended) {
  const auto [job, duty] = PreparingJob(SomeJob());
  auto holder = std::make_unique<Holder>(RowOf("duties", job));

  ASSERT_THAT(Change(job, Cause::kCancel).status(), IsOk()) << "does not wait for the duty's row";

  holder->Commit();
  EXPECT_THAT(storage().AppendBatches(duty, {Batches({4}), "4", true}),
              IsError(absl::StatusCode::kFailedPrecondition, "JOB_STATE"));
  EXPECT_THAT(Sql("SELECT kind FROM drover.duties"), ElementsAre(ElementsAre("2")))
      << "the prepare duty is gone";
  EXPECT_THAT(Sql("SELECT * FROM drover.batches"), IsEmpty());
}

TEST_P(PostgresLocksTest, AcquiringADutyWaitsForNobody) {
  const JobId locked = CreateJob();
  const JobId free = CreateJob();
  Holder holder(RowOf("duties", locked));
  const std::vector<Duty> duties =
      Value(storage().AcquireDuties("c", {DutyKind::kPrepare}, 10, absl::Minutes(1)));
  ASSERT_THAT(duties, SizeIs(1));
  EXPECT_EQ(duties[0].job_id, free);
}

// Plans over thousands of rows, with statistics; rolled back.
class Plans {
 public:
  Plans() : connection_(DatabaseUrl()), work_(connection_) {
    work_.exec(R"sql(
      INSERT INTO drover.job_state
        (job_id, state, previous_state, priority, version, confirmation_required, state_at, report_state, batches, tasks)
      SELECT gen_random_uuid(), CASE WHEN i % 10 = 0 THEN 4 ELSE 9 END, CASE WHEN i % 10 = 0 THEN 2 ELSE 8 END,
             i % 7, 1, false, now(), 0, 5, 5
      FROM generate_series(1, 5000) i;
      INSERT INTO drover.leases
        (job_id, batch_no, lease_id, first_task, batch_tasks, task_count, attachment, session_id, came_back)
      SELECT job_id, b, b + 1, 0, 1, 1, 1, CASE WHEN b < 4 THEN gen_random_uuid() END, CASE WHEN b < 4 THEN 0 ELSE 1 END
      FROM (SELECT job_id FROM drover.job_state WHERE state = 4 LIMIT 400) j, generate_series(0, 4) b;
      INSERT INTO drover.duties (job_id, kind, part, due_at, created_at)
      SELECT gen_random_uuid(), 1, 0, now() + CASE WHEN i % 50 = 0 THEN '-1s' ELSE '1h' END::interval, now()
      FROM generate_series(1, 3000) i;
      INSERT INTO drover.outcome_segments (job_id, batch_no, lease_id, seq, succeeded, failed)
      SELECT '00000000-0000-0000-0000-000000000000', i, 1, 1, 1, CASE WHEN i % 100 = 0 THEN 1 ELSE 0 END
      FROM generate_series(1, 5000) i;
      ANALYZE drover.job_state, drover.leases, drover.duties, drover.outcome_segments)sql");
  }
  std::string Of(const std::string& sql) {
    std::string text;
    for (const pqxx::row& row : work_.exec(absl::StrCat("EXPLAIN ", sql)))
      absl::StrAppend(&text, row[0].c_str(), "\n");
    return text;
  }

 private:
  pqxx::connection connection_;
  pqxx::work work_;
};

TEST_P(PostgresLocksTest, FrequentLooksUseTheirIndexes) {
  Plans plans;
  const std::string claimable = plans.Of(
      "SELECT s.*, b.* FROM drover.job_state s CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM drover.leases "
      "l WHERE "
      "l.job_id = s.job_id AND l.session_id IS NULL) AS came_back) b WHERE s.state IN (4, 5, 7) AND (s.state "
      "<> 7 OR "
      "s.reason_code = 'PREEMPTED') AND (s.next_batch < s.batches OR b.came_back) "
      "ORDER BY s.priority DESC, s.job_id LIMIT 10");
  EXPECT_THAT(claimable, HasSubstr("using job_state_live"));
  EXPECT_THAT(claimable, ::testing::Not(HasSubstr("Sort")));
  const std::string running = plans.Of(
      "SELECT s.priority FROM drover.job_state s WHERE s.state IN (4, 5, 6, 7, 10, 12) AND EXISTS (SELECT "
      "FROM "
      "drover.leases o WHERE o.job_id = s.job_id AND o.session_id IS NOT NULL) ORDER BY s.priority DESC, "
      "s.job_id "
      "LIMIT 1");
  EXPECT_THAT(running, HasSubstr("using job_state_live"));
  EXPECT_THAT(running, HasSubstr("leases_owned"));
  EXPECT_THAT(
      plans.Of("SELECT * FROM drover.duties WHERE due_at <= statement_timestamp() AND kind = ANY('{1,2}') "
               "ORDER BY due_at LIMIT 10 FOR UPDATE SKIP LOCKED"),
      HasSubstr("using duties_due"));
  EXPECT_THAT(
      plans.Of("SELECT * FROM drover.outcome_segments WHERE job_id = '00000000-0000-0000-0000-000000000000' "
               "AND batch_no >= 300 AND batch_no < 900 AND failed > 0"),
      HasSubstr("outcome_segments_failed"));
  // ReadSegmentPage: the batches that have failures, and then their segments, in the order of that index.
  const std::string failures =
      "FROM drover.outcome_segments s WHERE s.job_id = '00000000-0000-0000-0000-000000000000' "
      "AND s.batch_no >= 300 AND s.failed > 0 ";
  for (const std::string& plan :
       {plans.Of(absl::StrCat("SELECT s.batch_no, sum(s.failed) ", failures,
                              "GROUP BY s.batch_no ORDER BY s.batch_no LIMIT 17")),
        plans.Of(absl::StrCat("SELECT s.payload ", failures,
                              "AND s.batch_no <= (SELECT 900) ORDER BY s.batch_no"))}) {
    EXPECT_THAT(plan, HasSubstr("using outcome_segments_failed"));
    EXPECT_THAT(plan, ::testing::Not(HasSubstr("Sort")));
  }
}

}  // namespace
}  // namespace drover::testing
