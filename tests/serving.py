"""A server as a user starts it: the command in a process of its own, on a free port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.support.server import ROOT, Lines
from tests.support.wire import TIMEOUT, Wire

FAULT: Final = re.compile(
    r"Traceback|Exception ignored|ResourceWarning|RuntimeWarning|Fatal Python|never awaited"
)


class Command:
    """`python -m wsgiserver ARGUMENTS -b 127.0.0.1:0`, in a `with` statement.

    In development mode unless `dev` is false, which a measurement of memory needs. At the end it
    is stopped by SIGTERM, and must exit with 0 without a fault in its log, unless `faulty` is set.
    """

    faulty = False

    def __init__(self, *arguments: str, dev: bool = True, cwd: Path = ROOT) -> None:
        kept = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wsgiserver", "-b", "127.0.0.1:0", *arguments],
            cwd=cwd,
            env={**kept, "PYTHONPATH": str(ROOT), **({"PYTHONDEVMODE": "1"} if dev else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.log = Lines(self.process.stderr)

    def __enter__(self) -> Command:
        try:
            self._wait_until_listening()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_until_listening(self) -> None:
        # Until it listens or ends; what it says then is the failure.
        pattern = r"listening on (http://127\.0\.0\.1:(\d+))\n|Error: .*\n|Traceback"
        match = self.log.wait_for(pattern)
        if not match[1]:
            self.kill()
            raise AssertionError(f"the server did not start: {self.log.text}")
        self.url, self.port = match[1], int(match[2])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.kill()
            error.add_note(f"the server's log:\n{self.log.text}")
        else:
            self.stop()

    def connect(self) -> Wire:
        """A new connection that sends exactly what it is told to."""
        return Wire(("127.0.0.1", self.port))

    def client(self) -> HTTPConnection:
        """A new client of the standard library."""
        return HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def stop(self) -> None:
        """Stop it as an operator does, and check that nothing went wrong and nothing is left."""
        try:
            self.process.send_signal(signal.SIGTERM)
            status = self.process.wait(TIMEOUT)
            assert self.log.close(), "a process was left over"
            assert self.faulty or not FAULT.search(self.log.text), (
                f"a fault in the log:\n{self.log.text}"
            )
            assert status == 0, f"exit status {status}:\n{self.log.text}"
        finally:
            self.kill()

    def kill(self) -> None:
        """End what is still there of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()


def _is_foreign(name: str) -> bool:
    """Whether a variable would change the server's settings or how its interpreter warns."""
    return name.startswith("WSGISERVER_") or name in ("PYTHONWARNINGS", "PYTHONDEVMODE")
