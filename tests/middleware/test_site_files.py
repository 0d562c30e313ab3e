"""`_headers` and `_redirects` through StaticFiles: obeyed, read anew, refused, never served."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from middleware import StaticFiles
from middleware.site import MAX_AGE
from tests.support.behind import behind

Ask = Callable[..., Any]


# -- `_headers`


def test_headers_are_applied_by_the_decoded_path(site: Path, ask: Ask) -> None:
    (site / "_headers").write_text(
        "/*\n  X-All: yes\n  Cache-Control: max-age=7\n"
        "/a.txt\n  X-A: :splat\n  ! X-Content-Type-Options\n"
        "/sub/:page\n  X-Page: :page\n"
    )
    app = StaticFiles(site, prefix="/s", clean_urls=True)
    (site / "sub" / "é.html").write_bytes(b"x")
    for path in ("/s/a.txt", "/s/%61.txt"):
        reply = ask(app, path)
        assert (reply.headers["X-All"], reply.headers["X-A"]) == ("yes", ":splat")
        assert reply.headers["Cache-Control"] == "max-age=7"
        assert "X-Content-Type-Options" not in reply.headers
    assert ask(app, "/s/sub/%C3%A9").headers["X-Page"] == "%C3%A9"
    same = ask(app, "/s/a.txt", HTTP_IF_NONE_MATCH="*")
    assert (same.status, same.headers["X-All"]) == (304, "yes")
    assert same.headers["Cache-Control"] == "max-age=7"
    missing = ask(app, "/s/missing")
    assert (missing.headers["X-All"], missing.headers["Cache-Control"]) == ("yes", "no-cache")
    for name in ("/s/a.txt", "/s/big.bin"):
        refused = ask(app, name, HTTP_IF_MATCH='"x"')
        assert (refused.status, refused.headers["X-All"]) == (412, "yes")
        assert refused.headers["Cache-Control"] == "no-store"


def test_headers_may_name_another_type(site: Path, ask: Ask) -> None:
    (site / "_headers").write_text("/big.bin\n  content-type: text/x-ours\n")
    app = StaticFiles(site)
    assert ask(app, "/big.bin").headers["content-type"] == "text/x-ours"
    reply = ask(app, "/big.bin", HTTP_RANGE="bytes=0-9,100000-100009")
    assert reply.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert b"\r\nContent-Type: text/x-ours\r\n" in reply.body


# -- `_redirects`


@pytest.mark.parametrize(
    ("prefix", "script_name", "location"),
    [
        ("/", "", "/a.txt?q=1"),
        ("/s/", "", "/s/a.txt?q=1"),
        ("/s", "/m é", "/m%20%C3%A9/s/a.txt?q=1"),
    ],
)
def test_a_redirect_leads_to_where_the_site_is_mounted(
    site: Path, ask: Ask, prefix: str, script_name: str, location: str
) -> None:
    (site / "_redirects").write_text("/old /a.txt\n/away https://x.example/y 307\n")
    app = StaticFiles(site, prefix=prefix)
    mounted = {"SCRIPT_NAME": script_name.encode().decode("latin-1")}
    base = prefix.rstrip("/")
    reply = ask(app, f"{base}/old?q=1", **mounted)
    assert (reply.status, reply.headers["Location"]) == (301, location)
    assert reply.headers["Cache-Control"] == "no-cache"
    away = ask(app, f"{base}/away", **mounted)
    assert (away.status, away.headers["Location"]) == (307, "https://x.example/y")


def test_files_come_before_rules_unless_these_are_forced(site: Path, ask: Ask) -> None:
    (site / "_redirects").write_text(
        "/a.txt /sub/ 302\n/big.bin /sub/ 302!\n/sub/* /a.txt 302\n/bare/* /a.txt 302\n"
    )
    app = StaticFiles(site)
    assert ask(app, "/a.txt").status == 200
    assert ask(app, "/big.bin").headers["Location"] == "/sub/"
    assert ask(app, "/sub/").status == 200
    assert ask(app, "/sub").headers["Location"] == "sub/"
    assert ask(app, "/sub/missing").headers["Location"] == "/a.txt"
    assert ask(app, "/bare/b.txt").body == b"b"
    assert ask(app, "/bare/").headers["Location"] == "/a.txt"  # it has no page


@pytest.mark.parametrize(("status", "says"), [(410, b"gone"), (451, b"legal reasons")])
def test_a_rule_s_status_stands_without_its_page(
    site: Path, ask: Ask, status: int, says: bytes
) -> None:
    """What search engines are told must not depend on a page that somebody forgot."""
    (site / "_redirects").write_text(f"/old /missing.html {status}\n")
    (site / "404.html").write_bytes(b"not this one")
    page = ask(StaticFiles(site), "/old")
    assert (page.status, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert says in page.body and str(status).encode() in page.body
    assert page.headers["Cache-Control"] == "no-cache"
    line = ask(StaticFiles(site, not_found_page=False), "/old")
    assert (line.status, line.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert line.body.count(b"\n") == 1


@pytest.mark.parametrize("forced", ["", "!"])
def test_rewrites(site: Path, ask: Ask, forced: str) -> None:
    (site / "_redirects").write_text(
        f"/r/200 /a.txt 200{forced}\n/r/404 /a.txt 404{forced}\n/r/410 /a.txt 410{forced}\n"
        f"/r/451 /a.txt 451{forced}\n/r/dir/ /sub/ 200{forced}\n/r/bare /sub 200{forced}\n"
        f"/r/none/* /missing 200{forced}\n"
        f"/r/env /.env 200{forced}\n/r/rules /_redirects 200{forced}\n/r/é /a.txt 200{forced}\n",
        "utf-8",
    )
    app = StaticFiles(site)
    for name in ("200", "%C3%A9"):
        reply = ask(app, f"/r/{name}")
        assert (reply.status, reply.headers) == (200, ask(app, "/a.txt").headers)
        part = ask(app, f"/r/{name}", HTTP_RANGE="bytes=0-1")
        assert (part.status, part.body) == (206, b"01")
        assert ask(app, f"/r/{name}", HTTP_IF_NONE_MATCH="*").status == 304
    for status in (404, 410, 451):
        reply = ask(app, f"/r/{status}", HTTP_IF_NONE_MATCH="*", HTTP_RANGE="bytes=0-1")
        assert (reply.status, reply.body) == (status, (site / "a.txt").read_bytes())
        assert {"ETag", "Last-Modified"}.isdisjoint(reply.headers)
        assert reply.headers["Cache-Control"] == "no-cache"
    for name in ("dir/", "bare"):
        assert ask(app, f"/r/{name}").body == (site / "sub" / "index.html").read_bytes()
    for name in ("none/x", "env", "rules"):
        assert ask(app, f"/r/{name}").status == 404
    assert ask(app, "/r/200", "POST").status == 405
    assert ask(app, "/r/200", "OPTIONS").status == 204
    assert ask(app, "/r/200", "HEAD").headers == ask(app, "/r/200").headers


def test_a_file_that_stands_in_changes_at_this_moment(
    site: Path, ask: Ask, clock: list[float]
) -> None:
    (site / "_redirects").write_text("/gone /big.bin 410\n")
    app = StaticFiles(site)
    assert len(ask(app, "/gone").body) == 204_800
    (site / "big.bin").write_bytes(b"z" * 100_000)  # and the second is not over
    reply = ask(app, "/gone")
    assert (reply.status, reply.body) == (410, b"z" * 100_000)


def test_rules_for_everything_leave_forms_to_the_application(site: Path, ask: Ask) -> None:
    (site / "_redirects").write_text("/* /index.html 200\n")
    home = (site / "index.html").read_bytes()
    app = StaticFiles(site, behind)
    assert ask(app, "/deep/link").body == home
    assert ask(app, "/deep/link", "POST").body == b"behind"
    assert ask(StaticFiles(site), "/deep/link", "POST").status == 405


@pytest.mark.parametrize("path", ["/_headers", "/_redirects", "/_HEADERS", "/_redirects.txt"])
def test_they_are_never_served(site: Path, ask: Ask, path: str) -> None:
    (site / "_headers").write_text("/*\n  X-A: b\n")
    (site / "_redirects").write_text("/x /y\n")
    (site / "_redirects.txt").write_text("x")
    for options in ({}, {"site_files": False}, {"dotfiles": True}, {"clean_urls": True}):
        reply = ask(StaticFiles(site, behind, **options), path)  # type: ignore[arg-type]
        assert reply.body == b"behind"


def test_without_site_files_they_are_not_obeyed(site: Path, ask: Ask) -> None:
    (site / "_headers").write_text("no rule\n")
    (site / "_redirects").write_text("/x /a.txt\n")
    assert ask(StaticFiles(site, site_files=False), "/x").status == 404


# -- at construction


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("_headers", b"/*\n  X-A: b\n  no colon\n", r"_headers:3: 'no colon' is neither"),
        ("_headers", b"/*\n  X-A: \xff\n", r"_headers:2: this is not UTF-8"),
        ("_redirects", b"# one\n/a\n", r"_redirects:2: no target"),
        ("_redirects", b"/a /b 200 x\n/c\n", r"_redirects:1: .*\(and 1 more\)"),
        ("_redirects", b"#" * (1 << 20) + b"#", r"_redirects is over 1048576 bytes"),
    ],
)
def test_a_bad_file_is_refused(site: Path, name: str, data: bytes, message: str) -> None:
    (site / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        StaticFiles(site)


@pytest.mark.parametrize("name", ["_headers", "_redirects"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling", "escape"])
def test_what_is_no_file_is_refused(site: Path, name: str, kind: str) -> None:
    if kind == "directory":
        (site / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(site / name)
    else:
        (site / name).symlink_to("nothing" if kind == "dangling" else "../outside.txt")
    with pytest.raises(ValueError, match=f"{site}/{name} cannot be read"):
        StaticFiles(site)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["_headers", "_redirects"])
def test_an_unreadable_file_is_refused(site: Path, name: str) -> None:
    (site / name).write_bytes(b"")
    (site / name).chmod(0)
    with pytest.raises(ValueError, match=f"{site}/{name} cannot be read"):
        StaticFiles(site)


def test_a_byte_order_mark_and_windows_line_ends(site: Path, ask: Ask) -> None:
    (site / "_headers").write_bytes(b"\xef\xbb\xbf/*\r\n  X-A: b\r\n")
    assert ask(StaticFiles(site), "/a.txt").headers["X-A"] == "b"


# -- read anew


def test_rules_are_read_anew_within_a_second(site: Path, ask: Ask, clock: list[float]) -> None:
    app = StaticFiles(site)
    assert "X-A" not in ask(app, "/a.txt").headers
    assert ask(app, "/old").status == 404
    (site / "_headers").write_text("/*\n  X-A: 1\n")
    (site / "_redirects").write_text("/old /a.txt\n")
    clock[0] += MAX_AGE / 2
    assert "X-A" not in ask(app, "/a.txt").headers
    clock[0] += MAX_AGE / 2
    for path in ("/a.txt", "/missing"):
        assert ask(app, path).headers["X-A"] == "1"
    assert ask(app, "/old").status == 301
    (site / "_headers").write_text("/*\n  X-A: 2\n")  # the same size, perhaps the same tick
    clock[0] += MAX_AGE
    assert ask(app, "/a.txt").headers["X-A"] == "2"
    assert ask(app, "/missing").headers["X-A"] == "2"
    (site / "_headers").unlink()
    (site / "_redirects").unlink()
    clock[0] += MAX_AGE
    assert "X-A" not in ask(app, "/a.txt").headers
    assert ask(app, "/old").status == 404


def test_a_rewrite_in_the_same_tick_is_seen(site: Path, ask: Ask, clock: list[float]) -> None:
    path = site / "_headers"
    path.write_text("/*\n  X-A: 1\n")
    status = path.stat()
    app = StaticFiles(site)
    path.write_text("/*\n  X-A: 2\n")
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    clock[0] += MAX_AGE
    assert ask(app, "/a.txt").headers["X-A"] == "2"


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (b"/*\n  X-A: 2\n  no colon\n", "_headers:3:"),
        (b"/*\n  X-A: \xff\n", "_headers:2: this is not UTF-8"),
        (b"#" * (1 << 20) + b"#", "_headers is over"),
    ],
)
def test_an_error_on_reload_keeps_the_rules_and_is_logged_once(
    site: Path,
    ask: Ask,
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
    bad: bytes,
    line: str,
) -> None:
    (site / "_headers").write_text("/*\n  X-A: 1\n")
    app = StaticFiles(site)
    (site / "_headers").write_bytes(bad)
    with caplog.at_level(logging.WARNING, "wsgiserver.static"):
        for _ in range(4):
            clock[0] += MAX_AGE
            assert ask(app, "/a.txt").headers["X-A"] == "1"
    (record,) = caplog.records
    assert line in record.getMessage()
    assert record.getMessage().endswith("; the rules read before stay in use")
    (site / "_headers").write_text("/*\n  X-A: 3\n")
    clock[0] += MAX_AGE
    assert ask(app, "/a.txt").headers["X-A"] == "3"


def test_a_system_that_cannot_read_now_keeps_the_rules(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "_headers").write_text("/*\n  X-A: 1\n")
    app = StaticFiles(site)
    assert ask(app, "/a.txt").headers["X-A"] == "1"

    def fail(*args: object) -> bytes:
        raise OSError(5, "cannot be read")

    (site / "_headers").write_text("/*\n  X-A: 22\n")
    with monkeypatch.context() as broken:
        broken.setattr("middleware.site_files.read_part", fail)
        clock[0] += MAX_AGE
        assert ask(app, "/a.txt").headers["X-A"] == "1"
    clock[0] += MAX_AGE
    assert ask(app, "/a.txt").headers["X-A"] == "22"


def test_a_page_made_by_the_old_rules_does_not_outlive_them(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread reads new rules while this one makes a page by the old ones."""
    (site / "_headers").write_text("/*\n  X-A: 1\n")
    app = StaticFiles(site)
    decorate = app._policy.for_file

    def slow(url: str, path: str, headers: Any) -> Any:
        made = decorate(url, path, headers)
        monkeypatch.setattr(app._site, "_decorate", decorate)
        (site / "_headers").write_text("/*\n  X-A: 2\n")
        clock[0] += MAX_AGE
        app._keep_up()
        return made

    monkeypatch.setattr(app._site, "_decorate", slow)
    assert ask(app, "/a.txt").headers["X-A"] == "1"
    clock[0] += MAX_AGE
    assert ask(app, "/a.txt").headers["X-A"] == "2"


