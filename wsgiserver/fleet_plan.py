"""What a supervisor does next, decided without doing it: (fleet, event, now) -> (fleet, actions).

A fleet is a number of workers of one kind. Whatever happens to it is one of the events below, and
all that can be done about it is one of the actions. supervisor.py turns signals, pipes and clocks
into events, and carries out the actions.

The rules
- As many workers serve as are wanted. One that ends by itself is replaced at once; after one that
  lived shorter than `STEADY` the next start waits, longer each time.
- A worker that shall go (a reload, its age, its memory) is `stale`: first its replacement starts;
  when that is ready, the stale one is told to finish. One at a time, so that there is never more
  than one worker above the wanted number, and never one below.
- A replacement that does not come up leaves the stale ones serving: a reload ends there.
- The first worker starts alone: if it does not come up, nothing was ever served, and the supervisor
  ends with its exit status and one error instead of one for each. The others start together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

STEADY: Final = 5.0
"""Seconds after which a worker that is ready counts as having come up well."""
BACKOFF: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds to wait before the next start, by how many workers in a row failed before."""
MERCY: Final = 1.0
"""Seconds beyond the grace in which a worker ends by itself, before it is killed."""
FOREVER: Final = float("inf")


class State(Enum):
    """Where a worker stands in its life."""

    BOOTING = "is starting"  # it loads the application
    READY = "serves"
    LEAVING = "finishes what it accepted"


class Reason(Enum):
    """Why a worker is told to finish, or killed; the value completes `worker 7 (pid 12) ...`."""

    RELOAD = "is replaced: reload"
    REQUESTS = "is replaced: it has answered its number of requests"
    LIFETIME = "is replaced: it has reached its age"
    MEMORY = "is replaced: it has grown too large"
    SURPLUS = "is not wanted any more"
    STOP = "is told to finish: the server stops"
    QUICK = "is ended: the server stops at once"
    BOOT = "was killed: it did not become ready in time"
    SILENT = "was killed: no sign of life"
    GRACE = "was killed: its time to finish was over"


@dataclass(frozen=True, slots=True)
class Member:
    """One worker: `id` counts up, `since` is when its state began, `stale` why it shall go,
    `killed` whether it was ended and is not gone yet."""

    id: int
    state: State
    born: float
    since: float
    beat: float
    stale: Reason | None = None
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; 0 or `FOREVER` is no limit.

    boot: until a worker must be ready. heartbeat: between two signs of life of its loop. grace: for
    what was accepted, when it is told to finish. lifetime: of a worker.
    """

    boot: float = 60.0
    heartbeat: float = 0.0
    grace: float = 30.0
    lifetime: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that is known and wanted. `Fleet(wanted=4, limits=...)` is one that was not yet started.

    failures: workers in a row that did not come up, or not for long. served: whether a worker was
    ever ready. not_before: no start before this moment. stopping: None, or how the fleet ends.
    status: the exit status then.
    """

    wanted: int
    limits: Limits = field(default_factory=Limits)
    members: tuple[Member, ...] = ()
    next_id: int = 1
    failures: int = 0
    not_before: float = 0.0
    served: bool = False
    reloading: bool = False
    given_up: bool = False  # the reload
    stopping: Reason | None = None
    status: int = 0

    def member(self, id: int) -> Member | None:
        """The worker of this id."""
        return next((each for each in self.members if each.id == id), None)

    def those(self, *states: State) -> list[Member]:
        """The workers in these states that were not killed, the oldest first."""
        return [each for each in self.members if each.state in states and not each.killed]


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; also the first event of a fleet."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker accepts connections."""

    id: int


@dataclass(frozen=True, slots=True)
class Beats:
    """When workers last gave a sign of life, by id; all that are known, so that nobody is judged by
    what was heard before."""

    beats: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker is gone; `status` is its exit status, negative for a signal."""

    id: int
    status: int


@dataclass(frozen=True, slots=True)
class Retire:
    """A worker shall be replaced."""

    id: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Reload:
    """All workers shall be replaced; the number wanted may be another one now."""

    wanted: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class Scale:
    """So many workers are wanted from now on; 0 leaves nobody to serve."""

    wanted: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The end: STOP lets workers finish what they accepted, QUICK does not."""

    how: Reason = Reason.STOP


Event = Tick | Ready | Beats | Ended | Retire | Reload | Scale | Stop

