"""URL path -> file below the root, or why not.

The path is judged once, as a whole, before the file system hears of it: what is refused here
costs no system call and is answered like any missing file, so that nobody learns from the answer
whether something exists outside.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from middleware.beneath import OpenFile, open_beneath

# Control characters (NUL among them) and the backslash are in no sane name; a lone drive letter
# means another disk when the site moves to Windows.
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f\\]|(?:\A|/)[A-Za-z]:(?:/|\Z)")

# Windows only: streams and drives (`:`), wildcards, 8.3 names, names it trims, and devices
# (which it finds under any extension, with spaces before the dot, and with superscript digits).
_WINDOWS_REFUSED: Final = re.compile(
    r'[:<>"|?*]|~[0-9]|[. ]\Z'
    r"|\A(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])(?: *\.| *\Z)",
    re.IGNORECASE,
)

_MAX_PATH: Final = 4096  # PATH_MAX: nothing longer can be opened


class Path(NamedTuple):
    """A judged URL path: the names between the slashes, and whether it ended in a slash."""

    parts: tuple[str, ...]
    directory: bool


@dataclass(frozen=True, slots=True)
class File:
    """A file to serve: open, and `path`, its URL path below the root without a leading slash."""

    file: OpenFile
    path: str


class Directory:
    """A directory with an index file, asked for without the slash at the end."""


_DIRECTORY: Final = Directory()


def judge(path: str, *, dotfiles: bool = False, windows: bool = os.name == "nt") -> Path | None:
    """Split a URL path (as PATH_INFO: percent-decoded, each byte one latin-1 character).

    "" is the root, asked for without its slash. None if it is not of the form that names a file:
    "" is the root, asked for without its slash. None if it is not of the form that names a file:
    not UTF-8 (overlong forms are not), with
    component (leading dot; `.well-known` as the first, RFC 8615, is none) unless `dotfiles`,
    or, where `windows` rules, a name Windows reads as something else.
    """
    if (path and path[0] != "/") or len(path) > _MAX_PATH:
        return None
    try:
        text = path[1:].encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None
    if _REFUSED.search(text):
        return None
    parts = text.removesuffix("/").split("/") if text else []
    for i, part in enumerate(parts):
        dotted = dotfiles or (i == 0 and part == ".well-known")
        if not _is_name(part, dotted=dotted, windows=windows):
            return None
    return Path(tuple(parts), path.endswith("/"))


def _is_name(part: str, *, dotted: bool, windows: bool) -> bool:
    if part in ("", ".", "..") or (part[0] == "." and not dotted):
        return False
    return not (windows and _WINDOWS_REFUSED.search(part))


def resolve(
    root: str, path: str, *, index: str | None = "index.html", dotfiles: bool = False
) -> File | Directory | None:
    """Open the file that the URL path (as PATH_INFO) names below the directory `root`.

    `index`: the file that answers for a directory, or None. The result's file is open and the
    caller's to close. None: no such file for the client. OSError other than FileNotFoundError
    and IsADirectoryError: the system could not say (no descriptors left, I/O error).
    """
    judged = judge(path, dotfiles=dotfiles)
    if judged is None:
        return None
    parts = judged.parts
    if not judged.directory:
        found = _open(root, parts)
        if found is not _DIRECTORY:
            return found
    page = _open(root, (*parts, index)) if index else None
    if not isinstance(page, File):
        # A directory without an index is no page: a redirect to it would only hide what an
        # application has under that name.
        return None
    if judged.directory:
        return page
    page.file.close()
    return _DIRECTORY


def _open(root: str, parts: Sequence[str]) -> File | Directory | None:
    try:
        return File(open_beneath(root, parts), "/".join(parts))
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return _DIRECTORY
