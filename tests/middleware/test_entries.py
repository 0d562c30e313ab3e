"""The bounded cache: how many entries, bytes and open files, and what leaves first."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware import StaticFiles
from middleware.beneath import is_young
from middleware.entries import INACTIVE, Entries
from middleware.site import MAX_AGE


@dataclass(eq=False)
class Entry:
    """Something that costs what it says."""

    cost: tuple[int, int] = (1, 0)
    fresh_until: float = float("inf")


class Positional(FileWrapper):
    positional = True


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def get(app: StaticFiles, path: str, **extra: Any) -> Any:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, **extra}
    return app(environ, lambda *args: lambda data: None)


# -- alone


@pytest.mark.parametrize(
    ("limits", "cost", "kept"),
    [((3, 1000, 1000), (1, 1), 3), ((100, 25, 100), (10, 0), 2), ((100, 1000, 4), (0, 2), 2)],
)
def test_bounds(limits: tuple[int, int, int], cost: tuple[int, int], kept: int) -> None:
    entries: Entries[Entry] = Entries(*limits)
    for i in range(10):
        entries.put(str(i), Entry(cost))
        assert len(entries) == min(i + 1, kept)
    assert [i for i in range(10) if entries.get(str(i))] == list(range(10 - kept, 10))


def test_what_alone_is_too_much_is_not_kept() -> None:
    entries: Entries[Entry] = Entries(10, 100, 10)
    entries.put("a", Entry((10, 0)))
    entries.put("large", Entry((101, 0)))
    assert len(entries) == 0
    entries.put("b", Entry((100, 10)))  # and nothing of it is counted on
    assert entries.get("b")


def test_what_is_put_again_stays_longer() -> None:
    entries: Entries[Entry] = Entries(2, 100, 10)
    a = Entry()
    for key, entry in [("a", a), ("b", Entry()), ("a", a), ("c", Entry())]:
        entries.put(key, entry)
    assert entries.get("a") is a
    assert entries.get("b") is None


def test_what_grows_is_weighed_anew() -> None:
    entries: Entries[Entry] = Entries(10, 100, 10)
    first, second = Entry((10, 1)), Entry((10, 1))
    entries.put("first", first)
    entries.put("second", second)
    second.cost = (80, 0)
    entries.weigh("second", second)
    assert len(entries) == 2
    second.cost = (91, 0)
    entries.weigh("second", second)
    assert (entries.get("first"), entries.get("second")) == (None, second)
    entries.weigh("second", Entry((1000, 0)))  # another one than is kept
    entries.weigh("unknown", Entry((1000, 0)))
    assert len(entries) == 1
    entries.drop("second")
    entries.drop("second")
    entries.put("whole", Entry((100, 10)))
    assert entries.get("whole")


def test_what_nobody_asks_for_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("middleware.entries.monotonic", lambda: now)
    entries: Entries[Entry] = Entries(10, 100, 10)
    entries.put("a", Entry(fresh_until=now))
    entries.put("b", Entry(fresh_until=now + 10))
    now += INACTIVE
    entries.put("c", Entry(fresh_until=now))
    assert entries.get("a")
    now += 1
    entries.put("d", Entry(fresh_until=now))
    assert entries.get("a") is None
    assert entries.get("b")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "weigh", "drop", "clear"]),
            st.sampled_from("abcdef"),
            st.tuples(st.integers(0, 60), st.integers(0, 4)),
        ),
        max_size=40,
    )
)
def test_as_a_slow_model_does(steps: list[tuple[str, str, tuple[int, int]]]) -> None:
    entries: Entries[Entry] = Entries(4, 100, 6)
    model: list[tuple[str, Entry]] = []  # oldest first
    for step, key, cost in steps:
        known = dict(model)
        if step == "put":
            model = [pair for pair in model if pair[0] != key] + [(key, Entry(cost))]
            entries.put(*model[-1])
        elif step == "weigh" and key in known:
            known[key].cost = cost
            entries.weigh(key, known[key])
        elif step == "drop":
            model = [pair for pair in model if pair[0] != key]
            entries.drop(key)
        elif step == "clear":
            model = []
            entries.clear()
        while (
            len(model) > 4
            or sum(entry.cost[0] for _, entry in model) > 100
            or sum(entry.cost[1] for _, entry in model) > 6
        ):
            del model[0]
        assert [(k, entries.get(k)) for k in "abcdef" if entries.get(k)] == sorted(model)
        assert len(entries) == len(model)


def test_threads_leave_the_sums_right() -> None:
    entries: Entries[Entry] = Entries(50, 1000, 60)

    def work(seed: int) -> None:
        for i in range(2000):
            key = str((i * seed) % 97)
            entry = Entry((i % 40, i % 3))
            entries.put(key, entry)
            entry.cost = (i % 30, i % 2)
            entries.weigh(key, entry)
            if i % 5 == 0:
                entries.drop(str(i % 97))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries) <= 50
    entries.clear()
    entries.put("all", Entry((1000, 60)))  # it only fits if nothing else is counted
    assert entries.get("all")


def test_a_hundred_thousand_names_do_not_grow_memory() -> None:
    entries: Entries[Entry] = Entries(1000, 1 << 30, 10)

    def fill(start: int) -> None:
        for i in range(start, start + 50_000):
            entries.put(f"/name/{i}", Entry())

    fill(0)
    tracemalloc.start()
    fill(50_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == 1000
    assert grown < 1_000_000  # what replaced the thousand before


def test_young_is_what_may_be_written_again_unnoticed() -> None:
    now = time.time_ns()
    assert is_young(now)
    assert is_young(now + 10**10)  # the clock of a file server
    assert not is_young(now + 10**12)  # set by hand: who writes now changes it
    assert not is_young(now - 3 * 10**9)


# -- through StaticFiles


def test_missing_names_are_bounded(site: Path) -> None:
    app = StaticFiles(site, not_found_page=False)
    for i in range(5000):
        get(app, f"/missing/{i}")
    get(app, "/" + "n" * 2000)
    assert len(app._site._others) == 4096
    assert app._site._others.get("/" + "n" * 2000) is None


def test_large_directories_weigh_what_they_hold(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in "abcde":
        (site / directory).mkdir()
        for i in range(20):
            (site / directory / str(i)).touch()
    app = StaticFiles(site, listing=True)
    monkeypatch.setattr(app._site._others, "_most_bytes", 100_000)
    for directory in "abcde":
        get(app, f"/{directory}/")
    assert 0 < len(app._site._others) < 5


@pytest.mark.parametrize("wrapper", [Positional, FileWrapper])
def test_open_files_are_bounded_and_eviction_closes_them(site: Path, wrapper: Any) -> None:
    count = 200
    for i in range(count):
        with (site / f"{i}.bin").open("wb") as file:
            file.truncate(100_000)
    app = StaticFiles(site)
    before = descriptors()
    bodies = []
    for i in range(count):
        body = get(app, f"/{i}.bin", **{"wsgi.file_wrapper": wrapper})
        next(iter(body))
        bodies.append(body)
    assert descriptors() - before >= count  # all are in flight
    first = b"".join(bodies[0])  # its page has left: it is sent whole all the same
    assert len(first) == 100_000 - 65536
    for body in bodies:
        body.close()
    bodies.clear()
    del body
    assert descriptors() - before <= 128
    app._site.clear()
    assert descriptors() == before


def test_small_files_are_not_kept_open(site: Path) -> None:
    for i in range(150):
        (site / f"{i}.txt").write_bytes(b"x")
    app = StaticFiles(site)
    before = descriptors()
    for i in range(150):
        get(app, f"/{i}.txt", HTTP_IF_NONE_MATCH="*")
    assert descriptors() == before
    assert len(app._site._pages) == 150


def test_a_deleted_file_does_not_occupy_the_disk_for_long(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    for module in ("site", "static", "entries"):
        monkeypatch.setattr(f"middleware.{module}.monotonic", lambda: now)
    app = StaticFiles(site)
    before = descriptors()
    get(app, "/big.bin", **{"wsgi.file_wrapper": Positional}).close()
    assert descriptors() == before + 1
    (site / "big.bin").unlink()
    now += INACTIVE + MAX_AGE + 1
    get(app, "/a.txt")
    assert descriptors() == before
