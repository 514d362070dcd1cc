"""Stores against a real S3 server and a real file system, checked with boto3: what Drover wrote is read by a client
that we did not write, and the other way round. The C++ side is object_tool, which does what a line of JSON says."""

import base64
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import drover_env

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit/common/objectstore"))
from odd_keys import ODD_KEYS  # noqa: E402  (shared with the signature test)


def encode(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


class Tool:
    """object_tool for one store."""

    def __init__(self, stores, store):
        self._process = subprocess.Popen([drover_env.BIN / "object_tool", stores, store], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)

    def __call__(self, do, bucket, key, **more):
        command = {"do": do, "bucket": bucket, "key": encode(key), **more}
        if isinstance(more.get("data"), (bytes, str)):
            command["data"] = encode(more["data"])
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "data" in answer:
            answer["data"] = base64.b64decode(answer["data"])
        return answer

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


class StoreTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="drover-objectstore.")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)

    def tool(self, **store):
        path = self.directory / "stores.yaml"
        path.write_text(json.dumps({"stores": [{"name": "store", **store}]}))  # JSON is YAML
        tool = Tool(path, "store")
        self.addCleanup(tool.close)
        return tool

    def assert_ok(self, answer):
        self.assertTrue(answer["ok"], answer)
        return answer

    def assert_reason(self, reason, answer):
        self.assertEqual(reason, answer.get("reason"), answer)


