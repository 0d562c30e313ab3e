"""A process that starts workers and watches over them: carries out what fleet_plan.py decides.

It holds the listening sockets, so they stay open whatever becomes of the workers, and accepts
nothing itself. Each worker is a fork of it, with two pipes: one to say that it is ready, whose end
tells of its death; and one that it is leashed to (see `signals.terminate_at_end_of`).
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import random
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from types import FrameType
from typing import Final, NamedTuple, NoReturn

from wsgiserver import fleet_plan as plans
from wsgiserver.fate import OomCounter, explain
from wsgiserver.fleet_plan import FOREVER, Fleet, Reason, State
from wsgiserver.scoreboard import Scoreboard
from wsgiserver.signals import terminate_at_end_of
from wsgiserver.workers.base import RETIRE

log: Final = logging.getLogger("wsgiserver.error")

_HANDLED: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name)
    for name in (
        *("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"),
        *("SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGUSR1", "SIGUSR2", "SIGCHLD"),
    )
    if hasattr(signal, name)  # Windows can import this, not run it
)
_LOOK: Final = 1.0
"""Seconds between two looks at what workers tell of themselves, if a setting depends on it."""
_WORKER_FAILED: Final = 1


class Settings(NamedTuple):
    """What the supervisor needs of the settings; see docs/settings.md for each."""

    workers: int
    limits: plans.Limits
    max_requests: int
    max_requests_jitter: int
    max_rss: int


class Seat:
    """A worker's place in the fleet, as the worker sees it."""

    def __init__(self, board: Scoreboard, row: int, report: int, leash: int) -> None:
        self._board = board
        self._row = row
        self._report = report
        self._leash = leash

    def take(self) -> None:
        """Bind this process to its supervisor: it ends when that does.

        :raises SystemExit: it has ended already.
        """
        terminate_at_end_of(self._leash, os.getpid())
        poll = select.poll()
        poll.register(self._leash, select.POLLIN)
        if poll.poll(0):
            raise SystemExit(_WORKER_FAILED)

    def ready(self) -> None:
        """Say that connections are accepted from now on."""
        with suppress(OSError):  # the supervisor is gone; the leash tells
            os.write(self._report, b"r")

    def pulse(self, served: int) -> None:
        """A sign of life, and how many requests were served."""
        self._board.write(self._row, monotonic(), served)


@dataclass(slots=True)
class _Hand:
    """A worker as the supervisor sees it."""

    pid: int
    row: int
    report: int  # -1 once it is closed
    leash: int
    most_requests: float
    ours: Reason | None = None  # what it was killed for
    is_ready: bool = False


