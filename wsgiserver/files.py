"""Files as bodies: `wsgi.file_wrapper`, and what of a file can be sent without being read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

_PLAIN_FILES: Final = (io.FileIO, io.BufferedReader, io.BufferedRandom)


class FileWrapper:
    """`wsgi.file_wrapper` (PEP 3333): an iterable over a file, which the server may send whole.

    :param file: an object with `read(size)`. :param block_size: bytes per block when it has to
        be read after all.

    A file is sent from its `tell()` to the response's Content-Length at the latest, without using
    or moving the descriptor's own position: `positional` tells middleware that a range can be
    sent like a file, and that several answers may share a descriptor.
    """

    positional = True

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self.file = file
        self.block_size = block_size
        close = getattr(file, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        read, size = self.file.read, self.block_size
        return iter(lambda: read(size), b"")


class FileSlice:
    """`count` bytes from `offset` of the open file `fd`: to be sent, not read.

    `owner` is what must live as long as the descriptor is used.
    """

    __slots__ = ("count", "fd", "offset", "owner")

    def __init__(self, fd: int, offset: int, count: int, owner: object) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count
        self.owner = owner


def sendable(file: Any) -> FileSlice | None:
    """What is left of a file that sendfile(2) can send, from its current offset; else None.

    Only plain binary files count. A wrapper with a `fileno()` may mean something else by it: that
    of GzipFile belongs to the compressed file, and a TextIOWrapper has read ahead.
    """
    file = getattr(file, "file", file) if type(file).__module__ == "tempfile" else file
    raw = getattr(file, "raw", file)
    # A subclass may read otherwise than the file is, so only these very types count, and those
    # that say so (`fileno_is_content`).
    if not getattr(file, "fileno_is_content", False) and (
        type(raw) is not io.FileIO or type(file) not in _PLAIN_FILES
    ):
        return None
    status = os.fstat(raw.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    offset = file.tell()
    return FileSlice(raw.fileno(), offset, max(status.st_size - offset, 0), file)
