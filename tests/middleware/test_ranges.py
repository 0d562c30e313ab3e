"""Range header -> slices: tables; a literal model is in test_models.py."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from middleware.ranges import MAX_LENGTH, MAX_RANGES, PART_COST, Slice, parse_range

IGNORED = None
UNSATISFIABLE: list[tuple[int, int]] = []


def slices(pairs: list[tuple[int, int]] | None) -> tuple[Slice, ...] | None:
    return None if pairs is None else tuple(Slice(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        ("bytes=0-0", 100, [(0, 1)]),
        ("bytes=99-99", 100, [(99, 100)]),
        ("bytes=0-99", 100, [(0, 100)]),
        ("bytes=0-", 100, [(0, 100)]),
        ("bytes=50-", 100, [(50, 100)]),
        ("bytes=-1", 100, [(99, 100)]),
        ("bytes=-100", 100, [(0, 100)]),
        ("bytes=-101", 100, [(0, 100)]),
        ("bytes=10-1000", 100, [(10, 100)]),
        ("bytes=000-0009", 100, [(0, 10)]),
        ("bytes=0-18446744073709551615", 100, [(0, 100)]),  # MS15-034
        (f"bytes={2**63}-{2**63 + 1}", 2**64, [(2**63, 2**63 + 2)]),
        ("bytes=0-" + "9" * 2000, 100, [(0, 100)]),
        ("bytes=-" + "9" * 2000, 100, [(0, 100)]),
        ("BYTES=0-0", 100, [(0, 1)]),
        (" bytes=0-0\t", 100, [(0, 1)]),
        ("bytes=0-0,100-,-0", 100, [(0, 1)]),
        # nothing of it can be satisfied
        ("bytes=100-", 100, UNSATISFIABLE),
        ("bytes=100-200,300-", 100, UNSATISFIABLE),
        ("bytes=-0", 100, UNSATISFIABLE),
        ("bytes=-000", 100, UNSATISFIABLE),
        ("bytes=" + "9" * 2000 + "-", 100, UNSATISFIABLE),
        # malformed, another unit, or no bytes to name
        ("", 100, IGNORED),
        ("bytes", 100, IGNORED),
        ("bytes=", 100, IGNORED),
        ("bytes=,", 100, IGNORED),
        ("bytes=-", 100, IGNORED),
        ("bytes=--5", 100, IGNORED),
        ("bytes=5-4", 100, IGNORED),
        ("bytes=0-0,5-4", 100, IGNORED),
        ("bytes=500-400", 100, IGNORED),  # invalid comes before unsatisfiable
        ("bytes=" + "9" * 30 + "-" + "9" * 29, 100, IGNORED),
        ("bytes=a-b", 100, IGNORED),
        ("bytes=0x1-5", 100, IGNORED),
        ("bytes=+1-2", 100, IGNORED),
        ("bytes=1_0-2_0", 100, IGNORED),
        ("bytes=\u0661-\u0662", 100, IGNORED),
        ("bytes=\xb2-\xb3", 100, IGNORED),
        ("bytes=0 - 1", 100, IGNORED),
        ("bytes= 0-1", 100, IGNORED),
        ("bytes =0-1", 100, IGNORED),
        ("bytes=0-1-2", 100, IGNORED),
        ("bytes=0-1;2-3", 100, IGNORED),
        ("bytes=0-1\n", 100, IGNORED),
        ("items=0-1", 100, IGNORED),
        ("bytes=0-", 0, IGNORED),
        ("bytes=-5", 0, IGNORED),
        ("bytes=5-", 0, IGNORED),
        # as many as are allowed, and one more
        ("bytes=" + ",".join(["0-0"] * MAX_RANGES), 100, [(0, 1)]),
        ("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), 100, IGNORED),
        ("bytes=" + ",".join(["500-"] * (MAX_RANGES + 1)), 100, IGNORED),
        ("bytes=0-0" + "," * (MAX_LENGTH - 9), 100, [(0, 1)]),
        ("bytes=0-0" + "," * (MAX_LENGTH - 8), 100, IGNORED),
        ("bytes=0-," + ",".join(f"5-{n}" for n in range(5, 1300)), 2000, IGNORED),  # CVE-2011-3192
    ],
)
def test_one_range_or_none(value: str, size: int, expected: list[tuple[int, int]] | None) -> None:
    assert parse_range(value, size) == slices(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # apart: in the order asked, also where that is not ascending
        ("0-0,500-500", [(0, 1), (500, 501)]),
        ("-10,0-9", [(990, 1000), (0, 10)]),
        ("500-509 , 300-309\t,\t0-9", [(500, 510), (300, 310), (0, 10)]),
        (",0-0,,\t,500-506,", [(0, 1), (500, 507)]),
        # the same, within another, overlapping, touching
        ("5-9,5-9", [(5, 10)]),
        ("0-99,10-19", [(0, 100)]),
        ("10-19,0-99", [(0, 100)]),
        ("0-9,5-14", [(0, 15)]),
        ("10-19,0-9", [(0, 20)]),
        # CVE-2017-7529: two suffixes whose sum wraps 2^63
        ("-705,-9223372036854775103", [(0, 1000)]),
        # a gap that is cheaper to send than a part is to begin
        (f"0-9,{10 + PART_COST - 1}-150", [(0, 151)]),
        (f"0-9,{10 + PART_COST}-150", [(0, 10), (10 + PART_COST, 151)]),
        # one that bridges two others; the first of the three says where they stand
        ("200-209,600-609,0-199", [(0, 210), (600, 610)]),
        ("0-9,600-609,5-14", [(0, 15), (600, 610)]),
        ("600-609,300-309,200-209,210-299", [(600, 610), (200, 310)]),
        # the parts and what is between them cost as much as the whole
        (f"0-499,{500 + 3 * PART_COST}-", IGNORED),
        (f"0-499,{500 + 3 * PART_COST + 1}-", [(0, 500), (741, 1000)]),
        ("0-399,500-", IGNORED),
        (",".join(f"{n}-{n}" for n in range(0, 1000, 81)), IGNORED),
        # ... unless one slice is all of it: that is no more than the whole
        ("500-,0-499", [(0, 1000)]),
    ],
)
def test_several_ranges(value: str, expected: list[tuple[int, int]] | None) -> None:
    assert parse_range(f"bytes={value}", 1000) == slices(expected)


def test_the_cost_of_a_part_is_the_callers() -> None:
    asked = "bytes=0-9,20-29"
    assert parse_range(asked, 1000, 0) == (Slice(0, 10), Slice(20, 30))
    assert parse_range(asked, 1000, 10) == (Slice(0, 10), Slice(20, 30))
    assert parse_range(asked, 1000, 11) == (Slice(0, 30),)
    assert parse_range("bytes=0-9,990-999", 1000, 300) == (Slice(0, 10), Slice(990, 1000))
    assert parse_range("bytes=0-9,990-999", 1000, 327) is None


def test_content_range_counts_inclusively() -> None:
    assert Slice(10, 20).content_range(100) == "bytes 10-19/100"
    assert Slice(10, 20).length == 10


HOSTILE = [
    "0" * 60_000,
    "0" * 60_000 + "-",
    "0-0," * 15_000,
    "," * 60_000,
    " " * 60_000 + "x",
    "0-0" + " " * 60_000 + "x",
    ",".join(f"{n}-{n}" for n in range(0, 20_000, 2)),
    "-" + "1" * 60_000,
    "-".join("1" * 30_000),
]


def calls(value: str) -> int:
    """How many functions, those in C too, are called to judge the header."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        parse_range(value, 1000)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("range_set", HOSTILE)
def test_a_header_of_60_kB_is_refused_before_it_is_read(range_set: str) -> None:
    value = f"bytes={range_set}"
    assert parse_range(value, 1000) is None
    assert calls(value) < 10
    # What is short enough to be read is cut up, but no more than that is done with each piece.
    assert calls(value[:MAX_LENGTH]) < 3 * MAX_LENGTH
