"""What a tree of processes has used, read from /proc (see proc(5)); Linux only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcStat:
    """What is needed of /proc/PID/stat; times in seconds.

    cpu: user and system time of the process, all threads, and of the children it has waited for
    (cutime, cstime), which in turn hold the time of theirs.
    """

    pid: int
    parent: int
    session: int
    cpu: float


def parse_stat(line: str) -> ProcStat:
    """A line of /proc/PID/stat. The second field, the command in parentheses, may hold anything."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    ticks = sum(map(int, fields[11:15]))
    return ProcStat(int(head.split(" ", 1)[0]), int(fields[1]), int(fields[3]), ticks * _TICK)


def _all_stats() -> list[ProcStat]:
    stats = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                stats.append(parse_stat((entry / "stat").read_text(errors="replace")))
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile; its time is in its parent's cutime once waited for
    return stats


def tree(root: int) -> list[ProcStat]:
    """The process `root`, its descendants, and what else lives in the session it leads.

    The session catches orphans: a child whose parent ended belongs to init, but stays in it.
    """
    stats = _all_stats()
    found = {root}
    while True:
        more = {s.pid for s in stats if s.parent in found or s.session == root} - found
        if not more:
            return [s for s in stats if s.pid in found]
        found |= more


def cpu_seconds(root: int) -> float:
    """CPU time of the tree so far, its ended and waited-for children included.

    The kernel counts in ticks of 1/SC_CLK_TCK s (10 ms as a rule). The time of children that
    nobody waits for (SIGCHLD ignored) is lost to every observer.

    :raises ProcessLookupError: `root` has ended.
    """
    stats = tree(root)
    if not any(s.pid == root for s in stats):
        raise ProcessLookupError(f"process {root} has ended")
    return sum(s.cpu for s in stats)


_RSS: Final = re.compile(r"^Rss:\s+(\d+) kB$", re.MULTILINE)


def rss_bytes(root: int) -> int:
    """Resident memory of the tree; what its processes share is counted in each of them."""
    total = 0
    for stat in tree(root):
        try:
            match = _RSS.search((_PROC / str(stat.pid) / "smaps_rollup").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(match[1]) * 1024 if match else 0
    return total
