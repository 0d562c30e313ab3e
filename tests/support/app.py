"""The application behind the contract tests: a route for everything an application can do.

Routes are functions named after the first part of the path. What they do is said in the query, so
that a test shows in one line what the application does:

    /blocks?block=ab&block=cd&kind=generator&length=4&header=X-A:+1&status=404+Not+Found
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.support import stage

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Route = Callable[[Environ, StartResponse, "Query"], Iterable[bytes]]

TEXT = ("Content-Type", "text/plain; charset=utf-8")


class Query:
    """The query of a request, by names that may repeat."""

    def __init__(self, text: str) -> None:
        self._values = parse_qs(text, keep_blank_values=True, encoding="latin-1")

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def all(self, name: str) -> list[str]:
        """The values of a name."""
        return self._values.get(name, [])

    def one(self, name: str, default: str = "") -> str:
        """The value of a name."""
        return self._values.get(name, [default])[0]

    def number(self, name: str, default: int = 0) -> int:
        """The value of a name as a number."""
        return int(self.one(name, str(default)))


class TestApplication:
    """`calls` is a file to which every call adds a line. /validated/x is x behind the validator."""

    __test__ = False  # the name is no test's

    def __init__(self, calls: str) -> None:
        self._calls = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._validated = validator(answer)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']}\n"
        os.write(self._calls, line.encode())
        if environ["PATH_INFO"].startswith("/validated/"):
            environ["SCRIPT_NAME"] = "/validated"
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/validated")
            return self._validated(environ, start_response)
        return answer(environ, start_response)


def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Find the route and let it answer; paths without one show their environ."""
    name = environ["PATH_INFO"].split("/")[1] if "/" in environ["PATH_INFO"] else ""
    return ROUTES.get(name, show_environ)(
        environ, start_response, Query(environ.get("QUERY_STRING", ""))
    )


def _json(start_response: StartResponse, value: object) -> list[bytes]:
    body = json.dumps(value).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


# -- requests


def show_environ(environ: Environ, start_response: StartResponse, query: Query) -> list[bytes]:
    """All of environ that JSON can hold, and the body."""
    simple = (str, int, bool, tuple)
    shown = {name: value for name, value in environ.items() if isinstance(value, simple)}
    shown["body"] = environ["wsgi.input"].read(-1).decode("latin-1")
    shown["pid"] = os.getpid()
    return _json(start_response, shown)


def echo(environ: Environ, start_response: StartResponse, query: Query) -> list[bytes]:
    """The body as it came."""
    body = environ["wsgi.input"].read(-1)
    start_response("200 OK", [TEXT, ("X-Content-Length", environ.get("CONTENT_LENGTH", "none"))])
    return [body]


def read(environ: Environ, start_response: StartResponse, query: Query) -> list[bytes]:
    """Carry out `steps`: pairs of a method of wsgi.input and its arguments; show the results.

    A long result is shown by its length and hash.
    """
    stream = environ["wsgi.input"]
    results: list[object] = []
    for name, *arguments in json.loads(query.one("steps")):
        if name == "iterate":
            results.append([shown(line) for line in stream])
        elif name == "next":
            results.append(shown(next(iter(stream), b"")))
        else:
            result = getattr(stream, name)(*arguments)
            lines = isinstance(result, list)
            results.append([shown(line) for line in result] if lines else shown(result))
    return _json(start_response, results)


def shown(data: bytes) -> object:
    """Bytes as JSON can hold them."""
    if len(data) > 200:
        return [len(data), hashlib.sha256(data).hexdigest()]
    return data.decode("latin-1")


def ignore(environ: Environ, start_response: StartResponse, query: Query) -> list[bytes]:
    """Answer without reading the body."""
    start_response("200 OK", [TEXT])
    return [b"ignored"]


# -- responses


class Blocks:
    """An iterable with the blocks of the query, which reports its close().

    `fail` is the number of blocks after which it raises, `pause` after which it waits at the
    stage; `lazy` has it call start_response only when the first block is asked for.
    """

    def __init__(self, query: Query, begin: Callable[[], object] | None = None) -> None:
        self._query = query
        self._begin = begin
        self._port = query.number("stage")

    def __iter__(self) -> Iterator[bytes]:
        query = self._query
        fail, pause = query.number("fail", -1), query.number("pause", -1)
        if self._begin is not None:
            self._begin()
        blocks = query.all("block")
        for number, block in enumerate(blocks):
            if number == pause:
                stage.wait(self._port, f"before block {number}")
            if number == fail:
                raise RuntimeError("the application fails on purpose")
            yield block.encode("latin-1")
        if fail == len(blocks):
            raise RuntimeError("the application fails on purpose")

    def close(self) -> None:
        """Report to the stage, if there is one."""
        if self._port:
            stage.report(self._port, "closed")
        if "failclose" in self._query:
            raise RuntimeError("close() fails on purpose")


class Counted(Blocks):
    """The same with a length."""

    def __len__(self) -> int:
        return len(self._query.all("block"))


