"""Request lines and field lines: what tests/cases cannot say because it needs numbers or calls."""

from __future__ import annotations

import pytest

from wsgiserver.http import framing, head
from wsgiserver.http.errors import BadRequest, FieldsTooLarge, HTTPError, URITooLong

LIMIT = 100


def fields(block: bytes, most: int = 100, longest: int = 8190) -> head.Fields:
    return head.parse_fields(block, most, longest)


@pytest.mark.parametrize("over", [False, True])
def test_the_limit_of_the_request_line_is_its_bytes_without_CRLF(over: bool) -> None:
    target = b"/" + b"a" * (LIMIT - len(b"GET / HTTP/1.1") + over)
    line = b"GET " + target + b" HTTP/1.1"
    if over:
        with pytest.raises(URITooLong):
            head.parse_request_line(line, LIMIT)
    else:
        assert head.parse_request_line(line, LIMIT).path == target.decode()


def test_too_long_is_said_before_what_is_wrong_with_it() -> None:
    with pytest.raises(URITooLong):
        head.parse_request_line(b"\0" * (LIMIT + 1), LIMIT)


def test_the_number_of_fields() -> None:
    assert len(fields(b"A: 1\r\nB: 2\r\nB: 3\r\n", most=3).environ) == 2
    with pytest.raises(FieldsTooLarge):
        fields(b"A: 1\r\nB: 2\r\nB: 3\r\n", most=2)


def test_the_size_of_a_field_is_that_of_its_line() -> None:
    assert fields(b"A: 12345\r\nB: 2\r\n", longest=8).environ["HTTP_A"] == "12345"
    with pytest.raises(FieldsTooLarge):
        fields(b"B: 2\r\nA: 123456\r\n", longest=8)


def test_a_long_field_with_a_fault_is_too_long() -> None:
    with pytest.raises(FieldsTooLarge):
        fields(b"A: 1234567\0\r\n", longest=8)


def test_more_names_than_are_remembered() -> None:
    """The memory of names is bounded, and a name is understood whether it is in there or not."""
    for number in range(3000):
        name = f"X-Invented-{number}"
        expected = {f"HTTP_X_INVENTED_{number}": "v"}
        assert fields(f"{name}: v\r\n".encode()).environ == expected
    assert len(head._keys) <= head._MOST_KEYS
    for name in ("Content-Length", "CONTENT-type", "hOsT", "X_A", "Proxy", "x" * 4000):
        twice = [fields(f"{name}: 1\r\n".encode()) for _ in range(2)]
        assert twice[0].environ == twice[1].environ
        assert twice[0].dropped == twice[1].dropped


def test_dropped_names_are_told_as_they_came() -> None:
    assert fields(b"X_a: 1\r\nPROXY: 2\r\nY: 3\r\nX_a: 4\r\n").dropped == ("X_a", "PROXY", "X_a")


@pytest.mark.parametrize(
    ("value", "close", "keep_alive"),
    [
        ("close", True, False),
        ("Close", True, False),
        ("keep-alive,close", True, True),
        ("a,\tclose ,b", True, False),
        ("close;a", False, False),
        ("x-close", False, False),
        ("", False, False),
        (",,", False, False),
        ("KEEP-ALIVE", False, True),
    ],
)
def test_connection_options(value: str, close: bool, keep_alive: bool) -> None:
    found = fields(f"Connection: {value}\r\n".encode())
    assert (found.close, found.keep_alive) == (close, keep_alive)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (b"X: a\r\n b\r\n", "folded"),
        (b" X: a\r\n", "folded"),
        (b"X : a\r\n", "name: value"),
        (b"Content-Length: 1\r\ncontent-length: 1\r\n", "repeated"),
    ],
)
def test_what_is_said_of_a_wrong_field(block: bytes, text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        fields(block)


@pytest.mark.parametrize(
    ("start", "since"),
    [
        (b"\x16\x03\x01", 0),
        (b"\x80", 0),
        (b"(", 0),
        (b" ", 0),
        (b"GET /\n", 0),
        (b"GET /\n", 5),
        (b"GET /\r\nHost: a\r\nX\x00", 16),
        (b"GET / HTTP/1.1\rH", 15),
    ],
)
def test_what_cannot_become_a_head_is_refused_early(start: bytes, since: int) -> None:
    with pytest.raises(HTTPError):
        head.check_beginning(start, since)


@pytest.mark.parametrize(
    "start", [b"G", b"GET /", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"\r"]
)
def test_what_may_become_a_head_is_waited_for(start: bytes) -> None:
    head.check_beginning(start, 0)


@pytest.mark.parametrize(
    ("minor", "connection", "keeps"),
    [
        (1, None, True),
        (1, "close", False),
        (1, "keep-alive", True),
        (0, None, False),
        (0, "keep-alive", True),
        (0, "keep-alive, close", False),
    ],
)
def test_keep_alive(minor: int, connection: str | None, keeps: bool) -> None:
    block = b"" if connection is None else f"Connection: {connection}\r\n".encode()
    assert framing.keep_alive(minor, fields(block)) is keeps
