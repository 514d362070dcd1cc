#!/usr/bin/env python3
"""An S3 server that does nothing but answer and count: for tests that must know how often each request was made,
without trusting Drover's own counters. Standard library only; about 20,000 requests per second.

    counting_server.py --listen HOST:PORT --control HOST:PORT [--latency-ms N]

Every request is answered 200 (a DELETE 204), after the latency, in the order of each connection: HEAD with an ETag and
no length, PUT with an ETag, a copy (x-amz-copy-source) with a CopyObjectResult, GET with an empty body, GET ?tagging
with an empty tag set. Signatures are not looked at. A request counts when its body is complete.

The control port speaks HTTP:
    GET  /state, /counts    settings; {"METHOD TARGET": n}
    GET  /requests          [[unix time, method, target, user agent, access key], ...]: a worker that is given an
                            access key of its own is told by it
    POST /set      a JSON object of any of latency_ms, status (instead of 200), fail_match (only requests whose
                   "METHOD TARGET" contains this text get that status; default all)
    POST /reset    forgets all counts
"""

import argparse
import asyncio
import collections
import json
import time

from fault_proxy import parse_head, serve_control, split_address

ETAG = b'"d41d8cd98f00b204e9800998ecf8427e"'
COPY_RESULT = (b'<?xml version="1.0" encoding="UTF-8"?><CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
               b"<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>" + ETAG + b"</ETag></CopyObjectResult>")
TAGGING = (b'<?xml version="1.0" encoding="UTF-8"?><Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet/>'
           b"</Tagging>")


class State:
    def __init__(self, latency_ms):
        self.settings = {"latency_ms": latency_ms, "status": 200, "fail_match": ""}
        self.forget()

    def forget(self):
        self.counts = collections.Counter()
        self.requests = []


def access_key(authorization):
    """Of a signature version 4: "AWS4-HMAC-SHA256 Credential=KEY/20240101/…"."""
    return authorization.partition("Credential=")[2].partition("/")[0]


class Connection(asyncio.Protocol):
    """One client. Requests are taken in order, so a latency delays those behind it on the same connection."""

    def __init__(self, state):
        self.state = state
        self.buffer = b""
        self.waiting = False  # an answer is due; what comes in stays in the buffer

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        self.take()

    def take(self):
        while not self.waiting:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            (method, target, _), headers = parse_head(self.buffer[:end])
            total = end + 4 + int(headers.get("content-length", 0))
            if len(self.buffer) < total:
                if headers.pop("expect", "") and len(self.buffer) == end + 4:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self.buffer = self.buffer[total:]
            self.state.counts[f"{method} {target}"] += 1
            self.state.requests.append((time.time(), method, target, headers.get("user-agent", ""),
                                        access_key(headers.get("authorization", ""))))
            answer = self.answer(method, target, headers)
            latency = self.state.settings["latency_ms"]
            if latency:
                self.waiting = True
                asyncio.get_running_loop().call_later(latency / 1000, self.send_later, answer)
            else:
                self.transport.write(answer)

    def send_later(self, answer):
        self.waiting = False
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.take()

    def answer(self, method, target, headers):
        status = self.state.settings["status"]
        if status != 200 and self.state.settings["fail_match"] in f"{method} {target}":
            body = b"" if method == "HEAD" else b"<Error><Code>Counted</Code><Message>as set</Message></Error>"
            return b"HTTP/1.1 %d Set\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (
                status, len(body), body)
        if method == "DELETE":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if method == "PUT" and "x-amz-copy-source" in headers:
            body = COPY_RESULT
        elif method == "GET" and target.endswith("?tagging"):
            body = TAGGING
        else:
            body = b""
        return b"HTTP/1.1 200 OK\r\nETag: %s\r\nContent-Length: %d\r\n\r\n%s" % (ETAG, len(body), body)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--latency-ms", type=float, default=0)
    args = parser.parse_args()
    state = State(args.latency_ms)

    async def settings(_):
        return {**state.settings, "requests": len(state.requests)}

    async def counts(_):
        return state.counts

    async def requests(_):
        return state.requests

    async def reset(_):
        state.forget()
        return {}

    async def change(values):
        unknown = set(values) - set(state.settings)
        if unknown:
            raise ValueError(f"unknown settings: {sorted(unknown)}")
        state.settings.update(values)
        return state.settings

    handlers = {"GET /state": settings, "GET /counts": counts, "GET /requests": requests, "POST /reset": reset,
                "POST /set": change}
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(state), *split_address(args.listen), backlog=1024)
    await asyncio.start_server(lambda r, w: serve_control(handlers, r, w), *split_address(args.control))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
