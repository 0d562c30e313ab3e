"""Content codings for files: which can be made and read here, how, and for which files it pays.

br (RFC 7932) needs the package brotli; zstd (RFC 8878) needs zstandard, or Python 3.14, which has
it; gzip (RFC 1952) is always there. All encoders let go of the interpreter's lock while they work,
and give the same bytes for the same data, settings and version of their library.

What is made may carry a mark, at a place where its format lets anybody put something that decoders
pass over: an extra field of gzip (RFC 1952 2.3.1.1), a metadata block of brotli (RFC 7932 9.2), a
skippable frame after that of zstd (RFC 8878 3.1.2). It is how a file is known again as one of ours.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from middleware.media import content_type

CODINGS: Final = ("br", "zstd", "gzip")
"""The codings known here, best first: the order in which a server prefers them."""

SUFFIXES: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""What a file's name ends in when it holds another file in that coding."""

PACKAGES: Final = {"br": "brotli", "zstd": "zstandard"}
"""The package that makes a coding, for those which need one."""

PIECE: Final = 256 * 1024  # how much is encoded at once; at most half a second of work

MARK: Final = b"wsgiserver"
"""What the mark says, in all formats."""

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
        _ENCODERS[coding](1, True, False)
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
    pieces: Iterable[bytes], size: int, coding: str, *, fast: bool = False, marked: bool = False
) -> Iterator[bytes]:
    """The same piece by piece: one of the result, maybe empty, for each of the data, and the last.

    :param pieces: the data, `size` bytes in all: some encoders are told beforehand, and fail if it
        is not true. The result depends on how the data is cut; `encode` cuts it at each `PIECE`.
    :param marked: put the mark in, by which `is_marked` knows it again; 13 to 18 bytes.
    """
    require(coding)
    encoder = _ENCODERS[coding](size, fast, marked)
    for piece in pieces:
        yield encoder.add(piece)
    yield encoder.end()


def is_marked(file: BinaryIO, coding: str) -> bool:
    """Whether a file, open for reading and seekable, was made by `encoded` with its mark.

    Only the place of the mark is read. That all the rest is whole too `decoded` knows.
    """
    if coding == "gzip":
        file.seek(0)
        return file.read(len(_GZIP_MARKED)) == _GZIP_MARKED
    end = _ZSTD_MARK if coding == "zstd" else _BROTLI_MARK + _BROTLI_LAST
    if file.seek(0, os.SEEK_END) < len(end):
        return False
    file.seek(-len(end), os.SEEK_END)
    return file.read() == end


def decoded(file: BinaryIO, coding: str) -> Iterator[bytes]:
    """What a file in a coding holds, piece by piece, maybe empty ones.

    The file is read from where it stands, so little at once that memory is bounded whatever it
    holds: a piece is of 4 MB at most for gzip, 32 MB for zstd; for br, usually of some kB, but of
    about a hundred MB if somebody aims at that.

    :raises ValueError: at the end, or before, if it is anything but one whole stream in this
        coding, as all clients of HTTP read it, with nothing behind but our mark. zstd with a window
        over 8 MiB is none (RFC 9659).
    :raises CodingUnavailable: it cannot be read here.
    """
    require(coding)
    decoder = _DECODERS[coding]()
    rest = b""
    try:
        while len(rest) <= len(_ZSTD_MARK) and (piece := file.read(decoder.step)):
            if decoder.ended():
                rest += piece
                continue
            yield decoder.add(piece)
            if decoder.ended():
                rest = decoder.rest()
    except decoder.error as error:
        raise ValueError(f"no {coding}: {error}") from error
    if not decoder.ended() or rest not in (b"", _ZSTD_MARK if coding == "zstd" else b""):
        raise ValueError(f"not one whole stream of {coding}")


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


# A metadata block: ISLAST 0, MNIBBLES 11, reserved 0, MSKIPBYTES 01, one byte of MSKIPLEN less 1,
# two bits up to the next byte; RFC 7932 9.2 has the lowest bit first. Then the empty last block.
_BROTLI_MARK: Final = (0b01_0_11_0 | len(MARK) - 1 << 6).to_bytes(2, "little") + MARK
_BROTLI_LAST: Final = b"\3"


