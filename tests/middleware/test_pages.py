"""What answers for a path that is not just a file's: index, clean URLs, fallback, 404, listing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from middleware import StaticFiles
from middleware.site import MAX_AGE
from tests.support.behind import behind

Ask = Callable[..., Any]
HTML = "text/html; charset=utf-8"
NAVIGATION = {"HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8"}


# -- index


def test_another_index(site: Path, ask: Ask) -> None:
    app = StaticFiles(site, index="b.txt")
    assert ask(app, "/bare/").body == b"b"
    assert ask(app, "/bare").status == 301
    assert ask(app, "/sub/").status == 404
    none = StaticFiles(site, index=None)
    assert [ask(none, path).status for path in ("/", "/sub", "/sub/", "/a.txt")] == [404] * 3 + [
        200
    ]


@pytest.mark.parametrize("kind", ["directory", "fifo", "escape"])
def test_an_index_that_is_none(site: Path, ask: Ask, kind: str) -> None:
    index = site / "bare" / "index.html"
    if kind == "directory":
        index.mkdir()
    elif kind == "fifo":
        os.mkfifo(index)
    else:
        index.symlink_to("../../outside.txt")
    for app in (StaticFiles(site), StaticFiles(site, clean_urls=True)):
        assert [ask(app, path).status for path in ("/bare", "/bare/")] == [404, 404]


def test_a_redirect_to_a_directory_is_not_believed_for_long(site: Path, ask: Ask) -> None:
    reply = ask(StaticFiles(site), "/sub")
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


# -- clean URLs: the table of slorber's trailing-slash-guide, as GitHub Pages answers


@pytest.mark.parametrize(
    ("path", "clean", "status", "body"),
    [
        ("/file", True, 200, b"file.html"),
        ("/file", False, 404, None),
        ("/file/", True, 404, None),
        ("/file.html", True, 200, b"file.html"),
        ("/folder", True, 301, None),
        ("/folder/", True, 200, b"folder/index.html"),
        ("/folder/index.html", True, 200, b"folder/index.html"),
        ("/folder/index", True, 200, b"folder/index.html"),
        ("/both", True, 200, b"both.html"),
        ("/both", False, 301, None),
        ("/both/", True, 200, b"both/index.html"),
        ("/both.html", True, 200, b"both.html"),
        ("/a.txt", True, 200, None),
        ("/a", True, 404, None),
        ("/.well-known", True, 404, None),
        ("/.hidden", True, 404, None),
        ("/_headers", True, 404, None),
        ("/sub/.htpasswd", True, 404, None),
        ("/escape", True, 404, None),
        ("/file%00", True, 404, None),
        ("/file.html/", True, 404, None),
        ("/caf%C3%A9", True, 200, b"caf\xc3\xa9.html"),
    ],
)
def test_clean_urls(
    site: Path, ask: Ask, path: str, clean: bool, status: int, body: bytes | None
) -> None:
    for name in ("file.html", "folder/index.html", "both.html", "both/index.html", "café.html"):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(name, "utf-8")
    (site / "_headers.html").write_text("x")
    (site / ".hidden.html").write_text("x")
    (site / "escape.html").symlink_to("../outside.txt")
    reply = ask(StaticFiles(site, clean_urls=clean), path)
    assert reply.status == status
    if body is not None:
        assert (reply.body, reply.headers["Content-Type"]) == (body, HTML)


# -- fallback


def test_fallback_answers_navigations_only(site: Path, ask: Ask) -> None:
    home = (site / "index.html").read_bytes()
    app = StaticFiles(site, behind, fallback="index.html")
    alone = StaticFiles(site, fallback="/index.html")
    for path in ("/deep/link", "/deep/link/", "/bare"):
        reply = ask(app, path, **NAVIGATION)
        assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, home, HTML)
        assert reply.headers["Cache-Control"] == "no-cache"
        assert "Accept" in reply.headers["Vary"]  # another client gets another answer
        assert ask(app, path, "HEAD", **NAVIGATION).headers == reply.headers
    for path, accept in [
        ("/missing.js", NAVIGATION["HTTP_ACCEPT"]),
        ("/v1.2", NAVIGATION["HTTP_ACCEPT"]),
        ("/deep/link", "*/*"),
        ("/deep/link", "application/json"),
        ("/deep/link", "text/html;q=0"),
    ]:
        assert ask(app, path, HTTP_ACCEPT=accept).body == b"behind"
        assert ask(alone, path, HTTP_ACCEPT=accept).status == 404
        said = ask(alone, path, HTTP_ACCEPT=accept).headers.get("Vary", "")
        assert ("Accept" in said.split(", ")) is ("." not in path)
    assert ask(app, "/deep/link").body == b"behind"
    assert ask(app, "/deep/link", "POST", **NAVIGATION).body == b"behind"
    assert ask(alone, "/deep/link", "POST", **NAVIGATION).status == 404
    assert "Vary" not in ask(alone, "/", **NAVIGATION).headers


def test_fallback_is_a_page_like_any_other(site: Path, ask: Ask) -> None:
    app = StaticFiles(site, fallback="index.html")
    etag = ask(app, "/").headers["ETag"]
    reply = ask(app, "/deep/link", HTTP_IF_NONE_MATCH=etag, **NAVIGATION)
    assert (reply.status, reply.headers["ETag"]) == (304, etag)
    assert reply.headers["Vary"] == "Accept"


def test_fallback_with_a_name_beyond_ascii(site: Path, ask: Ask) -> None:
    (site / "app é.html").write_bytes(b"app")
    assert ask(StaticFiles(site, fallback="app é.html"), "/x", **NAVIGATION).body == b"app"


def test_fallback_that_is_gone(site: Path, ask: Ask, clock: list[float]) -> None:
    app = StaticFiles(site, fallback="index.html")
    assert ask(app, "/x", **NAVIGATION).status == 200
    (site / "index.html").unlink()
    clock[0] += MAX_AGE
    assert ask(app, "/x", **NAVIGATION).status == 404


# -- missing


@pytest.mark.parametrize("page", [True, False])
def test_nothing_is_kept_with_live_reload(site: Path, ask: Ask, page: bool) -> None:
    (site / "_redirects").write_text("/from /a.txt\n/gone /none.html 410\n")
    app = StaticFiles(site, live_reload=True, not_found_page=page)
    for path, status in [("/missing", 404), ("/sub", 301), ("/from", 301), ("/gone", 410)]:
        reply = ask(app, path)
        assert (reply.status, reply.headers["Cache-Control"]) == (status, "no-store")


def test_the_nearest_404_page_answers(site: Path, ask: Ask) -> None:
    (site / "404.html").write_bytes(b"top")
    (site / "sub" / "404.html").write_bytes(b"sub")
    app = StaticFiles(site, prefix="/s")
    for path, body in [
        ("/s/missing", b"top"),
        ("/s/sub/missing", b"sub"),
        ("/s/sub/deeper/missing", b"sub"),
        ("/s/sub/deeper/", b"sub"),
        ("/s/bare/missing", b"top"),
        ("/s/sub/%2e%2e/missing", b"sub"),
        ("/s//missing", b"top"),
        ("/s/sub/a%00b", b"sub"),
        ("/elsewhere", b"top"),
        ("/s" + "/sub" * 3000, b"sub"),
    ]:
        reply = ask(app, path)
        assert (reply.status, reply.body) == (404, body), path
        assert reply.headers["Content-Type"] == HTML
        assert reply.headers["Cache-Control"] == "no-cache"
        assert {"ETag", "Last-Modified", "Accept-Ranges"}.isdisjoint(reply.headers)
    assert ask(app, "/s/404.html").status == 200
    assert ask(StaticFiles(site, behind), "/missing").body == b"behind"


def test_the_404_page_may_be_coded_and_large(site: Path, ask: Ask, clock: list[float]) -> None:
    app = StaticFiles(site)
    built_in = ask(app, "/missing")
    assert (built_in.status, built_in.headers["Content-Type"]) == (404, HTML)
    assert b"<h1>" in built_in.body
    assert built_in.headers["Cache-Control"] == "no-cache"
    page = b"<title>ours</title>" * 10_000  # larger than one block
    (site / "404.html").write_bytes(page)
    (site / "404.html.gz").write_bytes(b"coded")
    clock[0] += MAX_AGE
    own = ask(app, "/missing", HTTP_RANGE="bytes=0-0")
    assert (own.status, own.body, own.headers["Vary"]) == (404, page, "Accept-Encoding")
    coded = ask(app, "/missing", HTTP_ACCEPT_ENCODING="gzip")
    assert (coded.status, coded.body) == (404, b"coded")
    assert coded.headers["Content-Encoding"] == "gzip"
    (site / "404.html").write_bytes(b"new and short")
    clock[0] += MAX_AGE
    assert ask(app, "/missing").body == b"new and short"


def test_a_404_page_that_changes_at_this_moment(site: Path, ask: Ask, clock: list[float]) -> None:
    (site / "404.html").write_bytes(b"x" * 100_000)
    app = StaticFiles(site)
    assert len(ask(app, "/missing").body) == 100_000
    (site / "404.html").write_bytes(b"y" * 90_000)  # and the second is not over
    assert ask(app, "/missing").body == b"y" * 90_000
    (site / "404.html").unlink()
    assert b"<h1>" in ask(app, "/missing").body


def test_one_line_instead_of_a_page(site: Path, ask: Ask) -> None:
    reply = ask(StaticFiles(site, not_found_page=False), "/missing")
    assert (reply.status, reply.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert reply.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_404_page_that_is_none(site: Path, ask: Ask, kind: str) -> None:
    if kind == "directory":
        (site / "404.html").mkdir()
    else:
        (site / "404.html").symlink_to("../outside.txt")
    reply = ask(StaticFiles(site), "/missing")
    assert reply.status == 404
    assert b"<h1>" in reply.body


# -- listing


def test_a_listing(site: Path, ask: Ask) -> None:
    name = '"><img src=x onerror=alert(0)>.txt'
    (site / "bare" / name).write_bytes(b"12345")
    (site / "bare" / ".hidden").write_bytes(b"")
    (site / "bare" / "outside").symlink_to("../../outside.txt")
    (site / "bare" / "inside").symlink_to("../a.txt")
    os.mkfifo(site / "bare" / "fifo")
    app = StaticFiles(site, listing=True)
    page = ask(app, "/bare/")
    assert (page.status, page.headers["Content-Type"]) == (200, HTML)
    assert page.headers["Vary"] == "Accept"
    assert page.headers["Cache-Control"] == "no-cache"
    assert "script-src" in page.headers["Content-Security-Policy"]
    assert b"<img" not in page.body
    data = ask(app, "/bare/", HTTP_ACCEPT="application/json")
    assert (data.headers["Content-Type"], data.headers["Vary"]) == ("application/json", "Accept")
    assert [entry["name"] for entry in json.loads(data.body)] == [name, "b.txt", "inside"]
    assert page.headers["ETag"] != data.headers["ETag"]
    assert ask(app, "/bare/", HTTP_IF_NONE_MATCH=page.headers["ETag"]).status == 304
    assert ask(app, "/bare/", HTTP_IF_NONE_MATCH=data.headers["ETag"]).status == 200
    assert ask(app, "/bare/", HTTP_RANGE="bytes=0-8").body == b"<!doctype"
    reply = ask(app, "/bare?x")
    assert (reply.status, reply.headers["Location"]) == (301, "bare/?x")
    assert ask(app, "/sub/").body == (site / "sub" / "index.html").read_bytes()
    assert ask(app, "/bare/", "POST").status == 405
    assert ask(app, "/bare/", "OPTIONS").status == 204


def test_what_configures_the_site_is_not_listed(site: Path, ask: Ask) -> None:
    (site / "index.html").unlink()
    for name in ("_headers", "_redirects", "_HEADERS.txt", "_redirects~"):
        (site / name).write_bytes(b"")
        (site / "bare" / name).write_bytes(b"")
    app = StaticFiles(site, listing=True)
    names = [e["name"] for e in json.loads(ask(app, "/", HTTP_ACCEPT="application/json").body)]
    assert names == ["bare", "sub", "a.txt", "big.bin", "empty.txt"]
    data = ask(app, "/bare/", HTTP_ACCEPT="application/json").body
    names = [e["name"] for e in json.loads(data)]
    assert "_headers" in names  # only at the top it is more than a file
    assert all(ask(app, f"/bare/{name}").status == 200 for name in names)


def test_no_policy_and_no_rule_is_meant_for_a_listing(site: Path, ask: Ask) -> None:
    """A year of `immutable`, or a policy without its script, would break it."""
    (site / "_headers").write_text("/*\n  Content-Security-Policy: default-src 'self'\n  X-A: b\n")
    app = StaticFiles(site, listing=True, immutable="bare/", cache_control="max-age=9")
    reply = ask(app, "/bare/")
    assert reply.headers["Cache-Control"] == "no-cache"
    assert "script-src" in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-A"] == "b"
    assert "immutable" in ask(app, "/bare/b.txt").headers["Cache-Control"]


def test_a_listing_shows_what_appears(site: Path, ask: Ask, clock: list[float]) -> None:
    app = StaticFiles(site, listing=True)
    etag = ask(app, "/bare/").headers["ETag"]
    (site / "bare" / "new.txt").write_bytes(b"")
    clock[0] += MAX_AGE
    reply = ask(app, "/bare/", HTTP_IF_NONE_MATCH=etag)
    assert reply.status == 200
    assert b"new.txt" in reply.body
    (site / "bare" / "index.html").write_bytes(b"index")
    clock[0] += MAX_AGE
    assert ask(app, "/bare/").body == b"index"


def test_a_listing_that_leaves_names_out_is_told(
    site: Path, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10_001):
        (site / "bare" / f"{number}.x").touch()
    app = StaticFiles(site, listing=True)
    names = json.loads(ask(app, "/bare/", HTTP_ACCEPT="application/json").body)
    assert len(names) == 10_000
    (line,) = caplog.messages
    assert "'/bare/' has too many names: its listing shows the first 10,000" in line


def test_live_reload_is_in_pages_that_are_made_here(site: Path, ask: Ask) -> None:
    """What is created while they are looked at appears by itself."""
    app = StaticFiles(site, listing=True, live_reload=True)
    for path, status in [("/bare/", 200), ("/missing", 404)]:
        reply = ask(app, path)
        assert reply.status == status
        assert b'<script src="/.live-reload/client.js?since=' in reply.body
    policy = ask(app, "/bare/").headers["Content-Security-Policy"]
    assert "script-src 'self' 'sha256-" in policy and "connect-src 'self'" in policy
    assert b"script" not in ask(app, "/bare/", HTTP_ACCEPT="application/json").body


def test_the_application_behind_a_fallback_varies_too(site: Path, ask: Ask) -> None:
    """A cache must not give its answer to a browser, which gets the page."""

    def own(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Vary", "Cookie")])
        return [b"own"]

    for app, varies in [(behind, "Accept"), (own, "Cookie, Accept")]:
        files = StaticFiles(site, app, fallback="index.html")
        assert ask(files, "/login", HTTP_ACCEPT="*/*").headers["Vary"] == varies
        assert "Accept" not in ask(files, "/x.js").headers.get("Vary", "")
        assert "Accept" not in ask(files, "/login", "POST").headers.get("Vary", "")
