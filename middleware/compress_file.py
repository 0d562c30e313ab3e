"""One compressed sibling of one file: whether it is up to date, whether it is ours, and making it.

Nothing is replaced or removed but what this made itself, which it knows by its mark and by reading
it to the end, unless that is asked for (docs/decisions/009).
"""

from __future__ import annotations

import enum
import errno
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, Final, NamedTuple

from middleware.beneath import Signature, open_beneath, signature_of
from middleware.codings import PIECE, SUFFIXES, decoded, encoded, is_marked, worth
from middleware.folder import Folder

NO_FILE: Final = "in the way, since it is no regular file"
NOT_OURS: Final = "in the way, and not made by this command; --force replaces it"
CHANGED: Final = "the file changed while it was compressed; run this again"


class Source(NamedTuple):
    """A file as it was when it was found."""

    parts: tuple[str, ...]  # below the root, as in URLs
    size: int  # bytes
    mtime_ns: int
    link: bool  # whether its name is a symbolic link to it

    @property
    def path(self) -> str:
        return "/".join(self.parts)


class Outcome(enum.Enum):
    """What became of a sibling."""

    MADE = enum.auto()
    KEPT = enum.auto()  # it is up to date
    REMOVED = enum.auto()  # it was out of date, or to be made anew, and saves too little
    NOTHING = enum.auto()  # there is none, and it would save too little


class _Old(NamedTuple):
    """A sibling that is there: which, and whether it needs no other in its place."""

    signature: Signature
    current: bool


class Stopped(Exception):
    """The run was given up meanwhile."""


@dataclass(frozen=True)
class Maker:
    """Makes siblings of the files below a directory; may be used by several threads at once.

    root, path: the directory, and what it is called. force: make anew what is up to date, and
    replace or remove what is not ours. dry_run: change nothing. min_size: files of fewer bytes get
    no siblings. max_size: no file of more bytes had one made by us. stop: set to end what runs,
    which raises `Stopped`.
    """

    root: Folder
    path: str
    force: bool
    dry_run: bool
    min_size: int
    max_size: int
    stop: threading.Event

    def make(self, source: Source, coding: str) -> tuple[Outcome, int]:
        """Bring the sibling in a coding up to date; out comes also its size if it was made.

        :raises OSError: what the system says; EEXIST, one is there that may not be replaced; EBUSY,
            the file or its sibling changed meanwhile.
        """
        with (
            self.root.below(source.parts[:-1]) as folder,
            open(self._open(folder, source), "rb") as file,
        ):
            _check(file, source)
            return _Sibling(self, folder, file, source, coding).bring_up_to_date()

    def _open(self, folder: Folder, source: Source) -> int:
        if source.link:
            return open_beneath(self.path, source.parts).detach()
        return folder.open(source.parts[-1])

    def go_on(self) -> None:
        """Raise `Stopped` if nothing more is to be done."""
        if self.stop.is_set():
            raise Stopped


