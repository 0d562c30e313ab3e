"""Finished answers: what an application promised to stay true is sent again without asking it.

The protocol, which any application may use (docs/finished-answers.md). What the application
returns, or the file in its `wsgi.file_wrapper`, carries two attributes:

    answered_by   the application object that makes the promise. It counts only if that is the very
                  object that the server calls, so that no middleware in between is passed over.
    fresh_until   in seconds of time.monotonic(): until then a request whose head is the same byte
                  for byte may be given the same answer, whoever sends it.

and, if the promise hangs on something that may be looked at in a moment,

    holds         a function without arguments, called before each repetition; false: the
                  application is asked again.

A server that does not know these attributes loses nothing but the shortcut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wsgiserver.context import Context
    from wsgiserver.gateway import Environ, Response
    from wsgiserver.http.response import ResponseHead
    from wsgiserver.request import Memo

# Answers that are remembered, and how many bytes each may have besides its head. Both together
# bound the memory to 32 MiB.
_MOST: Final = 512
# Of these, answers with a file; each holds a descriptor.
_MOST_FILES: Final = 32
LONGEST_BODY: Final = 65536
# An answer of at most so many bytes is kept with its Date line in it.
_SHORT: Final = 4096


class Answer:
    """One answer, ready to be sent to a connection that stays open; immutable but for `request`.

    `before` and `after` are the bytes around the Date line; `whole` is all of a short one with the
    line `date` in it; `file` descriptor, offset and count of the file that follows, or None.

    To a connection it looks like a `Response` of which everything was handed out. `close()` of
    the application's file is called when nobody can send from it any more.
    """

    __slots__ = (
        "_closer",
        "after",
        "before",
        "date",
        "environ",
        "file",
        "fresh_until",
        "head",
        "holds",
        "request",
        "sent",
        "whole",
    )

    finished: Final = True
    left: Final = None
    surplus: Final = False
    gone: Final = False
    begun: Final = True
    closer: Final = None
    delimited_by_close: Final = False

    def __init__(self, response: Response, body: bytes, environ: Environ, until: float) -> None:
        head = response.head
        assert head is not None
        self.head: ResponseHead = head
        self.sent = response.sent
        self.environ = environ
        self.fresh_until = until
        self.holds = response.holds
        self.request: object = None
        self.before = head.prefix
        self.after = b"\r\n" + body
        self.date = self.whole = b""
        file = response.file  # of which the connection will count off what it sent
        self.file = None if file is None else (file.fd, file.offset, file.count)
        self._closer: Callable[[], object] | None = response.closer
        response.closer = None

    def dated(self, date: bytes) -> bytes:
        """All of it, without the file; a short one is kept until the Date line is another."""
        whole = b"".join((self.before, date, self.after))
        if len(whole) <= _SHORT:
            self.whole = whole  # before the date, which other threads look at
            self.date = date
        return whole

    def close(self) -> None:
        """Nothing: one connection is done with it, others may not be."""

    def __del__(self) -> None:
        if self._closer is not None:
            self._closer()


class Answers(dict[bytes, Answer]):
    """The answers of one worker by the request heads that they answer; the oldest leave first."""

    def consider(self, response: Response, memo: Memo | None, context: Context) -> None:
        """Keep what an application promised to hold, if it may be sent again to whoever asks.

        Not if the request is remembered by more than its head, if the answer depends on who asked
        (RFC 7239: what a proxy says counts from some peers only), or if its framing is the
        server's own work. The caller sees to it that the connection stays open after it.

        :param memo: the request that it answers, as its connection remembers it.
        """
        head = response.head
        if memo is None or memo.data is None or head is None or context.draining:
            return
        framed = (head.length is not None or head.bodyless) and response.ended and not head.dated
        wrong = response.left or response.surplus  # it is not what was declared
        forwarded = any("FORWARDED" in key for key in memo.fields.environ)
        if not framed or wrong or forwarded:
            return
        body = b""
        if response.iterable is not None and response.file is None and not response.silent:
            body = b"".join(response.iterable)
        if len(body) <= LONGEST_BODY and memo.environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            answer = Answer(response, body, memo.environ.copy(), response.fresh_until)
            if response.file is not None:
                response.file.owner = answer
            self.remember(memo.data, answer, context.now())
            if context.draining:  # since a moment, in another thread
                self.clear()

    def remember(self, head: bytes, answer: Answer, now: float) -> None:
        """Keep an answer until it is no longer fresh, or until there are too many."""
        self.pop(head, None)
        self[head] = answer
        try:
            if answer.file is not None:
                self._bound_files()
            while len(self) > _MOST:
                self.pop(next(iter(self)), None)
            self.drop_stale(now)
        except (RuntimeError, StopIteration):
            # Threads share this without a lock, since the stop clears it from within a signal
            # handler. Another one changed it in this moment; whoever is the next tidies up.
            pass

    def drop_stale(self, now: float) -> None:
        """Let go of the oldest as far as they are not fresh any more, and of their files.

        :raises RuntimeError: another thread changed the table in this moment.
        """
        while oldest := next(iter(self.items()), None):
            if oldest[1].fresh_until > now:
                return
            self.pop(oldest[0], None)

    def _bound_files(self) -> None:
        with_file = [head for head, answer in self.items() if answer.file is not None]
        for head in with_file[:-_MOST_FILES]:
            self.pop(head, None)
