"""multipart/byteranges: the framing around several slices, and its length, without I/O."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Final

from middleware.ranges import Slice

# Random enough that no file holds it by chance, and shorter than the 70 characters that RFC 2046
# 5.1.1 allows; it is paid for in every part.
_BOUNDARY_BYTES: Final = 12

# What may stand in a boundary (RFC 2046 5.1.1) and in a parameter without quotes (RFC 9110 5.6.2).
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'+_.-]{1,70}")


class Multipart:
    """The body of a 206 answer with several parts (RFC 9110 14.6, RFC 2046 5.1.1).

    slices: the parts in the order to send; at least one.
    size: bytes of the whole representation.
    part_type: its Content-Type, which every part repeats; None if it has none.
    boundary: the line between the parts, by default a random one. ValueError: it cannot be one.

    The body is, for each `(head, slice)` of `parts`, the head and then those bytes of the
    representation, and `tail` at the end; `length` bytes altogether. `content_type` is the
    Content-Type of the answer, which has no Content-Range of its own (15.3.7.2).
    """

    __slots__ = ("content_type", "length", "parts", "tail")

    def __init__(
        self,
        slices: Sequence[Slice],
        size: int,
        part_type: str | None,
        boundary: str | None = None,
    ) -> None:
        if not slices:
            raise ValueError("a multipart body has at least one part")
        if boundary is None:
            boundary = secrets.token_hex(_BOUNDARY_BYTES)
        elif not _BOUNDARY.fullmatch(boundary):
            raise ValueError(f"not a boundary: {boundary!r}")
        heads = [_head(boundary, part, size, part_type) for part in slices]
        # The line break before a boundary belongs to it; the first one needs none.
        heads[0] = heads[0].removeprefix(b"\r\n")
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        self.parts: Sequence[tuple[bytes, Slice]] = tuple(zip(heads, slices, strict=True))
        self.tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self.length = sum(len(head) + part.length for head, part in self.parts) + len(self.tail)


def part_cost(size: int, part_type: str | None) -> int:
    """The most bytes that a part of a representation of `size` bytes takes beside its content.

    For `ranges.parse_range`: slices that it gives for this cost make a `Multipart` (with a random
    boundary) that is shorter than the representation. The tail is never longer than that either.
    """
    # No position has more digits than that of the last byte.
    return len(_head("-" * (2 * _BOUNDARY_BYTES), Slice(size - 1, size), size, part_type))


def _head(boundary: str, part: Slice, size: int, part_type: str | None) -> bytes:
    typed = f"Content-Type: {part_type}\r\n" if part_type is not None else ""
    return (f"\r\n--{boundary}\r\n{typed}Content-Range: {part.content_range(size)}\r\n\r\n").encode(
        "latin-1"
    )
