"""What must not be served: each refusal reaches the client, ends the connection, and is the only
answer, whatever the client sent behind it; the application hears nothing of it.
"""

from __future__ import annotations

import pytest

from tests.support.server import Server
from tests.support.wire import Reply, replies

POISON = b"GET /poison HTTP/1.1\r\nHost: test\r\n\r\n"
HEAD = b"POST /poisoned HTTP/1.1\r\nHost: test\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

Case = tuple[str, bytes, int]


def fields(*lines: bytes) -> bytes:
    return b"GET /poisoned HTTP/1.1\r\nHost: test\r\n" + b"".join(lines) + b"\r\n"


def posted(*lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def line(text: bytes) -> bytes:
    return text + b"\r\nHost: test\r\n\r\n"


# RFC 9112 §3; RFC 9110 §15.6.6 for the versions
REQUEST_LINES: list[Case] = [
    ("two spaces", line(b"GET  / HTTP/1.1"), 400),
    ("three parts behind", line(b"GET / HTTP/1.1 x"), 400),
    ("space behind", line(b"GET / HTTP/1.1 "), 400),
    ("space before", line(b" GET / HTTP/1.1"), 400),
    ("tab", line(b"GET\t/ HTTP/1.1"), 400),
    ("no version", line(b"GET /poisoned"), 400),
    ("no target", line(b"GET HTTP/1.1"), 400),
    ("lower-case version", line(b"GET / http/1.1"), 400),
    ("version without minor", line(b"GET / HTTP/1"), 400),
    ("version of two digits", line(b"GET / HTTP/1.10"), 400),
    ("major of two digits", line(b"GET / HTTP/11.1"), 400),
    ("version with comma", line(b"GET / HTTP/1,1"), 400),
    ("version of letters", line(b"GET / HTTP/x.y"), 400),
    ("another protocol", line(b"GET / FTP/1.1"), 400),
    ("version 2.0", line(b"GET / HTTP/2.0"), 505),
    ("version 0.9", line(b"GET / HTTP/0.9"), 505),
    ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("method with @", line(b"G@T / HTTP/1.1"), 400),
    ("method with NUL", line(b"G\0T / HTTP/1.1"), 400),
    ("method beyond ASCII", line(b"G\xc9T / HTTP/1.1"), 400),
    ("target beyond ASCII", line(b"GET /\x80 HTTP/1.1"), 400),
    ("target with space", line(b"GET /a b HTTP/1.1"), 400),
    ("target with fragment", line(b"GET /a#b HTTP/1.1"), 400),
    ("target with NUL", line(b"GET /\0 HTTP/1.1"), 400),
    ("target without slash", line(b"GET poisoned HTTP/1.1"), 400),
    ("asterisk of GET", line(b"GET * HTTP/1.1"), 400),
    ("authority of GET", line(b"GET test:80 HTTP/1.1"), 400),
    ("absolute without host", line(b"GET http:///poisoned HTTP/1.1"), 400),
    ("absolute with user", line(b"GET http://u:p@test/ HTTP/1.1"), 400),
    ("absolute of ftp", line(b"GET ftp://test/ HTTP/1.1"), 400),
    ("absolute with wrong port", line(b"GET http://test:8x/ HTTP/1.1"), 400),
    ("CONNECT", line(b"CONNECT test:443 HTTP/1.1"), 501),
    ("bare LF", b"GET / HTTP/1.1\nHost: test\r\n\r\n", 400),
    ("bare CR", b"GET / HTTP/1.1\rHost: test\r\n\r\n", 400),
    ("TLS hello", bytes.fromhex("16030102000100 01fc0303") + bytes(64), 400),
    ("binary", b"\x80\x81\x82\x83\r\n\r\n", 400),
]

# RFC 9112 §3.2, RFC 9110 §7.2
HOSTS: list[Case] = [
    ("missing", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("missing beside absolute", b"GET http://test/ HTTP/1.1\r\n\r\n", 400),
    ("empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("twice the same", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    ("twice in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("a list", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("a wrong port", b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
    ("two ports", b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400),
    ("half a bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    ("beyond ASCII", b"GET / HTTP/1.1\r\nHost: \xfc\r\n\r\n", 400),
    ("markup", b"GET / HTTP/1.1\r\nHost: <b>\r\n\r\n", 400),
    ("wrong percent", b"GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", 400),
    ("invalid in 1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
    ("only a space apart", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
]

# RFC 9112 §2.2, §5; RFC 9110 §5.1, §5.5
FIELDS: list[Case] = [
    ("obs-fold", fields(b"X: a\r\n b\r\n"), 400),
    ("obs-fold by tab", fields(b"X: a\r\n\tb\r\n"), 400),
    ("fold of the first", b"GET / HTTP/1.1\r\n Host: test\r\n\r\n", 400),
    ("empty fold", fields(b"X: a\r\n \r\n"), 400),
    ("space before colon", fields(b"X : a\r\n"), 400),
    ("tab before colon", fields(b"X\t: a\r\n"), 400),
    ("space within name", fields(b"X Y: a\r\n"), 400),
    ("empty name", fields(b": a\r\n"), 400),
    ("no colon", fields(b"X\r\n"), 400),
    ("parenthesis in name", fields(b"X(: a\r\n"), 400),
    ("name beyond ASCII", fields(b"\xe9: a\r\n"), 400),
    ("NUL in name", fields(b"X\0: a\r\n"), 400),
    ("NUL in value", fields(b"X: a\0b\r\n"), 400),
    ("control in value", fields(b"X: a\x01b\r\n"), 400),
    ("escape in value", fields(b"X: \x1b[2J\r\n"), 400),
    ("vertical tab in value", fields(b"X: \x0bb\r\n"), 400),
    ("DEL in value", fields(b"X: a\x7fb\r\n"), 400),
    ("bare LF between", fields(b"X: a\nY: b\r\n"), 400),
    ("bare LF hides length", fields(b"X: a\nContent-Length: 5\r\n"), 400),
    ("bare LF at the end", b"GET / HTTP/1.1\r\nHost: test\n\r\n", 400),
    ("only bare LFs", b"GET / HTTP/1.1\nHost: test\n\n", 400),
    ("bare CR in value", fields(b"X: a\rb\r\n"), 400),
    ("bare CR hides coding", fields(b"X: \rTransfer-Encoding: chunked\r\n"), 400),
    ("CR CR LF", fields(b"X: a\r\r\n"), 400),
    ("two media types", fields(b"Content-Type: a/b\r\n", b"Content-Type: c/d\r\n"), 400),
]

# RFC 9112 §6.1-6.3, RFC 9110 §8.6
LENGTHS: list[Case] = [
    ("beside chunked", posted(b"Content-Length: 5", b"Transfer-Encoding: chunked") + END, 400),
    ("behind chunked", posted(b"Transfer-Encoding: chunked", b"Content-Length: 5") + END, 400),
    ("two", posted(b"Content-Length: 1", b"Content-Length: 5") + b"hello", 400),
    ("two the same", posted(b"Content-Length: 5", b"Content-Length: 5") + b"hello", 400),
    ("a list", posted(b"Content-Length: 5, 5") + b"hello", 400),
    ("plus", posted(b"Content-Length: +5") + b"hello", 400),
    ("minus", posted(b"Content-Length: -5") + b"hello", 400),
    ("minus zero", posted(b"Content-Length: -0"), 400),
    ("underscore", posted(b"Content-Length: 0_5") + b"hello", 400),
    ("hexadecimal", posted(b"Content-Length: 0x5") + b"hello", 400),
    ("letters", posted(b"Content-Length: five") + b"hello", 400),
    ("fraction", posted(b"Content-Length: 5.0") + b"hello", 400),
    ("exponent", posted(b"Content-Length: 5e0") + b"hello", 400),
    ("space within", posted(b"Content-Length: 0 5") + b"hello", 400),
    ("empty", posted(b"Content-Length:") + b"hello", 400),
    ("other digits", posted("Content-Length: \u0665".encode()) + b"hello", 400),
    ("superscript", posted(b"Content-Length: \xb2") + b"hello", 400),
    ("no-break space", posted(b"Content-Length: \xa05") + b"hello", 400),
    ("absurd", posted(b"Content-Length: " + b"9" * 400), 400),
    ("space before colon", posted(b"Content-Length : 5") + b"hello", 400),
    ("folded", posted(b"Content-Length:", b" 5") + b"hello", 400),
]

CODINGS: list[Case] = [
    ("gzip", posted(b"Transfer-Encoding: gzip") + END, 400),
    ("gzip, chunked", posted(b"Transfer-Encoding: gzip, chunked") + END, 501),
    ("identity", posted(b"Transfer-Encoding: identity") + END, 400),
    ("identity, chunked", posted(b"Transfer-Encoding: identity, chunked") + END, 501),
    ("chunked, identity", posted(b"Transfer-Encoding: chunked, identity") + END, 400),
    ("chunked twice", posted(b"Transfer-Encoding: chunked, chunked") + END, 400),
    ("chunked in two", posted(*[b"Transfer-Encoding: chunked"] * 2) + END, 400),
    (
        "two fields",
        posted(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + END,
        400,
    ),
    ("vertical tab", posted(b"Transfer-Encoding: \x0bchunked") + END, 400),
    ("no-break space", posted(b"Transfer-Encoding: \xa0chunked") + END, 400),
    ("prefixed", posted(b"Transfer-Encoding: xchunked") + END, 400),
    ("parameter", posted(b"Transfer-Encoding: chunked;q=1") + END, 400),
    ("quoted", posted(b'Transfer-Encoding: "chunked"') + END, 400),
    ("empty", posted(b"Transfer-Encoding:") + END, 400),
    ("folded", posted(b"Transfer-Encoding: gzip,", b" chunked") + END, 400),
    ("in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + END, 400),
    (
        "in 1.0 with length",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        400,
    ),
]

# RFC 9112 §7.1
CHUNKS: list[Case] = [
    ("not hexadecimal", CHUNKED + b"g\r\nhello\r\n" + END, 400),
    ("prefix", CHUNKED + b"0x5\r\nhello\r\n" + END, 400),
    ("plus", CHUNKED + b"+5\r\nhello\r\n" + END, 400),
    ("minus", CHUNKED + b"-5\r\nhello\r\n" + END, 400),
    ("underscore", CHUNKED + b"0_5\r\nhello\r\n" + END, 400),
    ("space before", CHUNKED + b" 5\r\nhello\r\n" + END, 400),
    ("space behind", CHUNKED + b"5 \r\nhello\r\n" + END, 400),
    ("empty", CHUNKED + b"\r\nhello\r\n" + END, 400),
    ("only an extension", CHUNKED + b";a=b\r\nhello\r\n" + END, 400),
    ("bare LF", CHUNKED + b"5\nhello\r\n" + END, 400),
    ("bare CR", CHUNKED + b"5\rhello\r\n" + END, 400),
    ("LF in extension", CHUNKED + b"5;a\nb\r\nhello\r\n" + END, 400),
    ("CR in extension", CHUNKED + b"5;a\rb\r\nhello\r\n" + END, 400),
    ("NUL in extension", CHUNKED + b"5;a\0\r\nhello\r\n" + END, 400),
    ("open quote in extension", CHUNKED + b'5;a="b\r\nhello\r\n' + END, 400),
    ("over 64 bits", CHUNKED + b"FFFFFFFFFFFFFFFF5\r\nhello\r\n" + END, 400),
    ("huge", CHUNKED + b"FFFFFFFFFFFF\r\nhello\r\n" + END, 413),
    ("longer than said", CHUNKED + b"4\r\nhello\r\n" + END, 400),
    ("shorter than said", CHUNKED + b"6\r\nhello\r\n" + END, 400),
    ("followed by LF", CHUNKED + b"5\r\nhello\n" + END, 400),
    ("followed by two bytes", CHUNKED + b"5\r\nhelloXX" + END, 400),
    ("followed by CR CR", CHUNKED + b"5\r\nhello\r\r" + END, 400),
    ("long line", CHUNKED + b"5;" + b"a" * 70_000 + b"\r\nhello\r\n" + END, 400),
    ("heavy extensions", CHUNKED + (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 100 + END, 400),
    ("trailer is a request", CHUNKED + b"0\r\nGET /poison HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    ("trailer with space", CHUNKED + b"0\r\nX : a\r\n\r\n", 400),
    ("trailer folded", CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", 400),
    ("trailer with LF", CHUNKED + b"0\r\nX: a\nY: b\r\n\r\n", 400),
    ("trailer with NUL", CHUNKED + b"0\r\nX: \0\r\n\r\n", 400),
    ("LF at the very end", CHUNKED + b"0\r\n\n", 400),
    ("long trailers", CHUNKED + b"0\r\n" + b"X: a\r\n" * 10_000 + b"\r\n", 431),
]

# The defaults: a line and a field of 8190 bytes, 100 fields; 3 MiB of body by the fixture.
LIMITS: list[Case] = [
    ("line", line(b"GET /" + b"a" * 8190 + b" HTTP/1.1"), 414),
    ("line that does not end", b"GET /" + b"a" * 20_000, 414),
    ("query", line(b"GET /?" + b"a" * 70_000 + b" HTTP/1.1"), 414),
    ("number of fields", fields(b"X: a\r\n" * 100), 431),
    ("field", fields(b"X: " + b"a" * 8188 + b"\r\n"), 431),
    ("field that does not end", fields()[:-2] + b"X: " + b"a" * 70_000, 431),
    ("name", fields(b"X" * 8190 + b": a\r\n"), 431),
    ("head", fields(*[b"X: " + b"a" * 8000 + b"\r\n"] * 9), 431),
    ("length", posted(b"Content-Length: 3145729"), 413),
    ("length of 19 digits", posted(b"Content-Length: " + b"9" * 19), 413),
    ("chunk", CHUNKED + b"300001\r\n", 413),
    ("chunks", CHUNKED + (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 4 + END, 413),
    ("length before 100", posted(b"Expect: 100-continue", b"Content-Length: 3145729"), 413),
    ("expectation", posted(b"Expect: 200-ok", b"Content-Length: 5") + b"hello", 417),
]

TABLES = {
    "line": REQUEST_LINES,
    "host": HOSTS,
    "field": FIELDS,
    "length": LENGTHS,
    "coding": CODINGS,
    "chunk": CHUNKS,
    "limit": LIMITS,
}
CASES = [
    pytest.param(data, status, id=f"{table}: {name}")
    for table, cases in TABLES.items()
    for name, data, status in cases
]


def refused(server: Server, data: bytes) -> Reply:
    """Send it, and whatever more; the only answer, which must be a proper refusal."""
    before = server.calls()
    with server.connect() as wire:
        (reply,) = replies(wire.exchange(data))
    assert reply.closes
    assert reply.framing == "length"
    assert 0 < len(reply.body) < 200
    assert (reply.get("Content-Type") or "").startswith("text/plain")
    assert reply.get("Date") and reply.get("Server")
    assert server.calls() == before, "the application was called"
    return reply


@pytest.mark.parametrize(("data", "status"), CASES)
def test_refused(server: Server, data: bytes, status: int) -> None:
    reply = refused(server, data + POISON)
    assert reply.status == status
    assert reply.body.startswith(f"{status} {reply.reason}".encode())


MEBIBYTE_BEHIND = {
    400: fields(b"X : a\r\n"),
    413: posted(b"Content-Length: 99999999"),
    414: line(b"GET /" + b"a" * 9000 + b" HTTP/1.1"),
    417: posted(b"Expect: x"),
    431: fields(b"X: a\r\n" * 200),
    501: line(b"CONNECT test:443 HTTP/1.1"),
    505: line(b"GET / HTTP/3.0"),
}


@pytest.mark.parametrize("status", MEBIBYTE_BEHIND)
def test_refused_in_the_middle_of_a_mebibyte(server: Server, status: int) -> None:
    """Closing with bytes unread would be a reset, which destroys the answer (RFC 9112 §9.6)."""
    filler = POISON * (1_048_576 // len(POISON))
    assert refused(server, MEBIBYTE_BEHIND[status] + filler).status == status


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("160301020001"),
        b"\x80",
        b"GET / HTTP/1.1\r\nHost: test\n",
        b"GET / HTTP/1.1\r\nX: \0",
        b"GET /" + b"a" * 9000,
        CHUNKED + b"x",
        CHUNKED + b"5\r\nhelloX",
    ],
    ids=["TLS hello", "binary", "bare LF", "NUL", "long line", "chunk size", "chunk end"],
)
def test_refused_at_the_first_wrong_byte(server: Server, data: bytes) -> None:
    """Without waiting for the rest, which need not come."""
    with server.connect() as wire:
        wire.send(data)
        assert wire.reply().status in (400, 414)
        assert wire.ended()


# An incomplete message is an error (RFC 9112 §8) and must not be served as if it were complete.
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: te",
        b"GET / HT",
        posted(b"Content-Length: 10") + b"x",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
    ],
    ids=["head", "line", "body", "chunk", "chunks", "trailers"],
)
def test_a_request_that_ends_early(server: Server, data: bytes) -> None:
    before = server.calls()
    with server.connect() as wire:
        (reply,) = replies(wire.exchange(data, finish=True))
    assert reply.status == 400
    assert reply.closes
    assert server.calls() == before


def test_nothing_of_the_request_is_reflected(server: Server) -> None:
    data = b"GET / HTTP/1.1\r\nHost: <script>x</script>\r\nX<script>: <script>\r\n\r\n"
    assert b"<" not in refused(server, data).body


def test_a_refused_HEAD_has_no_body(server: Server) -> None:
    with server.connect() as wire:
        got = wire.exchange(b"HEAD / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n\r\n")
    (reply,) = replies(got, "HEAD")
    assert reply.status == 413


@pytest.mark.parametrize(
    "data",
    [
        line(b"GET /?" + b"a" * (8190 - len("GET /? HTTP/1.1")) + b" HTTP/1.1"),
        fields(b"X: a\r\n" * 99),
        fields(b"X: " + b"a" * 8187 + b"\r\n"),
        posted(b"Content-Length: 3145728") + bytes(3 << 20),
        CHUNKED + b"300000\r\n" + bytes(3 << 20) + b"\r\n" + END,
    ],
    ids=["line", "number of fields", "field", "length", "chunks"],
)
def test_just_within_the_limit(server: Server, data: bytes) -> None:
    with server.connect() as wire:
        wire.send(data)
        assert wire.reply().status == 200
