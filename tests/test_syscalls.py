"""Under `epoll` a keep-alive request is three system calls: epoll_wait, recvfrom, sendto."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.helpers import get
from tests.support.wire import Wire

ROOT: Final = Path(__file__).parent.parent
REQUESTS: Final = 100
SERVER: Final = """
import os
from tests.helpers import hello
from wsgiserver import WSGIServer
server = WSGIServer(hello, bind="127.0.0.1:0", worker_model="epoll")
server.bind()
print(os.getpid(), server.addresses[0][1], flush=True)
server.serve_forever()
"""
_CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*?)\) += (-?\d+|\?)(.*)")
# The allocator's: they belong to no request.
_MEMORY: Final = frozenset({"brk", "mmap", "munmap", "madvise", "mremap"})


def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([path, "-o", os.devnull, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip().splitlines()[-1]}")
    return path


def calls(trace: str) -> list[str]:
    """The names of the system calls from the first request's to the last answer's, in order.

    Without the turns of the loop in which nothing happened, and without the allocator's.
    """
    found = []
    for line in trace.splitlines():
        call = _CALL.match(line)
        if call is None or call[1] in _MEMORY:
            continue
        if call[1] in ("epoll_wait", "epoll_pwait"):
            if call[3] == "0":
                continue
            found.append("epoll_wait")
        else:
            found.append(call[1])
    first = found.index("recvfrom")
    last = len(found) - found[::-1].index("sendto")
    return found[first:last]


@pytest.mark.skipif(sys.platform != "linux", reason="epoll and strace are Linux's")
@pytest.mark.parametrize("kind", ["the same", "each another"])
def test_three_system_calls(kind: str, tmp_path: Path) -> None:
    heads = [get("/" if kind == "the same" else f"/{number}") for number in range(REQUESTS + 1)]
    found = traced(SERVER, heads, b"hello", tmp_path)
    # The first request comes with its connection, which costs accept4 and epoll_ctl besides.
    found = found[found.index("sendto") + 1 :]
    while found[0] != "epoll_wait":
        found.pop(0)
    print(f"{kind}: {dict(Counter(found))} for {REQUESTS} requests")
    assert found == ["epoll_wait", "recvfrom", "sendto"] * REQUESTS


@pytest.mark.skipif(sys.platform != "linux", reason="epoll and strace are Linux's")
def test_three_system_calls_for_a_file(tmp_path: Path) -> None:
    """A file that is asked for again costs no more; once a second it is looked at."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "file.txt").write_bytes(b"x" * 1024)
    script = SERVER.replace(
        "from tests.helpers import hello",
        f"from middleware import StaticFiles\nhello = StaticFiles({str(site)!r})",
    )
    found = traced(script, [get("/file.txt")] * (REQUESTS + 1), b"x" * 1024, tmp_path)
    exchanges = [each.strip() for each in " ".join(found).split("epoll_wait")[1:]]
    others = [each for each in exchanges if each != "recvfrom sendto"]
    print(f"{len(exchanges)} for {REQUESTS} requests; other than recvfrom, sendto: {others}")
    assert len(exchanges) == REQUESTS
    # Those are as many as there were seconds, and few: a hundred requests take no ten seconds.
    assert len(others) < 10
    assert all("open" in each for each in others)


def traced(script: str, heads: list[bytes], body: bytes, tmp_path: Path) -> list[str]:
    """The system calls of a server, for heads that are sent on one connection."""
    trace = tmp_path / "trace"
    server = subprocess.Popen(
        [strace(), "-f", "-qq", "-s", "16", "-o", str(trace), sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "", "PYTHONWARNINGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    pid = 0
    try:
        pid, port = map(int, server.stdout.readline().split())
        with Wire(("127.0.0.1", port)) as wire:
            for head in heads:
                wire.send(head)
                assert wire.reply().body == body
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.ended()
    finally:
        if pid:
            os.kill(pid, signal.SIGTERM)
        _, errors = server.communicate(timeout=20)
    assert server.returncode == 0, errors
    return calls(trace.read_text())
