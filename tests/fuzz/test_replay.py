"""The seeds, the inputs that once failed, and a few damaged copies of each, always the same."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.target import CORPUS, check, damaged

PATHS = sorted(CORPUS.glob("*.bin"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_replay(path: object) -> None:
    data = path.read_bytes()  # type: ignore[attr-defined]
    check(data)
    chance = random.Random(path.stem)  # type: ignore[attr-defined]
    for _ in range(20):
        check(damaged(data, chance))


def test_there_are_seeds() -> None:
    assert len(PATHS) >= 20
    check(b"")
