"""A server within another program: started and stopped from Python, leaving nothing behind."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.wire import TIMEOUT, Address, Wire
from wsgiserver import ConfigError, WSGIServer, make_server
from wsgiserver.listeners import BindError

# gevent replaces parts of the standard library for the whole program: test_frameworks starts it
# by the command.
MODELS = ("single", "process", "thread", "nonblocking", "epoll", "threadpool")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def held() -> tuple[set[str], dict[int, str]]:
    """The threads, and what each open descriptor of this process is."""
    threads = {thread.name for thread in threading.enumerate()}
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one the listing itself was read by
    return threads, found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test there must be no other thread or descriptor than before."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("there is no /proc to see open descriptors in")
    gc.collect()
    threads, descriptors = held()
    yield
    threads_now, descriptors_now = held()
    assert threads_now - threads == set()
    assert descriptors_now.items() - descriptors.items() == set()


def get(address: Address, path: str = "/") -> bytes:
    with Wire(address) as wire:
        reply = wire.get(path, "Connection: close")
        assert reply.status == 200
        assert wire.ended()
        return reply.body


def refuses(address: Address) -> bool:
    """Whether nobody listens there any more."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        return sock.connect_ex(address) in (errno.ECONNREFUSED, errno.ENOENT)


# --- start, stop, with ----------------------------------------------------------------------------


@pytest.mark.parametrize("worker_model", MODELS)
def test_a_with_statement_serves_and_leaves_nothing(worker_model: str) -> None:
    with WSGIServer(app, bind="127.0.0.1:0", worker_model=worker_model) as server:
        (address,) = server.addresses
        assert isinstance(address, tuple)
        assert address[0] == "127.0.0.1"
        assert address[1] > 0
        assert server.urls == [f"http://127.0.0.1:{address[1]}"]
        for number in range(3):
            assert get(address, f"/{number}") == f"GET /{number}".encode()
    assert server.addresses == []
    assert refuses(address)


@pytest.mark.parametrize("worker_model", MODELS)
def test_stop_closes_an_idle_connection(worker_model: str) -> None:
    server = WSGIServer(app, bind="127.0.0.1:0", worker_model=worker_model)
    server.start()
    stopper = threading.Thread(target=server.stop)
    with Wire(server.addresses[0]) as wire:
        assert wire.get("/").status == 200
        stopper.start()
        assert wire.ended()
    stopper.join(TIMEOUT)
    assert not stopper.is_alive()


@pytest.mark.parametrize("worker_model", ["thread", "epoll", "threadpool"])
def test_stop_lets_a_request_finish(worker_model: str) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        entered.set()
        assert go.wait(TIMEOUT)
        return app(environ, start_response)

    server = WSGIServer(slow, bind="127.0.0.1:0", worker_model=worker_model)
    server.start()
    with Wire(server.addresses[0]) as wire:
        wire.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n")
        assert entered.wait(TIMEOUT)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        go.set()
        assert wire.reply().body == b"GET /late"
        assert wire.ended()
    stopper.join(TIMEOUT)
    assert not stopper.is_alive()


@pytest.mark.parametrize("worker_model", ["epoll", "threadpool"])
def test_one_object_can_be_started_again(worker_model: str) -> None:
    server = WSGIServer(app, bind="127.0.0.1:0", worker_model=worker_model)
    for _ in range(3):
        with server:
            assert get(server.addresses[0]) == b"GET /"
        assert server.addresses == []


def test_a_fixed_port_can_be_had_again_at_once() -> None:
    with WSGIServer(app, bind="127.0.0.1:0") as first:
        address = first.addresses[0]
        assert isinstance(address, tuple)
        # Closed by the server first, so that its side stays behind in TIME_WAIT.
        assert get(address) == b"GET /"
    with WSGIServer(app, bind=f"127.0.0.1:{address[1]}") as second:
        assert second.addresses == [address]
        assert get(address) == b"GET /"


