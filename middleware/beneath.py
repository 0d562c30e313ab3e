"""Open a file that lies below a root directory, and nothing else.

Where Linux has it, one openat2(2) with RESOLVE_BENEATH does it all. Where it does not, and for
what it will not decide (a link that leaves the root may still lead into a tree that is named), the
path is walked one component at a time with O_NOFOLLOW, and symbolic links are resolved here: `..`
in a link's target goes back to a descriptor already held, and what leaves the tree must be named.
No path outside is opened or even looked at, and renaming directories meanwhile opens no gap.
Elsewhere (Windows) the real path is compared before and after opening.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from time import time_ns
from types import TracebackType
from typing import Final, NoReturn, Self

_MAX_LINKS: Final = 40  # as the Linux kernel
_MAX_REMARKS: Final = 100  # different links that are reported

_CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0)
_DIRECTORY: Final[int] = getattr(os, "O_DIRECTORY", 0)
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: opening a fifo must not wait for a writer. O_NOCTTY: a terminal must not become ours.
_FILE_FLAGS: Final[int] = (
    os.O_RDONLY
    | _CLOEXEC
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_LARGEFILE", 0)
)
_LIST_FLAGS: Final[int] = os.O_RDONLY | _CLOEXEC | _DIRECTORY
_PASS_FLAGS: Final[int] = getattr(os, "O_PATH", os.O_RDONLY) | _CLOEXEC | _DIRECTORY
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
        errno.EINVAL,  # a name this file system cannot have
        errno.EILSEQ,
        errno.ENXIO,  # a socket, or a device without a driver
        errno.ENODEV,
        errno.ESTALE,
    }
)

# No component of a judged path is one of these; a caller that forgot to judge gets nothing.
_UNJUDGED: Final = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")

# openat2(2). Its number is the same on all architectures (but alpha, where the probe fails).
_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_BENEATH: Final = 0x08
_TRIES: Final = 8
# It does not say whether there is such a file for us, so the walk decides: links that leave the
# root or are absolute (EXDEV), those of /proc (ELOOP), a rename at the same moment (EAGAIN), a
# path longer than PATH_MAX in one piece; and filters that refuse the call (EPERM, ENOSYS).
_UNDECIDED: Final = frozenset(
    {errno.EXDEV, errno.ELOOP, errno.EAGAIN, errno.ENAMETOOLONG, errno.EPERM, errno.ENOSYS}
)

_YOUNG: Final = 2 * 10**9  # ns; the clocks of file systems tick every 10 ms, FAT's every 2 s
_SKEW: Final = 60 * 10**9  # the clock of a file server may be ahead

Signature = tuple[int, int, int, int, int]


class OpenFile:
    """A regular file, open for reading, and what fstat(2) said of that very descriptor.

    `size` in bytes, `mtime_ns` and `ctime_ns` in nanoseconds since 1970. As a context manager it
    closes the descriptor, unless `detach()` gave it away.
    """

    __slots__ = ("ctime_ns", "device", "fd", "inode", "mtime_ns", "size")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.device = status.st_dev
        self.inode = status.st_ino
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.ctime_ns = status.st_ctime_ns

    @property
    def signature(self) -> Signature:
        """device, inode, size, mtime_ns, ctime_ns: another value means that the file changed."""
        return self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns

    def unchanged(self) -> bool:
        """Whether the file is still what it was when it was opened, as far as fstat(2) can tell.

        One that was deleted, renamed over or given other rights is not.
        """
        now = os.fstat(self.fd)
        return (
            now.st_mtime_ns == self.mtime_ns
            and now.st_size == self.size
            and now.st_ctime_ns == self.ctime_ns
        )

    def __del__(self) -> None:
        # Who shares a file does not know who is the last to use it.
        self.close()

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


def signature_of(status: os.stat_result) -> Signature:
    """What `OpenFile.signature` is for a file of this status."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_young(mtime_ns: int) -> bool:
    """Whether a file was written so lately that it may be written again with nothing to show it.

    A time far in the future (an archive unpacked in another time zone) was set, and who writes to
    the file now changes it.
    """
    return -_SKEW < time_ns() - mtime_ns < _YOUNG


