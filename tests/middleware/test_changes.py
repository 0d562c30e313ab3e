"""Files that change while they are served: the new state shows within one second."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.util import FileWrapper

import pytest

import middleware.answer
import middleware.conditional
from middleware import StaticFiles
from middleware.site import MAX_AGE

Ask = Callable[..., Any]
OLD = 1_700_000_000
SMALL, LARGE = 100, 100_000


class Positional(FileWrapper):
    positional = True


@pytest.fixture(params=[None, FileWrapper, Positional], ids=["none", "foreign", "positional"])
def wrapper(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the server puts into the environ."""
    return {} if request.param is None else {"wsgi.file_wrapper": request.param}


def put(path: Path, data: bytes, mtime: int = OLD) -> None:
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))


def replace(path: Path, data: bytes) -> None:
    put(path.with_name("new"), data)
    os.replace(path.with_name("new"), path)


def grow(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


CHANGES: dict[str, Callable[[Path, bytes], object]] = {
    "replaced, same time and size": replace,
    "rewritten in place": lambda path, data: path.write_bytes(data.upper()),
    "rewritten, same time and size": lambda path, data: put(path, data.upper()),
    "grown": grow,
    "truncated": lambda path, data: os.truncate(path, len(data) // 2),
    "emptied": lambda path, data: os.truncate(path, 0),
    "touched": lambda path, data: os.utime(path, (OLD + 5, OLD + 5)),
}


@pytest.mark.parametrize("asked_before", ["GET", "HEAD", None])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_shows_within_a_second(
    site: Path,
    ask: Ask,
    clock: list[float],
    wrapper: dict[str, Any],
    change: str,
    size: int,
    asked_before: str | None,
) -> None:
    path = site / "f.txt"
    put(path, b"x" * size)
    app = StaticFiles(site)
    if asked_before:
        ask(app, "/f.txt", asked_before, **wrapper)
    first = ask(app, "/f.txt", "HEAD", **wrapper)
    clock[0] += MAX_AGE - 0.01
    CHANGES[change](path, b"y" * size)
    clock[0] += MAX_AGE
    reply = ask(app, "/f.txt", **wrapper)
    assert (reply.status, reply.body) == (200, path.read_bytes())
    assert reply.headers["Content-Length"] == str(path.stat().st_size)
    if "same time and size" not in change or "replaced" in change:
        assert reply.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("change", ["replaced, same time and size", "grown", "truncated"])
def test_what_is_not_read_yet_is_never_mixed(
    site: Path, ask: Ask, clock: list[float], wrapper: dict[str, Any], change: str, size: int
) -> None:
    """Within the second the answer may be the old state or the new one, but whole."""
    path = site / "f.txt"
    put(path, b"x" * size)
    app = StaticFiles(site)
    old = ask(app, "/f.txt", "HEAD").headers
    CHANGES[change](path, b"y" * size)
    reply = ask(app, "/f.txt", **wrapper)
    assert reply.status == 200
    assert len(reply.body) == int(reply.headers["Content-Length"])
    if reply.headers["ETag"] == old["ETag"]:
        assert reply.body == b"x" * size
    else:
        assert reply.body == path.read_bytes()


def test_a_file_that_changes_between_look_and_read_is_looked_at_again(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = middleware.conditional.evaluate
    changes = [50, 20]

    def shrink(*args: Any) -> Any:
        if changes:
            os.truncate(site / "a.txt", changes.pop(0))
        return evaluate(*args)

    monkeypatch.setattr(middleware.answer, "evaluate", shrink)
    reply = ask(StaticFiles(site), "/a.txt")
    assert (reply.status, reply.body) == (200, b"0123456789" * 2)
    assert changes == []


def test_a_file_that_changes_all_the_time_is_503(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrink(*args: Any) -> int:
        os.truncate(site / "a.txt", (site / "a.txt").stat().st_size - 1)
        return 200

    monkeypatch.setattr(middleware.answer, "evaluate", shrink)
    reply = ask(StaticFiles(site), "/a.txt")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert "the file changes all the time" in reply.errors


def test_deleted_and_appearing(
    site: Path, ask: Ask, clock: list[float], wrapper: dict[str, Any]
) -> None:
    app = StaticFiles(site)
    for name, size in [("/s.txt", SMALL), ("/l.txt", LARGE)]:
        path = site / name[1:]
        assert ask(app, name, **wrapper).status == 404
        put(path, b"x" * size)
        clock[0] += MAX_AGE
        assert ask(app, name, **wrapper).body == b"x" * size
        path.unlink()
        clock[0] += MAX_AGE
        assert ask(app, name, HTTP_IF_NONE_MATCH="*", **wrapper).status == 404
        path.mkdir()
        (path / "index.html").write_bytes(b"index")
        clock[0] += MAX_AGE
        assert ask(app, name, **wrapper).status == 301
        shutil.rmtree(path)
        put(path, b"y" * size)
        clock[0] += MAX_AGE
        assert ask(app, name, **wrapper).body == b"y" * size


def test_within_the_second_nothing_is_looked_at(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = StaticFiles(site)
    replies = [ask(app, path) for path in ("/a.txt", "/missing", "/sub")]

    def fail(*args: object) -> None:
        raise AssertionError("the file system was asked")

    monkeypatch.setattr("middleware.beneath.Root.open", fail)
    clock[0] += MAX_AGE - 0.01
    assert [ask(app, path) for path in ("/a.txt", "/missing", "/sub")] == replies


def test_what_did_not_change_is_used_on(site: Path, ask: Ask, clock: list[float]) -> None:
    app = StaticFiles(site)
    page = app._site.look_up("/a.txt")
    clock[0] += MAX_AGE
    assert app._site.look_up("/a.txt") is page
    os.utime(site / "a.txt", (OLD + 1, OLD + 1))
    clock[0] += MAX_AGE
    assert app._site.look_up("/a.txt") is not page


def test_a_directory_swapped_for_a_link_to_the_outside(
    site: Path, ask: Ask, clock: list[float]
) -> None:
    (site.parent / "root_secret" / "b.txt").write_bytes(b"secret of the outside")
    app = StaticFiles(site, listing=True)
    assert ask(app, "/bare/b.txt").body == b"b"
    assert ask(app, "/bare/").status == 200
    (site / "bare").rename(site / "was")
    (site / "bare").symlink_to("../root_secret")
    clock[0] += MAX_AGE
    assert ask(app, "/bare/b.txt").status == 404
    assert ask(app, "/bare/").status == 404
    (site / "bare").unlink()
    (site / "bare").symlink_to("was")
    clock[0] += MAX_AGE
    assert ask(app, "/bare/b.txt").body == b"b"


def test_a_root_that_is_swapped(tmp_path: Path, ask: Ask, clock: list[float]) -> None:
    """Releases side by side, and a link that leads to the newest."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "a.txt", name.encode())
        (tmp_path / name / "_headers").write_text(f"/*\n  X-Release: {name}\n")
    (tmp_path / "now").symlink_to("one")
    app = StaticFiles(tmp_path / "now")
    assert ask(app, "/a.txt").body == b"one"
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "now")
    clock[0] += MAX_AGE
    reply = ask(app, "/a.txt")
    assert (reply.body, reply.headers["X-Release"]) == (b"two", "two")


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_siblings_come_and_go(site: Path, ask: Ask, clock: list[float], coding: str) -> None:
    suffix = {"gzip": ".gz", "br": ".br"}[coding]
    put(site / "t.css", b"plain")
    app = StaticFiles(site, compress=False)

    def seen() -> tuple[bytes, str | None, str | None]:
        clock[0] += MAX_AGE
        reply = ask(app, "/t.css", HTTP_ACCEPT_ENCODING=coding)
        return reply.body, reply.headers.get("Content-Encoding"), reply.headers.get("Vary")

    assert seen() == (b"plain", None, None)
    put(site / f"t.css{suffix}", b"coded")
    assert seen() == (b"coded", coding, "Accept-Encoding")
    put(site / f"t.css{suffix}", b"again", OLD + 1)
    assert seen() == (b"again", coding, "Accept-Encoding")
    put(site / "t.css", b"newer", OLD + 2)
    assert seen() == (b"newer", None, None)
    put(site / f"t.css{suffix}", b"newer, coded", OLD + 2)
    assert seen() == (b"newer, coded", coding, "Accept-Encoding")
    (site / f"t.css{suffix}").unlink()
    assert seen() == (b"newer", None, None)


def test_a_text_that_is_compressed_here_follows_its_file(
    site: Path, ask: Ask, clock: list[float]
) -> None:
    put(site / "t.css", b"a" * 1000)
    app = StaticFiles(site)
    request = {"HTTP_ACCEPT_ENCODING": "gzip"}
    first = ask(app, "/t.css", **request)
    replace(site / "t.css", b"b" * 1000)
    clock[0] += MAX_AGE
    second = ask(app, "/t.css", HTTP_IF_NONE_MATCH=first.headers["ETag"], **request)
    assert (second.status, second.headers["Content-Encoding"]) == (200, "gzip")
    assert second.body != first.body


# -- times


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_young_file_has_a_weak_tag_and_is_read_anew(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A rewrite of the same size within the tick of the file system's clock leaves no trace."""
    now = OLD * 10**9 + 500_000_000
    monkeypatch.setattr("middleware.beneath.time_ns", lambda: now)
    put(site / "f.txt", b"x" * size)
    app = StaticFiles(site)
    first = ask(app, "/f.txt")
    assert first.headers["ETag"].startswith('W/"')
    same = ask(app, "/f.txt", HTTP_IF_NONE_MATCH=first.headers["ETag"])
    assert same.status == 304
    for condition in (first.headers["ETag"], first.headers["Last-Modified"]):
        part = ask(app, "/f.txt", HTTP_RANGE="bytes=0-0", HTTP_IF_RANGE=condition)
        assert part.status == 200  # what was got before may be of another state
    page = app._site.look_up("/f.txt")
    with (site / "f.txt").open("r+b") as file:
        file.write(b"y" * size)
    put(site / "f.txt", b"y" * size)
    # as if nothing had moved: not even the time of the change of the inode
    monkeypatch.setattr("middleware.beneath.OpenFile.signature", property(lambda self: (0,)))
    page.signature = (("identity", (0,)),)  # type: ignore[union-attr]
    clock[0] += MAX_AGE
    assert ask(app, "/f.txt", "HEAD").headers["ETag"] == first.headers["ETag"]
    assert app._site.look_up("/f.txt") is not page
    monkeypatch.undo()


def test_a_time_far_in_the_future_is_not_young(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive unpacked in another time zone: whoever writes to the file now sets another time,
    so it has a strong tag, and is not prepared anew each second."""
    monkeypatch.setattr("middleware.beneath.time_ns", lambda: (OLD - 8 * 3600) * 10**9)
    put(site / "f.txt", b"x")
    app = StaticFiles(site)
    assert ask(app, "/f.txt").headers["ETag"].startswith('"')
    page = app._site.look_up("/f.txt")
    clock[0] += MAX_AGE
    assert app._site.look_up("/f.txt") is page


def test_a_young_sibling_is_looked_at_anew_too(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(site / "t.css", b"plain")
    (site / "t.css.gz").write_bytes(b"coded")
    app = StaticFiles(site)
    page = app._site.look_up("/t.css")
    reply = ask(app, "/t.css", HTTP_ACCEPT_ENCODING="gzip")
    assert reply.headers["ETag"].startswith('W/"')
    assert not ask(app, "/t.css").headers["ETag"].startswith("W/")
    clock[0] += MAX_AGE
    assert app._site.look_up("/t.css") is not page


def test_a_file_grows_old(
    site: Path, ask: Ask, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [OLD * 10**9]
    monkeypatch.setattr("middleware.beneath.time_ns", lambda: now[0])
    app = StaticFiles(site)
    weak = ask(app, "/a.txt").headers["ETag"]
    now[0] += 2 * 10**9
    clock[0] += MAX_AGE
    strong = ask(app, "/a.txt").headers["ETag"]
    assert weak.startswith("W/") and not strong.startswith("W/")
    # Not even weakly the same: the file may have been written to again within the clock's tick.
    assert ask(app, "/a.txt", HTTP_IF_NONE_MATCH=weak).status == 200


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_times_that_tell_nothing_give_a_tag_of_the_content(
    site: Path, ask: Ask, clock: list[float], seconds: int, size: int
) -> None:
    """Nix, Bazel and reproducible images give every file the same time."""
    path = site / "f.txt"
    put(path, b"x" * size, seconds)
    app = StaticFiles(site)
    first = ask(app, "/f.txt")
    digest = hashlib.blake2b(b"x" * size, digest_size=16).hexdigest()
    assert first.headers["ETag"] == f'"{digest}"'
    assert "Last-Modified" not in first.headers
    assert ask(app, "/f.txt", HTTP_IF_NONE_MATCH=first.headers["ETag"]).status == 304
    part = ask(app, "/f.txt", HTTP_RANGE="bytes=0-0", HTTP_IF_RANGE=first.headers["ETag"])
    assert part.status == 206
    put(path, b"y" * size, seconds)  # the same size and time
    clock[0] += MAX_AGE
    second = ask(app, "/f.txt", HTTP_IF_NONE_MATCH=first.headers["ETag"])
    assert (second.status, second.body) == (200, b"y" * size)
    (site / "copy.txt").write_bytes(b"y" * size)
    os.utime(site / "copy.txt", (seconds, seconds))
    assert ask(app, "/copy.txt").headers["ETag"] == second.headers["ETag"]


def test_a_file_too_large_to_hash_has_no_tag(site: Path, ask: Ask) -> None:
    with (site / "huge.bin").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    os.utime(site / "huge.bin", (0, 0))
    reply = ask(StaticFiles(site), "/huge.bin", "HEAD", HTTP_IF_NONE_MATCH='"x"')
    assert reply.status == 200
    assert {"ETag", "Last-Modified"}.isdisjoint(reply.headers)
    assert ask(StaticFiles(site), "/huge.bin", HTTP_RANGE="bytes=0-1").body == b"\0\0"


@pytest.mark.parametrize("year", [-1200, 1, 1901, 1969])
def test_times_long_ago(site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    """Not every file system can hold them; some can, and a date before year 1 cannot be sent."""
    seconds = int((year - 1970) * 365.2425 * 86400)
    fstat = os.fstat

    def old(fd: int) -> Any:
        status = fstat(fd)
        changed = {"st_mtime_ns": seconds * 10**9}
        names = ("st_mode", "st_dev", "st_ino", "st_size", "st_ctime_ns", "st_mtime_ns")
        return SimpleNamespace(**{name: getattr(status, name) for name in names} | changed)

    monkeypatch.setattr("os.fstat", old)
    reply = ask(StaticFiles(site), "/a.txt")
    assert reply.status == 200 and "Last-Modified" not in reply.headers
    assert ask(StaticFiles(site), "/a.txt", HTTP_IF_NONE_MATCH=reply.headers["ETag"]).status == 304
