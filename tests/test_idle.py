"""Ten thousand idle keep-alive connections: little memory, quick answers, a clean stop."""

from __future__ import annotations

import resource
import selectors
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from benchmarks.idle import ask, connect, latencies, raise_limit
from benchmarks.proctree import rss_bytes
from tests.serving import Command

CONNECTIONS: Final = 10_000
# Beside the connections there are what the interpreter, pytest and the server hold open.
DESCRIPTORS: Final = 10_500
BYTES_EACH: Final = 2048
# A new request is answered in about a millisecond; this is far from it, and from anything that
# looks at all the connections in turn.
ANSWER_MS: Final = 250.0
STOP_SECONDS: Final = 10.0

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is read from /proc, which is Linux's"
)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Lift this process's limit, and give it back; the server inherits it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"at most {hard} open files are allowed (ulimit -Hn); {DESCRIPTORS} are needed")
    raise_limit(CONNECTIONS)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
@pytest.mark.parametrize("worker_model", ["epoll", "threadpool"])
def test_idle_connections_are_cheap(worker_model: str, many_descriptors: None) -> None:
    room = str(CONNECTIONS + 100)
    arguments = ("-k", worker_model, "--worker-connections", room, "benchmarks.apps:hello")
    # Development mode would fill memory for its own checks, and count that.
    with Command(*arguments, dev=False) as server, ExitStack() as stack:
        latencies(server.port, 200)  # so that what is allocated once is there
        before = rss_bytes(server.process.pid)
        held = [stack.enter_context(connect(server.port, n)) for n in range(CONNECTIONS)]
        assert all(map(ask, held))
        grown = rss_bytes(server.process.pid) - before
        times = sorted(latencies(server.port, 100))
        # They live still: the first, the last and some between.
        assert all(map(ask, held[:: CONNECTIONS // 100]))
        server.stop()
        assert closed(held) == CONNECTIONS
    assert grown / CONNECTIONS <= BYTES_EACH, f"{grown / CONNECTIONS:.0f} bytes each"
    assert times[len(times) // 2] < ANSWER_MS


def closed(held: list[socket.socket]) -> int:
    """How many of the connections the server ended by FIN, not by a reset."""
    count = 0
    with selectors.DefaultSelector() as selector:
        for connection in held:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(STOP_SECONDS)
            if not ready:
                return count  # the rest is open still
            for key, _ in ready:
                selector.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                count += key.fileobj.recv(1) == b""
    return count
