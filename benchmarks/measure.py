"""Measuring: check a server, load it with wrk, and read its CPU time before and after."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from benchmarks.machine import pinned
from benchmarks.proctree import cpu_seconds
from benchmarks.servers import (
    HOST,
    ROOT,
    NotAvailable,
    Running,
    Server,
    StartError,
    build,
    running,
)
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
    unable: what the server answers instead of what the workload asks for; it was not measured.
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
    unable: str = ""


# Above this, the answers that are under way when wrk stops are counted by their share: it reads few
# answers of this size in a second.
_LARGE: Final = 1 << 20
# How far the mean size of an answer may be from that of the checked one; heads may vary a little.
_SIZE_TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of a workload found: what to send, and what an answer measures on the wire.

    headers: those of the workload, with the validator where it is conditional.
    size: bytes of an answer, head included; 0 where it cannot be told.
    """

    headers: tuple[tuple[str, str], ...] = ()
    size: int = 0


def judge(blank: Sample, load: Load, cpu: float, size: int = 0, status: int = 200) -> Sample:
    """Fill in a sample: `cpu` seconds were spent while wrk counted `load`.

    size, status: what the check found of an answer; see `Checked`.
    """
    if not load.requests:
        return replace(blank, problem="no request was answered")
    answers = load.bytes / size if size > _LARGE else load.requests
    return replace(
        blank,
        cpu_us=cpu / answers * 1e6,
        rate=answers / load.duration_us * 1e6,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        requests=load.requests,
        problem=_problem(load, size, status, blank.connections),
    )


def _problem(load: Load, size: int, status: int, connections: int) -> str:
    """Why these answers are not those that were checked; empty if they may be."""
    errors = load.errors
    refused = errors.pop("status", 0)
    expected = load.requests if status > 399 else 0
    if refused != expected:
        errors["status"] = abs(refused - expected)
    if errors:
        return ", ".join(f"{count} {kind} errors" for kind, count in errors.items())
    low = size * load.requests * (1 - _SIZE_TOLERANCE)
    high = size * (load.requests + connections) * (1 + _SIZE_TOLERANCE)
    if size and not low <= load.bytes <= high:
        mean = load.bytes / load.requests
        return f"an answer had {mean:,.0f} bytes on average, the checked one {size:,}"
    return ""


# --- the check ------------------------------------------------------------------------------------


def check(port: int, workload: Workload) -> Checked:
    """Send the workload's request over http.client, twice on one connection if that is to be kept.

    :raises StartError: an answer is not the right one, or the connection is closed after it.
    """
    client = http.client.HTTPConnection(HOST, port, timeout=10)
    headers, size = workload.headers, 0
    try:
        if workload.conditional:
            headers += (("If-None-Match", _validator(client, workload)),)
        # The second answer on a connection shows what else followed the first.
        for _ in range(2 if workload.keep_alive else 1):
            for path, expected in ((workload.path, workload.answer), *workload.more):
                answer, body = exchange(client, workload, path, headers)
                _require(workload, answer, body, expected)
                size = size or _wire_size(answer, body)
                if workload.keep_alive and client.sock is None:
                    raise StartError(f"{workload.title}: the connection is closed after the answer")
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"no answer to {workload.title}: {error!r}") from error
    finally:
        client.close()
    return Checked(headers, size)


def exchange(
    client: http.client.HTTPConnection,
    workload: Workload,
    path: str,
    headers: Iterable[tuple[str, str]],
) -> tuple[http.client.HTTPResponse, bytes]:
    """Make a request of a workload; return the answer, and its body read to the end.

    :raises StartError: a body came with a head that must have none.
    """
    client.request(workload.method, path, workload.body or None, dict(headers))
    answer = client.getresponse()
    if answer.length == 0 and client.sock is not None and _has_more(client.sock, answer):
        raise StartError(f"{workload.title} is answered with {answer.status} and a body")
    return answer, answer.read()


def _has_more(connection: socket.socket, answer: http.client.HTTPResponse) -> bool:
    """Whether bytes came right behind the head; http.client would drop them unseen."""
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        return bool(answer.fp.peek())
    finally:
        connection.settimeout(timeout)


def _validator(client: http.client.HTTPConnection, workload: Workload) -> str:
    answer, _ = exchange(client, workload, workload.path, workload.headers)
    found = answer.getheader("ETag")
    if not found:
        raise StartError(f"{workload.title}: the answer {answer.status} has no ETag to ask with")
    return found


def _require(
    workload: Workload, answer: http.client.HTTPResponse, body: bytes, expected: bytes | None
) -> None:
    """:raises StartError: it is not what the workload says."""
    words = f"{workload.title} is answered with {answer.status}"
    if answer.status != workload.status:
        raise StartError(f"{words} {body[:60]!r}" if body.isascii() else words)
    coding = answer.getheader("Content-Encoding", "")
    if coding != workload.coding:
        raise StartError(f"{words} and the coding {coding or 'identity'}")
    if expected is None:
        return
    if workload.method == "HEAD":
        length = answer.getheader("Content-Length")
        if length != str(len(expected)):
            raise StartError(f"{words} and the Content-Length {length or 'missing'}")
    elif body != expected:
        what = repr(body[:60]) if body.isascii() else f"{len(body)} other bytes"
        raise StartError(f"{words} {what}")


