"""The logs: formats, what is escaped, and a log that cannot be written."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgiserver import logs
from wsgiserver.config import Config
from wsgiserver.http.errors import BadRequest
from wsgiserver.logs import Journal, LogError, Record, compile_format, escaped

ENVIRON = {
    "REMOTE_ADDR": "192.0.2.7",
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a%20b?c=d",
    "PATH_INFO": "/a b",
    "QUERY_STRING": "c=d",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "a.example",
    "HTTP_REFERER": "http://b.example/",
    "HTTP_USER_AGENT": "test/1",
    "CONTENT_TYPE": "text/plain",
    "REMOTE_USER": "me",
}


def record(**changes: Any) -> Record:
    values = {
        "environ": ENVIRON,
        "status": "200 OK",
        "sent": 1234,
        "headers": [("Content-Type", "text/html"), ("X-Id", "7")],
        "seconds": 1.5,
        "aborted": False,
    }
    return Record(**{**values, **changes})


def line(text: str, **changes: Any) -> str:
    return compile_format(text)(record(**changes))


@pytest.mark.parametrize(
    ("atom", "value"),
    [
        ("h", "192.0.2.7"),
        ("l", "-"),
        ("u", "me"),
        ("r", "GET /a%20b?c=d HTTP/1.1"),
        ("m", "GET"),
        ("U", "/a b"),
        ("q", "c=d"),
        ("H", "HTTP/1.1"),
        ("s", "200"),
        ("st", "200 OK"),
        ("B", "1234"),
        ("b", "1234"),
        ("f", "http://b.example/"),
        ("a", "test/1"),
        ("T", "1"),
        ("M", "1500"),
        ("D", "1500000"),
        ("L", "1.500000"),
        ("{Host}i", "a.example"),
        ("{user-agent}i", "test/1"),
        ("{Content-Type}i", "text/plain"),
        ("{X-None}i", "-"),
        ("{Content-Type}o", "text/html"),
        ("{x-id}o", "7"),
        ("{X-None}o", "-"),
        ("{QUERY_STRING}e", "c=d"),
        ("{none}e", "-"),
    ],
)
def test_atoms(atom: str, value: str) -> None:
    assert line(f"<%({atom})s>") == f"<{value}>"


def test_the_process() -> None:
    assert line("%(p)s") == f"<{os.getpid()}>"


def test_the_time_is_one_that_can_be_read() -> None:
    text = line("%(t)s")
    assert text[0] + text[-1] == "[]"
    stamp = datetime.strptime(text, "[%d/%b/%Y:%H:%M:%S %z]")
    assert abs(stamp.timestamp() - datetime.now().timestamp()) < 5


def test_common_and_combined() -> None:
    common = r'192\.0\.2\.7 - me \[[^]]+\] "GET /a%20b\?c=d HTTP/1\.1" 200 1234'  # as Apache's
    assert re.fullmatch(common, line("common"))
    assert re.fullmatch(common + r' "http://b\.example/" "test/1"', line("combined"))


def test_literal_text_and_per_cent_signs() -> None:
    assert line("%% a %(m)s {b} %%(m)s") == "% a GET {b} %(m)s"


@pytest.mark.parametrize(
    "text", ["%(x)s", "%(foo)s", "%h", "100%", "%(h)", "%(h)d", "%({X}x)s", "%({}i)s", "%(%)s"]
)
def test_formats_with_a_fault(text: str) -> None:
    with pytest.raises(LogError, match=r"^access_log_format"):
        compile_format(text)


def test_a_record_of_a_request_that_was_not_understood() -> None:
    text = line("combined", environ={"REMOTE_ADDR": "192.0.2.7"}, status="400 Bad Request", sent=0)
    assert re.fullmatch(r'192\.0\.2\.7 - - \[[^]]+\] "-" 400 - "-" "-"', text)
    found = json.loads(line("json", environ={"REMOTE_ADDR": "192.0.2.7"}, status="400 Bad Request"))
    assert (found["method"], found["target"], found["status"]) == (None, None, 400)


def test_json() -> None:
    found = json.loads(line("json", seconds=0.0015, aborted=True))
    assert (
        abs(datetime.fromisoformat(found.pop("time")).timestamp() - datetime.now().timestamp()) < 5
    )
    assert found == {
        "remote_addr": "192.0.2.7",
        "method": "GET",
        "target": "/a%20b?c=d",
        "protocol": "HTTP/1.1",
        "host": "a.example",
        "status": 200,
        "bytes": 1234,
        "seconds": 0.0015,
        "aborted": True,
        "referer": "http://b.example/",
        "user_agent": "test/1",
        "pid": os.getpid(),
    }


EVERY = " ".join(f'"%({atom})s"' for atom in logs._ATOMS) + ' "%({X}i)s" "%({X}o)s" "%({X}e)s"'
# Whatever ends a line or begins a command for some reader of logs.
BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@pytest.mark.parametrize("text", [EVERY, "common", "combined", "json"])
@pytest.mark.parametrize(
    "evil",
    ["\n", "\r\n127.0.0.1 - -", "\x1b[2J", "\x00", "\x7f", "\x85", "\x9b", "\u2028", '" 200 "'],
)
def test_nothing_of_a_client_ends_the_line_or_its_quotes(text: str, evil: str) -> None:
    """CVE-2020-7694 of uvicorn: %0a in a path."""
    environ = {key: f"{value}{evil}" for key, value in ENVIRON.items()} | {
        "HTTP_X": evil,
        "X": evil,
    }
    written = line(text, environ=environ, status=f"200 {evil}", headers=[("X", evil)])
    assert not BREAKS.search(written)
    if text == "json":
        assert json.loads(written)["user_agent"] == f"test/1{evil}"
    elif text == EVERY:
        assert len(re.findall(r'"(?:[^"\\]|\\.)*"', written)) == len(logs._ATOMS) + 3


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text())
def test_escaping(text: str) -> None:
    safe = escaped(text)
    assert not BREAKS.search(safe)
    assert re.fullmatch(r'(?:[^"\\]|\\(?:["\\]|x[0-9a-f]{2}|u[0-9a-f]{4}))*', safe)
    undone = re.sub(
        r"\\(?:([\"\\])|x(..)|u(....))", lambda m: m[1] or chr(int(m[2] or m[3], 16)), safe
    )
    assert undone == text, "two texts would look the same"


def test_what_needs_no_escaping_stays() -> None:
    assert escaped("GET /ä€? 'x'") == "GET /ä€? 'x'"


# -- writing


def opened(path: str, text: str = "%(m)s %(U)s") -> Any:
    found = logs.open_access_log(Config(access_log=path, access_log_format=text))
    assert isinstance(found, logs.AccessWriter)
    return found


FIELDS: tuple[Any, ...] = (ENVIRON, "200 OK", 5, [], 0.1, False)


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    for _ in range(2):
        writer = opened(str(path))
        writer(*FIELDS)
        writer.close()
    assert path.read_text() == "before\nGET /a b\nGET /a b\n"


def test_a_lone_surrogate_is_written(tmp_path: Path) -> None:
    writer = opened(str(tmp_path / "log"))
    writer({**ENVIRON, "PATH_INFO": "/\udcff"}, *FIELDS[1:])
    writer.close()
    assert (tmp_path / "log").read_text() == "GET /\\udcff\n"


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the error log is told, whatever other tests set it up to do."""
    logger, before = logs.log, (logs.log.propagate, logs.log.level)
    logger.propagate = True
    logger.setLevel(logging.DEBUG)
    yield caplog
    logger.propagate, logger.level = before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_costs_the_line_and_one_warning_a_second(
    errors: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    writer = opened("/dev/full")
    for _ in range(100):
        writer(*FIELDS)
    assert len(errors.records) == 1
    assert "No space left" in errors.messages[0]
    now += 1.5
    writer(*FIELDS)
    writer(*FIELDS)
    assert len(errors.records) == 2
    writer.close()


@pytest.mark.parametrize("path", ["/nonexistent/folder/log", "/"])
def test_a_file_that_cannot_be_opened(path: str) -> None:
    with pytest.raises(LogError, match=rf"^access_log {path}: \w+"):
        opened(path)


def test_a_wrong_format_is_told_before_the_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(LogError):
        opened(str(tmp_path / "log"), "%(nonsense)s")
    assert not (tmp_path / "log").exists()


def test_no_access_log() -> None:
    assert logs.open_access_log(Config()) is None


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    writer = opened("-")
    writer(*FIELDS)
    writer.close()
    assert capfd.readouterr().out == "GET /a b\n"


def test_lines_of_processes_never_mix(tmp_path: Path) -> None:
    """Each is one write to a file opened for appending."""
    path = tmp_path / "log"
    script = (
        "import sys; from wsgiserver import logs; from wsgiserver.config import Config\n"
        "writer = logs.open_access_log(Config(access_log=sys.argv[1], access_log_format='%(U)s'))\n"
        "for _ in range(300): writer({'PATH_INFO': sys.argv[2] * 2000}, '200 OK', 0, [], 0, False)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path), letter]) for letter in "ab"
    ]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert sorted(path.read_text().split()) == ["a" * 2000] * 300 + ["b" * 2000] * 300


# -- the error log


def test_what_connections_tell(errors: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    try:
        raise ValueError("the application's own")
    except ValueError as error:
        journal.application_failed(ENVIRON, error)
    journal.response_wrong(ENVIRON, "too short")
    journal.refused("192.0.2.7", BadRequest("a reason."))
    journal.refused("", BadRequest("a reason."))
    assert "the application's own" in errors.text
    assert "Traceback" in errors.text
    assert errors.messages == [
        "GET /a%20b: the application failed",
        "GET /a%20b: too short",
        "192.0.2.7: refused with 400 Bad Request: a reason.",
        "unix: refused with 400 Bad Request: a reason.",
    ]
    assert "c=d" not in errors.text, "a query may hold what no log should"


@pytest.mark.parametrize("environ", [{}, {"RAW_URI": None}, {"RAW_URI": b"x", "REQUEST_METHOD": 5}])
def test_an_environ_that_the_application_changed(
    environ: dict[str, Any], errors: pytest.LogCaptureFixture
) -> None:
    Journal().response_wrong(environ, "too short")
    assert errors.messages[0].endswith(": too short")


def test_a_dropped_field_is_named_once_and_escaped(errors: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    for _ in range(3):
        journal.fields_dropped("192.0.2.7", ("X_A", "Proxy"))
    assert len(errors.records) == 2
    for number in range(1000):
        journal.fields_dropped("192.0.2.7", (f"X_{number}" + "y" * 1000,))
    assert len(errors.records) <= 100, "a client cannot fill the log"
    assert max(map(len, errors.messages)) < 300


def test_one_dropped_field_does_not_silence_the_other_kind(
    errors: pytest.LogCaptureFixture,
) -> None:
    """What a client sends must not keep the server from telling what the application does."""
    journal = Journal()
    for number in range(1000):
        journal.fields_dropped("192.0.2.7", (f"X_{number}",))
    journal.hop_by_hop(("Upgrade",))
    assert "Upgrade" in errors.messages[-1]


# -- setting up


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: logging is set up for a whole process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True
    )


LOG = (
    "import sys; from wsgiserver import logs; from wsgiserver.config import Config\n"
    "logs.set_up(Config({options}))\n"
    "logs.log.info('quiet'); logs.log.warning('loud')"
)


@pytest.mark.parametrize(("level", "lines"), [("info", 2), ("warning", 1), ("error", 0)])
def test_levels(level: str, lines: int) -> None:
    done = run(LOG.replace("{options}", f"log_level={level!r}"))
    assert done.stderr.count("\n") == lines, done.stderr
    for one in done.stderr.splitlines():
        assert re.fullmatch(
            r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[[A-Z]+\] \w+", one
        )


TOML = """
[formatters.own]
format = "own %(message)s"
[handlers.out]
class = "logging.StreamHandler"
formatter = "own"
stream = "ext://sys.stdout"
[loggers."wsgiserver.error"]
handlers = ["out"]
level = "INFO"
[loggers."wsgiserver.access"]
handlers = ["out"]
level = "INFO"
"""
INI = """
[loggers]
keys=root
[handlers]
keys=out
[formatters]
keys=own
[logger_root]
level=INFO
handlers=out
[handler_out]
class=StreamHandler
formatter=own
args=(sys.stdout,)
[formatter_own]
format=own %(message)s
"""


@pytest.mark.parametrize("name", ["log.toml", "log.json", "log.ini"])
def test_log_config(name: str, tmp_path: Path) -> None:
    import tomllib

    path = tmp_path / name
    settings = {"log.toml": TOML, "log.ini": INI, "log.json": json.dumps(tomllib.loads(TOML))}
    path.write_text(settings[name])
    done = run(LOG.replace("{options}", "log_config=sys.argv[1]"), str(path))
    assert (done.stdout, done.stderr) == ("own quiet\nown loud\n", "")


def test_log_config_takes_the_access_log(tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    path.write_text(TOML)
    script = LOG.replace("{options}", "log_config=sys.argv[1]") + (
        "\nconfig = Config(log_config=sys.argv[1], access_log_format='%(m)s')"
        "\nlogs.open_access_log(config)({'REQUEST_METHOD': 'GET'}, '200 OK', 0, [], 0, False)"
    )
    done = run(script, str(path))
    assert done.stdout.splitlines()[-1] == "own GET", done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.toml", "= nonsense"),
        ("log.json", "{"),
        ("log.ini", "nonsense"),
        ("log.toml", "[handlers.x]\nclass = 'no.such.Class'"),
        ("log.ini", None),
    ],
)
def test_a_log_config_with_a_fault_is_one_line(name: str, text: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(LogError) as caught:
        logs.set_up(Config(log_config=str(path)))
    message = str(caught.value)
    assert message.startswith(f"log_config {path}: ")
    assert "\n" not in message
    assert message.removeprefix(f"log_config {path}: ")
