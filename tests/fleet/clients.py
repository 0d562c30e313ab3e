"""Clients that ask all the time, and take every failure down."""

from __future__ import annotations

import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Final

from tests.support.wire import TIMEOUT

KEPT: Final = 3
ANEW: Final = 2


class Clients:
    """In a `with` statement: some that keep their connection, some that make a new one each time.

    `bodies` counts what was answered, `failures` has what went wrong.
    """

    def __init__(self, port: int, path: str = "/") -> None:
        self._port = port
        self._path = path
        self._stop = threading.Event()
        self.bodies: Counter[str] = Counter()
        self.failures: list[str] = []
        flows = [(self._keep, f"kept {n}") for n in range(KEPT)]
        flows += [(self._anew, f"anew {n}") for n in range(ANEW)]
        self._threads = [threading.Thread(target=flow, name=name) for flow, name in flows]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep(self) -> None:
        client = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        while not self._stop.wait(0.002):
            self._ask(client)
        client.close()

    def _anew(self) -> None:
        while not self._stop.wait(0.002):
            client = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
            self._ask(client)
            client.close()

    def _ask(self, client: HTTPConnection) -> None:
        try:
            client.request("GET", self._path)
            response = client.getresponse()
            body = response.read().decode()
            if response.status != 200:
                raise HTTPException(f"status {response.status}: {body}")
            self.bodies[body] += 1
        except (OSError, HTTPException) as error:
            self.failures.append(f"{threading.current_thread().name}: {error!r}")
            client.close()
