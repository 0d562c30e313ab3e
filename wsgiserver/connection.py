"""One HTTP/1.1 connection as a machine without I/O: what each verb does in each state.

It obeys the law of `states.py`; every verb returns the new `want`. Nothing here touches a socket,
waits, or logs. `run` is the only verb that calls the application (also its `next` and its `close`)
and the only one that may block; but `feed` may ask `holds` of a finished answer (answers.py). One
flow touches a connection at a time, so there are no locks.

What comes in is judged in `request.py`, what the application answers is framed in `gateway.py`.
"""

from __future__ import annotations

from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Final

from wsgiserver.files import FileSlice
from wsgiserver.gateway import ClientDisconnected, Response
from wsgiserver.http.errors import BadRequest, HTTPError, InternalServerError, RequestTimeout
from wsgiserver.request import BodyReader, HeadReader
from wsgiserver.states import CLOSE, READ, RUN, SHUT, WRITE, State, Want

if TYPE_CHECKING:
    from wsgiserver.answers import Answer
    from wsgiserver.context import Context, Peer
    from wsgiserver.gateway import Environ, Headers

# hot: a global is looked up faster than a member of an enumeration
IDLE, HEAD, BODY, READY, STREAM, LAST, CLOSING, ABORTING, REFUSED, LINGER, CLOSED = State

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CALL: Final = 1.0


