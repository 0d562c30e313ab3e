"""Pyramid: a form, an upload and a streamed answer.

Run: wsgiserver --chdir examples pyramid_app:app
"""

from __future__ import annotations

from contextlib import ExitStack

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.request import Request
from pyramid.response import Response

from common import blocks, digest, framework_page, greeting, stream


def index(request: Request) -> Response:
    return Response(framework_page("Pyramid"))


def form(request: Request) -> Response:
    return Response(greeting(request.POST.get("name")), content_type="text/plain", charset="utf-8")


def upload(request: Request) -> Response:
    received = request.body_file_raw
    part = request.POST.get("file")
    # WebOb works on copies of a large body and of the file in it, and leaves both to be closed.
    with ExitStack() as copies:
        if request.body_file_raw is not received:
            copies.enter_context(request.body_file_raw)
        file = getattr(part, "file", None)  # a field that is no file is a plain string
        if file is None:
            raise HTTPBadRequest("The form has no file named “file”.")
        return Response(json=digest(blocks(copies.enter_context(file))))


def streamed(request: Request) -> Response:
    return Response(app_iter=stream(), content_type="text/plain", charset="utf-8")


with Configurator() as config:
    for name, pattern, method, view in [
        ("index", "/", "GET", index),
        ("form", "/form", "POST", form),
        ("upload", "/upload", "POST", upload),
        ("stream", "/stream", "GET", streamed),
    ]:
        config.add_route(name, pattern)
        config.add_view(view, route_name=name, request_method=method)
    app = config.make_wsgi_app()
