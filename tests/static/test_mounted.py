"""StaticFiles in front of Flask and Django, as docs/static.md shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.serving import Command

DJANGO: Final = """
import os
from pathlib import Path

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

HERE = Path(__file__).parent
settings.configure(
    SECRET_KEY="for the test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.staticfiles"],
    STATIC_URL="/static/",
    STATIC_ROOT=str(HERE / "collected"),
    STATICFILES_DIRS=[str(HERE / "assets")],
    STORAGES={
        "staticfiles": {
            "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
        },
    },
)
django.setup()


def home(request):
    from django.templatetags.static import static

    return HttpResponse(static("site.css"))


urlpatterns = [path("", home)]


def make_app():
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    from middleware import StaticFiles

    call_command("collectstatic", interactive=False, verbosity=0)
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    return StaticFiles(
        settings.STATIC_ROOT,
        app=get_wsgi_application(),
        prefix=settings.STATIC_URL,
        immutable=manifest,
    )
"""

FLASK: Final = """
from pathlib import Path

from flask import Flask

from middleware import StaticFiles

app = Flask(__name__, static_folder=None)


@app.get("/static/made.txt")
def made():
    return "made by Flask"


app.wsgi_app = StaticFiles(Path(__file__).parent / "assets", app=app.wsgi_app, prefix="/static/")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "site.css").write_text("body { color: red }\n")
    (tmp_path / "shop.py").write_text(DJANGO)
    (tmp_path / "page.py").write_text(FLASK)
    return tmp_path


def test_django_with_its_manifest(place: Path) -> None:
    pytest.importorskip("django")
    with (
        Command("--pythonpath", str(place), "shop:make_app()") as server,
        server.connect() as wire,
    ):
        hashed = wire.get("/").body.decode()
        assert re.fullmatch(r"/static/site\.[0-9a-f]{12}\.css", hashed)
        reply = wire.get(hashed)
        assert reply.body == b"body { color: red }\n"
        assert reply.get("Cache-Control") == "public, max-age=31536000, immutable"
        assert wire.get("/static/site.css").get("Cache-Control") == "no-cache"
        assert wire.get("/static/none.css").status == 404


def test_flask(place: Path) -> None:
    pytest.importorskip("flask")
    with (
        Command("--pythonpath", str(place), "page:app") as server,
        server.connect() as wire,
    ):
        assert wire.get("/static/site.css").body == b"body { color: red }\n"
        assert wire.get("/static/made.txt").body == b"made by Flask"
        assert wire.get("/static/none").status == 404


def test_the_command_line_mounts_it_too(place: Path) -> None:
    """Beside an application at /static/, with options of the files."""
    options = ("--documents-root", str(place / "assets"), "--cache-control", "*.css=max-age=60")
    (place / "plain.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '3')])\n"
        "    return [b'app']\n"
    )
    with (
        Command("--pythonpath", str(place), "plain:app", *options) as server,
        server.connect() as wire,
    ):
        assert wire.get("/static/site.css").get("Cache-Control") == "max-age=60"
        assert wire.get("/static/none").body == b"app"


def test_live_reload(place: Path) -> None:
    root = place / "assets"
    (root / "index.html").write_text("<body><p>hello</p></body>")
    with (
        Command("--documents-root", str(root), "--live-reload", "-k", "epoll") as server,
        server.connect() as wire,
    ):
        page = wire.get("/")
        script = re.search(rb'src="(/[^"]+)"', page.body)
        assert script is not None and page.get("Cache-Control") == "no-store"
        assert wire.get(script[1].decode()).status == 200
        first = wire.get("/.live-reload/events")
        known = re.search(rb"id: (\S+)", first.body)
        assert first.get("Content-Type") == "text/event-stream" and known is not None
        (root / "index.html").write_text("<body><p>hello again</p></body>")
        since = f"Last-Event-ID: {known[1].decode()}"
        end = time.monotonic() + 5  # what was seen is believed for a moment
        while b"event: reload" not in wire.get("/.live-reload/events", since).body:
            assert time.monotonic() < end, "the change is not told"
            time.sleep(0.1)
        assert b"hello again" in wire.get("/").body


def test_python_m_compress(place: Path) -> None:
    (place / "assets" / "long.css").write_text("body { color: red }\n" * 100)
    result = subprocess.run(
        [sys.executable, "-m", "middleware.compress", str(place / "assets")],
        cwd=Path(__file__).parents[2],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (place / "assets" / "long.css.gz").exists()
