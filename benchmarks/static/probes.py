"""The rows of the comparison of features: a tree of files, and questions about it over a socket.

Each probe sees nothing but the answers of one server; what came instead is told in its verdict.
"""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, NamedTuple

from benchmarks.servers import HOST

TIMEOUT: Final = 3.0  # seconds for a whole answer
WITHIN: Final = 1.3  # seconds in which a change must show: one, and some for a busy machine
OLD: Final = 1_600_000_000  # when the files were written: long ago
SECRET: Final = b"a secret of the outside"
TEXT: Final = b"body { color: red }\n" * 100
A: Final = b"0123456789" * 10
LARGE: Final = 16 << 20  # bytes: more than all the buffers between two sockets hold
BR, ZSTD, GZIP = b"the br sibling", b"the zstd sibling", gzip.compress(TEXT, mtime=0)
HASHED: Final = "55e7cbb9ba48"


# --- the trees ------------------------------------------------------------------------------------


def make_tree(top: Path) -> Path:
    """Write a site, and what must never be served beside it; return its root."""
    _write(top, {"outside.txt": SECRET})
    root = top / "site"
    _write(
        root,
        {
            "index.html": b"<title>home</title>",
            "404.html": b"<title>the page for what is missing</title>",
            "about.html": b"<title>about</title>",
            "sub/404.html": b"<title>the page for what is missing in sub</title>",
            "sub/index.html": b"<title>sub</title>",
            "sub/deep/x.txt": b"x",
            "a.txt": A,
            "built.txt": A,
            "changing.txt": b"the first state",
            "long.txt": A * 100,
            "large.bin": b"x" * LARGE,
            "text.css": TEXT,
            "text.css.gz": GZIP,
            "text.css.br": BR,
            "text.css.zst": ZSTD,
            "text.css.zstd": ZSTD,  # the name that ServeStatic reads
            "stale.css": TEXT,
            "stale.css.gz": b"the old state",
            "sibling.txt": A * 10,
            f"app.{HASHED}.js": b"let app",
            "font.woff2": b"a font",
            "list/x.txt": b"x",
            "list/<img src=x>.txt": b"x",
            ".env": SECRET,
            "_headers": b"/a.txt\n  X-Rule: obeyed\n",
            "_redirects": b"/old /a.txt 302\n",
        },
    )
    os.utime(root / "built.txt", (1, 1))
    os.utime(root / "stale.css.gz", (OLD - 3600, OLD - 3600))
    (root / "link.txt").symlink_to(top / "outside.txt")
    (root / "inside.txt").symlink_to("a.txt")
    (root / "sibling.txt.gz").symlink_to(top / "outside.txt")
    (root / "linked").mkdir()
    (root / "linked" / "index.html").symlink_to(top / "outside.txt")
    return root


def make_fifo_tree(top: Path) -> Path:
    """Write a site with a fifo in it; return its root."""
    root = top / "site"
    _write(root, {"a.txt": A, "404.html": b"<title>the page for what is missing</title>"})
    os.mkfifo(root / "fifo")
    return root


def make_broken_tree(top: Path) -> Path:
    """Write a site with links that lead nowhere; return its root."""
    root = top / "site"
    _write(root, {"a.txt": A, "404.html": b"<title>the page for what is missing</title>"})
    (root / "nowhere").symlink_to("gone.txt")
    (root / "loop").symlink_to("loop")
    return root


TREES: Final = {"fifo": make_fifo_tree, "broken": make_broken_tree}
"""Modes that are the ordinary one, over a tree of their own."""


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))


# --- asking ---------------------------------------------------------------------------------------


class Reply:
    """An answer; status 0 if none came in time, or none that can be read: then `problem` is why."""

    def __init__(
        self,
        status: int = 0,
        fields: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        problem: str = "",
    ) -> None:
        self.status = status
        self.body = body
        self.problem = problem
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return ", ".join(value for key, value in self._fields if key.lower() == name.lower())

    @property
    def metadata(self) -> dict[str, str]:
        """The fields that describe what is answered, not the connection or the moment."""
        own = ("date", "connection", "keep-alive", "server", "via", "transfer-encoding")
        return {key.lower(): value for key, value in self._fields if key.lower() not in own}

    def __str__(self) -> str:
        """For a footnote."""
        if not self.status:
            return self.problem
        text = str(self.status)
        if self["Location"]:
            text += f" to `{self['Location']}`"
        if self.status == 206:
            text += f" with {self['Content-Range'] or self['Content-Type']}"
        return text


