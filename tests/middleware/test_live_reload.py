"""Live reload: what counts as a change, what the stream says, and where the script goes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from middleware.live_reload import PATH, LiveReload, Version, version
from middleware.resolve import judge


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The root of a site whose files all have the same age."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in ("index.html", "site.css", "sub/page.html"):
        (root / name).write_text(name)
        os.utime(root / name, (1000, 1000))
    return root


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("middleware.live_reload.time", found)
    return found


def test_every_change_is_a_new_version(tree: Path) -> None:
    seen = [version(str(tree))]

    def changed() -> None:
        now = version(str(tree))
        assert now not in seen
        assert now.styles == seen[0].styles
        assert now == version(str(tree))
        seen.append(now)

    (tree / "sub" / "page.html").write_text("more than before")
    changed()
    os.utime(tree / "index.html", ns=(0, 1000 * 10**9 + 1))
    changed()
    (tree / "new.js").write_text("")
    changed()
    (tree / "new.js").rename(tree / "sub" / "new.js")
    changed()
    (tree / "new").mkdir()
    changed()
    (tree / "index.html").unlink()
    changed()


def test_style_sheets_are_told_apart(tree: Path) -> None:
    before = version(str(tree))
    (tree / "site.css").write_text("body { color: red }")
    after = version(str(tree))
    assert after.pages == before.pages
    assert after.styles != before.styles


@pytest.mark.parametrize(
    "name", [".git/index", ".page.html.swp", "page.html~", "node_modules/m/x.js", "sub/.x/y"]
)
def test_what_does_not_count(tree: Path, name: str) -> None:
    before = version(str(tree))
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("x")
    assert version(str(tree)) == before


def test_links(tree: Path) -> None:
    (tree / "loop").symlink_to(tree)
    (tree / "broken").symlink_to("missing")
    (tree.parent / "target").write_text("one")
    (tree / "link.html").symlink_to("../target")
    before = version(str(tree))
    assert before.complete
    (tree.parent / "target").write_text("three")
    assert version(str(tree)) != before


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_a_name_that_is_not_text(tree: Path) -> None:
    before = version(str(tree))
    with open(os.path.join(os.fsencode(tree), b"\xff.html"), "wb"):
        pass
    assert version(str(tree)) != before


def test_another_process_says_the_same(tree: Path) -> None:
    code = "import sys; from middleware.live_reload import version; print(version(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tree)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(version(str(tree)))


def test_the_root_may_vanish(tree: Path) -> None:
    gone = tree.with_name("gone")
    before = version(str(tree))
    tree.rename(gone)
    assert version(str(tree)) != before
    assert version(str(gone)) == before


def test_the_limit(tree: Path) -> None:
    for i in range(10):
        (tree / "sub" / f"{i}").write_text("")
    some = version(str(tree), limit=5)
    assert not some.complete
    (tree / "sub" / "9").write_text("changed")
    assert version(str(tree), limit=5) == some
    (tree / "index.html").write_text("changed")  # the top is watched
    assert version(str(tree), limit=5) != some
    assert version(str(tree), limit=14).complete
    assert not version(str(tree), limit=13).complete


def test_a_root_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"root is not a directory: .*missing"):
        LiveReload(tmp_path / "missing")


def test_the_tree_is_not_read_at_every_question(
    tree: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[str] = []

    def counted(root: str, *, limit: int) -> Version:
        scans.append(root)
        return version(root, limit=limit)

    monkeypatch.setattr("middleware.live_reload.version", counted)
    live = LiveReload(tree)
    known = str(live.version())
    for _ in range(5):
        clock.now += 0.07
        events(live, since=known)
    assert len(scans) == 1
    clock.now += 0.07
    events(live, since=known)
    assert len(scans) == 2


def test_who_knows_more_is_not_told_the_past(tree: Path, clock: Clock) -> None:
    """Another process saw the change first, and the page already has it."""
    live = LiveReload(tree)
    live.version()
    (tree / "index.html").write_text("changed")
    clock.now += 0.1
    assert events(live, since=str(version(str(tree))))["event"] == "message"


def ask(live: LiveReload, name: str, **extra: Any) -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", **extra}
    setup_testing_defaults(environ)
    answer = live.answer(PATH + name, environ)
    assert answer is not None
    status, headers, body = answer
    return status, dict(headers), body


def events(live: LiveReload, since: str = "", last: str = "") -> dict[str, str]:
    """The fields of the one event of the stream."""
    extra = {"QUERY_STRING": f"since={since}"} if since else {}
    if last:
        extra["HTTP_LAST_EVENT_ID"] = last
    status, headers, body = ask(live, "events", **extra)
    assert status == "200 OK"
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store"
    assert body.endswith(b"\n\n")
    assert body.count(b"\n\n") == 1
    return dict(line.split(": ", 1) for line in body.decode().strip().split("\n"))


def test_events(tree: Path, clock: Clock) -> None:
    live = LiveReload(tree)
    old = events(live)
    first = old["id"]
    assert old == {"retry": "500", "id": first, "event": "message", "data": first}
    assert events(live, since=first) == old
    (tree / "site.css").write_text("changed")
    clock.now += 1
    assert events(live, since=first)["event"] == "style"
    second = events(live)["id"]
    assert second != first
    (tree / "index.html").write_text("changed too")
    clock.now += 1
    assert events(live, since=first)["event"] == "reload"
    # What the browser was told last counts more than the page's own address.
    assert events(live, since=second, last=events(live)["id"])["event"] == "message"
    assert events(live, since="x\u00e9&%0a<script>")["event"] == "reload"


def test_a_restart_with_the_same_files_changes_nothing(tree: Path) -> None:
    known = events(LiveReload(tree))["id"]
    assert events(LiveReload(tree), last=known)["event"] == "message"


def test_a_slow_tree_is_asked_for_less_often(
    tree: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(root: str, *, limit: int) -> Version:
        clock.now += 0.3
        return version(root, limit=limit)

    monkeypatch.setattr("middleware.live_reload.version", slow)
    assert events(LiveReload(tree))["retry"] == "3000"


def test_the_limit_is_told_once(tree: Path) -> None:
    live = LiveReload(tree, limit=2)
    errors = io.StringIO()
    for _ in range(2):
        ask(live, "events", **{"wsgi.errors": errors})
    [line] = errors.getvalue().splitlines()
    assert f"{tree} holds more than 2 files and directories" in line


def test_only_reading_and_only_its_own_paths(tree: Path) -> None:
    live = LiveReload(tree)
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET"}
    for path in ("/", PATH, PATH + "x", PATH.rstrip("/"), "/index.html", "/x" + PATH + "events"):
        assert live.answer(path, environ) is None
    status, headers, body = ask(live, "client.js")
    assert (status, headers["Content-Type"]) == ("200 OK", "text/javascript; charset=utf-8")
    assert b"EventSource" in body


def test_no_file_of_a_site_has_its_paths() -> None:
    assert judge(PATH + "events") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<html><body><p>x</p>", "</body></html>"),
        ("<BODY>x", "</BODY>\n</HTML>"),
        ("<body><script>'</body>'</script>x", "</body >\n"),
        ("<p>no body", ""),
        ("", ""),
        ("\xe9\u65e5\0<body>", "</BoDy>"),
    ],
)
def test_where_the_script_goes(tree: Path, before: str, after: str) -> None:
    live = LiveReload(tree)
    page = live.inject((before + after).encode()).decode()
    script = f'<script src="{PATH}client.js?since={live.version()}" async></script>\n'
    assert page == before + script + after


def test_a_page_in_utf_16_is_left_alone(tree: Path) -> None:
    page = "<body>x</body>".encode("utf-16")
    assert LiveReload(tree).inject(page) == page


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("", "/.live-reload/client.js"),
        ("/app/static", "/app/static/.live-reload/client.js"),
        ("//evil.example", "/evil.example/.live-reload/client.js"),
        ('/"><script>', "/%22%3E%3Cscript%3E/.live-reload/client.js"),
        ("/\xc3\xa9", "/%C3%A9/.live-reload/client.js"),
    ],
)
def test_behind_a_prefix(tree: Path, base: str, url: str) -> None:
    page = LiveReload(tree).inject(b"", base).decode()
    assert re.findall(r'src="([^"?]*)\?', page) == [url]


def test_a_change_while_the_page_was_read_is_seen(tree: Path) -> None:
    live = LiveReload(tree)
    before = live.version()
    (tree / "index.html").write_text("changed meanwhile")
    page = live.inject(b"what was read", since=before).decode()
    [since] = re.findall(r'\?since=([^"]+)"', page)
    assert events(LiveReload(tree), since=since)["event"] == "reload"
