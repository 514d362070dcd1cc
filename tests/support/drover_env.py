"""Real parts for tests, demo and benchmarks: PostgreSQL, an S3 server, controllers, workers, the CLI.

    with drover_env.Env() as env:
        env.start_postgres()
        env.start_rgw()
        env.write_stores()                       # stores "s3" (radosgw) and "files" (a folder)
        env.start_controllers(2)
        worker = env.start_worker(failpoints="executor.before_send=kill")
        job = env.create_job({"no_op": {}}, env.put_manifest([("bucket", "a"), ("bucket", "b")]))
        job = env.wait_job(job)                  # a protobuf Job, in a terminal state
        report = env.read_report(job)            # rows, with checksums verified

Everything listens on 127.0.0.1, lives in one temporary directory (logs in logs/) and is ended when the `with` block
ends, also by an exception. Runs under Debian's python3 (/usr/bin/python3: boto3 and grpc are its modules).

Environment:
    DROVER_BIN         folder of the programs (default build/release/bin)
    DROVER_TEST_RGW    directory of a radosgw that already runs (rgw.sh start DIR ...), to be used instead of a new one
    DROVER_TEST_TMP    where environments' directories are made (default /tmp)
    DROVER_TEST_KEEP   "1": directories are left behind
"""

import atexit
import collections
import contextlib
import csv
import hashlib
import importlib
import io
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid

SUPPORT = pathlib.Path(__file__).resolve().parent
TOP = SUPPORT.parent.parent
BIN = pathlib.Path(os.environ.get("DROVER_BIN", TOP / "build/release/bin"))

# The programs' flags, all in one place.
FLAG_LISTEN = "--listen"
FLAG_METRICS = "--metrics-listen"
FLAG_DATABASE = "--database"
FLAG_STORES = "--stores"
FLAG_CONTROLLERS = "--controllers"
FLAG_WORKER_NAME = "--name"
FLAG_SERVER = "--server"

ACCESS_KEY_ENV = "DROVER_TEST_ACCESS_KEY"
SECRET_KEY_ENV = "DROVER_TEST_SECRET_KEY"

TERMINAL_STATES = ("COMPLETE", "FAILED", "CANCELLED")


class Failure(Exception):
    """Something did not start, did not end, or did not answer."""


def wait_until(what, condition, timeout=30, interval=0.05):
    """Returns the first true value of condition(), or raises Failure naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"after {timeout} s still not: {what}")
        time.sleep(interval)


_ports_given = set()


def free_port():
    """A port that nothing listens on, below the range of outgoing connections, never given twice by this process."""
    chooser = random.SystemRandom()
    for _ in range(1000):
        port = chooser.randrange(20000, 32000)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
    raise Failure("no free port")


def listens(port):
    """Whether something takes connections at 127.0.0.1:port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def _uninterrupted():
    """Ignores Ctrl-C and SIGTERM meanwhile (in the main thread; elsewhere it does nothing)."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _run(command, **kwargs):
    """Runs a command; its output is in the exception when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False, **kwargs)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


# ------------------------------------------------------------------------------------------------------ processes


