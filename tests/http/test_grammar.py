"""The grammar: each expression against its rule as a set of characters, and against the clock."""

from __future__ import annotations

import re
from time import process_time

import pytest

from tests.http.twin import ALPHA, DIGIT, TCHAR
from wsgiserver.http import grammar

ALL = [bytes((number,)) for number in range(256)]


def taken(expression: re.Pattern[bytes], form: bytes = b"%b") -> set[bytes]:
    return {byte for byte in ALL if expression.fullmatch(form % byte)}


def test_token_characters() -> None:
    assert taken(grammar.TOKEN) == {character.encode() for character in TCHAR}


def test_field_value_characters() -> None:
    controls = {byte for byte in ALL if byte < b" " or byte == b"\x7f"} - {b"\t"}
    assert taken(grammar.FIELDS, b"X:a%bb\r\n") == set(ALL) - controls


def test_target_characters() -> None:
    visible = {byte for byte in ALL if b"!" <= byte <= b"~"}
    assert taken(grammar.REQUEST_LINE, b"GET /a%bb HTTP/1.1") == visible - {b'"', b"<", b">", b"#"}


def test_what_no_head_may_contain() -> None:
    found = {byte for byte in ALL if grammar.IMPOSSIBLE.search(b"a%bb" % byte)}
    assert found == {byte for byte in ALL if byte < b" " or byte == b"\x7f"} - {b"\t"}


@pytest.mark.parametrize("data", [b"\r\n", b"a\r\n", b"a\r\nb\r\n\r\n", b"a\r", b""])
def test_what_a_head_may_still_become(data: bytes) -> None:
    assert not grammar.IMPOSSIBLE.search(data)


@pytest.mark.parametrize("data", [b"\n", b"a\nb", b"\r\n\n", b"\r\r", b"a\rb", b"\r\n\rb"])
def test_bare_CR_and_LF(data: bytes) -> None:
    assert grammar.IMPOSSIBLE.search(data)


@pytest.mark.parametrize("since", range(4))
def test_a_CRLF_cut_by_the_place_where_the_search_begins_is_whole(since: int) -> None:
    assert not grammar.IMPOSSIBLE.search(b"a\r\nb", since)


def test_chunk_size_digits() -> None:
    hexadecimal = {character.encode() for character in DIGIT + "abcdefABCDEF"}
    assert taken(grammar.CHUNK_LINE, b"%b\r\n") == hexadecimal


def test_status_codes() -> None:
    codes = {f"{code:03}" for code in range(1000) if grammar.STATUS.fullmatch(f"{code:03} x")}
    assert codes == {str(code) for code in range(200, 1000)}


def test_content_length_takes_ASCII_digits_only() -> None:
    assert {c for c in map(chr, range(0x10000)) if grammar.CONTENT_LENGTH.fullmatch(c)} == set(
        DIGIT
    )


def test_host_characters() -> None:
    taken = {chr(n) for n in range(256) if grammar.HOST.fullmatch(f"a{chr(n)}b")}
    assert taken == set(ALPHA + DIGIT + "-._~!$&'()*+,;=")


HOSTILE = [
    (grammar.FIELDS, b"X: " + b"\x10" * 65536 + b"\r\n"),
    (grammar.FIELDS, b"X: " + b" " * 65536 + b"\x10\r\n"),
    (grammar.FIELDS, b"a:\r\n" * 16384 + b"\x10"),
    (grammar.FIELDS, b"a" * 65536),
    (grammar.REQUEST_LINE, b"a" * 65536),
    (grammar.REQUEST_LINE, b"GET " + b"/" * 65536 + b"\x10"),
    (grammar.REQUEST_LINE, b"GET " + b"a" * 65536 + b" HTTP/1.x"),
    (grammar.OTHER_VERSION, b"GET " + b"a" * 65536 + b" HTTP/1.x"),
    (grammar.IMPOSSIBLE, b"\r\n" * 32768),
    (grammar.EMPTY_LINES, b"\r\n" * 32768 + b"\r"),
    (grammar.CHUNK_LINE, b"1" + b";a" * 32768 + b"\x10"),
    (grammar.CHUNK_LINE, b"1;a=" + b" " * 65536 + b"\x10"),
    (grammar.CHUNK_LINE, b"1" + b" " * 65536),
    (grammar.CHUNK_LINE, b'1;a="' + b"\\a" * 32768),
    (grammar.CHUNK_LINE, b'1;a="' + b"a" * 65536),
    (grammar.CHUNK_LINE, b"1" + b"; \t" * 20000),
    (grammar.HOST, "a" * 65536 + "\x10"),
    (grammar.HOST, "%41" * 20000),
    (grammar.HOST, "[" + ":" * 65536),
    (grammar.ABSOLUTE, "http://" + "/" * 65536 + "\n"),
    (grammar.FIELD, ":" * 65536),
    (grammar.FIELD_VALUE, " " * 65536 + "\x10"),
    (grammar.STATUS, "200 " + " " * 65536 + "\x10"),
]


@pytest.mark.parametrize(("expression", "text"), HOSTILE)
def test_no_backtracking(expression: re.Pattern[str], text: str) -> None:
    """64 KiB of what would make a careless expression try again and again (CVE-2020-5236)."""
    began = process_time()
    expression.fullmatch(text)
    expression.match(text)
    expression.search(text[:4096])  # search begins anew at each place: quadratic by its nature
    assert process_time() - began < 5  # backtracking would take minutes
