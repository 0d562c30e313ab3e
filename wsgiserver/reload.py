"""`--reload`: a parent holds the sockets and starts the server anew when a Python file changes.

The port stays open all the time. A server that does not start, or ends by itself, is left until
the next change; clients that connect meanwhile wait in the backlog.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

from wsgiserver import logs
from wsgiserver.config import Config, ConfigError
from wsgiserver.listeners import close_listeners, open_listeners
from wsgiserver.server import PidFile
from wsgiserver.signals import terminate_at_end_of

log = logging.getLogger("wsgiserver.error")

IGNORED_FOLDERS: Final = frozenset(
    {".git", ".hg", ".svn", ".tox", ".nox", ".venv", "venv", "__pycache__", "node_modules"}
)
# Seconds: what is in progress when a file is saved is worth waiting for, but not long.
_RESTART_GRACE: Final = 3.0
_SECOND_SIGNAL_GRACE: Final = 1.0
# Milliseconds between two looks whether the server still runs.
_LOOK: Final = 100


def supervise(config: Config, arguments: Sequence[str], final: Collection[int]) -> int:
    """Run the server in a child process, again after every change, until SIGTERM or SIGINT.

    :param arguments: the command line of the child, without addresses.
    :param final: exit statuses of the child that no change of a file can mend.
    :returns: the exit status.
    :raises ConfigError: watchfiles is not installed, or the files cannot be watched.
    :raises BindError: an address cannot be had.
    """
    watch = _watchfiles()
    start = os.getcwd()
    with ExitStack() as stack:
        if config.chdir:
            os.chdir(config.chdir)
            stack.callback(os.chdir, start)
        try:
            logs.set_up(config)
        except logs.LogError as error:
            raise ConfigError(str(error)) from None
        if config.umask is not None:
            os.umask(config.umask)
        sockets = open_listeners(config.bind, config.backlog)
        stack.callback(close_listeners, sockets)
        if config.pid:
            stack.enter_context(PidFile(config.pid))
        fds = [sock.fileno() for sock in sockets]
        binds = [f"--bind=fd://{fd}" for fd in fds]
        server = Child([sys.executable, "-m", "wsgiserver", *binds, *arguments], fds, start)
        with Stop(server) as stop:
            try:
                return _run(server, stop, _changes(watch, config, stop.event), final)
            finally:
                stop.finish(config.graceful_timeout + 1)
                server.forget()


def _run(server: Child, stop: Stop, changes: Iterable[list[str]], final: Collection[int]) -> int:
    """Until it is to stop; `changes` has a list of files, also an empty one from time to time."""
    started = ended = False
    for files in changes:
        if files and started:
            log.info("%s changed, starting anew", _few(files))
            server.stop(_RESTART_GRACE)
        if (files or not started) and not stop.event.is_set():
            server.start()
            started, ended = True, False
        status = server.status()
        if status in final:
            return status or 0
        if status is not None and not ended and not stop.event.is_set():
            ended = True
            log.error("the server ended with %s; waiting for a change", _explain(status))
    return 0


def _explain(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"


def _few(files: list[str]) -> str:
    shown = [os.path.relpath(file) for file in files[:3]]
    more = [f"{len(files) - 3} more"] if len(files) > 3 else []
    return ", ".join(shown + more)


# --- the server -----------------------------------------------------------------------------------


class Child:
    """The server as a child process that inherits the listening sockets."""

    def __init__(self, command: Sequence[str], fds: Sequence[int], folder: str) -> None:
        self._command = command
        self._fds = fds
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._leash = -1

    def start(self) -> None:
        """Start it; the one before must have ended."""
        end, leash = os.pipe()
        try:
            self._process = subprocess.Popen(
                self._command, pass_fds=[*self._fds, end], cwd=self._folder
            )
            terminate_at_end_of(end, self._process.pid)
        finally:
            os.close(end)
        self.forget()
        self._leash = leash

    def forget(self) -> None:
        """Let go of it; if it still runs it stops by itself."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1

    def status(self) -> int | None:
        """Its exit status, as `Popen.returncode` has it; None while it runs."""
        return None if self._process is None else self._process.poll()

    def ask(self) -> None:
        """Tell it to stop; the second time it ends at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def ended(self, seconds: float) -> bool:
        """Wait for its end; whether it came in time."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace: float) -> None:
        """Stop it: gracefully within so many seconds, else by force."""
        for seconds in (grace, _SECOND_SIGNAL_GRACE):
            self.ask()
            if self.ended(seconds):
                return
        assert self._process is not None
        self._process.kill()
        self._process.wait()


class Stop:
    """SIGTERM and SIGINT set `event`; a second signal goes on to the server, which ends at once."""

    def __init__(self, server: Child) -> None:
        self.event = threading.Event()
        self._server = server
        self._signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            self._server.ask()
        self._signal = number
        self.event.set()

    def finish(self, grace: float) -> None:
        """Stop the server, within so many seconds."""
        # Ctrl-C on a terminal reaches the server as well: another signal would be its second.
        if self._signal == signal.SIGINT and _in_foreground() and self._server.ended(grace):
            return
        self._server.stop(grace)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno()) == os.getpgrp() if sys.__stdin__ else False
    except (OSError, ValueError):
        return False


# --- the files ------------------------------------------------------------------------------------


