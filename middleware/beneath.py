"""Open a file that lies below a root directory, and nothing else.

Where the system can open relative to a directory (POSIX), the path is walked one component at a
time with O_NOFOLLOW, and symbolic links are resolved here: `..` in a link's target goes back to a
descriptor already held, never above the root, and an absolute target must lie below the root. No
path outside is opened or even looked at, and renaming directories meanwhile opens no gap.
Elsewhere (Windows) the real path is compared before and after opening.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

_MAX_LINKS: Final = 40  # as the Linux kernel

# O_NONBLOCK: opening a fifo must not wait for a writer. O_NOCTTY: a terminal must not become ours.
_FILE_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_ROOT_FLAGS: Final[int] = (
    getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
)
_CAN_WALK: Final = bool(_NOFOLLOW) and {os.open, os.readlink} <= os.supports_dir_fd

# What open(2) says of a component that is a link when links are not to be followed.
_MAYBE_LINK: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})

# What means "there is no such file for you". Everything else (no descriptors left, an I/O error)
# says nothing about the file and must not become a 404 that caches believe.
_MISSING: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.EINVAL,  # readlink of what is no link; a name this file system cannot have
        errno.EILSEQ,
        errno.ENXIO,  # a socket, or a device without a driver
        errno.ENODEV,
        errno.ESTALE,
    }
)


class OpenFile:
    """A regular file, open for reading, and what fstat(2) said of that very descriptor.

    `size` in bytes, `mtime_ns` in nanoseconds since 1970. As a context manager it closes the
    descriptor, unless `detach()` gave it away.
    """

    __slots__ = ("fd", "inode", "mtime_ns", "size")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.inode = status.st_ino

    def detach(self) -> int:
        """Hand the descriptor over: who calls this closes it."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close the descriptor if it is still ours; may be called again."""
        if self.fd >= 0:
            os.close(self.detach())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_beneath(root: str, parts: Sequence[str]) -> OpenFile:
    """Open the regular file `parts` (judged components, none of them `..`) below `root`.

    FileNotFoundError: there is none for us: missing, outside, unreadable, a fifo, socket or
    device. IsADirectoryError: it is a directory. Any other OSError: the system could not say.
    """
    try:
        fd = (_walk if _CAN_WALK else _compare)(root, parts)
    except OSError as error:
        if error.errno in _MISSING:
            raise _missing() from None
        raise
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise _missing()
    except BaseException:
        os.close(fd)
        raise
    return OpenFile(fd, status)


def _missing() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _walk(root: str, parts: Sequence[str]) -> int:
    """Open component by component from the root's descriptor."""
    held = [os.open(root, _ROOT_FLAGS)]
    # Names go to the kernel as UTF-8 whatever the locale: that is what URLs are decoded from.
    pending = [part.encode("utf-8") for part in reversed(parts)]
    links = 0
    try:
        while True:
            # Nothing is left when a link ended at a directory already held: open that one itself.
            name = pending.pop() if pending else b"."
            if name == b"..":  # of a link's target; the way up is what we hold
                if len(held) == 1:
                    raise _missing()
                os.close(held.pop())
                continue
            flags = _ROOT_FLAGS if pending else _FILE_FLAGS
            try:
                fd = os.open(name, flags | _NOFOLLOW, dir_fd=held[-1])
            except OSError as error:
                if error.errno not in _MAYBE_LINK or links == _MAX_LINKS:
                    raise
                links += 1
                pending += _link(root, name, held)
                continue
            if not pending:
                return fd
            held.append(fd)
    finally:
        for fd in held:
            os.close(fd)


def _link(root: str, name: bytes, held: list[int]) -> list[bytes]:
    """The components of a link's target, last first; an absolute one starts again at the root."""
    target = os.readlink(name, dir_fd=held[-1])
    if target.startswith(b"/"):
        target = _below(root, target)
        while len(held) > 1:
            os.close(held.pop())
    return [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]


def _below(root: str, target: bytes) -> bytes:
    """An absolute path cut to what follows the root, which it may name as given or by real path."""
    for top in (root, os.path.realpath(root)):
        prefix = os.fsencode(top).rstrip(b"/") + b"/"
        if (target + b"/").startswith(prefix):
            return target[len(prefix) :]
    raise _missing()


def _compare(root: str, parts: Sequence[str]) -> int:
    """Open by path if the real path lies below the root, and still does when it is open.

    For systems without openat(2). A directory swapped for a link twice in between could deceive
    it; whoever can do that can write below the root anyway.
    """
    top = os.path.realpath(root)
    path = os.path.join(top, *parts)
    real = os.path.realpath(path)
    if not (real + os.sep).startswith(os.path.join(top, "")):
        raise _missing()
    if os.path.isdir(real):  # Windows cannot open one
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    fd = os.open(real, _FILE_FLAGS)
    if os.path.realpath(path) != real or not os.path.samestat(os.stat(real), os.fstat(fd)):
        os.close(fd)
        raise _missing()
    return fd
