"""The applications that every server is measured with; they import nothing of any server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

GREETING = b"Hello, world!\n"
_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(GREETING)))]


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer any request with `GREETING`."""
    start_response("200 OK", list(_HEADERS))
    return [GREETING]


def count(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the request's body and answer with its length in decimal."""
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = b"%d\n" % len(environ["wsgi.input"].read(size))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def __getattr__(name: str) -> object:
    """`flask_hello`: a Flask application; Flask is imported only where it is asked for."""
    if name != "flask_hello":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flask import Flask

    flask_hello = Flask(__name__)
    flask_hello.add_url_rule("/", "hello", GREETING.decode)
    globals()[name] = flask_hello
    return flask_hello
