"""StaticFiles as a WSGI application, always behind wsgiref's validator."""

from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest

import middleware.static
from middleware import StaticFiles

Ask = Callable[..., Any]
OLD = 1_700_000_000
NOSNIFF = ("X-Content-Type-Options", "nosniff")


def behind(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application behind; it says what path it saw."""
    seen = f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(seen)))])
    return [seen]


def test_a_file(site: Path, ask: Ask) -> None:
    reply = ask(StaticFiles(site), "/a.txt")
    status = (site / "a.txt").stat()
    assert reply.status == 200
    assert reply.body == b"0123456789" * 10
    assert reply.headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": f'"{status.st_mtime_ns:x}-{100:x}-{status.st_ino:x}"',
        "Last-Modified": formatdate(OLD, usegmt=True),
        "Cache-Control": "no-cache",
        "Content-Length": "100",
    }


TARGETS = ["a.txt", "empty.txt", "big.bin", "missing", "missing.css", "", "sub", "sub/"]
TARGETS += ["bare/", "text.css", "moved", "rewritten", "gone", "font.woff2", "%ff", "sub/x/y"]
REQUESTS: list[dict[str, str]] = [
    {},
    {"HTTP_IF_NONE_MATCH": "*"},
    {"HTTP_IF_NONE_MATCH": '"x"'},
    {"HTTP_IF_MATCH": '"x"'},
    {"HTTP_IF_MATCH": "*"},
    {"HTTP_IF_MODIFIED_SINCE": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"HTTP_IF_UNMODIFIED_SINCE": "Sat, 01 Jan 2000 00:00:00 GMT"},
    {"HTTP_ACCEPT_ENCODING": "gzip, br, zstd"},
    {"HTTP_ACCEPT_ENCODING": "gzip", "HTTP_IF_NONE_MATCH": "*"},
    {"HTTP_ACCEPT_ENCODING": "identity;q=0"},
    {"HTTP_ACCEPT": "text/html"},
    {"HTTP_ACCEPT": "application/json"},
    {"HTTP_ORIGIN": "https://a.example"},
    {"HTTP_ORIGIN": "https://b.example", "wsgi.url_scheme": "https"},
    {"HTTP_IF_RANGE": '"x"', "QUERY_STRING": "a=b"},
]
SITES: list[dict[str, Any]] = [
    {},
    {"not_found_page": False, "cache_control": None},
    {"listing": True, "fallback": "index.html", "clean_urls": True, "compress": False},
    {"cors_origins": ["https://a.example"], "security_headers": True, "listing": True},
]


@pytest.mark.parametrize("options", SITES, ids=lambda options: ",".join(options) or "plain")
@pytest.mark.parametrize("name", TARGETS)
def test_head_equals_get_without_the_body(
    site: Path, ask: Ask, name: str, options: dict[str, Any]
) -> None:
    (site / "text.css").write_bytes(b"a { color: red }\n" * 100)
    (site / "font.woff2").write_bytes(b"font")
    (site / "_redirects").write_text(
        "/moved /a.txt\n/rewritten /sub/ 200\n/gone /404.html 410\n", "ascii"
    )
    (site / "_headers").write_text(
        "/*\n  Vary: X-Any\n  Strict-Transport-Security: max-age=1\n", "ascii"
    )
    app = StaticFiles(site, **options)
    for request in REQUESTS:
        get, head = ask(app, f"/{name}", **request), ask(app, f"/{name}", "HEAD", **request)
        assert (head.status, head.headers, head.body) == (get.status, get.headers, b""), request
        if get.status == 304:
            assert "Content-Length" not in get.headers
            assert get.body == b""
        else:
            assert int(get.headers["Content-Length"]) == len(get.body)


@pytest.mark.parametrize("name", ["client.js", "events", "nothing"])
def test_head_equals_get_for_live_reload_too(site: Path, ask: Ask, name: str) -> None:
    """The `ask` fixture refuses an application that begins two answers."""
    app = StaticFiles(site, live_reload=True)
    get, head = ask(app, f"/.live-reload/{name}"), ask(app, f"/.live-reload/{name}", "HEAD")
    assert get.status == (404 if name == "nothing" else 200)
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert ask(app, f"/.live-reload/{name}", "POST").status == (404 if name == "nothing" else 405)


def test_index_and_redirect(site: Path, ask: Ask) -> None:
    app = StaticFiles(site)
    assert ask(app, "/").body == (site / "index.html").read_bytes()
    assert ask(app, "/sub/").body == (site / "sub/index.html").read_bytes()
    assert ask(app, "/sub/").headers["Content-Type"] == "text/html; charset=utf-8"
    reply = ask(app, "/sub?a=b%20c&d", HTTP_HOST="evil.example")
    assert (reply.status, reply.headers["Location"]) == (301, "sub/?a=b%20c&d")
    assert ask(app, "/bare").status == 404
    assert ask(app, "/bare/").status == 404


@pytest.mark.parametrize(
    ("script_name", "prefix", "path", "location"),
    [
        ("", "/static", "/static", "static/"),
        ("", "/static/", "/static", "static/"),
        ("/mount", "/", "", "mount/"),
        ("/mount", "/static", "/static/sub", "sub/"),
        ("", "/", "/x%3Ay", "x%3Ay/"),  # not a scheme
        ("", "/", "/%C3%A9%20%22%3E%3Cscript%3E", "%C3%A9%20%22%3E%3Cscript%3E/"),
    ],
)
def test_redirects_are_relative_and_encoded(
    site: Path, ask: Ask, script_name: str, prefix: str, path: str, location: str
) -> None:
    for name in ("x:y", '\xe9 "><script>'):
        (site / name).mkdir()
        (site / name / "index.html").write_bytes(b"")
    reply = ask(StaticFiles(site, prefix=prefix), path, SCRIPT_NAME=script_name)
    assert (reply.status, reply.headers["Location"]) == (301, location)
    assert b"<" not in reply.body  # CVE-2024-43800: nothing of the request in the body


def test_no_path_at_all_is_the_root(site: Path, ask: Ask) -> None:
    reply = ask(StaticFiles(site), "", SCRIPT_NAME="")
    assert reply.status == 200


def test_the_query_of_a_redirect_cannot_break_the_header(site: Path) -> None:
    started: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/sub",
        "QUERY_STRING": "a\r\nX: y\x00\xe9 \u0394",
    }
    StaticFiles(site)(environ, lambda *args: started.append(args))  # type: ignore[arg-type]
    assert dict(started[0][1])["Location"] == "sub/?a%0D%0AX:%20y%00%E9%20?"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods(site: Path, ask: Ask, method: str) -> None:
    for path, app in [("/a.txt", behind), ("/a.txt", None), ("/sub", None)]:
        reply = ask(StaticFiles(site, app), path, method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    for path in ("/sub", "/bare/"):  # a form that the application may take
        assert ask(StaticFiles(site, behind, listing=True), path, method).status == 200
    assert ask(StaticFiles(site, behind), "/sub", "OPTIONS").status == 204
    assert ask(StaticFiles(site), "/missing", method).status == 404
    assert ask(StaticFiles(site, behind), "/missing", method).status == 200


def test_options(site: Path, ask: Ask) -> None:
    for path in ("/a.txt", "/sub"):
        reply = ask(StaticFiles(site), path, "OPTIONS", HTTP_IF_MATCH='"x"')
        assert (reply.status, reply.headers) == (204, {"Allow": "GET, HEAD, OPTIONS"})
    assert ask(StaticFiles(site), "/missing", "OPTIONS").status == 404


@pytest.mark.parametrize(
    ("path", "passed"),
    [
        ("/static/a.txt", False),
        ("/static/sub", False),
        ("/static/missing", True),
        ("/static/../a.txt", True),
        ("/static/.env", True),
        ("/static", False),
        ("/static-config.env", True),
        ("/static../outside.txt", True),
        ("/a.txt", True),
        ("/", True),
        ("", True),
    ],
)
def test_what_reaches_the_application(site: Path, ask: Ask, path: str, passed: bool) -> None:
    reply = ask(StaticFiles(site, behind, "/static/"), path, SCRIPT_NAME="/mount")
    assert (reply.body == f"/mount|{path}".encode()) is passed


def test_a_prefix_beyond_ascii(site: Path, ask: Ask) -> None:
    assert ask(StaticFiles(site, prefix="/\xe9"), "/%C3%A9/a.txt").status == 200


ATTACKS = [
    # aiohttp CVE-2024-23334, Litestar CVE-2024-32982, Connect #198, Apache CVE-2021-41773
    "/static/../../../../etc/passwd",
    "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/.%2e/outside.txt",
    "/static/.%%32%65/outside.txt",
    "/static/%252e%252e/outside.txt",
    "/static/..%c0%afoutside.txt",
    # the answer must not tell whether the directories outside exist (CVE-2025-69226)
    "/static/../root/a.txt",
    "/static/../nowhere/a.txt",
    # a string prefix is no directory (CVE-2023-29159, CVE-2026-22860), nor is a URL's (nginx)
    "/static/../root_secret/s.txt",
    "/static/a.txt/../../root_secret/s.txt",
    "/static../outside.txt",
    # drives, shares, devices
    "/static/c%3a%5cwindows%5cwin.ini",
    "/static/x/c:/windows/win.ini",
    "/static/%5c%5cattacker.example%5cshare",
    "/static///attacker.example/share",
    "/static//a.txt",
    # NUL and other control characters (CVE-2023-40587, Starlette #2563)
    "/static/..%00/",
    "/static/%2e%2e%00",
    "/static/a.txt%00.png",
    "/static/a.txt%0d%0aX:%20y",
    # redirects (CVE-2021-28861, CVE-2018-14574, CVE-2015-1164, CVE-2025-4123)
    "//evil.example/%2e%2e",
    "//evil.example%2f..",
    "///evil.example/..%2f..%2f../%0a%0d/../sub",
    "/%5cevil.example/..",
    "/static//evil.example/../sub",
    "/static/..%2F%5cevil.example%2F%3f%2F..%2F..",
    # hidden names
    "/static/.env",
    "/static/.ENV",
    "/static/.git/config",
    "/static/sub/.htpasswd",
    "/static/.well-known/.hidden",
    # a file is not a directory
    "/static/a.txt/",
    "/static/a.txt/x",
    # names and special files
    "/static/" + "n" * 255,
    "/static/" + "n" * 5000,
    "/static/%ff",
    "/static/fifo",
    "/static/zero",
    "/static/dangling",
    "/static/loop",
    "/static/up/outside.txt",
    "/static/escape/",
    "/static/escape",
]


@pytest.fixture
def hostile(site: Path) -> Path:
    os.mkfifo(site / "fifo")
    (site / "zero").symlink_to("/dev/zero")
    (site / "dangling").symlink_to("nothing")
    (site / "loop").symlink_to("loop")
    (site / "up").symlink_to("..")
    (site / "escape").mkdir()
    (site / "escape" / "index.html").symlink_to("../../outside.txt")
    return site


@pytest.mark.parametrize("target", ATTACKS)
def test_attacks_are_answered_like_any_missing_file(hostile: Path, ask: Ask, target: str) -> None:
    app = StaticFiles(hostile, prefix="/static")
    reply, usual = ask(app, target), ask(app, "/static/missing")
    assert usual.status == 404
    assert (reply.status, reply.headers, reply.body) == (usual.status, usual.headers, usual.body)
    assert reply.errors == ""


def test_well_known_is_served(site: Path, ask: Ask) -> None:
    assert ask(StaticFiles(site), "/.well-known/security.txt").status == 200
    assert ask(StaticFiles(site, dotfiles=True), "/.env").status == 200


@pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
def test_an_encoded_slash_is_refused_where_the_server_shows_it(
    site: Path, ask: Ask, name: str
) -> None:
    app = StaticFiles(site)
    assert ask(app, "/bare%2Fb.txt", **{name: "/bare%2Fb.txt"}).status == 404
    assert ask(app, "/bare/b.txt?x=%2f", **{name: "/bare/b.txt?x=%2f"}).status == 200


def test_not_modified(site: Path, ask: Ask) -> None:
    app = StaticFiles(site, cache_control="max-age=60")
    first = ask(app, "/a.txt")
    etag, date = first.headers["ETag"], first.headers["Last-Modified"]
    kept = {"ETag": etag, "Cache-Control": "max-age=60"}
    for condition in (
        {"HTTP_IF_NONE_MATCH": etag},
        {"HTTP_IF_NONE_MATCH": f'"x", W/{etag}'},
        {"HTTP_IF_NONE_MATCH": "*"},
        {"HTTP_IF_MODIFIED_SINCE": date},
        {"HTTP_IF_NONE_MATCH": etag, "HTTP_RANGE": "bytes=0-0"},
        {"HTTP_IF_NONE_MATCH": etag, "HTTP_RANGE": "bytes=500-"},
    ):
        for method in ("GET", "HEAD"):
            reply = ask(app, "/a.txt", method, **condition)
            assert (reply.status, reply.headers, reply.body) == (304, kept, b"")


def test_precondition_failed(site: Path, ask: Ask) -> None:
    app = StaticFiles(site, cache_control="max-age=60")
    etag = ask(app, "/a.txt").headers["ETag"]
    for condition in (
        {"HTTP_IF_MATCH": '"other"'},
        {"HTTP_IF_MATCH": f"W/{etag}"},
        {"HTTP_IF_MATCH": '"other"', "HTTP_RANGE": "bytes=0-0"},
        {"HTTP_IF_UNMODIFIED_SINCE": formatdate(OLD - 1, usegmt=True)},
    ):
        reply = ask(app, "/a.txt", **condition)
        assert (reply.status, reply.headers["ETag"]) == (412, etag)
        assert reply.headers["Cache-Control"] == "no-store"  # a refusal must not be kept
        assert ask(app, "/a.txt", "HEAD", **condition).body == b""
    assert ask(app, "/a.txt", HTTP_IF_MATCH=f'"other", {etag}').status == 200


def test_conditions_do_not_count_for_what_is_missing(site: Path, ask: Ask) -> None:
    """Starlette #1023: a deleted page was 304 by the date of 404.html."""
    (site / "404.html").write_text("<title>gone</title>")
    app = StaticFiles(site)
    conditions = {
        "HTTP_IF_NONE_MATCH": "*",
        "HTTP_IF_MODIFIED_SINCE": formatdate(time.time(), usegmt=True),
        "HTTP_RANGE": "bytes=0-0",
    }
    reply = ask(app, "/deleted.html", **conditions)
    assert (reply.status, reply.body) == (404, b"<title>gone</title>")
    assert ask(app, "/deleted.html", HTTP_IF_MATCH='"x"').status == 404


@pytest.mark.parametrize(
    ("value", "expected", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/100"),
        ("bytes=95-", b"56789", "bytes 95-99/100"),
        ("bytes=-3", b"789", "bytes 97-99/100"),
        ("bytes=-300", b"0123456789" * 10, "bytes 0-99/100"),
        ("bytes=98-1000", b"89", "bytes 98-99/100"),
        ("bytes=3-4,500-", b"34", "bytes 3-4/100"),
        ("bytes=0-0,2-2", b"012", "bytes 0-2/100"),  # the gap is cheaper than a part
    ],
)
def test_ranges(site: Path, ask: Ask, value: str, expected: bytes, content_range: str) -> None:
    whole = ask(StaticFiles(site), "/a.txt")
    reply = ask(StaticFiles(site), "/a.txt", HTTP_RANGE=value)
    assert (reply.status, reply.body) == (206, expected)
    assert reply.headers == {
        **whole.headers,
        "Content-Range": content_range,
        "Content-Length": str(len(expected)),
    }


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=-0", "bytes=200-300,400-"])
def test_unsatisfiable(site: Path, ask: Ask, value: str) -> None:
    reply = ask(StaticFiles(site, cache_control="max-age=60"), "/a.txt", HTTP_RANGE=value)
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */100")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["ETag"] == ask(StaticFiles(site), "/a.txt").headers["ETag"]


@pytest.mark.parametrize("value", ["bytes=5-4", "bytes=--5", "items=0-1", "bytes=1_0-2_0", ""])
def test_ignored_ranges(site: Path, ask: Ask, value: str) -> None:
    reply = ask(StaticFiles(site), "/a.txt", HTTP_RANGE=value)
    assert (reply.status, reply.headers["Content-Length"]) == (200, "100")


def test_range_is_defined_for_get_only(site: Path, ask: Ask) -> None:
    for value in ("bytes=0-0", "bytes=500-"):
        reply = ask(StaticFiles(site), "/a.txt", "HEAD", HTTP_RANGE=value)
        assert (reply.status, reply.headers["Content-Length"]) == (200, "100")
    assert ask(StaticFiles(site), "/empty.txt", HTTP_RANGE="bytes=0-").status == 200


def test_if_range(site: Path, ask: Ask) -> None:
    app = StaticFiles(site)
    first = ask(app, "/a.txt")
    etag, date = first.headers["ETag"], first.headers["Last-Modified"]
    for value, status in [(etag, 206), (date, 206), ('"x"', 200), (f"W/{etag}", 200)]:
        assert ask(app, "/a.txt", HTTP_RANGE="bytes=0-0", HTTP_IF_RANGE=value).status == status
    unsatisfied = {"HTTP_RANGE": "bytes=500-", "HTTP_IF_RANGE": '"x"'}
    assert ask(app, "/a.txt", **unsatisfied).status == 200


def test_ranges_of_a_large_file(site: Path, ask: Ask) -> None:
    data = (site / "big.bin").read_bytes()
    app = StaticFiles(site)
    reply = ask(app, "/big.bin", HTTP_RANGE="bytes=1000-199999")
    assert (reply.status, reply.body) == (206, data[1000:200_000])
    assert ask(app, "/big.bin", HTTP_RANGE="bytes=100-163").body == data[100:164]
    assert ask(app, "/big.bin").body == data


def test_a_sparse_file_beyond_2_GiB(site: Path, ask: Ask) -> None:
    size = (1 << 32) + 10
    with (site / "huge.bin").open("wb") as file:
        file.seek(size - 3)
        file.write(b"end")
    app = StaticFiles(site)
    assert ask(app, "/huge.bin", "HEAD").headers["Content-Length"] == str(size)
    reply = ask(app, "/huge.bin", HTTP_RANGE="bytes=-4")
    assert reply.body == b"\0end"
    assert reply.headers["Content-Range"] == f"bytes {size - 4}-{size - 1}/{size}"


@pytest.mark.parametrize("seconds", [0, 1])
def test_times_that_tell_nothing_are_not_sent(site: Path, ask: Ask, seconds: int) -> None:
    os.utime(site / "a.txt", (seconds, seconds))
    reply = ask(StaticFiles(site), "/a.txt", HTTP_IF_MODIFIED_SINCE=formatdate(OLD, usegmt=True))
    assert reply.status == 200
    assert "Last-Modified" not in reply.headers
    assert "ETag" in reply.headers  # of the content: see test_changes.py


def test_a_time_in_the_future_is_not_sent(site: Path, ask: Ask) -> None:
    os.utime(site / "a.txt", (1 << 33, 1 << 33))
    before = int(time.time())
    headers = ask(StaticFiles(site), "/a.txt").headers
    sent = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
    assert before <= sent <= time.time()


def test_etags_tell_states_apart(site: Path, ask: Ask) -> None:
    target = site / "a.txt"
    seen = set()
    # Caddy d6f7f18b0: without a separator, time and size ran into each other
    for nanoseconds, size in [(2 * 10**9, 75), (72 * 10**9 + 2, 3), (72 * 10**9 + 3, 3)]:
        target.write_bytes(b"x" * size)
        os.utime(target, ns=(nanoseconds, nanoseconds))
        seen.add(ask(StaticFiles(site), "/a.txt").headers["ETag"])
    replacement = site / "new"
    replacement.write_bytes(b"y" * 3)  # as `cp -p` does: same time, same size, another file
    os.utime(replacement, ns=(nanoseconds, nanoseconds))
    os.replace(replacement, target)
    seen.add(ask(StaticFiles(site), "/a.txt").headers["ETag"])
    assert len(seen) == 4


def test_validators_do_not_depend_on_the_time_zone(site: Path) -> None:
    script = (
        "import sys; from middleware import StaticFiles\n"
        "def start(status, headers): print(sorted(headers))\n"
        "StaticFiles(sys.argv[1])({'REQUEST_METHOD': 'HEAD', 'PATH_INFO': '/a.txt'}, start)"
    )
    root = Path(middleware.__file__).parents[1]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, str(site)],
            env={**os.environ, "TZ": zone},
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout
        for zone in ("UTC", "America/New_York", "Asia/Kathmandu")
    }
    assert len(outputs) == 1
    assert b"Last-Modified" in outputs.pop()


