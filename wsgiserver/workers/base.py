"""What a worker is, and the worker that gives every connection a flow of its own to wait in."""

from __future__ import annotations

import errno
import logging
import select
import signal
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final

from wsgiserver import drive as driving
from wsgiserver.connection import Connection
from wsgiserver.context import Peer
from wsgiserver.drive import drive
from wsgiserver.states import CLOSE, READ, RUN, Want

if TYPE_CHECKING:
    from wsgiserver.context import Context

log = logging.getLogger("wsgiserver.error")

# Out of descriptors or buffers: accepting again at once would only spin.
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE: Final = 0.5
# A signal that comes in the moment before a wait is handled only after it, so none is longer than
# this (seconds).
GLANCE: Final = 0.5
# Tells a worker to finish since it is replaced, and how long its idle clients may then still bring
# a request (seconds): long enough for one that is busy, short enough not to be in the way.
RETIRE: Final = getattr(signal, "SIGUSR2", signal.SIGTERM)  # not on Windows, nor are fleets
PATIENCE: Final = 5.0


class Worker:
    """Accepts from the listeners and serves until the stop descriptor becomes readable.

    Made after any fork; never forks workers, never binds.

    :param context: what the connections share. :param listeners: listening, non-blocking sockets.
    :param stop_fd: readable when the worker is to stop; never drained, so that every thread,
        child and greenlet sees it. :param grace: seconds that accepted requests have after that.
    :param most: open client connections; at that number accepting pauses.
    """

    multithread: ClassVar[bool] = False
    multiprocess: ClassVar[bool] = False

    def __init__(
        self,
        context: Context,
        listeners: Sequence[socket.socket],
        stop_fd: int,
        *,
        grace: float,
        most: int,
        threads: int = 1,
    ) -> None:
        self.context = context
        self.listeners = list(listeners)
        self.stop_fd = stop_fd
        self.grace = grace
        self.most = most
        self.threads = threads
        self._names = {listener.fileno(): _server_name(listener) for listener in listeners}
        self._exhausted = False
        self.end = float("inf")  # when the grace of a stop is over, in monotonic seconds
        # Called with the number of served requests whenever the loop comes round, at the least
        # every GLANCE seconds; the server sets it where a supervisor wants to know.
        self.pulse: Callable[[int], None] | None = None
        context.flush = self.flush

    def run(self) -> None:
        """Serve; returns after a graceful stop, in which no accepted request was lost."""
        raise NotImplementedError

    def begin_to_stop(self) -> None:
        """Answers close their connections from now on; the grace runs. Once is enough.

        Called as soon as the stop is known, also from a signal handler: a loop that is busy in the
        application learns of the descriptor only later, and the answer must say close already.
        """
        if not self.context.draining:
            self.end = monotonic() + self.grace
            self.context.drain()

    def abandon(self) -> None:
        """End at once what a second signal must end, from within the signal's handler."""

    def accept(self, listener: socket.socket) -> tuple[socket.socket, Connection] | None:
        """The next client of a listener; None if there is none now.

        :raises Exhausted: the process or the system is out of descriptors or memory.
        """
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._say_exhausted(error)
                raise Exhausted from error
            return None  # nobody there any more, or gone between connect and accept
        if self._exhausted:
            self._exhausted = False
            log.warning("accepting connections again")
        sock.setblocking(False)
        name, port = self._names[listener.fileno()]
        if isinstance(address, tuple):
            peer = Peer(address[0], str(address[1]), name, port)
        else:
            peer = Peer("", "", name, port)
        return sock, Connection(self.context, peer)

    def _say_exhausted(self, error: OSError) -> None:
        if not self._exhausted:
            self._exhausted = True
            log.warning(
                "not accepting connections for now: %s (raise the limit, see 'ulimit -n')",
                error.strerror,
            )

    def flush(self, conn: Connection, sock: socket.socket) -> None:
        """Send what an application writes, before it goes on; see `drive.flush`."""
        driving.flush(conn, sock, self.wait)

    def wait(self, sock: socket.socket, want: Want, timeout: float) -> bool:
        """Block until the socket can be read or written; False when the time is up."""
        poll = select.poll()
        poll.register(sock, select.POLLIN if want is READ else select.POLLOUT)
        return bool(poll.poll(max(timeout, 0) * 1000))


def _glance(until: float) -> float:
    """How long to wait at a time for what may last until a monotonic time."""
    return min(max(until - monotonic(), 0), GLANCE)