class Supervisor:
    """See the module.

    settings: of now.
    work: what a worker does, in its own process, until it is told to finish; its result is the
        exit status.
    announce: called when signals are heeded.
    reload: reads the settings anew; ValueError has the line that tells why it cannot.
    undo: goes back to the settings before that.
    reopen: opens the log files anew.
    last_call: closes the listening sockets here.
    """

    def __init__(
        self,
        settings: Settings,
        work: Callable[[Seat], int],
        *,
        announce: Callable[[], None],
        reload: Callable[[], Settings],
        undo: Callable[[], None],
        reopen: Callable[[], None],
        last_call: Callable[[], None],
    ) -> None:
        self._settings = self._former = settings
        self._work = work
        self._announce = announce
        self._reload = reload
        self._undo = undo
        self._reopen = reopen
        self._last_call = last_call
        self._fleet = Fleet(settings.workers, settings.limits)
        self._hands: dict[int, _Hand] = {}
        self._by_report: dict[int, int] = {}
        self._board = Scoreboard()
        self._oom = OomCounter()
        self._poll = select.poll()
        self._wakeup = self._wakeup_end = -1
        self._look_again = 0.0
        self._status: int | None = None

    def run(self) -> int:
        """Until the fleet has ended; its exit status."""
        with self._signals():
            self._announce()
            self._tell(plans.Tick())
            while self._status is None:
                self._turn()
        return self._status

    def _turn(self) -> None:
        due = min(plans.wake(self._fleet), self._look_again if self._looks else FOREVER)
        timeout = None if due == FOREVER else max(0.0, due - monotonic()) * 1000 + 1
        ready = [fd for fd, _ in self._poll.poll(timeout)]
        for fd in ready:
            if fd == self._wakeup:
                for number in os.read(fd, 4096):
                    self._signalled(number)
            elif fd in self._by_report:
                self._reported(fd)
        if self._looks and monotonic() >= self._look_again:
            self._look()
        if not ready:
            self._tell(plans.Tick())

    # -- events

    def _tell(self, event: plans.Event) -> None:
        """Let the plan decide, and do what it decides."""
        events = [event]
        if self._fleet.limits.heartbeat:
            ready = self._fleet.those(State.READY)
            rows = ((each.id, self._board.read(self._hands[each.id].row).beat) for each in ready)
            events.insert(0, plans.Beats(tuple(row for row in rows if row[1])))
        for each in events:
            self._fleet, actions = plans.plan(self._fleet, each, monotonic())
            for action in actions:
                self._do(action)

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGCHLD:
                self._reap()
            case signal.SIGTERM:
                again = self._fleet.stopping is not None
                log.info("SIGTERM%s", " again: ending at once" if again else ": stopping")
                self._stop(Reason.QUICK if again else Reason.STOP)
            case signal.SIGINT | signal.SIGQUIT:
                log.info("%s: ending at once", signal.Signals(number).name)
                self._stop(Reason.QUICK)
            case signal.SIGHUP:
                self._reload_asked()
            case signal.SIGTTIN | signal.SIGTTOU:
                step = 1 if number == signal.SIGTTIN else -1
                # After SIGWINCH either of them brings back as many as the settings say.
                now = self._fleet.wanted
                wanted = max(1, now + step) if now else self._settings.workers
                log.info("%s: %s", signal.Signals(number).name, _workers(wanted))
                self._tell(plans.Scale(wanted))
            case signal.SIGWINCH:
                if not has_terminal():
                    log.info("SIGWINCH: no workers until SIGHUP or SIGTTIN")
                    self._tell(plans.Scale(0))
            case signal.SIGUSR1:
                self._reopen()
                for hand in self._hands.values():
                    self._send(hand, signal.SIGUSR1)

    def _stop(self, how: Reason) -> None:
        self._last_call()
        self._tell(plans.Stop(how))

    def _reload_asked(self) -> None:
        try:
            settings = self._reload()
        except ValueError as error:
            log.error("SIGHUP: %s; the settings stay as they are, nothing is replaced", error)
            return
        if not self._fleet.reloading:
            self._former = self._settings._replace(workers=self._fleet.wanted or settings.workers)
        self._settings = settings
        log.info("SIGHUP: replacing %s", _workers(len(self._fleet.those(State.READY))))
        self._tell(plans.Reload(self._settings.workers, self._settings.limits))

    def _reported(self, report: int) -> None:
        number = self._by_report[report]
        try:
            said = os.read(report, 16)
        except BlockingIOError:
            return  # another worker's, which got the same descriptor since
        if said:
            member = self._fleet.member(number)
            if member is not None and member.state is State.BOOTING:
                log.info("worker %d (pid %d) serves", number, self._hands[number].pid)
            self._hands[number].is_ready = True
            self._tell(plans.Ready(number))
        else:  # it is gone; SIGCHLD comes
            self._close_report(self._hands[number])

    def _reap(self) -> None:
        for number, hand in list(self._hands.items()):
            try:
                pid, wait_status = os.waitpid(hand.pid, os.WNOHANG)
            except ChildProcessError:  # preloaded code waited for all children
                pid, wait_status = hand.pid, 0
            if pid:
                self._gone(number, hand, os.waitstatus_to_exitcode(wait_status))
        if os.getpid() == 1:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        """As the first process of a container: whatever lost its parent is ours to bury."""
        workers = {hand.pid for hand in self._hands.values()}
        with suppress(ChildProcessError):
            while True:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None or info.si_pid in workers:
                    return
                os.waitpid(info.si_pid, 0)

    def _gone(self, number: int, hand: _Hand, status: int) -> None:
        member = self._fleet.member(number)
        leaving = member is not None and member.state is State.LEAVING
        expected = leaving and status in (0, -signal.SIGTERM)  # the latter while it starts
        text = explain(status, ours=hand.ours and hand.ours.value, oom=self._oom)
        level = logging.INFO if expected or hand.ours is Reason.QUICK else logging.ERROR
        log.log(level, "worker %d (pid %d) %s", number, hand.pid, text)
        self._close_report(hand)
        os.close(hand.leash)
        self._board.give_back(hand.row)
        del self._hands[number]
        self._tell(plans.Ended(number, status))

    def _close_report(self, hand: _Hand) -> None:
        if hand.report >= 0:
            self._poll.unregister(hand.report)
            del self._by_report[hand.report]
            os.close(hand.report)
            hand.report = -1

    # -- what workers tell of themselves

    @property
    def _looks(self) -> bool:
        settings = self._settings
        return bool(settings.max_requests or settings.max_rss)

    def _look(self) -> None:
        self._look_again = monotonic() + _LOOK
        for member in self._fleet.those(State.READY):
            hand = self._hands[member.id]
            row = self._board.read(hand.row)
            if row.served >= hand.most_requests:
                self._tell(plans.Retire(member.id, Reason.REQUESTS))
            elif self._settings.max_rss and resident(hand.pid) > self._settings.max_rss:
                self._tell(plans.Retire(member.id, Reason.MEMORY))

    # -- actions

    def _do(self, action: plans.Action) -> None:
        match action:
            case plans.Spawn(number):
                self._spawn(number)
            case plans.Finish(number, why):
                hand = self._hands[number]
                log.info("worker %d (pid %d) %s", number, hand.pid, why.value)
                # One that still starts has no requests, and ends by SIGTERM at once.
                patient = hand.is_ready and why is not Reason.STOP
                self._send(hand, RETIRE if patient else signal.SIGTERM)
            case plans.Kill(number, why):
                hand = self._hands[number]
                hand.ours = why
                self._send(hand, signal.SIGQUIT if why is Reason.QUICK else signal.SIGKILL)
            case plans.Reloaded(True):
                log.info("reloaded: all workers are new ones")
            case plans.Reloaded(False):
                log.error("not reloaded: the new workers do not come up, the old ones serve on")
                self._undo()
                self._settings = self._former
                wanted, limits = self._former.workers, self._former.limits
                self._fleet = replace(self._fleet, wanted=wanted, limits=limits)
            case plans.Exit(status):
                self._status = status

    def _send(self, hand: _Hand, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it is not reaped yet, so the pid is nobody else's
            os.kill(hand.pid, number)

    def _spawn(self, number: int) -> None:
        try:
            self._hire(number)
        except (OSError, IndexError) as error:  # no process, descriptor or memory left
            log.error("worker %d cannot be started: %s", number, error)
            self._tell(plans.Ended(number, _WORKER_FAILED))

    def _hire(self, number: int) -> None:
        row = self._board.take()
        fds: list[int] = []
        try:
            fds += [*os.pipe(), *os.pipe()]
            os.set_blocking(fds[0], False)
            pid = self._forked(row, fds)
        except OSError:
            self._board.give_back(row)
            for fd in fds:
                os.close(fd)
            raise
        report, report_end, leash_end, leash = fds
        os.close(report_end)
        os.close(leash_end)
        settings = self._settings
        most = settings.max_requests + random.randint(0, settings.max_requests_jitter)
        hand = _Hand(pid, row, report, leash, most if settings.max_requests else FOREVER)
        self._hands[number] = hand
        self._by_report[report] = number
        self._poll.register(report, select.POLLIN)
        log.debug("worker %d (pid %d) starts", number, pid)

    def _forked(self, row: int, fds: Sequence[int]) -> int:
        """The pid of a new process that is a worker."""
        report, report_end, leash_end, leash = fds
        seat = Seat(self._board, row, report_end, leash_end)
        _flush()
        # Until the worker has handlers of its own, ours would run in it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(seat, (report, leash), before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _be_worker(self, seat: Seat, ours: Sequence[int], mask: set[int]) -> NoReturn:
        """All that the new process does. It must not return into the supervisor's code."""
        status = _WORKER_FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in _HANDLED:
                # Until the worker is ready these two end it; not SIG_IGN, which programs that it
                # starts would inherit.
                ends = number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD)
                signal.signal(number, signal.SIG_DFL if ends else _seen)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for fd in (*ours, self._wakeup, self._wakeup_end, *self._descriptors()):
                os.close(fd)
            seat.take()
            status = self._work(seat)
            atexit._run_exitfuncs()  # as a process without fork does
        except SystemExit as error:  # the application may end its process while it is imported
            status = error.code if isinstance(error.code, int) else _WORKER_FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            _flush()
            os._exit(status)

    def _descriptors(self) -> Iterator[int]:
        """The supervisor's own ones for the other workers."""
        for hand in self._hands.values():
            yield hand.leash
            if hand.report >= 0:
                yield hand.report

    # -- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals arrive as bytes in a pipe, so that they are seen where the supervisor waits."""
        self._wakeup, self._wakeup_end = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(self._wakeup_end, False)
        self._poll.register(self._wakeup, select.POLLIN)
        before_fd = signal.set_wakeup_fd(self._wakeup_end)
        before = {number: signal.signal(number, _seen) for number in _HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            os.close(self._wakeup)
            os.close(self._wakeup_end)
            self._board.close()


def _flush() -> None:
    """What is buffered belongs to this process; there may be no streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _seen(number: int, frame: FrameType | None) -> None:
    """Python writes the number into the pipe; there is nothing more to do."""


def share_memory() -> None:
    """What was imported before the forks is left alone by the garbage collector, so that its pages
    stay shared. To be called before the first fork."""
    gc.collect()
    gc.freeze()


def resident(pid: int) -> int:
    """Bytes of memory that a process has in RAM; 0 if that cannot be told."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