class _Sibling:
    """The sibling of one file, which is open, in one coding."""

    def __init__(
        self, maker: Maker, folder: Folder, file: BinaryIO, source: Source, coding: str
    ) -> None:
        self._maker = maker
        self._folder = folder
        self._file = file
        self._source = source
        self._coding = coding
        self._name = source.parts[-1] + SUFFIXES[coding]

    def bring_up_to_date(self) -> tuple[Outcome, int]:
        old = self._examine()
        if old is not None and old.current:
            return Outcome.KEPT, 0
        if self._source.size >= self._maker.min_size:
            try:
                return Outcome.MADE, self._replace(old)
            except _TooLarge:
                pass
        if old is None:
            return Outcome.NOTHING, 0
        if not self._maker.dry_run:
            self._check_is_still(old)
            self._folder.unlink(self._name)
        return Outcome.REMOVED, 0

    # --- the one that is there ---

    def _status(self) -> os.stat_result | None:
        """What the system says of what has this name, None if there is nothing."""
        try:
            status = self._folder.status(self._name)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise _in_the_way(NO_FILE)
        return status

    def _check_is_still(self, old: _Old | None) -> None:
        """Compressing takes its time: what came, or changed, meanwhile is not what was examined."""
        status = self._status()
        if (status and signature_of(status)) != (old and old.signature):
            raise OSError(errno.EBUSY, CHANGED)

    def _examine(self) -> _Old | None:
        """What is there, if anything; FileExistsError if it has to stay as it is."""
        status = self._status()
        if status is None:
            return None
        if self._maker.force:
            return _Old(signature_of(status), current=False)
        with open(self._folder.open(self._name), "rb") as sibling:
            status = os.fstat(sibling.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _in_the_way(NO_FILE)
            return _Old(signature_of(status), self._is_current(sibling, status))

    def _is_current(self, sibling: BinaryIO, status: os.stat_result) -> bool:
        """Whether the one that is there may stay; if not it is ours, else FileExistsError.

        Times prove nothing: reproducible builds give all files the same one, and a release that is
        rolled back has older ones. So what it holds is compared, always. One with the right content
        that is older than its file, and so would not be served, only gets its time.
        """
        if not status.st_size:
            return False  # what a crash of the machine may leave; nothing is lost
        same = self._holds_the_file(sibling)
        if same and status.st_mtime_ns >= self._source.mtime_ns:
            return True
        if not self._is_ours(sibling):
            raise _in_the_way(NOT_OURS)
        if not same or os.utime not in os.supports_fd:
            return False
        if not self._maker.dry_run:
            os.utime(sibling.fileno(), ns=(self._source.mtime_ns, self._source.mtime_ns))
        return True

    def _holds_the_file(self, sibling: BinaryIO) -> bool:
        """Whether it is the file in this coding; it is read no further than that is true."""
        self._file.seek(0)
        try:
            if any(piece != self._file.read(len(piece)) for piece in self._decoded(sibling)):
                return False
        except ValueError:
            return False
        return not self._file.read(1)

    def _is_ours(self, sibling: BinaryIO) -> bool:
        """Whether it was made here, of whatever, and nothing was done to it since."""
        if not is_marked(sibling, self._coding):
            return False
        sizes = accumulate(map(len, self._decoded(sibling)))
        try:
            return all(size <= self._maker.max_size for size in sizes)
        except ValueError:
            return False

    def _decoded(self, sibling: BinaryIO) -> Iterator[bytes]:
        sibling.seek(0)
        for piece in decoded(sibling, self._coding):
            self._maker.go_on()
            yield piece

    # --- the new one ---

    def _replace(self, old: _Old | None) -> int:
        """Make a new one; its size. _TooLarge: it would save too little, nothing was changed."""
        self._file.seek(0)
        if self._maker.dry_run:
            return sum(map(len, self._encoded()))
        with self._folder.new() as new:
            size = sum(map(new.content.write, self._encoded()))
            new.like(os.fstat(self._file.fileno()), self._source.mtime_ns)
            self._check_is_still(old)
            new.put(self._name)
        return size

    def _encoded(self) -> Iterator[bytes]:
        """The file in this coding, piece by piece; _TooLarge as soon as that saves too little."""
        original = self._source.size
        size = 0
        for piece in encoded(self._pieces(), original, self._coding, marked=True):
            size += len(piece)
            if not worth(original, size):
                raise _TooLarge
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        left = self._source.size
        while left:
            self._maker.go_on()
            piece = self._file.read(min(left, PIECE))
            if not piece:
                break
            left -= len(piece)
            yield piece
        _check(self._file, self._source)


class _TooLarge(Exception):
    """The sibling would save too little."""


def _check(file: BinaryIO, source: Source) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns):
        raise OSError(errno.EBUSY, CHANGED)


def _in_the_way(why: str) -> OSError:
    return FileExistsError(errno.EEXIST, why)
