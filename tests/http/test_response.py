"""An application's status and headers on their way out: what is sent, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgiserver.http.response import ResponseError, ResponseHead, field_lines


def head(*headers: tuple[str, str], status: str = "200 OK", server: str = "") -> ResponseHead:
    return ResponseHead(status, headers, server)


def test_the_bytes_of_a_head() -> None:
    found = head(("A-b", "c"), ("X", "\xe4"), ("A-b", "d"), server="s")
    assert found.prefix == b"HTTP/1.1 200 OK\r\nA-b: c\r\nX: \xe4\r\nA-b: d\r\nServer: s\r\n"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("404 Not Found", b"HTTP/1.1 404 Not Found\r\n"),
        ("200", b"HTTP/1.1 200 \r\n"),
        ("200 ", b"HTTP/1.1 200 \r\n"),
        ("299 \xe4\t!", b"HTTP/1.1 299 \xe4\t!\r\n"),
    ],
)
def test_status_lines(status: str, line: bytes) -> None:
    assert head(status=status).prefix == line
    assert head(status=status).code == int(status[:3])


@pytest.mark.parametrize(
    "status",
    [
        *(
            "",
            "OK",
            "20 OK",
            "2000 OK",
            "200OK",
            "100 Continue",
            "101 Switching Protocols",
            "000 x",
        ),
        *("200 OK\r\nX: y", "200 OK\n", "200 \0", "200 \u20ac", " 200 OK", "+20 OK", "\xb200 OK"),
        *(b"200 OK", 200, None),
    ],
)
def test_wrong_statuses(status: Any) -> None:
    with pytest.raises(ResponseError, match="status"):
        head(status=status)


@pytest.mark.parametrize(
    "name", ["", "A b", "A:", "A\r\nB", "A\n", "\xc4", "A\0", " A", "A ", "(A)", b"A", None, 1]
)
def test_wrong_names(name: Any) -> None:
    with pytest.raises(ResponseError, match="header") as caught:
        head((name, "x"))
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "value", ["a\r\nB: c", "a\nb", "a\rb", "\0", "\x1b", "\x7f", "\u20ac", b"a", None, 1]
)
def test_wrong_values_are_told_by_the_name_of_their_header(value: Any) -> None:
    with pytest.raises(ResponseError, match="'X-Name'"):
        head(("X-Name", value))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_whatever_an_application_says_there_is_no_further_line(
    reason: str, name: str, value: str
) -> None:
    try:
        prefix = head((name, value), status=f"200 {reason}").prefix
    except ResponseError:
        return
    assert prefix.endswith(b"\r\n")
    lines = prefix[:-2].split(b"\r\n")
    assert len(lines) <= 2
    assert not any(control in line for line in lines for control in (b"\r", b"\n", b"\0"))


@pytest.mark.parametrize(
    "value", ["", "+5", "-1", "5.0", "0x5", "5 ", " 5", "1_0", "\u0665", "5, 5"]
)
def test_wrong_lengths(value: str) -> None:
    with pytest.raises(ResponseError):
        head(("Content-Length", value))


def test_two_lengths() -> None:
    with pytest.raises(ResponseError, match="twice"):
        head(("Content-Length", "5"), ("content-length", "5"))


def test_what_belongs_to_the_connection_is_left_out() -> None:
    names = ["Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Trailer", "TE"]
    names += ["Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection"]
    found = head(("A", "b"), *[(name, "x") for name in names])
    assert found.prefix == b"HTTP/1.1 200 OK\r\nA: b\r\n"
    assert found.dropped == tuple(names)
    assert not found.close


@pytest.mark.parametrize(
    ("value", "closes"), [("close", True), ("Close", True), ("keep-alive", False)]
)
def test_close_is_obeyed(value: str, closes: bool) -> None:
    assert head(("Connection", value)).close is closes


@pytest.mark.parametrize("value", ["x-close", "not-close, closed"])
def test_what_only_contains_close_does_not_close(value: str) -> None:
    assert not head(("Connection", value)).close


def test_own_date_and_server() -> None:
    found = head(("date", "d"), ("SERVER", "mine"), server="ours")
    assert found.dated
    assert b"ours" not in found.prefix
    assert not head().dated


@pytest.mark.parametrize(
    ("status", "sent"), [("204 x", False), ("205 x", False), ("304 x", True), ("200 x", True)]
)
def test_length_where_there_is_no_content(status: str, sent: bool) -> None:
    """RFC 9110 §8.6: not in a 204; in a 304 it is that of the 200."""
    assert (b"Content-Length" in head(("Content-Length", "5"), status=status).prefix) is sent


def test_interim_fields() -> None:
    assert field_lines([("Link", "</a>"), ("X", "y")]) == b"Link: </a>\r\nX: y\r\n"


@pytest.mark.parametrize(
    "pair", [("X\r\n", "y"), ("X", "y\nz"), ("Content-Length", "5"), ("Connection", "close")]
)
def test_wrong_interim_fields(pair: tuple[str, str]) -> None:
    with pytest.raises(ResponseError):
        field_lines([pair])
