"""Content codings: siblings on disk, texts that are compressed once, and what goes with them."""

from __future__ import annotations

import gzip
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from middleware import StaticFiles, codings
from tests.support.behind import behind

Ask = Callable[..., Any]
OLD = 1_700_000_000
TEXT = b"a { color: red }\n" * 100
ALL = "gzip, deflate, br, zstd"


def put(path: Path, data: bytes, mtime_ns: int = OLD * 10**9) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def siblings(site: Path) -> Path:
    put(site / "t.css", TEXT)
    for coding, suffix in codings.SUFFIXES.items():
        put(site / f"t.css{suffix}", coding.encode() * 40)
    return site


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        (ALL, "br"),
        ("gzip, zstd", "zstd"),
        ("*", "br"),
        ("br;q=0, *", "zstd"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.001", "gzip"),
        ("x-gzip-foo", None),
        ("identity", None),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("deflate", None),
    ],
)
def test_siblings_by_negotiation(
    siblings: Path, ask: Ask, accept: str | None, coding: str | None
) -> None:
    request = {} if accept is None else {"HTTP_ACCEPT_ENCODING": accept}
    app = StaticFiles(siblings)
    for _ in range(2):
        reply = ask(app, "/t.css", **request)
        assert (reply.status, reply.headers.get("Content-Encoding")) == (200, coding)
        assert reply.body == (TEXT if coding is None else coding.encode() * 40)
        assert reply.headers["Content-Type"] == "text/css; charset=utf-8"
        assert reply.headers["Vary"] == "Accept-Encoding"
        assert reply.headers["Content-Length"] == str(len(reply.body))


def test_what_is_not_accepted_at_all_is_406(siblings: Path, ask: Ask) -> None:
    put(siblings / "plain.png", b"png")
    app = StaticFiles(siblings, cache_control="max-age=60", cors_origins="*")
    for path, accept in [
        ("/t.css", "identity;q=0"),
        ("/t.css", "*;q=0"),
        ("/t.css", "deflate, identity;q=0"),
        ("/plain.png", "gzip, identity;q=0"),
        ("/plain.png", "*;q=0"),
    ]:
        reply = ask(app, path, HTTP_ACCEPT_ENCODING=accept)
        assert (reply.status, reply.headers["Content-Type"]) == (406, "text/plain; charset=utf-8")
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Vary"] == "Accept-Encoding"
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Encoding" not in reply.headers
        assert ask(app, path, "HEAD", HTTP_ACCEPT_ENCODING=accept).headers == reply.headers
    assert ask(app, "/plain.png", HTTP_ACCEPT_ENCODING="gzip;q=0, identity").status == 200
    assert ask(app, "/t.css", HTTP_ACCEPT_ENCODING="*;q=0, gzip").status == 200


def test_every_variant_has_its_own_tag(siblings: Path, ask: Ask) -> None:
    app = StaticFiles(siblings, cache_control="max-age=60", cors_origins="*")
    tags = {}
    for coding in ("identity", "gzip", "br", "zstd"):
        request = {"HTTP_ACCEPT_ENCODING": coding}
        whole = ask(app, "/t.css", **request)
        etag = tags[coding] = whole.headers["ETag"]
        same = ask(app, "/t.css", HTTP_IF_NONE_MATCH=etag, **request)
        assert (same.status, same.body) == (304, b"")
        assert same.headers == {
            "ETag": etag,
            "Vary": "Accept-Encoding",
            "Cache-Control": "max-age=60",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": whole.headers["Access-Control-Expose-Headers"],
        }
        other = ask(app, "/t.css", HTTP_IF_MATCH='"x"', **request)
        assert (other.status, other.headers["ETag"]) == (412, etag)
        assert other.headers["Vary"] == "Accept-Encoding"
        assert "Content-Encoding" not in other.headers  # its text is not coded
    assert len(set(tags.values())) == 4
    assert (
        ask(app, "/t.css", HTTP_IF_NONE_MATCH=tags["br"], HTTP_ACCEPT_ENCODING="gzip").status == 200
    )
    assert ask(app, "/t.css", HTTP_IF_NONE_MATCH=tags["br"]).status == 200
    every = ", ".join(tags.values())
    assert ask(app, "/t.css", HTTP_IF_NONE_MATCH=every, HTTP_ACCEPT_ENCODING="br").status == 304


