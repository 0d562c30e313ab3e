"""The loop that waits for all connections at once and serves those that are ready.

`epoll`, `nonblocking`, `threadpool` and `processpool` are this loop with small differences.

Deadlines. Every connection stands in one bucket of `_wheel` and is looked at when its time comes:
at its deadline, but at the latest one `shortest_timeout` after it was put there. No deadline is
ever set closer than that, so none is missed, and a request sets its deadlines without touching
the wheel.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from wsgiserver.connection import Connection
from wsgiserver.drive import close, drive, receive_last
from wsgiserver.states import CLOSE, READ, RUN, WRITE, Want
from wsgiserver.workers.base import PAUSE, Exhausted, Worker
from wsgiserver.workers.pollers import Poller, best_poller

# How exactly deadlines are kept, in seconds.
_TICK: Final = 0.25
# Accepted from one listener in one go, so that a storm of new clients does not starve the others.
_BATCH: Final = 64


class Entry:
    """A connection with its socket, and what the poller watches it for (None: nothing)."""

    __slots__ = ("armed", "busy", "conn", "sock")

    def __init__(self, sock: socket.socket, conn: Connection) -> None:
        self.sock = sock
        self.conn = conn
        self.armed: Want | None = None
        self.busy = False  # a pool works on it: the loop must not touch it


class Readiness(Worker):
    """See the module. Subclasses may replace `poller` and `step`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._poller = self.poller()
        self._entries: dict[int, Entry] = {}
        self._runnable: deque[tuple[int, Entry]] = deque()  # whose turn ended before they did
        self._wheel: dict[int, list[tuple[int, Entry]]] = {}
        self._swept = int(monotonic() / _TICK)
        self._shortest = self.context.shortest_timeout
        self._by_fd = {listener.fileno(): listener for listener in self.listeners}
        self._accepting = False
        self._accept_again = 0.0
        self._told = False  # the listeners are closed and all connections know of the stop

    def poller(self) -> Poller:
        """The poller to wait with."""
        return best_poller()

    def run(self) -> None:
        """See `Worker`."""
        self._poller.add(self.stop_fd, READ)
        self._watch_listeners(True)
        try:
            while not self._finished():
                self.turn()
        finally:
            for fd, entry in list(self._entries.items()):
                self._cut_off(entry)
                self.discard(fd, entry)
            self._poller.close()

    def _cut_off(self, entry: Entry) -> None:
        """The grace is over for an answer that a client did not take: its close() is still owed."""
        conn = entry.conn
        if not entry.busy and conn.want is WRITE:
            if conn.lost(TimeoutError("the server stops")) is RUN:
                conn.run(entry.sock)

    def _finished(self) -> bool:
        if not self._told:
            return False
        return not self._entries or monotonic() >= self.end

    def turn(self) -> None:
        """Wait once, then serve everything that is ready."""
        entries = self._entries
        for fd, _ in self._poller.poll(0 if self._runnable else _TICK):
            entry = entries.get(fd)
            if entry is not None:
                self.step(fd, entry)
            else:
                self.other(fd)
        if self._runnable:
            self._run_the_rest()
        if monotonic() >= (self._swept + 1) * _TICK:
            self._sweep()

    def _run_the_rest(self) -> None:
        for _ in range(len(self._runnable)):
            fd, entry = self._runnable.popleft()
            if self._entries.get(fd) is entry:
                self.step(fd, entry)

    def step(self, fd: int, entry: Entry) -> None:
        """Drive one connection as far as it goes, and see to what it waits for then."""
        want = drive(entry.conn, entry.sock)
        if want is not entry.armed:
            self.rearm(fd, entry, want)

    def rearm(self, fd: int, entry: Entry, want: Want) -> None:
        """Make the poller watch for what a connection wants, or end it."""
        if want is CLOSE:
            self.discard(fd, entry)
        elif want is RUN:
            self._runnable.append((fd, entry))
        else:
            if entry.armed is None:
                self._poller.add(fd, want)
            else:
                self._poller.change(fd, want)
            entry.armed = want

    def discard(self, fd: int, entry: Entry) -> None:
        """End a connection. In this order: a new client may get the same descriptor."""
        if entry.armed is not None:
            self._poller.remove(fd)
            entry.armed = None
        self._entries.pop(fd, None)
        close(entry.conn, entry.sock)

    def other(self, fd: int) -> None:
        """A descriptor that is no client's is ready."""
        listener = self._by_fd.get(fd)
        if listener is not None:
            self._accept_some(listener)
        elif fd == self.stop_fd:
            self._poller.remove(fd)
            self._drain()

    # -- accepting

    def _accept_some(self, listener: socket.socket, most: int = _BATCH) -> None:
        for _ in range(most):
            if len(self._entries) >= self.most:
                self._pause_accepting(0)
                return
            try:
                accepted = self.accept(listener)
            except Exhausted:
                self._pause_accepting(PAUSE)
                return
            if accepted is None:
                return
            self._begin(*accepted)

    def _begin(self, sock: socket.socket, conn: Connection) -> None:
        """Serve a new client; its request often came with it, so look before waiting."""
        fd = sock.fileno()
        entry = Entry(sock, conn)
        self._entries[fd] = entry
        self._put_on_wheel(fd, entry, monotonic())
        self.step(fd, entry)

    def _pause_accepting(self, seconds: float) -> None:
        self._watch_listeners(False)
        self._accept_again = monotonic() + seconds

    def _watch_listeners(self, accepting: bool) -> None:
        if self._accepting is not accepting:
            self._accepting = accepting
            for fd in self._by_fd:
                if accepting:
                    self._poller.add(fd, READ)
                else:
                    self._poller.remove(fd)

    # -- deadlines

    def _put_on_wheel(self, fd: int, entry: Entry, now: float) -> None:
        due = min(entry.conn.deadline, now + self._shortest)
        self._wheel.setdefault(max(int(due / _TICK), self._swept) + 1, []).append((fd, entry))

    def _sweep(self) -> None:
        """Look at the connections whose buckets are due; start accepting again if there is room."""
        now = monotonic()
        if self.pulse is not None:
            self.pulse(self.context.served)
        if self.context.answers:
            with suppress(RuntimeError):  # a thread of a pool remembers one at this moment
                self.context.answers.drop_stale(now)
        tick = int(now / _TICK)
        due = [at for at in self._wheel if at <= tick]
        self._swept = tick
        horizon = now + self._shortest
        later = self._wheel.setdefault(int(horizon / _TICK) + 1, []) if due else []
        for at in due:
            for item in self._wheel.pop(at):
                fd, entry = item
                if self._entries.get(fd) is entry:
                    if entry.conn.deadline >= horizon and not self.context.draining:
                        later.append(item)  # hot: an idle connection, most of ten thousand
                    else:
                        self._look_at(fd, entry, now)
        if not self._accepting and self._by_fd and now >= self._accept_again:
            if len(self._entries) < self.most:
                self._watch_listeners(True)

    def _look_at(self, fd: int, entry: Entry, now: float) -> None:
        conn = entry.conn
        if self.context.draining and not entry.busy and conn.idle and not conn.drained:
            self._tell_stop(fd, entry, now)  # it was served while the others were told
            return
        if not entry.busy and conn.want is not RUN and conn.deadline <= now:
            want = conn.expire()
            if want is CLOSE:
                self.discard(fd, entry)
                return
            if want is not READ:
                self.step(fd, entry)
                if self._entries.get(fd) is not entry:
                    return
        self._put_on_wheel(fd, entry, now)

    # -- stopping

    def _drain(self) -> None:
        """Stop accepting; the kernel accepted what is in the backlog, so serve it too, unless
        another worker will.
        """
        self.begin_to_stop()
        self._told = True
        self._watch_listeners(False)
        for listener in self._by_fd.values():
            if not self.context.patience:
                self._accept_some(listener, self.most)
            listener.close()
        self._by_fd = {}
        # An idle connection's deadline may come nearer now: every entry is put anew.
        self._wheel.clear()
        self._shortest = _TICK
        now = monotonic()
        for fd, entry in list(self._entries.items()):
            if entry.busy or entry.conn.want is not READ:
                self._put_on_wheel(fd, entry, now)
            else:
                self._tell_stop(fd, entry, now)

    def _tell_stop(self, fd: int, entry: Entry, now: float) -> None:
        want = receive_last(entry.conn, entry.sock)
        if want is not entry.armed:
            self.rearm(fd, entry, want)
        if self._entries.get(fd) is entry:
            self._put_on_wheel(fd, entry, now)
