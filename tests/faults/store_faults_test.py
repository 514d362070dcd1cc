"""The S3 server goes away, or answers 503, in the middle of jobs: tasks wait and are tried again, and manifests and
reports too. The real server, behind a proxy that fails on command and keeps a log of what passed."""

import collections
import time

import drover_env
import job_oracles

OUTAGE_SECONDS = 20
TAGS = [{"key": "done", "value": "yes"}]


class StoreFaultsTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("storefaults")
        cls.addClassCleanup(cls.env.close)
        cls.rgw = cls.env.start_rgw()
        cls.proxy = cls.env.start_proxy(cls.rgw.endpoint)
        cls.env.start_postgres()
        # "s3" is reached through the proxy.
        # "reports" is too: one that other tests did not leave shut off.
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint=cls.proxy.endpoint),
                              cls.env.s3_store(name="reports", endpoint=cls.proxy.endpoint)])
        cls.env.start_controllers(2, flags=["--manifest-timeout", "4s", "--report-timeout", "8s"])
        for controller in cls.env.controllers:
            cls.env.start_worker(controllers=[controller])
        cls.env.wait_workers(2)
        cls.s3 = cls.rgw.client()

    def setUp(self):
        self.proxy.set(mode="pass", error_share=0, error_match="", latency_ms=0)
        self.seen = len(self.proxy.requests())
        self.bucket = self.env.make_bucket()

    def requests(self, match=""):
        """Requests of this test whose target contains `match`, as the proxy saw them."""
        return [request for request in self.proxy.requests()[self.seen:] if match in request["target"]]

    def tagging_requests(self):
        """{key: [request, …]} in order."""
        by_key = collections.defaultdict(list)
        for request in self.requests("?tagging"):
            if request["method"] == "PUT":
                by_key[request["target"].partition("?")[0].removeprefix(f"/{self.bucket}/")].append(request)
        return by_key

    def put(self, count):
        keys = [f"key-{number:05}" for number in range(count)]
        self.env.put_objects(self.bucket, keys)
        return [(self.bucket, key) for key in keys]

    def tag(self, entries, **fields):
        return self.env.create_job({"store": "s3", "put_object_tagging": {"tags": TAGS}},
                                   self.env.put_manifest(entries), report={"store": "files", "bucket": "reports"},
                                   **fields)

    def assert_tagged(self, entries):
        wrong = []

        def check(entry):
            tags = self.s3.get_object_tagging(Bucket=entry[0], Key=entry[1])["TagSet"]
            if [(tag["Key"], tag["Value"]) for tag in tags] != [("done", "yes")]:
                wrong.append((entry, tags))

        drover_env.run_threads(8, entries, check)
        self.assertEqual([], wrong[:20])

    def test_server_down_for_twenty_seconds(self):
        entries = self.put(1500)
        job = self.tag(entries, retry_policy={"max_backoff": "5s"})
        drover_env.wait_until("a fifth is tagged", lambda: len(self.tagging_requests()) >= len(entries) / 5, 60)
        down_at = time.time()
        self.proxy.set(mode="refuse")
        time.sleep(OUTAGE_SECONDS)
        passed = [request for request in self.requests("?tagging") if request["status"] == 200]
        self.assertLess(len(passed), len(entries), "the job was over before the server went down")
        self.assert_state("ACTIVE", self.env.get_job(job))
        self.proxy.set(mode="pass")
        up_at = time.time()

        self.assert_all_succeeded(self.env.wait_job(job), entries)
        self.assert_tagged(entries)
        # Executions: each task until its request was answered, and no more. Those whose answer was lost when the
        # connections were cut can't be told from those that never arrived, and ran again.
        by_key = self.tagging_requests()
        self.assertEqual({key for _, key in entries}, set(by_key))
        for key, requests in by_key.items():
            self.assertEqual(200, requests[-1]["status"], (key, requests))
            for request in requests[:-1]:
                self.assertTrue(request["status"] is None or down_at - 2 < request["time"] < down_at + 1,
                                (key, requests))
        # Nothing waits longer than the longest backoff once the server is back.
        waited = max(requests[-2]["time"] for requests in by_key.values() if len(requests) > 1) - up_at
        self.assertLess(waited, 5 + 2)

    def test_a_third_of_the_requests_answered_503(self):
        entries = self.put(1000)
        self.proxy.set(error_share=1 / 3)
        job = self.env.wait_job(self.tag(entries))
        self.proxy.set(error_share=0)
        self.assert_all_succeeded(job, entries)
        self.assert_tagged(entries)
        by_key = self.tagging_requests()
        self.assertEqual({key for _, key in entries}, set(by_key))
        refused = 0
        for key, requests in by_key.items():
            self.assertEqual([False] + [True] * (len(requests) - 1), [r["injected"] for r in reversed(requests)], key)
            self.assertEqual(200, requests[-1]["status"], key)
            refused += len(requests) - 1
        # Of all requests a third: half as many as went through.
        self.assertTrue(0.35 < refused / len(entries) < 0.7, refused)

    def test_manifest_and_report_of_a_server_that_answers_503(self):
        entries = [(self.bucket, f"k{number}") for number in range(2000)]
        self.proxy.set(error_share=1 / 3)
        job = self.env.create_job({"no_op": {}}, self.env.put_manifest(entries, store="s3", bucket=self.bucket),
                                  report={"store": "s3", "bucket": self.bucket})
        self.assert_all_succeeded(self.env.wait_job(job), entries)

    def test_manifest_whose_server_is_away_fails_the_job_in_time(self):
        manifest = self.env.put_manifest([(self.bucket, "k")], store="s3", bucket=self.bucket)
        self.proxy.set(mode="refuse")
        job = self.env.wait_job(self.env.create_job({"no_op": {}}, manifest), states=("FAILED",), timeout=60)
        self.assertEqual(["MANIFEST_UNAVAILABLE"], [failure.code for failure in job.failures])
        self.assertIn("4s", job.failures[0].reason)
        self.assertEqual(0, job.progress.total_tasks)

    def test_report_waits_for_its_server(self):
        entries = [(self.bucket, f"k{number}") for number in range(100)]
        manifest = self.env.put_manifest(entries)
        self.proxy.set(mode="refuse")
        job = self.env.create_job({"no_op": {}}, manifest, report={"store": "reports", "bucket": self.bucket})
        self.env.wait_job(job, states=("COMPLETING",))
        time.sleep(1)
        self.assert_state("COMPLETING", self.env.get_job(job))
        self.proxy.set(mode="pass")
        self.assert_all_succeeded(self.env.wait_job(job), entries)

    def test_report_that_cannot_be_written_is_given_up_and_said_so(self):
        entries = [(self.bucket, f"k{number}") for number in range(100)]
        manifest = self.env.put_manifest(entries)
        self.proxy.set(mode="refuse")
        job = self.env.create_job({"no_op": {"failure_fraction": 0.3}}, manifest,
                                  report={"store": "s3", "bucket": self.bucket})
        job = self.env.wait_job(job, timeout=60)
        self.assert_state("COMPLETE", job)
        status = job.report_status
        self.assertEqual(4, status.state, status)  # FAILED
        self.assertEqual("", status.manifest_key)
        self.assertRegex(status.error, "8s: .*can't connect")
        self.assertTrue(0 < job.progress.failed_tasks < 100)
        self.assertEqual(100, job.progress.succeeded_tasks + job.progress.failed_tasks)
        self.proxy.set(mode="pass")
        self.assertNotIn("Contents", self.s3.list_objects_v2(Bucket=self.bucket))
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=self.bucket))


if __name__ == "__main__":
    import unittest

    unittest.main()
