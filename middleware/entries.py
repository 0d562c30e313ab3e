"""A bounded cache of what was found on disk: the oldest entries leave when it is full.

An entry that is asked for is looked at anew every second and put at the end again, so that those
that nobody asks for any more are at the front.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

INACTIVE: Final = 60.0
"""Seconds after which an entry that nobody asked for may leave though there is room: a file that
is kept open occupies the disk also when it was deleted."""


class Cacheable(Protocol):
    """What can be kept: `fresh_until` in monotonic seconds, and what it costs."""

    fresh_until: float

    @property
    def cost(self) -> tuple[int, int]:
        """Bytes of memory, open files."""


T = TypeVar("T", bound=Cacheable)


class Entries(Generic[T]):
    """At most `most` entries, of `most_bytes` and `most_open` open files together.

    `get` takes no lock: it is one look into a dict. What an entry costs may grow later, when its
    content is loaded: `weigh` is told then.
    """

    def __init__(self, most: int, most_bytes: int, most_open: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._most_open = most_open
        self._entries: dict[str, T] = {}
        self._costs: dict[str, tuple[int, int]] = {}
        self._bytes = self._open = 0
        self._lock = threading.Lock()
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: str, entry: T) -> None:
        """Keep an entry, or keep it longer; what is too old or too much leaves."""
        with self._lock:
            self._drop(key)
            self._entries[key] = entry
            self._weigh(key, entry)

    def weigh(self, key: str, entry: T) -> None:
        """Take note of what an entry costs now; nothing if it is not (any more) kept."""
        if self._costs.get(key) == entry.cost:
            return  # hot: mostly nothing changed, and nobody has to wait
        with self._lock:
            if self._entries.get(key) is entry:
                self._weigh(key, entry)

    def _weigh(self, key: str, entry: T) -> None:
        memory, files = entry.cost
        known = self._costs.get(key, (0, 0))
        self._costs[key] = memory, files
        self._bytes += memory - known[0]
        self._open += files - known[1]
        while self._entries:
            oldest = next(iter(self._entries))
            if not self._too_much() and not self._inactive(oldest):
                break
            self._drop(oldest)

    def drop(self, key: str) -> None:
        """Forget one entry."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            for key in list(self._entries):
                self._drop(key)

    def _too_much(self) -> bool:
        return (
            len(self._entries) > self._most
            or self._bytes > self._most_bytes
            or self._open > self._most_open
        )

    def _inactive(self, key: str) -> bool:
        return self._entries[key].fresh_until + INACTIVE < monotonic()

    def _drop(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            memory, files = self._costs.pop(key, (0, 0))
            self._bytes -= memory
            self._open -= files
