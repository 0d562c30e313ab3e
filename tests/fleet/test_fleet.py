"""A fleet of workers as an operator has it: real processes, real signals, clients all the time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import pytest

from tests.fleet.clients import Clients
from tests.serving import Command
from tests.support.wire import TIMEOUT
from wsgiserver.config import WORKER_MODELS

# `single` closes a connection that is idle when somebody else wants in: a client that keeps one
# meets that without any reload.
MODELS: Final = [model for model in WORKER_MODELS if model != "single"]

APP: Final = """
import os
import time

VERSION = "one"
kept = []


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(1)
    if path == "/stuck":
        time.sleep(60)
    if path == "/exit":
        os._exit(9)
    if path == "/grow":
        kept.append(b"x" * 200_000_000)
    body = f"{VERSION} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The module of the application."""
    file = tmp_path / "shop.py"
    file.write_text(APP)
    return file


@pytest.fixture
def fleet(code: Path) -> Callable[..., Command]:
    """fleet(*arguments): a server of this application, with two workers if nothing else is said."""

    def start(*arguments: str) -> Command:
        workers = () if "-w" in arguments else ("-w", "2")
        return Command("--pythonpath", str(code.parent), *workers, *arguments, "shop:app")

    return start


def ready(server: Command, number: int) -> int:
    """Wait for the worker of this number; its pid."""
    return int(server.log.wait_for(rf"worker {number} \(pid (\d+)\) serves")[1])


def ask(server: Command, path: str = "/") -> str:
    client = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    try:
        client.request("GET", path)
        return client.getresponse().read().decode()
    finally:
        client.close()


