"""The stream between a living worker and a living controller: cut, silent, or with a Hello that comes too late."""

import time
import unittest

import fault_case
from fault_case import keys, log_events, wait_until

KEYS = keys(1500)


class StreamTest(fault_case.FaultTest):
    def start_behind_proxies(self, first_points="", ttl=(), second_worker=True):
        """Controllers A and B, each behind a TCP proxy; the worker is attached to A and knows both proxies. A second
        worker, if wanted, is on B directly. Returns (a, b, proxy_a, proxy_b, worker)."""
        a = self.env.start_controller(failpoints=first_points, flags=ttl)
        b = self.env.start_controller(flags=ttl)
        proxy_a = self.env.start_proxy(a.address, mode="tcp")
        proxy_b = self.env.start_proxy(b.address, mode="tcp")
        self.addCleanup(proxy_a.kill)
        self.addCleanup(proxy_b.kill)
        proxy_b.set(mode="refuse")
        worker = self.start_worker([proxy_a, proxy_b])
        self.wait_attached(worker, 1)
        proxy_b.set(mode="pass")
        if second_worker:
            self.start_worker([b])
            wait_until("the other worker is attached", lambda: log_events(b, "worker.attached"))
        return a, b, proxy_a, proxy_b, worker

    @staticmethod
    def wait_attached(worker, count, timeout=30):
        """Until the worker has attached that often; the log's lines on it."""
        return wait_until(f"{worker.name} has attached {count} times",
                          lambda: (lines := log_events(worker, "stream.attached"))[count - 1:] and lines, timeout)

    def test_cut_worker_takes_its_leases_to_the_other_controller_and_back(self):
        _, b, proxy_a, proxy_b, worker = self.start_behind_proxies()
        self.store.set(latency_ms=60)
        job = self.create_job(KEYS)
        self.wait_executed(100)
        proxy_a.set(mode="refuse")
        second = self.wait_attached(worker, 2)[1]
        self.assertTrue(second["controller"].endswith(b.address))
        self.assertGreater(int(second["leases"]), 0, "the worker had no leases to take along")
        proxy_a.set(mode="pass")
        proxy_b.cut()
        third = self.wait_attached(worker, 3)[2]
        self.assertGreater(int(third["leases"]), 0)
        self.assertEqual(len({line["session"] for line in log_events(worker, "stream.attached")}), 1)
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, KEYS)
        self.assert_executed_once(KEYS)

    def test_cut_again_and_again(self):
        _, _, proxy_a, proxy_b, worker = self.start_behind_proxies()
        # Slow enough that the job outlasts all waits of the worker between its attaches.
        self.store.set(latency_ms=300)
        job = self.create_job(KEYS)
        for attached in range(1, 6):
            self.wait_attached(worker, attached)
            self.wait_executed(30 * attached)
            proxy_a.cut()
            proxy_b.cut()
        self.wait_attached(worker, 6)
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, KEYS)
        self.assert_executed_once(KEYS)

    def test_worker_that_no_controller_answers_stops_itself(self):
        _, _, proxy_a, proxy_b, worker = self.start_behind_proxies(ttl=fault_case.SHORT_TTL)
        self.store.set(latency_ms=20)
        job = self.create_job(keys(4000))
        self.wait_executed(200)
        proxy_a.set(mode="hold")
        proxy_b.set(mode="hold")
        held = time.time()
        time.sleep(2 * fault_case.SHORT_TTL_SECONDS)
        proxy_a.set(mode="pass")
        proxy_b.set(mode="pass")
        let_go = time.time()
        self.wait_attached(worker, 2)
        self.assert_counted_once(job, keys(4000))
        # Two thirds of the time to live after the last Status that was acknowledged, so after `held` at the latest.
        fenced = held + fault_case.SHORT_TTL_SECONDS * 2 / 3 + 0.1
        self.assertEqual([r for r in self.requests() if r.worker == worker.name and fenced < r.time < let_go], [])
        self.assertTrue(any(r.time < held for r in self.requests() if r.worker == worker.name))

    def test_controller_that_falls_silent_is_left_before_the_session_or_the_fence_ends(self):
        """Nothing is closed or refused: packets just vanish, on the worker's stream and on new ones to A."""
        _, b, proxy_a, _, worker = self.start_behind_proxies()
        self.store.set(latency_ms=60)
        job = self.create_job(KEYS)
        self.wait_executed(100)
        proxy_a.set(mode="hold")
        silent = time.time()
        second = self.wait_attached(worker, 2)[1]
        self.assertLess(second["time"] - silent, 10)  # two thirds of the TTL of 15 s, which ends sessions
        self.assertTrue(second["controller"].endswith(b.address))
        self.assertGreater(int(second["leases"]), 0, "the worker had no leases to take along")
        self.assertEqual(len({line["session"] for line in log_events(worker, "stream.attached")}), 1)
        self.assertEqual(log_events(worker, "fence.fell"), [])
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, KEYS)
        self.assert_executed_once(KEYS)

    def check_late_hello(self, point):
        """The worker's next Hello reaches A and waits at `point`, until the worker has attached to B with a later one.
        It must not take the session, or any lease, away."""
        name = point.partition("=")[0]
        a, _, proxy_a, proxy_b, worker = self.start_behind_proxies(first_points=point, second_worker=False)
        self.store.set(latency_ms=200)
        job = self.create_job(KEYS)
        self.wait_executed(40)
        proxy_b.set(mode="refuse")
        proxy_a.cut()
        self.env.wait_point(name)
        proxy_a.set(mode="refuse")
        proxy_b.set(mode="pass")
        attached = self.wait_attached(worker, 2)[1]
        self.assertGreater(int(attached["leases"]), 0)
        self.env.resume_point(name)
        refused = wait_until("the late Hello was answered", lambda: log_events(a, "worker.refused"))
        self.assertLess(int(refused[0]["attachment"]), int(attached["attachment"]))
        proxy_a.set(mode="pass")
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, KEYS)
        self.assert_executed_once(KEYS)
        self.assertEqual(len(log_events(worker, "stream.attached")), 2, "the worker lost its stream once more")

    def test_hello_that_is_delayed_until_its_worker_has_attached_elsewhere(self):
        self.check_late_hello("attach.hello=skip(1)pause")

    def test_hello_that_is_delayed_after_it_marked_its_leases(self):
        self.check_late_hello("attach.marked=pause")


if __name__ == "__main__":
    unittest.main()
