"""Job files: those of the documentation against the schema and a real controller, and jobs that come out as files and go
in again."""

import json
import re
import unittest

import drover_env
import job_oracles
import jsonschema
import yaml

PAGE = drover_env.TOP / "docs/job-files.md"
SCHEMA = drover_env.TOP / "docs/schema/job.schema.json"
OK, ERROR, USAGE = range(3)


def example():
    """The file that the page begins with."""
    return re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


class JobFilesTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("job-files")
        cls.addClassCleanup(cls.env.close)
        cls.env.start_postgres()
        cls.store = cls.env.start_counting_server()
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint=cls.store.endpoint)])
        cls.env.start_controllers(1)
        cls.env.start_workers(1)
        cls.env.wait_workers(1)
        cls.manifest = cls.env.put_manifest([("photos", f"{number}") for number in range(3)], key="three.csv")

    def run_cli(self, *args, codes=(OK,), **kwargs):
        done = self.env.cli(*args, **kwargs)
        self.assertIn(done.code, codes, (args, done))
        return done

    def jobs(self):
        return self.env.cli_json("job", "list", "--limit", "0")["jobs"]

    def test_the_documentations_file_makes_its_jobs_once(self):
        checked = self.run_cli("job", "create", "-f", "-", "--validate-only", stdin=example())
        self.assertIn("the 2 requests are right; no job was created", checked.err)
        args = ["job", "create", "-f", "-", "--request-id", "documented", "-o", "id"]
        first = self.run_cli(*args, stdin=example()).out.split()
        self.assertEqual(2, len(first))
        self.assertEqual(first, self.run_cli(*args, stdin=example()).out.split())
        self.assertEqual("COMPLETE", job_oracles.state_of(self.env.wait_job(first[0])))
        self.assertEqual(3, self.env.get_job(first[0]).progress.succeeded_tasks)

    def test_the_schema_lets_the_documentations_file_through_and_not_its_misspellings(self):
        schema = json.loads(SCHEMA.read_text())
        jsonschema.Draft7Validator.check_schema(schema)
        validator = jsonschema.Draft7Validator(schema)
        documents = list(yaml.safe_load_all(example()))
        self.assertEqual(2, len(documents))
        for document in documents:
            self.assertEqual([], [error.message for error in validator.iter_errors(document)])
        for change in ({"operatoin": {}}, {"operation": {"no_op": {}, "head_object": {}}}, {"operation": {"store": "s3"}},
                       {"priority": "high"}, {"report": {"scope": "SOME"}}, {"state": "NEW"}, {"request_id": ""},
                       {"retry_policy": {"initial_backoff": "soon"}}, {"labels": {"a": {}}}):
            with self.subTest(change):
                self.assertFalse(validator.is_valid({**documents[0], **change}))

    def test_an_exported_job_makes_the_same_job_again(self):
        odd = {"yes": "no", "a": "1.10", "=": "+-", "null": "", "bar": "\u00e4\u20ac\U0001f600"}
        first = self.env.create_job(
            {"store": "s3", "put_object_tagging": {"tags": [{"key": key, "value": odd[key]} for key in odd]}}, self.manifest,
            report={"store": "files", "bucket": "reports", "prefix": "2026", "scope": "FAILED_TASKS_ONLY"}, priority=7,
            description="- not: \"a\" list #'\\", confirmation_required=True,
            failure_policy={"failed_fraction": 0.1, "minimum_executed": 9007199254740993, "action": "PAUSE"},
            retry_policy={"max_attempts": 3, "initial_backoff": "0.015s"})
        file = self.run_cli("job", "export", first.job_id).out
        again = self.run_cli("job", "create", "-f", "-", "-o", "id", stdin=file).out.strip()
        self.assertNotEqual(first.job_id, again)
        # Exported, both are the same but for the comment that names them.
        other = self.run_cli("job", "export", again).out
        self.assertEqual(file.splitlines()[1:], other.splitlines()[1:])
        self.assertIn("confirmation_required: true\n", file)
        self.assertEqual(first.operation, self.env.get_job(again).operation)
        # It is YAML that another reader understands in the same way, and that the schema knows.
        tags = yaml.safe_load(file)["operation"]["put_object_tagging"]["tags"]
        self.assertEqual(odd, {tag["key"]: tag.get("value", "") for tag in tags})
        jsonschema.validate(yaml.safe_load(file), json.loads(SCHEMA.read_text()))

    def test_a_mistake_in_the_last_of_several_makes_none_of_them(self):
        before = len(self.jobs())
        good = yaml.dump({"operation": {"no_op": {}}, "manifest": self.manifest})
        done = self.run_cli("job", "create", "-f", "-", stdin=good + "---\n" + good + "priority: high\n", codes=(USAGE,))
        self.assertRegex(done.err, r"(?m)^(drover: )?standard input:\d+:11: priority: must be a whole number")
        done = self.run_cli("job", "create", "-f", "-",
                            stdin=good + "---\n" + good.replace("no_op: {}", "put_object_tagging: {}\n  store: mian"),
                            codes=(ERROR,))
        self.assertRegex(done.err, r"standard input:\d+:10: job\.operation\.store: no store is named \"mian\"")
        self.assertEqual(before, len(self.jobs()))

    def test_yaml_output_says_what_json_says(self):
        job = self.env.wait_job(self.env.create_job({"no_op": {}}, self.manifest, description="on"))
        read = yaml.safe_load(self.run_cli("job", "get", job.job_id, "-o", "yaml").out)
        self.assertEqual((job.job_id, "COMPLETE", 3, "on"),
                         (read["job_id"], read["state"], read["progress"]["succeeded_tasks"], read["description"]))
        self.assertEqual(len(self.jobs()),
                         len(yaml.safe_load(self.run_cli("job", "list", "--limit", "0", "-o", "yaml").out)["jobs"]))
        watched = list(yaml.safe_load_all(self.run_cli("job", "watch", job.job_id, "-o", "yaml").out))
        self.assertEqual("COMPLETE", watched[-1]["state"])


if __name__ == "__main__":
    unittest.main()
