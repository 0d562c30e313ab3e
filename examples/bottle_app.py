"""Bottle: a form, an upload and a streamed answer.

Run: wsgiserver --chdir examples bottle_app:app
"""

from __future__ import annotations

from collections.abc import Iterator

from bottle import Bottle, HTTPError, request, response

from common import blocks, digest, framework_page, greeting, stream

app = Bottle()


@app.get("/")
def index() -> str:
    return framework_page("Bottle")


@app.post("/form")
def form() -> str:
    response.content_type = "text/plain; charset=utf-8"
    return greeting(request.forms.getunicode("name"))


@app.post("/upload")
def upload() -> dict[str, int | str]:
    file = request.files.get("file")
    if file is None:
        raise HTTPError(400, "The form has no file named “file”.")
    return digest(blocks(file.file))


@app.get("/stream")
def streamed() -> Iterator[bytes]:
    response.content_type = "text/plain; charset=utf-8"
    return stream()