def _headers(query: Query) -> list[tuple[str, str]]:
    headers = [TEXT]
    for line in query.all("header"):
        name, _, value = line.partition(":")
        headers.append((name, value.removeprefix(" ")))
    if "length" in query:
        headers.append(("Content-Length", query.one("length")))
    return headers


def blocks(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """Answer with the blocks of the query, in an iterable of the `kind` of the query.

    `write` are blocks that go through write() before.
    """

    def begin() -> object:
        write = start_response(query.one("status", "200 OK"), _headers(query))
        for number, block in enumerate(query.all("write")):
            try:
                write(block.encode("latin-1"))
            except OSError as error:
                stage.report(query.number("stage"), f"failed: {type(error).__name__}")
                raise
            if "stage" in query:
                stage.wait(query.number("stage"), f"wrote {number}")
        return write

    kind = query.one("kind", "list")
    if kind == "lazy":
        return Blocks(query, begin)
    begin()
    if kind == "generator":
        return Blocks(query)
    if kind == "counted":
        return Counted(query)
    whole = [block.encode("latin-1") for block in query.all("block")]
    return tuple(whole) if kind == "tuple" else whole


def fail(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """Go wrong in one call, before anything was sent."""
    how = query.one("how")
    if how == "raise":
        raise RuntimeError("the application fails on purpose")
    if how == "exit":
        sys.exit(3)
    if how == "nothing":
        return [b"no start_response"]
    start_response("200 OK", [TEXT])
    if how == "twice":
        start_response("200 OK", [TEXT])
    if how == "started":
        raise RuntimeError("the application fails on purpose")
    wrong: Any = {"text": ["text"], "string": b"bytes", "none": None}[how]
    return wrong  # type: ignore[no-any-return]


def replace(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """start_response with exc_info, before the head is sent or, if `late`, after it."""
    write = start_response("200 OK", [TEXT, ("X-First", "1")])
    if "late" in query:
        write(b"on its way")
    try:
        raise RuntimeError("the application fails on purpose")
    except RuntimeError:
        start_response("503 Replaced", [TEXT, ("X-Second", "2")], sys.exc_info())
    return [b"replaced"]


def hints(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """Early hints, then (at the stage's leave) an answer."""
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    if "stage" in query:
        stage.wait(query.number("stage"), "hinted")
    start_response("200 OK", [TEXT])
    return [b"final"]


def count(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """`to` numbers, each in a block of its own, `width` characters wide."""
    start_response("200 OK", [TEXT])
    width = query.number("width")
    return (b"%*d\n" % (width, number) for number in range(query.number("to")))


class Endless:
    """Blocks without end; reports its close()."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __iter__(self) -> Iterator[bytes]:
        block = bytes(65536)
        while True:
            yield block

    def close(self) -> None:
        """Report to the stage."""
        stage.report(self._port, "closed")


def endless(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """An answer that ends only when the client does."""
    start_response("200 OK", [TEXT])
    return Endless(query.number("stage"))


def fill(environ: Environ, start_response: StartResponse, query: Query) -> list[bytes]:
    """Push `size` bytes through one write(); report if that fails."""
    write = start_response("200 OK", [TEXT])
    try:
        write(bytes(query.number("size")))
    except OSError as error:
        stage.report(query.number("stage"), f"failed: {type(error).__name__}")
        raise
    return []


def wait(environ: Environ, start_response: StartResponse, query: Query) -> list[bytes]:
    """Answer when the stage says so."""
    stage.wait(query.number("stage"), environ["RAW_URI"])
    start_response("200 OK", [TEXT])
    return [b"waited"]


# -- files


class Reported(io.FileIO):
    """A file that reports its close() by the application's caller."""

    port = 0

    def close(self) -> None:
        if not self.closed and self.port:
            stage.report(self.port, "closed")
        super().close()


def file(environ: Environ, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    """A file through wsgi.file_wrapper, from `offset`; `kind` is how it is opened."""
    path, kind = query.one("path"), query.one("kind", "plain")
    opened: Any
    if kind == "gzip":
        opened = gzip.open(path)  # noqa: SIM115 - the server closes it
    elif kind == "memory":
        with open(path, "rb") as plain:
            opened = io.BytesIO(plain.read())
    elif kind == "reported":
        opened = Reported(path)
        opened.port = query.number("stage")
    else:
        opened = open(path, "rb")  # noqa: SIM115 - the server closes it
    opened.seek(query.number("offset"))
    if "skip" in query:
        opened.read(query.number("skip"))  # a buffered reader has read ahead of this
    start_response(query.one("status", "200 OK"), _headers(query))
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened, 8192)
    return wrapped


ROUTES: dict[str, Route] = {
    route.__name__: route
    for route in (
        echo,
        read,
        ignore,
        blocks,
        fail,
        replace,
        hints,
        count,
        endless,
        fill,
        wait,
        file,
    )
}
