"""Commits whose result is not known, and groups of outcomes that fail: submitted again through the same filter, one by
one where need be; and claims that may have happened, whose leases are found and given to somebody else."""

import unittest

import fault_case
from fault_case import keys, log_events

KEYS = keys(1500)


class UnknownCommitTest(fault_case.FaultTest):
    def run_with(self, points, hits):
        """Runs a job with these failpoints on both controllers, each with one worker; the points were passed `hits`
        times. Whatever was claimed or recorded, nothing runs twice."""
        self.store.set(latency_ms=20)
        controllers = self.env.start_controllers(2, failpoints=points)
        for controller in controllers:
            self.start_worker([controller])
        self.env.wait_workers()
        job = self.create_job(KEYS)
        self.assert_counted_once(job, KEYS)
        self.assert_executed_once(KEYS)
        for point in points.split(";"):
            name = point.partition("=")[0]
            self.assertGreaterEqual(len(self.env.point_hits(name)), hits, name)
        return controllers

    def test_claim_that_committed_all_the_same(self):
        controllers = self.run_with("storage.claim.after_commit=skip(1)error*1", hits=1)
        self.assertTrue(any(log_events(controller, "lease.stray") for controller in controllers))

    def test_claim_that_did_not_commit(self):
        self.run_with("storage.claim.before_commit=skip(1)error(2)*2", hits=2)

    def test_outcomes_that_committed_all_the_same(self):
        self.run_with("storage.record.after_commit=skip(2)error*4", hits=2)

    def test_outcomes_that_did_not_commit(self):
        self.run_with("storage.record.before_commit=skip(2)error(2)*4", hits=2)

    def test_group_that_fails_is_recorded_one_by_one(self):
        # Slow groups, so that segments gather behind them.
        controllers = self.run_with("record.group=sleep(60);record.many=error(13)", hits=1)
        failed = [line for controller in controllers for line in log_events(controller, "record.failed")]
        self.assertTrue(any(line["passing"] == "false" and int(line["segments"]) > 1 for line in failed))

    def test_claims_groups_and_single_segments_together(self):
        self.run_with("record.group=sleep(60);storage.claim.after_commit=skip(1)error*1;record.many=error(13);"
                      "storage.record.after_commit=skip(1)error*3", hits=1)


if __name__ == "__main__":
    unittest.main()
