"""StaticFiles: a WSGI application that serves the files below a directory.

The order of things for one request: forced redirects, the file, other redirects, the page that
stands in for a missing one, the application behind. Each of them lives in a module of its own.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
from collections.abc import Collection, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from middleware import listing as listings
from middleware import pages
from middleware.answer import NOT_FOUND, Request
from middleware.beneath import Root
from middleware.caching import HASHED_NAME, REVALIDATE, CacheControl, CachePolicy, Immutable
from middleware.cors import Cors
from middleware.live_reload import LiveReload
from middleware.negotiate import accepts_html, prefers_json
from middleware.page import Changed, Headers, Page, made_page
from middleware.policy import Policy
from middleware.redirects_file import Match
from middleware.resolve import judge, servable
from middleware.site import MAX_AGE, Folder, Looked, Moved, Site
from middleware.site_files import SiteFiles

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log: Final = logging.getLogger("wsgiserver.static")

_ALLOW: Final = ("Allow", "GET, HEAD, OPTIONS")
_READING: Final = frozenset({"GET", "HEAD"})
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
# A file that is replaced again and again, as fast as can be, is still found whole at one of these.
_TRIES: Final = 50
_DEEPEST_ERROR_PAGE: Final = 16
_HTML: Final = "text/html; charset=utf-8"
_MOST_MOUNTS: Final = 8
_REASONS: Final = {
    301: "301 Moved Permanently",
    302: "302 Found",
    303: "303 See Other",
    307: "307 Temporary Redirect",
    308: "308 Permanent Redirect",
    404: NOT_FOUND,
    410: "410 Gone",
    451: "451 Unavailable For Legal Reasons",
}

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
    clean_urls: `/about` is answered by about.html too.
    fallback: the file below the root ("index.html") that answers a browser's navigation
        (Accept: text/html, no dot in the last segment) to what does not exist: for single-page
        applications. Everything else that is missing goes to `app`, or is 404.
    listing: show directories that have no index file, as HTML or as JSON, by Accept.
    not_found_page: without `app`, answer a missing file with the nearest 404.html up the tree, or
        with a built-in page; False answers with one line of text.
    dotfiles: serve names with a leading dot too (`.well-known` always is, RFC 8615).
    symlink_roots: directories outside the root into which symbolic links may lead. Other links
        are followed as long as they stay below the root.
    cache_control, immutable: see `caching.CachePolicy`. By default names with a hash are kept for
        ever, and everything else is revalidated each time.
    compress: small text files that have no sibling (.br, .zst, .gz) in a coding that the client
        accepts are compressed when first asked for, and kept.
    cors_origins: who may read the files from other origins; see `cors.Cors`.
    security_headers: send the preset of security.py with every file.
    site_files: obey the files `_headers` and `_redirects` at the top of the root.
    live_reload: for development: pages reload in the browser when a file changes. Nothing is
        cached then.

    A change on disk shows after a second at the latest.
    ValueError: the root is no directory, or an argument cannot be used; the message says which.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        app: WSGIApplication | None = None,
        prefix: str = "/",
        *,
        index: str | None = "index.html",
        clean_urls: bool = False,
        fallback: str | None = None,
        listing: bool = False,
        not_found_page: bool = True,
        dotfiles: bool = False,
        symlink_roots: Sequence[str | os.PathLike[str]] = (),
        cache_control: CacheControl = REVALIDATE,
        immutable: Immutable = HASHED_NAME,
        compress: bool = True,
        cors_origins: str | Collection[str] | None = None,
        security_headers: bool = False,
        site_files: bool = True,
        live_reload: bool = False,
    ) -> None:
        remark = _Remarks()
        beneath = Root(root, symlink_roots=symlink_roots, refused_link=remark.refused_link)
        if app is not None and not callable(app):
            raise ValueError(f"app is not a WSGI application: {app!r}")
        self._app = app
        self._prefix = _prefix(prefix)
        self._fallback = None if fallback is None else _fallback(fallback)
        self._not_found_page = not_found_page
        self._files = SiteFiles(beneath, log.warning) if site_files else None
        self._live = LiveReload(beneath.path) if live_reload else None
        self._policy = Policy(
            CachePolicy(cache_control, immutable, log.warning),
            Cors(cors_origins),
            self._files,
            security=security_headers,
            live=live_reload,
        )
        self._max_age = 0.0 if live_reload else MAX_AGE
        self._look_again = monotonic() + self._max_age
        self._looking = threading.Lock()
        self._site = Site(
            beneath,
            index=None if index is None else _index(index, dotfiles),
            clean_urls=clean_urls,
            listing=listing,
            dotfiles=dotfiles,
            compress=compress and not live_reload,
            max_age=self._max_age,
            decorate=self._policy.for_file,
            remark=remark,
        )
        self._built_in = self._made_pages()
        self._look_ahead(fallback)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        path = self._path(environ)
        request = Request(environ, start_response, self, self._policy.unkept)
        try:
            try:
                answer = self._answer(request, path)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                self._site.clear()  # the files that are kept open are the first to give way
                answer = self._answer(request, path)
        except OSError as error:
            return _unavailable(request, error)
        if answer is not None:
            return answer
        assert self._app is not None
        return self._app(environ, request.passed_on())

    def _answer(self, request: Request, path: str | None) -> Iterable[bytes] | None:
        """None: it is for the application behind."""
        answer = None if path is None else self._serve(request, path)
        if answer is None and self._app is None:
            answer = self._missing(request, path or "/")
        return answer

    def _path(self, environ: WSGIEnvironment) -> str | None:
        """The path below the prefix; None if it is outside, or has an encoded slash."""
        path: str = environ.get("PATH_INFO", "")
        prefix = self._prefix
        if prefix:
            if not (path + "/").startswith(prefix + "/"):
                return None
            path = path[len(prefix) :]
        if _encoded_slash(environ):
            return None
        if not path and not _last_segment(environ):
            return "/"  # no path at all, and not mounted anywhere: the root
        return path

    def _serve(self, request: Request, path: str) -> Iterable[bytes] | None:
        """The answer, or None if there is nothing here for this request."""
        for _ in range(_TRIES):
            try:
                return self._try_to_serve(request, path)
            except Changed:
                continue  # what was looked at is forgotten: look again
        raise OSError("the file changes all the time")

    def _try_to_serve(self, request: Request, path: str) -> Iterable[bytes] | None:
        if monotonic() >= self._look_again:
            self._keep_up()
        if self._live is not None:
            answer = self._live_answer(request, path)
            if answer is not None:
                return answer
            request.version = self._live.version()  # from before the page is looked at
        request.extra = self._policy.for_request(request.environ)
        if self._files is not None and self._files.redirects:
            match = self._match(request, path, forced=True)
            if match is not None:
                return self._redirected(request, match)
        found = self._site.look_up(path)
        if self._max_age and not self._policy.by_scheme(request.environ):
            # An answer that depends on the scheme must not be given again over the other one.
            request.fresh_until = min(found.fresh_until, self._look_again)
        if not isinstance(found, Page):
            return self._no_page(request, path, found)
        if request.method not in _READING:
            return self._other_method(request, found.path)
        return self._page(request, path, found)

    def _page(self, request: Request, path: str, page: Page) -> Iterable[bytes]:
        request.holds_until(page.fresh_until)
        request.extra = self._policy.kept(request.extra, page.url)
        try:
            answer = request.page(page if self._live is None else self._injected(request, page))
        except Changed:
            self._site.forget(path)
            raise
        self._site.weigh(path, page)
        return answer

    def _no_page(self, request: Request, path: str, found: Looked) -> Iterable[bytes] | None:
        if isinstance(found, (Moved, Folder)):
            if request.method not in _READING:
                if self._app is not None and request.method != "OPTIONS":
                    return None  # a directory takes no form, but the application may
                return self._other_method(request, path)
            if isinstance(found, Folder):
                return self._listed(request, found)
            return _to_directory(request, self._policy.cors.for_file(""))
        if self._files is not None and self._files.redirects:
            match = self._match(request, path, forced=False)
            if match is not None:
                return self._redirected(request, match)
        if self._fallback is not None and _may_be_navigation(request, path):
            page = self._site.look_up(self._fallback)
            if isinstance(page, Page):
                request.vary_by_accept()  # the 404 as well, and the application's answer
                if accepts_html(request.environ.get("HTTP_ACCEPT")):
                    return self._page(request, self._fallback, page)
        return None

    # -- what stands in for a page

    def _missing(self, request: Request, path: str) -> Iterable[bytes]:
        """404, with the nearest 404.html."""
        for _ in range(_TRIES if self._not_found_page else 0):
            try:
                found = self._error_page(request, path)
                if found is None:
                    break
                return self._instead(request, NOT_FOUND, *found)
            except Changed:
                continue
            except OSError:
                break  # there is a page that needs no file
        return self._built_in_page(request, 404)

    def _built_in_page(self, request: Request, code: int) -> Iterable[bytes]:
        if self._not_found_page:
            page = self._built_in[code]
            request.extra = self._policy.kept(request.extra, page.url)
            if self._live is not None:
                page = self._injected(request, page)
            return request.instead(_REASONS[code], page)
        headers = [request.policy, *self._policy.cors.for_file("")]
        return request.text(_REASONS[code], pages.LINES[code], headers)

    def _error_page(self, request: Request, path: str) -> tuple[str, Page] | None:
        """The nearest 404.html up the tree, and its URL path. Raises Changed, OSError."""
        parts = path.split("/")[1:-1][:_DEEPEST_ERROR_PAGE]
        for depth in range(len(parts), -1, -1):
            where = "/".join(["", *parts[:depth], "404.html"])
            page = self._site.look_up(where)
            request.holds_until(page.fresh_until)
            if isinstance(page, Page):
                return where, page
        return None

    def _instead(self, request: Request, status: str, path: str, page: Page) -> Iterable[bytes]:
        request.holds_until(page.fresh_until)
        request.extra = self._policy.kept(request.extra, page.url)
        try:
            shown = page if self._live is None else self._injected(request, page)
            answer = request.instead(status, shown)
        except Changed:
            self._site.forget(path)
            raise
        self._site.weigh(path, page)
        return answer

    def _made_pages(self) -> dict[int, Page]:
        """The built-in pages, with the headers that the rules have for 404.html and the like."""
        return {
            code: made_page(f"/{code}.html", f"{code}.html", _HTML, html, self._policy.for_made)
            for code, html in pages.HTML.items()
        }

    def _listed(self, request: Request, folder: Folder) -> Iterable[bytes]:
        page = self._listing(request, folder)
        request.extra = self._policy.kept(request.extra, folder.url)
        return request.page(page if self._live is None else self._injected(request, page))

    def _listing(self, request: Request, folder: Folder) -> Page:
        as_json = prefers_json(request.environ.get("HTTP_ACCEPT"))
        mount = _as_text(self._mount(request))
        page = folder.pages.get((as_json, mount))
        if page is None:
            kind = "application/json" if as_json else _HTML
            if as_json:
                data = listings.json_page(folder.listing)
            else:
                data = listings.html_page(folder.listing, mount + folder.url, root=f"{mount}/")
            path = folder.url[1:] + "index.html"
            page = made_page(folder.url, path, kind, data, self._policy.for_listing)
            if len(folder.pages) >= _MOST_MOUNTS:
                folder.pages.clear()
            folder.pages[as_json, mount] = page
        return page

    def _mount(self, request: Request) -> str:
        """The URL path that the site is mounted at, without a slash at its end, as PATH_INFO."""
        mount: str = request.environ.get("SCRIPT_NAME", "") + self._prefix
        return mount

    # -- `_redirects`

    def _match(self, request: Request, path: str, *, forced: bool) -> Match | None:
        assert self._files is not None
        if self._app is not None and request.method not in _READING:
            return None  # rules for a whole subtree would take every form from the application
        try:
            text = path.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return None
        query = request.environ.get("QUERY_STRING", "")
        return self._files.redirects.match(text or "/", query, forced=forced)

    def _redirected(self, request: Request, match: Match) -> Iterable[bytes]:
        if request.method not in _READING:
            return self._other_method(request, "")
        if match.location is not None:
            location = match.location
            if location.startswith("/"):  # of the site, which may be mounted somewhere
                location = quote(self._mount(request).encode("latin-1")) + location
            headers = [("Location", location), request.policy, *self._policy.cors.for_file("")]
            return request.text(_REASONS[match.status], "See the address in Location.", headers)
        assert match.target is not None
        target = _as_path_info(match.target)
        found = self._site.look_up(target)
        if isinstance(found, Moved):
            target += "/"
            found = self._site.look_up(target)
        if not isinstance(found, Page):
            request.holds_until(found.fresh_until)
            if match.status in (200, 404):
                return self._missing(request, target)
            return self._built_in_page(request, match.status)
        if match.status == 200:
            return self._page(request, target, found)
        return self._instead(request, _REASONS[match.status], target, found)

    # -- the rest

    def _other_method(self, request: Request, path: str) -> Iterable[bytes]:
        if request.method == "OPTIONS":
            headers = [_ALLOW, *self._policy.cors.preflight(path, request.environ)]
            request.extra = []
            return request.send("204 No Content", headers)
        headers = [_ALLOW, *self._policy.cors.for_file(path)]
        return request.text("405 Method Not Allowed", "A file can only be read.", headers)

    def _live_answer(self, request: Request, path: str) -> Iterable[bytes] | None:
        assert self._live is not None
        answer = self._live.answer(path, request.environ)
        if answer is None:
            return None
        if request.method not in _READING:
            return self._other_method(request, path)
        status, headers, data = answer
        return request.send(status, [*headers, ("Content-Length", str(len(data)))], data)

    def _injected(self, request: Request, page: Page) -> Page:
        """For live reload: the page with the script in it, if it is one."""
        if not page.media_type.startswith("text/html"):
            return page
        assert self._live is not None
        data = page.plain.content.everything()
        html = self._live.inject(data, self._mount(request), request.version)
        return page.instead_with(html)

    def _keep_up(self) -> None:
        """Read `_headers`, `_redirects` and the manifest anew if they changed."""
        if not self._looking.acquire(blocking=False):
            return  # another thread is at it
        try:
            until = monotonic() + self._max_age  # from before the look, as in site.py
            if self._policy.changed():
                self._site.clear()
                self._built_in = self._made_pages()
            self._look_again = until
        finally:
            self._looking.release()

    def _look_ahead(self, fallback: str | None) -> None:
        """Look at what may be wrong with the site, and at what the first who errs would wait for.

        Nothing stays open: a server may fork now, and its processes would share the descriptors.
        """
        if self._fallback is not None:
            page = self._site.look_up(self._fallback)
            if not isinstance(page, Page):
                raise ValueError(f"fallback is not a file below the root: {fallback!r}")
            page.close_files()
        with contextlib.suppress(Changed, OSError):
            page = self._site.look_up("/404.html")
            if isinstance(page, Page):
                page.close_files()


class _Remarks:
    """Tells the operator what is wrong with the site: each thing once."""

    _most: Final = 1000

    def __init__(self) -> None:
        self._told: dict[str, object] = {}

    def __call__(self, text: str) -> None:
        mine = object()
        # One step even between threads: whoever stored its own object is the first.
        if len(self._told) < self._most and self._told.setdefault(text, mine) is mine:
            log.warning("%s", text)

    def refused_link(self, path: str) -> None:
        self(
            f"{path!a} is a symbolic link that leads outside the root and is not followed; "
            "name its tree in symlink_roots to allow it"
        )


def _prefix(prefix: str) -> str:
    """The prefix as PATH_INFO would spell it, without a slash at the end."""
    if not isinstance(prefix, str) or not prefix.startswith("/"):
        raise ValueError(f"prefix must begin with a slash: {prefix!r}")
    path = _as_path_info(prefix)
    if judge(path, dotfiles=True) is None or not {"?", "#"}.isdisjoint(prefix):
        raise ValueError(f"prefix is not a URL path: {prefix!r}")
    return path.removesuffix("/")


def _index(name: str, dotfiles: bool) -> str:
    """The name of the index file, which must be one that is served."""
    if not isinstance(name, str) or "/" in name or not servable((name,), dotfiles=dotfiles):
        raise ValueError(f"index must be the name of a file that is served, or None: {name!r}")
    return name


def _fallback(path: str) -> str:
    """The fallback as PATH_INFO would spell it."""
    if not isinstance(path, str) or not path.strip("/"):
        raise ValueError(f"fallback must be the path of a file below the root: {path!r}")
    return _as_path_info("/" + path.strip("/"))


def _as_path_info(path: str) -> str:
    """A decoded URL path as PATH_INFO spells it: each byte of its UTF-8 one latin-1 character."""
    return path.encode("utf-8").decode("latin-1")


def _as_text(path: str) -> str:
    """A URL path that is spelt as PATH_INFO, as text."""
    return path.encode("latin-1").decode("utf-8", "replace")


def _encoded_slash(environ: WSGIEnvironment) -> bool:
    """Whether the path had %2F in it, as far as the server tells (RAW_URI, REQUEST_URI).

    PATH_INFO does not: after decoding, `a%2Fb` looks like `a/b`, and rules that an application
    or a proxy applies to one of them would not hold for the other.
    """
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return "%" in target and "%2f" in target.partition("?")[0].lower()


def _last_segment(environ: WSGIEnvironment) -> str:
    """What follows the last slash of the request's path, percent-decoded."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.rpartition("/")[2]


