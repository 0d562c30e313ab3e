"""What httplint says of the answers of StaticFiles: no warning without a reason why it stays."""

from __future__ import annotations

import gzip
import os
import re
import resource
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.serving import Command
from tests.static.ground import OLD
from tests.support.wire import replies, request

pytest.importorskip("httplint", reason="httplint is not installed (it comes with the extra dev)")

from httplint import HttpRequestLinter, HttpResponseLinter, Note, levels
from httplint.cli.http_parser import HttpCliParser, modes
from thor.http.error import HttpError

PAGE: Final = b"<!doctype html>\n<title>A page</title>\n<p>" + b"Text of a page. " * 40 + b"\n"
SHEET: Final = b"body { color: red }\n" * 100
CODE: Final = b"export const answer = 42;\n" * 40
PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000b4944415478da636000020000050001e9fadcd80000000049454e44ae426082"
)
BIG: Final = bytes(range(256)) * 4096
SITE: Final = {
    "index.html": PAGE,
    "404.html": PAGE,
    "a.txt": b"0123456789" * 20,
    "empty.txt": b"",
    "text.css": SHEET,
    "text.css.gz": gzip.compress(SHEET, mtime=0),
    "code.mjs": CODE,
    "unread.txt": b"asked for once",
    "data.json": b'{"answer": 42}\n',
    "app.55e7cbb9ba48.css": SHEET,
    "dot.png": PNG,
    "sign.svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>\n',
    "type.woff2": b"wOF2" + bytes(100),
    "big.bin": BIG,
    "sub/index.html": PAGE,
    "list/a.txt": b"a",
    "list/<b> & more.txt": b"b",
    "list/folder/c.txt": b"c",
    "_redirects": b"/old /a.txt\n/now /a.txt 302\n/app/* /index.html 200\n"
    b"/lost /sub/ 404\n/gone /404.html 410\n/away https://other.example/ 308\n",
    "_headers": b"/data.json\n  Link: </a.txt>; rel=alternate\n",
}
BARE: Final = {"page.html": PAGE}
APPLICATION: Final = """
from middleware import StaticFiles

app = StaticFiles({root!r}, not_found_page=False)
"""
BROWSER: Final = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept-Language: en-US,en;q=0.5",
)
CODED: Final = "Accept-Encoding: gzip, deflate, br, zstd"
ORIGIN: Final = "Origin: https://app.example"
CLOSE: Final = "Connection: close"
ETAG: Final = "(the ETag of the file)"
OUT: Final = "no descriptor left"


class Case(NamedTuple):
    """The status that is right, and what is asked of which server (see `sites`)."""

    status: int
    target: str
    fields: tuple[str, ...] = ()
    method: str = "GET"
    server: str = "site"


