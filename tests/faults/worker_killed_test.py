"""kill -9 of a worker. Its tasks come back when its session has ended, and run again on another worker; what it had
recorded does not. Each task is counted once."""

import time
import unittest

import fault_case
from fault_case import keys, wait_until

KEYS = keys(1500)


class WorkerKilledTest(fault_case.FaultTest):
    def setUp(self):
        super().setUp()
        self.store.set(latency_ms=20)

    def check(self, job, dead):
        """The oracles after the death of a worker: whatever ran twice ran first on the dead one."""
        self.assert_counted_once(job, KEYS)
        executed = self.executions()
        self.assertEqual(set(executed), set(KEYS))
        twice = {key for key, count in executed.items() if count > 1}
        self.assertLessEqual(max(executed.values()), 2)
        self.assertLessEqual(twice, {request.key for request in self.requests() if request.worker == dead.name})
        return twice

    def kill_itself(self, point):
        """A's worker dies at one of its own points."""
        _, _, dead, _ = self.start_pair(first_worker_points=point, ttl=fault_case.SHORT_TTL)
        job = self.create_job(KEYS)
        wait_until("the worker has died", lambda: not dead.running)
        self.assertEqual(dead.exit_code, -9)
        return self.check(job, dead)

    def test_before_a_request(self):
        self.kill_itself("worker.before_request=skip(150)kill")

    def test_after_an_outcome(self):
        self.kill_itself("worker.after_outcome=skip(150)kill")

    def test_before_it_sends_outcomes(self):
        self.assertTrue(self.kill_itself("worker.before_segment=skip(3)kill"))

    def kill_while_controller_waits(self, point):
        """A's worker dies while its controller waits at one of the controller's points."""
        name = point.partition("=")[0]
        _, _, dead, _ = self.start_pair(first_points=point, ttl=fault_case.SHORT_TTL)
        job = self.create_job(KEYS)
        self.env.wait_point(name)
        dead.kill()
        self.env.resume_point(name)
        return self.check(job, dead)

    def test_between_claim_and_grant(self):
        self.kill_while_controller_waits("claim.after_commit=skip(1)pause")

    def test_during_the_commit_of_its_outcomes(self):
        self.kill_while_controller_waits("storage.record.before_commit=skip(2)pause")

    def test_after_the_commit_of_its_outcomes_before_their_acknowledgment(self):
        self.kill_while_controller_waits("record.after_commit=skip(2)pause")

    def test_its_tasks_run_again_within_the_time_to_live_and_two_seconds(self):
        _, _, dead, _ = self.start_pair(ttl=fault_case.SHORT_TTL)
        self.store.set(latency_ms=100)
        job = self.create_job(KEYS)
        wait_until("the worker is at work", lambda: any(r.worker == dead.name for r in self.requests()))
        dead.kill()
        killed = time.time()
        self.store.set(latency_ms=5)
        again = self.check(job, dead)
        self.assertTrue(again, "the killed worker had nothing in flight")
        late = max(request.time - killed for request in self.requests() if request.key in again)
        bound = fault_case.SHORT_TTL_SECONDS + 2
        print(f"tasks of a killed worker ran again after {late:.2f} s; the budget is {bound} s", end=" ")
        self.assertLess(late, bound + 5, "far beyond the budget, even for a busy machine")


if __name__ == "__main__":
    unittest.main()
