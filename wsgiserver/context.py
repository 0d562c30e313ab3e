"""What all connections of one worker share: application, settings as plain attributes, memos.

A `Context` is made once, before the loop. The hot path reads its attributes and never a `Config`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from wsgiserver.answers import Answers
from wsgiserver.clock import Clock
from wsgiserver.files import FileWrapper
from wsgiserver.gateway import Environ, Headers
from wsgiserver.http.errors import HTTPError
from wsgiserver.http.response import ResponseHead

if TYPE_CHECKING:
    from wsgiserver.config import Config
    from wsgiserver.connection import Connection
    from wsgiserver.request import HeadReader

WSGIApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
# environ, status, bytes of content, response headers, seconds, whether it was cut off
AccessLog = Callable[[Environ, str, int, Headers, float, bool], None]

# Response heads that are remembered by (status, headers), and how long one may be to be kept.
_MOST_HEADS: Final = 256
_LONGEST_HEAD: Final = 2048
# Connections that may hold a memo of their last request; the rest parse every request anew.
_MOST_MEMOS: Final = 1024
# A whole head may have this many bytes, or one line of each kind at its limit if that is more.
_LONGEST_REQUEST_HEAD: Final = 65536


class Journal(Protocol):
    """Where a connection tells what happened; see logs.py."""

    access: AccessLog | None

    def application_failed(self, environ: Environ, error: BaseException) -> None: ...
    def server_failed(self, peer: str, error: BaseException) -> None: ...
    def response_wrong(self, environ: Environ, text: str) -> None: ...
    def refused(self, peer: str, error: HTTPError) -> None: ...
    def hop_by_hop(self, names: tuple[str, ...]) -> None: ...
    def fields_dropped(self, peer: str, names: tuple[str, ...]) -> None: ...


class Peer:
    """Who is connected: address and port ("" for a unix socket), and through which listener."""

    __slots__ = ("address", "port", "server_name", "server_port")

    def __init__(self, address: str, port: str, server_name: str, server_port: str) -> None:
        self.address = address
        self.port = port
        self.server_name = server_name
        self.server_port = server_port


class Context:
    """See the module. `draining` becomes true when the worker stops: answers say close then."""

    def __init__(
        self,
        app: WSGIApplication,
        config: Config,
        journal: Journal,
        *,
        multithread: bool,
        multiprocess: bool,
        errors: Any = None,
    ) -> None:
        self.app = app
        self.journal = journal
        self.clock = Clock()
        self.now = self.clock.now
        self.date_line = self.clock.date_line
        self.draining = False
        # How long an idle connection may still bring a request then, in seconds: a worker that is
        # replaced can wait for its clients, which would take a close for a failure.
        self.patience = 0.0
        self.persistent = config.keep_alive > 0  # whether an answer may leave a connection open
        self.served = 0  # requests that were answered
        self.blocked = 0  # how often a socket had nothing to give or take; see nonblocking.py
        # How bytes are sent at once from within the application; the worker sets it.
        self.flush: Callable[[Connection, Any], None] = _cannot_flush
        self.keep_alive = config.keep_alive
        self.head_timeout = config.head_timeout
        self.body_timeout = config.body_timeout
        self.write_timeout = config.write_timeout
        self.linger_timeout = 5.0  # nginx's lingering_timeout
        self.limit_request_line = config.limit_request_line
        self.limit_request_fields = config.limit_request_fields
        self.limit_request_field_size = config.limit_request_field_size
        self.limit_request_body = config.limit_request_body
        self.limit_head = max(
            _LONGEST_REQUEST_HEAD, config.limit_request_line + config.limit_request_field_size
        )
        self.spool_size = config.spool_size
        self.spool_dir = config.spool_dir or None
        self.server_header = config.server_header
        server_line = f"Server: {self.server_header}\r\n" if self.server_header else ""
        self.server_line = server_line.encode("latin-1")
        self._trusted = config.forwarded_allow_ips
        self.answers = Answers()
        self._heads: dict[tuple[Any, ...], ResponseHead] = {}
        self._memo_holders: deque[HeadReader] = deque()
        self.base_environ: Environ = {
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": "wsgiserver",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": errors if errors is not None else sys.stderr,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
        }

    @property
    def shortest_timeout(self) -> float:
        """No deadline is ever set closer than this, in seconds (see readiness.py)."""
        timeouts = (self.head_timeout, self.body_timeout, self.write_timeout, self.linger_timeout)
        return min(*timeouts, self.keep_alive or self.linger_timeout)

    def response_head(self, status: str, headers: Headers) -> ResponseHead:
        """The head for a status and header list, from memory if it was made before.

        :raises ResponseError: it must not go on the wire.
        """
        key = (status, *headers)
        try:
            head = self._heads.get(key)
        except TypeError:  # headers given as lists instead of tuples cannot be looked up
            return ResponseHead(status, cast("Headers", key[1:]), self.server_header)
        if head is None:
            head = ResponseHead(status, cast("Headers", key[1:]), self.server_header)
            if head.dropped:
                self.journal.hop_by_hop(head.dropped)
            if len(head.prefix) <= _LONGEST_HEAD:
                if len(self._heads) >= _MOST_HEADS:
                    self._heads.clear()
                self._heads[key] = head
        return head

    def drain(self) -> None:
        """The worker stops: from now on answers close their connections."""
        self.draining = True
        self.persistent = False
        self.answers.clear()  # they do not say close

    def trusts(self, address: str) -> bool:
        """Whether a peer may speak for its client (`forwarded_allow_ips`); unix sockets may."""
        if not address:
            return True
        ip = ip_address(address.partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        return any(
            network.version == ip.version and ip in network for network in self._trusted
        ) or (mapped is not None and self.trusts(str(mapped)))

    def holds_memo(self, reader: HeadReader) -> None:
        """Count a reader that now remembers a request; the one longest counted forgets."""
        self._memo_holders.append(reader)
        if len(self._memo_holders) > _MOST_MEMOS:
            self._memo_holders.popleft().forget()


def _cannot_flush(connection: Connection, carrier: Any) -> None:
    raise OSError("this connection has no socket to flush to")
