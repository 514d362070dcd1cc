"""Requests and what botocore's S3SigV4Auth makes of them, one JSON object a line.

  sigv4_vectors.py SEED COUNT      the named odd keys and queries, then COUNT random requests

Run by sigv4_test.cc with Debian's Python (python3-boto3). Path and query are encoded by botocore's own functions, too,
so that not only the signature but also what is signed is compared.
"""
import base64
import datetime
import json
import random
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode

from odd_keys import ODD_KEYS

QUERIES = {
    "none": [],
    "tagging": [("tagging", "")],
    "acl": [("acl", "")],
    "uploads": [("uploads", "")],
    "delete": [("delete", "")],
    "part": [("partNumber", "17"), ("uploadId", "2~abc+/=_-")],
    "unsorted": [("uploadId", "x"), ("partNumber", "1"), ("a", "b")],
    "version": [("tagging", ""), ("versionId", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo")],
    "listing": [("list-type", "2"), ("prefix", "a b/ü?&=#%+"), ("delimiter", "/"), ("encoding-type", "url")],
    "prefix_of_name": [("a", "1"), ("a-b", "2"), ("a.b", "3"), ("ab", "4"), ("a b", "5")],
    "repeated": [("a", "2"), ("a", "10"), ("a", ""), ("a", "1")],
    "case": [("b", "1"), ("B", "2"), ("a", "3"), ("A", "4")],
    "odd_names": [("ü", "ü"), ("a=b", "c=d"), ("a&b", "c&d"), ("+", "+"), ("%", "%25"), ("/", "/"), ("~", "~")],
}
HEADERS = {
    "none": [],
    "tagging_and_directive": [("x-amz-tagging", "a=1&b=2"), ("x-amz-tagging-directive", "REPLACE")],
    "copy_and_conditions": [
        ("x-amz-copy-source-if-match", '"etag"'),
        ("x-amz-copy-source", "/b/k%20x"),
        ("x-amz-copy-source-if-none-match", "*"),
    ],
    "metadata_prefixes": [
        ("x-amz-meta-a-b", "2"),
        ("x-amz-meta-a", "1"),
        ("x-amz-meta-ab", "3"),
        ("x-amz-meta-a_b", "4"),
    ],
    "spaces": [("x-amz-meta-s", "  two  spaces   and\ttabs  "), ("x-amz-meta-e", "")],
    "capitals": [("X-Amz-Meta-Upper", "Value"), ("Content-Type", "text/plain"), ("Range", "bytes=0-9")],
    "repeated": [("x-amz-meta-r", "b"), ("X-Amz-Meta-R", "a"), ("x-amz-meta-r", " c ")],
    "not_signed": [("User-Agent", "drover/1"), ("Cache-Control", "no-cache")],
}
ALPHABET = "abzAZ019-._~ +%?&=#/!$'()*,;:@[]{}|\\^`\"<>äßøж写🐕"


class Clock(datetime.datetime):
    """What botocore.auth takes for the time."""

    when = 0

    @classmethod
    def utcnow(cls):
        return REAL_DATETIME.utcfromtimestamp(cls.when)


REAL_DATETIME = datetime.datetime
botocore.auth.datetime.datetime = Clock


def sign(name, method, key, query, headers, body, secure, token, when, region="us-east-1"):
    host = "store.example" if secure else "127.0.0.1:7480"
    path = "/bucket/" + percent_encode(key, safe="/~")
    # "?tagging", as SDKs send it; botocore signs "tagging=".
    text = "&".join(percent_encode(n, safe="~") + ("=" + percent_encode(v, safe="~") if v else "") for n, v in query)
    url = ("https://" if secure else "http://") + host + path + ("?" + text if text else "")
    request = AWSRequest(method=method, url=url, data=body)
    for header, value in headers:
        request.headers[header] = value
    # botocore signs the payload's hash over plain HTTP, and over TLS when it is told to.
    request.context["client_config"] = type("Config", (), {"s3": {"payload_signing_enabled": not secure}})()
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCY", token)
    signer = botocore.auth.S3SigV4Auth(credentials, "s3", region)
    Clock.when = when
    signer.add_auth(request)
    print(json.dumps({
        "name": name, "method": method, "host": host, "region": region, "token": token or "", "time": when,
        "key": base64.b64encode(key.encode()).decode(),
        "query": [[base64.b64encode(part.encode()).decode() for part in pair] for pair in query],
        "headers": [[base64.b64encode(part.encode()).decode() for part in pair] for pair in headers],
        "path": path,
        "canonical_query": signer.canonical_query_string(request),
        "payload_hash": request.headers["X-Amz-Content-SHA256"],
        "body": base64.b64encode(body).decode(),
        "date": request.headers["X-Amz-Date"],
        "authorization": request.headers["Authorization"],
    }))


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    when = 1_700_000_000
    for name, key in ODD_KEYS.items():
        sign("key " + name, "GET", key, [], [], b"", False, None, when)
    for name, query in QUERIES.items():
        sign("query " + name, "PUT", "a key", query, [], b"<x/>", False, None, when)
    for name, headers in HEADERS.items():
        sign("headers " + name, "PUT", "a key", [], headers, b"", False, None, when)
    sign("token", "HEAD", "k", [], [], b"", False, "FwoGZXIvYXdzE+/=", when)
    sign("unsigned payload", "PUT", "k", [], [], b"body", True, None, when)

    rng = random.Random(seed)

    def text(most):
        return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, most)))

    header_names = ["x-amz-meta-" + "".join(rng.choice("abc-_09") for _ in range(rng.randint(1, 6))) for _ in range(40)]
    header_names += ["Content-Type", "content-md5", "Range", "x-amz-tagging", "x-amz-acl", "User-Agent", "If-Match"]
    for i in range(count):
        query = [(text(6), rng.choice(["", text(12)])) for _ in range(rng.randint(0, 5))]
        headers = []
        for _ in range(rng.randint(0, 8)):
            value = "".join(rng.choice("abcXYZ019  \t,;=&\"/") for _ in range(rng.randint(0, 24)))
            headers.append((rng.choice(header_names), value))
        sign(
            f"random {seed}/{i}",
            rng.choice(["GET", "HEAD", "PUT", "POST", "DELETE"]),
            text(40), query, headers,
            bytes(rng.randrange(256) for _ in range(rng.choice([0, 0, 1, 50]))),
            rng.random() < 0.2,
            rng.choice([None, None, "Token+/=" + str(i)]),
            rng.randrange(1_600_000_000, 1_900_000_000),
            rng.choice(["us-east-1", "eu-central-1", "default"]),
        )


if __name__ == "__main__":
    main()
