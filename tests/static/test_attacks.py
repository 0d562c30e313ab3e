"""Inputs that broke other servers, as raw bytes over a socket.

What lies outside the root, or is hidden in it, is answered like what does not exist, byte for
byte; nothing is a 403 or a 500; the connection is usable afterwards, or closed after the answer.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes, urljoin, urlsplit

import pytest

from middleware import StaticFiles
from middleware.ranges import parse_range
from middleware.resolve import judge
from tests.serving import Command
from tests.static.ground import HOSTILE, HUGE, LONG_NAME, NO_UTF8, SECRET, lay_out, told, until
from tests.support.wire import Reply, request

# Sites with other options, by Host; and larger limits, so that what the server refuses in a head
# by itself reaches StaticFiles too.
SITES: Final = """
from middleware import StaticFiles

root = {root!r}
sites = {{
    "root": StaticFiles(root),
    "listed": StaticFiles(root, listing=True),
    "clean": StaticFiles(root, clean_urls=True),
    "css": StaticFiles(root + "/css", prefix="/css"),
    "apart": StaticFiles({apart!r}),
}}


def app(environ, start_response):
    if environ["HTTP_HOST"] == "wrapped":
        file = open(root + "/hundred.bin", "rb")
        file.seek(5)
        start_response("200 OK", [("Content-Length", "95")])
        return environ["wsgi.file_wrapper"](file)
    return sites[environ["HTTP_HOST"]](environ, start_response)
