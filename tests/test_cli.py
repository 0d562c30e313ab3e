"""The command as users start it: what it says, where, and with which exit status."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from wsgiserver import __version__, cli
from wsgiserver.config import OPTIONS

REPOSITORY = Path(__file__).resolve().parent.parent
APP = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ.get("GREETING", "hello").encode()]
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSGISERVER")}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **(extra or {})}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "web.py").write_text(APP)
    return tmp_path


def run(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wsgiserver", *arguments],
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@contextmanager
def serving(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server on a free port, and that port; stopped by SIGTERM at the end."""
    command = [sys.executable, "-m", "wsgiserver", "-b", "127.0.0.1:0", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment(env), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            seen = []
            for line in process.stderr:
                seen.append(line)
                if match := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    yield process, int(match[1])
                    break
            else:
                pytest.fail("".join(seen))
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr and process.stderr.read()
            process.wait(30)


def get(port: int, path: str = "/") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


# --- mistakes -------------------------------------------------------------------------------------

WRONG: list[tuple[Sequence[str], str]] = [
    (["--threads", "0", "web"], "--threads: '0' is out of range; give 1 to 1024"),
    (["--threads=x", "web"], "--threads: 'x' is not a whole number; give 1 to 1024"),
    (["-k", "epol", "web"], "--worker-model: 'epol' is not one of single, "),
    (["-b", "host:port"], "--bind: 'host:port' has no valid port; give 0 to 65535"),
    (["-b", "a:1", "-b", "b:x"], "--bind: 'b:x' has no valid port"),
    (["-e", "A=1", "-e", "B"], "--env: 'B' is not of the form NAME=VALUE"),
    (["--thread", "3", "web"], "--thread: there is no such option; did you mean --threads?"),
    (["--zzzzzz"], "--zzzzzz: there is no such option; `wsgiserver --help` lists the options"),
    (["-z"], "-z: there is no such option"),
    (["--threads"], "Option '--threads' requires an argument; `wsgiserver --help`"),
    (["web", "other"], "Got unexpected extra argument (other); `wsgiserver --help`"),
    (["--documents-root", "missing"], "--documents-root: 'missing' is no folder"),
    (["--static-url", "static", "web"], "--static-url: 'static' must begin and end with"),
    (["--log-config", "missing.ini", "web"], "--log-config: 'missing.ini' is no file"),
    (["-c", "missing.toml"], "missing.toml: cannot be read: No such file or directory"),
    ([], "nothing to serve; type `wsgiserver module:app` for an application"),
    (["--access-log-format", "%(zz)s", "--check-config", "web"], "access_log_format: "),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_setting_is_one_line_and_status_2(
    folder: Path, arguments: Sequence[str], message: str
) -> None:
    result = run(folder, *arguments)
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert (result.returncode, result.stdout) == (2, "")


def test_wrong_settings_of_the_other_sources(folder: Path) -> None:
    result = run(folder, "web", env={"WSGISERVER_THREADS": "x"})
    assert result.stderr.startswith("Error: WSGISERVER_THREADS: 'x' is not a whole number")
    (folder / "wsgiserver.toml").write_text("thread = 3\n")
    result = run(folder, "web")
    assert result.returncode == 2
    assert result.stderr == (
        "Error: wsgiserver.toml: thread: there is no such option; "
        "did you mean wsgiserver.toml: threads?\n"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wen:app", "there is no module 'wen' in "),
        ("web:ap", "module 'web' has no 'ap'; did you mean web:app?"),
        ("web:os", "'web:os' is a module, which cannot be called"),
        ("web.py", "'web.py' is a file, not a module; did you mean web:app?"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_an_application_that_is_not_there_is_one_line_and_status_3(
    folder: Path, spec: str, message: str, check: bool
) -> None:
    result = run(folder, spec, "-b", "127.0.0.1:0", *(["--check-config"] if check else []))
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert (result.returncode, result.stdout) == (3, "")


def test_an_application_that_fails_shows_its_own_traceback(folder: Path) -> None:
    (folder / "broken.py").write_text("def make():\n    return 1 / 0\n\napp = make()\n")
    result = run(folder, "broken:app")
    assert result.returncode == 3
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "Error: 'broken' cannot be imported: ZeroDivisionError: division by zero"
    frames = [line for line in lines if line.startswith("  File ")]
    assert len(frames) == 2
    assert all("broken.py" in frame for frame in frames)


def test_a_port_in_use_is_one_line_and_status_1(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for extra in ([], ["--reload"]):
            result = run(folder, "web", "-b", f"127.0.0.1:{port}", *extra)
            assert result.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
            assert "in use" in result.stderr
            assert result.stderr.count("\n") == 1
            assert result.returncode == 1


def test_a_missing_extra_says_what_to_install(folder: Path) -> None:
    """A module of that name which cannot be imported stands for the package that is not there."""
    for package in ("gevent", "watchfiles"):
        (folder / f"{package}.py").write_text(
            f"raise ModuleNotFoundError('no {package}', name='{package}')\n"
        )
    result = run(folder, "web", "-k", "gevent")
    assert result.stderr.endswith("pip install gevent\n")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    result = run(folder, "web", "--reload")
    assert result.stderr.endswith("pip install watchfiles\n")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


# --- what it prints -------------------------------------------------------------------------------


def test_version_and_help(folder: Path) -> None:
    assert run(folder, "--version").stdout == f"wsgiserver {__version__}\n"
    result = run(folder, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    for option in OPTIONS.values():
        for flag in option.all_flags:
            assert flag in result.stdout
    assert "`" not in result.stdout


def test_the_start_imports_no_server(folder: Path) -> None:
    """What makes `--version` and the errors quick, as a fact instead of a time."""
    code = (
        "import sys; from wsgiserver.cli import main; main(['--version']);"
        "print(*(m for m in sys.modules if m.partition('.')[0] in"
        " ('wsgiserver', 'socket', 'ssl', 'asyncio', 'logging', 'werkzeug', 'tomllib')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({"PYTHONDEVMODE": ""}),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert set(result.stdout.split("\n")[1].split()) == {
        "wsgiserver",
        "wsgiserver.cli",
        "wsgiserver.config",
        "wsgiserver.options",
    }


def test_print_config_names_each_source(folder: Path) -> None:
    (folder / "own.toml").write_text("threads = 2\nbacklog = 9\n")
    env = {"WSGISERVER_CONFIG": "own.toml", "WSGISERVER_BACKLOG": "10"}
    result = run(folder, "web", "-b", ":0", "--print-config", "--keep-alive", "2m", env=env)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert {
        'app = "web"  # APP',
        'bind = ["0.0.0.0:0"]  # --bind',
        "keep_alive = 120  # --keep-alive",
        "backlog = 10  # WSGISERVER_BACKLOG",
        "threads = 2  # own.toml: threads",
        "head_timeout = 20  # default",
    } <= set(lines)
    (folder / "again.toml").write_text(result.stdout)
    again = run(folder, "-c", "again.toml", "--print-config")
    assert "threads = 2  # again.toml: threads" in again.stdout.splitlines()


def test_check_config(folder: Path) -> None:
    result = run(folder, "web", "--check-config", "-k", "sync", "-b", "unix:x.sock", "-b", ":1")
    assert result.stdout == "configuration ok: web, single, unix:x.sock, 0.0.0.0:1\n"
    assert (result.returncode, result.stderr) == (0, "")
    assert not (folder / "x.sock").exists()
    result = run(folder, "--check-config", "--documents-root", ".")
    assert result.stdout == "configuration ok: files of ., threadpool, 127.0.0.1:8000\n"


def test_main_returns_the_status(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(["--version"]) == 0
    assert cli.main(["--threads", "0"]) == 2
    assert capsys.readouterr().err == "Error: --threads: '0' is out of range; give 1 to 1024\n"


# --- serving --------------------------------------------------------------------------------------


def test_it_serves_and_stops(folder: Path) -> None:
    with serving(folder, "web:app") as (process, port):
        assert get(port) == (200, b"hello")
    assert process.returncode == 0


def test_flag_over_variable_over_file(folder: Path) -> None:
    (folder / "wsgiserver.toml").write_text('wsgi_app = "web:app"\nenv = ["GREETING=file"]\n')
    with serving(folder) as (_, port):
        assert get(port) == (200, b"file")
    env = {"WSGISERVER_ENV": "GREETING=variable"}
    with serving(folder, env=env) as (_, port):
        assert get(port) == (200, b"variable")
    with serving(folder, "-e", "GREETING=flag", env=env) as (_, port):
        assert get(port) == (200, b"flag")


def test_the_folder_and_the_module_path(folder: Path) -> None:
    for name in ("start", "lib"):
        (folder / name).mkdir()
    (folder / "web.py").rename(folder / "start" / "web.py")
    (folder / "start" / "main.py").write_text(
        "import os, sys, helper\nfrom web import app\n"
        "assert sys.path[0] == os.getcwd(), sys.path\nassert helper.__file__.endswith('.py')\n"
    )
    (folder / "lib" / "helper.py").touch()
    arguments = ("main:app", "--chdir", "start", "--pythonpath", "../lib")
    with serving(folder, *arguments) as (_, port):
        assert get(port) == (200, b"hello")


def test_gevent_is_patched_before_the_application(folder: Path) -> None:
    pytest.importorskip("gevent")
    (folder / "checks.py").write_text(
        "import socket, time\nfrom gevent import monkey\nfrom web import app\n"
        "assert monkey.is_module_patched('socket')\nassert monkey.is_module_patched('time')\n"
    )
    result = run(folder, "checks:app", "-k", "gevent", "--check-config")
    assert (result.returncode, result.stderr) == (0, "")


def test_files_alone_beside_and_by_default(folder: Path) -> None:
    (folder / "html").mkdir()
    (folder / "html" / "index.html").write_text("<p>front")
    (folder / "html" / "a.txt").write_text("file")
    with serving(folder) as (_, port):
        assert get(port) == (200, b"<p>front")
        assert get(port, "/a.txt") == (200, b"file")
    with serving(folder, "web", "--documents-root", "html") as (_, port):
        assert get(port, "/static/a.txt") == (200, b"file")
        assert get(port, "/a.txt") == (200, b"hello")
    arguments = ("web", "--documents-root", "html", "--static-url", "/files/")
    with serving(folder, *arguments) as (_, port):
        assert get(port, "/files/a.txt") == (200, b"file")
