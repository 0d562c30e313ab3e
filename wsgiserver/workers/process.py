"""`process`: a forked child for each connection. inetd, and the early NCSA and Apache servers."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, ClassVar, Final

from wsgiserver.connection import Connection
from wsgiserver.workers.base import PATIENCE, RETIRE, Blocking, log

_STOP: Final = (signal.SIGTERM, signal.SIGINT, RETIRE)
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

    def housekeeping(self) -> float:
        """See `Blocking`: no child stays a zombie for longer than a moment."""
        self._reap()
        return _REAP * 1000 if self._children else super().housekeeping()

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
        # A child that is asked to stop before it has a handler of its own would use ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            pid = os.fork()
            if pid == 0:
                self._live(sock, conn)
        except OSError as error:  # no process or memory left: this client loses, not the server
            sock.close()
            self._say_exhausted(error)
            self._pause(_REAP)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        self._children.add(pid)
        self.context.served += 1  # connections: the requests are counted in the child
        sock.close()

    def _live(self, sock: socket.socket, conn: Connection) -> None:
        """All that the child does. It must not return into the parent's code."""
        status = 1
        try:
            # A terminal's Ctrl-C reaches the whole group, and the parent decides what it means. The
            # parent's SIGTERM makes the answer in work say close.
            main = threading.current_thread() is threading.main_thread()
            if main:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, lambda *_: Blocking.begin_to_stop(self))
                signal.signal(RETIRE, self._retire)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
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

    def _retire(self, *_: object) -> None:
        """In a child: its parent is replaced, and waits a little for its client."""
        self.context.patience = PATIENCE
        Blocking.begin_to_stop(self)

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

    def begin_to_stop(self) -> None:
        """See `Worker`; the children are told."""
        if not self.context.draining:
            self._signal(RETIRE if self.context.patience else signal.SIGTERM)
        super().begin_to_stop()

    def abandon(self) -> None:
        """See `Worker`."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._children):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
