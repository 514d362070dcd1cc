"""The clients of examples/ run as their pages say, against real controllers."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import drover_env
import job_oracles

EXAMPLES = drover_env.TOP / "examples"
NODE_MODULES = drover_env.TOP / ".cache/npm-node-client/node_modules"
PYTHON = "/usr/bin/python3"
TASKS = 3000
CREATED = re.compile(r"^job ([0-9a-f-]{36}) created$", re.MULTILINE)


class ExamplesTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("examples")
        cls.addClassCleanup(cls.env.close)
        cls.env.start_postgres()
        cls.env.write_stores([cls.env.file_store()])
        cls.env.start_controllers(1)
        cls.env.start_workers(1)
        cls.env.wait_workers(1)
        location = cls.env.put_manifest([("bucket", f"{number:05}") for number in range(TASKS)])["csv"]["location"]
        cls.manifest = f"{location['store']}/{location['bucket']}/{location['key']}"

    def run_client(self, *command, env):
        done = subprocess.run([*command, "--server", self.env.controllers[0].address, "--manifest", self.manifest],
                              capture_output=True, text=True, timeout=120, check=False, env=env)
        self.assertEqual((0, ""), (done.returncode, done.stderr), done.stdout)
        return CREATED.search(done.stdout)[1], done.stdout

    def check_steered(self, *command, env):
        """Creates, watches, pauses, resumes and lists what failed; and creates and cancels."""
        job_id, said = self.run_client(*command, env=env)
        job = self.env.get_job(job_id)
        self.assertEqual("COMPLETE", job_oracles.state_of(job))
        # It was paused once, by its client, and resumed.
        self.assertRegex(said, r"(?m)^PAUSED: ")
        failed = job.progress.failed_tasks
        self.assertGreater(failed, 100)
        self.assertEqual(TASKS, failed + job.progress.succeeded_tasks)
        self.assertIn(f"\n{failed} outcomes of failed tasks\n", said)
        self.assertEqual(5, len(re.findall(r"(?m)^failed: bucket/\d{5}: Rehearsed ", said)), said)

        job_id, said = self.run_client(*command, "--cancel", env=env)
        self.assertEqual("CANCELLED", job_oracles.state_of(self.env.get_job(job_id)))
        self.assertRegex(said, r"(?m)^CANCELLED: ")

    def test_python_client(self):
        with tempfile.TemporaryDirectory(prefix="drover-stubs.") as stubs:
            subprocess.run([EXAMPLES / "python/make_stubs.sh", stubs], check=True)
            env = {"PATH": "/usr/bin:/bin", "DROVER_STUBS": stubs, "PYTHONDONTWRITEBYTECODE": "1"}
            self.check_steered(PYTHON, EXAMPLES / "python/steer_job.py", env=env)
            refused = subprocess.run([PYTHON, EXAMPLES / "python/steer_job.py", "--server",
                                      self.env.controllers[0].address, "--manifest", "nowhere/a/b"],
                                     capture_output=True, text=True, timeout=60, check=False, env=env)
            self.assertEqual(1, refused.returncode)
            self.assertIn("INVALID_ARGUMENT INVALID_FIELD: ", refused.stderr)

    def test_node_client(self):
        node = shutil.which("node")
        if node is None:
            self.skipTest("no node here")
        if not NODE_MODULES.exists():
            self.skipTest("./dev tools node-client has not been run")
        # The example looks beside itself for its packages, so it is run as a copy that has them.
        with tempfile.TemporaryDirectory(prefix="drover-node.") as copy:
            for path in (EXAMPLES / "node").glob("*.js"):
                shutil.copy(path, copy)
            (pathlib.Path(copy) / "node_modules").symlink_to(NODE_MODULES)
            env = {"PATH": "/usr/bin:/bin", "DROVER_PROTO": str(drover_env.TOP / "proto")}
            self.check_steered(node, f"{copy}/steer_job.js", env=env)


if __name__ == "__main__":
    unittest.main()
