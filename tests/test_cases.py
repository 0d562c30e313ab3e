"""Byte streams as data: what tests/cases holds, served or refused as is said there.

Each is fed whole and byte by byte. The strings of the files are bytes, as latin-1.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helpers import Driver, Stage, echo, get
from tests.support.wire import Reply, replies
from wsgiserver.states import CLOSE, READ

Case = dict[str, Any]
FOLDER: Final = Path(__file__).parent / "cases"
# Whatever the server thinks of a case: this behind it must not be answered when it was refused.
POISON: Final = get("/poison")


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {name}")
        for path in sorted((FOLDER / kind).glob("*.toml"))
        for name, case in tomllib.loads(path.read_text("utf-8")).items()
    ]


class Play:
    """A connection that was fed a case; `requests` are those that reached the application."""

    def __init__(self, case: Case, pieces: list[bytes]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.stage = Stage(self._application, **case.get("options", {}))
        self.driver: Driver = self.stage.connect()
        self.driver.give(*pieces)

    def _application(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        environ["wsgi.input"].seek(0)
        self.requests.append({**environ, "body": body.decode("latin-1")})
        return echo(environ, start_response)

    def replies(self) -> list[Reply]:
        methods = [request["REQUEST_METHOD"] for request in self.requests]
        return replies(self.driver.sent, *methods)


def plays(case: Case, data: bytes) -> list[Play]:
    """The case fed whole, and byte by byte."""
    return [Play(case, [data]), Play(case, [bytes((byte,)) for byte in data])]


@pytest.mark.parametrize("case", cases("valid"))
def test_served(case: Case) -> None:
    for play in plays(case, case["send"].encode("latin-1")):
        assert len(play.requests) == len(case["sees"])
        for seen, wanted in zip(play.requests, case["sees"], strict=True):
            for key, value in wanted.items():
                assert seen.get(key, False) == value, key
        assert [reply.status for reply in play.replies()] == [200] * len(case["sees"])
        assert play.replies()[-1].closes == case.get("closes", False)
        at_its_end = play.driver.conn.want is CLOSE or play.driver.shut
        assert at_its_end == case.get("closes", False)


@pytest.mark.parametrize("case", cases("invalid"))
def test_refused(case: Case) -> None:
    for play in plays(case, case["send"].encode("latin-1") + POISON):
        *served, refusal = play.replies()
        assert len(served) == len(play.requests) == case.get("served", 0)
        assert refusal.status == case["status"]
        assert refusal.closes and refusal.framing == "length"
        assert play.driver.shut and play.driver.conn.want is READ  # to drop what still comes
        assert [error.status for error in play.stage.notes.refusals] == [case["status"]]
