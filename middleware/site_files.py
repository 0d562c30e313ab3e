"""The `_headers` and `_redirects` files of a site: read, checked, read again when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from middleware import headers_file, redirects_file
from middleware.beneath import Root, Signature, is_young
from middleware.body import read_part
from middleware.headers_file import HeaderRules
from middleware.redirects_file import RedirectRules

_LONGEST: Final = 1024 * 1024

T = TypeVar("T")


class SiteFiles:
    """Both files of the site below `root`; a missing one is one without rules.

    `headers` and `redirects` hold the rules. ValueError: one cannot be read or used; the message
    names file and line. Later, while serving, each such error is told to `warn` once, and the
    rules stay.
    """

    def __init__(self, root: Root, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._headers = _SiteFile(root, "_headers", headers_file.parse)
        self._redirects = _SiteFile(root, "_redirects", redirects_file.parse)

    @property
    def headers(self) -> HeaderRules:
        """The rules of `_headers`."""
        return self._headers.rules

    @property
    def redirects(self) -> RedirectRules:
        """The rules of `_redirects`."""
        return self._redirects.rules

    def changed(self) -> bool:
        """Look whether one changed, and read it anew; True if other rules hold now."""
        changed = False
        both: tuple[_SiteFile[Any], ...] = (self._headers, self._redirects)
        for file in both:
            try:
                changed = file.changed() or changed
            except (ValueError, OSError) as error:
                if str(error) != file.told:
                    file.told = str(error)
                    self._warn(f"{error}; the rules read before stay in use")
        return changed


class _SiteFile(Generic[T]):
    def __init__(self, root: Root, name: str, parse: Callable[[str, str], T]) -> None:
        self._root = root
        self._name = name
        self._parse = parse
        self._seen: Signature | None = None
        self._data = b""  # what was read last, be it right or wrong
        self.told = ""  # what was wrong with it, as the operator was told
        self.rules = parse("", name)
        try:
            self.changed()
        except OSError as error:
            raise self._unusable(f"cannot be read: {error}") from None

    def changed(self) -> bool:
        try:
            file = self._root.open((self._name,))
        except (FileNotFoundError, IsADirectoryError):
            if os.path.lexists(os.path.join(self._root.path, self._name)):
                raise self._unusable("cannot be read") from None
            self._seen = None
            return self._use(b"")
        with file:
            if file.signature == self._seen:
                return False
            if file.size > _LONGEST:
                raise self._unusable(f"is over {_LONGEST} bytes")
            data = read_part(file, 0, file.size)
            self._seen = None if is_young(file.mtime_ns) else file.signature
        return self._use(data)

    def _use(self, data: bytes) -> bool:
        if data == self._data:
            return False
        self._data = data
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{self._name}:{line}: this is not UTF-8") from None
        self.rules = self._parse(text, self._name)
        self.told = ""  # the next error is another one
        return True

    def _unusable(self, problem: str) -> ValueError:
        return ValueError(f"{os.path.join(self._root.path, self._name)} {problem}")