CASES: Final = {
    "page": Case(200, "/"),
    "text": Case(200, "/a.txt"),
    "empty": Case(200, "/empty.txt"),
    "json, with a field of _headers": Case(200, "/data.json"),
    "picture": Case(200, "/dot.png"),
    "svg": Case(200, "/sign.svg"),
    "large": Case(200, "/big.bin"),
    "large, HEAD": Case(200, "/big.bin", method="HEAD"),
    "page, HEAD": Case(200, "/", (CODED,), "HEAD"),
    "closed after it": Case(200, "/a.txt", (CLOSE,)),
    "sibling": Case(200, "/text.css", (CODED,)),
    "sibling, HEAD": Case(200, "/text.css", (CODED,), "HEAD"),
    "sibling not wanted": Case(200, "/text.css"),
    "compressed here, gzip": Case(200, "/code.mjs", ("Accept-Encoding: gzip",)),
    "compressed here, zstd": Case(200, "/code.mjs", ("Accept-Encoding: zstd",)),
    "compressed here": Case(200, "/code.mjs", (CODED,)),
    "immutable": Case(200, "/app.55e7cbb9ba48.css", (CODED,)),
    "font": Case(200, "/type.woff2", (ORIGIN,), server="public"),
    "font of an allowed origin": Case(200, "/type.woff2", (ORIGIN,)),
    "allowed origin": Case(200, "/a.txt", (ORIGIN,)),
    "other origin": Case(200, "/a.txt", ("Origin: https://elsewhere.example",)),
    "listing": Case(200, "/list/"),
    "listing, coded": Case(200, "/list/", (CODED,)),
    "listing, HEAD": Case(200, "/list/", (), "HEAD"),
    "listing as JSON": Case(200, "/list/", ("Accept: application/json",)),
    "security headers": Case(200, "/page.html", (CODED,), server="secure"),
    "live reload, page": Case(200, "/page.html", server="live"),
    "live reload, script": Case(200, "/.live-reload/client.js?since=1", server="live"),
    "live reload, events": Case(
        200, "/.live-reload/events?since=1", ("Accept: text/event-stream",), server="live"
    ),
    "options": Case(204, "/a.txt", method="OPTIONS"),
    "preflight": Case(
        204, "/a.txt", (ORIGIN, "Access-Control-Request-Method: GET"), method="OPTIONS"
    ),
    "preflight with a field": Case(
        204,
        "/a.txt",
        (ORIGIN, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range"),
        method="OPTIONS",
    ),
    "preflight of a font": Case(
        204,
        "/type.woff2",
        (ORIGIN, "Access-Control-Request-Method: GET"),
        method="OPTIONS",
        server="public",
    ),
    "range": Case(206, "/big.bin", ("Range: bytes=100-299",)),
    "range of text": Case(206, "/a.txt", ("Range: bytes=-5",)),
    "range of a sibling": Case(206, "/text.css", ("Range: bytes=0-9", CODED)),
    "range, If-Range": Case(206, "/big.bin", (f"If-Range: {ETAG}", "Range: bytes=0-9")),
    "several ranges": Case(206, "/big.bin", ("Range: bytes=0-9,500-,-5",)),
    "several ranges, HEAD": Case(200, "/big.bin", ("Range: bytes=0-9,500-599",), "HEAD"),
    "directory": Case(301, "/sub?q=1"),
    "directory, HEAD": Case(301, "/sub", (), "HEAD"),
    "rule, moved": Case(301, "/old"),
    "rule, found": Case(302, "/now?q=1"),
    "rule, other host": Case(308, "/away"),
    "rule, rewritten": Case(200, "/app/a/b"),
    "rule, not found": Case(404, "/lost"),
    "rule, gone": Case(410, "/gone"),
    "not modified": Case(304, "/a.txt", (f"If-None-Match: {ETAG}",)),
    "not modified, any": Case(304, "/a.txt", ("If-None-Match: *",)),
    "not modified since": Case(
        304, "/a.txt", ("If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",)
    ),
    "not modified, sibling": Case(304, "/text.css", (f"If-None-Match: {ETAG}", CODED)),
    "not modified, immutable": Case(304, "/app.55e7cbb9ba48.css", (f"If-None-Match: {ETAG}",)),
    "not modified, HEAD": Case(304, "/a.txt", (f"If-None-Match: {ETAG}",), "HEAD"),
    "not modified, font": Case(
        304, "/type.woff2", (f"If-None-Match: {ETAG}", ORIGIN), server="public"
    ),
    "own 404": Case(404, "/none", (CODED,)),
    "own 404, HEAD": Case(404, "/none", (), "HEAD"),
    "own 404, OPTIONS": Case(404, "/none", (), "OPTIONS"),
    "built-in 404": Case(404, "/none", (CODED,), server="secure"),
    "404 in a line": Case(404, "/none", server="application"),
    "live reload, 404": Case(404, "/none", server="live"),
    "other method": Case(405, "/a.txt", method="DELETE"),
    "other method, live reload": Case(
        405, "/.live-reload/client.js", method="DELETE", server="live"
    ),
    "nothing acceptable": Case(406, "/dot.png", ("Accept-Encoding: identity;q=0",)),
    "precondition failed": Case(412, "/a.txt", ('If-Match: "other"',)),
    "changed since": Case(412, "/a.txt", ("If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT",)),
    "range not satisfiable": Case(416, "/big.bin", ("Range: bytes=9999999-",)),
    OUT: Case(503, "/unread.txt"),
}


class Allowed(NamedTuple):
    """A note that stays, of the cases that a regular expression matches from their beginning."""

    note: str
    cases: str
    why: str


# Answers from memory and from a file, that this model may send in another way.
FEW: Final = (
    "page",
    "large",
    "large, HEAD",
    "sibling",
    "compressed here",
    "listing",
    "options",
    "range",
    "several ranges",
    "directory",
    "not modified",
    "own 404",
    "other method",
    "range not satisfiable",
    OUT,
)
ALLOWED: Final = (
    Allowed(
        "STORE_PUBLIC_UNNECESSARY",
        "(not modified, )?immutable",
        "public is for requests with Authorization (RFC 9111 3.5): a site behind a password still "
        "has its hashed files kept by shared caches",
    ),
    Allowed(
        "PARTIAL_WITHOUT_RANGE",
        "several ranges$",
        "multipart/byteranges has it in each part and must not have it above (RFC 9110 15.3.7.2)",
    ),
    Allowed(
        "FRESHNESS_NO_CACHE_NO_VALIDATOR",
        "directory|rule, (moved|gone)",
        "a line of text or an error page is not worth a validator; no-store, which is advised "
        "instead, would also keep the page out of the browser's back/forward cache",
    ),
)


class Parser(HttpCliParser):
    """httplint's parser of an answer on the wire, told what was asked."""

    linter: HttpResponseLinter

    def __init__(self, asked: HttpRequestLinter) -> None:
        super().__init__(Namespace(mode=modes.RESPONSE), time.time())
        self.asked = asked
        self.complete = False

    def input_start(
        self,
        top_line: bytes,
        hdr_tuples: list[tuple[bytes, bytes]],
        conn_tokens: list[bytes],
        transfer_codes: list[bytes],
        content_length: int | None,
    ) -> tuple[bool, bool]:
        """The head is there. Whether content follows, and whether it is the final answer."""
        self.linter = HttpResponseLinter(start_time=self.start_time)
        self.linter.request = self.asked
        self.linter.is_head_response = self.asked.method == "HEAD"
        self.linter.process_response_topline(*self.response_topline(top_line))
        self.linter.process_headers(hdr_tuples)
        return self.linter.can_have_content(), True

    def input_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The whole answer is there."""
        self.complete = True
        self.linter.finish_content(True, trailers)

    def input_error(self, err: HttpError, close: bool = True) -> None:
        """It is not HTTP."""
        raise AssertionError(f"{err.desc}: {err.detail}") from err


def notes(raw: bytes, target: str, fields: Iterable[str], method: str = "GET") -> list[Note]:
    """The warnings and errors about one answer, and about what was asked."""
    asked = HttpRequestLinter()
    asked.process_request_topline(method.encode(), target.encode(), b"1.1")
    pairs = (field.encode().partition(b": ") for field in ("Host: test", *fields))
    asked.process_headers([(name, value) for name, _, value in pairs])
    asked.finish_content(True)
    parser = Parser(asked)
    parser.handle_input(raw)
    assert parser.complete, f"httplint's parser waits for more: {raw[-100:]!r}"
    found: list[Note] = [*asked.notes, *parser.linter.notes]
    for note in found:
        found += note.subnotes  # it grows meanwhile
    return [note for note in found if note.level in (levels.WARN, levels.BAD)]


def lay_out(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))
    return str(root)


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """The servers' names and their options."""
    site, bare = lay_out(tmp_path / "site", SITE), lay_out(tmp_path / "bare", BARE)
    (tmp_path / "plain.py").write_text(APPLICATION.format(root=bare))
    return {
        "site": ("--documents-root", site, "--listing", "--cors-origins", "https://app.example"),
        "public": ("--documents-root", site),
        "secure": ("--documents-root", bare, "--security-headers"),
        "live": ("--documents-root", bare, "--live-reload"),
        "application": ("--pythonpath", str(tmp_path), "plain:app"),
    }


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """A process that cannot open anything meanwhile."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def answer(server: Command, name: str, case: Case) -> tuple[tuple[str, ...], bytes]:
    """The fields of the request, and all bytes that come back for it."""
    fields = (*BROWSER, *case.fields)
    with server.connect() as wire:
        # Also for the connection to be accepted, and for the answer to come from memory.
        first = [field for field in fields if field != CLOSE]
        seen = wire.get("/" if name == OUT else case.target, *first, method="HEAD")
        fields = tuple(field.replace(ETAG, seen.get("ETag") or "") for field in fields)
        with ExitStack() as stack:
            if name == OUT:
                stack.enter_context(without_descriptors(server.process.pid))
            asked = request(case.target, *fields, method=case.method)
            # The end of what is asked, instead of `Connection: close`, which would show.
            return fields, wire.exchange(asked, finish=True)


def lint(
    sites: dict[str, tuple[str, ...]], model: str, names: Sequence[str]
) -> dict[str, list[Note]]:
    """Ask for these cases; their notes. Each answer must be the one that was meant."""
    found = {}
    with ExitStack() as stack:
        servers: dict[str, Command] = {}
        for name in names:
            case = CASES[name]
            if case.server not in servers:
                command = Command("-k", model, *sites[case.server])
                servers[case.server] = stack.enter_context(command)
            fields, raw = answer(servers[case.server], name, case)
            assert [reply.status for reply in replies(raw, case.method)] == [case.status], name
            found[name] = notes(raw, case.target, fields, case.method)
    return found


def is_allowed(name: str, note: Note) -> bool:
    return any(each.note == type(note).__name__ and re.match(each.cases, name) for each in ALLOWED)


def faults(found: dict[str, list[Note]]) -> dict[str, list[str]]:
    told = {
        name: [f"{type(note).__name__}: {note}" for note in noted if not is_allowed(name, note)]
        for name, noted in found.items()
    }
    return {name: texts for name, texts in told.items() if texts}


def test_epoll(sites: dict[str, tuple[str, ...]]) -> None:
    found = lint(sites, "epoll", list(CASES))
    assert faults(found) == {}
    seen = {(type(note).__name__, name) for name, noted in found.items() for note in noted}
    for each in ALLOWED:
        assert any(each.note == note and re.match(each.cases, name) for note, name in seen), (
            f"{each.note} is allowed and does not occur any more"
        )


def test_threadpool(sites: dict[str, tuple[str, ...]]) -> None:
    assert faults(lint(sites, "threadpool", FEW)) == {}


DATE: Final = "Date: Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("status", "fields", "asked", "note"),
    [
        ("200 OK", ("ETag: bare", "Content-Length: 0"), (), "BAD_SYNTAX"),
        ("304 Not Modified", ("Content-Type: text/html",), (), "HEADER_SHOULD_NOT_BE_IN_304"),
        ("206 Partial Content", ("Content-Range: bytes 0-1/9",), (), "PARTIAL_NOT_REQUESTED"),
        (
            "416 Range Not Satisfiable",
            ("Content-Length: 0",),
            ("Range: bytes=9-",),
            "STATUS_416_WITHOUT_CONTENT_RANGE",
        ),
        (
            "200 OK",
            ("Content-Encoding: br", "Vary: Accept-Encoding", "Content-Length: 0"),
            ("Accept-Encoding: gzip",),
            "ENCODING_UNWANTED",
        ),
    ],
)
def test_a_fault_is_noted(
    status: str, fields: tuple[str, ...], asked: tuple[str, ...], note: str
) -> None:
    """The answer is judged, and by what was asked."""
    raw = "\r\n".join([f"HTTP/1.1 {status}", DATE, *fields, "Cache-Control: no-store", "", ""])
    assert note in {type(each).__name__ for each in notes(raw.encode(), "/", asked)}
