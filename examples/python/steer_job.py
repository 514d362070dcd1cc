#!/usr/bin/python3
"""Creates a rehearsal of which some tasks fail, pauses it, lets it go on, and lists what failed; or cancels it.

    steer_job.py --server 127.0.0.1:7600 --manifest files/manifests/keys.csv [--cancel]
"""

import argparse
import sys

import grpc
from drover_client import Drover, error_reason, job_pb2

from drover.v1 import manifest_pb2, operation_pb2
from google.protobuf import duration_pb2


def rehearsal(manifest):
    store, bucket, key = manifest.split("/", 2)
    location = manifest_pb2.ObjectLocation(store=store, bucket=bucket, key=key)
    no_op = operation_pb2.NoOp(duration=duration_pb2.Duration(nanos=20_000_000), failure_fraction=0.1)
    return job_pb2.Job(
        operation=operation_pb2.Operation(no_op=no_op),
        manifest=manifest_pb2.Manifest(csv=manifest_pb2.CsvManifest(location=location)),
        priority=10,
        description="steered from Python",
    )


def show(job):
    progress = job.progress
    print(f"{job_pb2.JobState.Name(job.state)}: {progress.succeeded_tasks} succeeded, {progress.failed_tasks} failed "
          f"of {progress.total_tasks}", flush=True)


def steer(change, job, reason):
    """A change that comes too late, because the job has gone on meanwhile, is no error here."""
    try:
        change(job.job_id, reason)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
            raise
        print(f"too late: {error.details()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server", default="127.0.0.1:7600")
    parser.add_argument("--manifest", required=True, help="STORE/BUCKET/KEY of a CSV file")
    parser.add_argument("--cancel", action="store_true", help="cancel the job once it runs")
    options = parser.parse_args()
    steered = False
    with Drover(options.server) as drover:
        created = drover.create(rehearsal(options.manifest))
        print(f"job {created.job_id} created")
        for job in drover.watch(created.job_id):
            show(job)
            if job.state == job_pb2.ACTIVE and not steered:
                steered = True
                if options.cancel:
                    steer(drover.cancel, job, "an example")
                else:
                    steer(drover.pause, job, "a look at it")
            elif job.state == job_pb2.PAUSED:
                steer(drover.resume, job, "it looks right")
        failed = list(drover.failed(created.job_id))
        for outcome in failed[:5]:
            print(f"failed: {outcome.task.bucket}/{outcome.task.key}: {outcome.error_code} {outcome.message}")
        print(f"{len(failed)} outcomes of failed tasks")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name} {error_reason(error)}: {error.details()}")
