"""A job's life as a person steers it through the API: confirmation, pause, resume, cancel, priority, threshold and
preemption; each change kept with its reason, caller and time; each that is refused, refused by name."""

import signal
import time

import drover_env
import job_oracles

STATES = ("", "NEW", "PREPARING", "SUSPENDED", "READY", "ACTIVE", "PAUSING", "PAUSED", "COMPLETING", "COMPLETE",
          "CANCELLING", "CANCELLED", "FAILING", "FAILED")


class SteeringTestCase(job_oracles.JobTestCase):
    """Calls and looks; two controllers with a worker each."""

    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("lifecycle")
        cls.addClassCleanup(cls.env.close)
        cls.postgres = cls.env.start_postgres()
        cls.env.write_stores()
        cls.env.start_controllers(2, flags=["--preempted-after", "500ms"])
        cls.pb = drover_env.python_stubs().job_service_pb2

    @classmethod
    def start_workers(cls):
        workers = [cls.env.start_worker(controllers=[controller], flags=["--concurrency", "16"])
                   for controller in cls.env.controllers]
        cls.env.wait_workers(2)
        return workers

    def create(self, tasks, ms=0, failing=0.0, **fields):
        """A no-op job of so many tasks that take so long; returns it and its entries."""
        entries = [("bucket", f"{number:06}") for number in range(tasks)]
        fields.setdefault("report", {"store": "files", "bucket": "reports"})
        job = self.env.create_job({"no_op": {"duration": f"{ms / 1000}s", "failure_fraction": failing}},
                                  self.env.put_manifest(entries), **fields)
        return job, entries

    def call(self, verb, job, **fields):
        request = getattr(self.pb, f"{verb}Request")(job_id=job.job_id, **fields)
        return getattr(self.env.jobs(), verb)(request, timeout=20).job

    def confirm(self, job, **fields):
        return self.call("ConfirmJob", job, **fields)

    def cancel(self, job, **fields):
        return self.call("CancelJob", job, **fields)

    def pause(self, job, **fields):
        return self.call("PauseJob", job, **fields)

    def resume(self, job, **fields):
        return self.call("ResumeJob", job, **fields)

    def set_priority(self, job, priority):
        return self.call("UpdateJobPriority", job, priority=priority)

    def wait_done(self, job, tasks):
        """Waits until so many tasks are recorded."""
        def done():
            progress = self.env.get_job(job).progress
            return progress.succeeded_tasks + progress.failed_tasks >= tasks

        drover_env.wait_until(f"{tasks} tasks are done", done, 60)

    def events(self, job):
        """[(state, priority, reason code, message, caller)] in order; each with a time, and none missing."""
        rows = self.postgres.sql("SELECT version, at, state, priority, reason_code, reason_message, caller FROM "
                                 f"drover.events WHERE job_id = '{job.job_id}' ORDER BY version")
        self.assertEqual([str(number + 1) for number in range(len(rows))], [row[0] for row in rows])
        self.assertEqual(sorted(row[1] for row in rows), [row[1] for row in rows])
        return [(STATES[int(row[2])], int(row[3]), *row[4:]) for row in rows]

    def states(self, job):
        """The states that the job went through, one after the other."""
        states = []
        for state, *_ in self.events(job):
            if states[-1:] != [state]:
                states.append(state)
        return states

    def assert_refused(self, call, job, **fields):
        """The call is FAILED_PRECONDITION, says the state and what it needs, and changes nothing."""
        before = self.env.get_job(job)
        with self.refused("FAILED_PRECONDITION", "JOB_STATE") as held:
            call(job, **fields)
        self.assertEqual(job_oracles.state_of(before), held[0].metadata["state"])
        after = self.env.get_job(job)
        self.assertEqual((before.version, before.state), (after.version, after.state))
        return held[0]