def _brotli(size: int, fast: bool, marked: bool) -> Encoder:
    made = importlib.import_module("brotli").Compressor(quality=5 if fast else 11)

    def end() -> bytes:
        # Flushed, the data ends with a byte, and all that is left to say is that this was the last.
        return bytes(made.flush() + _BROTLI_MARK + made.finish())

    return _Encoder(made.process, end if marked else made.finish)


_ZSTD_MARK: Final = b"\x5e\x2a\x4d\x18" + len(MARK).to_bytes(4, "little") + MARK


def _zstd(size: int, fast: bool, marked: bool) -> Encoder:
    """Level 19 is the highest that keeps to a window of 8 MiB, as RFC 9659 demands for HTTP."""
    level = 4 if fast else 19
    made: Any
    if sys.version_info >= (3, 14):
        made = importlib.import_module("compression.zstd").ZstdCompressor(level)
        made.set_pledged_input_size(size)
    else:
        package = importlib.import_module("zstandard")
        made = package.ZstdCompressor(level).compressobj(size=size)
    # Behind the data, since there are decoders that stop after the first frame.
    return _Encoder(made.compress, lambda: made.flush() + (_ZSTD_MARK if marked else b""))


_GZIP_START: Final = b"\x1f\x8b\x08"
# The head with FEXTRA: the length of all extra fields, then the only one: its name, length, data.
_GZIP_MARKED: Final = b"".join(
    (
        *(_GZIP_START, b"\4", bytes(4), b"\2\xff"),
        *((len(MARK) + 4).to_bytes(2, "little"), b"WS", len(MARK).to_bytes(2, "little"), MARK),
    )
)


class _Gzip:
    """RFC 1952 with a head that says nothing of time, name or system: the same everywhere."""

    def __init__(self, size: int, fast: bool, marked: bool) -> None:
        self._deflate = zlib.compressobj(6 if fast else 9, zlib.DEFLATED, -15, 9)
        plain = _GZIP_START + bytes(5) + (b"\0" if fast else b"\2") + b"\xff"
        self._head = _GZIP_MARKED if marked else plain
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


_ENCODERS: Final[dict[str, Callable[[int, bool, bool], Encoder]]] = {
    "br": _brotli,
    "zstd": _zstd,
    "gzip": _Gzip,
}


# --- the decoders ---------------------------------------------------------------------------------


class _Decoder(NamedTuple):
    """Somebody's decompressor. It is given `step` bytes at once: what they hold is not bounded."""

    step: int  # so small that the worst of them (br 1 to 10**6, zstd 1 to 2**15) fit into memory
    add: Callable[[bytes], bytes]
    ended: Callable[[], bool]
    rest: Callable[[], bytes]  # what was given to it behind the end
    error: type[Exception]


def _brotli_decoder() -> _Decoder:
    package = importlib.import_module("brotli")
    made = package.Decompressor()  # what is behind the end it takes for an error
    return _Decoder(64, made.process, made.is_finished, bytes, package.error)


def _zstd_decoder() -> _Decoder:
    made: Any
    if sys.version_info >= (3, 14):
        package = importlib.import_module("compression.zstd")
        limit = {package.DecompressionParameter.window_log_max: 23}
        made = package.ZstdDecompressor(options=limit)
    else:
        package = importlib.import_module("zstandard")
        made = package.ZstdDecompressor(max_window_size=2**23).decompressobj()
    return _Decoder(
        1024, made.decompress, lambda: made.eof, lambda: made.unused_data, package.ZstdError
    )


def _gzip_decoder() -> _Decoder:
    made = zlib.decompressobj(31)
    return _Decoder(4096, made.decompress, lambda: made.eof, lambda: made.unused_data, zlib.error)


_DECODERS: Final[dict[str, Callable[[], _Decoder]]] = {
    "br": _brotli_decoder,
    "zstd": _zstd_decoder,
    "gzip": _gzip_decoder,
}
