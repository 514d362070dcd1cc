"""A worker that misbehaves: it gets an error, and the job goes on to its end through honest workers, with every key
counted once."""

import unittest

import grpc

import fault_case
import rogue
from fault_case import drover_env, keys, wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
KEYS = keys(1200)


class MisbehavingWorkerTest(fault_case.FaultTest):
    forbidden_events = ("invariant.broken", "segment.rejected")  # what it sends is refused

    def setUp(self):
        super().setUp()
        self.pb = drover_env.python_stubs().worker_service_pb2
        self.a, self.b = self.env.start_controllers(2, flags=(*fault_case.SHORT_TTL, "--interrupt-grace", "1s"))
        self.honest = self.start_worker([self.b])
        self.env.wait_workers()
        self.like = bytes.fromhex(self.postgres.sql("SELECT encode(hello, 'hex') FROM drover.sessions")[0][0])

    def open(self):
        stream = rogue.Rogue(self.a)
        self.addCleanup(stream.close)
        return stream

    def take_leases(self, count=3):
        """A stream that has been granted at least `count` leases of the job."""
        stream = self.open()
        stream.attach(self.like, credit=32 * count)
        grants = stream.wait_for("grant", count)
        self.assertEqual(grants[0].batch_tasks, 32)
        return stream, grants

    def start_job(self):
        """A job that an honest worker is at work on, slowly, so that much is left for a rogue."""
        self.store.set(latency_ms=100)
        job = self.create_job(KEYS)
        self.wait_executed(20)
        return job

    def check_job(self, job, reported=()):
        """The job completes, with every key once; all were carried out but those `reported` by the rogue."""
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, KEYS)
        executed = self.executions()
        self.assertEqual(set(executed), set(KEYS) - set(reported))
        self.assertEqual(set(executed.values()), {1})
        self.assertTrue(self.honest.running and self.a.running and self.b.running)

    def tasks_of(self, grant, first, end):
        """Keys of tasks `first` to `end` of a granted batch."""
        return KEYS[grant.first_task + first:grant.first_task + end]

    # ---- before and at the attach

    def test_streams_that_do_not_begin_with_a_good_hello(self):
        job = self.start_job()
        pb = self.pb
        hello = self.open().hello(self.like)
        held = [pb.HeldLease(lease_id=number, job_id=job.job_id, batch_no=0) for number in range(1, 65538)]

        def changed(**fields):
            other = pb.Hello()
            other.CopyFrom(hello)
            for name in fields:
                other.ClearField(name)
            other.MergeFrom(pb.Hello(**fields))
            return pb.WorkRequest(hello=other).SerializeToString()

        failed_precondition = grpc.StatusCode.FAILED_PRECONDITION
        cases = {
            "a Status first": (pb.WorkRequest(status=pb.Status(number=1)).SerializeToString(), INVALID),
            "a Segment first": (
                pb.WorkRequest(segment=pb.Segment(lease_id=1, sequence=1)).SerializeToString(), INVALID),
            "an empty message": (b"", INVALID),
            "garbage": (b"\xff\xfe\xfd garbage", INVALID),
            "a string that is not UTF-8": (changed(name="rogue").replace(b"rogue", b"r\xff\xfeue"), INVALID),
            "a later protocol": (changed(min_protocol=2, max_protocol=9), failed_precondition),
            "no codec": (changed(codecs=[77]), failed_precondition),
            "a name too long": (changed(name="n" * 129), INVALID),
            "no name": (changed(name=""), INVALID),
            "too many labels": (changed(labels={f"l{number}": "x" for number in range(33)}), INVALID),
            "too many operations": (changed(operations=[pb.OperationSupport(name="x")] * 257), INVALID),
            "too many stores": (changed(stores=[pb.StoreSupport(name="x")] * 257), INVALID),
            "attachment 0": (changed(attachment=0), INVALID),
            "a session id that is none": (changed(session_id="'; DROP TABLE drover.sessions"), INVALID),
            "too many leases": (changed(held_leases=held), INVALID),
            "a lease of no job": (changed(held_leases=[pb.HeldLease(lease_id=1, job_id="x")]), INVALID),
            "9 MB": (changed(version="v" * 9_000_000), grpc.StatusCode.RESOURCE_EXHAUSTED),
        }
        for name, (first, code) in cases.items():
            with self.subTest(name):
                stream = self.open()
                stream.send_bytes(first)
                self.assertEqual(stream.wait_end(), code, stream.details)
        with self.subTest("a Hello with as many leases as it may have, none of them its own"):
            stream = self.open()
            welcome = stream.attach(self.like, held_leases=held[:65536])
            self.assertEqual(len(welcome.lost_leases), 65536)
        with self.subTest("two Hellos"):
            stream.send(hello=hello)
            self.assertEqual(stream.wait_end(), INVALID)
        self.check_job(job)

    def test_session_of_another_worker(self):
        job = self.start_job()
        (session,) = [worker.session_id for worker in self.env.list_workers() if worker.name == self.honest.name]
        leases = self.postgres.sql(f"SELECT lease_id, batch_no FROM drover.leases WHERE session_id = '{session}'")
        stream = self.open()
        held = [self.pb.HeldLease(lease_id=int(lease), job_id=job.job_id, batch_no=int(batch))
                for lease, batch in leases]
        stream.send(hello=stream.hello(self.like, session_id=session, resume_token="0" * 32, attachment=1000,
                                       held_leases=held))
        self.assertEqual(stream.wait_end(), grpc.StatusCode.PERMISSION_DENIED)
        self.check_job(job)
        self.assertEqual(len(fault_case.log_events(self.honest, "stream.attached")), 1)

    def test_wrong_statuses(self):
        job = self.start_job()
        for name, status in {"a number left out": {"number": 3}, "a number again": {"number": 1},
                             "negative credit": {"number": 2, "credit": -1},
                             "negative urgent credit": {"number": 2, "urgent_credit": -5},
                             "more grants than were sent": {"number": 2, "grants_received": 1 << 40}}.items():
            with self.subTest(name):
                stream = self.open()
                stream.attach(self.like)
                stream.send(status=self.pb.Status(**status))
                self.assertEqual(stream.wait_end(), INVALID)
        with self.subTest("boundless credit"):
            stream = self.open()
            stream.attach(self.like, credit=(1 << 63) - 1)
            stream.send(status=self.pb.Status(number=2, credit=(1 << 63) - 1, urgent_credit=(1 << 63) - 1))
            stream.wait_for("grant")
            stream.close()
        self.check_job(job)

    # ---- segments

    def test_segments_that_are_wrong(self):
        job = self.start_job()
        pb = self.pb
        outcome = {"task": 0, "succeeded": False, "http_status": 404, "attempts": 1}
        cases = {
            "nothing": {},
            "a task outside of the batch": {"succeeded": [(30, 33)]},
            "an empty range": {"succeeded": [(5, 5)]},
            "a negative task": {"succeeded": [(-1, 1)]},
            "a task twice in a list": {"succeeded": [(0, 5), (4, 6)]},
            "a task in two lists": {"succeeded": [(0, 5)], "returned": [pb.TaskRange(first=4, end=8)]},
            "a number left out": {"sequence": 2, "succeeded": [(0, 1)]},
            "number 0": {"sequence": 0, "succeeded": [(0, 1)]},
            "another batch": {"batch_no": 1 << 40, "succeeded": [(0, 1)]},
            "another job": {"job_id": "01940000-0000-7000-8000-000000000001", "succeeded": [(0, 1)]},
            "no attempts": {"outcomes": [pb.TaskOutcome(**{**outcome, "attempts": 0})]},
            "an impossible HTTP status": {"outcomes": [pb.TaskOutcome(**{**outcome, "http_status": 1000})]},
            "a note too long": {"succeeded": [(0, 1)], "notes": [pb.TaskNote(task=1, note=b"x" * 1025)]},
        }
        for name, fields in cases.items():
            with self.subTest(name):
                stream, grants = self.take_leases(1)
                stream.send(segment=stream.segment(grants[0], **fields))
                self.assertEqual(stream.wait_end(), INVALID)
                self.assertEqual(stream.of("segment_ack"), [])
                # Its leases come back when its session ends: not to wait for that each time, it comes back and goes.
                self.give_up(stream, grants)
        self.check_job(job)

    def give_up(self, stream, grants):
        """Attaches again as the same worker, without its leases, which so come back, and leaves."""
        welcome = stream.of("welcome")[0]
        again = self.open()
        again.attach(self.like, session_id=welcome.session_id, resume_token=welcome.resume_token, attachment=2)
        again.close()

    def test_segments_that_overlap_or_come_again(self):
        job = self.start_job()
        stream, grants = self.take_leases(2)
        grant, other = grants[:2]
        stream.send(segment=stream.segment(grant, 1, [(0, 10)]))
        first = stream.wait_for("segment_ack")[0]
        self.assertEqual((first.sequence, first.result), (1, self.pb.SegmentAck.RECORDED))
        # The same again, and the same number with something else in it: acknowledged, and not looked at.
        stream.send(segment=stream.segment(grant, 1, [(0, 10)]))
        stream.send(segment=stream.segment(grant, 1, [(5, 32)]))
        acks = stream.wait_for("segment_ack", 3)
        self.assertEqual([(ack.sequence, ack.result) for ack in acks], [(1, self.pb.SegmentAck.RECORDED)] * 3)
        # On another lease, two in flight under one number.
        for _ in range(5):
            stream.send(segment=stream.segment(other, 1, [(0, 4)]))
        stream.wait_for("segment_ack", 4)
        # A new number with recorded tasks in it.
        stream.send(segment=stream.segment(grant, 2, [(9, 12)]))
        self.assertEqual(stream.wait_end(), INVALID)
        self.check_job(job, reported=self.tasks_of(grant, 0, 10) + self.tasks_of(other, 0, 4))

    def test_recorded_tasks_again_after_an_attach(self):
        job = self.start_job()
        stream, grants = self.take_leases(1)
        stream.send(segment=stream.segment(grants[0], 1, [(0, 10)]))
        stream.wait_for("segment_ack")
        welcome = stream.of("welcome")[0]
        stream.close()
        again = self.open()
        again.attach(self.like, session_id=welcome.session_id, resume_token=welcome.resume_token, attachment=2,
                     held_leases=[self.pb.HeldLease(lease_id=grants[0].lease_id, job_id=grants[0].job_id,
                                                    batch_no=grants[0].batch_no)])
        again.send(segment=again.segment(grants[0], 2, [(8, 20)]))
        self.assertEqual(again.wait_end(), INVALID)
        self.check_job(job, reported=self.tasks_of(grants[0], 0, 10))

    def test_leases_that_are_not_its_own(self):
        job = self.start_job()
        stream, grants = self.take_leases(1)
        rows = self.postgres.sql(
            "SELECT lease_id, batch_no FROM drover.leases l JOIN drover.sessions s USING (session_id) "
            f"WHERE s.name = '{self.honest.name}' AND l.job_id = '{job.job_id}'")
        self.assertTrue(rows, "the honest worker holds no lease")
        foreign = [(int(lease), int(batch)) for lease, batch in rows] + [(12345, 0), (-1, 0), (0, 0)]
        for lease, batch in foreign:
            stream.send(segment=stream.segment(grants[0], 1, [(0, 32)], lease_id=lease, batch_no=batch))
        acks = stream.wait_for("segment_ack", len(foreign))
        self.assertEqual({ack.result for ack in acks}, {self.pb.SegmentAck.LOST})
        self.assertFalse(stream.ended.is_set())
        stream.close()
        self.check_job(job)

    def test_stream_that_ends_in_the_middle_with_leases(self):
        job = self.start_job()
        stream, grants = self.take_leases(2)
        stream.send(segment=stream.segment(grants[0], 1, [(0, 3)]))
        stream.send_bytes(b"\x0a\xff\xff\xff\xff\x0f")
        self.assertEqual(stream.wait_end(), INVALID)
        self.check_job_maybe_reported(job, self.tasks_of(grants[0], 0, 3))

    def check_job_maybe_reported(self, job, maybe):
        """What was sent just before the garbage was recorded or it was not; either way, once."""
        self.store.set(latency_ms=5)
        self.assert_counted_once(job, KEYS)
        executed = self.executions()
        missing = set(KEYS) - set(executed)
        self.assertIn(missing, (set(), set(maybe)))
        self.assertEqual(set(executed.values()), {1})

    # ---- revokes

    def test_revoke_of_a_cancelled_job_that_is_not_heeded(self):
        job = self.start_job()
        stream, grants = self.take_leases(2)
        stream.send(segment=stream.segment(grants[0], 1, [(0, 1)]))
        stream.wait_for("segment_ack")
        stream.keep_alive()
        stubs = drover_env.python_stubs()
        self.env.jobs().CancelJob(stubs.job_service_pb2.CancelJobRequest(job_id=job.job_id, reason="test"), timeout=10)
        self.assertEqual(stream.wait_for("revoke")[0].job_id, job.job_id)
        # A second of grace, and five to send what is done: then its leases are taken, though it is there and renews.
        job = self.env.wait_job(job, states=("CANCELLED",), timeout=30)
        self.assertFalse(stream.ended.is_set())
        lost = {ack.lease_id for ack in stream.of("segment_ack") if ack.result == self.pb.SegmentAck.LOST}
        self.assertEqual(lost, {grant.lease_id for grant in stream.of("grant")})
        # What it says now is too late.
        stream.send(segment=stream.segment(grants[1], 1, [(0, 32)]))
        wait_until("it was told so", lambda: sum(
            ack.lease_id == grants[1].lease_id for ack in stream.of("segment_ack")) == 2)
        rows = self.env.read_report(job).keys()
        self.assertEqual(set(rows.values()), {1})
        self.assertEqual({key for _, key in rows}, set(self.executions()) | {*self.tasks_of(grants[0], 0, 1)})

    def test_revoke_of_a_paused_job_that_is_not_heeded(self):
        job = self.start_job()
        stream, _ = self.take_leases(2)
        stream.keep_alive()
        stubs = drover_env.python_stubs()
        self.env.jobs().PauseJob(stubs.job_service_pb2.PauseJobRequest(job_id=job.job_id, reason="test"), timeout=10)
        self.assertEqual(stream.wait_for("revoke")[0].mode, self.pb.Revoke.FINISH)
        # Tasks in flight may take long, so the job waits, and says for how many; until the worker is gone.
        wait_until("only the rogue holds leases", lambda: {row[0] for row in self.postgres.sql(
            "SELECT s.name FROM drover.leases l JOIN drover.sessions s USING (session_id)")} == {"rogue"})
        waiting = self.env.wait_job(job, states=("PAUSING",))
        self.assertEqual(waiting.progress.leased_tasks, 32 * len(stream.of("grant")))
        stream.close()
        self.env.wait_job(job, states=("PAUSED",), timeout=30)
        self.env.jobs().ResumeJob(stubs.job_service_pb2.ResumeJobRequest(job_id=job.job_id), timeout=10)
        self.check_job(job)


if __name__ == "__main__":
    unittest.main()
