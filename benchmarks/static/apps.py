"""WhiteNoise and ServeStatic as applications, over the folder that $BENCHMARKS_ROOT names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_BODY = b"Not Found\n"


def not_found(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What they hand on what they have no file for."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(_BODY)))]
    start_response("404 Not Found", headers)
    return [_BODY]


def __getattr__(name: str) -> object:
    """`whitenoise` and `servestatic`: made when asked for, with their defaults."""
    classes = {"whitenoise": "WhiteNoise", "servestatic": "ServeStatic"}
    if name not in classes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = getattr(import_module(name), classes[name])(not_found, root=os.environ["BENCHMARKS_ROOT"])
    globals()[name] = app
    return app
