"""The files that are served: random bytes of a fixed seed, an hour old, in a folder made for it."""

from __future__ import annotations

import gzip
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# All files lie in this folder of the root, for not every peer can mount files at /.
FOLDER: Final = "static"
KIB: Final = 1024
MANY: Final = 100
_SEED: Final = 9110
_AGE: Final = 3600  # s: older than any server would wait before it trusts a time stamp
_PER_FOLDER: Final = 1000


@dataclass(frozen=True, slots=True)
class Site:
    """The root, and the content of each file by its URL path."""

    root: Path
    bodies: dict[str, bytes]


def make_site(root: Path) -> Site:
    """Write the files of all workloads into a new folder `root`."""
    source = random.Random(_SEED)
    text = source.randbytes(5 * KIB).hex().encode()
    bodies = {
        f"/{FOLDER}/small.html": source.randbytes(KIB),
        f"/{FOLDER}/medium.css": source.randbytes(10 * KIB),
        f"/{FOLDER}/large.bin": source.randbytes(100 * KIB),
        f"/{FOLDER}/huge.bin": source.randbytes(10 * KIB * KIB),
        f"/{FOLDER}/text.css": text,
        f"/{FOLDER}/text.css.gz": gzip.compress(text, mtime=0),
        **{many_path(number): source.randbytes(KIB) for number in range(MANY)},
    }
    for path, body in bodies.items():
        _write(Path(f"{root}{path}"), body)
    root.chmod(0o755)  # nginx's worker may be another user
    return Site(root, bodies)


def many_path(number: int | str) -> str:
    """The URL path of one of the many small files; "%03d" for wrk's pattern."""
    return f"/{FOLDER}/many/{number if isinstance(number, str) else f'{number:03d}'}.html"


def make_tree(root: Path, count: int) -> None:
    """Write `count` small files into a new folder `root`; see `tree_path` and `tree_body`."""
    for number in range(count):
        _write(Path(f"{root}{tree_path(number)}"), tree_body(number))
    root.chmod(0o755)


def tree_path(number: int) -> str:
    """The URL path of a file of the tree."""
    return f"/{FOLDER}/{number // _PER_FOLDER:03d}/{number:07d}.html"


def tree_body(number: int) -> bytes:
    """What it holds: about 100 bytes, no two alike."""
    return b"%0100d\n" % number


def tree_sample(count: int, asked: int) -> Iterator[int]:
    """The numbers of `asked` different files out of `count`, always the same, in no order."""
    return iter(random.Random(_SEED).sample(range(count), asked))


def _write(path: Path, body: bytes) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
    path.write_bytes(body)
    old = time.time() - _AGE
    os.utime(path, (old, old))