def test_two_servers_at_once() -> None:
    def other(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [b"other"]

    with (
        WSGIServer(app, bind="127.0.0.1:0", worker_model="epoll") as one,
        WSGIServer(other, bind="127.0.0.1:0", worker_model="threadpool") as two,
    ):
        assert one.addresses != two.addresses
        assert get(one.addresses[0]) == b"GET /"
        assert get(two.addresses[0]) == b"other"
        two.stop()
        assert two.addresses == []
        assert get(one.addresses[0]) == b"GET /"


def test_several_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a unix socket must be short
    with WSGIServer(app, bind=["127.0.0.1:0", "unix:a.sock", "127.0.0.1:0"]) as server:
        assert len(set(server.addresses)) == 3
        assert [get(address, "/x") for address in server.addresses] == [b"GET /x"] * 3


def test_start_twice_is_refused() -> None:
    with WSGIServer(app, bind="127.0.0.1:0") as server:
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
        assert get(server.addresses[0]) == b"GET /"


def test_stop_without_start_and_twice_does_nothing() -> None:
    server = WSGIServer(app, bind="127.0.0.1:0")
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_the_programs_own_error_passes_through() -> None:
    server = WSGIServer(app, bind="127.0.0.1:0")
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert server.addresses == []


# --- serve_forever --------------------------------------------------------------------------------


@pytest.mark.parametrize("worker_model", MODELS)
def test_serve_forever_in_a_thread_until_stop(worker_model: str) -> None:
    server = WSGIServer(app, bind="127.0.0.1:0", worker_model=worker_model)
    server.bind()
    address = server.addresses[0]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        # Answered, so it runs: a stop before that would be none.
        assert get(address) == b"GET /"
    finally:
        server.stop()
        thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert refuses(address)


# --- as wsgiref -----------------------------------------------------------------------------------


def test_make_server_as_in_wsgiref() -> None:
    server: Any = make_server("127.0.0.1", 0, app)
    assert server.server_address == ("127.0.0.1", server.server_port)
    assert server.server_port > 0
    url = f"http://127.0.0.1:{server.server_port}/path"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:
            assert answer.read() == b"GET /path"
    finally:
        server.shutdown()
        # wsgiref's returns when the loop has ended; what is awaited here must not need long.
        thread.join(TIMEOUT)
        server.server_close()
    assert not thread.is_alive()


def test_shutdown_returns_when_the_loop_has_ended() -> None:
    """As socketserver.BaseServer.shutdown, so that server_close() right after it is safe."""
    entered, go = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        entered.set()
        go.wait(TIMEOUT)
        return app(environ, start_response)

    server: Any = make_server("127.0.0.1", 0, slow)
    serving = threading.Thread(target=server.serve_forever)
    client = threading.Thread(target=get, args=[server.server_address])
    stopper = threading.Thread(target=server.shutdown)
    serving.start()
    client.start()
    assert entered.wait(TIMEOUT)
    stopper.start()
    stopper.join(0.2)  # nothing tells that it goes on waiting
    early = not stopper.is_alive()
    go.set()
    for thread in (client, stopper, serving):
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    server.server_close()
    assert not early, "shutdown() returned while a request was being served"


def test_make_server_closed_without_serving() -> None:
    server: Any = make_server("127.0.0.1", 0, app)
    address = server.server_address
    # It listens already, as wsgiref's does: the kernel takes connections.
    Wire(address).close()
    server.server_close()
    assert refuses(address)


def test_make_server_in_a_with_statement() -> None:
    with make_server("127.0.0.1", 0, app) as server:
        connection = HTTPConnection(*_tcp(server), timeout=TIMEOUT)
        connection.request("GET", "/with")
        assert connection.getresponse().read() == b"GET /with"
        connection.close()


def _tcp(server: WSGIServer) -> tuple[str, int]:
    address = server.addresses[0]
    assert isinstance(address, tuple)
    return address


# --- unix sockets, files, failures ----------------------------------------------------------------


def test_a_unix_socket_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with WSGIServer(app, bind="unix:a.sock") as server:
        assert server.addresses == ["a.sock"]
        assert server.urls == ["unix:a.sock"]
        assert get("a.sock") == b"GET /"
        with pytest.raises(BindError, match=r"unix:a\.sock"):
            WSGIServer(app, bind="unix:a.sock").start()
        assert get("a.sock") == b"GET /"
    assert not Path("a.sock").exists()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("a.sock")
    with WSGIServer(app, bind="unix:a.sock"):
        assert get("a.sock") == b"GET /"


def test_a_file_in_the_place_of_a_unix_socket_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("precious").write_text("data")
    with pytest.raises(BindError):
        WSGIServer(app, bind="unix:precious").start()
    assert Path("precious").read_text() == "data"


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with WSGIServer(app, bind="127.0.0.1:0") as server:
        port = _tcp(server)[1]
        for method in ("start", "serve_forever"):
            # The second address fails, so the first one must be given back; so must the log.
            other = WSGIServer(
                app,
                bind=["127.0.0.1:0", f"127.0.0.1:{port}"],
                access_log=str(tmp_path / "access"),
            )
            with pytest.raises(BindError) as caught:
                getattr(other, method)()
            assert str(caught.value) == (
                f"cannot listen on 127.0.0.1:{port}: it is in use; stop the other program or "
                "choose another with --bind"
            )
            assert other.addresses == []
        with pytest.raises(BindError):
            make_server("127.0.0.1", port, app)
        assert get(server.addresses[0]) == b"GET /"


def test_a_pid_file_lives_as_long_as_the_server(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with WSGIServer(app, bind="127.0.0.1:0", pid=str(pid)) as server:
        assert pid.read_text() == f"{os.getpid()}\n"
        assert get(server.addresses[0]) == b"GET /"
    assert not pid.exists()


@pytest.mark.parametrize("method", ["start", "serve_forever"])
def test_a_start_that_fails_gives_everything_back(method: str, tmp_path: Path) -> None:
    server = WSGIServer(
        app,
        bind="127.0.0.1:0",
        pid=str(tmp_path / "missing" / "pid"),
        access_log=str(tmp_path / "access"),
    )
    with pytest.raises(ConfigError, match="pid "):
        getattr(server, method)()
    assert server.addresses == []
    server.stop()


def test_the_pid_file_of_a_living_process_is_respected(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    pid.write_text(f"{os.getppid()}\n")
    with pytest.raises(ConfigError, match=f"its id {os.getppid()} is running"):
        WSGIServer(app, bind="127.0.0.1:0", pid=str(pid)).start()
    assert pid.read_text() == f"{os.getppid()}\n"


def test_a_wrong_setting_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="worker_model"):
        WSGIServer(app, worker_model="epol")


def test_the_access_log_ends_with_the_server(tmp_path: Path) -> None:
    log = tmp_path / "access"
    with WSGIServer(app, bind="127.0.0.1:0", access_log=str(log)) as server:
        assert get(server.addresses[0], "/logged") == b"GET /logged"
    (line,) = log.read_text().splitlines()
    assert '"GET /logged HTTP/1.1" 200 11' in line
