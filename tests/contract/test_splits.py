"""However a stream of requests is cut into packets, the answers are the same, byte for byte."""

from __future__ import annotations

import random
import re
import select
from functools import cache

import pytest

from tests.conftest import Fleet
from tests.support.server import Server
from tests.support.wire import TIMEOUT, replies, request

MODELS = ("epoll", "threadpool", "thread")
CHUNKED = "Transfer-Encoding: chunked"

REQUESTS = [
    request("/blocks?block=1"),
    request("/blocks?block=1"),
    request("/echo", method="POST", body=b"hello"),
    request("/echo", CHUNKED, method="POST") + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
    request("/echo", CHUNKED, method="POST") + b"3\r\n\r\n0\r\n0\r\nX-Trailer: 1\r\n\r\n",
    b"\r\n" + request("/blocks?kind=generator&block=a&block=b"),
    request("/blocks?block=x", method="HEAD"),
    request("/blocks?status=204+No+Content"),
    request("/blocks?status=304+Not+Modified&block=x"),
    request("/ignore", method="POST", body=request("/poison")),
    request("/blocks?block=cookie", "Cookie: a=1", "Cookie: b=2"),
    request("/blocks?write=a&write=b&block=c"),
    request("/hints"),
    request("/echo", "Expect: 100-continue", method="POST"),
    request("http://other/blocks?block=absolute"),
    request("/blocks?block=kept", "Connection: keep-alive", version="1.0"),
    request("/blocks?block=utf&header=X:+%e4", "X-A: \xe4\xff"),
    request("/echo", method="PUT", body=bytes(range(256)) * 40),
    request("/count?to=20"),
    request("/replace"),
]

# What may stand behind them; nothing behind the first of it is answered.
ENDINGS: dict[str, bytes] = {
    "close": request("/blocks?block=end", "Connection: close"),
    "1.0": request("/blocks?kind=generator&block=end&block=ed", version="1.0"),
    "no host": b"GET / HTTP/1.1\r\n\r\n" + request("/poison"),
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n" + request("/poison"),
    "fold": b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n" + request("/poison"),
    "both lengths": request("/echo", CHUNKED, "Content-Length: 3", method="POST") + b"0\r\n\r\n",
    "version": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n" + request("/poison"),
    "bare LF": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" + request("/poison"),
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n" + request("/poison"),
    "chunk size": request("/echo", CHUNKED, method="POST") + b"0x1\r\n1\r\n0\r\n\r\n",
    "chunk end": request("/echo", CHUNKED, method="POST") + b"1\r\n12\r\n0\r\n\r\n",
    "trailer": request("/echo", CHUNKED, method="POST") + b"0\r\nX : y\r\n\r\n",
    "too large": request("/echo", "Content-Length: 99999999", method="POST") + b"x" * 100,
    "long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    "many fields": request("/", *["X: y"] * 120),
    "expectation": request("/", "Expect: x"),
    "CONNECT": request("a:443", method="CONNECT") + request("/poison"),
}
SPLITS = 6  # of each stream, for each model


@cache
def stream(ending: str) -> tuple[bytes, list[str]]:
    """Thirty requests in a random order, and an ending, which is answered once; their methods."""
    chosen = random.Random(ending).choices(REQUESTS, k=30)
    methods = [each.lstrip().partition(b" ")[0].decode() for each in chosen]
    return b"".join(chosen) + ENDINGS[ending], methods


def pieces(data: bytes, chance: random.Random) -> list[bytes]:
    """Cut it at random places: a few large pieces, or many small ones, or byte by byte in part."""
    cuts = sorted(chance.sample(range(1, len(data)), chance.choice([1, 3, 10, 40, 120])))
    if chance.random() < 0.5:
        start = chance.randrange(len(data) - 60)
        cuts = sorted({*cuts, *range(start + 1, start + 60)})
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def answer(server: Server, parts: list[bytes]) -> bytes:
    """Send the parts, one packet each, with a moment for the server to take it; what it answers."""
    got = b""
    with server.connect() as wire:
        for part in parts:
            try:
                wire.send(part)
            except OSError:
                break  # it ended already, which the last request asked for
            if select.select([wire.sock], [], [], 0.0005)[0]:
                block = wire.sock.recv(1 << 20)
                if not block:
                    break
                got += block
        wire.sock.settimeout(TIMEOUT)
        while block := wire.sock.recv(1 << 20):
            got += block
    return re.sub(rb"\r\nDate: [^\r]*", b"", got)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", MODELS)
def test_splits(fleet: Fleet, name: str, ending: str) -> None:
    server = fleet(name)
    data, methods = stream(ending)
    whole = answer(server, [data])
    assert len([found for found in replies(whole, *methods) if found.status >= 200]) == 31
    chance = random.Random(f"{name} {ending}")
    for number in range(SPLITS):
        parts = pieces(data, chance)
        assert answer(server, parts) == whole, f"split {number}: {parts}"
    server.check()
    assert "GET /poison" not in server.calls()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", MODELS)
def test_one_cut_in_the_ending(fleet: Fleet, name: str, ending: str) -> None:
    """At each place in turn. The answer to a request before it tells that its first part was read;
    behind a fault that can be seen already, the rest need not be sent.
    """
    server = fleet(name)
    data = ENDINGS[ending]
    offsets = [n for n in range(1, len(data)) if n < 120 or n > len(data) - 20]
    whole, varied = cut(server, data, len(data)), []
    for offset in offsets[:: 1 if name == "epoll" else 7]:
        if (found := cut(server, data, offset)) != whole:
            varied.append((data[:offset][-30:], found[-100:]))
    assert not varied, f"expected {whole[-100:]!r}"
    server.check()


def cut(server: Server, data: bytes, offset: int) -> bytes:
    """What the server answers to data that comes in two parts."""
    first = request("/blocks?block=first")
    with server.connect() as wire:
        wire.send(first + data[:offset])
        got = wire.reply().body
        got += wire.rest(data[offset:])
    return re.sub(rb"\r\nDate: [^\r]*", b"", got)


@pytest.mark.parametrize("name", MODELS)
def test_byte_by_byte(fleet: Fleet, name: str) -> None:
    server = fleet(name)
    short = b"".join(REQUESTS[:8]) + ENDINGS["close"]
    assert answer(server, [bytes([byte]) for byte in short]) == answer(server, [short])
    server.check()
