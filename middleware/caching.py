"""Cache-Control by the file that is served, never by the URL that was asked.

A page that stands in for a missing file (404.html, the fallback of a single-page application) has
its own name, so it cannot inherit the policy of a name that does not exist.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from typing import Any, Final

from middleware.beneath import is_young
from middleware.media import content_type

IMMUTABLE: Final = "public, max-age=31536000, immutable"  # RFC 8246; a year, as RFC 9111 advises
REVALIDATE: Final = "no-cache"
POLICY_FIELDS: Final = frozenset(
    {
        "cache-control",
        "expires",
        "pragma",
        # What some caches obey in its place (RFC 9213).
        "cdn-cache-control",
        "cloudflare-cdn-cache-control",
        "netlify-cdn-cache-control",
        "surrogate-control",
        "vercel-cdn-cache-control",
    }
)
"""The fields that tell caches what to keep, in lower case."""
HASHED_NAME: Final = r"\.[0-9a-f]{12,64}\.[^/]+\Z"
"""What Django's ManifestStaticFilesStorage and webpack make of a name: `site.55e7cbb9ba48.css`."""

CacheControl = str | Mapping[str, str] | Callable[[str], str | None] | None
Immutable = str | re.Pattern[str] | os.PathLike[str] | Callable[[str], bool] | None

_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e\t]+")  # RFC 9110 5.5, without obs-text


def _unheard(text: str) -> None:
    pass


class CachePolicy:
    """The value of Cache-Control for a file, by its path below the root (`"css/site.css"`).

    cache_control: a value for all files but HTML, which is revalidated; or a mapping from glob to
        value, of which the first that matches counts (`*` crosses slashes), also for HTML, and
        all others are revalidated; or a function from path to value; None sends no such header.
    immutable: which names change whenever their content does: a regular expression that is
        searched for in the path, the path of a manifest (Django's, Vite's or a flat one), or a
        function from path to bool; None for none.

    warn: is told, once, of a manifest that cannot be read any more while files are served.

    ValueError: one of them cannot be used; the message says which.
    """

    def __init__(
        self,
        cache_control: CacheControl = REVALIDATE,
        immutable: Immutable = HASHED_NAME,
        warn: Callable[[str], None] = _unheard,
    ) -> None:
        self._control = _control(cache_control)
        self._manifest = None
        if isinstance(immutable, os.PathLike):
            self._manifest = Manifest(immutable, warn)
        self._immutable = self._manifest or _immutable(immutable)

    def changed(self) -> bool:
        """Whether the manifest was written anew since the last look; it is read then."""
        return self._manifest is not None and self._manifest.changed()

    def __call__(self, path: str) -> str | None:
        """The value for the file at `path`, or None for no header."""
        return IMMUTABLE if self._immutable(path) else self._control(path)


def _control(given: CacheControl) -> Callable[[str], str | None]:
    if callable(given):
        return lambda path: None if (value := given(path)) is None else _value(value)
    if isinstance(given, Mapping):
        for glob in given:
            if not isinstance(glob, str):
                raise ValueError(f"cache_control: not a glob: {glob!r}")
        # A path below the root begins without a slash; who writes one means the same.
        rules = [
            (re.compile(translate(glob.removeprefix("/"))), _value(value))
            for glob, value in given.items()
        ]
        return lambda path: next((v for rule, v in rules if rule.match(path)), REVALIDATE)
    if given is None:
        return lambda path: None
    value = _value(given)
    return lambda path: REVALIDATE if content_type(path).startswith("text/html") else value


def _value(value: object) -> str:
    if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
        raise ValueError(f"cache_control is not a header value: {value!r}")
    return value


def _immutable(given: Any) -> Callable[[str], bool]:
    if given is None:
        return lambda path: False
    if callable(given):
        return lambda path: bool(given(path))
    try:
        pattern = re.compile(given)
        pattern.search("")  # one for bytes cannot
    except (re.error, TypeError) as error:
        raise ValueError(f"immutable is not a regular expression: {given!r}: {error}") from None
    return lambda path: pattern.search(path) is not None


class Manifest:
    """The hashed names that a build wrote down: `manifest("css/site.55e7cbb9ba48.css")` is True.

    Known are Django's `staticfiles.json` ({"paths": {name: hashed}}), Vite's `manifest.json`
    ({source: {"file": hashed, "css": [hashed], "assets": [hashed]}}) and flat ones
    ({name: hashed}). A name that the build left as it was is not one: webpack lists index.html.
    ValueError: the file cannot be read, or is none of these.
    """

    def __init__(self, path: os.PathLike[str], warn: Callable[[str], None] = _unheard) -> None:
        self._path = os.path.abspath(os.fspath(path))
        self._warn = warn
        self._told = ""
        self._seen = self._state()
        self._data: bytes | None = None
        self._names: frozenset[str] = frozenset()
        self._read()

    def __call__(self, path: str) -> bool:
        return path in self._names

    def changed(self) -> bool:
        """Whether it was written anew; one that cannot be read now leaves the names as they are."""
        state = self._state()
        if state is not None and state == self._seen:
            return False
        self._seen = state
        try:
            changed = self._read()
        except ValueError as error:
            if state is not None or not os.path.exists(self._path):  # else it is being written
                self._tell(f"{error}; the names read before stay in use")
            return False
        self._told = ""
        return changed

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._warn(text)

    def _state(self) -> tuple[int, int, int] | None:
        """None if it cannot tell a change."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        if is_young(status.st_mtime_ns):
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self) -> bool:
        """Read it; whether it is another one now."""
        try:
            with open(self._path, "rb") as file:
                data = file.read()
            if data == self._data:
                return False
            found = json.loads(data)
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"the manifest {self._path} cannot be read: {error}") from None
        names = found.get("paths", found) if isinstance(found, dict) else None
        if not isinstance(names, dict):
            raise ValueError(f"the manifest {self._path} is not an object from names to names")
        self._data = data
        self._names = frozenset(
            hashed.lstrip("/")
            for name, value in names.items()
            for hashed in _listed(value)
            if hashed.rpartition("/")[2] != name.rpartition("/")[2]
        )
        return True


def _listed(value: object) -> list[str]:
    """The names in one value of a manifest."""
    listed = [value]
    if isinstance(value, dict):
        listed = [value.get("file")]
        for key in ("css", "assets"):
            more = value.get(key)
            listed += more if isinstance(more, list) else []
    return [name for name in listed if isinstance(name, str)]