def test_out_of_descriptors_is_503_and_logged(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    apps = [StaticFiles(site), StaticFiles(site, behind)]
    for app in apps:
        assert ask(app, "/big.bin").status == 200
    monkeypatch.setattr("middleware.beneath.Root.open", fail)
    for app in apps:
        for path in ("/a.txt", "/missing"):
            reply = ask(app, path)
            assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
            assert (
                reply.errors == f"StaticFiles: cannot serve {path!r}: "
                "[Errno 24] Too many open files\n"
            )
        assert ask(app, "/a.txt", "HEAD").status == 503


def test_an_error_once_the_answer_has_begun_is_told_with_the_error(site: Path) -> None:
    """PEP 3333: start_response may only be called again with exc_info."""
    calls: list[tuple[Any, ...]] = []

    def refusing(file: Any, size: int) -> Any:
        raise OSError("cannot")

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/big.bin",
        "wsgi.file_wrapper": refusing,
        "wsgi.errors": io.StringIO(),
    }
    body = StaticFiles(site)(environ, lambda *args: calls.append(args))  # type: ignore[arg-type]
    assert [call[0] for call in calls] == ["200 OK", "503 Service Unavailable"]
    assert len(calls[0]) == 2
    assert calls[1][2][0] is OSError
    assert b"".join(body) == b"Try again soon.\n"


