"""What a request costs, counted and not timed: Python frames, and the memory of an idle connection.

The figures are the same on every machine. A change that makes one of them grow has to say why.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from middleware import StaticFiles
from tests.helpers import Driver, Environ, Stage, get, hello
from wsgiserver.connection import Connection
from wsgiserver.context import Peer
from wsgiserver.drive import close, drive
from wsgiserver.states import CLOSE, READ
from wsgiserver.workers.epoll import EpollWorker

PEER: Final = Peer("192.0.2.7", "4711", "server.example", "80")
BROWSER: Final = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Connection: keep-alive",
    "Cookie: session=0123456789abcdef; theme=dark",
    "Sec-Fetch-Dest: document",
    "Priority: u=0, i",
)

# The most frames that one request may take, through a worker's loop and with the application: a
# request that the client repeats, one with another target, and one of which everything is new.
REPEATED: Final = 18
OTHER_TARGET: Final = 31
ALL_OTHER: Final = 39
# One whose answer the application promised to stay true (docs/finished-answers.md): with what is
# sent in memory, and with a file behind its head.
FINISHED: Final = 6
FINISHED_FILE: Final = 12


def frames(call: Callable[[], object]) -> list[str]:
    """The names of the Python functions entered during a call."""
    names: list[str] = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names[1:]  # less the lambda's own


def stage(application: Any = hello) -> Stage:
    """With the real clock, and no access log, which is the default."""
    found = Stage(application, access=False)
    found.context.now = found.context.clock.now
    found.context.date_line = found.context.clock.date_line
    found.context.date_line()
    return found


Serve = Callable[[bytes], "list[str]"]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    server.setblocking(False)
    client.settimeout(10)
    with client, server:
        yield client, server


@pytest.fixture
def by_drive(sockets: tuple[socket.socket, socket.socket]) -> Serve:
    """Sends a request to a connection that is driven, and counts the frames of that."""
    client, server = sockets
    conn = Connection(stage().context, PEER)

    def serve(request: bytes) -> list[str]:
        client.sendall(request)
        names = frames(lambda: drive(conn, server))
        assert client.recv(65536).endswith(b"\r\n\r\nhello")
        return names

    return serve


@pytest.fixture
def by_epoll(sockets: tuple[socket.socket, socket.socket]) -> Iterator[Serve]:
    """Sends a request to an epoll worker, and counts the frames of one turn of its loop."""
    client, server = sockets
    stop, stopper = os.pipe()
    context = stage().context
    worker = EpollWorker(context, [], stop, grace=1, most=100)
    worker._begin(server, Connection(context, PEER))

    def serve(request: bytes) -> list[str]:
        client.sendall(request)
        names = frames(lambda: worker.turn())
        assert client.recv(65536).endswith(b"\r\n\r\nhello")
        # Four times a second a turn also looks at the deadlines; that belongs to no request.
        return names[: names.index("_sweep")] if "_sweep" in names else names

    yield serve
    for fd, entry in list(worker._entries.items()):
        worker.discard(fd, entry)
    worker._poller.close()
    os.close(stop)
    os.close(stopper)


def different(number: int) -> bytes:
    fields = [field.replace("0123456789abcdef", f"{number:016x}") for field in BROWSER]
    return get(f"/page/{number}?n={number}", *fields)


SAME: Final = get("/page", *BROWSER)
KINDS: Final[list[tuple[str, Callable[[int], bytes], int]]] = [
    ("the same again", lambda number: SAME, REPEATED),
    ("without fields", lambda number: get("/"), REPEATED),
    ("another target", lambda number: SAME.replace(b"/page", b"/page/%d" % number), OTHER_TARGET),
    ("all other", different, ALL_OTHER),
]


@pytest.mark.parametrize(("kind", "request_of", "budget"), KINDS, ids=[kind[0] for kind in KINDS])
@pytest.mark.parametrize("way", ["by_drive", "by_epoll"])
def test_frames(
    way: str,
    kind: str,
    request_of: Callable[[int], bytes],
    budget: int,
    request: pytest.FixtureRequest,
) -> None:
    """The second and later requests of a connection."""
    serve: Serve = request.getfixturevalue(way)
    serve(request_of(0))
    counts = [serve(request_of(number)) for number in range(1, 6)]
    # The Date line is formatted once a second, which may fall into one of them.
    names = min(counts, key=len)
    print(f"{way}, {kind}: {len(names)} frames: {' '.join(names)}")
    assert "hello" in names
    assert len(names) <= budget


# -- finished answers


@pytest.fixture(params=["a page", "a file", "304", "HEAD"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[StaticFiles, bytes]:
    """A site, and what is asked of it again and again."""
    old = 1_700_000_000
    for name, size in (("page.html", 1024), ("file.bin", 100_000)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (old, old))
    target = "/file.bin" if request.param == "a file" else "/page.html"
    since = ["If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"] if request.param == "304" else []
    method = "HEAD" if request.param == "HEAD" else "GET"
    return StaticFiles(tmp_path), get(target, *BROWSER, *since, method=method)


def test_frames_of_a_finished_answer(
    known: tuple[StaticFiles, bytes], sockets: tuple[socket.socket, socket.socket]
) -> None:
    """Through the loop of epoll, as often as it is asked within a second."""
    client, server = sockets
    app, head = known
    found = stage(app)
    stop, stopper = os.pipe()
    worker = EpollWorker(found.context, [], stop, grace=1, most=100)
    worker._begin(server, Connection(found.context, PEER))
    counts = []
    try:
        for _ in range(6):
            client.sendall(head)
            names = frames(lambda: worker.turn())
            while select.select([client], [], [], 0)[0]:
                client.recv(1 << 20)
            if "__call__" not in names:  # the application's
                counts.append(names[: names.index("_sweep")] if "_sweep" in names else names)
    finally:
        for fd, entry in list(worker._entries.items()):
            worker.discard(fd, entry)
        worker._poller.close()
        os.close(stop)
        os.close(stopper)
    names = min(counts, key=len)
    print(f"{len(names)} frames: {' '.join(names)}")
    assert "_repeat" in names
    assert len(names) <= (FINISHED_FILE if "_send_file" in names else FINISHED)


# -- memory


def bytes_each(make: Callable[[], object], count: int = 500) -> float:
    """What one more of what `make` makes costs, in bytes of Python's own memory."""
    make()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [make() for _ in range(count)]
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == count
    return (after - before) / count


