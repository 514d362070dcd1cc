"""Whole jobs against the real S3 server: what a job says it did is held against what boto3 finds there, and its report
against the manifest, row by row and hash by hash."""

import hashlib
import json
import pathlib
import re
import sys

import drover_env
import job_oracles

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit/common/objectstore"))
from odd_keys import ODD_KEYS  # noqa: E402  (shared with the signature test)

TAGS = [{"key": "team", "value": "blue + green"}, {"key": "a/b&c=d", "value": "ä <&> \"x\""}]
TAG_SET = [{"Key": tag["key"], "Value": tag["value"]} for tag in TAGS]
TAGGING = {"store": "s3", "put_object_tagging": {"tags": TAGS}}


def sorted_tags(tags):
    return sorted((tag["Key"], tag["Value"]) for tag in tags)


class OperationsTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("operations")
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
        self.reports = self.env.make_bucket("reports")

    def run_job(self, operation, manifest, states=("COMPLETE",), **fields):
        fields.setdefault("report", {"store": "s3", "bucket": self.reports, "prefix": "some/where"})
        job = self.env.wait_job(self.env.create_job(operation, manifest, **fields), states=states)
        self.assert_report_files(job)
        return job, self.env.read_report(job)

    def list_keys(self, bucket, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def files_beneath(self, store, bucket, prefix):
        if store == "files":
            root = self.env.files / bucket
            return [str(path.relative_to(root)) for path in (root / prefix).rglob("*") if path.is_file()]
        return self.list_keys(bucket, prefix)

    def assert_report_files(self, job):
        """manifest.json says what the files are: names, hashes, sizes, numbers of rows; and there are no others."""
        place = job.report
        folder = (place.prefix + "/" if place.prefix else "") + f"job-{job.job_id}"
        self.assertEqual(f"{folder}/manifest.json", job.report_status.manifest_key)
        self.assertEqual(3, job.report_status.state)  # WRITTEN
        manifest = json.loads(self.env.read_object(place.store, place.bucket, f"{folder}/manifest.json"))
        self.assertEqual({"Format", "ReportCreationDate", "Results", "ReportSchema", "JobId", "Status", "FailureCodes",
                          "FailureReasons", "Counts", "Job"}, set(manifest))
        self.assertEqual("Report_CSV_20180820", manifest["Format"])
        self.assertEqual("Bucket, Key, VersionId, TaskStatus, HTTPStatusCode, ErrorCode, ResultMessage",
                         manifest["ReportSchema"])
        self.assertRegex(manifest["ReportCreationDate"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(job.job_id, manifest["JobId"])
        progress = job.progress
        self.assertEqual({"Total": progress.total_tasks, "Succeeded": progress.succeeded_tasks,
                          "Failed": progress.failed_tasks, "Unconfirmed": progress.unconfirmed_tasks},
                         manifest["Counts"])
        self.assertEqual(job.job_id, manifest["Job"]["jobId"])
        self.assertLessEqual({"operation", "manifest", "report", "failurePolicy", "retryPolicy", "creator", "createTime"},
                             set(manifest["Job"]))
        self.assertEqual(job.priority, manifest["Job"].get("priority", 0))  # protobuf's JSON leaves out zeros
        keys = [result["Key"] for result in manifest["Results"]]
        for result in manifest["Results"]:
            self.assertRegex(result["Key"], "^" + re.escape(folder) + r"/results/[0-9a-f]{40}\.csv$")
            self.assertEqual(place.bucket, result["Bucket"])
            data = self.env.read_object(place.store, place.bucket, result["Key"])
            self.assertEqual(hashlib.md5(data).hexdigest(), result["MD5Checksum"])
            self.assertEqual(hashlib.sha256(data).hexdigest(), result["SHA256Checksum"])
            self.assertEqual((len(data), data.count(b"\n")), (result["Bytes"], result["Rows"]))
        self.assertEqual(sorted(keys + [f"{folder}/manifest.json"]),
                         sorted(self.files_beneath(place.store, place.bucket, folder)))
        if place.store == "s3":
            self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=place.bucket))
        return manifest

    # ---- tags

    def test_tags_are_put_and_missing_keys_are_named(self):
        there = [f"photos/{number:04} + ü.jpg" for number in range(600)]
        missing = [f"photos/{number:04} gone.jpg" for number in range(60)]
        self.env.put_objects(self.bucket, there)
        # Missing ones among the others, a bucket that does not exist, and one object twice.
        entries = [(self.bucket, key) for key in sorted(there + missing)]
        entries += [("no-such-bucket-anywhere", "x"), (self.bucket, there[0])]
        job, report = self.run_job(TAGGING, self.env.put_manifest(entries, store="s3", bucket=self.reports))
        self.assertEqual((len(entries), len(there) + 1, len(missing) + 1),
                         (job.progress.total_tasks, job.progress.succeeded_tasks, job.progress.failed_tasks))

        self.assert_rows([(self.bucket, key) for key in there + there[:1]], report, "succeeded")
        self.assert_rows([(self.bucket, key) for key in missing] + [("no-such-bucket-anywhere", "x")], report, "failed")
        for row in report.rows:
            if row.status == "succeeded":
                self.assertEqual(("", "200", "", "Successful"),
                                 (row.version_id, row.http_status, row.error_code, row.message))
            else:
                code = "NoSuchKey" if row.bucket == self.bucket else "NoSuchBucket"
                self.assertEqual(("", "404", code), (row.version_id, row.http_status, row.error_code), row)
        manifest = report.manifest
        self.assertEqual({"succeeded": len(there) + 1, "failed": len(missing) + 1},
                         {result["TaskExecutionStatus"]: result["Rows"] for result in manifest["Results"]})
        self.assertEqual(("Complete", [], []),
                         (manifest["Status"], manifest["FailureCodes"], manifest["FailureReasons"]))

        wrong = []

        def check(key):
            tags = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
            if sorted_tags(tags) != sorted_tags(TAG_SET):
                wrong.append((key, tags))

        drover_env.run_threads(8, there, check)
        self.assertEqual([], wrong)
        self.assertEqual(sorted(there), self.list_keys(self.bucket))

    def test_no_tags_remove_all_tags(self):
        self.s3.put_object(Bucket=self.bucket, Key="k", Body=b"x", Tagging="old=1")
        self.run_job({"store": "s3", "put_object_tagging": {}}, self.env.put_manifest([(self.bucket, "k")]))
        self.assertEqual([], self.s3.get_object_tagging(Bucket=self.bucket, Key="k")["TagSet"])

    def test_failed_tasks_only_to_a_file_store(self):
        self.env.put_objects(self.bucket, ["there", "there too"])
        entries = [(self.bucket, key) for key in ("there", "gone", "there too", "gone, \"too\"\n")]
        job, report = self.run_job(TAGGING, self.env.put_manifest(entries),
                                   report={"store": "files", "bucket": "reports", "scope": "FAILED_TASKS_ONLY"})
        self.assertEqual((2, 2), (job.progress.succeeded_tasks, job.progress.failed_tasks))
        self.assertEqual([(self.bucket, "gone", "failed", "404", "NoSuchKey"),
                          (self.bucket, "gone, \"too\"\n", "failed", "404", "NoSuchKey")],
                         sorted((row.bucket, row.key, row.status, row.http_status, row.error_code)
                                for row in job_oracles.decoded_rows(report)))

    def test_failed_tasks_only_of_a_job_without_any(self):
        self.env.put_objects(self.bucket, ["a"])
        job, report = self.run_job(TAGGING, self.env.put_manifest([(self.bucket, "a")]),
                                   report={"store": "s3", "bucket": self.reports, "scope": "FAILED_TASKS_ONLY"})
        self.assertEqual(([], []), (report.rows, report.manifest["Results"]))
        self.assertEqual(1, report.manifest["Counts"]["Succeeded"])

    def test_no_report_when_none_is_asked_for(self):
        job = self.env.wait_job(self.env.create_job({"no_op": {}}, self.env.put_manifest([("bucket", "a")])))
        self.assert_state("COMPLETE", job)
        self.assertFalse(job.HasField("report"))
        self.assertEqual((0, ""), (job.report_status.state, job.report_status.manifest_key))

    # ---- copies

    def test_copies_are_made_with_their_metadata_and_missing_keys_are_named(self):
        there = [f"in/{number:03}.txt" for number in range(200)]
        missing = [f"in/{number:03}.gone" for number in range(20)]

        def put(key):
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=f"content of {key}".encode(), ContentType="text/x-odd",
                               CacheControl="max-age=7", Metadata={"name": key, "other": "1"}, Tagging="kept=yes")

        drover_env.run_threads(8, there, put)
        target = self.env.make_bucket("target")
        entries = [(self.bucket, key) for key in sorted(there + missing)]
        job, report = self.run_job({"store": "s3", "copy_object": {"target_bucket": target,
                                                                   "target_key_prefix": "copies of + &/"}},
                                   self.env.put_manifest(entries))
        self.assertEqual((220, 200, 20),
                         (job.progress.total_tasks, job.progress.succeeded_tasks, job.progress.failed_tasks))
        self.assert_rows([(self.bucket, key) for key in there], report, "succeeded")
        self.assert_rows([(self.bucket, key) for key in missing], report, "failed")
        self.assertEqual({("404", "NoSuchKey")},
                         {(row.http_status, row.error_code) for row in report.rows if row.status == "failed"})
        self.assertEqual(sorted("copies of + &/" + key for key in there), sorted(self.list_keys(target)))
        wrong = []

        def check(key):
            copy = self.s3.get_object(Bucket=target, Key="copies of + &/" + key)
            found = (copy["Body"].read(), copy["ContentType"], copy["CacheControl"], copy["Metadata"])
            tags = sorted_tags(self.s3.get_object_tagging(Bucket=target, Key="copies of + &/" + key)["TagSet"])
            expected = (f"content of {key}".encode(), "text/x-odd", "max-age=7", {"name": key, "other": "1"})
            if found != expected or tags != [("kept", "yes")]:
                wrong.append((key, found, tags))

        drover_env.run_threads(8, there, check)
        self.assertEqual([], wrong[:5])
        self.assertEqual(sorted(there), self.list_keys(self.bucket))

    def test_copies_within_the_bucket(self):
        self.env.put_objects(self.bucket, ["a", "b/c"], body=b"same")
        self.run_job({"store": "s3", "copy_object": {"target_key_prefix": "x/"}},
                     self.env.put_manifest([(self.bucket, "a"), (self.bucket, "b/c")]))
        self.assertEqual(["a", "b/c", "x/a", "x/b/c"], self.list_keys(self.bucket))
        self.assertEqual(b"same", self.s3.get_object(Bucket=self.bucket, Key="x/b/c")["Body"].read())

    def test_copy_onto_itself_fails_the_task_and_not_the_job(self):
        self.env.put_objects(self.bucket, ["a"])
        other = self.env.make_bucket()
        self.env.put_objects(other, ["a"])
        job, report = self.run_job({"store": "s3", "copy_object": {"target_bucket": self.bucket}},
                                   self.env.put_manifest([(self.bucket, "a"), (other, "a")]))
        self.assertEqual([(self.bucket, "failed", "CopyOntoItself"), (other, "succeeded", "")],
                         sorted(((row.bucket, row.status, row.error_code) for row in report.rows),
                                key=lambda row: row[1]))

    # ---- keys and versions

    def test_odd_keys_are_tagged_copied_and_reported(self):
        keys = list(ODD_KEYS.values())
        entries = [(self.bucket, key) for key in keys]
        for key in keys:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=key.encode(), Metadata={"n": str(len(key))})
        # Percent-encoded with a whole alphabet of escapes, as S3's inventory writes them, and with as few as it gets.
        for encode in (True, False):
            with self.subTest(encode=encode):
                if encode:
                    manifest = self.env.put_manifest(entries)
                else:
                    lines = [f'{bucket},"{key.replace("%", "%25").replace(chr(34), chr(34) * 2)}"\n'
                             for bucket, key in entries]
                    manifest = self.env.put_manifest("".join(lines).encode())
                job, report = self.run_job(TAGGING, manifest)
                self.assert_rows(entries, report, "succeeded")
                self.assertEqual(len(keys), job.progress.succeeded_tasks)
                for name, key in ODD_KEYS.items():
                    tags = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
                    self.assertEqual(sorted_tags(TAG_SET), sorted_tags(tags), name)
                    self.s3.delete_object_tagging(Bucket=self.bucket, Key=key)
        target = self.env.make_bucket("target")
        job, report = self.run_job({"store": "s3", "copy_object": {"target_bucket": target}},
                                   self.env.put_manifest(entries))
        self.assert_rows(entries, report, "succeeded")
        self.assertEqual(sorted(keys), sorted(self.list_keys(target)))
        for name, key in ODD_KEYS.items():
            copy = self.s3.get_object(Bucket=target, Key=key)
            self.assertEqual((key.encode(), {"n": str(len(key))}), (copy["Body"].read(), copy["Metadata"]), name)

    def test_keys_that_are_too_long_with_their_prefix_fail_alone(self):
        long = "k" * 1024
        self.env.put_objects(self.bucket, [long, "short"])
        job, report = self.run_job({"store": "s3", "copy_object": {"target_key_prefix": "p/"}},
                                   self.env.put_manifest([(self.bucket, long), (self.bucket, "short")]))
        self.assertEqual({long: ("failed", "KeyTooLong"), "short": ("succeeded", "")},
                         {row.key: (row.status, row.error_code) for row in report.rows})

    def test_versions_named_in_the_manifest_are_the_ones_touched(self):
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        versions = {}
        for key in ("a", "b ü"):
            for text in ("old", "new"):
                versions[key, text] = self.s3.put_object(Bucket=self.bucket, Key=key, Body=text.encode())["VersionId"]
        entries = [(self.bucket, key, versions[key, "old"]) for key in ("a", "b ü")]
        entries.append((self.bucket, "a", "nosuchversion000000000000000000A"))
        job, report = self.run_job(TAGGING, self.env.put_manifest(entries))
        self.assertEqual((2, 1), (job.progress.succeeded_tasks, job.progress.failed_tasks))
        self.assertEqual(sorted(entries), sorted((row.bucket, row.key, row.version_id)
                                                 for row in job_oracles.decoded_rows(report)))
        for key in ("a", "b ü"):
            for text, expected in (("old", sorted_tags(TAG_SET)), ("new", [])):
                found = self.s3.get_object_tagging(Bucket=self.bucket, Key=key, VersionId=versions[key, text])["TagSet"]
                self.assertEqual(expected, sorted_tags(found), (key, text))
        target = self.env.make_bucket("target")
        self.run_job({"store": "s3", "copy_object": {"target_bucket": target}}, self.env.put_manifest(entries[:2]))
        for key in ("a", "b ü"):
            self.assertEqual(b"old", self.s3.get_object(Bucket=target, Key=key)["Body"].read())

    # ---- reports

    def test_large_report_is_uploaded_in_parts(self):
        # 130,000 rows of some 150 bytes: two parts of the store's 8 MiB and a rest, by a duty of its own.
        entries = [("bucket", f"folder/{number:09}/" + "long name " * 9) for number in range(130_000)]
        data = "".join(f"{bucket},{key}\n" for bucket, key in entries).encode()
        job = self.env.create_job({"no_op": {"failure_fraction": 0.02}}, self.env.put_manifest(data, store="s3",
                                                                                             bucket=self.reports),
                                  report={"store": "s3", "bucket": self.reports})
        job = self.env.wait_job(job)
        manifest = self.assert_report_files(job)
        parts = {}
        for result in manifest["Results"]:
            etag = self.s3.head_object(Bucket=self.reports, Key=result["Key"])["ETag"].strip('"')
            parts[result["TaskExecutionStatus"]] = int(etag.partition("-")[2] or 1)
        self.assertEqual({"succeeded": 3, "failed": 1}, parts)
        report = self.env.read_report(job)
        self.assert_rows(entries, report)
        self.assertEqual({("succeeded", "200", ""), ("failed", "0", "Rehearsed")},
                         {(row.status, row.http_status, row.error_code) for row in report.rows})

    def test_reports_lie_where_they_were_asked_for(self):
        manifest = self.env.put_manifest([("bucket", "a")])
        for place in ({"store": "s3", "bucket": self.reports}, {"store": "files", "bucket": "r"},
                      {"store": "s3", "bucket": self.reports, "prefix": "a b/+ü/%41"},
                      {"store": "files", "bucket": "r", "prefix": "a b/+ü/%41"}):
            with self.subTest(place):
                self.run_job({"no_op": {}}, manifest, report=place)

    def test_report_to_a_bucket_that_is_not_there_is_named_on_the_job(self):
        # The controllers of this class try for 15 minutes; the job waits in Completing, says why, and goes on when
        # the bucket is made.
        name = self.env.make_bucket()
        self.s3.delete_bucket(Bucket=name)
        job = self.env.create_job({"no_op": {}}, self.env.put_manifest([("bucket", "a")]),
                                  report={"store": "s3", "bucket": name})
        waiting = drover_env.wait_until("the report's error is shown",
                                        lambda: (j := self.env.get_job(job)).report_status.error and j, 30)
        self.assert_state("COMPLETING", waiting)
        self.assertIn("NoSuchBucket", waiting.report_status.error)
        self.s3.create_bucket(Bucket=name)
        job = self.env.wait_job(job)
        self.assert_report_files(job)
        self.assertEqual("", job.report_status.error)


if __name__ == "__main__":
    import unittest

    unittest.main()
