"""`--reload`: real servers, real edits; and which files matter."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from wsgiserver.config import Config
from wsgiserver.reload import Child, Watched, roots

pytestmark = pytest.mark.skipif(os.name != "posix", reason="--reload hands over descriptors")

REPOSITORY = Path(__file__).resolve().parent.parent
APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%s"]
"""


class Reloading:
    """A running `wsgiserver --reload`, and what it logs."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.process = process
        self.port = int(self.wait_for(r"listening on http://127\.0\.0\.1:(\d+)")[1])

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next line that matches; the watchdog ends the process, and so the lines, in time."""
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if match := re.search(pattern, line):
                return match
        pytest.fail(f"never said {pattern!r}:\n{''.join(seen)}")

    def edit(self, text: str, name: str = "web.py") -> None:
        """Write a file as editors do: aside, and then in its place."""
        aside = self.folder / ".aside"
        aside.write_text(text)
        aside.replace(self.folder / name)

    def get(self) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def reloading(
    folder: Path,
    *arguments: str,
    app: str = APP % "first",
    launcher: Sequence[str] = (),
    **options: Any,
) -> Iterator[Reloading]:
    (folder / "web.py").write_text(app)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSGISERVER")}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH", "")]))
    bind = ("-b", "127.0.0.1:0", "--reload")
    with subprocess.Popen(
        [*launcher, sys.executable, "-m", "wsgiserver", *bind, *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        watchdog = threading.Timer(40, process.kill)
        watchdog.start()
        try:
            yield Reloading(folder, process)
        finally:
            watchdog.cancel()
            process.terminate()
            assert process.stderr is not None
            process.stderr.read()
            process.wait(30)


pytest.importorskip("watchfiles")


def test_an_edit_is_served(tmp_path: Path) -> None:
    with reloading(tmp_path, "web:app", "--pid", "server.pid") as server:
        assert server.get() == b"first"
        assert (tmp_path / "server.pid").read_text() == f"{server.process.pid}\n"
        server.edit(APP % "second one")
        server.wait_for(r"web\.py\b.* changed, starting anew")
        server.wait_for("listening on")
        assert server.get() == b"second one"
    assert server.process.returncode == 0
    assert not (tmp_path / "server.pid").exists()


def test_a_broken_edit_waits_for_the_next_and_the_port_stays_open(tmp_path: Path) -> None:
    with reloading(tmp_path, "web:app") as server:
        server.edit("def app(:\n")
        server.wait_for(r"^SyntaxError: ")
        server.wait_for(r"^Error: 'web' cannot be imported: SyntaxError")
        server.wait_for(r"the server ended with exit status 3; waiting for a change")
        connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/")  # accepted by the kernel, while nobody serves
        server.edit(APP % "mended at last")
        server.wait_for("listening on")
        assert connection.getresponse().read() == b"mended at last"
        connection.close()
    assert server.process.returncode == 0


def test_new_modules_and_extra_files_count_and_others_do_not(tmp_path: Path) -> None:
    (tmp_path / "pages" / "deep").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    with reloading(tmp_path, "web:app", "--reload-extra-file", "pages/**/*.html") as server:
        server.edit("note", "note.txt")
        server.edit("x = 1", ".venv/skipped.py")
        server.edit("<p>", "pages/deep/a.html")
        changed = server.wait_for(r"\] (.*a\.html.*) changed, starting anew")[1]
        assert "pages/deep/a.html" in changed
        assert "note" not in changed
        assert "skipped" not in changed
        server.wait_for("listening on")
        server.edit("x = 1", "later.py")
        server.wait_for(r"later\.py\b.* changed, starting anew")
        server.wait_for("listening on")
        (tmp_path / "package").mkdir()
        server.edit("x = 1", "package/inside.py")
        server.wait_for(r"package/inside\.py\b.* changed, starting anew")
        server.wait_for("listening on")
        (tmp_path / "package" / "inside.py").unlink()
        server.wait_for(r"package/inside\.py\b.* changed, starting anew")
        server.wait_for("listening on")


@pytest.mark.skipif(sys.platform != "linux", reason="needs F_SETSIG")
@pytest.mark.parametrize("model", ["threadpool", "gevent", "process"])
def test_the_server_does_not_outlive_a_parent_that_was_killed(tmp_path: Path, model: str) -> None:
    if model == "gevent":
        pytest.importorskip("gevent")
    with reloading(tmp_path, "web:app", "-k", model) as server:
        assert server.get() == b"first"
        server.process.kill()
        server.wait_for("stopped$")
        assert server.process.stderr is not None
        server.process.stderr.read()  # its end is the end of the last process that has it open
        with pytest.raises(ConnectionRefusedError):
            server.get()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "inner").mkdir()
    with reloading(tmp_path, "web:app", "-b", "unix:inner.sock", "--chdir", ".") as server:
        server.edit(APP % "another")
        child = int(server.wait_for(r"\[(\d+)\] \[INFO\] listening on unix:")[1])
        assert child != server.process.pid
        os.kill(server.process.pid, number)
        assert server.process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not (tmp_path / "inner.sock").exists()


SLOW = """
import time
def app(environ, start_response):
    with open(environ["PATH_INFO"], "w") as fifo:
        fifo.write("ready")
    time.sleep(1)
    start_response("200 OK", [("Content-Length", "8")])
    return [b"finished"]
"""


OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_ctrl_c_reaches_the_server_once(tmp_path: Path) -> None:
    """The terminal signals parent and server; were it told again, that would end it at once."""
    import pty

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    master, terminal = pty.openpty()
    with reloading(
        tmp_path,
        "web:app",
        app=SLOW,
        stdin=terminal,
        start_new_session=True,
        launcher=(sys.executable, "-c", OWN_TERMINAL),
    ) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", str(fifo))
        assert fifo.read_text() == "ready"
        os.write(master, b"\x03")
        assert connection.getresponse().read() == b"finished"
        connection.close()
        assert server.process.wait(20) == 0
    os.close(terminal)
    os.close(master)


def test_what_no_edit_can_mend_ends_it(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "wsgiserver", "-b", "127.0.0.1:0", "--reload"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("Error: nothing to serve; ")
    assert result.stderr.count("\n") == 1


STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w") as fifo:
    fifo.write("ready")
while True:
    signal.pause()
"""


def test_a_server_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server = Child([sys.executable, "-c", STUBBORN, str(fifo)], [], str(tmp_path))
    server.start()
    assert fifo.read_text() == "ready"
    assert server.status() is None
    started = time.monotonic()
    server.stop(0.1)
    assert server.status() == -signal.SIGKILL
    assert time.monotonic() - started < 10


# --- which files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/p/a.py", True),
        ("/p/deep/er/a.py", True),
        ("/p/a.pyc", False),
        ("/p/.#a.py", False),
        ("/p/a.html", False),
        ("/p/venv/a.py", False),
        ("/p/deep/.git/a.py", False),
        ("/p/node_modules/x/a.py", False),
        ("/p/__pycache__/a.py", False),
        ("/q/.venv/project/a.py", True),
        ("/p/t/a.html", True),
        ("/p/t/x/y/a.html", True),
        ("/p/t/a.html~", False),
        ("/p/tt/a.html", False),
        ("/p/conf/a1.ini", True),
        ("/p/conf/ax.ini", False),
        ("/p/conf/x/a1.ini", False),
        ("/p/one.toml", True),
        ("/p/oneXtoml", False),
        ("/p/s/x.css", True),
        ("/p/s/y.css", False),
        ("/etc/app.conf", True),
    ],
)
def test_which_files_matter(tmp_path: Path, path: str, wanted: bool) -> None:
    """Below /p, which stands for the current folder, /q, and where patterns point to."""
    patterns = ["t/**/*.html", "conf/a[0-9].ini", "./one.toml", "s/[!y].css"]
    (tmp_path / "p" / "conf").mkdir(parents=True)
    project = tmp_path / "q" / ".venv" / "project"
    project.mkdir(parents=True)
    folder = str(tmp_path / "p")
    watched = Watched([folder, str(project)], [*patterns, f"{tmp_path}/etc/*.conf"], folder)
    assert watched.look() == []
    file = tmp_path / path[1:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    expected = [str(file)] if wanted else []
    assert watched.look() == expected
    assert watched.look() == []
    file.write_text("more")
    assert watched.look() == expected
    file.unlink()
    assert watched.look() == expected


def test_folders_are_watched_once_without_those_to_ignore(tmp_path: Path) -> None:
    for name in ("a/b", ".git/objects", "a/__pycache__", "elsewhere/linked"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "away").symlink_to(tmp_path / "elsewhere")
    watched = Watched([str(tmp_path / "a"), str(tmp_path / "a" / "b")], [], str(tmp_path))
    expected = ["a", "a/away", "a/away/linked", "a/b"]
    assert sorted(watched.folders) == [str(tmp_path / name) for name in expected]
    assert watched.concerns(str(tmp_path / "a" / "new.py"))
    assert not watched.concerns(str(tmp_path / "a" / "new.txt"))
    assert not watched.concerns(str(tmp_path / "a" / "__pycache__"))
    (tmp_path / "a" / "b" / "c").mkdir()
    assert watched.concerns(str(tmp_path / "a" / "b" / "c"))
    (tmp_path / "a" / "b" / "c" / "new.py").touch()
    assert watched.look() == [str(tmp_path / "a" / "b" / "c" / "new.py")]
    assert str(tmp_path / "a" / "b" / "c") in watched.folders


def test_the_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("project/inner", "lib", "linked", "env/site-packages/installed"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "env/site-packages/installed/__init__.py").touch()
    monkeypatch.chdir(tmp_path / "project")
    places = [tmp_path / "linked", tmp_path / "env/site-packages", tmp_path / "gone", sys.prefix]
    monkeypatch.setattr(sys, "path", list(map(str, places)))
    config = Config(pythonpath=("inner", "../lib"), app="installed:app")
    expected = ["project", "lib", "linked", "env/site-packages/installed"]
    assert sorted(roots(config)) == sorted(str((tmp_path / name).resolve()) for name in expected)
