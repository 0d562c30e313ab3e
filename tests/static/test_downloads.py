"""Files that change while they are served, and clients that go away.

An answer is whole, or visibly cut by the end of its connection; it is never framed wrongly, and
nothing stays open behind it.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.serving import Command
from tests.static.ground import OLD, descriptors, settled, until
from tests.support.wire import Truncated, Wire, request

MODELS: Final = ("epoll", "threadpool", "gevent", "thread")
# More than the buffers of both sockets hold, so that the server still sends when the file changes.
LARGE: Final = 24 << 20
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
    of_both = zip(body, OLD_CONTENT[start:stop], NEW_CONTENT[start:stop], strict=True)
    assert all(byte in (old, new) for byte, old, new in of_both)
    check()


def test_truncated_within_a_part(site: Site) -> None:
    """Of several ranges: cut, too."""
    path = write(site.root / "parts.bin", OLD_CONTENT)
    middle = LARGE // 2
    wire = site.connect(slow=True)
    wire.send(request(f"/{path.name}", f"Range: bytes=0-{middle - 5000},{middle}-{LARGE - 5000}"))
    wire.read_some(BEGUN)
    os.truncate(path, middle)
    with wire, pytest.raises(Truncated):
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
    states = set()

    def look() -> bool:
        for query in ("", "?another"):
            with site.connect() as wire:
                for _ in range(2):
                    try:
                        reply = wire.get(f"/{path.name}{query}")
                    except Truncated as error:
                        assert error.got == OLD_CONTENT[: len(error.got)]
                        assert wire.ended()
                        states.add("cut")
                        break
                    states.add(f"{reply.status} {len(reply.body)}")
                    if reply.status == 200:
                        assert reply.body == OLD_CONTENT[: len(reply.body)]
                        assert len(reply.body) in (size, size // 2)
                    else:
                        assert reply.status == 503
        return f"200 {size // 2}" in states

    until(look, bool)
    print(sorted(states))


# -- between downloads


@pytest.mark.parametrize("size", [500, 5000, 300_000])
@pytest.mark.parametrize("how", ["rename", "in place"])
def test_a_new_state_shows(site: Site, size: int, how: str) -> None:
    """Soon, and after it the old one is never seen again, in whatever way it is asked for."""
    path = write(site.root / f"state-{size}-{how[:2]}.txt", content(size, 1))
    with site.connect() as wire:
        before = wire.get(f"/{path.name}")
        assert before.body == content(size, 1)
        for mark in (2, 3):
            _change(path, content(size, mark), how)
            seen = 0

            def look(number: list[int] = [0]) -> bytes:  # noqa: B006
                number[0] += 1
                asked = (f"/{path.name}", f"/{path.name}?{number[0] % 3}", f"/{path.name}?0")
                return wire.get(asked[number[0] % 3], *_fields(number[0])).body

            until(look, lambda body, mark=mark: body[0] == mark)  # type: ignore[misc]
            while seen < 60:
                assert look() == content(size, mark), "the old state came back"
                seen += 1


def _change(path: Path, data: bytes, how: str) -> None:
    if how == "rename":
        replace(path, data)
    else:
        path.write_bytes(data)


def _fields(number: int) -> tuple[str, ...]:
    return (f"X-Number: {number % 2}",) if number % 5 == 0 else ()


def test_a_missing_name_appears_and_goes(site: Site) -> None:
    path = site.root / "appears.txt"
    with site.connect() as wire:
        for _ in range(2):
            assert wire.get("/appears.txt").status == 404
            path.write_bytes(b"here")
            seen = until(lambda: wire.get("/appears.txt"), lambda reply: reply.status == 200)
            assert seen.body == b"here"
            tag = f"If-None-Match: {seen.get('ETag')}"
            path.unlink()
            until(lambda: wire.get("/appears.txt"), lambda reply: reply.status == 404)
            assert wire.get("/appears.txt", tag).status == 404


def test_a_directory_appears_and_goes(site: Site) -> None:
    path = site.root / "appearing"
    with site.connect() as wire:
        assert wire.get("/appearing").status == 404
        path.mkdir()
        (path / "index.html").write_text("here")
        until(lambda: wire.get("/appearing").status, lambda status: status == 301)
        until(lambda: wire.get("/appearing/").status, lambda status: status == 200)
        (path / "index.html").unlink()
        path.rmdir()
        until(lambda: wire.get("/appearing").status, lambda status: status == 404)
        path.write_bytes(b"a file now")
        until(lambda: wire.get("/appearing").body, lambda body: body == b"a file now")
        path.unlink()


def test_rules_that_change(site: Site) -> None:
    """`_headers`: new rules show within a second, and the old ones never after them."""
    write(site.root / "ruled.txt", b"ruled")
    rules = site.root / "_headers"
    with site.connect() as wire:
        for state in range(1, 5):
            # Somewhere within the second between two looks, so that the cases differ.
            until(lambda: wire.get("/ruled.txt").status, lambda status: status == 200)
            replace(rules, b"/ruled.txt\n  X-State: %d\n" % state)
            number = 0

            def look() -> str | None:
                nonlocal number
                number += 1
                wire.get("/ruled.txt")  # is repeated
                return wire.get(f"/ruled.txt?{state}.{number}").get("X-State")

            until(look, lambda seen, state=state: seen == str(state))  # type: ignore[misc]
            assert wire.get("/ruled.txt").get("X-State") == str(state), "the old rules came back"
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
    most = until(lambda: descriptors(site.pid), lambda count: count < 100)
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
        before = descriptors(site.pid)
        for mark in range(1, 4):
            replace(path, content(100_000, mark))
            until(
                lambda: wire.get("/replaced.bin").body[0],
                lambda seen, mark=mark: seen == mark,  # type: ignore[misc]
            )
        wire.get("/replaced.bin?another")
        assert settled(site.pid, before) <= before
