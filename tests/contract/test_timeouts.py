"""Clients that are slow, silent or gone: what they get, and that nobody else waits for them."""

from __future__ import annotations

import select
from time import monotonic

import pytest

from tests.support.server import Server
from tests.support.stage import Stage
from tests.support.wire import Wire, request

HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: te"
HALF_A_BODY = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello"
# Of the servers that `hasty` gives. A loop looks at its deadlines every quarter of a second.
TIMEOUT = 0.5
LATEST = TIMEOUT + 2


def took(since: float) -> bool:
    """Whether about the timeout has passed; not less than it, as far as clocks go."""
    return TIMEOUT - 0.05 <= monotonic() - since <= LATEST


def drip(wire: Wire, data: bytes, pause: float) -> None:
    """Send byte by byte, until the server answers or ends."""
    for byte in data:
        wire.send(bytes([byte]))
        if select.select([wire.sock], [], [], pause)[0]:
            return


def test_half_a_head(hasty: Server) -> None:
    with hasty.connect() as wire:
        since = monotonic()
        wire.send(HALF_A_HEAD)
        reply = wire.reply()
        assert (reply.status, reply.closes) == (408, True)
        assert took(since)
        assert wire.ended()


def test_a_head_byte_by_byte(hasty: Server) -> None:
    """The time counts from the first byte, not from the last: else it would never end."""
    with hasty.connect() as wire:
        since = monotonic()
        drip(wire, request("/" + "a" * 100), 0.08)
        assert wire.reply().status == 408
        assert took(since)
        assert wire.ended()


def test_half_a_head_on_a_connection_that_was_idle(hasty: Server) -> None:
    with hasty.connect() as wire:
        assert wire.get("/").status == 200
        since = monotonic()
        wire.send(HALF_A_HEAD)
        assert wire.reply().status == 408
        assert took(since)


@pytest.mark.parametrize("sent", [HALF_A_BODY, HALF_A_BODY[:-5]], ids=["begun", "not begun"])
def test_half_a_body(hasty: Server, sent: bytes) -> None:
    before = hasty.calls()
    with hasty.connect() as wire:
        since = monotonic()
        wire.send(sent)
        reply = wire.reply()
        assert (reply.status, reply.closes) == (408, True)
        assert took(since)
        assert wire.ended()
    assert hasty.calls() == before


