"""A worker that is stopped (SIGSTOP) for longer than its session's time to live, and goes on: its late segments are
refused, it starts no request for what it held, and its tasks have run elsewhere and are counted once."""

import time
import unittest

import fault_case
from fault_case import keys, log_events, wait_until


class StoppedWorkerTest(fault_case.FaultTest):
    def setUp(self):
        super().setUp()
        self.addCleanup(lambda: [worker.cont() for worker in self.env.workers])

    def stop_at_work(self, names):
        """Two workers at work on a job; that of A is stopped, with finished tasks: some not sent, some in segments that
        are still on their way, in a proxy. Returns (job, a, b, proxy, worker)."""
        self.store.set(latency_ms=50)
        a, b = self.env.start_controllers(2, flags=fault_case.SHORT_TTL)
        proxy = self.env.start_proxy(a.address, mode="tcp")
        self.addCleanup(proxy.kill)
        worker = self.start_worker([proxy])
        self.start_worker([b])
        self.env.wait_workers()
        job = self.create_job(names)
        held = (f"SELECT count(*) >= 6 FROM drover.leases JOIN drover.sessions USING (session_id) "
                f"WHERE name = '{worker.name}'")
        wait_until("the worker has leases in store", lambda: self.postgres.sql(held) == [["t"]])
        proxy.set(mode="hold")
        self.wait_at_work(worker, 2 * 32)  # two batches' worth more, so that one at least has ended
        worker.stop()
        return job, a, b, proxy, worker

    def wait_at_work(self, worker, more):
        def count():
            return sum(request.worker == worker.name for request in self.requests())

        before = count()
        wait_until("the worker is at work", lambda: count() >= before + more, interval=0.01)

    def wake(self, a, proxy, worker):
        """The late segments arrive, and the worker goes on. They are refused; it begins a new session with nothing."""
        session = log_events(worker, "session.begun")[0]["session"]
        proxy.set(mode="pass")
        wait_until("a late segment was refused",
                   lambda: any(line["session"] == session for line in log_events(a, "lease.lost")))
        woken = time.time()
        worker.cont()
        new = wait_until("the worker has a new session", lambda: [
            line for line in log_events(worker, "stream.attached") if line["session"] != session])[0]
        self.assertEqual(int(new["leases"]), 0)
        return woken, new["time"]

    def test_woken_after_its_job_is_done(self):
        names = keys(1500)
        job, a, _, proxy, worker = self.stop_at_work(names)
        self.assert_counted_once(job, names)
        before = self.requests()
        self.wake(a, proxy, worker)
        self.assertEqual(self.requests(), before)
        self.check_executions(before, worker, names)

    def test_woken_while_its_job_goes_on(self):
        names = keys(4000)
        job, a, b, proxy, worker = self.stop_at_work(names)
        wait_until("its leases came back", lambda: any(
            log_events(controller, "lease.returned") for controller in (a, b)), timeout=30)
        begun = {request.key for request in self.requests() if request.worker == worker.name}
        wait_until("its tasks ran elsewhere", lambda: self.ran_twice(begun), timeout=30)
        woken, attached = self.wake(a, proxy, worker)
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, names)
        self.assertEqual([r for r in self.requests() if r.worker == worker.name and woken < r.time < attached], [])
        self.check_executions(self.requests(), worker, names)

    def ran_twice(self, among):
        executed = self.executions()
        return [key for key in among if executed[key] > 1]

    def check_executions(self, requests, worker, names):
        """Every key was carried out; twice only what the stopped worker had begun."""
        executed = self.executions()
        self.assertEqual(set(executed), set(names))
        twice = {key for key, count in executed.items() if count > 1}
        self.assertTrue(twice, "the stopped worker had nothing under way")
        self.assertLessEqual(max(executed.values()), 2)
        self.assertLessEqual(twice, {request.key for request in requests if request.worker == worker.name})


if __name__ == "__main__":
    unittest.main()
