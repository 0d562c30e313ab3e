"""Ways to answer a request: a page by RFC 9110's order of steps, a text, a redirect.

Preconditions come first (13.2.2), then Range (14.2), then the content. HEAD gets what GET would,
without the content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from middleware.body import ONE_BLOCK, Block, Parts, SharedSlice, positional, stream
from middleware.caching import POLICY_FIELDS
from middleware.conditional import evaluate, range_applies
from middleware.multipart import Multipart, part_cost
from middleware.page import Header, Headers, Page, Variant
from middleware.ranges import Slice, parse_range

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIEnvironment

    from middleware.live_reload import Version

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
NOT_FOUND: Final = "404 Not Found"
_BY_ACCEPT: Final = ("Vary", "Accept")
_NOT_OF_A_SUBSTITUTE: Final = POLICY_FIELDS | {
    "accept-ranges",
    "content-length",
    "etag",
    "last-modified",
}
_NO_STORE: Final = ("Cache-Control", "no-store")


class Request:
    """A request and the ways to answer it.

    answers_for: the application in whose name it is answered. fresh_until: until when that answer
    holds (monotonic seconds), for servers that send it again (docs/finished-answers.md).
    policy: what caches are told of answers that are no file's.
    """

    __slots__ = (
        "answers_for",
        "environ",
        "exc_info",
        "extra",
        "fresh_until",
        "method",
        "policy",
        "start_response",
        "version",
    )

    def __init__(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        answers_for: object,
        policy: Header,
    ) -> None:
        self.environ = environ
        self.start_response = start_response
        self.method: str = environ["REQUEST_METHOD"]
        self.answers_for = answers_for
        self.fresh_until = 0.0
        self.policy = policy
        self.extra: Headers = []  # headers that depend on who asks, or how
        self.version: Version | None = None  # of the site, with live reload
        self.exc_info: ExcInfo | None = None  # of the error that the answer is about

    def holds_until(self, moment: float) -> None:
        """The answer is also made of something that holds until then, and no longer."""
        self.fresh_until = min(self.fresh_until, moment)

    def vary_by_accept(self) -> None:
        """Whatever is answered now, it would be another answer for another Accept."""
        self.extra = [*self.extra, _BY_ACCEPT]

    def passed_on(self) -> StartResponse:
        """The `start_response` for the application behind."""
        if _BY_ACCEPT not in self.extra:
            return self.start_response

        def start_response(
            status: str, headers: Headers, *exc_info: ExcInfo | None
        ) -> Callable[[bytes], object]:
            return self.start_response(status, _joined(headers, [_BY_ACCEPT]), *exc_info)

        return start_response

    def start(self, status: str, headers: Headers) -> None:
        """Begin the answer with these headers, and those that depend on who asks."""
        headers = _joined(headers, self.extra) if self.extra else headers[:]
        if self.exc_info is None:
            self.start_response(status, headers)
        else:
            self.start_response(status, headers, self.exc_info)

    def send(self, status: str, headers: Headers, data: bytes = b"") -> Iterable[bytes]:
        """Answer with these headers, which say how long the content is, and with `data`."""
        body = Block([data] if data and self.method != "HEAD" else ())
        body.answered_by = self.answers_for
        body.fresh_until = self.fresh_until
        self.start(status, headers)
        return body

    def text(self, status: str, line: str, headers: Headers) -> Iterable[bytes]:
        """Answer with one line of plain text."""
        data = f"{line}\n".encode()
        kept = [pair for pair in headers if pair[0] != NOSNIFF[0]]
        plain = [("Content-Type", "text/plain; charset=utf-8"), NOSNIFF, *kept]
        return self.send(status, [*plain, ("Content-Length", str(len(data)))], data)

    # -- pages

    def page(self, page: Page) -> Iterable[bytes]:
        """Answer with a page. Raises Changed, OSError."""
        environ = self.environ
        variant = page.choose(environ.get("HTTP_ACCEPT_ENCODING"))
        if variant is None:
            line = "The file cannot be had in a content coding that is accepted."
            if not page.codings:
                self.extra = [*self.extra, ("Vary", "Accept-Encoding")]
            return self._refused("406 Not Acceptable", line, page.plain)
        status = evaluate(self.method, environ, variant.validators)
        if status == 304:
            return self.send("304 Not Modified", variant.not_modified)
        if status == 412:
            line = "The precondition is false."
            return self._refused("412 Precondition Failed", line, variant)
        # RFC 9110 14.2 defines Range for GET only.
        if "HTTP_RANGE" in environ and self.method == "GET":
            if range_applies(environ, variant.validators):
                return self._range(variant, environ["HTTP_RANGE"])
        return self._content("200 OK", variant.whole, variant, Slice(0, variant.size))

    def instead(self, status: str, page: Page) -> Iterable[bytes]:
        """Answer with a page that stands in for what was asked (404): it has no validators, since
        nothing that the client has can be compared with it, and no policy for caches."""
        variant = page.choose(self.environ.get("HTTP_ACCEPT_ENCODING")) or page.plain
        headers = [pair for pair in variant.full if pair[0].lower() not in _NOT_OF_A_SUBSTITUTE]
        headers += [self.policy, ("Content-Length", str(variant.size))]
        return self._content(status, headers, variant, Slice(0, variant.size))

    def _refused(
        self, status: str, line: str, variant: Variant, headers: Headers | None = None
    ) -> Iterable[bytes]:
        """Answer that the request cannot be met, with the file's headers but for its policy: one
        client's bad request, kept by a cache, would be the answer to everybody's good one."""
        kept = [pair for pair in variant.not_modified if pair[0].lower() not in POLICY_FIELDS]
        return self.text(status, line, [*(headers or []), *kept, _NO_STORE])

    def _range(self, variant: Variant, value: str) -> Iterable[bytes]:
        size = variant.size
        kind = next((v for name, v in variant.full if name.lower() == "content-type"), None)
        slices = parse_range(value, size, part_cost(max(size, 1), kind))
        if slices is None:
            return self._content("200 OK", variant.whole, variant, Slice(0, size))
        if not slices:
            unsatisfied = [("Content-Range", f"bytes */{size}")]
            line = "The file has no such bytes."
            return self._refused("416 Range Not Satisfiable", line, variant, unsatisfied)
        if len(slices) > 1:
            return self._ranges(variant, Multipart(slices, size, kind))
        (part,) = slices
        headers = [*variant.full, ("Content-Range", part.content_range(size))]
        headers.append(("Content-Length", str(part.length)))
        return self._content("206 Partial Content", headers, variant, part)

    def _ranges(self, variant: Variant, parts: Multipart) -> Iterable[bytes]:
        headers = [pair for pair in variant.full if pair[0].lower() != "content-type"]
        headers += [("Content-Type", parts.content_type), ("Content-Length", str(parts.length))]
        file = variant.file
        if file is None:
            body = Parts(parts, variant.content.data())
        else:
            wrapper = self.environ.get("wsgi.file_wrapper")
            body = Parts(parts, file.shared() if positional(wrapper) else file.own())
        try:
            self.start("206 Partial Content", headers)
        except BaseException:
            body.close()
            raise
        return body

    def _content(
        self, status: str, headers: Headers, variant: Variant, part: Slice
    ) -> Iterable[bytes]:
        if self.method == "HEAD":
            return self.send(status, headers)
        content = variant.file
        if content is None:
            data = variant.content.data()
            if part.length != len(data):
                data = data[part.start : part.stop]
            return self.send(status, headers, data)
        wrapper = self.environ.get("wsgi.file_wrapper")
        if wrapper is None or not positional(wrapper):
            file = content.own()
            try:
                self.start(status, headers)
                return stream(file, part, wrapper)
            except BaseException:
                file.close()
                raise
        shared = SharedSlice(content.shared(), part.start, part.length)
        shared.answered_by = self.answers_for
        shared.fresh_until = self.fresh_until
        self.start(status, headers)
        body: Iterable[bytes] = wrapper(shared, ONE_BLOCK)
        return body


def _joined(headers: Headers, extra: Headers) -> Headers:
    """The headers with `extra`, of which those stay away that are there (`_headers` has set
    them); Vary is added to."""
    names = {name.lower() for name, _ in headers}
    joined = headers + [pair for pair in extra if pair[0].lower() not in names]
    for name, value in extra:
        if name == "Vary" and "vary" in names:
            joined = [(n, f"{v}, {value}" if n.lower() == "vary" else v) for n, v in joined]
    return joined
