"""Monotonic time for deadlines and the Date field, formatted once a second for all connections."""

from __future__ import annotations

from email.utils import formatdate
from time import monotonic, time


class Clock:
    """What time it is: `now()` in monotonic seconds, `date_line()` by the wall clock.

    Deadlines never look at the wall clock, so setting it ends nobody's connection. A race of two
    threads in `date_line` costs one formatting more, no more than that.
    """

    __slots__ = ("fresh_until", "line", "now")

    def __init__(self) -> None:
        self.now = monotonic
        # hot: whoever knows the time needs not ask `date_line` while `line` is fresh
        self.fresh_until = 0.0
        self.line = b""

    def date_line(self) -> bytes:
        """The Date field of this second, with its CRLF (RFC 9110 §6.6.1)."""
        now = self.now()
        if now >= self.fresh_until:
            wall = time()
            self.line = b"Date: %b\r\n" % formatdate(wall, usegmt=True).encode("ascii")
            self.fresh_until = now + 1 - wall % 1
        return self.line
