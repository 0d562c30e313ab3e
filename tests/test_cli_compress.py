"""`wsgiserver compress` as users start it: how it is reached, what it lacks, how it is stopped."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.serving import Command
from tests.support.browser import Browser, needed
from tests.test_cli import environment

TEXT: Final = b"a { color: red }\n" * 100
APP: Final = "def app(environ, start_response):\n    raise SystemExit\n"
BLOCKED: Final = "raise ImportError('not here')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.css").write_bytes(TEXT)
    return tmp_path


def run(
    folder: Path, *arguments: str, module: str = "wsgiserver", path: str = ""
) -> subprocess.CompletedProcess[str]:
    env = environment()
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**env, "PYTHONPATH": os.pathsep.join(filter(None, [path, env["PYTHONPATH"]]))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def siblings(folder: Path) -> set[str]:
    return {path.name for path in (folder / "site").iterdir()} - {"a.css"}


# --- how it is reached ----------------------------------------------------------------------------


def test_the_module_is_the_same_command(folder: Path) -> None:
    results = [
        run(folder, "compress", "site", "--dry-run", "--coding", "gzip"),
        run(folder, "site", "--dry-run", "--coding", "gzip", module="middleware.compress"),
    ]
    first, second = (result.stdout.rpartition(", ")[0] for result in results)  # without the seconds
    assert first == second
    assert first.startswith("gzip      1 made: 1.7 kB -> ")
    assert [(result.returncode, result.stderr) for result in results] == [(0, "")] * 2


def test_an_application_named_compress_is_still_served(folder: Path) -> None:
    (folder / "compress.py").write_text(APP)
    for words in (["compress:app", "--check-config"], ["--check-config", "compress"]):
        result = run(folder, *words)
        assert result.stdout.startswith("configuration ok: compress")
        assert (result.returncode, result.stderr) == (0, "")
    assert "Missing argument 'DIR'" in run(folder, "compress").stderr


def test_the_applications_module_named_middleware_is_not_in_the_way(folder: Path) -> None:
    (folder / "middleware.py").write_text("raise RuntimeError('not ours')\n")
    result = run(folder, "compress", "site", "--coding", "gzip", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert siblings(folder) == {"a.css.gz"}


def test_the_help_of_both_commands(folder: Path) -> None:
    assert "wsgiserver compress DIR" in " ".join(run(folder, "--help").stdout.split())
    result = run(folder, "compress", "--help")
    assert result.stdout.startswith("Usage: wsgiserver compress [OPTIONS] DIR\n")
    assert (result.returncode, result.stderr) == (0, "")


# --- what is not installed ------------------------------------------------------------------------


def test_what_is_not_installed_is_one_line_and_the_rest_is_made(folder: Path) -> None:
    lib = folder / "lib"
    lib.mkdir()
    for package in ("brotli", "zstandard"):
        (lib / f"{package}.py").write_text(BLOCKED)
    result = run(folder, "compress", "site", path=str(lib))
    if sys.version_info >= (3, 14):  # zstd is in the standard library
        told, suffixes = "not installed, so not made: br (pip install brotli)", {".zst", ".gz"}
    else:
        told = "not installed, so not made: br, zstd (pip install brotli zstandard)"
        suffixes = {".gz"}
    assert result.stdout.splitlines()[0] == told
    assert (result.returncode, result.stderr) == (0, "")
    assert siblings(folder) == {f"a.css{suffix}" for suffix in suffixes}


def test_asked_for_it_is_refused_with_what_to_install(folder: Path) -> None:
    (folder / "brotli.py").write_text(BLOCKED)
    result = run(folder, "compress", "site", "--coding", "br", "--coding", "gzip")
    assert result.stderr == (
        "Error: br needs the brotli package, which is not installed: pip install brotli\n"
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert siblings(folder) == set()


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_large_file_is_compressed(
    folder: Path, number: signal.Signals, status: int
) -> None:
    """It does not wait for the file, which would take minutes, and leaves nothing of it."""
    pytest.importorskip("brotli")
    (folder / "site" / "large.txt").write_bytes(os.urandom(20_000_000).hex().encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "wsgiserver", "compress", "site", "--coding", "br", "--jobs", "2"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        # The small file is done by the second thread while the first has begun with the large one.
        while "a.css.br" not in siblings(folder):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == status
    assert b"Traceback" not in err
    assert siblings(folder) == {"a.css.br", "large.txt"}


def test_a_full_disk_is_told_once(folder: Path) -> None:
    """On a file system of 320 kB, in name spaces of the command's own."""
    script = 'mount -t tmpfs -o size=320k none "$0" && cp -r site/. "$0" && exec "$@"'
    enclosed = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    (folder / "disk").mkdir()
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*enclosed, script, "disk", "true"], cwd=folder, capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system of our own can be mounted here")
    for number in range(8):
        path = folder / "site" / f"{number}.txt"
        path.write_bytes(os.urandom(15_000).hex().encode())  # halved by gzip: 240 kB and 120 kB
    command = [sys.executable, "-m", "wsgiserver", "compress", "disk", "--jobs", "1"]
    listing = '"$@"; status=$?; ls -A "$0"; exit $status'
    result = subprocess.run(
        [*enclosed, script, "disk", "sh", "-c", listing, "disk", *command, "--coding", "gzip"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr.endswith(": No space left on device\n")
    assert result.stderr.count("\n") == 1
    assert "not reached" in result.stdout
    assert ".compress-" not in result.stdout


def test_a_file_that_cannot_be_read_is_told_and_the_rest_is_done(folder: Path) -> None:
    site = folder / "site"
    (site / "b.css").write_bytes(TEXT)
    (site / "b.css.gz").mkdir()  # in the way, for root too
    (site / "deep").mkdir()
    if os.geteuid():
        (site / "deep").chmod(0)
    result = run(folder, "compress", "site", "--coding", "gzip")
    lines = ["Error: b.css.gz: in the way, since it is no regular file"]
    lines += ["Error: deep: Permission denied"] if os.geteuid() else []
    (site / "deep").chmod(0o700)
    assert sorted(result.stderr.splitlines()) == sorted(lines)
    assert result.returncode == 1
    assert gzip.decompress((site / "a.css.gz").read_bytes()) == TEXT
    assert "gzip      1 made" in result.stdout


# --- what is made of it ---------------------------------------------------------------------------


@needed
def test_a_browser_reads_what_is_made(folder: Path) -> None:
    """All three, with the mark that is in each."""
    codings = {"br": "br", "zstd": "zst", "gzip": "gz"}
    lines = "".join(f"<p>line {number}</p>" for number in range(20_000))
    for coding in codings:
        (folder / "site" / f"{coding}.html").write_text(f"<!doctype html><title>t</title>{lines}")
    assert run(folder, "compress", "site").returncode == 0
    for coding in codings:
        for other in codings.keys() - {coding}:
            (folder / "site" / f"{coding}.html.{codings[other]}").unlink(missing_ok=True)
    found = [
        coding for coding, end in codings.items() if f"{coding}.html.{end}" in siblings(folder)
    ]
    with (
        Command("--documents-root", str(folder / "site")) as server,
        Browser(folder / "profile") as browser,
    ):
        for coding in found:
            browser.visit(f"{server.url}/{coding}.html")
            assert browser.document()["headers"]["content-encoding"] == coding
            assert browser.run("document.body.lastChild.textContent") == "line 19999"
            assert browser.run("document.body.childElementCount") == 20_000
        assert browser.troubles() == []
    assert "gzip" in found
