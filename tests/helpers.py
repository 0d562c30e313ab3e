"""A connection without a socket: its context, with a clock set by hand, and what drives it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wsgiserver.config import Config
from wsgiserver.connection import Connection
from wsgiserver.context import Context, Peer
from wsgiserver.http.errors import HTTPError
from wsgiserver.states import CLOSE, READ, RUN, SHUT, WRITE, Want

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Notes:
    """A journal that keeps what it is told.

    `lines` are the access log's records; the others are what went wrong, in the order in which it
    did.
    """

    def __init__(self, logs_access: bool = True) -> None:
        self.access: Callable[..., None] | None = self._access if logs_access else None
        self.lines: list[tuple[Environ, str, int, Any, float, bool]] = []
        self.failures: list[BaseException] = []
        self.wrong: list[str] = []
        self.refusals: list[HTTPError] = []
        self.dropped: list[str] = []
        self.left_out: list[str] = []

    def _access(self, *record: Any) -> None:
        self.lines.append(record)

    def application_failed(self, environ: Environ, error: BaseException) -> None:
        self.failures.append(error)

    def server_failed(self, peer: str, error: BaseException) -> None:
        raise error

    def response_wrong(self, environ: Environ, text: str) -> None:
        self.wrong.append(text)

    def refused(self, peer: str, error: HTTPError) -> None:
        self.refusals.append(error)

    def fields_dropped(self, peer: str, names: tuple[str, ...]) -> None:
        self.dropped += names

    def hop_by_hop(self, names: tuple[str, ...]) -> None:
        self.left_out += names


class Stage:
    """Connections that share a context, whose time is `now` and whose Date is always `DATE`.

    `application` answers; the options are those of `Config`.
    """

    def __init__(self, application: Application, *, access: bool = True, **options: Any) -> None:
        self.now = 1000.0
        self.notes = Notes(access)
        self.context = Context(
            application, Config(**options), self.notes, multithread=False, multiprocess=False
        )
        self.context.now = lambda: self.now
        self.context.date_line = lambda: DATE
        self.context.clock.line, self.context.clock.fresh_until = DATE, float("inf")
        self.context.flush = _flush

    def connect(self, kind: type[Connection] = Connection, address: str = "192.0.2.7") -> Driver:
        """A new client's connection."""
        return Driver(kind(self.context, Peer(address, "4711", "server.example", "80")))


class Driver:
    """Does what a connection wants, as `drive` does, with `output` in the place of a socket.

    `broken` makes everything that is sent fail with this error.
    """

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.output = bytearray()
        self.shut = False
        self.broken: OSError | None = None

    def give(self, *pieces: bytes) -> Want:
        """Feed one piece after the other as long as it is wanted, and do what follows from it.

        b"" is the end of what the client sends.
        """
        for piece in pieces:
            if self.conn.want is not READ:
                break
            self.conn.feed(piece)
            self.go()
        return self.conn.want

    def go(self) -> Want:
        """Run and send until the connection waits for the client or is closed."""
        while self.conn.want not in (READ, CLOSE):
            self.step()
        return self.conn.want

    def step(self, most: int | None = None) -> Want:
        """Do one thing that it wants; send at most `most` bytes."""
        conn = self.conn
        if conn.want is RUN:
            return conn.run(self)
        if conn.want is SHUT:
            assert not self.shut, "shut twice"
            self.shut = True
            return conn.shut()
        assert conn.want is WRITE
        if self.broken is not None:
            return conn.lost(self.broken)
        data = self.pending(most)
        self.output += data
        return conn.sent(len(data))

    def pending(self, most: int | None = None) -> bytes:
        """What would be sent next."""
        conn = self.conn
        if conn.out:
            return bytes(conn.out[:most])
        assert conn.file is not None, "WRITE without anything to send"
        count = conn.file.count if most is None else min(most, conn.file.count)
        return os.pread(conn.file.fd, count, conn.file.offset)

    @property
    def sent(self) -> bytes:
        """What was sent up to now."""
        return bytes(self.output)


def _flush(conn: Connection, driver: Driver) -> None:
    if driver.broken is not None:
        raise driver.broken
    driver.output += conn.out


def hello(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """The commonest kind of application."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def echo(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """Answers with the method, the target and the body, so that a mixed-up request shows."""
    body: bytes = environ["wsgi.input"].read()
    line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} ".encode("latin-1")
    content = line + b"[" + body + b"]"
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content]


def get(target: str = "/", *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """The bytes of a request without a body."""
    lines = [f"{method} {target} HTTP/{version}", "Host: a.example", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *fields: str, target: str = "/", version: str = "1.1") -> bytes:
    """The bytes of a request with a body."""
    fields = (*fields, f"Content-Length: {len(body)}")
    return get(target, *fields, method="POST", version=version) + body


def chunked(*chunks: bytes, trailers: Sequence[str] = ()) -> bytes:
    """Content in the chunked coding."""
    lines = "".join(line + "\r\n" for line in trailers).encode("latin-1")
    content = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return content + b"0\r\n" + lines + b"\r\n"
