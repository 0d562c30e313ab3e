"""Range header -> slices of a representation (RFC 9110 section 14), without I/O.

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

_MAX_ELEMENTS: Final = 4 * MAX_RANGES  # with the empty ones between commas

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


def parse_range(value: str, size: int) -> tuple[Slice, ...] | None:
    """What the Range header `value` asks of a representation of `size` bytes.

    None: the header is to be ignored and the whole sent, because it is malformed, of another
    unit, has too many ranges, or the representation is empty (there is no byte to name).
    (): well-formed, but no range of it can be satisfied: 416.
    Else the satisfiable slices in the order asked, cut to the size; they may overlap.
    """
    header = _HEADER.fullmatch(value.strip(" \t"))
    if header is None or size <= 0 or header[1].count(",") >= _MAX_ELEMENTS:
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
