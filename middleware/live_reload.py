"""The browser reloads a page when a file below the root changes; for developers.

A script in the page keeps asking a stream of server-sent events. The stream ends at once and the
browser connects again by itself, with the version it knows: nothing waits in the server, so this
works in an event loop, under every WSGI server, and across a restart.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs, quote

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

Answer = tuple[str, list[tuple[str, str]], bytes]

# The leading dot keeps clear of every file: a site does not serve names with one.
PATH: Final = "/.live-reload/"
"""Where the two resources are, as a URL path below the site."""

_EVENTS: Final = PATH + "events"
_CLIENT: Final = PATH + "client.js"

# Where tools write and no page is.
_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})
_LIMIT: Final = 50_000

# Seconds that a version is believed: while nothing seems to change, and where it matters more.
_CALM: Final = 0.4
_EAGER: Final = 0.05
_RETRY: Final = 0.5  # longer than _CALM: one page, asking in turn, never sees an old version

_SCRIPT: Final = b"""\
(() => {
  const script = new URL(document.currentScript.src);
  let since = script.searchParams.get("since") ?? "";

  function connect() {
    const events = new EventSource(new URL("events?since=" + since, script));
    events.onmessage = (event) => { since = event.lastEventId; };
    events.addEventListener("reload", () => { events.close(); location.reload(); });
    events.addEventListener("style", (event) => {
      since = event.lastEventId;
      if (!restyle(since)) { events.close(); location.reload(); }
    });
    // An answer other than 200, from a proxy while the server restarts, ends the stream for good.
    events.onerror = () => {
      if (events.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
    };
  }

  // Only style sheets changed: load them again and leave the page as it is, if all of them are
  // plain links; false if not.
  function restyle(version) {
    const links = [...document.querySelectorAll("link[rel~=stylesheet][href]")]
      .filter((link) => new URL(link.href).origin === location.origin && !link.dataset.old);
    const imports = [...document.styleSheets].some((sheet) => {
      try {
        return [...sheet.cssRules].some((rule) => rule instanceof CSSImportRule);
      } catch {
        return false;  // from another origin
      }
    });
    if (!links.length || imports || document.adoptedStyleSheets?.length) return false;
    for (const link of links) {
      const fresh = link.cloneNode();
      const url = new URL(link.href);
      url.searchParams.set("live-reload", version);
      fresh.href = url;
      link.dataset.old = "";
      // The old one stays until the new one is there: no moment without style.
      fresh.onload = fresh.onerror = () => link.remove();
      link.after(fresh);
    }
    return true;
  }

  connect();
})();
"""


class Version(NamedTuple):
    """What the files below a root are now: digests of all but the style sheets, and of these.

    `complete`: whether there were no more entries than the limit.
    """

    pages: str
    styles: str
    complete: bool

    def __str__(self) -> str:
        return f"{self.pages}-{self.styles}"


def version(root: str, *, limit: int = _LIMIT) -> Version:
    """The version of the tree: from each file's path, time of modification and size.

    It is the same in every process. Left out: names with a leading dot or a `~` at the end,
    `node_modules`, `__pycache__`; directories behind symbolic links; and what comes after `limit`
    entries, top directories first.
    """
    pages, styles = (hashlib.blake2b(digest_size=6) for _ in range(2))
    count = 0
    for path, status in _walk(root):
        count += 1
        if count > limit:
            break
        seen = f"{status.st_mtime_ns} {status.st_size}" if status else "directory"
        digest = styles if path.endswith(".css") else pages
        digest.update(f"{path}\0{seen}\0".encode("utf-8", "surrogateescape"))
    return Version(pages.hexdigest(), styles.hexdigest(), count <= limit)


def _walk(root: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Paths below the root and what they are (None: a directory), level by level, in order."""
    waiting = [""]
    for directory in waiting:  # it grows meanwhile
        try:
            with os.scandir(root + directory) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:  # gone, or not for us: then it is not served either
            continue
        for entry in entries:
            name = entry.name
            if name[0] == "." or name[-1] == "~" or name in _SKIPPED:
                continue
            path = f"{directory}/{name}"
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
                status = None if is_directory else entry.stat()
            except OSError:  # gone meanwhile, or a link to nowhere
                continue
            if is_directory:
                waiting.append(path)
            yield path, status


class LiveReload:
    """Live reload for the site below the directory `root`.

    `answer` serves what lies below `PATH`, `inject` puts the script into a page. For the browser
    to see each change, no answer of the site may come from a cache, here or in the browser: send
    `Cache-Control: no-cache` or `no-store`, and look at the file at each request.
    limit: how many files and directories are watched. ValueError: the root is no directory.
    """

    def __init__(self, root: str | os.PathLike[str], *, limit: int = _LIMIT) -> None:
        self._root = os.path.abspath(os.fspath(root))
        if not os.path.isdir(self._root):
            raise ValueError(f"root is not a directory: {self._root}")
        self._limit = limit
        self._lock = threading.Lock()
        self._known: Version | None = None
        self._looked = self._cost = 0.0
        self._told = False

    def version(self, max_age: float = _EAGER) -> Version:
        """The version of the tree, not more than `max_age` seconds old."""
        with self._lock:
            start = time.monotonic()
            if self._known is None or start - self._looked > max_age:
                self._known = version(self._root, limit=self._limit)
                self._looked = time.monotonic()
                self._cost = self._looked - start
            return self._known

    def inject(self, html: bytes, base: str = "", since: Version | None = None) -> bytes:
        """The page with the script before its last `</body>`, or at its end.

        base: the URL path that `PATH` is below, as in SCRIPT_NAME: where the site is mounted.
        since: the version from before the page was read, so that a change meanwhile is seen.
        A page in UTF-16 remains as it is.
        """
        if html.startswith((b"\xff\xfe", b"\xfe\xff")):
            return html
        url = quote(base.encode("latin-1")) + _CLIENT
        known = since or self.version()
        # A resource of its own, not inline: sites whose Content-Security-Policy allows their own
        # scripts ('self') are more than those that allow inline ones.
        script = f'<script src="/{url.lstrip("/")}?since={known}" async></script>\n'.encode()
        at = html.lower().rfind(b"</body")
        at = len(html) if at < 0 else at
        return html[:at] + script + html[at:]

    def answer(self, path: str, environ: WSGIEnvironment) -> Answer | None:
        """The answer to a request for `path` (below the site): status, headers, body.

        None if there is nothing of live reload at this path. Content-Length, leaving out the body
        for HEAD, and refusing other methods than these two are the caller's.
        """
        if path not in (_EVENTS, _CLIENT):
            return None
        if path == _EVENTS:
            return "200 OK", _headers("text/event-stream"), self._events(environ)
        return "200 OK", _headers("text/javascript; charset=utf-8"), _SCRIPT

    def _events(self, environ: WSGIEnvironment) -> bytes:
        """The stream: one event that says what is to be done, then its end."""
        query = parse_qs(environ.get("QUERY_STRING", ""))
        since = environ.get("HTTP_LAST_EVENT_ID") or query.get("since", [""])[0]
        now = self.version(_CALM)
        if since and since != str(now):
            # Perhaps the client knows more, from another process: then look again.
            now = self.version(_EAGER)
        if not now.complete:
            self._tell(environ)
        event = _event(since, now)
        # A large tree is looked at less often: a page that asks takes a tenth of one core at most.
        retry = max(_RETRY, 10 * self._cost)
        return f"retry: {1000 * retry:.0f}\nid: {now}\nevent: {event}\ndata: {now}\n\n".encode()

    def _tell(self, environ: WSGIEnvironment) -> None:
        if not self._told:
            self._told = True
            environ["wsgi.errors"].write(
                f"live reload: {self._root} holds more than {self._limit:,} files and directories; "
                "changes in the rest are not seen\n"
            )


def _event(since: str, now: Version) -> str:
    if since in ("", str(now)):
        return "message"
    return "style" if since.startswith(f"{now.pages}-") else "reload"


def _headers(content_type: str) -> list[tuple[str, str]]:
    return [
        ("Content-Type", content_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
