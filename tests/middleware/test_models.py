"""The pure parts against slow, literal models of RFC 9110, with headers that are nearly valid.

The models read character by character and byte by byte, and share nothing with what they judge.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from fractions import Fraction
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware import conditional, negotiate, ranges
from middleware.conditional import Validators, evaluate, range_applies
from middleware.multipart import Multipart, part_cost
from middleware.negotiate import accepts_html, choose_coding, prefers_json
from middleware.ranges import MAX_RANGES, Slice, parse_range

T = TypeVar("T")
Text = st.SearchStrategy[str]

thoroughly = settings(max_examples=400, deadline=None)

TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
spaces = st.sampled_from(["", "", "", " ", "\t "])


def joined(*parts: Text) -> Text:
    return st.tuples(*parts).map("".join)


def either(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of the strategies, each as often as its number says; `|` takes all alike."""
    tickets = [strategy for times, strategy in choices for _ in range(times)]
    return st.sampled_from(tickets).flatmap(lambda strategy: strategy)


def spoiled(texts: Text, alphabet: str) -> Text:
    """The texts with one character changed, left out or put in."""

    def spoil(text: str, where: int, width: int, what: str) -> str:
        where %= len(text) + 1
        return text[:where] + what + text[where + width :]

    what = st.sampled_from(["", *alphabet])
    return st.builds(spoil, texts, st.integers(0, 99), st.integers(0, 1), what)


# -- Range (14.1, 14.2)

number = st.integers(0, 500).map(str)
span = st.tuples(st.integers(0, 500), st.integers(0, 20)).map(lambda p: f"{p[0]}-{sum(p)}")
open_span = number.map("{}-".format) | st.integers(0, 99).map("-{}".format)
odd_number = st.sampled_from(["", "007", str(2**63), "9" * 25]) | number
odd_span = joined(spaces, joined(odd_number, st.just("-"), odd_number), spaces) | st.just("")
few = st.lists(span, min_size=2, max_size=5)
many = st.lists(either((9, span), (1, open_span)), min_size=1, max_size=18)
good_ranges = (few | many).map(",".join).map("bytes={}".format)
odd_ranges = joined(
    st.sampled_from(["bytes=", "bytes=", "Bytes=", "bites="]),
    st.lists(either((2, span), (1, odd_span)), max_size=5).map(",".join),
)
range_header = either(
    (4, good_ranges),
    (1, odd_ranges),
    (1, spoiled(good_ranges | odd_ranges, "=-, \t_+x\u0661")),
)
sizes = either((4, st.integers(200, 520)), (1, st.integers(0, 20)))


def literal_ranges(value: str, size: int) -> list[set[int]] | None:
    """14.1.1 and 14.1.2: for each range-spec the bytes that it selects; None: not valid."""
    value = value.strip(" \t")
    unit, equals, rest = value.partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    if rest[:1] in (" ", "\t") and rest.split(",")[0].strip(" \t"):
        return None  # white space stands beside commas only (5.6.1.2)
    selected = []
    for element in rest.split(","):
        spec = element.strip(" \t")
        if not spec:
            continue
        if spec.count("-") != 1 or any(c not in "0123456789-" for c in spec):
            return None
        first, last = spec.split("-")
        if first and last and int(last) < int(first):
            return None
        if first:
            selected.append({n for n in range(size) if n >= int(first)})
            if last:
                selected[-1] = {n for n in selected[-1] if n <= int(last)}
        elif last:
            selected.append({n for n in range(size) if n >= size - int(last)})
        else:
            return None
    return selected or None


def content(part: Slice) -> set[int]:
    return set(range(part.start, part.stop))


def costs(parts: list[set[int]], cost: int) -> int:
    return sum(map(len, parts)) + (len(parts) + 1) * cost


