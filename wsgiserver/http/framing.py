"""Who delimits what: the body of a request, the body of a response, the life of a connection.

Every rule here decides where one message ends and the next begins. A doubt is refused, never
guessed at: two readers that guess differently are request smuggling (RFC 9112 §11.2).
"""

from __future__ import annotations

from typing import Final

from wsgiserver.http import grammar
from wsgiserver.http.body import Chunked, Decoder, Sized
from wsgiserver.http.errors import (
    BadRequest,
    ContentTooLarge,
    ExpectationFailed,
    MethodNotImplemented,
)
from wsgiserver.http.head import Fields, RequestLine, tokens, valid_host


def check_head(line: RequestLine, fields: Fields) -> None:
    """The rules that bind the request line and the fields together.

    :raises BadRequest: HTTP/1.1 without exactly one valid Host (RFC 9112 §3.2; that there are not
        two, `parse_fields` saw to). :raises MethodNotImplemented: CONNECT (RFC 9110 §9.3.6: an
        origin server is not a tunnel).
    """
    host = fields.environ.get("HTTP_HOST")
    if host is None:
        if line.minor:
            raise BadRequest("an HTTP/1.1 request needs a Host field.")
    elif not valid_host(host):
        raise BadRequest("the Host field is not a valid host and port.")
    if line.method == "CONNECT":
        raise MethodNotImplemented("this server is not a proxy.")


def request_body(minor: int, fields: Fields, most: int) -> Decoder | None:
    """The decoder of the request's body; None if it has none (RFC 9112 §6.3).

    :param minor: the digit after `HTTP/1.`. :param most: the largest body in bytes, 0 = no limit.
    :raises BadRequest: Transfer-Encoding and Content-Length together, Transfer-Encoding in
        HTTP/1.0, codings that do not end in one `chunked`, a Content-Length that is not digits.
    :raises MethodNotImplemented: a transfer coding other than chunked (§6.1).
    :raises ContentTooLarge: a Content-Length over `most`.
    """
    environ = fields.environ
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    length = environ.get("CONTENT_LENGTH")
    if coding is not None:
        _check_coding(coding, length, minor)
        return Chunked(most)
    if length is None:
        return None
    if not grammar.CONTENT_LENGTH.fullmatch(length):
        raise BadRequest("Content-Length is not a number of bytes.")
    size = int(length)
    if most and size > most:
        raise ContentTooLarge(f"the body is over {most} bytes.")
    return Sized(size) if size else None


def announces_body(fields: Fields) -> bool:
    """Whether a body follows the head, of whatever length (RFC 9112 §6)."""
    return "CONTENT_LENGTH" in fields.environ or "HTTP_TRANSFER_ENCODING" in fields.environ


def _check_coding(coding: str, length: str | None, minor: int) -> None:
    if length is not None:
        raise BadRequest("Transfer-Encoding and Content-Length exclude each other.")
    if minor == 0:
        raise BadRequest("Transfer-Encoding does not exist in HTTP/1.0.")
    names = tokens(coding)
    if names[-1] != "chunked" or "chunked" in names[:-1]:
        raise BadRequest("Transfer-Encoding does not end in one 'chunked'.")
    if len(names) > 1:
        raise MethodNotImplemented("the only transfer coding of this server is chunked.")


def expects_continue(minor: int, fields: Fields) -> bool:
    """Whether the client waits for 100 (Continue) before it sends the body (RFC 9110 §10.1.1).

    :raises ExpectationFailed: it expects anything else. An HTTP/1.0 client's Expect is ignored.
    """
    expect = fields.environ.get("HTTP_EXPECT")
    if expect is None or minor == 0:
        return False
    if expect.lower() != "100-continue":
        raise ExpectationFailed("the only expectation known here is 100-continue.")
    return True


def keep_alive(minor: int, fields: Fields) -> bool:
    """Whether the connection outlives this exchange, as far as the client goes (RFC 9112 §9.3)."""
    return not fields.close and (minor > 0 or fields.keep_alive)


# RFC 9110 §6.4.1, §15: responses that never have content. 205 may say so with Content-Length: 0.
_BODYLESS: Final = frozenset({204, 205, 304})


def has_body(status: int) -> bool:
    """Whether an answer of this status to a method other than HEAD has content."""
    return status not in _BODYLESS


CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"


def response_fields(
    minor: int, status: int, length: int | None, declared: bool, keep: bool, head_only: bool
) -> tuple[bytes, bool, bool]:
    """The framing fields of a response (RFC 9112 §6.3), by what is known when it begins.

    :param length: of the content, None if unknown. :param declared: the application's own fields
        hold the length already. :param keep: whether the connection may go on.
    :param head_only: it answers HEAD; an application that then yields nothing said nothing of the
        length that GET would have, so neither does the server (RFC 9110 §8.6).
    :returns: the field lines, whether the body is chunked, whether the connection goes on.
    """
    lines, chunked = b"", False
    if status in _BODYLESS:
        if status == 205:
            lines = b"Content-Length: 0\r\n"
    elif head_only and not declared and not length:
        pass
    elif length is not None:
        if not declared:
            lines = b"Content-Length: %d\r\n" % length
    elif minor:
        lines, chunked = CHUNKED, True
    else:
        keep = False
    if not keep:
        lines += CLOSE
    elif minor == 0:
        lines += KEEP_ALIVE
    return lines, chunked, keep
