"""What the examples share: pages, a greeting, a digest and a stream, free of any framework."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from string import Template
from typing import Final, Protocol

BLOCK: Final = 64 * 1024  # bytes read at once

# Seconds between two lines of a stream: long enough to see them come one by one.
PAUSE = 0.05

_PAGES: Final = Path(__file__).parent / "pages"

_LINES: Final = (
    "One block is one line.\n",
    "Each leaves as soon as it is made,\n",
    "and the next one is made\n",
    "only when this one is on its way.\n",
    "A client that reads slowly\n",
    "slows this generator down,\n",
    "and one that goes away\n",
    "closes it.\n",
)


class Readable(Protocol):
    """What can be read in blocks, such as an uploaded file or wsgi.input."""

    def read(self, size: int, /) -> bytes: ...


def page(name: str, title: str, /, *, more: str = "", **values: str) -> str:
    """Return the HTML page made of the fragments `name` and `more`, in the common frame.

    The fragments' $names are filled with `values`, escaped.
    """
    escaped = {key: escape(value) for key, value in values.items()}
    body = "".join(_fragment(each).substitute(escaped) for each in (name, more) if each)
    return _fragment("shell.html").substitute(title=escape(title), body=body)


def _fragment(name: str) -> Template:
    return Template((_PAGES / name).read_text("utf-8"))


def framework_page(framework: str, *, more: str = "") -> str:
    """Return the page that posts the form, uploads a file and shows the stream."""
    return page("framework.html", f"{framework} on WSGI", more=more, framework=framework)


def greeting(name: str | None) -> str:
    """Return the answer to the form as plain text."""
    return f"Hello, {(name or '').strip() or 'stranger'}.\n"


def blocks(file: Readable) -> Iterator[bytes]:
    """Read `file` to its end in blocks of at most BLOCK bytes, never the whole at once."""
    while block := file.read(BLOCK):
        yield block


def digest(content: Iterable[bytes]) -> dict[str, int | str]:
    """Return the size in bytes and the SHA-256 (hex) of what comes in blocks."""
    size, sha256 = 0, hashlib.sha256()
    for block in content:
        size += len(block)
        sha256.update(block)
    return {"size": size, "sha256": sha256.hexdigest()}


def stream() -> Iterator[bytes]:
    """Yield a few lines of text, a moment apart."""
    for number, line in enumerate(_LINES):
        if number:
            time.sleep(PAUSE)
        yield line.encode()
