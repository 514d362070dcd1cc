"""Every grpcurl command of the documentation, run as it stands there: only the address, and ids of jobs, are put in."""

import os
import re
import shlex
import shutil
import subprocess
import unittest
import uuid

import drover_env
import job_oracles

ADDRESS = re.compile(r"127\.0\.0\.1:7600\b")
JOB = re.compile(r'(?<="job_id": ")(?:JOB|[0-9a-f]{8}-[0-9a-f-]{27})(?=")')
METHOD = re.compile(r"drover\.v1\.JobService/(\w+)")
GRPCURL = shutil.which("grpcurl", path=f"{drover_env.TOP / '.cache/bin'}:{os.environ.get('PATH', '')}")


def commands():
    """(page, line, command, output that the page shows) of each grpcurl command; those with something left out of the
    command itself (…) aside."""
    pages = [drover_env.TOP / "README.md", *sorted((drover_env.TOP / "docs").rglob("*.md"))]
    for page in pages:
        fenced, command, shown = False, None, None
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.startswith("```"):
                if fenced and shown is not None:
                    yield (*shown[:3], "\n".join(shown[3]))
                fenced, command, shown = not fenced, None, None
            elif fenced and command is not None:
                command[1] += "\n" + line
            elif fenced and re.match(r"(\$ )?grpcurl ", line):
                if shown is not None:
                    yield (*shown[:3], "\n".join(shown[3]))
                command, shown = [number, line.removeprefix("$ ")], None
            elif fenced and shown is not None:
                shown[3].append(line)
            if command is not None and complete(command[1]):
                if "…" not in command[1]:
                    shown = [page.relative_to(drover_env.TOP), command[0], command[1], []]
                command = None


def complete(command):
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command)
    except ValueError:  # a quote is open
        return False
    return True


@unittest.skipIf(GRPCURL is None, "no grpcurl here: ./dev tools grpcurl")
class GrpcurlTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("grpcurl")
        cls.addClassCleanup(cls.env.close)
        cls.env.start_postgres()
        cls.store = cls.env.start_counting_server()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint=cls.store.endpoint)])
        cls.env.start_controllers(1)
        cls.env.start_workers(1)
        cls.env.wait_workers(1)
        cls.env.put_manifest([("photos", f"{number}") for number in range(3)], key="three.csv")
        cls.many = cls.env.put_manifest([("photos", f"{number}") for number in range(5000)])

    def job_for(self, method, ended):
        """A job that the method has something to do with."""
        slow = {"no_op": {"duration": "0.050s"}}
        if ended or method in ("WatchJob", "GetJob", "ListTaskOutcomes"):
            job = self.env.create_job({"no_op": {"failure_fraction": 1}}, self.env.put_manifest([("photos", "1")]))
            return self.env.wait_job(job)
        job = self.env.create_job(slow, self.many, confirmation_required=method == "ConfirmJob")
        self.env.wait_job(job, states=("SUSPENDED",) if method == "ConfirmJob" else ("ACTIVE",))
        if method == "ResumeJob":
            self.env.cli("job", "pause", job.job_id)
            self.env.wait_job(job, states=("PAUSED",))
        return job

    def test_every_command_of_the_documentation_runs(self):
        found = list(commands())
        self.assertGreater(len(found), 15)
        self.assertLessEqual({"CreateJob", "ListJobs", "GetJob", "WatchJob", "CancelJob", "PauseJob", "ResumeJob",
                              "ConfirmJob", "UpdateJobPriority"},
                             {name for _, _, command, _ in found for name in METHOD.findall(command)})
        for page, line, command, shown in found:
            refused = re.search(r"^  Code: (\w+)$", shown, re.MULTILINE)
            with self.subTest(f"{page}:{line}"):
                method = METHOD.search(command)
                text = ADDRESS.sub(self.env.controllers[0].address, command)
                if JOB.search(text):
                    text = JOB.sub(self.job_for(method and method[1], ended=refused is not None).job_id, text)
                # A request id of its own, or the page's would be used up by its first use.
                text = re.sub(r'(?<="request_id": ")[^"]+', lambda _: uuid.uuid4().hex, text)
                done = subprocess.run(["bash", "-c", text.replace("grpcurl", GRPCURL, 1)], capture_output=True, text=True,
                                      timeout=60, check=False)
                if refused:
                    self.assertIn(f"Code: {refused[1]}", done.stderr, (text, done))
                else:
                    self.assertEqual(0, done.returncode, (text, done))


if __name__ == "__main__":
    unittest.main()
