"""The connection as a machine without sockets: every state and verb, and what the client gets."""

from __future__ import annotations

import asyncio
import io
import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helpers import Application, Driver, Environ, Stage, chunked, echo, get, hello, post
from tests.support.wire import Truncated, replies
from wsgiserver import context, states
from wsgiserver.connection import Connection
from wsgiserver.files import FileWrapper
from wsgiserver.gateway import ClientDisconnected
from wsgiserver.logs import Journal, Record, compile_format
from wsgiserver.states import CLOSE, READ, RUN, WRITE, State

StartResponse = Callable[..., Any]


class Body:
    """An iterable of an application's that counts how often it is closed.

    A block that is an exception is raised; `on_close` too.
    """

    def __init__(self, *blocks: Any, on_close: BaseException | None = None) -> None:
        self._blocks = blocks
        self._on_close = on_close
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            if isinstance(block, BaseException):
                raise block
            yield block

    def close(self) -> None:
        self.closed += 1
        if self._on_close is not None:
            raise self._on_close


def answering(body: Iterable[bytes], *headers: tuple[str, str]) -> Application:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", list(headers))
        return body

    return application


def length(size: int) -> tuple[str, str]:
    return ("Content-Length", str(size))


def bodies(driver: Driver, *methods: str) -> list[bytes]:
    return [reply.body for reply in replies(driver.sent, *methods)]


def statuses(driver: Driver, *methods: str) -> list[int]:
    return [reply.status for reply in replies(driver.sent, *methods)]


# -- IDLE, HEAD


def test_a_request_and_its_answer() -> None:
    driver = Stage(hello).connect()
    assert driver.conn.want is READ
    assert driver.conn.feed(get()) is RUN
    assert driver.conn.run(driver) is WRITE
    assert driver.step() is READ
    (reply,) = replies(driver.sent)
    assert (reply.status, reply.body, reply.closes) == (200, b"hello", False)
    assert driver.conn.idle


def test_head_and_first_block_leave_together() -> None:
    driver = Stage(answering(Body(b"one", b"two"))).connect()
    driver.conn.feed(get())
    driver.conn.run(driver)
    assert driver.pending().endswith(b"\r\n\r\n3\r\none\r\n")


def test_the_next_block_is_pulled_only_when_nothing_is_pending() -> None:
    pulled = []

    def blocks() -> Iterator[bytes]:
        for number in range(3):
            pulled.append(number)
            yield b"x"

    driver = Stage(answering(blocks())).connect()
    driver.conn.feed(get())
    driver.step()
    assert pulled == [0]
    driver.step(most=10)
    assert driver.conn.want is WRITE
    assert pulled == [0]
    assert driver.step() is RUN
    driver.step()
    assert pulled == [0, 1]


def test_an_idle_connection_closes_without_a_word() -> None:
    stage = Stage(hello)
    for event in ("expire", "end", "lost"):
        driver = stage.connect()
        driver.give(get())
        sent = driver.sent
        match event:
            case "expire":
                driver.conn.expire()
            case "end":
                driver.conn.feed(b"")
            case _:
                driver.conn.lost(ConnectionResetError())
        assert driver.conn.want is CLOSE
        assert driver.sent == sent
    assert len(stage.notes.lines) == 3


@pytest.mark.parametrize("pieces", [[b"\r\n"], [b"\r", b"\n"], [b"\r\n\r", b"\n"]])
@pytest.mark.parametrize("ends", ["end", "expire", "drain"])
def test_empty_lines_are_nothing_yet(pieces: list[bytes], ends: str) -> None:
    """RFC 9112 §2.2: ignored, so the connection is as idle as without them."""
    driver = Stage(hello).connect()
    driver.give(get())
    sent = driver.sent
    driver.give(*pieces)
    assert driver.conn.idle
    match ends:
        case "end":
            driver.give(b"")
        case "expire":
            driver.conn.expire()
        case _:
            driver.conn.drain()
    assert driver.conn.want is CLOSE
    assert driver.sent == sent


def test_deadlines() -> None:
    stage = Stage(hello, keep_alive=7, head_timeout=5, body_timeout=3, write_timeout=11)
    conn = stage.connect().conn
    driver = Driver(conn)
    assert conn.deadline == stage.now + 5
    stage.now += 1
    conn.feed(b"GET")
    assert conn.deadline == stage.now + 5
    began = stage.now
    stage.now += 1
    conn.feed(b" / HTTP/1.1\r\n")
    assert conn.deadline == began + 5, "the head as a whole has one deadline"
    stage.now += 1
    driver.give(b"Host: a\r\n\r\n")
    assert conn.deadline == stage.now + 7
    stage.now += 1
    conn.feed(get(method="POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"))
    assert conn.deadline == stage.now + 3
    stage.now += 2
    conn.feed(b"he")
    assert conn.deadline == stage.now + 3, "each piece of a body gives time for the next"
    conn.feed(b"llo")
    conn.run(driver)
    assert conn.deadline == stage.now + 11
    stage.now += 2
    driver.step(most=3)
    assert conn.deadline == stage.now + 11