class _Kept(io.BytesIO):
    """Stays open, so that what is behind an answer can be looked at."""

    def close(self) -> None:
        """Not now."""

    def makefile(self, _mode: str) -> _Kept:
        """What http.client asks a socket for."""
        return self


class Client:
    """Asks one server, each time on a connection of its own, exactly as told.

    compress: the command that makes the siblings for a folder; None where there is none.
    """

    def __init__(
        self, port: int, root: Path, compress: Callable[[Path], list[str]] | None = None
    ) -> None:
        self.port = port
        self.root = root
        self.compress = compress

    def __call__(self, target: str, *fields: str, method: str = "GET") -> Reply:
        """Send a request and read until the server closes; `fields` are "Name: value"."""
        lines = [f"{method} {target} HTTP/1.1", "Host: site.example", "Connection: close", *fields]
        try:
            with socket.create_connection((HOST, self.port), TIMEOUT) as sock:
                sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
                return _parse(_received(sock), method)
        except OSError as error:
            return Reply(problem=f"no answer ({error})")

    @cached_property
    def etag(self) -> str:
        """The opaque part of the tag of /a.txt, with its quotes; empty if it has none."""
        return self("/a.txt")["ETag"].removeprefix("W/")

    @cached_property
    def ranges(self) -> bool:
        """Whether it knows Range at all."""
        return self("/a.txt", "Range: bytes=0-1").status == 206

    @cached_property
    def siblings(self) -> bool:
        """Whether it serves any sibling, asked for in the simplest way."""
        return self("/text.css", "Accept-Encoding: gzip").body == GZIP

    @cached_property
    def indexes(self) -> bool:
        """Whether it serves index files."""
        return b"<title>sub" in self("/sub/").body


def _received(sock: socket.socket, limit: float = TIMEOUT) -> bytes:
    """All that comes until the server closes, or `limit` seconds are over."""
    end = time.monotonic() + limit
    data = bytearray()
    try:
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            block = sock.recv(1 << 18)
            if not block:
                break
            data += block
    except OSError:  # in time or not, what came is judged
        pass
    return bytes(data)


def _parse(data: bytes, method: str) -> Reply:
    if not data:
        return Reply(problem="no answer")
    stream = _Kept(data)
    response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.IncompleteRead:
        return Reply(problem=f"{response.status}, shorter than its Content-Length")
    except (http.client.HTTPException, ValueError):
        return Reply(problem="an answer that breaks HTTP")
    if stream.read():
        return Reply(problem=f"{response.status}, and more bytes than Content-Length")
    return Reply(response.status, response.getheaders(), body)


# --- verdicts -------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What a cell says, and for a footnote what came instead."""

    word: Literal["yes", "partly", "no", "–"]
    instead: str = ""


Probe = Callable[[Client], Verdict]

YES: Final = Verdict("yes")
ABSENT: Final = Verdict("–")
UNABLE: Final = "the server does not start"


def no(instead: object) -> Verdict:
    """What came is not it."""
    return Verdict("no", str(instead))


def partly(instead: object) -> Verdict:
    """Some of it, or what RFC 9110 allows as well."""
    return Verdict("partly", str(instead))


def _if(good: bool, instead: object) -> Verdict:
    return YES if good else no(instead)


def _status(status: int, target: str, *fields: str, method: str = "GET") -> Probe:
    def probe(ask: Client) -> Verdict:
        reply = ask(target, *fields, method=method)
        return _if(reply.status == status, reply)

    return probe


# --- ranges and conditions ------------------------------------------------------------------------


def _where_ranges_are(probe: Probe) -> Probe:
    return lambda ask: probe(ask) if ask.ranges else ABSENT


def _where_siblings_are(probe: Probe) -> Probe:
    return lambda ask: probe(ask) if ask.siblings else ABSENT


