"""Flask: a form, an upload, a streamed answer and error pages, with a static site beside it.

Run: wsgiserver --chdir examples flask_app:app --documents-root ../html --static-url /site/
"""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest, HTTPException

from common import blocks, digest, framework_page, greeting, page, stream

app = Flask(__name__, static_folder=None)


@app.get("/")
def index() -> str:
    return framework_page("Flask", more="flask.html")


@app.post("/form")
def form() -> Response:
    return Response(greeting(request.form.get("name")), mimetype="text/plain")


@app.post("/upload")
def upload() -> dict[str, int | str]:
    file = request.files.get("file")
    if file is None:
        raise BadRequest("The form has no file named “file”.")
    return digest(blocks(file.stream))


@app.get("/stream")
def streamed() -> Response:
    return Response(stream(), mimetype="text/plain")


@app.get("/broken")
def broken() -> str:
    raise RuntimeError("this view fails on purpose")


@app.errorhandler(HTTPException)
def error(reason: HTTPException) -> tuple[str, int]:
    """Answer every error, the application's own failures too (as 500), with one page."""
    text = reason.description or ""
    return page("error.html", reason.name, name=reason.name, description=text), reason.code or 500
