"""The bytes of an open file as a WSGI response body: one block, a file wrapper, or blocks."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from middleware.beneath import OpenFile

ONE_BLOCK: Final = 64 * 1024
"""A body of at most this many bytes is read at once, so that a server can send head and body
together; larger ones leave in blocks of this size where the server cannot do better."""

# Wrappers that send from the file's current offset and stop at Content-Length. PEP 3333 promises
# neither, and servers differ; so a part of a file goes through a wrapper only if it is known to
# do so: by the attribute `honours_content_length = True`, which any server may set on its
# wrapper, or by the package it comes from (gunicorn 27 was tried).
_HONOUR_CONTENT_LENGTH: Final = frozenset({"gunicorn"})


class FileSlice(io.FileIO):
    """`count` bytes of a file from `offset`, as a raw file positioned there.

    Whoever uses `fileno()` finds the offset set and learns the end from Content-Length; `read()`
    stops there by itself. A file that became shorter raises OSError: an end that comes too early
    must break the connection, for nothing else tells the client.
    """

    # Tells a server that sends by descriptor that it gets the same bytes as from read().
    fileno_is_content = True

    def __init__(self, fd: int, offset: int, count: int) -> None:
        super().__init__(fd, "rb")
        self._stop = offset + count
        self.seek(offset)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, by default all that are left; b"" at the end of the slice."""
        left = max(0, self._stop - self.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        data = super().read(wanted) or b""
        if wanted and not data:
            raise _shrunk()
        return data

    def readall(self) -> bytes:
        """All bytes that are left."""
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` with the next bytes; how many there were."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


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


def read_at_once(file: OpenFile, offset: int, count: int) -> bytes:
    """Exactly `count` bytes from `offset`. OSError if the file has become shorter."""
    os.lseek(file.fd, offset, os.SEEK_SET)
    data = os.read(file.fd, count)
    while len(data) < count:
        more = os.read(file.fd, count - len(data))
        if not more:
            raise _shrunk()
        data += more
    return data


def stream(
    file: OpenFile, offset: int, count: int, wrapper: Callable[..., Iterable[bytes]] | None
) -> Iterable[bytes]:
    """`count` bytes from `offset` as a body that closes the file, which is taken from `file`.

    `wrapper` is the server's `wsgi.file_wrapper`, used where it sends the right bytes.
    """
    whole = offset == 0 and count == file.size
    part = FileSlice(file.detach(), offset, count)
    if wrapper is not None and (whole or _honours_content_length(wrapper)):
        return wrapper(part, ONE_BLOCK)
    return Blocks(part)


def _honours_content_length(wrapper: object) -> bool:
    if getattr(wrapper, "honours_content_length", False):
        return True
    module = str(getattr(wrapper, "__module__", ""))
    return module.partition(".")[0] in _HONOUR_CONTENT_LENGTH


def _shrunk() -> OSError:
    return OSError(errno.EIO, "the file became shorter while it was being sent")
