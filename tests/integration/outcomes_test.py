"""What became of a job's tasks, read through the API and the command line while it runs and after, held against its
report; and a failure policy that pauses: the job waits, somebody sees why, mends the cause and resumes."""

import collections
import json

import drover_env
import job_oracles


class OutcomesTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("outcomes")
        cls.addClassCleanup(cls.env.close)
        cls.postgres = cls.env.start_postgres()
        cls.store = cls.env.start_counting_server()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint=cls.store.endpoint)])
        cls.env.start_controllers(2)
        for controller in cls.env.controllers:
            cls.env.start_worker(controllers=[controller], flags=["--concurrency", "16"])
        cls.env.wait_workers(2)
        cls.pb = drover_env.python_stubs().job_service_pb2

    def no_op(self, tasks, ms=0, failing=0.0, prefix="key-", **fields):
        entries = [("bucket", f"{prefix}{number:06}") for number in range(tasks)]
        return self.env.create_job({"no_op": {"duration": f"{ms / 1000}s", "failure_fraction": failing}},
                                   self.env.put_manifest(entries), **fields)

    def page(self, job, controller=None, **fields):
        request = self.pb.ListTaskOutcomesRequest(job_id=job.job_id, **fields)
        return self.env.jobs(controller).ListTaskOutcomes(request, timeout=30)

    def pages(self, job, **fields):
        """All pages; each of the other controller than the one before."""
        token, turn = "", 0
        while True:
            page = self.page(job, controller=self.env.controllers[turn % 2], page_token=token, **fields)
            yield page
            token, turn = page.next_page_token, turn + 1
            if not token:
                return

    def outcomes(self, job, **fields):
        return [outcome for page in self.pages(job, **fields) for outcome in page.outcomes]

    # ---- outcomes

    def test_failed_and_all_outcomes_are_those_of_the_report_in_the_order_of_the_manifest(self):
        job = self.no_op(3000, failing=0.1, report={"store": "files", "bucket": "reports"})
        job = self.env.wait_job(job)
        self.assert_state("COMPLETE", job)
        report = self.env.read_report(job)
        for fields, rows in ((dict(page_size=7), report.keys("failed")),
                             (dict(page_size=1000, include_succeeded=True), report.keys())):
            pages = list(self.pages(job, **fields))
            self.assertFalse(any(page.earlier_batches_open for page in pages))
            self.assertTrue(all(len(page.outcomes) <= fields["page_size"] for page in pages))
            outcomes = [outcome for page in pages for outcome in page.outcomes]
            positions = [outcome.task.position for outcome in outcomes]
            self.assertEqual(sorted(set(positions)), positions)
            self.assertEqual(rows, collections.Counter((o.task.bucket, o.task.key) for o in outcomes))
            for outcome in outcomes:
                self.assertEqual(f"key-{outcome.task.position:06}", outcome.task.key)
                self.assertGreaterEqual(outcome.record_time.seconds, job.start_time.seconds)
                self.assertGreaterEqual(outcome.attempts, 1)
                self.assertEqual("" if outcome.succeeded else "Rehearsed", outcome.error_code)
        self.assertEqual([], self.outcomes(job, error_code="NoSuchKey"))
        some = self.outcomes(job, key_prefix="key-0012", include_succeeded=True)
        self.assertEqual([f"key-0012{number:02}" for number in range(100)], [o.task.key for o in some])
        failed = self.outcomes(job, error_code="Rehearsed", key_prefix="key-00")
        self.assertEqual([o.task.key for o in self.outcomes(job)], [o.task.key for o in failed])

    def test_a_running_job_shows_what_is_recorded_and_says_that_more_may_come(self):
        job = self.no_op(4000, ms=30, failing=0.2, failure_policy={"disabled": True})
        drover_env.wait_until("tasks have failed", lambda: self.env.get_job(job).progress.failed_tasks >= 50, 60)
        page = self.page(job, page_size=10)
        self.assertTrue(page.earlier_batches_open)
        self.assertEqual(10, len(page.outcomes))
        self.assertTrue(page.next_page_token)
        before = {outcome.task.key for outcome in self.outcomes(job, page_size=100)}
        progress = self.env.get_job(job).progress
        self.assertLessEqual(50, len(before))
        self.assertLessEqual(len(before), progress.failed_tasks)
        job = self.env.wait_job(job)
        after = self.outcomes(job, page_size=500)
        self.assertEqual(job.progress.failed_tasks, len(after))
        self.assertLessEqual(before, {outcome.task.key for outcome in after})
        # The token from before is good for the same query still.
        rest = self.outcomes_from(job, page.next_page_token)
        self.assertEqual(sorted(rest), rest)

    def outcomes_from(self, job, token):
        positions = []
        while token:
            page = self.page(job, page_token=token, page_size=500)
            positions += [outcome.task.position for outcome in page.outcomes]
            token = page.next_page_token
        return positions

    def test_a_token_of_another_query_is_refused(self):
        job = self.env.wait_job(self.no_op(200, failing=0.5, failure_policy={"disabled": True}))
        other = self.env.wait_job(self.no_op(1))
        token = self.page(job, page_size=1).next_page_token
        self.assertTrue(token)
        for fields in (dict(include_succeeded=True), dict(error_code="Rehearsed"), dict(key_prefix="key")):
            with self.refused("INVALID_ARGUMENT", "PAGE_TOKEN_QUERY") as held:
                self.page(job, page_token=token, **fields)
            self.assertEqual({"page_token"}, set(held[0].fields))
        with self.refused("INVALID_ARGUMENT", "PAGE_TOKEN_QUERY"):
            self.page(other, page_token=token)
        with self.refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"):
            self.page(job, page_token=token[:-2])
        with self.refused("NOT_FOUND", "JOB_NOT_FOUND"):
            self.page(drover_env.python_stubs().job_pb2.Job(job_id="01a20d97-0000-7000-8000-000000000000"))

    # ---- summary

    def test_the_summary_counts_by_code_with_examples(self):
        self.store.set(status=403, fail_match="denied")
        self.addCleanup(self.store.set, status=200, fail_match="")
        keys = [f"denied-{number}" for number in range(30)] + [f"fine-{number}" for number in range(70)]
        job = self.env.create_job({"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}},
                                  self.env.put_manifest([("bucket", key) for key in keys]))
        job = self.env.wait_job(job)
        self.assert_state("COMPLETE", job)
        self.assertEqual(30, job.progress.failed_tasks)
        [group] = self.env.get_job(job).failure_summary.groups
        self.assertEqual((403, 30, False), (group.http_status, group.failed_tasks, group.others))
        self.assertEqual(3, len(group.examples))
        for example in group.examples:
            self.assertEqual(keys[example.position], example.key)
            self.assertTrue(example.key.startswith("denied-"))
        self.assertEqual({group.error_code}, {outcome.error_code for outcome in self.outcomes(job)})
        [last] = [r.job for r in self.env.jobs().WatchJob(self.pb.WatchJobRequest(job_id=job.job_id), timeout=20)]
        self.assertEqual([group], list(last.failure_summary.groups))
        listed = [j for j in self.env.jobs().ListJobs(self.pb.ListJobsRequest()).jobs if j.job_id == job.job_id]
        self.assertFalse(listed[0].HasField("failure_summary"))

    def test_the_summary_is_exact_while_the_job_runs(self):
        job = self.no_op(3000, ms=20, failing=0.3, failure_policy={"disabled": True})
        looks = 0
        while True:
            now = self.env.get_job(job)
            counted = sum(group.failed_tasks for group in now.failure_summary.groups)
            self.assertEqual(now.progress.failed_tasks, counted)
            looks += 1
            if job_oracles.state_of(now) == "COMPLETE":
                break
        self.assertGreater(looks, 10)
        self.assertEqual(["Rehearsed"], [group.error_code for group in now.failure_summary.groups])

    # ---- command line

    def test_command_line(self):
        job = self.env.wait_job(self.no_op(300, failing=0.2))
        failed = self.outcomes(job, page_size=1000)
        done = self.env.cli("job", "outcomes", job.job_id, "--limit", "0")
        self.assertEqual(0, done.code, done)
        lines = done.out.splitlines()
        self.assertEqual(["POSITION", "RESULT", "HTTP", "TRIES", "CODE", "OBJECT", "MESSAGE"], lines[0].split())
        self.assertEqual([f"bucket/{o.task.key}" for o in failed], [line.split()[5] for line in lines[1:]])
        done = self.env.cli("job", "outcomes", job.job_id, "--all", "--prefix", "key-00001", "-o", "json")
        self.assertEqual([f"key-00001{number}" for number in range(10)],
                         [json.loads(line)["task"]["key"] for line in done.out.splitlines()])
        done = self.env.cli("job", "outcomes", job.job_id, "--code", "Rehearsed", "--limit", "2", "-o", "id")
        self.assertEqual([f"bucket,{o.task.key}" for o in failed[:2]], done.out.splitlines())
        self.assertIn("more than 2", done.err)
        done = self.env.cli("job", "summary", job.job_id)
        self.assertIn(f"{len(failed)} failed of 300 executed tasks", done.out)
        self.assertRegex(done.out, rf"(?m)^ *{len(failed)} +100\.0% +- +Rehearsed +bucket/key-")
        summary = self.env.cli_json("job", "summary", job.job_id)
        self.assertEqual(str(len(failed)), summary["groups"][0]["failedTasks"])

    # ---- failure policy

    def resume(self, job):
        return self.env.jobs().ResumeJob(self.pb.ResumeJobRequest(job_id=job.job_id, reason="mended"), timeout=20).job

    def test_a_job_that_pauses_waits_until_its_cause_is_mended(self):
        """As a person lives it: the store denies, the job pauses, the summary says why; then it goes on to its end."""
        self.store.set(status=403, fail_match="")
        self.addCleanup(self.store.set, status=200, fail_match="")
        entries = [("bucket", f"mend-{number:05}") for number in range(6000)]
        job = self.env.create_job({"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}},
                                  self.env.put_manifest(entries),
                                  failure_policy={"failed_tasks": 40, "action": "PAUSE"})
        job = self.env.wait_job(job, states=("PAUSED",))
        self.assertEqual("FAILURE_POLICY", job.state_reason.code)
        self.assertRegex(job.state_reason.message, r"^\d+ tasks failed: more than 40$")
        self.assertEqual(403, job.failure_summary.groups[0].http_status)
        failed = job.progress.failed_tasks
        self.assertTrue(40 < failed < 6000, failed)
        self.assertEqual(0, job.progress.leased_tasks)
        self.store.set(status=200)
        self.resume(job)
        job = self.env.wait_job(job, states=("COMPLETE", "PAUSED", "FAILED"))
        self.assert_state("COMPLETE", job)
        self.assertEqual((failed, 6000 - failed), (job.progress.failed_tasks, job.progress.succeeded_tasks))

    def test_a_job_that_goes_on_failing_pauses_again_after_as_many_new_failures(self):
        job = self.no_op(1200, ms=100, failing=1, failure_policy={
            "failed_fraction": 0.5, "minimum_executed": 60, "action": "PAUSE"})
        failures = 0
        for turn in range(3):
            job = self.env.wait_job(job, states=("PAUSED", "COMPLETE", "FAILED"))
            self.assert_state("PAUSED", job)
            self.assertGreaterEqual(job.progress.failed_tasks - failures, 60, f"turn {turn}")
            words = "tasks executed since the job was resumed failed" if turn else "executed tasks failed"
            self.assertRegex(job.state_reason.message, rf"^\d+ of \d+ {words}: more than 50 % of at least 60$")
            failures = job.progress.failed_tasks
            self.resume(job)
        self.env.jobs().CancelJob(self.pb.CancelJobRequest(job_id=job.job_id), timeout=20)
        self.env.wait_job(job, states=("CANCELLED",))

    def test_a_number_of_failed_tasks_fails_a_job(self):
        job = self.env.wait_job(self.no_op(3000, ms=10, failing=0.2, failure_policy={"failed_tasks": 25}))
        self.assert_state("FAILED", job)
        self.assertEqual(["FAILURE_THRESHOLD"], [failure.code for failure in job.failures])
        self.assertRegex(job.failures[0].reason, r"^\d+ tasks failed: more than 25$")

    def test_a_disabled_policy_lets_everything_fail(self):
        job = self.env.wait_job(self.no_op(1500, failing=1, failure_policy={"disabled": True}))
        self.assert_state("COMPLETE", job)
        self.assertEqual(1500, job.progress.failed_tasks)
        with self.refused("INVALID_ARGUMENT", "INVALID_FIELD") as held:
            self.no_op(1, failure_policy={"disabled": True, "failed_tasks": 1})
        self.assertEqual({"job.failure_policy.disabled"}, set(held[0].fields))

    def test_the_policy_from_the_command_line(self):
        location = self.env.put_manifest([("bucket", f"{number}") for number in range(2000)])["csv"]["location"]
        manifest = f"{location['store']}/{location['bucket']}/{location['key']}"
        done = self.env.cli("job", "create", "--operation", "noop", "--noop-duration", "50ms", "--noop-failure-fraction",
                            "1", "--manifest", manifest, "--failure-tasks", "20", "--failure-action", "pause", "-o", "id")
        self.assertEqual(0, done.code, done)
        job = drover_env.python_stubs().job_pb2.Job(job_id=done.out.strip())
        job = self.env.wait_job(job, states=("PAUSED",))
        shown = self.env.cli("job", "get", job.job_id).out
        self.assertRegex(shown, r"(?m)^Reason +FAILURE_POLICY: \d+ tasks failed: more than 20$")
        self.assertRegex(shown, r"(?m)^  \d+ failed with Rehearsed, e\.g\. bucket/")
        self.assertEqual(0, self.env.cli("job", "cancel", job.job_id).code)
        self.env.wait_job(job, states=("CANCELLED",))


if __name__ == "__main__":
    import unittest

    unittest.main()
