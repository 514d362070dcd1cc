"""kill -9 of the controller that prepares a job or writes its report. The other one goes on: from the last stored chunk
of the manifest, and with a new upload in place of the half-written one, which must not be left behind at the store."""

import gzip
import unittest

import fault_case
from fault_case import random_keys

# About 20 MB of manifest, 15 MB compressed: several chunks of preparation (4 MiB), several parts of a result file.
TASKS = 50_000
KEY_BYTES = 400


class DutyHolderKilledTest(fault_case.FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env.start_rgw()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store()])
        cls.keys = random_keys(TASKS, KEY_BYTES)

    def put_manifest(self, compressed):
        manifest = self.env.put_manifest(fault_case.entries(self.keys))
        if compressed:
            path = self.env.files / "manifests" / manifest["csv"]["location"]["key"]
            data = path.read_bytes()
            middle = len(data) // 2  # within a line
            path.write_bytes(gzip.compress(data[:middle], 1) + gzip.compress(data[middle:], 1))
            manifest["csv"]["compression"] = "GZIP"
        return manifest

    def run_killed_at(self, point, report=fault_case.REPORT, compressed=False):
        """Runs a job whose duty's holder, controller A, is killed at the point. B is there from the start."""
        a, _, _, _ = self.start_pair(first_points=point, second_worker=False)
        for _ in range(5):
            # A hears of what is due at once and B polls, so that B rarely has the duty; then it is tried again.
            job = self.env.create_job({"no_op": {}}, self.put_manifest(compressed), report=report, controller=a)
            job = self.assert_counted_once(job, self.keys)
            if not a.running:
                self.assertEqual(a.exit_code, -9)
                return job
        return self.fail(f"controller A never came to {point}")

    def assert_batches_join(self, job):
        """Its batches are the tasks from the first to the last, each once."""
        batches = self.postgres.sql("SELECT max(first_task + tasks), sum(tasks) FROM drover.batches "
                                    f"WHERE job_id = '{job.job_id}'")[0]
        self.assertEqual(batches, [str(TASKS)] * 2)

    def test_between_two_chunks_of_preparation(self):
        self.assert_batches_join(self.run_killed_at("prepare.between_chunks=skip(1)kill"))

    def test_between_two_chunks_of_a_compressed_manifest(self):
        self.assert_batches_join(self.run_killed_at("prepare.between_chunks=skip(1)kill", compressed=True))

    def test_between_two_parts_of_a_result_file(self):
        bucket = self.env.make_bucket("reports")
        job = self.run_killed_at("report.between_parts=skip(6)kill", report={"store": "s3", "bucket": bucket})
        s3 = self.env.rgw.client()
        self.assertNotIn("Uploads", s3.list_multipart_uploads(Bucket=bucket))
        listed = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=f"job-{job.job_id}/")["Contents"]}
        named = {result["Key"] for result in self.env.read_report(job).manifest["Results"]}
        self.assertEqual({key for key in listed if key.endswith(".csv")}, named)

    def test_between_the_begin_of_an_upload_and_the_storing_of_its_id(self):
        bucket = self.env.make_bucket("begun")
        self.run_killed_at("report.before_set_upload=kill", report={"store": "s3", "bucket": bucket})
        self.assertNotIn("Uploads", self.env.rgw.client().list_multipart_uploads(Bucket=bucket))

    def test_in_a_file_store_between_the_begin_of_an_upload_and_the_storing_of_its_id(self):
        job = self.run_killed_at("report.before_set_upload=kill")
        folder = self.env.files / fault_case.REPORT["bucket"] / f"job-{job.job_id}"
        self.assertTrue((folder / "manifest.json").is_file())
        self.assertEqual([path for path in folder.rglob("*") if path.name.startswith(".")], [])


if __name__ == "__main__":
    unittest.main()
