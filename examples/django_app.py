"""Django in one file: a form, an upload and a streamed answer.

Run: wsgiserver --chdir examples django_app:application
"""

from __future__ import annotations

import secrets

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from common import digest, framework_page, greeting, stream

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]"],
        MIDDLEWARE=[
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        ROOT_URLCONF=__name__,
        # Nothing is signed that has to outlive the process.
        SECRET_KEY=secrets.token_urlsafe(50),
    )


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(framework_page("Django"))


# The two posting views are exempt from the CSRF check because they change nothing and know no
# session: there is nothing a forged request could gain, and curl can post without a token.
@csrf_exempt
@require_POST
def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        greeting(request.POST.get("name")), content_type="text/plain; charset=utf-8"
    )


@csrf_exempt
@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES.get("file")
    if file is None:
        return HttpResponseBadRequest("The form has no file named “file”.\n")
    return JsonResponse(digest(file.chunks()))


@require_safe
def streamed(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(stream(), content_type="text/plain; charset=utf-8")


urlpatterns = [
    path("", index),
    path("form", form),
    path("upload", upload),
    path("stream", streamed),
]

application = get_wsgi_application()
