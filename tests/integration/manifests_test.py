"""CSV manifests through whole jobs: each corner that docs/manifests.md defines, from a file store and from the real S3
server; bad lines, missing, wrong and changing manifests."""

import base64
import ctypes
import gzip
import hashlib
import os
import random

import drover_env
import job_oracles

BUCKET_KEY_VERSION = ["MANIFEST_FIELD_BUCKET", "MANIFEST_FIELD_KEY", "MANIFEST_FIELD_VERSION_ID"]

# name: (bytes, the tasks that they make)
GOOD = {
    "LF": (b"bkt,a\nbkt,b\n", ["a", "b"]),
    "CRLF": (b"bkt,a\r\nbkt,b\r\n", ["a", "b"]),
    "no newline at the end": (b"bkt,a\nbkt,b", ["a", "b"]),
    "carriage return within a key": (b"bkt,a\rb\n", ["a\rb"]),
    "byte order mark": (b"\xef\xbb\xbfbkt,a\n", ["a"]),
    "blank lines": (b"\n\r\nbkt,a\n\n\nbkt,b\n\n", ["a", "b"]),
    "quoted": (b'"bkt","a"\nbkt,"a,b"\nbkt,"a""b"\nbkt,"a\nb"\nbkt,a"b\n', ["a", "a,b", 'a"b', "a\nb", 'a"b']),
    "percent-encoded": (b"bkt,a%20b%2C%22%0A%C3%BC%25\n", ['a b,"\nü%']),
    "plus is a plus": (b"bkt,a+b%2Bc\n", ["a+b+c"]),
    "not encoded though it might be": ("bkt,a b/ü&?#\n".encode(), ["a b/ü&?#"]),
    "key of 1,024 bytes": (b"bkt," + b"k" * 1024 + b"\n", ["k" * 1024]),
    "the same object twice": (b"bkt,a\nbkt,a\n", ["a", "a"]),
}

# name: (bytes, {line: what the reason must contain})
BAD = {
    "NUL": (b"bkt,a\nbkt,a\0b\n", {2: "NUL"}),
    "NUL, encoded": (b"bkt,a%00b\n", {1: "NUL"}),
    "invalid UTF-8": (b"bkt,a\nbkt,b\nbkt,\xff\xfe\n", {3: "UTF-8"}),
    "invalid UTF-8, encoded": (b"bkt,%C3\n", {1: "UTF-8"}),
    "key of 1,025 bytes": (b"bkt," + b"k" * 1025 + b"\n", {1: "1025 bytes"}),
    "no key": (b"bkt,\n", {1: "Key"}),
    "bucket with capitals": (b"bkt,a\nBkt,b\n", {2: "capital"}),
    "too few columns": (b"bkt\n", {1: "column"}),
    "too many columns": (b"bkt,a,b\n", {1: "column"}),
    "percent sign alone": (b"bkt,100%\n", {1: "percent"}),
    "text after a closing quote": (b'bkt,"a"b\n', {1: "quote"}),
    "quote never closed": (b'bkt,a\n\nbkt,"b\nbkt,c\n', {3: "quote"}),
    "line of blanks": (b"bkt,a\n  \n", {2: "column"}),
    "byte order mark later on": (b"bkt,a\n\xef\xbb\xbfbkt,b\n", {2: "Bucket"}),
    "several, in a file with CRLF and blank lines": (b"bkt,a\r\n\r\nBKT,b\r\nbkt,c\r\nbkt,%zz\r\n",
                                                     {3: "capital", 5: "%zz"}),
    "row of several lines named by its first": (b'bkt,a\nbkt,"x\ny\nz",more\nbkt,b\nbkt\n', {2: "column", 6: "column"}),
}


