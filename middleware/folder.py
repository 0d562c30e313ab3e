"""A directory held open, so that nobody can put another one in its place meanwhile.

All that is done in it goes by its descriptor and one name, and what is written gets its owner, mode
and time by the descriptor of that very file. Whoever owns a directory may swap what lies in it for
links while root works there; these are refused, or replaced themselves, and never followed.
Where the system has no descriptors of directories (Windows) paths are used.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Final, Self

_CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0)
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY: Final[int] = os.O_RDONLY | _CLOEXEC | getattr(os, "O_DIRECTORY", 0)
# O_NONBLOCK: opening a fifo must not wait for a writer.
_READ: Final[int] = os.O_RDONLY | _CLOEXEC | _BINARY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
_NEW: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC | _BINARY

_BY_DESCRIPTOR: Final = (
    bool(_NOFOLLOW)
    and {os.open, os.stat, os.unlink, os.rename} <= os.supports_dir_fd
    and {os.scandir, os.utime, os.chmod, os.chown} <= os.supports_fd
)

_TEMPORARY: Final = ".compress-"  # the dot keeps it from being served


class Folder:
    """A directory. As a context manager it closes its descriptor.

    Names are such as URLs have them: UTF-8, whatever the locale, and bytes that are none as
    surrogates. OSError is what the system says.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the directory of that path, which may lead over links.

        :raises OSError: there is none, or none that may be read.
        """
        self._path = os.fsencode(path)
        self._fd: int | None = None
        if _BY_DESCRIPTOR:
            self._fd = os.open(self._path, _DIRECTORY)
        else:
            os.scandir(path).close()

    def below(self, names: Sequence[str]) -> Folder:
        """The directory that these names lead to, one in the other, none of them a link."""
        found = Folder.__new__(Folder)
        found._path = os.path.join(self._path, *map(_encoded, names))
        found._fd = None
        if self._fd is not None:
            found._fd = os.open(b".", _DIRECTORY, dir_fd=self._fd)
            try:
                for name in names:
                    found._enter(_encoded(name))
            except BaseException:
                found.close()
                raise
        return found

    def _enter(self, name: bytes) -> None:
        outer = self._fd
        assert outer is not None
        self._fd = os.open(name, _DIRECTORY | _NOFOLLOW, dir_fd=outer)
        os.close(outer)

    def close(self) -> None:
        """Close the descriptor if it is still open."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _named(self, name: str) -> bytes:
        return _encoded(name) if self._fd is not None else os.path.join(self._path, _encoded(name))

    def entries(self) -> list[os.DirEntry[str]]:
        """What lies in it, by name. The entries ask the system only while this is open."""
        with os.scandir(os.fsdecode(self._path) if self._fd is None else self._fd) as found:
            return sorted(found, key=lambda entry: entry.name)

    def status(self, name: str) -> os.stat_result:
        """lstat(2): of a link, not of what it leads to."""
        return os.stat(self._named(name), dir_fd=self._fd, follow_symlinks=False)

    def open(self, name: str) -> int:
        """A descriptor for reading a file, which never waits and follows no link."""
        return os.open(self._named(name), _READ, dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove a file, or a link itself."""
        os.unlink(self._named(name), dir_fd=self._fd)

    @contextmanager
    def new(self) -> Iterator[NewFile]:
        """A file that does not exist for others until it is put into its place; see there.

        If it was not, nothing remains of it.
        """
        # Short, since the name it will have may be as long as names can be.
        temporary = _TEMPORARY + secrets.token_hex(8)
        fd = os.open(self._named(temporary), _NEW, 0o600, dir_fd=self._fd)
        file = NewFile(self, temporary, fd)
        try:
            with file.content:
                yield file
        finally:
            if not file.placed:
                self.unlink(temporary)

    def _rename(self, name: str, to: str) -> None:
        os.replace(self._named(name), self._named(to), src_dir_fd=self._fd, dst_dir_fd=self._fd)


class NewFile:
    """What is being written in a folder, under a name of its own. content: a file to write to."""

    def __init__(self, folder: Folder, name: str, fd: int) -> None:
        self.content: Final[IO[bytes]] = open(fd, "wb")  # noqa: SIM115 - Folder.new closes it
        self.placed = False
        self._folder = folder
        self._name = name

    def like(self, other: os.stat_result, mtime_ns: int) -> None:
        """Give it the owner, group and rights of reading and writing of another file, and a time.

        Where the group may not be given away, the new one may no more than everybody: it is
        another one than the rights were meant for.
        """
        self.content.flush()  # what is written later would change the time
        mode = stat.S_IMODE(other.st_mode) & 0o666
        if self._folder._fd is None:
            path = self._folder._named(self._name)
            os.chmod(path, mode)
            os.utime(path, ns=(mtime_ns, mtime_ns))
            return
        fd = self.content.fileno()
        # As another user one may give no file away, but to a group one is in; and a container does
        # not know every owner (EINVAL).
        if not _give(fd, other.st_uid, other.st_gid) and not _give(fd, -1, other.st_gid):
            mode = mode & ~0o070 | (mode & 0o007) << 3
        os.chmod(fd, mode)
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    def put(self, name: str) -> None:
        """Close it and put it under this name, in the place of what has that now."""
        self.content.close()
        self._folder._rename(self._name, name)
        self.placed = True


def _give(fd: int, owner: int, group: int) -> bool:
    try:
        os.chown(fd, owner, group)
    except OSError:
        return False
    return True


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
