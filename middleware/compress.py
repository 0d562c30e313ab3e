"""Compressed siblings for the files of a tree: `python -m middleware.compress DIR`.

Beside `site.css` are put `site.css.br`, `site.css.zst` and `site.css.gz`, which a server can send
to clients that accept these codings, without work of its own. What is written depends on the
content alone; mode and time of change are those of the file, so that a second run knows what is
up to date. Nothing but such siblings is ever written or
removed, and what only has such a name is left, unless that is asked for.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import stat
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, NoReturn

import click

from middleware.beneath import open_beneath
from middleware.codings import (
    CODINGS,
    PACKAGES,
    PIECE,
    SUFFIXES,
    CodingUnavailable,
    available,
    compressible,
    encoded,
    require,
    worth,
)
from middleware.resolve import servable

MIN_SIZE: Final = 200  # bytes; what is smaller fits into one packet with its head either way
MAX_SIZE: Final = 256 * 1024 * 1024

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130  # as a shell shows SIGINT
TERMINATED: Final = 143  # and SIGTERM

# After these every other file would fail as well.
_HOPELESS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_READ_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_WRITE_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)

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


class _Source(NamedTuple):
    """A file as it was when the tree was looked through."""

    parts: tuple[str, ...]  # below the root
    file: str  # for the system
    size: int
    mtime_ns: int
    link: bool

    @property
    def path(self) -> str:
        return "/".join(self.parts)


class _Task(NamedTuple):
    source: _Source
    coding: str


class _Done(NamedTuple):
    """The size of the sibling, or 0 if it would not be worth it and `removed` if one is gone."""

    task: _Task
    size: int = 0
    removed: bool = False
    error: BaseException | None = None


class _Stopped(Exception):
    """The run was given up meanwhile."""


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
    :param force: make also those that are up to date.
    :param dry_run: compress, but write and remove nothing.
    :param min_size: files of fewer bytes get no siblings.
    :param max_size: nor do files of more bytes.
    :param progress: called in this thread with the bytes compressed so far, and all there are.
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
    top = os.fspath(root)
    os.scandir(top).close()
    run = _Run(top, chosen, tuple(exclude), force, dry_run, min_size, max_size)
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
    root: str
    codings: tuple[str, ...]
    exclude: tuple[str, ...]
    force: bool
    dry_run: bool
    min_size: int
    max_size: int

    def __post_init__(self) -> None:
        self.report = Report({coding: Made() for coding in self.codings})
        self.tasks: list[_Task] = []
        self.stop = threading.Event()

    # --- what there is to do ---

    def look_through(self) -> None:
        """Fill `tasks`; links to directories are not followed, so each file is seen once."""
        waiting: list[tuple[tuple[str, ...], str]] = [((), self.root)]
        while waiting:
            parents, folder = waiting.pop()
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.report.fail("/".join(parents), error)
                continue
            names = {entry.name for entry in entries}
            for entry in entries:
                parts = (*parents, _as_in_urls(entry.name))
                try:
                    if not self._is_served(parts, entry):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((parts, entry.path))
                    elif not self._is_sibling(parts, names):
                        self._consider(parts, entry)
                except OSError as error:
                    self.report.fail("/".join(parts), error)

    def _is_served(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> bool:
        if not servable(parts):
            reason = "hidden, or with names that are never served"
        elif _matches(parts, self.exclude):
            reason = "excluded"
        elif entry.is_symlink() and os.path.isdir(entry.path):  # entry.is_dir() fails on a loop
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
        if os.fsdecode(stem.encode()) not in names:
            self.report.orphans.append("/".join(parts))
        return True

    def _consider(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> None:
        if not compressible(parts[-1]):
            self.report.left_out["of a type that is not compressed"] += 1
            return
        source = self._source(parts, entry)
        if source is None:
            return
        self.report.files += 1
        if source.size > self.max_size:
            self.report.too_large.append(source.path)
            return
        if source.size < self.min_size:
            self.report.left_out[f"under {self.min_size} bytes"] += 1
        for coding in self.codings:
            self._consider_sibling(source, coding)

    def _source(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> _Source | None:
        """What the system says of a file; None if it is none that is served."""
        if not entry.is_symlink():
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return _Source(parts, entry.path, status.st_size, status.st_mtime_ns, link=False)
            self.report.left_out["no regular files"] += 1
            return None
        try:
            with open_beneath(self.root, parts) as file:
                return _Source(parts, entry.path, file.size, file.mtime_ns, link=True)
        except FileNotFoundError:
            self.report.left_out["links that lead outside, or to no file"] += 1
            return None

    def _consider_sibling(self, source: _Source, coding: str) -> None:
        path = source.path + SUFFIXES[coding]
        try:
            there = self._sibling_is_there(source, coding)
        except OSError as error:
            self.report.fail(path, error)
            return
        if there and not self.force and self._is_up_to_date(source, coding):
            self.report.kept += 1
        elif there and not self.force and not _looks_made_here(source.file, coding):
            problem = "in the way, and not made by this command; --force replaces it"
            self.report.fail(path, FileExistsError(errno.EEXIST, problem))
        elif there or source.size >= self.min_size:
            self.tasks.append(_Task(source, coding))

    def _sibling_is_there(self, source: _Source, coding: str) -> bool:
        try:
            status = os.lstat(source.file + SUFFIXES[coding])
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode):
            raise FileExistsError(errno.EEXIST, "in the way, since it is no regular file")
        return True

    def _is_up_to_date(self, source: _Source, coding: str) -> bool:
        """An empty one is what a crash of the machine may leave: no coding gives no bytes."""
        status = os.lstat(source.file + SUFFIXES[coding])
        return status.st_mtime_ns == source.mtime_ns and status.st_size > 0

    # --- doing it ---

    def make(self, workers: int, progress: Progress) -> None:
        """Work off `tasks`, the largest first, so that none of them is left alone at the end."""
        self.tasks.sort(key=lambda task: (-task.source.size, task.source.file))
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
        waiting = deque(self.tasks)
        results: SimpleQueue[_Done] = SimpleQueue()

        def work() -> None:
            while not self.stop.is_set():
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
            self.stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _try(self, task: _Task) -> _Done:
        try:
            return self._do(task)
        except BaseException as error:
            return _Done(task, error=error)

    def _note(self, done: _Done) -> bool:
        """Into the report with it; false if it is no use to go on."""
        if done.error is not None:
            path = done.task.source.path + SUFFIXES[done.task.coding]
            if not isinstance(done.error, OSError):
                raise done.error
            self.report.fail(path, done.error)
            return done.error.errno not in _HOPELESS
        self.report.removed += done.removed
        if done.size:
            made = self.report.made[done.task.coding]
            made.count += 1
            made.before += done.task.source.size
            made.after += done.size
        elif done.task.source.size >= self.min_size:
            self.report.left_out["siblings that would save less than 5 %"] += 1
        return True

    def _do(self, task: _Task) -> _Done:
        source, coding = task
        sibling = source.file + SUFFIXES[coding]
        data, mode, owner = (None, 0, (0, 0))
        if source.size >= self.min_size:
            data, mode, owner = self._compressed(source, coding)
        if data is None:
            return _Done(task, removed=self._remove(sibling))
        if not self.dry_run:
            _write(sibling, data, mode, source.mtime_ns, owner)
        return _Done(task, size=sum(map(len, data)))

    def _compressed(
        self, source: _Source, coding: str
    ) -> tuple[list[bytes] | None, int, tuple[int, int]]:
        """The file in a coding, or None if that saves too little; its mode; its owner and group."""
        with open(self._open(source), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if _changed(status, source):
                raise _change()
            result: list[bytes] = []
            size = 0
            gains = True
            for piece in encoded(self._pieces(file, source), source.size, coding):
                result.append(piece)
                size += len(piece)
                if not (gains := worth(source.size, size)):
                    break
            mode, owner = stat.S_IMODE(status.st_mode) & 0o666, (status.st_uid, status.st_gid)
            return result if gains else None, mode, owner

    def _open(self, source: _Source) -> int:
        if source.link:
            return open_beneath(self.root, source.parts).detach()
        return os.open(source.file, _READ_FLAGS)

    def _pieces(self, file: Any, source: _Source) -> Iterator[bytes]:
        left = source.size
        while left:
            if self.stop.is_set():
                raise _Stopped
            # A short read would cut the data elsewhere, and the result would be another one.
            piece = _read(file, min(left, PIECE))
            left -= len(piece)
            yield piece
        if _changed(os.fstat(file.fileno()), source):
            raise _change()

    def _remove(self, sibling: str) -> bool:
        """Remove a sibling, which is out of date here or was to be made anew, if there is one."""
        try:
            if self.dry_run:
                os.lstat(sibling)
            else:
                os.unlink(sibling)
        except FileNotFoundError:
            return False
        return True


def _looks_made_here(file: str, coding: str) -> bool:
    """Whether a sibling begins as this command writes it, so that it may be replaced or removed.

    A rotated log or an archive that only has such a name must stay: what the programs gzip and zstd
    write holds a name or a time (RFC 1952 2.3), or a checksum (RFC 8878 3.1.1.1). Brotli has no
    header, and no archives.
    """
    with open(os.open(file + SUFFIXES[coding], _READ_FLAGS), "rb") as sibling:
        head = sibling.read(8)
    if not head:
        return True  # what a crash of the machine may leave; nothing is lost
    if coding == "gzip":
        return head == b"\x1f\x8b\x08" + bytes(5)
    if coding == "zstd":
        return len(head) > 4 and head[:4] == b"\x28\xb5\x2f\xfd" and not head[4] & 0b100
    return True


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


def _read(file: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise _change()
        data += more
    return bytes(data)


def _changed(status: os.stat_result, source: _Source) -> bool:
    return (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns)


def _change() -> OSError:
    return OSError(errno.EBUSY, "the file changed while it was compressed; run this again")


def _write(path: str, data: list[bytes], mode: int, mtime_ns: int, owner: tuple[int, int]) -> None:
    """Put a file there, whole or not at all."""
    # The dot keeps it from being served; the name is short, since the file's may be at the limit.
    temporary = os.path.join(os.path.dirname(path), f".compress-{secrets.token_hex(8)}")
    fd = os.open(temporary, _WRITE_FLAGS, 0o600)
    try:
        with open(fd, "wb") as file:
            file.writelines(data)
        _give(temporary, owner)
        os.chmod(temporary, mode)
        os.utime(temporary, ns=(mtime_ns, mtime_ns))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _give(path: str, owner: tuple[int, int]) -> None:
    """To the owner of the original, where that is allowed: else the server may not read it."""
    if hasattr(os, "chown"):
        try:
            os.chown(path, *owner)
        except OSError:  # also EINVAL, for an owner that a container does not know
            pass


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m middleware.compress") -> int:
    """Run the command with these arguments, by default those of the process.

    :returns: the exit status: 0, 1 if something could not be done, 2 for wrong use, 130 and 143
        after SIGINT and SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        status: int = _command.main(
            args=list(sys.argv[1:] if argv is None else argv),
            prog_name=prog,
            standalone_mode=False,
            windows_expand_args=False,
        )
        return status
    except click.ClickException as error:
        message = error.format_message().rstrip(".")
        click.echo(f"Error: {message}; `{prog} --help` lists the options", err=True)
    except (CodingUnavailable, OSError) as error:
        click.echo(f"Error: {error}", err=True)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return WRONG_USE


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