def send(server: Command, number: signal.Signals) -> None:
    server.process.send_signal(number)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold within the time of a test."""
    until = time.monotonic() + TIMEOUT
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.02)
    return held


def ended(pid: int) -> bool:
    return eventually(lambda: not lives(pid))


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


# -- reloads


@pytest.mark.parametrize("model", MODELS)
def test_a_reload_loses_nothing(fleet: Callable[..., Command], code: Path, model: str) -> None:
    with fleet("-k", model) as server:
        old = {ready(server, number) for number in (1, 2)}
        with Clients(server.port) as clients:
            code.write_text(APP.replace('"one"', '"two"'))
            send(server, signal.SIGHUP)
            new = {ready(server, number) for number in (3, 4)}
            server.log.wait_for("reloaded: all workers are new ones")
            send(server, signal.SIGHUP)
            ready(server, 6)
            for pid in old | new:
                assert ended(pid)
            assert ask(server).startswith("two ")
        assert not clients.failures
        assert {body.split()[0] for body in clients.bodies} == {"one", "two"}


def test_a_reload_that_does_not_come_up_changes_nothing(
    fleet: Callable[..., Command], code: Path
) -> None:
    with fleet() as server:
        server.faulty = True
        old = {ready(server, number) for number in (1, 2)}
        code.write_text("raise RuntimeError('half saved')\n")
        with Clients(server.port) as clients:
            send(server, signal.SIGHUP)
            server.log.wait_for("half saved")
            server.log.wait_for("not reloaded: the new workers do not come up, the old ones serve")
        assert not clients.failures
        assert {int(body.split()[1]) for body in clients.bodies} <= old
        code.write_text(APP.replace('"one"', '"three"'))
        send(server, signal.SIGHUP)
        server.log.wait_for("reloaded: all workers are new ones")
        assert all(map(ended, old))  # they may take one more until they are told
        assert ask(server).startswith("three ")


def test_settings_are_read_anew(fleet: Callable[..., Command], tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    config.write_text('worker_model = "epoll"\nworkers = 1\n')
    with fleet("--config", str(config), "-w", "1") as server:
        ready(server, 1)
        config.write_text("threads = 0\n")
        send(server, signal.SIGHUP)
        server.log.wait_for("SIGHUP: .*threads: 0 is out of range.*nothing is replaced")
        config.write_text('worker_model = "threadpool"\nthreads = 2\nbacklog = 7\n')
        send(server, signal.SIGHUP)
        server.log.wait_for("SIGHUP: backlog: changing this takes a restart")
        server.log.wait_for("reloaded")
        assert ask(server).startswith("one ")


# -- ends


def test_a_worker_that_ends_is_replaced(fleet: Callable[..., Command]) -> None:
    with fleet() as server:
        first, _ = (ready(server, number) for number in (1, 2))
        os.kill(first, signal.SIGKILL)
        server.log.wait_for(rf"worker 1 \(pid {first}\) was ended by SIGKILL")
        ready(server, 3)
        with pytest.raises((OSError, HTTPException)):
            ask(server, "/exit")
        server.log.wait_for(r"worker \d \(pid \d+\) ended with exit status 9")
        ready(server, 4)
        with Clients(server.port) as clients:
            time.sleep(0.2)
        assert not clients.failures


@pytest.mark.parametrize(
    ("text", "status", "line"),
    [
        ("raise RuntimeError('no database')\n", 3, "RuntimeError: no database"),
        ("import os; os._exit(7)\n", 7, "the workers do not come up (exit status 7)"),
    ],
)
def test_a_fleet_that_cannot_start(
    fleet: Callable[..., Command], code: Path, text: str, status: int, line: str
) -> None:
    code.write_text(text)
    server = fleet()
    assert server.process.wait(TIMEOUT) == status
    server.log.close()
    assert line in server.log.text
    assert "the workers do not come up" in server.log.text


def test_a_start_that_takes_too_long(fleet: Callable[..., Command], code: Path) -> None:
    code.write_text("import time; time.sleep(60)\n")
    server = fleet("--boot-timeout", "300ms")
    assert server.process.wait(TIMEOUT) == 4
    server.log.close()
    assert "was killed: it did not become ready in time" in server.log.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_stop(fleet: Callable[..., Command], number: signal.Signals) -> None:
    """SIGTERM waits for the request at hand, the others do not; nobody is left."""
    with fleet() as server:
        pids = [ready(server, each) for each in (1, 2)]
        with server.connect() as wire:
            wire.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.2)
            send(server, number)
            if number is signal.SIGTERM:
                reply = wire.reply()
                assert (reply.status, reply.closes) == (200, True)
            else:
                assert wire.ended()
        assert server.process.wait(TIMEOUT) == 0
        assert not any(map(lives, pids))
        assert "stopped" in server.log.text


def test_the_stop_of_the_whole_group(fleet: Callable[..., Command]) -> None:
    """As systemd does: the workers hear of it twice, from it and from their supervisor."""
    with fleet() as server:
        for each in (1, 2):
            ready(server, each)
        with server.connect() as wire:
            wire.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.2)
            os.killpg(server.process.pid, signal.SIGTERM)
            assert wire.reply().status == 200
        assert server.process.wait(TIMEOUT) == 0


def test_a_second_stop_is_quick(fleet: Callable[..., Command]) -> None:
    with fleet("-w", "1") as server:
        first = ready(server, 1)
        with server.connect() as wire:
            wire.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.2)
            send(server, signal.SIGTERM)
            server.log.wait_for("is told to finish")
            send(server, signal.SIGTERM)
            assert server.process.wait(TIMEOUT) == 0
        assert not lives(first)


def test_signals_while_the_first_worker_starts(fleet: Callable[..., Command], code: Path) -> None:
    code.write_text(f"import time; time.sleep(0.5)\n{APP}")
    with fleet("-w", "1") as server:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            send(server, number)
            time.sleep(0.05)
        ready(server, 1)
        assert ask(server)


def test_a_failed_reload_leaves_the_settings(code: Path, tmp_path: Path) -> None:
    """Also for a worker that is replaced later."""
    config = tmp_path / "own.toml"
    config.write_text('workers = 1\napp = "shop:app"\nworker_model = "epoll"\n')
    with Command("--config", str(config), "--pythonpath", str(tmp_path)) as server:
        server.faulty = True
        first = ready(server, 1)
        config.write_text('workers = 1\napp = "nosuch:app"\n')
        send(server, signal.SIGHUP)
        server.log.wait_for("not reloaded")
        os.kill(first, signal.SIGKILL)
        ready(server, 3)
        assert ask(server).startswith("one ")


def test_a_reload_after_a_change_of_the_folder(tmp_path: Path, code: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    code.rename(inner / "shop.py")
    (tmp_path / "wsgiserver.toml").write_text('workers = 1\napp = "shop:app"\nchdir = "inner"\n')
    with Command(cwd=tmp_path) as server:
        ready(server, 1)
        send(server, signal.SIGHUP)
        ready(server, 2)
        server.log.wait_for("reloaded")
        assert ask(server).startswith("one ")


def test_workers_end_with_their_supervisor(fleet: Callable[..., Command]) -> None:
    server = fleet()
    try:
        pids = [ready(server, each) for each in (1, 2)]
        server.process.kill()
        server.process.wait()
        assert all(map(ended, pids))
    finally:
        server.kill()


# -- sizes and ages


def test_more_and_fewer(fleet: Callable[..., Command]) -> None:
    with fleet("-w", "1") as server:
        first = ready(server, 1)
        with Clients(server.port) as clients:
            send(server, signal.SIGTTIN)
            ready(server, 2)
            send(server, signal.SIGTTOU)
            assert ended(first)
        assert not clients.failures
        send(server, signal.SIGTTOU)
        server.log.wait_for("SIGTTOU: 1 worker\n")


def test_no_workers_for_a_while(fleet: Callable[..., Command]) -> None:
    """Who connects meanwhile waits."""
    with fleet("-w", "1") as server:
        first = ready(server, 1)
        send(server, signal.SIGWINCH)
        assert ended(first)
        with server.connect() as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            send(server, signal.SIGHUP)
            assert wire.reply().status == 200


def test_a_number_of_requests(fleet: Callable[..., Command]) -> None:
    options = ("--max-requests", "50", "--max-requests-jitter", "50")
    with fleet("-w", "2", *options) as server:
        with Clients(server.port) as clients:
            ready(server, 6)
        assert not clients.failures
        assert "it has answered its number of requests" in server.log.text


def test_a_lifetime(fleet: Callable[..., Command]) -> None:
    with fleet("-w", "1", "--max-worker-lifetime", "300ms") as server:
        with Clients(server.port) as clients:
            ready(server, 4)
        assert not clients.failures
        assert "is replaced: it has reached its age" in server.log.text


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_memory(fleet: Callable[..., Command]) -> None:
    with fleet("-w", "1", "--max-rss", "150M") as server:
        first = ready(server, 1)
        assert str(first) in ask(server, "/grow")
        server.log.wait_for("worker 1 .* is replaced: it has grown too large")
        assert ended(first)


@pytest.mark.parametrize("model", ["epoll", "single", "nonblocking"])
def test_no_sign_of_life(fleet: Callable[..., Command], model: str) -> None:
    with fleet("-k", model, "-w", "1", "--heartbeat-timeout", "2s") as server:
        first = ready(server, 1)
        with server.connect() as wire:
            wire.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
            server.log.wait_for(rf"worker 1 \(pid {first}\) was killed: no sign of life")
            assert wire.ended()
        ready(server, 2)
        time.sleep(2.5)  # one that has nothing to do is no silent one
        assert ask(server)
        assert "worker 2" not in server.log.text.partition("worker 2 (pid")[2]


# -- what else an operator has


def test_logs_are_opened_anew(fleet: Callable[..., Command], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with fleet("--access-log", str(log)) as server:
        for number in (1, 2):
            ready(server, number)
        old = tmp_path / "old.log"
        ask(server)
        assert eventually(lambda: lines(log) == 1)  # it is written behind the answer
        log.rename(old)
        send(server, signal.SIGUSR1)
        asked = 1
        while lines(log) < 20 and asked < 1000:  # each worker does it in its own time
            ask(server)
            asked += 1
        assert eventually(lambda: lines(old) + lines(log) == asked)
        assert lines(old) >= 1 and lines(log) >= 20


def test_preloaded(fleet: Callable[..., Command], code: Path) -> None:
    code.write_text(APP + "\nprint('imported by', os.getpid(), file=__import__('sys').stderr)\n")
    with fleet("--preload") as server:
        pids = {ready(server, number) for number in (1, 2)}
        assert server.log.text.count("imported by") == 1
        assert f"imported by {server.process.pid}" in server.log.text
        assert int(ask(server).split()[1]) in pids


def test_the_application_knows(fleet: Callable[..., Command], code: Path) -> None:
    code.write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [str(environ['wsgi.multiprocess']).encode()]\n"
    )
    with fleet("-k", "epoll", "-w", "1") as server:
        assert ask(server) == "True"
