"""Real frameworks under every worker model, served by the command, as a user would."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, Final

import pytest

from tests.serving import Command
from tests.support.wire import Reply, Wire, request

FRAMEWORKS: Final = {
    "Flask": "flask_app:app",
    "Django": "django_app:application",
    "Bottle": "bottle_app:app",
    "Falcon": "falcon_app:app",
    "Pyramid": "pyramid_app:app",
}
# More than what the server keeps in memory, and than any buffer of the kernel; seeded, so that a
# failure can be looked at again.
CONTENT: Final = random.Random(7).randbytes(3 << 20)
BOUNDARY: Final = "b0undary"
STREAM_LINES: Final = 8


def multipart() -> bytes:
    """The file in a form, as a browser sends it."""
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="note"\r\n\r\nbeside it\r\n'
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="random.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + CONTENT + f"\r\n--{BOUNDARY}--\r\n".encode()


FORM_WITH_FILE: Final = multipart()


def local(*arguments: str, **more: Any) -> bytes:
    """A request with a Host that Django takes."""
    return request(*arguments, **more).replace(b"Host: test", b"Host: localhost", 1)


def in_pieces(data: bytes, size: int = 50_000) -> Iterator[bytes]:
    """The data in blocks that fit no buffer's size."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_works(framework: str, model: str) -> None:
    # One test for all routes: starting the server is what takes the time.
    with Command("--chdir", "examples", "-k", model, FRAMEWORKS[framework]) as server:
        client = server.client()
        try:
            check_page(client, framework)
            check_form(client)
            check_upload(client, chunked=False)
            check_upload(client, chunked=True)
            check_missing(client)
        finally:
            client.close()
        # After the other client has gone: `single` serves one connection at a time.
        with server.connect() as wire:
            check_stream(wire)
            check_pipelined(wire, framework)


def check_page(client: HTTPConnection, framework: str) -> None:
    client.request("GET", "/")
    answer = client.getresponse()
    text = answer.read().decode()
    assert answer.status == 200
    assert answer.getheader("Content-Type", "").lower() == "text/html; charset=utf-8"
    assert f"<h1>{framework} is being served</h1>" in text


def check_form(client: HTTPConnection) -> None:
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    client.request("POST", "/form", "name=J%C3%BCrgen+%3Cb%3E&other=%26", fields)
    answer = client.getresponse()
    assert (answer.status, answer.read().decode()) == (200, "Hello, Jürgen <b>.\n")


def check_upload(client: HTTPConnection, *, chunked: bool) -> None:
    fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    if chunked:
        client.request("POST", "/upload", in_pieces(FORM_WITH_FILE), fields, encode_chunked=True)
    else:
        client.request("POST", "/upload", FORM_WITH_FILE, fields)
    answer = client.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    expected = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert json.loads(text) == expected


def check_missing(client: HTTPConnection) -> None:
    client.request("GET", "/nowhere/%C3%BC?x=1")
    answer = client.getresponse()
    answer.read()
    assert answer.status == 404


def check_stream(wire: Wire) -> None:
    """Each line comes in a chunk of its own, and when it is made: the example pauses between."""
    wire.send(local("/stream"))
    wire.sock.recv(1, socket.MSG_PEEK)  # returns when the first byte is there
    first = time.monotonic()
    answer = wire.reply()
    assert answer.status == 200
    assert answer.framing == "chunked"
    assert len(answer.blocks) == STREAM_LINES
    assert answer.body.startswith(b"One block is one line.\n")
    assert answer.body.endswith(b"closes it.\n")
    assert time.monotonic() - first > 0.1, "the answer was held back until it was whole"


def check_pipelined(wire: Wire, framework: str) -> None:
    """The framework sees the requests one after the other, whole."""
    form = local(
        "/form",
        "Content-Type: application/x-www-form-urlencoded",
        method="POST",
        body=b"name=Ada",
    )
    wire.send(form + local("/") + form)
    answers: list[Reply] = [wire.reply() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[0].body == answers[2].body == b"Hello, Ada.\n"
    assert f"{framework} is being served".encode() in answers[1].body
