"""Bytes and open files as WSGI response bodies: one block, a file wrapper, or blocks.

Two promises go with them to a server that knows them (docs/finished-answers.md): `Block` and
`SharedSlice` may say how long the answer holds, and a `SharedSlice` keeps its own position.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from middleware.beneath import OpenFile
from middleware.multipart import Multipart
from middleware.ranges import Slice

ONE_BLOCK: Final = 64 * 1024
"""A body of at most this many bytes is read at once, so that a server can send head and body
together; larger ones leave in blocks of this size where the server cannot do better."""

# Wrappers that send from the file's current offset and stop at Content-Length. PEP 3333 promises
# neither, and servers differ; so a part of a file goes through a wrapper only if it is known to
# do so, by the package it comes from (gunicorn 27 was tried).
_HONOUR_CONTENT_LENGTH: Final = frozenset({"gunicorn"})


class Block(list[bytes]):
    """A body of at most one block."""

    answered_by: object = None
    fresh_until = 0.0


class FileSlice(io.FileIO):
    """`count` bytes of a file from `offset`, as a raw file positioned there.

    Whoever uses `fileno()` finds the offset set and learns the end from Content-Length; `read()`
    stops there by itself, and does not use the offset of the descriptor, which a server that forks
    may have given to another process. A file that became shorter raises OSError: an end that comes
    too early must break the connection, for nothing else tells the client.
    """

    # Tells a server that sends by descriptor that it gets the same bytes as from read().
    fileno_is_content = True

    def __init__(self, fd: int, offset: int, count: int) -> None:
        super().__init__(fd, "rb")
        self._position = 0
        self._stop = offset + count
        self.seek(offset)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, by default all that are left; b"" at the end of the slice."""
        left = max(0, self._stop - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        data = _pread(self.fileno(), wanted, self._position) if wanted else b""
        if wanted and not data:
            raise _shrunk()
        self._position += len(data)
        return data

    def tell(self) -> int:
        """Where the next byte is read from."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As a file; also the descriptor's own offset is moved."""
        self._position = super().seek(offset, whence)
        return self._position

    def readall(self) -> bytes:
        """All bytes that are left."""
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` with the next bytes; how many there were."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


class SharedSlice:
    """`count` bytes from `offset` of a file that others read too, as a file with its own position.

    Only for wrappers with the attribute `positional`: their servers send from `tell()` by calls
    that neither use nor move the position of the descriptor.
    """

    fileno_is_content = True
    # See docs/finished-answers.md.
    answered_by: object = None
    fresh_until = 0.0
    holds: Callable[[], bool] | None

    def __init__(self, file: OpenFile, offset: int, count: int) -> None:
        self._file: OpenFile | None = file
        self.holds = file.unchanged
        self._position = offset
        self._stop = offset + count

    def fileno(self) -> int:
        """The descriptor, which is shared."""
        assert self._file is not None
        return self._file.fd

    def tell(self) -> int:
        """Where the next byte is read from."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, by default all that are left; b"" at the end of the slice."""
        assert self._file is not None
        left = max(0, self._stop - self._position)
        wanted = left if size < 0 else min(size, left)
        data = os.pread(self._file.fd, wanted, self._position) if wanted else b""
        if wanted and not data:
            raise _shrunk()
        self._position += len(data)
        return data

    def close(self) -> None:
        """Let go of the file; it is closed when nobody uses it any more."""
        self._file = self.holds = None


class Parts:
    """The body of a multipart/byteranges answer: heads, and the slices of a file or of bytes."""

    def __init__(self, parts: Multipart, content: OpenFile | bytes) -> None:
        self._blocks = self._each(parts, content)
        self._content: OpenFile | bytes = content

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def _each(self, parts: Multipart, content: OpenFile | bytes) -> Iterator[bytes]:
        for head, piece in parts.parts:
            yield head
            for start in range(piece.start, piece.stop, ONE_BLOCK):
                yield read_part(content, start, min(ONE_BLOCK, piece.stop - start))
        yield parts.tail

    def close(self) -> None:
        """Let go of the file, also when the client has gone."""
        self._blocks = iter(())
        self._content = b""


class Blocks:
    """A FileSlice in blocks of at most 64 KiB, for servers without a (usable) file wrapper."""

    def __init__(self, file: FileSlice) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if block := self._file.read(ONE_BLOCK):
            return block
        raise StopIteration

    def close(self) -> None:
        """Close the file; the server calls this once, also when the client has gone."""
        self._file.close()


def read_part(content: OpenFile | bytes, offset: int, count: int) -> bytes:
    """Exactly `count` bytes from `offset`. OSError if the file has become shorter."""
    if isinstance(content, bytes):
        return content[offset : offset + count]
    data = _pread(content.fd, count, offset)
    while len(data) < count:
        more = _pread(content.fd, count - len(data), offset + len(data))
        if not more:
            raise _shrunk()
        data += more
    return data


def _pread(fd: int, count: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, count, offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows, where no two requests share a descriptor
    return os.read(fd, count)


def positional(wrapper: object) -> bool:
    """Whether a server's file wrapper leaves the descriptor's position alone."""
    return bool(getattr(wrapper, "positional", False))


def stream(
    file: OpenFile, piece: Slice, wrapper: Callable[..., Iterable[bytes]] | None
) -> Iterable[bytes]:
    """The bytes of a slice as a body that closes the file, which is taken from `file`.

    `wrapper` is the server's `wsgi.file_wrapper`, used where it sends the right bytes.
    """
    whole = piece.start == 0 and piece.stop == file.size
    part = FileSlice(file.detach(), piece.start, piece.length)
    if wrapper is None or not (whole or _honours_content_length(wrapper)):
        return Blocks(part)
    try:
        return wrapper(part, ONE_BLOCK)
    except BaseException:
        part.close()
        raise


def _honours_content_length(wrapper: object) -> bool:
    module = str(getattr(wrapper, "__module__", ""))
    return module.partition(".")[0] in _HONOUR_CONTENT_LENGTH


def _shrunk() -> OSError:
    return OSError(errno.EIO, "the file became shorter while it was being sent")
