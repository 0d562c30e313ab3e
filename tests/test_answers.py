"""Finished answers: what may be repeated, for how long, and what is owed when it is forgotten."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

import pytest

from tests.helpers import Driver, Environ, Stage, get
from tests.helpers import post as posted
from tests.support.wire import Truncated, replies
from wsgiserver import answers
from wsgiserver.answers import LONGEST_BODY, Answer, Answers
from wsgiserver.states import CLOSE, READ, WRITE

StartResponse = Callable[..., Any]
MOST: Final = answers._MOST


class Block(list[bytes]):
    """A body that keeps its promise: the protocol's two attributes, and a close() that counts."""

    answered_by: object = None
    fresh_until = 0.0
    closed = 0

    def close(self) -> None:
        self.closed += 1


class File:
    """A file for wsgi.file_wrapper which promises, and counts how often it is closed."""

    fileno_is_content = True
    answered_by: object = None
    fresh_until = 0.0
    closed = 0

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._offset = offset

    def fileno(self) -> int:
        return self._fd

    def tell(self) -> int:
        return self._offset

    def read(self, size: int) -> bytes:
        raise AssertionError("it is sent, not read")

    def close(self) -> None:
        self.closed += 1
        os.close(self._fd)


class Promising:
    """An application whose answers hold for a second; `calls` counts how often it was asked.

    `body` makes what it returns, of the number of the call. `promise` may be another object.
    """

    def __init__(
        self,
        stage: list[Stage],
        body: Callable[[int], Any] = lambda call: Block([b"answer %d" % call]),
        *headers: tuple[str, str],
        status: str = "200 OK",
        promise: object = None,
    ) -> None:
        self._stage = stage
        self._body = body
        self._headers = headers
        self._status = status
        self._promise = promise if promise is not None else self
        self.calls = 0
        self.made: list[Any] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        self.calls += 1
        body = self._body(self.calls)
        body.answered_by = self._promise
        body.fresh_until = self._stage[0].now + 1
        self.made.append(body)
        if isinstance(body, File):
            size = os.fstat(body.fileno()).st_size - body.tell()
            start_response(self._status, [*self._headers, *_length(self._headers, size)])
            return cast("Iterable[bytes]", environ["wsgi.file_wrapper"](body))
        size = sum(map(len, body))
        start_response(self._status, [*self._headers, *_length(self._headers, size)])
        return cast("Iterable[bytes]", body)


def _length(headers: Iterable[tuple[str, str]], size: int) -> list[tuple[str, str]]:
    if any(name == "Content-Length" for name, _ in headers):
        return []
    return [("Content-Length", str(size))]


def promising(*arguments: Any, access: bool = True, **options: Any) -> tuple[Promising, Stage]:
    place: list[Stage] = []
    app = Promising(place, *arguments, **options)
    place.append(Stage(app, access=access))
    return app, place[0]


def ask(driver: Driver, data: bytes = get("/x")) -> bytes:
    """What is sent for a request; the connection stays open."""
    before = len(driver.output)
    assert driver.give(data) is READ
    return driver.sent[before:]


# -- repeating


def test_the_same_head_is_answered_without_asking() -> None:
    app, stage = promising()
    first, second = stage.connect(), stage.connect(address="192.0.2.8")
    answer = ask(first)
    assert answer.endswith(b"\r\n\r\nanswer 1")
    assert [ask(first), ask(second), ask(second)] == [answer] * 3
    assert app.calls == 1


def test_an_answer_that_does_not_hold_any_more_is_asked_for_anew() -> None:
    holds: list[Any] = [True, True, False, True, ZeroDivisionError(), True]
    asked: list[int] = []

    def look() -> bool:
        asked.append(1)
        found = holds.pop(0)
        if isinstance(found, Exception):
            raise found
        return bool(found)

    def body(call: int) -> Block:
        made = Block([b"answer %d" % call])
        made.holds = look  # type: ignore[attr-defined]
        return made

    app, stage = promising(body)
    driver = stage.connect()
    answers = [ask(driver)[-1:] for _ in range(7)]
    assert (answers, len(asked), app.calls) == ([b"1", b"1", b"1", b"2", b"2", b"3", b"3"], 6, 3)