def test_an_error_of_the_policy_is_not_hidden(site: Path, ask: Ask) -> None:
    def policy(path: str) -> str:
        raise LookupError(path)

    before = len(os.listdir("/dev/fd"))
    app = StaticFiles(site, cache_control=policy)
    for _ in range(20):
        with pytest.raises(LookupError, match=r"a\.txt"):
            ask(app, "/a.txt")
    assert ask(app, "/missing").status == 404
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("value", ["a\r\nX: y", "", 5])
def test_what_a_policy_gives_is_checked(site: Path, ask: Ask, value: Any) -> None:
    with pytest.raises(ValueError, match="cache_control is not a header value"):
        ask(StaticFiles(site, cache_control=lambda path: value), "/a.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "missing"}, "root does not exist: .*missing"),
        ({"root": "a.txt"}, "root is not a directory: .*a.txt"),
        ({"prefix": "static"}, "prefix must begin with a slash: 'static'"),
        ({"prefix": ""}, "prefix must begin with a slash: ''"),
        ({"prefix": "//x"}, "prefix is not a URL path"),
        ({"prefix": "/x?y"}, "prefix is not a URL path"),
        ({"app": "app"}, "app is not a WSGI application"),
        ({"index": ""}, "index must be the name of a file"),
        ({"index": "a/b"}, "index must be the name of a file"),
        ({"index": ".."}, "index must be the name of a file"),
        ({"index": 5}, "index must be the name of a file .*: 5"),
        ({"index": "_headers"}, "index must be the name of a file that is served"),
        ({"index": ".hidden"}, "index must be the name of a file that is served"),
        ({"index": "a\\b"}, "index must be the name of a file that is served"),
        ({"fallback": "/"}, "fallback must be the path of a file .*: '/'"),
        ({"fallback": Path("index.html")}, "fallback must be the path of a file"),
        ({"prefix": None}, "prefix must begin with a slash: None"),
        ({"prefix": "/a/../b"}, "prefix is not a URL path"),
        ({"prefix": "/a\r\nX: y"}, "prefix is not a URL path"),
        ({"cache_control": {5: "x"}}, "cache_control: not a glob: 5"),
        ({"fallback": "missing.html"}, "fallback is not a file .*'missing.html'"),
        ({"fallback": "sub"}, "fallback is not a file .*'sub'"),
        ({"fallback": ".env"}, "fallback is not a file .*'.env'"),
        ({"fallback": "../outside.txt"}, "fallback is not a file .*'../outside.txt'"),
        ({"immutable": "("}, r"immutable is not a regular expression: '\('"),
        ({"immutable": b"x"}, "immutable is not a regular expression: b'x'"),
        ({"immutable": Path("none.json")}, "the manifest .*none.json cannot be read"),
        ({"immutable": Path("/")}, "the manifest / cannot be read"),
        ({"cors_origins": "https://a.example/x"}, "not an origin .*'https://a.example/x'"),
        ({"cors_origins": ["*", "a.example"]}, "not an origin .*'a.example'"),
        ({"cors_origins": ["null"]}, "not an origin .*'null'"),
        ({"cors_origins": [None]}, "not an origin .*None"),
        ({"cors_origins": True}, "cors_origins must be a list .*True"),
        ({"symlink_roots": ["/nonexistent"]}, "symlink root does not exist: /nonexistent"),
        ({"symlink_roots": "/"}, "symlink_roots must be a list of directories: '/'"),
        ({"cache_control": {"*.css": "a\n"}}, r"cache_control is not a header value: 'a\\n'"),
        ({"cache_control": "a\r\nb"}, "cache_control is not a header value"),
        ({"cache_control": ""}, "cache_control is not a header value"),
    ],
)
def test_bad_arguments(site: Path, arguments: dict[str, Any], message: str) -> None:
    root = site / arguments.pop("root", "")
    with pytest.raises(ValueError, match=message):
        StaticFiles(root, **arguments)


