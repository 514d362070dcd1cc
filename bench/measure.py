"""What the benchmarks share: figures of processes and of the database, manifests, a canned nginx, distributions.

A benchmark prints one JSON object on standard output and its progress on standard error. Figures that are compared are
measured in the same run, interleaved: these machines are noisy.
"""

import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests/support"))
import drover_env  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")

# Numbers of JobState, as storage has them (proto/drover/v1/job.proto).
STATES = {"NEW": "1", "READY": "4", "ACTIVE": "5", "COMPLETING": "8", "COMPLETE": "9"}

GENERATOR = """
import random, sys
first, end, path, bucket = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
r = random.Random(first)
with open(path, "w", buffering=1 << 20) as f:
    for _ in range(first, end):
        f.write("%s,photos/2024/%02d/user-%06d/img_%08x.jpg\\n"
                % (bucket, r.randrange(1, 13), r.randrange(1000000), r.getrandbits(32)))
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def make_manifest(env, tasks, bucket="bucket", name="manifest.csv"):
    """A manifest of seeded keys in the store "files", made by two processes; as create_job wants it."""
    say(f"making a manifest of {tasks:,} tasks")
    path = env.files / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    half = tasks // 2
    parts = [(0, half, f"{path}.0"), (half, tasks, f"{path}.1")]
    running = [subprocess.Popen([sys.executable, "-c", GENERATOR, str(a), str(b), p, bucket]) for a, b, p in parts]
    for process in running:
        if process.wait() != 0:
            raise SystemExit("the manifest could not be made")
    with open(path, "wb") as out:
        for _, _, part in parts:
            subprocess.run(["cat", part], stdout=out, check=True)
            os.unlink(part)
    path.parent.chmod(0o755)  # the server process of \copy's client may be another user's
    return {"csv": {"location": {"store": "files", "bucket": "in", "key": name}}}


def process_cpu(pid):
    """CPU seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_rss(pid):
    """Peak resident bytes of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def postgres_cpu(env):
    """CPU seconds of all processes of the cluster, ended ones included."""
    pid = int((env.directory / "pg/data/postmaster.pid").read_text().split()[0])
    total = 0
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(entry.parent.name) == pid:
            total += sum(int(fields[i]) for i in (11, 12, 13, 14))
        elif int(fields[1]) == pid:
            total += sum(int(fields[i]) for i in (11, 12))
    return total / TICKS


class DatabaseFigures:
    """What the database has done and holds, at one moment; `later - earlier` is what was done between."""

    def __init__(self, env):
        sql = env.postgres.sql
        sql("SELECT pg_stat_force_next_flush()")
        inserted, updated, deleted = map(int, sql(
            "SELECT coalesce(sum(n_tup_ins), 0), coalesce(sum(n_tup_upd), 0), coalesce(sum(n_tup_del), 0) "
            "FROM pg_stat_user_tables WHERE schemaname = 'drover'")[0])
        self.values = {
            "rows_written": inserted + updated + deleted,
            # Removed ones included: each update and each delete leaves one behind.
            "dead_tuples": updated + deleted,
            "commits": int(sql("SELECT xact_commit FROM pg_stat_database WHERE datname = 'drover'")[0][0]),
            "wal_bytes": int(float(sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])),
            "bytes": int(sql("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
                             "AND relnamespace = 'drover'::regnamespace")[0][0]),
        }

    def __sub__(self, earlier):
        return {key: value - earlier.values[key] for key, value in self.values.items()}


def state_times(env, job):
    """{state: when the job first came to it}, seconds by the database's clock."""
    rows = dict(env.postgres.sql("SELECT state::text, extract(epoch FROM min(at))::text FROM drover.events "
                                 f"WHERE job_id = '{job.job_id}' GROUP BY state"))
    return {name: float(rows[number]) for name, number in STATES.items() if number in rows}


def distribution(seconds, digits=1):
    """Milliseconds: median, percentiles, extremes."""
    values = sorted(1000 * value for value in seconds)

    def rank(share):
        return round(values[max(0, math.ceil(share * len(values)) - 1)], digits)

    return {"count": len(values), "min": round(values[0], digits), "p50": round(statistics.median(values), digits),
            "p90": rank(0.9), "p99": rank(0.99), "max": round(values[-1], digits)}


NGINX = """
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log error;
daemon off;
events {{ worker_connections 1024; }}
http {{
  log_format drover '$msec $request_time $request_method $request_uri $http_user_agent';
  access_log {access_log};
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 64m;
    location / {{
      default_type application/xml;
      add_header ETag '"d41d8cd98f00b204e9800998ecf8427e"';
      add_header Last-Modified 'Mon, 01 Jan 2024 00:00:00 GMT';
      add_header x-amz-request-id 'canned';
      if ($request_method = HEAD) {{ return 200; }}
      if ($http_x_amz_copy_source) {{
        return 200 '<CopyObjectResult><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag></CopyObjectResult>';
      }}
      return 200;
    }}
  }}
}}
"""


class CannedNginx:
    """nginx, one process, that answers 200 to everything, as an S3 server would to HEAD, PUT ?tagging and a copy.
    `log`: writes each request's time, method, target and user agent."""

    def __init__(self, env, log=False):
        self.directory = env.directory / "nginx"
        self.directory.mkdir()
        self.port = drover_env.free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.log_path = self.directory / "access.log"
        config = self.directory / "nginx.conf"
        config.write_text(NGINX.format(dir=self.directory, port=self.port,
                                       access_log=f"{self.log_path} drover" if log else "off"))
        self._process = drover_env.Process(env.directory, "nginx", ["/usr/sbin/nginx", "-c", config])
        env.own(self._process)
        drover_env.wait_until("nginx listens", lambda: drover_env.listens(self.port))

    def requests(self):
        """[(unix time at which it came, method, target, user agent)], in the order of the answers."""
        rows = []
        for line in self.log_path.read_text().splitlines():
            done, took, method, target, agent = line.split(" ", 4)
            rows.append((float(done) - float(took), method, target, agent))
        return rows


class Wrk:
    """`wrk -t1` with one kind of request."""

    def __init__(self, env, name, method, target, headers=None, body=""):
        self.script = env.directory / f"wrk-{name}.lua"
        lines = [f'wrk.method = "{method}"', f"wrk.body = {json.dumps(body)}"]
        lines += [f'wrk.headers["{key}"] = {json.dumps(value)}' for key, value in (headers or {}).items()]
        self.script.write_text("\n".join(lines) + "\n")
        self.target = target

    def run(self, endpoint, connections, seconds):
        """(requests a second, CPU microseconds of wrk a request)."""
        before = os.times()
        begin = time.monotonic()
        done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", self.script,
                               endpoint + self.target], capture_output=True, text=True, check=True,
                              timeout=seconds * 3 + 30)
        after = os.times()
        count = next(int(line.split()[0]) for line in done.stdout.splitlines() if "requests in" in line)
        if "Non-2xx" in done.stdout or count == 0:
            raise SystemExit(f"wrk: {done.stdout}{done.stderr}")
        rate = next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("Requests/sec"))
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        say(f"   wrk {self.script.stem}: {rate:.0f}/s ({time.monotonic() - begin:.1f} s)")
        return rate, cpu * 1e6 / count


def print_result(result):
    print(json.dumps(result, indent=2))
