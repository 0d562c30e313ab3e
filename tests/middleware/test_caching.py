"""Cache-Control: by the file that is served, by glob, by function, by hashed name or manifest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from middleware import StaticFiles
from middleware.caching import HASHED_NAME, IMMUTABLE, REVALIDATE, CachePolicy, Manifest
from middleware.site import MAX_AGE

OLD = 1_700_000_000

Ask = Callable[..., Any]
HASH = "55e7cbb9ba48"
NAVIGATION = {"HTTP_ACCEPT": "text/html"}


# -- the policy alone


def test_by_default_hashed_names_are_kept_and_the_rest_is_revalidated() -> None:
    policy = CachePolicy()
    for path, value in [
        (f"css/site.{HASH}.css", IMMUTABLE),
        (f"site.{HASH}.js.map", IMMUTABLE),
        (f"main.{HASH * 2}.js", IMMUTABLE),
        ("site.css", REVALIDATE),
        ("index.html", REVALIDATE),
        (f"{HASH}.css", REVALIDATE),  # no name before the hash: it may be anything
        (f"site.{HASH[:8]}.css", REVALIDATE),
        (f"site.{HASH.upper()}.css", REVALIDATE),
        (f"site.{HASH}", REVALIDATE),
        (f"dir.{HASH}.d/site.css", REVALIDATE),
    ]:
        assert policy(path) == value, path


def test_one_value_is_not_for_html() -> None:
    policy = CachePolicy("max-age=60")
    assert policy("a.css") == "max-age=60"
    assert policy("index.html") == policy("a/INDEX.HTM") == REVALIDATE
    assert CachePolicy(None)("a.css") is None


def test_globs_count_in_their_order() -> None:
    policy = CachePolicy(
        {
            "img/*": "max-age=1",
            "*.png": "max-age=2",
            "feed.xml": "max-age=3",
            "[ab].txt": "max-age=4",
            "*.html": "max-age=5",
            "a+b.*": "max-age=6",
        }
    )
    for path, value in [
        ("img/a.png", "max-age=1"),
        ("img/deep/a.js", "max-age=1"),
        ("a.png", "max-age=2"),
        ("other/a.png", "max-age=2"),
        ("feed.xml", "max-age=3"),
        ("x/feed.xml", REVALIDATE),
        ("b.txt", "max-age=4"),
        ("sub/index.html", "max-age=5"),
        ("a+b.js", "max-age=6"),
        ("aab.js", REVALIDATE),
        ("a.png\n", REVALIDATE),
        (f"img/a.{HASH}.png", IMMUTABLE),
    ]:
        assert policy(path) == value, path


def test_a_function_decides() -> None:
    policy = CachePolicy(lambda path: "private" if path.startswith("p/") else None)
    assert (policy("p/index.html"), policy("a.css")) == ("private", None)


@pytest.mark.parametrize(
    "immutable",
    [r"\.v[0-9]+\.", re.compile(r"\.V[0-9]+\.", re.IGNORECASE), lambda path: ".v1." in path],
)
def test_what_is_immutable_is_told_by_a_regex_or_a_function(immutable: Any) -> None:
    policy = CachePolicy("max-age=60", immutable)
    assert policy("a.v1.css") == IMMUTABLE
    assert policy(f"a.{HASH}.css") == "max-age=60"
    assert CachePolicy("max-age=60", None)(f"a.{HASH}.css") == "max-age=60"


# -- manifests

DJANGO = {
    "paths": {"css/site.css": f"css/site.{HASH}.css", "robots.txt": "robots.txt"},
    "version": "1.1",
    "hash": "",
}
VITE = {
    "src/main.js": {
        "file": "assets/main-BkPz3x9a.js",
        "src": "src/main.js",
        "isEntry": True,
        "css": ["assets/main-DDz2kq1e.css"],
        "assets": ["assets/logo-C0ffee00.svg"],
        "imports": ["_shared.js"],
    },
    "_shared.js": {"file": "assets/shared-B7PI925R.js"},
}
FLAT = {"main.js": "/main.abc.js", "index.html": "/index.html", "css/a.css": "css/a-1.css"}


@pytest.mark.parametrize(
    ("content", "hashed", "others"),
    [
        (DJANGO, [f"css/site.{HASH}.css"], ["css/site.css", "robots.txt", "1.1"]),
        (
            VITE,
            [
                "assets/main-BkPz3x9a.js",
                "assets/main-DDz2kq1e.css",
                "assets/logo-C0ffee00.svg",
                "assets/shared-B7PI925R.js",
            ],
            ["src/main.js", "_shared.js"],
        ),
        # webpack's lists what has no hash too: for ever would be a catastrophe
        (FLAT, ["main.abc.js", "css/a-1.css"], ["main.js", "index.html", "css/a.css"]),
        ({}, [], ["index.html"]),
        ({"a.js": None, "b": 5, "c": {"file": 5, "css": 5, "assets": {"x": 1}}}, [], ["a.js"]),
    ],
)
def test_manifests(tmp_path: Path, content: object, hashed: list[str], others: list[str]) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    manifest = Manifest(path)
    policy = CachePolicy("max-age=60", path)
    for name in hashed:
        assert manifest(name)
        assert policy(name) == IMMUTABLE
    for name in others:
        assert not manifest(name)
        assert policy(name) in ("max-age=60", REVALIDATE)


@pytest.mark.parametrize("text", ["", "[]", "5", '{"a": ', '{"paths": []}', "[" * 100_000, "\xff"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text, "latin-1")
    with pytest.raises(ValueError, match=r"the manifest .*manifest\.json (cannot be read|is not)"):
        Manifest(path)


def test_a_manifest_is_read_anew_and_kept_while_it_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"a.js": "a.1.js"}')
    manifest = Manifest(path)
    assert not manifest.changed()
    path.write_text('{"a.js": "a.2.')
    assert not manifest.changed()
    assert manifest("a.1.js")
    path.unlink()
    assert not manifest.changed()
    path.write_text('{"a.js": "a.2.js"}')
    assert manifest.changed()
    assert manifest("a.2.js")
    assert not manifest("a.1.js")
    assert not manifest.changed()


@pytest.mark.parametrize("glob", ["/sub/*", "sub/*", "/*/index.html"])
def test_a_leading_slash_means_the_root(glob: str) -> None:
    assert CachePolicy({glob: "max-age=9"})("sub/index.html") == "max-age=9"


def test_a_manifest_rewritten_in_the_same_tick_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"a.js": "a.1.js"}')
    manifest = Manifest(path)
    status = path.stat()
    path.write_text('{"a.js": "a.2.js"}')
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert manifest.changed()
    assert manifest("a.2.js")


# -- through StaticFiles


def test_the_policy_follows_the_file_served(site: Path, ask: Ask) -> None:
    seen = []

    def policy(path: str) -> str | None:
        seen.append(path)
        return "max-age=5" if path.endswith(".html") else None

    app = StaticFiles(site, prefix="/s", cache_control=policy, clean_urls=True)
    (site / "about.html").write_bytes(b"about")
    assert ask(app, "/s/sub/").headers["Cache-Control"] == "max-age=5"
    assert ask(app, "/s/about").headers["Cache-Control"] == "max-age=5"
    assert "Cache-Control" not in ask(app, "/s/%61.txt").headers
    assert ask(app, "/s/missing").headers["Cache-Control"] == REVALIDATE
    assert ask(app, "/s/sub").headers["Cache-Control"] == REVALIDATE
    assert set(seen) == {"sub/index.html", "about.html", "a.txt"}


@pytest.mark.parametrize("own_page", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"immutable": HASHED_NAME},
        {"immutable": lambda path: True},
        {"cache_control": {"*": "max-age=9"}},
        {"not_found_page": False, "immutable": lambda path: True},
    ],
)
def test_a_missing_hashed_asset_is_missing_and_not_kept(
    site: Path, ask: Ask, options: dict[str, Any], own_page: bool
) -> None:
    """The trap of single-page applications: 200, text/html and `immutable` for a missing script."""
    if own_page:
        (site / "404.html").write_bytes(b"ours")
    name = f"/static/main.{HASH}.js"
    app = StaticFiles(site, fallback="index.html", **options)
    for request in ({}, NAVIGATION):
        reply = ask(app, name, **request)
        assert (reply.status, reply.headers["Cache-Control"]) == (404, REVALIDATE)


def test_a_rule_for_all_paths_does_not_make_the_page_immutable(site: Path, ask: Ask) -> None:
    (site / "_redirects").write_text("/* /index.html 200\n")
    reply = ask(StaticFiles(site), f"/static/main.{HASH}.js")
    assert (reply.status, reply.headers["Cache-Control"]) == (200, REVALIDATE)


def test_immutable_files_say_so_on_304_too(site: Path, ask: Ask) -> None:
    (site / f"a.{HASH}.css").write_bytes(b"a")
    for request, status in [({}, 200), ({"HTTP_IF_NONE_MATCH": "*"}, 304)]:
        reply = ask(StaticFiles(site), f"/a.{HASH}.css", **request)
        assert (reply.status, reply.headers["Cache-Control"]) == (status, IMMUTABLE)
    refused = ask(StaticFiles(site), f"/a.{HASH}.css", HTTP_IF_MATCH='"x"')
    assert (refused.status, refused.headers["Cache-Control"]) == (412, "no-store")


def test_a_manifest_that_is_written_while_serving(
    site: Path, ask: Ask, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    (site / "a.1.js").write_bytes(b"a")
    manifest = site.parent / "manifest.json"
    manifest.write_text("{}")
    app = StaticFiles(site, immutable=manifest)
    assert ask(app, "/a.1.js").headers["Cache-Control"] == REVALIDATE
    manifest.write_text('{"a.js": "a.1.js"}')
    clock[0] += MAX_AGE
    assert ask(app, "/a.1.js").headers["Cache-Control"] == IMMUTABLE
    manifest.write_text("[" * 100_000)
    clock[0] += MAX_AGE
    assert ask(app, "/a.1.js").headers["Cache-Control"] == IMMUTABLE
    assert not caplog.messages  # it may still be written
    os.utime(manifest, (OLD, OLD))
    for number in (1, 2):
        for _ in range(3):
            clock[0] += MAX_AGE
            assert ask(app, "/a.1.js").headers["Cache-Control"] == IMMUTABLE
        assert len(caplog.messages) == number
        assert f"{manifest} cannot be read" in caplog.messages[-1]
        assert "stay in use" in caplog.messages[-1]
        manifest.unlink(missing_ok=True)
