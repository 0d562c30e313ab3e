"""`nonblocking`: tries every socket in turn, without asking the kernel who is ready.

What came between a process per client and select(2): sockets that say "not now" instead of
waiting. It is fair and simple, and each round costs as much as there are connections.
"""

from __future__ import annotations

import select
from time import perf_counter, sleep
from typing import Any, Final

from wsgiserver.states import Want
from wsgiserver.workers.pollers import Poll, Poller
from wsgiserver.workers.readiness import Readiness

# The pause between two rounds in which no socket had anything: it begins small and doubles.
_FIRST_PAUSE: Final = 0.0001
# It ends where the rounds cost clearly less than 1 % of the time, between these bounds (seconds).
_SHARE: Final = 200
_LONGEST_PAUSE: Final = (0.02, 1.0)


class TryAll:
    """A poller that asks nobody: every descriptor counts as ready, every time."""

    def __init__(self) -> None:
        self._all: dict[int, Want] = {}
        self.poll: Poll = self._poll

    def _poll(self, seconds: float) -> list[tuple[int, int]]:
        return [(fd, 0) for fd in self._all]

    def add(self, fd: int, want: Want) -> None:
        self._all[fd] = want

    change = add

    def remove(self, fd: int) -> None:
        del self._all[fd]

    def close(self) -> None:
        self._all.clear()


class NonblockingWorker(Readiness):
    """The readiness loop over `TryAll`, with a pause that grows while nothing happens."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pause = 0.0
        self._stop = select.poll()
        self._stop.register(self.stop_fd, select.POLLIN)

    def poller(self) -> Poller:
        """See `Readiness`."""
        return TryAll()

    def other(self, fd: int) -> None:
        """As `Readiness`; but the stop descriptor must not be read, so the kernel is asked."""
        if fd != self.stop_fd or self._stop.poll(0):
            super().other(fd)

    def turn(self) -> None:
        """One round over all sockets; pause if none of them had anything."""
        context = self.context
        blocked, began, tried = context.blocked, perf_counter(), len(self._entries)
        super().turn()
        if context.blocked - blocked < tried or self._runnable or len(self._entries) != tried:
            self._pause = 0.0
            return
        took = perf_counter() - began
        least, most = _LONGEST_PAUSE
        longest = min(max(least, _SHARE * took), most)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), longest)
        sleep(self._pause)