def _start_time(pid):
    """What tells a process from a later one of the same number; None if it is gone or a zombie."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Process:
    """A child process with a log. A file DIR/pids/NAME lets sweep() end it when this Python process cannot."""

    def __init__(self, directory, name, command, env=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.log_path = directory / "logs" / f"{name}.log"
        self._pid_file = directory / "pids" / name
        for folder in (self.log_path.parent, self._pid_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with open(self.log_path, "ab") as log:
            # A session of its own: Ctrl-C at a terminal reaches the parent only, which then ends things in order.
            self.popen = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, **(env or {})}, cwd="/", start_new_session=True)
        self._pid_file.write_text(f"{self.pid} {_start_time(self.pid)}\n")

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    @property
    def exit_code(self):
        """None while it runs; negative: the signal that ended it."""
        return self.popen.poll()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def signal(self, number):
        if self.running:
            self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, and waits for the end."""
        self.signal(signal.SIGKILL)
        self.popen.wait()
        self._pid_file.unlink(missing_ok=True)

    def stop(self):
        """SIGSTOP; it stands still until cont()."""
        self.signal(signal.SIGSTOP)

    def cont(self):
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self, timeout=40):
        """SIGTERM; returns the exit code. Kills, and raises Failure, when it has not ended by then."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=40):
        """Waits for its end; returns the exit code. Kills, and raises Failure, after `timeout` seconds."""
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within {timeout} s") from None
        self._pid_file.unlink(missing_ok=True)
        return code


class Service(Process):
    """A controller (`address` is its gRPC address) or a worker."""

    def __init__(self, directory, name, command, address, metrics_address, env):
        self.address = address
        self.metrics_address = metrics_address
        super().__init__(directory, name, command, env)

    def metrics(self):
        """A live scrape: {'name{label="value"}': float}."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def metric(self, name, **labels):
        """Sum of the samples of that name that have these labels; 0 if there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(value for sample, value in self.metrics().items()
                   if sample.partition("{")[0] == name and all(part in sample for part in wanted))


DAEMONS = ("postgres", "ceph-mon", "ceph-osd", "radosgw")


def sweep(directory):
    """Ends whatever an environment in `directory` left running: processes, PostgreSQL, radosgw."""
    directory = pathlib.Path(directory).resolve()
    # Workers before controllers: they then leave in order.
    for pid_file in sorted(directory.glob("pids/*"), reverse=True):
        pid, start_time = pid_file.read_text().split()
        if start_time != "None" and _start_time(pid) == start_time:
            _end(int(pid), start_time)
        pid_file.unlink(missing_ok=True)
    if (directory / "pg/data").exists():
        _run([SUPPORT / "pg.sh", "stop", directory / "pg"])
    if (directory / "rgw/ceph.conf").exists():
        _run([SUPPORT / "rgw.sh", "stop", directory / "rgw"])
    # A daemon that was interrupted before it wrote down its pid: told by its program and by this directory in its
    # command line.
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *args = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if os.path.basename(program) in DAEMONS and any(f"{directory}/" in arg for arg in args):
                _end(int(entry.name), _start_time(entry.name), patience=2)


def _end(pid, start_time, patience=10):
    """SIGTERM, and SIGKILL after `patience` seconds."""
    for number, seconds in ((signal.SIGCONT, 0), (signal.SIGTERM, patience), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and _start_time(pid) == start_time:
            time.sleep(0.05)


# ----------------------------------------------------------------------------------------- PostgreSQL and S3 server


class Postgres:
    """A private cluster (pg.sh)."""

    def __init__(self, directory, settings=()):
        self.directory = pathlib.Path(directory)
        self._settings = [part for setting in settings for part in ("--set", setting)]
        self.start()
        self.uri = self._script("uri").strip()

    def _script(self, action, *args):
        return _run([SUPPORT / "pg.sh", action, self.directory, *args])

    def start(self):
        self._script("start", *self._settings)

    def stop(self):
        self._script("stop")

    def kill(self):
        """Immediate shutdown; the next start recovers."""
        self._script("kill")

    def sql(self, statement):
        """Runs it as superuser in the database drover; returns the rows as lists of strings."""
        text = self._script("psql", "--csv", "-t", "-c", statement)
        return list(csv.reader(io.StringIO(text)))

    def backends(self):
        """Process ids of the connections of role drover."""
        return [int(row[0]) for row in self.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'drover'")]

    def terminate_backend(self, pid):
        self.sql(f"SELECT pg_terminate_backend({pid})")


class S3Server:
    """How to reach an S3 server, and boto3 clients for it."""

    def __init__(self, endpoint, access_key, secret_key, region="us-east-1"):
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region

    def client(self, endpoint=None, connections=32, retries=3):
        """A boto3 client: an S3 client that we did not write, for putting objects and for checking results."""
        import boto3  # here: a second to import, and not everybody needs it
        import botocore.config

        config = botocore.config.Config(s3={"addressing_style": "path"}, max_pool_connections=connections,
                                        retries={"max_attempts": retries})
        return boto3.client("s3", endpoint_url=endpoint or self.endpoint, region_name=self.region,
                            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key, config=config)


class Rgw(S3Server):
    """A radosgw that rgw.sh started in `directory`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        super().__init__(**json.loads((self.directory / "endpoint.json").read_text()))

    def gateway_stop(self):
        """The gateway goes down; what is stored stays."""
        _run([SUPPORT / "rgw.sh", "gateway-stop", self.directory])

    def gateway_start(self):
        _run([SUPPORT / "rgw.sh", "gateway-start", self.directory])

    @classmethod
    def start(cls, directory):
        secret = uuid.uuid4().hex
        _run([SUPPORT / "rgw.sh", "start", directory, "--port", free_port(), "--mon-port", free_port(),
              "--access-key", "DROVERTEST", "--secret-key", secret])
        return cls(directory)