def _where_tags_are(probe: Probe) -> Probe:
    return lambda ask: probe(ask) if ask.etag else ABSENT


def _whole(reply: Reply) -> str:
    return "200, the whole" if reply.body in (A, A * 100) else str(reply)


@_where_ranges_are
def _multipart(ask: Client) -> Verdict:
    reply = ask("/long.txt", "Range: bytes=0-0,9990-9999")
    if reply.status != 206:
        return no(_whole(reply))
    kind = re.fullmatch(r'multipart/byteranges; ?boundary="?([^";]+)"?', reply["Content-Type"])
    if kind is None:
        return no(reply)
    return _if(
        byteranges(reply.body, kind[1]) == [(0, 0, A[:1]), (9990, 9999, A[90:])], "malformed"
    )


def byteranges(body: bytes, boundary: str) -> list[tuple[int, int, bytes]]:
    """First and last position and content of each part of what has 10,000 bytes.

    An empty list if it breaks the grammar (RFC 2046 5.1.1, RFC 9110 14.6).
    """
    delimiter = b"\r\n--" + boundary.encode()
    before, *parts = (b"\r\n" + body).split(delimiter)
    if before.strip(b"\r\n") or not parts or parts.pop().strip(b"\r\n") != b"--":
        return []
    found = []
    for part in parts:
        head, separator, content = part.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        places = [re.fullmatch(rb"content-range: bytes (\d+)-(\d+)/10000", f) for f in fields]
        found += [(int(place[1]), int(place[2]), content) for place in places if place]
        if fields[0] or not separator:
            return []
    return found


def _part(value: str, start: int, stop: int) -> Probe:
    @_where_ranges_are
    def probe(ask: Client) -> Verdict:
        reply = ask("/a.txt", f"Range: {value}")
        return _if(reply.status == 206 and reply.body == A[start:stop], _whole(reply))

    return probe


@_where_ranges_are
def _unsatisfiable(ask: Client) -> Verdict:
    reply = ask("/a.txt", "Range: bytes=100-")
    if reply.status == 416 and reply["Content-Range"] != "bytes */100":
        return partly(f"416 with Content-Range `{reply['Content-Range']}`")
    return _if(reply.status == 416, _whole(reply))


@_where_ranges_are
def _malformed(ask: Client) -> Verdict:
    """RFC 9110 14.2: such a field may be ignored or rejected, but never be obeyed."""
    values = ("5-4", "+1-2", "1_0-2_0", "--5", "a-b", "1-2x", "-", "0x1-2")
    replies = {value: ask("/a.txt", f"Range: bytes={value}") for value in values}
    for value, reply in replies.items():
        if reply.status not in (200, 400, 416):
            return no(f"`{value}`: {reply}")
    rejected = sorted({reply.status for reply in replies.values()} - {200})
    if rejected:
        return partly(f"{', '.join(map(str, rejected))}, which RFC 9110 14.2 allows")
    return YES


@_where_ranges_are
def _if_range(ask: Client) -> Verdict:
    reply = ask("/a.txt", 'If-Range: "another"', "Range: bytes=0-1")
    return _if(reply.status == 200 and reply.body == A, reply)


def _tagged(field: str) -> Probe:
    """A condition with the file's own tag in the place of {}, which makes it 304."""

    @_where_tags_are
    def probe(ask: Client) -> Verdict:
        reply = ask("/a.txt", field.format(ask.etag))
        return _if(reply.status == 304, reply)

    return probe


@_where_ranges_are
@_where_tags_are
def _order(ask: Client) -> Verdict:
    """RFC 9110 13.2.2, with the conditions that it knows."""
    for condition in (f"If-None-Match: {ask.etag}", 'If-Match: "another"'):
        alone = ask("/a.txt", condition)
        for value in ("0-1", "500-"):
            reply = ask("/a.txt", condition, f"Range: bytes={value}")
            if alone.status in (304, 412) and reply.status != alone.status:
                return no(f"{condition.partition(':')[0]}, and `{value}`: {reply}")
    return YES


# --- codings --------------------------------------------------------------------------------------


