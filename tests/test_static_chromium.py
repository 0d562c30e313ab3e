"""Headless Chromium sees whole sites, directory listings and live reload, as a user starts them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from middleware import redirects_file
from tests.serving import Command
from tests.support.browser import Browser, needed
from tests.support.server import ROOT

pytestmark = needed

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
        assert browser.troubles() == []
        # The policy lets no script of that page fetch anything; another page's may.
        browser.visit(server.url + "/files/page.txt")
        texts = browser.run(
            "Promise.all("
            + json.dumps(links)
            + ".map(async link => await (await fetch(link)).text()))"
        )
        assert sorted(texts) == sorted(f"this is {name}" for name in EVIL)
    assert browser.troubles() == []


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
        assert browser.troubles() == []


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
        assert browser.troubles() == []


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


SITE: Final = ("--documents-root", "examples/static_site", "--clean-urls")

# What is asked for; the redirects on the way; where it ends, how, and with which heading.
ASKED: Final[tuple[tuple[str, list[int], str, int, str], ...]] = (
    ("/", [], "/", 200, "Two flashes, then the dark"),
    ("/blog/first-light", [], "/blog/first-light", 200, "First light"),
    ("/home", [301], "/", 200, "Two flashes, then the dark"),
    ("/journal", [302], "/blog/", 200, "Journal"),
    ("/journal/counting-ships?a=1", [302], "/blog/counting-ships?a=1", 200, "Counting ships"),
    ("/blog/2026/09/first-light", [308], "/blog/first-light", 200, "First light"),
    ("/read.php?a=1&post=first-light", [301], "/blog/first-light?a=1", 200, "First light"),
    ("/about.html", [301], "/about", 200, "Kept by eleven people"),
    ("/newsletter/14", [], "/newsletter/14", 410, "The newsletter has ended"),
    ("/tides/today", [], "/tides/today", 200, "When the rock dries"),
    ("/blog/nothing", [], "/blog/nothing", 404, "Not in the journal"),
    ("/journal/nothing", [302], "/blog/nothing", 404, "Not in the journal"),
    ("/read.php", [], "/read.php", 404, "Not on the chart"),
    ("/a/b/nothing", [], "/a/b/nothing", 404, "Not on the chart"),
)


@pytest.mark.parametrize("model", ["epoll", "threadpool"])
def test_the_rules_of_a_site_lead_to_its_pages(model: str, browser: Browser) -> None:
    with Command(*SITE, "-k", model) as server:
        for asked, redirects, end, status, heading in ASKED:
            browser.visit(server.url + asked)
            assert browser.redirects() == redirects, asked
            assert browser.run("location.href") == server.url + end
            assert browser.document()["status"] == status, asked
            assert browser.run(HEADING) == heading, asked
            # However deep the address is, the page finds what it needs.
            assert browser.run("document.styleSheets[0].cssRules.length") > 20
            assert browser.run("[...document.images].every(image => image.naturalWidth)")
            failed = ["the server responded with a status of"] if status >= 400 else []
            said = [event["params"]["entry"]["text"] for event in browser.troubles()]
            assert len(said) == len(failed) and all(map(str.count, said, failed)), said


def test_every_rule_of_the_site_is_among_those() -> None:
    text = (ROOT / "examples/static_site/_redirects").read_text("utf-8")
    rules = redirects_file.parse(text)
    asked = [path.partition("?")[::2] for path, *_ in ASKED]
    used = [rules.match(*each, forced=forced) for each in asked for forced in (True, False)]
    said = [n for n, line in enumerate(text.splitlines(), 1) if line and line[0] != "#"]
    assert {match.line for match in used if match} == set(said)


# Resolves to whether an inline script of the page's own has run.
INLINE: Final = """
(() => {
  const script = document.createElement("script");
  script.textContent = "document.ran = true";
  document.body.append(script);
  return document.ran === true;
})()
"""


def test_the_headers_of_a_site_hold_in_the_browser(browser: Browser) -> None:
    with Command(*SITE) as server:
        browser.visit(server.url + "/")
        assert browser.troubles() == []
        assert browser.run(INLINE) is False
        assert "Content Security Policy" in json.dumps(browser.troubles())
        (style,) = browser.received("Stylesheet")
        assert style["headers"]["cache-control"] == "public, max-age=3600"
        for image in browser.received("Image"):
            assert image["headers"]["cache-control"] == "public, max-age=86400"
        assert browser.document()["headers"]["cache-control"] == "no-cache"
        # It is the policy that refused.
        browser.call("Page.setBypassCSP", enabled=True)
        browser.visit(server.url + "/")
        assert browser.run(INLINE) is True
        browser.call("Page.setBypassCSP", enabled=False)
        # A drawing alone has its style, by the exception of its path.
        browser.visit(server.url + "/img/chart.svg")
        slant = "getComputedStyle(document.querySelector('text')).fontStyle"
        assert browser.run(slant) == "italic"
        assert browser.troubles() == []


# Resolves to the text of what a frame shows; null if the browser refuses to show it.
FRAMED: Final = """
new Promise(done => {
  const frame = document.createElement("iframe");
  frame.onload = () => done(frame.contentDocument && frame.contentDocument.body.innerText);
  frame.src = %s;
  document.body.append(frame);
})
"""


def test_a_field_is_removed_where_the_site_says_so(browser: Browser) -> None:
    with Command(*SITE) as server:
        browser.visit(server.url + "/about")
        assert [answer["status"] for answer in browser.received()] == [200, 200]
        page, card = (answer["headers"] for answer in browser.received())
        assert page["x-frame-options"] == "DENY"
        assert "x-frame-options" not in card
        assert browser.troubles() == []
        assert "Two flashes" in browser.run(FRAMED % "'/embed/light'")
        assert browser.run(FRAMED % "'/tides/today'") is None
        assert "X-Frame-Options" in json.dumps(browser.troubles())


def test_a_placeholder_names_the_download(tmp_path: Path, browser: Browser) -> None:
    with Command(*SITE) as server:
        behavior = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
        browser.call("Page.setDownloadBehavior", **behavior)
        browser.visit(server.url + "/about")
        browser.run("document.querySelector('a[href$=\".ics\"]').click()")
        begun = browser.wait_for("Page.downloadWillBegin")["params"]
        assert begun["suggestedFilename"] == "skerry-light-open-days.ics"
        while browser.wait_for("Page.downloadProgress")["params"]["state"] != "completed":
            pass
    got = (tmp_path / "downloads/skerry-light-open-days.ics").read_bytes()
    assert got == (ROOT / "examples/static_site/calendar/open-days.ics").read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_is_as_wide_as_a_phone(scheme: str, browser: Browser) -> None:
    grounds = {"light": "rgb(253, 253, 251)", "dark": "rgb(13, 26, 38)"}
    with Command(*SITE) as server:
        browser.width(360)
        browser.colours(scheme)
        for path in ("/", "/about", "/blog/", "/blog/counting-ships", "/tides/today", "/nothing"):
            browser.visit(server.url + path)
            assert browser.run("document.documentElement.scrollWidth") == 360, path
            ground = browser.run("getComputedStyle(document.body).backgroundColor")
            assert ground == grounds[scheme]


ONE_PAGE: Final = """<!doctype html><title>one page</title><h1></h1>
<script type="module" src="/app.js"></script>"""
ONE_SCRIPT: Final = "document.querySelector('h1').textContent = 'at ' + location.pathname;"
FETCHED: Final = "fetch('%s', {headers: {Accept: '%s'}}).then(answer => answer.status)"


def test_one_page_answers_navigations_and_nothing_else(tmp_path: Path, browser: Browser) -> None:
    site = tmp_path / "one"
    site.mkdir()
    (site / "index.html").write_text(ONE_PAGE)
    (site / "app.js").write_text(ONE_SCRIPT)
    with Command("--documents-root", str(site), "--fallback", "index.html") as server:
        for path in ("/", "/orders", "/orders/7/lines"):
            browser.visit(server.url + path)
            assert browser.document()["status"] == 200
            assert browser.run(HEADING) == f"at {path}"
            assert browser.troubles() == []
        browser.run("history.pushState(null, '', '/a/place/of/its/own')")
        browser.call("Page.reload")
        browser.wait_for("Page.loadEventFired")
        assert browser.run(HEADING) == "at /a/place/of/its/own"
        statuses = [browser.run(FETCHED % pair) for pair in PAIRS]
        assert statuses == [404, 404, 404, 200]
        browser.visit(server.url + "/orders/missing.png")
        assert browser.document()["status"] == 404


# What a script, a picture and an API's client ask for; and a navigation.
PAIRS: Final = (
    ("/orders/missing.js", "*/*"),
    ("/orders/missing.png", "image/avif,image/webp,*/*;q=0.8"),
    ("/orders/8", "application/json"),
    ("/orders/8", "text/html,*/*;q=0.8"),
)
