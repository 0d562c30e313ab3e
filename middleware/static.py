"""StaticFiles: a WSGI application that serves the files below a directory.

One request: the path is resolved to an open file, its validators judge the preconditions, Range
picks the bytes, and the answer is written. Each step lives in a module of its own.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from werkzeug.http import http_date

from middleware import pages
from middleware.beneath import OpenFile, open_beneath
from middleware.body import ONE_BLOCK, read_at_once, stream
from middleware.conditional import Validators, evaluate, range_applies
from middleware.media import content_type
from middleware.ranges import Slice, parse_range
from middleware.resolve import Directory, File, resolve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

_ALLOW: Final = ("Allow", "GET, HEAD, OPTIONS")
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
_ACCEPT_RANGES: Final = ("Accept-Ranges", "bytes")
_READING: Final = frozenset({"GET", "HEAD"})
_NOT_FOUND: Final = "404 Not Found"
_UNSATISFIABLE: Final = "416 Range Not Satisfiable"

_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e\t]+")  # RFC 9110 5.5, without obs-text

# Characters that may stand in a query as they are (RFC 3986 3.4), and "%" of what is encoded.
_QUERY_SAFE: Final = "!$&'()*+,;=:@/?%[]"


class StaticFiles:
    """Serve the files below `root` under the URL path `prefix`; pass the rest to `app`.

    A WSGI application without `app` (what is missing is 404), a middleware with it: requests
    outside the prefix, or for which there is no file, reach `app` unchanged.

    root: the directory; a relative one is taken from the current directory now. It may be
        replaced, or be a symbolic link that is changed, while the server runs.
    app: the application behind, or None.
    prefix: the URL path (below SCRIPT_NAME) where the files appear, "/static" or "/static/".
    index: the file that answers for a directory; None serves no directory.
    not_found_page: without `app`, answer a missing file with 404.html of the root, or with a
        built-in page; False answers with one line of text.
    dotfiles: serve names with a leading dot too (`.well-known` always is, RFC 8615).
    cache_control: the value of Cache-Control for files, or a function from the path of the file
        served (`"css/site.css"`) to the value or None; None sends no such header.

    Symbolic links are followed as long as they stay below the root.
    ValueError: the root is no directory, or an argument cannot be used; the message says which.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        app: WSGIApplication | None = None,
        prefix: str = "/",
        *,
        index: str | None = "index.html",
        not_found_page: bool = True,
        dotfiles: bool = False,
        cache_control: str | Callable[[str], str | None] | None = None,
    ) -> None:
        self._root = _directory(root)
        if app is not None and not callable(app):
            raise ValueError(f"app is not a WSGI application: {app!r}")
        self._app = app
        self._prefix = _prefix(prefix)
        if index is not None and (not index or "/" in index or index in (".", "..")):
            raise ValueError(f"index must be the name of a file, or None: {index!r}")
        self._index = index
        self._not_found_page = not_found_page
        self._dotfiles = dotfiles
        if isinstance(cache_control, str) and not _FIELD_VALUE.fullmatch(cache_control):
            raise ValueError(f"cache_control is not a header value: {cache_control!r}")
        self._cache_control = cache_control

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        request = _Request(environ, start_response)
        try:
            found = self._find(environ)
            if isinstance(found, File):
                with found.file:
                    return self._answer(request, found)
        except OSError as error:
            return _unavailable(request, error)
        if found is not None:
            return _redirect(request)
        if self._app is not None:
            return self._app(environ, start_response)
        return self._missing(request)

    def _find(self, environ: WSGIEnvironment) -> File | Directory | None:
        path: str = environ.get("PATH_INFO", "")
        if not (path + "/").startswith(self._prefix + "/") or _encoded_slash(environ):
            return None
        path = path[len(self._prefix) :]
        if not path and not _last_segment(environ):
            path = "/"  # no path at all, and not mounted anywhere: the root
        return resolve(self._root, path, index=self._index, dotfiles=self._dotfiles)

    def _answer(self, request: _Request, found: File) -> Iterable[bytes]:
        file, method, environ = found.file, request.method, request.environ
        if method not in _READING:
            return _other_method(request)
        current = _validators(file)
        etag = [("ETag", current.etag)] if current.etag else []
        caching = etag + self._caching(found.path)
        status = evaluate(method, environ, current)
        if status == 304:
            return request.start("304 Not Modified", caching, [])
        if status == 412:
            return request.text("412 Precondition Failed", "The precondition is false.", etag)
        part = Slice(0, file.size)
        line = "200 OK"
        # RFC 9110 14.2 defines Range for GET only.
        if method == "GET" and "HTTP_RANGE" in environ and range_applies(environ, current):
            slices = parse_range(environ["HTTP_RANGE"], file.size)
            if slices == ():
                unsatisfied = [("Content-Range", f"bytes */{file.size}"), *etag]
                return request.text(_UNSATISFIABLE, "The file has no such bytes.", unsatisfied)
            if slices and len(slices) == 1:  # several: the whole is a right answer too
                line, part = "206 Partial Content", slices[0]
        headers = [("Content-Type", content_type(found.path)), _NOSNIFF, _ACCEPT_RANGES, *caching]
        if current.last_modified is not None:
            headers.append(("Last-Modified", http_date(current.last_modified)))
        if line[:3] == "206":
            headers.append(("Content-Range", part.content_range(file.size)))
        return request.file(line, headers, file, part)

    def _caching(self, path: str) -> Headers:
        policy = self._cache_control
        value = policy(path) if callable(policy) else policy
        return [("Cache-Control", value)] if value else []

    def _missing(self, request: _Request) -> Iterable[bytes]:
        """404. The page carries no validators: it is not what was asked for, so nothing that
        the client has can be compared with it."""
        if not self._not_found_page:
            return request.text(_NOT_FOUND, "There is no such page.")
        headers = [("Content-Type", "text/html; charset=utf-8"), _NOSNIFF]
        try:
            with open_beneath(self._root, ("404.html",)) as page:
                return request.file(_NOT_FOUND, headers, page, Slice(0, page.size))
        except OSError:
            return request.block(_NOT_FOUND, headers, pages.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request and the ways to answer it; HEAD gets what GET would, without the body."""

    environ: WSGIEnvironment
    start_response: StartResponse

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    def start(self, status: str, headers: Headers, body: Iterable[bytes]) -> Iterable[bytes]:
        self.start_response(status, headers)
        return body

    def block(self, status: str, headers: Headers, data: bytes) -> Iterable[bytes]:
        headers = [*headers, ("Content-Length", str(len(data)))]
        return self.start(status, headers, [data] if data and self.method != "HEAD" else [])

    def text(
        self, status: str, line: str, headers: Iterable[tuple[str, str]] = ()
    ) -> Iterable[bytes]:
        plain = [("Content-Type", "text/plain; charset=utf-8"), _NOSNIFF, *headers]
        return self.block(status, plain, f"{line}\n".encode())

    def file(self, status: str, headers: Headers, file: OpenFile, part: Slice) -> Iterable[bytes]:
        """Answer with a part of a file; small ones are read before anything is promised."""
        if part.length <= ONE_BLOCK and self.method != "HEAD":
            return self.block(status, headers, read_at_once(file, part.start, part.length))
        headers = [*headers, ("Content-Length", str(part.length))]
        if self.method == "HEAD":
            return self.start(status, headers, [])
        self.start_response(status, headers)
        return stream(file, part.start, part.length, self.environ.get("wsgi.file_wrapper"))


def _directory(root: str | os.PathLike[str]) -> str:
    path = os.path.abspath(os.fspath(root))  # not realpath: a link may be changed to a new site
    if not os.path.exists(path):
        raise ValueError(f"root does not exist: {path}")
    if not os.path.isdir(path):
        raise ValueError(f"root is not a directory: {path}")
    return path


def _prefix(prefix: str) -> str:
    """The prefix as PATH_INFO would spell it, without a slash at the end."""
    if not prefix.startswith("/"):
        raise ValueError(f"prefix must begin with a slash: {prefix!r}")
    if "//" in prefix or not {"?", "#", "\\"}.isdisjoint(prefix):
        raise ValueError(f"prefix is not a URL path: {prefix!r}")
    return prefix.encode("utf-8").decode("latin-1").removesuffix("/")


def _encoded_slash(environ: WSGIEnvironment) -> bool:
    """Whether the path had %2F in it, as far as the server tells (RAW_URI, REQUEST_URI).

    PATH_INFO does not: after decoding, `a%2Fb` looks like `a/b`, and rules that an application
    or a proxy applies to one of them would not hold for the other.
    """
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return "%2f" in target.partition("?")[0].lower()


def _validators(file: OpenFile) -> Validators:
    """From integers alone, so neither rounding nor a time zone can change them.

    A time of 0 or 1 s is what reproducible builds give every file: it tells nothing, so there are
    no validators. A time in the future must not be sent (RFC 9110 8.8.2.1): now stands for it.
    """
    seconds = file.mtime_ns // 1_000_000_000
    if seconds <= 1:
        return Validators()
    etag = f'"{file.mtime_ns:x}-{file.size:x}-{file.inode:x}"'
    return Validators(etag, min(seconds, int(time.time())))


def _last_segment(environ: WSGIEnvironment) -> str:
    """What follows the last slash of the request's path, percent-decoded."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.rpartition("/")[2]


def _redirect(request: _Request) -> Iterable[bytes]:
    """To the same path with a slash at the end, as a relative reference.

    Only the last segment is in it, encoded: no Host, no scheme and no `//` of the client's can
    get in, and it is right below any mount point or proxy.
    """
    if request.method not in _READING:
        return _other_method(request)
    environ = request.environ
    location = quote(_last_segment(environ).encode("latin-1"), safe="") + "/"
    if query := environ.get("QUERY_STRING"):
        location += "?" + quote(query.encode("latin-1", "replace"), safe=_QUERY_SAFE)
    moved = "A directory's address ends in a slash."
    return request.text("301 Moved Permanently", moved, [("Location", location)])


def _other_method(request: _Request) -> Iterable[bytes]:
    if request.method == "OPTIONS":
        return request.start("204 No Content", [_ALLOW], [])
    return request.text("405 Method Not Allowed", "A file can only be read.", [_ALLOW])


def _unavailable(request: _Request, error: OSError) -> Iterable[bytes]:
    """The system could not open or read: say so to the operator, and let the client come back."""
    path = request.environ.get("PATH_INFO", "")
    request.environ["wsgi.errors"].write(f"StaticFiles: cannot serve {path!a}: {error}\n")
    return request.text("503 Service Unavailable", "Try again soon.", [("Retry-After", "1")])
