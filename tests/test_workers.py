"""What only a worker can get wrong: turns, hand-overs between threads, room, and the stop."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.serving import Command
from wsgiserver import WSGIServer

MODELS: Final = ("single", "process", "thread", "nonblocking", "epoll", "threadpool")
POOLED: Final = ("epoll", "nonblocking", "threadpool", "thread")
GET: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST: Final = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TIMEOUT: Final = 10

Environ = dict[str, Any]


def hello(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def connect(server: WSGIServer) -> socket.socket:
    address = server.addresses[0]
    assert isinstance(address, tuple)
    return socket.create_connection(address, TIMEOUT)


def receive(client: socket.socket, count: int) -> bytes:
    """What arrives until there are `count` answers of `hello`, or the end."""
    data = b""
    while data.count(b"hello") < count and (more := client.recv(65536)):
        data += more
    return data


def received_by_end(client: socket.socket) -> bytes:
    """What arrives until the connection ends, by a reset or otherwise."""
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("behind", [b"", b"X", GET], ids=["nothing", "a byte", "a request"])
def test_a_turn_may_end_anywhere(model: str, behind: bytes) -> None:
    """However many requests come in one packet, the end of a turn is no end of the worker."""
    with WSGIServer(hello, bind="127.0.0.1:0", worker_model=model) as server:
        for count in range(1, 20):
            with connect(server) as client:
                client.sendall(GET * (count - 1) + LAST + behind)
                assert receive(client, count + 1).count(b"hello") == count
        with connect(server) as client:
            client.sendall(GET)
            assert receive(client, 1)


def test_no_wake_up_is_lost_between_the_loop_and_the_pool() -> None:
    """A second request that comes while the first is handed back is always seen."""

    def brief(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(0.0003)  # the work: the window in which the second request may arrive
        return hello(environ, start_response)

    server = WSGIServer(brief, bind="127.0.0.1:0", worker_model="threadpool")
    with server, connect(server) as client:
        client.settimeout(5)
        for number in range(2000):
            client.sendall(GET)
            end = time.perf_counter() + number % 100 * 0.000008
            while time.perf_counter() < end:
                pass
            client.sendall(GET)
            assert receive(client, 2).count(b"hello") == 2


@pytest.mark.parametrize("model", POOLED)
def test_what_exceeds_the_declared_length_is_not_asked_for(model: str) -> None:
    closed = threading.Event()

    def endless(environ: Environ, start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        try:
            while True:
                yield b"hello"
        finally:
            closed.set()

    with WSGIServer(endless, bind="127.0.0.1:0", worker_model=model) as server:
        with connect(server) as client:
            client.sendall(GET * 2)
            assert receive(client, 2).count(b"hello") == 2
        assert closed.wait(TIMEOUT)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_no_exception_of_an_application_ends_a_worker(
    model: str, raised: type[BaseException]
) -> None:
    def fails(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/":
            raise raised
        return hello(environ, start_response)

    with WSGIServer(fails, bind="127.0.0.1:0", worker_model=model, threads=2) as server:
        for _ in range(4):
            with connect(server) as client:
                client.sendall(LAST)
                assert client.recv(65536).startswith(b"HTTP/1.1 500 ")
        with connect(server) as client:
            client.sendall(GET.replace(b"/ ", b"/good "))
            assert receive(client, 1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sends", [b"", b"GET / HT", GET], ids=["silent", "half", "not reading"])
def test_a_stop_is_bounded_by_its_grace(model: str, sends: bytes) -> None:
    def large(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return (bytes(1 << 20) for _ in range(64))

    server = WSGIServer(large, bind="127.0.0.1:0", worker_model=model, graceful_timeout=1)
    server.start()
    with connect(server) as client, connect(server) as other:
        client.sendall(sends)
        other.sendall(sends)
        if sends == GET:
            client.recv(1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 8  # the timeouts of these states begin at 20 s


@pytest.mark.parametrize("model", POOLED)
def test_the_end_of_the_grace_closes_what_was_cut_off(model: str) -> None:
    """PEP 3333's close() is called also for an answer that its client did not take in time."""
    closed = threading.Event()

    class Large:
        def __iter__(self) -> Iterator[bytes]:
            return iter(lambda: bytes(1 << 20), b"")

        def close(self) -> None:
            assert not closed.is_set()
            closed.set()

    def large(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Large()

    server = WSGIServer(large, bind="127.0.0.1:0", worker_model=model, graceful_timeout=0.5)
    server.start()
    with connect(server) as client:
        client.sendall(GET)
        client.recv(1)
        server.stop()
        assert closed.wait(TIMEOUT)


@pytest.mark.parametrize("idle", [0, 1, 3])
@pytest.mark.parametrize("model", [*MODELS, "gevent"])
def test_idle_clients_do_not_delay_the_stop(model: str, idle: int) -> None:
    """`Command` checks that the process ends by itself with 0; the log, that it was no time-out."""
    with Command("tests.test_workers:hello", "-k", model, "--graceful-timeout", "60") as command:
        clients = [
            socket.create_connection(("127.0.0.1", command.port), TIMEOUT) for _ in range(idle)
        ]
        for client in clients[: 1 if model == "single" else None]:
            client.sendall(GET)
            assert receive(client, 1)
        command.stop()
        for client in clients:
            client.close()


def test_a_stream_lets_other_greenlets_have_their_turn() -> None:
    stop = threading.Event()

    def read(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as reader:
            reader.sendall(GET)
            while not stop.is_set() and reader.recv(1 << 20):
                pass

    with Command("tests.test_workers:streams", "-k", "gevent") as command:
        thread = threading.Thread(target=read, args=(command.port,))
        thread.start()
        try:
            with socket.create_connection(("127.0.0.1", command.port), TIMEOUT) as other:
                other.sendall(b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
                assert receive(other, 1)  # the stream has no end
        finally:
            stop.set()
            thread.join()


def streams(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Without end, except at /short."""
    if environ["PATH_INFO"] == "/short":
        return hello(environ, start_response)
    start_response("200 OK", [])
    return iter(lambda: b"a block", b"")


def test_a_fork_that_fails_costs_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, fails = os.fork, [True]

    def full() -> int:
        if fails.pop() if fails else False:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", full)
    with WSGIServer(hello, bind="127.0.0.1:0", worker_model="process") as server:
        with connect(server) as client:
            client.sendall(GET)
            assert received_by_end(client) == b""
        with connect(server) as client:
            client.sendall(GET)
            assert receive(client, 1)


def test_a_unix_path_is_removed_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = WSGIServer(hello, bind=f"unix:{path}")
    first.start()
    path.unlink()  # as a successor does that found nobody listening
    with WSGIServer(hello, bind=f"unix:{path}"):
        first.stop()
        assert path.exists()
    assert not path.exists()


def test_descriptors_run_out_and_come_back() -> None:
    """At the limit accepting pauses, says so once, and goes on when there is room again."""
    with Command("tests.test_workers:hello", "-k", "epoll") as command:
        limit = len(os.listdir(f"/proc/{command.process.pid}/fd")) + 10
        resource.prlimit(command.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        clients = [
            socket.create_connection(("127.0.0.1", command.port), TIMEOUT) for _ in range(20)
        ]
        command.log.wait_for("not accepting connections for now")
        for client in clients[:15]:
            client.close()
        clients[-1].sendall(GET)
        assert receive(clients[-1], 1)
        command.log.wait_for("accepting connections again")
        assert command.log.text.count("not accepting") == 1
        for client in clients:
            client.close()


def test_a_second_signal_ends_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wsgiserver", "-b", "127.0.0.1:0", "tests.test_workers:streams"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        line = ""
        while "listening on" not in line:
            line = process.stderr.readline()
        port = int(line.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            client.sendall(GET)
            client.recv(1)
            process.send_signal(signal.SIGTERM)
            while "finishing what was accepted" not in line:
                line = process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
