"""Who delimits what, request and response (RFC 9112 §6.3, §9.3; RFC 9110 §10.1.1)."""

from __future__ import annotations

import pytest

from wsgiserver.http import framing
from wsgiserver.http.body import Chunked, Sized
from wsgiserver.http.errors import ContentTooLarge, ExpectationFailed, HTTPError
from wsgiserver.http.head import Fields


def fields(**environ: str) -> Fields:
    return Fields(environ, ())


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, None),
        ({"CONTENT_LENGTH": "0"}, None),
        ({"CONTENT_LENGTH": "00"}, None),
        ({"CONTENT_LENGTH": "7"}, Sized),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, Chunked),
        ({"HTTP_TRANSFER_ENCODING": "Chunked"}, Chunked),
    ],
)
def test_request_body(environ: dict[str, str], kind: type | None) -> None:
    decoder = framing.request_body(1, fields(**environ), 0)
    assert decoder is None if kind is None else isinstance(decoder, kind)


def test_the_limit_of_a_body() -> None:
    assert framing.request_body(1, fields(CONTENT_LENGTH="10"), 10) is not None
    with pytest.raises(ContentTooLarge):
        framing.request_body(1, fields(CONTENT_LENGTH="11"), 10)
    assert framing.request_body(1, fields(CONTENT_LENGTH="9" * 19), 0) is not None


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        ("gzip", 400),
        ("identity", 400),
        ("", 400),
        ("chunked,", 400),
        ("chunked, gzip", 400),
        ("chunked, chunked", 400),
        ("chunked,gzip,chunked", 400),
        ("xchunked", 400),
        ("chunked ;a", 400),
        ("\x0bchunked", 400),
        ("\xa0chunked", 400),
        ("gzip, chunked", 501),
        ("identity,chunked", 501),
    ],
)
def test_codings(coding: str, status: int) -> None:
    with pytest.raises(HTTPError) as caught:
        framing.request_body(1, fields(HTTP_TRANSFER_ENCODING=coding), 0)
    assert caught.value.status == status


def test_continue_is_expected_by_1_1_only() -> None:
    expects = fields(HTTP_EXPECT="100-Continue")
    assert framing.expects_continue(1, expects)
    assert not framing.expects_continue(0, expects)
    assert not framing.expects_continue(1, fields())
    assert not framing.expects_continue(0, fields(HTTP_EXPECT="x"))
    with pytest.raises(ExpectationFailed):
        framing.expects_continue(1, fields(HTTP_EXPECT="100-continue, x"))


LENGTH, CHUNKED, CLOSE = b"Content-Length: 7\r\n", framing.CHUNKED, framing.CLOSE
KEEP = framing.KEEP_ALIVE


@pytest.mark.parametrize(
    ("minor", "status", "length", "declared", "keep", "result"),
    [
        (1, 200, 0, False, True, (b"Content-Length: 0\r\n", False, True)),
        (1, 200, 7, False, True, (LENGTH, False, True)),
        (1, 200, 7, True, True, (b"", False, True)),
        (1, 200, 7, False, False, (LENGTH + CLOSE, False, False)),
        (1, 200, None, False, True, (CHUNKED, True, True)),
        (1, 200, None, False, False, (CHUNKED + CLOSE, True, False)),
        (0, 200, 7, False, True, (LENGTH + KEEP, False, True)),
        (0, 200, 7, True, False, (CLOSE, False, False)),
        (0, 200, None, False, True, (CLOSE, False, False)),  # only the end can delimit it
        (1, 204, 0, False, True, (b"", False, True)),  # RFC 9110 §8.6: MUST NOT
        (1, 204, None, False, True, (b"", False, True)),
        (1, 304, None, False, True, (b"", False, True)),
        (1, 304, 7, True, True, (b"", False, True)),
        (1, 205, None, False, True, (b"Content-Length: 0\r\n", False, True)),
        (0, 204, None, False, True, (KEEP, False, True)),
    ],
)
def test_response_fields(
    minor: int,
    status: int,
    length: int | None,
    declared: bool,
    keep: bool,
    result: tuple[bytes, bool, bool],
) -> None:
    assert framing.response_fields(minor, status, length, declared, keep, False) == result


@pytest.mark.parametrize(
    ("minor", "length", "declared", "lines"),
    [
        (1, 7, False, LENGTH),
        (1, 7, True, b""),
        (1, 0, True, b""),
        (1, 0, False, b""),  # RFC 9110 §8.6: what GET would have is not known
        (1, None, False, b""),
        (0, None, False, KEEP),
    ],
)
def test_response_fields_for_HEAD(
    minor: int, length: int | None, declared: bool, lines: bytes
) -> None:
    assert framing.response_fields(minor, 200, length, declared, True, True) == (lines, False, True)


def test_what_has_no_content() -> None:
    assert {code for code in range(200, 600) if not framing.has_body(code)} == {204, 205, 304}
