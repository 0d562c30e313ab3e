"""Every example under wsgiref.validate and WebTest's lint, in this process, without a server; and
that what the pages and the README say of the examples is so."""

from __future__ import annotations

import hashlib
import html
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from middleware import StaticFiles

with warnings.catch_warnings():
    # WebOb (WebTest, Pyramid) imports cgi, which Python 3.11 and 3.12 announce as going.
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    from webtest import TestApp  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SITE = EXAMPLES / "static_site"

FRAMEWORKS = {
    "flask_app": "app",
    "django_app": "application",
    "bottle_app": "app",
    "falcon_app": "app",
    "pyramid_app": "app",
}
OTHERS = {"static_beside_flask": "app", "streaming": "app", "upload": "app"}
APPLICATIONS = FRAMEWORKS | OTHERS

# More than one block of common.BLOCK, and all byte values.
CONTENT = bytes(range(256)) * 1000
DIGEST = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the examples be imported as --chdir does it, and their streams not pause."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(load("common"), "PAUSE", 0)
    monkeypatch.setattr(load("streaming"), "PAUSE", 0)


def load(name: str) -> ModuleType:
    """Import one example, and see that it is the example and not a namesake."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == EXAMPLES
    return module


def client(name: str) -> TestApp:
    """Return a client of the example behind the validator, itself behind the lint."""
    application = getattr(load(name), APPLICATIONS[name])
    return TestApp(validator(application), lint=True)


class Structure(HTMLParser):
    """Collects the tags that stay open, in order."""

    VOID = frozenset({"meta", "link", "input", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_start_page_is_whole_html(name: str) -> None:
    answer = client(name).get("/")
    assert answer.status_int == 200
    assert answer.content_type == "text/html"
    assert answer.charset.lower() == "utf-8"
    page = Structure(answer.text)
    assert page.open == []
    assert {"html", "title", "h1", "main"} <= page.seen
    assert "$" not in answer.text


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("who", ["Ada", "Jürgen <b>", "名前"])
def test_the_form_answers_with_the_name(name: str, who: str) -> None:
    answer = client(name).post("/form", {"name": who})
    assert answer.content_type == "text/plain"
    assert answer.text == f"Hello, {who}.\n"


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_form_without_a_name(name: str) -> None:
    assert client(name).post("/form", {"other": "x"}).text == "Hello, stranger.\n"


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("content", [CONTENT, b"", b"\r\n--x"], ids=["large", "empty", "edge"])
def test_the_upload_answers_with_size_and_digest(name: str, content: bytes) -> None:
    answer = client(name).post("/upload", upload_files=[("file", "a.bin", content)])
    assert answer.content_type == "application/json"
    expected = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert answer.json == expected


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_upload_without_the_file_is_refused(name: str) -> None:
    answer = client(name).post("/upload", upload_files=[("other", "a", b"x")], expect_errors=True)
    assert answer.status_int == 400
    assert "“file”" in answer.text or "\\u201cfile" in answer.text


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_stream_comes_in_blocks(name: str) -> None:
    answer = client(name).get("/stream")
    assert answer.content_type == "text/plain"
    assert answer.body == b"".join(load("common").stream())
    headers, blocks = blocks_of(name, "/stream")
    assert "content-length" not in headers
    assert len(blocks) >= 5


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize(("method", "path"), [("GET", "/form"), ("POST", "/stream")])
def test_other_methods_are_refused(name: str, method: str, path: str) -> None:
    expected = {
        # Its predicates choose a view; where none fits there is nothing to find.
        "pyramid_app": 404,
        # The CSRF check comes first, and only the two posting views are exempt.
        "django_app": 403 if method == "POST" else 405,
    }
    client(name).request(path, method=method, status=expected.get(name, 405))


def blocks_of(name: str, path: str) -> tuple[set[str], list[bytes]]:
    """Return the names of an answer's headers and its non-empty blocks, as they are yielded."""
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    names: set[str] = set()

    def start_response(_status: str, headers: list[tuple[str, str]], *_: object) -> None:
        names.update(key.lower() for key, _ in headers)

    body = getattr(load(name), APPLICATIONS[name])(environ, start_response)
    try:
        return names, [block for block in body if block]
    finally:
        if hasattr(body, "close"):
            body.close()


def test_flask_shows_its_own_error_pages() -> None:
    flask = client("flask_app")
    missing = flask.get("/nowhere", status=404)
    assert "Not Found" in missing.text
    broken = flask.get("/broken", status=500)
    assert "Internal Server Error" in broken.text
    assert "on purpose" not in broken.text


def test_files_stand_beside_flask() -> None:
    both = client("static_beside_flask")
    assert both.get("/static/").text == (ROOT / "html/index.html").read_text("utf-8")
    assert both.get("/static/css/site.css").content_type == "text/css"
    picture = re.search(r'src="(/static/[^"]+)"', both.get("/").text)
    assert picture is not None
    assert both.get(picture[1]).body == (ROOT / "html/img/connections.webp").read_bytes()
    assert "Flask says" in both.get("/static/nothing.txt", status=404).text


