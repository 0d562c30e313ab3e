"""What a parent can say of a child's end, with control groups made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgiserver.fate import OomCounter, explain


def groups(top: Path, line: str, file: str, kills: int) -> OomCounter:
    """A counter that reads a tree like /sys/fs/cgroup; `line` is that of /proc/self/cgroup."""
    (top / "own").write_text(f"11:cpu,cpuacct:/x\n{line}\n")
    count(top, file, kills)
    return OomCounter(top / "own", top / "groups")


def count(top: Path, file: str, kills: int) -> None:
    path = top / "groups" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n")


PLACES = [
    ("0::/system.slice/shop.service", "system.slice/shop.service/memory.events"),
    ("0::/", "memory.events"),
    ("0::/not/mounted/here", "memory.events"),  # in a container: the top is its own
    ("4:memory:/docker/ab", "memory/docker/ab/memory.oom_control"),
    ("4:hugetlb,memory:/", "memory/memory.oom_control"),
]


@pytest.mark.parametrize(("line", "file"), PLACES)
def test_the_kernel_counts(tmp_path: Path, line: str, file: str) -> None:
    counter = groups(tmp_path, line, file, 3)
    assert counter.known
    assert counter.new() == 0  # what was before is nobody's of ours
    count(tmp_path, file, 5)
    assert [counter.new(), counter.new()] == [2, 0]
    (tmp_path / "groups" / file).unlink()
    assert counter.new() == 0


def test_where_nobody_counts(tmp_path: Path) -> None:
    assert not OomCounter(tmp_path / "none", tmp_path).known
    (tmp_path / "own").write_text("0::/x\nnonsense\n")
    assert not OomCounter(tmp_path / "own", tmp_path / "none").known
    assert not groups(tmp_path, "3:cpu:/", "memory.events", 1).known


def test_here() -> None:
    assert OomCounter().new() == 0


@pytest.mark.parametrize(
    ("status", "ours", "kills", "text"),
    [
        (0, None, 0, "ended with exit status 0"),
        (3, None, 1, "ended with exit status 3"),
        (-11, None, 1, "was ended by SIGSEGV"),
        (-15, "was killed: no sign of life", 0, "was ended by SIGTERM"),
        (-64, None, 0, "was ended by SIGRTMAX"),
        (-99, None, 0, "was ended by signal 99"),
        (-9, "was killed: no sign of life", 1, "was killed: no sign of life"),
        (-9, None, 1, "SIGKILL: the kernel ended 1 process of this control group, which was out"),
        (-9, None, 2, "the kernel ended 2 processes of"),
        (-9, None, 0, "SIGKILL, which neither this server nor the kernel (out of memory) sent"),
    ],
)
def test_the_cause(tmp_path: Path, status: int, ours: str | None, kills: int, text: str) -> None:
    counter = groups(tmp_path, "0::/", "memory.events", 10)
    count(tmp_path, "memory.events", 10 + kills)
    assert text in explain(status, ours=ours, oom=counter)


def test_what_cannot_be_known_is_not_guessed(tmp_path: Path) -> None:
    text = explain(-9, ours=None, oom=OomCounter(tmp_path / "none", tmp_path))
    assert "did not send; the kernel tells nothing here" in text
