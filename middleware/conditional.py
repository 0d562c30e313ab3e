"""Conditional requests: 200, 304 or 412 by RFC 9110 section 13, without I/O.

The request headers are read from a mapping of CGI names, as in a WSGI environ. Entity tags are
parsed here and not by Werkzeug 3.1: its `parse_etags` takes unquoted words for tags, and its
`parse_if_range_header` forgets whether a tag was weak, which If-Range must know (13.1.5). Dates
are Werkzeug's, once they have one of the three forms of RFC 9110 5.6.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from werkzeug.http import parse_date

Status = Literal[200, 304, 412]

_ENTITY_TAG: Final = r'(?:W/)?+"[\x21\x23-\x7e\x80-\xff]*+"'
# One list element, with the empty ones before it (5.6.1.2), and the comma or end after it.
# Possessive, so that a long header is read once.
_ELEMENT: Final = re.compile(rf"[ \t,]*+({_ENTITY_TAG}|)[ \t]*+(?:,|\Z)")

_DAY, _MONTH = (
    "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
    "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
)
_TIME: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_YEAR: Final = "[1-9][0-9]{3}"  # parse_date would take 0094 for 1994
_DATE: Final = re.compile(
    rf"{_DAY}, [0-9]{{2}} {_MONTH} {_YEAR} {_TIME} GMT"
    rf"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{{2}}-{_MONTH}-[0-9]{{2}} {_TIME} GMT"
    rf"|{_DAY} {_MONTH} [ 0-9][0-9] {_TIME} {_YEAR}"
)
_LONGEST_DATE: Final = len("Wednesday, 06-Nov-94 08:49:37 GMT")


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from another (RFC 9110 8.8).

    `etag`: the entity tag as sent, with quotes and `W/` if weak, or None. A weak one says that
    the state may still change without a trace, also within the second of `last_modified`.
    `last_modified`: seconds since 1970 (UTC, whole), or None.
    """

    etag: str | None = None
    last_modified: int | None = None

    @property
    def weak(self) -> bool:
        """Whether the tag is weak: what matches it need not be the same byte for byte (8.8.1)."""
        return self.etag is not None and self.etag.startswith("W/")


def evaluate(method: str, headers: Mapping[str, Any], current: Validators) -> Status:
    """Judge the preconditions of a request whose answer would otherwise be 200 (13.2.2).

    200: go on. 304: not modified. 412: precondition failed. The representation exists (for a
    missing one the answer is 404 and no precondition counts). A header that cannot be parsed is
    taken as one that matches nothing (tags) or as absent (dates).
    """
    safe = method in ("GET", "HEAD")
    if (tags := headers.get("HTTP_IF_MATCH")) is not None:
        if not _matches(tags, current, strong=True):
            return 412
    elif _changed_since(headers.get("HTTP_IF_UNMODIFIED_SINCE"), current) is True:
        return 412
    if (tags := headers.get("HTTP_IF_NONE_MATCH")) is not None:
        if _matches(tags, current, strong=False):
            return 304 if safe else 412
    elif safe and _changed_since(headers.get("HTTP_IF_MODIFIED_SINCE"), current) is False:
        return 304
    return 200


def range_applies(headers: Mapping[str, Any], current: Validators) -> bool:
    """Whether If-Range lets the Range header count (13.1.5); True without If-Range.

    One tag, no list and no `*`, and it must match strongly. Or a date that is equal to
    Last-Modified: the client must know that it is a strong one (8.8.2.2), as it does if it got
    it a second later; what a server can tell is that a date is never strong while the tag is weak.
    """
    value = headers.get("HTTP_IF_RANGE")
    if value is None:
        return True
    if current.weak:
        return False
    if (date := http_seconds(value)) is not None:
        return date == current.last_modified
    return bool(value.strip(" \t") == current.etag)


def entity_tags(value: str) -> list[str]:
    """The tags of a list, as written; [] if anything in it is not an entity tag (8.8.3)."""
    tags: list[str] = []
    position = 0
    while position < len(value):
        element = _ELEMENT.match(value, position)
        if element is None:
            return []
        if element[1]:
            tags.append(element[1])
        position = element.end()
    return tags


def http_seconds(value: str) -> int | None:
    """An HTTP-date in seconds since 1970, or None if it is none (5.6.7, all three forms)."""
    value = value.strip(" \t") if len(value) < 100 else value
    if len(value) > _LONGEST_DATE or not _DATE.fullmatch(value):
        return None
    date = parse_date(value)
    return None if date is None else int(date.timestamp())


def _matches(value: str, current: Validators, *, strong: bool) -> bool:
    """`*`, or one tag of the list equal to ours by strong or weak comparison (8.8.3.2)."""
    if value.strip(" \t") == "*":
        return True
    if current.etag is None or (strong and current.weak):
        return False
    opaque = current.etag.removeprefix("W/")
    if opaque not in value:  # mostly so, and then there is nothing to parse
        return False
    tags = entity_tags(value)
    return opaque in tags or (not strong and f"W/{opaque}" in tags)


def _changed_since(value: str | None, current: Validators) -> bool | None:
    """Whether the representation is newer than the date `value`; None if it cannot be said."""
    date = None if value is None else http_seconds(value)
    if date is None or current.last_modified is None:
        return None
    return current.last_modified > date