"""
LARGE_LIMITS: Final = (
    "--limit-request-field-size",
    "131072",
    "--limit-request-line",
    "65536",
)


@dataclass
class Ground:
    """The ground, and the servers on it: `mounted` serves the root at /static, as the option
    --documents-root does; `sites` see SITES."""

    top: Path
    root: Path
    mounted: Command
    sites: Command

    def ask(self, data: bytes, method: str = "GET", sites: bool = False) -> Reply:
        """The answer to these bytes, which must be safe; see the module."""
        server = self.sites if sites else self.mounted
        with server.connect() as wire:
            wire.send(data)
            reply = wire.reply(method)
            check(reply)
            if reply.closes:
                wire.finish()
                assert wire.ended()
                return reply
            after = ("/a.txt", "Host: root") if sites else ("/static/a.txt", "Host: test")
            wire.send(_raw(*after))
            assert wire.reply().body == b"the file a"
        return reply

    def get(self, target: str, *fields: str, host: str | None = None, method: str = "GET") -> Reply:
        """The answer to a target as it stands; `host` names one of SITES."""
        data = _raw(target, f"Host: {host or 'test'}", *fields, method=method)
        return self.ask(data, method, sites=host is not None)


def _raw(target: str, *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def check(reply: Reply) -> None:
    """What must be true of every answer."""
    assert reply.status not in (401, 403)
    assert reply.status < 500, reply
    assert SECRET not in reply.body
    assert SECRET.decode() not in str(reply.fields)
    location = reply.get("Location")
    if location is not None:
        assert not location.startswith(("//", "/\\", "\\"))
        assert re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", location) is None, "it names a scheme"
        assert not {"\r", "\n", "<", ">", '"', "\\"} & set(location)


@pytest.fixture(scope="module", params=["epoll", "threadpool"])
def ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    top = tmp_path_factory.mktemp("ground").resolve()
    root = lay_out(top)
    code, apart = top / "code", top / "apart"
    code.mkdir()
    apart.mkdir()
    text = SITES.format(root=str(root), apart=str(apart))
    (code / "attacked.py").write_text(text)
    mounted = ("--documents-root", str(root), "--static-url", "/static/")
    sites = ("--pythonpath", str(code), "attacked:app", *LARGE_LIMITS)
    model = ("-k", request.param)
    with Command(*model, *mounted) as first, Command(*model, *sites) as second:
        yield Ground(top, root, first, second)


# -- the path: what is outside, and the same with nothing there

# By what each broke before: what exists outside (TOP stands for the folder above the root), and
# the same with nothing there.
OUTSIDE: Final[dict[str, list[tuple[str, str]]]] = {
    "aiohttp CVE-2024-23334: dots": [
        ("/static/../../../../etc/passwd", "/static/../../../../etc/nowhere"),
        ("/static/../../../../../../../../etc/passwd", "/static/../../../../../../../../etc/no"),
        ("/static/..%2f..%2f..%2fetc%2fpasswd", "/static/..%2f..%2f..%2fetc%2fnowhere"),
        ("/static/../outside.txt", "/static/../nowhere.txt"),
        ("/static/..%2foutside.txt", "/static/..%2fnowhere.txt"),
        ("/static/..%2Foutside.txt", "/static/..%2Fnowhere.txt"),
        ("/static//etc/passwd", "/static//etc/nowhere"),
        ("/static/%2fetc%2fpasswd", "/static/%2fetc%2fnowhere"),
    ],
    "aiohttp CVE-2025-69226: another status for what exists": [
        ("/static/../../../../../../../..TOP/root/a.txt", "/static/../../../../../../../..TOP/r/a"),
        ("/static/../root/a.txt", "/static/../rooms/a.txt"),
        ("/static/sub/../a.txt", "/static/nowhere/../a.txt"),
    ],
    "Starlette CVE-2023-29159, Rack CVE-2026-22860: a prefix of the name": [
        ("/static/../root_secret/s.txt", "/static/../root_secret/nowhere.txt"),
        ("/static/x.txt/../../root_secret/s.txt", "/static/x.txt/../../root_secret/no.txt"),
    ],
    "Rack CVE-2026-34786, Sanic CVE-2022-35920: encoded slashes": [
        ("/static/public/..%2F/private/x", "/static/public/..%2F/private/nowhere"),
        ("/static/public/..%2Fprivate/x", "/static/public/..%2Fprivate/nowhere"),
        ("/static/private%2Fx", "/static/private%2Fnowhere"),
    ],
    "tower-http RUSTSEC-2022-0043, Starlette #981: drives": [
        ("/static/c%3a%5cwindows%5cwin.ini", "/static/c%3a%5cnowhere"),
        ("/static/x/c:/windows/win.ini", "/static/x/c:/nowhere"),
    ],
    "Starlette CVE-2026-48818, Werkzeug CVE-2024-49766: UNC paths": [
        ("/static/%5c%5cattacker.com%5cshare", "/static/%5c%5cnowhere%5cx"),
        ("/static///attacker.com/share", "/static///nowhere/x"),
        ("/static//s/share/x.txt", "/static//s/share/nowhere.txt"),
    ],
    "whitenoise #197: absolute Windows paths": [
        ("/static/C:TOP/root_secret/s.txt", "/static/C:TOP/root_secret/nowhere.txt"),
        ("/static/C:\\..\\outside.txt", "/static/C:\\..\\nowhere.txt"),
        ("/static/..\\outside.txt", "/static/..\\nowhere.txt"),
        ("/static/sub\\index.html", "/static/sub\\nowhere"),
    ],
    "Pyramid CVE-2023-40587, Starlette #2563: NUL": [
        ("/static/..%00/", "/static/no%00/"),
        ("/static/%2e%2e%00", "/static/no%00"),
        ("/static/a.txt%00.png", "/static/nowhere%00.png"),
        ("/static/a.txt%00", "/static/nowhere%00"),
        ("/static/../outside.txt%00.png", "/static/../nowhere%00.png"),
    ],
    "Litestar CVE-2024-32982: dots that are not normalised": [
        ("/static/../../etc/passwd", "/static/../../etc/nowhere"),
        ("/static/%2e%2e/%2e%2e/etc/passwd", "/static/%2e%2e/%2e%2e/etc/nowhere"),
    ],
    "Grafana CVE-2025-4123: encoded slash and backslash": [
        ("/static/..%2F%5cevil.com%2F%3f%2F..%2F..", "/static/..%2F%5cno%2F%3f%2F..%2F.."),
    ],
    "nginx's alias without a slash": [
        ("/static../outside.txt", "/static../nowhere.txt"),
        ("/static../root/a.txt", "/static../root/nowhere.txt"),
    ],
    "static-web-server CVE-2025-67487: links": [
        ("/static/out.txt", "/static/nowhere.txt"),
        ("/static/out-absolute.txt", "/static/nowhere.txt"),
        ("/static/d/outside.txt", "/static/d/nowhere.txt"),
        ("/static/d/root/a.txt", "/static/d/root/nowhere.txt"),
        ("/static/d/", "/static/nowhere/"),
        ("/static/d", "/static/nowhere"),
        ("/static/trap/", "/static/nowhere/"),
        ("/static/trap", "/static/nowhere"),
        ("/static/linked.txt.gz", "/static/nowhere.gz"),
    ],
    "Apache CVE-2021-41773, Connect #198: encodings of dots": [
        ("/static/%2e%2e/outside.txt", "/static/%2e%2e/nowhere.txt"),
        ("/static/.%2e/outside.txt", "/static/.%2e/nowhere.txt"),
        ("/static/%2E./outside.txt", "/static/%2E./nowhere.txt"),
        ("/static/.%%32%65/outside.txt", "/static/.%%32%65/nowhere.txt"),
        ("/static/%252e%252e/outside.txt", "/static/%252e%252e/nowhere.txt"),
        ("/static/%252e%252e%252foutside.txt", "/static/%252e%252e%252fnowhere.txt"),
        ("/static/..%c0%afoutside.txt", "/static/..%c0%afnowhere.txt"),
        ("/static/%c0%ae%c0%ae/outside.txt", "/static/%c0%ae%c0%ae/nowhere.txt"),
        ("/static/%e0%80%ae%e0%80%ae/outside.txt", "/static/%e0%80%ae%e0%80%ae/nowhere.txt"),
        ("/static/..%ef%bc%8foutside.txt", "/static/..%ef%bc%8fnowhere.txt"),
    ],
    "dotfiles": [
        ("/static/.env", "/static/.nowhere"),
        ("/static/.git/config", "/static/.git/nowhere"),
        ("/static/.git/", "/static/.nowhere/"),
        ("/static/.git", "/static/.nowhere"),
        ("/static/sub/.htpasswd", "/static/sub/.nowhere"),
        ("/static/%2eenv", "/static/%2enowhere"),
        ("/static/.env.gz", "/static/.nowhere.gz"),
        ("/static/_headers", "/static/_nowhere"),
        ("/static/_redirects", "/static/_nowhere"),
    ],
    "Vite CVE-2024-23331: upper case": [
        ("/static/.ENV", "/static/.NOWHERE"),
        ("/static/_HEADERS", "/static/_NOWHERE"),
        ("/static/.%45nv", "/static/.nowhere"),
    ],
    "names that Windows trims": [
        ("/static/a.txt.", "/static/nowhere."),
        ("/static/a.txt%20", "/static/nowhere%20"),
        ("/static/a.txt::$DATA", "/static/nowhere::$DATA"),
        ("/static/ROOT_S~1/S.TXT", "/static/NOWHER~1/S.TXT"),
    ],
    "Werkzeug: a file as a directory": [
        ("/static/a.txt/", "/static/nowhere/"),
        ("/static/a.txt/x", "/static/nowhere/x"),
        ("/static/a.txt//", "/static/nowhere//"),
        ("/static/a.txt/.", "/static/nowhere/."),
    ],
    "what is no regular file, and long names": [
        ("/static/fifo", "/static/nowhere"),
        ("/static/socket", "/static/nowhere"),
        ("/static/zero", "/static/nowhere"),
        ("/static/loop", "/static/nowhere"),
        ("/static/dangling", "/static/nowhere"),
        ("/static/folder/", "/static/nowhere/"),
        ("/static/folder", "/static/nowhere"),
        ("/static/folder/index.html", "/static/nowhere/index.html"),
        ("/static/fifo/", "/static/nowhere/"),
        ("/static/" + "n" * 256, "/static/" + "m" * 256),
        ("/static/" + "n" * 5000, "/static/" + "m" * 5000),
    ],
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("there", "nowhere"),
    [pytest.param(*pair, id=pair[0][:60]) for pairs in OUTSIDE.values() for pair in pairs],
)
def test_outside_is_like_nowhere(ground: Ground, there: str, nowhere: str, method: str) -> None:
    """Asked for twice, so that a cached answer is the same too."""
    there = there.replace("TOP", str(ground.top))
    nowhere = nowhere.replace("TOP", str(ground.top))
    first, second, third = (ground.get(target, method=method) for target in (there, nowhere, there))
    assert first.status in (400, 404)
    assert told(first) == told(second) == told(third)


@pytest.mark.parametrize("fields", [(), ("Accept: text/html",), ("Range: bytes=0-3",)])
@pytest.mark.parametrize("target", ["/static/../outside.txt", "/static/d/outside.txt"])
def test_outside_whatever_is_asked(ground: Ground, target: str, fields: tuple[str, ...]) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"):
        there = ground.get(target, *fields, method=method)
        nowhere = ground.get(target.replace("outside", "nowhere"), *fields, method=method)
        assert there.status in (400, 404, 405)
        assert told(there) == told(nowhere)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, br, zstd", "*", "identity;q=0, *"])
def test_a_sibling_that_leads_outside(ground: Ground, coding: str) -> None:
    """aiohttp CVE-2024-42367: links named like siblings, in each coding."""
    reply = ground.get("/static/linked.txt", f"Accept-Encoding: {coding}")
    if coding.startswith("identity;q=0"):
        assert reply.status == 406
    else:
        assert (reply.status, reply.body) == (200, b"plain and short")
    assert reply.get("Content-Encoding") is None


def test_a_prefix_ends_at_a_slash(ground: Ground) -> None:
    """Rack CVE-2026-34785."""
    there = ground.get("/css-config.env", host="css")
    assert there.status == 404
    assert told(there) == told(ground.get("/css-nowhere.env", host="css"))
    assert ground.get("/css/site.css", host="css").body == b"body {}"


def test_rules_hold_for_every_spelling(ground: Ground) -> None:
    """Caddy #7941: the rules of `_headers` are for the file that is served."""
    for target in ("/static/app.js", "/static/app%2ejs", "/static/%61pp.js?x=1"):
        reply = ground.get(target)
        assert (reply.body, reply.get("X-Rule")) == (b"let app;", "obeyed")


