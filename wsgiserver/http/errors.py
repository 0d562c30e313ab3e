"""Refusals: each error carries the status it is answered with (RFC 9110 §15)."""

from __future__ import annotations

from typing import ClassVar


class HTTPError(Exception):
    """A request that the server answers itself.

    `detail` is one short sentence for the client and the log; it must not quote the request,
    so that nothing of the client's bytes is ever reflected.
    """

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "Internal Server Error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def status_line(self) -> str:
        """Status and reason as WSGI writes them: `400 Bad Request`."""
        return f"{self.status} {self.reason}"

    def answer(self, fields: bytes) -> tuple[bytes, bytes]:
        """Head and content of the answer, a small text in ASCII, after which the server closes.

        :param fields: the server's own field lines, each with its CRLF.
        """
        status = self.status_line
        content = f"{status}: {self.detail}\n".encode("ascii")
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n"
        )
        return b"%b%b\r\n" % (head.encode("ascii"), fields), content


class BadRequest(HTTPError):
    """Syntax or framing that RFC 9112 forbids (§15.5.1)."""

    status, reason = 400, "Bad Request"


class RequestTimeout(HTTPError):
    """The request was not complete in time (§15.5.9)."""

    status, reason = 408, "Request Timeout"


class ContentTooLarge(HTTPError):
    """The body is over `limit_request_body` (§15.5.14)."""

    status, reason = 413, "Content Too Large"


class URITooLong(HTTPError):
    """The request line is over `limit_request_line` (§15.5.15)."""

    status, reason = 414, "URI Too Long"


class ExpectationFailed(HTTPError):
    """An Expect other than 100-continue (§15.5.18)."""

    status, reason = 417, "Expectation Failed"


class FieldsTooLarge(HTTPError):
    """A field, their number or the whole head is over its limit (RFC 6585 §5)."""

    status, reason = 431, "Request Header Fields Too Large"


class InternalServerError(HTTPError):
    """The application failed before it sent anything (§15.6.1)."""

    status, reason = 500, "Internal Server Error"


class MethodNotImplemented(HTTPError):
    """A method or transfer coding that no origin server of this kind can serve (§15.6.2)."""

    status, reason = 501, "Not Implemented"


class VersionNotSupported(HTTPError):
    """A major version other than 1 (§15.6.6)."""

    status, reason = 505, "HTTP Version Not Supported"


class InsufficientStorage(HTTPError):
    """The body could not be spooled to disk (RFC 4918 §11.5)."""

    status, reason = 507, "Insufficient Storage"
