"""PEP 3333: what an application may do with start_response, what it gets, and how it is framed."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from wsgiref.validate import validator

import pytest

from tests.helpers import Application, Driver, Environ, Stage, chunked, get, post
from tests.support.wire import Reply, replies
from wsgiserver.files import FileWrapper, sendable

StartResponse = Callable[..., Any]


def serve(application: Application, *requests: bytes, **options: Any) -> tuple[Driver, Stage]:
    stage = Stage(application, **options)
    driver = stage.connect()
    driver.give(*(requests or (get(),)))
    return driver, stage


def answer(application: Application, request: bytes = b"") -> Reply:
    """The only answer to a request."""
    driver, _ = serve(application, request or get())
    (reply,) = replies(driver.sent, (request or get()).split(b" ")[0].decode())
    return reply


def returning(body: Any, *headers: tuple[str, str], status: str = "200 OK") -> Application:
    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response(status, list(headers))
        return body

    return application


# -- environ


def test_environ() -> None:
    seen: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(dict(environ))
        start_response("200 OK", [])
        return []

    serve(application, get("/a%20b?c=d", "X-Y: z"))
    (environ,) = seen
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=d",
        "SERVER_NAME": "server.example",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "a.example",
        "HTTP_X_Y": "z",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.file_wrapper": FileWrapper,
        "RAW_URI": "/a%20b?c=d",
        "REQUEST_URI": "/a%20b?c=d",
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert type(environ) is dict
    assert all(type(value) is str for key, value in environ.items() if "." not in key)
    assert "CONTENT_LENGTH" not in environ
    assert "CONTENT_TYPE" not in environ


def test_each_request_has_an_environ_of_its_own() -> None:
    seen: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        assert "mine" not in environ
        environ["mine"] = True
        seen.append(environ)
        start_response("200 OK", [])
        return []

    serve(application, get(), get(), get("/x"))
    assert len({id(environ) for environ in seen}) == 3
    assert len({id(environ["wsgi.input"]) for environ in seen}) == 3


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("spool_size", [1, 1 << 20])
def test_input_in_every_form(coding: str, spool_size: int) -> None:
    """PEP 3333: read, readline, readlines and iteration, each with and without a size."""
    content = b"one\ntwo\nthree"
    forms: list[tuple[Callable[[IO[bytes]], Any], Any]] = [
        (lambda file: file.read(), content),
        (lambda file: file.read(-1), content),
        (
            lambda file: [file.read(size) for size in (3, 2, 99, 1)],
            [b"one", b"\nt", b"wo\nthree", b""],
        ),
        (lambda file: [file.readline() for _ in range(4)], [b"one\n", b"two\n", b"three", b""]),
        (lambda file: [file.readline(2), file.readline(9)], [b"on", b"e\n"]),
        (lambda file: file.readlines(), [b"one\n", b"two\n", b"three"]),
        (lambda file: file.readlines(1), [b"one\n"]),
        (lambda file: list(file), [b"one\n", b"two\n", b"three"]),
        (lambda file: [next(iter(file)), file.read()], [b"one\n", b"two\nthree"]),
    ]
    for form, expected in forms:
        got: list[Any] = []

        def application(
            environ: Environ, start_response: StartResponse, form: Any = form, got: Any = got
        ) -> list[bytes]:
            got.append(form(environ["wsgi.input"]))
            start_response("200 OK", [])
            return []

        if coding == "length":
            request = post(content)
        else:
            request = get("/", "Transfer-Encoding: chunked", method="POST") + chunked(content)
        serve(application, request, spool_size=spool_size)
        assert got == [expected]


# -- start_response


def test_start_response_returns_write_and_takes_exc_info_by_name() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [], exc_info=None)
        assert callable(write)
        return [b"x"]

    assert answer(application).body == b"x"


def test_a_second_call_without_exc_info_is_a_fault() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        start_response("201 Created", [])
        return [b"x"]

    assert answer(application).status == 500


def test_a_second_call_with_exc_info_replaces_the_first() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-A", "b")])
        try:
            raise ValueError
        except ValueError:
            start_response("503 Sorry", [("X-C", "d")], sys.exc_info())
        return [b"sorry"]

    reply = answer(application)
    assert (reply.status, reply.get("X-A"), reply.get("X-C")) == (503, None, "d")


def test_a_first_call_with_exc_info_is_one_like_any() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            raise ValueError
        except ValueError:
            start_response("503 Sorry", [], sys.exc_info())
        return [b"sorry"]

    assert answer(application).status == 503


def test_exc_info_is_raised_when_the_head_is_out() -> None:
    error = ValueError("the cause")
    seen: list[tuple[BaseException, TracebackType | None]] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"one"
        try:
            raise error
        except ValueError:
            try:
                start_response("500 Late", [], sys.exc_info())
            except ValueError as raised:
                seen.append((raised, raised.__traceback__))
                raise

    driver, stage = serve(application)
    assert seen[0][0] is error
    assert stage.notes.failures == [error]
    assert not driver.sent.endswith(b"0\r\n\r\n")
    assert b"500" not in driver.sent


def test_a_generator_may_start_the_response_when_it_is_first_pulled() -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("201 Created", [("X-A", "b")])
        yield b""
        yield b"x"

    assert answer(application).status == 201


def test_headers_may_change_until_the_first_block_that_is_not_empty() -> None:
    """PEP 3333: the server must not send the head before that."""

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oh", [], sys.exc_info())
        yield b"oh"

    reply = answer(application)
    assert (reply.status, reply.body) == (500, b"oh")


@pytest.mark.parametrize(
    "body", [[b"x"], [], (b"a", b"b"), iter([b"x"]), FileWrapper(io.BytesIO())]
)
def test_without_start_response_there_is_no_answer(body: Any) -> None:
    assert answer(lambda environ, start_response: body).status == 500


@pytest.mark.parametrize(
    "headers",
    [
        [("X-A", "a\r\nX-B: b")],
        [("X-A\n", "b")],
        [("X-A", 5)],
        [("X-A", b"b")],
        [("X-A",)],
        [("X-A", "b", "c")],
        ["X-A"],
        None,
        5,
        [("Content-Length", "five")],
        [("Content-Length", "5"), ("Content-Length", "5")],
    ],
)
def test_headers_that_must_not_be_sent(headers: Any) -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", headers)
        return [b"x"]

    driver, stage = serve(application)
    assert [reply.status for reply in replies(driver.sent)] == [500]
    assert len(stage.notes.failures) == 1


def test_the_log_names_the_header() -> None:
    _, stage = serve(returning([b""], ("X-Evil", "a\nb")))
    assert "X-Evil" in str(stage.notes.failures[0])


@pytest.mark.parametrize(
    "make",
    [iter, tuple, dict.fromkeys, lambda pairs: (pair for pair in pairs), lambda p: map(tuple, p)],
)
def test_headers_that_are_no_list_are_not_lost(make: Callable[[Any], Any]) -> None:
    """PEP 3333 wants a list; whatever else it is, no header may vanish in silence."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", make([("X-A", "b"), ("X-C", "d")]))
        return [b"x"]

    reply = answer(application)
    assert reply.status == 500 or (reply.get("X-A"), reply.get("X-C")) == ("b", "d")


