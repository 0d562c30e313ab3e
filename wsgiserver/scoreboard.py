"""What workers tell of themselves, in memory that they share with their supervisor.

A worker writes numbers into its row now and then and asks for nothing; the supervisor reads them
when it wants to. Neither waits for the other, and a worker that was killed leaves its row readable.
"""

from __future__ import annotations

import mmap
from typing import Final, NamedTuple

MOST: Final = 1024
"""Rows: workers that can be there at once, those that are finishing included."""

_FIELDS: Final = 2
_SIZE: Final = 8  # bytes of a double: written and read in one piece


class Row(NamedTuple):
    """beat: when the worker's loop last came round (monotonic seconds), 0 before the first time.
    served: requests that it finished."""

    beat: float
    served: float


class Scoreboard:
    """The rows; made before the first fork."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, MOST * _FIELDS * _SIZE)  # anonymous and shared
        self._cells = memoryview(self._map).cast("d")
        self._free = list(range(MOST - 1, -1, -1))

    def take(self) -> int:
        """A row for a new worker. IndexError: all are taken."""
        row = self._free.pop()
        self.write(row, 0.0, 0)
        return row

    def give_back(self, row: int) -> None:
        """The worker is gone."""
        self._free.append(row)

    def write(self, row: int, beat: float, served: int) -> None:
        """What a worker tells."""
        self._cells[row * _FIELDS] = beat
        self._cells[row * _FIELDS + 1] = served

    def read(self, row: int) -> Row:
        """What it told last."""
        return Row(*self._cells[row * _FIELDS : (row + 1) * _FIELDS])

    def close(self) -> None:
        """Give the memory back."""
        self._cells.release()
        self._map.close()
