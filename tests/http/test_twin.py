"""The server's parser of heads against the plain one beside it, on invented and damaged heads."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.http import twin
from wsgiserver.http import framing, head
from wsgiserver.http.body import Chunked, Sized
from wsgiserver.http.errors import HTTPError

LIMITS: Final = twin.Limits(line=60, fields=6, field_size=40, body=1000)


def server_says(data: bytes) -> twin.Head | int:
    """The head as the server understands it, or the status of its refusal."""
    first, _, block = (data + b"\r\n").partition(b"\r\n")
    try:
        line = head.parse_request_line(first, LIMITS.line)
        fields = head.parse_fields(block, LIMITS.fields, LIMITS.field_size)
        framing.check_head(line, fields)
        waits = framing.expects_continue(line.minor, fields)
        decoder = framing.request_body(line.minor, fields, LIMITS.body)
    except HTTPError as error:
        return error.status
    body: int | str | None = None
    if isinstance(decoder, Sized):
        body = int(fields.environ["CONTENT_LENGTH"])
    elif isinstance(decoder, Chunked):
        body = "chunked"
    return twin.Head(
        method=line.method,
        target=line.target,
        minor=line.minor,
        path=line.path,
        query=line.query,
        authority=line.authority,
        fields=fields.environ,
        dropped=list(fields.dropped),
        keep=framing.keep_alive(line.minor, fields),
        waits=waits,
        body=body,
    )


def twin_says(data: bytes) -> twin.Head | int:
    try:
        return twin.read_head(data, LIMITS)
    except twin.Refused as refusal:
        return refusal.status


# Mostly right, often wrong: what is interesting lies near the border.
METHODS = st.sampled_from(
    ["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "get", "M-SEARCH", "G T", ""]
)
HOSTS = st.one_of(
    st.sampled_from(
        [
            *(
                "a",
                "a.example:80",
                "a:",
                "[::1]",
                "[::1]:8000",
                "[1:2:3:4:5:6:7:8]",
                "[v1.x]",
                "u@a",
            ),
            *("", "[::ffff:192.0.2.1]", "192.0.2.1", "[::ffff:192.0.2.256]", "a%41", "a%4", "[::]"),
            *("[fe80::1%25e]", "[1::2::3]", "[:1]", "[12345::]", "[1.2.3.4]", "a:123456", "a_b"),
            *("a b", "[]", "[::]x", "[1:2:3:4:5:6:7::]", "[1:2:3:4:5:6:7:8::]", "[192.0.2.1::]"),
            *("[1:2:3:4:5:6:192.0.2.1]", "[V1.x]", "[v.x]", "[v1.]"),
        ]
    ),
    st.text("abf019:.[]%v-_", max_size=12),
)
TARGETS = st.one_of(
    st.sampled_from(
        ["/", "*", "/a?b", "/a%20b%", "/%e4%zz", "//a", "/?", "/a#b", "/{|}", 'x"', "a"]
    ),
    HOSTS.map(lambda host: f"http://{host}/p?q"),
    HOSTS.map(lambda host: f"HTTPS://{host}"),
    HOSTS.map(lambda host: f"{host}:443"),
    st.text("/a%?#*.:", max_size=8),
)
VERSIONS = st.sampled_from(
    ["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/1.9", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", ""]
)
VALUES = st.one_of(
    st.sampled_from(
        ["close", "keep-alive", "Keep-Alive, Close", "chunked", "gzip, chunked", "0", "7"]
    )
    | st.sampled_from(["chunked, chunked", "chunked,", "100-continue", "+1", "1_0", "1001", "\xb2"])
    | st.sampled_from(
        ["100-Continue", "identity", "\x0bchunked", "9" * 19, "9" * 20, "007", "a\r\n b"]
    )
    | st.sampled_from(["", " ", "\t x \t", "\xa0", "\x7f", "a\nb", "a\rb", "x" * 40, "\0"]),
    st.text(st.characters(max_codepoint=255), max_size=6),
)
NAMES = st.sampled_from(
    [
        *("Host", "HOST", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Cookie"),
        *("X", "Content-Type", "X_A", "X-A", "Proxy", "Content_Length", "Content-Length ", ""),
        *("H\xe4", "X:Y"),
    ]
)
FIELD_LINES = st.one_of(
    st.builds(lambda host: f"Host: {host}", HOSTS),
    st.builds(lambda name, value: f"{name}: {value}", NAMES, VALUES),
    st.builds(lambda name, value: f"{name}:{value}", NAMES, VALUES),
    st.sampled_from([" folded", "\tfolded", "no colon", ":", "Content-Length:5"]),
)


RIGHT_LINES = st.sampled_from(
    ["GET / HTTP/1.1", "POST /%e4?b HTTP/1.1", "HEAD http://[::1]/x HTTP/1.1", "OPTIONS * HTTP/1.0"]
)
RIGHT_FIELDS = st.sampled_from(
    [
        *("X: a", "x: b", "Cookie: a=b", "Accept:", "Content-Length: 7", "Connection: close, x"),
        *("X_A: 1", "Content-Type: a/b", "Transfer-Encoding: chunked", "Expect: 100-continue"),
        "Y: \xe4\t\xff ",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head of which about one part in five was invented."""

    def part(right: st.SearchStrategy[str], invented: st.SearchStrategy[str]) -> str:
        return draw(invented if draw(st.integers(0, 4)) == 0 else right)

    line = st.builds("{} {} {}".format, METHODS, TARGETS, VERSIONS)
    lines = [part(RIGHT_LINES, line), part(st.just("Host: a.example"), FIELD_LINES)]
    lines += [part(RIGHT_FIELDS, FIELD_LINES) for _ in range(draw(st.integers(0, 5)))]
    return "\r\n".join(lines).encode("latin-1")


