"""Accept-Encoding and Accept: tables from RFC 9110 12.5.1, 12.5.3 and from browsers."""

from __future__ import annotations

import pytest

from middleware import negotiate
from middleware.negotiate import accepts_html, choose_coding, prefers_json

ALL = ("br", "zstd", "gzip")
CHROMIUM = "gzip, deflate, br, zstd"
PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("header", "available", "expected"),
    [
        # who does not ask
        (None, ALL, "identity"),
        ("", ALL, "identity"),
        (" ", ALL, "identity"),
        (",,", ALL, "identity"),
        # as sent by browsers and tools
        (CHROMIUM, ALL, "br"),
        (CHROMIUM, ("zstd", "gzip"), "zstd"),
        (CHROMIUM, ("gzip",), "gzip"),
        (CHROMIUM, (), "identity"),
        ("gzip, deflate", ALL, "gzip"),
        ("identity", ALL, "identity"),
        ("gzip;q=1.0, deflate;q=0.6, identity;q=0.3", ALL, "gzip"),  # nginx's and wget's
        # the examples of 12.5.3
        ("compress, gzip", ALL, "gzip"),
        ("*", ALL, "br"),
        ("compress;q=0.5, gzip;q=1.0", ("compress", "gzip"), "gzip"),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", ALL, "gzip"),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", ("br",), "identity"),
        # weights; of equals the server's first
        ("br;q=0.5, gzip;q=0.6", ALL, "gzip"),
        ("gzip;q=0.5, br;q=0.5", ALL, "br"),
        ("br;q=0.001, gzip;q=0.002", ALL, "gzip"),
        ("br;q=1.000, gzip;q=1.", ALL, "br"),
        ("gzip;q=0.001", ALL, "gzip"),
        ("gzip\t ;\tq=0.5", ALL, "gzip"),
        ("gzip;Q=0.5", ALL, "gzip"),
        # refused
        ("gzip;q=0", ALL, "identity"),
        ("gzip;q=0.000", ALL, "identity"),
        ("br;q=0, *", ALL, "zstd"),
        ("identity;q=0", ALL, None),
        ("identity;q=0, gzip", ALL, "gzip"),
        ("identity;q=0, gzip", ("br",), None),
        ("identity;q=0, gzip;q=0", ALL, None),
        ("identity;q=0, *", ALL, "br"),
        ("identity;q=0, *", (), None),
        ("*;q=0", ALL, None),
        ("*;q=0, gzip", ALL, "gzip"),
        ("*;q=0, gzip", ("br",), None),
        ("*;q=0, identity", ALL, "identity"),
        # identity by its weight
        ("identity;q=1, gzip;q=0.5", ALL, "identity"),
        ("identity;q=0.5, gzip;q=0.4, br;q=0.6", ALL, "br"),
        ("identity;q=0.5, gzip;q=0.5", ALL, "gzip"),
        ("gzip;q=0.5, *;q=0.7", ("gzip",), "identity"),
        ("gzip;q=0.5, *;q=0.7", ALL, "br"),
        # names
        ("GZip", ALL, "gzip"),
        ("x-gzip", ALL, "gzip"),
        ("X-GZIP;q=0", ALL, "identity"),
        ("x-compress", ("compress",), "compress"),
        ("x-br", ALL, "identity"),
        ("x-gzip-foo", ALL, "identity"),
        ("xgzip, gzi, gzipp", ALL, "identity"),
        # twice: the higher
        ("gzip;q=0, gzip", ALL, "gzip"),
        ("gzip, x-gzip;q=0", ALL, "gzip"),
        # what breaks the grammar is not there
        ("gzip;q=1.001", ALL, "identity"),
        ("gzip;q=0.1234", ALL, "identity"),
        ("gzip;q=.5", ALL, "identity"),
        ("gzip;q=2", ALL, "identity"),
        ("gzip;q=-1", ALL, "identity"),
        ("gzip;q=1e0", ALL, "identity"),
        ("gzip;q=nan", ALL, "identity"),
        ("gzip;q=\u0661", ALL, "identity"),
        ("gzip;q=", ALL, "identity"),
        ("gzip;q", ALL, "identity"),
        ("gzip;", ALL, "identity"),
        ("gzip; q = 1", ALL, "identity"),
        ('gzip;q="1"', ALL, "identity"),
        ("gzip;level=9", ALL, "identity"),
        ("gzip br", ALL, "identity"),
        ("gzip\n", ALL, "identity"),
        ("identity;q=00", ALL, "identity"),
        ("gzip;q=x, br", ALL, "br"),
        ("@, br;q=0.1, gzip;;q=1", ALL, "br"),
    ],
)
def test_choose_coding(header: str | None, available: tuple[str, ...], expected: str) -> None:
    assert choose_coding(header, available) == expected


