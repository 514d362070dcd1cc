"""kill -9 of a controller at the points where it hurts most. Nothing is lost, nothing is counted twice, and no task is
carried out again: the workers live, and take their leases to the other controller."""

import unittest

import fault_case
from fault_case import keys


class ControllerKilledTest(fault_case.FaultTest):
    def kill_at(self, point, count=1500):
        """Runs a job while controller A is killed at `point`; B takes over."""
        name = point.partition("=")[0]
        self.store.set(latency_ms=20)  # so that A's worker comes for more several times
        a, _, _, _ = self.start_pair(first_points=point)
        job = self.create_job(keys(count))
        fault_case.wait_until("the controller has died", lambda: not a.running, timeout=30)
        self.assertEqual(a.exit_code, -9)
        self.assertEqual(len(self.env.point_hits(name)), 1)
        self.assert_counted_once(job, keys(count))
        self.assert_executed_once(keys(count))

    def test_between_claim_and_grant(self):
        self.kill_at("claim.after_commit=skip(1)kill")

    def test_during_the_commit_of_a_claim(self):
        self.kill_at("storage.claim.before_commit=skip(2)kill")

    def test_after_the_commit_of_outcomes_before_their_acknowledgment(self):
        self.kill_at("record.after_commit=skip(3)kill")

    def test_during_the_commit_of_outcomes(self):
        self.kill_at("storage.record.before_commit=skip(3)kill")


if __name__ == "__main__":
    unittest.main()
