"""`single`: one connection at a time, in the accepting thread. The first web servers."""

from __future__ import annotations

import socket
from typing import Final

from wsgiserver.connection import Connection
from wsgiserver.drive import receive_last
from wsgiserver.workers.base import Blocking

# A client that connected and says nothing makes room for the next one after this many seconds.
_SILENCE: Final = 1.0


class SingleWorker(Blocking):
    """Serves in `spawn` itself, so the next client waits until this one is done.

    What it can do for the next one, it does: a connection that idles between two requests, or
    that stays silent from the start, is closed when somebody else wants in.
    """

    def spawn(self, sock: socket.socket, conn: Connection) -> None:
        """See `Blocking`."""
        self.serve(sock, conn)

    def glanced(self) -> None:
        """See `Blocking`: this is where the loop of this worker comes round."""
        if self.pulse is not None:
            self.pulse(self.context.served)

    def wait_for(self, conn: Connection, sock: socket.socket) -> None:
        """As `Blocking`, but with an eye on the listeners while there is no request."""
        if conn.drained or not (conn.idle or conn.fresh):
            super().wait_for(conn, sock)
            return
        timeout = conn.deadline - self.context.now()
        if conn.fresh:
            ready = self.ready(conn, sock, min(timeout, _SILENCE))
            if self.stop_fd in ready:
                receive_last(conn, sock)
            if ready:
                return
        rivals = [listener.fileno() for listener in self.listeners]
        ready = self.ready(conn, sock, timeout, rivals)
        if sock.fileno() in ready:
            return
        if not ready:
            self.time_is_up(conn)
        elif conn.fresh and self.stop_fd not in ready:
            conn.expire()
        else:
            receive_last(conn, sock)
