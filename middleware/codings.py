"""Content codings for files: which of them can be made here, how, and for which files it pays.

br (RFC 7932) needs the package brotli; zstd (RFC 8878) needs zstandard, or Python 3.14, which has
it; gzip (RFC 1952) is always there. All encoders let go of the interpreter's lock while they work,
and give the same bytes for the same data, settings and version of their library.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from middleware.media import content_type

CODINGS: Final = ("br", "zstd", "gzip")
"""The codings known here, best first: the order in which a server prefers them."""

SUFFIXES: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""What a file's name ends in when it holds another file in that coding."""

PACKAGES: Final = {"br": "brotli", "zstd": "zstandard"}
"""The package that makes a coding, for those which need one."""

PIECE: Final = 256 * 1024  # how much is encoded at once; at most half a second of work

_WORTH: Final = 0.95  # of the original's size; more is not worth a second file and a Vary

# What is compressed well beside text/* and all that ends in +json or +xml.
_COMPRESSIBLE: Final = frozenset(
    {
        "application/json",
        "application/rtf",
        "application/toml",
        "application/vnd.apple.mpegurl",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/xml",
        "application/yaml",
        "font/collection",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "model/stl",
    }
)
_COMPRESSIBLE_KIND: Final = re.compile(r"text/|.*\+(?:json|xml)\Z")


class CodingUnavailable(LookupError):
    """A coding is unknown or cannot be made here. The text is one line for the user."""


class Encoder(Protocol):
    """One running compression."""

    def add(self, data: bytes) -> bytes:
        """Take the next piece; give back what is ready, maybe nothing."""

    def end(self) -> bytes:
        """All was added: the rest."""


@functools.cache
def available() -> tuple[str, ...]:
    """The codings that can be made here, best first."""
    return tuple(coding for coding in CODINGS if _can_make(coding))


def _can_make(coding: str) -> bool:
    try:
        _ENCODERS[coding](1, True)
    except ImportError:
        return False
    return True


def require(coding: str) -> None:
    """Refuse a coding that cannot be made here.

    :raises CodingUnavailable: with what to do about it.
    """
    if coding not in CODINGS:
        raise CodingUnavailable(f"{coding!r} is not one of {', '.join(CODINGS)}")
    if coding not in available():
        package = PACKAGES[coding]
        raise CodingUnavailable(
            f"{coding} needs the {package} package, which is not installed: pip install {package}"
        )


def encode(data: bytes, coding: str, *, fast: bool = False) -> bytes:
    """`data` in a coding; `fast` is for what is made while somebody waits.

    :raises CodingUnavailable: it cannot be made here.
    """
    pieces = (data[at : at + PIECE] for at in range(0, len(data), PIECE))
    return b"".join(encoded(pieces, len(data), coding, fast=fast))


def encoded(
    pieces: Iterable[bytes], size: int, coding: str, *, fast: bool = False
) -> Iterator[bytes]:
    """The same piece by piece: one of the result, maybe empty, for each of the data, and the last.

    :param pieces: the data, `size` bytes in all: some encoders are told beforehand, and fail if it
        is not true. The result depends on how the data is cut; `encode` cuts it at each `PIECE`.
    """
    require(coding)
    encoder = _ENCODERS[coding](size, fast)
    for piece in pieces:
        yield encoder.add(piece)
    yield encoder.end()


def worth(original: int, compressed: int) -> bool:
    """Whether so many bytes instead of the original's save enough, 5 %, to be kept."""
    return compressed <= original * _WORTH


def compressible(name: str) -> bool:
    """Whether a file called so gains from compression, judged by its media type.

    Pictures, fonts, sound and archives that are compressed already do not, nor does a file in one
    of the codings.
    """
    kind = content_type(name).partition(";")[0]
    return kind in _COMPRESSIBLE or _COMPRESSIBLE_KIND.match(kind) is not None


# --- the encoders ---------------------------------------------------------------------------------


class _Encoder:
    """Two functions of somebody's compressor as an `Encoder`."""

    __slots__ = ("add", "end")

    def __init__(self, add: Callable[[bytes], bytes], end: Callable[[], bytes]) -> None:
        self.add = add
        self.end = end


def _brotli(size: int, fast: bool) -> Encoder:
    made = importlib.import_module("brotli").Compressor(quality=5 if fast else 11)
    return _Encoder(made.process, made.finish)


def _zstd(size: int, fast: bool) -> Encoder:
    """Level 19 is the highest that keeps to a window of 8 MiB, as RFC 9659 demands for HTTP."""
    level = 4 if fast else 19
    made: Any
    if sys.version_info >= (3, 14):
        made = importlib.import_module("compression.zstd").ZstdCompressor(level)
        made.set_pledged_input_size(size)
    else:
        package = importlib.import_module("zstandard")
        made = package.ZstdCompressor(level).compressobj(size=size)
    return _Encoder(made.compress, made.flush)


class _Gzip:
    """RFC 1952 with a head that says nothing of time, name or system: the same everywhere."""

    def __init__(self, size: int, fast: bool) -> None:
        self._deflate = zlib.compressobj(6 if fast else 9, zlib.DEFLATED, -15, 9)
        self._head = b"\x1f\x8b\x08\0\0\0\0\0" + (b"\0" if fast else b"\2") + b"\xff"
        self._check = 0
        self._size = 0

    def add(self, data: bytes) -> bytes:
        self._check = zlib.crc32(data, self._check)
        self._size += len(data)
        head, self._head = self._head, b""
        return head + self._deflate.compress(data)

    def end(self) -> bytes:
        tail = self._check.to_bytes(4, "little") + (self._size % 2**32).to_bytes(4, "little")
        return self._head + self._deflate.flush() + tail


_ENCODERS: Final[dict[str, Callable[[int, bool], Encoder]]] = {
    "br": _brotli,
    "zstd": _zstd,
    "gzip": _Gzip,
}