@thoroughly
@given(range_header, sizes, st.integers(0, 30) | st.integers(30, 150))
def test_ranges(value: str, size: int, cost: int) -> None:
    asked = literal_ranges(value, size)
    got = parse_range(value, size, cost)
    if asked is None or size == 0 or len(asked) > MAX_RANGES:
        assert got is None
        return
    satisfiable = [bytes_ for bytes_ in asked if bytes_]
    if not satisfiable:
        assert got == ()
        return
    if got is None:
        # Only if no way to put the ranges together is cheaper than the whole.
        assert costs(filled(satisfiable, cost), cost) >= size
        return
    parts = [content(part) for part in got]
    wanted, sent = set[int]().union(*satisfiable), set[int]().union(*parts)
    assert wanted <= sent <= set(range(size))
    assert sum(map(len, parts)) == len(sent) <= size, "no byte is sent twice"
    assert len(parts) == 1 or costs(parts, cost) < size
    # What is sent without having been asked for lies in gaps that are cheaper than a part.
    assert all(len(gap) < cost for gap in runs(sent - wanted))
    # What lies between two parts is not.
    assert all(
        len(gap) >= max(cost, 1) for gap in runs(set(range(size)) - sent) if inner(gap, sent)
    )
    # In the order asked: each part where the first range stood that is in it.
    order = [min(n for n, b in enumerate(satisfiable) if b <= part) for part in parts]
    assert order == sorted(order)


def runs(numbers: set[int]) -> list[set[int]]:
    """The numbers in groups without a hole."""
    groups: list[set[int]] = []
    for n in sorted(numbers):
        if groups and n - 1 in groups[-1]:
            groups[-1].add(n)
        else:
            groups.append({n})
    return groups


def inner(gap: set[int], sent: set[int]) -> bool:
    return min(gap) - 1 in sent and max(gap) + 1 in sent


def filled(parts: list[set[int]], cost: int) -> list[set[int]]:
    """The bytes of the parts as runs, with the gaps below `cost` filled."""
    sent = set[int]().union(*parts)
    every = set(range(min(sent), max(sent)))
    return runs(sent.union(*(gap for gap in runs(every - sent) if len(gap) < cost)))


@thoroughly
@given(st.text(alphabet="bytes=0123456789-, \t+_x\u0661", max_size=40), st.integers(0, 50))
def test_any_text_gives_slices_inside_the_file(value: str, size: int) -> None:
    for piece in parse_range(value, size) or ():
        assert 0 <= piece.start < piece.stop <= size


# -- multipart/byteranges (14.6)


def read_strictly(body: bytes, content_type: str) -> list[tuple[list[bytes], bytes]]:
    """RFC 2046 5.1.1 without preamble, padding and epilogue: (header lines, content) of parts."""
    media_type, _, boundary = content_type.partition("; boundary=")
    assert media_type == "multipart/byteranges"
    delimiter = b"--" + boundary.encode()
    assert body.startswith(delimiter + b"\r\n")
    assert body.endswith(b"\r\n" + delimiter + b"--\r\n")
    inside = body[len(delimiter) + 2 : -len(delimiter) - 6]
    parts = []
    for part in inside.split(b"\r\n" + delimiter + b"\r\n"):
        head, blank, data = part.partition(b"\r\n\r\n")
        assert blank
        assert delimiter not in part
        parts.append((head.split(b"\r\n"), data))
    return parts


pieces = st.tuples(st.integers(0, 299), st.integers(1, 300)).map(
    lambda p: Slice(p[0], min(300, sum(p)))
)
boundaries = st.none() | st.text(alphabet="bcdef0123456789'+_.", min_size=8, max_size=70)
# Content that looks like framing.
contents = st.binary(min_size=300, max_size=300) | st.text(
    "\r\n-a:", min_size=300, max_size=300
).map(str.encode)


@thoroughly
@given(st.lists(pieces, min_size=1, max_size=16), contents, boundaries)
def test_multipart_round_trip(parts: list[Slice], data: bytes, boundary: str | None) -> None:
    multipart = Multipart(parts, 300, "text/plain; charset=utf-8", boundary)
    body = b"".join(head + data[part.start : part.stop] for head, part in multipart.parts)
    body += multipart.tail
    assert len(body) == multipart.length
    assert read_strictly(body, multipart.content_type) == [
        (
            [
                b"Content-Type: text/plain; charset=utf-8",
                b"Content-Range: bytes %d-%d/300" % (part.start, part.stop - 1),
            ],
            data[part.start : part.stop],
        )
        for part in parts
    ]


