"""The seeds, the inputs that once failed, and a few damaged copies of each, always the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.target import CORPUS, check, damaged

PATHS = sorted(CORPUS.glob("*.bin"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_replay(path: Path) -> None:
    data = path.read_bytes()
    check(data)
    chance = random.Random(path.stem)
    for _ in range(20):
        check(damaged(data, chance))


def test_there_are_seeds() -> None:
    assert len(PATHS) >= 20
    check(b"")