@pytest.mark.parametrize("size", [1000, 100_000])
def test_ranges_of_a_variant(site: Path, ask: Ask, size: int) -> None:
    coded = random.Random(1).randbytes(size)
    put(site / "t.css", TEXT * 100)
    put(site / "t.css.gz", coded)
    app = StaticFiles(site)
    request = {"HTTP_ACCEPT_ENCODING": "gzip"}
    etag = ask(app, "/t.css", **request).headers["ETag"]
    part = ask(app, "/t.css", HTTP_RANGE="bytes=10-899", HTTP_IF_RANGE=etag, **request)
    assert (part.status, part.body) == (206, coded[10:900])
    assert part.headers["Content-Range"] == f"bytes 10-899/{size}"
    assert part.headers["Content-Encoding"] == "gzip"
    assert part.headers["Vary"] == "Accept-Encoding"
    assert part.headers["ETag"] == etag
    # a range of one representation must never complete another
    other = ask(app, "/t.css", HTTP_RANGE="bytes=10-899", HTTP_IF_RANGE=etag)
    assert (other.status, other.body) == (200, TEXT * 100)
    beyond = ask(app, "/t.css", HTTP_RANGE=f"bytes={size}-", **request)
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert (beyond.headers["ETag"], beyond.headers["Vary"]) == (etag, "Accept-Encoding")
    assert "Content-Encoding" not in beyond.headers
    if size > 1000:
        parts = ask(app, "/t.css", HTTP_RANGE="bytes=0-9,50000-50009", **request)
        assert parts.status == 206
        assert parts.headers["Content-Encoding"] == "gzip"
        assert coded[:10] in parts.body
        assert coded[50_000:50_010] in parts.body
        assert int(parts.headers["Content-Length"]) == len(parts.body)


def test_head_of_a_variant(siblings: Path, ask: Ask) -> None:
    app = StaticFiles(siblings)
    for accept in (ALL, "gzip", "identity", "identity;q=0"):
        get = ask(app, "/t.css", HTTP_ACCEPT_ENCODING=accept)
        head = ask(app, "/t.css", "HEAD", HTTP_ACCEPT_ENCODING=accept)
        assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_a_sibling_is_served_as_a_file_too(siblings: Path, ask: Ask) -> None:
    reply = ask(StaticFiles(siblings), "/t.css.gz", HTTP_ACCEPT_ENCODING=ALL)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/gzip")
    assert "Content-Encoding" not in reply.headers


# -- siblings that do not count