def test_an_answer_holds_no_longer_than_what_it_is_made_of(site: Path, clock: list[float]) -> None:
    """For servers that give it again: file, rules, and the page that stands in for a file."""
    (site / "_redirects").write_text("/r /a.txt 200\n")
    app = StaticFiles(site, fallback="index.html")

    def fresh_until(path: str, accept: str = "*/*") -> float:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_ACCEPT": accept}
        body: Any = app(environ, lambda *args: lambda data: None)
        assert body.answered_by is app
        return float(body.fresh_until)

    assert fresh_until("/index.html") == fresh_until("/a.txt") == 1001.0
    assert fresh_until("/404.html") == 1001.0
    clock[0] += 0.9
    for path, accept in [
        ("/a.txt", "*/*"),
        ("/r", "*/*"),
        ("/deep", "text/html"),  # its page was looked at long ago
        ("/missing.css", "*/*"),
        ("/empty.txt", "*/*"),  # looked at now, but the rules were not
    ]:
        assert fresh_until(path, accept) == 1001.0, path
    live = StaticFiles(site, live_reload=True)
    body: Any = live(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/a.txt"}, lambda *args: lambda data: None
    )
    assert body.fresh_until == 0.0


def test_no_policy_of_any_cache_on_what_is_no_file(site: Path, ask: Ask) -> None:
    """A cache that obeys a field of its own (RFC 9213) must not keep a 404 or 416 for a year."""
    year = "public, max-age=31536000"
    fields = ["CDN-Cache-Control", "Surrogate-Control", "Cache-Control"]
    (site / "_headers").write_text("/*\n" + "".join(f"  {name}: {year}\n" for name in fields))
    app = StaticFiles(site)
    assert all(ask(app, "/a.txt").headers[name] == year for name in fields)
    for reply in (
        ask(app, "/missing"),
        ask(app, "/a.txt", HTTP_RANGE="bytes=999-"),
        ask(app, "/a.txt", HTTP_IF_MATCH='"x"'),
    ):
        assert reply.status in (404, 412, 416)
        assert year not in reply.headers.values()


