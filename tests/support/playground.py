"""A whole Drover on this machine, to try things on: the engine of `./dev up`, `./dev down` and `./dev demo`.

    playground.py up|down|demo

Two controllers, two workers, a private PostgreSQL and radosgw, on 127.0.0.1, in DROVER_RUN_DIR (default .run): `up` in
its folder up/, `demo` in demo/. Of a demo the folder stays, with logs and reports, until the next one.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import drover_env
from drover_env import BIN, TOP

CONTROLLER_PORTS = (7600, 7601)
DEMO_OBJECTS = 2500
DEMO_MISSING = 50
DEMO_TAGS = {"project": "drover", "reviewed": "yes"}
DEMO_PREFIX = "copies/"
ODD_KEYS = ["with space", "with+plus", "per%cent", "a&b=c?d#e", "ünï/cödé", "//leading/and//doubled", "quote\"comma,"]

# The CLI's exit codes that a finished job may have here: without and with failed tasks.
FINISHED_CODES = (0, 3)


def say(text):
    print(f"== {text}", flush=True)


def run_directory(name):
    """DROVER_RUN_DIR/NAME, or a folder in /var/tmp where user postgres can't reach that or a socket's path would be too
    long."""
    base = pathlib.Path(os.environ.get("DROVER_RUN_DIR") or TOP / ".run").resolve()
    base.mkdir(parents=True, exist_ok=True)
    reachable = os.getuid() != 0 or subprocess.run(["runuser", "-u", "postgres", "--", "test", "-x", base],
                                                   check=False, capture_output=True).returncode == 0
    if not reachable or len(str(base)) > 60:
        fallback = pathlib.Path("/var/tmp") / f"drover-{os.getuid()}-{hashlib.sha256(str(base).encode()).hexdigest()[:8]}"
        fallback.mkdir(mode=0o755, exist_ok=True)
        print(f"   {base} is no place for PostgreSQL ({'too long' if reachable else 'out of its reach'}): "
              f"using {fallback}")
        base = fallback
    return base / name


def preferred(port):
    """The port if nothing listens there, else another: the documentation's lines work as they are where they can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = drover_env.free_port()
    return port


def start(env):
    """Starts everything into a fresh directory."""
    say("starting PostgreSQL (private, fsync on)")
    env.start_postgres()
    say("starting radosgw, an S3 server (about 12 s)")
    rgw = env.start_rgw(own=True)
    client = rgw.client()
    for bucket in ("photos", "archive", "reports"):
        client.create_bucket(Bucket=bucket)
    env.write_stores()
    say("starting two controllers and two workers")
    for port in CONTROLLER_PORTS:
        env.start_controller(listen=f"127.0.0.1:{preferred(port)}", wait=False)
    for controller in env.controllers:
        env.wait_serving(controller)
    env.start_workers(2)
    env.wait_workers(2)
    for service in env.controllers + env.workers:
        where = f"grpc {service.address}, " if service.address else ""
        print(f"   {service.name:14} pid {service.pid:<7} {where}http://{service.metrics_address}/metrics")
    print(f"   PostgreSQL     {env.postgres.uri}")
    print(f"   S3 server      {rgw.endpoint}, keys in {rgw.directory}/endpoint.json")
    print(f"   logs           {env.directory}/logs")


def fresh_environment(name):
    """An Env in the run directory; what an earlier one left there is ended and removed."""
    directory = run_directory(name)
    if directory.exists():
        drover_env.sweep(directory)
        shutil.rmtree(directory)
    return drover_env.Env(directory=directory)


# ---------------------------------------------------------------------------------------------------------- up, down


def is_up(directory):
    return (directory / "up").exists()


def up():
    directory = run_directory("up")
    if is_up(directory):
        print((directory / "up").read_text())
        say("it is up already; ./dev down ends it")
        return 0
    with fresh_environment("up") as env:
        start(env)
        lines = instructions(env)
        (directory / "up").write_text(lines)
        print(lines)
        env.release()
    return 0


def instructions(env):
    """What to type now."""
    address = env.controllers[0].address
    servers = ",".join(controller.address for controller in env.controllers)
    (env.files / "manifests").mkdir(exist_ok=True)
    (env.files / "manifests/three.csv").write_text("".join(f"photos,{number}\n" for number in range(3)))
    request = {"request_id": "try-1", "job": {
        "operation": {"no_op": {}},
        "manifest": {"csv": {"location": {"store": "files", "bucket": "manifests", "key": "three.csv"}}},
        "report": {"store": "files", "bucket": "reports"}, "priority": 10}}
    program = os.path.relpath(BIN / "drover", TOP)
    return f"""
   The CLI, e.g.:
     export DROVER_SERVER={servers}
     {program} {' '.join(create_arguments('noop', 'files', 'three.csv', None, ['--priority', '10', '--watch']))}
     {program} job list
     {program} worker list

   gRPC by reflection (./dev tools grpcurl installs grpcurl):
     grpcurl -plaintext -d '{json.dumps(request)}' {address} drover.v1.JobService/CreateJob
     grpcurl -plaintext {address} drover.v1.JobService/ListJobs
     grpcurl -plaintext -d '{{"job_id": "JOB"}}' {address} drover.v1.JobService/WatchJob
     grpcurl -plaintext -d '{{"job_id": "JOB", "reason": "trying"}}' {address} drover.v1.JobService/CancelJob

   Stores: "files" ({env.files}) and "s3" (buckets photos, archive, reports), see {env.stores_path}
   ./dev down ends it all.
"""


def down():
    directory = run_directory("up")
    drover_env.sweep(directory)
    (directory / "up").unlink(missing_ok=True)
    say("everything of ./dev up has ended")
    return 0


