"""An application's status and header list, judged and turned into the bytes of a response head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wsgiserver.http import grammar
from wsgiserver.http.framing import has_body
from wsgiserver.http.head import tokens


class ResponseError(ValueError):
    """The application broke PEP 3333 or RFC 9110 with what it answered; the text says where."""


# RFC 9110 §7.6.1, PEP 3333 "Other HTTP Features": these belong to the connection, which is the
# server's. Connection: close is obeyed, everything else of them is left out.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class ResponseHead:
    """The part of a response's head that depends on status and headers alone.

    `code` is the status as a number; `prefix` the bytes up to and with the Server field, without
    Date and framing; `length` the Content-Length that the application declared; `bodyless` whether
    the status allows no content; `close` whether the application asked to close the connection;
    `dated` whether it sent a Date of its own; `dropped` names the hop-by-hop fields that were left
    out.
    """

    __slots__ = (
        "bodyless",
        "close",
        "code",
        "dated",
        "dropped",
        "headers",
        "length",
        "prefix",
        "status",
    )

    def __init__(self, status: str, headers: Sequence[tuple[str, str]], server: str) -> None:
        """:raises ResponseError: a status, name or value that must not go on the wire."""
        self.status = status
        self.headers = tuple(headers)
        self.code = _code(status)
        self.bodyless = not has_body(self.code)
        self.length: int | None = None
        self.close = self.dated = False
        self.dropped: tuple[str, ...] = ()
        # RFC 9112 §4: the space behind the code is there even if no reason follows.
        lines = [f"HTTP/1.1 {status}" if len(status) > 3 else f"HTTP/1.1 {status} "]
        served = False
        for name, value in headers:
            _check_field(name, value)
            lower = name.lower()
            if lower in _HOP_BY_HOP:
                self._hop_by_hop(lower, name, value)
                continue
            if lower == "content-length":
                self._declare(value)
                if self.bodyless and self.code != 304:  # RFC 9110 §8.6
                    continue
            elif lower == "date":
                self.dated = True
            elif lower == "server":
                served = True
            lines.append(f"{name}: {value}")
        if server and not served:
            lines.append(f"Server: {server}")
        self.prefix = ("\r\n".join(lines) + "\r\n").encode("latin-1")

    def _hop_by_hop(self, lower: str, name: str, value: str) -> None:
        if lower == "connection" and tokens(value) == ["close"]:
            self.close = True
        else:
            self.close = self.close or (lower == "connection" and "close" in tokens(value))
            self.dropped += (name,)

    def _declare(self, value: str) -> None:
        if not grammar.CONTENT_LENGTH.fullmatch(value):
            raise ResponseError(f"Content-Length {value!r} is not a number of bytes")
        if self.length is not None:
            raise ResponseError("Content-Length is there twice")
        self.length = int(value)


def _code(status: str) -> int:
    if not isinstance(status, str):
        raise ResponseError(f"the status is {type(status).__name__}, not str")
    match = grammar.STATUS.fullmatch(status)
    if match is None:
        raise ResponseError(f"the status {status!r} is not a final status like '200 OK'")
    return int(match[1])


def _check_field(name: str, value: str) -> None:
    if not (isinstance(name, str) and isinstance(value, str)):
        raise ResponseError(f"the header {name!r}: {value!r} is not a pair of str")
    if not grammar.FIELD_NAME.fullmatch(name):
        raise ResponseError(f"the header name {name!r} is not a token")
    if not grammar.FIELD_VALUE.fullmatch(value):
        raise ResponseError(
            f"the value of the header {name!r} has a control character or one outside latin-1"
        )


def field_lines(headers: Sequence[tuple[str, str]]) -> bytes:
    """The fields of an interim response (RFC 8297), each with its CRLF.

    :raises ResponseError: a name or value that must not go on the wire.
    """
    lines = []
    for name, value in headers:
        _check_field(name, value)
        if name.lower() in _HOP_BY_HOP or name.lower() == "content-length":
            raise ResponseError(f"the header {name!r} does not belong into an interim response")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")