# What only Windows reads as something else (Werkzeug CVE-2025-66221 and others).
WINDOWS: Final = [
    "/c:\\windows\\win.ini",
    "/x/c:/windows/win.ini",
    "/\\\\attacker.com\\share",
    "///attacker.com/share",
    *["/NUL", "/CON.txt.html", "/CON  ", "/CON . txt", "/b/CON", "/COM\u00b9", "/CONIN$"],
    *["/nul.txt", "/lpt1", "/aux.", "/a/prn/b", "/conout$", "/COM1:"],
    "/C:/path/to/root_secret/s.txt",
    "/C:\\..",
    "/sub\\index.html",
    *["/a.txt.", "/a.txt ", "/a.txt::$DATA", "/SECRET~1.TXT", "/a.txt:stream"],
]


@pytest.mark.parametrize("path", WINDOWS)
def test_what_windows_reads_as_something_else(ground: Ground, path: str) -> None:
    """Refused where Windows rules, before the file system hears of it; a name like any other
    elsewhere, unless it has a backslash or an empty part."""
    spelled = path.encode().decode("latin-1")
    assert judge(spelled, windows=True) is None
    expected = 200 if path == "/NUL" else 404
    assert ground.get("/static" + quote_from_bytes(path.encode())).status == expected
    if "\\" in path or "//" in path:
        assert judge(spelled, windows=False) is None


