"""Headless Chromium: where it is, how it is started, and one page of it driven by DevTools."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.wire import TIMEOUT

_FOUND: Final = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM: Final = _FOUND or shutil.which("google-chrome") or ""
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Only what the page asks of the server; nothing beyond loopback is resolved.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

needed = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium (apt install chromium)")

# The browser speaks at descriptors 3 and 4: put the two there, and become it.
AT_3_AND_4: Final = """
import fcntl, os, sys
pair = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 10) for fd in sys.argv[1:3]]
for place, fd in enumerate(pair, 3):
    os.dup2(fd, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Chromium with one page, driven by the DevTools protocol through its pipe."""

    def __init__(self, profile: Path) -> None:
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        arguments = (CHROMIUM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}")
        self._process = subprocess.Popen(
            [sys.executable, "-c", AT_3_AND_4, str(read), str(write), *arguments, "about:blank"],
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read)
        os.close(write)
        self._ids = itertools.count(1)
        self._data = b""
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []  # since the last visit
        self._waited = 0  # how many of them `wait_for` went over

    def __enter__(self) -> Browser:
        try:
            self._open_page()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open_page(self) -> None:
        pages = self.call("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and its helpers, which are a process group of their own."""
        # Asked first: what it keeps in the folder for temporary files goes only then.
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            self._session = {}
            self.call("Browser.close")
            self._process.wait(TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for fd in (self._read, self._write):
            os.close(fd)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol; its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _message(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self._data:
            ready = select.select([self._read], [], [], max(0, end - time.monotonic()))[0]
            assert ready, "the browser says nothing"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser ended"
            self._data += data
        message, _, self._data = self._data.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def wait_for(self, method: str) -> dict[str, Any]:
        """The next event of that name that was not waited for yet."""
        while True:
            while self._waited < len(self.events):
                self._waited += 1
                event = self.events[self._waited - 1]
                if event.get("method") == method:
                    return event
            self.events.append(self._message())

    def visit(self, url: str) -> None:
        """Load a page and wait for its load event."""
        self.events.clear()
        self._waited = 0
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def received(self, kind: str = "Document") -> list[dict[str, Any]]:
        """The final answers since the last visit: url, status, headers (names in lower case)."""
        events = [event for event in self.events if event["method"] == "Network.responseReceived"]
        found = [event["params"]["response"] for event in events if event["params"]["type"] == kind]
        for answer in found:
            answer["headers"] = {key.lower(): value for key, value in answer["headers"].items()}
        return found

    def document(self) -> dict[str, Any]:
        """The answer that became the page; see `received`."""
        return self.received()[0]

    def redirects(self) -> list[int]:
        """The statuses of the redirects that were followed since the last visit."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [
            event["params"]["redirectResponse"]["status"]
            for event in sent
            if "redirectResponse" in event["params"]
        ]

    def troubles(self) -> list[dict[str, Any]]:
        """What the browser complains of since the last visit: violated policies, what failed to
        load, exceptions, dialogs of scripts."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
        found = [event for event in self.events if event["method"] in kinds]
        return [event for event in found if "favicon.ico" not in json.dumps(event)]

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        number = {"Enter": 13, " ": 32, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=number,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def width(self, pixels: int, height: int = 800) -> None:
        """Make the window that wide, as a phone does."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=height,
            deviceScaleFactor=1,
            mobile=pixels < 500,
        )

    def colours(self, scheme: str) -> None:
        """The user's preference: "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
