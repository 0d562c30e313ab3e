"""Headless Chromium loads the site and the Flask example; every resource must be there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.serving import Command
from tests.support.browser import CHROMIUM, FLAGS, needed

# In the page's own time, so that what its scripts do after loading is seen.
PATIENCE: Final = "--virtual-time-budget=3000"

pytestmark = needed


class Visit:
    """What a page became in the browser, and what the browser asked for meanwhile."""

    def __init__(self, dom: str, requests: list[dict[str, Any]]) -> None:
        self.dom = dom
        self.requests = requests

    @property
    def paths(self) -> set[str]:
        """The paths it asked for."""
        return {each["target"].partition("?")[0] for each in self.requests}

    def check(self) -> None:
        """Every request was made by the browser and answered with what it asked for."""
        assert self.requests
        for each in self.requests:
            assert "Chrome" in each["user_agent"]
            assert each["status"] in (200, 304), each
            assert not each["aborted"], each


def visit(tmp_path: Path, path: str, *arguments: str) -> Visit:
    """Serve with these arguments, and have the browser load one page."""
    log = tmp_path / "access.json"
    options = ("--access-log", str(log), "--access-log-format", "json", *arguments)
    with Command(*options) as server:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [CHROMIUM, *FLAGS, PATIENCE, profile, "--dump-dom", server.url + path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    lines = log.read_text("utf-8").splitlines()
    return Visit(done.stdout, [json.loads(line) for line in lines])


@pytest.mark.parametrize("worker_model", ["threadpool", "epoll"])
def test_the_site(worker_model: str, tmp_path: Path) -> None:
    found = visit(tmp_path, "/", "--documents-root", "html", "-k", worker_model)
    found.check()
    assert found.paths >= {
        "/",
        "/css/site.css",
        "/js/copy.js",
        "/js/waiting.js",
        "/js/simulate.js",  # imported by a module: found only by running it
        "/img/mark.svg",
    }
    # The page is written without them: the script shows the diagram and draws into it.
    assert re.search(r'<div class="waiting[^"]*lively|class="[^"]*\bwaiting lively', found.dom)
    assert re.search(r'<path class="link" data-client="5"', found.dom)
    assert '<div class="replay" hidden' not in found.dom


def test_the_page_that_sends_requests_of_its_own(tmp_path: Path) -> None:
    found = visit(tmp_path, "/static.html", "--documents-root", "html")
    found.check()
    assert "/js/requests.js" in found.paths
    asked = [each["method"] for each in found.requests if "connections.webp" in each["target"]]
    assert "HEAD" in asked
    size = (Path(__file__).parent.parent / "html/img/connections.webp").stat().st_size
    assert f"content-length: {size}" in found.dom
    assert '<span class="status">200 OK' in found.dom


def test_flask_with_the_site_beside_it(tmp_path: Path) -> None:
    both = ("--chdir", "examples", "flask_app:app")
    files = ("--documents-root", "../html", "--static-url", "/site/")
    page = visit(tmp_path, "/", *both, *files)
    assert "<h1>Flask is being served</h1>" in page.dom
    assert "/" in page.paths
    page.check()


def test_the_site_beside_flask(tmp_path: Path) -> None:
    both = ("--chdir", "examples", "flask_app:app")
    files = ("--documents-root", "../html", "--static-url", "/site/")
    site = visit(tmp_path, "/site/index.html", *both, *files)
    site.check()
    names = ("index.html", "css/site.css", "js/waiting.js", "js/simulate.js", "img/mark.svg")
    assert site.paths >= {f"/site/{name}" for name in names}
    assert 'data-client="5"' in site.dom