# -- redirects

# On a root mounted at / (CPython CVE-2021-28861, Tornado CVE-2023-28370, Grafana CVE-2025-4123).
REDIRECTS: Final = [
    "//evil.com",
    "//evil.com/",
    "//evil.com/%2e%2e",
    "//evil.com/..",
    "//evil.com%2f..",
    "///evil.com/..%2f..%2f../%0a%0d/../sub",
    "/\\evil.com/..",
    "/%5cevil.com",
    "/%5c/evil.com/%2e%2e",
    "/%2fevil.com",
    "/%2f%2fevil.com",
    "//sub",
    "/%09/evil.com",
    "/sub%0d%0aX-Injected:%20yes",
    "/%0d%0aLocation:%20//evil.com",
    "/public/..%2F%5cevil.com%2F%3f%2F..%2F..",
    "/.//evil.com",
    "/sub/..//evil.com",
    "/evil.com//",
    "/sub?//evil.com",
    "/x:y",
    "/evil.com",
    '/evil.com?next=//evil.com&a=<b>&c="',
    "/sub?a=%0d%0aX-Injected:%20yes",
    "/sub;//evil.com",
]


@pytest.mark.parametrize("target", REDIRECTS)
def test_redirects_stay_here(ground: Ground, target: str) -> None:
    reply = ground.get(target, host="root")
    assert reply.status in (301, 400, 404)
    assert reply.get("X-Injected") is None
    if reply.status == 301:
        location = reply.get("Location")
        assert location is not None
        base = f"http://root{target}"
        assert urlsplit(urljoin(base, location)).netloc == "root"
        folder = target.partition("?")[0] + "/"
        assert urlsplit(urljoin(base, location)).path == quote(folder, safe="/")


