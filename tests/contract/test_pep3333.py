"""PEP 3333 beside framing: write(), exc_info, close(), wsgi.input and wsgi.file_wrapper."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.app import shown
from tests.support.server import Server
from tests.support.stage import Stage
from tests.support.wire import Reply, Truncated, request

PURPOSE = r"RuntimeError: the application fails on purpose"


def test_write_sends_before_it_returns(server: Server, stage: Stage) -> None:
    """ "Handling the write() Callable": a block is not delayed until the application is done."""
    with server.connect() as wire:
        wire.send(request(f"/blocks?write=first&write=second&block=third&stage={stage.port}"))
        for block in (b"first", b"second"):
            visit = stage.arrival()
            got = b""
            while not got.endswith(block + b"\r\n"):
                got += wire.read_some(1)
            visit.go()
        assert wire.read_some(len(b"5\r\nthird\r\n0\r\n\r\n")) == b"5\r\nthird\r\n0\r\n\r\n"
        assert wire.get("/next").status == 200


def test_a_block_is_sent_before_the_next_is_asked_for(server: Server, stage: Stage) -> None:
    """ "Buffering and Streaming": what server-sent events rely on."""
    target = f"/blocks?kind=generator&block=first&block=second&pause=1&stage={stage.port}"
    with server.connect() as wire:
        wire.send(request(target))
        visit = stage.arrival()
        got = b""
        while not got.endswith(b"5\r\nfirst\r\n"):
            got += wire.read_some(1)
        visit.go()
        assert wire.read_some(len(b"6\r\nsecond\r\n0\r\n\r\n")) == b"6\r\nsecond\r\n0\r\n\r\n"
    assert stage.arrival().text == "closed"


def test_exc_info_replaces_what_was_not_sent(server: Server) -> None:
    with server.connect() as wire:
        reply = wire.get("/replace")
        assert (reply.status, reply.reason, reply.body) == (503, "Replaced", b"replaced")
        assert (reply.get("X-First"), reply.get("X-Second")) == (None, "2")
        assert wire.get("/next").status == 200


def test_exc_info_is_raised_when_the_head_is_out(server: Server) -> None:
    with server.connect() as wire:
        wire.send(request("/replace?late=1"))
        with pytest.raises(Truncated):
            wire.reply()
    server.expect_fault(PURPOSE)


# -- close(), exactly once in every ending

ENDINGS: dict[str, tuple[str, str, str]] = {  # method, version, query
    "counted": ("GET", "1.1", "kind=counted&block=a"),
    "generator": ("GET", "1.1", "kind=generator&block=a&block=b"),
    "empty": ("GET", "1.1", "kind=generator"),
    "1.0": ("GET", "1.0", "kind=generator&block=a&block=b"),
    "HEAD": ("HEAD", "1.1", "kind=generator&block=a&block=b"),
    "HEAD with length": ("HEAD", "1.1", "kind=generator&block=a&length=1"),
    "304": ("GET", "1.1", "kind=generator&status=304+Not+Modified&block=a"),
    "lazy": ("GET", "1.1", "kind=lazy&block=a"),
    "too long": ("GET", "1.1", "kind=generator&block=ab&block=c&length=1"),
    "too short": ("GET", "1.1", "kind=generator&block=ab&length=9"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_close_is_called_once(server: Server, stage: Stage, ending: str) -> None:
    method, version, query = ENDINGS[ending]
    with server.connect() as wire:
        wire.send(
            request(f"/blocks?{query}&stage={stage.port}", method=method, version=version)
            + request(f"/wait?stage={stage.port}")
        )
        assert stage.arrival().text == "closed"
        if ending not in ("1.0", "too short"):
            visit = stage.arrival()  # the next request began, so nothing of the first is left
            assert visit.text.startswith("/wait")
            visit.go()
            wire.reply(method)
            wire.reply()
    assert stage.empty()


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_close_is_called_once_after_a_failure(server: Server, stage: Stage, blocks: int) -> None:
    target = f"/blocks?kind=generator&block=a&block=b&fail={blocks}&stage={stage.port}"
    with server.connect() as wire:
        wire.exchange(request(target))
    assert stage.arrival().text == "closed"
    server.expect_fault(PURPOSE)
    assert stage.empty()


def test_close_is_called_once_when_the_client_leaves(server: Server, stage: Stage) -> None:
    """While the answer is sent: the client leaves with bytes unread, which is a reset."""
    wire = server.connect(receive_buffer=4096)
    wire.send(request(f"/endless?stage={stage.port}"))
    wire.read_some(1000)
    wire.close()
    assert stage.arrival().text == "closed"
    with server.connect() as other:
        assert other.get("/next").status == 200
    assert stage.empty()


def test_close_is_called_once_when_the_client_left_before(server: Server, stage: Stage) -> None:
    """While the application works; it is not interrupted."""
    blocks = "".join(f"&block={'x' * 1000}" for _ in range(6))
    wire = server.connect()
    wire.send(request(f"/blocks?kind=generator{blocks}&pause=1&stage={stage.port}"))
    visit = stage.arrival()
    wire.close()
    visit.go()
    assert stage.arrival().text == "closed"
    with server.connect() as other:
        assert other.get("/next").status == 200
    assert stage.empty()


def test_write_to_a_client_that_left(server: Server, stage: Stage) -> None:
    """It raises in the application, which is no fault worth a traceback."""
    writes = "".join(f"&write={'x' * 100}" for _ in range(4))
    wire = server.connect()
    wire.send(request(f"/blocks?kind=generator{writes}&stage={stage.port}"))
    visit = stage.arrival()
    wire.close()
    for _ in range(4):
        visit.go()
        visit = stage.arrival()
        if visit.text.startswith("failed"):
            break
    assert visit.text == "failed: ClientDisconnected"
    with server.connect() as other:
        assert other.get("/next").status == 200


# -- wsgi.input

TEXT = b"ab\ncd\n\nefghi\n\r\njkl"
LONG = b"".join(b"%07d\n" % number for number in range(1 << 18))  # 2 MiB

READS: list[list[list[object]]] = [
    [["read"]],
    [["read", -1]],
    [["read", None]],
    [["read", 0], ["read", 4], ["read"]],
    [["read", 1], ["read", 1000], ["read", 1000], ["read"], ["readline"], ["readlines"]],
    [["readline"], ["readline"], ["readline"], ["readline"], ["readline"], ["readline"]],
    [["readline", -1], ["readline", 0], ["readline", 2], ["readline", 1000]],
    [["readline", None], ["read", 3], ["readline"]],
    [["readlines"]],
    [["readlines", None], ["readlines"]],
    [["readlines", 1], ["readlines", 5], ["readlines", 0]],
    [["readlines", -1]],
    [["iterate"], ["iterate"], ["read"]],
    [["next"], ["next"], ["read", 1], ["iterate"]],
    [["read", 4], ["iterate"]],
]


def expected(body: bytes, steps: list[list[object]]) -> list[object]:
    """What a file with that content says: the io module is the reference."""
    import io

    stream, results = io.BytesIO(body), []
    for name, *arguments in steps:
        if name == "iterate":
            result: object = list(stream)
        elif name == "next":
            result = next(iter(stream), b"")
        else:
            result = getattr(stream, str(name))(*arguments)
        results.append(
            [shown(line) for line in result] if isinstance(result, list) else shown(result)  # type: ignore[arg-type]
        )
    return results


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("steps", READS, ids=lambda steps: json.dumps(steps)[:60])
def test_every_way_to_read(server: Server, steps: list[list[object]]) -> None:
    target = "/read?steps=" + quote(json.dumps(steps))
    with server.connect() as wire:
        for body in (TEXT, b"", b"\n"):
            wire.send(request(target, method="POST", body=body))
            assert wire.reply().json() == expected(body, steps)
        wire.send(request(target, "Transfer-Encoding: chunked", method="POST") + chunked(TEXT, 3))
        assert wire.reply().json() == expected(TEXT, steps)


THRESHOLD = 512 << 10


@pytest.mark.parametrize("size", [THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 << 20])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_bodies_around_the_spool_threshold(server: Server, size: int, coding: str) -> None:
    body = LONG[:size]
    steps: list[list[object]] = [["readline"], ["readlines", 1001], ["read", 300_000], ["read"]]
    target = "/read?steps=" + quote(json.dumps(steps))
    with server.connect() as wire:
        if coding == "length":
            wire.send(request(target, method="POST", body=body))
        else:
            head = request(target, "Transfer-Encoding: chunked", method="POST")
            wire.send(head + chunked(body, 50_000))
        assert wire.reply().json() == expected(body, steps)
        # The size that CONTENT_LENGTH tells, and that nothing was left for the next request.
        wire.send(
            request("/echo", "Transfer-Encoding: chunked", method="POST") + chunked(body, 8191)
        )
        reply = wire.reply()
        assert reply.body == body
        assert reply.get("X-Content-Length") == str(size)


@pytest.mark.parametrize("size", [THRESHOLD, 2 << 20])
def test_a_large_body_line_by_line(server: Server, size: int) -> None:
    steps: list[list[object]] = [["read", size - 1000], ["iterate"]]
    with server.connect() as wire:
        wire.send(
            request("/read?steps=" + quote(json.dumps(steps)), method="POST", body=LONG[:size])
        )
        assert wire.reply().json() == expected(LONG[:size], steps)


# -- wsgi.file_wrapper

CONTENT = hashlib.shake_256(b"file").digest((1 << 20) + 300_001)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "content"
    path.write_bytes(CONTENT)
    path.with_suffix(".gz").write_bytes(gzip.compress(CONTENT[:100_000]))
    path.with_suffix(".empty").touch()
    return path


Get = Callable[[str, Path], Reply]


@pytest.fixture
def get_file(server: Server) -> Iterator[Get]:
    """get_file(query, path): the answer, on a connection that goes on after it."""
    with server.connect() as wire:

        def get(query: str, path: Path) -> Reply:
            reply = wire.get(f"/file?path={quote(str(path))}&{query}")
            assert wire.get("/next").json()["PATH_INFO"] == "/next"
            return reply

        yield get


def same(body: bytes, other: bytes) -> bool:
    return hashlib.sha256(body).digest() == hashlib.sha256(other).digest()


def test_a_file_larger_than_a_mebibyte(get_file: Get, content: Path) -> None:
    reply = get_file("", content)
    assert reply.get("Content-Length") == str(len(CONTENT))
    assert same(reply.body, CONTENT)


@pytest.mark.parametrize("offset", [1, 70_000, len(CONTENT) - 1, len(CONTENT)])
def test_a_file_from_its_offset(get_file: Get, content: Path, offset: int) -> None:
    assert same(get_file(f"offset={offset}", content).body, CONTENT[offset:])


def test_a_file_that_was_read_from(get_file: Get, content: Path) -> None:
    """A buffered file's descriptor is further on than the file: it has read ahead."""
    assert same(get_file("skip=10", content).body, CONTENT[10:])


