"""Cross-origin requests: who may read the files from a page of another origin (Fetch 3.2).

Fonts are always read in this way, also by a page's own style sheet on another host, so they are
open to all unless origins are named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

Headers = list[tuple[str, str]]

_ANY: Final = ("Access-Control-Allow-Origin", "*")
_BY_ORIGIN: Final = ("Vary", "Origin")
# What a script sees of an answer besides the safelisted names; players and PDF viewers need it.
_EXPOSE: Final = (
    "Access-Control-Expose-Headers",
    "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag",
)
_METHODS: Final = ("Access-Control-Allow-Methods", "GET, HEAD")
_MAX_AGE: Final = ("Access-Control-Max-Age", "86400")
_FONTS: Final = (".woff2", ".woff", ".ttf", ".otf", ".ttc", ".eot")

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,?#@]+", re.IGNORECASE)
_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{1,1024}")


class Cors:
    """What answers say to other origins.

    origins: "*" for all, a list of origins (`"https://app.example"`), or None: fonts only, for
    all. ValueError: something is no origin.
    """

    def __init__(self, origins: str | Collection[str] | None) -> None:
        if isinstance(origins, bool | int):
            raise ValueError(f"cors_origins must be a list of origins, or '*': {origins!r}")
        named = [origins] if isinstance(origins, str) else list(origins or ())
        for origin in named:
            if origin != "*" and not (isinstance(origin, str) and _ORIGIN.fullmatch(origin)):
                raise ValueError(
                    f"cors_origins: not an origin like https://app.example: {origin!r}"
                )
        self._all = "*" in named
        self._named = frozenset(origin.lower() for origin in named) - {"*"}

    def for_file(self, path: str) -> Headers:
        """The fields that do not depend on who asks."""
        if self._all:
            return [_ANY, _EXPOSE]
        if self._named:
            return [_BY_ORIGIN]
        return [_ANY] if path.lower().endswith(_FONTS) else []

    def for_request(self, environ: Mapping[str, Any]) -> Headers:
        """The fields for the origin that asks, where origins are named."""
        if not self._named or self._all:
            return []
        origin = environ.get("HTTP_ORIGIN", "")
        if origin.lower() not in self._named:
            return []
        return [("Access-Control-Allow-Origin", origin), _EXPOSE]

    def preflight(self, path: str, environ: Mapping[str, Any]) -> Headers:
        """What the answer to an OPTIONS request adds if it is a preflight (Fetch 3.2.2)."""
        if "HTTP_ORIGIN" not in environ or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return []
        allowed = [pair for pair in self.for_file(path) if pair is not _EXPOSE]
        allowed += [pair for pair in self.for_request(environ) if pair is not _EXPOSE]
        if not any(name == "Access-Control-Allow-Origin" for name, _ in allowed):
            return allowed
        wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        if _NAMES.fullmatch(wanted):  # no credentials are ever allowed, so any name may be sent
            allowed.append(("Access-Control-Allow-Headers", wanted))
        return [*allowed, _METHODS, _MAX_AGE]