def test_a_relative_root_is_taken_now(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.parent)
    app = StaticFiles("root")
    monkeypatch.chdir("/")
    assert ask(app, "/a.txt").status == 200


class Positional(FileWrapper):
    """A wrapper whose server reads by position, as wsgiserver's does."""

    positional = True


LEAKY = [
    {"HTTP_IF_NONE_MATCH": "*"},
    {"HTTP_IF_MATCH": '"x"'},
    {"REQUEST_METHOD": "HEAD"},
    {"REQUEST_METHOD": "POST"},
    {"HTTP_RANGE": "bytes=999999-"},
    {"HTTP_RANGE": "bytes=5-100000"},
    {"HTTP_RANGE": "bytes=0-9,100000-100009"},
    {"HTTP_ACCEPT_ENCODING": "gzip"},
    {"PATH_INFO": "/sub"},
    {"PATH_INFO": "/text.css", "HTTP_ACCEPT_ENCODING": "gzip"},
    {"PATH_INFO": "/missing"},
    {"PATH_INFO": "/bare/"},
    {},
]


@pytest.mark.parametrize("wrapper", [None, FileWrapper, Positional])
def test_no_descriptor_is_left(site: Path, wrapper: Any) -> None:
    """Answers without a body, never read, half read, and a server that fails half-way."""
    (site / "text.css").write_bytes(b"a { color: red }\n" * 10_000)
    (site / "text.css.gz").write_bytes(b"\0" * 100_000)
    (site / "404.html").write_bytes(b"x" * 100_000)
    app = StaticFiles(site, listing=True)

    def fail(*args: object) -> Any:
        raise RuntimeError("the server failed")

    def play(rounds: int) -> None:
        for i in range(rounds):
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/big.bin", **LEAKY[i % len(LEAKY)]}
            if wrapper is not None:
                environ["wsgi.file_wrapper"] = wrapper
            body = app(environ, lambda *args: lambda data: None)
            if i % 3:
                next(iter(body), None)
            if hasattr(body, "close"):
                body.close()
            with pytest.raises(RuntimeError):
                app(environ, fail)

    play(2 * len(LEAKY))
    before = len(os.listdir("/dev/fd"))
    play(1000)
    assert len(os.listdir("/dev/fd")) <= before  # fewer: a cache that was full of open ones


