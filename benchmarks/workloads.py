"""What is asked of the servers: each workload is an application and what wrk sends to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.apps import GREETING

_BODY_SIZE: Final = 1024

# What Firefox sends with a click on a link.
BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Connection": "keep-alive",
    "Referer": "http://localhost/",
    "Cookie": "session=eyJ1c2VyIjoiYWxpY2UifQ.aJ3kzA.u6pQW0Vd2Yc; theme=dark; lang=en",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Priority": "u=0, i",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """A column of the table.

    app: what is served: an application's name in `benchmarks.apps`, or a folder of files.
    script, arguments: the wrk script in benchmarks/lua and what follows `--` on wrk's command line.
    headers: sent by wrk with each request, and by the check.
    method, path, body: the request of the check.
    status, answer, coding: what it must be answered with: the body (for HEAD, that of GET; None
    for any) and its Content-Encoding.
    more: further paths that are checked, with their bodies.
    conditional: send the server's own ETag with If-None-Match.
    keep_alive: the connection must stay open.
    """

    name: str
    title: str
    app: str = "hello"
    script: str = "report.lua"
    arguments: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    path: str = "/"
    body: bytes = b""
    answer: bytes | None = GREETING
    status: int = 200
    coding: str = ""
    more: tuple[tuple[str, bytes], ...] = ()
    conditional: bool = False
    keep_alive: bool = False


WORKLOADS: Final = {
    each.name: each
    for each in (
        Workload("bare", "bare headers"),
        Workload("browser", "a browser's headers", headers=tuple(BROWSER.items())),
        Workload(
            "varied",
            "every request different",
            script="varied.lua",
            path="/items/00000001?page=1",
        ),
        Workload(
            "post",
            "1 KiB POST",
            app="count",
            script="post.lua",
            arguments=(str(_BODY_SIZE),),
            method="POST",
            body=b"x" * _BODY_SIZE,
            answer=b"%d\n" % _BODY_SIZE,
        ),
        Workload("flask", "Flask hello", app="flask_hello"),
    )
}