def test_events_are_numbered_and_end() -> None:
    events = parsed(client("streaming").get("/events").text)
    ticks = [event for event in events if event["event"] == "tick"]
    assert [tick["id"] for tick in ticks] == [str(n) for n in range(1, len(ticks) + 1)]
    assert [json.loads(tick["data"])["number"] for tick in ticks] == list(range(1, len(ticks) + 1))
    assert len(ticks) == load("streaming").TICKS
    assert events[-1]["event"] == "end"


@pytest.mark.parametrize(
    ("last", "first"), [("3", "4"), ("0", "1"), ("x", "1"), ("²", "1"), ("99999999999", "1")]
)
def test_events_resume_after_the_last_seen(last: str, first: str) -> None:
    headers = {"Last-Event-ID": last.encode().decode("latin-1")}
    assert parsed(client("streaming").get("/events", headers=headers).text)[0]["id"] == first


def test_events_past_the_end_only_end() -> None:
    answer = client("streaming").get("/events", headers={"Last-Event-ID": "5000"})
    assert [event["event"] for event in parsed(answer.text)] == ["end"]


def parsed(text: str) -> list[dict[str, str]]:
    """Return the events of a text/event-stream, each as its fields."""
    assert text.endswith("\n\n")
    events = text[:-2].split("\n\n")
    return [dict(line.split(": ", 1) for line in event.split("\n")) for event in events]


def test_streaming_sends_text_and_refuses_the_rest() -> None:
    streaming = client("streaming")
    assert streaming.get("/text").body == b"".join(load("common").stream())
    headers, blocks = blocks_of("streaming", "/text")
    assert "content-length" not in headers
    assert len(blocks) >= 5
    assert streaming.head("/events").body == b""
    assert streaming.post("/events", status=405).headers["Allow"] == "GET, HEAD"
    streaming.get("/nowhere", status=404)


@pytest.mark.parametrize("method", ["post", "put"])
def test_upload_digests_the_body(method: str) -> None:
    answer = getattr(client("upload"), method)("/upload", CONTENT)
    assert answer.json == DIGEST


def test_upload_reads_in_blocks_and_not_past_the_length() -> None:
    asked: list[int] = []

    class Endless:
        def read(self, size: int) -> bytes:
            asked.append(size)
            return b"x" * min(size, 50_000)

    environ: dict[str, Any] = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/upload"}
    environ |= {"CONTENT_LENGTH": "150001", "wsgi.input": Endless()}
    (body,) = load("upload").app(environ, lambda *_: None)
    assert json.loads(body)["size"] == 150_001
    assert max(asked) <= 64 * 1024
    assert asked[-1] == 1


def test_upload_reads_a_terminated_body_without_a_length() -> None:
    application = load("upload").app
    answer = raw(application, CONTENT, {"wsgi.input_terminated": True})
    assert answer == ("200 OK", DIGEST)


def test_upload_says_what_is_wrong() -> None:
    application = load("upload").app
    short = raw(application, b"12345", {"CONTENT_LENGTH": "6"})
    assert short == ("400 Bad Request", "400 Bad Request: the body ended early\n")
    status, _ = raw(application, b"12345", {"HTTP_TRANSFER_ENCODING": "chunked"})
    assert status == "411 Length Required"
    upload = client("upload")
    assert upload.get("/upload", status=405).headers["Allow"] == "POST, PUT"
    assert upload.post("/", status=405).headers["Allow"] == "GET, HEAD"
    upload.get("/nowhere", status=404)
    assert upload.head("/").body == b""


def raw(application: Any, content: bytes, more: dict[str, Any]) -> tuple[str, Any]:
    """PUT `content` to /upload with an environ of one's own; return status and answer."""
    environ = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/upload", "wsgi.input": io.BytesIO(content)}
    started: list[str] = []
    (body,) = application(environ | more, lambda status, headers: started.append(status))
    text = body.decode()
    return started[0], json.loads(text) if text.startswith("{") else text


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_header_names_the_command_that_runs_it(name: str) -> None:
    doc = load(name).__doc__ or ""
    assert not doc.startswith("\n")
    command = re.search(r"^Run: (wsgiserver --chdir examples (\w+):(\w+).*)$", doc, re.MULTILINE)
    assert command is not None
    assert command[2] == name
    assert callable(getattr(load(name), command[3]))
    assert f"`{command[1]}`" in (EXAMPLES / "README.md").read_text("utf-8")


def test_the_readme_lists_every_example() -> None:
    shared = {"common"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} - shared == set(APPLICATIONS)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_no_example_knows_the_server(path: Path) -> None:
    imports = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE)
    assert "wsgiserver" not in imports
    assert ("middleware" in imports) == (path.stem == "static_beside_flask")


def test_the_pages_ask_nothing_of_other_hosts() -> None:
    for path in [*EXAMPLES.rglob("*.html"), *(ROOT / "html").rglob("*.html")]:
        links = re.findall(r'(?:href|src|action)="([^"]*)"', path.read_text("utf-8"))
        assert [link for link in links if re.match(r"\w+://|//", link)] == []


