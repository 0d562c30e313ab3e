"""Signals become a readable descriptor; what each of them means stands here and nowhere else.

One process (no supervisor)
SIGTERM, SIGINT    stop gracefully: accepted requests finish; a second one ends at once
SIGALRM            only while stopping: the grace is over, so what did not finish is cut off
SIGPIPE            ignored (Python's default): a client that leaves is an error of its socket

The supervisor of a fleet
SIGTERM            stop gracefully; a second one ends at once
SIGINT, SIGQUIT    end at once
SIGHUP             read the settings anew and replace the workers, one after the other
SIGTTIN, SIGTTOU   one worker more, one less
SIGWINCH           no workers: they finish, and connections wait for SIGHUP or SIGTTIN; nothing
                   where there is a terminal, which sends it when its window changes
SIGUSR1            open the log files anew
SIGCHLD            a worker ended

A worker of a fleet
SIGTERM            stop gracefully, once; also sent by the kernel when the supervisor is gone
SIGUSR2            the same, patiently: another worker takes over, so idle clients need not hurry
SIGQUIT            end at once
SIGUSR1            open the log files anew
SIGINT, SIGHUP     ignored: a terminal sends them to all, and the supervisor decides
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Final

log = logging.getLogger("wsgiserver.error")

# What the worker itself may need to end after the grace, in seconds.
_MERCY: Final = 0.5
_STOP: Final = (signal.SIGTERM, signal.SIGINT)


class StopPipe:
    """A descriptor that becomes readable when the server is to stop, and stays so.

    One byte is written and never read: whoever waits for `fd`, in whichever thread, greenlet or
    child process, sees it.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        self.asked = False

    def ask(self) -> None:
        """Ask to stop; may be called from a signal handler and more than once."""
        if not self.asked:
            self.asked = True
            if self._write_fd >= 0:
                os.write(self._write_fd, b"x")

    def close(self) -> None:
        """Give the descriptors back, when nobody waits any more."""
        write_fd, self._write_fd = self._write_fd, -1
        os.close(self.fd)
        os.close(write_fd)


class StopSignals:
    """A context in which the stop signals ask `pipe`; the second one calls `at_once` and exits.

    So does the end of the grace: an application that does not come back in the only thread would
    keep the server for ever.

    Does nothing outside of the main thread, where Python does not deliver signals.

    :param begin: with whether it may be patient. :param stop: the stop signals. :param quick: those
        that do at once what a second one does. :param patient: those that begin it patiently.
    :param once: a second stop signal changes nothing: a supervisor's and that to its whole group
        may both arrive.
    """

    def __init__(
        self,
        pipe: StopPipe,
        grace: float,
        begin: Callable[[bool], None],
        at_once: Callable[[], None],
        *,
        stop: Iterable[signal.Signals] = _STOP,
        quick: Iterable[signal.Signals] = (),
        patient: Iterable[signal.Signals] = (),
        once: bool = False,
    ) -> None:
        self._pipe = pipe
        self._grace = grace
        self._begin = begin
        self._at_once = at_once
        self._stop = tuple(stop)
        self._quick = tuple(quick)
        self._patient = tuple(patient)
        self._once = once
        self._patiently = False  # the last time it was asked to stop
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (*self._stop, *self._quick, *self._patient):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        # Logging may fail or block in a handler, so it comes last.
        name = signal.Signals(number).name
        asked = self._pipe.asked and not self._patiently
        if asked and self._once and number not in self._quick:
            return
        if number in self._quick or (asked and number not in self._patient):
            again = " again" if asked else ""
            self._at_once()
            try:
                log.warning("%s%s: ending at once", name, again)
            finally:
                os._exit(128 + number)
        self._patiently = number in self._patient
        if not self._pipe.asked:
            self._begin(self._patiently)  # before the pipe, which other threads are woken by
            self._pipe.ask()
            self._watch_the_grace()
            log.info("%s: finishing what was accepted, for at most %g s", name, self._grace)

    def _watch_the_grace(self) -> None:
        """An alarm, since it comes through whatever the application waits in, as no thread does."""
        if hasattr(signal, "setitimer"):
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._grace_is_over)
            signal.setitimer(signal.ITIMER_REAL, self._grace + _MERCY)

    def _grace_is_over(self, *_: object) -> None:
        self._at_once()
        try:
            log.warning("the grace of %g s is over: cutting off what did not finish", self._grace)
        finally:
            os._exit(1)


def terminate_at_end_of(pipe: int, pid: int) -> None:
    """Have the kernel send SIGTERM to a process when the other end of a pipe is closed.

    However the process at that end dies, also by SIGKILL, its server must not stay behind with the
    port. The server only inherits the pipe and need not know; only Linux can do this.
    """
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(pipe, fcntl.F_SETOWN, pid)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
