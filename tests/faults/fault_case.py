"""What the fault tests share: a small fleet before a counting S3 server, and oracles that do not use Drover's counters.

The oracles are the manifest's lines, which the test itself wrote; the rows of the completion report; and the requests
that reached the counting server, each with the access key of the worker that sent it (each worker has one of its own).
"""

import collections
import datetime
import pathlib
import random
import re
import sys
import time
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import drover_env
from drover_env import wait_until

BUCKET = "bucket"
TAGGING = {"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}}
REPORT = {"store": "files", "bucket": "reports"}
# Where nothing is to expire, sessions have the default time to live: a busy machine must not end one. Where a session
# is to expire, it has the shortest.
SHORT_TTL_SECONDS = 3
SHORT_TTL = ("--session-ttl", f"{SHORT_TTL_SECONDS}s", "--heartbeat", "500ms")
CONCURRENCY = ("--concurrency", "16")

Request = collections.namedtuple("Request", "time key worker")


def keys(count, prefix="k"):
    """Object keys of a manifest, all different."""
    return [f"{prefix}{number:05}" for number in range(count)]


def entries(names):
    return [(BUCKET, name) for name in names]


def log_events(process, event):
    """Lines of that event in a process's log: dicts of its fields, `time` as Unix time."""
    found = []
    for line in process.log().splitlines():
        if f" event={event}" not in line:
            continue
        pairs = re.findall(r'([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line)
        fields = {name: quoted or bare for name, quoted, bare in pairs}
        if fields.get("event") == event:
            fields["time"] = datetime.datetime.fromisoformat(fields["time"].replace("Z", "+00:00")).timestamp()
            found.append(fields)
    return found


class FaultTest(unittest.TestCase):
    """One environment for a class: PostgreSQL and the counting server stay, services and schema are each test's own."""

    # What no fault may lead to: a broken invariant, or a segment of an honest worker that does not fit its lease.
    forbidden_events = ("invariant.broken", "segment.refused", "segment.rejected")

    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("faults")
        cls.addClassCleanup(cls.env.close)
        cls.postgres = cls.env.start_postgres()
        cls.store = cls.env.start_counting_server()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store("s3", cls.store.endpoint)])

    def setUp(self):
        self.store.set(latency_ms=5, status=200, fail_match="")
        self.store.reset()
        for point in (self.env.directory / "points").glob("*"):
            point.unlink()
        self.addCleanup(self.clean_up)

    def clean_up(self):
        logs = "".join(controller.log() for controller in self.env.controllers)
        if self.failed():
            for service in self.env.controllers + self.env.workers:
                print(f"---- {service.name}, exit code {service.exit_code}\n{service.log()[-3000:]}")
        for service in self.env.controllers + self.env.workers:
            service.kill()
        self.env.controllers.clear()
        self.env.workers.clear()
        self.postgres.sql("DROP SCHEMA IF EXISTS drover CASCADE")
        for event in self.forbidden_events:
            self.assertNotIn(f"event={event}", logs)

    def failed(self):
        result = self._outcome.result
        return any(test is self for test, _ in getattr(result, "failures", []) + getattr(result, "errors", []))

    # ---- the fleet

    def start_worker(self, controllers=None, failpoints="", flags=(), concurrency=None):
        """A worker whose requests bear its name as access key."""
        name = self.env._name("worker")
        flags = (*(CONCURRENCY if concurrency is None else ("--concurrency", str(concurrency))), *flags)
        return self.env.start_worker(controllers=controllers, failpoints=failpoints, flags=flags, name=name,
                                     env={drover_env.ACCESS_KEY_ENV: name})

    def start_pair(self, first_points="", first_worker_points="", ttl=(), second_worker=True, **worker):
        """Controllers A and B, and a worker on each (or on A only). That on A goes to B when A dies; the other knows
        only B. A is started with `first_points`, its worker with `first_worker_points`. Returns
        (a, b, worker_a, worker_b)."""
        a = self.env.start_controller(failpoints=first_points, flags=ttl)
        b_address = f"127.0.0.1:{drover_env.free_port()}"
        worker_a = self.start_worker([a, b_address], failpoints=first_worker_points, **worker)
        wait_until("the first worker is attached", lambda: log_events(a, "worker.attached"))
        b = self.env.start_controller(listen=b_address, flags=ttl)
        if not second_worker:
            return a, b, worker_a, None
        worker_b = self.start_worker([b], **worker)
        wait_until("the second worker is attached", lambda: log_events(b, "worker.attached"))
        return a, b, worker_a, worker_b

    def create_job(self, names, operation=TAGGING, report=REPORT, **fields):
        return self.env.create_job(operation, self.env.put_manifest(entries(names)), report=report, **fields)

    def wait_executed(self, count, timeout=60):
        """Until the store has had that many requests."""
        wait_until(f"{count} requests at the store", lambda: self.store.get("/state")["requests"] >= count, timeout,
                   interval=0.01)

    # ---- what the store has seen

    def requests(self):
        """All requests that carried out a task, in order."""
        found = []
        for moment, method, target, _, worker in self.store.requests():
            path = urllib.parse.unquote(target.partition("?")[0])
            self.assertEqual((method, path.split("/")[1]), ("PUT", BUCKET))
            found.append(Request(moment, path.removeprefix(f"/{BUCKET}/"), worker))
        return found

    def executions(self):
        """How often each key was carried out."""
        return collections.Counter(request.key for request in self.requests())

    # ---- oracles

    def assert_counted_once(self, job, names, status="succeeded"):
        """The job is Complete, and its report has each line of the manifest exactly once."""
        job = self.env.wait_job(job, states=("COMPLETE",), timeout=90)
        rows = self.env.read_report(job).keys(status)
        expected = collections.Counter(entries(names))
        self.assertEqual(rows, expected, self.difference(rows, expected))
        return job

    def assert_executed_once(self, names):
        counts = self.executions()
        expected = collections.Counter(names)
        self.assertEqual(counts, expected, self.difference(counts, expected))

    @staticmethod
    def difference(found, expected):
        return (f"missing: {sorted((expected - found).items())[:10]}, "
                f"beyond: {sorted((found - expected).items())[:10]}, {sum(found.values())} of {sum(expected.values())}")

    def states(self, job):
        """The states that the job has been in, from the audit record."""
        names = drover_env.python_stubs().job_pb2.JobState
        rows = self.postgres.sql(f"SELECT state FROM drover.events WHERE job_id = '{job.job_id}' ORDER BY version")
        return [names.Name(int(row[0])) for row in rows]


def random_keys(count, length, seed=7):
    """Keys that no compression makes small: many bytes of manifest from few tasks."""
    chooser = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    return [f"{number:06}" + "".join(chooser.choices(alphabet, k=length)) for number in range(count)]
