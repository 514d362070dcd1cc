"""The command line client against real controllers: exit codes, what goes to which stream, and jobs steered by hand."""

import json
import re
import subprocess
import threading
import time

import drover_env
import job_oracles

COMPLETE, ERROR, USAGE, FAILED_TASKS, NOT_COMPLETE, UNAVAILABLE = range(6)
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")


class CliTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("cli")
        cls.addClassCleanup(cls.env.close)
        cls.env.start_postgres()
        cls.store = cls.env.start_counting_server()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint=cls.store.endpoint)])
        cls.env.start_controllers(2)
        cls.env.start_workers(1)
        cls.env.wait_workers(1)

    def manifest(self, tasks=3):
        location = self.env.put_manifest([("bucket", f"{number}") for number in range(tasks)])["csv"]["location"]
        return f"{location['store']}/{location['bucket']}/{location['key']}"

    def create(self, *args, tasks=3, codes=(COMPLETE,), **kwargs):
        return self.run_cli("job", "create", "--operation", "noop", "--manifest", self.manifest(tasks), *args,
                            codes=codes, **kwargs)

    def run_cli(self, *args, codes=(COMPLETE,), **kwargs):
        done = self.env.cli(*args, **kwargs)
        self.assertIn(done.code, codes, (args, done))
        return done

    # ---- exit codes

    def test_0_complete_without_failed_tasks(self):
        for follow in ("--wait", "--watch"):
            with self.subTest(follow):
                done = self.create(follow, codes=(COMPLETE,))
                self.assertIn("Complete", done.out + done.err)

    def test_1_refused(self):
        done = self.run_cli("job", "get", "01a20d97-0000-7000-8000-000000000000", codes=(ERROR,))
        self.assertEqual("", done.out)
        self.assertIn("NOT_FOUND (JOB_NOT_FOUND)", done.err)
        done = self.run_cli("job", "create", "--operation", "put-tags", "--store", "mian", "--manifest",
                            self.manifest(), codes=(ERROR,))
        self.assertRegex(done.err, r"^drover: INVALID_ARGUMENT \(INVALID_FIELD\)")
        self.assertRegex(done.err, r"(?m)^  job\.operation\.store: no store is named \"mian\"")

    def test_2_usage(self):
        for args in (["job", "create"], ["job", "frobnicate"], ["job", "priority", "x"], ["job", "get"],
                     ["job", "list", "--status", "Sleeping"], ["--nonsense"], [],
                     ["job", "create", "--operation", "noop", "--manifest", "files/a/b", "--tag", "x=y"]):
            with self.subTest(args):
                done = self.run_cli(*args, codes=(USAGE,))
                self.assertNotEqual("", done.err)

    def test_3_complete_with_failed_tasks(self):
        done = self.create("--noop-failure-fraction", "0.5", "--wait", tasks=200, codes=(FAILED_TASKS,))
        self.assertRegex(done.out + done.err, r"[1-9]\d* failed|Failed +[1-9]")

    def test_4_failed_or_cancelled(self):
        self.create("--noop-failure-fraction", "1", "--failure-minimum", "1", "--wait", codes=(NOT_COMPLETE,))
        bad = self.run_cli("job", "create", "--operation", "noop", "--manifest", "files/no/such.csv", "--wait",
                           codes=(NOT_COMPLETE,))
        self.assertIn("MANIFEST_NOT_FOUND", bad.out + bad.err)
        job = self.create("--confirm-required", "-o", "id").out.strip()
        self.env.wait_job(job, states=("SUSPENDED",))
        watch = []
        thread = threading.Thread(target=lambda: watch.append(self.env.cli("job", "watch", job)))
        thread.start()
        time.sleep(0.5)
        self.run_cli("job", "cancel", job, "--reason", "no")
        thread.join()
        self.assertEqual(NOT_COMPLETE, watch[0].code, watch)

    def test_5_unavailable(self):
        done = self.run_cli("job", "list", controller=f"127.0.0.1:{drover_env.free_port()}", codes=(UNAVAILABLE,))
        self.assertIn("UNAVAILABLE", done.err)
        # With another server behind it the call goes through.
        servers = f"127.0.0.1:{drover_env.free_port()},{self.env.controllers[1].address}"
        self.run_cli("job", "list", controller=servers)
        self.run_cli("job", "list", controller="nobody", env={}, codes=(UNAVAILABLE,))

    # ---- steering

    def test_a_jobs_whole_life_by_hand(self):
        job = self.create("--confirm-required", "--noop-duration", "20ms", "--priority", "5", "--description", "by hand",
                          "-o", "id", tasks=3000).out.strip()
        self.assertRegex(job, UUID)
        self.env.wait_job(job, states=("SUSPENDED",))
        self.assertIn("JOB_STATE", self.run_cli("job", "pause", job, codes=(ERROR,)).err)
        self.run_cli("job", "confirm", job)
        self.env.wait_job(job, states=("ACTIVE",))
        self.run_cli("job", "pause", job, "--reason", "a break")
        self.env.wait_job(job, states=("PAUSED",))
        shown = self.run_cli("job", "get", job).out
        for text in (job, "Paused", "a break", "by hand", "3,000"):
            self.assertIn(text, shown)
        self.assertEqual(9, self.env.cli_json("job", "priority", job, 9)["priority"])
        self.run_cli("job", "priority", job, "2147483648", codes=(USAGE, ERROR))
        self.run_cli("job", "resume", job)
        done = self.run_cli("job", "watch", job)
        self.assertIn("Complete", done.out + done.err)
        self.assertEqual("COMPLETE", self.env.cli_json("job", "get", job)["state"])

    def test_watch_prints_a_job_on_each_line_as_json(self):
        job = self.create("--noop-duration", "20ms", "-o", "id", tasks=2000).out.strip()
        done = self.run_cli("job", "watch", job, "-o", "json")
        lines = [json.loads(line) for line in done.out.splitlines()]
        self.assertEqual(("COMPLETE", "2000"), (lines[-1]["state"], lines[-1]["progress"]["succeededTasks"]))
        self.assertGreater(len(lines), 2)

    def test_watch_goes_on_at_the_other_controller(self):
        with drover_env.Env("cliwatch") as env:
            env.start_postgres()
            env.write_stores()
            first, second = env.start_controllers(2)
            env.start_worker(controllers=[second])
            env.wait_workers(1)
            job = env.create_job({"no_op": {"duration": "0.05s"}},
                                 env.put_manifest([("bucket", f"{number}") for number in range(6000)]))
            watch = subprocess.Popen([drover_env.BIN / "drover", "--server", f"{first.address},{second.address}", "job",
                                      "watch", job.job_id, "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     text=True)
            self.assertEqual(job.job_id, json.loads(watch.stdout.readline())["jobId"])
            first.kill()
            out, err = watch.communicate(timeout=90)
            self.assertEqual(COMPLETE, watch.returncode, err)
            self.assertEqual("COMPLETE", json.loads(out.splitlines()[-1])["state"])

    def test_lists(self):
        ids = [self.create("-o", "id").out.strip() for _ in range(3)]
        for job in ids:
            self.env.wait_job(job)
        listed = self.run_cli("job", "list", "--limit", "3", "-o", "id").out.split()
        self.assertEqual(ids[::-1], listed)
        table = self.run_cli("job", "list", "--status", "Complete").out
        for job in ids:
            self.assertIn(job, table)
        self.assertNotIn(ids[0], self.run_cli("job", "list", "--status", "Failed,Cancelled").out)
        whole = self.env.cli_json("job", "list", "--limit", "0")
        self.assertLessEqual(set(ids), {job["jobId"] for job in whole["jobs"]})

    def test_worker_list(self):
        worker = self.env.cli_json("worker", "list")["workers"][0]
        self.assertEqual(self.env.workers[0].name, worker["name"])
        self.assertEqual(["change_object_tagging", "copy_object", "delete_object", "delete_object_tagging", "head_object",
                          "no_op", "put_object_tagging", "undelete_object"], sorted(worker["operations"]))
        self.assertEqual([], worker["mismatchedStores"])
        table = self.run_cli("worker", "list").out
        self.assertIn(worker["sessionId"], table)
        self.assertIn(worker["name"], table)

    def test_from_a_file_and_from_standard_input(self):
        job = json.dumps({"operation": {"noOp": {}}, "priority": 3, "manifest": self.env.put_manifest([("bucket", "a")])})
        made = self.run_cli("job", "create", "--from", "-", "--priority", "4", "-o", "json", stdin=job)
        self.assertEqual(4, json.loads(made.out)["priority"])

    def test_request_id_makes_repeating_harmless(self):
        manifest = self.manifest()
        args = ["job", "create", "--operation", "noop", "--manifest", manifest, "--request-id", "cli-once", "-o", "id"]
        self.assertEqual(self.run_cli(*args).out, self.run_cli(*args).out)
        self.assertIn("REQUEST_ID_REUSED", self.run_cli(*args, "--priority", "1", codes=(ERROR,)).err)

    def test_tags_by_flags(self):
        self.store.reset()
        self.run_cli("job", "create", "--operation", "put-tags", "--store", "s3", "--tag", "a=b", "--tag", "empty=",
                     "--manifest", self.manifest(2), "--report", "files/reports/by/cli", "--wait")
        self.assertEqual({"/bucket/0": 1, "/bucket/1": 1},
                         {target.partition("?")[0]: count for (_, target), count in self.store.counts().items()})
        self.assertEqual(1, len(list((self.env.files / "reports/by/cli").glob("job-*/manifest.json"))))

    def test_help_has_examples(self):
        for args in (["--help"], ["job", "create", "--help"], ["job", "watch", "--help"], ["worker", "list", "--help"]):
            with self.subTest(args):
                self.assertIn("drover ", self.run_cli(*args).out)


if __name__ == "__main__":
    import unittest

    unittest.main()
