"""A site on disk with everything that may go wrong beside it, and a strict way to ask for it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

SECRET = b"secret of the outside"


@dataclass
class Reply:
    """What a WSGI application answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    errors: str


Ask = Callable[..., Reply]


@pytest.fixture
def ask() -> Ask:
    """ask(app, target, method="GET", **environ): call `app` behind wsgiref's validator."""
    return _ask


def _ask(app: Any, target: str = "/", method: str = "GET", **extra: Any) -> Reply:
    path, _, query = target.partition("?")
    errors = io.StringIO()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "wsgi.errors": errors,
        **extra,
    }
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        started.append((status, headers))
        return lambda data: None

    result = validator(app)(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        result.close()  # type: ignore[attr-defined]
    ((status, pairs),) = started
    headers = dict(pairs)
    assert len(headers) == len(pairs), "a header was sent twice"
    return Reply(int(status[:3]), headers, body, errors.getvalue())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in its one element, for the caches; for applications that are made after it."""
    now = [1000.0]
    for module in ("site", "static", "entries"):
        monkeypatch.setattr(f"middleware.{module}.monotonic", lambda: now[0])
    return now


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The root of a site; its parent holds what must never be served."""
    (tmp_path / "outside.txt").write_bytes(SECRET)
    (tmp_path / "index.html").write_bytes(SECRET)
    (tmp_path / "root_secret").mkdir()
    (tmp_path / "root_secret" / "s.txt").write_bytes(SECRET)
    root = tmp_path / "root"
    root.mkdir()
    (root / "index.html").write_text("<!doctype html><title>home</title>")
    (root / "a.txt").write_bytes(b"0123456789" * 10)
    (root / "empty.txt").write_bytes(b"")
    (root / "big.bin").write_bytes(bytes(range(256)) * 800)
    (root / "sub").mkdir()
    (root / "sub" / "index.html").write_text("<!doctype html><title>sub</title>")
    (root / "sub" / ".htpasswd").write_bytes(SECRET)
    (root / "bare").mkdir()
    (root / "bare" / "b.txt").write_bytes(b"b")
    (root / ".env").write_bytes(SECRET)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(SECRET)
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_bytes(b"Contact: mailto:a@b.example\n")
    (root / ".well-known" / ".hidden").write_bytes(SECRET)
    old = 1_700_000_000
    for path in root.rglob("*"):
        os.utime(path, (old, old))
    return root
