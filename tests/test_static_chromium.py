"""Headless Chromium sees directory listings and live reload, from a server as a user starts it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.serving import Command
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
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium (apt install chromium)")

# Directory pages and a site with live reload, each as small as it can be.
APP: Final = """
import os
from pathlib import Path

from middleware.listing import CONTENT_SECURITY_POLICY, html_page, read_directory
from middleware.live_reload import LiveReload
from middleware.media import content_type

HERE = Path(__file__).parent
live = LiveReload(HERE / "site")


def app(environ, start_response):
    path = environ["PATH_INFO"].encode("latin-1").decode()
    kind, _, rest = path[1:].partition("/")
    file = HERE / kind / rest
    name = "directory.html" if file.is_dir() else file.name
    headers = [("Content-Type", content_type(name)), ("Cache-Control", "no-store")]
    status, body = "200 OK", b""
    if kind == "site" and (answer := live.answer("/" + rest, environ)):
        status, headers, body = answer
    elif file.is_dir():
        fd = os.open(file, os.O_RDONLY)
        try:
            listing = read_directory(fd)
        finally:
            os.close(fd)
        headers.append(("Content-Security-Policy", CONTENT_SECURITY_POLICY))
        body = html_page(listing, path, root="/files/")
    elif file.is_file():
        before = live.version()
        body = file.read_bytes()
        if file.suffix == ".html":
            body = live.inject(body, base="/site", since=before)
    else:
        status = "404 Not Found"
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]
"""


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
        arguments = (CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank")
        self._process = subprocess.Popen(
            [sys.executable, "-c", AT_3_AND_4, str(read), str(write), *arguments],
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
        self.events: list[dict[str, Any]] = []

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
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and its helpers, which are a process group of their own."""
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
            for i, event in enumerate(self.events):
                if event.get("method") == method:
                    del self.events[: i + 1]
                    return event
            self.events.append(self._message())

    def visit(self, url: str) -> None:
        """Load a page and wait for its load event."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

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

    def width(self, pixels: int) -> None:
        """Make the window that wide, as a phone does."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=800,
            deviceScaleFactor=1,
            mobile=pixels < 500,
        )

    def colours(self, scheme: str) -> None:
        """The user's preference: "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])


EVIL: Final = (
    "<img src=x onerror=alert(0)>.txt",
    '"><script>alert(1)<',
    "javascript:alert(1)",
    "a&amp;b",
    "q?",
    "f#",
    "%A4",
    "x:y",
    "it's two  spaces ",
    "\u202egpj.exe",
    "w" * 255,
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where the application is, with the directories that it shows."""
    (tmp_path / "app.py").write_text(APP)
    evil = tmp_path / "files" / "evil <b>&"
    evil.mkdir(parents=True)
    for name in EVIL:
        (evil / name).write_text(f"this is {name}")
    (tmp_path / "files" / "page.txt").write_text("a page")
    plain = tmp_path / "files" / "plain"
    (plain / "zoo").mkdir(parents=True)
    for name, size, mtime in (("a10", 5, 300), ("a9", 2000, 100), ("B", 70, 200)):
        (plain / name).write_bytes(b"." * size)
        os.utime(plain / name, (mtime, mtime))
    (tmp_path / "site").mkdir()
    return tmp_path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    with Browser(tmp_path / "profile") as found:
        yield found


def serve(here: Path, *arguments: str) -> Command:
    return Command("--chdir", str(here), *arguments, "app:app")


NAMES: Final = "[...document.querySelectorAll('tbody.entries a')].map(a => a.textContent)"
SORTS: Final = "[...document.querySelectorAll('th')].map(th => th.getAttribute('aria-sort'))"


def test_names_are_text_and_lead_to_their_files(here: Path, browser: Browser) -> None:
    with serve(here) as server:
        browser.visit(server.url + "/files/evil%20%3Cb%3E%26/")
        shown = [name.replace("\u202e", "\ufffd") for name in EVIL]
        assert sorted(browser.run(NAMES)) == sorted(shown)
        links = browser.run("[...document.querySelectorAll('tbody.entries a')].map(a => a.href)")
        assert browser.run("document.querySelector('h1').textContent") == "evil <b>&"
        assert browser.run("document.querySelectorAll('img, b, script').length") == 1
        assert troubles(browser) == []
        # The policy lets no script of that page fetch anything; another page's may.
        browser.visit(server.url + "/files/page.txt")
        texts = browser.run(
            "Promise.all("
            + json.dumps(links)
            + ".map(async link => await (await fetch(link)).text()))"
        )
        assert sorted(texts) == sorted(f"this is {name}" for name in EVIL)
    assert troubles(browser) == []


def troubles(browser: Browser) -> list[dict[str, Any]]:
    """What the browser complains of: violated policies, exceptions, dialogs of scripts."""
    kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    found = [event for event in browser.events if event.get("method") in kinds]
    return [event for event in found if "favicon.ico" not in json.dumps(event)]


