"""`threadpool`: the loop reads requests and writes answers, a pool of threads runs the application.

Slow clients cost no thread, since only whole requests reach the pool; slow applications do not
stop the loop. The default.

A thread sends what it can itself and gives the connection back by `busy = False` alone: the poller
still watches it, so that in the common case (answered, waiting for the next request) the hand-back
costs nothing. Only where the poller has to be told something, both sides take `_lock`.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import monotonic
from typing import Any, ClassVar

from wsgiserver.connection import Want
from wsgiserver.drive import drive
from wsgiserver.workers.readiness import CLOSE, RUN, Entry, Readiness

Job = tuple[int, Entry] | None


class ThreadPoolWorker(Readiness):
    """The readiness loop with `threads` threads for the application."""

    multithread: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.RLock()

    def run(self) -> None:
        """See `Worker`."""
        pool = [
            threading.Thread(target=self._work, name=f"wsgiserver-{number}", daemon=True)
            for number in range(self.threads)
        ]
        for thread in pool:
            thread.start()
        super().run()
        for _ in pool:
            self._jobs.put(None)
        for thread in pool:
            thread.join(max(self._end - monotonic(), 0.1))

    def step(self, fd: int, entry: Entry) -> None:
        """As `Readiness`, but the application's turn is a job for the pool."""
        if entry.busy:
            self._unwatch(fd, entry)
            return
        want = drive(entry.conn, entry.sock, inline=False)
        if want is RUN:
            entry.busy = True
            self._jobs.put((fd, entry))
        elif want is not entry.armed:
            self.rearm(fd, entry, want)

    def _unwatch(self, fd: int, entry: Entry) -> None:
        """The client sends, or is gone, while its request is served: do not spin on it."""
        with self._lock:
            if entry.busy and entry.armed is not None:
                self._poller.remove(fd)
                entry.armed = None

    def _work(self) -> None:
        """What each thread of the pool does."""
        while (job := self._jobs.get()) is not None:
            fd, entry = job
            want = drive(entry.conn, entry.sock)
            if want is RUN:
                self._jobs.put(job)
            elif want is CLOSE:
                self.discard(fd, entry)
            else:
                entry.busy = False
                if entry.armed is not want:
                    self._rearm_from_pool(fd, entry, want)

    def _rearm_from_pool(self, fd: int, entry: Entry, want: Want) -> None:
        with self._lock:
            if not entry.busy and self._entries.get(fd) is entry and entry.conn.want is want:
                if entry.armed is not want:
                    super().rearm(fd, entry, want)

    def rearm(self, fd: int, entry: Entry, want: Want) -> None:
        """See `Readiness`; the loop's side of the lock."""
        with self._lock:
            super().rearm(fd, entry, want)

    def discard(self, fd: int, entry: Entry) -> None:
        """See `Readiness`; both sides end connections."""
        with self._lock:
            super().discard(fd, entry)