def _may_be_navigation(request: Request, path: str) -> bool:
    """Whether a browser may go to this path; a missing asset must stay missing."""
    return request.method in _READING and "." not in path.rpartition("/")[2]


def _to_directory(request: Request, cors: Headers) -> Iterable[bytes]:
    """To the same path with a slash at the end, as a relative reference.

    Only the last segment is in it, encoded: no Host, no scheme and no `//` of the client's can
    get in, and it is right below any mount point or proxy. Without `cors` a page of another
    origin could not follow it.
    """
    environ = request.environ
    location = quote(_last_segment(environ).encode("latin-1"), safe="") + "/"
    if query := environ.get("QUERY_STRING"):
        location += "?" + quote(query.encode("latin-1", "replace"), safe=_QUERY_SAFE)
    moved = "A directory's address ends in a slash."
    headers = [("Location", location), request.policy, *cors]
    return request.text("301 Moved Permanently", moved, headers)


def _unavailable(request: Request, error: OSError) -> Iterable[bytes]:
    """The system could not open or read: say so to the operator, and let the client come back."""
    path = request.environ.get("PATH_INFO", "")
    request.environ["wsgi.errors"].write(f"StaticFiles: cannot serve {path!a}: {error}\n")
    request.fresh_until = 0.0
    request.exc_info = sys.exc_info()  # the answer may have begun: only so may another begin
    return request.text("503 Service Unavailable", "Try again soon.", [("Retry-After", "1")])