def test_a_list_of_codings_will_do() -> None:
    assert choose_coding("gzip", ["gzip"]) == "gzip"


def test_the_usual_header_is_read_once() -> None:
    before = negotiate._choose_cached.cache_info()
    header = "gzip, deflate, br;q=0.125"
    assert {choose_coding(header, ALL) for _ in range(5)} == {"gzip"}
    after = negotiate._choose_cached.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 4)


def test_strangers_fill_no_memory() -> None:
    negotiate._choose_cached.cache_clear()
    for n in range(1000):
        assert choose_coding(f"gzip, x{n}", ALL) == "gzip"
    kept = negotiate._choose_cached.cache_info()
    assert kept.currsize == kept.maxsize == 256
    assert choose_coding("gzip," + "x" * 600, ALL) == "gzip"
    assert negotiate._choose_cached.cache_info() == kept


@pytest.mark.parametrize(
    ("accept", "html", "json"),
    [
        (None, False, False),
        ("", False, False),
        ("*/*", False, False),
        ("text/*", False, False),
        # browsers: a page, an image, a style sheet; fetch(), curl, axios, htmx
        (PAGE, True, False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True, False),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", False, False),
        ("text/css,*/*;q=0.1", False, False),
        ("application/json, text/plain, */*", False, True),
        ("text/html, */*", True, False),
        # each alone
        ("text/html", True, False),
        ("TEXT/Html", True, False),
        ("application/xhtml+xml", True, False),
        ("application/json", False, True),
        ("application/*", False, True),
        ("application/json;charset=utf-8", False, True),
        ("text/html;level=1", True, False),
        # weights
        ("text/html;q=0", False, False),
        ("text/html;q=0.001", True, False),
        ("text/html;q=0, application/xhtml+xml", True, False),
        ("application/json;q=0", False, False),
        ("application/json;q=0.9, text/html;q=0.8", True, True),
        ("application/json;q=0.8, text/html;q=0.9", True, False),
        ("application/json, text/html", True, False),
        ("application/json;q=0.5, */*;q=0.5", False, True),
        ("application/json;q=0.5, */*", False, False),
        ("application/json, text/html;q=0.5, */*;q=0.1", True, True),
        ("text/html;q=0, */*;q=0.1", False, True),
        ("application/*, text/*", False, False),
        ("application/json;q=0, application/*, text/*;q=0.1", False, False),
        ("text/html ;\tq=0.5 , application/json\t", True, True),
        # a weight among other parameters, in any order
        ("text/html;level=1;q=0, application/json", False, True),
        ("text/html;q=0;level=1, application/json", False, True),
        ("text/html;;q=0", False, False),
        # commas and weights in quotes
        ('application/x;t=", text/html"', False, False),
        ('application/x;t="\\", text/html"', False, False),
        ('application/json;t="a,b;q=0"', False, True),
        # what breaks the grammar is not there
        ("text/html;q=2", False, False),
        ("text/html;q=0.1234", False, False),
        ("text/html;q=1;q=1", False, False),
        ('text/html;q="1"', False, False),
        ("text/html;q = 1", False, False),
        ("text/html/x", False, False),
        ("text", False, False),
        ("text/html text/html", False, False),
        ('a/b;t=", text/html', False, False),
        ("@/@;;=, text/html", True, False),
    ],
)
def test_accept(accept: str | None, html: bool, json: bool) -> None:
    assert (accepts_html(accept), prefers_json(accept)) == (html, json)


@pytest.mark.parametrize(
    "text", ["gzip;q=0.1,", ",", " ", "a/b;", "a/b;c=", '"', '\\"', 'a/b;c="\\', "a/b;c=d;q=1,"]
)
def test_60_kB_of_anything_are_read(text: str) -> None:
    header = text * (60_000 // len(text))
    assert choose_coding(header, ("br",)) == "identity"
    assert not accepts_html(header)
    assert not prefers_json(header)
