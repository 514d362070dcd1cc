#!/usr/bin/env python3
"""A proxy that fails on command, before an S3 server (mode http) or a gRPC server (mode tcp). Standard library only.

    fault_proxy.py http|tcp --listen HOST:PORT --target HOST:PORT --control HOST:PORT [--seed N] [--log FILE]

Bytes pass as they are (so that a signed request, whose signature covers the Host header, stays valid), bodies are
streamed. Mode http follows requests one after the other on each connection, and logs each as a line of JSON:
time, method, target, status (null: the connection broke), user_agent, injected (answered by the proxy itself).

The control port speaks HTTP:
    GET  /state       the settings below
    GET  /requests    mode http: all requests so far
    POST /cut         aborts the connections there are (RST); {"cut": how many}
    POST /set         a JSON object of any of
        mode          "pass"; "refuse": nothing listens, connections are aborted; "hold": connections are accepted and
                      nothing moves in either direction, until "pass"
        latency_ms    mode http: added before each request is passed on
        error_share   mode http: this share of requests, 0 to 1, chosen by the seed, is answered 503 SlowDown
        error_match   mode http: only requests whose "METHOD TARGET" contains this text are answered so
        error_status, error_code   instead of 503 and SlowDown
        retry_after   seconds: sends this Retry-After along (null: none)
        cut_times     mode http: so many answers are cut, with their connections, within their body
        cut_match     ... those to requests whose "METHOD TARGET" contains this text
        cut_bytes     ... after so many bytes of the body
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
import time

MAX_HEAD_BYTES = 1 << 16
CHUNK_BYTES = 1 << 16
REASONS = {500: "Internal Server Error", 503: "Service Unavailable", 429: "Too Many Requests"}


class Broken(Exception):
    """One of the two connections ended in the middle of something."""


def abort(writer):
    """Closes with RST: the other end sees a broken connection, not a polite end."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def read_head(reader):
    """The bytes up to and with the empty line; b"" at a clean end."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return b""
        raise Broken from None


def parse_head(head):
    """(first line split in three, {lower-case name: value})."""
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return lines[0].split(" ", 2), headers


class Proxy:
    def __init__(self, args):
        self.http = args.mode == "http"
        self.listen = split_address(args.listen)
        self.target = split_address(args.target)
        self.random = random.Random(args.seed)
        self.settings = {"mode": "pass", "latency_ms": 0, "error_share": 0.0, "error_match": "", "error_status": 503,
                         "error_code": "SlowDown", "retry_after": None, "cut_times": 0, "cut_match": "", "cut_bytes": 0}
        self.flow = asyncio.Event()  # cleared while mode is "hold"
        self.flow.set()
        self.server = None
        self.writers = set()  # both sides of all connections
        self.clients = 0
        self.requests = []
        self.log = open(args.log, "a", buffering=1, encoding="utf-8") if args.log else None

    async def open(self):
        self.server = await asyncio.start_server(self.serve, *self.listen, limit=MAX_HEAD_BYTES, reuse_address=True,
                                                 backlog=1024)

    async def change(self, values):
        unknown = set(values) - set(self.settings)
        if unknown:
            raise ValueError(f"unknown settings: {sorted(unknown)}")
        mode = values.get("mode", self.settings["mode"])
        if mode not in ("pass", "refuse", "hold"):
            raise ValueError(f"unknown mode: {mode}")
        self.settings.update(values)
        if mode == "hold":
            self.flow.clear()
        else:
            self.flow.set()
        if mode == "refuse" and self.server:
            self.server.close()
            self.server = None
            self.cut()
        elif mode != "refuse" and not self.server:
            await self.open()

    def cut(self):
        count = self.clients
        for writer in list(self.writers):
            abort(writer)
        return count

    async def serve(self, client_reader, client_writer):
        self.clients += 1
        self.writers.add(client_writer)
        writer = None
        try:
            await self.flow.wait()
            reader, writer = await asyncio.open_connection(*self.target, limit=MAX_HEAD_BYTES)
            self.writers.add(writer)
            for each in (client_writer, writer):
                each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.http:
                while await self.pass_request(client_reader, client_writer, reader, writer):
                    pass
            else:
                await asyncio.gather(self.pump(client_reader, writer), self.pump(reader, client_writer))
        except (Broken, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            abort(client_writer)
        finally:
            self.clients -= 1
            for each in (client_writer, writer):
                if each is not None:
                    self.writers.discard(each)
                    each.close()

    async def pump(self, reader, writer):
        """One direction of mode tcp, until its end."""
        while True:
            data = await reader.read(CHUNK_BYTES)
            await self.flow.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    # ---- mode http

    async def pass_request(self, client_reader, client_writer, reader, writer):
        """One request and its answer; False when the connection is over."""
        head = await read_head(client_reader)
        if not head:
            return False
        (method, target, _), headers = parse_head(head)
        record = {"time": time.time(), "method": method, "target": target, "status": None,
                  "user_agent": headers.get("user-agent", ""), "injected": False}
        self.requests.append(record)
        try:
            await self.flow.wait()
            if self.settings["latency_ms"]:
                await asyncio.sleep(self.settings["latency_ms"] / 1000)
            if self.fails(f"{method} {target}"):
                await self.answer_error(method, headers, client_reader, client_writer, record)
                return True
            writer.write(head)
            if headers.get("expect", "").lower() == "100-continue":
                early = await self.pass_answer_head(reader, client_writer, record)
                if record["status"] != 100:  # refused without the body, which the client then does not send
                    await self.pass_body(reader, client_writer, *early, answer_to=method)
                    return False
            await self.pass_body(client_reader, writer, record["status"], headers)
            while True:
                status, answer = await self.pass_answer_head(reader, client_writer, record)
                if status >= 200:
                    break
            await self.pass_body(reader, client_writer, status, answer, answer_to=method,
                                 cut=self.cuts(f"{method} {target}"))
            return "close" not in (answer.get("connection", "").lower(), headers.get("connection", "").lower())
        finally:
            if self.log:
                self.log.write(json.dumps(record) + "\n")

    def fails(self, line):
        """Draws for each request that matches, whatever the share: the same seed chooses the same ones."""
        if self.settings["error_match"] not in line:
            return False
        return self.random.random() < self.settings["error_share"]

    def cuts(self, line):
        """After how many bytes the answer's body is cut; None: not at all."""
        if self.settings["cut_times"] < 1 or self.settings["cut_match"] not in line:
            return None
        self.settings["cut_times"] -= 1
        return self.settings["cut_bytes"]

    async def answer_error(self, method, headers, client_reader, client_writer, record):
        if headers.get("expect", "").lower() == "100-continue":
            client_writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self.pass_body(client_reader, None, None, headers)
        status, code = self.settings["error_status"], self.settings["error_code"]
        record.update(status=status, injected=True)
        body = f"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>by the fault proxy" \
               f"</Message></Error>".encode()
        retry = self.settings["retry_after"]
        client_writer.write(f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: application/xml\r\n"
                            f"Content-Length: {len(body)}\r\n".encode() +
                            (f"Retry-After: {retry}\r\n".encode() if retry is not None else b"") + b"\r\n" +
                            (b"" if method == "HEAD" else body))
        await client_writer.drain()

    async def pass_answer_head(self, reader, client_writer, record):
        head = await read_head(reader)
        if not head:
            raise Broken
        first, headers = parse_head(head)
        record["status"] = int(first[1])
        client_writer.write(head)
        return record["status"], headers

    async def pass_body(self, reader, writer, status, headers, answer_to=None, cut=None):
        """Streams a body as its headers frame it; writer None: reads and forgets it. answer_to: it is the answer's
        body, to a request of that method. cut: it breaks after so many bytes."""
        if answer_to is not None and (answer_to == "HEAD" or status in (204, 304)):
            length = 0
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            await self.pass_chunks(reader, writer)
            length = 0
        elif "content-length" in headers:
            length = int(headers["content-length"])
        else:
            length = 0 if answer_to is None else sys.maxsize  # an answer without a length ends with the connection
        while length > 0:
            data = await reader.read(min(length, CHUNK_BYTES))
            if cut is not None:
                cut -= len(data)
                if cut < 0:
                    raise Broken
            if not data:
                if length > CHUNK_BYTES and "content-length" not in headers:
                    break
                raise Broken
            await self.flow.wait()
            length -= len(data)
            if writer:
                writer.write(data)
                await writer.drain()
        if writer:
            await writer.drain()

    async def pass_chunks(self, reader, writer):
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            data = line + (await reader.readexactly(size + 2) if size else b"")
            if writer:
                writer.write(data)
                await writer.drain()
            if not size:
                break
        while True:  # trailers, up to the empty line
            line = await reader.readuntil(b"\r\n")
            if writer:
                writer.write(line)
            if line == b"\r\n":
                return