def test_a_file_that_others_read_is_not_given_away(site: Path) -> None:
    """Behind a middleware that takes the wrapper away from some of the requests."""
    app = StaticFiles(site)

    def call(**extra: Any) -> Any:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/big.bin", **extra}
        return app(environ, lambda *args: lambda data: None)

    shared = call(**{"wsgi.file_wrapper": Positional})
    fd = shared.filelike.fileno()
    alone = call()
    assert b"".join(alone) == b"".join(shared) == (site / "big.bin").read_bytes()
    alone.close()
    os.fstat(fd)  # still open
    again = call(**{"wsgi.file_wrapper": Positional})
    assert again.filelike.fileno() == fd


def test_threads_get_whole_answers(site: Path) -> None:
    """Many threads, one application, files that come, go and change, kept for no time at all."""
    app = StaticFiles(site)
    sizes = (100, 70_000)
    failures: list[object] = []
    stop = threading.Event()

    def change() -> None:
        for i in range(25):
            for name in ("one.txt", "two.txt"):
                new = site / f"{name}.new"
                new.write_bytes(b"%d" % (i % 10) * sizes[i % 2])
                os.replace(new, site / name)
            app._site.clear()
        stop.set()

    def check(wrapper: Any) -> None:
        try:
            while not stop.is_set():
                for name in ("/one.txt", "/two.txt"):
                    started: list[Any] = []
                    environ = {
                        "REQUEST_METHOD": "GET",
                        "PATH_INFO": name,
                        "HTTP_ACCEPT_ENCODING": "gzip",
                        "wsgi.file_wrapper": wrapper,
                        "wsgi.errors": sys.stderr,
                    }
                    body = app(environ, lambda *args, into=started: into.append(args))
                    data = b"".join(body)
                    if hasattr(body, "close"):
                        body.close()
                    ((status, pairs),) = started
                    headers = dict(pairs)
                    assert status == "200 OK"
                    assert len(data) == int(headers["Content-Length"])
                    if "Content-Encoding" in headers:
                        data = gzip.decompress(data)
                    assert len(set(data)) == 1
        except BaseException as error:
            failures.append(error)

    for name in ("one.txt", "two.txt"):
        (site / name).write_bytes(b"0" * 100)
    threads = [threading.Thread(target=check, args=(w,)) for w in (None, FileWrapper, Positional)]
    for thread in threads:
        thread.start()
    change()
    for thread in threads:
        thread.join()
    assert failures == []


