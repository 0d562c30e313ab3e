"""URL path -> the names that lead to a file below the root, or None.

The path is judged once, as a whole, before the file system hears of it: what is refused here
costs no system call and is answered like any missing file, so that nobody learns from the answer
whether something exists outside.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

# Control characters (NUL among them) and the backslash are in no sane name; surrogates stand for
# bytes that are not UTF-8; a lone drive letter means another disk when the site moves to Windows.
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f\\/\ud800-\udfff]|\A[A-Za-z]:\Z")

# Windows only: streams and drives (`:`), wildcards, 8.3 names, names it trims, and devices
# (which it finds under any extension, with spaces before the dot, and with superscript digits).
# Elsewhere these are names like any other, and a file that has one is served.
_WINDOWS_REFUSED: Final = re.compile(
    r'[:<>"|?*]|~[0-9]|[. ]\Z'
    r"|\A(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])"
    r"(?: *\.| *\Z)",
    re.IGNORECASE,
)

# What configures the site, at its top, under these names and all they could be read under: with
# the suffix of a coding, of a type (clean addresses), of an editor's copy.
_CONFIGURATION: Final = re.compile(r"_(?:headers|redirects)(?:[.~].*)?", re.DOTALL)

# What file systems leave out when they compare names without regard to case (HFS+, ext4's
# casefold): Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt.
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_MAX_PATH: Final = 4096  # PATH_MAX: nothing longer can be opened


class Path(NamedTuple):
    """A judged URL path: the names between the slashes, and whether it ended in a slash."""

    parts: tuple[str, ...]
    directory: bool


def judge(path: str, *, dotfiles: bool = False, windows: bool = os.name == "nt") -> Path | None:
    """Split a URL path (as PATH_INFO: percent-decoded, each byte one latin-1 character).

    "" is the root, asked for without its slash. None if it is not of the form that names a file:
    not UTF-8 (overlong forms and surrogates are not), too long, without a slash at its start, or
    with a component that `servable` refuses. Nothing is normalised and nothing decoded again.
    """
    if (path and path[0] != "/") or len(path) > _MAX_PATH:
        return None
    try:
        text = path[1:].encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None
    parts = tuple(text.removesuffix("/").split("/")) if text else ()
    if not servable(parts, dotfiles=dotfiles, windows=windows):
        return None
    return Path(parts, path.endswith("/"))


def servable(
    parts: Sequence[str], *, dotfiles: bool = False, windows: bool = os.name == "nt"
) -> bool:
    """Whether the names from the root down to a file, or directory, are such as may be served.

    Not: empty names, `.` and `..`; control characters, slash and backslash in a name; a lone
    drive letter; what is not UTF-8; names with a leading dot (`.well-known` at the top has none,
    RFC 8615) unless `dotfiles`; `_headers` and `_redirects` at the top, in any case and with any
    extension; where `windows` rules, names that Windows reads as something else.
    """
    return all(
        _is_name(part, top=i == 0, dotfiles=dotfiles, windows=windows)
        for i, part in enumerate(parts)
    ) and not (len(parts) == 1 and _CONFIGURATION.fullmatch(_folded(parts[0])))


def _is_name(part: str, *, top: bool, dotfiles: bool, windows: bool) -> bool:
    if part in ("", ".", "..") or _REFUSED.search(part):
        return False
    if windows and _WINDOWS_REFUSED.search(part):
        return False
    seen = _folded(part)
    if seen in ("", ".", ".."):
        return False
    return dotfiles or seen[0] != "." or (top and part == ".well-known")


def _folded(name: str) -> str:
    """The name as the file systems see it that compare names without regard to case."""
    if name.isascii():
        return name.lower()
    return _IGNORABLE.sub("", unicodedata.normalize("NFD", name).casefold())
