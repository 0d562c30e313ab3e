"""How each server is started: one table, and the process it becomes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from benchmarks.apps import GREETING
from benchmarks.machine import package_version, pinned
from wsgiserver import __version__
from wsgiserver.workers import WORKER_MODELS

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
HOST: Final = "127.0.0.1"
PROJECT: Final = "wsgiserver"
# One number for every server with a pool of threads; the default of waitress and of the project.
THREADS: Final = 4
_START_TIMEOUT: Final = 20.0
_STOP_TIMEOUT: Final = 5.0
# Models that many kept-alive connections do not suit; they are measured only when asked for.
_ODD_MODELS: Final = {
    "single": "serves one connection at a time and is measured with one",
    "process": "holds a process for each connection",
}


# Debugging switches of the interpreter, and variables that the servers read options from.
_FOREIGN: Final = (
    "PYTHONDEVMODE",
    "PYTHONWARNINGS",
    "PYTHONMALLOC",
    "PYTHONTRACEMALLOC",
    "WSGISERVER_",
    "GUNICORN_",
    "GRANIAN_",
    "WEB_CONCURRENCY",
)


class NotAvailable(Exception):
    """A server cannot be measured here; the text says why and what to do."""


class StartError(Exception):
    """A server did not start or did not answer; the text has the last of what it wrote."""


@dataclass(frozen=True, slots=True)
class Server:
    """A row of the table.

    command: (what to serve: `Workload.app`, port) → argument list.
    package: what it comes with, whose version is reported; empty for the floor.
    requires: modules it must be able to import.
    apps: applications it can serve; None for all.
    connections: it is measured with no more than these; None for no bound.
    default: whether it is measured unless asked for by name.
    note: shown beneath the table.
    prepare: called by `check`; raises NotAvailable.
    ask_version: for a package that is no Python distribution.
    """

    name: str
    command: Callable[[str, int], list[str]]
    package: str = ""
    requires: tuple[str, ...] = ()
    apps: frozenset[str] | None = None
    connections: int | None = None
    default: bool = True
    note: str = ""
    prepare: Callable[[], object] = field(default=lambda: None)
    ask_version: Callable[[], str] | None = None

    def check(self) -> None:
        """Make sure that it can be started.

        :raises NotAvailable: a package or a tool is missing.
        """
        for module in self.requires:
            if find_spec(module) is None:
                raise NotAvailable(f"not installed (pip install -r {HERE.name}/requirements.txt)")
        self.prepare()

    def serves(self, app: str) -> bool:
        """Whether it is measured with this application."""
        return self.apps is None or app in self.apps

    @property
    def versions(self) -> dict[str, str]:
        """Its package and those it requires → their versions."""
        if self.ask_version:
            return {self.package: self.ask_version()}
        names = dict.fromkeys(name for name in (self.package, *self.requires) if name)
        return {name: _version(name) for name in names}


def _version(package: str) -> str:
    if package == PROJECT:
        return f"{__version__} (this source tree)"
    return package_version(package) or "unknown"


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module that is run with this Python."""
    return [sys.executable, "-m", name, *arguments]


def _project(model: str) -> Server:
    """The row of one of the project's worker models."""
    # No flag but these two: limits, timeouts and checks stay at their defaults.
    return Server(
        f"{PROJECT}-{model}",
        lambda app, port: module(
            PROJECT, f"benchmarks.apps:{app}", "--bind", f"{HOST}:{port}", "--worker-model", model
        ),
        PROJECT,
        ("gevent",) if model == "gevent" else (),
        connections=1 if model == "single" else None,
        default=model not in _ODD_MODELS,
        note=_ODD_MODELS.get(model, ""),
    )


def gunicorn(worker: str, app: str, port: int) -> list[str]:
    """The command line of gunicorn with one worker of this kind; `app` as MODULE:NAME."""
    threads = ("--threads", str(THREADS)) if worker == "gthread" else ()
    quiet = _without_control_socket()
    return module("gunicorn", "-k", worker, *threads, *quiet, "-b", f"{HOST}:{port}", app)


