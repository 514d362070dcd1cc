"""`drover job create` with keys on the command line, and with standard input uploaded as the manifest: to a store of
files and to the real S3 server."""

import gzip
import hashlib
import subprocess

import drover_env
import job_oracles

REPORT = ("--report", "files/r")


class CliManifestsTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("cli-manifests")
        cls.addClassCleanup(cls.env.close)
        rgw = cls.env.start_rgw()
        cls.env.start_postgres()
        cls.env.write_stores()
        cls.env.start_controller()
        cls.env.start_worker()
        cls.env.wait_workers()
        cls.s3 = cls.env.rgw.client()
        cls.bucket = cls.env.make_bucket("uploads")
        cls.credentials = {drover_env.ACCESS_KEY_ENV: rgw.access_key, drover_env.SECRET_KEY_ENV: rgw.secret_key}

    def create(self, *flags, data=None, code=0):
        """Runs `drover job create` of a no-op; `data`: bytes for standard input. Returns (standard output, error)."""
        done = subprocess.run(
            [drover_env.BIN / "drover", drover_env.FLAG_SERVER, self.env.controllers[0].address, "job", "create",
             "--operation", "noop", *flags], input=data, capture_output=True, timeout=60, check=False,
            env={"PATH": "/usr/bin:/bin", **self.credentials})
        self.assertEqual(code, done.returncode, done.stderr.decode())
        return done.stdout.decode(), done.stderr.decode()

    def upload(self, target, *flags, data, code=0):
        return self.create("--manifest", "-", "--upload", target, "--stores", str(self.env.stores_path), *flags,
                           data=data, code=code)

    def job_of(self, created):
        return self.env.wait_job(created[0].strip())

    def jobs(self):
        return len(self.env.cli_json("job", "list", "--limit", "0").get("jobs", []))

    def stored(self, prefix):
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])]

    def test_keys_as_flags_and_from_a_file(self):
        keys = self.env.directory / "keys.txt"
        keys.write_text("bkt/b c%20\n\nbkt/d\r\n")
        job = self.job_of(self.create("--key", "bkt/a", "--keys-from", str(keys), *REPORT, "-o", "id"))
        self.assert_all_succeeded(job, [("bkt", "a"), ("bkt", "b c%20"), ("bkt", "d")])

    def test_keys_of_one_bucket_from_standard_input(self):
        job = self.job_of(self.create("--keys-bucket", "bkt", "--keys-from", "-", *REPORT, "-o", "id",
                                      data=b"x/a\nx/b\n"))
        self.assert_all_succeeded(job, [("bkt", "x/a"), ("bkt", "x/b")])

    def test_upload_to_s3_in_several_parts(self):
        entries = [("bkt", f"{number:06}-" + "k" * 100) for number in range(200_000)]  # three parts of 8 MiB
        data = "".join(f"{bucket},{key}\n" for bucket, key in entries).encode()
        job = self.job_of(self.upload(f"s3/{self.bucket}/large.csv", "-o", "id", data=data))
        self.assert_state("COMPLETE", job)
        self.assertEqual(len(entries), job.progress.succeeded_tasks)
        csv = job.manifest.csv
        head = self.s3.head_object(Bucket=self.bucket, Key="large.csv")
        self.assertEqual(len(data), head["ContentLength"])
        self.assertEqual((head["ETag"].strip('"'), hashlib.sha256(data).hexdigest()), (csv.etag.strip('"'), csv.sha256))
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=self.bucket))

    def test_upload_of_a_compressed_list(self):
        for target in (f"s3/{self.bucket}/zipped/", "files/uploads/zipped/"):
            with self.subTest(target):
                job = self.job_of(self.upload(target, *REPORT, "-o", "id", "--request-id", f"zip-{target[:2]}",
                                              data=gzip.compress(b"bkt,a\n") + gzip.compress(b"bkt,b\n")))
                self.assert_all_succeeded(job, [("bkt", "a"), ("bkt", "b")])
                self.assertEqual(1, job.manifest.csv.compression)  # GZIP
                self.assertTrue(job.manifest.csv.location.key.endswith(f"drover-zip-{target[:2]}.csv"))

    def test_upload_replaces_nothing(self):
        self.s3.put_object(Bucket=self.bucket, Key="there.csv", Body=b"bkt,old\n")
        before = self.jobs()
        _, error = self.upload(f"s3/{self.bucket}/there.csv", data=b"bkt,new\n", code=1)
        self.assertIn("exists already", error)
        self.assertEqual(b"bkt,old\n", self.s3.get_object(Bucket=self.bucket, Key="there.csv")["Body"].read())
        self.assertEqual(before, self.jobs())

    def test_nothing_is_uploaded_for_a_request_that_is_wrong(self):
        _, error = self.upload(f"s3/{self.bucket}/wrong/a.csv", "--noop-failure-fraction", "7", data=b"bkt,a\n", code=1)
        self.assertIn("job.operation.no_op.failure_fraction", error)
        self.assertEqual([], self.stored("wrong/"))

    def test_what_is_uploaded_for_a_request_that_is_refused_is_removed(self):
        self.create("--key", "bkt/a", "--request-id", "taken")
        _, error = self.upload(f"s3/{self.bucket}/refused/a.csv", "--request-id", "taken", data=b"bkt,a\n", code=1)
        self.assertIn("REQUEST_ID_REUSED", error)
        self.assertIn("was removed again", error)
        self.assertEqual([], self.stored("refused/"))

    def test_validate_only_uploads_and_creates_nothing(self):
        before = self.jobs()
        _, error = self.upload(f"s3/{self.bucket}/checked/a.csv", "--validate-only", data=b"bkt,a\n")
        self.assertIn("no job was created", error)
        self.create("--key", "bkt/a", "--validate-only")
        _, error = self.create("--key", "BKT/a", "--validate-only", code=1)
        self.assertIn("job.manifest.inline.objects[0].bucket", error)
        self.assertEqual(([], before), (self.stored("checked/"), self.jobs()))

    def test_standard_input_can_be_one_thing_only(self):
        _, error = self.upload(f"s3/{self.bucket}/a.csv", "-f", "-", data=b"", code=2)
        self.assertIn("standard input can be one thing only", error)


if __name__ == "__main__":
    import unittest

    unittest.main()
