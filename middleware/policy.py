"""What the headers of a page say besides what it is: caches, origins, security, `_headers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from middleware.caching import POLICY_FIELDS, CachePolicy
from middleware.cors import Cors
from middleware.listing import CONTENT_SECURITY_POLICY
from middleware.page import Headers
from middleware.security import HSTS, PRESET
from middleware.site_files import SiteFiles

NO_CACHE: Final = ("Cache-Control", "no-cache")
NO_STORE: Final = ("Cache-Control", "no-store")

_OF_MADE_PAGES: Final = frozenset({"content-security-policy"})  # theirs fits what is in them
_NOTHING: Final[frozenset[str]] = frozenset()


class Policy:
    """All that is said of a page by others than itself.

    files: of the site, or None. security: send the preset. live: for live reload, under which
    nothing is kept by anybody.
    """

    def __init__(
        self,
        caching: CachePolicy,
        cors: Cors,
        files: SiteFiles | None,
        *,
        security: bool,
        live: bool,
    ) -> None:
        self._caching = caching
        self._files = files
        self._security = security
        self._live = live
        self.cors: Final = cors
        self.unkept: Final = NO_STORE if live else NO_CACHE
        """What caches are told of answers that are no file's."""

    def changed(self) -> bool:
        """Read what changed on disk; whether other headers hold now."""
        changed = self._caching.changed()
        if self._files is not None:
            changed = self._files.changed() or changed
        return changed

    def for_file(self, url: str, path: str, headers: Headers) -> Headers:
        """The headers of the file `path` that is served at `url`."""
        value = self._caching(path)
        policy = [] if value is None else [("Cache-Control", value)]
        if self._live:
            policy = [NO_STORE]
        return self._add(url, [*headers, *self.cors.for_file(path), *policy])

    def for_made(self, url: str, path: str, headers: Headers) -> Headers:
        """The same for a page that is made here; no file's policy is meant for it."""
        cors = self.cors.for_file(path)
        return self._add(url, [*headers, *cors, self.unkept], _OF_MADE_PAGES)

    def for_listing(self, url: str, path: str, headers: Headers) -> Headers:
        """The same for the page of a directory."""
        allowed = CONTENT_SECURITY_POLICY
        if self._live:  # its script is a resource of the site
            allowed = allowed.replace("script-src", "script-src 'self'") + "; connect-src 'self'"
        policy = ("Content-Security-Policy", allowed)
        return self.for_made(url, path, [*headers, ("Vary", "Accept"), policy])

    def _add(self, url: str, headers: Headers, without: frozenset[str] = _NOTHING) -> Headers:
        if self._security:
            headers += PRESET
        headers = _one_vary(headers)
        if self._files is not None and self._files.headers:
            if self._live:
                without |= POLICY_FIELDS
            headers = self._files.headers.apply(url, headers, without)
        return headers

    # -- what depends on who asks, and how

    def by_scheme(self, environ: Mapping[str, Any]) -> bool:
        """Whether an answer over this scheme differs from one over the other."""
        return self._security and environ["wsgi.url_scheme"] == "https"

    def for_request(self, environ: Mapping[str, Any]) -> Headers:
        """The headers that the answers to this request have besides those of the page."""
        extra = self.cors.for_request(environ)
        return [*extra, HSTS] if self.by_scheme(environ) else extra

    def kept(self, extra: Headers, url: str) -> Headers:
        """Those of `for_request` that `_headers` does not remove at this URL path."""
        if not extra or self._files is None or not self._files.headers:
            return extra
        removed = self._files.headers.removed(url)
        return [pair for pair in extra if pair[0].lower() not in removed]


def _one_vary(headers: Headers) -> Headers:
    """The headers with their Vary fields joined into one."""
    names = [value for name, value in headers if name == "Vary"]
    if len(names) < 2:
        return headers
    return [pair for pair in headers if pair[0] != "Vary"] + [("Vary", ", ".join(names))]
