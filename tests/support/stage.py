"""A meeting point of a test and an application that runs in another process.

The application reports to a port or waits there; the test receives the report, in the order in
which it was sent, and lets the application go on. So nobody sleeps and nothing is guessed.
"""

from __future__ import annotations

import os
import socket
from types import TracebackType


def report(port: int, text: str) -> None:
    """Tell the test something, from within the application."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(f"{os.getpid()} {text}\n".encode())


def wait(port: int, text: str) -> None:
    """Tell the test something and wait, at most half a minute, until it says to go on."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(f"{os.getpid()} {text}\n".encode())
        sock.recv(1)


class Visit:
    """An application that reported; `text` is what it said, `pid` its process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        with sock.makefile("r", encoding="utf-8") as file:
            pid, _, self.text = file.readline().rstrip("\n").partition(" ")
        self.pid = int(pid)

    def go(self) -> None:
        """Let the application go on."""
        self._sock.close()


class Stage:
    """The test's side; applications find it by `port`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._visits: list[Visit] = []

    def arrival(self, timeout: float = 10) -> Visit:
        """The next report.

        :raises TimeoutError: nobody came.
        """
        self._listener.settimeout(timeout)
        sock, _ = self._listener.accept()
        sock.settimeout(timeout)
        self._visits.append(Visit(sock))
        return self._visits[-1]

    def empty(self) -> bool:
        """Whether no report waits to be received."""
        self._listener.setblocking(False)
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for visit in self._visits:
            visit.go()
        self._listener.close()
