"""What workers tell their supervisor, in memory that they share."""

from __future__ import annotations

import os
import warnings
from contextlib import closing

import pytest

from wsgiserver.scoreboard import MOST, Scoreboard


def test_a_child_tells() -> None:
    with closing(Scoreboard()) as board:
        rows = [board.take(), board.take()]
        assert board.read(rows[0]) == (0, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
            pid = os.fork()
        if pid == 0:
            board.write(rows[0], 12.5, 3)
            os._exit(0)
        os.waitpid(pid, 0)
        assert board.read(rows[0]) == (12.5, 3)
        assert board.read(rows[1]) == (0, 0)


def test_rows_are_used_again_and_empty_then() -> None:
    with closing(Scoreboard()) as board:
        rows = {board.take() for _ in range(MOST)}
        assert len(rows) == MOST
        with pytest.raises(IndexError):
            board.take()
        for row in rows:
            board.write(row, 1.0, 1)
            board.give_back(row)
        assert board.read(board.take()) == (0, 0)