def test_a_body_that_never_comes_after_100(hasty: Server) -> None:
    with hasty.connect() as wire:
        wire.send(request("/", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        assert wire.reply().status == 100
        assert wire.reply().status == 408
        assert wire.ended()


def test_a_slow_body_is_no_silent_one(hasty: Server) -> None:
    """Longer than the timeout as a whole, but never as long without a byte."""
    body = b"0123456789"
    with hasty.connect() as wire:
        wire.send(request("/echo", method="POST", body=body)[: -len(body)])
        since = monotonic()
        drip(wire, body, 0.1)
        assert wire.reply().body == body
        assert monotonic() - since > TIMEOUT


@pytest.mark.parametrize("requests", [0, 1], ids=["fresh", "idle"])
def test_silence_is_closed_without_a_word(hasty: Server, requests: int) -> None:
    with hasty.connect() as wire:
        since = monotonic()
        for _ in range(requests):
            assert wire.get("/").status == 200
        assert wire.ended()
        assert took(since)


def test_a_client_that_takes_nothing(hasty: Server, stage: Stage) -> None:
    """It is cut off, and the application's iterable is closed."""
    with hasty.connect(receive_buffer=4096) as wire:
        wire.send(request(f"/endless?stage={stage.port}"))
        assert stage.arrival().text == "closed"
        assert not whole(wire)
    assert stage.empty()


def test_a_write_that_takes_too_long(hasty: Server, stage: Stage) -> None:
    """In write() the application waits itself; it is told."""
    size = 8 << 20
    with hasty.connect(receive_buffer=4096) as wire:
        wire.send(request(f"/fill?size={size}&stage={stage.port}"))
        assert stage.arrival().text == "failed: ClientDisconnected"
        assert not whole(wire)


def same(got: bytes, expected: bytes) -> bool:
    """Compared without a difference of megabytes in the report."""
    return got == expected


def whole(wire: Wire) -> bool:
    """Whether what is left to read ends as a chunked answer must."""
    got = b""
    try:
        while block := wire.sock.recv(65536):
            got = (got + block)[-5:]
    except ConnectionResetError:
        return False
    return got == b"0\r\n\r\n"


def test_a_client_that_takes_little_by_little(hasty: Server) -> None:
    """The time counts from the last byte taken, so a slow reader gets all of a long answer."""
    count, width = 6000, 4095
    expected = b"".join(b"%*d\n" % (width, number) for number in range(count))
    with hasty.connect(receive_buffer=262144) as wire:
        wire.send(request(f"/count?to={count}&width={width}", version="1.0"))
        since = monotonic()
        got = []
        # A kernel tells the server of room only when a third of its buffer is free, which on the
        # loopback is a megabyte: a slower reader than this one would seem to take nothing.
        while monotonic() - since < 2 * TIMEOUT:
            got.append(wire.sock.recv(131_072))
            select.select([], [], [], 0.02)  # a pace, not a wait for something
        while block := wire.sock.recv(1 << 20):
            got.append(block)
    assert same(b"".join(got).partition(b"\r\n\r\n")[2], expected)


# -- nobody else waits


def clients(server: Server, count: int, sent: bytes) -> list[Wire]:
    found = [server.connect(receive_buffer=4096) for _ in range(count)]
    for wire in found:
        wire.send(sent)
    return found


SLOW = {
    "silent": b"",
    "half a head": HALF_A_HEAD,
    "half a body": HALF_A_BODY,
    "half a TLS hello": b"\x16",
    "reads nothing": request("/count?to=10000&width=4095"),
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_slow_clients_hold_nobody_back(server: Server, sent: bytes) -> None:
    """Twenty of them, more than there are threads in the pool."""
    if server.model == "single":
        pytest.skip("its nature: one client at a time")
    slow = clients(server, 20, sent)
    try:
        since = monotonic()
        for _ in range(3):
            with server.connect() as wire:
                assert wire.get("/quick").status == 200
        assert monotonic() - since < 3
    finally:
        for wire in slow:
            wire.close()


def test_idle_connections_hold_nobody_back(server: Server) -> None:
    """Also under `single`, which closes an idle one when somebody else wants in."""
    idle = [server.connect() for _ in range(3)]
    try:
        since = monotonic()
        for wire in idle:
            assert wire.get("/").status == 200
        with server.connect() as wire:
            assert wire.get("/quick").status == 200
        assert monotonic() - since < 1
    finally:
        for wire in idle:
            wire.close()


CONCURRENT = ("process", "thread", "gevent", "threadpool")


def test_applications_wait_side_by_side(server: Server, stage: Stage) -> None:
    """What wsgi.multithread and multiprocess promise: threads share a process, processes do not."""
    if server.model not in CONCURRENT:
        pytest.skip("its nature: one call of the application at a time")
    wires = [server.connect() for _ in range(3)]
    try:
        for wire in wires:
            wire.send(request(f"/wait?stage={stage.port}"))
        visits = [stage.arrival() for _ in wires]
        assert len({visit.pid for visit in visits}) == (3 if server.model == "process" else 1)
        for visit in visits:
            visit.go()
        assert [wire.reply().body for wire in wires] == [b"waited"] * 3
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("sent", [b"", b"GET", HALF_A_HEAD, HALF_A_BODY, request("/count?to=9999")])
def test_clients_that_reset(server: Server, sent: bytes) -> None:
    """No traceback, no dead worker; the fixture looks into the log."""
    for _ in range(10):
        wire = server.connect()
        wire.send(sent)
        wire.reset()
    with server.connect() as wire:
        assert wire.get("/next").status == 200