GOOD = [
    b"GET /a/b?c=d HTTP/1.1\r\nHost: a.example\r\nCookie: x=y\r\nCookie: z=1\r\nAccept: */*",
    b"POST /%e4 HTTP/1.1\r\nHost: [2001:db8::1]:8000\r\nContent-Length: 12\r\nX: y",
    b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue",
    b"GET http://b.example:80/x?y HTTP/1.1\r\nHost: a\r\nConnection: a, Close",
    b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\nContent-Type: text/plain",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good head of which up to three bytes were changed, left out or put in."""
    data = bytearray(draw(st.sampled_from(GOOD)))
    byte = st.sampled_from(b" \t\r\n:,;/?#%[]@\0\x0b\x7f\x80\xa0_-+0aZ")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["change", "insert", "remove"])):
            case "change":
                data[at] = draw(byte)
            case "insert":
                data.insert(at, draw(byte))
            case _:
                del data[at]
    return bytes(data)


def agree(data: bytes) -> None:
    # What parse_fields is given ends at the first empty line, so that there is none within.
    data = data.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n")
    assert server_says(data) == twin_says(data), data


@settings(max_examples=1000, derandomize=True, deadline=None)
@given(heads())
def test_invented_heads(data: bytes) -> None:
    agree(data)


@settings(max_examples=800, derandomize=True, deadline=None)
@given(damaged())
@example(b"GET / HTTP/1.1\r\nHost: [::::]")
@example(b"GET / HTTP/1.1\r\nHost: [V1.a]")
def test_damaged_heads(data: bytes) -> None:
    agree(data)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes(data: bytes) -> None:
    agree(data)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(HOSTS | st.text("0123abcf:.", max_size=24).map(lambda text: f"[{text}]"))
def test_hosts(host: str) -> None:
    agree(b"GET / HTTP/1.1\r\nHost: " + host.encode("latin-1"))


@pytest.mark.parametrize("data", GOOD)
def test_the_good_ones_are_good(data: bytes) -> None:
    assert isinstance(twin_says(data), twin.Head)
