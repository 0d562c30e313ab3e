"""Files that change while they are served, and clients that go away.

An answer is whole, or visibly cut by the end of its connection; it is never framed wrongly, and
nothing stays open behind it.
"""

from __future__ import annotations

import os
import random
import resource
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.serving import Command
from tests.static.ground import OLD, quiet, settled, until
from tests.support.wire import Reply, Truncated, Wire, request

MODELS: Final = ("epoll", "threadpool", "gevent", "thread")


def _large() -> int:
    """Of which half is more than the sending socket's buffer may hold, so that the server still
    sends when the file changes."""
    try:
        most = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    except OSError:
        most = 4 << 20
    return 2 * most + (4 << 20)


LARGE: Final = _large()
BEGUN: Final = 1 << 20
ABORTED: Final = 2000


@dataclass
class Site:
    """A server, and the folder that it serves."""

    server: Command
    root: Path

    def connect(self, slow: bool = False) -> Wire:
        """A connection; a slow one has a small buffer."""
        return Wire(("127.0.0.1", self.server.port), receive_buffer=16384 if slow else 0)

    @property
    def pid(self) -> int:
        return self.server.process.pid


@pytest.fixture(scope="module", params=MODELS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    if request.param == "gevent":
        pytest.importorskip("gevent")
    root = tmp_path_factory.mktemp("downloads")
    # Without development mode, which makes thousands of connections slow.
    with Command("-k", request.param, "--documents-root", str(root), dev=False) as server:
        yield Site(server, root)


def content(size: int, mark: int) -> bytes:
    """Bytes that tell where they stand and which state of the file they are of."""
    block = b"".join(struct.pack(">BI", mark, number)[:4] + b"\n" for number in range(1000))
    return (block * (size // len(block) + 1))[:size]


OLD_CONTENT: Final = content(LARGE, 1)
NEW_CONTENT: Final = content(LARGE, 2)


def write(path: Path, data: bytes) -> Path:
    """A file that is not young, so that its answers are remembered like any other's."""
    path.write_bytes(data)
    os.utime(path, (OLD, OLD))
    return path


def replace(path: Path, data: bytes) -> None:
    """As rsync and editors do it."""
    beside = path.with_name("beside.tmp")
    beside.write_bytes(data)
    beside.rename(path)


# -- while it is sent

Change = Callable[[Path], object]


def truncate(path: Path) -> None:
    os.truncate(path, LARGE // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(NEW_CONTENT[: 1 << 20])


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW_CONTENT)


def rename_over(path: Path) -> None:
    replace(path, NEW_CONTENT)


def delete(path: Path) -> None:
    path.unlink()


CUT: Final[list[Change]] = [truncate, empty]
UNTOUCHED: Final[list[Change]] = [append, rename_over, delete]
# The ways to ask for it, and which part of the file that is.
WAYS: Final[dict[str, tuple[tuple[str, ...], int, int]]] = {
    "whole": ((), 0, LARGE),
    "range": ((f"Range: bytes=1000-{LARGE - 1000}",), 1000, LARGE - 999),
}


def download(
    site: Site, change: Change, way: str, known: bool
) -> tuple[bytes, bool, Callable[[], None]]:
    """What comes of a download in which the file changes, whether it was whole, and a check that
    the connection was treated right.

    known: the same was asked for before, so that the answer is a repeated one.
    """
    path = write(site.root / f"{change.__name__}-{way}-{known}.bin", OLD_CONTENT)
    fields, start, stop = WAYS[way]
    head = request(f"/{path.name}", *fields)
    if known:
        with site.connect() as wire:
            wire.send(head)
            assert wire.reply().body == OLD_CONTENT[start:stop]
    wire = site.connect(slow=True)
    wire.send(head)
    got = wire.read_some(BEGUN)
    change(path)
    first, _, begun = got.partition(b"\r\n\r\n")
    assert f"Content-Length: {stop - start}".encode() in first
    left = stop - start - len(begun)
    try:
        body, whole = begun + wire.read_some(left), True
    except Truncated as error:
        body, whole = begun + error.got, False

    def check() -> None:
        with wire:
            if whole:
                assert wire.get("/nowhere").status == 404  # framed right: it goes on
            else:
                assert wire.ended()

    return body, whole, check


@pytest.mark.parametrize("known", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("change", CUT)
def test_truncated_while_it_is_sent(site: Site, change: Change, way: str, known: bool) -> None:
    body, whole, check = download(site, change, way, known)
    _, start, _ = WAYS[way]
    assert not whole, "bytes that are not there were sent"
    assert body == OLD_CONTENT[start : start + len(body)]
    check()


@pytest.mark.parametrize("known", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("change", UNTOUCHED)
def test_the_old_state_to_its_end(site: Site, change: Change, way: str, known: bool) -> None:
    body, whole, check = download(site, change, way, known)
    _, start, stop = WAYS[way]
    assert whole
    assert body == OLD_CONTENT[start:stop]
    check()


@pytest.mark.parametrize("way", list(WAYS))
def test_rewritten_in_place_while_it_is_sent(site: Site, way: str) -> None:
    """Nobody can tell that from the descriptor; the length at least is right."""
    body, whole, check = download(site, rewrite, way, False)
    _, start, stop = WAYS[way]
    assert whole and len(body) == stop - start
    either = bytes.maketrans(b"\2", b"\1")  # the mark of the new state for that of the old
    assert body.translate(either) == OLD_CONTENT[start:stop].translate(either)
    check()


@pytest.mark.parametrize("model", MODELS)
def test_truncated_within_a_part(model: str, tmp_path: Path) -> None:
    """Of several ranges: cut, too. By a server of its own, since it logs a traceback."""
    if model == "gevent":
        pytest.importorskip("gevent")
    path = write(tmp_path / "parts.bin", OLD_CONTENT)
    middle = LARGE // 2
    with pytest.raises(AssertionError, match="the file became shorter while it was being sent"):
        _truncate_within_a_part(model, path, middle)


def _truncate_within_a_part(model: str, path: Path, middle: int) -> None:
    with (
        Command("-k", model, "--documents-root", str(path.parent)) as server,
        Wire(("127.0.0.1", server.port), receive_buffer=16384) as wire,
    ):
        ranges = f"Range: bytes=0-{middle - 5000},{middle}-{LARGE - 5000}"
        wire.send(request(f"/{path.name}", ranges))
        wire.read_some(BEGUN)
        os.truncate(path, middle)
        with pytest.raises(Truncated):
            wire.read_some(LARGE)


@pytest.mark.parametrize("size", [1000, 200_000])
def test_truncated_before_it_is_sent(site: Site, size: int) -> None:
    """Within the second in which the old state is believed: whole, or cut, or "come again"; on
    each connection, however it asks, and also when the same is asked again and again."""
    path = write(site.root / f"before-{size}.bin", OLD_CONTENT[:size])
    with site.connect() as wire:
        assert wire.get(f"/{path.name}", method="HEAD").status == 200
        assert len(wire.get(f"/{path.name}").body) == size
    os.truncate(path, size // 2)

    def look() -> set[int]:
        lengths = set()
        for query in ("", "?another"):
            with site.connect() as wire:
                for _ in range(2):
                    wire.send(request(f"/{path.name}{query}"))
                    length = _length(wire)
                    lengths.add(length)
                    if length < 0:
                        assert wire.ended()
                        break
        return lengths

    seen = until(look, lambda lengths: lengths == {size // 2})
    assert seen == look()


def _length(wire: Wire) -> int:
    """Of the next answer, which must be of the old content's beginning; 0 if it is "come again",
    and negative if it was cut."""
    try:
        reply = wire.reply()
    except Truncated as error:
        got, sign = error.got, -1
    else:
        if reply.status == 503:
            assert reply.get("Retry-After") == "1"
            return 0
        assert reply.status == 200
        got, sign = reply.body, 1
    assert got == OLD_CONTENT[: len(got)]
    return sign * len(got)


# -- between downloads

STATES: Final = [(size, how) for size in (500, 5000, 300_000) for how in ("renamed", "in place")]


class Asker:
    """Asks for one file in changing ways: the same head again, other heads, other queries."""

    def __init__(self, wire: Wire, target: str) -> None:
        self._wire = wire
        self._target = target
        self._count = 0

    def __call__(self) -> Reply:
        self._count += 1
        query = ("", f"?{self._count % 7}", "?0")[self._count % 3]
        fields = (f"X-Number: {self._count % 2}",) if self._count % 5 == 0 else ()
        return self._wire.get(self._target + query, *fields)


def test_a_new_state_shows(site: Site) -> None:
    """Soon, and after it the old one is never seen again, in whatever way it is asked for."""
    paths = [
        write(site.root / f"state-{number}.txt", content(size, 1))
        for number, (size, _) in enumerate(STATES)
    ]
    with site.connect() as wire:
        ask = [Asker(wire, f"/{path.name}") for path in paths]
        for path, (size, _), each in zip(paths, STATES, ask, strict=True):
            assert each().body == path.read_bytes() == content(size, 1)
        for mark in (2, 3):
            for path, (size, how) in zip(paths, STATES, strict=True):
                if how == "renamed":
                    replace(path, content(size, mark))
                else:
                    path.write_bytes(content(size, mark))
            for (size, _), each in zip(STATES, ask, strict=True):
                _changes_once(each, content(size, mark - 1), content(size, mark))


def _changes_once(ask: Asker, old: bytes, new: bytes) -> None:
    first = until(lambda: ask().body, lambda body: body != old)
    for body in (first, *(ask().body for _ in range(30))):
        assert body == new, "neither old nor new, or the old state came back"


def test_names_appear_and_go(site: Site) -> None:
    path, folder = site.root / "appears.txt", site.root / "appearing"
    with site.connect() as wire:

        def statuses() -> list[int]:
            return [
                wire.get(target).status for target in ("/appears.txt", "/appearing", "/appearing/")
            ]

        assert statuses() == [404, 404, 404]
        path.write_bytes(b"here")
        folder.mkdir()
        (folder / "index.html").write_text("here")
        until(statuses, lambda seen: seen == [200, 301, 200])
        tag = wire.get("/appears.txt").get("ETag")
        path.unlink()
        (folder / "index.html").unlink()
        folder.rmdir()
        until(statuses, lambda seen: seen == [404, 404, 404])
        assert wire.get("/appears.txt", f"If-None-Match: {tag}").status == 404
        folder.write_bytes(b"a file now")
        until(statuses, lambda seen: seen == [404, 200, 404])
        folder.unlink()


def test_rules_that_change(site: Site) -> None:
    """`_headers`: new rules show within a second, and the old ones never after them."""
    write(site.root / "ruled.txt", b"ruled")
    rules = site.root / "_headers"
    with site.connect() as wire:
        ask = Asker(wire, "/ruled.txt")
        for state in ("1", "2"):
            replace(rules, f"/ruled.txt\n  X-State: {state}\n".encode())
            seen = [until(lambda: ask().get("X-State"), {state}.__contains__)]
            seen += [ask().get("X-State") for _ in range(30)]
            assert set(seen) == {state}, "the old rules came back"
    rules.unlink()


# -- clients that go away


@pytest.fixture
def wares(site: Site) -> list[bytes]:
    """Requests of every kind for files of every size, all asked for once."""
    write(site.root / "small.txt", b"small")
    write(site.root / "page.html", content(50_000, 1))
    write(site.root / "large.bin", content(3 << 20, 1))
    sent = []
    for name in ("small.txt", "page.html", "large.bin"):
        for fields in (
            (),
            ("Range: bytes=100-",),
            ("Range: bytes=0-9,50-59",),
            ("Range: bytes=99999999-",),
            ("If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",),
            ("If-None-Match: *",),
            ('If-Match: "another"',),
            ("Accept-Encoding: gzip",),
        ):
            sent.append(request(f"/{name}", *fields))
            sent.append(request(f"/{name}", *fields, method="HEAD"))
    sent += [request("/nowhere"), request("/small.txt", method="POST")]
    for head in sent:
        with site.connect() as wire:
            wire.send(head)
            wire.reply(head.split(b" ")[0].decode())
    return sent


def test_aborted_downloads_leave_nothing_open(site: Site, wares: list[bytes]) -> None:
    """Closed at once, within the head, behind it, and anywhere in the body."""
    most = quiet(site.pid)
    chance = random.Random(3)
    large = [head for head in wares if b"large" in head]
    for number in range(ABORTED):
        head = chance.choice(wares if number % 2 else large)
        with site.connect() as wire:
            wire.send(head)
            if number % 4:
                wire.sock.recv(chance.choice((1, 20, 500, 70_000)))
            if number % 3 == 0:
                wire.reset()
    assert settled(site.pid, most) <= most
    with site.connect() as wire:
        assert wire.get("/small.txt").body == b"small"


def test_files_that_are_replaced_do_not_stay_open(site: Site) -> None:
    """Their old states are closed when nobody is sent them any more."""
    path = write(site.root / "replaced.bin", content(100_000, 0))
    with site.connect() as wire:
        wire.get("/replaced.bin")
        before = quiet(site.pid)
        for mark in (1, 2):
            new = content(100_000, mark)
            replace(path, new)
            until(lambda: wire.get("/replaced.bin").body, {new}.__contains__)
        wire.get("/replaced.bin?another")
        assert settled(site.pid, before) <= before


@pytest.mark.parametrize("model", ["epoll", "threadpool"])
def test_many_large_files_with_few_descriptors(model: str, tmp_path: Path) -> None:
    """More files than descriptors, each asked for once; and nothing deleted stays open for long."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(400):
        write(root / f"{number}.bin", b"x" * 66_000)
    with Command("-k", model, "--documents-root", str(root), dev=False) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        with server.connect() as wire:
            for number in range(400):
                assert wire.get(f"/{number}.bin").status == 200, number
        held = Path(f"/proc/{server.process.pid}/fd")
        until(lambda: len(list(held.iterdir())), lambda count: count < 160)
