"""What a supervisor does next: stories as tables of events and actions, without a process.

A story is a list of (seconds since the start, event, the actions that must follow).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgiserver.fleet_plan import (
    BACKOFF,
    FOREVER,
    MERCY,
    STEADY,
    Action,
    Beats,
    Ended,
    Event,
    Exit,
    Finish,
    Fleet,
    Kill,
    Limits,
    Ready,
    Reason,
    Reload,
    Reloaded,
    Retire,
    Scale,
    Spawn,
    State,
    Stop,
    Tick,
    plan,
    wake,
)

LIMITS = Limits(boot=60, heartbeat=0, grace=10, lifetime=0)
Story = Sequence[tuple[float, Event, list[Action]]]

UP_1: Story = [(0, Tick(), [Spawn(1)]), (1, Ready(1), [])]
UP_2: Story = [(0, Tick(), [Spawn(1)]), (1, Ready(1), [Spawn(2)]), (1, Ready(2), [])]


def tell(story: Story, wanted: int, limits: Limits = LIMITS) -> Fleet:
    """Play a story from the start; the fleet at its end."""
    fleet = Fleet(wanted, limits)
    for number, (now, event, expected) in enumerate(story):
        fleet, actions = plan(fleet, event, now)
        assert actions == expected, f"line {number}: {event} at {now}"
    return fleet


STORIES: dict[str, tuple[int, Story]] = {
    "one starts, and when it serves the others": (
        3,
        [(0, Tick(), [Spawn(1)]), (0.1, Tick(), []), (1, Ready(1), [Spawn(2), Spawn(3)])],
    ),
    "one that serves and ends is replaced at once": (
        2,
        [*UP_2, (100, Ended(1, -9), [Spawn(3)]), (101, Ready(3), [])],
    ),
    "a killed worker that is gone already": (1, [*UP_1, (9, Ended(7, 0), []), (9, Ready(7), [])]),
    "the first does not come up": (2, [(0, Tick(), [Spawn(1)]), (1, Ended(1, 3), [Exit(3)])]),
    "another one does not come up": (
        2,
        [(0, Tick(), [Spawn(1)]), (1, Ready(1), [Spawn(2)]), (2, Ended(2, 3), [Spawn(3)])],
    ),
    "the first is killed while it starts": (
        1,
        [(0, Tick(), [Spawn(1)]), (1, Ended(1, -9), [Exit(1)])],
    ),
    "the first does not become ready in time": (
        1,
        [
            (0, Tick(), [Spawn(1)]),
            (59, Tick(), []),
            (60, Tick(), [Kill(1, Reason.BOOT)]),
            (61, Tick(), []),
            (61, Ended(1, -9), [Exit(1)]),
        ],
    ),
    "a crash loop waits longer each time": (
        1,
        [
            *UP_1,
            (2, Ended(1, -11), [Spawn(2)]),
            (3, Ready(2), []),
            (4, Ended(2, -11), []),
            (4 + BACKOFF[2] - 0.01, Tick(), []),
            (4 + BACKOFF[2], Tick(), [Spawn(3)]),
            (6, Ready(3), []),
            (7, Ended(3, -11), []),
            (7 + BACKOFF[3], Tick(), [Spawn(4)]),
            (12, Ready(4), []),
            (12 + STEADY, Ended(4, -11), [Spawn(5)]),  # it came up well: all is forgotten
            (20, Ended(5, 1), [Spawn(6)]),
        ],
    ),
    "a reload replaces one after the other": (
        2,
        [
            *UP_2,
            (10, Reload(2, LIMITS), [Spawn(3)]),
            (11, Tick(), []),
            (12, Ready(3), [Finish(1, Reason.RELOAD), Spawn(4)]),
            (13, Ended(1, 0), []),
            (14, Ready(4), [Finish(2, Reason.RELOAD), Reloaded(True)]),
            (15, Ended(2, 0), []),
        ],
    ),
    "a reload that does not come up leaves the old ones": (
        2,
        [
            *UP_2,
            (10, Reload(2, LIMITS), [Spawn(3)]),
            (11, Ended(3, 3), [Reloaded(False)]),
            (100, Tick(), []),
        ],
    ),
    "a reload that hangs in the start leaves the old ones": (
        1,
        [
            *UP_1,
            (10, Reload(1, LIMITS), [Spawn(2)]),
            (69, Tick(), []),
            (70, Tick(), [Kill(2, Reason.BOOT)]),
            (71, Ended(2, -9), [Reloaded(False)]),
        ],
    ),
    "half of a reload": (
        2,
        [
            *UP_2,
            (10, Reload(2, LIMITS), [Spawn(3)]),
            (11, Ready(3), [Finish(1, Reason.RELOAD), Spawn(4)]),
            (12, Ended(4, 3), [Reloaded(False)]),  # 2 and 3 serve on
            (13, Ended(1, 0), []),
        ],
    ),
    "a reload in a reload": (
        1,
        [
            *UP_1,
            (10, Reload(1, LIMITS), [Spawn(2)]),
            (11, Reload(1, LIMITS), [Finish(2, Reason.RELOAD), Spawn(3)]),
            (12, Ended(2, -15), []),
            (13, Ready(3), [Finish(1, Reason.RELOAD), Reloaded(True)]),
        ],
    ),
    "a reload to more workers": (
        1,
        [
            *UP_1,
            (10, Reload(3, LIMITS), [Spawn(2), Spawn(3)]),
            (11, Ready(2), []),
            (12, Ready(3), [Spawn(4)]),
            (13, Ready(4), [Finish(1, Reason.RELOAD), Reloaded(True)]),
        ],
    ),
    "a reload to fewer workers": (
        2,
        [
            *UP_2,
            (10, Reload(1, LIMITS), [Finish(1, Reason.RELOAD), Spawn(3)]),
            (12, Ready(3), [Finish(2, Reason.RELOAD), Reloaded(True)]),
        ],
    ),
    "a new one crashes during a reload": (
        2,
        [
            *UP_2,
            (10, Reload(2, LIMITS), [Spawn(3)]),
            (11, Ready(3), [Finish(1, Reason.RELOAD), Spawn(4)]),
            (12, Ended(3, -9), []),  # its replacement starts already
            (13, Ready(4), [Spawn(5)]),
            (14, Ready(5), [Finish(2, Reason.RELOAD), Reloaded(True)]),
        ],
    ),
    "an old one crashes during a reload": (
        2,
        [
            *UP_2,
            (10, Reload(2, LIMITS), [Spawn(3)]),
            (11, Ended(2, -9), []),  # its replacement starts already
            (12, Ready(3), [Spawn(4)]),
            (13, Ready(4), [Finish(1, Reason.RELOAD), Reloaded(True)]),
        ],
    ),
    "retired ones are replaced one at a time": (
        2,
        [
            *UP_2,
            (10, Retire(1, Reason.REQUESTS), [Spawn(3)]),
            (10, Retire(2, Reason.MEMORY), []),
            (10, Retire(2, Reason.REQUESTS), []),
            (12, Ready(3), [Finish(1, Reason.REQUESTS), Spawn(4)]),
            (13, Ended(1, 0), []),
            (14, Ready(4), [Finish(2, Reason.MEMORY)]),
        ],
    ),
    "a retired one crashes before its replacement is ready": (
        1,
        [
            *UP_1,
            (10, Retire(1, Reason.MEMORY), [Spawn(2)]),
            (11, Ended(1, -9), []),
            (12, Ready(2), []),
        ],
    ),
    "a replacement for a retired one fails, and is tried again": (
        1,
        [
            *UP_1,
            (10, Retire(1, Reason.MEMORY), [Spawn(2)]),
            (11, Ended(2, 3), [Spawn(3)]),
            (12, Ended(3, 3), []),
            (12 + BACKOFF[2], Tick(), [Spawn(4)]),
            (14, Ready(4), [Finish(1, Reason.MEMORY)]),
        ],
    ),
    "one that does not finish": (
        1,
        [
            *UP_1,
            (10, Reload(1, LIMITS), [Spawn(2)]),
            (11, Ready(2), [Finish(1, Reason.RELOAD), Reloaded(True)]),
            (11 + LIMITS.grace + MERCY, Beats(((2, 22),)), [Kill(1, Reason.GRACE)]),
            (23, Ended(1, -9), []),
        ],
    ),
    "more and fewer": (
        1,
        [
            *UP_1,
            (10, Scale(2), [Spawn(2)]),
            (11, Ready(2), []),
            (12, Scale(1), [Finish(1, Reason.SURPLUS)]),
            (13, Ended(1, 0), []),
            (14, Scale(0), [Finish(2, Reason.SURPLUS)]),
            (15, Ended(2, 0), []),
            (16, Tick(), []),
            (17, Scale(1), [Spawn(3)]),
        ],
    ),
    "fewer before the last has started": (
        1,
        [*UP_1, (10, Scale(2), [Spawn(2)]), (11, Scale(1), [Finish(2, Reason.SURPLUS)])],
    ),
    "the stop": (
        2,
        [
            *UP_2,
            (10, Stop(), [Finish(1, Reason.STOP), Finish(2, Reason.STOP)]),
            (10, Stop(), []),
            (11, Ended(1, 0), []),
            (12, Ended(2, 0), [Exit(0)]),
        ],
    ),
    "the stop while one starts": (
        1,
        [(0, Tick(), [Spawn(1)]), (1, Stop(), [Finish(1, Reason.STOP)]),
         (2, Ended(1, -15), [Exit(0)])],
    ),
    "the stop is not obeyed": (
        1,
        [
            *UP_1,
            (10, Stop(), [Finish(1, Reason.STOP)]),
            (21, Tick(), [Kill(1, Reason.GRACE)]),
            (22, Ended(1, -9), [Exit(0)]),
        ],
    ),
    "the quick stop": (
        1,
        [
            *UP_1,
            (10, Stop(Reason.QUICK), [Kill(1, Reason.QUICK)]),
            (10 + MERCY, Tick(), [Kill(1, Reason.GRACE)]),
            (12, Ended(1, -9), [Exit(0)]),
        ],
    ),
    "the quick stop after the other": (
        1,
        [
            *UP_1,
            (10, Stop(), [Finish(1, Reason.STOP)]),
            (11, Stop(Reason.QUICK), [Kill(1, Reason.QUICK)]),
            (11.5, Stop(), []),
            (11.6, Ended(1, -3), [Exit(0)]),
        ],
    ),
    "the stop of a fleet without workers": (0, [(0, Tick(), []), (1, Stop(), [Exit(0)])]),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "story"), STORIES.values(), ids=STORIES)
def test_story(wanted: int, story: Story) -> None:
    tell(story, wanted)


def test_no_sign_of_life() -> None:
    story: Story = [
        *UP_2,
        (20, Beats(((1, 20), (2, 20))), []),
        (40, Beats(((1, 40),)), []),
        (50, Tick(), [Kill(2, Reason.SILENT), Spawn(3)]),
        (51, Ended(2, -9), []),
    ]
    fleet = tell(story, 2, Limits(heartbeat=30))
    assert wake(fleet) == 70


def test_a_lifetime() -> None:
    limits = Limits(lifetime=100)
    story: Story = [
        *UP_1,
        (99, Tick(), []),
        (100, Tick(), [Spawn(2)]),
        (101, Ready(2), [Finish(1, Reason.LIFETIME)]),
    ]
    fleet = tell(story, 1, limits)
    assert wake(fleet) == min(200, 101 + limits.grace + MERCY)


def test_when_to_wake() -> None:
    fleet = Fleet(1, LIMITS)
    assert wake(fleet) == 0
    fleet, _ = plan(fleet, Tick(), 5)
    assert wake(fleet) == 65  # the boot
    fleet, _ = plan(fleet, Ready(1), 6)
    assert wake(fleet) == FOREVER
    fleet, _ = plan(fleet, Ended(1, 1), 7)
    fleet, _ = plan(fleet, Ended(2, 1), 8)
    assert wake(fleet) == 8 + BACKOFF[2]
    assert wake(Fleet(0)) == FOREVER


EVENTS = st.one_of(
    st.just(Tick()),
    st.builds(Ready, st.integers(1, 12)),
    st.builds(Beats, st.lists(st.tuples(st.integers(1, 12), st.floats(0, 500))).map(tuple)),
    st.builds(Ended, st.integers(1, 12), st.sampled_from([0, 1, 3, -9, -11])),
    st.builds(Retire, st.integers(1, 12), st.sampled_from([Reason.REQUESTS, Reason.MEMORY])),
    st.builds(Reload, st.integers(1, 4), st.just(LIMITS)),
    st.builds(Scale, st.integers(0, 4)),
)


@given(st.integers(1, 4), st.lists(st.tuples(st.floats(0, 40), EVENTS), max_size=60))
def test_laws(wanted: int, events: list[tuple[float, Event]]) -> None:
    """Whatever happens, in whichever order."""
    fleet, now = Fleet(wanted, LIMITS), 0.0
    spawned: list[int] = []
    for passed, event in [(0.0, Tick()), *events]:
        now += passed
        before = len(fleet.those(State.READY))
        fleet, actions = plan(fleet, event, now)
        spawned += [each.id for each in actions if isinstance(each, Spawn)]
        assert spawned == sorted(set(spawned))
        if fleet.stopping is not None:
            assert not [each for each in actions if isinstance(each, Spawn)]
            return
        again, more = plan(fleet, Tick(), now)
        assert (again, more) == (fleet, []), "a plan is complete: asking again changes nothing"
        present = fleet.those(State.BOOTING, State.READY)
        assert len(present) <= fleet.wanted + 1
        told = [each for each in actions if isinstance(each, Finish)]
        if told and not isinstance(event, Scale | Reload):
            # Nobody is sent away before enough others are there.
            assert len(fleet.those(State.READY)) >= min(fleet.wanted, before)
        starting = [each for each in fleet.members if each.state is State.BOOTING]
        if now >= fleet.not_before and fleet.served:
            assert len(starting) + len(fleet.those(State.READY)) >= fleet.wanted
        assert wake(fleet) > now or fleet.not_before > now


@given(st.lists(st.tuples(st.floats(0, 40), EVENTS), max_size=30), st.integers(1, 4))
def test_it_always_comes_to_an_end(events: list[tuple[float, Event]], wanted: int) -> None:
    """Workers that obey no signal but SIGKILL: the stop takes the grace and no longer."""
    fleet, now = Fleet(wanted, LIMITS), 0.0
    for passed, event in events:
        now += passed
        fleet, _ = plan(fleet, event, now)
    fleet, actions = plan(fleet, Stop(), now)
    killed = {each.id for each in fleet.members if each.killed}
    deadline = now + LIMITS.grace + MERCY
    while not any(isinstance(each, Exit) for each in actions):
        now = wake(fleet) if not killed else now
        assert now <= deadline
        fleet, actions = plan(fleet, Ended(killed.pop(), -9) if killed else Tick(), now)
        killed |= {each.id for each in actions if isinstance(each, Kill)}