def _sibling(coding: str, content: bytes) -> Probe:
    def probe(ask: Client) -> Verdict:
        reply = ask("/text.css", f"Accept-Encoding: {coding}")
        got = reply["Content-Encoding"] or "plain"
        return _if(got == coding and reply.body == content, f"{reply}, {got}")

    return probe


@_where_siblings_are
def _tags_by_coding(ask: Client) -> Verdict:
    plain, coded = ask("/text.css")["ETag"], ask("/text.css", "Accept-Encoding: gzip")["ETag"]
    if not plain or not coded:
        return no("no ETag")
    return _if(plain != coded, "one ETag for both")


@_where_siblings_are
def _refused_gzip(ask: Client) -> Verdict:
    reply = ask("/text.css", "Accept-Encoding: gzip;q=0")
    return _if(reply.body == TEXT and not reply["Content-Encoding"], "gzip")


@_where_siblings_are
def _refused_identity(ask: Client) -> Verdict:
    coded = ask("/text.css", "Accept-Encoding: identity;q=0, gzip;q=0.5")
    if coded.body != GZIP:
        return no(f"{coded}, {coded['Content-Encoding'] or 'plain'}, where gzip may come")
    plain = ask("/a.txt", "Accept-Encoding: identity;q=0")
    return YES if plain.status == 406 else partly(f"{plain} and plain where there is no sibling")


@_where_siblings_are
def _vary(ask: Client) -> Verdict:
    gzipped = "Accept-Encoding: gzip"
    plain, coded = ask("/text.css"), ask("/text.css", gzipped)
    kept = ask("/text.css", gzipped, f"If-None-Match: {coded['ETag']}")
    if kept.status != 304:
        return no(f"{kept} to its own ETag")
    answers = {"the plain 200": plain, "the coded 200": coded, "304": kept}
    lacking = [name for name, r in answers.items() if "accept-encoding" not in r["Vary"].lower()]
    return _if(not lacking, "not on " + ", ".join(lacking))


@_where_siblings_are
def _stale(ask: Client) -> Verdict:
    reply = ask("/stale.css", "Accept-Encoding: gzip")
    body = gzip.decompress(reply.body) if reply.body[:2] == b"\x1f\x8b" else reply.body
    return _if(body == TEXT, "the old sibling")


# --- paths ----------------------------------------------------------------------------------------


def _hidden(target: str, *fields: str) -> Probe:
    def probe(ask: Client) -> Verdict:
        reply = ask(target, *fields)
        return _if(reply.status in (400, 403, 404), _leak(reply))

    return probe


def _leak(reply: Reply) -> str:
    return "served" if SECRET in reply.body else str(reply)


def _linked_index(ask: Client) -> Verdict:
    """A listing in its place is as good as 404."""
    if not ask.indexes:
        return ABSENT
    reply = ask("/linked/")
    return _if(0 < reply.status < 500 and SECRET not in reply.body, _leak(reply))


@_where_siblings_are
def _linked_sibling(ask: Client) -> Verdict:
    reply = ask("/sibling.txt", "Accept-Encoding: gzip")
    return _if(reply.status == 200 and SECRET not in reply.body, _leak(reply))


def _inside(ask: Client) -> Verdict:
    reply = ask("/inside.txt")
    return _if(reply.body == A, reply)


def _traversal(ask: Client) -> Verdict:
    for path in (
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/sub/..%2f..%2foutside.txt",
        "/..%5coutside.txt",
        "/a.txt%00",
        "/a.txt%00.html",
        "/..%00/outside.txt",
    ):
        reply = ask(path)
        if reply.status not in (400, 403, 404):
            return no(f"`{path}`: {_leak(reply)}")
    return YES


def _fifo(ask: Client) -> Verdict:
    """The server is started with it in the tree."""
    if ask("/a.txt").body != A:
        return no(UNABLE)
    start = time.monotonic()
    reply = ask("/fifo")
    if time.monotonic() - start > TIMEOUT / 2:
        return no("it hangs")
    return _if(reply.status in (403, 404), reply)


def _broken(ask: Client) -> Verdict:
    """The server is started with them in the tree."""
    if ask("/a.txt").body != A:
        return no(UNABLE)
    for path in ("/nowhere", "/loop"):
        reply = ask(path)
        if reply.status not in (403, 404):
            return no(f"`{path}`: {reply}")
    return YES