class Connection:
    """See the module.

    `deadline` (monotonic seconds) is when `expire` is to be called if nothing else happened
    before; it says nothing while `want` is RUN.
    """

    __slots__ = (
        "_asked_keep",
        "_body",
        "_carrier",
        "_context",
        "_environ",
        "_fresh",
        "_reader",
        "_response",
        "_rest",
        "_started",
        "_state",
        "deadline",
        "drained",
        "file",
        "head_only",
        "keep",
        "minor",
        "out",
        "peer",
        "reset",
        "want",
    )

    def __init__(self, context: Context, peer: Peer) -> None:
        self._context = context
        self.peer = peer
        self.want = READ
        self.out: bytes | memoryview = b""
        self.file: FileSlice | None = None
        self.reset = False
        self.drained = False  # whether it was told that the worker stops
        self.deadline = context.now() + context.head_timeout
        self.minor = 1
        self.head_only = False
        self.keep = True
        self._asked_keep = True
        self._fresh = True
        self._state = IDLE
        self._reader = HeadReader(context, peer)
        self._rest = b""  # what the client sent behind the request that is served now
        self._environ: Environ | None = None
        self._body: BodyReader | None = None
        self._response: Response | Answer | None = None
        self._started = 0.0
        self._carrier: Any = None

    # -- the verbs of its driver

    def feed(self, data: bytes) -> Want:
        """Take what the client sent; b"" means that it sends no more."""
        if self._state is IDLE:
            answers = self._context.answers
            if answers and (answer := answers.get(data)) is not None:
                now = self._context.now()
                if answer.fresh_until > now and self._reader.buffer is None:
                    try:
                        if answer.holds is None or answer.holds():
                            return self._repeat(answer, now)
                    except Exception:  # who cannot say whether it holds is asked for a new one
                        answers.pop(data, None)
            memo = self._reader.memo
            if memo is not None and memo.data == data:
                # hot: the same head again costs one comparison instead of the parsing
                self.minor = memo.minor
                self.head_only = memo.head_only
                self.keep = self._asked_keep = memo.keep
                if self._context.journal.access is not None:
                    self._started = self._context.now()
                return self._ready(memo.environ.copy(), BytesIO())
        try:
            if not data:
                return self._ended()
            if self._state is BODY:
                return self._receive_body(data)
            if self._state is LINGER:
                return self.want
            return self._receive_head(data)
        except HTTPError as error:
            return self._refuse(error)

    def run(self, carrier: Any = None) -> Want:
        """Let the application work: call it, pull its next block, or close its iterable.

        :param carrier: what `context.flush` needs to send at once (write(), early hints).
        """
        self._carrier = carrier
        try:
            if self._state is READY:
                context = self._context
                environ = self._environ
                assert environ is not None
                response = self._response = Response(context, self)
                self.out = response.call(environ)
                if response.fresh_until and self.keep and self.minor:
                    context.answers.consider(response, self._reader.memo, context)
                return self._handed_out(response)
            if self._state is STREAM:
                assert isinstance(self._response, Response)
                self.out = self._response.next_block()
                return self._handed_out(self._response)
        except BaseException as error:  # asyncio's, gevent's and sys.exit's are no Exceptions
            return self._failed(error)
        return self._close_iterable()

    def sent(self, count: int) -> Want:
        """Account for bytes that went out of `out`, or of `file` when `out` is empty."""
        out = self.out
        if out and count == len(out) and self._state is LAST and self.file is None:
            response = self._response  # hot: the commonest end of an answer
            if response is not None and response.closer is None:
                self.out = b""
                context = self._context
                if not response.finished or context.draining or context.journal.access is not None:
                    return self._finish(response)
                self._response = self._environ = None  # what _finish would do, and no more
                self._state = IDLE
                self.deadline = context.now() + context.keep_alive
                self.want = READ
                return READ
        self.deadline = self._context.now() + self._context.write_timeout
        if out:
            if count < len(out):
                self.out = memoryview(out)[count:]
                return WRITE
            self.out = b""
            if self.file is not None:
                return WRITE
        elif self.file is not None:
            self.file.offset += count
            self.file.count -= count
            if self.file.count > 0:
                return WRITE if count else self._file_shrank()
            self.file = None
        return self._all_sent()

    def shut(self) -> Want:
        """The sending side was shut; what still comes in is dropped until the client is done."""
        self.want = READ
        return READ

    # -- what may come in any state

    def expire(self) -> Want:
        """The deadline passed; what that means depends on the state alone."""
        state = self._state
        if state in (HEAD, BODY):
            if self.out:
                return self._closed()  # within 100 Continue there is no place for an answer
            return self._refuse(RequestTimeout("the request was not complete in time."))
        if state in (STREAM, LAST):
            return self._abort()
        if state in (READY, CLOSING, ABORTING):
            return self.want
        return self._closed()

    def lost(self, error: OSError) -> Want:
        """The client vanished."""
        if self._state in (READY, CLOSING, ABORTING):
            return self.want
        if self._state in (STREAM, LAST):
            return self._abort()
        if self._state is BODY and self._context.journal.access is not None:
            self._log_access("-", 0, (), True)
        return self._closed()

    def drain(self) -> Want:
        """The worker stops: an idle connection closes, any other one after its answer.

        With `context.patience` an idle one may still bring a request for so long. A connection that
        never sent anything gets one second more, since it may have come through the backlog a
        moment before its request; one that lingers gets that at most. These are the only cases in
        which `deadline` comes nearer than a whole timeout from now.
        """
        context = self._context
        self.drained = True
        if self.idle and not context.patience:
            return self._closed()
        if self._state is IDLE or self._state is LINGER:
            last = context.patience if self.idle else _LAST_CALL
            self.deadline = min(self.deadline, context.now() + last)
        return self.want

    def broken(self, error: Exception) -> Want:
        """A fault of the server's own: it costs this connection, not the worker."""
        self._context.journal.server_failed(self.peer.address, error)
        response, self.reset = self._response, True
        if response is not None:
            self._close_response(response)
        return self._closed()

    # -- what a driver may ask and tell

    @property
    def idle(self) -> bool:
        """Whether it waits between two requests, so that closing it loses nothing."""
        return self._state is IDLE and not self._fresh

    @property
    def fresh(self) -> bool:
        """Whether not even a first head has come yet."""
        return self._fresh

    @property
    def write_timeout(self) -> float:
        """How long a client may take nothing while an answer is sent, in seconds."""
        return self._context.write_timeout

    def blocked(self) -> Want:
        """The socket has nothing to give or takes nothing now."""
        self._context.blocked += 1
        return self.want

    # -- IDLE, HEAD, BODY

    def _receive_head(self, data: bytes) -> Want:
        context, reader = self._context, self._reader
        try:
            request = reader.feed(data)
        finally:
            self.head_only = reader.head_only
        if request is None:
            if self._state is IDLE and reader.begun:
                self._state = HEAD
                self.deadline = context.now() + context.head_timeout
            self.want = READ
            return READ
        self._fresh = False
        if context.journal.access is not None:
            self._started = context.now()
        self.minor = request.minor
        self.keep = self._asked_keep = request.keep
        self._environ = request.environ
        body = request.body(context)
        if body is None:
            self._rest = request.rest
            return self._ready(request.environ, BytesIO())
        self._body = body
        self._state = BODY
        if request.rest:
            return self._receive_body(request.rest)
        self.deadline = context.now() + context.body_timeout
        self.want = READ
        if body.awaited:
            self.out = _CONTINUE
            self.want = WRITE
        return self.want

    def _receive_body(self, data: bytes) -> Want:
        body, environ = self._body, self._environ
        assert body is not None and environ is not None
        rest = body.feed(data)
        if rest is None:
            self.deadline = self._context.now() + self._context.body_timeout
            self.want = READ
            return READ
        self._rest = rest
        environ["CONTENT_LENGTH"] = str(body.size)
        # The coding is undone (RFC 9112 §7.1.3); what the application reads is the content.
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return self._ready(environ, body.file)

    def _ended(self) -> Want:
        """The client sends no more."""
        if self._state is IDLE or self._state is LINGER:
            return self._closed()
        raise BadRequest("the request ended before it was complete.")

    def _ready(self, environ: Environ, body: IO[bytes]) -> Want:
        environ["wsgi.input"] = body
        self._environ = environ
        self._state = READY
        self.want = RUN
        return RUN

    def _repeat(self, answer: Answer, now: float) -> Want:
        """The application promised that this is what it would answer; see answers.py."""
        context = self._context
        self._fresh = False
        self.minor = 1
        self.keep = self._asked_keep = True
        environ = answer.environ
        if context.journal.access is not None:
            self._started = now
            peer = self.peer
            environ = environ | {"REMOTE_ADDR": peer.address, "REMOTE_PORT": peer.port}
        self._environ = environ
        self._response = answer
        clock = context.clock
        date = clock.line if now < clock.fresh_until else clock.date_line()
        self.out = answer.whole if answer.date is date else answer.dated(date)
        if answer.file is not None:
            self.file = FileSlice(*answer.file, answer)
        self._state = LAST
        self.want = WRITE
        self.deadline = now + context.write_timeout
        return WRITE

    # -- READY, STREAM

    def _handed_out(self, response: Response) -> Want:
        """Some of the answer is in `out`; find out what follows it."""
        if response.gone:  # a write() failed, and the application went on all the same
            self._close_response(response)
            return self._abort()
        if response.file is not None:
            self.file, response.file = response.file, None
            self._state = LAST
        elif response.ended or response.silent:
            self._state = LAST
            # close() comes before the last bytes leave: its failure can still be shown by not
            # sending them.
            if response.closer is not None:
                response.close()
        else:
            self._state = STREAM
        if self.out or self.file is not None:
            response.begun = True
            self.deadline = self._context.now() + self._context.write_timeout
            self.want = WRITE
            return WRITE
        return self._all_sent()

    def push(self, data: bytes) -> None:
        """Send now, from within the application (PEP 3333's write, RFC 8297's early hints).

        :raises ClientDisconnected: that was not possible; nothing is ever sent after that.
        """
        response = self._response
        assert isinstance(response, Response)
        self.out = data
        response.begun = response.committed
        try:
            self._context.flush(self, self._carrier)
        except OSError as error:
            response.gone = True
            raise ClientDisconnected("the client is gone") from error
        finally:
            self.out = b""

    def _failed(self, error: BaseException) -> Want:
        """The application raised; whatever it already sent must not look complete."""
        response, environ = self._response, self._environ
        assert response is not None and environ is not None
        self.out, self.file = b"", None
        if not isinstance(error, ClientDisconnected):
            self._context.journal.application_failed(environ, error)
        self._close_response(response)
        if not (response.begun or response.gone):
            return self._refuse(InternalServerError("the application failed."))
        return self._abort()

    # -- LAST, CLOSING

    def _all_sent(self) -> Want:
        state = self._state
        if state is LAST:
            response = self._response
            assert response is not None
            if response.closer is None:
                return self._finish(response)
            self._state = CLOSING
        elif state is BODY:
            self.deadline = self._context.now() + self._context.body_timeout
            self.want = READ
            return READ
        elif state is REFUSED:
            return self._shut()
        self.want = RUN
        return RUN

    def _finish(self, response: Response | Answer) -> Want:
        """The answer is out; on to the next request, if there may be one."""
        context = self._context
        context.served += 1
        if response.left or response.surplus:
            self._wrong_length(response)
            if response.left:
                return self._abort()
        if context.journal.access is not None:
            self._log_response(response, response.sent, aborted=False)
        response.request = None
        self._response = self._environ = None
        if self._body is not None:
            self._body.close()
            self._body = None
        # An answer that promised another request, a moment before the stop, is held to it if there
        # is time for that.
        if not self.keep or (context.draining and not (self._rest or context.patience)):
            return self._close_or_shut()
        self._state = IDLE
        self.deadline = context.now() + context.keep_alive
        self.want = READ
        if self._rest:  # pipelining: what came behind this request begins the next one
            data, self._rest = self._rest, b""
            return self.feed(data)
        return READ

    def _close_iterable(self) -> Want:
        response = self._response
        assert response is not None
        self._close_response(response)
        return self._finish(response) if self._state is CLOSING else self._closed()

    def _close_response(self, response: Response | Answer) -> None:
        try:
            response.close()
        except BaseException as error:
            self._context.journal.application_failed(self._environ or {}, error)

    def _wrong_length(self, response: Response | Answer) -> None:
        text = "more bytes" if response.surplus else "fewer bytes"
        assert self._environ is not None
        self._context.journal.response_wrong(
            self._environ, f"the application yielded {text} than its Content-Length"
        )

    def _file_shrank(self) -> Want:
        assert self._environ is not None
        self._context.journal.response_wrong(self._environ, "a file got shorter while it was sent")
        return self._abort()

    # -- ABORTING, REFUSED, LINGER, CLOSED

    def _abort(self) -> Want:
        """The answer cannot be completed: end it so that the client can tell."""
        response = self._response
        assert response is not None
        unsent = len(self.out) + (self.file.count if self.file is not None else 0)
        sent = max(response.sent - unsent, 0)
        self.out, self.file = b"", None
        self.reset = response.delimited_by_close
        if self._context.journal.access is not None:
            self._log_response(response, sent, aborted=True)
        if response.closer is None:
            return self._closed()
        self._state = ABORTING
        self.want = RUN
        return RUN

    def _refuse(self, error: HTTPError) -> Want:
        """Answer in the application's place, then close."""
        context = self._context
        if error.status != InternalServerError.status:  # that one was told with its traceback
            context.journal.refused(self.peer.address, error)
        head, content = error.answer(context.server_line + context.date_line())
        if self.head_only:
            content = b""
        self.out = head + content
        if context.journal.access is not None:
            self._log_access(error.status_line, len(content), (), False)
        self._release()
        self._state = REFUSED
        self.deadline = context.now() + context.write_timeout
        self.want = WRITE
        return WRITE

    def _close_or_shut(self) -> Want:
        """Close at once only if nothing unread can be on its way.

        Closing a socket with unread bytes resets it, and the reset may destroy the answer before
        the client reads it (RFC 9112 §9.6). A client that itself asked to close sends no more.
        """
        return self._shut() if self._asked_keep or self._rest else self._closed()

    def _shut(self) -> Want:
        self._rest = b""
        self._state = LINGER
        # A stopping worker owes no client that does not close a long wait.
        linger = _LAST_CALL / 2 if self._context.draining else self._context.linger_timeout
        self.deadline = self._context.now() + linger
        self.want = SHUT
        return SHUT

    def _closed(self) -> Want:
        self._release()
        self._reader.forget()
        self._rest = self.out = b""
        self.file = None
        self._state = CLOSED
        self.want = CLOSE
        return CLOSE

    def _release(self) -> None:
        """Let go of everything that belongs to one request."""
        if self._response is not None:
            self._response.request = None
        if self._body is not None:
            self._body.close()
        self._response = self._environ = self._body = self._carrier = None

    # -- the access log

    def _log_response(self, response: Response | Answer, sent: int, aborted: bool) -> None:
        head = response.head
        if head is None:
            self._log_access("-", 0, (), aborted)
        else:
            self._log_access(head.status, sent, head.headers, aborted)

    def _log_access(self, status: str, sent: int, headers: Headers, aborted: bool) -> None:
        context, environ = self._context, self._environ
        assert context.journal.access is not None
        seconds = context.now() - self._started if environ else 0.0
        if environ is None:
            environ = {"REMOTE_ADDR": self.peer.address}
        context.journal.access(environ, status, sent, headers, seconds, aborted)