@pytest.mark.parametrize("length", [0, 1, 8192, 1 << 20])
def test_a_range_of_a_file(get_file: Get, content: Path, length: int) -> None:
    reply = get_file(f"offset=1000&length={length}&status=206+Partial+Content", content)
    assert (reply.status, reply.get("Content-Length")) == (206, str(length))
    assert same(reply.body, CONTENT[1000 : 1000 + length])


@pytest.mark.parametrize("kind", ["memory", "reported"])
def test_objects_that_are_like_files(get_file: Get, content: Path, kind: str) -> None:
    assert same(get_file(f"kind={kind}&offset=5", content).body, CONTENT[5:])


def test_a_gzip_file_is_not_sent_raw(get_file: Get, content: Path) -> None:
    """Its fileno() is that of the compressed file."""
    reply = get_file("kind=gzip", content.with_suffix(".gz"))
    assert same(reply.body, CONTENT[:100_000])


def test_an_empty_file(get_file: Get, content: Path) -> None:
    assert get_file("", content.with_suffix(".empty")).body == b""


def test_a_file_shorter_than_the_length(server: Server, content: Path) -> None:
    with server.connect() as wire:
        wire.send(
            request(f"/file?path={quote(str(content))}&length={len(CONTENT) + 1}")
            + request("/poison")
        )
        with pytest.raises(Truncated) as cut:
            wire.reply()
        assert same(cut.value.got, CONTENT)
    assert "GET /poison" not in server.calls()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_closed_once(server: Server, stage: Stage, content: Path, method: str) -> None:
    target = f"/file?path={quote(str(content))}&kind=reported&stage={stage.port}"
    with server.connect() as wire:
        assert wire.get(target, method=method).status == 200
        assert stage.arrival().text == "closed"
        assert wire.get("/next").status == 200
    assert stage.empty()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_sent_by_the_kernel_is_closed(server: Server, content: Path, method: str) -> None:
    """It is never read, so its own close() cannot be watched; its descriptor can."""
    target = f"/file?path={quote(str(content))}"
    with server.connect() as wire:
        assert wire.get(target, method=method).get("Content-Length") == str(len(CONTENT))
        folder = Path(f"/proc/{wire.get('/next').json()['pid']}/fd")
        names = [entry.name for entry in folder.iterdir()]
        assert str(content) not in [_link(folder / name) for name in names]


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # a connection that ended meanwhile
        return ""


