"""One connection, many requests: when it goes on, when it ends, and pipelining (RFC 9112 §9)."""

from __future__ import annotations

import pytest

from tests.support.server import Server
from tests.support.wire import replies, request

# version, Connection fields, whether the connection goes on
CONNECTIONS: list[tuple[str, list[str], bool]] = [
    ("1.1", [], True),
    ("1.1", ["Connection: keep-alive"], True),
    ("1.1", ["Connection: close"], False),
    ("1.1", ["Connection: CLOSE"], False),
    ("1.1", ["Connection: x-foo, close"], False),
    ("1.1", ["Connection: x-foo", "Connection: close"], False),
    ("1.1", ["Connection: keep-alive ,\tclose ,"], False),
    ("1.1", ["Connection: closed"], True),
    ("1.1", ["Connection: x-close"], True),
    ("1.1", ["Connection: upgrade", "Upgrade: h2c"], True),
    ("1.0", [], False),
    ("1.0", ["Connection: keep-alive"], True),
    ("1.0", ["Connection: Keep-Alive"], True),
    ("1.0", ["Connection: x-foo, keep-alive"], True),
    ("1.0", ["Connection: keep-alive, close"], False),
    ("1.2", [], True),
]


@pytest.mark.parametrize(("version", "fields", "goes_on"), CONNECTIONS, ids=str)
def test_connection(server: Server, version: str, fields: list[str], goes_on: bool) -> None:
    with server.connect() as wire:
        wire.send(request("/", *fields, version=version))
        reply = wire.reply()
        assert reply.status == 200
        assert reply.closes is not goes_on
        if version == "1.0" and goes_on:
            assert (reply.get("Connection") or "").lower() == "keep-alive"
        if goes_on:
            assert wire.get("/next").json()["PATH_INFO"] == "/next"
        else:
            assert wire.ended()


def test_nothing_behind_a_close_is_served(server: Server) -> None:
    with server.connect() as wire:
        got = wire.exchange(request("/last", "Connection: close") + request("/poison") * 20_000)
    (reply,) = replies(got)
    assert reply.json()["PATH_INFO"] == "/last"
    assert "GET /poison" not in server.calls()


def test_an_application_may_close(server: Server) -> None:
    with server.connect() as wire:
        reply = wire.get("/blocks?block=bye&header=Connection:+close")
        assert (reply.body, reply.closes) == (b"bye", True)
        assert wire.ended()


def test_a_client_that_shuts_its_side_is_answered(server: Server) -> None:
    """As `printf ... | nc -N` does."""
    with server.connect() as wire:
        wire.send(request("/a") + request("/b"))
        wire.finish()
        assert [wire.reply().json()["PATH_INFO"] for _ in range(2)] == ["/a", "/b"]
        assert wire.ended()


def test_many_requests_in_turn(server: Server) -> None:
    with server.connect() as wire:
        for number in range(200):
            assert (
                wire.get(f"/{number % 3}?{number}").json()["RAW_URI"] == f"/{number % 3}?{number}"
            )


def test_nothing_of_one_request_stays_for_the_next(server: Server) -> None:
    """A memory of equal heads must not mix them up."""
    with server.connect() as wire:
        heads = [
            request("/a", "X-A: 1"),
            request("/b"),
            request("/a", "X-A: 2"),
            request("/a", "X-A: 1", method="POST", body=b"hello"),
            request("/a", "X-A: 1"),
            request("http://other/a", "X-A: 1"),
            request("/a", "X-A: 1"),
        ]
        seen = []
        for head in heads * 2:
            wire.send(head)
            environ = wire.reply().json()
            seen.append(
                (
                    environ["PATH_INFO"],
                    environ.get("HTTP_X_A"),
                    environ["body"],
                    environ.get("CONTENT_LENGTH"),
                    environ["HTTP_HOST"],
                )
            )
    assert seen == 2 * [
        ("/a", "1", "", None, "test"),
        ("/b", None, "", None, "test"),
        ("/a", "2", "", None, "test"),
        ("/a", "1", "hello", "5", "test"),
        ("/a", "1", "", None, "test"),
        ("/a", "1", "", None, "other"),
        ("/a", "1", "", None, "test"),
    ]


# -- pipelining (RFC 9112 §9.3.2)


def test_pipelined_in_one_packet(server: Server) -> None:
    chunked = request("/3", "Transfer-Encoding: chunked", method="POST") + b"2\r\nab\r\n0\r\n\r\n"
    data = (
        request("/1")
        + request("/2", method="POST", body=b"GET /poison HTTP/1.1\r\n\r\n")
        + chunked
        + request("/4", method="HEAD")
        + request("/blocks?kind=generator&block=x&block=y")
        + request("/6", "Connection: close")
    )
    with server.connect() as wire:
        got = wire.exchange(data)
    one, two, three, _, five, six = replies(got, "GET", "POST", "POST", "HEAD")
    assert (one.json()["PATH_INFO"], two.json()["PATH_INFO"]) == ("/1", "/2")
    assert (three.json()["PATH_INFO"], three.json()["body"]) == ("/3", "ab")
    assert five.blocks == [b"x", b"y"]
    assert (six.json()["PATH_INFO"], six.closes) == ("/6", True)


def test_a_thousand_pipelined(server: Server) -> None:
    """In order, with bodies between them, and without growing a stack."""
    data = b"".join(
        request("/echo", method="POST", body=b"%d" % number) for number in range(1, 1001)
    )
    with server.connect() as wire:
        got = wire.exchange(data + request("/last", "Connection: close"))
    *answers, last = replies(got)
    assert [answer.body for answer in answers] == [b"%d" % number for number in range(1, 1001)]
    assert last.json()["PATH_INFO"] == "/last"


def test_a_fault_behind_good_requests(server: Server) -> None:
    """What came before it is answered; what comes behind it is not."""
    data = request("/1") + request("/2") + b"GET / HTTP/1.1\r\n\r\n" + request("/poison")
    with server.connect() as wire:
        one, two, three = replies(wire.exchange(data))
    assert (one.json()["PATH_INFO"], two.json()["PATH_INFO"]) == ("/1", "/2")
    assert (three.status, three.closes) == (400, True)
    assert "GET /poison" not in server.calls()
