"""Copies of objects against the real S3 server, within it and between two stores: what boto3 finds at the target is
held against what the job asked for. The second store is the same server with another user, behind a proxy that can
break transfers: for Drover another endpoint with other credentials."""

import datetime
import hashlib
import pathlib
import random
import subprocess

import drover_env
import job_oracles

TAGS = [{"key": "team", "value": "blue + green"}, {"key": "a/b&c=d", "value": "ä <&> \"x\""}]
TAG_SET = [{"Key": tag["key"], "Value": tag["value"]} for tag in TAGS]
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


def sorted_tags(tags):
    return sorted((tag["Key"], tag["Value"]) for tag in tags)


def timestamp(time):
    return time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class CopyTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("copy")
        cls.addClassCleanup(cls.env.close)
        cls.rgw = cls.env.start_rgw()
        cls.env.start_postgres()
        cls.s3 = cls.rgw.client()
        # Another user of the server; the source store trusts nothing that it owns, and the other way round.
        key, secret = "COPYTARGET", "copy-target-secret"
        done = subprocess.run(["radosgw-admin", "-c", cls.rgw.directory / "ceph.conf", "user", "create",
                               "--uid=copy-target", "--display-name=Target", f"--access-key={key}",
                               f"--secret-key={secret}"], capture_output=True, text=True, check=False)
        if done.returncode != 0 and "exists" not in done.stderr:
            raise drover_env.Failure(f"radosgw-admin: {done.stderr}")
        cls.far = drover_env.S3Server(cls.rgw.endpoint, key, secret).client()
        cls.source_proxy = cls.env.start_proxy(cls.rgw.endpoint)
        cls.target_proxy = cls.env.start_proxy(cls.rgw.endpoint)
        far = cls.env.s3_store("far", cls.target_proxy.endpoint,
                               credentials={"access_key_env": "FAR_ACCESS_KEY", "secret_key_env": "FAR_SECRET_KEY"})
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint=cls.source_proxy.endpoint), far])
        env = {"FAR_ACCESS_KEY": key, "FAR_SECRET_KEY": secret}
        cls.env.start_controllers(1, env=env)
        cls.worker = cls.env.start_worker(env=env)
        cls.env.wait_workers()

    def setUp(self):
        self.bucket = self.env.make_bucket("source")
        self.target = self.env.make_bucket("target")

    def tearDown(self):
        self.source_proxy.set(mode="pass", cut_times=0)
        self.target_proxy.set(mode="pass", cut_times=0)

    def far_bucket(self):
        name = f"far-{self.bucket}"
        self.far.create_bucket(Bucket=name)
        return name

    def run_copy(self, entries, versions=None, retries=None, **copy):
        """A job over these keys of the bucket; returns {key: (status, HTTP status, code)} and the job's messages."""
        rows = [(self.bucket, key) for key in entries] if versions is None else \
            [(self.bucket, key, versions[key]) for key in entries]
        job = self.env.create_job({"store": "s3", "copy_object": copy}, self.env.put_manifest(rows),
                                  report={"store": "files", "bucket": "reports"},
                                  **({"retry_policy": retries} if retries else {}))
        job = self.env.wait_job(job)
        self.assert_state("COMPLETE", job)
        report = job_oracles.decoded_rows(self.env.read_report(job))
        self.messages = {row.key: row.message for row in report}
        return {row.key: (row.status, row.http_status, row.error_code) for row in report}

    def put(self, key, body=b"content", **more):
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **more)

    def tags_of(self, client, bucket, key, **more):
        return sorted_tags(client.get_object_tagging(Bucket=bucket, Key=key, **more)["TagSet"])

    # ---- within one store

    def test_metadata_is_replaced_as_a_whole(self):
        self.put("a", ContentType="old/type", CacheControl="old", Metadata={"old": "1"}, Tagging="kept=yes")
        self.assertEqual({"a": ("succeeded", "200", "")}, self.run_copy(
            ["a"], target_bucket=self.target, metadata_directive="REPLACE",
            new_metadata={"content_type": "text/x-new", "cache_control": "max-age=7",
                          "content_disposition": "inline; x=\"y\"", "content_encoding": "br",
                          "content_language": "de", "expires": "2030-01-02T03:04:05Z",
                          "user_metadata": {"name": "a value", "empty": "", "x-y.z0": "=?&"}}))
        copy = self.s3.head_object(Bucket=self.target, Key="a")
        self.assertEqual(("text/x-new", "max-age=7", "inline; x=\"y\"", "br", "de"),
                         tuple(copy[name] for name in ("ContentType", "CacheControl", "ContentDisposition",
                                                       "ContentEncoding", "ContentLanguage")))
        self.assertEqual({"name": "a value", "x-y.z0": "=?&", "empty": ""}, {"empty": "", **copy["Metadata"]})
        self.assertIn("02 Jan 2030 03:04:05", copy["ResponseMetadata"]["HTTPHeaders"]["expires"])
        self.assertEqual([("kept", "yes")], self.tags_of(self.s3, self.target, "a"))

    def test_tags_are_replaced_though_the_store_passes_over_it(self):
        self.put("a", Tagging="old=1", Metadata={"kept": "yes"})
        self.put("bare")
        self.assertEqual({("succeeded", "200", "")}, set(self.run_copy(
            ["a", "bare"], target_bucket=self.target, tagging_directive="REPLACE", new_tags=TAGS).values()))
        for key in ("a", "bare"):
            self.assertEqual(sorted_tags(TAG_SET), self.tags_of(self.s3, self.target, key))
        self.assertEqual({"kept": "yes"}, self.s3.head_object(Bucket=self.target, Key="a")["Metadata"])
        self.run_copy(["a"], target_bucket=self.target, target_key_prefix="none/", tagging_directive="REPLACE")
        self.assertEqual([], self.tags_of(self.s3, self.target, "none/a"))

    def test_tags_go_to_the_version_that_was_written(self):
        self.s3.put_bucket_versioning(Bucket=self.target, VersioningConfiguration={"Status": "Enabled"})
        before = self.s3.put_object(Bucket=self.target, Key="a", Body=b"before", Tagging="before=1")["VersionId"]
        self.put("a", Tagging="old=1")
        self.run_copy(["a"], target_bucket=self.target, tagging_directive="REPLACE", new_tags=TAGS)
        self.assertEqual(sorted_tags(TAG_SET), self.tags_of(self.s3, self.target, "a"))
        self.assertEqual([("before", "1")], self.tags_of(self.s3, self.target, "a", VersionId=before))

    def test_onto_itself_where_something_changes(self):
        self.put("a", b"the same", ContentType="old/type")
        self.run_copy(["a"], metadata_directive="REPLACE", new_metadata={"content_type": "new/type"})
        found = self.s3.get_object(Bucket=self.bucket, Key="a")
        self.assertEqual((b"the same", "new/type"), (found["Body"].read(), found["ContentType"]))

    def test_old_versions_come_back_onto_themselves(self):
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        old = self.put("a", b"old")["VersionId"]
        self.put("a", b"new")
        self.assertEqual({"a": ("succeeded", "200", "")}, self.run_copy(["a"], versions={"a": old}))
        self.assertEqual(b"old", self.s3.get_object(Bucket=self.bucket, Key="a")["Body"].read())

    def test_conditions_hold_though_the_store_ignores_them(self):
        self.put("a")
        modified = self.s3.head_object(Bucket=self.bucket, Key="a")["LastModified"]
        second = datetime.timedelta(seconds=1)
        for field, time, copied in (("modified_since", modified, False), ("modified_since", modified - second, True),
                                    ("unmodified_since", modified, True),
                                    ("unmodified_since", modified - second, False)):
            for store in ("", "far"):
                with self.subTest(field, time=time, store=store):
                    prefix = f"{field}-{int(time.timestamp())}/"
                    bucket = self.far_bucket() if store else self.target
                    result = self.run_copy(["a", "gone"], target_bucket=bucket, target_key_prefix=prefix,
                                           target_store=store, **{field: timestamp(time)})
                    expected = ("succeeded", "200", "") if copied else ("failed", "0", "PreconditionFailed")
                    self.assertEqual({"a": expected, "gone": ("failed", "404", "NotFound")}, result)
                    client = self.far if store else self.s3
                    self.assertEqual(1 if copied else 0,
                                     client.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"])

    def test_access_control_lists(self):
        self.put("a")
        other = self.far.list_buckets()["Owner"]["ID"]
        for number, (copy, expected) in enumerate((
                ({"canned_acl": "private"}, set()),
                ({"canned_acl": "public-read"}, {(ALL_USERS, "READ")}),
                ({"acl_grants": [{"grantee": f'id="{other}"', "permission": "READ"},
                                 {"grantee": f'uri="{ALL_USERS}"', "permission": "READ_ACP"}]},
                 {(other, "READ"), (ALL_USERS, "READ_ACP")}))):
            with self.subTest(copy):
                prefix = f"{number}/"
                self.assertEqual({"a": ("succeeded", "200", "")}, self.run_copy(
                    ["a"], target_bucket=self.target, target_key_prefix=prefix, **copy), self.messages)
                grants = self.s3.get_object_acl(Bucket=self.target, Key=prefix + "a")["Grants"]
                found = {(grant["Grantee"].get("URI") or grant["Grantee"]["ID"], grant["Permission"])
                         for grant in grants}
                self.assertLessEqual(expected, found)
                self.assertEqual(expected, {grant for grant in found if grant[1] != "FULL_CONTROL"})

    def test_what_the_store_does_not_do_is_a_failure_and_no_silent_success(self):
        self.put("a")
        # Ceph's gateway computes no checksums; it has neither this storage class nor a key for encryption.
        self.assertEqual(("failed", "ChecksumNotComputed"), self.run_copy(
            ["a"], target_bucket=self.target, checksum_algorithm="SHA256")["a"][::2])
        for copy in ({"storage_class": "NO_SUCH_CLASS"}, {"encryption": {"algorithm": "AES256"}},
                     {"encryption": {"algorithm": "aws:kms", "kms_key_id": "none"}}):
            with self.subTest(copy):
                for store in ("", "far"):
                    bucket = self.far_bucket() if store else self.target
                    self.assertEqual("failed", self.run_copy(["a"], target_bucket=bucket, target_store=store,
                                                             **copy)["a"][0])
        self.assertEqual("succeeded", self.run_copy(["a"], target_bucket=self.target, storage_class="STANDARD")["a"][0])

    # ---- across two stores

    def test_objects_of_all_sizes_arrive_with_metadata_and_tags(self):
        # Around the limits of whole objects and of the HTTP client's buffers; one made of parts.
        sizes = [0, 1, 200, 64 << 10, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 1 << 20, 5_000_011]
        bodies = {f"dir/{size} + ü": random.Random(size).randbytes(size) for size in sizes}
        for key, body in bodies.items():
            self.put(key, body, ContentType="text/x-odd", CacheControl="max-age=7", ContentEncoding="gzip",
                     ContentDisposition="inline", ContentLanguage="de", Expires=datetime.datetime(2030, 1, 2),
                     Metadata={"n": str(len(body)), "text": "a  b"}, Tagging="a%2Fb=c%20d&e=")
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key="parts")["UploadId"]
        parts = [random.Random(n).randbytes(size) for n, size in enumerate((5 << 20, 1000))]
        etags = [{"PartNumber": n, "ETag": self.s3.upload_part(Bucket=self.bucket, Key="parts", UploadId=upload,
                                                               PartNumber=n, Body=part)["ETag"]}
                 for n, part in enumerate(parts, 1)]
        self.s3.complete_multipart_upload(Bucket=self.bucket, Key="parts", UploadId=upload,
                                          MultipartUpload={"Parts": etags})
        bucket = self.far_bucket()
        result = self.run_copy([*bodies, "parts", "gone"], target_store="far", target_bucket=bucket,
                               target_key_prefix="copies/")
        self.assertEqual(("failed", "404", "NotFound"), result.pop("gone"))
        self.assertEqual({("succeeded", "200", "")}, set(result.values()), self.messages)
        for key, body in bodies.items():
            with self.subTest(key):
                copy = self.far.get_object(Bucket=bucket, Key="copies/" + key)
                self.assertEqual(hashlib.md5(body).digest(), hashlib.md5(copy["Body"].read()).digest())
                self.assertEqual(("text/x-odd", "max-age=7", "gzip", "inline", "de"),
                                 tuple(copy[name] for name in ("ContentType", "CacheControl", "ContentEncoding",
                                                               "ContentDisposition", "ContentLanguage")))
                self.assertEqual({"n": str(len(body)), "text": "a  b"}, copy["Metadata"])
                self.assertEqual([("a/b", "c d"), ("e", "")], self.tags_of(self.far, bucket, "copies/" + key))
        self.assertEqual(b"".join(parts), self.far.get_object(Bucket=bucket, Key="copies/parts")["Body"].read())
        self.assertEqual([], self.tags_of(self.far, bucket, "copies/parts"))

    def test_replaced_metadata_tags_and_acl_across_stores(self):
        self.put("a", b"x" * 300_000, ContentType="old/type", Metadata={"old": "1"}, Tagging="old=1")
        bucket = self.far_bucket()
        self.assertEqual({"a": ("succeeded", "200", "")}, self.run_copy(
            ["a"], target_store="far", target_bucket=bucket, metadata_directive="REPLACE",
            new_metadata={"content_type": "new/type", "user_metadata": {"new": "2"}}, tagging_directive="REPLACE",
            new_tags=TAGS, canned_acl="public-read"), self.messages)
        copy = self.far.head_object(Bucket=bucket, Key="a")
        self.assertEqual(("new/type", {"new": "2"}), (copy["ContentType"], copy["Metadata"]))
        self.assertEqual(sorted_tags(TAG_SET), self.tags_of(self.far, bucket, "a"))
        grants = self.far.get_object_acl(Bucket=bucket, Key="a")["Grants"]
        self.assertIn((ALL_USERS, "READ"), {(grant["Grantee"].get("URI"), grant["Permission"]) for grant in grants})

    def test_the_named_version_is_copied_to_the_other_store(self):
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        old = self.put("a", b"old" * 200_000, Tagging="is=old")["VersionId"]
        self.put("a", b"new", Tagging="is=new")
        bucket = self.far_bucket()
        self.run_copy(["a"], versions={"a": old}, target_store="far", target_bucket=bucket)
        self.assertEqual(b"old" * 200_000, self.far.get_object(Bucket=bucket, Key="a")["Body"].read())
        self.assertEqual([("is", "old")], self.tags_of(self.far, bucket, "a"))

    def test_large_objects_pass_through_a_worker_that_does_not_grow(self):
        body = random.Random(64).randbytes(64 << 20)
        keys = [f"large/{n}" for n in range(4)]
        for key in keys:
            self.put(key, body)
        bucket = self.far_bucket()
        status = pathlib.Path(f"/proc/{self.worker.pid}")
        (status / "clear_refs").write_text("5")  # the peak counts from here
        before = self.peak_kib(status)
        self.assertEqual({("succeeded", "200", "")},
                         set(self.run_copy(keys, target_store="far", target_bucket=bucket).values()), self.messages)
        # A piece of 256 KiB a copy, and what sockets and TLS hold: far from one object, let alone four.
        self.assertLess(self.peak_kib(status) - before, 16 << 10)
        for key in keys:
            self.assertEqual(f'"{hashlib.md5(body).hexdigest()}"', self.far.head_object(Bucket=bucket, Key=key)["ETag"])

    @staticmethod
    def peak_kib(status):
        line = next(line for line in (status / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1])

    def test_a_source_that_breaks_off_is_tried_again_and_leaves_no_half_object(self):
        body = random.Random(8).randbytes(8 << 20)
        self.put("a", body)
        self.put("b", body[:200_000])
        bucket = self.far_bucket()
        # The first three readings of each break off after 150,000 bytes, and never is half an object seen.
        self.source_proxy.set(cut_times=4, cut_match=f"GET /{self.bucket}/", cut_bytes=150_000)
        retries = {"max_attempts": 5, "initial_backoff": "0.010s", "max_backoff": "0.100s"}
        self.assertEqual({("succeeded", "200", "")}, set(self.run_copy(
            ["a", "b"], retries=retries, target_store="far", target_bucket=bucket).values()), self.messages)
        self.assertEqual(0, self.source_proxy.get("/state")["cut_times"])
        self.assertEqual(body, self.far.get_object(Bucket=bucket, Key="a")["Body"].read())

    def test_a_source_that_always_breaks_off_is_a_failure_and_no_object(self):
        self.put("a", random.Random(8).randbytes(8 << 20))
        bucket = self.far_bucket()
        self.source_proxy.set(cut_times=1000, cut_match=f"GET /{self.bucket}/", cut_bytes=1_000_000)
        retries = {"max_attempts": 3, "initial_backoff": "0.010s", "max_backoff": "0.010s", "unavailable_timeout": "0s"}
        self.assertEqual({"a": ("failed", "0", "ConnectionLost")}, self.run_copy(
            ["a"], retries=retries, target_store="far", target_bucket=bucket))
        self.assertEqual(0, self.far.list_objects_v2(Bucket=bucket)["KeyCount"])

    def test_a_target_without_the_bucket_or_the_right_is_the_stores_answer(self):
        self.put("small")
        self.put("large", b"x" * 1_000_000)
        missing = {key: ("failed", "404", "NoSuchBucket") for key in ("small", "large")}
        self.assertEqual(missing, self.run_copy(["small", "large"], target_store="far",
                                                target_bucket="no-such-bucket-here"))
        denied = {key: ("failed", "403", "AccessDenied") for key in ("small", "large")}
        self.assertEqual(denied, self.run_copy(["small", "large"], target_store="far", target_bucket=self.target))

    def test_a_cancelled_job_breaks_off_its_transfers(self):
        self.put("a", random.Random(8).randbytes(32 << 20))
        bucket = self.far_bucket()
        job = self.env.create_job({"store": "s3", "copy_object": {"target_store": "far", "target_bucket": bucket}},
                                  self.env.put_manifest([(self.bucket, "a")]))
        # It stands still in the middle of the transfer, and is within its grace of 30 s when the worker is stopped.
        self.source_proxy.set(latency_ms=0)
        drover_env.wait_until("the object is being read", lambda: any(
            request["target"] == f"/{self.bucket}/a" and request["method"] == "GET"
            for request in self.source_proxy.requests()), 30, interval=0.005)
        self.target_proxy.set(mode="hold")
        self.env.cli("job", "cancel", job.job_id, "--reason", "enough")
        job = self.env.wait_job(job, states=("CANCELLED",), timeout=60)
        self.target_proxy.set(mode="pass")
        self.assertEqual(1, job.progress.succeeded_tasks + job.progress.failed_tasks)
        if job.progress.failed_tasks:  # not over before the hold
            self.assertEqual(0, self.far.list_objects_v2(Bucket=bucket)["KeyCount"])


if __name__ == "__main__":
    import unittest

    unittest.main()
