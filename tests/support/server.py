"""A server in a process of its own, whose output can be waited for and whose faults are told."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from tests.support.wire import TIMEOUT, Address, Wire

ROOT: Final = Path(__file__).parent.parent.parent
# What must not stand in a log unless the test asked for it.
_FAULT: Final = re.compile(r"Traceback|Warning:|Exception ignored|Fatal Python|never awaited")


def _has_v6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


_HAS_V6: Final = _has_v6()
_COMMAND: Final = [sys.executable, "-W", "error", "-m", "tests.support.serve"]


class Lines:
    """What a process writes into a pipe: drained all the time, to be read and waited for."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._text = ""
        self._ended = False
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        while not self._ended:
            self._ready(None)
            self._drain()

    def _ready(self, milliseconds: int | None) -> bool:
        poll = select.poll()  # of its own: two threads must not use one
        poll.register(self._pipe, select.POLLIN)
        return bool(poll.poll(milliseconds))

    def _drain(self) -> None:
        with self._changed:
            if self._ended:
                return
            now = select.poll()  # of its own: two threads must not wait with the same object
            now.register(self._pipe, select.POLLIN)
            while not self._ended and now.poll(0):
                data = os.read(self._pipe.fileno(), 65536)
                self._text += data.decode("utf-8", "backslashreplace")
                self._ended = not data
                self._changed.notify_all()

    @property
    def text(self) -> str:
        """Everything written up to now."""
        self._drain()
        return self._text

    def wait_for(self, pattern: str, since: int = 0) -> re.Match[str]:
        """Wait for text that matches, behind the position `since`."""
        expression = re.compile(pattern)

        def found() -> re.Match[str] | None:
            return expression.search(self._text, since)

        with self._changed:
            match = self._changed.wait_for(found, TIMEOUT)
        assert match, f"{pattern!r} did not come; there is: {self._text[since:]!r}"
        return match

    def close(self) -> bool:
        """Wait until every process that held the pipe ended; false if one did not."""
        self._thread.join(TIMEOUT)
        ended = self._ended
        if ended:
            self._pipe.close()
        return ended


class Server:
    """A running server with the test application.

    `log` is its standard error; `output` its standard output, where the access log goes. `calls`
    tells what the application was called with.
    """

    def __init__(self, model: str, *, pass_fds: Sequence[int] = (), **options: Any) -> None:
        self.model = model
        # Not pytest's tmp_path: the path of a unix socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="contract-"))
        self.unix_path = str(self.folder / "socket")
        self._calls = self.folder / "calls"
        self._calls.touch()
        self._seen = 0
        settings = {
            "worker_model": model,
            "bind": ["127.0.0.1:0", f"unix:{self.unix_path}", *(["[::1]:0"] if _HAS_V6 else [])],
            "access_log": "-",
            "limit_request_body": 3 << 20,
            **options,
        }
        self.process = subprocess.Popen(
            [*_COMMAND, json.dumps(settings), str(self._calls)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.log = Lines(self.process.stderr)
        self.output = Lines(self.process.stdout)
        try:
            self.addresses = self._ready()
        except BaseException:
            self.kill()
            raise

    def _ready(self) -> list[Address]:
        try:
            line = self.output.wait_for(r"\{.*\}\n")[0]
        except AssertionError as error:
            raise AssertionError(f"the server did not start: {self.log.text}") from error
        addresses = json.loads(line)["addresses"]
        # From then on it also knows what a signal means.
        self.log.wait_for(rf"(?s)(listening on [^\n]*\n.*?){{{len(addresses)}}}")
        return [
            (address[0], address[1]) if isinstance(address, list) else address
            for address in addresses
        ]

    def connect(self, *, source: str | None = None, receive_buffer: int = 0) -> Wire:
        """A new connection, over TCP."""
        return Wire(self.addresses[0], source=source, receive_buffer=receive_buffer)

    def calls(self) -> list[str]:
        """`METHOD TARGET` of each call of the application so far."""
        return self._calls.read_text("utf-8").splitlines()

    # -- faults

    def expect_fault(self, pattern: str) -> str:
        """Wait for text in the log that contains a traceback; from here on it is no fault.

        :returns: the log since the last check, up to the end of that text.
        """
        match = self.log.wait_for(pattern, self._seen)
        text = self.log.text[self._seen : match.end()]
        self._seen = match.end()
        return text

    def check(self) -> None:
        """Fail if the server is gone or its log holds a fault that no test asked for."""
        assert self.process.poll() is None, f"the server ended: {self.log.text[self._seen :]}"
        self._check_log()

    def _check_log(self) -> None:
        text = self.log.text
        new, self._seen = text[self._seen :], len(text)
        assert not _FAULT.search(new), f"a fault in the server's log:\n{new}"

    # -- its end

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process, not to its children."""
        self.process.send_signal(number)

    def ended(self, timeout: float = TIMEOUT) -> int:
        """Wait for its end; the exit status. No child of it may be left, nor a fault in the log."""
        try:
            status = self.process.wait(timeout)
            assert self.log.close() and self.output.close(), "a process was left over"
            self._check_log()
        finally:
            self.kill()
        return status

    def stop(self) -> None:
        """Stop it as an operator does, and check that it went well."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.ended()
        assert status == 0, f"exit status {status}"

    def kill(self) -> None:
        """End what is still there of it, and remove its folder."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)