def _file_with_slash(ask: Client) -> Verdict:
    reply = ask("/a.txt/")
    if 300 <= reply.status < 400:
        return partly(reply)
    return _if(reply.status == 404, reply)


def _slash(ask: Client) -> Verdict:
    if not ask.indexes:
        return ABSENT
    reply = ask("/sub?q=1")
    location = reply["Location"]
    if not 300 <= reply.status < 400:
        return no(reply)
    return YES if "//" not in location and location.endswith("/?q=1") else partly(reply)


def _open_redirect(ask: Client) -> Verdict:
    for path in (
        "//evil.example/%2e%2e",
        "//evil.example/..%2f",
        "///evil.example/%2e%2e",
        "/%5cevil.example/%2e%2e",
        "//sub",
        "///sub",
    ):
        reply = ask(path)
        if re.match(r"[/\\]{2}|\w+://(?!site\.example[:/])", reply["Location"]):
            return no(f"`{path}`: {reply}")
    return YES


# --- answers --------------------------------------------------------------------------------------


def _head(ask: Client) -> Verdict:
    for target, *fields in (
        ("/a.txt",),
        ("/missing",),
        ("/sub",),
        ("/text.css", "Accept-Encoding: gzip"),
    ):
        get, head = ask(target, *fields), ask(target, *fields, method="HEAD")
        if head.body or head.status != get.status:
            return no(f"`{target}`: {head} for {get}")
        differing = {
            name
            for name in get.metadata.keys() | head.metadata.keys()
            if get.metadata.get(name) != head.metadata.get(name)
        }
        if differing == {"content-length"} and not head["Content-Length"]:
            return partly(f"`{target}`: HEAD lacks Content-Length, which RFC 9110 9.3.2 allows")
        if differing:
            return no(f"`{target}`: HEAD has another {', '.join(sorted(differing))}")
    return YES


def _allow(ask: Client) -> Verdict:
    reply = ask("/a.txt", method="DELETE")
    if reply.status == 405 and "GET" not in reply["Allow"]:
        return partly("405 without Allow")
    return _if(reply.status == 405, reply)


def _options(ask: Client) -> Verdict:
    reply = ask("/a.txt", method="OPTIONS")
    return _if(reply.status == 204 and "GET" in reply["Allow"], reply)


def _field(target: str, name: str, wanted: str, *fields: str) -> Probe:
    def probe(ask: Client) -> Verdict:
        reply = ask(target, *fields)
        return _if(
            reply.status == 200 and wanted in reply[name].lower(),
            f"`{name}: {reply[name]}`" if reply[name] else f"{reply}, no {name}",
        )

    return probe


def _own_page(ask: Client) -> Verdict:
    reply = ask("/missing")
    return _if(reply.status == 404 and b"what is missing<" in reply.body, f"{reply}, another page")


def _nearest_page(ask: Client) -> Verdict:
    near, far = (b"missing in sub" in ask(path).body for path in ("/sub/x", "/sub/deep/x"))
    if near and not far:
        return partly("of the same folder only")
    return _if(near, "the one of the top" if b"what is missing<" in ask("/sub/x").body else "none")


def _clean(ask: Client) -> Verdict:
    reply = ask("/about")
    return _if(reply.status == 200 and b"<title>about" in reply.body, reply)


def _application(ask: Client) -> Verdict:
    html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
    page = ask("/some/page", html)
    if page.status != 200 or b"<title>home" not in page.body:
        return no(page)
    for target, accept in (
        ("/gone.js", "Accept: */*"),
        ("/gone.js", html),
        ("/api/x", "Accept: application/json"),
    ):
        reply = ask(target, accept)
        if reply.status != 404:
            return partly(f"`{target}` with `{accept}`: {reply}")
    return YES


def _listing(ask: Client) -> Verdict:
    reply = ask("/list/")
    if reply.status != 200 or b"x.txt" not in reply.body:
        return no(reply)
    return _if(b"<img src=x>" not in reply.body, "names are not escaped")


def _json_listing(ask: Client) -> Verdict:
    if _names(ask("/list/", "Accept: application/json")):
        return YES
    return partly("by URL, not by Accept") if _names(ask("/json/")) else no("HTML")


