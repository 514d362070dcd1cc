"""The HTTP client against nginx: a server that we did not write, with its own ideas of when a connection ends. The load
comes from http_client_bench, whose exit code is 0 only if every single request was answered."""

import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import drover_env

CONFIG = """
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  keepalive_requests {keepalive_requests};
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
  scgi_temp_path {dir};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }}
}}
"""


class HttpClientTest(unittest.TestCase):
    def start_nginx(self, keepalive_requests):
        temporary = tempfile.TemporaryDirectory(prefix="drover-nginx.")
        self.addCleanup(temporary.cleanup)
        directory = pathlib.Path(temporary.name)
        directory.chmod(0o755)
        self.port = drover_env.free_port()
        config = directory / "nginx.conf"
        config.write_text(CONFIG.format(dir=directory, port=self.port, keepalive_requests=keepalive_requests))
        nginx = subprocess.Popen(["/usr/sbin/nginx", "-e", directory / "error.log", "-c", config])
        self.addCleanup(nginx.wait, 20)
        self.addCleanup(nginx.terminate)
        drover_env.wait_until("nginx answers", self.answers)
        return nginx

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def load(self, method, seconds, *more):
        return subprocess.Popen([drover_env.BIN / "http_client_bench", "--url", f"http://127.0.0.1:{self.port}",
                                 "--method", method, "--connections", "32", "--seconds", str(seconds), *more],
                                stdout=subprocess.PIPE, text=True)

    def assert_all_answered(self, load):
        output, _ = load.communicate(timeout=60)
        result = json.loads(output)
        self.assertGreater(result["requests"], 100)
        self.assertEqual(0, result["failed"], result)
        self.assertEqual(0, load.returncode)

    def test_no_request_is_lost_when_nginx_closes_connections_after_a_few_requests(self):
        self.start_nginx(keepalive_requests=7)
        for method, more in (("HEAD", []), ("GET", []), ("PUT", ["--body", "200"])):
            with self.subTest(method):
                self.assert_all_answered(self.load(method, 1, *more))

    def test_no_request_is_lost_when_nginx_reloads_and_closes_kept_connections_unasked(self):
        nginx = self.start_nginx(keepalive_requests=100000)
        load = self.load("HEAD", 3)
        for _ in range(5):
            time.sleep(0.4)
            nginx.send_signal(signal.SIGHUP)  # new workers; the old ones close connections between two requests
        self.assert_all_answered(load)


if __name__ == "__main__":
    unittest.main()
