"""StaticFiles as a WSGI application, always behind wsgiref's validator."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

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
        "Content-Length": "100",
    }


@pytest.mark.parametrize("name", ["a.txt", "empty.txt", "big.bin", "missing", "", "sub", "sub/"])
@pytest.mark.parametrize("page", [True, False])
def test_head_equals_get_without_the_body(site: Path, ask: Ask, name: str, page: bool) -> None:
    app = StaticFiles(site, not_found_page=page)
    get, head = ask(app, f"/{name}"), ask(app, f"/{name}", "HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert int(get.headers["Content-Length"]) == len(get.body)


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
    for path in ("/a.txt", "/sub"):
        reply = ask(StaticFiles(site, behind), path, method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
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
        assert "Cache-Control" not in reply.headers  # a refusal must not be kept
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
    assert "Cache-Control" not in reply.headers


@pytest.mark.parametrize(
    "value", ["bytes=5-4", "bytes=--5", "items=0-1", "bytes=1_0-2_0", "", "bytes=0-0,2-2"]
)
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


def test_not_found_pages(site: Path, ask: Ask) -> None:
    app = StaticFiles(site)
    built_in = ask(app, "/missing")
    assert built_in.status == 404
    assert built_in.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<h1>" in built_in.body
    page = b"<title>ours</title>" * 10_000  # larger than one block
    (site / "404.html").write_bytes(page)
    own = ask(app, "/missing")
    assert (own.status, own.body) == (404, page)
    assert "ETag" not in own.headers
    assert "Last-Modified" not in own.headers
    assert ask(app, "/404.html").status == 200
    plain = ask(StaticFiles(site, not_found_page=False), "/missing")
    assert (plain.status, plain.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_404_page_that_is_none(site: Path, ask: Ask, kind: str) -> None:
    if kind == "directory":
        (site / "404.html").mkdir()
    else:
        (site / "404.html").symlink_to("../outside.txt")
    reply = ask(StaticFiles(site), "/missing")
    assert reply.status == 404
    assert b"<h1>" in reply.body


def test_cache_control_follows_the_file_served(site: Path, ask: Ask) -> None:
    seen = []

    def policy(path: str) -> str | None:
        seen.append(path)
        return "no-cache" if path.endswith(".html") else None

    app = StaticFiles(site, prefix="/s", cache_control=policy)
    assert ask(app, "/s/sub/").headers["Cache-Control"] == "no-cache"
    assert "Cache-Control" not in ask(app, "/s/%61.txt").headers
    assert "Cache-Control" not in ask(app, "/s/missing").headers
    assert seen == ["sub/index.html", "a.txt"]


@pytest.mark.parametrize("seconds", [0, 1])
def test_times_that_tell_nothing_give_no_validators(site: Path, ask: Ask, seconds: int) -> None:
    os.utime(site / "a.txt", (seconds, seconds))
    reply = ask(StaticFiles(site), "/a.txt", HTTP_IF_MODIFIED_SINCE=formatdate(OLD, usegmt=True))
    assert reply.status == 200
    assert {"ETag", "Last-Modified"}.isdisjoint(reply.headers)


def test_a_time_in_the_future_is_not_sent(site: Path, ask: Ask) -> None:
    os.utime(site / "a.txt", (1 << 33, 1 << 33))
    before = int(time.time())
    headers = ask(StaticFiles(site), "/a.txt").headers
    sent = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
    assert before <= sent <= time.time()


def test_etags_tell_states_apart(site: Path, ask: Ask) -> None:
    app = StaticFiles(site)
    target = site / "a.txt"
    seen = set()
    # Caddy d6f7f18b0: without a separator, time and size ran into each other
    for nanoseconds, size in [(2 * 10**9, 75), (72 * 10**9 + 2, 3), (72 * 10**9 + 3, 3)]:
        target.write_bytes(b"x" * size)
        os.utime(target, ns=(nanoseconds, nanoseconds))
        seen.add(ask(app, "/a.txt").headers["ETag"])
    replacement = site / "new"
    replacement.write_bytes(b"y" * 3)  # as `cp -p` does: same time, same size, another file
    os.utime(replacement, ns=(nanoseconds, nanoseconds))
    os.replace(replacement, target)
    seen.add(ask(app, "/a.txt").headers["ETag"])
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


def test_a_file_is_seen_as_it_is_now(site: Path, ask: Ask) -> None:
    app = StaticFiles(site)
    assert ask(app, "/later.txt").status == 404
    (site / "later.txt").write_bytes(b"here")
    assert ask(app, "/later.txt").body == b"here"
    (site / "later.txt").write_bytes(b"changed")
    assert ask(app, "/later.txt").body == b"changed"
    (site / "later.txt").unlink()
    assert ask(app, "/later.txt").status == 404


def test_out_of_descriptors_is_503_and_logged(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("middleware.resolve.open_beneath", fail)
    for app in (StaticFiles(site), StaticFiles(site, behind)):
        reply = ask(app, "/a.txt")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert (
            reply.errors == "StaticFiles: cannot serve '/a.txt': [Errno 24] Too many open files\n"
        )


def test_a_file_that_shrinks_before_it_is_read_is_503(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrink(*args: Any) -> Any:
        os.truncate(site / "a.txt", 50)
        return 200

    monkeypatch.setattr(middleware.static, "evaluate", shrink)
    reply = ask(StaticFiles(site), "/a.txt")
    assert reply.status == 503
    assert "shorter" in reply.errors


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


def test_no_descriptor_is_left(site: Path, ask: Ask) -> None:
    """Answers without a body, answers never read, and a server that fails half-way."""
    app = StaticFiles(site)
    etag = ask(app, "/big.bin").headers["ETag"]

    def fail(*args: object) -> Any:
        raise RuntimeError("the server failed")

    before = len(os.listdir("/dev/fd"))
    for _ in range(200):
        ask(app, "/big.bin", HTTP_IF_NONE_MATCH=etag)
        ask(app, "/big.bin", HTTP_IF_MATCH='"x"')
        ask(app, "/big.bin", "HEAD")
        ask(app, "/big.bin", "POST")
        ask(app, "/big.bin", HTTP_RANGE="bytes=999999-")
        ask(app, "/sub")
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/big.bin"}
        body = app(environ, lambda *args: lambda data: None)
        next(iter(body))
        body.close()  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            app(environ, fail)
    assert len(os.listdir("/dev/fd")) == before


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
