"""Range header -> slices: a table, and a slow literal model of RFC 9110 14.1 and 14.2."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.ranges import MAX_RANGES, Slice, parse_range

IGNORED = None
UNSATISFIABLE: list[tuple[int, int]] = []


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
        ("bytes=0-" + "9" * 5000, 100, [(0, 100)]),
        ("BYTES=0-0", 100, [(0, 1)]),
        (" bytes=0-0\t", 100, [(0, 1)]),
        ("bytes=0-0,2-2", 100, [(0, 1), (2, 3)]),
        ("bytes=2-2 , 0-0", 100, [(2, 3), (0, 1)]),
        ("bytes=,0-0,,\t,5-6,", 100, [(0, 1), (5, 7)]),
        ("bytes=0-0,100-,-0", 100, [(0, 1)]),
        # CVE-2017-7529: two suffixes whose sum wraps 2^63
        ("bytes=-705,-9223372036854775103", 100, [(0, 100), (0, 100)]),
        # nothing of it can be satisfied
        ("bytes=100-", 100, UNSATISFIABLE),
        ("bytes=100-200,300-", 100, UNSATISFIABLE),
        ("bytes=-0", 100, UNSATISFIABLE),
        ("bytes=" + "9" * 60_000 + "-", 100, UNSATISFIABLE),
        # malformed, another unit, or no bytes to name
        ("", 100, IGNORED),
        ("bytes", 100, IGNORED),
        ("bytes=", 100, IGNORED),
        ("bytes=,", 100, IGNORED),
        ("bytes=-", 100, IGNORED),
        ("bytes=--5", 100, IGNORED),
        ("bytes=5-4", 100, IGNORED),
        ("bytes=0-0,5-4", 100, IGNORED),
        ("bytes=" + "9" * 30 + "-" + "9" * 29, 100, IGNORED),
        ("bytes=a-b", 100, IGNORED),
        ("bytes=0x1-5", 100, IGNORED),
        ("bytes=+1-2", 100, IGNORED),
        ("bytes=1_0-2_0", 100, IGNORED),
        ("bytes=\u0661-\u0662", 100, IGNORED),
        ("bytes=0 - 1", 100, IGNORED),
        ("bytes= 0-1", 100, IGNORED),
        ("bytes =0-1", 100, IGNORED),
        ("bytes=0-1-2", 100, IGNORED),
        ("bytes=0-1;2-3", 100, IGNORED),
        ("bytes=0-1\n", 100, IGNORED),
        ("items=0-1", 100, IGNORED),
        ("bytes=0-", 0, IGNORED),
        ("bytes=-5", 0, IGNORED),
        ("bytes=" + ",".join(["0-0"] * MAX_RANGES), 100, [(0, 1)] * MAX_RANGES),
        ("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), 100, IGNORED),
        # CVE-2011-3192
        ("bytes=0-," + ",".join(f"5-{n}" for n in range(1300)), 100, IGNORED),
    ],
)
def test_table(value: str, size: int, expected: list[tuple[int, int]] | None) -> None:
    got = parse_range(value, size)
    assert got == (None if expected is None else tuple(Slice(*pair) for pair in expected))


def test_content_range_counts_inclusively() -> None:
    assert Slice(10, 20).content_range(100) == "bytes 10-19/100"
    assert Slice(10, 20).length == 10


@pytest.mark.parametrize(
    "value",
    [
        "bytes=" + "0" * 60_000,
        "bytes=" + "0" * 60_000 + "-",
        "bytes=" + "0-0," * 15_000,
        "bytes=" + "," * 60_000,
        "bytes=" + " " * 60_000 + "x",
        "bytes=0-0" + " " * 60_000 + "x",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 20_000, 2)),
        "x" * 60_000,
        "bytes=-" + "1" * 60_000,
    ],
)
def test_60_kB_cost_less_than_10_ms(value: str) -> None:
    best = 1.0
    for _ in range(3):  # the best of three: the machine may be busy with something else
        begin = time.perf_counter()
        parse_range(value, 1000)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.010


def literal(value: str, size: int) -> tuple[Slice, ...] | None:
    """RFC 9110 14.1.1, 14.1.2 and 14.2 by character and by byte position, without cleverness."""
    unit, equals, range_set = value.partition("=")
    if not equals or unit.lower() != "bytes" or size == 0:
        return None
    if range_set[:1] in (" ", "\t"):
        first_element = range_set.split(",")[0]
        if first_element.strip(" \t"):
            return None
    slices, count = [], 0
    for element in range_set.split(","):
        spec = element.strip(" \t")
        if not spec:
            continue
        count += 1
        if spec.count("-") != 1 or any(c not in "0123456789-" for c in spec):
            return None
        first, last = spec.split("-")
        if first and last and int(last) < int(first):
            return None
        if first:
            wanted = [n for n in range(size) if n >= int(first) and (not last or n <= int(last))]
        elif last:
            wanted = [n for n in range(size) if n >= size - int(last)]
        else:
            return None
        if wanted:
            slices.append(Slice(wanted[0], wanted[-1] + 1))
    return tuple(slices) if 0 < count <= MAX_RANGES else None


number = st.one_of(st.just(""), st.integers(0, 30).map(str), st.sampled_from(["007", "9" * 25]))
spec = st.one_of(
    st.tuples(number, number).map("-".join),
    st.sampled_from(["", " ", "x", "--1", "1", "1-2-3", "+1-2"]),
)
spaced = st.tuples(st.sampled_from(["", " ", "\t "]), spec, st.sampled_from(["", " "])).map("".join)
header = st.tuples(
    st.sampled_from(["bytes=", "bytes=", "bytes=", "Bytes=", "bites=", "bytes", "bytes:"]),
    st.lists(spaced, max_size=20).map(",".join),
).map(lambda pair: "".join(pair).strip(" \t"))


@given(header, st.integers(0, 25))
def test_equals_the_literal_model(value: str, size: int) -> None:
    assert parse_range(value, size) == literal(value, size)


@given(st.text(alphabet="bytes=0123456789-, \t+_x\u0661", max_size=40), st.integers(0, 50))
def test_any_text_gives_slices_inside_the_file(value: str, size: int) -> None:
    for piece in parse_range(value, size) or ():
        assert 0 <= piece.start < piece.stop <= size
