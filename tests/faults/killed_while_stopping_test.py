"""kill -9 of a controller, and of a worker, while a job is Pausing, Cancelling or Failing: while requests of the
stopped job are still in flight. The job gets to where it was going; what a living worker has carried out is in the
report."""

import unittest

import fault_case
from fault_case import drover_env, keys, wait_until

KEYS = keys(900)
IN_FLIGHT_MS = 2500  # so long requests last that are in flight when the job is stopped
# A batch of 32 has room beside the slots that are kept for higher priority: it ends, and is recorded, all at once.
FLEET = {"concurrency": 40}


class KilledWhileStoppingTest(fault_case.FaultTest):
    def stop_and_kill(self, stopping, ask, victim):
        """Runs a job, has it stopped by ask(job), and kills `victim` ("controller" or "worker") once it is in the
        state `stopping`, with requests in flight. Returns the job and the names of the workers: (job, killed or not
        killed worker of A, worker of B)."""
        ttl = fault_case.SHORT_TTL if victim == "worker" else ()
        a, b, worker_a, worker_b = self.start_pair(ttl=ttl, **FLEET)
        self.store.set(latency_ms=IN_FLIGHT_MS)
        job = self.create_job(KEYS, failure_policy={"minimum_executed": 20, "failed_fraction": 0.5})
        wait_until("both workers are at work", lambda: len({request.worker for request in self.requests()}) == 2)
        ask(job)
        self.env.wait_job(job, states=(stopping,), timeout=30)
        (a if victim == "controller" else worker_a).kill()
        self.assertEqual(drover_env.python_stubs().job_pb2.JobState.Name(self.env.get_job(job, b).state), stopping,
                         "the job had stopped before the kill: requests were not slow enough")
        self.store.set(latency_ms=5)
        return job, worker_a.name, worker_b.name

    def call(self, method, job):
        stubs = drover_env.python_stubs()
        request = getattr(stubs.job_service_pb2, f"{method}Request")(job_id=job.job_id)
        if method != "ResumeJob":
            request.reason = "a test asks"
        return getattr(self.env.jobs(), method)(request, timeout=10).job

    def check_report(self, job, end, lost_worker=None):
        """No key twice; a row for each request of a worker that lived, and for no task that was not carried out."""
        job = self.env.wait_job(job, states=(end,), timeout=60)
        rows = self.env.read_report(job).keys()
        executed = self.executions()
        self.assertEqual(set(executed.values()), {1})
        self.assertEqual(set(rows.values()), {1})
        self.assertLess(len(executed), len(KEYS), "the job was not stopped in the middle")
        done = {key for _, key in rows}
        self.assertLessEqual(done, set(executed))
        unreported = [request for request in self.requests() if request.key not in done]
        self.assertEqual([request for request in unreported if request.worker != lost_worker], [])
        return unreported

    def resume_and_check(self, job, executed_once):
        self.env.wait_job(job, states=("PAUSED",), timeout=60)
        self.call("ResumeJob", job)
        self.assert_counted_once(job, KEYS)
        if executed_once:
            self.assert_executed_once(KEYS)

    def test_controller_while_pausing(self):
        job, _, _ = self.stop_and_kill("PAUSING", lambda job: self.call("PauseJob", job), "controller")
        self.resume_and_check(job, executed_once=True)

    def test_worker_while_pausing(self):
        job, lost, _ = self.stop_and_kill("PAUSING", lambda job: self.call("PauseJob", job), "worker")
        self.resume_and_check(job, executed_once=False)
        twice = {key for key, count in self.executions().items() if count > 1}
        self.assertLessEqual(twice, {request.key for request in self.requests() if request.worker == lost})
        self.assertLessEqual(len(twice), FLEET["concurrency"])

    def test_controller_while_cancelling(self):
        job, _, _ = self.stop_and_kill("CANCELLING", lambda job: self.call("CancelJob", job), "controller")
        self.assertEqual(self.check_report(job, "CANCELLED"), [])

    def test_worker_while_cancelling(self):
        job, lost, _ = self.stop_and_kill("CANCELLING", lambda job: self.call("CancelJob", job), "worker")
        self.assertTrue(self.check_report(job, "CANCELLED", lost), "the killed worker had nothing in flight")
        job = self.env.get_job(job)
        self.assertGreater(job.progress.unconfirmed_tasks, 0)
        self.assertEqual(self.env.read_report(job).manifest["Counts"]["Unconfirmed"], job.progress.unconfirmed_tasks)

    def refuse_all(self, _):
        """The store, set before the job began, answers 403: nothing more to ask for."""

    def test_controller_while_failing(self):
        self.store.set(status=403)
        job, _, _ = self.stop_and_kill("FAILING", self.refuse_all, "controller")
        self.assertEqual(self.check_report(job, "FAILED"), [])

    def test_worker_while_failing(self):
        self.store.set(status=403)
        job, lost, _ = self.stop_and_kill("FAILING", self.refuse_all, "worker")
        self.assertTrue(self.check_report(job, "FAILED", lost), "the killed worker had nothing in flight")


if __name__ == "__main__":
    unittest.main()
