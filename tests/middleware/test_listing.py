"""Directory listings: what is shown, in which order, and that every name is only text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.listing import (
    CONTENT_SECURITY_POLICY,
    Entry,
    Listing,
    html_page,
    json_page,
    read_directory,
)
from middleware.resolve import judge

EVIL = (
    "<img src=x onerror=alert(0)>.txt",
    '"><script>',
    "javascript:alert(1)",
    "a&amp;b",
    "q?",
    "f#",
    "%A4",
    "x:y",
    "it's",
    " ",
    "-",
    "\u202egpj.exe",
)


def read(path: Path, **options: Any) -> Listing:
    """The directory through a descriptor, as it is served."""
    fd = os.open(path, os.O_RDONLY)
    try:
        listing = read_directory(fd, **options)
        os.fstat(fd)  # it is still open
    finally:
        os.close(fd)
    return listing


def names(listing: Listing) -> list[str]:
    return [entry.name for entry in listing.entries]


def test_directories_first_then_names_as_people_order_them(tmp_path: Path) -> None:
    for name in ("part 10", "part 2", "Part 1", "_x", "9", "10", "09", "README", "a"):
        (tmp_path / name).write_bytes(b"")
    for name in ("zoo", "Ants"):
        (tmp_path / name).mkdir()
    assert names(read(tmp_path)) == [
        *("Ants", "zoo"),
        *("09", "9", "10", "_x", "a", "Part 1", "part 2", "part 10", "README"),
    ]


def test_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    os.utime(tmp_path / "f", ns=(0, 1_700_000_000_999_999_999))
    os.utime(tmp_path, (5, 5))
    assert read(tmp_path).entries == (Entry("f", False, 5, 1_700_000_000),)
    assert read(tmp_path.parent).entries[0].directory


def test_what_is_hidden(tmp_path: Path) -> None:
    for name in (".env", ".well-known", "_headers", "_redirects", "shown"):
        (tmp_path / name).write_bytes(b"")
    assert names(read(tmp_path, top=True)) == ["shown"]
    assert names(read(tmp_path)) == ["_headers", "_redirects", "shown"]
    assert names(read(tmp_path, top=True, dotfiles=True)) == [".env", ".well-known", "shown"]


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes UTF-8 only")
def test_names_that_cannot_be_asked_for_are_left_out(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    for name in (b"\xe9", b"\xed\xa0\x80", b"a\nb", b"tab\t", b"\x7f", b"a\\b", b"c:", b"\xc3\xa9"):
        with open(os.path.join(top, name), "wb"):
            pass
    assert names(read(tmp_path)) == ["\xe9"]


def test_only_files_and_directories(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"")
    assert names(read(tmp_path, served=lambda name: True)) == ["file"]


def test_links_are_what_they_lead_to_if_that_is_served(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "to dir").symlink_to("dir")
    (tmp_path / "to file").symlink_to("file")
    (tmp_path / "broken").symlink_to("missing")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "outside").symlink_to("/etc/passwd")
    asked: list[str] = []

    def served(name: str) -> bool:
        asked.append(name)
        return name != "outside"

    listing = read(tmp_path, served=served)
    assert [(e.name, e.directory) for e in listing.entries] == [
        *(("dir", True), ("to dir", True), ("file", False), ("to file", False)),
    ]
    assert listing.entries[3].size == 3
    assert sorted(asked) == ["broken", "loop", "outside", "to dir", "to file"]
    assert names(read(tmp_path)) == ["dir", "file"]


def test_the_limit(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"f{i}").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    listing = read(tmp_path, limit=12)
    assert names(listing) == [f"f{i}" for i in range(12)]
    assert listing.left_out == 18
    assert "18 more are left out" in html_page(listing, "/").decode()
    whole = read(tmp_path, limit=30)
    assert (len(whole.entries), whole.left_out) == (30, 0)
    assert "left out" not in html_page(whole, "/").decode()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        read(tmp_path / "f")


def test_the_locale_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "\xe9\u65e5").write_bytes(b"")
    # As Python under a latin-1 locale: another text of the same bytes.
    monkeypatch.setattr("os.fsencode", lambda name: name.encode("utf-8", "surrogateescape"))
    assert names(read(tmp_path)) == ["\xe9\u65e5"]


class Parsed(HTMLParser):
    """The elements of a page, and the text of each row of the entries."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "bdi" and self.texts:
            self.texts[-1] += data


def page_of(*entries: str, path: str = "/d/") -> Parsed:
    listing = Listing(tuple(Entry(name, False, 1, 1) for name in entries))
    return Parsed(html_page(listing, path))


