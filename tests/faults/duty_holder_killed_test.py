"""kill -9 of the controller that prepares a job or writes its report. The other one goes on: from the last stored chunk
of the manifest, and with a new upload in place of the half-written one, which must not be left behind at the store."""

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

    def run_killed_at(self, point, report=fault_case.REPORT):
        """Runs a job whose duty's holder, controller A, is killed at the point. B is there from the start."""
        a, _, _, _ = self.start_pair(first_points=point, second_worker=False)
        for _ in range(5):
            # A hears of what is due at once and B polls, so that B rarely has the duty; then it is tried again.
            job = self.create_job(self.keys, operation={"no_op": {}}, report=report, controller=a)
            job = self.assert_counted_once(job, self.keys)
            if not a.running:
                self.assertEqual(a.exit_code, -9)
                return job
        return self.fail(f"controller A never came to {point}")

    def test_between_two_chunks_of_preparation(self):
        job = self.run_killed_at("prepare.between_chunks=skip(1)kill")
        chunks = self.postgres.sql("SELECT count(*), max(first_task + tasks), sum(tasks) FROM drover.batches "
                                   f"WHERE job_id = '{job.job_id}'")[0]
        self.assertEqual(chunks[1:], [str(TASKS)] * 2)

    def test_between_two_parts_of_a_result_file(self):
        bucket = self.env.make_bucket("reports")
        job = self.run_killed_at("report.between_parts=skip(6)kill", report={"store": "s3", "bucket": bucket})
        s3 = self.env.rgw.client()
        self.assertNotIn("Uploads", s3.list_multipart_uploads(Bucket=bucket))
        listed = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=f"job-{job.job_id}/")["Contents"]}
        named = {result["Key"] for result in self.env.read_report(job).manifest["Results"]}
        self.assertEqual({key for key in listed if key.endswith(".csv")}, named)


if __name__ == "__main__":
    unittest.main()