def test_the_links_of_the_site_lead_to_files_of_the_site() -> None:
    site = ROOT / "html"
    found = 0
    for path in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^":#]+)["#]', path.read_text("utf-8")):
            target = (path.parent / link).resolve()
            assert target.exists(), f"{path.name}: {link}"
            # Relative, and below the site wherever it is mounted; only 404.html points upwards.
            assert target.is_relative_to(site) or (path.name, link) == ("404.html", "../")
            found += 1
    assert found > 20


@pytest.mark.parametrize("path", sorted(SITE.rglob("*.html")), ids=lambda path: path.stem)
def test_the_pages_of_the_example_site_are_whole_and_lead_to_each_other(path: Path) -> None:
    site = TestApp(validator(StaticFiles(SITE, clean_urls=True)), lint=True)
    text = path.read_text("utf-8")
    page = Structure(text)
    assert page.open == []
    assert {"html", "title", "link"} <= page.seen
    assert "script" not in page.seen
    links = re.findall(r'(?:href|src)="([^"]+)"', text)
    # From the root: an error page or a rewrite is shown at any depth.
    assert {link[0] for link in links} == {"/"}
    for link in links:
        answer = site.get(link, status="*")
        # Only one page shows old addresses; all others name the present ones.
        while path.stem == "about" and answer.status_int in (301, 302, 308):
            answer = answer.follow(status="*")
        assert answer.status_int == (410 if link == "/newsletter/14" else 200), link


README_ROW = re.compile(r"^\| `(/[^`]+)` \| (\d{3})(?: to `([^`]+)`|, `([^`]+)`)", re.MULTILINE)


def test_the_readme_says_what_the_rules_of_the_site_do() -> None:
    site = TestApp(validator(StaticFiles(SITE, clean_urls=True)), lint=True)
    rows = README_ROW.findall((EXAMPLES / "README.md").read_text("utf-8"))
    assert len(rows) == 10
    for asked, status, location, file in rows:
        answer = site.get(asked, status=int(status))
        if location:
            assert answer.headers["Location"] == location
        else:
            assert answer.body == (SITE / file).read_bytes()


def test_security_txt_is_found() -> None:
    site = TestApp(validator(StaticFiles(SITE)), lint=True)
    answer = site.get("/.well-known/security.txt")
    # RFC 9116 2.5: these two are required.
    assert {"Contact", "Expires"} <= set(re.findall(r"^([\w-]+): ", answer.text, re.MULTILINE))
    for name in ("_headers", "_redirects"):
        site.get(f"/{name}", status=404)


def commands(text: str) -> set[str]:
    """The commands that a page (HTML or Markdown) shows, those of the server."""
    shown = re.findall(
        r"<code[^>]*>(wsgiserver .*?)</code>|^    (wsgiserver .+)", text, re.MULTILINE
    )
    plain = (re.sub("<[^>]+>", "", "".join(pair)) for pair in shown)
    return {html.unescape(command).partition("  #")[0].rstrip() for command in plain}


PAGES = ("html/index.html", "html/static.html", "examples/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_that_a_page_shows_work(page: str, tmp_path: Path) -> None:
    shown = commands((ROOT / page).read_text("utf-8"))
    assert shown
    shutil.copytree(SITE, tmp_path / "examples/static_site")
    for name in ("site", "static"):
        shutil.copytree(SITE, tmp_path / name)
    (tmp_path / "myapp.py").write_text("def app(environ, start_response): ...\n")
    for command in shown:
        words = shlex.split(command)[1:]
        if words[0] != "compress":
            words.append("--check-config")
        done = subprocess.run(
            [sys.executable, "-m", "wsgiserver", *words],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)


def test_the_page_of_static_files_shows_lines_of_the_example() -> None:
    text = (ROOT / "html/static.html").read_text("utf-8")
    shown = re.findall(r"<b>(_\w+)</b>.*?<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    assert [name for name, _ in shown] == ["_redirects", "_headers"]
    for name, lines in shown:
        file = (SITE / name).read_text("utf-8").splitlines()
        assert set(html.unescape(lines).splitlines()) <= set(file)


def test_the_page_of_static_files_has_the_figures_of_the_benchmarks() -> None:
    text = (ROOT / "html/static.html").read_text("utf-8")
    measured = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    measured = measured.partition("### CPU time per request for a file")[2]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in measured.splitlines()]
    heads = next(row for row in table if row and row[0] == "server")
    columns = re.findall(r'<th scope="col">(.*?)</th>', text)[1:]
    rows = re.findall(r'<tr data-server="(.*?)"><th.*?</th>(.*?)</tr>', text)
    assert len(rows) >= 3
    for server, cells in rows:
        found = next(row for row in table if row and row[0] == server)
        figures = [found[heads.index(column)].partition(" ")[0] for column in columns]
        assert re.findall("<td>(.*?)</td>", cells) == figures, server
