"""`python -m benchmarks.idle`: what idle keep-alive connections cost a server.

Each connection makes one request and stays open. Measured are the memory they take in the server,
the latency of new requests meanwhile, the CPU time of doing nothing, and whether all still answer.
"""

from __future__ import annotations

import resource
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import click

from benchmarks.apps import GREETING
from benchmarks.machine import default_cpus, pinned
from benchmarks.proctree import cpu_seconds, rss_bytes
from benchmarks.servers import (
    HOST,
    PROJECT,
    SERVERS,
    NotAvailable,
    Running,
    Server,
    StartError,
    running,
)

_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
# A source address has about 28,000 ports; several of them stay clear of those in TIME_WAIT.
_PER_SOURCE: Final = 5000
_SPARE_DESCRIPTORS: Final = 64
_PROBES: Final = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """Bytes for a connection, latencies in ms, idle CPU in percent of one CPU, and survivors.

    before_ms: the median latency of new requests before the connections were opened.
    """

    connections: int
    bytes_each: float
    before_ms: float
    p50_ms: float
    p99_ms: float
    cpu_percent: float
    alive: int


def raise_limit(connections: int) -> None:
    """Lift the soft limit of descriptors to the hard one; the server, started later, inherits it.

    :raises ValueError: the hard limit is too low for so many connections.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and connections + _SPARE_DESCRIPTORS > hard:
        raise ValueError(
            f"{connections} connections need more descriptors than the hard limit of {hard} "
            f"(ulimit -Hn); take at most {hard - _SPARE_DESCRIPTORS}"
        )


def connect(port: int, number: int = 0) -> socket.socket:
    """Open a connection to the server; `number` selects its loopback source address."""
    source = (f"127.0.0.{2 + number // _PER_SOURCE}", 0)
    return socket.create_connection((HOST, port), timeout=10, source_address=source)


def ask(connection: socket.socket) -> bool:
    """Make a request; whether it was answered with 200 and the whole greeting."""
    try:
        connection.sendall(_REQUEST)
        answer = b""
        while not answer.endswith(GREETING):
            block = connection.recv(65536)
            if not block:
                return False
            answer += block
    except OSError:
        return False
    return answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))


def latencies(port: int, count: int) -> list[float]:
    """Milliseconds of `count` new connections in turn, each from connecting to the last byte.

    :raises StartError: one of them is not answered.
    """
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        with connect(port) as connection:
            if not ask(connection):
                raise StartError("a new request is not answered")
        times.append((time.perf_counter() - begin) * 1000)
    return times


def hold(up: Running, connections: int, seconds: float) -> Outcome:
    """Hold idle connections to a running server, and measure.

    :raises StartError: one of them cannot be opened or is not answered.
    """
    # Also so that what the server allocates once is there before its memory is read.
    unburdened = latencies(up.port, _PROBES)
    before = rss_bytes(up.pid)
    with ExitStack() as stack:
        held = []
        for number in range(connections):
            try:
                held.append(stack.enter_context(connect(up.port, number)))
            except OSError as error:
                raise StartError(f"connection {number + 1} cannot be opened: {error}") from error
            if not ask(held[-1]):
                raise StartError(f"connection {number + 1} is not answered: {up.last_words()}")
        grown = rss_bytes(up.pid) - before
        cpu = cpu_seconds(up.pid)
        time.sleep(seconds)  # doing nothing is what is measured
        cpu = cpu_seconds(up.pid) - cpu
        times = latencies(up.port, _PROBES)
        alive = sum(map(ask, held))
    return Outcome(
        connections,
        grown / connections,
        statistics.median(unburdened),
        statistics.median(times),
        statistics.quantiles(times, n=100)[98],
        cpu / seconds * 100,
        alive,
    )


def line(name: str, outcome: Outcome) -> str:
    """The one line of figures."""
    return (
        f"{name}: {outcome.connections} idle connections, {outcome.bytes_each:.0f} bytes each; "
        f"new requests p50 {outcome.p50_ms:.2f} ms, p99 {outcome.p99_ms:.2f} ms "
        f"(before: p50 {outcome.before_ms:.2f} ms); "
        f"idle CPU {outcome.cpu_percent:.1f} %; "
        f"{outcome.alive} of {outcome.connections} still answer"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--connections", type=click.IntRange(1, 1_000_000), default=10000, show_default=True)
@click.option("--worker-model", default="epoll", show_default=True, help="Of the project.")
@click.option("--server", "name", default="", help="A peer instead, by its name in the table.")
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=3.0, show_default=True)
def main(connections: int, worker_model: str, name: str, seconds: float) -> None:
    """Hold idle connections to a server and print, in one line, what they cost it."""
    name = name or f"{PROJECT}-{worker_model}"
    if name not in SERVERS:
        raise click.UsageError(f"no server is called {name!r}; there are {', '.join(SERVERS)}")
    server = SERVERS[name]
    server_cpu, load_cpu = default_cpus()
    try:
        server.check()
        raise_limit(connections)
        with (
            running(server, "hello", {server_cpu}, _capacity(server, connections)) as up,
            pinned({load_cpu}),
        ):
            outcome = hold(up, connections, seconds)
    except (NotAvailable, StartError, ValueError) as error:
        raise click.ClickException(f"{name}: {error}") from error
    click.echo(line(name, outcome))
    sys.exit(0 if outcome.alive == connections else 1)


def _capacity(server: Server, connections: int) -> tuple[str, ...]:
    """The project's own bound, with room for the new requests; the peers keep theirs."""
    if server.package != PROJECT:
        return ()
    return ("--worker-connections", str(connections + _SPARE_DESCRIPTORS))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.idle")
