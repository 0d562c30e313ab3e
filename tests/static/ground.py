"""What the tests of this folder share: a root with secrets beside it, and what an answer says."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from tests.support.wire import TIMEOUT, Reply

SECRET: Final = b"a secret of the outside"
OLD: Final = 1_700_000_000
LONG_NAME: Final = "n" * 251 + ".txt"
NO_UTF8: Final = b"caf\xe9.txt"
HUGE: Final = 3 << 30
# Names that mean something in HTML, in a URL, or to a browser.
HOSTILE: Final = (
    "<img src=x onerror=alert(0)>.txt",
    '"><script>alert(1)<&.txt',
    "javascript:alert(1)",
    "a&amp;b.txt",
    "q?.txt",
    "f#.txt",
    "%41.txt",
    "x:y.txt",
    "' onmouseover='alert(1).txt",
    "two  spaces .txt",
    "ünïcödé.txt",
)

T = TypeVar("T")


def lay_out(top: Path) -> Path:
    """Make the ground of these tests below `top`; the root that is served comes back.

    All that must never be served holds SECRET.
    """
    for name in ("outside.txt", "index.html", "root_secret/s.txt", "s/share/x.txt"):
        _write(top / name, SECRET)
    root = top / "root"
    for name, content in {
        "index.html": b"<title>home</title>",
        "a.txt": b"the file a",
        "x.txt": b"the file x",
        "app.js": b"let app;",
        "hundred.bin": bytes(range(100)),
        "linked.txt": b"plain and short",
        "empty.txt": b"",
        "sub/index.html": b"<title>sub</title>",
        "evil.com/index.html": b"<title>a folder with the name of a host</title>",
        "x:y/index.html": b"<title>a folder with a colon</title>",
        'q"><script>alert(1)/index.html': b"<title>a folder with markup</title>",
        "public/index.html": b"<title>public</title>",
        "css/site.css": b"body {}",
        "NUL": b"a name like any other on Linux",
        "private/x": SECRET,  # has a rule of its own, see _headers
        ".env": SECRET,
        ".git/config": SECRET,
        "sub/.htpasswd": SECRET,
        ".env.gz": SECRET,
        ".hidden.html": SECRET,
        "css/-config.env": SECRET,
        ".well-known/x": b"well known",
        LONG_NAME: b"a long name",
        "_headers": b"/app.js\n  X-Rule: obeyed\n/private/*\n  X-Private: yes\n",
        "folder/index.html/page.txt": b"in a directory named index.html",
        **{f"list/{name}": name.encode() for name in HOSTILE},
    }.items():
        _write(root / name, content)
    (root / "list/a folder & more").mkdir()
    (root / os.fsdecode(NO_UTF8)).write_bytes(b"a name in latin-1")
    for path in root.rglob("*"):
        os.utime(path, (OLD, OLD))
    _special(top, root)
    return root


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _special(top: Path, root: Path) -> None:
    """What is no regular file, what leads outside, and what is very large."""
    for suffix in ("gz", "br", "zst"):
        (root / f"linked.txt.{suffix}").symlink_to(top / "outside.txt")
    (root / "out.txt").symlink_to("../outside.txt")
    (root / "out-absolute.txt").symlink_to(top / "outside.txt")
    (root / "d").symlink_to("..")
    (root / "trap").mkdir()
    (root / "trap/index.html").symlink_to("../../outside.txt")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    (root / "zero").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        # The path of a socket may have 107 bytes, so it is named from its folder.
        folder = os.open(root, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{folder}/socket")
        finally:
            os.close(folder)
    with (root / "huge.bin").open("wb") as huge:
        huge.seek(HUGE - 4)
        huge.write(b"last")


def told(reply: Reply) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """All that an answer says but the time: to be compared with another."""
    fields = [pair for pair in reply.fields if pair[0] != "Date"]
    assert len(fields) == len(reply.fields) - 1, "not exactly one Date"
    return reply.status, reply.reason, fields, reply.body


def until(look: Callable[[], T], right: Callable[[T], bool], seconds: float = 3.0) -> T:
    """Look again and again until it is right, which it must be in so many seconds."""
    end = time.monotonic() + seconds
    while not right(seen := look()):
        assert time.monotonic() < end, f"after {seconds} s it is still {seen!r}"
        time.sleep(0.01)
    return seen


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def quiet(pid: int) -> int:
    """How many a process has open, once that did not change for a fifth of a second."""
    end, counts = time.monotonic() + TIMEOUT, [-1]
    while counts[-10:] != counts[-1:] * 10:
        assert time.monotonic() < end, f"it does not come to rest: {counts[-20:]}"
        time.sleep(0.02)
        counts.append(descriptors(pid))
    return counts[-1]


def settled(pid: int, most: int) -> int:
    """How many a process has open, once they are no more than `most`, or in the end."""
    end = time.monotonic() + TIMEOUT
    while (count := descriptors(pid)) > most and time.monotonic() < end:
        time.sleep(0.02)
    return count
