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

# One list element and the comma or end after it; an element may be empty (5.6.1.2). Possessive,
# so that a long header is read once.
_TAG: Final = re.compile(
    r'[ \t]*+((?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"|)[ \t]*+(?:,|\Z)',
)

_DAY, _MONTH = (
    "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
    "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
)
_DATE: Final = re.compile(
    rf"{_DAY}, [0-9]{{2}} {_MONTH} [0-9]{{4}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} GMT"
    rf"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{{2}}-{_MONTH}-[0-9]{{2}}"
    rf" [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} GMT"
    rf"|{_DAY} {_MONTH} [ 0-9][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} [0-9]{{4}}"
)
_LONGEST_DATE: Final = len("Wednesday, 06-Nov-94 08:49:37 GMT")


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from another (RFC 9110 8.8).

    `etag`: the entity tag as sent, with quotes and `W/` if weak, or None.
    `last_modified`: seconds since 1970 (UTC, whole), or None.
    """

    etag: str | None = None
    last_modified: int | None = None


def evaluate(method: str, headers: Mapping[str, Any], current: Validators) -> Status:
    """Judge the preconditions of a request whose answer would otherwise be 200 (13.2.2).

    200: go on. 304: not modified. 412: precondition failed. The representation exists (for a
    missing one the answer is 404 and no precondition counts). A header that cannot be parsed is
    taken as one that matches nothing (tags) or as absent (dates).
    """
    safe = method in ("GET", "HEAD")
    if (tags := headers.get("HTTP_IF_MATCH")) is not None:
        if not _matches(tags, current.etag, strong=True):
            return 412
    elif _changed_since(headers.get("HTTP_IF_UNMODIFIED_SINCE"), current) is True:
        return 412
    if (tags := headers.get("HTTP_IF_NONE_MATCH")) is not None:
        if _matches(tags, current.etag, strong=False):
            return 304 if safe else 412
    elif safe and _changed_since(headers.get("HTTP_IF_MODIFIED_SINCE"), current) is False:
        return 304
    return 200


def range_applies(headers: Mapping[str, Any], current: Validators) -> bool:
    """Whether If-Range lets the Range header count (13.1.5); True without If-Range.

    A tag must match strongly. A date must be equal to Last-Modified; RFC 9110 lets a client send
    one only if it knows it to be strong, and here it never is while our own tag is weak.
    """
    value = headers.get("HTTP_IF_RANGE")
    if value is None:
        return True
    if (date := http_seconds(value)) is not None:
        weak = current.etag is not None and current.etag.startswith("W/")
        return not weak and date == current.last_modified
    tags = entity_tags(value)
    return len(tags) == 1 and _matches(value, current.etag, strong=True)


def entity_tags(value: str) -> list[str]:
    """The tags of a list, as written; [] if anything in it is not an entity tag (8.8.3)."""
    tags: list[str] = []
    position = 0
    while position < len(value):
        element = _TAG.match(value, position)
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


def _matches(value: str, etag: str | None, *, strong: bool) -> bool:
    """`*`, or one tag of the list equal to `etag` by strong or weak comparison (8.8.3.2)."""
    if value.strip(" \t") == "*":
        return True
    if etag is None:
        return False
    if strong:  # two tags that are equal and not weak
        return not etag.startswith("W/") and etag in entity_tags(value)
    opaque = etag.removeprefix("W/")
    return any(tag.removeprefix("W/") == opaque for tag in entity_tags(value))


def _changed_since(value: str | None, current: Validators) -> bool | None:
    """Whether the representation is newer than the date `value`; None if it cannot be said."""
    date = None if value is None else http_seconds(value)
    if date is None or current.last_modified is None:
        return None
    return current.last_modified > date