def test_an_idle_connection_is_small() -> None:
    """Between two requests, when it no longer remembers the last one."""
    found = stage()

    def idle() -> Connection:
        driver = Driver(Connection(found.context, PEER))
        driver.give(SAME)
        assert driver.conn.idle
        driver.conn._reader.forget()
        return driver.conn

    cost = bytes_each(idle)
    print(f"an idle connection: {cost:.0f} bytes")
    assert cost <= 768


def test_a_new_connection_is_small() -> None:
    found = stage()
    cost = bytes_each(lambda: Connection(found.context, Peer("192.0.2.7", "4711", "s", "80")))
    print(f"a new connection: {cost:.0f} bytes")
    assert cost <= 768


def test_what_is_remembered_is_bounded() -> None:
    """A client with the largest possible head must not make the server keep it for long."""
    found = stage()
    large = get("/", *[f"X-{number}: {'y' * 7000}" for number in range(9)])

    def idle() -> Connection:
        driver = Driver(Connection(found.context, PEER))
        driver.give(large)
        assert driver.conn.idle
        return driver.conn

    assert bytes_each(idle, 50) <= 32768


# -- what an application keeps does not keep the connection


class Watched(Connection):
    __slots__ = ("__weakref__",)


class Body:
    """An iterable that keeps everything it can get hold of, in a cycle."""

    def __init__(self, environ: Environ, start_response: Callable[..., Any]) -> None:
        self.kept = (environ, start_response, start_response("200 OK", []))
        environ["in a cycle"] = environ
        environ["the body"] = self
        self._blocks = iter([b"one", b"two", b"three"])

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        pass


KEPT: list[Any] = []


def keeps_environ(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = Body(environ, start_response)
    KEPT.append(body)
    return body


def keeps_and_fails(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    KEPT.append(Body(environ, start_response))
    raise ValueError


@pytest.mark.parametrize("application", [keeps_environ, keeps_and_fails])
@pytest.mark.parametrize("end", ["closes", "leaves", "is lost", "takes nothing"])
def test_an_application_that_keeps_environ(
    application: Any, end: str, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """granian never exits then: the socket must be free as soon as the connection is done."""
    client, server = sockets
    found = Stage(application)
    gc.collect()
    gc.disable()
    references = sys.getrefcount(server)
    try:
        conn = Watched(found.context, PEER)
        conn.feed(get("/", *(["Connection: close"] if end == "closes" else [])))
        conn.run(server)
        if end == "is lost":
            conn.lost(ConnectionResetError())
        elif end == "takes nothing":
            conn.expire()
        elif end == "leaves":
            client.shutdown(socket.SHUT_WR)
        while drive(conn, server) is not CLOSE:
            if conn.want is READ and end != "leaves":
                client.shutdown(socket.SHUT_WR)
        close(conn, server)
        connection = weakref.ref(conn)
        found.notes.failures.clear()  # their tracebacks keep frames
        del conn
        assert len(KEPT) == 1
        assert connection() is None, "the connection is still alive"
        assert sys.getrefcount(server) == references, "something keeps the socket"
    finally:
        gc.enable()
        KEPT.clear()
        gc.collect()
