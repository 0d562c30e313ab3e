"""Measuring: check a server, load it with wrk, and read its CPU time before and after."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.machine import pinned
from benchmarks.proctree import cpu_seconds
from benchmarks.servers import HOST, ROOT, Running, Server, StartError, running
from benchmarks.workloads import Workload

_WARM_UP: Final = 1


class LoadError(Exception):
    """wrk could not be run, or did not print what benchmarks/lua/report.lua makes it print."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted: answers, and errors by kind; times in microseconds."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    connect: int
    read: int
    write: int
    timeout: int
    status: int

    @property
    def errors(self) -> dict[str, int]:
        """The kinds of errors that occurred: failed socket calls, time-outs, answers above 399."""
        kinds = ("connect", "read", "write", "timeout", "status")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def parse_load(output: str) -> Load:
    """wrk's output: the one line of JSON in it.

    :raises LoadError: there is none, or it does not have these fields.
    """
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                return Load(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise LoadError(f"wrk printed {line!r}: {error}") from error
    last = output.strip().splitlines()[-1:] or ["nothing"]
    raise LoadError(f"wrk printed no figures; its last line: {last[0]}")


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how hard: `seconds` for each measurement, `connections` held by wrk."""

    rounds: int = 5
    seconds: int = 3
    connections: int = 64
    server_cpu: int = 0
    load_cpu: int = 0
    warm_up: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one server with one workload.

    cpu_us: CPU time of the server's tree of processes for a request, in microseconds.
    problem: why it must not be compared; empty if it may be.
    """

    server: str
    workload: str
    round: int
    connections: int
    cpu_us: float = 0.0
    rate: float = 0.0
    p50_us: int = 0
    p99_us: int = 0
    requests: int = 0
    problem: str = ""


def judge(blank: Sample, load: Load, cpu: float) -> Sample:
    """Fill in a sample: `cpu` seconds were spent while wrk counted `load`."""
    if not load.requests:
        return replace(blank, problem="no request was answered")
    return replace(
        blank,
        cpu_us=cpu / load.requests * 1e6,
        rate=load.requests / load.duration_us * 1e6,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        requests=load.requests,
        problem=", ".join(f"{count} {kind} errors" for kind, count in load.errors.items()),
    )


def check(port: int, workload: Workload) -> None:
    """Send the workload's request once over http.client.

    :raises StartError: the answer is not 200 with the right body.
    """
    client = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        client.request(
            workload.method, workload.path, workload.body or None, dict(workload.headers)
        )
        answer = client.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"no answer to {workload.title}: {error!r}") from error
    finally:
        client.close()
    if answer.status != 200 or body != workload.answer:
        raise StartError(f"{workload.title} is answered with {answer.status} {body[:60]!r}")


def require_wrk() -> str:
    """The path of wrk.

    :raises LoadError: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise LoadError("wrk is not installed; install it (Debian: apt install wrk)")
    return found


def wrk_version() -> str:
    """The second word of what wrk says of itself, as "4.1.0"."""
    output = subprocess.run(
        [require_wrk(), "-v"], capture_output=True, text=True, check=False
    ).stdout  # it exits with 1
    return [*output.split(maxsplit=2), "", ""][1]


def apply_load(port: int, workload: Workload, seconds: int, connections: int, cpu: int) -> Load:
    """Load a server with wrk, one thread on this CPU.

    :raises LoadError: wrk is missing or fails.
    """
    command = [require_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s"]
    command += ["-s", f"benchmarks/lua/{workload.script}"]
    for name, value in workload.headers:
        command += ["-H", f"{name}: {value}"]
    command += [f"http://{HOST}:{port}/", "--", *workload.arguments]
    with pinned({cpu}):
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    return parse_load(result.stdout + result.stderr)


def measure_app(
    server: Server, workloads: Sequence[Workload], settings: Settings, round_: int
) -> Iterator[Sample]:
    """Start a server with the application of these workloads, and measure it with each in turn.

    A failure is a sample with a problem, never an exception.
    """
    wanted = settings.connections
    connections = min(wanted, server.connections or wanted)
    blanks = [Sample(server.name, each.name, round_, connections) for each in workloads]
    done = 0
    try:
        with running(server, workloads[0].app, {settings.server_cpu}) as up:
            for workload in workloads:
                check(up.port, workload)
            if settings.warm_up:
                apply_load(up.port, workloads[0], _WARM_UP, connections, settings.load_cpu)
            for workload, blank in zip(workloads, blanks, strict=True):
                yield _measure(up, workload, blank, settings)
                done += 1
    except (StartError, LoadError, ProcessLookupError, subprocess.TimeoutExpired) as error:
        for blank in blanks[done:]:
            yield replace(blank, problem=str(error))


def _measure(up: Running, workload: Workload, blank: Sample, settings: Settings) -> Sample:
    before = cpu_seconds(up.pid)
    load = apply_load(up.port, workload, settings.seconds, blank.connections, settings.load_cpu)
    return judge(blank, load, cpu_seconds(up.pid) - before)


def rotated(servers: Sequence[Server], round_: int, rounds: int) -> list[Server]:
    """The order of a round: begun elsewhere each time, every other one backwards.

    So none always follows the same other, or always runs when the machine is coldest.
    """
    start = round_ * len(servers) // max(1, rounds)
    order = [*servers[start:], *servers[:start]]
    return order[::-1] if round_ % 2 else order


def steps(
    servers: Sequence[Server], workloads: Sequence[Workload], rounds: int
) -> Iterator[tuple[int, Server, list[Workload]]]:
    """All starts of a run in order: (round, server, workloads that share an application).

    Servers alternate as closely as they can, so that what is compared ran side by side.
    """
    for round_ in range(rounds):
        for app in dict.fromkeys(each.app for each in workloads):
            group = [each for each in workloads if each.app == app]
            for server in rotated(servers, round_, rounds):
                if server.serves(app):
                    yield round_, server, group
