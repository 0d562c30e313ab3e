"""SIGTERM and SIGINT: what was accepted is finished, the rest ends, and the exit status says so."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from time import monotonic

import pytest

from tests.support.server import Server
from tests.support.stage import Stage
from tests.support.wire import Wire, request

Launch = Callable[..., Server]
FINISHING = "finishing what was accepted"
# A stop with nothing to finish.
AT_ONCE = 1.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_an_idle_server_ends_at_once(launch: Launch, number: signal.Signals) -> None:
    server = launch()
    with server.connect() as wire:
        assert wire.get("/").status == 200
    since = monotonic()
    server.signal(number)
    assert server.ended() == 0
    assert monotonic() - since < AT_ONCE
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        Wire(server.unix_path)


def test_idle_connections_are_closed_at_once(launch: Launch) -> None:
    server = launch()
    idle = [server.connect() for _ in range(1 if server.model == "single" else 5)]
    try:
        for wire in idle:
            assert wire.get("/").status == 200
        since = monotonic()
        server.signal(signal.SIGTERM)
        for wire in idle:
            assert wire.ended()
        assert server.ended() == 0
        assert monotonic() - since < AT_ONCE
    finally:
        for wire in idle:
            wire.close()


def test_a_request_in_flight_is_finished(launch: Launch, stage: Stage) -> None:
    """With `Connection: close` (RFC 9112 §9.6), and nobody new gets in meanwhile."""
    server = launch()
    with server.connect() as wire:
        wire.send(request(f"/wait?stage={stage.port}"))
        visit = stage.arrival()
        server.signal(signal.SIGTERM)
        server.log.wait_for(FINISHING)
        visit.go()
        reply = wire.reply()
        assert (reply.body, reply.closes) == (b"waited", True)
        assert wire.ended()
    assert server.ended() == 0


def test_a_request_half_sent_is_finished(launch: Launch) -> None:
    server = launch()
    data = request("/echo", method="POST", body=b"hello")
    with server.connect() as wire:
        wire.send(data[:-3])
        with server.connect() as other:  # it was accepted after the first one's bytes
            if server.model != "single":
                assert other.get("/").status == 200
        server.signal(signal.SIGTERM)
        server.log.wait_for(FINISHING)
        wire.send(data[-3:])
        reply = wire.reply()
        assert (reply.body, reply.closes) == (b"hello", True)
    assert server.ended() == 0


def test_an_answer_half_sent_is_finished(launch: Launch, stage: Stage) -> None:
    server = launch()
    target = f"/blocks?kind=generator&block=first&block=second&pause=1&stage={stage.port}"
    with server.connect() as wire:
        wire.send(request(target))
        visit = stage.arrival()
        server.signal(signal.SIGTERM)
        server.log.wait_for(FINISHING)
        visit.go()
        assert wire.reply().body == b"firstsecond"
        assert wire.ended()
    assert stage.arrival().text == "closed"
    assert server.ended() == 0


def test_what_waits_in_the_backlog_is_answered(launch: Launch) -> None:
    """The kernel accepted it, so the client counts on it. The server sleeps while they connect."""
    server = launch()
    server.signal(signal.SIGSTOP)
    wires = [server.connect() for _ in range(5)]
    try:
        for number, wire in enumerate(wires):
            wire.send(request(f"/{number}"))
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        replies = [wire.reply() for wire in wires]
        assert [reply.json()["PATH_INFO"] for reply in replies] == [f"/{n}" for n in range(5)]
        assert all(wire.ended() for wire in wires)
    finally:
        for wire in wires:
            wire.close()
    assert server.ended() == 0


def test_a_silent_client_does_not_delay_the_end(launch: Launch) -> None:
    server = launch()
    with server.connect():
        since = monotonic()
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
        assert monotonic() - since < 1 + AT_ONCE  # it has a second to send what is on its way


def test_a_second_signal_ends_at_once(launch: Launch, stage: Stage) -> None:
    server = launch()
    with server.connect() as wire:
        wire.send(request(f"/wait?stage={stage.port}"))
        stage.arrival()
        server.signal(signal.SIGTERM)
        server.log.wait_for(FINISHING)
        since = monotonic()
        server.signal(signal.SIGTERM)
        assert server.ended() == 128 + signal.SIGTERM
        assert monotonic() - since < AT_ONCE
        assert unanswered(wire)


def test_the_graceful_timeout_cuts(launch: Launch, stage: Stage) -> None:
    """An application that does not come back does not keep the server."""
    server = launch(graceful_timeout=0.5)
    with server.connect() as wire:
        wire.send(request(f"/wait?stage={stage.port}"))
        stage.arrival()
        since = monotonic()
        server.signal(signal.SIGTERM)
        server.ended()
        assert 0.45 < monotonic() - since < 0.5 + AT_ONCE
        assert unanswered(wire)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost:", request("/count?to=10000&width=4095")]
)
def test_the_graceful_timeout_cuts_slow_clients(launch: Launch, sent: bytes) -> None:
    server = launch(graceful_timeout=0.5)
    with server.connect(receive_buffer=4096) as wire:
        wire.send(sent)
        if sent.endswith(b"\r\n\r\n"):
            wire.read_some(100)
        since = monotonic()
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
        assert monotonic() - since < 0.5 + AT_ONCE


def unanswered(wire: Wire) -> bool:
    try:
        return wire.ended()
    except ConnectionResetError:
        return True


def test_a_restart_on_the_same_port(launch: Launch) -> None:
    """Connections of the last run that the kernel still remembers must not stand in its way."""
    first = launch()
    address = first.addresses[0]
    with first.connect() as wire:
        assert wire.get("/").status == 200
        first.signal(signal.SIGTERM)  # the server closes first, so it is its side that lingers
        assert wire.ended()
    assert first.ended() == 0
    second = launch(bind=f"{address[0]}:{address[1]}")
    with second.connect() as wire:
        assert wire.get("/").status == 200
    second.stop()


def test_many_listeners(launch: Launch) -> None:
    """Also on a socket that was handed over."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        server = launch(
            bind=["127.0.0.1:0", "127.0.0.1:0", f"fd://{inherited.fileno()}"],
            pass_fds=[inherited.fileno()],
        )
        for address in server.addresses:
            with Wire(address) as wire:
                assert wire.get("/").json()["SERVER_PORT"] == str(address[1])
        server.stop()