@click.command(
    epilog="What is up to date is left alone: a sibling has the time of change of its file.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--coding",
    "codings",
    multiple=True,
    type=click.Choice(CODINGS),
    help="Make this coding; may be repeated. [all that are installed]",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out files and folders of this name, or path below DIR; may be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Make so many at once. [one for each processor]",
)
@click.option("--force", is_flag=True, help="Make also those that are up to date.")
@click.option("--dry-run", is_flag=True, help="Compress, but write and remove nothing.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def _command(
    folder: str,
    codings: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int | None,
    force: bool,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Put compressed siblings (.br, .zst, .gz) beside the files below DIR that gain from it."""
    for line in [] if quiet or codings else _missing():
        click.echo(line)
    with _Bar(shown=not quiet and sys.stderr.isatty()) as bar:
        report = compress_tree(
            folder,
            codings=codings or None,
            exclude=exclude,
            jobs=jobs,
            force=force,
            dry_run=dry_run,
            progress=bar.progress,
        )
    for path, reason in report.failures:
        click.echo(f"Error: {path or folder}: {reason}", err=True)
    for line in [] if quiet else _told(report, dry_run):
        click.echo(line)
    return FAILED if report.failures else 0


def _missing() -> list[str]:
    lacking = [coding for coding in CODINGS if coding not in available()]
    if not lacking:
        return []
    packages = " ".join(PACKAGES[coding] for coding in lacking)
    return [f"not installed, so not made: {', '.join(lacking)} (pip install {packages})"]


class _Bar:
    """A progress bar on the terminal, or nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._last = 0

    def __enter__(self) -> _Bar:
        return self

    def progress(self, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._bar is None:
            self._bar = click.progressbar(length=total, label="compressing", file=sys.stderr)
            self._bar.__enter__()
        self._bar.update(done - self._last)
        self._last = done

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*exc)


def _told(report: Report, dry_run: bool) -> Iterator[str]:
    for coding, made in report.made.items():
        if made.count:
            share = 100 * made.after / made.before
            yield (
                f"{coding:5}{made.count:6} made:"
                f" {_bytes(made.before)} -> {_bytes(made.after)} ({share:.1f} %)"
            )
    counts = [f"{report.kept} up to date"] if report.kept else []
    counts += [f"{report.removed} out of date and removed"] if report.removed else []
    if counts:
        yield f"siblings: {', '.join(counts)}"
    for reason, count in sorted(report.left_out.items()):
        yield f"left out: {count} {reason}"
    for path in report.too_large:
        yield _safe(f"left out, over {MAX_SIZE // 1024**2} MiB: {path}")
    for path in report.orphans:
        yield _safe(f"not removed, though what it would stand for is not there: {path}")
    done = "dry run, nothing written" if dry_run else "done"
    yield f"{done}: {report.files} files to compress, {report.seconds:.1f} seconds"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _safe(text: str) -> str:
    """The text as this terminal can show it."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
