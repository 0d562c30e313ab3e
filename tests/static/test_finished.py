"""The memory of finished answers cannot be seen from outside, except that the server is faster."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from tests.serving import Command
from tests.static.ground import OLD
from tests.support.wire import TIMEOUT, Reply, Wire, request
from wsgiserver.config import WORKER_MODELS

MODELS: Final = [model for model in WORKER_MODELS if model not in ("process",)]
COUNTING: Final = '''
import os
from middleware import StaticFiles

files = StaticFiles({root!r})
seen = 0


def app(environ, start_response):
    """A middleware that gives each client a cookie and lets some addresses in only."""
    global seen
    seen += 1
    number = seen

    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("Set-Cookie", f"n={{number}}")], exc_info)

    return files(environ, start)
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    for name, content in {"a.txt": b"the first", "big.bin": b"b" * 300_000}.items():
        (found / name).write_bytes(content)
        os.utime(found / name, (OLD, OLD))
    return found


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    if request.param == "gevent":
        pytest.importorskip("gevent")
    return str(request.param)


def undated(reply: Reply) -> tuple[object, ...]:
    fields = [field for field in reply.fields if field[0] != "Date"]
    return reply.status, fields, reply.body


def test_the_same_as_the_first(model: str, root: Path) -> None:
    with Command("-k", model, "--documents-root", str(root)) as server:
        for target in ("/a.txt", "/big.bin", "/none"):
            for method in ("GET", "HEAD"):
                with server.connect() as wire:
                    replies = [wire.get(target, method=method) for _ in range(3)]
                with server.connect() as wire:
                    replies.append(wire.get(target, method=method))
                assert len({repr(undated(reply)) for reply in replies}) == 1
                assert (replies[0].body == b"") is (method == "HEAD")


def test_the_date_goes_on_and_the_log_has_each(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Command("-k", "epoll", "--documents-root", str(root), "--access-log", str(log)) as server:
        with server.connect() as wire:
            first = wire.get("/a.txt")
            end = time.monotonic() + 5
            while wire.get("/a.txt").get("Date") == first.get("Date"):
                assert time.monotonic() < end, "the Date field stands still"
                time.sleep(0.05)
        for _ in range(3):
            with server.connect() as wire:
                wire.get("/a.txt")
    lines = log.read_text().splitlines()
    assert len(lines) >= 5
    assert all(line.startswith("127.0.0.1 - - [") for line in lines)
    assert all('"GET /a.txt HTTP/1.1" 200 9 ' in line for line in lines)


def test_a_change_shows(model: str, root: Path) -> None:
    if model == "single":
        pytest.skip("its nature: one client at a time")
    with Command("-k", model, "--documents-root", str(root)) as server, server.connect() as wire:
        assert wire.get("/a.txt").body == b"the first"
        (root / "new").write_bytes(b"the second")
        (root / "new").rename(root / "a.txt")
        changed = time.monotonic()
        states: list[bytes] = []
        while not states or states[-1] != b"the second":
            with server.connect() as other:
                states += [wire.get("/a.txt").body, other.get("/a.txt").body]
            assert time.monotonic() < changed + 5, "the change does not show"
        took = time.monotonic() - changed
        # Nobody sees the old state after the new one, on whatever connection.
        assert sorted(states) == states
        assert took < 3, f"it took {took:.1f} s"


@pytest.mark.parametrize(
    "fields",
    [("Connection: close",), ("X-Forwarded-For: 192.0.2.9",), ("Content-Length: 0",)],
)
def test_what_is_not_repeated_is_right_too(root: Path, fields: tuple[str, ...]) -> None:
    with Command("-k", "epoll", "--documents-root", str(root)) as server:
        for _ in range(3):
            with server.connect() as wire:
                reply = wire.get("/a.txt", *fields)
                assert reply.body == b"the first"
                assert reply.closes is ("close" in fields[0])
                if reply.closes:
                    assert wire.ended()
        for _ in range(3):
            with server.connect() as wire:
                wire.send(request("/a.txt", version="1.0"))
                assert wire.reply().closes
                assert wire.ended()


def test_however_it_is_cut(root: Path) -> None:
    """An empty line before it, two packets, five in one packet: right after a remembered one."""
    whole = request("/a.txt")
    with Command("-k", "epoll", "--documents-root", str(root)) as server:
        with server.connect() as wire:
            for _ in range(2):
                wire.send(whole)
                assert wire.reply().body == b"the first"
            wire.send(b"\r\n" + whole)
            assert wire.reply().body == b"the first"
            for cut in (1, 10, len(whole) - 1):
                wire.send(whole[:cut])
                time.sleep(0.02)
                wire.send(whole[cut:])
                assert wire.reply().body == b"the first"
            wire.send(whole * 5)
            assert [wire.reply().body for _ in range(5)] == [b"the first"] * 5
        with server.connect() as wire:
            wire.send(b"\r")
            time.sleep(0.02)
            wire.send(whole)  # a lone CR before a request is no empty line
            assert wire.reply().status == 400


def test_a_middleware_in_front_sees_every_request(model: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTING.format(root=str(root)))
    with (
        Command("-k", model, "--pythonpath", str(tmp_path), "counted:app") as server,
        server.connect() as wire,
    ):
        cookies = [wire.get("/a.txt").get("Set-Cookie") for _ in range(5)]
    assert len(set(cookies)) == 5


def test_each_client_has_its_own_line_in_the_log(model: str, root: Path, tmp_path: Path) -> None:
    """Whose request it was, also when the answer was made for another."""
    log = tmp_path / "access.log"
    text = "%(h)s %({REMOTE_PORT}e)s %(s)s %(B)s %(D)s %(r)s"
    expected = []
    with Command(
        "-k",
        model,
        *("--documents-root", str(root), "--access-log", str(log), "--access-log-format", text),
    ) as server:
        for number in range(6):
            source = f"127.0.0.{number % 3 + 1}"
            with Wire(("127.0.0.1", server.port), source=source) as wire:
                port = wire.sock.getsockname()[1]
                for target, size in (("/a.txt", 9), ("/big.bin", 300_000)):
                    assert len(wire.get(target).body) == size
                    expected.append(f"{source} {port} 200 {size} GET {target} HTTP/1.1")
    lines = [line.split(" ") for line in log.read_text().splitlines()]
    assert sorted(" ".join(line[:4] + line[5:]) for line in lines) == sorted(expected)
    assert all(0 <= int(line[4]) < 5_000_000 for line in lines)


def test_a_proxy_s_client_is_the_one_in_the_log(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    options = ("--documents-root", str(root), "--forwarded-allow-ips", "127.0.0.1")
    with Command("-k", "epoll", *options, "--access-log", str(log)) as server:
        for source in ("127.0.0.1", "127.0.0.2"):  # the second one is not to be believed
            with Wire(("127.0.0.1", server.port), source=source) as wire:
                for _ in range(2):
                    wire.get("/a.txt", "X-Forwarded-For: 192.0.2.9")
    clients = [line.split(" ")[0] for line in log.read_text().splitlines()]
    assert clients == ["192.0.2.9", "192.0.2.9", "127.0.0.2", "127.0.0.2"]


def test_an_answer_while_the_server_stops_says_close(model: str, root: Path) -> None:
    """A connection that has not sent anything yet may still ask, once."""
    with Command("-k", model, "--documents-root", str(root)) as server:
        with server.connect() as wire:
            for _ in range(2):
                assert not wire.get("/a.txt").closes
        with server.connect() as wire:
            server.process.send_signal(signal.SIGTERM)
            server.log.wait_for("finishing what was accepted")
            reply = wire.get("/a.txt")
            assert (reply.body, reply.closes) == (b"the first", True)
            assert wire.ended()
        assert server.process.wait(TIMEOUT) == 0


def test_a_body_is_read_and_not_mistaken(root: Path) -> None:
    """What looks like a known request is the content of another."""
    known = request("/a.txt")
    with Command("-k", "epoll", "--documents-root", str(root)) as server, server.connect() as wire:
        wire.send(known)
        assert wire.reply().body == b"the first"
        for method in ("POST", "GET"):
            whole = request("/a.txt", method=method, body=known)
            wire.send(whole[: -len(known)])
            time.sleep(0.02)
            wire.send(known)
            assert wire.reply().status == (405 if method == "POST" else 200)
        wire.send(known)
        assert wire.reply().body == b"the first"


def test_many_different_heads_are_bounded(root: Path) -> None:
    with Command("-k", "epoll", "--documents-root", str(root), dev=False) as server:

        def ask(numbers: range) -> None:
            with Wire(("127.0.0.1", server.port)) as wire:
                for number in numbers:
                    assert wire.get(f"/a.txt?{number}", "X-Pad: " + "x" * 3000).status == 200

        ask(range(2000))
        before = _resident(server.process.pid)
        ask(range(2000, 6000))
        assert _resident(server.process.pid) < before + 4096, "memory grows with each request"


def _resident(pid: int) -> int:
    """The memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def test_a_file_that_was_written_to_is_not_repeated(model: str, root: Path) -> None:
    """Within the second: the same length, another tag."""
    with Command("-k", model, "--documents-root", str(root)) as server, server.connect() as wire:
        first = [wire.get("/big.bin") for _ in range(3)][-1]
        with (root / "big.bin").open("r+b") as file:
            file.write(b"another state")
        second = wire.get("/big.bin")
        assert second.body == (root / "big.bin").read_bytes()
        assert second.get("ETag") != first.get("ETag")