def _watchfiles() -> Any:
    if os.name != "posix":
        raise ConfigError("reload: handing sockets to a child process needs a POSIX system")
    try:
        from watchfiles import watch
    except ModuleNotFoundError:
        raise ConfigError("reload: needs the watchfiles package: pip install watchfiles") from None
    return watch


def _changes(watch: Any, config: Config, stop: threading.Event) -> Iterable[list[str]]:
    """Changed files, sorted, as they come; an empty list when none came for a moment."""
    watched = Watched(roots(config), config.reload_extra_file, os.getcwd())
    while not stop.is_set():
        try:
            yield from _until_folders_change(watch, watched, stop)
        except FileNotFoundError:  # a folder was removed just before it was to be watched
            yield watched.look()
        except OSError as error:
            raise ConfigError(
                f"reload: the files cannot be watched: {error}; start in a smaller folder, or "
                "raise the limit (on Linux fs.inotify.max_user_watches)"
            ) from None


def _until_folders_change(
    watch: Any, watched: Watched, stop: threading.Event
) -> Iterable[list[str]]:
    """What happens in the folders there are now, each of which is watched by itself.

    Watching a tree as a whole would also watch the thousands of folders of a virtual environment.
    """
    folders = watched.folders
    begins = True
    for events in watch(
        *folders,
        watch_filter=lambda change, path: watched.concerns(path),
        stop_event=stop,
        rust_timeout=_LOOK,
        yield_on_timeout=True,
        recursive=False,
        ignore_permission_denied=True,
    ):
        yield watched.look() if events or begins else []
        begins = False
        if watched.folders != folders:
            return


def roots(config: Config) -> list[str]:
    """Where the application's own modules are: the folders to watch, each once.

    That is the current folder, `pythonpath`, what else was added to the module path (PYTHONPATH,
    projects installed in place), and the package of the application.
    """
    places = [os.getcwd(), *config.pythonpath]
    places += [place for place in sys.path if place and not _is_installed(place)]
    places += _package(config.app.partition(":")[0].partition(".")[0])
    return _outermost([place for place in map(os.path.realpath, places) if os.path.exists(place)])


def _is_installed(place: str) -> bool:
    """Whether a folder of the module path belongs to Python or an environment, not to a project."""
    path = Path(place).resolve()
    if not path.is_dir() or {"site-packages", "dist-packages"} & set(path.parts):
        return True
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return any(prefix == path or prefix in path.parents for prefix in prefixes)


def _package(name: str) -> list[str]:
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [*spec.submodule_search_locations] if spec.submodule_search_locations else []


def _outermost(places: Iterable[str]) -> list[str]:
    found: list[str] = []
    for place in sorted(set(places), key=len):
        if not any(place == outer or place.startswith(outer + os.sep) for outer in found):
            found.append(place)
    return found


class Watched:
    """The files below some roots that matter: Python's, and those that match extra patterns.

    :param patterns: globs; relative ones start from `folder`.
    """

    def __init__(self, roots: Iterable[str], patterns: Iterable[str], folder: str) -> None:
        absolute = [os.path.join(os.path.realpath(folder), pattern) for pattern in patterns]
        fixed = [os.path.dirname(re.split(r"[*?\[]", pattern)[0]) for pattern in absolute]
        self._roots = [*roots, *map(os.path.realpath, fixed)]
        self._patterns = [re.compile(_translated(os.path.normpath(each))) for each in absolute]
        self.folders: frozenset[str] = frozenset()
        self._files: dict[str, tuple[int, int]] = {}
        self.look()

    def wants(self, path: str) -> bool:
        """Whether a file matters."""
        name = os.path.basename(path)
        if name.endswith(".py") and not name.startswith((".", "~")):
            return True
        return any(pattern.fullmatch(path) for pattern in self._patterns)

    def concerns(self, path: str) -> bool:
        """Whether an event here is a reason to look: at a file, or a folder that came or went."""
        if self.wants(path) or path in self.folders:
            return True
        return os.path.basename(path) not in IGNORED_FOLDERS and os.path.isdir(path)

    def look(self) -> list[str]:
        """The files that changed, came or went since the last look, sorted."""
        before, self._files = self._files, {}
        folders = set()
        for folder, names in self._walk():
            folders.add(folder)
            for name in names:
                path = os.path.join(folder, name)
                if self.wants(path) and (state := _state(path)) is not None:
                    self._files[path] = state
        self.folders = frozenset(folders)
        paths = before.keys() | self._files.keys()
        return sorted(path for path in paths if before.get(path) != self._files.get(path))

    def _walk(self) -> Iterator[tuple[str, list[str]]]:
        """The folders, each once, also behind symbolic links, and the names of their files."""
        seen = set()
        for root in self._roots:
            for folder, inner, files in os.walk(root, followlinks=True):
                real = os.path.realpath(folder)
                if real in seen:
                    inner.clear()
                    continue
                seen.add(real)
                inner[:] = [name for name in inner if name not in IGNORED_FOLDERS]
                yield folder, files


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:  # it was removed meanwhile
        return None
    return status.st_mtime_ns, status.st_size


_WILDCARDS: Final = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _translated(pattern: str) -> str:
    """A regular expression for a glob pattern; `**` stands for any folders."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return "".join(
        _WILDCARDS.get(part)
        or (part.replace("[!", "[^", 1) if part[:1] == "[" and len(part) > 1 else re.escape(part))
        for part in parts
    )