class Root:
    """A directory, and the files below it that may be opened. Safe to share between threads.

    path: the directory. It is opened anew at each look-up, so it may be replaced, or be a
        symbolic link that is changed, while files are served.
    symlink_roots: directories outside, below which symbolic links may lead too. A link counts as
        leading there if its target begins with the directory's name as given here or with its
        real path, or climbs out of the root by `..` to that real path; further links on the way,
        outside of all these trees, are not looked at and so lead nowhere.
    refused_link: called with the path of a symbolic link that leads out of all these trees when
        one is met, once for each link and for a hundred links at most. The path may hold any
        character that a file's name can have. Only where the path is walked, not on Windows.

    ValueError: one of the directories does not exist or is none; the message names it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        symlink_roots: Sequence[str | os.PathLike[str]] = (),
        refused_link: Callable[[str], None] | None = None,
    ) -> None:
        if isinstance(symlink_roots, str | bytes | os.PathLike):
            raise ValueError(f"symlink_roots must be a list of directories: {symlink_roots!r}")
        self.path: Final = _existing("root", path)
        self.symlink_roots: Final = tuple(_existing("symlink root", top) for top in symlink_roots)
        self.refused_link = refused_link
        self._remarks: dict[bytes, object] = {}

    def __repr__(self) -> str:
        return f"Root({self.path!r}, symlink_roots={self.symlink_roots!r})"

    def open(self, parts: Sequence[str]) -> OpenFile:
        """Open the regular file `parts` (judged components) below the root.

        FileNotFoundError: there is none for us: missing, outside, unreadable, a fifo, socket or
        device. IsADirectoryError: it is a directory. Other OSError: the system could not say.
        """
        try:
            fd = _open(self, parts, _FILE_FLAGS)
        except OSError as error:
            if error.errno in _MISSING:
                _missing()
            raise
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):
                _missing()
        except BaseException:
            os.close(fd)
            raise
        return OpenFile(fd, status)

    def open_directory(self, parts: Sequence[str]) -> int:
        """Open the directory `parts` below the root, `()` the root itself, for os.scandir().

        Out comes a descriptor, which the caller closes. NotADirectoryError: it, or something on
        the way to it, is none. FileNotFoundError: there is none for us. Other OSError: the system
        could not say; with ENOTSUP, it has no descriptors of directories (Windows).
        """
        if not _CAN_WALK:
            raise OSError(errno.ENOTSUP, "this system cannot list an open directory")
        try:
            return _open(self, parts, _LIST_FLAGS)
        except NotADirectoryError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        except OSError as error:
            if error.errno in _MISSING:
                _missing()
            raise

    def _refuse(self, link: bytes) -> None:
        """Report a link that leads outside, unless that was done."""
        if self.refused_link is not None and len(self._remarks) < _MAX_REMARKS:
            mine = object()
            # One step even between threads: whoever stored its own object is the first.
            if self._remarks.setdefault(link, mine) is mine:
                self.refused_link(os.fsdecode(link))


def open_beneath(root: str, parts: Sequence[str]) -> OpenFile:
    """Open the regular file `parts` below `root`: Root(root).open(parts)."""
    try:
        beneath = Root(root)
    except ValueError:
        _missing()
    return beneath.open(parts)


def _existing(what: str, path: str | os.PathLike[str]) -> str:
    absolute = os.path.abspath(os.fsdecode(path))  # not realpath: a link may be changed
    if not os.path.exists(absolute):
        raise ValueError(f"{what} does not exist: {absolute}")
    if not os.path.isdir(absolute):
        raise ValueError(f"{what} is not a directory: {absolute}")
    return absolute


def _missing() -> NoReturn:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None


Way = Callable[[Root, bytes, int], int]

_way: Way | None = None  # how this system opens, once known


def _open(root: Root, parts: Sequence[str], flags: int) -> int:
    """A descriptor of what `parts` names below `root`, opened with `flags`."""
    global _way
    if _way is None:
        _way = _best_way()
    try:
        # Names go to the kernel as UTF-8 whatever the locale: that is what URLs are decoded from.
        path = "/".join(parts).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        _missing()
    if parts and _UNJUDGED.search(path):
        _missing()
    return _way(root, path, flags)


def _best_way() -> Way:
    if not _CAN_WALK:
        return _compare
    return _kernel_way() or _walk


def _kernel_way() -> Way | None:
    """Opening by openat2(2), or None where this system, or a filter it runs under, has none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).syscall
    except (ImportError, OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_long] * 2 + [ctypes.c_char_p] * 2 + [ctypes.c_size_t]
    call.restype = ctypes.c_long

    def openat2(directory: int, path: bytes, how: bytes) -> int:
        """The new descriptor, or minus errno."""
        tries = _TRIES
        while True:
            fd: int = call(_OPENAT2, directory, path, how, len(how))
            if fd >= 0:
                return fd
            code = ctypes.get_errno()
            tries -= code == errno.EAGAIN
            if not tries or code not in (errno.EINTR, errno.EAGAIN):
                return -code

    hows = {flags: _open_how(flags) for flags in (_FILE_FLAGS, _LIST_FLAGS)}

    def kernel(root: Root, path: bytes, flags: int) -> int:
        top = os.open(root.path, _PASS_FLAGS)
        try:
            fd = openat2(top, path or b".", hows[flags])
        finally:
            os.close(top)
        if fd >= 0:
            return fd
        if -fd in _UNDECIDED:
            return _walk(root, path, flags)
        raise OSError(-fd, os.strerror(-fd))

    # An absolute path is never beneath, and only a kernel that knows the call says so.
    return kernel if openat2(-1, b"/", hows[_FILE_FLAGS]) == -errno.EXDEV else None


