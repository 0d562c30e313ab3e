"""The law of a connection: what its driver has to do, its states, and what leads out of each.

A driver looks at `want` and does what it says, with the verb that belongs to it:

    READ    feed(data) with what the socket gave, b"" at its end
    WRITE   send from `out`, then from `file`; sent(n) with how many bytes went
    RUN     run(): the application works
    SHUT    shut the sending side of the socket: shut(), then read on as for READ
    CLOSE   close the socket; with `reset` so that the client sees the truncation

In any state the deadline may pass (expire), the worker stop (drain) or the client vanish (lost).

    IDLE      nothing   feed → HEAD | BODY | READY | REFUSED | CLOSED
    IDLE      nothing   feed → LAST (a finished answer)   expire, drain, lost → CLOSED
    HEAD      a part    feed → BODY | READY | REFUSED   expire → REFUSED (408)   lost → CLOSED
    BODY      a part    feed → BODY | READY | REFUSED   expire → REFUSED (408) | CLOSED
    BODY      a part    lost → CLOSED
    READY     a whole   run → STREAM | LAST | REFUSED (500) | CLOSED
    STREAM    answered  run → STREAM | LAST | CLOSED   expire, lost → ABORTING | CLOSED
    LAST      all out   sent → IDLE | CLOSING | LINGER | CLOSED   expire, lost → ABORTING | CLOSED
    LAST      all out   run → IDLE | LINGER | CLOSED | REFUSED (500)
    CLOSING   close()   run → IDLE | LINGER | CLOSED
    ABORTING  close()   run → CLOSED
    REFUSED   our word  sent → LINGER   expire, lost → CLOSED
    LINGER    drops it  feed, expire, lost → CLOSED
    CLOSED

`connection.py` obeys it; nothing consults it at run time. `docs/architecture.md` draws it.
"""

from __future__ import annotations

from enum import Enum


class Want(Enum):
    """What a driver has to do next."""

    READ = "read"
    WRITE = "write"
    RUN = "run"
    SHUT = "shut"
    CLOSE = "close"


class State(Enum):
    """Where a connection stands."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    READY = "ready"
    STREAM = "stream"
    LAST = "last"
    CLOSING = "closing"
    ABORTING = "aborting"
    REFUSED = "refused"
    LINGER = "linger"
    CLOSED = "closed"


# hot: a global is looked up faster than a member of an enumeration
READ, WRITE, RUN, SHUT, CLOSE = Want
