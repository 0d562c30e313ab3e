"""Range header -> slices of a representation (RFC 9110 section 14), ready to send, without I/O.

Written here and not taken from Werkzeug 3.1, whose `parse_range_header` reads `bytes=-0` as
malformed (it is well-formed and unsatisfiable: 416), refuses lists out of order and lists with
empty elements (RFC 9110 5.6.1.2), accepts spaces around the dash and any unit, and raises nothing
for a number of 60,000 digits only because `int()` happens to refuse it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_RANGES: Final = 16
"""A header with more ranges is ignored: no client needs them, storms of them are attacks
(CVE-2011-3192, CVE-2025-62727)."""

MAX_LENGTH: Final = 2048
"""A longer header is ignored before anything in it is looked at: three times what `MAX_RANGES`
ranges of the largest files need."""

PART_COST: Final = 80
"""Bytes that one more part of a multipart answer costs beside its content, by RFC 9110 15.3.7.2."""

# range-unit "=" range-set; a unit is compared without case (14.1). `re` is linear here: every
# quantifier is possessive, so no input makes it try again.
_HEADER: Final = re.compile(r"bytes=(.*+)", re.IGNORECASE | re.ASCII)
_RANGE: Final = re.compile(r"([0-9]*+)-([0-9]*+)")

# What a number stands for that has more digits than any file's length.
_BEYOND: Final = 1 << 64


class Slice(NamedTuple):
    """The bytes from `start` up to, and without, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes it has; at least one."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range (RFC 9110 14.4) when the whole has `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(value: str, size: int, part_cost: int = PART_COST) -> tuple[Slice, ...] | None:
    """What to send of a representation of `size` bytes for the Range header `value`.

    None: the header is to be ignored and the whole sent, because it is malformed, of another
    unit, too long or with too many ranges, because the representation is empty (there is no byte
    to name), or because the parts would cost as much as the whole.
    (): well-formed, but no range of it can be satisfied: 416.
    One slice: an answer with Content-Range, be it the whole. Several: multipart/byteranges, where
    each part, and the end, takes at most `part_cost` bytes beside the content. They are cut to the
    size, do not overlap, and have at least `part_cost` bytes between them.
    """
    asked = _requested(value, size)
    if not asked:
        return asked
    slices = _coalesced(asked, part_cost)
    if len(slices) > 1 and _cost(slices, part_cost) >= size:
        return None
    return slices


def _requested(value: str, size: int) -> tuple[Slice, ...] | None:
    """The satisfiable ranges as they were asked for; None and () as `parse_range` has them."""
    if len(value) > MAX_LENGTH or size <= 0:
        return None
    header = _HEADER.fullmatch(value.strip(" \t"))
    if header is None:
        return None
    elements = [element.strip(" \t") for element in header[1].split(",")]
    # OWS stands beside commas only: "bytes= 0-1" is not a range-set.
    if elements[0] and header[1][0] in " \t":
        return None
    specs = [_RANGE.fullmatch(element) for element in elements if element]
    if not 0 < len(specs) <= MAX_RANGES:
        return None
    slices = []
    for spec in specs:
        first, last = spec.groups() if spec else ("", "")
        if not (first or last) or (first and last and _order(last) < _order(first)):
            return None  # one invalid range makes the whole header invalid (14.1.1)
        start, stop = _bounds(first, last, size)
        if start < stop:
            slices.append(Slice(start, stop))
    return tuple(slices)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:  # "-n": the last n bytes, or all of them if there are fewer
        return max(0, size - _number(last)), size
    return _number(first), min(_number(last) + 1, size) if last else size


def _order(digits: str) -> tuple[int, str]:
    """Sorts as the number does, without computing it."""
    significant = digits.lstrip("0")
    return len(significant), significant


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < 20 else _BEYOND


def _coalesced(slices: tuple[Slice, ...], part_cost: int) -> tuple[Slice, ...]:
    """Slices that overlap, touch, or have a gap that is cheaper than a part between them, as one.

    The rest keeps the order asked, in which RFC 9110 15.3.7.2 ought to have the parts (a reader of
    PDF asks for the end first, for it needs that first); a merged slice stands where the first of
    its ranges stood.
    """
    merged: list[tuple[int, Slice]] = []  # (position in the header, slice), ascending by start
    for start, stop, position in sorted((*part, n) for n, part in enumerate(slices)):
        if merged and start - merged[-1][1].stop < part_cost:
            before, (begin, end) = merged[-1]
            merged[-1] = min(before, position), Slice(begin, max(end, stop))
        else:
            merged.append((position, Slice(start, stop)))
    return tuple(part for _, part in sorted(merged))


def _cost(slices: tuple[Slice, ...], part_cost: int) -> int:
    """At most how many bytes a multipart answer has; its end counts as one more part."""
    return sum(part.length for part in slices) + part_cost * (len(slices) + 1)