def test_small_files_are_one_block(site: Path) -> None:
    (site / "edge.bin").write_bytes(b"x" * 65536)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/edge.bin", "wsgi.file_wrapper": None}
    body = StaticFiles(site)(environ, lambda *args: lambda data: None)
    assert body == [b"x" * 65536]


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")  # WebOb imports it
def test_under_webtest(site: Path) -> None:
    """WebTest's lint, and its own reading of the answers."""
    from webtest import TestApp  # type: ignore[import-untyped]

    app = TestApp(StaticFiles(site, behind, "/static"))
    assert app.get("/static/a.txt").content_length == 100
    assert app.head("/static/a.txt").content_length == 100
    assert app.get("/static/sub").follow().html is not None
    etag = app.get("/static/a.txt").etag
    assert app.get("/static/a.txt", headers={"If-None-Match": f'"{etag}"'}).status_int == 304
    assert app.get("/static/a.txt", headers={"Range": "bytes=1-2"}).body == b"12"
    assert app.options("/static/a.txt").status_int == 204
    assert app.post("/static/a.txt", status=405).headers["Allow"]
    assert app.get("/elsewhere").body == b"|/elsewhere"


def test_imports_no_server() -> None:
    script = "import middleware, sys; print([m for m in sys.modules if m.startswith('wsgiserver')])"
    root = Path(middleware.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_files_that_are_kept_open_give_way(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor left, and those that are kept are not needed: the answer is no 503."""
    app = StaticFiles(site)
    for name in ("big.bin", "empty.txt"):
        assert ask(app, f"/{name}").status == 200
    left = [1]
    opened = app._site._root.open
    clear = app._site.clear

    def open_(parts: Any) -> Any:
        if left[0] <= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(parts)

    def cleared() -> None:
        left[0] = 100
        clear()

    left[0] = 0
    monkeypatch.setattr(app._site._root, "open", open_)
    monkeypatch.setattr(app._site, "clear", cleared)
    assert ask(app, "/a.txt").status == 200
    left[0] = 0
    monkeypatch.setattr(app._site, "clear", clear)
    assert ask(app, "/sub/").status == 503


def test_nothing_is_open_when_a_server_may_fork(site: Path) -> None:
    """Processes that share a descriptor share its position, too."""
    (site / "404.html").write_bytes(b"x" * 300_000)
    (site / "app.html").write_bytes(b"x" * 300_000)
    before = len(os.listdir("/proc/self/fd"))
    app = StaticFiles(site, fallback="app.html")
    assert len(os.listdir("/proc/self/fd")) == before
    assert app is not None


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_resumed_download_is_of_one_state(site: Path, ask: Ask, size: int) -> None:
    """Rewritten in place, within the second in which nothing is looked at."""
    (site / "f.bin").write_bytes(b"a" * size)
    os.utime(site / "f.bin", (OLD, OLD))
    app = StaticFiles(site)
    wrapper = {"wsgi.file_wrapper": Positional}
    first = ask(app, "/f.bin", HTTP_RANGE="bytes=0-9", **wrapper)
    assert (first.status, first.body) == (206, b"a" * 10)
    with (site / "f.bin").open("r+b") as file:
        file.write(b"b" * size)
    asked = {"HTTP_RANGE": "bytes=10-19", "HTTP_IF_RANGE": first.headers["ETag"]}
    rest = ask(app, "/f.bin", **asked, **wrapper)
    assert (rest.status, rest.body) in [(206, b"a" * 10), (200, b"b" * size)]


def test_a_listing_names_the_path_it_is_mounted_at(site: Path, ask: Ask) -> None:
    app = StaticFiles(site, listing=True, prefix="/files")
    for mount in ("", "/caf\xc3\xa9"):
        page = ask(app, "/files/bare/", SCRIPT_NAME=mount).body.decode()
        name = mount.encode("latin-1").decode()
        assert f"<title>Index of {name}/files/bare/</title>" in page
        assert f'<a href="../"><bdi>{name}/files/</bdi></a>' in page
