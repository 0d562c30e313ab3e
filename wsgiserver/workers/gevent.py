"""`gevent`: a greenlet for each connection. Blocking code, one thread, many clients."""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from gevent import monkey
from gevent.event import Event
from gevent.hub import Hub, get_hub
from gevent.timeout import Timeout

from wsgiserver.connection import Connection
from wsgiserver.drive import receive_last
from wsgiserver.states import READ, Want
from wsgiserver.workers.base import GLANCE, PAUSE, Blocking, Exhausted

if TYPE_CHECKING:
    Flow = gevent.Greenlet[Any, Any]


def patch() -> None:
    """Make the standard library cooperative; to be called before the application is imported."""
    monkey.patch_all()


class _Stop(BaseException):
    """Thrown into a greenlet that waits for its client when the worker stops."""


class GeventWorker(Blocking):
    """Waits in gevent's hub instead of the kernel, so one thread holds thousands of flows.

    `wsgi.multithread` is true: greenlets take turns like threads do, only at known points.
    """

    multithread: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._hub: Hub = get_hub()
        self._flows: dict[Flow, socket.socket] = {}
        self._waiting: set[Flow] = set()
        self._room = Event()
        self._room.set()

    def run(self) -> None:
        """See `Worker`."""
        acceptors = [gevent.spawn(self._accept_from, listener) for listener in self.listeners]
        glance = self._hub.loop.timer(GLANCE, GLANCE)
        glance.start(self._glance)  # also so that a signal is seen though nothing else happens
        self._hub.wait(self._hub.loop.io(self.stop_fd, 1))
        glance.close()
        self.begin_to_stop()
        gevent.killall(acceptors)
        self.serve_the_backlog()
        gevent.sleep(0)  # let the new flows begin, and reach their first wait
        for flow in list(self._waiting):
            flow.kill(_Stop, block=False)
        self.join(self.end)

    def _glance(self) -> None:
        if self.pulse is not None:
            self.pulse(self.context.served)

    def _accept_from(self, listener: socket.socket) -> None:
        readable = self._hub.loop.io(listener.fileno(), 1)
        while True:
            self._hub.wait(readable)
            self._room.wait()
            try:
                while (accepted := self.accept(listener)) is not None:
                    self.spawn(*accepted)
                    if not self._room.is_set():
                        break
            except Exhausted:
                gevent.sleep(PAUSE)

    def spawn(self, sock: socket.socket, conn: Connection) -> None:
        """See `Blocking`."""
        flow = gevent.spawn(self.serve, sock, conn)
        self._flows[flow] = sock
        flow.link(self._ended)
        if len(self._flows) >= self.most:
            self._room.clear()

    def _ended(self, flow: Flow) -> None:
        self._flows.pop(flow, None)
        if len(self._flows) < self.most:
            self._room.set()

    def wait_for(self, conn: Connection, sock: socket.socket) -> None:
        """See `Blocking`."""
        flow: Flow = gevent.getcurrent()  # type: ignore[assignment]  # spawned above
        self._waiting.add(flow)
        try:
            if self.context.draining and not conn.drained:
                raise _Stop  # it was served while the others were told
            timeout = min(conn.deadline, self.end) - monotonic()
            ready = self.wait(sock, conn.want, timeout)
        except _Stop:
            receive_last(conn, sock)
            return
        finally:
            self._waiting.discard(flow)
        if not ready:
            self.time_is_up(conn)

    def give_way(self) -> None:
        """See `Blocking`: greenlets take turns only where one of them gives way."""
        gevent.sleep(0)

    def wait(self, sock: socket.socket, want: Want, timeout: float) -> bool:
        """See `Worker`: the hub runs the other greenlets meanwhile."""
        watcher = self._hub.loop.io(sock.fileno(), 1 if want is READ else 2)
        late = Timeout.start_new(max(timeout, 0))
        try:
            self._hub.wait(watcher)
        except Timeout as error:
            if error is not late:
                raise  # the application's own
            return False
        finally:
            late.close()
            watcher.close()
        return True

    def join(self, deadline: float) -> None:
        """See `Blocking`."""
        gevent.joinall(list(self._flows), timeout=max(deadline - monotonic(), 0))
        for sock in list(self._flows.values()):
            sock.close()  # its application did not come back in time