_shared_rgw = None


def shared_rgw():
    """One radosgw for all of this Python process (it takes 12 s to start), or that of DROVER_TEST_RGW."""
    global _shared_rgw
    if _shared_rgw is None:
        given = os.environ.get("DROVER_TEST_RGW")
        if given:
            _shared_rgw = Rgw(given)
        else:
            directory = _make_directory("rgw")
            atexit.register(_remove, directory)
            _shared_rgw = Rgw.start(directory / "rgw")
    return _shared_rgw


def _make_directory(name):
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"drover-{name}.", dir=os.environ.get("DROVER_TEST_TMP", "/tmp")))
    directory.chmod(0o755)  # user postgres passes through it
    return directory


def _remove(directory):
    with _uninterrupted():
        sweep(directory)
    if os.environ.get("DROVER_TEST_KEEP") == "1":
        print(f"kept: {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory, ignore_errors=True)


# --------------------------------------------------------------------------------------------- proxies and counters


class Controlled(Process):
    """A helper server with a control port: fault_proxy.py or counting_server.py."""

    def __init__(self, directory, name, command, port, control_port):
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.endpoint = f"http://{self.address}"
        self._control = f"http://127.0.0.1:{control_port}"
        super().__init__(directory, name, command)
        wait_until(f"{name} listens", self._answers)

    def _answers(self):
        if not self.running:
            raise Failure(f"{self.name} ended:\n{self.log()}")
        with contextlib.suppress(OSError):
            return self.get("/state") is not None

    def get(self, path):
        with urllib.request.urlopen(self._control + path, timeout=10) as answer:
            return json.loads(answer.read())

    def post(self, path, **values):
        request = urllib.request.Request(self._control + path, data=json.dumps(values).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def set(self, **values):
        """Changes how it behaves, e.g. set(mode="refuse"), set(latency_ms=20); see the script's own text."""
        return self.post("/set", **values)


class Proxy(Controlled):
    """fault_proxy.py."""

    def cut(self):
        """Aborts the connections there are; new ones are as `mode` says. Returns how many there were."""
        return self.post("/cut")["cut"]

    def requests(self):
        """What passed (mode http): dicts of time, method, target, status, user_agent, injected."""
        return self.get("/requests")


class CountingServer(Controlled):
    """counting_server.py."""

    def counts(self):
        """{(method, target): how often}."""
        return {tuple(key.split(" ", 1)): value for key, value in self.get("/counts").items()}

    def requests(self):
        """Lists of [unix time, method, target, user agent, access key], in order."""
        return self.get("/requests")

    def reset(self):
        self.post("/reset")


# -------------------------------------------------------------------------------------------------- gRPC and the CLI


def python_stubs():
    """Imports the API's Python modules, generated once per change of proto/: an object with job_service_pb2,
    job_service_pb2_grpc, worker_service_pb2, … as attributes."""
    sources = sorted((TOP / "proto").rglob("*.proto"))
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    out = TOP / ".cache/python-proto" / stamp
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as making:
            plugin = shutil.which("grpc_python_plugin")
            _run(["protoc", f"-I{TOP / 'proto'}", f"--python_out={making}", f"--grpc_out={making}",
                  f"--plugin=protoc-gen-grpc={plugin}", *(path.relative_to(TOP / "proto") for path in sources)],
                 cwd=TOP / "proto")
            os.chmod(making, 0o755)
            with contextlib.suppress(OSError):  # somebody else was faster
                os.rename(making, out)
                os.makedirs(making)  # for TemporaryDirectory to remove
    if str(out) not in sys.path:
        sys.path.insert(0, str(out))
        import google

        google.__path__.append(str(out / "google"))
    modules = collections.namedtuple("Stubs", [path.stem for path in sorted((out / "drover/v1").glob("*.py"))])
    return modules(*(importlib.import_module(f"drover.v1.{name}") for name in modules._fields))


Cli = collections.namedtuple("Cli", "code out err")


class Report:
    """A completion report: `manifest` (manifest.json), `rows` of all result files."""

    Row = collections.namedtuple("Row", "bucket key version_id status http_status error_code message")

    def __init__(self, manifest, rows):
        self.manifest = manifest
        self.rows = rows

    def keys(self, status=None):
        """A Counter of (bucket, key) with keys as in the report, of one status or all."""
        return collections.Counter((row.bucket, row.key) for row in self.rows if status in (None, row.status))


# ------------------------------------------------------------------------------------------------------ environment


class Env:
    """See the top of the file. `directory`: use this one and leave it behind (for `./dev up`)."""

    def __init__(self, name="test", directory=None):
        self._given = directory is not None
        self._released = False
        self.directory = pathlib.Path(directory) if self._given else _make_directory(name)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.postgres = None
        self.rgw = None
        self.controllers = []
        self.workers = []
        self.stores_path = self.directory / "stores.yaml"
        self.files = self.directory / "files"  # root of the store "files"
        self._others = []
        self._counters = collections.Counter()
        self._channels = {}
        self._bucket_names = itertools.count(1)
        atexit.register(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        """Ends everything, in no particular order and without patience. Ctrl-C does not interrupt it."""
        atexit.unregister(self.close)
        if self._released:
            return
        with _uninterrupted():
            self._close()

    def _close(self):
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        for process in self.workers + self.controllers + self._others:
            process.kill()
        if self._given:
            sweep(self.directory)
        else:
            if self.postgres:
                self.postgres.kill()
            _remove(self.directory)

    def release(self):
        """Leaves everything running, also when the `with` block ends; sweep(directory) will end it."""
        self._released = True

    def _name(self, kind):
        self._counters[kind] += 1
        return f"{kind}-{self._counters[kind]}"

    # ---- parts

    def start_postgres(self, settings=()):
        """settings: "name=value" lines for postgresql.conf."""
        self.postgres = Postgres(self.directory / "pg", settings)
        return self.postgres

    def start_rgw(self, own=False):
        """The S3 server: shared by all environments of this process unless `own` (needed to stop its gateway)."""
        self.rgw = Rgw.start(self.directory / "rgw") if own else shared_rgw()
        return self.rgw

    def s3_store(self, name="s3", endpoint=None, **more):
        """A stores.yaml entry for radosgw, or for a proxy before it or a counting server at `endpoint`."""
        return {"name": name, "kind": "s3", "endpoint": endpoint or self.rgw.endpoint, "region": "us-east-1",
                "path_style": True,
                "credentials": {"access_key_env": ACCESS_KEY_ENV, "secret_key_env": SECRET_KEY_ENV}, **more}

    def file_store(self, name="files", root=None):
        root = root or self.files
        root.mkdir(parents=True, exist_ok=True)
        return {"name": name, "kind": "file", "root": str(root)}

    def write_stores(self, stores=None, path=None):
        """Writes stores.yaml; by default "files", and "s3" if there is a radosgw. Returns its path."""
        if stores is None:
            stores = [self.file_store()] + ([self.s3_store()] if self.rgw else [])
        path = path or self.stores_path
        path.write_text(json.dumps({"stores": stores}, indent=1) + "\n")  # JSON is YAML
        return path

    def _service_env(self, failpoints, env):
        given = {ACCESS_KEY_ENV: self.rgw.access_key if self.rgw else "test",
                 SECRET_KEY_ENV: self.rgw.secret_key if self.rgw else "test"}
        if failpoints:
            points = self.directory / "points"
            points.mkdir(exist_ok=True)
            given |= {"DROVER_FAILPOINTS": failpoints, "DROVER_FAILPOINT_DIR": str(points)}
        return {**given, **(env or {})}

    def start_controller(self, failpoints="", env=None, flags=(), listen=None, database=None, name=None, wait=True):
        """A controller; returns when its health service says SERVING, unless not `wait`."""
        address = listen or f"127.0.0.1:{free_port()}"
        metrics = f"127.0.0.1:{free_port()}"
        controller = Service(
            self.directory, name or self._name("controller"),
            [BIN / "drover-controller", FLAG_LISTEN, address, FLAG_METRICS, metrics, FLAG_DATABASE,
             database or self.postgres.uri, FLAG_STORES, self.stores_path, *flags],
            address, metrics, self._service_env(failpoints, env))
        self.controllers.append(controller)
        if wait:
            self.wait_serving(controller)
        return controller

    def start_controllers(self, count=2, **kwargs):
        """Starts them side by side."""
        started = [self.start_controller(wait=False, **kwargs) for _ in range(count)]
        for controller in started:
            self.wait_serving(controller)
        return started

    def start_worker(self, controllers=None, failpoints="", env=None, flags=(), stores=None, name=None):
        """A worker of all controllers, or of the given ones (Services, Proxies or "host:port"). Use wait_workers
        to wait until it has a session."""
        controllers = self.controllers if controllers is None else controllers
        addresses = [c if isinstance(c, str) else c.address for c in controllers]
        metrics = f"127.0.0.1:{free_port()}"
        name = name or self._name("worker")
        worker = Service(
            self.directory, name,
            [BIN / "drover-worker", FLAG_CONTROLLERS, ",".join(addresses), FLAG_METRICS, metrics, FLAG_STORES,
             stores or self.stores_path, FLAG_WORKER_NAME, name, *flags],
            None, metrics, self._service_env(failpoints, env))
        self.workers.append(worker)
        return worker

    def start_workers(self, count=2, **kwargs):
        return [self.start_worker(**kwargs) for _ in range(count)]

    def restart(self, service):
        """Starts an ended controller or worker again with the same command line and addresses (a new Process)."""
        if service.running:
            raise Failure(f"{service.name} still runs")
        group = self.controllers if service in self.controllers else self.workers
        again = Service(self.directory, service.name, service.command, service.address, service.metrics_address,
                        self._service_env("", None))
        group[group.index(service)] = again
        if group is self.controllers:
            self.wait_serving(again)
        return again

    def start_proxy(self, target, mode="http", seed=1):
        """fault_proxy.py before `target` ("host:port" or "http://host:port"); mode "http" or "tcp"."""
        port, control = free_port(), free_port()
        name = self._name("proxy")
        proxy = Proxy(self.directory, name,
                      ["/usr/bin/python3", SUPPORT / "fault_proxy.py", mode, "--listen", f"127.0.0.1:{port}",
                       "--target", target.removeprefix("http://"), "--control", f"127.0.0.1:{control}",
                       "--seed", seed, "--log", self.directory / "logs" / f"{name}.requests"], port, control)
        self._others.append(proxy)
        return proxy

    def own(self, process):
        """Ends this Process, which the caller started in `directory`, with the environment."""
        self._others.append(process)
        return process

    def start_counting_server(self, latency_ms=0):
        """counting_server.py: an S3 that answers 200 to all and counts."""
        port, control = free_port(), free_port()
        server = CountingServer(self.directory, self._name("counting"),
                                ["/usr/bin/python3", SUPPORT / "counting_server.py", "--listen", f"127.0.0.1:{port}",
                                 "--control", f"127.0.0.1:{control}", "--latency-ms", latency_ms], port, control)
        self._others.append(server)
        return server

    # ---- gRPC

    def channel(self, controller=None):
        """A gRPC channel to the given controller, or the first that runs."""
        import grpc

        if controller is None:
            controller = next(c for c in self.controllers if c.running)
        address = controller if isinstance(controller, str) else controller.address
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, options=[
                ("grpc.max_receive_message_length", -1), ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 500)])
        return self._channels[address]

    def health(self, controller, wait_for_ready=False):
        """grpc.health.v1.Health/Check: 0 unknown, 1 serving, 2 not serving; None if it does not answer.
        wait_for_ready: a connection that is refused is tried again, for 2 s."""
        import grpc

        check = self.channel(controller).unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = check(b"", timeout=2, wait_for_ready=wait_for_ready)
        except grpc.RpcError:
            return None
        return answer[1] if answer else 0

    def wait_serving(self, controller, timeout=60):
        def serving():
            if not controller.running:
                raise Failure(f"{controller.name} ended with {controller.exit_code}:\n{controller.log()[-4000:]}")
            # Only a call that waits keeps gRPC's connecting going; many that fail at once would hold it up for seconds.
            return self.health(controller, wait_for_ready=True) == 1

        wait_until(f"{controller.name} is serving ({controller.log_path})", serving, timeout)

    def jobs(self, controller=None):
        """Stub of JobService."""
        return python_stubs().job_service_pb2_grpc.JobServiceStub(self.channel(controller))

    def fleet(self, controller=None):
        """Stub of FleetService."""
        return python_stubs().fleet_service_pb2_grpc.FleetServiceStub(self.channel(controller))

    def list_workers(self, controller=None):
        request = python_stubs().fleet_service_pb2.ListWorkersRequest(page_size=1000)
        return list(self.fleet(controller).ListWorkers(request, timeout=10).workers)

    def wait_workers(self, count=None, timeout=30):
        """Waits until that many workers (default: all running) have a session."""
        count = sum(worker.running for worker in self.workers) if count is None else count
        wait_until(f"{count} workers have a session", lambda: len(self.list_workers()) >= count, timeout)

    def create_job(self, operation, manifest, report=None, request_id=None, controller=None, **fields):
        """CreateJob; returns the Job. All arguments are in protobuf's JSON form, e.g.
        create_job({"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}}, manifest,
        report={"store": "s3", "bucket": "reports"}, priority=7). Raises grpc.RpcError."""
        from google.protobuf import json_format

        job = {"operation": operation, "manifest": manifest, **fields}
        if report is not None:
            job["report"] = report
        request = python_stubs().job_service_pb2.CreateJobRequest(request_id=request_id or str(uuid.uuid4()))
        json_format.ParseDict(job, request.job)
        return self.jobs(controller).CreateJob(request, timeout=30).job

    def get_job(self, job, controller=None):
        """The job now; `job` is a Job or an id."""
        request = python_stubs().job_service_pb2.GetJobRequest(job_id=_job_id(job))
        return self.jobs(controller).GetJob(request, timeout=10).job

    def wait_job(self, job, states=TERMINAL_STATES, timeout=120):
        """Polls until the job is in one of the states (names); returns it. Unavailable controllers are waited for,
        unexpected terminal states are not."""
        import grpc

        names = python_stubs().job_pb2.JobState
        last = None

        def arrived():
            nonlocal last
            try:
                last = self.get_job(job)
            except (grpc.RpcError, StopIteration):
                return None
            state = names.Name(last.state)
            if state in states:
                return last
            if state in TERMINAL_STATES:
                raise Failure(f"job ended as {state}, waiting for {states}:\n{last}")
            return None

        try:
            return wait_until(f"job {_job_id(job)} is {' or '.join(states)}", arrived, timeout, interval=0.1)
        except Failure as failure:
            raise Failure(f"{failure}\nlast seen:\n{last}") from None

    # ---- CLI

    def cli(self, *args, controller=None, stdin=None, timeout=120, env=None):
        """Runs `drover --server ADDRESS ARGS...`; returns (code, out, err)."""
        if controller is None:
            controller = next((c for c in self.controllers if c.running), self.controllers[0])
        address = controller if isinstance(controller, str) else controller.address
        done = subprocess.run([str(BIN / "drover"), FLAG_SERVER, address, *map(str, args)], input=stdin, text=True,
                              capture_output=True, timeout=timeout, check=False, env={**os.environ, **(env or {})})
        return Cli(done.returncode, done.stdout, done.stderr)

    def cli_json(self, *args, codes=(0,), **kwargs):
        """The same with -o json, parsed; Failure for other exit codes."""
        done = self.cli(*args, "-o", "json", **kwargs)
        if done.code not in codes:
            raise Failure(f"drover {' '.join(map(str, args))}: exit code {done.code}\n{done.out}{done.err}")
        return json.loads(done.out)

    # ---- objects, manifests, reports

    def make_bucket(self, prefix="bucket"):
        """Makes a bucket of a new name on radosgw."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}-{next(self._bucket_names)}"
        self.rgw.client().create_bucket(Bucket=name)
        return name

    def put_objects(self, bucket, keys, body=b"drover", threads=8):
        """Puts a small object at each key (several hundred a second)."""
        client = self.rgw.client(connections=threads)
        run_threads(threads, keys, lambda key: client.put_object(Bucket=bucket, Key=key, Body=body))

    def put_manifest(self, entries, store="files", bucket="manifests", key=None, encode=True):
        """Writes a CSV manifest of (bucket, key[, version]) entries, or of raw bytes; returns it as create_job
        wants it."""
        if isinstance(entries, bytes):
            data = entries
        else:
            lines = (",".join([entry[0], urllib.parse.quote(entry[1]) if encode else entry[1], *entry[2:]])
                     for entry in entries)
            data = "".join(line + "\n" for line in lines).encode()
        key = key or f"{uuid.uuid4().hex}.csv"
        csv_manifest = {"location": {"store": store, "bucket": bucket, "key": key}}
        if store == "files":
            path = self.files / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            client = self.rgw.client()
            client.create_bucket(Bucket=bucket)
            csv_manifest["etag"] = client.put_object(Bucket=bucket, Key=key, Body=data)["ETag"].strip('"')
        if not isinstance(entries, bytes) and entries and len(entries[0]) == 3:
            csv_manifest["fields"] = ["MANIFEST_FIELD_BUCKET", "MANIFEST_FIELD_KEY", "MANIFEST_FIELD_VERSION_ID"]
        return {"csv": csv_manifest}

    def read_object(self, store, bucket, key):
        """Bytes of an object in the store "files", or in radosgw for any other name."""
        if store == "files":
            return (self.files / bucket / key).read_bytes()
        return self.rgw.client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def read_report(self, job):
        """Reads a job's report from where it was asked for, and checks each file's MD5. `job`: as get_job gives it."""
        place = job.report
        manifest_key = job.report_status.manifest_key
        if not manifest_key:
            raise Failure(f"job has no report: {job.report_status}")
        manifest = json.loads(self.read_object(place.store, place.bucket, manifest_key))
        rows = []
        for result in manifest["Results"]:
            data = self.read_object(place.store, result["Bucket"], result["Key"])
            if hashlib.md5(data).hexdigest() != result["MD5Checksum"]:
                raise Failure(f"wrong MD5 of {result['Key']}")
            for fields in csv.reader(io.StringIO(data.decode(), newline="")):
                row = Report.Row(*fields)
                if row.status != result["TaskExecutionStatus"]:
                    raise Failure(f"row of status {row.status} in {result['Key']}")
                rows.append(row)
        return Report(manifest, rows)

    # ---- failpoints

    def point_hits(self, name):
        """Lines of the marker file of a failpoint: [pid, count, action], [] while it was not taken."""
        path = self.directory / "points" / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def wait_point(self, name, count=1, timeout=60):
        """Waits until a failpoint's action was taken `count` times."""
        wait_until(f"failpoint {name} was hit", lambda: len(self.point_hits(name)) >= count, timeout)

    def resume_point(self, name):
        """Lets those that wait at a `pause` go on."""
        (self.directory / "points" / f"{name}.go").touch()


def _job_id(job):
    return job if isinstance(job, str) else job.job_id


def run_threads(count, items, function):
    """Calls function(item) for each item on `count` threads; raises the first exception."""
    iterator = iter(items)
    lock = threading.Lock()
    errors = []

    def work():
        while not errors:
            with lock:
                item = next(iterator, None)
            if item is None:
                return
            try:
                function(item)
            except Exception as error:  # handed to the caller below
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def exit_on_signals():
    """SIGTERM and SIGHUP end this process as Ctrl-C does: with everything cleaned up."""
    def leave(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
