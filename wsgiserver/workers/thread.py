"""`thread`: a thread for each connection."""

from __future__ import annotations

import socket
import threading
from time import monotonic
from typing import Any, ClassVar

from wsgiserver.connection import Connection
from wsgiserver.workers.base import Blocking


class ThreadWorker(Blocking):
    """Starts a thread for each connection, up to `most`; the next clients wait in the backlog."""

    multithread: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._changed = threading.Condition()
        self._running = 0

    def has_room(self) -> bool:
        """Wait up to a moment for a thread to end while all are taken."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running < self.most, 0.1)

    def spawn(self, sock: socket.socket, conn: Connection) -> None:
        """See `Blocking`."""
        with self._changed:
            self._running += 1
        try:
            threading.Thread(target=self._live, args=(sock, conn), daemon=True).start()
        except RuntimeError:  # the system gives no more threads: serve it here, slowly
            self._live(sock, conn)

    def _live(self, sock: socket.socket, conn: Connection) -> None:
        try:
            self.serve(sock, conn)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def join(self, deadline: float) -> None:
        """See `Blocking`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, max(deadline - monotonic(), 0))