@pytest.mark.parametrize("origins", ["*", ["https://a.example"]])
def test_what_depends_on_who_asks_is_removed_too(
    site: Path, ask: Ask, origins: str | list[str]
) -> None:
    (site / "_headers").write_text(
        "/bare/*\n  ! Access-Control-Allow-Origin\n  ! Strict-Transport-Security\n"
    )
    app = StaticFiles(site, cors_origins=origins, security_headers=True)
    asked = {"HTTP_ORIGIN": "https://a.example", "wsgi.url_scheme": "https"}
    names = ("Access-Control-Allow-Origin", "Strict-Transport-Security")
    for path, there in [("/a.txt", True), ("/bare/b.txt", False)]:
        headers = ask(app, path, **asked).headers
        assert [name in headers for name in names] == [there, there]


def test_each_mistake_is_told_again_after_it_was_mended(
    site: Path, ask: Ask, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = "/*\n  X-A: 1\n", "/*\n  no field\n"
    (site / "_headers").write_text(good)
    app = StaticFiles(site)
    for text, told in [(bad, 1), (bad, 1), (good, 1), (bad, 2), ("/*\n  nor this\n", 3)]:
        (site / "_headers").write_text(text)
        for _ in range(2):
            clock[0] += MAX_AGE
            assert ask(app, "/a.txt").headers["X-A"] == "1"
        assert len(caplog.messages) == told, caplog.messages


def test_a_flood_of_remarks_does_not_silence_the_rules(
    site: Path, ask: Ask, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    app = StaticFiles(site)
    for number in range(1001):
        app._site._remark(f"something of a file, {number}")
    (site / "_headers").write_text("/*\n  no field\n")
    clock[0] += MAX_AGE
    ask(app, "/a.txt")
    assert "_headers:2" in caplog.messages[-1]