def test_a_redirect_body_is_no_markup(ground: Ground) -> None:
    """serve-static CVE-2024-43800."""
    reply = ground.get("/q%22%3E%3Cscript%3Ealert(1)", host="root")
    assert (reply.status, reply.get("X-Content-Type-Options")) == (301, "nosniff")
    assert b"<" not in reply.body and b"script" not in reply.body
    assert str(reply.get("Content-Type")).startswith("text/plain")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "evil.example/path", "[::1]"])
def test_a_redirect_does_not_name_the_host(ground: Ground, host: str) -> None:
    """Starlette built it of the Host field."""
    reply = ground.ask(_raw("/static/sub", f"Host: {host}"))
    if reply.status != 400:
        assert (reply.status, reply.get("Location")) == (301, "sub/")


# -- the listing


class _Links(HTMLParser):
    """The links of a page, and all tags and attributes in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.events: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events += [name for name, _ in attrs if name.startswith("on")]
        self.links += [value or "" for name, value in attrs if name == "href" and tag == "a"]
        assert tag not in ("img", "iframe")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_in_a_listing(ground: Ground) -> None:
    """vert.x CVE-2025-11966: each name is shown as it is, and its link leads to that very file."""
    reply = ground.get("/list/", "Accept: text/html", host="listed")
    assert reply.status == 200
    page = _Links()
    page.feed(reply.body.decode())
    assert not page.events
    assert b"<script>alert" not in reply.body
    targets = [urljoin("http://listed/list/", link) for link in page.links]
    assert all(target.startswith("http://listed/") for target in targets)
    paths = {urlsplit(target).path for target in targets if not urlsplit(target).query}
    files = {unquote_to_bytes(path).decode(): path for path in paths}
    for name in HOSTILE:
        assert name in page.text
        got = ground.get(files[f"/list/{name}"], host="listed")
        assert (got.status, got.body) == (200, name.encode())


def test_hostile_names_in_json(ground: Ground) -> None:
    reply = ground.get("/list/", "Accept: application/json", host="listed")
    assert reply.get("Content-Type") == "application/json"
    assert all(
        name in json.dumps(json.loads(reply.body), ensure_ascii=False).replace('\\"', '"')
        for name in HOSTILE
    )


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_listing_does_not_tell_what_is_hidden(ground: Ground, accept: str) -> None:
    """Links that lead outside, dotfiles, and what is no regular file."""
    hidden = ground.root / "bare"
    hidden.mkdir(exist_ok=True)
    for name in (".env", ".htpasswd", "seen.txt"):
        (hidden / name).write_bytes(b"")
    for name, target in (("out.txt", "../../outside.txt"), ("d", "../.."), ("zero", "/dev/zero")):
        if not (hidden / name).is_symlink():
            (hidden / name).symlink_to(target)
    if not (hidden / "pipe").exists():
        os.mkfifo(hidden / "pipe")
    body = ground.get("/bare/", f"Accept: {accept}", host="listed").body
    assert b"seen.txt" in body
    for word in (b".env", b".htpasswd", b"out.txt", b"zero", b"pipe", b"outside"):
        assert word not in body


# -- ranges

STORMS: Final = [
    "bytes=" + "0" * 60_000,  # Starlette CVE-2025-62727
    "bytes=" + "0" * 60_000 + "-",
    "bytes=" + "0" * 60_000 + "-9",
    "bytes=-" + "9" * 60_000,
    "bytes=" + ",".join(f"{number}-{number}" for number in range(0, 16_000, 2))[:60_000],
    "bytes=" + "0-0," * 15_000,
    "bytes=" + "," * 60_000 + "0-0",
    "bytes=" + " ," * 30_000,
    "bytes=0-," + ",".join(f"5-{number}" for number in range(1300)),  # Apache CVE-2011-3192
    "bytes=0-,5-0," + ",".join(f"5-{number}" for number in range(5, 95)),
    "bytes=-705,-9223372036854775103",  # nginx CVE-2017-7529
    "bytes=0-18446744073709551615",
    "bytes=18446744073709551615-",
    "bytes=-18446744073709551616",
    "bytes=9223372036854775807-9223372036854775808",
    "bytes=--5",
    "bytes=+1-2",
    "bytes=1_0-2_0",
    "bytes=\u0660-\u0669",
]


@pytest.mark.parametrize("value", STORMS, ids=lambda value: value[:30])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ranges_cost_no_more_than_the_file(ground: Ground, value: str, method: str) -> None:
    whole = bytes(range(100))
    field = f"Range: {value}".encode().decode("latin-1")
    for host in (None, "root"):
        target = "/hundred.bin" if host else "/static/hundred.bin"
        began = time.monotonic()
        reply = ground.get(target, field, host=host, method=method)
        assert time.monotonic() - began < 2
        length = int(reply.get("Content-Length") or 0)
        assert reply.status in ((200, 206, 416, 431) if len(value) > 8000 else (200, 206, 416))
        assert reply.status in (416, 431) or length <= len(whole)
        if method == "GET" and reply.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/100", str(reply.get("Content-Range")))
            assert found, "several parts would cost more than this file"
            assert reply.body == whole[int(found[1]) : int(found[2]) + 1]
        elif method == "GET" and reply.status == 200:
            assert reply.body == whole


def test_a_suffix_longer_than_the_file(ground: Ground) -> None:
    """nginx CVE-2017-7529: what it does mean."""
    for value in ("bytes=-705", "bytes=0-18446744073709551615"):
        reply = ground.get("/static/hundred.bin", f"Range: {value}")
        assert (reply.status, reply.body) == (206, bytes(range(100)))
        assert reply.get("Content-Range") == "bytes 0-99/100"


@pytest.mark.parametrize("value", [value for value in STORMS if len(value) > 8000])
def test_a_storm_is_judged_quickly(value: str) -> None:
    """The best of a few, since the machine may be busy."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        parse_range(value, 100_000, 100)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.01


