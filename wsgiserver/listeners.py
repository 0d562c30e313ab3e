"""Listening sockets: TCP, unix and inherited ones, opened with errors that say what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress

from wsgiserver.options import TCP, Address, Inherited, Unix


class BindError(Exception):
    """An address cannot be listened on; the text is one line for the user."""


class UnixListener(socket.socket):
    """A unix socket that removes its path when it is closed, if the path is still its own.

    By then a successor may listen there; and a forked child only closes its copy.
    """

    _path = ""
    _identity = (0, 0, 0)

    def own(self, path: str) -> None:
        """Remember what `bind` made."""
        self._path = os.path.abspath(path)
        self._identity = self._now()

    def _now(self) -> tuple[int, int, int]:
        status = os.stat(self._path)
        return os.getpid(), status.st_dev, status.st_ino

    def close(self) -> None:
        """Close, and remove the path."""
        with suppress(OSError):
            if self._path and self._now() == self._identity:
                os.unlink(self._path)
        self._path = ""
        super().close()


def open_listeners(binds: Iterable[Address], backlog: int) -> list[socket.socket]:
    """Listen on all addresses, non-blocking; on none if one of them fails.

    :param backlog: connections that the kernel keeps ready for accepting.
    :raises BindError: an address is in use, forbidden, unknown or no listening socket.
    """
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            sockets.append(_open(bind, backlog))
    except BaseException:
        close_listeners(sockets)
        raise
    return sockets


def _open(bind: Address, backlog: int) -> socket.socket:
    try:
        if isinstance(bind, TCP):
            sock = _open_tcp(bind, backlog)
        elif isinstance(bind, Unix):
            sock = _open_unix(bind, backlog)
        else:
            sock = _open_inherited(bind)
    except OSError as error:
        raise BindError(f"cannot listen on {bind}: {_explain(error)}") from None
    sock.setblocking(False)
    if sock.family != getattr(socket, "AF_UNIX", None):
        # Answers leave in whole sends, so waiting for more to fill a segment only delays them.
        # Accepted sockets inherit the option.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _explain(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host is not known ({error.strerror})"
    advice = {
        errno.EADDRINUSE: "it is in use; stop the other program or choose another with --bind",
        errno.EACCES: "this user may not; choose a port above 1023 or another path with --bind",
        errno.EADDRNOTAVAIL: "this machine does not have that address; choose another with --bind",
        errno.ENOENT: "the folder of the socket does not exist",
        errno.EBADF: "no such descriptor was handed over to this process",
        errno.ENOTSOCK: "the descriptor is not a socket",
    }
    return advice.get(error.errno or 0, error.strerror or str(error))


def _open_tcp(bind: TCP, backlog: int) -> socket.socket:
    found = socket.getaddrinfo(
        bind.host or None, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the connections of the last run to be forgotten (TIME_WAIT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(bind: Unix, backlog: int) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no unix sockets")
    _remove_stale(bind.path)
    sock = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(bind.path)
        sock.own(bind.path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more; never anything else.

    :raises OSError: EADDRINUSE if somebody listens there, or if it is not a socket.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "the path exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there")


def _open_inherited(bind: Inherited) -> socket.socket:
    """Take over a listening socket of the process that started this one."""
    sock = socket.socket(fileno=os.dup(bind.fd))
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        sock.close()
        raise OSError(errno.EINVAL, "the descriptor is not a listening stream socket")
    return sock


def close_listeners(sockets: Iterable[socket.socket]) -> None:
    """Close listening sockets; once closed they may be closed again."""
    for sock in sockets:
        sock.close()


def url_of(sock: socket.socket) -> str:
    """Where a listening socket is reached: `http://127.0.0.1:8000`, `unix:/run/x.sock`."""
    address = sock.getsockname()
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address)}"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"
