"""What is built and installed, sdist, wheel and command, and that importing it is portable."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

from wsgiserver import __version__

ROOT: Final = Path(__file__).parent.parent
# The tools' own warnings are not what is tested.
QUIET: Final = {k: v for k, v in os.environ.items() if k not in ("PYTHONDEVMODE", "PYTHONWARNINGS")}


def run(*command: str | Path, cwd: Path) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=QUIET, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# --- the distribution -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel(tmp_path: Path) -> None:
    """Built from the sdist, it has what it should and no more, and works where it is installed."""
    wheel = built(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        check_contents(archive.namelist())
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        check_metadata(email.message_from_bytes(archive.read(name)))
    check_command(installed(wheel, tmp_path), tmp_path)


def built(folder: Path) -> Path:
    """The wheel, built in a copy of the tree, so that nothing is left in the tree."""
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    unneeded = shutil.ignore_patterns("__pycache__", "build", "results")
    for name in ("wsgiserver", "middleware", "tests", "html", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=unneeded)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, cwd=source)
    assert (folder / f"wsgiserver-{__version__}.tar.gz").is_file()
    return folder / f"wsgiserver-{__version__}-py3-none-any.whl"


def check_contents(names: list[str]) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("wsgiserver", "middleware")
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert {"wsgiserver/py.typed", "middleware/py.typed"} <= expected
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("/LICENSE") for name in names)


def check_metadata(metadata: email.message.Message) -> None:
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License"] == "MIT"
    extras = {"compress", "gevent", "reload", "all", "dev"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.rstrip("0123456789.>= ").lower() for line in needed) == ["click", "werkzeug"]


def installed(wheel: Path, folder: Path) -> Path:
    """The programs of a fresh environment with the wheel; its dependencies are those of ours."""
    home = folder / "venv"
    venv.create(home, symlinks=True)
    programs = home / "bin"
    python = programs / "python"
    options = ("install", "--no-deps", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, *options, wheel, cwd=folder)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # Behind its own packages, and without reading the .pth files there, one of which is our tree's.
    Path(site.strip(), "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def check_command(programs: Path, folder: Path) -> None:
    places = "import middleware, wsgiserver; print(middleware.__file__, wsgiserver.__file__)"
    for place in run(programs / "python", "-c", places, cwd=folder).split():
        assert Path(place).is_relative_to(programs.parent)
    assert run(programs / "wsgiserver", "--version", cwd=folder) == f"wsgiserver {__version__}\n"
    (folder / "web.py").write_text("def app(environ, start_response):\n    return []\n")
    (folder / "html").mkdir()
    checked = ("web:app", "--documents-root", "html", "--check-config")
    assert "configuration ok" in run(programs / "wsgiserver", *checked, cwd=folder)


# --- importing ------------------------------------------------------------------------------------

ELSEWHERE: Final = """\
import importlib, logging.config, os, select, signal, socket, subprocess, sys, tempfile, threading
import click, werkzeug.http

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "grp", "pwd", "resource", "syslog", "termios"}:
            raise ModuleNotFoundError(f"this system has no {name}", name=name)

sys.meta_path.insert(0, Lacking())
for name in "fcntl grp pwd resource syslog termios".split():
    sys.modules.pop(name, None)
for module, names in {
    os: "fork getuid geteuid getgid kill sendfile pread register_at_fork waitpid "
        "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK openpty initgroups fchown WNOHANG",
    select: "epoll kqueue poll",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIGWINCH "
        "pthread_sigmask",
    socket: "AF_UNIX SO_REUSEPORT MSG_DONTWAIT MSG_MORE MSG_NOSIGNAL socketpair CMSG_LEN",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

from wsgiserver import *
import middleware
for name in sys.argv[1:]:
    importlib.import_module(name)
print(WSGIServer.__name__)
"""
# The two models whose file may need what a platform lacks: they are imported when they are chosen.
MAY_LACK: Final = {"wsgiserver.workers.gevent", "wsgiserver.workers.process"}


def test_importing_needs_nothing_that_only_posix_has(tmp_path: Path) -> None:
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("wsgiserver", "middleware")
        for path in (ROOT / package).rglob("*.py")
    }
    assert names > MAY_LACK
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{ELSEWHERE}"
    printed = run(sys.executable, "-c", code, *sorted(names - MAY_LACK), cwd=tmp_path)
    assert printed == "WSGIServer\n"


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    """`import wsgiserver` alone brings in nothing of its own, let alone of others."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n"
        "import wsgiserver; new = sys.modules.keys() - before\n"
        "print(*sorted(n for n in new if n.partition('.')[0] not in sys.stdlib_module_names))"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path) == "wsgiserver\n"
