"""What holds of a connection whatever is sent, however it is cut, and whatever happens when."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.helpers import Driver, Environ, Stage, chunked, echo, get, post
from tests.support.wire import Reply, Truncated, read_reply
from wsgiserver.connection import Connection
from wsgiserver.files import FileWrapper
from wsgiserver.states import CLOSE, READ, RUN, SHUT, WRITE, State

# -- any cut of a stream gives the same answers

CHUNKED: Final = get("/c", "Transfer-Encoding: chunked", method="POST")
PIECES: Final = (
    get("/a"),
    get("/a"),
    get("/b?c", "Cookie: a=b", "X_Y: z"),
    get("/h", method="HEAD"),
    get("http://b.example/d"),
    get("*", method="OPTIONS"),
    get("/k", "Connection: keep-alive", version="1.0"),
    post(b"hello"),
    post(b"\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"),
    post(b""),
    CHUNKED + chunked(b"a", b"bc" * 20, trailers=["X: y"]),
    CHUNKED + b'1;a="b"\r\nx\r\n0\r\n\r\n',
    b"\r\n",
    get("/last", "Connection: close"),
)
# One fault each: its status is the same however it comes.
BROKEN: Final = (
    b"GET / HTTP/2.0\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"\0\1",
    b"\r",
    b"\n",
    b"GET / HT",
    get("/", "X : y"),
    get("/", "X: " + "y" * 300),
    get("/" + "y" * 300),
    get("/", *["X: y"] * 30),
    get("/", "Content-Length: x", method="POST"),
    get("/", "Content-Length: 9999", method="POST"),
    get("a.example:80", method="CONNECT"),
    CHUNKED + b"x",
    CHUNKED + b"1\r\nxy",
    CHUNKED + b"5;" + b"a" * 40 + b"\0",
    CHUNKED + b"0\r\nX : y\r\n\r\n",
    CHUNKED + b"0\r\nX: \0y\r\n\r\n",
    CHUNKED + b"0\r\nGET /evil HTTP/1.1\r\n\r\n",
)
# Two faults each: which is named may depend on what came first, not that it is refused.
TWICE_BROKEN: Final = (
    b"GET / HTTP/3.1\r\nX: \0\r\n\r\n",
    get("/" + "y" * 300, "Z: \0"),
    get("/", "X: \0" + "y" * 300),
    get("/", *["X: y"] * 30, "Z: \0"),
    CHUNKED + b"fff\r\n\0",
    get("/", "Expect: x", "Content-Length: 9999", method="POST"),
)
LIMITS: Final[dict[str, Any]] = {
    "limit_request_line": 128,
    "limit_request_fields": 20,
    "limit_request_field_size": 128,
    "limit_request_body": 200,
    "spool_size": 64,
}
STREAMS = st.builds(
    lambda good, bad: b"".join(good) + bad,
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
    st.sampled_from((b"", *BROKEN)),
)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in pairwise(marks)]


def bytewise(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


# The server's own answer, which is always the last one.
REFUSAL: Final = re.compile(
    rb"HTTP/1\.1 ([45][0-9][0-9]) [^\r]*\r\nContent-Type: text/plain\r\n.*?\r\n\r\n(.*)\Z",
    re.DOTALL,
)


def outcome(stage: Stage, pieces: list[bytes], refusal: bytes) -> tuple[bytes, bytes]:
    """What the server sent for the pieces, and what it sent when the client then ended.

    A refusal is replaced by its description: `refusal`, with its status as the group 1.
    """
    driver = stage.connect()
    driver.give(*pieces)
    before = driver.sent
    driver.give(b"")
    return REFUSAL.sub(refusal, before), REFUSAL.sub(refusal, driver.sent[len(before) :])


def any_cut_is_the_same(data: bytes, places: list[int], refusal: bytes) -> None:
    stage = Stage(echo, **LIMITS)
    whole = outcome(stage, [data], refusal)
    assert outcome(stage, cut(data, places), refusal) == whole
    assert outcome(stage, bytewise(data), refusal) == whole


@settings(max_examples=250, derandomize=True, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 3000), max_size=6))
def test_any_cut_gives_the_same_answers(data: bytes, places: list[int]) -> None:
    any_cut_is_the_same(data, places, rb"refused with \1")


def test_every_single_cut() -> None:
    """Each piece, good and broken, in two parts at every place."""
    stage = Stage(echo, **LIMITS)
    for piece in (*PIECES, *BROKEN):
        data = get("/first") + piece + get("/behind")
        whole = outcome(stage, [data], rb"refused with \1")
        for place in range(1, len(data)):
            pieces = cut(data, [place])
            assert outcome(stage, pieces, rb"refused with \1") == whole, (piece, place)


@pytest.mark.parametrize("piece", [piece for piece in BROKEN if piece.startswith(b"HEAD")])
def test_every_single_cut_of_a_refused_HEAD(piece: bytes) -> None:
    """RFC 9110 §9.3.2: no content, however it came."""
    stage = Stage(echo, **LIMITS)
    for place in range(1, len(piece)):
        assert outcome(stage, cut(piece, [place]), rb"then \2")[0] == b"then ", place


def test_every_single_cut_with_two_faults() -> None:
    stage = Stage(echo, **LIMITS)
    for piece in TWICE_BROKEN:
        data = get("/first") + piece + get("/behind")
        whole = outcome(stage, [data], b"refused")
        assert whole[0].endswith(b"refused")
        for place in range(1, len(data)):
            assert outcome(stage, cut(data, [place]), b"refused") == whole, (piece, place)


@st.composite
def damaged_streams(draw: st.DrawFn) -> bytes:
    """Good requests in a row, of which up to three bytes were changed, left out or put in."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))))
    byte = st.sampled_from(b" \t\r\n:,;/\0\x7f\x80_+0a") | st.integers(0, 255)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 1))] = bytes((draw(byte),)) * draw(st.integers(0, 1))
        data = data or bytearray(b"x")
    return bytes(data)


