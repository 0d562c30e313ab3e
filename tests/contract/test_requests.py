"""What a request becomes: its line, fields and body as the application sees them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.server import Server
from tests.support.wire import Wire, request


def environ_of(server: Server, data: bytes, **connecting: Any) -> dict[str, Any]:
    """What the application saw of a request."""
    with server.connect(**connecting) as wire:
        wire.send(data)
        reply = wire.reply()
        assert reply.status == 200, reply.body
        seen: dict[str, Any] = reply.json()
        return seen


# request line → REQUEST_METHOD, PATH_INFO, QUERY_STRING, RAW_URI, HTTP_HOST, SERVER_PROTOCOL
FORMS: list[tuple[bytes, tuple[str, ...]]] = [
    (b"GET /a/b HTTP/1.1", ("GET", "/a/b", "", "/a/b", "test", "HTTP/1.1")),
    (b"GET /a?b=c&d HTTP/1.1", ("GET", "/a", "b=c&d", "/a?b=c&d", "test", "HTTP/1.1")),
    (b"GET /a? HTTP/1.1", ("GET", "/a", "", "/a?", "test", "HTTP/1.1")),
    (b"GET /?a?b HTTP/1.1", ("GET", "/", "a?b", "/?a?b", "test", "HTTP/1.1")),
    (b"GET //a//b/../c HTTP/1.1", ("GET", "//a//b/../c", "", "//a//b/../c", "test", "HTTP/1.1")),
    (b"GET http://a:81/b?c HTTP/1.1", ("GET", "/b", "c", "http://a:81/b?c", "a:81", "HTTP/1.1")),
    (b"GET HTTP://a HTTP/1.1", ("GET", "/", "", "HTTP://a", "a", "HTTP/1.1")),
    (b"GET http://a?b HTTP/1.1", ("GET", "/", "b", "http://a?b", "a", "HTTP/1.1")),
    (b"GET https://[::1]:8/ HTTP/1.1", ("GET", "/", "", "https://[::1]:8/", "[::1]:8", "HTTP/1.1")),
    (b"OPTIONS * HTTP/1.1", ("OPTIONS", "", "", "*", "test", "HTTP/1.1")),
    (b"OPTIONS / HTTP/1.1", ("OPTIONS", "/", "", "/", "test", "HTTP/1.1")),
    (b"DELETE /a HTTP/1.1", ("DELETE", "/a", "", "/a", "test", "HTTP/1.1")),
    (b"M-SEARCH / HTTP/1.1", ("M-SEARCH", "/", "", "/", "test", "HTTP/1.1")),
    (b"get / HTTP/1.1", ("get", "/", "", "/", "test", "HTTP/1.1")),
    (b"GET / HTTP/1.0", ("GET", "/", "", "/", "test", "HTTP/1.0")),
    (b"GET / HTTP/1.2", ("GET", "/", "", "/", "test", "HTTP/1.1")),
    (b"GET / HTTP/1.9", ("GET", "/", "", "/", "test", "HTTP/1.1")),
    (b"GET /%41%2f%3F%25 HTTP/1.1", ("GET", "/A/?%", "", "/%41%2f%3F%25", "test", "HTTP/1.1")),
    (b"GET /a%2 HTTP/1.1", ("GET", "/a%2", "", "/a%2", "test", "HTTP/1.1")),
    (b"GET /a+b HTTP/1.1", ("GET", "/a+b", "", "/a+b", "test", "HTTP/1.1")),
    (b"GET /?%41 HTTP/1.1", ("GET", "/", "%41", "/?%41", "test", "HTTP/1.1")),
    (b"GET /[a]|{b}^ HTTP/1.1", ("GET", "/[a]|{b}^", "", "/[a]|{b}^", "test", "HTTP/1.1")),
]


@pytest.mark.parametrize(("line", "expected"), FORMS, ids=lambda value: repr(value)[:40])
def test_forms_of_the_request_line(server: Server, line: bytes, expected: tuple[str, ...]) -> None:
    """RFC 9112 §3; the authority of the absolute form outranks Host (§3.2.2)."""
    seen = environ_of(server, line + b"\r\nHost: test\r\nConnection: close\r\n\r\n")
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "HTTP_HOST")
    assert tuple(seen[name] for name in (*names, "SERVER_PROTOCOL")) == expected
    assert seen["REQUEST_URI"] == seen["RAW_URI"]


def test_the_path_is_decoded_to_latin_1(server: Server) -> None:
    """PEP 3333: bytes in a str. What they mean is the application's business."""
    path = "/käse/名"
    seen = environ_of(server, request(quote(path)))
    assert seen["PATH_INFO"] == path.encode().decode("latin-1")
    assert seen["RAW_URI"] == quote(path)
    assert environ_of(server, request("/%ff%00"))["PATH_INFO"] == "/\xff\0"