@settings(max_examples=50)
@given(st.one_of(st.sampled_from(EVIL), st.text(min_size=1, max_size=40)))
def test_any_name_is_only_text_and_its_link_leads_to_it(name: str) -> None:
    try:
        raw = name.encode()
    except UnicodeError:
        return
    if judge("/" + raw.decode("latin-1"), dotfiles=True) is None or "/" in name:
        return
    plain, page = page_of("x"), page_of(name)
    assert page.tags == plain.tags
    assert [key for key, _ in page.attributes] == [key for key, _ in plain.attributes]
    *_, link = page.links
    url = urlsplit(urljoin("http://host.example/d/", link))
    assert (url.scheme, url.netloc, url.query, url.fragment) == ("http", "host.example", "", "")
    assert unquote_to_bytes(url.path) == b"/d/" + raw


@pytest.mark.parametrize("name", EVIL)
def test_evil_names_in_the_path(name: str) -> None:
    plain, page = page_of("f", path="/x/y/"), page_of("f", path=f"/{name}/{name}/")
    assert page.tags == plain.tags
    assert page.links == plain.links == ["../../", "../", "../", "./f"]


@pytest.mark.parametrize("name", [name for name in EVIL if "\u202e" not in name])
def test_the_name_is_shown_as_it_is(name: str) -> None:
    assert page_of(name).texts[-1] == name


def test_a_name_cannot_pretend_another_ending() -> None:
    shown = page_of("\u202egpj.exe").texts[-1]
    assert shown == "\ufffdgpj.exe"


def test_breadcrumbs() -> None:
    deep = html_page(Listing(()), "/static/a/b c/", root="/static/").decode()
    assert re.findall(r'<a href="([^"]*)"><bdi>([^<]*)', deep) == [
        *(("../../", "/static/"), ("../", "a")),
    ]
    assert "<h1><bdi>b c</bdi></h1>" in deep
    top = html_page(Listing(()), "/static/", root="/static/").decode()
    assert "<a " not in top
    assert "<title>Index of /static/</title>" in top


def test_an_empty_directory_says_so() -> None:
    page = html_page(Listing(()), "/").decode()
    assert "There are no files here." in page
    assert "<table" not in page


def test_an_entry() -> None:
    listing = Listing((Entry("d", True, 4096, 0), Entry("f", False, 1_234_567, 1_700_000_000)))
    page = html_page(listing, "/").decode()
    assert '<a href="./d/"><bdi>d/</bdi></a></td><td></td>' in page
    assert '<data value="1234567" title="1,234,567 bytes">1.2 MiB</data>' in page
    assert '<time datetime="2023-11-14T22:13:20Z">2023-11-14<span> 22:13</span></time>' in page
    assert "1 directory, 1 file, 1.2 MiB." in page
    assert '<th scope="col" aria-sort="ascending">Name' in page


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10_188, "9.9 KiB"),
        (10_240, "10 KiB"),
        (1_048_063, "1023 KiB"),
        (1_048_065, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    page = html_page(Listing((Entry("f", False, size, 0),)), "/").decode()
    assert re.findall(r"bytes\">([^<]+)<", page) == [text]


@pytest.mark.parametrize(
    ("mtime", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (4_294_967_296, "2106-02-07T06:28:16Z"),
        (2**62, "9999-12-31T23:59:59Z"),
        (-(2**62), "0001-01-01T00:00:00Z"),
    ],
)
def test_times_at_the_edges(mtime: int, text: str) -> None:
    listing = Listing((Entry("f", False, 0, mtime),))
    assert json.loads(json_page(listing))[0]["mtime"] == text
    assert f'datetime="{text}"' in html_page(listing, "/").decode()


def test_json() -> None:
    listing = Listing((Entry("d", True, 4096, 0), Entry('"\u65e5</script>', False, 7, 1)))
    data = json_page(listing)
    assert json.loads(data) == [
        {"name": "d", "type": "directory", "mtime": "1970-01-01T00:00:00Z"},
        {"name": '"\u65e5</script>', "type": "file", "size": 7, "mtime": "1970-01-01T00:00:01Z"},
    ]
    assert data.count(b"\n") == 4
    assert json.loads(json_page(Listing(()))) == []


def test_the_policy_allows_exactly_the_page_s_own_style_and_script() -> None:
    page = html_page(Listing((Entry("f", False, 1, 1),)), "/").decode()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [inline] = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; ")
    markup = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\s(style|on\w+)=", markup)
    assert not re.search(r"https?:|//", unescape(markup))


def test_the_same_directory_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in EVIL:
        (tmp_path / name).write_bytes(b"")
    pages: list[Callable[[Listing], bytes]] = [json_page, lambda found: html_page(found, "/")]
    for page in pages:
        assert page(read(tmp_path)) == page(read(tmp_path))
