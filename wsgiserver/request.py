"""A request as it comes in: its head, assembled, judged and made into environ; its body, stored.

The readers know no socket and no time. They are told what came and say when they have a whole.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final

from wsgiserver.forwarded import apply_forwarded
from wsgiserver.http import framing, grammar
from wsgiserver.http.errors import FieldsTooLarge, HTTPError, InsufficientStorage, URITooLong
from wsgiserver.http.head import RequestLine, check_beginning, parse_fields, parse_request_line

if TYPE_CHECKING:
    from wsgiserver.context import Context, Peer
    from wsgiserver.gateway import Environ
    from wsgiserver.http.body import Decoder
    from wsgiserver.http.head import Fields


# Fields of more bytes than this are not remembered: what 1,024 memos may cost stays bounded.
_LONGEST_MEMO: Final = 4096


class Request:
    """A whole head: what the connection needs of it, and `rest`, the bytes behind it."""

    __slots__ = ("environ", "fields", "head_only", "keep", "minor", "rest")

    def __init__(self, memo: Memo, head_only: bool, rest: bytes) -> None:
        self.environ = memo.environ.copy()
        self.fields = memo.fields
        self.minor = memo.minor
        self.keep = memo.keep
        self.head_only = head_only
        self.rest = rest

    def body(self, context: Context) -> BodyReader | None:
        """What takes and stores the body that is to follow; None if there is none.

        :raises HTTPError: it is not clear where it ends, it is over the limit, or the client
            expects what this server does not do.
        """
        awaited = framing.expects_continue(self.minor, self.fields)
        decoder = framing.request_body(self.minor, self.fields, context.limit_request_body)
        if decoder is None:
            return None
        return BodyReader(decoder, awaited, context)


class Memo:
    """The last request of a connection, for a client that repeats itself.

    `block` are its field lines and `fields` what they mean; `environ` the variables made of them,
    of which each request gets a copy. `data` is the whole head if it came alone in one read and
    announced no body: the same bytes again are the same request.
    """

    __slots__ = ("block", "data", "environ", "fields", "head_only", "keep", "minor")

    def __init__(self, block: bytes, minor: int, fields: Fields, environ: Environ) -> None:
        self.block = block
        self.minor = minor
        self.fields = fields
        self.environ = environ
        self.keep = framing.keep_alive(minor, fields)
        self.head_only = False
        self.data: bytes | None = None


class HeadReader:
    """Assembles heads from what is fed, whatever way it is cut.

    Remembers the last head. What is remembered was sent by this same client, so that nothing of
    one client can reach another, and its memory is bounded (`Context.holds_memo`). `buffer` is None
    if what is fed next begins a request: not even half an empty line is there.
    """

    __slots__ = ("_context", "_peer", "buffer", "head_only", "memo")

    def __init__(self, context: Context, peer: Peer) -> None:
        self._context = context
        self._peer = peer
        self.buffer: bytearray | None = None  # a head that is not complete
        self.head_only = False  # whether what was fed last begins a HEAD request
        self.memo: Memo | None = None

    @property
    def begun(self) -> bool:
        """Whether a part of a head is there; half an empty line before it is none."""
        return self.buffer is not None and self.buffer != b"\r"

    def forget(self) -> None:
        """Give up the memory of the last request."""
        self.memo = None

    def feed(self, data: bytes) -> Request | None:
        """Take bytes; the request once its head is complete.

        :raises HTTPError: they are no head, or one that is over a limit.
        """
        checked = 0
        if self.buffer is not None:
            checked = len(self.buffer)
            self.buffer += data
            self.head_only = self.buffer[:5] == b"HEAD "
            if checked > 1 or self.buffer[:1] != b"\r":
                end = self.buffer.find(b"\r\n\r\n", max(checked - 3, 0))
                if end >= 0:
                    return self._whole(bytes(self.buffer), end)
                self._check_part(checked)
                return None
            data, checked, self.buffer = bytes(self.buffer), 0, None
        if data[:1] == b"\r":
            data = grammar.EMPTY_LINES.sub(b"", data, 1)
            if self.memo is not None:
                self.memo.data = None
            if not data:
                return None
        self.head_only = data[:5] == b"HEAD "
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            return self._whole(data, end)
        self.buffer = bytearray(data)
        self._check_part(0)
        return None

    def _check_part(self, checked: int) -> None:
        """Refuse early what cannot become a head any more."""
        buffer, context = self.buffer, self._context
        assert buffer is not None
        check_beginning(buffer, checked)
        line_too_long = len(buffer) > context.limit_request_line + 2 and b"\n" not in buffer
        # The end of an allowed head may be on its way, up to its last byte.
        if len(buffer) > context.limit_head + 3 or line_too_long:
            raise self._too_long(buffer)

    def _too_long(self, start: bytes | bytearray) -> HTTPError:
        limit = self._context.limit_request_line
        if start.find(b"\n", 0, limit + 2) < 0:
            return URITooLong(f"the request line is over {limit} bytes.")
        return FieldsTooLarge(f"the head is over {self._context.limit_head} bytes.")

    def _whole(self, data: bytes, end: int) -> Request:
        """`data[:end + 2]` are the lines of a head; take them apart."""
        self.buffer = None
        context = self._context
        if end > context.limit_head:
            raise self._too_long(data)
        line_end = data.find(b"\r\n")
        block = data[line_end + 2 : end + 2]
        line = parse_request_line(data[:line_end], context.limit_request_line)
        memo = self.memo
        if memo is None or memo.block != block or memo.minor != line.minor:
            memo = self._parse(line, block)
        framing.check_head(line, memo.fields)
        _describe(memo.environ, line)
        rest = data[end + 4 :]
        memo.head_only = self.head_only = line.method == "HEAD"
        memo.data = None if rest or framing.announces_body(memo.fields) else data
        request = Request(memo, self.head_only, rest)
        if line.authority is not None:
            memo.minor, memo.data = -1, None  # its Host is not that of its fields: never again
        return request

    def _parse(self, line: RequestLine, block: bytes) -> Memo:
        context, peer = self._context, self._peer
        fields = parse_fields(block, context.limit_request_fields, context.limit_request_field_size)
        if fields.dropped:
            context.journal.fields_dropped(peer.address, fields.dropped)
        environ = context.base_environ.copy()
        environ["SERVER_NAME"] = peer.server_name
        environ["SERVER_PORT"] = peer.server_port
        environ["REMOTE_ADDR"] = peer.address
        environ["REMOTE_PORT"] = peer.port
        environ.update(fields.environ)
        apply_forwarded(environ, context.trusts)
        memo = Memo(block, line.minor, fields, environ)
        if len(block) > _LONGEST_MEMO:
            self.memo = None
        else:
            if self.memo is None:
                context.holds_memo(self)
            self.memo = memo
        return memo


def _describe(environ: Environ, line: RequestLine) -> None:
    """Put in what the request line says (PEP 3333, RFC 3875 §4.1)."""
    environ["REQUEST_METHOD"] = line.method
    environ["PATH_INFO"] = line.path
    environ["QUERY_STRING"] = line.query
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if line.minor else "HTTP/1.0"
    environ["RAW_URI"] = environ["REQUEST_URI"] = line.target
    if line.authority is not None:
        environ["HTTP_HOST"] = line.authority


class BodyReader:
    """Stores the content of a body, in memory or, over `spool_size`, in an unlinked file.

    `file` is where it is, positioned at its beginning once it is complete; `size` its length.
    `awaited` says that the client waits for 100 (Continue) before it sends it.
    """

    __slots__ = ("_context", "_decoder", "awaited", "file", "size")

    def __init__(self, decoder: Decoder, awaited: bool, context: Context) -> None:
        self._decoder = decoder
        self._context = context
        self.awaited = awaited
        self.file: IO[bytes] = BytesIO()
        self.size = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; those behind the body once it is complete, else None.

        :raises HTTPError: they break the framing, or there is no room to store them.
        """
        content, rest = self._decoder.feed(data)
        try:
            if content:
                self._store(content)
            if rest is not None:
                self.file.seek(0)
        except OSError as error:
            raise InsufficientStorage("the body could not be stored.") from error
        return rest

    def _store(self, content: bytes) -> None:
        self.size += len(content)
        if self.size > self._context.spool_size and isinstance(self.file, BytesIO):
            spool = TemporaryFile(dir=self._context.spool_dir)  # noqa: SIM115  closed with the request
            spool.write(self.file.getbuffer())
            self.file = spool
        self.file.write(content)

    def close(self) -> None:
        """Free the room on disk; content in memory stays readable for whoever kept it."""
        if not isinstance(self.file, BytesIO):
            with suppress(OSError):  # what a full disk did not take is not needed any more
                self.file.close()
