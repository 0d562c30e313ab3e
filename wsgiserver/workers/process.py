"""`process`: a forked child for each connection. inetd, and the early NCSA and Apache servers."""

from __future__ import annotations

import os
import signal
import socket
import sys
from time import monotonic, sleep
from typing import Any, ClassVar, Final

from wsgiserver.connection import Connection
from wsgiserver.workers.base import Blocking, log

# How long the worker waits before it looks again whether a child ended: while it has no room for
# another one, and while it stops.
_REAP: Final = 0.1
_REAP_QUICKLY: Final = 0.01


class ProcessWorker(Blocking):
    """Forks for each connection, up to `most` children.

    An application that crashes or leaks harms one connection. It sees `wsgi.multiprocess`, and
    what it keeps in memory lasts no longer than the connection.
    """

    multiprocess: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._children: set[int] = set()

    def housekeeping(self) -> float | None:
        """See `Blocking`: no child stays a zombie for longer than a moment."""
        self._reap()
        return _REAP * 1000 if self._children else None

    def has_room(self) -> bool:
        """Whether there are fewer than `most` children; if not, wait a moment and reap."""
        if len(self._children) < self.most:
            return True
        self._pause(_REAP)
        self._reap()
        return len(self._children) < self.most

    def spawn(self, sock: socket.socket, conn: Connection) -> None:
        """See `Blocking`."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:  # no process or memory left: this client loses, not the server
            sock.close()
            self._say_exhausted(error)
            self._pause(_REAP)
            return
        if pid == 0:
            self._live(sock, conn)
        self._children.add(pid)
        sock.close()

    def _live(self, sock: socket.socket, conn: Connection) -> None:
        """All that the child does. It must not return into the parent's code."""
        status = 1
        try:
            # A terminal's Ctrl-C reaches the whole group: the parent decides, through the stop
            # descriptor, and a signal to this child alone must not stop the server.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for listener in self.listeners:
                listener.close()
            self._children.clear()
            self.serve(sock, conn)
            status = 0
        except BaseException:
            log.exception("a connection's process failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self._children):
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._children.discard(pid)
            except ChildProcessError:
                self._children.discard(pid)  # the application waited for it (os.wait)

    def join(self, deadline: float) -> None:
        """See `Blocking`; what is left at the deadline is killed."""
        self._reap()
        while self._children and monotonic() < deadline:
            sleep(_REAP_QUICKLY)
            self._reap()
        self.abandon()

    def abandon(self) -> None:
        """See `Worker`."""
        for pid in list(self._children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
