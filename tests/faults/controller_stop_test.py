"""SIGTERM of a controller whose worker does not go, or whose database does not answer: it says at once that it goes,
serves on while it drains, and ends within the time that the chart gives it."""

import time
import unittest

import fault_case
from fault_case import drover_env, keys, log_events, wait_until
from rogue import Rogue

SERVING, NOT_SERVING = 1, 2
# drain-timeout (20 s) and the controller's own tail; the chart's terminationGracePeriodSeconds is 40 s.
LONGEST_STOP_SECONDS = 35


class ControllerStopTest(fault_case.FaultTest):
    def attach_worker_that_stays(self, controller):
        """One that does not care for Drain."""
        rogue = Rogue(controller)
        self.addCleanup(rogue.close)
        pb = drover_env.python_stubs().worker_service_pb2
        rogue.attach(pb.Hello(min_protocol=1, max_protocol=1, codecs=[1], version="test").SerializeToString())
        rogue.keep_alive()
        return rogue

    def test_not_serving_from_the_start_of_a_drain_while_calls_are_answered(self):
        controller = self.env.start_controller(flags=("--drain-timeout", "5s"))
        self.attach_worker_that_stays(controller)
        job = self.create_job(keys(10))
        controller.signal(15)
        told = time.time()
        wait_until("it says that it does not serve", lambda: self.env.health(controller) == NOT_SERVING, 2)
        self.assertEqual(self.env.get_job(job, controller).job_id, job.job_id)
        time.sleep(2)
        self.assertTrue(controller.running, "it did not wait for its worker")
        self.assertEqual(self.env.health(controller), NOT_SERVING)
        self.assertEqual(controller.wait(), 0)
        self.assertGreater(time.time() - told, 4.5)
        self.assertLess(time.time() - told, 10)

    def test_ends_within_its_bound_though_a_commit_hangs_and_a_worker_stays(self):
        controller = self.env.start_controller(failpoints="storage.record.before_commit=pause")
        self.attach_worker_that_stays(controller)
        self.start_worker([controller])
        self.create_job(keys(10))
        self.env.wait_point("storage.record.before_commit")
        controller.signal(15)
        told = time.time()
        self.assertEqual(controller.wait(60), 1)
        self.assertLess(time.time() - told, LONGEST_STOP_SECONDS)
        self.assertEqual(len(log_events(controller, "controller.stop_overdue")), 1)


if __name__ == "__main__":
    unittest.main()
