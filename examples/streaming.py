"""Plain WSGI: streamed text and server-sent events.

Run: wsgiserver --chdir examples streaming:app

Each open stream occupies what runs the application (a thread, a child, a greenlet) while it
lasts, so both are bounded. Under the models that run it in their loop, others wait meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from common import page, stream

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

TICKS: Final = 20

# Seconds between two ticks.
PAUSE = 0.5


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve the page, the text and the events (PEP 3333)."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return _text(start_response, "405 Method Not Allowed", ("Allow", "GET, HEAD"))
    match environ["PATH_INFO"]:
        case "/":
            kind = "text/html; charset=utf-8"
            body: Iterable[bytes] = [page("streaming.html", "Streaming", ticks=str(TICKS)).encode()]
        case "/text":
            kind, body = "text/plain; charset=utf-8", stream()
        case "/events":
            kind, body = "text/event-stream", events(_seen(environ))
        case _:
            return _text(start_response, "404 Not Found")
    # no-store: neither a cache nor a proxy should collect a stream.
    start_response("200 OK", [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def events(seen: int) -> Iterator[bytes]:
    """Yield the ticks after number `seen`, then the end, as text/event-stream (HTML, 9.2)."""
    for number in range(seen + 1, TICKS + 1):
        if number > seen + 1:
            time.sleep(PAUSE)
        data = json.dumps({"number": number, "time": time.strftime("%H:%M:%S")})
        yield f"id: {number}\nevent: tick\ndata: {data}\n\n".encode()
    yield b"event: end\ndata: that was the last\n\n"


def _seen(environ: WSGIEnvironment) -> int:
    """Return the number of the last tick a resuming client has, 0 for a new one."""
    last = environ.get("HTTP_LAST_EVENT_ID", "")
    return min(int(last), TICKS) if last.isascii() and last.isdigit() and len(last) < 9 else 0


def _text(start_response: StartResponse, status: str, *more: tuple[str, str]) -> list[bytes]:
    body = f"{status}\n".encode()
    kind = ("Content-Type", "text/plain; charset=utf-8")
    start_response(status, [kind, ("Content-Length", str(len(body))), *more])
    return [body]
