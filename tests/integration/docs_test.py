"""The pages held against what they speak of: tables against what the programs really say, names of tests and of
constants against the code, links against the files that they lead to."""

import re
import subprocess
import sys
import unittest
import urllib.request

import drover_env

DOCS = drover_env.TOP / "docs"
METRIC_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*) \|$")
LABEL = re.compile(r"`(\w+)`: ")
SAMPLE = re.compile(r"^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$")


TEST_NAME = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", re.MULTILINE)
# `Suite.Test`, and after it `Test` alone; Suite.* for all of it.
NAMED_TEST = re.compile(r"`(?:(\w+)\.)?([A-Z]\w+|\*)`")


def pages():
    return [drover_env.TOP / "README.md", drover_env.TOP / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def sources(*folders, pattern):
    return "".join(path.read_text() for folder in folders for path in sorted((drover_env.TOP / folder).rglob(pattern)))


class PagesTest(unittest.TestCase):
    def test_links_lead_somewhere(self):
        for page in pages():
            for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
                if not link.startswith("http"):
                    self.assertTrue((page.parent / link).exists(), f"{page.relative_to(drover_env.TOP)}: {link}")

    def test_tests_that_are_named_exist(self):
        suites = {}
        for suite, name in TEST_NAME.findall(sources("tests", pattern="*_test.cc")):
            suites.setdefault(suite, set()).add(name)
        python = set(re.findall(r"def (test_\w+)", sources("tests", pattern="*_test.py")))
        modules = {path.name for path in (drover_env.TOP / "tests").rglob("*_test.py")}
        named = 0
        for page in (DOCS / "architecture.md", DOCS / "lifecycle.md", DOCS / "internals/protocol.md"):
            text = page.read_text()
            for line in text.splitlines():
                tests = set()
                for suite, name in NAMED_TEST.findall(line):
                    if suite in suites:
                        tests = suites[suite]
                        self.assertIn(name, tests | {"*"}, f"{page.name}: {suite}.{name}")
                        named += 1
                    elif not suite and tests and re.search("[a-z][A-Z]", name) and len(name) > 24:
                        self.assertIn(name, tests, f"{page.name}: {name}")
                        named += 1
            for name in re.findall(r"`(test_\w+)`", text):
                self.assertIn(name, python, page.name)
                named += 1
            for name in re.findall(r"`(?:tests/\w+/)?(\w+_test\.py)`", text):
                self.assertIn(name, modules, page.name)
        self.assertGreater(named, 60)

    def test_constants_that_limits_name_exist(self):
        code = sources("services", "common", pattern="*.h") + sources("services", "common", pattern="*.cc")
        rows = [row for row in (DOCS / "limits.md").read_text().splitlines() if row.startswith("| ")]
        names = [name for row in rows for name in re.findall(r"`(?:\w+::)?(\w+)`", row.split(" | ")[-1])]
        self.assertGreater(len(names), 50)
        for name in names:
            self.assertRegex(code, rf"\b{name}\b")


class ConfigurationPageTest(unittest.TestCase):
    def test_has_the_tables_that_the_programs_print(self):
        page = (DOCS / "configuration.md").read_text()
        for program in ("drover-controller", "drover-worker"):
            table = subprocess.run([drover_env.BIN / program, "--help-markdown"], check=True, capture_output=True,
                                   text=True).stdout
            self.assertGreater(table.count("\n"), 10, program)
            section = page.partition(f"\n## {program}\n")[2].partition("\n## ")[0] + "\n"
            self.assertTrue(f"\n\n{table}\n" in section,
                            f"docs/configuration.md does not have what {program} --help-markdown prints:\n{table}")


def documented(section):
    """{metric: (type, label names, meaning)} of a section of docs/metrics.md."""
    page = (DOCS / "metrics.md").read_text()
    rows = map(METRIC_ROW.match, page.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines())
    return {row[1]: (row[2], frozenset(LABEL.findall(row[3])), row[4]) for row in rows if row}


def scraped(text):
    """The same of an exposition, less what prometheus-cpp's server says about itself."""
    kinds, meanings, labels = {}, {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kinds[name] = line.split(" ")
        elif line.startswith("# HELP "):
            _, _, name, meanings[name] = line.split(" ", 3)
        elif line and not line.startswith("#"):
            name, pairs = SAMPLE.match(line).groups()
            if name not in kinds:  # a metric whose own name ends as a histogram's series do
                name = line.partition("{")[0].partition(" ")[0]
            found = set(re.findall(r'(\w+)="', pairs or "")) - {"le"}
            labels[name] = labels.get(name, frozenset()) | found
    return {name: (kinds[name], labels.get(name, frozenset()), meanings[name]) for name in kinds
            if not name.startswith("exposer_")}


class MetricsPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("docs")
        cls.addClassCleanup(cls.env.close)
        cls.env.start_postgres()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint="http://127.0.0.1:9")])
        cls.env.start_controllers(1)
        cls.env.start_workers(1)
        cls.env.wait_workers(1)
        # A job has passed through: whatever is exported only then is in the scrape as well.
        job = cls.env.create_job({"no_op": {}}, cls.env.put_manifest([("bucket", "key")]),
                                 report={"store": "files", "bucket": "reports"})
        cls.env.wait_job(job)

    def check(self, service, section):
        with urllib.request.urlopen(f"http://{service.metrics_address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        self.assertEqual(documented(section) | documented("Every process"), scraped(text))

    def test_has_what_a_controller_exports(self):
        self.check(self.env.controllers[0], "Controller")

    def test_has_what_a_worker_exports(self):
        self.check(self.env.workers[0], "Worker")


if __name__ == "__main__":
    sys.exit(unittest.main())
