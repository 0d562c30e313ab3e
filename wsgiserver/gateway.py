"""PEP 3333: the application is called, and what it answers is framed.

A `Response` lives for one call of the application and knows nothing of sockets. What it gives
back is bytes to send, or a file to send; who sends them, and when, is the connection's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from wsgiserver.files import FileSlice, FileWrapper, sendable
from wsgiserver.http.framing import response_fields
from wsgiserver.http.response import ResponseError, ResponseHead, field_lines

if TYPE_CHECKING:
    from wsgiserver.context import Context

Environ = dict[str, Any]
Headers = Sequence[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

# A list of blocks up to this size leaves as one block; a larger one is sent block by block.
_JOIN_LIMIT: Final = 65536
# A block up to this size is copied behind the head so that both leave in one send; in larger
# ones the copy would cost more than the system call.
_COPY_LIMIT: Final = 1048576

_END: Any = object()  # what an exhausted iterator gives, which no application can yield


class ClientDisconnected(ConnectionError):
    """Raised in an application that writes to a client which is gone."""


class Request(Protocol):
    """What a response needs to know of the request and the connection that it answers."""

    minor: int
    head_only: bool
    keep: bool

    def push(self, data: bytes) -> None:
        """Send at once; may block."""


class Response:
    """One answer, from `start_response` to the last byte.

    `committed` says that its head was made, `begun` that a byte of it was given to be sent; after
    that nothing can be taken back. `file` is set when a file follows the head. `ended` says that
    nothing follows any more.
    `iterable` is what the application returned, unless it was a plain list or tuple; `closer` its
    `close()` while that is still to be called.
    `request` is None once the answer is complete, so that an application that keeps its
    start_response does not keep the connection.
    """

    finished: Final = False  # see answers.py
    __slots__ = (
        "_chunked",
        "_context",
        "_iterator",
        "_size",
        "begun",
        "closer",
        "committed",
        "ended",
        "file",
        "fresh_until",
        "gone",
        "head",
        "holds",
        "iterable",
        "left",
        "request",
        "sent",
        "silent",
        "surplus",
    )

    def __init__(self, context: Context, request: Request) -> None:
        self._context = context
        self.request: Request | None = request
        self.gone = False  # the client is, a send from within the application failed
        self.iterable: Iterable[bytes] | None = None
        self._iterator: Iterator[bytes] | None = None
        self._size: int | None = None  # of all blocks, where that is known
        self._chunked = False
        self.closer: Callable[[], object] | None = None
        self.head: ResponseHead | None = None
        self.file: FileSlice | None = None
        self.holds: Callable[[], bool] | None = None
        self.fresh_until = 0.0  # how long the application promised that it answers the same
        self.left: int | None = None  # content that the head still promises; None: no number
        self.committed = False
        self.begun = False
        self.ended = False
        self.silent = False  # the framing allows no content (HEAD, 204, 304)
        self.sent = 0  # content bytes handed out
        self.surplus = False  # the application yielded more than it declared

    # -- what the application calls

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response.

        :raises ResponseError: called twice without exc_info, or with what cannot be sent.
        :raises BaseException: that of `exc_info`, when the head is on its way already.
        """
        if self.head is not None:
            if exc_info is None:
                raise ResponseError("start_response was called a second time without exc_info")
            if self.committed:
                raise exc_info[1].with_traceback(exc_info[2])
        self.head = self._context.response_head(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's write: the block is sent before this returns, which may block.

        :raises ClientDisconnected: the client is gone or took nothing for the write timeout.
        """
        if self.gone:
            raise ClientDisconnected("the client is gone")
        if self.request is None:
            raise ResponseError("write was called after the response was complete")
        if data:
            self.request.push(self._committed_with(data))

    def early_hints(self, headers: Headers) -> None:
        """`wsgi.early_hints`: send 103 with these fields, at once (RFC 8297).

        Does nothing for an HTTP/1.0 client or after the response began.
        """
        request = self.request
        if request is not None and request.minor and not self.committed and not self.gone:
            request.push(b"HTTP/1.1 103 Early Hints\r\n" + field_lines(headers) + b"\r\n")

    # -- what the connection calls

    def call(self, environ: Environ) -> bytes:
        """Call the application; the first bytes of its answer.

        :raises BaseException: what it raises; ResponseError if what it returned is no answer.
        """
        environ["wsgi.early_hints"] = self.early_hints
        return self._begin(self._context.app(environ, self.start_response))

    def _begin(self, result: Iterable[bytes]) -> bytes:
        if type(result) is list or type(result) is tuple:
            # hot: the commonest answer is complete here, without an iterator
            if len(result) == 1:
                return self._whole(result[0])
            size = sum(map(len, result))
            if size <= _JOIN_LIMIT:
                return self._whole(b"".join(result))
            self._size, self._iterator = size, iter(result)
            return self.next_block()
        self.iterable = result
        self.closer = getattr(result, "close", None)
        if isinstance(result, (bytes, str)):
            raise ResponseError(
                f"the application returned {type(result).__name__}, not an iterable of bytes"
            )
        source: Any = result.file if type(result) is FileWrapper else result
        if getattr(source, "answered_by", None) is self._context.app and not self.committed:
            self.fresh_until = float(source.fresh_until)
            self.holds = getattr(source, "holds", None)
            if isinstance(result, list):
                return self._whole(b"".join(result))
        if type(result) is FileWrapper and not self.committed:
            file = sendable(result.file)
            if file is not None:
                return self._file(file)
        self._iterator = iter(result)
        return self.next_block()

    def next_block(self) -> bytes:
        """The next bytes to send; empty if the application had none ready or `ended` is set."""
        assert self._iterator is not None
        block = next(self._iterator, _END)
        if block is _END:
            return self._end()
        if not block:
            return b""
        if not self.committed and self._size is None and _length(self.iterable) == 1:
            self._size = len(block)
        return self._committed_with(block)

    def close(self) -> None:
        """Call `close()` of the iterable if it has one: exactly once, whatever happened."""
        closer, self.closer = self.closer, None
        self.iterable = self._iterator = None
        if closer is not None:
            closer()

    @property
    def delimited_by_close(self) -> bool:
        """Whether only the end of the connection tells the client where the body ends."""
        return self.committed and not self.silent and not self._chunked and self.left is None

    # -- framing

    def _whole(self, body: bytes) -> bytes:
        """Head and body of an answer that consists of one block."""
        if not self.committed:
            if type(body) is not bytes:
                body = _as_bytes(body)
            size = len(body)
            head = self._commit(size)
            if size > _COPY_LIMIT and not self.silent:
                self._iterator = iter((body,))
                return head
            self.ended = True
            if not self.silent and self.left == size:  # hot: the length is right
                self.left = 0
                self.sent = size
                return head + body
            return head + self._framed(body)
        return (self._framed(body) if body else b"") + self._end()

    def _file(self, file: FileSlice) -> bytes:
        head = self._commit(file.count)
        if self.silent:
            self.ended = True
            return head
        assert self.left is not None
        file.count = min(file.count, self.left)
        self.left -= file.count
        self.sent = file.count
        if file.count:
            self.file = file
        self.ended = True
        return head

    def _committed_with(self, block: bytes) -> bytes:
        if self.committed:
            return self._framed(block)
        return self._commit(self._size) + self._framed(block)

    def _commit(self, size: int | None) -> bytes:
        """The bytes of the head; `size` is the length of the content, if known."""
        head, request = self.head, self.request
        assert request is not None
        if head is None:
            raise ResponseError("the application answered without calling start_response")
        declared = head.length is not None and not head.bodyless
        self.left = head.length if declared else size
        self.silent = request.head_only or head.bodyless
        keep = request.keep and not head.close and self._context.persistent
        if keep and declared and request.minor:
            lines = b""  # hot: the application framed it; HTTP/1.1 has nothing to add
        else:
            lines, self._chunked, request.keep = response_fields(
                request.minor, head.code, self.left, declared, keep, request.head_only
            )
        if self.silent:
            self.left, self._chunked = None, False
        self.committed = True
        date = b"" if head.dated else self._context.date_line()
        return b"%b%b%b\r\n" % (head.prefix, date, lines)

    def _framed(self, block: bytes) -> bytes:
        """A block as it goes on the wire; what exceeds the declared length is cut off."""
        if type(block) is not bytes:
            block = _as_bytes(block)
        if self.silent:
            return b""
        left = self.left
        if left is not None:
            if len(block) > left:
                self.surplus = self.ended = True  # nothing of what follows could be sent
                block = block[:left]
            self.left = left - len(block)
        self.sent += len(block)
        return b"%x\r\n%b\r\n" % (len(block), block) if self._chunked else block

    def _end(self) -> bytes:
        head = b"" if self.committed else self._commit(0)
        self.ended = True
        return head + (b"0\r\n\r\n" if self._chunked else b"")


def _as_bytes(block: Any) -> bytes:
    if isinstance(block, (bytes, bytearray, memoryview)):
        return bytes(block)
    raise ResponseError(f"the application yielded {type(block).__name__}, not bytes")


def _length(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except TypeError:
        return None