def zstd(data):
    """One frame, made by the library that everybody's `zstd` uses; Python 3.11 has no module for it."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compressBound.restype = library.ZSTD_compress.restype = ctypes.c_size_t
    library.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
    library.ZSTD_compress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    room = library.ZSTD_compressBound(len(data))
    buffer = ctypes.create_string_buffer(room)
    size = library.ZSTD_compress(buffer, room, data, len(data), 3)
    return buffer.raw[:size]


PACKERS = {"GZIP": gzip.compress, "ZSTD": zstd}


class ManifestsTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("manifests")
        cls.addClassCleanup(cls.env.close)
        rgw = cls.env.start_rgw()
        cls.proxy = cls.env.start_proxy(rgw.endpoint)
        cls.postgres = cls.env.start_postgres()
        port = rgw.endpoint.rpartition(":")[2]
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(),
                              cls.env.s3_store("by-proxy", endpoint=cls.proxy.endpoint),
                              cls.env.s3_store("by-host", endpoint=f"http://s3.localhost:{port}", path_style=False)])
        # Slow between two chunks, so that a test can do something to a large manifest while it is read.
        cls.env.start_controllers(2, failpoints="prepare.between_chunks=sleep(300)")
        cls.env.start_worker()
        cls.env.wait_workers()
        cls.s3 = cls.env.rgw.client()
        cls.bucket = cls.env.make_bucket("manifests")

    def run_no_op(self, manifest, states=drover_env.TERMINAL_STATES, report=True):
        job = self.env.create_job({"no_op": {}}, manifest, report={"store": "files", "bucket": "r"} if report else None)
        return self.env.wait_job(job, states=states)

    def assert_refused(self, job, code):
        """The job failed while Preparing with this code; nothing of it was made or run. Returns the failure."""
        self.assert_state("FAILED", job)
        self.assertEqual([code], [failure.code for failure in job.failures], job)
        self.assertEqual(code, job.state_reason.code)
        self.assertEqual((0, 0), (job.progress.succeeded_tasks, job.progress.failed_tasks))
        self.assertEqual("", job.report_status.manifest_key)
        states = [row[0] for row in self.postgres.sql(
            f"SELECT state FROM drover.events WHERE job_id = '{job.job_id}' ORDER BY version")]
        self.assertEqual(["1", "2", "12", "13"], states)  # New, Preparing, Failing, Failed
        for table in ("leases", "outcome_segments"):
            self.assertEqual([["0"]], self.postgres.sql(
                f"SELECT count(*) FROM drover.{table} WHERE job_id = '{job.job_id}'"))
        return job.failures[0]

    # ---- what is in it

    def test_each_corner_that_is_fine(self):
        for store in ("files", "s3"):
            for name, (data, keys) in GOOD.items():
                with self.subTest(name, store=store):
                    job = self.run_no_op(self.env.put_manifest(data, store=store, bucket=self.bucket))
                    self.assert_all_succeeded(job, [("bkt", key) for key in keys])

    def test_each_corner_that_is_not(self):
        for name, (data, lines) in BAD.items():
            with self.subTest(name):
                failure = self.assert_refused(self.run_no_op(self.env.put_manifest(data)), "MANIFEST_INVALID")
                found = {bad.line: bad.reason for bad in failure.bad_lines}
                self.assertEqual(set(lines), set(found), found)
                for line, text in lines.items():
                    self.assertIn(text, found[line])
                self.assertIn(f"line {min(lines)}", failure.reason)

    def test_empty_manifests_make_complete_jobs_without_report(self):
        for name, data in {"nothing at all": b"", "a byte order mark": b"\xef\xbb\xbf", "blank lines": b"\n\r\n\n"}.items():
            for store in ("files", "s3"):
                with self.subTest(name, store=store):
                    job = self.run_no_op(self.env.put_manifest(data, store=store, bucket=self.bucket))
                    self.assert_state("COMPLETE", job)
                    self.assertEqual(0, job.progress.total_tasks)
                    self.assertEqual((5, ""), (job.report_status.state, job.report_status.manifest_key))  # NOT_NEEDED

    def test_columns_in_any_order_and_ignored_ones(self):
        manifest = self.env.put_manifest(b'x,"ver",a%20b,"a ""size""",bkt\n,null,c,,bkt\n')
        manifest["csv"]["fields"] = ["MANIFEST_FIELD_IGNORE", "MANIFEST_FIELD_VERSION_ID", "MANIFEST_FIELD_KEY",
                                     "MANIFEST_FIELD_IGNORE", "MANIFEST_FIELD_BUCKET"]
        job = self.run_no_op(manifest)
        self.assert_state("COMPLETE", job)
        self.assertEqual([("bkt", "a b", "ver"), ("bkt", "c", "null")],
                         sorted((row.bucket, row.key, row.version_id)
                                for row in job_oracles.decoded_rows(self.env.read_report(job))))

    def test_version_ids_in_some_rows_only(self):
        manifest = self.env.put_manifest(b"bkt,a,v1\nbkt,b,\nbkt,c,v3\n")
        manifest["csv"]["fields"] = BUCKET_KEY_VERSION
        failure = self.assert_refused(self.run_no_op(manifest), "MANIFEST_INVALID")
        self.assertEqual([2], [bad.line for bad in failure.bad_lines])
        self.assertIn("VersionId", failure.bad_lines[0].reason)

    def test_ten_bad_lines_are_named_and_no_more(self):
        data = b"".join(b"bkt,%%%03d\n" % number if number % 3 == 0 else b"bkt,k%d\n" % number for number in range(1, 300))
        data = data.replace(b"%", b"%z")
        failure = self.assert_refused(self.run_no_op(self.env.put_manifest(data)), "MANIFEST_INVALID")
        self.assertEqual(list(range(3, 33, 3)), [bad.line for bad in failure.bad_lines])

    def test_bad_lines_are_shown_by_the_cli(self):
        job = self.run_no_op(self.env.put_manifest(b"bkt,a\nBKT,b\n"))
        shown = self.env.cli("job", "get", job.job_id)
        self.assertEqual(0, shown.code, shown.err)
        self.assertIn("MANIFEST_INVALID", shown.out)
        self.assertRegex(shown.out, r"line 2\b.*capital")

    # ---- compressed

    def compressed(self, data, compression, store="files"):
        manifest = self.env.put_manifest(data, store=store, bucket=self.bucket)
        manifest["csv"]["compression"] = compression
        return manifest

    def test_compressed_manifests_of_one_and_of_several_parts(self):
        entries = [("bkt", f"2024/{number:05}") for number in range(5000)]
        data = "".join(f"{bucket},{key}\n" for bucket, key in entries).encode()
        for compression, pack in PACKERS.items():
            for store in ("files", "s3"):
                for parts in ([data], [data[:1234], b"", data[1234:]]):
                    with self.subTest(compression, store=store, parts=len(parts)):
                        stored = b"".join(map(pack, parts))
                        manifest = self.compressed(stored, compression, store)
                        manifest["csv"]["sha256"] = hashlib.sha256(stored).hexdigest()
                        self.assert_all_succeeded(self.run_no_op(manifest), entries)

    def test_bad_lines_of_compressed_manifests_have_their_numbers(self):
        for compression, pack in PACKERS.items():
            with self.subTest(compression):
                job = self.run_no_op(self.compressed(pack(b"bkt,a\nbkt,b") + pack(b"\nBKT,c\n"), compression))
                failure = self.assert_refused(job, "MANIFEST_INVALID")
                self.assertEqual([3], [bad.line for bad in failure.bad_lines])

    def test_compressed_manifests_that_are_not_what_they_should_be(self):
        good = b"".join(b"bkt,%d\n" % number for number in range(10_000))
        for compression, pack in PACKERS.items():
            stored = pack(good)
            for name, data, code, text in (
                    ("cut off", stored[:-100], "MANIFEST_CORRUPT", "in the middle of a"),
                    ("damaged", stored[:12] + b"\xff" * 50 + stored[62:], "MANIFEST_CORRUPT", "at about byte"),
                    ("something behind it", stored + b"bkt,x\n", "MANIFEST_CORRUPT", "something else"),
                    ("not compressed", good, "MANIFEST_CORRUPT", "it is no"),
                    ("empty", b"", "MANIFEST_CORRUPT", "it is empty"),
                    ("a bomb", pack(b"\n" * (200 << 20)), "MANIFEST_TOO_LARGE", "250 times")):
                with self.subTest(compression, case=name):
                    failure = self.assert_refused(self.run_no_op(self.compressed(data, compression)), code)
                    self.assertIn(text, failure.reason)
            with self.subTest(compression, case="not said to be compressed"):
                failure = self.assert_refused(self.run_no_op(self.env.put_manifest(stored)), "MANIFEST_INVALID")
                self.assertIn(f"compressed with {compression.lower()}", failure.reason)

    # ---- in the request

    def test_inline_manifest(self):
        objects = [{"bucket": "bkt", "key": f"a b/{number}%20+,\"\n"} for number in range(3000)]
        job = self.run_no_op({"inline": {"objects": objects}})
        self.assert_all_succeeded(job, [(entry["bucket"], entry["key"]) for entry in objects])
        self.assertEqual((0, 3000), (len(job.manifest.inline.objects), job.manifest.inline.object_count))

    def test_inline_manifest_with_versions(self):
        job = self.run_no_op({"inline": {"objects": [{"bucket": "bkt", "key": "a", "version_id": "null"},
                                                     {"bucket": "bkt", "key": "a", "version_id": "v2"}]}})
        self.assertEqual([("a", "null"), ("a", "v2")],
                         sorted((row.key, row.version_id)
                                for row in job_oracles.decoded_rows(self.env.read_report(job))))

    # ---- where it is

    def test_store_whose_buckets_are_host_names(self):
        """Manifest, objects and report by virtual-host style: BUCKET.s3.localhost."""
        self.s3.put_object(Bucket=self.bucket, Key="virtual/object", Body=b"x")
        manifest = self.env.put_manifest([(self.bucket, "virtual/object")], store="s3", bucket=self.bucket)
        manifest["csv"]["location"]["store"] = "by-host"
        job = self.env.create_job({"store": "by-host", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}},
                                  manifest, report={"store": "by-host", "bucket": self.bucket})
        self.assert_all_succeeded(self.env.wait_job(job), [(self.bucket, "virtual/object")])
        tags = self.s3.get_object_tagging(Bucket=self.bucket, Key="virtual/object")["TagSet"]
        self.assertEqual([{"Key": "a", "Value": "b"}], tags)

    def test_missing_manifests(self):
        for name, location, etag in (
                ("a file", {"store": "files", "bucket": "manifests", "key": "no/such.csv"}, ""),
                ("a folder for a file", {"store": "files", "bucket": "no", "key": "such.csv"}, ""),
                ("an object", {"store": "s3", "bucket": self.bucket, "key": "no-such.csv"}, "0" * 32),
                ("a bucket", {"store": "s3", "bucket": "no-such-bucket-here", "key": "a.csv"}, "0" * 32),
                ("a version", {"store": "s3", "bucket": self.bucket, "key": "no-such.csv", "version_id": "x" * 32},
                 "0" * 32)):
            with self.subTest(name):
                manifest = {"csv": {"location": location, **({"etag": etag} if etag else {})}}
                failure = self.assert_refused(self.run_no_op(manifest), "MANIFEST_NOT_FOUND")
                self.assertIn(location["store"], failure.reason)

    def test_wrong_etag(self):
        manifest = self.env.put_manifest(b"bkt,a\n", store="s3", bucket=self.bucket)
        present, manifest["csv"]["etag"] = manifest["csv"]["etag"], "0" * 32
        failure = self.assert_refused(self.run_no_op(manifest), "MANIFEST_ETAG_MISMATCH")
        self.assertIn("0" * 32, failure.reason)
        self.assertIn(present, failure.reason)

    def test_etag_with_and_without_quotes(self):
        manifest = self.env.put_manifest(b"bkt,a\n", store="s3", bucket=self.bucket)
        manifest["csv"]["etag"] = '"' + manifest["csv"]["etag"] + '"'
        self.assert_all_succeeded(self.run_no_op(manifest), [("bkt", "a")])

    def test_named_version_of_a_manifest(self):
        bucket = self.env.make_bucket()
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        old = self.s3.put_object(Bucket=bucket, Key="m.csv", Body=b"bkt,old\n")
        self.s3.put_object(Bucket=bucket, Key="m.csv", Body=b"bkt,new\n")
        manifest = {"csv": {"location": {"store": "s3", "bucket": bucket, "key": "m.csv",
                                         "version_id": old["VersionId"]}, "etag": old["ETag"].strip('"')}}
        self.assert_all_succeeded(self.run_no_op(manifest), [("bkt", "old")])
        del manifest["csv"]["location"]["version_id"]
        self.assert_refused(self.run_no_op(manifest), "MANIFEST_ETAG_MISMATCH")

    def test_sha256_is_checked(self):
        for store in ("files", "s3"):
            with self.subTest(store):
                data = b"bkt,a\nbkt,b\n"
                manifest = self.env.put_manifest(data, store=store, bucket=self.bucket)
                manifest["csv"]["sha256"] = hashlib.sha256(data).hexdigest().upper()
                self.assert_all_succeeded(self.run_no_op(manifest), [("bkt", "a"), ("bkt", "b")])
                manifest["csv"]["sha256"] = hashlib.sha256(b"other").hexdigest()
                failure = self.assert_refused(self.run_no_op(manifest), "MANIFEST_SHA256_MISMATCH")
                self.assertIn(hashlib.sha256(data).hexdigest(), failure.reason)

    # ---- while it is read

    def large_manifest(self, store, times=1):
        """`times` 32 MiB that don't compress: read in blocks of 1 MiB, stored in chunks of 4 MiB, each of which waits
        (see setUpClass). Returns it and its entries."""
        noise = base64.urlsafe_b64encode(random.Random(1).randbytes(times * 24 << 20)).decode()
        entries = [("bkt", f"{number}/{noise[at:at + 100]}") for number, at in enumerate(range(0, len(noise), 100))]
        data = "".join(f"{bucket},{key}\n" for bucket, key in entries).encode()
        manifest = self.env.put_manifest(data, store=store, bucket=self.bucket)
        return manifest, entries

    def wait_chunk(self, job):
        drover_env.wait_until("a chunk is stored", lambda: self.env.get_job(job).progress.total_tasks, 30, 0.01)
        self.assert_state("PREPARING", self.env.get_job(job))

    def test_file_that_changes_while_it_is_read(self):
        manifest, _ = self.large_manifest("files")
        path = self.env.files / self.bucket / manifest["csv"]["location"]["key"]
        job = self.env.create_job({"no_op": {}}, manifest)
        self.wait_chunk(job)
        with open(path, "r+b") as file:  # the same size, another byte
            file.seek(-10, os.SEEK_END)
            file.write(b"!")
        self.assert_refused(self.env.wait_job(job, states=("FAILED",)), "MANIFEST_CHANGED")

    def test_file_that_changed_after_the_job_was_created(self):
        manifest = self.env.put_manifest(b"bkt,a\n")
        path = self.env.files / "manifests" / manifest["csv"]["location"]["key"]
        with drover_env.Env("created") as env:
            env.start_postgres()
            env.files = self.env.files
            env.write_stores([env.file_store()])
            # Creates jobs and does nothing else, until it is restarted without the failpoint.
            controller = env.start_controller(failpoints="storage.acquire_duties.before_commit=error")
            job = env.create_job({"no_op": {}}, manifest)
            path.write_bytes(b"bkt,b\n")
            controller.kill()
            env.restart(controller)
            job = env.wait_job(job, states=("FAILED",))
            self.assertEqual(["MANIFEST_CHANGED"], [failure.code for failure in job.failures])
            self.assertIn("after the job was created", job.failures[0].reason)

    def test_connection_that_breaks_while_it_is_read(self):
        manifest, entries = self.large_manifest("s3")
        manifest["csv"]["location"]["store"] = "by-proxy"
        before = len(self.proxy.requests())
        job = self.env.create_job({"no_op": {}}, manifest, report={"store": "files", "bucket": "r"})
        self.wait_chunk(job)
        self.proxy.set(mode="hold")
        self.assertGreater(self.proxy.cut(), 0)
        self.proxy.set(mode="pass")
        self.assert_all_succeeded(self.env.wait_job(job), entries)
        gets = [request for request in self.proxy.requests()[before:] if request["method"] == "GET"]
        self.assertEqual(2, len(gets), gets)

    def test_object_that_is_replaced_while_it_is_read(self):
        # More than the kernel's buffers before and behind the proxy may hold: not all of it is on its way already.
        manifest, _ = self.large_manifest("s3", times=3)
        location = manifest["csv"]["location"]
        location["store"] = "by-proxy"
        job = self.env.create_job({"no_op": {}}, manifest)
        self.wait_chunk(job)
        # What is read is the old object until the connection breaks.
        self.proxy.set(mode="hold")
        self.s3.put_object(Bucket=self.bucket, Key=location["key"], Body=b"bkt,other\n" * 10_000)
        self.assertGreater(self.proxy.cut(), 0)
        self.proxy.set(mode="pass")
        self.assert_refused(self.env.wait_job(job, states=("FAILED",)), "MANIFEST_CHANGED")

    def test_cancelled_while_it_is_read(self):
        manifest, _ = self.large_manifest("files")
        job = self.env.create_job({"no_op": {}}, manifest, report={"store": "files", "bucket": "r"})
        self.wait_chunk(job)
        self.env.cli_json("job", "cancel", job.job_id, "--reason", "wrong list")
        job = self.env.wait_job(job, states=("CANCELLED",), timeout=20)
        self.assertEqual(("USER_REQUEST", "wrong list"), (job.state_reason.code, job.state_reason.message))
        self.assertEqual((0, 5), (job.progress.succeeded_tasks, job.report_status.state))  # NOT_NEEDED


if __name__ == "__main__":
    import unittest

    unittest.main()
