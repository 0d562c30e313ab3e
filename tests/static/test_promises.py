"""How long StaticFiles promises an answer: never past the next look at anything it is made of.

Otherwise a server that repeats the answer would show the old state after others saw the new one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from wsgiref.util import setup_testing_defaults

import pytest

from middleware import StaticFiles
from middleware.site import MAX_AGE
from tests.static.ground import OLD

START: Final = 1000.0
# After the first look at what is behind the answer, and before the next one is due.
LATER: Final = 0.9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [START]
    for module in ("site", "static", "entries"):
        monkeypatch.setattr(f"middleware.{module}.monotonic", lambda: now[0])
    return now


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in {
        "index.html": b"<title>home</title>",
        "a.txt": b"a",
        "b.txt": b"b" * 100,
        "large.bin": b"l" * 100_000,
        "sub/index.html": b"<title>sub</title>",
        "bare/b.txt": b"b",
        "_headers": b"/*\n  X-Rule: yes\n",
        "_redirects": b"/gone /elsewhere\n/app/* /index.html 200\n/lost /sub/ 404\n/f /to 301!\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))
    return tmp_path


class Wrapper:
    """A file wrapper like the server's own, which shows the file that is in it."""

    positional = True

    def __init__(self, file: Any, block_size: int) -> None:
        self.file = file

    def __iter__(self) -> Any:
        return iter(())


def promise(app: StaticFiles, target: str, method: str = "GET", **extra: Any) -> float:
    """Until when the answer is promised; 0 if it is not."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": target, **extra}
    environ["wsgi.file_wrapper"] = Wrapper
    setup_testing_defaults(environ)
    result = app(environ, lambda status, headers, exc_info=None: lambda data: None)
    source: Any = getattr(result, "file", result)
    if getattr(source, "answered_by", None) is None:
        return 0.0
    assert source.answered_by is app
    return float(source.fresh_until)


# What is asked: the path, and what comes with it.
ASKED: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "a page": ("/a.txt", {}),
    "a large file": ("/large.bin", {}),
    "a range": ("/large.bin", {"HTTP_RANGE": "bytes=0-99"}),
    "an unsatisfiable range": ("/a.txt", {"HTTP_RANGE": "bytes=9-"}),
    "not modified": ("/a.txt", {"HTTP_IF_NONE_MATCH": "*"}),
    "an index": ("/sub/", {}),
    "a redirect to it": ("/sub", {}),
    "a listing": ("/bare/", {}),
    "a missing name": ("/nowhere", {}),
    "a missing name in a folder": ("/x/y/z", {}),
    "a rule": ("/gone", {}),
    "a rewritten path": ("/app/x", {}),
    "a page for 404": ("/lost", {}),
    "the fallback": ("/client/side", {"HTTP_ACCEPT": "text/html"}),
}


@pytest.mark.parametrize("kind", list(ASKED))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_longer_than_anything_is_believed(
    clock: list[float], root: Path, kind: str, method: str
) -> None:
    """The rules and the pages that may stand in were looked at before this file is."""
    app = StaticFiles(root, listing=True, fallback="index.html")
    for target in ("/index.html", "/", "/404.html", "/x/404.html", "/sub/"):
        promise(app, target)
    clock[0] += LATER
    target, extra = ASKED[kind]
    until = promise(app, target, method, **extra)
    assert clock[0] < until <= START + MAX_AGE


@pytest.mark.parametrize("kind", list(ASKED))
def test_the_file_itself_was_looked_at_before(clock: list[float], root: Path, kind: str) -> None:
    """And the rules only later."""
    app = StaticFiles(root, listing=True, fallback="index.html")
    clock[0] += MAX_AGE - 0.1
    target, extra = ASKED[kind]
    promise(app, target, **extra)
    looked = clock[0]
    clock[0] += LATER  # the rules were looked at anew meanwhile
    until = promise(app, target, **extra)
    assert clock[0] < until <= looked + MAX_AGE


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
def test_other_methods_promise_no_longer_either(
    clock: list[float], root: Path, method: str
) -> None:
    app = StaticFiles(root)
    promise(app, "/a.txt")
    clock[0] += LATER
    assert promise(app, "/a.txt", method) <= START + MAX_AGE


def test_what_depends_on_the_scheme_is_not_promised(clock: list[float], root: Path) -> None:
    """Strict-Transport-Security is sent over https only, which the head does not show."""
    app = StaticFiles(root, security_headers=True)
    extra = {"wsgi.url_scheme": "https"}
    assert promise(app, "/a.txt", **extra) == 0.0
    assert promise(app, "/a.txt") > 0.0
    assert promise(app, "/nowhere", **extra) == 0.0


def test_nothing_is_promised_while_developing(clock: list[float], root: Path) -> None:
    app = StaticFiles(root, live_reload=True)
    for target in ("/a.txt", "/index.html", "/nowhere", "/sub", "/large.bin"):
        assert promise(app, target) <= clock[0]


def test_what_could_not_be_read_is_not_promised(
    clock: list[float], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = StaticFiles(root)

    def fails(*arguments: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("middleware.beneath.Root.open", fails)
    assert promise(app, "/b.txt") == 0.0