def _names(reply: Reply) -> bool:
    try:
        found = json.loads(reply.body)
        return any(entry["name"] == "x.txt" for entry in found)
    except (ValueError, TypeError, KeyError):
        return False


def _immutable(ask: Client) -> Verdict:
    kept = ask(f"/app.{HASHED}.js")["Cache-Control"]
    if "immutable" not in kept:
        return no(f"`Cache-Control: {kept}`" if kept else "no Cache-Control")
    missing = ask("/gone.0123456789ab.js")["Cache-Control"]
    return partly("also where there is no such file") if "immutable" in missing else YES


def _headers(ask: Client) -> Verdict:
    reply = ask("/a.txt")
    if reply["X-Rule"] != "obeyed":
        return no("the file is not read")
    return _if(ask("/_headers").status == 404, "the file itself is served")


def _fixed_time(ask: Client) -> Verdict:
    """The file is exchanged for another of the same size and time, as builds do."""
    first = ask("/built.txt")
    if not first["ETag"]:
        return no("no ETag")
    (ask.root / "new.txt").write_bytes(A[::-1])
    os.utime(ask.root / "new.txt", (1, 1))
    (ask.root / "new.txt").replace(ask.root / "built.txt")
    reply = _until(ask, "/built.txt", lambda reply: reply.status == 200, f"{first['ETag']}")
    return _if(reply.status == 200, "304 although the content is another")


def _until(ask: Client, target: str, good: Callable[[Reply], bool], tag: str = "") -> Reply:
    """Ask again and again until it is so, or it is too late."""
    end = time.monotonic() + WITHIN
    while True:
        reply = ask(target, *([f"If-None-Match: {tag}"] if tag else []))
        if good(reply) or time.monotonic() > end:
            return reply
        time.sleep(0.1)


# --- changes --------------------------------------------------------------------------------------


def _appears(ask: Client) -> Verdict:
    """Asked for before it is there, so that a memory of its absence counts."""
    ask("/later.txt")
    (ask.root / "later.txt").write_bytes(b"here")
    reply = _until(ask, "/later.txt", lambda reply: reply.body == b"here")
    return _if(reply.body == b"here", reply)


def _changes(ask: Client) -> Verdict:
    ask("/changing.txt")
    (ask.root / "changing.txt").write_bytes(b"the second")
    reply = _until(ask, "/changing.txt", lambda reply: reply.body == b"the second")
    return _if(reply.body == b"the second", reply)


def _shrinks(ask: Client) -> Verdict:
    """The client may not wait for what never comes, nor get what never was."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.settimeout(TIMEOUT)
        try:
            sock.connect((HOST, ask.port))
            sock.sendall(b"GET /large.bin HTTP/1.1\r\nHost: site.example\r\n\r\n")
            data = sock.recv(1 << 16)
            os.truncate(ask.root / "large.bin", 1 << 20)
            start = time.monotonic()
            data += _received(sock)
        except OSError as error:
            return no(f"no answer ({error})")
    head, _, body = data.partition(b"\r\n\r\n")
    if f"content-length: {LARGE}".encode() not in head.lower().split(b"\r\n"):
        return no("its length is not told")
    if time.monotonic() - start >= TIMEOUT:
        return no("the connection stays open, and nothing comes")
    # Cut off, or whole from memory. What sendfile(2) had queued may read as zero before the cut.
    return _if(len(body) < LARGE or body == b"x" * LARGE, "filled up to its Content-Length")


# --- commands and development ---------------------------------------------------------------------


def _compress(ask: Client) -> Verdict:
    """Run it over a folder of its own."""
    if ask.compress is None:
        return ABSENT
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "site"
        _write(folder, {"text.css": TEXT})
        done = subprocess.run(
            ask.compress(folder), capture_output=True, check=False, timeout=10 * TIMEOUT
        )
        made = [gzip.decompress(path.read_bytes()) for path in Path(scratch).rglob("text.css.gz")]
        return _if(made == [TEXT], f"exit status {done.returncode}")


def _live(ask: Client) -> Verdict:
    """The page brings a script, whose events tell of a change."""
    script = re.search(rb'<script src="([^"?]+)\?since=([^"]+)"', ask("/").body)
    if script is None:
        return no("the page brings no script")
    url, since = script[1].decode(), script[2].decode()
    events = f"{url.rpartition('/')[0]}/events?since={since}"
    if ask(url).status != 200 or b"event: reload" in ask(events).body:
        return no("reloads without a change")
    (ask.root / "index.html").write_bytes(b"<title>another home</title>")
    reply = _until(ask, events, lambda reply: b"event: reload" in reply.body)
    return _if(b"event: reload" in reply.body, reply)


# --- the rows -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A feature, how it is asked for, and in which of a system's modes."""

    name: str
    probe: Probe
    mode: str = "site"