@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified", "404 Not Found", "206 Part"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_byte_for_byte(status: str, method: str) -> None:
    """For each kind of framing."""
    empty = status.startswith("304")
    app, stage = promising(
        lambda call: Block([] if empty else [b"ab", b"c"]), ("ETag", '"a"'), status=status
    )
    driver = stage.connect()
    request = get("/x", method=method)
    answers = [ask(driver, request) for _ in range(3)]
    assert app.calls == 1
    assert answers[0] == answers[1] == answers[2]
    assert [reply.status for reply in replies(driver.sent, *[method] * 3)] == [int(status[:3])] * 3


@pytest.mark.parametrize("offset", [0, 3])
def test_a_file(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    app, stage = promising(lambda call: File(path, offset))
    driver = stage.connect()
    answers = [ask(driver) for _ in range(3)]
    assert answers[0].endswith(b"\r\n\r\n" + b"0123456789"[offset:])
    assert answers[0] == answers[1] == answers[2]
    assert app.calls == 1


def test_until_it_is_no_longer_fresh() -> None:
    app, stage = promising()
    driver = stage.connect()
    ask(driver)
    stage.now += 0.999
    assert ask(driver).endswith(b"answer 1")
    stage.now += 0.002
    assert ask(driver).endswith(b"answer 2")
    assert ask(driver).endswith(b"answer 2")
    assert app.calls == 2


def test_the_date_is_that_of_now() -> None:
    app, stage = promising()
    driver = stage.connect()
    before = ask(driver)
    later = b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    stage.context.clock.line = later
    after = ask(driver)
    assert app.calls == 1
    assert before != after
    assert after.count(b"Date: ") == 1
    assert later in after


@pytest.mark.parametrize("promise", [object(), "an application"], ids=["object", "str"])
def test_the_promise_of_another_object_counts_for_nothing(promise: object) -> None:
    """A middleware in between must see every request."""
    _, stage = promising(promise=promise)
    driver = stage.connect()
    assert [ask(driver)[-1:] for _ in range(3)] == [b"1", b"2", b"3"]
    assert not stage.context.answers


def test_a_middleware_in_between_sees_every_request() -> None:
    place: list[Stage] = []
    inner = Promising(place)
    seen = []

    def outer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(environ["REMOTE_ADDR"])
        return inner(environ, start_response)

    place.append(Stage(outer))
    for address in ("192.0.2.1", "192.0.2.2"):
        ask(place[0].connect(address=address))
    assert seen == ["192.0.2.1", "192.0.2.2"]
    assert inner.calls == 2


@pytest.mark.parametrize(
    "data",
    [
        posted(b"body", target="/x"),
        get("/x", method="POST"),
        get("/x", method="OPTIONS"),
        get("/x", "X-Forwarded-For: 192.0.2.1"),
        get("/x", "Forwarded: for=192.0.2.1"),
        get("/x", "X-Forwarded-Proto: https"),
        get("http://b.example/x"),
        get("/x", "X-Long: " + "x" * 5000),
        get("/x").replace(b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive"),
    ],
)
def test_what_is_never_repeated(data: bytes) -> None:
    app, stage = promising()
    driver = stage.connect()
    for _ in range(3):
        ask(driver, data)
    assert app.calls == 3
    assert not stage.context.answers


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_that_closes(version: str) -> None:
    app, stage = promising()
    fields = ["Connection: close"] if version == "1.1" else []
    for _ in range(2):
        driver = stage.connect()
        assert driver.give(get("/x", *fields, version=version)) in (READ, CLOSE)
        assert replies(driver.sent)[0].closes
    assert app.calls == 2


def test_the_application_closes_the_connection() -> None:
    app, stage = promising(lambda call: Block([b"abc"]), ("Connection", "close"))
    for _ in range(2):
        driver = stage.connect()
        driver.give(get("/x"))
        assert replies(driver.sent)[0].closes
    assert app.calls == 2


def test_an_answer_with_a_date_of_its_own() -> None:
    app, stage = promising(lambda call: Block([b"abc"]), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"))
    driver = stage.connect()
    ask(driver)
    ask(driver)
    assert app.calls == 2


def test_an_answer_that_the_server_frames() -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        calls.append(1)
        start_response("200 OK", [])
        body = Block([b"abc"])
        body.answered_by = application
        body.fresh_until = stage.now + 1
        return body

    calls: list[int] = []
    stage = Stage(application)
    driver = stage.connect()
    assert ask(driver) == ask(driver)
    assert len(calls) == 2


@pytest.mark.parametrize("declared", [2, 9])
def test_an_answer_of_another_length_than_declared(declared: int) -> None:
    """What is cut off, or missing, must be so each time, and shown in the same way."""
    app, stage = promising(lambda call: Block([b"abc"]), ("Content-Length", str(declared)))
    for _ in range(2):
        driver = stage.connect()
        driver.give(get("/x"))
        if declared == 2:
            assert replies(driver.sent)[0].body == b"ab"
        else:
            assert driver.conn.want is CLOSE
            with pytest.raises(Truncated):
                replies(driver.sent)
    assert app.calls == 2
    assert len(stage.notes.wrong) == 2


def test_a_file_that_is_shorter_than_declared(tmp_path: Path) -> None:
    """It was truncated after its head was made: no later answer may look complete."""
    path = tmp_path / "file"
    path.write_bytes(b"01234")
    app, stage = promising(lambda call: File(path), ("Content-Length", "10"))
    for _ in range(3):
        driver = stage.connect()
        driver.give(get("/x"))
        assert driver.conn.want is CLOSE
        with pytest.raises(Truncated):
            replies(driver.sent)
    assert app.calls == 3


def test_a_file_that_shrinks_while_it_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    app, stage = promising(lambda call: File(path))
    ask(stage.connect())
    path.write_bytes(b"01234")
    driver = stage.connect()
    driver.give(get("/x"))
    assert app.calls == 1
    assert driver.conn.want is CLOSE
    with pytest.raises(Truncated):
        replies(driver.sent)
    assert stage.notes.wrong == ["a file got shorter while it was sent"]


def test_what_was_written_before_belongs_to_the_answer() -> None:
    """start_response's write() sent something that the returned body does not hold."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"abc")
        body = Block([b"def"])
        body.answered_by = application
        body.fresh_until = stage.now + 1
        return body

    stage = Stage(application)
    driver = stage.connect()
    for _ in range(3):
        assert ask(driver).endswith(b"\r\n\r\nabcdef")


def test_a_long_body_is_not_remembered() -> None:
    app, stage = promising(lambda call: Block([b"x" * (LONGEST_BODY + 1)]))
    driver = stage.connect()
    assert ask(driver) == ask(driver)
    assert app.calls == 2


# -- between requests


def test_half_an_empty_line_before_it() -> None:
    """A lone CR is no empty line (RFC 9112 §2.2): refused, however well the rest is known."""
    _, stage = promising()
    known = stage.connect()
    ask(known)
    for driver in (stage.connect(), known):
        before = len(driver.output)
        driver.give(b"\r")
        assert driver.conn.want is READ
        driver.give(get("/x"))
        (reply,) = replies(driver.sent[before:])
        assert (reply.status, reply.closes) == (400, True)


def test_an_empty_line_before_it() -> None:
    _, stage = promising()
    driver = stage.connect()
    answer = ask(driver)
    for pieces in ([b"\r\n" + get("/x")], [b"\r\n", get("/x")], [b"\r", b"\n", get("/x")]):
        before = len(driver.output)
        driver.give(*pieces)
        got = driver.sent[before:].replace(b"answer 2", b"answer 1")
        assert got.replace(b"answer 3", b"answer 1") == answer


def test_a_head_that_comes_in_pieces() -> None:
    app, stage = promising()
    driver = stage.connect()
    answer, request = ask(driver), get("/x")
    for cut in (1, 10, len(request) - 2):
        before = len(driver.output)
        driver.give(request[:cut], request[cut:])
        assert driver.sent[before:].endswith(b"\r\n\r\nanswer %d" % app.calls)
    assert ask(driver).split(b"\r\n\r\n")[0] == answer.split(b"\r\n\r\n")[0]


def test_a_whole_request_as_the_end_of_another() -> None:
    """Bytes that complete a head are never taken for a request of their own."""
    app, stage = promising()
    driver = stage.connect()
    ask(driver)
    driver.give(b"GET /y HTTP/1.1\r\nX: ", get("/x"))
    assert app.calls == 2
    assert driver.sent.endswith(b"answer 2")


def test_a_whole_request_as_a_body() -> None:
    app, stage = promising()
    driver = stage.connect()
    ask(driver)
    body = get("/x")
    driver.give(posted(body, target="/y")[: -len(body)], body)
    assert app.calls == 2
    assert len(replies(driver.sent)) == 2


def test_five_in_one_packet() -> None:
    _, stage = promising()
    driver = stage.connect()
    ask(driver)
    driver.give(get("/x") * 5)
    assert len(replies(driver.sent)) == 6
    assert driver.conn.idle


def test_a_repeated_answer_that_leaves_in_pieces() -> None:
    app, stage = promising()
    driver = stage.connect()
    answer = ask(driver)
    before = len(driver.output)
    driver.conn.feed(get("/x"))
    while driver.conn.want is WRITE:
        driver.step(most=7)
    assert driver.sent[before:] == answer
    assert driver.conn.idle
    assert app.calls == 1


@pytest.mark.parametrize("event", ["expire", "lost"])
def test_a_client_that_does_not_take_it(event: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    app, stage = promising(lambda call: File(path))
    ask(stage.connect())
    driver = stage.connect()
    driver.conn.feed(get("/x"))
    driver.step()  # the head
    driver.step(most=4)
    assert driver.conn.deadline == stage.now + stage.context.write_timeout
    if event == "expire":
        assert driver.conn.expire() is CLOSE
    else:
        assert driver.conn.lost(ConnectionResetError()) is CLOSE
    assert stage.notes.lines[-1][2:] == (4, stage.notes.lines[-1][3], 0.0, True)
    assert ask(stage.connect()).endswith(b"0123456789")
    assert app.calls == 1


def test_the_next_request_of_a_connection_that_repeated() -> None:
    _, stage = promising()
    ask(stage.connect())
    driver = stage.connect()
    ask(driver)
    assert ask(driver, get("/y")).endswith(b"answer 2")
    driver.give(b"BAD\r\n\r\n")
    assert replies(driver.sent)[-1].status == 400
    assert replies(driver.sent)[-1].body


# -- stopping


def test_a_stopping_worker_repeats_nothing() -> None:
    app, stage = promising()
    fresh, known = stage.connect(), stage.connect()
    ask(known)
    stage.context.drain()
    fresh.give(get("/x"))
    (reply,) = replies(fresh.sent)
    assert reply.closes
    assert app.calls == 2
    assert not stage.context.answers


def test_an_answer_that_is_made_while_the_stop_comes() -> None:
    """A thread of the pool may be at it."""
    place: list[Stage] = []

    def body(call: int) -> Block:
        place[0].context.drain()
        return Block([b"abc"])

    app = Promising(place, body)
    place.append(Stage(app))
    place[0].connect().give(get("/x"))
    assert not place[0].context.answers


# -- the access log


def test_the_log_names_who_asks() -> None:
    app, stage = promising()
    ask(stage.connect(address="192.0.2.1"))
    stage.now += 0.5
    ask(stage.connect(address="192.0.2.2"))
    assert app.calls == 1
    first, second = stage.notes.lines
    assert first[0]["REMOTE_ADDR"] == "192.0.2.1"
    assert second[0]["REMOTE_ADDR"] == "192.0.2.2"
    assert second[0]["RAW_URI"] == first[0]["RAW_URI"] == "/x"
    assert second[1:4] == first[1:4]
    assert second[1:3] == ("200 OK", 8)
    assert second[4:] == (0.0, False)


def test_without_a_log() -> None:
    app, stage = promising(access=False)
    driver = stage.connect()
    assert ask(driver) == ask(driver)
    assert (app.calls, stage.notes.lines) == (1, [])


# -- what is kept, and what is owed


def test_no_more_are_kept_than_the_bound() -> None:
    app, stage = promising()
    driver = stage.connect()
    for number in range(MOST + 100):
        ask(driver, get(f"/{number}"))
    assert len(stage.context.answers) == MOST
    calls = app.calls
    ask(driver, get("/0"))  # the oldest left first
    assert app.calls == calls + 1
    ask(driver, get(f"/{MOST + 99}"))
    assert app.calls == calls + 1


def test_the_stale_leave_when_another_comes() -> None:
    _, stage = promising()
    driver = stage.connect()
    for number in range(10):
        ask(driver, get(f"/{number}"))
    stage.now += 2
    ask(driver, get("/new"))
    assert len(stage.context.answers) == 1


def test_an_answer_is_replaced_by_its_newer_self() -> None:
    app, stage = promising()
    driver = stage.connect()
    for _ in range(5):
        ask(driver)
        stage.now += 2
    assert len(stage.context.answers) == 1
    assert app.calls == 5


@pytest.mark.parametrize("kind", ["block", "file"])
def test_close_is_called_once_when_it_is_forgotten(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    app, stage = promising(lambda call: File(path) if kind == "file" else Block([b"abc"]))
    driver = stage.connect()
    for _ in range(3):
        ask(driver)
    (body,) = app.made
    assert body.closed == 0
    stage.now += 2
    ask(driver)
    assert [each.closed for each in app.made] == [1, 0]
    stage.context.answers.clear()
    assert [each.closed for each in app.made] == [1, 1]


def test_close_waits_for_the_last_who_sends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    app, stage = promising(lambda call: File(path))
    ask(stage.connect())
    slow, gone = stage.connect(), stage.connect()
    for driver in (slow, gone):
        driver.conn.feed(get("/x"))
        driver.step()
    stage.context.answers.clear()
    (file,) = app.made
    assert file.closed == 0
    gone.conn.lost(ConnectionResetError())
    assert file.closed == 0
    slow.go()
    assert slow.sent.endswith(b"0123456789")
    assert file.closed == 1


def test_close_waits_for_the_first_who_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    app, stage = promising(lambda call: File(path))
    driver = stage.connect()
    driver.conn.feed(get("/x"))
    driver.step()
    stage.context.answers.clear()
    (file,) = app.made
    assert file.closed == 0
    driver.go()
    assert driver.sent.endswith(b"0123456789")
    assert file.closed == 1


def test_an_answer_keeps_no_connection() -> None:
    _, stage = promising()
    ask(stage.connect())
    (answer,) = stage.context.answers.values()
    assert answer.request is None
    ask(stage.connect())
    assert answer.request is None


def test_threads_that_remember_at_once() -> None:
    """The bound holds, and nobody gets an error, whoever is faster."""
    shared = Answers()
    failures: list[BaseException] = []

    def remember(thread: int) -> None:
        try:
            for number in range(3000):
                answer = _answer(until=float(number + 5))
                shared.remember(b"%d %d" % (thread, number % 600), answer, float(number))
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=remember, args=(each,)) for each in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    shared.remember(b"last", _answer(until=1e9), 1e6)
    assert list(shared) == [b"last"]


class _Response:
    """As much of a response as an answer takes."""

    class head:  # noqa: N801  it stands for an instance
        prefix = b""

    sent = 0
    file = None
    holds = None
    closer = None


def _answer(until: float) -> Answer:
    response: Any = _Response()
    return Answer(response, b"", {}, until)
