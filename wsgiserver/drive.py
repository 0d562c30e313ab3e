"""The only file that receives from and sends to a client's socket.

`drive` moves one connection as far as it goes without waiting. Who waits, and how, is what
worker models differ in; when a model has waited for what the connection wants, it drives again.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from wsgiserver.connection import Connection
from wsgiserver.files import FileSlice
from wsgiserver.states import READ, RUN, SHUT, WRITE, Want

_RECEIVE: Final = 65536
# A turn of one connection: so many steps (a call of the application, a send), then the others.
_STEPS: Final = 16
# The most that one sendfile call may put on its way, so that a fast reader cannot hold a loop.
_SENDFILE: Final = 2097152
# What a file system or a kernel says that cannot sendfile this file to this socket.
_NO_SENDFILE: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
# A head waits for the file behind it, so that they share their first packet.
_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
_RESET: Final = struct.pack("ii", 1, 0)


def drive(conn: Connection, sock: socket.socket, inline: bool = True) -> Want:
    """Receive once, then run and send in turn until one of them would block.

    :param inline: whether the application may run here; if not, RUN is handed back.
    :returns: what to wait for; RUN and WRITE also at the end of a turn, to be driven again.
    """
    want = conn.want
    try:
        if want is READ:
            want = conn.feed(sock.recv(_RECEIVE))
        for _ in range(_STEPS):
            if want is RUN:
                if not inline:
                    return RUN
                want = conn.run(sock)
            elif want is WRITE:
                out, file = conn.out, conn.file
                if file is None:
                    want = conn.sent(sock.send(out))
                elif out:
                    want = conn.sent(sock.send(out, _MORE))
                else:
                    wanted = min(file.count, _SENDFILE)
                    count = _send_file(sock, file, wanted)
                    want = conn.sent(count)
                    if count < wanted and want is WRITE:
                        return conn.blocked()  # there was no room for more: do not try again
            else:
                break
        if want is SHUT:
            sock.shutdown(socket.SHUT_WR)
            want = conn.shut()
    except BlockingIOError:
        return conn.blocked()
    except OSError as error:
        return conn.lost(error)
    except Exception as error:
        return conn.broken(error)
    return want


def _send_file(sock: socket.socket, file: FileSlice, count: int) -> int:
    """Send some of the next bytes of a file unread, where the system can (sendfile(2))."""
    try:
        return os.sendfile(sock.fileno(), file.fd, file.offset, count)
    except AttributeError:  # not on this platform
        pass
    except OSError as error:
        if error.errno not in _NO_SENDFILE:
            raise
    data = os.pread(file.fd, min(count, _RECEIVE), file.offset)
    return sock.send(data) if data else 0


def flush(
    conn: Connection, sock: socket.socket, wait: Callable[[socket.socket, Want, float], bool]
) -> None:
    """Send all of `conn.out` before returning, waiting as the worker model waits.

    :raises OSError: the client is gone, or took nothing for the write timeout.
    """
    out = memoryview(conn.out)
    while out:
        try:
            out = out[sock.send(out) :]
        except BlockingIOError:
            timeout = conn.write_timeout
            if not wait(sock, WRITE, timeout):
                raise TimeoutError(f"the client took nothing for {timeout:g} s") from None


def receive_last(conn: Connection, sock: socket.socket) -> Want:
    """Tell a connection that the worker stops; take a request that is on its way before that."""
    want = drive(conn, sock, inline=False)
    return conn.drain() if want is READ or want is WRITE else want


def close(conn: Connection, sock: socket.socket) -> None:
    """Close the socket, by a reset if an answer was cut off where only that would show it."""
    if conn.reset:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # the client was faster
    sock.close()
