"""Bodies: slices of files, what a file wrapper gets, and files that shrink."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.beneath import OpenFile, open_beneath
from middleware.body import ONE_BLOCK, Blocks, FileSlice, read_at_once, stream

BIG = bytes(range(256)) * 800


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


class Honest(Wrapper):
    honours_content_length = True


def drained(body: Iterable[bytes]) -> bytes:
    try:
        return b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]


def test_read_at_once(site: Path) -> None:
    with opened(site) as file:
        assert read_at_once(file, 0, len(BIG)) == BIG
        assert read_at_once(file, 1000, 10) == BIG[1000:1010]
        assert read_at_once(file, 5, 0) == b""
        with pytest.raises(OSError, match="shorter"):
            read_at_once(file, len(BIG) - 5, 6)


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


@pytest.mark.parametrize(
    ("wrapper", "offset", "count", "kind"),
    [
        (None, 0, len(BIG), Blocks),
        (Wrapper, 0, len(BIG), Wrapper),
        (Wrapper, 5, len(BIG) - 5, Blocks),  # might start at 0
        (Wrapper, 0, len(BIG) - 5, Blocks),  # might not stop
        (Honest, 5, 100_000, Honest),
    ],
)
def test_who_gets_the_file(
    site: Path, wrapper: type[Wrapper] | None, offset: int, count: int, kind: type
) -> None:
    body = stream(opened(site), offset, count, wrapper)
    assert type(body) is kind
    if isinstance(body, Wrapper):
        assert os.lseek(body.file.fileno(), 0, os.SEEK_CUR) == offset
        assert body.size == ONE_BLOCK
    assert drained(body) == BIG[offset : offset + count]


def test_blocks_have_64_KiB(site: Path) -> None:
    body = stream(opened(site), 0, len(BIG), None)
    sizes = [len(block) for block in body]
    assert sizes == [65536, 65536, 65536, len(BIG) - 3 * 65536]
    assert isinstance(body, Blocks)
    body.close()
    body.close()


@pytest.mark.parametrize("wrapper", [None, Wrapper])
def test_a_file_that_grows_gives_what_was_promised(
    site: Path, wrapper: type[Wrapper] | None
) -> None:
    body = stream(opened(site), 0, len(BIG), wrapper)
    with (site / "big.bin").open("ab") as file:
        file.write(b"more" * 100_000)
    assert drained(body) == BIG


@pytest.mark.parametrize("wrapper", [None, Wrapper])
def test_a_file_that_shrinks_breaks_the_answer(site: Path, wrapper: type[Wrapper] | None) -> None:
    body = stream(opened(site), 0, len(BIG), wrapper)
    blocks = iter(body)
    assert len(next(blocks)) == ONE_BLOCK
    os.truncate(site / "big.bin", 100_000)
    assert len(next(blocks)) == 100_000 - ONE_BLOCK
    with pytest.raises(OSError, match="shorter"):
        next(blocks)
    body.close()  # type: ignore[attr-defined]


def test_a_file_that_is_replaced_is_sent_as_it_was(site: Path) -> None:
    body = stream(opened(site), 0, len(BIG), None)
    (site / "new").write_bytes(b"new")
    os.replace(site / "new", site / "big.bin")
    assert drained(body) == BIG
