"""The clock: monotonic time, and a Date that is right to the second but seldom formatted."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from time import monotonic, time

import pytest

from wsgiserver import clock as module
from wsgiserver.clock import Clock


class Times:
    """Both clocks of the machine, set by hand; `formatted` counts the calls of formatdate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic, self.wall = 5000.0, 784111777.25
        self.formatted = 0

        def counting(seconds: float, usegmt: bool) -> str:
            self.formatted += 1
            return formatdate(seconds, usegmt=usegmt)

        monkeypatch.setattr(module, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(module, "time", lambda: self.wall)
        monkeypatch.setattr(module, "formatdate", counting)
        self.clock = Clock()

    def pass_(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def test_the_form_of_the_date(times: Times) -> None:
    """RFC 9110 §5.6.7: IMF-fixdate."""
    assert times.clock.date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_it_changes_with_the_second_and_not_before(times: Times) -> None:
    first = times.clock.date_line()
    times.pass_(0.5)
    assert times.clock.date_line() is first
    times.pass_(0.25)
    assert times.clock.date_line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"


def test_it_is_formatted_once_a_second(times: Times) -> None:
    for _ in range(100):
        times.clock.date_line()
        times.pass_(1 / 32)
    assert times.formatted == 4


@pytest.mark.parametrize("jump", [86400.0, -86400.0, 1.0, -1.0])
def test_a_wall_clock_that_is_set_is_followed_within_a_second(times: Times, jump: float) -> None:
    times.clock.date_line()
    times.wall += jump
    times.pass_(1)
    line = times.clock.date_line().decode()
    stamp = parsedate_to_datetime(line.removeprefix("Date: ")).timestamp()
    assert stamp == int(times.wall)


def test_deadlines_do_not_look_at_the_wall_clock(times: Times) -> None:
    before = times.clock.now()
    times.wall -= 86400
    assert times.clock.now() == before


def test_of_the_real_machine() -> None:
    clock = Clock()
    before, wall = monotonic(), int(time())
    line = clock.date_line().decode()
    assert before <= clock.now() <= monotonic()
    assert re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", line)
    stamp = parsedate_to_datetime(line.removeprefix("Date: ")).timestamp()
    assert wall <= stamp <= time()
