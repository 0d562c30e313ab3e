"""How an answer is framed, whatever the application returns (RFC 9110 §8.6, RFC 9112 §6-7)."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import quote

import pytest

from tests.support.server import Server
from tests.support.stage import Stage
from tests.support.wire import Truncated, replies, request

PURPOSE = r"RuntimeError: the application fails on purpose"

# query, framing in HTTP/1.1, framing in HTTP/1.0, body
FRAMINGS: list[tuple[str, str, str, bytes]] = [
    ("block=hello", "length", "length", b"hello"),
    ("kind=tuple&block=hello", "length", "length", b"hello"),
    ("block=hel&block=lo", "length", "length", b"hello"),
    ("", "length", "length", b""),
    ("block=", "length", "length", b""),
    ("block=&block=a&block=", "length", "length", b"a"),
    ("kind=counted&block=hello", "length", "length", b"hello"),
    ("kind=generator", "length", "length", b""),
    ("kind=generator&block=&block=", "length", "length", b""),
    ("kind=generator&block=hel&block=lo", "chunked", "close", b"hello"),
    ("kind=generator&block=&block=hel&block=&block=lo", "chunked", "close", b"hello"),
    ("kind=lazy&block=hel&block=lo", "chunked", "close", b"hello"),
    ("kind=generator&block=hel&block=lo&length=5", "length", "length", b"hello"),
    ("kind=lazy&block=hello&length=5", "length", "length", b"hello"),
    ("write=hel&block=lo", "chunked", "close", b"hello"),
    ("write=hel&write=lo&length=5", "length", "length", b"hello"),
    ("write=hel&kind=generator&block=lo&length=5", "length", "length", b"hello"),
    ("length=0", "length", "length", b""),
    ("kind=generator&length=0", "length", "length", b""),
    ("block=" + "a" * 7000, "length", "length", b"a" * 7000),
    ("status=404+Not+Found&block=no", "length", "length", b"no"),
    ("status=500+Oops&block=no", "length", "length", b"no"),
    ("kind=generator&block=%ff%00%0d%0a&block=0%0d%0a%0d%0a", "chunked", "close",
     b"\xff\0\r\n0\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "framing", "body"), [(f[0], f[1], f[3]) for f in FRAMINGS], ids=lambda v: str(v)[:50]
)
def test_framing_in_1_1(server: Server, query: str, framing: str, body: bytes) -> None:
    with server.connect() as wire:
        reply = wire.get(f"/blocks?{query}")
        assert (reply.framing, reply.body, reply.closes) == (framing, body, False)
        assert b"" not in reply.blocks
        assert wire.get("/next").json()["PATH_INFO"] == "/next"


@pytest.mark.parametrize(
    ("query", "framing", "body"), [f[0:1] + f[2:] for f in FRAMINGS], ids=lambda v: str(v)[:50]
)
def test_framing_in_1_0(server: Server, query: str, framing: str, body: bytes) -> None:
    """Chunks are unknown there; a body without a length ends with the connection."""
    with server.connect() as wire:
        wire.send(request(f"/blocks?{query}", "Connection: keep-alive", version="1.0"))
        reply = wire.reply()
        assert (reply.framing, reply.body) == (framing, body)
        assert reply.get("Transfer-Encoding") is None
        if framing == "close":
            assert wire.ended()
        else:
            assert wire.get("/next").json()["PATH_INFO"] == "/next"


@pytest.mark.parametrize("query", [f[0] for f in FRAMINGS], ids=lambda v: str(v)[:50])
def test_HEAD_is_GET_without_the_body(server: Server, query: str) -> None:
    """RFC 9110 §9.3.2; a framing that only the body would tell may be left out."""
    with server.connect() as wire:
        got = wire.get(f"/blocks?{query}")
        head = wire.get(f"/blocks?{query}", method="HEAD")
        assert wire.get("/next").json()["PATH_INFO"] == "/next"

    def told(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [pair for pair in fields if pair[0] not in ("Date", "Transfer-Encoding")]

    assert (head.status, head.reason) == (got.status, got.reason)
    if head.get("Content-Length") is None:
        assert [p for p in told(got.fields) if p[0] != "Content-Length"] == told(head.fields)
    else:
        assert told(got.fields) == told(head.fields)


@pytest.mark.parametrize("kind", ["list", "generator", "lazy", "counted"])
@pytest.mark.parametrize(
    "status", ["204 No Content", "304 Not Modified", "205 Reset Content"], ids=lambda s: s[:3]
)
def test_statuses_without_content(server: Server, status: str, kind: str) -> None:
    """RFC 9110 §15: what the application yields all the same is not sent."""
    target = f"/blocks?status={quote(status)}&kind={kind}&block=never&block=sent"
    with server.connect() as wire:
        for version in ("1.1", "1.0"):
            wire.send(request(target, "Connection: keep-alive", version=version))
            reply = wire.reply()
            assert (f"{reply.status} {reply.reason}", reply.body) == (status, b"")
            if reply.status == 205:
                assert reply.framing == "length"
        assert wire.get("/next").json()["PATH_INFO"] == "/next"


def test_204_drops_a_content_length(server: Server) -> None:
    """RFC 9110 §8.6: a server must not send one; the strict client sees to it."""
    with server.connect() as wire:
        assert wire.get("/blocks?status=204+No&length=5").status == 204
        assert wire.get("/next").status == 200


def test_304_may_tell_the_length(server: Server) -> None:
    with server.connect() as wire:
        assert wire.get("/blocks?status=304+Not+Modified&length=5").get("Content-Length") == "5"
        assert wire.get("/next").status == 200


def test_date_and_server(server: Server) -> None:
    with server.connect() as wire:
        reply = wire.get("/")
        assert reply.get("Server") == "wsgiserver"
        date = reply.get("Date") or ""
        assert date.endswith(" GMT")
        assert abs(parsedate_to_datetime(date).timestamp() - time()) < 3
        own = wire.get("/blocks?header=Date:+Thu,+01+Jan+1970+00:00:00+GMT&header=Server:+mine")
        assert (own.get("Date"), own.get("Server")) == ("Thu, 01 Jan 1970 00:00:00 GMT", "mine")


def test_headers_as_the_application_gave_them(server: Server) -> None:
    headers = ["Set-Cookie: a=1", "Set-Cookie: b=2", "x-lower: \xe4\xff", "X-Empty: "]
    query = "&".join("header=" + quote(header, encoding="latin-1") for header in headers)
    with server.connect() as wire:
        reply = wire.get(f"/blocks?block=x&{query}")
    assert reply.all("Set-Cookie") == ["a=1", "b=2"]
    assert ("x-lower", "\xe4\xff") in reply.fields
    assert reply.get("X-Empty") == ""


def test_hop_by_hop_fields_are_the_servers(server: Server) -> None:
    """PEP 3333, "Other HTTP Features": an application must not frame the body itself."""
    query = "header=Transfer-Encoding:+chunked&header=Keep-Alive:+9&header=Upgrade:+x"
    with server.connect() as wire:
        reply = wire.get(f"/blocks?block=hello&{query}")
        assert (reply.framing, reply.body) == ("length", b"hello")
        assert reply.get("Keep-Alive") is reply.get("Upgrade") is None
        assert wire.get("/next").status == 200


@pytest.mark.parametrize(
    "header",
    [
        "X-Bad: a\r\nX-Injected: 1",
        "X-Bad: a\nb",
        "X-Bad: a\rb",
        "X-Bad: a\0b",
        "X-Bad: \x1b",
        "X-Bad\r\n: a",
        "X-Bad : a",
        "X-Bad\xe4: a",
        ": a",
        "Content-Length: five",
        "Content-Length: -1",
    ],
    ids=ascii,
)
def test_headers_that_must_not_be_sent(server: Server, header: str) -> None:
    """500, and the log names the header."""
    with server.connect() as wire:
        reply = wire.get("/blocks?block=x&header=" + quote(header, encoding="latin-1"))
        assert reply.status == 500
        assert reply.get("X-Injected") is None
    name = re.escape(ascii(header.partition(":")[0].partition("\r")[0])[1:-1].replace("\\", "\\\\"))
    if header.startswith("X-Bad\xe4"):
        name = "X-Bad"
    server.expect_fault(rf"ResponseError: .*{name}")


@pytest.mark.parametrize("status", ["200", "abc", "20 OK", "200 O\r\nX: y", "100 Continue", "2000"])
def test_statuses(server: Server, status: str) -> None:
    with server.connect() as wire:
        reply = wire.get(f"/blocks?block=x&status={quote(status)}")
        if status == "200":
            assert (reply.status, reply.body) == (200, b"x")
        else:
            assert reply.status == 500
            server.expect_fault("ResponseError: .*status")


# -- lengths that are not true


@pytest.mark.parametrize("kind", ["list", "generator", "lazy", "counted"])
def test_a_body_shorter_than_its_length(server: Server, kind: str) -> None:
    """The client must see it, and nothing may come into the gap."""
    with server.connect() as wire:
        wire.send(request(f"/blocks?kind={kind}&block=abc&length=10") + request("/poison"))
        with pytest.raises(Truncated) as cut:
            wire.reply()
        assert cut.value.got == b"abc"
    assert "GET /poison" not in server.calls()


@pytest.mark.parametrize("kind", ["list", "generator", "lazy", "counted"])
def test_a_body_longer_than_its_length(server: Server, kind: str) -> None:
    """It is cut off at the length, and the log says so."""
    since = len(server.log.text)
    with server.connect() as wire:
        reply = wire.get(f"/blocks?kind={kind}&block=abcdef&block=ghi&length=4")
        assert reply.body == b"abcd"
        server.log.wait_for("more bytes than its Content-Length", since)
        if not reply.closes:
            assert wire.get("/next").json()["PATH_INFO"] == "/next"


def test_written_beyond_the_length(server: Server) -> None:
    with server.connect() as wire:
        assert wire.get("/blocks?write=abc&write=def&block=ghi&length=4").body == b"abcd"
        assert wire.get("/next").json()["PATH_INFO"] == "/next"


# -- failures of the application


@pytest.mark.parametrize(
    "how", ["raise", "started", "exit", "nothing", "twice", "text", "string", "none"]
)
def test_a_failure_before_anything_was_sent(server: Server, how: str) -> None:
    """500, a traceback in the log under the request it belongs to, and the server goes on."""
    with server.connect() as wire:
        reply = wire.get(f"/fail?how={how}")
        assert (reply.status, reply.framing) == (500, "length")
        assert b"Traceback" not in reply.body and b"purpose" not in reply.body
    text = server.expect_fault(r"Traceback(?s:.)*?\n\S*(Error|SystemExit)\b.*\n")
    assert "GET /fail" in text
    with server.connect() as wire:
        assert wire.get("/next").status == 200


@pytest.mark.parametrize("kind", ["generator", "lazy"])
def test_a_failure_before_the_first_block(server: Server, kind: str) -> None:
    with server.connect() as wire:
        assert wire.get(f"/blocks?kind={kind}&fail=0&block=x").status == 500
    server.expect_fault(PURPOSE)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_failure_after_a_block_is_no_clean_end(server: Server, blocks: int) -> None:
    """No last chunk (RFC 9112 §8): a half answer must not look whole, and nothing follows it."""
    target = f"/blocks?kind=generator&block=ab&block=cd&fail={blocks}"
    with server.connect() as wire:
        wire.send(request(target) + request("/poison"))
        with pytest.raises(Truncated):
            wire.reply()
    server.expect_fault(PURPOSE)
    assert "GET /poison" not in server.calls()


def test_a_failure_after_a_block_with_a_length(server: Server) -> None:
    with server.connect() as wire:
        wire.send(request("/blocks?kind=generator&block=ab&block=cd&fail=1&length=4"))
        with pytest.raises(Truncated):
            wire.reply()
    server.expect_fault(PURPOSE)


def test_a_failure_in_1_0_is_a_reset(server: Server) -> None:
    """There the end of the connection ends the body; only a reset can say that it is not whole."""
    with server.connect() as wire:
        wire.send(request("/blocks?kind=generator&block=ab&block=cd&fail=1", version="1.0"))
        with pytest.raises(ConnectionResetError):
            wire.exchange(b" ")
    server.expect_fault(PURPOSE)


def test_a_failure_behind_the_last_block(server: Server) -> None:
    with server.connect() as wire:
        wire.send(request("/blocks?kind=generator&block=ab&block=cd&fail=2"))
        with pytest.raises(Truncated):
            wire.reply()
    server.expect_fault(PURPOSE)


@pytest.mark.parametrize("kind", ["counted", "generator", "lazy"])
def test_a_failure_in_close(server: Server, kind: str) -> None:
    """Told in the log; the server goes on."""
    with server.connect() as wire:
        wire.send(request(f"/blocks?kind={kind}&block=ab&failclose=1"))
        try:
            assert wire.reply().body == b"ab"
        except Truncated:
            pass  # it may also show the client that something went wrong
    server.expect_fault(r"RuntimeError: close\(\) fails on purpose")
    with server.connect() as wire:
        assert wire.get("/next").status == 200


# -- large ones


def test_ten_thousand_blocks(server: Server) -> None:
    with server.connect() as wire:
        reply = wire.get("/count?to=10000")
        assert reply.body == b"".join(b"%d\n" % number for number in range(10_000))
        assert reply.framing == "chunked"
        assert wire.get("/next").status == 200


def test_a_client_that_reads_nothing_for_a_while(server: Server, stage: Stage) -> None:
    """Blocks are pulled only as fast as they go out, so an endless answer costs no memory."""
    with server.connect(receive_buffer=4096) as wire:
        wire.send(request(f"/endless?stage={stage.port}"))
        assert read_reply_head(wire.read_some(17)) == 200
    assert stage.arrival().text == "closed"


def read_reply_head(data: bytes) -> int:
    return int(data[9:12])


def test_early_hints(server: Server, stage: Stage) -> None:
    """RFC 8297: they arrive while the application still works."""
    with server.connect() as wire:
        wire.send(request(f"/hints?stage={stage.port}"))
        visit = stage.arrival()
        interim = wire.reply()
        assert (interim.status, interim.fields) == (
            103,
            [("Link", "</style.css>; rel=preload")],
        )
        visit.go()
        assert (reply := wire.reply()).status == 200 and reply.body == b"final"
        assert wire.get("/next").status == 200


def test_no_early_hints_for_1_0(server: Server) -> None:
    with server.connect() as wire:
        wire.send(request("/hints", version="1.0"))
        assert wire.reply().status == 200


def test_answers_of_all_kinds_in_one_stream(server: Server) -> None:
    targets = [f"/blocks?{query}" for query, *_ in FRAMINGS]
    data = b"".join(request(target) for target in targets) + request("/", "Connection: close")
    with server.connect() as wire:
        found = replies(wire.exchange(data))
    assert [reply.body for reply in found[:-1]] == [body for *_, body in FRAMINGS]
