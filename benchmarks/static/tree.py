"""`--tree`: how soon a server of many files answers, and what memory it takes."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.machine import pinned
from benchmarks.measure import Settings
from benchmarks.proctree import cpu_seconds, rss_bytes
from benchmarks.report import as_text
from benchmarks.runner import available
from benchmarks.servers import HOST, PROJECT, Server, StartError, running
from benchmarks.static.site import make_tree, tree_body, tree_path, tree_sample

USUAL: Final = f"nginx,{PROJECT}-epoll,whitenoise-granian,servestatic-granian"
_START_TIMEOUT: Final = 120.0
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from the start of the process to the first answer, and bytes of memory.

    first: resident after the first answer; after: once all files have been asked for.
    cpu: seconds of CPU time that a file cost the server, each asked for once.
    """

    start: float
    first: int
    after: int
    cpu: float


def measure_tree(
    servers: Sequence[Server], folder: Path, count: int, asked: int, settings: Settings
) -> str:
    """Make `count` files, ask each server for `asked` different ones, and return a table."""
    present, _ = available(servers)
    click.echo(f"making {count:,} files", err=True)
    root = folder / "tree"
    make_tree(root, count)
    head = ["server", "first answer s", "RSS MiB then", f"after {asked:,} files", "CPU µs per file"]
    rows = []
    for server in present:
        click.echo(f"{server.name}: starting", err=True)
        try:
            with pinned({settings.load_cpu}):
                outcome = _measure(server, root, list(tree_sample(count, asked)), settings)
        except (StartError, ProcessLookupError) as error:
            click.echo(f"{server.name}: {error}", err=True)
            rows.append([server.name, *["–"] * 4])
        else:
            rows.append([server.name, *_row(outcome)])
    return f"{count:,} files under the root\n{as_text([head, *rows])}"


def _row(outcome: Outcome) -> list[str]:
    return [
        f"{outcome.start:.2f}",
        f"{outcome.first / _MIB:.1f}",
        f"{outcome.after / _MIB:.1f}",
        f"{outcome.cpu * 1e6:.0f}",
    ]


def _measure(server: Server, root: Path, numbers: list[int], settings: Settings) -> Outcome:
    begin = time.perf_counter()
    cpus = {settings.server_cpu}
    with running(server, str(root), cpus, start_timeout=_START_TIMEOUT) as up:
        client = http.client.HTTPConnection(HOST, up.port, timeout=_START_TIMEOUT)
        try:
            _ask(client, numbers[:1])
            start = time.perf_counter() - begin
            first, cpu = rss_bytes(up.pid), cpu_seconds(up.pid)
            _ask(client, numbers)
            cpu = (cpu_seconds(up.pid) - cpu) / len(numbers)
            return Outcome(start, first, rss_bytes(up.pid), cpu)
        except (OSError, http.client.HTTPException) as error:
            raise StartError(f"no answer: {error!r}; {up.last_words()}") from error
        finally:
            client.close()


def _ask(client: http.client.HTTPConnection, numbers: Iterable[int]) -> None:
    """:raises StartError: one of the files is not answered as it is."""
    for number in numbers:
        client.request("GET", tree_path(number))
        answer = client.getresponse()
        if (answer.status, answer.read()) != (200, tree_body(number)):
            raise StartError(f"{tree_path(number)} is answered with {answer.status}")
