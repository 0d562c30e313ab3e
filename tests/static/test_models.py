"""The same answers, field by field and byte by byte, whoever serves the files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.serving import Command
from tests.static.ground import OLD
from tests.support.wire import Reply, Wire, request
from wsgiserver.config import WORKER_MODELS

HOME: Final = Path(__file__).parents[2]
FOREIGN: Final = {
    "waitress": ("waitress", "--listen=127.0.0.1:0"),
    "gunicorn": ("gunicorn", "-b", "127.0.0.1:0", "-k", "gthread", "--threads", "2"),
}
BIG: Final = bytes(range(256)) * (3 << 12)
# What a server may add to an answer, or leave out; the rest is the application's.
OF_THE_SERVER: Final = frozenset({"connection", "date", "keep-alive", "server", "via"})
ETAG: Final = "the tag of the file"
BROWSER: Final = "Accept-Encoding: gzip, deflate, br, zstd"

# method, target, fields, status
ASKED: Final = (
    ("GET", "/", (), 200),
    ("GET", "/a.txt", (), 200),
    ("GET", "/a.txt", (BROWSER,), 200),
    ("GET", "/text.css", ("Accept-Encoding: gzip",), 200),
    ("GET", "/text.css", ("Accept-Encoding: br;q=0, *",), 200),
    ("GET", "/text.css", ("Accept-Encoding: identity;q=0, x",), 406),
    ("HEAD", "/text.css", ("Accept-Encoding: gzip",), 200),
    ("HEAD", "/big.bin", (), 200),
    ("GET", "/big.bin", (), 200),
    ("GET", "/big.bin", ("Range: bytes=1000-200999",), 206),
    ("GET", "/big.bin", ("Range: bytes=-100000",), 206),
    ("GET", "/big.bin", ("Range: bytes=0-0",), 206),
    ("GET", "/big.bin", ("Range: bytes=9999999-",), 416),
    ("GET", "/big.bin", (f"If-None-Match: {ETAG}",), 304),
    ("GET", "/big.bin", (f"If-Match: {ETAG}", "Range: bytes=5-6"), 206),
    ("GET", "/big.bin", ('If-Match: "other"',), 412),
    ("GET", "/big.bin", ('If-Range: "other"', "Range: bytes=5-6"), 200),
    ("GET", "/sub?q=1", (), 301),
    ("GET", "/sub/", (), 200),
    ("GET", "/old", (), 302),
    ("GET", "/none/here", (), 404),
    ("GET", "/empty.txt", (), 200),
    ("OPTIONS", "/a.txt", (), 204),
    ("DELETE", "/a.txt", (), 405),
)


def lay_out(root: Path) -> None:
    for name, content in {
        "index.html": b"<title>home</title>",
        "404.html": b"<title>not here</title>" * 20,
        "a.txt": b"0123456789" * 100,
        "empty.txt": b"",
        "big.bin": BIG,
        "text.css": b"body { color: red }\n" * 100,
        "text.css.gz": b"the sibling",
        "sub/index.html": b"<title>sub</title>",
        "_redirects": b"/old /new 302\n",
        "_headers": b"/*\n  X-Site: yes\n",
    }.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    lay_out(found)
    return found


@pytest.fixture(scope="module")
def reference(root: Path) -> Iterator[int]:
    """The port of a server that all others are compared with."""
    with Command("-k", "single", "--documents-root", str(root)) as server:
        yield server.port


@pytest.fixture(scope="module", params=[*WORKER_MODELS, *FOREIGN])
def port(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    name = request.param
    if name in FOREIGN:
        pytest.importorskip(name)
        with ExitStack() as stack:
            yield _foreign(name, root, tmp_path_factory.mktemp("app"), stack)
        return
    if name == "gevent":
        pytest.importorskip("gevent")
    with Command("-k", name, "--documents-root", str(root)) as server:
        yield server.port


def _foreign(name: str, root: Path, place: Path, stack: ExitStack) -> int:
    """Start another WSGI server; its port, from its log."""
    (place / "site_app.py").write_text(
        f"from middleware import StaticFiles\n\napp = StaticFiles({str(root)!r})\n"
    )
    # The servers' own warnings are not what is tested.
    quiet = {k: v for k, v in os.environ.items() if k not in ("PYTHONDEVMODE", "PYTHONWARNINGS")}
    process = subprocess.Popen(
        [sys.executable, "-m", *FOREIGN[name], "site_app:app"],
        stderr=subprocess.PIPE,
        text=True,
        env={**quiet, "PYTHONPATH": os.pathsep.join([str(HOME), str(place)])},
    )
    stack.enter_context(process)
    stack.callback(process.terminate)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError(f"{name} did not start")


def ask(wire: Wire, method: str, target: str, fields: tuple[str, ...]) -> Reply:
    return wire.get(target, *fields, method=method)


def shown(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    fields = {name.lower(): value for name, value in reply.fields}
    kept = {name: value for name, value in fields.items() if name not in OF_THE_SERVER}
    return reply.status, kept, reply.body


def tag(port: int) -> str:
    with Wire(("127.0.0.1", port)) as wire:
        return wire.get("/big.bin", method="HEAD").get("ETag") or ""


@pytest.mark.parametrize(
    ("method", "target", "fields", "status"), ASKED, ids=lambda value: str(value)[:40]
)
def test_the_same_answer(
    port: int, reference: int, method: str, target: str, fields: tuple[str, ...], status: int
) -> None:
    etag = tag(reference)
    asked = tuple(field.replace(ETAG, etag) for field in fields)
    with Wire(("127.0.0.1", reference)) as wire:
        expected = shown(ask(wire, method, target, asked))
    assert expected[0] == status
    for _ in range(2):  # the second time it may come from a memory
        with Wire(("127.0.0.1", port)) as wire:
            found = shown(ask(wire, method, target, asked))
        if method == "OPTIONS":
            found[1].pop("content-length", None)  # gunicorn adds one to 204
        assert found == expected


def test_several_ranges(port: int) -> None:
    """The boundary is another one each time, so this is taken apart."""
    with Wire(("127.0.0.1", port)) as wire:
        reply = wire.get("/big.bin", "Range: bytes=0-99,500000-600000,-5")
    assert reply.status == 206
    kind = reply.get("Content-Type") or ""
    boundary = kind.removeprefix("multipart/byteranges; boundary=")
    parts = reply.body.split(f"--{boundary}".encode())
    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    contents = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]]
    assert contents == [BIG[:100], BIG[500000:600001], BIG[-5:]]


def test_pipelined_answers_in_order(port: int) -> None:
    asked = ["/a.txt", "/big.bin", "/a.txt", "/empty.txt", "/none", "/text.css"]
    with Wire(("127.0.0.1", port)) as wire:
        wire.send(b"".join(request(target) for target in asked))
        replies = [wire.reply() for _ in asked]
    assert [reply.status for reply in replies] == [200, 200, 200, 200, 404, 200]
    assert replies[1].body == BIG and replies[0].body == replies[2].body