def split_address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


async def serve_control(handlers, reader, writer):
    """A control connection: one request. handlers: {"METHOD /path": coroutine function(values) → JSON value}."""
    try:
        (method, path, _), headers = parse_head(await read_head(reader))
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        handler = handlers.get(f"{method} {path}")
        try:
            if handler is None:
                raise ValueError(f"no such call: {method} {path}")
            status, value = "200 OK", await handler(json.loads(body or b"{}"))
        except ValueError as error:
            status, value = "400 Bad Request", {"error": str(error)}
        data = json.dumps(value).encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                     f"Connection: close\r\n\r\n".encode() + data)
        await writer.drain()
    except (Broken, OSError, ValueError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("http", "tcp"))
    parser.add_argument("--listen", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()
    proxy = Proxy(args)

    async def state(_):
        return {**proxy.settings, "connections": proxy.clients, "requests": len(proxy.requests)}

    async def requests(_):
        return proxy.requests

    async def cut(_):
        return {"cut": proxy.cut()}

    async def change(values):
        await proxy.change(values)
        return proxy.settings

    handlers = {"GET /state": state, "GET /requests": requests, "POST /cut": cut, "POST /set": change}
    await proxy.open()
    await asyncio.start_server(lambda r, w: serve_control(handlers, r, w), *split_address(args.control))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
