"""PostgreSQL goes away in the middle of jobs: killed and started again, down for a minute, its connections ended one by
one. Nobody exits, nothing is lost, no session ends, and nothing runs twice: the store counts the requests."""

import collections
import threading
import time

import drover_env
import job_oracles

OUTAGE_SECONDS = 60  # four times a session's TTL
BUCKET = "bucket"

# Ends, for ten seconds, connections that are in the middle of something; lists what that was.
TERMINATE_BUSY = """
    CREATE TEMP TABLE terminated (query text);
    DO $$
    DECLARE victim record;
    BEGIN
      FOR look IN 1 .. 500 LOOP
        PERFORM pg_stat_clear_snapshot();
        SELECT pid, query INTO victim FROM pg_stat_activity
          WHERE usename = 'drover' AND state <> 'idle' ORDER BY random() LIMIT 1;
        IF FOUND AND look % 3 = 0 AND pg_terminate_backend(victim.pid) THEN
          INSERT INTO terminated VALUES (victim.query);
        END IF;
        PERFORM pg_sleep(0.02);
      END LOOP;
    END $$;
    SELECT query FROM terminated;
"""


class DatabaseFaultsTest(job_oracles.JobTestCase):
    def setUp(self):
        self.env = drover_env.Env("dbfaults")
        self.addCleanup(self.env.close)
        self.postgres = self.env.start_postgres()
        self.store = self.env.start_counting_server(latency_ms=100)
        self.env.write_stores([self.env.file_store(), self.env.s3_store(endpoint=self.store.endpoint)])
        self.controllers = self.env.start_controllers(2)
        # One worker on each controller: a worker that knows both chooses by chance.
        self.workers = [self.env.start_worker(controllers=[controller]) for controller in self.controllers]
        self.env.wait_workers(2)

    def tag(self, name, count, **fields):
        """Starts a job that tags `count` objects; returns it and the manifest's entries."""
        entries = [(BUCKET, f"{name}/{number:05}") for number in range(count)]
        job = self.env.create_job({"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}},
                                  self.env.put_manifest(entries), report={"store": "files", "bucket": "reports"},
                                  **fields)
        return job, entries

    def executed(self, prefix=""):
        """{key: how often it was tagged}, as the store counted."""
        counts = collections.Counter()
        for (_, target), count in self.store.counts().items():
            key = target.removeprefix(f"/{BUCKET}/").partition("?")[0]
            if key.startswith(prefix):
                counts[key] += count
        return counts

    def wait_executed(self, prefix, count):
        drover_env.wait_until(f"{count} requests were made", lambda: self.executed(prefix).total() >= count, 60)

    def assert_executed_once(self, entries, prefix):
        counts = self.executed(prefix)
        self.assertEqual({}, {key: count for key, count in counts.items() if count != 1})
        self.assertEqual({key for _, key in entries}, set(counts))

    def assert_nobody_exited(self):
        for process in self.controllers + self.workers:
            self.assertTrue(process.running, f"{process.name} ended with {process.exit_code}:\n{process.log()[-2000:]}")

    def sessions(self):
        """{(name, session id)} as `worker list` says."""
        return {(worker["name"], worker["sessionId"]) for worker in self.env.cli_json("worker", "list")["workers"]}

    def assert_nothing_left_behind(self):
        for table in ("leases", "duties"):
            drover_env.wait_until(f"{table} is empty",
                                  lambda t=table: self.postgres.sql(f"SELECT count(*) FROM drover.{t}") == [["0"]])

    def test_killed_and_started_again_in_the_middle_of_a_job(self):
        sessions = self.sessions()
        job, entries = self.tag("killed", 6000)
        self.wait_executed("killed", 1500)
        self.postgres.kill()
        done_at_kill = self.executed().total()
        self.assertLess(done_at_kill, len(entries), "the job was over before the database was killed")
        time.sleep(2)
        self.postgres.start()
        job = self.env.wait_job(job)
        self.assert_all_succeeded(job, entries)
        self.assert_executed_once(entries, "killed")
        self.assert_nobody_exited()
        self.assertEqual(sessions, self.sessions())
        self.assert_nothing_left_behind()

    def test_down_for_a_minute(self):
        import grpc

        sessions = self.sessions()
        began = self.postgres.sql("SELECT session_id, created_at FROM drover.sessions ORDER BY 1")
        long_job, long_entries = self.tag("long", 8000)
        waiting_job, waiting_entries = self.tag("waiting", 100, confirmation_required=True)
        self.env.wait_job(waiting_job, states=("SUSPENDED",))
        self.wait_executed("long", 1500)

        self.postgres.kill()
        down_at = time.monotonic()
        for controller in self.controllers:
            drover_env.wait_until(f"{controller.name} is not serving", lambda c=controller: self.env.health(c) == 2, 20)
        with self.refused("UNAVAILABLE", "DATABASE_UNAVAILABLE"):
            self.env.get_job(long_job)
        with self.assertRaises(grpc.RpcError):
            self.tag("refused", 10)
        # The workers fence themselves before their sessions could end, and then start nothing.
        time.sleep(max(0.0, down_at + 20 - time.monotonic()))
        for worker in self.workers:
            self.assertEqual(1, worker.metric("drover_worker_fenced"), worker.name)
        fenced = self.executed().total()
        self.assertLess(fenced, len(long_entries), "the job was over before the workers fenced themselves")
        time.sleep(max(0.0, down_at + OUTAGE_SECONDS - time.monotonic()))
        self.assertEqual(fenced, self.executed().total())
        self.assert_nobody_exited()

        self.postgres.start()
        for controller in self.controllers:
            self.env.wait_serving(controller)
        self.env.cli_json("job", "confirm", waiting_job.job_id)
        self.assert_all_succeeded(self.env.wait_job(long_job), long_entries)
        self.assert_all_succeeded(self.env.wait_job(waiting_job), waiting_entries)
        self.assert_executed_once(long_entries, "long")
        self.assert_executed_once(waiting_entries, "waiting")
        self.assert_nobody_exited()
        self.assertEqual(sessions, self.sessions())
        self.assertEqual(began, self.postgres.sql("SELECT session_id, created_at FROM drover.sessions ORDER BY 1"))
        self.assertEqual([["0"]], self.postgres.sql("SELECT count(*) FROM drover.jobs WHERE job_id NOT IN "
                                                    f"('{long_job.job_id}', '{waiting_job.job_id}')"))
        self.assert_nothing_left_behind()

    def test_each_connection_terminated_in_turn_under_load(self):
        sessions = self.sessions()
        started = []
        stop = threading.Event()
        errors = []

        def keep_loaded():
            # Small jobs beside the large one, so that every kind of transaction is under way: create, prepare,
            # claim, record, report. A create that is refused is tried again with the same request id.
            import grpc

            number = 0
            while not stop.is_set():
                number += 1
                request_id = f"load-{number}"
                entries = [(BUCKET, f"small{number}/{i}") for i in range(40)]
                manifest = self.env.put_manifest(entries)
                deadline = time.monotonic() + 60
                while True:
                    try:
                        job = self.env.create_job(
                            {"store": "s3", "put_object_tagging": {"tags": []}}, manifest,
                            report={"store": "files", "bucket": "reports"}, request_id=request_id)
                        started.append((job, entries, f"small{number}/"))
                        break
                    except grpc.RpcError as error:
                        if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                            errors.append(error)
                            return
                        time.sleep(0.1)
                stop.wait(0.3)

        large, large_entries = self.tag("large", 16000)
        loader = threading.Thread(target=keep_loaded)
        loader.start()
        try:
            self.wait_executed("large", 200)
            terminated = set()
            while len(terminated) < 30:
                for pid in [pid for pid in self.postgres.backends() if pid not in terminated][:1]:
                    terminated.add(pid)
                    self.postgres.terminate_backend(pid)
            busy = [row[0] for row in self.postgres.sql(TERMINATE_BUSY)]
        finally:
            stop.set()
            loader.join()
        self.assertEqual([], errors)
        # Terminated in the middle of a transaction, and of those that change something.
        self.assertGreater(len(busy), 20)
        self.assertGreater(sum("SELECT" not in query.split()[0] for query in busy), 5, busy)
        self.assertGreater(len(started), 3)
        self.assert_all_succeeded(self.env.wait_job(large), large_entries)
        self.assert_executed_once(large_entries, "large")
        for job, entries, prefix in started:
            self.assert_all_succeeded(self.env.wait_job(job), entries)
            self.assert_executed_once(entries, prefix)
        self.assertEqual(1 + len({job.job_id for job, _, _ in started}),
                         int(self.postgres.sql("SELECT count(*) FROM drover.jobs")[0][0]))
        self.assert_nobody_exited()
        self.assertEqual(sessions, self.sessions())
        self.assert_nothing_left_behind()


if __name__ == "__main__":
    import unittest

    unittest.main()