ROWS: Final = (
    Row("several ranges: correct multipart", _multipart),
    Row("one-byte range", _part("bytes=0-0", 0, 1)),
    Row("suffix longer than the file", _part("bytes=-1000", 0, 100)),
    Row("unsatisfiable range: 416 with Content-Range", _unsatisfiable),
    Row("malformed Range ignored", _malformed),
    Row(
        "unknown range unit ignored", _where_ranges_are(_status(200, "/a.txt", "Range: lines=0-4"))
    ),
    Row("If-Range that does not match: the whole", _if_range),
    Row("If-None-Match: a list", _tagged('If-None-Match: "another", {}')),
    Row("If-None-Match: a weak tag", _tagged("If-None-Match: W/{}")),
    Row("If-None-Match: `*`", _status(304, "/a.txt", "If-None-Match: *")),
    Row("If-Match that does not match: 412", _status(412, "/a.txt", 'If-Match: "another"')),
    Row("preconditions before Range", _order),
    Row("`gzip` sibling", _sibling("gzip", GZIP)),
    Row("`br` sibling", _sibling("br", BR)),
    Row("`zstd` sibling", _sibling("zstd", ZSTD)),
    Row("`gzip;q=0` obeyed", _refused_gzip),
    Row("`identity;q=0` obeyed", _refused_identity),
    Row("another ETag for each coding", _tags_by_coding),
    Row("Vary on 200 and 304", _vary),
    Row("stale sibling not served", _stale),
    Row("command that makes siblings", _compress),
    Row("link out of the root refused: file", _hidden("/link.txt")),
    Row("link out of the root refused: index file", _linked_index),
    Row("link out of the root refused: sibling", _linked_sibling),
    Row("link within the root followed", _inside),
    Row("`..`, `%2f`, `%5c`, `%00` refused, never 500", _traversal),
    Row("dotfile hidden", _hidden("/.env")),
    Row("fifo in the tree: 404, no hang", _fifo, "fifo"),
    Row("broken link in the tree: the server starts, 404", _broken, "broken"),
    Row("`/a.txt/` is 404", _file_with_slash),
    Row("slash redirect relative, query kept", _slash),
    Row("no redirect to another host by `//`", _open_redirect),
    Row("HEAD has the fields of GET", _head),
    Row("405 with Allow", _allow),
    Row("OPTIONS: 204 with Allow", _options),
    Row("nosniff", _field("/a.txt", "X-Content-Type-Options", "nosniff")),
    Row("charset of text", _field("/text.css", "Content-Type", "utf-8")),
    Row("own 404.html", _own_page),
    Row("the nearest 404.html up the tree", _nearest_page),
    Row("page of a single-page application, for navigations only", _application, "application"),
    Row("clean URLs", _clean),
    Row("listing as HTML", _listing),
    Row("listing as JSON, by Accept", _json_listing),
    Row("hashed names immutable", _immutable),
    Row("`_headers`", _headers),
    Row("`_redirects`", _status(302, "/old")),
    Row(
        "fonts for other origins",
        _field("/font.woff2", "Access-Control-Allow-Origin", "*", "Origin: https://other.example"),
    ),
    Row("file of time 1: its ETag follows the content", _fixed_time),
    Row("a new file is there within a second", _appears),
    Row("a changed file shows within a second", _changes),
    Row("a file cut short while it is sent: connection closed", _shrinks),
    Row("live reload", _live, "live"),
)
