"""Both controllers restarted in turn with SIGTERM under load, as an upgrade does: no job fails or pauses, and no task
runs again."""

import unittest

import fault_case
from fault_case import drover_env, keys, log_events

KEYS = keys(20_000)
ROUNDS = 2


class RollingRestartTest(fault_case.FaultTest):
    def test_restart_of_both_controllers_in_turn_under_load(self):
        self.store.set(latency_ms=50)
        self.env.start_controllers(2)
        for _ in range(3):
            self.start_worker()
        self.env.wait_workers()
        job = self.create_job(KEYS)
        other = self.create_job(keys(300, "other"), operation={"no_op": {}}, priority=5)
        for turn in range(2 * ROUNDS):
            before = self.store.get("/state")["requests"]
            self.wait_executed(before + 300)
            controller = self.env.controllers[turn % 2]
            self.assertEqual(controller.terminate(), 0)
            self.assertTrue(log_events(controller, "controller.stopped"))
            self.env.restart(controller)
        state = drover_env.python_stubs().job_pb2.JobState.Name(self.env.get_job(job).state)
        self.assertEqual(state, "ACTIVE", "the job was over before the last restart")
        self.store.set(latency_ms=2)
        self.assert_counted_once(job, KEYS)
        self.assert_counted_once(other, keys(300, "other"))
        self.assert_executed_once(KEYS)
        for each in (job, other):
            self.assertLessEqual(set(self.states(each)),
                                 {"NEW", "PREPARING", "READY", "ACTIVE", "COMPLETING", "COMPLETE"})
        # Each worker has been through it without losing its session.
        for worker in self.env.workers:
            attached = log_events(worker, "stream.attached")
            self.assertEqual(len({line["session"] for line in attached}), 1)
            self.assertGreaterEqual(len(attached), ROUNDS)


if __name__ == "__main__":
    unittest.main()