def test_the_listing_is_sorted_by_click_and_by_key(here: Path, browser: Browser) -> None:
    with serve(here) as server:
        browser.visit(server.url + "/files/plain/")
        assert browser.run(NAMES) == ["zoo/", "a9", "a10", "B"]
        assert browser.run(SORTS) == ["ascending", None, None]
        browser.run("document.querySelectorAll('th button')[1].click()")
        assert browser.run(NAMES) == ["zoo/", "a9", "B", "a10"]
        assert browser.run(SORTS) == [None, "descending", None]
        browser.press("Tab")
        browser.run("document.querySelectorAll('th button')[2].focus()")
        browser.press("Enter")
        assert browser.run(NAMES) == ["zoo/", "a10", "B", "a9"]
        browser.press(" ")
        assert browser.run(NAMES) == ["zoo/", "a9", "B", "a10"]
        assert browser.run(SORTS) == [None, None, "ascending"]
        browser.run("document.querySelectorAll('th button')[0].click()")
        assert browser.run(NAMES) == ["zoo/", "a9", "a10", "B"]
        # The parent stays at the top, and leads there.
        browser.run("document.querySelector('tbody tr a').click()")
        browser.wait_for("Page.loadEventFired")
        assert browser.run("location.pathname") == "/files/"
        assert troubles(browser) == []


def test_the_listing_without_script(here: Path, browser: Browser) -> None:
    with serve(here) as server:
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.visit(server.url + "/files/plain/")
        root = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        html = browser.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        assert re.findall(r'<a href="\./([^"]+)"', html) == ["zoo/", "a9", "a10", "B"]
        assert "<button" not in html.partition("<script")[0]


def test_the_listing_is_as_wide_as_a_phone_and_as_dark_as_asked(
    here: Path, browser: Browser
) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    with serve(here) as server:
        browser.width(320)
        browser.colours("light")
        browser.visit(server.url + "/files/evil%20%3Cb%3E%26/")
        assert browser.run("document.documentElement.scrollWidth") == 320
        light = browser.run(ground)
        browser.colours("dark")
        assert light != browser.run(ground)
        assert browser.run("getComputedStyle(document.querySelector('time span')).display") == (
            "none"
        )


class Page:
    """The one page of the site, with a style sheet."""

    def __init__(self, here: Path) -> None:
        self._site = here / "site"
        self.style("red")
        self.write("first")

    def write(self, text: str) -> None:
        """Replace the page at once, as editors do."""
        head = "<!doctype html><title>t</title><link rel=stylesheet href=s.css><body>"
        self._replace("index.html", f"{head}<h1>{text}</h1></body>")

    def style(self, colour: str) -> None:
        self._replace("s.css", f"h1 {{ color: {colour} }}")

    def _replace(self, name: str, text: str) -> None:
        new = self._site / f".{name}.new"
        new.write_text(text)
        new.replace(self._site / name)


HEADING: Final = "document.querySelector('h1').textContent"
COLOUR: Final = "getComputedStyle(document.querySelector('h1')).color"


@pytest.mark.parametrize("model", ["single", "process", "epoll", "threadpool"])
def test_the_page_follows_its_files(model: str, here: Path, browser: Browser) -> None:
    page = Page(here)
    with serve(here, "-k", model) as server:
        browser.visit(server.url + "/site/index.html")
        browser.run("document.mark = 1")
        page.write("second")
        browser.wait_for("Page.loadEventFired")
        assert browser.run(HEADING) == "second"
        assert browser.run("document.mark") is None
        # A style sheet alone: the document remains, and looks new.
        browser.run("document.mark = 2")
        page.style("rgb(1, 2, 3)")
        browser.run(until(f"{COLOUR} === 'rgb(1, 2, 3)'"))
        assert browser.run("document.mark") == 2
        assert browser.run(until("document.querySelectorAll('link').length === 1"))
        page.write("third")
        browser.wait_for("Page.loadEventFired")
        assert browser.run(HEADING) == "third"
        browser.call("Page.navigate", url="about:blank")  # no more questions while it stops
        assert troubles(browser) == []


def until(condition: str) -> str:
    """JavaScript: a promise that is fulfilled as soon as the condition holds."""
    return (
        "new Promise(done => {"
        f" const look = () => {condition} ? done(true) : setTimeout(look, 20); look(); }})"
    )


# Counts what the stream says: the page's own connections cannot be seen from outside.
COUNTING: Final = """
window.heard = 0;
const Plain = window.EventSource;
window.EventSource = class extends Plain {
  constructor(...args) {
    super(...args);
    this.addEventListener("message", () => { window.heard += 1; });
  }
};
"""


def test_a_restart_reloads_nothing_and_a_change_after_it_does(here: Path, browser: Browser) -> None:
    page = Page(here)
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=COUNTING)
    with serve(here) as server:
        browser.visit(server.url + "/site/index.html")
        browser.run("document.mark = 1")
        browser.run(until("heard > 1"))
    browser.run("heard = 0")
    with serve(here, "-b", f"127.0.0.1:{server.port}"):
        browser.run(until("heard > 0"))
        assert browser.run("document.mark") == 1
        page.write("second")
        browser.wait_for("Page.loadEventFired")
        assert browser.run(HEADING) == "second"
        browser.call("Page.navigate", url="about:blank")
