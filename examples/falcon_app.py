"""Falcon: a form, an upload and a streamed answer.

Run: wsgiserver --chdir examples falcon_app:app
"""

from __future__ import annotations

from falcon import MEDIA_HTML, MEDIA_TEXT, App, HTTPBadRequest, Request, Response

from common import blocks, digest, framework_page, greeting, stream


class Index:
    def on_get(self, request: Request, response: Response) -> None:
        response.content_type = MEDIA_HTML
        response.text = framework_page("Falcon")

    on_head = on_get


class Form:
    def on_post(self, request: Request, response: Response) -> None:
        response.content_type = MEDIA_TEXT
        response.text = greeting(request.get_media().get("name"))


class Upload:
    def on_post(self, request: Request, response: Response) -> None:
        # Falcon hands out the parts while they are read, so the whole form is walked through.
        found = None
        for part in request.get_media():
            if part.name == "file":
                found = digest(blocks(part.stream))
        if found is None:
            raise HTTPBadRequest(description="The form has no file named “file”.")
        response.media = found


class Streamed:
    def on_get(self, request: Request, response: Response) -> None:
        response.content_type = MEDIA_TEXT
        response.stream = stream()

    on_head = on_get


app = App()
app.add_route("/", Index())
app.add_route("/form", Form())
app.add_route("/upload", Upload())
app.add_route("/stream", Streamed())
