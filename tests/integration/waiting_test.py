"""A job that no attached worker can run says what it waits for, and does not hide those that can be run."""

import drover_env
import job_oracles
from drover_env import wait_until

TAGGING = {"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}}
NO_OP = {"no_op": {}}
# One page of the dispatcher's look is 256 jobs.
MORE_THAN_A_PAGE = 300


class WaitingTest(job_oracles.JobTestCase):
    def setUp(self):
        self.env = drover_env.Env("waiting")
        self.addCleanup(self.env.close)
        self.env.start_postgres()
        # Nobody listens there: no task of this store is to be tried.
        self.env.write_stores([self.env.file_store(), self.env.s3_store("s3", "http://127.0.0.1:9")])
        self.env.start_controllers(1, flags=["--session-ttl", "3s", "--heartbeat", "500ms"])
        self.manifest = self.env.put_manifest([("bucket", f"k{number}") for number in range(10)])

    def start_worker(self, *stores):
        path = self.env.write_stores([self.env.file_store(), *stores], self.env.directory / "worker-stores.yaml")
        worker = self.env.start_worker(stores=path)
        self.env.wait_workers(1)
        return worker

    def wait_for_words(self, job, words):
        wait_until(f"the job says that it waits for {words!r}",
                   lambda: self.env.get_job(job).waiting_for == words, 20)

    def test_job_waits_for_a_worker_and_says_so_until_there_is_one(self):
        job = self.env.create_job(NO_OP, self.manifest)
        self.wait_for_words(job, "a worker: none is attached")
        listed = drover_env.python_stubs().job_service_pb2.ListJobsRequest()
        self.assertEqual(["a worker: none is attached"],
                         [job.waiting_for for job in self.env.jobs().ListJobs(listed, timeout=10).jobs])
        shown = self.env.cli("job", "get", job.job_id)
        self.assertIn("Waits for     a worker: none is attached\n", shown.out)
        self.start_worker()
        job = self.env.wait_job(job)
        self.assert_state("COMPLETE", job)
        self.assertEqual("", job.waiting_for)

    def test_job_whose_last_worker_is_lost_says_so(self):
        worker = self.start_worker()
        job = self.env.create_job({"no_op": {"duration": "20s"}}, self.manifest)
        self.env.wait_job(job, states=("ACTIVE",))
        self.assertEqual("", self.env.get_job(job).waiting_for)
        worker.kill()
        self.wait_for_words(job, "a worker: none is attached")

    def test_jobs_that_no_worker_can_run_do_not_hide_one_that_can_be_run(self):
        self.start_worker()
        unfit = [self.env.create_job(TAGGING, self.manifest, priority=10) for _ in range(MORE_THAN_A_PAGE)]
        for job in unfit:
            self.env.wait_job(job, states=("READY",))
        fit = self.env.create_job(NO_OP, self.manifest, priority=1)
        self.assert_state("COMPLETE", self.env.wait_job(fit, timeout=20))
        self.wait_for_words(unfit[0], "a worker that can run put_object_tagging at revision 1 and reaches store s3 "
                                      "(1 is attached)")

    def test_store_of_the_same_name_that_is_another_one(self):
        self.start_worker(self.env.s3_store("s3", "http://127.0.0.1:10"))
        job = self.env.create_job(TAGGING, self.manifest)
        self.wait_for_words(job, "a worker that can run put_object_tagging at revision 1 and reaches store s3, as the "
                                 "job pinned it when it was created (1 is attached)")


if __name__ == "__main__":
    import unittest

    unittest.main()
