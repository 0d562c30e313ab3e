"""The decoders of a body: content, the bytes behind it, limits, and any cut of the stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import chunked
from wsgiserver.http.body import Chunked, Decoder, Sized
from wsgiserver.http.errors import BadRequest, ContentTooLarge, FieldsTooLarge, HTTPError


def decode(decoder: Decoder, *pieces: bytes) -> tuple[bytes, bytes | None]:
    """All content in the pieces, and what was behind the body in them; None if it did not end."""
    content, rest = b"", None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        found, rest = decoder.feed(piece)
        content += found
    return content, rest


def bytewise(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(marks) if begin < end]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_sized(length: int) -> None:
    for pieces in ([b"hello"], bytewise(b"hello"), [b"h", b"ello"]):
        assert decode(Sized(length), *pieces) == (b"hello"[:length], b"hello"[length:])


def test_sized_that_is_not_complete() -> None:
    assert decode(Sized(6), b"hel", b"lo") == (b"hello", None)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.lists(st.sampled_from(["X: y", "A:", "Content-Length: 3"]), max_size=2),
    st.binary(max_size=10),
    st.lists(st.integers(0, 1000), max_size=6),
)
def test_chunked_in_any_pieces(
    chunks: list[bytes], trailers: list[str], behind: bytes, places: list[int]
) -> None:
    data = chunked(*chunks, trailers=trailers) + behind
    wanted = (b"".join(chunks), behind)
    assert decode(Chunked(0), data) == wanted
    assert decode(Chunked(0), *cut(data, places)) == wanted
    assert decode(Chunked(0), *bytewise(data)) == wanted


def verdict(*pieces: bytes) -> tuple[bytes, bytes | None] | int:
    try:
        return decode(Chunked(64), *pieces)
    except HTTPError as error:
        return error.status


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"5", b"0", b"\r\n", b"\r", b"\n", b"hello", b";a=b", b';"', b" ", b"X: y"]
        )
        | st.sampled_from(
            [b"\0", b"G", b"FFFFFFFFFFFFFFFF", b"\r\n\r\n", b"1\r\nx\r\n", b"0\r\n\r\n"]
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_a_wrong_one_is_wrong_in_any_pieces(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    assert verdict(data) == verdict(*cut(data, places)) == verdict(*bytewise(data))


@pytest.mark.parametrize(
    "data", [b"5\r\nhello\r", b"5\r\nhel", b"5", b"5;a", b"0\r\n", b"0\r\nX: y\r\n"]
)
def test_chunked_that_is_not_complete(data: bytes) -> None:
    assert decode(Chunked(0), data)[1] is None
    assert decode(Chunked(0), *bytewise(data))[1] is None


def test_the_limit_is_of_the_content() -> None:
    assert decode(Chunked(5), chunked(b"he", b"llo")) == (b"hello", b"")
    with pytest.raises(ContentTooLarge):
        decode(Chunked(5), chunked(b"he", b"llo!"))


def test_a_chunk_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(ContentTooLarge):
        Chunked(5).feed(b"6\r\n")


def test_without_a_limit_any_size_may_be_announced() -> None:
    assert Chunked(0).feed(b"fffffffffffffff\r\nab") == (b"ab", None)


def test_a_chunk_line_of_the_longest_kind() -> None:
    line = b"5;" + b"a" * (4096 - 4)
    assert len(line + b"\r\n") == 4096
    data = line + b"\r\nhello\r\n0\r\n\r\n"
    assert decode(Chunked(0), data) == decode(Chunked(0), *bytewise(data)) == (b"hello", b"")
    longer = b"5;" + b"a" * (4096 - 3) + b"\r\nhello\r\n0\r\n\r\n"
    for pieces in ([longer], bytewise(longer)):
        with pytest.raises(BadRequest):
            decode(Chunked(0), *pieces)


def test_a_chunk_line_that_does_not_end() -> None:
    with pytest.raises(BadRequest):
        decode(Chunked(0), b"5;" + b"a" * 4095)


def test_extensions_that_outweigh_the_content() -> None:
    """CVE-2023-39326: a little content in chunks with much around it."""
    with pytest.raises(BadRequest):
        decode(Chunked(0), (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 1000)


def test_many_small_chunks_are_no_attack() -> None:
    content, rest = decode(Chunked(0), b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
    assert (len(content), rest) == (20_000, b"")


def test_the_longest_trailer_section() -> None:
    """8192 bytes of field lines, the empty line behind them not counted, however they come."""
    lines = b"X: " + b"a" * (8192 - 3)
    data = b"0\r\n" + lines + b"\r\n\r\n"
    for pieces in ([data], [data[:-1], data[-1:]], [data[:-3], data[-3:]]):
        assert decode(Chunked(0), *pieces) == (b"", b"")
    longer = b"0\r\nX: " + b"a" * (8192 - 2) + b"\r\n\r\n"
    for pieces in ([longer], [longer[:-1], longer[-1:]]):
        with pytest.raises(FieldsTooLarge):
            decode(Chunked(0), *pieces)
