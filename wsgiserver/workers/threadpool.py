"""`threadpool`: the loop reads requests and writes answers, a pool of threads runs the application.

Slow clients cost no thread, since only whole requests reach the pool; slow applications do not
stop the loop. The default.

Who may touch what. While `entry.busy` is set the connection is the thread's, else the loop's; the
loop sets it, the thread clears it. The poller goes on watching, so that in the common case
(answered, waiting for the next request) clearing it is all that the hand-back costs. `entry.armed`
and the poller's registration change only under `_lock`; a thread reads `armed` without it, after it
has cleared `busy` (see `_unwatch` for why that is enough).
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import monotonic
from typing import Any, ClassVar

from wsgiserver.drive import drive
from wsgiserver.states import CLOSE, RUN, Want
from wsgiserver.workers.base import log
from wsgiserver.workers.readiness import Entry, Readiness

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
        deadline = max(self.end, monotonic() + 0.1)
        for thread in pool:
            thread.join(max(deadline - monotonic(), 0))

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
            watched = entry.armed
            if not entry.busy or watched is None:
                return
            entry.armed = None
            self._poller.remove(fd)
            # The thread stores busy before it reads armed, this stores armed before it reads busy:
            # one of the two sees the other, so the connection is never left unwatched.
            if not entry.busy and self._entries.get(fd) is entry:
                super().rearm(fd, entry, entry.conn.want)

    def _work(self) -> None:
        """What each thread of the pool does."""
        while (job := self._jobs.get()) is not None:
            try:
                self._serve(job)
            except BaseException:  # a pool that shrinks in silence would be the worst of faults
                log.exception("a thread of the pool failed, and goes on")
                self.discard(*job)

    def _serve(self, job: tuple[int, Entry]) -> None:
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