def test_headers_as_lists_are_taken() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [["X-A", "b"]])
        return [b"x"]

    assert answer(application).get("X-A") == "b"


def test_an_answer_remembered_is_the_same_and_another_is_another() -> None:
    count = 0

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        nonlocal count
        count += 1
        start_response("200 OK", [("X-N", str(count // 2)), ("X-N", "x")])
        return [str(count).encode()]

    driver, _ = serve(application, *[get()] * 1000)
    found = replies(driver.sent)
    assert [reply.all("X-N") for reply in found] == [[str(n // 2), "x"] for n in range(1, 1001)]
    assert [reply.body for reply in found] == [str(n).encode() for n in range(1, 1001)]


# -- framing


class Sized:
    """An iterable of a known number of blocks that is no list."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)


@pytest.mark.parametrize(
    ("make", "blocks", "framing"),
    [
        (list, [b"abc"], "length"),
        (tuple, [b"abc"], "length"),
        (list, [b"a", b"", b"bc"], "length"),
        (list, [], "length"),
        (list, [b""], "length"),
        (list, [bytearray(b"abc")], "length"),
        (list, [b"x" * 40_000] * 5, "length"),
        (list, [b"x" * 3_000_000], "length"),
        (set, [b"abc"], "length"),
        (Sized, [b"abc"], "length"),
        (Sized, [b"a", b"bc"], "chunked"),
        (Sized, [], "length"),
        (Sized, [b""], "length"),
        (iter, [b"a", b"", b"bc"], "chunked"),
        (iter, [b"x" * 3_000_000], "chunked"),
        (iter, [memoryview(b"abc")], "chunked"),
        (iter, [], "length"),
        (iter, [b"", b""], "length"),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_how_a_body_is_framed(
    make: Callable[[list[Any]], Any], blocks: list[Any], framing: str, version: str
) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return make(blocks)

    driver, _ = serve(application, get("/", "Connection: keep-alive", version=version))
    (reply,) = replies(driver.sent)
    assert reply.body == b"".join(blocks)
    assert reply.framing == ("close" if framing == "chunked" and version == "1.0" else framing)
    assert reply.closes == (reply.framing == "close")
    if version == "1.0" and not reply.closes:
        assert reply.get("Connection") == "keep-alive"


def test_a_length_that_is_declared_is_kept_as_it_is() -> None:
    reply = answer(returning(iter([b"ab", b"c"]), ("content-length", "3")))
    assert (reply.framing, reply.body) == ("length", b"abc")
    assert [name for name, _ in reply.fields if name.lower() == "content-length"] == [
        "content-length"
    ]


def test_a_205_is_empty_whatever_was_declared() -> None:
    """RFC 9110 §15.3.6: no content, and the client must see where it ends."""
    body = returning([b"abcde"], ("Content-Length", "5"), status="205 Reset Content")
    driver, _ = serve(body, get(), get())
    assert [(reply.body, reply.get("Content-Length")) for reply in replies(driver.sent)] == [
        (b"", "0")
    ] * 2


@pytest.mark.parametrize("name", ["Date", "date", "Server", "SERVER"])
def test_own_Date_and_Server_are_not_doubled(name: str) -> None:
    reply = answer(returning([b""], (name, "own")))
    assert reply.all(name) == ["own"]


def test_Date_and_Server() -> None:
    reply = answer(returning([b""]))
    assert reply.get("Date") == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert reply.get("Server") == "wsgiserver"
    driver, _ = serve(returning([b""]), server_header="")
    assert replies(driver.sent)[0].get("Server") is None


def test_hop_by_hop_headers_are_left_out_and_told() -> None:
    driver, stage = serve(returning([b"x"], ("Upgrade", "h2c"), ("Transfer-Encoding", "chunked")))
    (reply,) = replies(driver.sent)
    assert (reply.get("Upgrade"), reply.framing) == (None, "length")
    assert set(stage.notes.left_out) == {"Upgrade", "Transfer-Encoding"}


def test_a_body_is_closed_when_it_has_a_close_and_only_then() -> None:
    class Closing(list[bytes]):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    body = Closing([b"a", b"b"])
    assert answer(returning(body)).body == b"ab"
    assert body.closed == 1


# -- files


def test_a_file_wrapper_is_an_iterable_in_its_own_right(tmp_path: Path) -> None:
    file = io.BytesIO(b"x" * 100)
    wrapper = FileWrapper(file, 30)
    assert [len(block) for block in wrapper] == [30, 30, 30, 10]
    assert wrapper.close == file.close

    class Bare:
        def read(self, size: int) -> bytes:
            return b""

    assert not hasattr(FileWrapper(Bare()), "close")


def offset_of(file: Any) -> tuple[int, int] | None:
    found = sendable(file)
    return None if found is None else (found.offset, found.count)


def test_which_files_can_be_sent_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        assert offset_of(file) == (0, 10)
        file.read(3)
        assert offset_of(file) == (3, 7), "where the file stands, not where its descriptor does"
        file.seek(20)
        assert offset_of(file) == (20, 0)
    with path.open("rb", buffering=0) as raw:
        raw.seek(4)
        assert offset_of(raw) == (4, 6)
    with path.open("r+b") as both:
        both.seek(0, os.SEEK_END)
        both.write(b"ab")
        both.seek(2)
        assert offset_of(both) == (2, 10), "what was written counts"
    with tempfile.TemporaryFile() as temporary, tempfile.NamedTemporaryFile() as named:
        for one in (temporary, named):
            one.write(b"abc")
            one.seek(1)
            assert offset_of(one) == (1, 2)


class Shouting(io.BufferedReader):
    """A reader that gives something else than its file holds."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size).upper()


class ShoutingRaw(io.FileIO):
    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        buffer[:count] = bytes(buffer[:count]).upper()
        return count


def test_which_files_cannot(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with gzip.open(path, "wb") as file:
        file.write(b"content")
    read_end, write_end = os.pipe()
    os.close(write_end)
    with (
        gzip.open(path, "rb") as zipped,
        path.open("r", encoding="latin-1") as text,
        tempfile.SpooledTemporaryFile() as spooled,
        open(read_end, "rb") as pipe,
        Shouting(io.FileIO(path)) as shouting,
        ShoutingRaw(path) as raw,
        io.BufferedReader(ShoutingRaw(path)) as over_raw,
    ):
        for other in (
            zipped,
            text,
            spooled,
            pipe,
            shouting,
            raw,
            over_raw,
            io.BytesIO(b"x"),
            object(),
        ):
            assert sendable(other) is None, other


def test_a_file_that_gives_something_else_than_its_descriptor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"quiet")
    for make in (lambda: Shouting(io.FileIO(path)), lambda: io.BufferedReader(ShoutingRaw(path))):
        assert answer(returning(FileWrapper(make()))).body == b"QUIET"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("declared", [None, 4, 10])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_file_sent_whole(tmp_path: Path, method: str, declared: int | None, version: str) -> None:
    """It ends at Content-Length, so that a range can be sent as a file."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    headers = [("Content-Length", str(declared))] if declared else []

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](path.open("rb"))

    request = get("/", "Connection: keep-alive", method=method, version=version)
    driver, _ = serve(application, request, request)
    assert len(replies(driver.sent, method, method)) == 2
    for reply in replies(driver.sent, method, method):
        assert reply.get("Content-Length") == str(declared or 10)
        assert reply.body == (b"" if method == "HEAD" else b"0123456789"[: declared or 10])


def test_a_file_behind_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file")

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])(b"first, ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    assert answer(application).body == b"first, file"


# -- the referee of the standard library


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("body", [[b"x"], [b"x", b"y"]])
def test_wsgiref_validate(method: str, body: list[bytes]) -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response(
            "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        )
        return body

    target = "*" if method == "OPTIONS" else "/x?y"
    driver, stage = serve(
        validator(application), get(target, method=method), get(target, method=method)
    )
    assert stage.notes.failures == []
    assert [reply.status for reply in replies(driver.sent, method, method)] == [200, 200]
