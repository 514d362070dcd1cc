"""The tests' own tools: an oracle or a fault that does not do what it says would make the other tests prove nothing."""

import pathlib
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import drover_env


class PostgresTest(unittest.TestCase):
    def test_committed_rows_survive_an_immediate_shutdown(self):
        with drover_env.Env() as env:
            postgres = env.start_postgres()
            self.assertEqual(postgres.sql("SHOW fsync"), [["on"]])
            postgres.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1), (2)")
            postgres.kill()
            with self.assertRaises(drover_env.Failure):
                postgres.sql("SELECT 1")
            postgres.start()
            self.assertEqual(postgres.sql("SELECT n FROM kept ORDER BY n"), [["1"], ["2"]])


class FaultProxyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env()
        cls.addClassCleanup(cls.env.close)
        cls.env.start_rgw()
        cls.bucket = cls.env.make_bucket()
        cls.proxy = cls.env.start_proxy(cls.env.rgw.endpoint)
        cls.s3 = cls.env.rgw.client(endpoint=cls.proxy.endpoint)

    def setUp(self):
        self.proxy.set(mode="pass", error_share=0, latency_ms=0)

    def test_signed_requests_and_large_bodies_pass_unchanged(self):
        body = bytes(range(256)) * 20000
        self.s3.put_object(Bucket=self.bucket, Key="a b/+%ü", Body=body)
        self.assertEqual(self.s3.get_object(Bucket=self.bucket, Key="a b/+%ü")["Body"].read(), body)
        self.assertEqual(self.s3.head_object(Bucket=self.bucket, Key="a b/+%ü")["ContentLength"], len(body))
        last = self.proxy.requests()[-1]
        self.assertEqual((last["method"], last["status"], last["injected"]), ("HEAD", 200, False))
        self.assertIn("Boto3", last["user_agent"])

    def test_injected_errors_hit_the_share_asked_for_and_never_reach_the_store(self):
        before = len(self.proxy.requests())
        self.proxy.set(error_share=0.33, error_match="?tagging")
        s3 = self.env.rgw.client(endpoint=self.proxy.endpoint, retries=0)
        refused = 0
        for number in range(100):
            s3.put_object(Bucket=self.bucket, Key=f"k{number}", Body=b"x")
            try:
                s3.put_object_tagging(Bucket=self.bucket, Key=f"k{number}", Tagging={"TagSet": []})
            except s3.exceptions.ClientError as error:
                self.assertEqual(error.response["Error"]["Code"], "SlowDown")
                refused += 1
        seen = self.proxy.requests()[before:]
        injected = [request for request in seen if request["injected"]]
        self.assertTrue(20 <= refused <= 46, refused)
        self.assertEqual(len(injected), refused)
        self.assertTrue(all("?tagging" in request["target"] for request in injected))
        self.assertEqual(len(seen), 200)

    def test_refuse_is_a_refused_connection_and_hold_an_answer_that_does_not_come(self):
        self.proxy.set(mode="refuse")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.proxy.port))
        self.proxy.set(mode="hold")
        with socket.create_connection(("127.0.0.1", self.proxy.port), timeout=0.3) as held:
            held.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with self.assertRaises(TimeoutError):
                held.recv(1)
            self.proxy.set(mode="pass")
            held.settimeout(10)
            self.assertEqual(held.recv(9), b"HTTP/1.1 ")
            self.proxy.cut()
            with self.assertRaises(ConnectionResetError):
                while held.recv(4096):
                    pass


class TcpProxyTest(unittest.TestCase):
    def test_cut_breaks_both_sides_and_leaves_both_alive(self):
        with drover_env.Env() as env, socket.create_server(("127.0.0.1", drover_env.free_port())) as server:
            proxy = env.start_proxy("127.0.0.1:%d" % server.getsockname()[1], mode="tcp")
            client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
            accepted, _ = server.accept()
            accepted.settimeout(10)
            client.sendall(b"to")
            self.assertEqual(accepted.recv(2), b"to")
            accepted.sendall(b"fro")
            self.assertEqual(client.recv(3), b"fro")
            self.assertEqual(proxy.cut(), 1)
            for side in (client, accepted):
                with self.assertRaises(ConnectionResetError):
                    side.recv(1)
                side.close()


class CountingServerTest(unittest.TestCase):
    def test_every_request_is_counted_and_answered_as_s3_would(self):
        with drover_env.Env() as env:
            server = env.start_counting_server()
            s3 = drover_env.S3Server(server.endpoint, "a", "b").client()
            for number in range(6):
                s3.put_object_tagging(Bucket="bucket", Key=f"k{number % 2}", Tagging={"TagSet": []})
            s3.head_object(Bucket="bucket", Key="k0")
            self.assertIn("ETag", s3.copy_object(Bucket="bucket", Key="c", CopySource="bucket/k0")["CopyObjectResult"])
            self.assertEqual(server.counts(), {("PUT", "/bucket/k0?tagging"): 3, ("PUT", "/bucket/k1?tagging"): 3,
                                               ("HEAD", "/bucket/k0"): 1, ("PUT", "/bucket/c"): 1})


if __name__ == "__main__":
    unittest.main()
