"""Decoders of a request's body: counted by Content-Length, or chunked (RFC 9112 §6, §7.1).

A decoder is fed what the client sent and gives back the content found in it, and, once the body
is complete, what came behind it: the beginning of the next request.
"""

from __future__ import annotations

from typing import Final, Protocol

from wsgiserver.http import grammar
from wsgiserver.http.errors import BadRequest, ContentTooLarge, FieldsTooLarge


class Decoder(Protocol):
    """What both decoders are."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Content in `data`, and the bytes behind the body; None while it is not complete."""


class Sized:
    """A body of exactly `length` bytes (RFC 9112 §6.2)."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See `Decoder`."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data, None
        self._left = 0
        return data[:left], data[left:]


# A chunk line that is longer than this is no use to anyone but an attacker.
_LONGEST_LINE: Final = 4096
# Extensions and sizes of one body may cost this much, and twice the content (Go, CVE-2023-39326).
_FREE_OVERHEAD: Final = 16384
_LONGEST_TRAILER: Final = 8192


class Chunked:
    """A chunked body (RFC 9112 §7.1); extensions are checked and ignored, trailers dropped.

    `most` is the largest content in bytes, 0 for no limit.

    :raises BadRequest: a chunk or a trailer that the grammar does not allow.
    :raises ContentTooLarge: the content is over `most`.
    """

    __slots__ = ("_content", "_left", "_most", "_overhead", "_pending", "_trailers")

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending = b""  # an unfinished chunk line, chunk end or trailer section
        self._left = 0  # of the current chunk: its data and the CRLF behind it
        self._content = 0
        self._overhead = 0
        self._trailers = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See `Decoder`."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        content: list[bytes] = []
        at = 0
        while not self._trailers:
            if self._left:
                at = self._take(data, at, content)
                if self._left:
                    return b"".join(content), None
            line = grammar.CHUNK_LINE.match(data, at)
            if line is None or line.end() - at > _LONGEST_LINE:
                self._wait_for_line(data[at:])
                return b"".join(content), None
            self._begin(int(line[1], 16), line.end() - at)
            at = line.end()
        return b"".join(content), self._trailer_section(data[at:])

    def _begin(self, size: int, line_length: int) -> None:
        self._content += size
        self._overhead += line_length
        if self._most and self._content > self._most:
            raise ContentTooLarge(f"the body is over {self._most} bytes.")
        if self._overhead > _FREE_OVERHEAD + 2 * self._content and line_length > 16:
            raise BadRequest("the chunk extensions outweigh the content.")
        self._trailers = size == 0
        self._left = size + 2 if size else 0

    def _take(self, data: bytes, at: int, content: list[bytes]) -> int:
        """Move chunk data from `data` to `content`; the CRLF behind it must be just that."""
        size = self._left - 2
        if size > 0:
            piece = data[at : at + size]
            content.append(piece)
            at += len(piece)
            self._left -= len(piece)
        if self._left <= 2:
            end = data[at : at + self._left]
            if end != b"\r\n"[2 - self._left :][: len(end)]:
                raise BadRequest("a chunk is not followed by CRLF.")
            at += len(end)
            self._left -= len(end)
        return at

    def _wait_for_line(self, rest: bytes) -> None:
        """Keep an unfinished chunk line, unless it can no longer become one."""
        size = grammar.CHUNK_SIZE.match(rest)
        if (
            (rest and size is None)
            or b"\n" in rest
            or grammar.IMPOSSIBLE.search(rest)
            or len(rest) > _LONGEST_LINE
        ):
            raise BadRequest("a chunk line is not a hexadecimal size with valid extensions.")
        self._pending = rest

    def _trailer_section(self, rest: bytes) -> bytes | None:
        """Check and drop the trailer section (§7.1.2); what follows it, None if not all is here."""
        if rest[:2] == b"\r\n":
            return rest[2:]
        end = rest.find(b"\r\n\r\n")
        if end >= 0 and end <= _LONGEST_TRAILER:
            if grammar.FIELDS.fullmatch(rest, 0, end + 2) is None:
                raise BadRequest("a trailer field is not 'name: value'.")
            return rest[end + 4 :]
        if len(rest) > _LONGEST_TRAILER + 3:  # the end of an allowed one may be on its way
            raise FieldsTooLarge(f"the trailer section is over {_LONGEST_TRAILER} bytes.")
        if grammar.IMPOSSIBLE.search(rest):
            raise BadRequest("the trailer section contains a character that it may not contain.")
        self._pending = rest
        return None