@cache
def _without_control_socket() -> tuple[str, ...]:
    """Since 25.1 gunicorn makes a socket in the home directory: one name for all that run at once.

    Older versions refuse the option that switches it off, so it is given to those that know it.
    """
    option = "--no-control-socket"
    result = subprocess.run(
        module("gunicorn", "--help"),
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return (option,) if option in result.stdout else ()


def _gunicorn(worker: str, *modules: str, note: str = "") -> Server:
    """The row of one of gunicorn's kinds of worker; `modules`: what it must be able to import."""
    return Server(
        f"gunicorn-{worker}",
        lambda app, port: gunicorn(worker, f"benchmarks.apps:{app}", port),
        "gunicorn",
        ("gunicorn", *modules),
        note=note,
    )


def granian(app: str, port: int, *arguments: str) -> list[str]:
    """The command line of granian; `app` as MODULE:NAME."""
    # One thread for the application, as in its own benchmarks: more cost it CPU time.
    return module(
        "granian",
        "--interface=wsgi",
        "--http=1",
        "--workers=1",
        "--blocking-threads=1",
        f"--host={HOST}",
        f"--port={port}",
        "--log-level=warning",
        *arguments,
        app,
    )


def _script(lines: str) -> Callable[[str, int], list[str]]:
    """For servers without a usable command line: `lines` sees `app`, `host`, `port`."""
    return lambda app, port: [
        sys.executable,
        "-c",
        f"from benchmarks.apps import {app} as app; host, port = '{HOST}', {port}; {lines}",
    ]


def build(name: str) -> Path:
    """Compile NAME.c of this folder, unless that has been done; return the program.

    :raises NotAvailable: there is no C compiler, or it fails.
    """
    source, program = HERE / f"{name}.c", HERE / "build" / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotAvailable(f"there is no C compiler (cc) to build benchmarks/{name}.c with")
    program.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        fresh = Path(scratch, name)
        result = subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise NotAvailable(f"benchmarks/{name}.c does not compile: {_last_line(result.stderr)}")
        fresh.replace(program)  # at once, for another run may be starting it
    return program


def _floor(app: str, port: int) -> list[str]:
    return [str(build("floor")), str(port), GREETING.decode()]


_ALL: Final = (
    *map(_project, WORKER_MODELS),
    _gunicorn("sync", note="closes the connection after each response; the load connects anew"),
    _gunicorn("gthread", note=f"{THREADS} threads"),
    _gunicorn("gevent", "gevent"),
    Server(
        "waitress",
        lambda app, port: module(
            "waitress", f"--listen={HOST}:{port}", f"--threads={THREADS}", f"benchmarks.apps:{app}"
        ),
        "waitress",
        ("waitress",),
        note=f"{THREADS} threads",
    ),
    Server(
        "cheroot",
        lambda app, port: module(
            "cheroot",
            "--bind",
            f"{HOST}:{port}",
            "--threads",
            str(THREADS),
            f"benchmarks.apps:{app}",
        ),
        "cheroot",
        ("cheroot",),
        note=f"{THREADS} threads; keeps at most 10 connections open between requests",
    ),
    Server(
        "granian",
        lambda app, port: granian(f"benchmarks.apps:{app}", port),
        "granian",
        ("granian",),
        note="1 thread for the application, as in its own benchmarks",
    ),
    Server(
        "bjoern",
        _script("import bjoern; bjoern.run(app, host, port)"),
        "bjoern",
        ("bjoern",),
    ),
    Server(
        "fastwsgi",
        _script("import fastwsgi; fastwsgi.run(app, host, port, loglevel=1)"),
        "fastwsgi",
        ("fastwsgi",),
    ),
    Server(
        "floor",
        _floor,
        apps=frozenset({"hello"}),
        prepare=lambda: build("floor"),
        note="no server: a C loop over epoll that receives and sends a fixed answer",
    ),
)
SERVERS: Final = {server.name: server for server in _ALL}


def choose(names: str, table: Mapping[str, Server] = SERVERS) -> list[Server]:
    """Servers by a list of names with commas: exact names, families ("gunicorn"), or "all".

    An empty list stands for the default set. The order is the table's.

    :raises ValueError: a name that no server has.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        return [server for server in table.values() if server.default]
    for name in wanted:
        if not any(_means(name, server) for server in table.values()):
            raise ValueError(f"no server is called {name!r}; there are all, {', '.join(table)}")
    return [server for server in table.values() if any(_means(name, server) for name in wanted)]


def _means(name: str, server: Server) -> bool:
    return name == "all" or server.name == name or server.name.startswith(name + "-")


# --- running one ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: the process that leads its session, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    @property
    def pid(self) -> int:
        """The root of its tree of processes."""
        return self.process.pid

    def last_words(self) -> str:
        """The last line it wrote to its standard output or error."""
        self.log.seek(0)
        return _last_line(self.log.read().decode(errors="replace"))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it wrote nothing"


def free_port() -> int:
    """A port that nothing listens on now; not all peers can be given port 0."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    server: Server,
    app: str,
    cpus: set[int],
    arguments: tuple[str, ...] = (),
    start_timeout: float = _START_TIMEOUT,
) -> Iterator[Running]:
    """Run a server with `app` (see `Workload`) on these CPUs until the block ends.

    :raises StartError: it ended, or did not accept a connection within `start_timeout` seconds.
    """
    port = free_port()
    with tempfile.TemporaryFile() as log:
        with pinned(cpus):
            process = subprocess.Popen(
                [*server.command(app, port), *arguments],
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        up = Running(process, port, log)
        try:
            _wait_until_accepting(server, up, start_timeout)
            yield up
        finally:
            _stop(process)


def _environment() -> dict[str, str]:
    """Ours, without what would change how a server runs behind the table's back."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}


def _wait_until_accepting(server: Server, up: Running, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if up.process.poll() is not None:
            raise StartError(f"{server.name} ended with {up.process.returncode}: {up.last_words()}")
        try:
            socket.create_connection((HOST, up.port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise StartError(f"{server.name} does not listen: {up.last_words()}") from None
            time.sleep(0.02)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the leader, then SIGKILL to what is left of its process group.

    Returns when all of them are gone, so that none competes with the server measured next.
    """
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT)
    deadline = time.monotonic() + _STOP_TIMEOUT
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.01)
    process.wait()