def test_a_file_is_closed_when_the_client_leaves(
    server: Server, stage: Stage, content: Path
) -> None:
    target = f"/file?path={quote(str(content))}&kind=reported&stage={stage.port}"
    wire = server.connect(receive_buffer=4096)
    wire.send(request(target))
    wire.read_some(100)
    wire.close()
    assert stage.arrival().text == "closed"


# -- wsgiref.validate watches both sides

VALIDATED = [
    request("/validated/"),
    request("/validated/x?y=z", method="HEAD"),
    request("/validated/echo", method="POST", body=b"hello"),
    request("/validated/echo", "Transfer-Encoding: chunked", method="PUT") + chunked(b"hello", 2),
    request("/validated/echo", method="POST", body=LONG[: THRESHOLD + 1]),
    request(
        '/validated/read?steps=[["read",5],["readline"],["readlines"]]', method="POST", body=TEXT
    ),
    request("/validated/blocks?kind=generator&block=a&block=b"),
    request("/validated/blocks?kind=tuple&block=a&block=b"),
    request("/validated/blocks?kind=lazy&block=a&block=b&length=2"),
    request("/validated/blocks?write=a&block=b"),
    request("/validated/blocks?block=a", method="HEAD"),
    request("/validated/replace"),
    request("/validated/hints"),
    request("/validated/count?to=100"),
]


@pytest.mark.parametrize("data", VALIDATED, ids=lambda data: data.split(b"\r")[0].decode()[:60])
def test_the_validator_finds_nothing(server: Server, data: bytes) -> None:
    """A complaint of it would be a 500 and a traceback in the log."""
    with server.connect() as wire:
        for _ in range(2):
            wire.send(data.replace(b'"', b"%22"))
            method = data.split(b" ")[0].decode()
            reply = wire.reply(method)
            if reply.status == 103:
                reply = wire.reply(method)
            assert reply.status in (200, 503)
