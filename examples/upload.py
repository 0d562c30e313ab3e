"""Plain WSGI: upload with progress; the body is read in blocks and never held whole.

Run: wsgiserver --chdir examples upload:app
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from common import BLOCK, blocks, digest, page

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve the page, and answer an upload with its size and SHA-256 (PEP 3333)."""
    match environ["PATH_INFO"], environ["REQUEST_METHOD"]:
        case "/", "GET" | "HEAD":
            body = page("upload.html", "Upload with progress")
            answer = "200 OK", "text/html; charset=utf-8", body
        case "/upload", "POST" | "PUT":
            answer = _receive(environ)
        case "/" | "/upload" as path, _:
            allowed = "GET, HEAD" if path == "/" else "POST, PUT"
            return _send(environ, start_response, *_plain("405 Method Not Allowed"), allow=allowed)
        case _:
            answer = _plain("404 Not Found")
    return _send(environ, start_response, *answer)


def _receive(environ: WSGIEnvironment) -> tuple[str, str, str]:
    """Read the body and return status, media type and text of the answer."""
    length = environ.get("CONTENT_LENGTH", "")
    if length:
        found = digest(_sized(environ, int(length)))
        if found["size"] != int(length):
            return _plain("400 Bad Request", "the body ended early")
    elif environ.get("wsgi.input_terminated"):
        found = digest(blocks(environ["wsgi.input"]))  # chunked: the server knows where it ends
    elif "HTTP_TRANSFER_ENCODING" in environ:
        return _plain("411 Length Required", "this server does not tell where the body ends")
    else:
        found = digest([])
    return "200 OK", "application/json", json.dumps(found)


def _sized(environ: WSGIEnvironment, left: int) -> Iterator[bytes]:
    """Read `left` bytes; a server need not end wsgi.input there, so no more is asked for."""
    while left and (block := environ["wsgi.input"].read(min(BLOCK, left))):
        left -= len(block)
        yield block


def _plain(status: str, reason: str = "") -> tuple[str, str, str]:
    return status, "text/plain; charset=utf-8", f"{status}{reason and ': '}{reason}\n"


def _send(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: str,
    kind: str,
    text: str,
    allow: str = "",
) -> list[bytes]:
    body = text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start_response(status, headers + [("Allow", allow)] * bool(allow))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