def _wire_size(answer: http.client.HTTPResponse, body: bytes) -> int:
    if answer.getheader("Transfer-Encoding"):
        return 0
    line = f"HTTP/1.1 {answer.status} {answer.reason}\r\n"
    lines = (f"{name}: {value}\r\n" for name, value in answer.getheaders())
    return sum(map(len, (line, *lines, "\r\n"))) + len(body)


# --- the load -------------------------------------------------------------------------------------


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


def apply_load(
    port: int,
    workload: Workload,
    seconds: int,
    connections: int,
    cpu: int,
    headers: Iterable[tuple[str, str]] | None = None,
) -> Load:
    """Load a server with wrk (for HEAD: benchmarks/heads.c), one thread on this CPU.

    headers: what the check found instead of the workload's own.

    :raises LoadError: the program is missing or fails.
    """
    sent = list(workload.headers if headers is None else headers)
    if workload.method == "HEAD":
        command = _heads(port, workload, seconds, connections, sent)
    else:
        command = [require_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s"]
        command += ["-s", f"benchmarks/lua/{workload.script}"]
        for name, value in sent:
            command += ["-H", f"{name}: {value}"]
        command += [f"http://{HOST}:{port}{workload.path}", "--", *workload.arguments]
    with pinned({cpu}):
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    return parse_load(result.stdout + result.stderr)


def _heads(
    port: int,
    workload: Workload,
    seconds: int,
    connections: int,
    headers: Iterable[tuple[str, str]],
) -> list[str]:
    try:
        program = build("heads")
    except NotAvailable as error:
        raise LoadError(str(error)) from error
    lines = [f"HEAD {workload.path} HTTP/1.1", f"Host: {HOST}:{port}"]
    lines += [f"{name}: {value}" for name, value in headers]
    request = "\r\n".join([*lines, "", ""])
    return [str(program), str(port), str(connections), str(seconds), request]


def measure_app(
    server: Server, workloads: Sequence[Workload], settings: Settings, round_: int
) -> Generator[Sample, None, None]:
    """Start a server with the application of these workloads, and measure it with each in turn.

    A failure is a sample with a problem, never an exception; a wrong answer to the check is one
    that says what the server is unable to do.
    """
    wanted = settings.connections
    connections = min(wanted, server.connections or wanted)
    blanks = [Sample(server.name, each.name, round_, connections) for each in workloads]
    done = 0
    try:
        with running(server, workloads[0].app, {settings.server_cpu}) as up:
            checked = [_able(up.port, workload) for workload in workloads]
            if settings.warm_up:
                _warm_up(up.port, workloads, checked, connections, settings.load_cpu)
            for workload, found, blank in zip(workloads, checked, blanks, strict=True):
                if isinstance(found, Checked):
                    yield _measure(up, workload, found, blank, settings)
                else:
                    yield replace(blank, unable=found)
                done += 1
    except (StartError, LoadError, ProcessLookupError, subprocess.TimeoutExpired) as error:
        for blank in blanks[done:]:
            yield replace(blank, problem=str(error))


def _able(port: int, workload: Workload) -> Checked | str:
    """What the check found, or why the server is not measured with this workload."""
    try:
        return check(port, workload)
    except StartError as error:
        return str(error)


def _warm_up(
    port: int,
    workloads: Sequence[Workload],
    checked: Sequence[Checked | str],
    connections: int,
    cpu: int,
) -> None:
    for workload, found in zip(workloads, checked, strict=True):
        if isinstance(found, Checked):
            apply_load(port, workload, _WARM_UP, connections, cpu, found.headers)
            return


def _measure(
    up: Running, workload: Workload, found: Checked, blank: Sample, settings: Settings
) -> Sample:
    before = cpu_seconds(up.pid)
    load = apply_load(
        up.port,
        workload,
        settings.seconds,
        blank.connections,
        settings.load_cpu,
        found.headers,
    )
    return judge(blank, load, cpu_seconds(up.pid) - before, found.size, workload.status)


def rotated(servers: Sequence[Server], round_: int, rounds: int) -> list[Server]:
    """The order of a round: begun elsewhere each time, every other one backwards.

    So none always follows the same other, or always runs when the machine is coldest.
    """
    start = round_ * len(servers) // max(1, rounds)
    order = [*servers[start:], *servers[:start]]
    return order[::-1] if round_ % 2 else order


class Step(NamedTuple):
    """One start of a server: in which round, which one, what it is measured with, and how."""

    round: int
    server: Server
    workloads: list[Workload]
    settings: Settings


def steps(
    servers: Sequence[Server], workloads: Sequence[Workload], settings: Settings
) -> Iterator[Step]:
    """All starts of a run in order, the workloads grouped by the application they share.

    Servers alternate as closely as they can, so that what is compared ran side by side.
    """
    for round_ in range(settings.rounds):
        for app in dict.fromkeys(each.app for each in workloads):
            group = [each for each in workloads if each.app == app]
            for server in rotated(servers, round_, settings.rounds):
                if server.serves(app):
                    yield Step(round_, server, group, settings)
