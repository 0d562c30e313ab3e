"""Compressed siblings for the files of a tree, made beside each other by several threads.

Beside `site.css` are put `site.css.br`, `site.css.zst` and `site.css.gz`, which a server can send
to clients that accept these codings, without work of its own. What is written depends on the
content alone; mode and time of change are those of the file. Nothing but such siblings is ever
written or removed.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from queue import SimpleQueue
from typing import Final, NamedTuple

from middleware.beneath import open_beneath
from middleware.codings import SUFFIXES, available, compressible, require
from middleware.compress_file import Maker, Outcome, Source
from middleware.folder import Folder
from middleware.resolve import servable

MIN_SIZE: Final = 200  # bytes; what is smaller fits into one packet with its head either way
MAX_SIZE: Final = 256 * 1024 * 1024

# After these every other file would fail as well.
_HOPELESS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

Progress = Callable[[int, int], None]


@dataclass
class Made:
    """Siblings of one coding: how many, the bytes of their files, and their own."""

    count: int = 0
    before: int = 0
    after: int = 0


@dataclass
class Report:
    """What `compress_tree` did.

    Paths are below the root, with slashes. `files`: how many files are of a kind that is
    compressed; `made`: the siblings by coding; `kept`: siblings that were up to date; `removed`:
    siblings that were out of date and of which a new one would save too little; `left_out`: reason
    → files or siblings; `failures`: (path, what the system said); `orphans`: what looks like a
    sibling, but of no file that is there.
    """

    made: dict[str, Made]
    files: int = 0
    kept: int = 0
    removed: int = 0
    seconds: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    too_large: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)

    def fail(self, path: str, error: OSError) -> None:
        self.failures.append((path, error.strerror or str(error)))


class _Task(NamedTuple):
    source: Source
    coding: str

    @property
    def path(self) -> str:
        return self.source.path + SUFFIXES[self.coding]


class _Done(NamedTuple):
    """What became of a task: its outcome and the size of what was made, or the error."""

    task: _Task
    outcome: Outcome = Outcome.NOTHING
    size: int = 0
    error: BaseException | None = None


def compress_tree(
    root: str | os.PathLike[str],
    *,
    codings: Sequence[str] | None = None,
    exclude: Iterable[str] = (),
    jobs: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    min_size: int = MIN_SIZE,
    max_size: int = MAX_SIZE,
    progress: Progress | None = None,
) -> Report:
    """Put compressed siblings beside the files below `root` that gain from it.

    :param codings: which ones, by default all that can be made here.
    :param exclude: glob patterns; one without a slash is compared with each name on the way from
        the root to a file, one with a slash with the whole path below the root (`*` also stands
        for slashes there).
    :param jobs: how many are made at once, by default as many as there are processors.
    :param force: make also those that are up to date, and replace or remove what has the name of a
        sibling, but was not made here.
    :param dry_run: compress, but write and remove nothing.
    :param min_size: files of fewer bytes get no siblings.
    :param max_size: nor do files of more bytes.
    :param progress: called in this thread with the bytes of the files done so far, and of all.
    :raises CodingUnavailable: one of `codings` is unknown or its package not installed.
    :raises OSError: `root` is no directory that can be read. What goes wrong below it is in the
        report, and the rest is done.
    """
    began = time.monotonic()
    chosen = available() if codings is None else tuple(dict.fromkeys(codings))
    for coding in chosen:
        require(coding)
    workers = _processors() if jobs is None else jobs
    if workers < 1:
        raise ValueError(f"jobs: {workers} is too few; give 1 or more")
    path = os.fspath(root)
    with Folder(path) as top:
        maker = Maker(top, path, force, dry_run, min_size, max_size, threading.Event())
        run = _Run(maker, chosen, tuple(exclude))
        run.look_through()
        run.make(workers, progress or (lambda done, total: None))
    run.report.seconds = time.monotonic() - began
    return run.report


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class _Run:
    maker: Maker
    codings: tuple[str, ...]
    exclude: tuple[str, ...]

    def __post_init__(self) -> None:
        self.report = Report({coding: Made() for coding in self.codings})
        self.tasks: list[_Task] = []

    # --- what there is to do ---

    def look_through(self) -> None:
        """Fill `tasks`; links to directories are not followed, so each file is seen once."""
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            parents = waiting.pop()
            try:
                with self.maker.root.below(parents) as folder:
                    waiting += self._look_into(parents, folder.entries())
            except OSError as error:
                self.report.fail("/".join(parents), error)

    def _look_into(
        self, parents: tuple[str, ...], entries: list[os.DirEntry[str]]
    ) -> list[tuple[str, ...]]:
        """Take up the files of a directory; out come the directories in it."""
        folders = []
        names = {_as_in_urls(entry.name) for entry in entries}
        for entry in entries:
            parts = (*parents, _as_in_urls(entry.name))
            try:
                if not self._is_served(parts, entry):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(parts)
                elif not self._is_sibling(parts, names):
                    self._consider(parts, entry, names)
            except OSError as error:
                self.report.fail("/".join(parts), error)
        return folders

    def _is_served(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> bool:
        if not servable(parts):
            reason = "hidden, or with names that are never served"
        elif _matches(parts, self.exclude):
            reason = "excluded"
        elif entry.is_symlink() and _leads_to_folder(entry):
            reason = "links to folders"
        else:
            return True
        self.report.left_out[reason] += 1
        return False

    def _is_sibling(self, parts: tuple[str, ...], names: set[str]) -> bool:
        """Whether it is, by its name, the sibling of a file; one of no file is noted."""
        stem, dot, suffix = parts[-1].rpartition(".")
        if dot + suffix not in SUFFIXES.values() or not compressible(stem):
            return False
        if stem not in names:
            self.report.orphans.append("/".join(parts))
        return True

    def _consider(self, parts: tuple[str, ...], entry: os.DirEntry[str], names: set[str]) -> None:
        if not compressible(parts[-1]):
            self.report.left_out["of a type that is not compressed"] += 1
            return
        source = self._source(parts, entry)
        if source is None:
            return
        self.report.files += 1
        if source.size > self.maker.max_size:
            self.report.too_large.append(source.path)
            return
        small = source.size < self.maker.min_size
        if small:
            self.report.left_out[f"under {self.maker.min_size} bytes"] += 1
        for coding in self.codings:
            if not small or parts[-1] + SUFFIXES[coding] in names:
                self.tasks.append(_Task(source, coding))

    def _source(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> Source | None:
        """What the system says of a file; None if it is none that is served."""
        if not entry.is_symlink():
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return Source(parts, status.st_size, status.st_mtime_ns, link=False)
            self.report.left_out["no regular files"] += 1
            return None
        try:
            with open_beneath(self.maker.path, parts) as file:
                return Source(parts, file.size, file.mtime_ns, link=True)
        except FileNotFoundError:
            self.report.left_out["links that lead outside, or to no file"] += 1
            return None

    # --- doing it ---

    def make(self, workers: int, progress: Progress) -> None:
        """Work off `tasks`, the largest first, so that none of them is left alone at the end."""
        self.tasks.sort(key=lambda task: (-task.source.size, task.path))
        total = sum(task.source.size for task in self.tasks)
        so_far = 0
        # Closed here, not when it is collected: the threads end before this returns or raises.
        with closing(self._in_threads(min(workers, len(self.tasks)))) as made:
            for reached, done in enumerate(made, start=1):
                so_far += done.task.source.size
                progress(so_far, total)
                if not self._note(done):
                    self.report.left_out["not reached"] = len(self.tasks) - reached
                    break

    def _in_threads(self, workers: int) -> Generator[_Done, None, None]:
        """What became of each task, as they end; the encoders run beside each other."""
        stop = self.maker.stop
        waiting = deque(self.tasks)
        results: SimpleQueue[_Done] = SimpleQueue()

        def work() -> None:
            while not stop.is_set():
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                results.put(self._try(task))

        threads = [threading.Thread(target=work) for _ in range(workers)]
        try:
            for thread in threads:
                thread.start()
            for _ in self.tasks:
                yield results.get()
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _try(self, task: _Task) -> _Done:
        try:
            return _Done(task, *self.maker.make(*task))
        except BaseException as error:
            return _Done(task, error=error)

    def _note(self, done: _Done) -> bool:
        """Into the report with it; false if it is no use to go on."""
        if done.error is not None:
            if not isinstance(done.error, OSError):
                raise done.error
            self.report.fail(done.task.path, done.error)
            return done.error.errno not in _HOPELESS
        source, coding = done.task
        self.report.kept += done.outcome is Outcome.KEPT
        self.report.removed += done.outcome is Outcome.REMOVED
        if done.outcome is Outcome.MADE:
            made = self.report.made[coding]
            made.count += 1
            made.before += source.size
            made.after += done.size
        elif done.outcome is not Outcome.KEPT and source.size >= self.maker.min_size:
            self.report.left_out["siblings that would save less than 5 %"] += 1
        return True


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a loop
        return False


def _as_in_urls(name: str) -> str:
    """A name of the file system as URLs have it: UTF-8, whatever the locale; else unservable."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _matches(parts: tuple[str, ...], patterns: Iterable[str]) -> bool:
    path = "/".join(parts)
    for pattern in patterns:
        plain = pattern.strip("/")
        if fnmatchcase(path if "/" in pattern else parts[-1], plain):
            return True
    return False
