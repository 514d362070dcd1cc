"""What tests of whole jobs hold Drover against, without its own counters: the lines of the manifest, the rows of the
report, what the store holds; and errors as a client sees them."""

import collections
import contextlib
import unittest
import urllib.parse

import drover_env

Refusal = collections.namedtuple("Refusal", "code reason fields metadata message")
Refusal.__doc__ = """An error of the API: code ("INVALID_ARGUMENT"), ErrorInfo's reason and metadata, {path: text} of
BadRequest, and the message."""


def refusal_of(error):
    """The Refusal that a grpc.RpcError carries."""
    from google.protobuf import any_pb2  # noqa: F401  (its type is in the pool before the details are read)

    drover_env.python_stubs()
    from google.rpc import error_details_pb2, status_pb2

    reason, fields, metadata = None, {}, {}
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                fields |= {violation.field: violation.description for violation in bad.field_violations}
    return Refusal(error.code().name, reason, fields, metadata, error.details())


def state_of(job):
    """The name of a Job's state, e.g. "COMPLETE"."""
    return drover_env.python_stubs().job_pb2.JobState.Name(job.state)


def decoded_rows(report):
    """The rows of a report with keys as they are in the store, not percent-encoded."""
    return [row._replace(key=urllib.parse.unquote(row.key, errors="strict")) for row in report.rows]


class JobTestCase(unittest.TestCase):
    """Assertions about jobs; `self.env` is the environment."""

    maxDiff = 4000

    def assert_state(self, name, job):
        self.assertEqual(name, state_of(job), job)

    def assert_rows(self, expected, report, status=None):
        """The report has a row for each of these (bucket, key), as often as it is there, and no other."""
        rows = [row for row in decoded_rows(report) if status in (None, row.status)]
        found = collections.Counter((row.bucket, row.key) for row in rows)
        wanted = collections.Counter(tuple(entry[:2]) for entry in expected)
        self.assertEqual(([], []), (sorted((wanted - found).items())[:20], sorted((found - wanted).items())[:20]),
                         "rows that are missing, rows too many")

    def assert_all_succeeded(self, job, entries):
        """The job is complete, and by its report each of these objects was done once and succeeded."""
        self.assert_state("COMPLETE", job)
        report = self.env.read_report(job)
        failed = [row for row in report.rows if row.status != "succeeded"]
        self.assertEqual([], failed[:20])
        self.assert_rows(entries, report)
        self.assertEqual((len(entries), len(entries), 0),
                         (job.progress.total_tasks, job.progress.succeeded_tasks, job.progress.failed_tasks))
        return report

    @contextlib.contextmanager
    def refused(self, code, reason):
        """The call inside is refused with this code and reason; yields a list that then holds the Refusal."""
        import grpc

        held = []
        with self.assertRaises(grpc.RpcError) as caught:
            yield held
        refusal = refusal_of(caught.exception)
        held.append(refusal)
        self.assertEqual((code, reason), (refusal.code, refusal.reason), refusal)
