"""Fixtures of the contract tests: a server of every worker model, and a stage to meet it at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.stage import Stage
from wsgiserver.config import WORKER_MODELS

Fleet = Callable[..., Server]


@pytest.fixture(scope="session", params=WORKER_MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """The name of a worker model; a test that uses it runs once for each."""
    name: str = request.param
    if name == "gevent":
        pytest.importorskip("gevent")
    return name


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """fleet(model, **options): a server that all tests of the session share."""
    servers: dict[str, Server] = {}

    def get(model: str, **options: Any) -> Server:
        key = repr((model, sorted(options.items())))
        if key in servers and servers[key].process.poll() is not None:
            del servers[key]  # it ended during a test, which failed for it
        if key not in servers:
            servers[key] = Server(model, **options)
        return servers[key]

    yield get
    faults = []
    for key, server in servers.items():
        try:
            server.stop()
        except Exception as error:
            faults.append(f"{key}: {error!r}")
    assert not faults, "\n".join(faults)


@pytest.fixture
def server(model: str, fleet: Fleet) -> Iterator[Server]:
    """A server with the default settings; afterwards it must run still, without a fault."""
    found = fleet(model)
    yield found
    found.check()


@pytest.fixture
def hasty(model: str, fleet: Fleet) -> Iterator[Server]:
    """A server with short timeouts."""
    found = fleet(model, head_timeout=0.5, body_timeout=0.5, keep_alive=0.5, write_timeout=0.5)
    yield found
    found.check()


@pytest.fixture
def launch(model: str) -> Iterator[Callable[..., Server]]:
    """launch(**options): a server for this test alone, which may end it."""
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        servers.append(Server(model, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Where the application reports and waits; see `tests.support.stage`."""
    with Stage() as found:
        yield found