class Exhausted(Exception):
    """No descriptor or memory is left to accept with."""


def _server_name(listener: socket.socket) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT (RFC 3875 §4.1.14-15; PEP 3333 forbids empty ones)."""
    address = listener.getsockname()
    if isinstance(address, tuple):
        return address[0], str(address[1])
    return "localhost", "80"


class Blocking(Worker):
    """A flow of control (this one, a thread, a process, a greenlet) for each connection.

    Subclasses say how a flow begins (`spawn`) and how all of them end (`join`).
    """

    def run(self) -> None:
        """Accept and spawn until told to stop, then wait for the flows."""
        poll = select.poll()
        poll.register(self.stop_fd, select.POLLIN)
        by_fd = {listener.fileno(): listener for listener in self.listeners}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        while True:
            if self.pulse is not None:
                self.pulse(self.context.served)
            ready = [fd for fd, _ in poll.poll(self.housekeeping())]
            if self.stop_fd in ready:
                break
            for fd in ready:
                self._accept_one(by_fd[fd])
        self.begin_to_stop()
        self.serve_the_backlog()
        self.join(self.end)

    def serve_the_backlog(self) -> None:
        """Take who connected before the stop, unless another worker will, and listen no more."""
        for listener in self.listeners:
            while not self.context.patience and monotonic() < self.end:
                if not self._accept_one(listener):
                    break
            listener.close()

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept and spawn, if there is room; whether there may be another client after that."""
        if not self.has_room():
            return True
        try:
            accepted = self.accept(listener)
        except Exhausted:
            self._pause(PAUSE)
            return False
        if accepted is not None:
            self.spawn(*accepted)
        return accepted is not None

    def housekeeping(self) -> float:
        """What is to be done now and then; in how many ms again, at most."""
        return GLANCE * 1000

    def has_room(self) -> bool:
        """Wait for a moment while the worker is full; whether it has room now."""
        return True

    def spawn(self, sock: socket.socket, conn: Connection) -> None:
        """Begin a flow that calls `serve`."""
        raise NotImplementedError

    def join(self, deadline: float) -> None:
        """Wait for all flows to end, until the monotonic time `deadline`."""

    def _pause(self, seconds: float) -> None:
        """Wait, unless the stop comes."""
        poll = select.poll()
        poll.register(self.stop_fd, select.POLLIN)
        poll.poll(seconds * 1000)

    def serve(self, sock: socket.socket, conn: Connection) -> None:
        """Serve one connection to its end. The whole life of a connection in these models."""
        try:
            while conn.want is not CLOSE:
                if conn.want is not RUN:
                    self.wait_for(conn, sock)
                elif monotonic() >= self.end:
                    conn.lost(TimeoutError("the server stops"))
                else:
                    self.give_way()
                drive(conn, sock)
        finally:
            driving.close(conn, sock)

    def glanced(self) -> None:
        """Nothing came for a moment; called where a connection waits."""

    def give_way(self) -> None:
        """A turn ended and the next one could begin at once: let others have theirs."""

    def wait_for(self, conn: Connection, sock: socket.socket) -> None:
        """Wait for what the connection wants; tell it when that, or the server, ends first."""
        ready = self.ready(conn, sock, conn.deadline - self.context.now())
        if not ready:
            self.time_is_up(conn)
        elif sock.fileno() not in ready:
            driving.receive_last(conn, sock)

    def time_is_up(self, conn: Connection) -> None:
        """Nothing came in time: in that of the connection, or in that of the stop."""
        if monotonic() >= self.end:
            conn.lost(TimeoutError("the server stops"))
        else:
            conn.expire()

    def ready(
        self, conn: Connection, sock: socket.socket, timeout: float, others: Sequence[int] = ()
    ) -> list[int]:
        """Which of the socket, the stop descriptor and `others` became ready in `timeout` s.

        The stop descriptor stays readable, so it is watched only until this connection was told.
        """
        poll = select.poll()
        poll.register(sock, select.POLLIN if conn.want is READ else select.POLLOUT)
        for fd in others:
            poll.register(fd, select.POLLIN)
        if not conn.drained:
            poll.register(self.stop_fd, select.POLLIN)
        until = min(monotonic() + timeout, self.end)
        while not (ready := [fd for fd, _ in poll.poll(_glance(until) * 1000)]):
            if monotonic() >= until:
                break
            self.glanced()
        if self.stop_fd in ready:
            self.begin_to_stop()
        return ready