def _open_how(flags: int) -> bytes:
    """A `struct open_how`: flags, mode, resolve."""
    return struct.pack("=QQQ", flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)


def _walk(root: Root, path: bytes, flags: int) -> int:
    walk = _Walk(root, path)
    try:
        return walk.open(flags)
    finally:
        walk.leave()


class _Walk:
    """One look-up, component by component, below the root or the tree that a link led into."""

    def __init__(self, root: Root, path: bytes) -> None:
        self._root = root
        self._top = root.path  # of the tree we are in
        self._held: list[int] = []  # descriptors from the top to where we are
        self._names: list[bytes] = []  # of what is held, without the top
        self._pending = path.split(b"/")[::-1] if path else []  # what is to come, last first
        # The links we are in: the number of components that follow after it, and its path.
        self._links: list[tuple[int, bytes]] = []
        self._followed = 0

    def open(self, flags: int) -> int:
        self._enter(self._top)
        while True:
            # Nothing is left when a link ended at a directory already held: open that one itself.
            name = self._next() if self._pending else b"."
            last = not self._pending
            if name == b"..":
                self._up()
                continue
            try:
                fd = os.open(name, (flags if last else _PASS_FLAGS) | _NOFOLLOW, dir_fd=self._here)
            except OSError as error:
                if error.errno not in _MAYBE_LINK or self._followed == _MAX_LINKS:
                    raise
                self._follow(name, error)
                continue
            if last:
                return fd
            self._held.append(fd)
            self._names.append(name)

    def leave(self) -> None:
        """Close what is held."""
        while self._held:
            os.close(self._held.pop())

    @property
    def _here(self) -> int:
        return self._held[-1]

    def _enter(self, top: str) -> None:
        self.leave()
        self._names.clear()
        self._top = top
        self._held.append(os.open(top, _PASS_FLAGS))

    def _next(self) -> bytes:
        name = self._pending.pop()
        while self._links and self._links[-1][0] > len(self._pending):
            self._links.pop()  # its target is behind us
        return name

    def _follow(self, name: bytes, error: OSError) -> None:
        try:
            target = os.readlink(name, dir_fd=self._here)
        except OSError:
            raise error from None  # it is no link
        self._followed += 1
        path = os.path.join(os.fsencode(self._top), *self._names, name)
        self._links.append((len(self._pending), path))
        names = [part for part in target.split(b"/") if part not in (b"", b".")]
        if not self._pending and target.endswith((b"/", b"/.")):
            names.append(b".")  # which only a directory has
        self._pending += reversed(names)
        if target.startswith(b"/"):
            self._jump(b"/")

    def _up(self) -> None:
        """`..`, which only a link's target has: the way up is what we hold, or a named tree."""
        if len(self._held) == 1:
            self._jump(os.path.dirname(os.path.realpath(os.fsencode(self._top))))
            return
        # The system lets nobody through a directory who may not search it.
        os.close(os.open(b".", _PASS_FLAGS, dir_fd=self._here))
        os.close(self._held.pop())
        self._names.pop()

    def _jump(self, directory: bytes) -> None:
        """Go on from a directory outside, if what the links name there lies in a tree of ours.

        Only the links count, not what the client asks for below: nobody finds out by asking what
        the directories outside are called.
        """
        asked = self._links[0][0]
        names = self._pending[asked:][::-1]
        while names and names[0] == b"..":
            directory = os.path.dirname(directory)  # it is real, so this is where `..` leads
            del names[0]
        target = [part for part in directory.split(b"/") if part] + names
        for top in (self._root.path, *self._root.symlink_roots):
            for spelling in dict.fromkeys((top, os.path.realpath(top))):
                start = [part for part in os.fsencode(spelling).split(b"/") if part]
                if target[: len(start)] == start:
                    self._enter(top)
                    self._pending[asked:] = reversed(target[len(start) :])
                    return
        self._root._refuse(self._links[-1][1])
        _missing()


def _compare(root: Root, path: bytes, flags: int) -> int:
    """Open by path if the real path lies below the root, and still does when it is open.

    For systems without openat(2). A directory swapped for a link twice in between could deceive
    it; whoever can do that can write below the root anyway.
    """
    tops = [os.path.realpath(top) for top in (root.path, *root.symlink_roots)]
    named = os.path.join(tops[0], *path.decode("utf-8", "surrogateescape").split("/"))
    real = os.path.realpath(named)
    if not any((real + os.sep).startswith(os.path.join(top, "")) for top in tops):
        _missing()
    if os.path.isdir(real):  # Windows cannot open one
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    fd = os.open(real, flags)
    if os.path.realpath(named) != real or not os.path.samestat(os.stat(real), os.fstat(fd)):
        os.close(fd)
        _missing()
    return fd
