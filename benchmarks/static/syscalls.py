"""`--syscalls`: which system calls a request costs a server, counted by strace."""

from __future__ import annotations

import http.client
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import click

from benchmarks.machine import pinned
from benchmarks.measure import Checked, Settings, check, exchange
from benchmarks.proctree import tree
from benchmarks.runner import available
from benchmarks.servers import HOST, PROJECT, Server, StartError, running
from benchmarks.workloads import Workload

USUAL: Final = f"nginx,{PROJECT}-epoll,{PROJECT}-threadpool"
_REQUESTS: Final = 200
_ATTACHED: Final = 10.0  # s, at most
# A call made less often than in one request of twenty is the clock's, not the request's.
_SELDOM: Final = 0.05


def count_all(servers: Sequence[Server], workloads: Sequence[Workload], settings: Settings) -> str:
    """For each workload, a line for each server: how many calls, and which."""
    if shutil.which("strace") is None:
        raise click.ClickException("strace is not installed; install it (apt install strace)")
    present, _ = available(servers)
    lines = [f"System calls per request, {_REQUESTS} in turn on one connection"]
    for workload in workloads:
        lines += ["", workload.title]
        for server in present:
            click.echo(f"{workload.title}, {server.name}: counting", err=True)
            lines.append(_line(server, workload, settings))
    return "\n".join(lines)


def _line(server: Server, workload: Workload, settings: Settings) -> str:
    try:
        calls = count(server, workload, settings)
    except (StartError, OSError, http.client.HTTPException) as error:
        return f"{server.name:24}    –  {error}"
    parts = ", ".join(f"{name} {each:g}" for name, each in calls.items())
    return f"{server.name:24}{sum(calls.values()):5.1f}  {parts}"


def count(server: Server, workload: Workload, settings: Settings) -> dict[str, float]:
    """System call → how often a request makes it, all the server's threads and processes.

    :raises StartError: the server or strace cannot be started, or an answer is wrong.
    """
    with running(server, workload.app, {settings.server_cpu}) as up, pinned({settings.load_cpu}):
        found = check(up.port, workload)
        client = http.client.HTTPConnection(HOST, up.port, timeout=10)
        try:
            _ask(client, workload, found, 20)
            with tempfile.TemporaryDirectory() as folder:
                summary = Path(folder, "summary")
                with _traced([stat.pid for stat in tree(up.pid)], summary):
                    _ask(client, workload, found, _REQUESTS)
                totals = parse_summary(summary.read_text())
        finally:
            client.close()
    each = {name: round(calls / _REQUESTS, 2) for name, calls in totals.items()}
    return {name: calls for name, calls in each.items() if calls >= _SELDOM}


def _ask(
    client: http.client.HTTPConnection, workload: Workload, found: Checked, count: int
) -> None:
    paths = [workload.path, *(path for path, _ in workload.more)]
    for number in range(count):
        answer, _ = exchange(client, workload, paths[number % len(paths)], found.headers)
        if answer.status != workload.status:
            raise StartError(f"{workload.title} is answered with {answer.status} under strace")


@contextmanager
def _traced(pids: Sequence[int], summary: Path) -> Iterator[None]:
    """Count the calls of these processes, with all their threads, into `summary`."""
    attach = [argument for pid in pids for argument in ("-p", str(pid))]
    command = ["strace", "-f", "-c", "-U", "calls,name", "-S", "calls", "-o", str(summary), *attach]
    with tempfile.TemporaryFile() as words:
        tracer = subprocess.Popen(command, stdout=words, stderr=words)
        try:
            _wait_until_attached(tracer, pids, words)
            yield
        finally:
            tracer.send_signal(signal.SIGINT)  # it lets go of them and writes the summary
            tracer.wait(10)


def _wait_until_attached(
    tracer: subprocess.Popen[bytes], pids: Sequence[int], words: IO[bytes]
) -> None:
    """:raises StartError: strace ended, as where it is not allowed to trace."""
    deadline = time.monotonic() + _ATTACHED
    while not all(_tracer(task) == tracer.pid for pid in pids for task in _tasks(pid)):
        if tracer.poll() is not None or time.monotonic() > deadline:
            words.seek(0)
            said = words.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise StartError(f"strace cannot trace it: {said[0]}")
        time.sleep(0.01)


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _tracer(task: Path) -> int:
    lines = (task / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


def parse_summary(text: str) -> dict[str, int]:
    """What `strace -c -U calls,name` wrote: system call → number, the most frequent first."""
    rows = [line.split() for line in text.splitlines()]
    return {
        row[1]: int(row[0])
        for row in rows
        if len(row) == 2 and row[0].isdigit() and row[1] != "total"
    }
