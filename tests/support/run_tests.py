"""Runs the tests and adds them up: the engine of `./dev test`.

    run_tests.py BUILD_DIR [--suite unit|integration|faults]... [--match TEXT]

unit         ctest's label `unit`: programs that need nothing
integration  ctest's label `integration`, then tests/integration/*_test.py
faults       ctest's label `faults`, then tests/faults/*_test.py

Programs with a label other than `unit` find PostgreSQL and radosgw, started once for all, in DROVER_TEST_DATABASE (a
URI), DROVER_TEST_S3_ENDPOINT, DROVER_TEST_ACCESS_KEY and DROVER_TEST_SECRET_KEY. Each Python module runs in a process
of its own; all share that radosgw. --match takes only programs and Python tests whose name contains the text.
The last line is "N passed, N failed, N skipped"; the exit code is 1 if a test failed or none ran.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as xml

import drover_env

SUITES = ("unit", "integration", "faults")
MODULE_TIMEOUT_SECONDS = 1200
PYTHON = "/usr/bin/python3"


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def line(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


# ---------------------------------------------------------------------------------------------- GoogleTest programs


def list_programs(build, label, match):
    """Names of the ctest tests that have the label."""
    listing = subprocess.run(["ctest", "--test-dir", build, "-L", f"^{label}$", "--show-only=json-v1"],
                             capture_output=True, text=True, check=True).stdout
    return [test["name"] for test in json.loads(listing)["tests"] if match in test["name"]]


def run_programs(build, label, match, jobs, env, totals):
    names = list_programs(build, label, match)
    if not names:
        return
    print(f"-- {len(names)} programs of label {label}", flush=True)
    with tempfile.TemporaryDirectory(prefix="drover-ctest.") as results:
        junit = pathlib.Path(results) / "ctest.xml"
        pattern = "^(" + "|".join(names) + ")$"
        subprocess.run(["ctest", "--test-dir", build, "-R", pattern, "-j", str(jobs), "--output-on-failure",
                        "--output-junit", junit], check=False, env={**os.environ, **env,
                                                                    "GTEST_OUTPUT": f"xml:{results}/gtest/"})
        for case in xml.parse(junit).getroot().iter("testcase"):
            count_program(case, pathlib.Path(results) / "gtest" / f"{case.get('name')}.xml", totals)


def count_program(case, gtest_xml, totals):
    """Adds a program's tests; one that died before it could write its results counts as one failed test."""
    name = case.get("name")
    broken = case.get("status") != "run"  # ctest's word for passed
    if not gtest_xml.exists():
        totals.add(0 if broken else 1, 1 if broken else 0, 0)
        if broken:
            totals.failures.append(name)
        return
    root = xml.parse(gtest_xml).getroot()
    tests = list(root.iter("testcase"))
    failed = [test for test in tests if test.find("failure") is not None]
    skipped = sum(test.get("result") == "skipped" or test.get("status") == "notrun" for test in tests)
    extra = 1 if broken and not failed else 0  # e.g. a sanitizer's report at exit
    totals.add(len(tests) - len(failed) - skipped, len(failed) + extra, skipped)
    totals.failures += [f"{name}: {test.get('classname')}.{test.get('name')}" for test in failed]
    totals.failures += [f"{name}: failed outside of its tests"] * extra


# ------------------------------------------------------------------------------------------------- Python's unittest


def run_modules(folder, match, env, totals):
    for path in sorted(folder.glob("*_test.py")):
        print(f"-- {path.relative_to(drover_env.TOP)}", flush=True)
        with tempfile.NamedTemporaryFile(prefix="drover-results.", suffix=".json") as results:
            child = subprocess.Popen([PYTHON, __file__, "--module", path, "--results", results.name, "--match", match],
                                     env={**os.environ, **env}, stdin=subprocess.DEVNULL)
            try:
                child.wait(MODULE_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{path.name}: not finished after {MODULE_TIMEOUT_SECONDS} s", flush=True)
                child.terminate()
                child.wait()
            except BaseException:
                child.terminate()
                child.wait()
                raise
            text = pathlib.Path(results.name).read_text()
        if text:
            counted = json.loads(text)
            totals.add(*counted["counts"])
            totals.failures += [f"{path.name}: {name}" for name in counted["failures"]]
        else:
            totals.add(0, 1, 0)
            totals.failures.append(f"{path.name}: ended without a result")


class TimedResult(unittest.TextTestResult):
    """Says how long each test took."""

    def startTest(self, test):
        self._started = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.stream.writeln(f"ok ({time.monotonic() - self._started:.1f} s)")
        self.stream.flush()


def run_module(path, match, results):
    """In the child: runs one module's tests and writes the counts."""
    drover_env.exit_on_signals()
    sys.path.insert(0, str(path.parent))
    loader = unittest.TestLoader()
    if match:
        loader.testNamePatterns = [f"*{match}*"]
    suite = loader.loadTestsFromName(path.stem)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=TimedResult).run(suite)
    bad = result.failures + result.errors + [(test, "") for test in result.unexpectedSuccesses]
    skipped = len(result.skipped)
    # An error in setUpClass or at import counts, but is no test that ran.
    passed = result.testsRun - skipped - sum(hasattr(test, "_testMethodName") for test, _ in bad)
    counted = {"counts": [max(passed, 0), len(bad), skipped], "failures": [str(test) for test, _ in bad]}
    pathlib.Path(results).write_text(json.dumps(counted))


# --------------------------------------------------------------------------------------------------------------- all


def shared_services(env):
    """Starts what programs and modules share; returns the variables that tell them."""
    env.start_postgres()
    rgw = env.start_rgw(own=True)
    return {"DROVER_TEST_DATABASE": env.postgres.uri, "DROVER_TEST_S3_ENDPOINT": rgw.endpoint,
            "DROVER_TEST_ACCESS_KEY": rgw.access_key, "DROVER_TEST_SECRET_KEY": rgw.secret_key,
            "DROVER_TEST_RGW": str(rgw.directory)}


def run_all(args):
    totals = Totals()
    if "unit" in args.suite:
        print("== unit tests", flush=True)
        run_programs(args.build, "unit", args.match, args.jobs, {}, totals)
    rest = [suite for suite in SUITES[1:] if suite in args.suite]
    if rest:
        with drover_env.Env("tests") as env:
            print("== starting PostgreSQL and radosgw", flush=True)
            variables = shared_services(env)
            # Environments of the modules live beneath this one's directory, and end with it whatever happens.
            variables["DROVER_TEST_TMP"] = str(env.directory / "e")
            (env.directory / "e").mkdir()
            variables["DROVER_BIN"] = str(pathlib.Path(args.build).resolve() / "bin")
            try:
                for suite in rest:
                    print(f"== {suite} tests", flush=True)
                    run_programs(args.build, suite, args.match, 1, variables, totals)
                    run_modules(drover_env.TOP / "tests" / suite, args.match, variables, totals)
            finally:
                for left in (env.directory / "e").glob("*"):
                    drover_env.sweep(left)
    for failure in totals.failures:
        print(f"FAILED: {failure}")
    print(totals.line(), flush=True)
    return 1 if totals.failed or not totals.passed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?")
    parser.add_argument("--suite", action="append", choices=SUITES)
    parser.add_argument("--match", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--module", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.module:
        run_module(args.module, args.match, args.results)
        return 0
    args.suite = args.suite or SUITES
    drover_env.exit_on_signals()
    try:
        return run_all(args)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