# -- conditions


@pytest.mark.parametrize("value", ["0", "-1", "Thu, 32 Foo", "", "x" * 8000, "x" * 100_000])
@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-None-Match"])
def test_conditions_that_mean_nothing(ground: Ground, name: str, value: str) -> None:
    """Tornado #3412: dates that are none."""
    for host in (None, "root"):
        reply = ground.get("/a.txt" if host else "/static/a.txt", f"{name}: {value}", host=host)
        assert reply.status in ((200, 431) if len(value) >= 8000 else (200,))


def test_tags_of_different_states(ground: Ground) -> None:
    """Caddy d6f7f18b0: time and size ran into each other."""
    apart = ground.top / "apart"
    (apart / "one.txt").write_bytes(b"x" * 75)
    os.utime(apart / "one.txt", ns=(2 * 10**9, 2 * 10**9))
    (apart / "two.txt").write_bytes(b"x" * 3)
    os.utime(apart / "two.txt", ns=(72 * 10**9 + 2, 72 * 10**9 + 2))
    tags = {ground.get(f"/{name}.txt", host="apart").get("ETag") for name in ("one", "two")}
    assert len(tags) == 2 and None not in tags


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_no_time_zone_in_a_tag(ground: Ground, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """whitenoise's tags depend on it."""
    served = ground.get("/static/a.txt")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        told: list[tuple[str, str]] = []
        environ: dict[str, Any] = {"REQUEST_METHOD": "HEAD", "PATH_INFO": "/a.txt"}

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            told.extend(headers)

        StaticFiles(ground.root)({**environ, "wsgi.url_scheme": "http"}, start_response)
    finally:
        monkeypatch.undo()
        time.tzset()
    for name in ("ETag", "Last-Modified"):
        assert dict(told)[name] == served.get(name)


def test_a_deleted_page_is_gone_whatever_is_known_of_it(ground: Ground) -> None:
    """Starlette #1023: never "304 Not Modified", by the date or the tag of 404.html or its own."""
    apart = ground.top / "apart"
    (apart / "404.html").write_text("<title>nothing here</title>")
    os.utime(apart / "404.html", (1_000_000_000, 1_000_000_000))
    (apart / "some.html").write_text("<title>some</title>")
    page = ground.get("/some.html", host="apart")
    assert page.status == 200
    other = ground.get("/404.html", host="apart").get("ETag")
    (apart / "some.html").unlink()
    gone = until(lambda: ground.get("/some.html", host="apart"), lambda reply: reply.status == 404)
    assert gone.get("ETag") is None and gone.get("Last-Modified") is None
    for field in (
        f"If-None-Match: {page.get('ETag')}",
        f"If-None-Match: {other}",
        "If-None-Match: *",
        f"If-Modified-Since: {page.get('Last-Modified')}",
        "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",
        f"If-Match: {page.get('ETag')}",
        "Range: bytes=0-3",
    ):
        assert ground.get("/some.html", field, host="apart").status == 404


@pytest.mark.parametrize("user", ["", "root:", "nobody:x", "x" * 5000])
def test_credentials_change_nothing(ground: Ground, user: str) -> None:
    """There is no password to be guessed (static-web-server CVE-2026-27480)."""
    for target in ("/static/a.txt", "/static/.env"):
        plain = ground.get(target)
        assert told(plain) == told(ground.get(target, f"Authorization: Basic {user}"))


# -- dotfiles


def test_well_known_is_served(ground: Ground) -> None:
    """RFC 8615."""
    assert ground.get("/static/.well-known/x").body == b"well known"


@pytest.mark.parametrize("target", ["/.hidden", "/.hidden.html", "/.env", "/sub/.htpasswd"])
def test_clean_addresses_do_not_show_dotfiles(ground: Ground, target: str) -> None:
    reply = ground.get(target, host="clean")
    assert reply.status == 404
    assert told(reply) == told(ground.get("/nowhere", host="clean"))


@pytest.mark.parametrize("target", ["/.git/", "/.git", "/.well-known/"])
def test_a_hidden_folder_is_not_listed(ground: Ground, target: str) -> None:
    reply = ground.get(target, host="listed")
    assert b"config" not in reply.body
    assert reply.status == (200 if "well" in target else 404)


# -- special files


def test_an_empty_file(ground: Ground) -> None:
    reply = ground.get("/static/empty.txt")
    assert (reply.status, reply.body, reply.get("Content-Length")) == (200, b"", "0")
    assert ground.get("/static/empty.txt", "Range: bytes=0-").status in (200, 416)
    assert ground.get("/static/empty.txt", "Range: bytes=-5").status in (200, 416)


def test_a_file_over_two_gibibytes(ground: Ground) -> None:
    head = ground.get("/static/huge.bin", method="HEAD")
    assert (head.status, head.get("Content-Length")) == (200, str(HUGE))
    last = ground.get("/static/huge.bin", f"Range: bytes={HUGE - 4}-")
    assert (last.status, last.body) == (206, b"last")
    assert last.get("Content-Range") == f"bytes {HUGE - 4}-{HUGE - 1}/{HUGE}"
    assert ground.get("/static/huge.bin", "Range: bytes=-2").body == b"st"
    start = (1 << 31) - 2
    middle = ground.get("/static/huge.bin", f"Range: bytes={start}-{start + 3}")
    assert middle.body == b"\0\0\0\0"
    assert ground.get("/static/huge.bin", f"Range: bytes={HUGE}-").status == 416
    parts = ground.get("/static/huge.bin", f"Range: bytes=0-1,{HUGE - 2}-")
    assert parts.status == 206 and b"\r\n\r\nst\r\n--" in parts.body


def test_the_beginning_of_a_huge_file_and_no_more(ground: Ground) -> None:
    with ground.mounted.connect() as wire:
        wire.send(request("/static/huge.bin"))
        assert b"200 OK" in wire.read_some(1 << 20)
        wire.reset()
    assert ground.get("/static/a.txt").status == 200


def test_a_name_as_long_as_can_be(ground: Ground) -> None:
    assert ground.get(f"/static/{LONG_NAME}").body == b"a long name"


def test_a_name_that_is_not_utf8(ground: Ground) -> None:
    """It has no spelling in a URL that means it: URLs are UTF-8. It is missing, and no fault."""
    raw = ground.get("/static/" + quote_from_bytes(NO_UTF8))
    assert raw.status == 404
    bare = ground.ask(b"GET /static/" + NO_UTF8 + b" HTTP/1.1\r\nHost: test\r\n\r\n")
    assert bare.status in (400, 404)
    listing = ground.get("/", "Accept: application/json", host="listed")
    assert listing.status == 200


# -- what the server does with an application's file


def test_a_file_wrapper_begins_where_the_file_stands(ground: Ground) -> None:
    """gunicorn #2669: its offset was ignored."""
    assert ground.get("/", host="wrapped").body == bytes(range(5, 100))