class S3StoreTest(StoreTest):
    @classmethod
    def setUpClass(cls):
        cls.rgw = drover_env.shared_rgw()
        cls.s3 = cls.rgw.client()

    def setUp(self):
        super().setUp()
        self.bucket = f"objectstore-{random.SystemRandom().randrange(1 << 40):x}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.tool = self.s3_tool(self.rgw.access_key, self.rgw.secret_key)

    def s3_tool(self, access_key, secret_key):
        credentials = self.directory / "credentials"
        credentials.write_text(f"access_key_id: {access_key}\nsecret_access_key: {secret_key}\n")
        return super().tool(kind="s3", endpoint=self.rgw.endpoint, credentials={"file": "credentials"})

    def list_keys(self, prefix=""):
        keys = []
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            keys += [entry["Key"] for entry in page.get("Contents", [])]
        return keys

    def read(self, key, **more):
        return self.s3.get_object(Bucket=self.bucket, Key=key, **more)["Body"].read()

    def test_odd_keys_written_by_us_are_read_by_boto3(self):
        for name, key in ODD_KEYS.items():
            with self.subTest(name):
                info = self.assert_ok(self.tool("put", self.bucket, key, data=f"content of {name}"))
                content = self.read(key)
                self.assertEqual(f"content of {name}", content.decode())
                self.assertEqual(hashlib.md5(content).hexdigest(), info["etag"])
        self.assertEqual(sorted(ODD_KEYS.values()), sorted(self.list_keys()))

    def test_odd_keys_written_by_boto3_are_read_described_and_deleted_by_us(self):
        for name, key in ODD_KEYS.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=f"content of {name}".encode())
        for name, key in ODD_KEYS.items():
            with self.subTest(name):
                answer = self.assert_ok(self.tool("read", self.bucket, key))
                self.assertEqual(f"content of {name}", answer["data"].decode())
                head = self.assert_ok(self.tool("head", self.bucket, key))
                self.assertEqual((answer["etag"], answer["size"]), (head["etag"], head["size"]))
                self.assert_ok(self.tool("delete", self.bucket, key))
                self.assert_reason("OBJECT_NOT_FOUND", self.tool("head", self.bucket, key))
        self.assertEqual([], self.list_keys())

    def test_odd_keys_are_tagged_by_us(self):
        tags = [("a key", "+ % ? & = # / ü"), ("class<&>", "it's \"quoted\""), ("empty", "")]
        for name, key in ODD_KEYS.items():
            with self.subTest(name):
                self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"x")
                self.assert_ok(self.tool("request", self.bucket, key, method="PUT", query={"tagging": ""},
                                         tags=[[encode(k), encode(v)] for k, v in tags]))
                found = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
                self.assertEqual(sorted(tags), sorted((tag["Key"], tag["Value"]) for tag in found))

    def test_odd_keys_are_copied_by_us(self):
        for name, key in ODD_KEYS.items():
            if len(key.encode()) > 1000:
                continue  # no room for the prefix
            with self.subTest(name):
                self.s3.put_object(Bucket=self.bucket, Key=key, Body=name.encode(), Metadata={"name": name})
                self.assert_ok(self.tool("request", self.bucket, "copies/" + key, method="PUT",
                                         copy_source={"bucket": self.bucket, "key": encode(key)}))
                copy = self.s3.get_object(Bucket=self.bucket, Key="copies/" + key)
                self.assertEqual(name.encode(), copy["Body"].read())
                self.assertEqual({"name": name}, copy["Metadata"])

    def test_header_values_and_queries_are_signed_as_sent(self):
        headers = {"x-amz-meta-a": "1", "x-amz-meta-a-b": "two words", "x-amz-meta-ab": "=&+%/",
                   "x-amz-tagging": "k=v%20w", "Content-Type": "text/plain; charset=utf-8"}
        self.assert_ok(self.tool("request", self.bucket, "k", method="PUT", body=encode("x"),
                                 headers={name: encode(value) for name, value in headers.items()}))
        found = self.s3.head_object(Bucket=self.bucket, Key="k")
        self.assertEqual({"a": "1", "a-b": "two words", "ab": "=&+%/"}, found["Metadata"])
        self.assertEqual("text/plain; charset=utf-8", found["ContentType"])
        self.assertEqual([{"Key": "k", "Value": "v w"}],
                         self.s3.get_object_tagging(Bucket=self.bucket, Key="k")["TagSet"])
        listing = self.assert_ok(self.tool("request", self.bucket, "", method="GET", query={
            "list-type": "2", "prefix": "k", "delimiter": "/", "encoding-type": "url", "start-after": "a+b c&d=ü"}))
        self.assertIn(b"<Key>k</Key>", base64.b64decode(listing["body"]))

    def test_large_objects_are_written_in_parts_and_read_back(self):
        data = random.Random(1).randbytes(20_000_000)
        written = self.assert_ok(self.tool("write", self.bucket, "large", data=data))
        self.assertEqual(hashlib.sha256(data).digest(), hashlib.sha256(self.read("large")).digest())
        head = self.s3.head_object(Bucket=self.bucket, Key="large")
        self.assertEqual(head["ETag"].strip('"'), written["etag"])
        self.assertTrue(written["etag"].endswith("-3"), written["etag"])
        self.assertEqual("text/csv", head["ContentType"])
        answer = self.assert_ok(self.tool("read", self.bucket, "large", etag=head["ETag"]))
        self.assertTrue(data == answer["data"])
        tail = self.assert_ok(self.tool("read", self.bucket, "large", offset=19_999_990))
        self.assertEqual((data[-10:], 20_000_000), (tail["data"], tail["size"]))
        self.assertEqual(b"", self.assert_ok(self.tool("read", self.bucket, "large", offset=20_000_000))["data"])
        self.assertFalse(self.tool("read", self.bucket, "large", offset=20_000_001)["ok"])
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=self.bucket))

    def test_empty_objects_are_written_and_read(self):
        self.assert_ok(self.tool("write", self.bucket, "empty", data=b""))
        self.assertEqual(b"", self.read("empty"))
        self.assertEqual(b"", self.assert_ok(self.tool("read", self.bucket, "empty"))["data"])
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=self.bucket))

    def test_an_abandoned_upload_is_aborted_by_its_id(self):
        upload = self.assert_ok(self.tool("abandon", self.bucket, "a key", data=b"x" * 9_000_000))["upload_id"]
        found = self.s3.list_multipart_uploads(Bucket=self.bucket)["Uploads"]
        self.assertEqual([upload], [entry["UploadId"] for entry in found])
        self.assert_reason("OBJECT_NOT_FOUND", self.tool("head", self.bucket, "a key"))
        for _ in range(2):  # the second time it is not there any more, which is as good
            self.assert_ok(self.tool("abort", self.bucket, "a key", upload_id=upload))
            self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=self.bucket))

    def test_a_changed_object_is_not_read_on(self):
        self.s3.put_object(Bucket=self.bucket, Key="k", Body=b"one")
        etag = self.assert_ok(self.tool("head", self.bucket, "k"))["etag"]
        self.s3.put_object(Bucket=self.bucket, Key="k", Body=b"two")
        self.assert_reason("OBJECT_CHANGED", self.tool("read", self.bucket, "k", etag=etag))

    def test_versions_are_read_by_their_ids(self):
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        first = self.s3.put_object(Bucket=self.bucket, Key="a key", Body=b"one")["VersionId"]
        second = self.assert_ok(self.tool("put", self.bucket, "a key", data=b"two"))["version"]
        self.assertNotEqual(first, second)
        self.assertEqual(b"one", self.assert_ok(self.tool("read", self.bucket, "a key", version=first))["data"])
        latest = self.assert_ok(self.tool("read", self.bucket, "a key"))
        self.assertEqual((b"two", second), (latest["data"], latest["version"]))
        self.assert_ok(self.tool("request", self.bucket, "copy", method="PUT",
                                 copy_source={"bucket": self.bucket, "key": encode("a key"), "version": first}))
        self.assertEqual(b"one", self.read("copy"))

    def test_errors_of_the_store_have_reasons(self):
        self.assert_reason("OBJECT_NOT_FOUND", self.tool("read", self.bucket, "none"))
        self.assert_reason("OBJECT_NOT_FOUND", self.tool("put", "no-such-bucket-here", "k", data=b"x"))
        missing = self.tool("request", self.bucket, "none", method="GET")
        self.assertEqual((404, "NoSuchKey"), (missing["status"], missing["error_code"]))
        self.assertTrue(missing["request_id"])
        copy = self.tool("request", self.bucket, "k", method="PUT",
                         copy_source={"bucket": self.bucket, "key": encode("none")})
        self.assertEqual((404, "NoSuchKey"), (copy["status"], copy["error_code"]))
        stranger = self.s3_tool(self.rgw.access_key, "not the secret")
        self.assert_reason("OBJECT_DENIED", stranger("head", self.bucket, "k"))
        self.assert_reason("OBJECT_DENIED", stranger("put", self.bucket, "k", data=b"x"))


class FileStoreTest(StoreTest):
    def test_odd_keys_are_held_or_refused_but_never_mixed_up(self):
        root = self.directory / "root"
        (root / "bucket").mkdir(parents=True)
        tool = self.tool(kind="file", root=str(root))
        held = {}
        for name, key in ODD_KEYS.items():
            answer = tool("put", "bucket", key, data=f"content of {name}")
            if answer["ok"]:
                held[key] = f"content of {name}".encode()
            else:
                self.assert_reason("OBJECT_NAME_INVALID", answer)
                parts = key.split("/")
                self.assertTrue(any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts), name)
        self.assertGreater(len(held), 30)
        for key, content in held.items():
            self.assertEqual(content, (root / "bucket" / key).read_bytes())
            self.assertEqual(content, self.assert_ok(tool("read", "bucket", key))["data"])
        files = {str(path.relative_to(root / "bucket")) for path in root.rglob("*") if path.is_file()}
        self.assertEqual(set(held), files)


if __name__ == "__main__":
    unittest.main()