def test_a_stale_sibling_is_named_once(
    site: Path, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    put(site / "t.css", TEXT)
    put(site / "t.css.gz", b"old", (OLD - 100) * 10**9)
    app = StaticFiles(site, compress=False)
    with caplog.at_level(logging.WARNING, "wsgiserver.static"):
        for i in range(3):
            app._site.clear()
            reply = ask(app, "/t.css", HTTP_ACCEPT_ENCODING="gzip", QUERY_STRING=str(i))
            assert (reply.status, reply.body) == (200, TEXT)
            assert "Vary" not in reply.headers
    (record,) = caplog.records
    assert record.getMessage() == (
        "'t.css.gz' is older than 't.css' and is not used; compress the file again"
    )


@pytest.mark.parametrize(
    ("source", "sibling", "used"),
    [
        (OLD * 10**9 + 123_456_789, OLD * 10**9 + 123_456_789, True),  # gzip -k, and ours
        (OLD * 10**9 + 123_456_789, OLD * 10**9 + 123_456_500, True),  # os.utime with floats
        (OLD * 10**9 + 123_456_789, OLD * 10**9, True),  # tar, brotli: whole seconds
        (OLD * 10**9 + 123_456_789, OLD * 10**9 + 123_000_000, False),
        (OLD * 10**9, (OLD - 1) * 10**9, False),
        (OLD * 10**9, OLD * 10**9 - 2000, False),
    ],
)
def test_times_that_were_cut_do_not_make_a_sibling_stale(
    site: Path, ask: Ask, source: int, sibling: int, used: bool
) -> None:
    put(site / "t.css", TEXT, source)
    put(site / "t.css.gz", b"coded", sibling)
    reply = ask(StaticFiles(site, compress=False), "/t.css", HTTP_ACCEPT_ENCODING="gzip")
    assert ("Content-Encoding" in reply.headers) is used


@pytest.mark.parametrize("kind", ["escape", "fifo", "directory", "dangling"])
def test_a_sibling_that_is_none(site: Path, ask: Ask, kind: str) -> None:
    """aiohttp CVE-2024-42367: the sibling was a link to the outside."""
    put(site / "t.css", TEXT)
    sibling = site / "t.css.gz"
    if kind == "escape":
        sibling.symlink_to("../outside.txt")
    elif kind == "fifo":
        os.mkfifo(sibling)
    elif kind == "directory":
        sibling.mkdir()
    else:
        sibling.symlink_to("nothing")
    reply = ask(StaticFiles(site, compress=False), "/t.css", HTTP_ACCEPT_ENCODING="gzip")
    assert (reply.status, reply.body) == (200, TEXT)
    assert "Content-Encoding" not in reply.headers


def test_a_sibling_without_its_source_is_nothing(site: Path, ask: Ask) -> None:
    put(site / "gone.css.gz", b"coded")
    assert (
        ask(StaticFiles(site, behind), "/gone.css", HTTP_ACCEPT_ENCODING="gzip").body == b"behind"
    )


def test_index_and_clean_url_have_siblings(site: Path, ask: Ask) -> None:
    put(site / "index.html.gz", b"coded index", (OLD + 1) * 10**9)
    put(site / "about.html", b"about")
    put(site / "about.html.gz", b"coded about")
    app = StaticFiles(site, clean_urls=True)
    for path, body in [("/", b"coded index"), ("/about", b"coded about")]:
        reply = ask(app, path, HTTP_ACCEPT_ENCODING="gzip")
        assert (reply.body, reply.headers["Content-Encoding"]) == (body, "gzip")
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"


# -- compressed here


def test_small_text_is_compressed_once_and_kept(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    encode = codings.encode

    def counted(data: bytes, coding: str, *, fast: bool = False) -> bytes:
        made.append(coding)
        return encode(data, coding, fast=fast)

    monkeypatch.setattr(codings, "encode", counted)
    put(site / "t.css", TEXT)
    app = StaticFiles(site)
    plain = ask(app, "/t.css")
    assert (plain.body, plain.headers["Vary"]) == (TEXT, "Accept-Encoding")
    replies = [ask(app, "/t.css", HTTP_ACCEPT_ENCODING="gzip") for _ in range(3)]
    assert made == ["gzip"]
    assert gzip.decompress(replies[0].body) == TEXT
    assert replies[0] == replies[1] == replies[2]
    assert replies[0].headers["ETag"] == plain.headers["ETag"][:-1] + '-gzip"'
    part = ask(app, "/t.css", HTTP_ACCEPT_ENCODING="gzip", HTTP_RANGE="bytes=2-3")
    assert part.body == replies[0].body[2:4]
    assert made == ["gzip"]
    again = StaticFiles(site)  # another process: the same bytes under the same tag
    assert ask(again, "/t.css", HTTP_ACCEPT_ENCODING="gzip") == replies[0]


def test_a_sibling_comes_before_what_is_compressed_here(site: Path, ask: Ask) -> None:
    put(site / "t.css", TEXT)
    put(site / "t.css.gz", b"sibling")
    app = StaticFiles(site)
    assert ask(app, "/t.css", HTTP_ACCEPT_ENCODING=ALL).body == b"sibling"
    other = next((name for name in codings.available() if name != "gzip"), None)
    if other is not None:
        reply = ask(app, "/t.css", HTTP_ACCEPT_ENCODING=other)
        assert reply.headers["Content-Encoding"] == other
        reply = ask(app, "/t.css", HTTP_ACCEPT_ENCODING=f"{other}, gzip;q=0.9")
        assert reply.headers["Content-Encoding"] == other


@pytest.mark.parametrize(
    ("name", "data", "compress"),
    [
        ("t.css", TEXT, False),
        ("t.css", b"short", True),
        ("t.png", TEXT, True),
        ("t.css", TEXT * 100, True),  # too large to be done while somebody waits
    ],
)
def test_what_is_not_compressed(
    site: Path, ask: Ask, name: str, data: bytes, compress: bool
) -> None:
    put(site / name, data)
    reply = ask(StaticFiles(site, compress=compress), f"/{name}", HTTP_ACCEPT_ENCODING=ALL)
    assert reply.body == data
    assert {"Content-Encoding", "Vary"}.isdisjoint(reply.headers)


def test_what_gains_nothing_is_sent_as_it_is(site: Path, ask: Ask) -> None:
    data = random.Random(2).randbytes(5000)
    put(site / "noise.txt", data)
    app = StaticFiles(site)
    for _ in range(2):
        reply = ask(app, "/noise.txt", HTTP_ACCEPT_ENCODING=ALL)
        assert (reply.body, reply.headers["Vary"]) == (data, "Accept-Encoding")
        assert "Content-Encoding" not in reply.headers
    refused = ask(app, "/noise.txt", HTTP_ACCEPT_ENCODING="gzip, identity;q=0")
    assert refused.status == 406


def test_only_gzip_where_the_packages_are_not_installed(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codings, "available", lambda: ("gzip",))
    put(site / "t.css", TEXT)
    app = StaticFiles(site)
    assert ask(app, "/t.css", HTTP_ACCEPT_ENCODING=ALL).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in ask(app, "/t.css", HTTP_ACCEPT_ENCODING="br").headers
