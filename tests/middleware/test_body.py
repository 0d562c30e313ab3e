"""Bodies: slices of files, what a file wrapper gets, and files that shrink."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.beneath import OpenFile, open_beneath
from middleware.body import (
    ONE_BLOCK,
    Block,
    Blocks,
    FileSlice,
    Parts,
    SharedSlice,
    positional,
    read_part,
    stream,
)
from middleware.multipart import Multipart
from middleware.ranges import Slice

BIG = bytes(range(256)) * 800
WHOLE = Slice(0, len(BIG))


def opened(site: Path, name: str = "big.bin") -> OpenFile:
    return open_beneath(str(site), [name])


class Wrapper:
    """A file wrapper as PEP 3333 shows it."""

    def __init__(self, file: FileSlice, size: int = 8192) -> None:
        self.file = file
        self.size = size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.size), b"")

    def close(self) -> None:
        self.file.close()


class Positional(Wrapper):
    positional = True


class Gunicorn(Wrapper):
    __module__ = "gunicorn.http.wsgi"


class Namesake(Wrapper):
    __module__ = "gunicornlike.http"


def drained(body: Iterable[bytes]) -> bytes:
    try:
        return b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]


def test_read_part(site: Path) -> None:
    with opened(site) as file:
        for content in (file, BIG):
            assert read_part(content, 0, len(BIG)) == BIG
            assert read_part(content, 1000, 10) == BIG[1000:1010]
            assert read_part(content, 5, 0) == b""
        with pytest.raises(OSError, match="shorter"):
            read_part(file, len(BIG) - 5, 6)


def test_a_part_is_read_whole_though_the_system_gives_it_in_pieces(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, offset: pread(fd, min(n, 7000), offset))
    with opened(site) as file:
        assert read_part(file, 10, 60_000) == BIG[10:60_010]


def test_a_part_is_read_where_there_is_no_pread(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread")
    with opened(site) as file:
        assert read_part(file, 10, 60_000) == BIG[10:60_010]
        assert read_part(file, 0, 5) == BIG[:5]


@given(st.integers(0, len(BIG)), st.integers(0, 1000), st.integers(1, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_slice_reads_as_the_bytes_do(site: Path, offset: int, count: int, size: int) -> None:
    count = min(count, len(BIG) - offset)
    expected = BIG[offset : offset + count]
    with FileSlice(opened(site).detach(), offset, count) as part:
        assert os.lseek(part.fileno(), 0, os.SEEK_CUR) == part.tell() == offset
        assert b"".join(iter(lambda: part.read(size), b"")) == expected
        part.seek(offset)
        assert part.read() == expected
        part.seek(offset)
        assert part.readall() == expected
        part.seek(offset)
        buffer = bytearray(size)
        got = part.readinto(buffer)
        assert buffer[:got] == expected[:size]
        assert part.read(None) == expected[got:]


def test_a_slice_does_not_use_the_position_of_the_descriptor(site: Path) -> None:
    """Which another process, forked from this one, may move."""
    with FileSlice(opened(site).detach(), 10, 100) as part:
        assert part.read(10) == BIG[10:20]
        os.lseek(part.fileno(), 5000, os.SEEK_SET)
        assert part.read() == BIG[20:110]


@pytest.mark.parametrize(
    ("wrapper", "offset", "count", "kind"),
    [
        (None, 0, len(BIG), Blocks),
        (Wrapper, 0, len(BIG), Wrapper),
        (Wrapper, 5, len(BIG) - 5, Blocks),  # might start at 0
        (Wrapper, 0, len(BIG) - 5, Blocks),  # might not stop
        (Gunicorn, 5, 100_000, Gunicorn),
        (Namesake, 5, 100_000, Blocks),
    ],
)
def test_who_gets_the_file(
    site: Path, wrapper: type[Wrapper] | None, offset: int, count: int, kind: type
) -> None:
    body = stream(opened(site), Slice(offset, offset + count), wrapper)
    assert type(body) is kind
    if isinstance(body, Wrapper):
        assert os.lseek(body.file.fileno(), 0, os.SEEK_CUR) == offset
        assert body.size == ONE_BLOCK
    assert drained(body) == BIG[offset : offset + count]


def test_blocks_have_64_KiB(site: Path) -> None:
    body = stream(opened(site), WHOLE, None)
    sizes = [len(block) for block in body]
    assert sizes == [65536, 65536, 65536, len(BIG) - 3 * 65536]
    assert isinstance(body, Blocks)
    body.close()
    body.close()


@pytest.mark.parametrize("wrapper", [None, Wrapper])
def test_a_file_that_grows_gives_what_was_promised(
    site: Path, wrapper: type[Wrapper] | None
) -> None:
    body = stream(opened(site), WHOLE, wrapper)
    with (site / "big.bin").open("ab") as file:
        file.write(b"more" * 100_000)
    assert drained(body) == BIG


@pytest.mark.parametrize("wrapper", [None, Wrapper])
def test_a_file_that_shrinks_breaks_the_answer(site: Path, wrapper: type[Wrapper] | None) -> None:
    body = stream(opened(site), WHOLE, wrapper)
    blocks = iter(body)
    assert len(next(blocks)) == ONE_BLOCK
    os.truncate(site / "big.bin", 100_000)
    assert len(next(blocks)) == 100_000 - ONE_BLOCK
    with pytest.raises(OSError, match="shorter"):
        next(blocks)
    body.close()  # type: ignore[attr-defined]


def test_a_file_that_is_replaced_is_sent_as_it_was(site: Path) -> None:
    body = stream(opened(site), WHOLE, None)
    (site / "new").write_bytes(b"new")
    os.replace(site / "new", site / "big.bin")
    assert drained(body) == BIG


def test_a_wrapper_that_fails_leaves_nothing_open(site: Path) -> None:
    def failing(file: FileSlice, size: int) -> Wrapper:
        raise RuntimeError

    before = len(os.listdir("/dev/fd"))
    with pytest.raises(RuntimeError):
        stream(opened(site), WHOLE, failing)
    assert len(os.listdir("/dev/fd")) == before


# -- shared files


@given(st.integers(0, len(BIG)), st.integers(0, 1000), st.integers(1, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_shared_slice_reads_as_the_bytes_do(
    site: Path, offset: int, count: int, size: int
) -> None:
    count = min(count, len(BIG) - offset)
    with opened(site) as file:
        os.lseek(file.fd, 17, os.SEEK_SET)
        part, other = SharedSlice(file, offset, count), SharedSlice(file, offset, count)
        assert (part.fileno(), part.tell()) == (file.fd, offset)
        assert b"".join(iter(lambda: part.read(size), b"")) == BIG[offset : offset + count]
        assert part.tell() == offset + count
        assert other.read() == BIG[offset : offset + count]
        assert os.lseek(file.fd, 0, os.SEEK_CUR) == 17  # nobody's position was moved


def test_a_shared_file_is_closed_with_its_last_reader(site: Path) -> None:
    file = opened(site)
    fd = file.fd
    first, second = SharedSlice(file, 0, 10), SharedSlice(file, 10, 10)
    del file
    first.close()
    first.close()
    assert second.read() == BIG[10:20]
    second.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_shared_slice_that_shrinks_breaks_the_answer(site: Path) -> None:
    with opened(site) as file:
        part = SharedSlice(file, 0, len(BIG))
        os.truncate(site / "big.bin", 100)
        assert part.read(ONE_BLOCK) == BIG[:100]
        with pytest.raises(OSError, match="shorter"):
            part.read(ONE_BLOCK)


def test_only_a_promise_makes_a_wrapper_positional() -> None:
    assert positional(Positional)
    assert not any(map(positional, (None, Wrapper, Gunicorn)))


def test_a_block_promises_nothing_by_itself() -> None:
    assert (Block([b"x"]).answered_by, Block([b"x"]).fresh_until) == (None, 0.0)


# -- several parts


PARTS = Multipart((Slice(100_000, 180_000), Slice(0, 5)), len(BIG), "text/plain", "frontier")


@pytest.mark.parametrize("in_memory", [True, False])
def test_parts(site: Path, in_memory: bool) -> None:
    body = Parts(PARTS, BIG if in_memory else opened(site))
    blocks = list(body)
    assert max(map(len, blocks)) == ONE_BLOCK
    assert sum(map(len, blocks)) == PARTS.length
    assert b"".join(blocks) == (
        b"--frontier\r\nContent-Type: text/plain\r\n"
        b"Content-Range: bytes 100000-179999/204800\r\n\r\n" + BIG[100_000:180_000] + b"\r\n"
        b"--frontier\r\nContent-Type: text/plain\r\n"
        b"Content-Range: bytes 0-4/204800\r\n\r\n" + BIG[:5] + b"\r\n--frontier--\r\n"
    )


@pytest.mark.parametrize("begun", [0, 2])
def test_parts_let_go_of_the_file(site: Path, begun: int) -> None:
    file = opened(site)
    fd = file.fd
    body = Parts(PARTS, file)
    del file
    for _ in range(begun):
        next(body)
    body.close()
    body.close()
    assert list(body) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_parts_of_a_file_that_shrinks_break_the_answer(site: Path) -> None:
    body = Parts(PARTS, opened(site))
    next(body)
    os.truncate(site / "big.bin", 100_001)
    with pytest.raises(OSError, match="shorter"):
        next(body)
    body.close()