HOSTS = [
    "a",
    "a:80",
    "a:",
    "A.Example",
    "127.0.0.1:8000",
    "[::1]",
    "[::1]:80",
    "a_b",
    "a%20b",
    "x.y.",
]


@pytest.mark.parametrize("host", HOSTS)
def test_valid_hosts(server: Server, host: str) -> None:
    seen = environ_of(server, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert seen["HTTP_HOST"] == host


def test_1_0_needs_no_host(server: Server) -> None:
    seen = environ_of(server, b"GET /x HTTP/1.0\r\n\r\n")
    assert "HTTP_HOST" not in seen
    assert seen["SERVER_NAME"] == "127.0.0.1"


def test_empty_lines_before_a_request(server: Server) -> None:
    """RFC 9112 §2.2: clients of old sent a CRLF behind a body."""
    with server.connect() as wire:
        wire.send(b"\r\n\r\n" + request("/a") + b"\r\n" + request("/b"))
        assert [wire.reply().json()["PATH_INFO"] for _ in range(2)] == ["/a", "/b"]


# field lines → variable and value; None: it must not be there
FIELDS: list[tuple[list[str], str, str | None]] = [
    (["X-A: b"], "HTTP_X_A", "b"),
    (["x-a:b"], "HTTP_X_A", "b"),
    (["X-A: \t b \t "], "HTTP_X_A", "b"),
    (["X-A:"], "HTTP_X_A", ""),
    (["X-A: "], "HTTP_X_A", ""),
    (["X-A: a: b"], "HTTP_X_A", "a: b"),
    (["X-A: \xe4\xf6 \xff"], "HTTP_X_A", "\xe4\xf6 \xff"),
    (["X-A: a\tb"], "HTTP_X_A", "a\tb"),
    (["X-A: \xa0b\x85"], "HTTP_X_A", "\xa0b\x85"),
    (["X-A: a", "X-B: c", "x-a: b"], "HTTP_X_A", "a, b"),
    (["Cookie: a=1", "Cookie: b=2"], "HTTP_COOKIE", "a=1; b=2"),
    (["X-Forwarded-For: 192.0.2.9", "X-Forwarded-For: 192.0.2.8"], "HTTP_X_FORWARDED_FOR", None),
    (["!#$%&'*+-.^`|~9: b"], "HTTP_!#$%&'*+_.^`|~9", "b"),
    (["Content-Type: text/x"], "CONTENT_TYPE", "text/x"),
    (["Content-Type: text/x"], "HTTP_CONTENT_TYPE", None),
    (["Content-Length: 0"], "HTTP_CONTENT_LENGTH", None),
    (["Content-Length: 0"], "CONTENT_LENGTH", "0"),
    (["Proxy: http://evil/"], "HTTP_PROXY", None),
    (["X_Dropped: evil"], "HTTP_X_DROPPED", None),
    (["X-Real: good", "X_Real: evil"], "HTTP_X_REAL", "good"),
    (["Content_Length: 5"], "CONTENT_LENGTH", None),
    (["Transfer_Encoding: chunked"], "HTTP_TRANSFER_ENCODING", None),
]


@pytest.mark.parametrize(("lines", "name", "value"), FIELDS, ids=lambda value: ascii(value)[:40])
def test_fields(server: Server, lines: list[str], name: str, value: str | None) -> None:
    seen = environ_of(server, request("/", *lines))
    if name == "HTTP_X_FORWARDED_FOR":
        assert seen[name] == "192.0.2.9, 192.0.2.8"
    else:
        assert seen.get(name) == value


def test_dropped_fields_are_named_once_in_the_log(server: Server) -> None:
    """`X_A` could pose as a proxy's X-A; `Proxy` becomes HTTP_PROXY (CVE-2016-5385)."""
    if server.model == "process":
        pytest.skip("each connection is a process of its own and says it for itself")
    for _ in range(3):
        environ_of(server, request("/", "X_Once: 1", "Proxy: 1"))
    environ_of(server, request("/", "X_Second_One: 1"))
    server.log.wait_for("X_Second_One")
    assert server.log.text.count("X_Once") == 1
    assert server.log.text.count("header Proxy") == 1


def test_variables_of_the_connection(server: Server) -> None:
    with server.connect() as wire:
        seen = wire.get("/x").json()
        host, port = wire.sock.getsockname()
        server_port = wire.sock.getpeername()[1]
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == (host, str(port))
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", str(server_port))
    assert seen["SCRIPT_NAME"] == ""
    assert seen["wsgi.url_scheme"] == "http"
    assert seen["wsgi.version"] == [1, 0]
    assert seen["wsgi.run_once"] is False
    assert seen["wsgi.input_terminated"] is True
    leaked = {"PATH", "HOME", "PYTHONPATH"} & set(seen)
    assert not leaked, "the server's own environment is none of the application's business"


MULTI = {  # wsgi.multithread, wsgi.multiprocess
    "single": (False, False),
    "process": (False, True),
    "thread": (True, False),
    "nonblocking": (False, False),
    "epoll": (False, False),
    "gevent": (True, False),
    "threadpool": (True, False),
}


def test_multithread_and_multiprocess(server: Server) -> None:
    seen = environ_of(server, request("/"))
    assert (seen["wsgi.multithread"], seen["wsgi.multiprocess"]) == MULTI[server.model]
    with server.connect() as wire:
        first = wire.get("/").json()["pid"]
    with server.connect() as wire:
        second = wire.get("/").json()["pid"]
    assert (first != second) is MULTI[server.model][1]


# -- bodies

BODIES: list[tuple[str, bytes, bytes]] = [
    ("chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    ("no chunk", b"0\r\n\r\n", b""),
    ("extensions", b'5;a;b=c ; d="e\\"\xff"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
    ("upper case", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("lower case", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    ("trailers", b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\nHost: evil\r\n\r\n", b"hello"),
    ("CRLF within", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ("many small", b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n", b"x" * 5000),
]


@pytest.mark.parametrize(("data", "body"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", " \tchunked\t "])
def test_chunked_bodies(server: Server, coding: str, data: bytes, body: bytes) -> None:
    with server.connect() as wire:
        wire.send(request("/", f"Transfer-Encoding: {coding}", method="POST") + data)
        seen = wire.reply().json()
        assert wire.get("/next").json()["PATH_INFO"] == "/next"
    assert seen["body"].encode("latin-1") == body
    assert seen["CONTENT_LENGTH"] == str(len(body))
    assert seen["wsgi.input_terminated"] is True
    # Undone, and a trailer is no header (RFC 9110 §6.5.1).
    assert not {"HTTP_TRANSFER_ENCODING", "HTTP_X_TRAILER"} & set(seen)
    assert seen["HTTP_HOST"] == "test"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "OPTIONS"])
def test_any_method_may_have_a_body(server: Server, method: str) -> None:
    with server.connect() as wire:
        wire.send(request("/", method=method, body=b"hello") + request("/next"))
        reply = wire.reply(method)
        assert method == "HEAD" or reply.json()["body"] == "hello"
        assert wire.reply().json()["PATH_INFO"] == "/next"


def test_a_body_that_the_application_leaves(server: Server) -> None:
    """It must never become the next request."""
    evil = request("/poison")
    with server.connect() as wire:
        for _ in range(3):
            wire.send(request("/ignore", method="POST", body=evil * 100))
            assert wire.reply().body == b"ignored"
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(evil), evil)
        wire.send(request("/ignore", "Transfer-Encoding: chunked", method="POST") + chunk)
        assert wire.reply().body == b"ignored"
        assert wire.get("/next").json()["PATH_INFO"] == "/next"
    assert "GET /poison" not in server.calls()


def test_a_websocket_key_takes_no_bytes(server: Server) -> None:
    """gunicorn once took 8 bytes of body for it (Grenfeldt 2021)."""
    with server.connect() as wire:
        wire.send(request("/", "Sec-WebSocket-Key1: x") + request("/next"))
        assert wire.reply().json()["body"] == ""
        assert wire.reply().json()["PATH_INFO"] == "/next"


# -- Expect (RFC 9110 §10.1.1)


def expecting(*fields: str, version: str = "1.1") -> bytes:
    return request(
        "/echo",
        "Expect: 100-continue",
        *fields,
        "Content-Length: 5",
        method="POST",
        version=version,
    )


def test_100_when_the_body_is_waited_for(server: Server) -> None:
    with server.connect() as wire:
        for _ in range(2):
            wire.send(expecting())
            interim = wire.reply()
            assert (interim.status, interim.fields) == (100, [])
            wire.send(b"hello")
            assert (reply := wire.reply()).status == 200 and reply.body == b"hello"


@pytest.mark.parametrize("value", ["100-Continue", "100-CONTINUE"])
def test_the_expectation_in_any_case(server: Server, value: str) -> None:
    with server.connect() as wire:
        wire.send(request("/echo", f"Expect: {value}", "Content-Length: 5", method="POST"))
        assert wire.reply().status == 100
        wire.send(b"hello")
        assert wire.reply().body == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        expecting() + b"hello",
        expecting(version="1.0") + b"hello",
        request("/echo", "Expect: 100-continue", method="POST"),
        request("/echo", "Expect: 100-continue", "Content-Length: 0", method="POST"),
        request("/echo", "Expect: nonsense", version="1.0"),
    ],
    ids=["body came along", "1.0", "no body", "empty body", "nonsense in 1.0"],
)
def test_no_100(server: Server, data: bytes) -> None:
    with server.connect() as wire:
        wire.send(data)
        assert wire.reply().status == 200


def test_no_100_for_1_0_that_waits(server: Server) -> None:
    with server.connect() as wire:
        wire.send(expecting(version="1.0"))
        wire.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.sock.recv(1)
        wire.sock.settimeout(10)
        wire.send(b"hello")
        assert wire.sock.recv(12) == b"HTTP/1.1 200"


def test_417(server: Server) -> None:
    with server.connect() as wire:
        wire.send(request("/", "Expect: 100-continue, x", "Content-Length: 5", method="POST"))
        assert wire.reply().status == 417
        assert wire.ended()


# -- other sockets


def test_unix_socket(server: Server) -> None:
    with Wire(server.unix_path) as wire:
        for _ in range(2):
            seen = wire.get("/x").json()
            assert seen["PATH_INFO"] == "/x"
            # PEP 3333: never empty
            assert seen["SERVER_NAME"] and seen["SERVER_PORT"].isdigit()
            assert seen["REMOTE_ADDR"] == ""
        assert wire.get("/", "X-Forwarded-Proto: https").json()["wsgi.url_scheme"] == "https"


def test_ipv6(server: Server) -> None:
    if len(server.addresses) < 3:
        pytest.skip("this machine has no ::1")
    with Wire(server.addresses[2]) as wire:
        seen = wire.get("/x").json()
    assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"]) == ("::1", "::1")


# -- forwarding: the default trusts 127.0.0.1 and ::1

# field lines → REMOTE_ADDR, wsgi.url_scheme, HTTP_HOST
FORWARDED: list[tuple[list[str], tuple[str, str, str]]] = [
    (["X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", "http", "test")),
    (["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], ("192.0.2.1", "http", "test")),
    (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", "http", "test")),
    (["X-Forwarded-For: 192.0.2.1, 127.0.0.1"], ("192.0.2.1", "http", "test")),
    (["X-Forwarded-For: 2001:db8::1"], ("2001:db8::1", "http", "test")),
    (["X-Forwarded-Proto: https"], ("127.0.0.1", "https", "test")),
    (["X-Forwarded-Host: a.example"], ("127.0.0.1", "http", "a.example")),
    (
        ['Forwarded: for=192.0.2.1;proto=https;host="a.example:81"'],
        ("192.0.2.1", "https", "a.example:81"),
    ),
    (['Forwarded: for="[2001:db8::1]:47"'], ("2001:db8::1", "http", "test")),
    (["Forwarded: for=6.6.6.6, for=192.0.2.1;proto=https"], ("192.0.2.1", "https", "test")),
    (["Forwarded: for=unknown;proto=https"], ("127.0.0.1", "https", "test")),
]


@pytest.mark.parametrize(("lines", "expected"), FORWARDED, ids=lambda value: str(value)[:50])
def test_a_trusted_proxy(server: Server, lines: list[str], expected: tuple[str, str, str]) -> None:
    seen = environ_of(server, request("/", *lines))
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == expected


@pytest.mark.parametrize("lines", [case[0] for case in FORWARDED], ids=lambda value: value[0][:50])
def test_anybody_else(server: Server, lines: list[str]) -> None:
    seen = environ_of(server, request("/", *lines), source="127.0.0.2")
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == (
        "127.0.0.2",
        "http",
        "test",
    )
