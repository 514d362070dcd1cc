"""Jobs that delete, undelete, change tags and look, against the real S3 server: what they say they did is held against
what boto3 finds there."""

import datetime
import json
import pathlib
import sys
import urllib.parse

import drover_env
import job_oracles

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit/common/objectstore"))
from odd_keys import ODD_KEYS  # noqa: E402  (shared with the signature test)

DELETE = {"store": "s3", "delete_object": {}}
UNDELETE = {"store": "s3", "undelete_object": {}}
NO_VERSION = "nosuchversion000000000000000000A"


class DeleteAndTagJobsTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("delete-and-tag")
        cls.addClassCleanup(cls.env.close)
        cls.rgw = cls.env.start_rgw()
        cls.env.start_postgres()
        cls.env.write_stores()
        cls.env.start_controllers(2)
        cls.env.start_workers(2)
        cls.env.wait_workers()
        cls.s3 = cls.rgw.client()

    def setUp(self):
        self.bucket = self.env.make_bucket()

    def run_job(self, operation, entries, **fields):
        """Runs a job over these (bucket, key[, version]) to its end; returns it and its rows."""
        fields.setdefault("report", {"store": "files", "bucket": "reports"})
        if "delete_object" in operation:
            fields.setdefault("skip_confirmation", True)
        job = self.env.wait_job(self.env.create_job(operation, self.env.put_manifest(entries), **fields),
                                states=("COMPLETE",))
        rows = job_oracles.decoded_rows(self.env.read_report(job))
        self.assertEqual(len(entries), len(rows))
        return job, rows

    def outcomes(self, rows):
        """{key or (key, version): (status, HTTP status, code)}; the same object twice has the same outcome."""
        return {(row.key, row.version_id) if row.version_id else row.key:
                (row.status, row.http_status, row.error_code) for row in rows}

    def make_versioned(self, lock=False):
        if lock:
            name = self.env.make_bucket() + "-locked"
            self.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
            return name
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        return self.bucket

    def list_keys(self, bucket=None):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def list_versions(self, bucket=None):
        """{key: [(version id, whether it is a delete marker)]}, each key's newest first. By encoding-type=url: there
        are keys that XML can't carry."""
        listed = {}
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket or self.bucket,
                                                                           EncodingType="url"):
            for kind in ("Versions", "DeleteMarkers"):
                for entry in page.get(kind, []):
                    key = urllib.parse.unquote(entry["Key"].replace("+", " "))
                    listed.setdefault(key, []).append((entry["LastModified"], entry["IsLatest"], entry["VersionId"],
                                                       kind == "DeleteMarkers"))
        return {key: [(version, marker) for _, _, version, marker in sorted(entries, key=lambda e: e[:2], reverse=True)]
                for key, entries in listed.items()}

    # ---- deleting

    def test_thousands_of_keys_are_deleted_in_groups(self):
        keys = [f"old/{number:04} + ü.jpg" for number in range(2600)]
        missing = [f"old/{number:04} never there" for number in range(100)]
        self.env.put_objects(self.bucket, keys + ["kept"])
        before = sum(worker.metric("drover_store_requests_total", operation="delete_object")
                     for worker in self.env.workers)
        entries = [(self.bucket, key) for key in sorted(keys + missing)]
        job, rows = self.run_job(DELETE, entries)
        self.assertEqual(len(entries), job.progress.succeeded_tasks)
        self.assertEqual({("succeeded", "200", "")}, set(self.outcomes(rows).values()))
        self.assertEqual(["kept"], self.list_keys())
        requests = sum(worker.metric("drover_store_requests_total", operation="delete_object")
                       for worker in self.env.workers) - before
        # Batches of this job have 32 tasks and more; one by one it would be 2,700 requests.
        self.assertLess(requests, 150)

    def test_a_key_that_may_not_be_deleted_fails_alone(self):
        keys = [f"go/{number:02}" for number in range(20)] + [f"keep/{number:02}" for number in range(20)]
        self.env.put_objects(self.bucket, keys)
        self.s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject",
                                                    "Resource": f"arn:aws:s3:::{self.bucket}/keep/*"}]}))
        job, rows = self.run_job(DELETE, [(self.bucket, key) for key in keys])
        self.assertEqual((20, 20), (job.progress.succeeded_tasks, job.progress.failed_tasks))
        for key, (status, _, code) in self.outcomes(rows).items():
            self.assertEqual(("succeeded", "") if key.startswith("go/") else ("failed", "AccessDenied"), (status, code))
        self.assertEqual(keys[20:], self.list_keys())

    def test_odd_keys_are_deleted_in_a_group_and_alone(self):
        keys = sorted(ODD_KEYS.values())
        for entries in ([(self.bucket, key) for key in keys], [(self.bucket, keys[0])]):
            for _, key in entries:
                self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"x")
            _, rows = self.run_job(DELETE, entries)
            self.assertEqual({"succeeded"}, {row.status for row in rows})
            self.assertEqual(sorted(key for _, key in entries), sorted(row.key for row in rows))
            self.assertEqual([], self.list_keys())

    def test_objects_named_twice_and_buckets_that_are_not_there(self):
        other = self.env.make_bucket()
        for bucket in (self.bucket, other):
            self.env.put_objects(bucket, ["a", "b", "c"])
        entries = [(self.bucket, "a"), (other, "a"), (self.bucket, "a"), (self.bucket, "b"), (other, "b"),
                   ("no-such-bucket-anywhere", "a"), ("no-such-bucket-anywhere", "b")]
        job, rows = self.run_job(DELETE, entries)
        self.assertEqual((5, 2), (job.progress.succeeded_tasks, job.progress.failed_tasks))
        self.assertEqual({("no-such-bucket-anywhere", "404", "NoSuchBucket")},
                         {(row.bucket, row.http_status, row.error_code) for row in rows if row.status == "failed"})
        self.assertEqual((["c"], ["c"]), (self.list_keys(self.bucket), self.list_keys(other)))

    def test_versions_are_deleted_for_good_and_others_are_hidden_by_a_marker(self):
        self.make_versioned()
        ids = {}
        for key in ("a", "b", "c ü"):
            for text in ("old", "new"):
                ids[key, text] = self.s3.put_object(Bucket=self.bucket, Key=key, Body=text.encode())["VersionId"]
        entries = [(self.bucket, "a", ids["a", "old"]), (self.bucket, "c ü", ids["c ü", "new"]),
                   (self.bucket, "b", NO_VERSION)]
        job, _ = self.run_job(DELETE, entries)
        self.assertEqual(3, job.progress.succeeded_tasks)
        self.assertEqual({"a": [(ids["a", "new"], False)], "b": [(ids["b", "new"], False), (ids["b", "old"], False)],
                          "c ü": [(ids["c ü", "old"], False)]}, self.list_versions())

        _, rows = self.run_job(DELETE, [(self.bucket, key) for key in ("a", "b", "never there")])
        self.assertEqual({"A delete marker was made."}, {row.message for row in rows})
        self.assertEqual(["c ü"], self.list_keys())
        self.assertEqual({"a": [True, False], "b": [True, False, False], "c ü": [False], "never there": [True]},
                         {key: [marker for _, marker in versions] for key, versions in self.list_versions().items()})

    def test_retention_is_lifted_only_where_the_job_says_so(self):
        bucket = self.make_versioned(lock=True)
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
        entries = []
        for key in ("free", "kept 1", "kept 2"):
            entries.append((bucket, key, self.s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"]))
            if key.startswith("kept"):
                self.s3.put_object_retention(Bucket=bucket, Key=key, Retention={"Mode": "GOVERNANCE",
                                                                                "RetainUntilDate": until})
        _, rows = self.run_job(DELETE, entries)
        self.assertEqual({"free": "", "kept 1": "AccessDenied", "kept 2": "AccessDenied"},
                         {row.key: row.error_code for row in rows})
        self.assertEqual({"kept 1", "kept 2"}, set(self.list_versions(bucket)))
        job, _ = self.run_job({"store": "s3", "delete_object": {"bypass_governance_retention": True}}, entries)
        self.assertEqual(3, job.progress.succeeded_tasks)
        self.assertEqual({}, self.list_versions(bucket))

    def test_a_job_that_deletes_waits_for_a_person_unless_it_says_otherwise(self):
        self.env.put_objects(self.bucket, ["a", "b"])
        manifest = self.env.put_manifest([(self.bucket, "a")])
        job = self.env.create_job(DELETE, manifest)
        self.assertTrue(job.confirmation_required)
        self.env.wait_job(job, states=("SUSPENDED",))
        self.assertEqual(["a", "b"], self.list_keys())
        service = drover_env.python_stubs().job_service_pb2
        self.env.jobs().ConfirmJob(service.ConfirmJobRequest(job_id=job.job_id, reason="looked at"))
        self.assert_state("COMPLETE", self.env.wait_job(job))
        self.assertEqual(["b"], self.list_keys())

        job = self.env.create_job(DELETE, self.env.put_manifest([(self.bucket, "b")]), skip_confirmation=True)
        self.assertFalse(job.confirmation_required)
        self.assert_state("COMPLETE", self.env.wait_job(job))
        self.assertEqual([], self.list_keys())
        with self.refused("INVALID_ARGUMENT", "INVALID_FIELD") as held:
            self.env.create_job(DELETE, manifest, skip_confirmation=True, confirmation_required=True)
        self.assertIn("job.skip_confirmation", held[0].fields)

    # ---- undeleting

    def test_what_was_deleted_comes_back(self):
        self.make_versioned()
        keys = sorted(ODD_KEYS.values())
        for key in keys:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=key.encode())
        entries = [(self.bucket, key) for key in keys]
        self.run_job(DELETE, entries)
        self.assertEqual([], self.list_keys())
        _, rows = self.run_job(UNDELETE, entries + [(self.bucket, "never there")])
        outcomes = self.outcomes(rows)
        self.assertEqual(("failed", "200", "NoSuchKey"), outcomes.pop("never there"))
        self.assertEqual({("succeeded", "204", "")}, set(outcomes.values()))
        self.assertEqual(keys, self.list_keys())
        for key in keys:
            self.assertEqual(key.encode(), self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

        # Once more: nothing is there to do.
        _, rows = self.run_job(UNDELETE, entries)
        self.assertEqual({("succeeded", "200", "The object is not deleted.")},
                         {(row.status, row.http_status, row.message) for row in rows})
        self.assertEqual({(False,)}, {tuple(marker for _, marker in versions)
                                      for versions in self.list_versions().values()})

    def test_undeleting_removes_the_marker_named_and_never_a_version(self):
        self.make_versioned()
        version = {key: self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"x")["VersionId"] for key in "abc"}
        for key in "abc":
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        marker = {key: versions[0][0] for key, versions in self.list_versions().items()}
        self.s3.delete_object(Bucket=self.bucket, Key="c", VersionId=version["c"])
        _, rows = self.run_job(UNDELETE, [(self.bucket, "a", marker["a"]), (self.bucket, "b", version["b"])])
        self.assertEqual({"a": "", "b": "NotADeleteMarker"}, {row.key: row.error_code for row in rows})
        _, rows = self.run_job(UNDELETE, [(self.bucket, "c")])
        self.assertEqual(["NothingToRestore"], [row.error_code for row in rows])
        self.assertEqual({"a": [(version["a"], False)], "b": [(marker["b"], True), (version["b"], False)],
                          "c": [(marker["c"], True)]}, self.list_versions())

    def test_undeleting_on_a_bucket_without_versions_changes_nothing(self):
        self.env.put_objects(self.bucket, ["a"])
        _, rows = self.run_job(UNDELETE, [(self.bucket, "a"), (self.bucket, "b")])
        self.assertEqual({"a": ("succeeded", "200", ""), "b": ("failed", "200", "NoSuchKey")}, self.outcomes(rows))
        self.assertEqual(["a"], self.list_keys())

    # ---- tags

    def tags_of(self, key, **more):
        tags = self.s3.get_object_tagging(Bucket=self.bucket, Key=key, **more)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}

    def test_tags_are_removed_from_the_version_named(self):
        self.make_versioned()
        ids = [self.s3.put_object(Bucket=self.bucket, Key="a", Body=b"x", Tagging="t=1")["VersionId"] for _ in range(2)]
        self.s3.put_object(Bucket=self.bucket, Key="b ü", Body=b"x", Tagging="t=1&u=2")
        operation = {"store": "s3", "delete_object_tagging": {}}
        job, rows = self.run_job(operation, [(self.bucket, "a", ids[0]), (self.bucket, "a", NO_VERSION)])
        self.assertEqual((1, 1), (job.progress.succeeded_tasks, job.progress.failed_tasks))
        self.assertEqual(({}, {"t": "1"}), (self.tags_of("a", VersionId=ids[0]), self.tags_of("a")))
        _, rows = self.run_job(operation, [(self.bucket, "b ü"), (self.bucket, "gone")])
        # 200: the store says yes without a version id and keeps the tags; they are written over.
        self.assertEqual({"b ü": ("succeeded", "200", ""), "gone": ("failed", "404", "NoSuchKey")}, self.outcomes(rows))
        self.assertEqual({}, self.tags_of("b ü"))

    def test_tags_are_removed_on_a_bucket_without_versions(self):
        for key in ODD_KEYS.values():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"x", Tagging="t=1")
        _, rows = self.run_job({"store": "s3", "delete_object_tagging": {}},
                               [(self.bucket, key) for key in ODD_KEYS.values()])
        self.assertEqual({("succeeded", "204", "")}, set(self.outcomes(rows).values()))
        for key in ODD_KEYS.values():
            self.assertEqual({}, self.tags_of(key), key)

    def test_tags_are_added_and_removed_and_the_others_stay(self):
        nine = {f"k{number}": "v" for number in range(9)}
        before = {"both": {"keep": "a + <b> & \"c\"", "old": "x", "new": "first"}, "none": {}, "nine": nine,
                  "same": {"new": "ä=1", "other": "1"}, **{key: {"old": "1"} for key in ODD_KEYS.values()}}
        for key, tags in before.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"x", 
                               Tagging=urllib.parse.urlencode(tags, quote_via=urllib.parse.quote))
        operation = {"store": "s3", "change_object_tagging": {"add": [{"key": "new", "value": "ä=1"}, {"key": "empty"}],
                                                              "remove_keys": ["old", "absent"]}}
        job, rows = self.run_job(operation, [(self.bucket, key) for key in [*before, "gone"]])
        outcomes = self.outcomes(rows)
        self.assertEqual(("failed", "404", "NoSuchKey"), outcomes.pop("gone"))
        self.assertEqual("TooManyTags", outcomes.pop("nine")[2])
        self.assertEqual({("succeeded", "200", "")}, set(outcomes.values()))
        for key, tags in before.items():
            expected = {**tags, "new": "ä=1", "empty": ""} if key != "nine" else nine
            expected.pop("old", None)
            self.assertEqual(expected, self.tags_of(key), key)

    def test_a_change_of_tags_meets_the_version_named(self):
        self.make_versioned()
        ids = [self.s3.put_object(Bucket=self.bucket, Key="a", Body=b"x", Tagging=f"t={number}")["VersionId"]
               for number in range(2)]
        self.run_job({"store": "s3", "change_object_tagging": {"add": [{"key": "u", "value": "2"}]}},
                     [(self.bucket, "a", ids[0])])
        self.assertEqual({"t": "0", "u": "2"}, self.tags_of("a", VersionId=ids[0]))
        self.assertEqual({"t": "1"}, self.tags_of("a"))

    # ---- looking

    def test_looking_says_size_and_etag_of_each_version(self):
        self.make_versioned()
        expected = {}
        for key in ODD_KEYS.values():
            put = self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"x" * len(key))
            expected[key] = f"size={len(key)} etag=" + put["ETag"].strip('"')
        old = self.s3.put_object(Bucket=self.bucket, Key="two", Body=b"old")
        self.s3.put_object(Bucket=self.bucket, Key="two", Body=b"newer")
        operation = {"store": "s3", "head_object": {}}
        _, rows = self.run_job(operation, [(self.bucket, key) for key in [*expected, "gone"]])
        found = {row.key: (row.status, row.http_status, row.error_code, row.message) for row in rows}
        self.assertEqual(("failed", "404", "NotFound"), found.pop("gone")[:3])
        self.assertEqual({key: ("succeeded", "200", "", text) for key, text in expected.items()}, found)
        _, rows = self.run_job(operation, [(self.bucket, "two", old["VersionId"]), (self.bucket, "two", NO_VERSION)])
        self.assertEqual({old["VersionId"]: "size=3 etag=" + old["ETag"].strip('"'), NO_VERSION: "NotFound"},
                         {row.version_id: row.error_code or row.message for row in rows})


if __name__ == "__main__":
    import unittest

    unittest.main()
