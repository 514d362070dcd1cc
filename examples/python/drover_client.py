"""A small client of Drover's JobService for Python, to use or to copy from.

    with Drover("127.0.0.1:7600") as drover:
        job = drover.create(job_pb2.Job(...), request_id="night-1")
        for job in drover.watch(job.job_id):
            print(job_pb2.JobState.Name(job.state))
        for outcome in drover.failed(job.job_id):
            print(outcome.task.key, outcome.error_code)

Needs grpc and protobuf (Debian: python3-grpcio, python3-protobuf), and the modules that make_stubs.sh generates, in
the folder `stubs` beside this file or in the one that DROVER_STUBS names.
"""

import os
import pathlib
import random
import sys
import time
import uuid

import google
import grpc

STUBS = os.environ.get("DROVER_STUBS") or str(pathlib.Path(__file__).resolve().parent / "stubs")
sys.path.insert(0, STUBS)
google.__path__.append(f"{STUBS}/google")  # google.api and google.rpc, beside the google.protobuf that is installed

from drover.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc  # noqa: E402  (after the path is set)
from google.rpc import error_details_pb2, status_pb2  # noqa: E402

TERMINAL_STATES = (job_pb2.COMPLETE, job_pb2.CANCELLED, job_pb2.FAILED)
# Trying again can help: the server is away, or busy.
TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
CALL_TIMEOUT_SECONDS = 30
PATIENCE_SECONDS = 120
PAGE_SIZE = 500


def error_reason(error):
    """The stable reason of a refused call, such as JOB_NOT_FOUND, or "" if it carries none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return ""


class Drover:
    """Calls of one controller, or of several behind one address. Raises grpc.RpcError; calls that may be made twice
    are tried again while the server is away, for PATIENCE_SECONDS."""

    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        self._jobs = job_service_pb2_grpc.JobServiceStub(self._channel)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._channel.close()

    def create(self, job, request_id=None):
        """Creates a job. The request id makes trying again harmless: the same one never makes a second job."""
        request = job_service_pb2.CreateJobRequest(request_id=request_id or str(uuid.uuid4()), job=job)
        return self._again(self._jobs.CreateJob, request).job

    def get(self, job_id):
        return self._again(self._jobs.GetJob, job_service_pb2.GetJobRequest(job_id=job_id)).job

    def pause(self, job_id, reason=""):
        return self._again(self._jobs.PauseJob, job_service_pb2.PauseJobRequest(job_id=job_id, reason=reason)).job

    def resume(self, job_id, reason=""):
        # Not tried again: of a job that was resumed already, it would be refused.
        request = job_service_pb2.ResumeJobRequest(job_id=job_id, reason=reason)
        return self._jobs.ResumeJob(request, timeout=CALL_TIMEOUT_SECONDS).job

    def cancel(self, job_id, reason=""):
        return self._again(self._jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=job_id, reason=reason)).job

    def watch(self, job_id):
        """Yields the job now and after each change, its terminal state last. A stream that breaks is opened again;
        states that were seen already are left out."""
        version, waited_since = -1, time.monotonic()
        while True:
            stream = self._jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
            try:
                for update in stream:
                    waited_since = time.monotonic()
                    if update.job.version < version:
                        continue  # from a controller that is behind the one before
                    version = update.job.version
                    yield update.job
                    if update.job.state in TERMINAL_STATES:
                        return
            except grpc.RpcError as error:
                if error.code() not in TRANSIENT or time.monotonic() - waited_since > PATIENCE_SECONDS:
                    raise
            finally:
                stream.cancel()
            time.sleep(random.uniform(0.1, 1))

    def failed(self, job_id, error_code=None):
        """Yields what was recorded of the failed tasks, page by page."""
        request = job_service_pb2.ListTaskOutcomesRequest(job_id=job_id, page_size=PAGE_SIZE)
        if error_code is not None:
            request.error_code = error_code
        while True:
            page = self._again(self._jobs.ListTaskOutcomes, request)
            yield from page.outcomes
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    @staticmethod
    def _again(call, request):
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return call(request, timeout=CALL_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                if error.code() not in TRANSIENT or time.monotonic() > give_up:
                    raise
            time.sleep(random.uniform(0.1, 1))
