"""Headers for other origins, preflights, and the preset of security headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from middleware import StaticFiles
from middleware.cors import Cors
from middleware.security import HSTS, PRESET

Ask = Callable[..., Any]
A, B, EVIL = "https://a.example", "http://b.example:8080", "https://a.example.evil.example"
ALLOW = "Access-Control-Allow-Origin"
PREFLIGHT = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}

# Requests that are answered with each status.
ANSWERS: list[tuple[str, dict[str, str], int]] = [
    ("/a.txt", {}, 200),
    ("/a.txt", {"HTTP_RANGE": "bytes=0-0"}, 206),
    ("/big.bin", {"HTTP_RANGE": "bytes=5-100000"}, 206),
    ("/big.bin", {"HTTP_RANGE": "bytes=0-9,100000-100009"}, 206),
    ("/a.txt", {"HTTP_IF_NONE_MATCH": "*"}, 304),
    ("/a.txt", {"HTTP_IF_MATCH": '"x"'}, 412),
    ("/a.txt", {"HTTP_RANGE": "bytes=500-"}, 416),
    ("/a.txt", {"HTTP_ACCEPT_ENCODING": "identity;q=0"}, 406),
    ("/a.txt", {"REQUEST_METHOD": "POST"}, 405),
    ("/sub", {}, 301),
    ("/missing", {}, 404),
    ("/moved", {}, 302),
    ("/forced", {}, 200),
    ("/gone", {}, 410),
]


@pytest.fixture
def ruled(site: Path) -> Path:
    (site / "_redirects").write_text(
        "/moved /a.txt 302\n/forced /a.txt 200!\n/gone /sub/ 410\n", "ascii"
    )
    (site / "font.woff2").write_bytes(b"font")
    return site


@pytest.mark.parametrize(("path", "request_", "status"), ANSWERS)
def test_all_origins(
    ruled: Path, ask: Ask, path: str, request_: dict[str, str], status: int
) -> None:
    for page in (True, False):
        reply = ask(StaticFiles(ruled, cors_origins="*", not_found_page=page), path, **request_)
        assert (reply.status, reply.headers[ALLOW]) == (status, "*")
        assert "Origin" not in reply.headers.get("Vary", "")
        assert "Content-Range" in reply.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(("path", "request_", "status"), ANSWERS)
def test_named_origins(
    ruled: Path, ask: Ask, path: str, request_: dict[str, str], status: int
) -> None:
    for page in (True, False):
        app = StaticFiles(ruled, cors_origins=[A, B], not_found_page=page)
        for origin, allowed in [(A, A), (B, B), (EVIL, None), ("null", None), (None, None)]:
            asked = {} if origin is None else {"HTTP_ORIGIN": origin}
            reply = ask(app, path, **request_, **asked)
            assert (reply.status, reply.headers.get(ALLOW)) == (status, allowed)
            # a cache must not give one origin's answer to another, nor one without to any
            assert "Origin" in reply.headers["Vary"]


def test_without_origins_fonts_are_for_all(ruled: Path, ask: Ask) -> None:
    app = StaticFiles(ruled)
    assert ask(app, "/font.woff2").headers[ALLOW] == "*"
    assert ask(app, "/font.woff2", HTTP_IF_NONE_MATCH="*").headers[ALLOW] == "*"
    assert ALLOW not in ask(app, "/a.txt", HTTP_ORIGIN=A).headers
    assert ALLOW not in ask(StaticFiles(ruled, cors_origins=[A]), "/font.woff2").headers


def test_origins_are_compared_without_case_and_whole() -> None:
    cors = Cors([A.upper()])
    assert dict(cors.for_request({"HTTP_ORIGIN": A}))[ALLOW] == A
    for origin in ("https://a.exampl", "a.example", "https://a.example:443", f"{A}, {B}", ""):
        assert cors.for_request({"HTTP_ORIGIN": origin}) == []


def test_preflight(ruled: Path, ask: Ask) -> None:
    request = {"HTTP_ORIGIN": A, "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": "range, x-a", **PREFLIGHT}
    every = ask(StaticFiles(ruled, cors_origins="*"), "/a.txt", "OPTIONS", **request)
    assert every.status == 204
    assert every.headers == {
        "Allow": "GET, HEAD, OPTIONS",
        ALLOW: "*",
        "Access-Control-Allow-Headers": "range, x-a",
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Max-Age": "86400",
    }
    named = ask(StaticFiles(ruled, cors_origins=[A]), "/a.txt", "OPTIONS", **request)
    assert named.headers == {**every.headers, ALLOW: A, "Vary": "Origin"}
    evil = {**request, "HTTP_ORIGIN": EVIL}
    refused = ask(StaticFiles(ruled, cors_origins=[A]), "/a.txt", "OPTIONS", **evil)
    assert refused.headers == {"Allow": "GET, HEAD, OPTIONS", "Vary": "Origin"}
    font = ask(StaticFiles(ruled), "/font.woff2", "OPTIONS", **request)
    assert font.headers == every.headers
    assert ALLOW not in ask(StaticFiles(ruled), "/a.txt", "OPTIONS", **request).headers
    assert ask(StaticFiles(ruled, cors_origins="*"), "/missing", "OPTIONS", **request).status == 404


def test_a_preflight_repeats_only_names(ruled: Path, ask: Ask) -> None:
    app = StaticFiles(ruled, cors_origins="*")
    for wanted in ("a: b", "<script>", "x" * 2000, "é", ""):
        reply = ask(
            app,
            "/a.txt",
            "OPTIONS",
            HTTP_ORIGIN=A,
            HTTP_ACCESS_CONTROL_REQUEST_HEADERS=wanted,
            **PREFLIGHT,
        )
        assert reply.headers[ALLOW] == "*"
        assert "Access-Control-Allow-Headers" not in reply.headers


def test_the_preset(ruled: Path, ask: Ask) -> None:
    app = StaticFiles(ruled, security_headers=True, listing=True)
    for path in ("/a.txt", "/", "/bare/", "/missing", "/forced", "/gone"):
        reply = ask(app, path)
        assert set(reply.headers.items()) >= set(PRESET)
        assert HSTS[0] not in reply.headers
        secure = ask(app, path, **{"wsgi.url_scheme": "https"})
        assert set(secure.headers.items()) == {*reply.headers.items(), HSTS}
    assert set(PRESET).isdisjoint(ask(StaticFiles(ruled), "/a.txt").headers.items())


def test_headers_file_and_options_do_not_say_it_twice(ruled: Path, ask: Ask) -> None:
    """The `ask` fixture refuses a header that comes twice."""
    (ruled / "_headers").write_text(
        "/*\n  strict-transport-security: max-age=1\n  access-control-allow-origin: *\n"
        "  X-Frame-Options: DENY\n  vary: X-Any\n",
        "ascii",
    )
    app = StaticFiles(ruled, security_headers=True, cors_origins=[A], fallback="index.html")
    request = {"wsgi.url_scheme": "https", "HTTP_ORIGIN": A, "HTTP_ACCEPT": "text/html"}
    for path in ("/a.txt", "/missing", "/missing.css"):
        reply = ask(app, path, **request)
        names = {name.lower(): value for name, value in reply.headers.items()}
        assert names["strict-transport-security"] == "max-age=1"
        assert names["access-control-allow-origin"] == "*"
        assert names["x-frame-options"] == "DENY"
        assert {"Origin", "X-Any"} <= set(names["vary"].split(", "))
    assert "Accept" in ask(app, "/missing", **request).headers["vary"].split(", ")
