"""A client that sends exactly the bytes it is told to, and believes only answers that are valid."""

from __future__ import annotations

import io
import json
import re
import selectors
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, Final

Address = tuple[str, int] | str

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\r\n")
_FIELD_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n"
)
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]+)\r\n")
TIMEOUT: Final = 10.0


class Truncated(Exception):
    """The connection ended before the answer did; `got` is what came of its content."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"the answer ended after {len(got)} bytes of content")
        self.got = got


@dataclass
class Reply:
    """One answer. `framing` is what delimited it: length, chunked, close, or none (no content)."""

    status: int
    reason: str
    fields: list[tuple[str, str]] = field(repr=False)
    framing: str
    body: bytes = b""
    blocks: list[bytes] = field(default_factory=list, repr=False)

    def all(self, name: str) -> list[str]:
        """The values of all fields of a name."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a field, which must not be there twice."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        """Whether it announces the end of the connection."""
        return self.get("Connection") == "close"


def read_reply(file: BinaryIO, method: str = "GET") -> Reply | None:
    """Read one answer, strictly by RFC 9112; None if the connection ended before its first byte.

    :raises Truncated: it ended within the answer. :raises AssertionError: it is no valid answer.
    """
    line = file.readline()
    if not line:
        return None
    match = _STATUS_LINE.fullmatch(line)
    assert match is not None, f"not a status line: {line[:100]!r}"
    fields = []
    while (line := file.readline()) != b"\r\n":
        if not line.endswith(b"\n"):
            raise Truncated(b"")
        pair = _FIELD_LINE.fullmatch(line)
        assert pair is not None, f"not a field line: {line[:100]!r}"
        fields.append((pair[1].decode("latin-1"), pair[2].decode("latin-1")))
    reply = Reply(int(match[1]), match[2].decode("latin-1"), fields, "none")
    _read_body(file, reply, method)
    return reply


def _read_body(file: BinaryIO, reply: Reply, method: str) -> None:
    length, coding = reply.get("Content-Length"), reply.get("Transfer-Encoding")
    assert length is None or coding is None, "Content-Length beside Transfer-Encoding"
    if reply.status < 200 or reply.status == 204:
        # RFC 9110 §8.6, RFC 9112 §6.1
        assert length is None and coding is None, f"{reply.status} with a framing field"
        return
    if method == "HEAD" or reply.status == 304:
        return
    if coding is not None:
        assert coding == "chunked"
        reply.framing = "chunked"
        _read_chunks(file, reply)
    elif length is not None:
        assert length.isascii() and length.isdigit()
        reply.framing = "length"
        reply.body = _exactly(file, int(length), b"")
    else:
        reply.framing = "close"
        assert reply.closes, "an answer without length on a connection that goes on"
        reply.body = file.read()


def _read_chunks(file: BinaryIO, reply: Reply) -> None:
    while True:
        line = file.readline()
        if not line.endswith(b"\n"):
            raise Truncated(reply.body)
        match = _CHUNK_LINE.fullmatch(line)
        assert match is not None, f"not a chunk line: {line[:100]!r}"
        size = int(match[1], 16)
        if size:
            reply.blocks.append(_exactly(file, size, reply.body))
        assert _exactly(file, 2, b"".join(reply.blocks)) == b"\r\n"
        if size == 0:
            reply.body = b"".join(reply.blocks)
            return


def _exactly(file: BinaryIO, size: int, before: bytes) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise Truncated(before + data)
    return data


def replies(data: bytes, *methods: str) -> list[Reply]:
    """All answers in what a server sent; of requests with these methods, then of GETs."""
    found: list[Reply] = []
    file, left = io.BytesIO(data), list(methods)
    while True:
        reply = read_reply(file, left[0] if left else "GET")
        if reply is None:
            return found
        found.append(reply)
        if left and reply.status >= 200:
            left.pop(0)


class Wire:
    """A connection. Everything that waits does so for at most `TIMEOUT` seconds."""

    def __init__(
        self, address: Address, *, source: str | None = None, receive_buffer: int = 0
    ) -> None:
        if isinstance(address, str):
            family, target = socket.AF_UNIX, address
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            target = (address[0], address[1])  # type: ignore[assignment]
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            self.sock.bind((source, 0))
        try:
            self.sock.connect(target)
        except BaseException:
            self.sock.close()
            raise
        if family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; with bytes unread that is a reset."""
        self._file.close()
        self.sock.close()

    def reset(self) -> None:
        """Close it by a reset, whatever is unread."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.sock.sendall(data)

    def finish(self) -> None:
        """Shut the sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def reply(self, method: str = "GET") -> Reply:
        """The next answer. :raises Truncated: see `read_reply`."""
        reply = read_reply(self._file, method)
        assert reply is not None, "the server closed the connection without an answer"
        return reply

    def get(self, target: str, *fields: str, method: str = "GET") -> Reply:
        """Ask for something as HTTP/1.1 and wait for the answer."""
        self.send(request(target, *fields, method=method))
        return self.reply(method)

    def read_some(self, size: int) -> bytes:
        """Exactly so many bytes of what the server sends."""
        return _exactly(self._file, size, b"")

    def ended(self) -> bool:
        """Wait for the server's next byte or its end; true if it ended by FIN.

        :raises ConnectionResetError: it ended by a reset.
        """
        return self._file.read(1) == b""

    def rest(self, data: bytes = b"") -> bytes:
        """Send what is left to send, if the server takes it still, and read to its end."""
        try:
            self.sock.sendall(data)
        except OSError:
            pass
        return self._file.read()

    def exchange(self, data: bytes, *, finish: bool = False) -> bytes:
        """Send all of it, receiving at the same time, until the server ends the connection."""
        got: list[bytes] = []
        left = memoryview(data)
        self.sock.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while True:
                ready = selector.select(TIMEOUT)
                if not ready:
                    raise TimeoutError("the server neither sends nor takes anything")
                mask = ready[0][1]
                if mask & selectors.EVENT_WRITE:
                    left = left[self.sock.send(left) :]
                    if not left:
                        selector.modify(self.sock, selectors.EVENT_READ)
                        if finish:
                            self.finish()
                if mask & selectors.EVENT_READ:
                    block = self.sock.recv(65536)
                    if not block:
                        assert not left, f"{len(left)} bytes could not be sent before the end"
                        return b"".join(got)
                    got.append(block)


def request(
    target: str, *fields: str, method: str = "GET", body: bytes = b"", version: str = "1.1"
) -> bytes:
    """The bytes of a request with Host, and with Content-Length if there is a body."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