@settings(max_examples=250, derandomize=True, deadline=None)
@given(damaged_streams(), st.lists(st.integers(0, 3000), max_size=4))
def test_any_cut_of_a_damaged_stream(data: bytes, places: list[int]) -> None:
    any_cut_is_the_same(data, places, b"refused")


# -- whatever happens when


class Body:
    """An application's iterable, which says how often it was closed and whether it was begun."""

    def __init__(self, blocks: list[Any]) -> None:
        self._blocks = iter(blocks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        assert not self.closed, "pulled after close()"
        block: Any = next(self._blocks)
        if isinstance(block, Exception):
            raise block
        return block  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed += 1


class Origin:
    """An application whose path says how it answers; every content names its request."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []
        self.files: list[Any] = []
        self.targets: list[str] = []

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.targets.append(environ["RAW_URI"])
        kind = environ["PATH_INFO"].strip("/")
        content = self.content(environ["RAW_URI"], environ["wsgi.input"].read())
        length = ("Content-Length", str(len(content)))
        if kind == "fail":
            raise ValueError
        if kind == "file":
            return self._file(content, start_response)
        write = start_response("200 OK", [length] if kind in ("list", "sized", "short") else [])
        half = len(content) // 2
        if kind == "list":
            return [content]
        if kind == "write":
            write(content[:half])
            return self._body([content[half:]])
        if kind == "short":
            return self._body([content[:half]])
        if kind == "broken":
            return self._body([content[:half], ValueError()])
        return self._body([content[:half], b"", content[half:]])

    @staticmethod
    def content(target: str, body: bytes) -> bytes:
        return b"<%b|%b>" % (target.encode(), body)

    def _body(self, blocks: list[Any]) -> Body:
        self.bodies.append(Body(blocks))
        return self.bodies[-1]

    def _file(self, content: bytes, start_response: Callable[..., Any]) -> FileWrapper:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(content)
        file.seek(0)
        self.files.append(file)
        start_response("200 OK", [])
        return FileWrapper(file)


KINDS: Final = ("list", "stream", "sized", "write", "file", "fail", "short", "broken")
EVIL: Final = get("/evil")


class Life(RuleBasedStateMachine):
    """One connection, to which anything a driver may do is done in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.origin = Origin()
        self.stage = Stage(self.origin, spool_size=16)
        self.driver: Driver = self.stage.connect()
        self.to_come = b""  # bytes that the client is still to send
        self.asked: list[tuple[str, str, bytes]] = []  # method, target, body
        self.number = 0
        self.closed_at: bytes | None = None
        self.cut_off = False

    @property
    def conn(self) -> Connection:
        return self.driver.conn

    @initialize(kinds=st.lists(st.sampled_from(KINDS), max_size=2))
    def begin(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.ask(kind, "GET", b"", False)

    @rule(
        kind=st.sampled_from(KINDS),
        method=st.sampled_from(["GET", "POST", "HEAD"]),
        body=st.sampled_from([b"", b"x", EVIL]),
        coded=st.booleans(),
    )
    def ask(self, kind: str, method: str, body: bytes, coded: bool) -> None:
        """The client has one more request to send."""
        self.number += 1
        target = f"/{kind}?{self.number}"
        self.asked.append((method, target, body))
        if coded:
            head = get(target, "Transfer-Encoding: chunked", method=method)
            self.to_come += head + (chunked(body) if body else chunked())
        else:
            fields = [f"Content-Length: {len(body)}"] if body else []
            self.to_come += get(target, *fields, method=method) + body

    @precondition(lambda self: self.conn.want is READ and self.to_come)
    @rule(count=st.integers(1, 400))
    def feed(self, count: int) -> None:
        self.conn.feed(self.to_come[:count])
        self.to_come = self.to_come[count:]

    @precondition(lambda self: self.conn.want is READ and not self.to_come)
    @rule()
    def end(self) -> None:
        self.conn.feed(b"")

    @precondition(lambda self: self.conn.want in (RUN, SHUT))
    @rule()
    def run_or_shut(self) -> None:
        self.driver.step()

    @precondition(lambda self: self.conn.want is WRITE)
    @rule(most=st.integers(1, 300))
    def send(self, most: int) -> None:
        self.driver.step(most)

    @rule()
    def go(self) -> None:
        self.driver.go()

    @precondition(lambda self: self.conn.want not in (RUN, CLOSE))
    @rule()
    def expire(self) -> None:
        self.cut_off = self.cut_off or self.conn.want is not READ
        self.stage.now = max(self.stage.now, self.conn.deadline)
        self.conn.expire()

    @precondition(lambda self: self.conn.want is not CLOSE)
    @rule()
    def drain(self) -> None:
        self.stage.context.drain()
        self.conn.drain()

    @precondition(lambda self: self.conn.want is not CLOSE)
    @rule()
    def lose(self) -> None:
        self.cut_off = True
        self.driver.broken = ConnectionResetError()
        self.conn.lost(self.driver.broken)

    @invariant()
    def want_is_consistent(self) -> None:
        conn = self.conn
        pending = bool(conn.out) or conn.file is not None
        assert pending or conn.want is not WRITE
        assert conn.want in (WRITE, CLOSE) or not pending
        if conn.want is READ:
            assert conn.deadline > self.stage.now or conn._state is State.LINGER

    @invariant()
    def nothing_after_CLOSE(self) -> None:
        if self.conn.want is CLOSE:
            if self.closed_at is None:
                self.closed_at = self.driver.sent
            assert self.driver.sent == self.closed_at
            assert all(body.closed == 1 for body in self.origin.bodies)
            assert all(file.closed for file in self.origin.files)

    @invariant()
    def close_at_most_once(self) -> None:
        assert all(body.closed <= 1 for body in self.origin.bodies)

    @invariant()
    def a_body_never_becomes_a_request(self) -> None:
        assert (
            self.origin.targets
            == [target for _, target, _ in self.asked][: len(self.origin.targets)]
        )

    @invariant()
    def answers_are_whole_and_in_order(self) -> None:
        answers, whole = self.answers()
        for answer, (method, target, body) in zip(answers, self.asked, strict=False):
            if answer.status == 200:
                content = self.origin.content(target, body)
                assert answer.body == (b"" if method == "HEAD" else content)
            else:
                assert answer.status in (400, 408, 500)
                assert answer.closes
        if whole and self.conn.want is READ and self.conn.idle:
            assert len(answers) == len(self.origin.targets)

    def answers(self) -> tuple[list[Reply], bool]:
        """The answers that are complete, and whether nothing else was sent."""
        methods = [method for method, _, _ in self.asked]
        file, at = io.BytesIO(self.driver.sent), 0
        found: list[Reply] = []
        while True:
            rest = self.driver.sent[at:]
            if b"\n" not in rest:
                assert b"HTTP/1.1 ".startswith(rest[:9])
                return found, not rest
            try:
                reply = read_reply(file, methods[len(found)] if len(found) < len(methods) else "")
            except Truncated:
                assert rest.count(b"HTTP/1.1 ") == 1, "an answer in the gap of another"
                return found, False
            assert reply is not None
            found.append(reply)
            at = file.tell()

    def teardown(self) -> None:
        """However it went: once the client is gone everything is released."""
        if self.conn.want is not CLOSE:
            self.driver.broken = ConnectionResetError()
            self.conn.lost(self.driver.broken)
            for _ in range(100):
                if self.conn.want is RUN:
                    self.driver.step()
                elif self.conn.want is not CLOSE:
                    self.conn.lost(self.driver.broken)
        assert self.conn.want is CLOSE
        self.nothing_after_CLOSE()
        assert self.conn._environ is None and self.conn._response is None


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=120, stateful_step_count=30, derandomize=True, deadline=None
)
