"""The access log: a line for every request, whatever became of it and whatever is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Fleet
from tests.support.server import Server
from tests.support.stage import Stage
from tests.support.wire import Truncated, request

COMBINED = re.compile(
    r'(?P<host>\S+) - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "(?P<line>(?:[^"\\]|\\.)*)"'
    r' (?P<status>\d{3}|-) (?P<bytes>\d+|-) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>.*)"'
)


class Log:
    """The lines that a test adds to a server's access log."""

    def __init__(self, server: Server) -> None:
        self._output = server.output
        self._since = len(server.output.text)

    def line(self, pattern: str) -> str:
        """Wait for a line that contains `pattern`."""
        return self._output.wait_for(rf"(?m)^.*{pattern}.*\n", self._since)[0].rstrip("\n")

    def lines(self) -> list[str]:
        return self._output.text[self._since :].splitlines()


def combined(line: str) -> dict[str, str]:
    match = COMBINED.fullmatch(line)
    assert match, line
    return match.groupdict()


def test_served(server: Server) -> None:
    log = Log(server)
    with server.connect() as wire:
        reply = wire.get("/served?a=b", "Referer: http://r/", "User-Agent: agent/1")
    assert combined(log.line("/served")) == {
        "host": "127.0.0.1",
        "line": "GET /served?a=b HTTP/1.1",
        "status": "200",
        "bytes": str(len(reply.body)),
        "referer": "http://r/",
        "agent": "agent/1",
    }


def test_one_line_for_each_of_many(server: Server) -> None:
    """In their order on a connection; no two of them mixed."""
    log = Log(server)
    with server.connect() as wire:
        wire.exchange(
            b"".join(request(f"/many/{number}") for number in range(100))
            + request("/end", "Connection: close")
        )
    log.line("/end")
    lines = [combined(line)["line"] for line in log.lines()]
    assert lines == [f"GET /many/{n} HTTP/1.1" for n in range(100)] + ["GET /end HTTP/1.1"]


def test_content_is_counted_without_its_framing(server: Server) -> None:
    log = Log(server)
    with server.connect() as wire:
        wire.get("/blocks?kind=generator&block=ab&block=cde&n=1")
        wire.get("/blocks?block=hello&n=2", method="HEAD")
        wire.get("/blocks?status=204+No&n=3")
    assert combined(log.line("n=1"))["bytes"] == "5"
    assert combined(log.line("n=2"))["bytes"] == "-"
    assert combined(log.line("n=3"))["status"] == "204"


def test_failed(server: Server) -> None:
    log = Log(server)
    with server.connect() as wire:
        assert wire.get("/fail?how=raise").status == 500
    assert combined(log.line("/fail"))["status"] == "500"
    server.expect_fault("RuntimeError: the application fails on purpose")


REFUSED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"\x16\x03\x01", 400),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    (request("/", *["X: y"] * 101), 431),
    (request("/", "Content-Length: 99999999"), 413),
    (request("/", "Transfer-Encoding: chunked") + b"x\r\n", 400),
]


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=str)
def test_refused(server: Server, data: bytes, status: int) -> None:
    log = Log(server)
    with server.connect() as wire:
        wire.exchange(data)
    line = combined(log.line(f" {status} "))
    assert (line["host"], line["status"]) == ("127.0.0.1", str(status))
    assert len(log.lines()) == 1


def test_what_a_client_sends_is_escaped(server: Server) -> None:
    """A line is one line, and a terminal that shows it obeys nobody (CVE-2020-7694)."""
    log = Log(server)
    agent = 'a" 200 "\\ \xe4\x9b2J\x85\t'
    with server.connect() as wire:
        wire.get("/%0a%1b[2Jescaped", f"User-Agent: {agent}end", "Referer: x\xa0\xadz")
    line = log.line("escaped")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    assert combined(line)["line"] == "GET /%0a%1b[2Jescaped HTTP/1.1"
    assert combined(line)["agent"].startswith('a\\" 200 \\"\\\\ ')
    assert len(log.lines()) == 1


def test_a_client_that_leaves(server: Server, stage: Stage) -> None:
    log = Log(server)
    wire = server.connect(receive_buffer=4096)
    wire.send(request(f"/endless?stage={stage.port}"))
    wire.read_some(100)
    wire.close()
    assert stage.arrival().text == "closed"
    log.line("/endless")


# -- as JSON


@pytest.fixture
def json_server(model: str, fleet: Fleet) -> Iterator[Server]:
    found = fleet(model, access_log_format="json")
    yield found
    found.check()


def record(log: Log, pattern: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(log.line(pattern))
    return found


def test_json_served(json_server: Server) -> None:
    log = Log(json_server)
    with json_server.connect() as wire:
        reply = wire.get("/served?a=b", 'User-Agent: "\x85\xe4\\')
    found = record(log, "/served")
    assert found.pop("seconds") < 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}", found.pop("time"))
    assert found.pop("pid") == reply.json()["pid"]
    assert found == {
        "remote_addr": "127.0.0.1",
        "method": "GET",
        "target": "/served?a=b",
        "protocol": "HTTP/1.1",
        "host": "test",
        "status": 200,
        "bytes": len(reply.body),
        "aborted": False,
        "referer": None,
        "user_agent": '"\x85\xe4\\',
    }


def test_json_refused(json_server: Server) -> None:
    log = Log(json_server)
    with json_server.connect() as wire:
        wire.exchange(b"GET / HTTP/1.1\r\n\r\n")
    found = record(log, '"status": 400')
    assert (found["method"], found["aborted"], found["remote_addr"]) == (None, False, "127.0.0.1")
    assert found["seconds"] < 5


@pytest.mark.parametrize("query", ["kind=generator&block=ab&block=c&fail=1", "block=ab&length=9"])
def test_json_aborted(json_server: Server, query: str) -> None:
    log = Log(json_server)
    with json_server.connect() as wire:
        wire.send(request(f"/blocks?{query}"))
        with pytest.raises(Truncated):
            wire.reply()
    found = record(log, "/blocks")
    assert (found["status"], found["bytes"], found["aborted"]) == (200, 2, True)
    if "fail" in query:
        json_server.expect_fault("RuntimeError: the application fails on purpose")
