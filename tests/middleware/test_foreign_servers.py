"""StaticFiles over sockets under waitress and gunicorn: ranges and framing with their wrappers."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import middleware

Port = int

SERVERS = {
    "waitress": ["waitress", "--listen=127.0.0.1:0"],
    "gunicorn-sync": ["gunicorn", "-b", "127.0.0.1:0"],
    "gunicorn-gthread": ["gunicorn", "-b", "127.0.0.1:0", "-k", "gthread", "--threads", "2"],
    "gunicorn-no-sendfile": ["gunicorn", "-b", "127.0.0.1:0", "--no-sendfile"],
}


@pytest.fixture(scope="module", params=list(SERVERS))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Port, Path]]:
    top = tmp_path_factory.mktemp("foreign")
    root = top / "root"
    root.mkdir()
    (root / "index.html").write_text("<title>home</title>")
    (root / "small.txt").write_bytes(b"0123456789")
    (root / "big.bin").write_bytes(bytes(range(256)) * 800)
    (top / "site_app.py").write_text(
        f"from middleware import StaticFiles\n\napp = StaticFiles({str(root)!r})\n"
    )
    # The servers' own warnings are not what is tested.
    quiet = {k: v for k, v in os.environ.items() if k not in ("PYTHONDEVMODE", "PYTHONWARNINGS")}
    path = os.pathsep.join([str(Path(middleware.__file__).parents[1]), str(top)])
    process = subprocess.Popen(
        [sys.executable, "-m", *SERVERS[request.param], "site_app:app"],
        stderr=subprocess.PIPE,
        text=True,
        env={**quiet, "PYTHONPATH": path},
    )
    with process:
        try:
            yield _port(process), root
        finally:
            process.terminate()
            process.wait(20)


def _port(process: subprocess.Popen[str]) -> Port:
    """The port that the server names in its log; what it logs later is few lines and may stay."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("the server did not start")


Answer = tuple[int, dict[str, str], bytes]


def fetch(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str
) -> Answer:
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    response = connection.getresponse()
    fields = {name.lower(): value for name, value in response.getheaders()}
    return response.status, fields, response.read()


def test_answers_stay_framed(server: tuple[Port, Path]) -> None:
    """One connection (where the server keeps it): each answer ends where the next begins."""
    port, root = server
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        ask_everything(client, (root / "big.bin").read_bytes())


def ask_everything(connection: http.client.HTTPConnection, big: bytes) -> None:
    status, headers, body = fetch(connection, "/big.bin")
    assert (status, body) == (200, big)
    etag = headers["etag"]
    for value, start, stop in [
        ("bytes=1000-150999", 1000, 151_000),  # streamed
        ("bytes=100-", 100, len(big)),
        ("bytes=-70000", len(big) - 70_000, len(big)),
        ("bytes=0-99999", 0, 100_000),
        ("bytes=204799-204799", 204_799, 204_800),  # read at once
    ]:
        status, headers, body = fetch(connection, "/big.bin", Range=value)
        assert (status, body) == (206, big[start:stop])
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(big)}"
        assert headers["content-length"] == str(stop - start)
    status, headers, body = fetch(connection, "/big.bin", "HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(big)), b"")
    assert fetch(connection, "/big.bin", If_None_Match=etag)[::2] == (304, b"")
    assert fetch(connection, "/big.bin", Range="bytes=999999-")[0] == 416
    assert fetch(connection, "/missing")[0] == 404
    assert fetch(connection, "/%2e%2e/%2e%2e/etc/passwd")[0] == 404
    assert fetch(connection, "/", "POST")[0] == 405
    assert fetch(connection, "/", "OPTIONS")[::2] == (204, b"")
    assert fetch(connection, "/small.txt")[::2] == (200, b"0123456789")
    assert fetch(connection, "/")[2] == b"<title>home</title>"