@thoroughly
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 999)), min_size=2, max_size=16),
    st.integers(1, 10**6),
    st.none() | st.text(string.ascii_letters, min_size=1, max_size=99),
)
def test_several_parts_are_shorter_than_the_whole(
    spans: list[tuple[int, int]], size: int, media_type: str | None
) -> None:
    value = "bytes=" + ",".join(f"{first}-{first + more}" for first, more in spans)
    slices = parse_range(value, size, part_cost(size, media_type))
    if slices and len(slices) > 1:
        assert Multipart(slices, size, media_type).length < size


# -- preconditions (13.2.2) and If-Range (13.1.5)

MOMENT = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT
tag = st.sampled_from(['"a"', '"a"', 'W/"a"', 'W/"a"', '"b"', '""', '"x,y"', '"\xe9"'])
tag_list = st.lists(joined(spaces, tag | st.just(""), spaces), max_size=4).map(",".join)
some_tags = either(
    (2, tag), (2, tag_list), (2, spoiled(tag_list, '"W/*, a\x7f')), (1, st.just("*"))
)
date = st.integers(MOMENT - 1, MOMENT + 1).map(lambda seconds: formatdate(seconds, usegmt=True))
some_date = either((3, date), (1, spoiled(date, "0 ,-")))
validators = st.builds(
    Validators,
    either((1, st.none()), (8, tag)),
    either((1, st.none()), (8, st.integers(MOMENT - 1, MOMENT + 1))),
)


def maybe(texts: Text) -> st.SearchStrategy[str | None]:
    return either((1, st.none()), (1, texts))


def literal_tags(value: str) -> list[str] | None:
    """8.8.3 and 5.6.1.2, character by character; None: not a list of entity tags."""
    found, rest = [], value
    while rest := rest.lstrip(" \t"):
        if not rest.startswith(","):
            tag = ""
            if rest.startswith("W/"):
                tag, rest = "W/", rest[2:]
            if not rest.startswith('"') or '"' not in rest[1:]:
                return None
            end = rest.index('"', 1) + 1
            tag, rest = tag + rest[:end], rest[end:].lstrip(" \t")
            if any(c < "\x21" or c == "\x7f" for c in tag):
                return None
            found.append(tag)
            if rest and not rest.startswith(","):
                return None
        rest = rest[1:]
    return found


MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def literal_date(value: str) -> int | None:
    """The first form of 5.6.7, word by word; the strategies make no other."""
    words = value.strip(" \t").split(" ")
    if len(words) != 6 or words[5] != "GMT" or words[2] not in MONTHS:
        return None
    clock = words[4].split(":")
    numbers = [words[3], words[1], *clock]
    if len(clock) != 3 or not all(n.isdecimal() and n.isascii() for n in numbers):
        return None
    if [len(n) for n in numbers] != [4, 2, 2, 2, 2]:
        return None
    if words[0] not in ("Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"):
        return None
    year, day, hour, minute, second = map(int, numbers)
    try:
        read = datetime(year, MONTHS.index(words[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return int(read.timestamp()) if year >= 1000 else None  # earlier ones are not supported


def strong_equal(one: str, other: str) -> bool:
    return one == other and not one.startswith("W/") and not other.startswith("W/")


def weak_equal(one: str, other: str) -> bool:
    return one.removeprefix("W/") == other.removeprefix("W/")


def in_list(value: str, etag: str | None, equal: Callable[[str, str], bool]) -> bool:
    """Whether If-Match or If-None-Match names the current representation, which exists."""
    if value.strip(" \t") == "*":
        return True
    return etag is not None and any(equal(etag, listed) for listed in literal_tags(value) or [])


@thoroughly
@given(
    st.sampled_from(["GET", "HEAD", "PUT"]),
    validators,
    maybe(some_tags),
    maybe(some_date),
    maybe(some_tags),
    maybe(some_date),
)
def test_the_steps_of_13_2_2(
    method: str,
    current: Validators,
    match: str | None,
    unmodified_since: str | None,
    none_match: str | None,
    modified_since: str | None,
) -> None:
    headers = {
        "HTTP_IF_MATCH": match,
        "HTTP_IF_UNMODIFIED_SINCE": unmodified_since,
        "HTTP_IF_NONE_MATCH": none_match,
        "HTTP_IF_MODIFIED_SINCE": modified_since,
    }
    modified, etag = current.last_modified, current.etag

    def steps() -> int:
        # 1 and 2
        if match is not None:
            if not in_list(match, etag, strong_equal):
                return 412
        elif unmodified_since is not None:
            given_date = literal_date(unmodified_since)
            if given_date is not None and modified is not None and not modified <= given_date:
                return 412
        # 3 and 4
        if none_match is not None:
            if in_list(none_match, etag, weak_equal):
                return 304 if method in ("GET", "HEAD") else 412
        elif method in ("GET", "HEAD") and modified_since is not None:
            given_date = literal_date(modified_since)
            if given_date is not None and modified is not None and modified <= given_date:
                return 304
        # 5 is If-Range, below; 6
        return 200

    sent = {name: value for name, value in headers.items() if value is not None}
    assert evaluate(method, sent, current) == steps()


@thoroughly
@given(either((1, st.none()), (9, some_tags), (9, some_date)), validators)
def test_if_range(value: str | None, current: Validators) -> None:
    def literal() -> bool:
        if value is None:
            return True
        sent = value.strip(" \t")
        if (seconds := literal_date(sent)) is not None:
            # A date is strong only if the representation cannot have changed within its second
            # (8.8.2.2), which a weak tag tells of.
            weak = current.etag is not None and current.etag.startswith("W/")
            return seconds == current.last_modified and not weak
        if current.etag is None or literal_tags(sent) != [sent]:
            return False  # no tag to compare with, or not one entity-tag
        return strong_equal(sent, current.etag)

    headers = {} if value is None else {"HTTP_IF_RANGE": value}
    assert range_applies(headers, current) == literal()


# -- Accept-Encoding (12.5.3) and Accept (12.5.1)

qvalue = st.sampled_from(["0", "0", "0.", "0.000", "1", "1.000", "0.5", "0.25", "0.001", "0.999"])
odd_qvalue = st.sampled_from(["0.1234", "1.001", "2", "00", ".5", "", "1e0", "nan"])
equals = joined(spaces, st.just(";"), spaces, st.sampled_from(["q=", "Q="]))
weight = st.one_of(st.just(""), joined(equals, qvalue), joined(equals, qvalue | odd_qvalue))
coding_name = st.sampled_from(["gzip", "gzip", "br", "x-gzip", "GZip", "zstd", "x-compress"])
other_name = st.sampled_from(["identity", "Identity", "*", "*"])
coding = joined(spaces, coding_name | other_name, weight, spaces)
codings = st.lists(coding, min_size=1, max_size=5).map(",".join)
encodings = either((1, st.none()), (9, codings), (9, spoiled(codings, ";,=q.019 x\t*")))
choices = st.permutations(["gzip", "br", "zstd", "compress"]).flatmap(
    lambda order: st.sampled_from([4, 3, 2, 1, 0]).map(lambda count: order[:count])
)


def literal_qvalue(text: str) -> Fraction | None:
    """12.4.2: ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )"""
    whole, _, digits = text.partition(".")
    if whole not in ("0", "1") or len(digits) > 3 or any(d not in "0123456789" for d in digits):
        return None
    if whole == "1" and digits.strip("0"):
        return None
    return Fraction(int(whole)) + Fraction(int(digits or "0"), 10 ** len(digits))


def literal_member(text: str) -> tuple[str, Fraction] | None:
    """codings [ OWS ";" OWS "q=" qvalue ], without case; None: it breaks the grammar."""
    name, semicolon, rest = text.strip(" \t").lower().partition(";")
    if semicolon:
        name, rest = name.rstrip(" \t"), rest.lstrip(" \t")
    if not name or set(name) - TOKEN or (semicolon and rest[:2] != "q="):
        return None
    quality = literal_qvalue(rest[2:]) if semicolon else Fraction(1)
    return None if quality is None else (name, quality)


def literal_score(coding: str, members: list[tuple[str, Fraction]]) -> Fraction:
    """How much the client wants a coding; 0: it does not accept it."""
    same = {"gzip": "x-gzip", "compress": "x-compress"}
    listed = [q for name, q in members if name in (coding, same.get(coding))]
    if listed:
        return max(listed)
    others = [q for name, q in members if name == "*"]
    if others:
        return max(others)
    # 12.5.3: what is not listed is not acceptable; identity is, but nothing says by how much, so
    # it comes behind the least that can be said of another.
    return Fraction(1, 10_000) if coding == "identity" else Fraction(0)


@thoroughly
@given(encodings, choices)
def test_codings(header: str | None, available: list[str]) -> None:
    members = [member for text in (header or "").split(",") if (member := literal_member(text))]
    scores = [(coding, literal_score(coding, members)) for coding in [*available, "identity"]]
    highest = max(score for _, score in scores)
    best = next(coding for coding, score in scores if score == highest)
    assert choose_coding(header, available) == (best if highest > 0 else None)


media = st.sampled_from(
    ["text/html", "Text/HTML", "application/xhtml+xml", "application/json", "image/png"]
) | st.sampled_from(["text/*", "application/*", "*/*"])
parameter = st.sampled_from(["", "", ";level=1", ' ; a="b,c;q=0"', ';a="\\""', ";", ";q2=0"])
accepted = joined(spaces, media, parameter, weight, parameter, spaces)
accepts = st.lists(accepted, min_size=1, max_size=5).map(",".join)
accept_header = either((1, st.none()), (9, accepts), (9, spoiled(accepts, ';,=q/ "\\1*')))


def cut(text: str, separator: str) -> list[str]:
    """Split at the separators that are not in a quoted string; an open one has no end."""
    pieces, quoted, position = [""], False, 0
    while position < len(text):
        char = text[position]
        if quoted and char == "\\" and position + 1 < len(text):
            pieces[-1] += text[position : position + 2]
            position += 2
            continue
        if char == '"':
            quoted = not quoted
        if char == separator and not quoted:
            pieces.append("")
        else:
            pieces[-1] += char
        position += 1
    return pieces


def is_string(text: str) -> bool:
    """quoted-string (5.6.4)"""
    return len(text) > 1 and text[0] == text[-1] == '"' and cut(text + ",", ",")[1:] == [""] and (
        '"' not in text[1:-1].replace("\\\\", "").replace('\\"', "")
    )  # fmt: skip


def literal_media(text: str) -> tuple[str, Fraction] | None:
    """media-range with parameters, of which at most one is a weight."""
    kind, *parameters = [piece.strip(" \t") for piece in cut(text, ";")]
    top, slash, sub = kind.partition("/")
    if not (top and slash and sub) or set(top + sub) - TOKEN:
        return None
    quality = []
    for item in parameters:
        name, equals, value = item.partition("=")
        if not item:
            continue  # 5.6.6 has them
        if not equals or not name or set(name) - TOKEN:
            return None
        if not is_string(value) and (not value or set(value) - TOKEN):
            return None
        if name.lower() == "q":
            quality.append(literal_qvalue(value))
    if len(quality) > 1 or None in quality:
        return None
    return kind.lower(), quality[0] if quality and quality[0] is not None else Fraction(1)


@thoroughly
@given(accept_header)
def test_accept(header: str | None) -> None:
    members = [member for text in cut(header or "", ",") if (member := literal_media(text))]

    def quality(*kinds: str) -> Fraction | None:
        return max((q for kind, q in members if kind in kinds), default=None)

    html = quality("text/html", "application/xhtml+xml")
    assert accepts_html(header) == (html is not None and html > 0)

    def preference(kind: str, group: str) -> tuple[Fraction, int]:
        for specificity, name in ((2, kind), (1, group), (0, "*/*")):
            if (found := quality(name)) is not None:
                return found, specificity
        return Fraction(0), 0

    json, page = preference("application/json", "application/*"), preference("text/html", "text/*")
    assert prefers_json(header) == (json[0] > 0 and json > page)


# -- time


@pytest.mark.parametrize(
    "pattern",
    [
        value
        for module in (conditional, negotiate, ranges)
        for value in vars(module).values()
        if isinstance(value, re.Pattern)
    ],
    ids=lambda pattern: str(pattern.pattern)[:20],
)
def test_every_repetition_is_possessive(pattern: re.Pattern[str]) -> None:
    """So that time is linear: no header makes `re` go back into what it has read."""
    plain = re.sub(r"\\.|\[[^\]]*+\]", "c", pattern.pattern)
    plain = re.sub(r"\{(\d)\}", "", plain)  # of a fixed length
    ends = [n for n, c in enumerate(plain) if c in "*+?}" and plain[n - 1] not in "(*+?}"]
    assert all(plain[n + 1 : n + 2] == "+" for n in ends), plain