def test_empty_lines_give_no_more_time() -> None:
    stage = Stage(hello, head_timeout=5)
    driver = stage.connect()
    deadline = driver.conn.deadline
    stage.now += 1
    driver.give(b"\r\n")
    assert driver.conn.deadline == deadline


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\n", post(b"hello")[:-1]])
def test_a_request_that_is_not_complete_in_time(start: bytes) -> None:
    stage = Stage(hello)
    driver = stage.connect()
    driver.give(start)
    driver.conn.expire()
    driver.go()
    assert statuses(driver) == [408]
    assert driver.shut
    assert not stage.notes.failures


@pytest.mark.parametrize("start", [b"GET /", b"G", post(b"hello")[:-1]])
def test_a_request_that_ends_early(start: bytes) -> None:
    driver = Stage(hello).connect()
    driver.give(start, b"")
    assert statuses(driver) == [400]


@pytest.mark.parametrize("start", [b"GET /", post(b"hello")[:-1]])
def test_a_client_lost_within_its_request(start: bytes) -> None:
    driver = Stage(hello).connect()
    driver.give(start)
    assert driver.conn.lost(ConnectionResetError()) is CLOSE
    assert driver.sent == b""


def test_the_longest_head_however_it_comes() -> None:
    stage = Stage(hello)
    most = stage.context.limit_head
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 8
    head += b"Y: " + b"b" * (most - len(head) - 3)
    assert len(head) == most
    for over in (b"", b"b"):
        for cut in (1, 2, 3, 4, len(head)):
            driver = stage.connect()
            data = head + over + b"\r\n\r\n"
            driver.give(data[:-cut], data[-cut:])
            assert statuses(driver) == [431 if over else 200]


def test_the_longest_request_line_however_it_comes() -> None:
    stage = Stage(hello, limit_request_line=100)
    line = b"GET /" + b"a" * (100 - len("GET / HTTP/1.1")) + b" HTTP/1.1"
    for data, status in ((line, 200), (line.replace(b"/a", b"/aa"), 414)):
        data += b"\r\nHost: a\r\n\r\n"
        for pieces in ([data], [data[:101], data[101:]], [data[:102], data[102:]], list_of(data)):
            driver = stage.connect()
            driver.give(*pieces)
            assert statuses(driver) == [status]


