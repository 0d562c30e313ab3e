"""The application behind StaticFiles in its tests."""

from __future__ import annotations

from typing import Any


def behind(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Say that the request came through."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"behind"]