class LifecycleTest(SteeringTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_workers()

    # ---- confirmation

    def test_confirmation(self):
        job, entries = self.create(100, confirmation_required=True)
        job = self.env.wait_job(job, states=("SUSPENDED",))
        self.assertEqual(100, job.progress.total_tasks)
        self.assertIn("READY", self.assert_refused(self.pause, job).metadata["needs"])
        self.assert_refused(self.resume, job)
        time.sleep(0.5)
        self.assertEqual(0, self.env.get_job(job).progress.succeeded_tasks)
        self.confirm(job, reason="looks right")
        job = self.env.wait_job(job)
        self.assert_all_succeeded(job, entries)
        self.assert_refused(self.confirm, job)
        self.assertIn(("READY", 0, "USER_REQUEST", "looks right", "anonymous"), self.events(job))
        self.assertEqual(["NEW", "PREPARING", "SUSPENDED", "READY", "ACTIVE", "COMPLETING", "COMPLETE"],
                         self.states(job))

    def test_cancelled_instead_of_confirmed(self):
        job, _ = self.create(100, confirmation_required=True)
        self.env.wait_job(job, states=("SUSPENDED",))
        self.cancel(job, reason="not these")
        job = self.env.wait_job(job, states=("CANCELLED",))
        self.assertEqual(("USER_REQUEST", "not these", "anonymous"),
                         (job.state_reason.code, job.state_reason.message, job.state_reason.caller))
        self.assertEqual((0, 5), (job.progress.succeeded_tasks, job.report_status.state))  # NOT_NEEDED
        self.assert_refused(self.confirm, job)

    # ---- cancel

    def test_cancelled_while_it_runs_and_reported_as_far_as_it_came(self):
        job, entries = self.create(5000, ms=50)
        self.wait_done(job, 100)
        changed = self.cancel(job, reason="enough, \"danke\" ü")
        self.assertIn(job_oracles.state_of(changed), ("CANCELLING", "CANCELLED"))
        job = self.env.wait_job(job, states=("CANCELLED",), timeout=20)
        self.assertEqual(("USER_REQUEST", "enough, \"danke\" ü", "anonymous"),
                         (job.state_reason.code, job.state_reason.message, job.state_reason.caller))
        done = job.progress.succeeded_tasks
        self.assertTrue(100 <= done < 5000, done)
        self.assertEqual((0, 0), (job.progress.failed_tasks, job.progress.unconfirmed_tasks))
        report = self.env.read_report(job)
        self.assertEqual("Cancelled", report.manifest["Status"])
        self.assertEqual(done, len(report.rows))
        counts = report.keys()
        self.assertEqual(done, len(counts))
        self.assertLessEqual(set(counts), set(entries))
        self.assertIn(("CANCELLING", 0, "USER_REQUEST", "enough, \"danke\" ü", "anonymous"), self.events(job))
        # Again is the same answer, and no other change.
        again = self.cancel(job, reason="once more")
        self.assertEqual((job.version, job.state), (again.version, again.state))
        for call in (self.pause, self.resume, self.confirm):
            self.assert_refused(call, job)

    def test_requests_in_flight_of_a_cancelled_job_are_given_their_time(self):
        job, _ = self.create(64, ms=3000)
        drover_env.wait_until("tasks run", lambda: self.env.get_job(job).progress.leased_tasks, 20)
        time.sleep(0.5)
        self.cancel(job)
        job = self.env.wait_job(job, states=("CANCELLED",), timeout=20)
        # Those that ran have ended well, within the 30 s that they have.
        self.assertTrue(0 < job.progress.succeeded_tasks < 64, job.progress)
        self.assertEqual(0, job.progress.failed_tasks)

    # ---- pause and resume

    def test_paused_and_resumed_while_it_runs(self):
        job, entries = self.create(3000, ms=20)
        self.wait_done(job, 100)
        self.pause(job, reason="lunch")
        paused = self.env.wait_job(job, states=("PAUSED",), timeout=20)
        self.assertEqual(("USER_REQUEST", "lunch", "anonymous"),
                         (paused.state_reason.code, paused.state_reason.message, paused.state_reason.caller))
        self.assertEqual([["0"]], self.postgres.sql(
            f"SELECT count(*) FROM drover.leases WHERE job_id = '{job.job_id}' AND session_id IS NOT NULL"))
        time.sleep(1)
        still = self.env.get_job(job)
        self.assertEqual((paused.version, paused.progress.succeeded_tasks),
                         (still.version, still.progress.succeeded_tasks))
        self.assertLess(paused.progress.succeeded_tasks, 3000)
        again = self.pause(job, reason="still lunch")
        self.assertEqual(paused.version, again.version)
        self.assert_refused(self.confirm, job)
        self.resume(job, reason="fed")
        job = self.env.wait_job(job)
        self.assert_all_succeeded(job, entries)
        kept = [(state, message) for state, _, code, message, _ in self.events(job) if code == "USER_REQUEST"]
        self.assertEqual([("PAUSING", "lunch"), ("PAUSED", "lunch"), ("READY", "fed")], kept)

    def test_resumed_while_it_is_pausing(self):
        job, entries = self.create(64, ms=1500)
        drover_env.wait_until("tasks run", lambda: self.env.get_job(job).progress.leased_tasks, 20)
        time.sleep(0.3)
        self.assert_state("PAUSING", self.pause(job))
        self.assert_state("ACTIVE", self.resume(job))
        job = self.env.wait_job(job)
        self.assert_all_succeeded(job, entries)
        self.assertEqual(["ACTIVE", "PAUSING", "ACTIVE", "COMPLETING"], self.states(job)[-5:-1])

    def test_cancelled_while_paused(self):
        job, _ = self.create(2000, ms=50)
        self.wait_done(job, 50)
        self.pause(job)
        self.env.wait_job(job, states=("PAUSED",))
        self.cancel(job, reason="never mind")
        job = self.env.wait_job(job, states=("CANCELLED",), timeout=20)
        self.assertEqual(job.progress.succeeded_tasks, len(self.env.read_report(job).rows))

    # ---- what is refused

    def test_nothing_changes_a_job_that_has_ended(self):
        job, _ = self.create(10)
        job = self.env.wait_job(job)
        for call in (self.pause, self.resume, self.confirm, self.cancel):
            refusal = self.assert_refused(call, job, reason="too late")
            self.assertEqual("COMPLETE", refusal.metadata["state"])
            self.assertIn("COMPLETE", refusal.message)
        self.assert_refused(self.set_priority, job, priority=5)
        self.assertEqual(6, len(self.events(job)))

    def test_active_jobs_can_be_neither_confirmed_nor_resumed(self):
        job, _ = self.create(2000, ms=50)
        self.wait_done(job, 1)
        for call in (self.resume, self.confirm):
            self.assert_refused(call, job)
        self.cancel(job)
        self.env.wait_job(job, states=("CANCELLED",))

    def test_reasons_are_limited_and_unknown_jobs_are_not_found(self):
        job, _ = self.create(1, confirmation_required=True)
        self.env.wait_job(job, states=("SUSPENDED",))
        for call in (self.cancel, self.pause, self.resume, self.confirm):
            with self.refused("INVALID_ARGUMENT", "INVALID_FIELD") as held:
                call(job, reason="x" * 257)
            self.assertIn("reason", held[0].fields)
            with self.refused("NOT_FOUND", "JOB_NOT_FOUND"):
                call(drover_env.python_stubs().job_pb2.Job(job_id="01a20d97-0000-7000-8000-000000000000"))
            with self.refused("INVALID_ARGUMENT", "INVALID_FIELD"):
                call(drover_env.python_stubs().job_pb2.Job(job_id="no id"))
        self.cancel(job, reason="x" * 256)

    # ---- failure threshold

    def test_failure_threshold_fails_the_job_with_code_reason_and_report(self):
        job, entries = self.create(5000, ms=5, failing=0.8, failure_policy={"failed_fraction": 0.5, "minimum_executed": 200})
        job = self.env.wait_job(job, states=("FAILED",))
        self.assertEqual(["FAILURE_THRESHOLD"], [failure.code for failure in job.failures])
        reason = job.failures[0].reason
        self.assertRegex(reason, r"^\d+ of \d+ executed tasks failed: more than 50 % of at least 200$")
        self.assertEqual(("FAILURE_THRESHOLD", reason), (job.state_reason.code, job.state_reason.message))
        executed = job.progress.succeeded_tasks + job.progress.failed_tasks
        self.assertTrue(200 <= executed < 5000, executed)
        report = self.env.read_report(job)
        self.assertEqual(("Failed", ["FAILURE_THRESHOLD"], [reason]),
                         (report.manifest["Status"], report.manifest["FailureCodes"], report.manifest["FailureReasons"]))
        counts = report.keys()
        self.assertEqual((executed, executed), (len(report.rows), len(counts)))
        self.assertLessEqual(set(counts), set(entries))
        self.assertEqual(job.progress.failed_tasks, sum(report.keys("failed").values()))

    def test_default_threshold_needs_a_thousand_tasks(self):
        job, _ = self.create(999, failing=1)
        job = self.env.wait_job(job)
        self.assert_state("COMPLETE", job)
        self.assertEqual(999, job.progress.failed_tasks)
        job, _ = self.create(1000, failing=1)
        self.assert_state("FAILED", self.env.wait_job(job))

    def test_half_failed_is_not_more_than_half(self):
        job, _ = self.create(2000, failing=1, failure_policy={"failed_fraction": 1.0, "minimum_executed": 1})
        job = self.env.wait_job(job)
        self.assert_state("COMPLETE", job)  # 1: never
        self.assertEqual(2000, job.progress.failed_tasks)

    # ---- watching

    def test_watch_ends_with_the_terminal_state_and_is_paced(self):
        job, _ = self.create(1500, ms=20)
        seen = []
        for response in self.env.jobs().WatchJob(self.pb.WatchJobRequest(job_id=job.job_id), timeout=60):
            seen.append((time.monotonic(), response.job))
        self.assert_state("COMPLETE", seen[-1][1])
        self.assertEqual(1500, seen[-1][1].progress.succeeded_tasks)
        counts = [job.progress.succeeded_tasks for _, job in seen]
        self.assertEqual(sorted(counts), counts)
        self.assertTrue(any(0 < count < 1500 for count in counts))
        # At most five a second, over any second.
        for index in range(len(seen) - 6):
            self.assertGreater(seen[index + 6][0] - seen[index][0], 0.9)


class PriorityTest(SteeringTestCase):
    def setUp(self):
        # New workers for each test: how much one asks for follows from what it has been doing.
        self.workers = self.start_workers()

    def tearDown(self):
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        for worker in self.workers:
            self.assertEqual(0, worker.wait())

    def test_paused_before_it_began(self):
        # All workers are busy with something higher that has more to claim.
        high, _ = self.create(20_000, ms=200, priority=9)
        self.wait_done(high, 32)
        job, entries = self.create(10)
        self.env.wait_job(job, states=("READY",))
        self.assert_state("PAUSED", self.pause(job, reason="wait"))
        self.assert_refused(self.confirm, job)
        self.cancel(high)
        self.env.wait_job(high, states=("CANCELLED",))
        time.sleep(0.5)
        self.assert_state("PAUSED", self.env.get_job(job))
        self.resume(job)
        self.assert_all_succeeded(self.env.wait_job(job), entries)

    def test_priority_changes_while_it_runs(self):
        job, entries = self.create(1500, ms=20, priority=3)
        self.wait_done(job, 50)
        self.assertEqual(2147483647, self.set_priority(job, 2147483647).priority)
        with self.refused("INVALID_ARGUMENT", "INVALID_FIELD"):
            self.set_priority(job, -1)
        self.assertEqual(0, self.set_priority(job, 0).priority)
        version = self.env.get_job(job).version
        self.assertEqual(version, self.set_priority(job, 0).version)
        self.assert_all_succeeded(self.env.wait_job(job), entries)
        changes = [(state, priority) for state, priority, *_ in self.events(job)]
        self.assertIn(("ACTIVE", 2147483647), changes)
        self.assertEqual(("ACTIVE", 0), changes[changes.index(("ACTIVE", 2147483647)) + 1])

    def test_job_made_more_important_overtakes(self):
        first, _ = self.create(3000, ms=20)
        second, _ = self.create(300, ms=20)
        self.wait_done(first, 50)
        self.set_priority(second, 5)
        self.env.wait_job(second)
        self.assert_state("COMPLETE", self.env.get_job(second))
        self.assertLess(self.env.get_job(first).progress.succeeded_tasks, 3000)
        self.cancel(first)
        self.env.wait_job(first, states=("CANCELLED",))

    def test_preempted_job_is_shown_so_and_completes_afterwards(self):
        low, low_entries = self.create(1200, ms=100)
        self.wait_done(low, 50)
        high, high_entries = self.create(2000, ms=100, priority=7)
        preempted = self.env.wait_job(low, states=("PAUSED",), timeout=20)
        self.assertEqual(("PREEMPTED", ""), (preempted.state_reason.code, preempted.state_reason.caller))
        self.assert_state("ACTIVE", self.env.get_job(high))
        # Its finished tasks stay finished; the others wait.
        self.assertTrue(50 <= preempted.progress.succeeded_tasks < 1200)
        high = self.env.wait_job(high)
        self.assertLess(self.env.get_job(low).progress.succeeded_tasks, 1200)
        self.assert_all_succeeded(high, high_entries)
        low = self.env.wait_job(low)
        self.assert_all_succeeded(low, low_entries)
        self.assertGreater(low.end_time.ToMicroseconds(), high.end_time.ToMicroseconds())
        states = self.states(low)
        self.assertEqual(["ACTIVE", "PAUSED", "ACTIVE"], states[3:6], states)

    def test_persons_pause_of_a_preempted_job_holds(self):
        low, low_entries = self.create(600, ms=100)
        self.wait_done(low, 50)
        high, _ = self.create(1500, ms=100, priority=7)
        self.env.wait_job(low, states=("PAUSED",), timeout=20)
        self.pause(low, reason="mine now")
        self.env.wait_job(high)
        time.sleep(1)
        held = self.env.get_job(low)
        self.assert_state("PAUSED", held)
        self.assertEqual(("USER_REQUEST", "mine now"), (held.state_reason.code, held.state_reason.message))
        self.resume(low)
        self.assert_all_succeeded(self.env.wait_job(low), low_entries)


if __name__ == "__main__":
    import unittest

    unittest.main()