# --- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker."""

    id: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell a worker to finish what it accepted and to end."""

    id: int
    why: Reason


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker at once: by SIGKILL, or by SIGQUIT where `why` is QUICK."""

    id: int
    why: Reason


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload is done, or given up."""

    done: bool


@dataclass(frozen=True, slots=True)
class Exit:
    """Nobody is left, and nobody shall come: end with this status."""

    status: int


Action = Spawn | Finish | Kill | Reloaded | Exit


# --- the plan -------------------------------------------------------------------------------------


def plan(fleet: Fleet, event: Event, now: float) -> tuple[Fleet, list[Action]]:
    """What follows from an event at a moment (monotonic seconds).

    The same event again, and one about a worker that is gone, do no harm.
    """
    actions: list[Action] = []
    fleet = _taken_in(fleet, event, now, actions)
    fleet = _over_time(fleet, now, actions)
    if fleet.stopping is not None:
        if not fleet.members:
            actions.append(Exit(fleet.status))
        return fleet, actions
    fleet = _shrunk(fleet, now, actions)
    fleet = _started(fleet, now, actions)
    return _reload_ended(fleet, actions), actions


def wake(fleet: Fleet) -> float:
    """When the next `Tick` is due at the latest (monotonic seconds), if nothing happens before."""
    limits = fleet.limits
    moments = []
    for each in fleet.those(*State):
        if each.state is State.BOOTING:
            moments.append(each.since + _limit(limits.boot))
        elif each.state is State.READY:
            moments.append(each.beat + _limit(limits.heartbeat))
            if each.stale is None:
                moments.append(each.born + _limit(limits.lifetime))
        elif each.state is State.LEAVING:
            moments.append(each.since + limits.grace + MERCY)
    if fleet.stopping is None and _missing(fleet):
        moments.append(fleet.not_before)
    return min(moments, default=FOREVER)


def _limit(seconds: float) -> float:
    return seconds or FOREVER


def _taken_in(fleet: Fleet, event: Event, now: float, actions: list[Action]) -> Fleet:
    """The fleet with the event in it."""
    match event:
        case Ready(id):
            return _ready(fleet, id, now)
        case Beats(beats):
            for id, at in beats:
                fleet = _with(fleet, id, beat=at)
            return fleet
        case Ended(id, status):
            return _ended(fleet, id, status, now, actions)
        case Retire(id, reason):
            member = fleet.member(id)
            if member is None or member.stale is not None:
                return fleet
            return _with(fleet, id, stale=reason)
        case Reload(wanted, limits):
            fleet = replace(fleet, wanted=wanted, limits=limits, failures=0, not_before=now)
            return _all_stale(fleet, now, actions)
        case Scale(wanted):
            return replace(fleet, wanted=max(0, wanted))
        case Stop(how):
            return _stopping(fleet, how, now, actions)
        case Tick():
            return fleet


def _with(fleet: Fleet, id: int, **changes: object) -> Fleet:
    """The fleet with one worker changed."""
    members = tuple(
        replace(each, **changes) if each.id == id else each  # type: ignore[arg-type]
        for each in fleet.members
    )
    return replace(fleet, members=members)


def _ready(fleet: Fleet, id: int, now: float) -> Fleet:
    member = fleet.member(id)
    if member is None or member.state is not State.BOOTING:
        return fleet
    fleet = _with(fleet, id, state=State.READY, since=now, beat=now)
    return replace(fleet, served=True)


def _ended(fleet: Fleet, id: int, status: int, now: float, actions: list[Action]) -> Fleet:
    member = fleet.member(id)
    if member is None:
        return fleet
    fleet = replace(fleet, members=tuple(each for each in fleet.members if each is not member))
    if fleet.stopping is not None or member.state is State.LEAVING:
        return fleet
    came_up = member.state is State.READY and now - member.since >= STEADY
    if came_up:
        return replace(fleet, failures=0)
    failures = fleet.failures + 1
    wait = BACKOFF[min(failures, len(BACKOFF) - 1)] if failures > 1 else 0.0
    fleet = replace(fleet, failures=failures, not_before=now + wait)
    if member.state is State.READY:
        return fleet
    if fleet.served:
        return _kept(fleet)
    fleet = replace(fleet, status=status if status > 0 else 1)
    return _stopping(fleet, Reason.STOP, now, actions)


def _kept(fleet: Fleet) -> Fleet:
    """A reload is given up: those that were to go stay."""
    return replace(
        fleet,
        given_up=fleet.reloading,
        members=tuple(
            replace(each, stale=None) if each.stale is Reason.RELOAD else each
            for each in fleet.members
        ),
    )


def _all_stale(fleet: Fleet, now: float, actions: list[Action]) -> Fleet:
    """Who serves is to be replaced; who is still starting may have read the old state: it goes."""
    for each in fleet.those(State.BOOTING):
        fleet = _leave(fleet, each, Reason.RELOAD, now, actions)
    return replace(
        fleet,
        reloading=True,
        given_up=False,
        members=tuple(
            replace(each, stale=Reason.RELOAD) if each.state is State.READY else each
            for each in fleet.members
        ),
    )


def _stopping(fleet: Fleet, how: Reason, now: float, actions: list[Action]) -> Fleet:
    if fleet.stopping is Reason.QUICK or fleet.stopping is how:
        return fleet
    fleet = replace(fleet, stopping=how)
    for each in fleet.members:
        if each.killed:
            continue
        if how is Reason.QUICK:
            actions.append(Kill(each.id, how))
            fleet = _with(fleet, each.id, state=State.LEAVING, since=now - fleet.limits.grace)
        elif each.state is not State.LEAVING:
            fleet = _leave(fleet, each, how, now, actions)
    return fleet


def _leave(fleet: Fleet, member: Member, why: Reason, now: float, actions: list[Action]) -> Fleet:
    actions.append(Finish(member.id, why))
    return _with(fleet, member.id, state=State.LEAVING, since=now)


def _over_time(fleet: Fleet, now: float, actions: list[Action]) -> Fleet:
    """Kill those whose time is over, and mark those that are old."""
    limits = fleet.limits
    for each in fleet.those(*State):
        if each.state is State.BOOTING and now >= each.since + _limit(limits.boot):
            fleet = _kill(fleet, each, Reason.BOOT, now, actions)
        elif each.state is State.READY and now >= each.beat + _limit(limits.heartbeat):
            fleet = _kill(fleet, each, Reason.SILENT, now, actions)
        elif each.state is State.LEAVING and now >= each.since + limits.grace + MERCY:
            fleet = _kill(fleet, each, Reason.GRACE, now, actions)
        elif each.state is State.READY and now >= each.born + _limit(limits.lifetime):
            if each.stale is None:
                fleet = _with(fleet, each.id, stale=Reason.LIFETIME)
    return fleet


def _kill(fleet: Fleet, member: Member, why: Reason, now: float, actions: list[Action]) -> Fleet:
    actions.append(Kill(member.id, why))
    return _with(fleet, member.id, killed=True)


def _missing(fleet: Fleet) -> int:
    """How many workers are to be started: up to the wanted number, or one above to replace one."""
    # One that was killed since it did not come up is still one that did not come up.
    booting = [each for each in fleet.members if each.state is State.BOOTING]
    present = [*booting, *fleet.those(State.READY)]
    replaced = any(each.stale is not None for each in present)
    if not fleet.served:
        return 1 if fleet.wanted and not present else 0
    if len(present) < fleet.wanted:
        return fleet.wanted - len(present)
    return int(replaced and not booting and len(present) == fleet.wanted)


def _started(fleet: Fleet, now: float, actions: list[Action]) -> Fleet:
    if now < fleet.not_before:
        return fleet
    for _ in range(_missing(fleet)):
        id = fleet.next_id
        actions.append(Spawn(id))
        new = Member(id, State.BOOTING, born=now, since=now, beat=now)
        fleet = replace(fleet, members=(*fleet.members, new), next_id=id + 1)
    return fleet


def _shrunk(fleet: Fleet, now: float, actions: list[Action]) -> Fleet:
    """Who is too many: the stale ones first, then those that are still starting, then the old."""
    serving = fleet.those(State.READY)
    surplus = len(serving) - fleet.wanted
    order = sorted(serving, key=lambda each: (each.stale is None, each.id))
    for each in order[: max(0, surplus)]:
        fleet = _leave(fleet, each, each.stale or Reason.SURPLUS, now, actions)
    left = fleet.those(State.READY)
    most = fleet.wanted + int(any(each.stale is not None for each in left)) - len(left)
    for each in fleet.those(State.BOOTING)[max(0, most) :]:
        fleet = _leave(fleet, each, Reason.SURPLUS, now, actions)
    return fleet


def _reload_ended(fleet: Fleet, actions: list[Action]) -> Fleet:
    if not fleet.reloading:
        return fleet
    if any(each.stale is Reason.RELOAD for each in fleet.those(State.READY)):
        return fleet
    if len(fleet.those(State.READY)) < fleet.wanted and not fleet.given_up:
        return fleet  # the last of the new ones is starting
    actions.append(Reloaded(done=not fleet.given_up))
    return replace(fleet, reloading=False, given_up=False)