def list_of(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


# -- the memory of the last request


SAME: Final = get("/same", "Cookie: a=b", "X_A: 1")


def test_the_same_request_again_is_the_same_to_the_application() -> None:
    seen: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append({key: value for key, value in environ.items() if type(value) is str})
        environ.clear()  # it may do with environ whatever it likes (PEP 3333)
        return hello(environ, start_response)

    stage = Stage(application)
    driver = stage.connect()
    driver.give(SAME, SAME, SAME, get("/other", "Cookie: a=b", "X_A: 1"), SAME)
    assert [environ.pop("PATH_INFO") for environ in seen] == [*["/same"] * 3, "/other", "/same"]
    for environ in seen:
        del environ["RAW_URI"], environ["REQUEST_URI"]
        assert environ == seen[0]


def test_methods_and_hosts_of_the_last_request_do_not_stick() -> None:
    seen: list[tuple[str, str, bytes]] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"].read()
        seen.append((environ["REQUEST_METHOD"], environ["HTTP_HOST"], body))
        return hello(environ, start_response)

    driver = Stage(application).connect()
    absolute = get("http://b.example/")
    driver.give(get(), get(method="HEAD"), get(), absolute, absolute, get(), post(b"x"), post(b"y"))
    assert bodies(driver, "GET", "HEAD") == [b"hello", b"", *[b"hello"] * 6]
    a, b = "a.example", "b.example"
    assert seen[:6] == [
        ("GET", a, b""), ("HEAD", a, b""), ("GET", a, b""), ("GET", b, b""), ("GET", b, b""),
        ("GET", a, b""),
    ]  # fmt: skip
    assert seen[6:] == [("POST", a, b"x"), ("POST", a, b"y")]


def test_versions_of_the_last_request_do_not_stick() -> None:
    driver = Stage(answering(Body(b"x"))).connect()
    block = get("/", "Connection: keep-alive")
    driver.give(block, block, block.replace(b"HTTP/1.1", b"HTTP/1.0"))
    first, second, third = replies(driver.sent)
    assert first.framing == second.framing == "chunked"
    assert third.framing == "close"
    assert third.closes


def test_a_bounded_number_of_connections_remembers() -> None:
    stage = Stage(hello, access=False)
    drivers = [stage.connect() for _ in range(context._MOST_MEMOS + 5)]
    for driver in drivers:
        driver.give(get())
    remember = [driver.conn._reader.memo is not None for driver in drivers]
    assert remember == [False] * 5 + [True] * context._MOST_MEMOS
    drivers[0].give(get("/x"))
    assert len(bodies(drivers[0])) == 2


def test_dropped_fields_are_told() -> None:
    stage = Stage(hello)
    stage.connect().give(SAME, SAME)
    assert set(stage.notes.dropped) == {"X_A"}


# -- BODY


@pytest.mark.parametrize("size", [0, 1, 1000, 1001, 5000])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_bodies_in_memory_and_on_disk(size: int, coding: str, tmp_path: Path) -> None:
    content = os.urandom(size)
    seen: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        file = environ["wsgi.input"]
        on_disk = not isinstance(file, io.BytesIO)
        seen.append((environ.get("CONTENT_LENGTH"), file.read(), file.read(), on_disk))
        return hello(environ, start_response)

    driver = Stage(application, spool_size=1000, spool_dir=str(tmp_path)).connect()
    if coding == "length":
        data = post(content)
    else:
        data = get("/", "Transfer-Encoding: chunked", method="POST") + chunked(
            *[content[at : at + 700] for at in range(0, size, 700)]
        )
    driver.give(data[:-1], data[-1:])
    assert seen == [(str(size), content, b"", size > 1000)]
    assert statuses(driver) == [200]
    assert list(tmp_path.iterdir()) == [], "a file was left over"


def test_a_spooled_body_is_gone_with_its_request(tmp_path: Path) -> None:
    kept: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        return hello(environ, start_response)

    stage = Stage(application, spool_size=100, spool_dir=str(tmp_path))
    stage.connect().give(post(b"x" * 200))
    assert kept[0].closed
    lost = stage.connect()
    lost.give(post(b"x" * 200)[:-1])
    spool = lost.conn._body
    assert spool is not None and not spool.file.closed
    lost.conn.lost(ConnectionResetError())
    assert spool.file.closed


def test_a_body_that_cannot_be_stored(tmp_path: Path) -> None:
    gone = tmp_path / "spool"
    gone.mkdir()
    stage = Stage(hello, spool_size=100, spool_dir=str(gone))
    gone.rmdir()
    driver = stage.connect()
    driver.give(post(b"x" * 200))
    assert statuses(driver) == [507]
    other = stage.connect()
    other.give(post(b"x" * 100))
    assert statuses(other) == [200]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    stage = Stage(hello, spool_size=100, spool_dir=str(tmp_path))
    driver = stage.connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        driver.give(post(b"x" * 200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert statuses(driver) == [507]
    assert list(tmp_path.iterdir()) == []


EXPECTS: Final = get("/", "Expect: 100-continue", "Content-Length: 5", method="POST")


def test_continue() -> None:
    driver = Stage(echo).connect()
    assert driver.give(EXPECTS) is READ
    assert driver.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    driver.give(b"hello")
    assert statuses(driver) == [100, 200]
    assert bodies(driver)[1] == b"POST / [hello]"


def test_no_continue_when_the_body_is_on_its_way_already() -> None:
    driver = Stage(echo).connect()
    driver.give(EXPECTS + b"h", b"ello")
    assert statuses(driver) == [200]


def test_no_continue_where_no_body_is_waited_for() -> None:
    driver = Stage(echo).connect()
    driver.give(get("/", "Expect: 100-continue"), get("/", "Expect: 100-continue"))
    assert statuses(driver) == [200, 200]


def test_continue_for_a_chunked_body() -> None:
    driver = Stage(echo).connect()
    driver.give(get("/", "Expect: 100-Continue", "Transfer-Encoding: chunked", method="POST"))
    driver.give(chunked(b"hello"))
    assert statuses(driver) == [100, 200]


@pytest.mark.parametrize("sent", [0, 10, 24])
def test_time_runs_out_while_continue_is_sent(sent: int) -> None:
    """What is on its way must not get something else in its middle."""
    driver = Stage(echo).connect()
    driver.conn.feed(EXPECTS)
    if sent:
        driver.step(most=sent)
    driver.conn.expire()
    driver.go()
    assert driver.sent.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"[:sent])
    if driver.sent[sent:]:
        assert statuses(driver)[-1] == 408


def test_a_body_never_becomes_a_request() -> None:
    """Whatever the application does with it (werkzeug, CVE-2022-29361)."""
    evil = get("/evil")
    for answer in (hello, answering([b""], length(0)), answering(Body(ValueError()))):
        stage = Stage(answer)
        driver = stage.connect()
        driver.give(post(evil) + get("/next"))
        targets = [line[0]["RAW_URI"] for line in stage.notes.lines]
        assert "/evil" not in targets


# -- pipelining


def test_pipelined_requests_are_answered_in_order() -> None:
    driver = Stage(echo).connect()
    driver.give(get("/1") + post(b"two", target="/2") + get("/3") + b"GET /4 HT", b"TP/1.1\r\n")
    assert bodies(driver) == [b"GET /1 []", b"POST /2 [two]", b"GET /3 []"]
    driver.give(b"Host: a\r\n\r\n")
    assert bodies(driver)[3] == b"GET /4 []"


def test_a_thousand_pipelined_requests() -> None:
    driver = Stage(echo).connect()
    driver.give(b"".join(get(f"/{number}") for number in range(1000)))
    assert bodies(driver) == [f"GET /{number} []".encode() for number in range(1000)]


def test_one_request_at_a_time() -> None:
    """Nothing of the second one happens before the first is answered."""
    driver = Stage(answering(Body(b"a", b"b"))).connect()
    driver.conn.feed(get("/1") + b"BAD\r\n\r\n")
    while driver.conn.want is not READ:
        assert b"400 Bad" not in driver.sent or driver.sent.count(b"0\r\n\r\n") == 1
        driver.step()
    assert statuses(driver) == [200, 400]


def test_nothing_is_served_behind_close() -> None:
    for first in (get("/1", "Connection: close"), get("/1", version="1.0")):
        stage = Stage(hello)
        driver = stage.connect()
        driver.give(first + get("/2"))
        assert len(stage.notes.lines) == 1
        assert driver.shut or driver.conn.want is CLOSE


def test_nothing_is_served_behind_an_answer_that_says_close() -> None:
    stage = Stage(answering([b"x"], ("Connection", "close")))
    driver = stage.connect()
    driver.give(get("/1") + get("/2"))
    (reply,) = replies(driver.sent)
    assert reply.closes
    assert driver.shut


def test_without_keep_alive_every_answer_says_close() -> None:
    """RFC 9112 §9.3: a server that does not persist MUST say so in every response."""
    driver = Stage(hello, keep_alive=0).connect()
    driver.give(get("/1") + get("/2"))
    (reply,) = replies(driver.sent)
    assert reply.closes
    assert driver.shut


# -- the answer


def fails() -> Application:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        raise ValueError("the application's")

    return application


def raising(error: BaseException) -> Application:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        raise error

    return application


class Abort(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), asyncio.CancelledError(), GeneratorExit(), Abort()]
)
@pytest.mark.parametrize("place", ["call", "first block", "close"])
def test_an_application_that_fails_before_anything_is_sent(
    error: BaseException, place: str
) -> None:
    body = {
        "call": Body(),
        "first block": Body(error),
        "close": Body(on_close=error),
    }[place]
    application = raising(error) if place == "call" else answering(body)
    stage = Stage(application)
    driver = stage.connect()
    driver.give(get())
    assert statuses(driver) == [500]
    assert stage.notes.failures == [error]
    assert body.closed == (place != "call")
    assert driver.shut, "the client may still send: no reset must destroy the answer"
    other = stage.connect()
    other.give(get())
    assert statuses(other) == [500], "the others go on"


@pytest.mark.parametrize(
    "body",
    [
        ["text"],
        ["text", "text"],
        Body("text"),
        [None],
        None,
        5,
        b"bytes",
        "text",
        Body(b"", 7),
        [1, 2],
    ],
)
def test_what_is_no_body_is_500(body: Any) -> None:
    stage = Stage(answering(body))
    driver = stage.connect()
    driver.give(get())
    assert statuses(driver) == [500]
    assert len(stage.notes.failures) == 1


@pytest.mark.parametrize("headers", [[length(9)], []])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_application_that_fails_in_the_middle(
    headers: list[tuple[str, str]], version: str
) -> None:
    """The client can tell that something is missing."""
    error = ValueError()
    body = Body(b"one", error)
    stage = Stage(answering(body, *headers))
    driver = stage.connect()
    driver.give(get("/1", version=version) + get("/2"))
    assert driver.conn.want is CLOSE
    assert body.closed == 1
    assert stage.notes.failures == [error]
    assert [line[5] for line in stage.notes.lines] == [True]
    if headers or version == "1.1":
        with pytest.raises(Truncated):
            replies(driver.sent)
        assert not driver.conn.reset
    else:
        assert driver.conn.reset, "only a reset shows it here"


def test_fewer_bytes_than_declared() -> None:
    for body in ([b"abc"], Body(b"a", b"bc")):
        stage = Stage(answering(body, length(5)))
        driver = stage.connect()
        driver.give(get("/1") + get("/2"))
        with pytest.raises(Truncated):
            replies(driver.sent)
        assert driver.conn.want is CLOSE
        assert "fewer" in stage.notes.wrong[0]


def test_more_bytes_than_declared() -> None:
    for body in ([b"abcdef"], Body(b"abcd", b"ef"), Body(b"abcde", b"f"), [b"abc", b"def"]):
        stage = Stage(answering(body, length(5)))
        driver = stage.connect()
        driver.give(get("/1"))
        assert bodies(driver) == [b"abcde"]
        assert "more" in stage.notes.wrong[0]
        assert driver.conn.want is READ


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", ["200 OK", "204 x", "205 x", "304 x"])
def test_answers_without_content(method: str, status: str) -> None:
    """RFC 9112 §6.3: not a byte of it may leave, or it would be the next answer."""
    for body in ([b"abc"], Body(b"abc", b"def"), Body(), []):

        def application(environ: Environ, start_response: StartResponse, body: Any = body) -> Any:
            start_response(status, [])
            return body

        driver = Stage(application).connect()
        driver.give(get(method=method) + get(method=method))
        first, second = replies(driver.sent, method, method)
        assert first.status == second.status == int(status[:3])
        if method == "HEAD" or status[0] != "2" or status[:3] in ("204", "205"):
            assert first.body == b""
        if isinstance(body, Body):
            assert body.closed == 2


@pytest.mark.parametrize("body", [[], [b""], Body(), Body(b""), Body(b"", b"")])
def test_HEAD_says_nothing_of_a_length_that_is_not_known(body: Any) -> None:
    """RFC 9110 §8.6: MUST NOT unless it is that of GET."""
    driver = Stage(answering(body)).connect()
    driver.give(get(method="HEAD"))
    (reply,) = replies(driver.sent, "HEAD")
    assert reply.get("Content-Length") is None


def test_a_refused_HEAD_has_no_content() -> None:
    """RFC 9110 §9.3.2: MUST NOT, whatever it was refused for."""
    for data in (
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        get("/", "Expect: x", method="HEAD"),
        get("/", "Content-Length: x", method="HEAD"),
    ):
        stage = Stage(hello)
        driver = stage.connect()
        driver.give(data)
        assert driver.sent.endswith(b"\r\n\r\n")
        assert driver.sent.count(b"\r\n\r\n") == 1
        assert stage.notes.lines[0][2] == 0, "no byte of content was sent"


# -- write()


def writing(*steps: Any, then: Iterable[bytes] = (), headers: Any = ()) -> Application:
    """Writes the steps one after the other, swallowing what fails as bad applications do."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", list(headers))
        for step in steps:
            try:
                write(step)
            except OSError:
                pass
        return then

    return application


def test_write_sends_before_it_returns() -> None:
    sent: list[int] = []
    drivers: list[Driver] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        for block in (b"one", b"", b"two"):
            write(block)
            sent.append(len(drivers[0].sent))
        return [b"three"]

    drivers.append(Stage(application).connect())
    drivers[0].give(get())
    assert 0 < sent[0] == sent[1] < sent[2]
    (reply,) = replies(drivers[0].sent)
    assert reply.blocks == [b"one", b"two", b"three"]


@pytest.mark.parametrize("then", [[], [b"c"], Body(), Body(b"c")])
def test_write_with_a_length(then: Any) -> None:
    size = 2 + (then == [b"c"] or (isinstance(then, Body) and then._blocks != ()))
    driver = Stage(writing(b"a", b"b", then=then, headers=[length(size)])).connect()
    driver.give(get(), get())
    assert bodies(driver) == [b"abc"[:size]] * 2


@pytest.mark.parametrize("then", [[b"67890"], [], Body(b"67890"), Body()])
def test_nothing_is_sent_after_a_write_that_failed(then: Any) -> None:
    stage = Stage(writing(b"12345", then=then, headers=[length(10)]))
    driver = stage.connect()
    driver.conn.feed(get())
    driver.broken = TimeoutError()
    driver.conn.run(driver)
    driver.broken = None
    driver.go()
    assert driver.conn.want is CLOSE
    assert driver.sent == b""
    assert not isinstance(then, Body) or then.closed == 1
    assert [line[5] for line in stage.notes.lines] == [True]


def test_a_failed_write_raises_in_the_application() -> None:
    seen: list[BaseException] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        for _ in range(2):
            try:
                write(b"x")
            except Exception as error:
                seen.append(error)
        raise seen[0]

    stage = Stage(application)
    driver = stage.connect()
    driver.broken = BrokenPipeError()
    driver.give(get())
    assert [type(error) for error in seen] == [ClientDisconnected, ClientDisconnected]
    assert isinstance(seen[0], OSError)
    assert stage.notes.failures == [], "a client that left is no fault of the application"
    assert driver.conn.want is CLOSE


def test_write_kept_until_after_the_answer() -> None:
    kept: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        kept.append(start_response("200 OK", [length(1)]))
        return [b"x"]

    driver = Stage(application).connect()
    driver.give(get("/1"))
    sent = driver.sent
    with pytest.raises(Exception, match="complete"):
        kept[0](b"evil")
    driver.give(get("/2"))
    assert bodies(driver) == [b"x", b"x"]
    assert driver.sent.startswith(sent)


def test_early_hints() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        start_response("200 OK", [])
        return [b"x"]

    driver = Stage(application).connect()
    driver.give(get(), get("/", "Connection: keep-alive", version="1.0"))
    hints, first, second = replies(driver.sent)
    assert (hints.status, hints.get("Link")) == (103, "</a.css>; rel=preload")
    assert first.status == second.status == 200


# -- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 40)
    return path


@pytest.mark.parametrize("offset", [0, 100, 10240])
@pytest.mark.parametrize("most", [None, 999])
def test_a_file(path: Path, offset: int, most: int | None) -> None:
    files = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        file = path.open("rb")
        file.seek(offset)
        files.append(file)
        start_response("200 OK", [])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    driver = Stage(application).connect()
    driver.conn.feed(get("/1") + get("/2"))
    while driver.conn.want is not READ:
        driver.step(most)
    assert bodies(driver) == [path.read_bytes()[offset:]] * 2
    assert all(file.closed for file in files)


def test_a_file_that_gets_shorter(path: Path) -> None:
    body = FileWrapper(path.open("rb"))
    stage = Stage(answering(body))
    driver = stage.connect()
    driver.conn.feed(get())
    driver.step()
    driver.step()
    driver.step(most=100)
    os.truncate(path, 50)
    driver.go()
    assert driver.conn.want is CLOSE
    assert body.file.closed
    assert "shorter" in stage.notes.wrong[0]
    with pytest.raises(Truncated):
        replies(driver.sent)


@pytest.mark.parametrize("event", ["lost", "expire"])
def test_a_file_whose_client_leaves(path: Path, event: str) -> None:
    body = FileWrapper(path.open("rb"))
    driver = Stage(answering(body)).connect()
    driver.conn.feed(get())
    driver.step()
    driver.step()
    driver.step(most=100)
    if event == "lost":
        driver.conn.lost(BrokenPipeError())
    else:
        driver.conn.expire()
    driver.go()
    assert driver.conn.want is CLOSE
    assert body.file.closed


# -- close() exactly once


@pytest.mark.parametrize("event", ["nothing", "lost", "expire"])
@pytest.mark.parametrize("when", range(1, 8))
@pytest.mark.parametrize("on_close", [None, ValueError()])
def test_close_is_called_once(event: str, when: int, on_close: BaseException | None) -> None:
    body = Body(b"one", b"", b"two", on_close=on_close)
    driver = Stage(answering(body)).connect()
    driver.conn.feed(get())
    for number in range(20):
        if driver.conn.want in (READ, CLOSE):
            break
        if number == when and driver.conn.want is not RUN:
            if event == "lost":
                driver.conn.lost(ConnectionResetError())
            elif event == "expire":
                driver.conn.expire()
        if driver.conn.want not in (READ, CLOSE):
            driver.step()
    assert body.closed == 1


def test_close_is_called_before_the_last_bytes_leave() -> None:
    """So that a client which has the whole answer also has what close() did (a commit, say)."""
    body = Body(b"one")
    driver = Stage(answering(body)).connect()
    driver.conn.feed(get())
    while not body.closed:
        assert not driver.sent.endswith(b"0\r\n\r\n")
        driver.step()
    driver.go()
    assert driver.sent.endswith(b"0\r\n\r\n")


def test_a_fault_in_close_does_not_look_like_success() -> None:
    body = Body(b"one", on_close=ValueError())
    stage = Stage(answering(body))
    driver = stage.connect()
    driver.give(get())
    with pytest.raises(Truncated):
        replies(driver.sent)
    assert len(stage.notes.failures) == 1


# -- stopping, ends


def test_drain() -> None:
    stage = Stage(hello)
    fresh, idle, head, body, running, lingering = (stage.connect() for _ in range(6))
    idle.give(get())
    head.give(b"GET")
    body.give(post(b"hello")[:-1])
    running.conn.feed(get())
    lingering.give(get("/", "Content-Length: x"))
    stage.context.drain()
    for driver in (fresh, head, body, running, lingering):
        driver.conn.drain()
    assert idle.conn.drain() is CLOSE
    assert fresh.conn.deadline <= stage.now + 1, "it came through the backlog: a moment more"
    for driver, rest in ((fresh, get()), (head, get()[3:]), (body, b"o"), (running, b"")):
        if rest:
            driver.give(rest)
        driver.go()
        (reply,) = replies(driver.sent)
        assert (reply.status, reply.closes) == (200, True)
        assert driver.shut
    assert lingering.conn.want is READ


def test_drain_serves_what_was_said_to_go_on() -> None:
    """The answer that said nothing of close is out; the request behind it was accepted."""
    stage = Stage(hello)
    driver = stage.connect()
    driver.conn.feed(get("/1") + get("/2"))
    driver.step()
    stage.context.drain()
    driver.conn.drain()
    driver.go()
    first, second = replies(driver.sent)
    assert (first.closes, second.closes) == (False, True)


def test_linger_drops_what_comes_until_the_client_ends() -> None:
    stage = Stage(hello)
    driver = stage.connect()
    driver.give(b"BAD\r\n\r\n" + get("/evil"))
    sent = driver.sent
    for _ in range(3):
        assert driver.give(get("/evil") * 100) is READ
    assert driver.sent == sent
    assert driver.conn.deadline == stage.now + stage.context.linger_timeout
    assert driver.give(b"") is CLOSE


def test_linger_gives_no_more_time_for_more_bytes() -> None:
    stage = Stage(hello)
    driver = stage.connect()
    driver.give(b"BAD\r\n\r\n")
    deadline = driver.conn.deadline
    stage.now += 1
    driver.give(b"x")
    assert driver.conn.deadline == deadline
    assert driver.conn.expire() is CLOSE


def test_a_client_that_asked_to_close_is_not_waited_for() -> None:
    driver = Stage(hello).connect()
    assert driver.give(get("/", "Connection: close")) is CLOSE
    assert not driver.shut


def test_a_client_lost_while_its_request_waits_to_run() -> None:
    """The call cannot be undone any more: it runs, and its iterable is closed."""
    body = Body(b"one", b"two")
    driver = Stage(answering(body)).connect()
    driver.conn.feed(get())
    driver.broken = BrokenPipeError()
    assert driver.conn.lost(BrokenPipeError()) is RUN
    driver.go()
    assert driver.conn.want is CLOSE
    assert body.closed == 1


# -- the access log


def test_one_line_for_each_request() -> None:
    stage = Stage(echo)
    driver = stage.connect()
    driver.give(get("/1") + get("/2", method="HEAD") + b"BAD\r\n\r\n")
    lines = [(line[1], line[2], line[5]) for line in stage.notes.lines]
    assert lines[0] == ("200 OK", len("GET /1 []"), False)
    assert lines[1] == ("200 OK", 0, False)
    assert lines[2][0] == "400 Bad Request"
    assert len(lines) == 3


def test_a_request_lost_in_its_body_has_a_line() -> None:
    """One line for every request, also refused, aborted and killed ones."""
    stage = Stage(echo)
    driver = stage.connect()
    driver.give(post(b"hello", target="/lost")[:-1])
    driver.conn.lost(ConnectionResetError())
    ((environ, _, sent, _, _, aborted),) = stage.notes.lines
    assert (environ["RAW_URI"], sent, aborted) == ("/lost", 0, True)


@pytest.mark.parametrize("first", [b"", get()])
@pytest.mark.parametrize("fault", ["chunk", "timeout", "end", "too large"])
def test_the_seconds_of_a_request_refused_in_its_body(first: bytes, fault: str) -> None:
    stage = Stage(hello, limit_request_body=10)
    driver = stage.connect()
    driver.give(first + get("/", "Transfer-Encoding: chunked", method="POST"))
    stage.now += 2
    match fault:
        case "chunk":
            driver.give(b"x")
        case "too large":
            driver.give(b"FF\r\n")
        case "end":
            driver.give(b"")
        case _:
            driver.conn.expire()
    assert stage.notes.lines[-1][4] == pytest.approx(2)


def test_an_application_may_do_with_environ_whatever_it_likes() -> None:
    """PEP 3333: "the application is allowed to modify the dictionary in any way it desires"."""
    written: list[str] = []
    every = " ".join(f"%({atom})s" for atom in "hlutrmUqHsBbfaTMDLp") + " %({X}i)s %({y}e)s"
    for line_of in (compile_format(every), compile_format("json")):
        for change in (
            dict.clear,
            lambda environ: environ.update(dict.fromkeys(environ, None)),
            lambda environ: environ.update(dict.fromkeys(environ, 5)),
            lambda environ: environ.update(dict.fromkeys(environ, b"\xff")),
            lambda environ: environ.pop("RAW_URI"),
            lambda environ: environ.pop("SERVER_PROTOCOL"),
        ):

            def application(
                environ: Environ, start_response: StartResponse, change: Any = change
            ) -> list[bytes]:
                start_response("200 OK", [length(3)])
                change(environ)
                return [b"x"] if len(written) % 2 else [b"xyz"]  # every other one is too short

            stage = Stage(application)
            journal = Journal(lambda *record: written.append(line_of(Record(*record))))  # noqa: B023
            stage.context.journal = journal
            before = len(written)
            stage.connect().give(get(), get())
            assert len(written) > before


# -- the table of transitions


_ROW = re.compile(r"    ([A-Z]+) .*?  +((?:[a-z]+(?:, )?)+ → .*)")
_LEAVES = re.compile(r"((?:[a-z]+(?:, )?)+) → ([A-Z]+(?: \(\d+\))?(?: \| [A-Z]+(?: \(\d+\))?)*)")

Transition = tuple[str, str, str]  # state, verb, state


def listed() -> set[Transition]:
    """The transitions that the docstring of states.py names."""
    found = set()
    for line in (states.__doc__ or "").splitlines():
        row = _ROW.match(line)
        for leaves in _LEAVES.finditer(row[2]) if row else ():
            for verb in leaves[1].split(", "):
                for state in re.findall("[A-Z]+", leaves[2]):
                    assert row is not None
                    found.add((row[1], verb, state))
    return found


class Recorded(Connection):
    """Tells `seen` of each transition, under the innermost verb that made it."""

    __slots__ = ("_now", "_verbs", "seen")

    _now: State

    def __init__(self, *args: Any) -> None:
        self._verbs: list[str] = []
        self.seen: set[Transition] = set()
        super().__init__(*args)

    @property
    def _state(self) -> State:
        return self._now

    @_state.setter
    def _state(self, state: State) -> None:
        if self._verbs:
            self.seen.add((self._now.name, self._verbs[-1], state.name))
        self._now = state


def _verb(name: str) -> Any:
    inner = getattr(Connection, name)

    def verb(self: Recorded, *args: Any) -> Any:
        before, count = self._state, len(self.seen)
        self._verbs.append(name)
        try:
            return inner(self, *args)
        finally:
            self._verbs.pop()
            if self._state is before and len(self.seen) == count:
                self.seen.add((before.name, name, before.name))

    return verb


for _name in ("feed", "run", "sent", "shut", "expire", "drain", "lost"):
    setattr(Recorded, _name, _verb(_name))


class Finished(list[bytes]):
    """An answer that is promised to hold for ever (docs/finished-answers.md)."""

    fresh_until = float("inf")

    def __init__(self, answered_by: object) -> None:
        super().__init__([b"finished"])
        self.answered_by = answered_by


def promises(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [length(8)])
    return Finished(promises)


def scenarios(path: Path) -> Iterator[tuple[Application, dict[str, Any], list[Any]]]:
    """Applications, settings, and what happens: bytes that come, or the name of an event."""
    close = get("/", "Connection: close")
    bad = b"BAD\r\n\r\n"
    for application in (
        hello,
        echo,
        fails(),
        answering(Body(b"a", b"", b"b")),
        answering(Body(b"a", b"b"), length(2)),
        answering(Body(b"a", b"b", on_close=ValueError()), length(2)),
        answering(Body(b"a", ValueError())),
        answering([b"abc"], length(9)),
        answering(Body(b"a"), length(9)),
        lambda environ, start: answering(iter([b"a", b"b"]))(environ, start),
        lambda environ, start: answering(iter([b"a"]), length(1))(environ, start),
        writing(b"abc", headers=[length(3)]),
        writing(b"abc", then=Body(), headers=[length(3)]),
        writing(b"abc", then=Body(), headers=[length(9)]),
        lambda environ, start: answering(FileWrapper(path.open("rb")))(environ, start),
        lambda environ, start: answering(FileWrapper(path.open("rb")), length(999))(environ, start),
    ):
        for behind in (b"", b"G", get(), post(b"hello")[:-1], post(b"hello"), bad, b"\r\n"):
            yield application, {}, [get() + behind]
        for first in (get(), close):
            yield application, {}, [first + get()]
            for event in ("lost", "expire"):
                for when in range(1, 7):
                    yield application, {}, [first, *["step"] * when, event]
        yield application, {}, [close]
        yield application, {"keep_alive": 0}, [get()]
        yield application, {}, ["broken", get()]
        yield application, {}, [get(method="HEAD")]
    events: list[Any] = [
        "lost",
        "expire",
        "drain",
        b"",
        b"\0",
        b"l",
        get()[1:],
        post(b"hello")[1:-1],
    ]
    for start in (b"", b"G", post(b"hello")[:-2], post(b"hello")[:-5], bad, get()):
        for event in events:
            yield hello, {}, [start, event] if start else [event]
    for behind in (b"", b"G", get(), bad):
        yield promises, {}, [get(), get() + behind]
    for event in ("lost", "expire", "drain"):
        yield promises, {}, ["hold", get(), "step", "step", get(), event]
    yield hello, {}, [b"\r", b"\n"]
    yield hello, {}, [get("/", "Transfer-Encoding: chunked", method="POST"), b"x"]
    yield echo, {}, [EXPECTS, "expire"]
    yield echo, {}, [EXPECTS, b"hello"]
    yield echo, {}, ["hold", EXPECTS, "lost"]
    yield echo, {}, ["hold", EXPECTS, "step10", "expire"]
    yield echo, {}, ["hold", bad, "expire"]
    yield echo, {}, ["hold", bad, "lost"]


def play(stage: Stage, events: list[Any]) -> set[Transition]:
    driver = stage.connect(Recorded)
    hold = any(event in ("hold", "step") for event in events)
    for event in events:
        conn = driver.conn
        match event:
            case bytes():
                driver.give(event) if not hold else conn.feed(event)
            case "step" | "step10":
                if conn.want not in (READ, CLOSE):
                    driver.step(most=10 if event == "step10" else None)
            case "broken":
                driver.broken = BrokenPipeError()
            case "lost" if conn.want is not CLOSE:
                conn.lost(ConnectionResetError())
            case "expire" | "drain" if conn.want is not CLOSE:
                getattr(conn, event)()
    driver.go()
    driver.give(b"")
    assert isinstance(driver.conn, Recorded)
    return driver.conn.seen


def test_the_table_of_transitions(tmp_path: Path) -> None:
    """What the docstring of states.py lists is what happens, all of it and nothing else.

    A verb that leaves the state as it is need not be listed.
    """
    path = tmp_path / "file"
    path.write_bytes(b"file")
    seen: set[Transition] = set()
    for application, options, events in scenarios(path):
        seen |= play(Stage(application, **options), events)
    assert {row for row in seen if row[0] != row[2]} - listed() == set(), "not listed"
    assert listed() - seen == set(), "listed, but it never happens"
