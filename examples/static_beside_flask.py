"""Flask with a folder of files in front of it, by middleware: so under any WSGI server.

Run: wsgiserver --chdir examples static_beside_flask:app
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from common import page
from middleware import StaticFiles

SITE = Path(__file__).parent.parent / "html"

app = Flask(__name__, static_folder=None)


@app.get("/")
def index() -> str:
    return page("static.html", "Flask, and files beside it")


@app.get("/static/<path:name>")
def missing(name: str) -> tuple[str, int]:
    """Answer for what is below /static/ but is no file."""
    text = f"Flask says: there is no {name}."
    return page("error.html", "Not found", name="Not found", description=text), 404


# Assigned to wsgi_app, so that `app` stays the Flask object that tools expect.
app.wsgi_app = StaticFiles(SITE, app=app.wsgi_app, prefix="/static/")  # type: ignore[method-assign]
