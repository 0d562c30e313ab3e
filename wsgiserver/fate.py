"""Why a process ended, as far as it can be known: never a guess.

A process that was killed by SIGKILL does not learn who sent it, and neither does its parent. What
can be known: what we sent ourselves; what the kernel's out-of-memory killer counts in our control
group; and nothing else, which is then said.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN_GROUP: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


class OomCounter:
    """How many processes of our control group the kernel killed since the last time it was asked.

    :param own: the file that names the group (cgroups(7), /proc/self/cgroup).
    :param groups: where control groups are mounted.
    """

    def __init__(self, own: Path = _OWN_GROUP, groups: Path = _GROUPS) -> None:
        self._file = _events_file(own, groups)
        self._seen = self._read()

    @property
    def known(self) -> bool:
        """Whether the kernel counts for us here."""
        return self._seen is not None

    def new(self) -> int:
        """Kills since the last call."""
        now = self._read()
        if now is None or self._seen is None:
            return 0
        new, self._seen = now - self._seen, now
        return max(0, new)

    def _read(self) -> int | None:
        if self._file is None:
            return None
        with suppress(OSError, ValueError):
            for line in self._file.read_text("ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return None


def _events_file(own: Path, groups: Path) -> Path | None:
    """The file with the counter: of version 2, else of version 1's memory controller."""
    try:
        lines = own.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in sorted(lines):  # "0::/path" of version 2 comes first
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        inside = path.lstrip("/")
        if number == "0" and not controllers:
            places = [groups / inside / "memory.events", groups / "memory.events"]
        elif "memory" in controllers.split(","):
            places = [groups / "memory" / inside / "memory.oom_control"]
            places.append(groups / "memory" / "memory.oom_control")
        else:
            continue
        for place in places:
            if place.is_file():
                return place
    return None


def explain(status: int, *, ours: str | None, oom: OomCounter) -> str:
    """What a parent can say of a child's end.

    :param status: its exit status, negative for the signal that ended it.
    :param ours: what we sent SIGKILL for, or None. :param oom: asked only where it may know.
    """
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if status != -signal.SIGKILL:
        return f"was ended by {name}"
    if ours is not None:
        return ours
    killed = oom.new()
    if killed:
        return (
            "was ended by SIGKILL: the kernel ended "
            f"{killed} process{'es' if killed > 1 else ''} of this control group, which was out "
            "of memory; raise its limit, or see max_rss"
        )
    if oom.known:
        return "was ended by SIGKILL, which neither this server nor the kernel (out of memory) sent"
    return "was ended by SIGKILL, which this server did not send; the kernel tells nothing here"