# -------------------------------------------------------------------------------------------------------------- demo


def create_arguments(operation, store, manifest_key, etag, more):
    """`drover job create` for a manifest in the bucket `manifests` (files) or `photos` (s3)."""
    bucket = "manifests" if store == "files" else "photos"
    arguments = ["job", "create", "--operation", operation, "--manifest", f"{store}/{bucket}/{manifest_key}"]
    if etag:
        arguments += ["--manifest-etag", etag]
    return arguments + ["--report", "files/reports", *more]


def demo_keys():
    keys = ODD_KEYS + [f"2024/{number % 12 + 1:02}/user-{number:06}/img.jpg" for number in range(DEMO_OBJECTS)]
    return keys[:DEMO_OBJECTS]


def run_job(env, title, arguments):
    """Creates a job by the CLI and watches it in this terminal; returns the job."""
    say(title)
    print(f"   drover {' '.join(arguments)}", flush=True)
    servers = ",".join(controller.address for controller in env.controllers)
    created = env.cli(*arguments, "-o", "id", controller=servers)
    if created.code != 0:
        raise drover_env.Failure(f"drover job create: exit code {created.code}\n{created.err}")
    job_id = created.out.strip()
    code = subprocess.run([BIN / "drover", drover_env.FLAG_SERVER, servers, "job", "watch", job_id],
                          check=False).returncode
    if code not in FINISHED_CODES:
        raise drover_env.Failure(f"drover job watch ended with {code}")
    return env.get_job(job_id)


def show_report(env, job, entries):
    """Shows where a report is and its first rows, and holds it against the manifest."""
    report = env.read_report(job)
    counts = job.progress
    folder = (env.files / job.report.bucket / job.report_status.manifest_key).parent
    print(f"   report: {folder}/manifest.json and")
    for result in report.manifest["Results"]:
        path = env.files / result["Bucket"] / result["Key"]
        print(f"     {path}")
        for line in path.read_text().splitlines()[:3]:
            print(f"       {line}")
    check("report has a row for each line of the manifest, and no other", sorted(report.keys().elements()) ==
          sorted(entries))
    check(f"{counts.succeeded_tasks} succeeded + {counts.failed_tasks} failed = {len(entries)} lines of the manifest",
          counts.succeeded_tasks + counts.failed_tasks == len(entries))
    check(f"{DEMO_MISSING} failed: the keys that don't exist", counts.failed_tasks == DEMO_MISSING)


def check(what, right):
    if not right:
        raise drover_env.Failure(f"NOT SO: {what}")
    print(f"   checked: {what}", flush=True)


def demo():
    started = time.monotonic()
    with fresh_environment("demo") as env:
        start(env)
        keys = demo_keys()
        missing = [f"not/there/{number}" for number in range(DEMO_MISSING)]
        say(f"putting {len(keys)} objects into the bucket photos")
        env.put_objects("photos", keys)
        lines = manifest_lines(keys, missing)
        entries = [tuple(next(csv.reader([line]))) for line in lines]
        data = "".join(f"{line}\n" for line in lines).encode()

        env.put_manifest(data, store="files", bucket="manifests", key="tag.csv")
        tags = [part for key, value in DEMO_TAGS.items() for part in ("--tag", f"{key}={value}")]
        job = run_job(env, f"a job that tags {len(lines)} objects, of which {len(missing)} don't exist",
                      create_arguments("put-tags", "files", "tag.csv", None, ["--store", "s3", *tags]))
        show_report(env, job, entries)

        etag = env.put_manifest(data, store="s3", bucket="photos", key="copy.csv")["csv"]["etag"]
        job = run_job(env, "a job that copies them into the bucket archive, its manifest in the S3 server",
                      create_arguments("copy", "s3", "copy.csv", etag,
                                       ["--store", "s3", "--target-bucket", "archive", "--target-prefix",
                                        DEMO_PREFIX]))
        show_report(env, job, entries)

        say("asking the S3 server itself, by boto3")
        check_objects(env, keys)
        say(f"done after {time.monotonic() - started:.0f} s; ending everything")
    left = leftovers(env.directory)
    check("nothing is left running", not left)
    print(f"   logs and reports stay in {env.directory} until the next demo")
    return 0


def manifest_lines(keys, missing):
    """The missing ones spread among the others."""
    step = max(1, len(keys) // len(missing))
    mixed = list(keys)
    for number, key in enumerate(missing):
        mixed.insert(number * (step + 1), key)
    return [f"photos,{urllib.parse.quote(key)}" for key in mixed]


def check_objects(env, keys):
    client = env.rgw.client()
    tagged = []

    def look(key):
        tags = client.get_object_tagging(Bucket="photos", Key=key)["TagSet"]
        if {tag["Key"]: tag["Value"] for tag in tags} == DEMO_TAGS:
            tagged.append(key)

    drover_env.run_threads(8, keys, look)
    check(f"all {len(keys)} objects carry the tags", sorted(tagged) == sorted(keys))
    listed = {item["Key"]: item["ETag"] for page in client.get_paginator("list_objects_v2").paginate(Bucket="archive")
              for item in page.get("Contents", [])}
    body_etag = f'"{hashlib.md5(b"drover").hexdigest()}"'
    check(f"the bucket archive has all {len(keys)} copies under {DEMO_PREFIX}, with the right content, and nothing else",
          listed == {DEMO_PREFIX + key: body_etag for key in keys})


def leftovers(directory):
    """Command lines of processes that mention the directory."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{directory}/" in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("up", "down", "demo"))
    action = parser.parse_args().action
    drover_env.exit_on_signals()
    try:
        return {"up": up, "down": down, "demo": demo}[action]()
    except drover_env.Failure as failure:
        print(f"dev {action}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything has ended", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
