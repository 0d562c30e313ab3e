"""A request's head, from bytes to values: request line (RFC 9112 §3) and field lines (§5).

One possessive `fullmatch` judges the line and one the block of fields; what they let through is
only taken apart afterwards. The keys of `Fields.environ` are CGI names (RFC 3875 §4.1.18), the
only form in which the server ever looks at a header: the one deliberate leak of PEP 3333 into
this layer, since a second dictionary per request would cost more than all the parsing.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import unquote_to_bytes

from wsgiserver.http import grammar
from wsgiserver.http.errors import BadRequest, FieldsTooLarge, URITooLong, VersionNotSupported

# RFC 9110 §5.3 lets a recipient combine repeated fields with a comma. Of these, two would mean
# two different messages, so a repetition is refused.
_SINGLETONS: Final = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})

# `_` and `-` are the same in a CGI key, so `X_User: root` could pose as a proxy's `X-User`; and
# `Proxy` would become HTTP_PROXY, which HTTP clients obey (httpoxy, CVE-2016-5385).
_DROPPED: Final = ""

_MOST_KEYS: Final = 1024
_keys: dict[str, str] = {}


def _cgi_key(name: str) -> str:
    """The environ key of a field name; `_DROPPED` for a name that must not reach an application.

    Remembered, until a client that invents names has filled the memory: then it begins anew.
    """
    key = name.upper().replace("-", "_")
    if "_" in name or key == "PROXY":
        key = _DROPPED
    elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = "HTTP_" + key
    if len(name) <= 64:
        if len(_keys) >= _MOST_KEYS:
            _keys.clear()
        _keys[name] = key
    return key


class RequestLine:
    """Method, target and version of one request.

    `path` is percent-decoded to latin-1 as PEP 3333 wants PATH_INFO ("" for `*`), `query` is raw,
    `authority` is set for absolute-form and authority-form only and outranks Host (RFC 9112
    §3.2.2), `minor` is the digit after `HTTP/1.`.
    """

    __slots__ = ("authority", "method", "minor", "path", "query", "target")

    def __init__(self, method: str, target: str, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.authority: str | None = None
        if target[0] == "/":
            path, _, self.query = target.partition("?")
        else:
            path, self.query = self._other_form(target)
        # "%" is rare enough for the test to be cheaper than the call.  # hot: one call less
        self.path = unquote_to_bytes(path).decode("latin-1") if "%" in path else path

    def _other_form(self, target: str) -> tuple[str, str]:
        """Path and query of the absolute, authority and asterisk forms (RFC 9112 §3.2.2-4)."""
        if target == "*" and self.method == "OPTIONS":
            return "", ""
        if self.method == "CONNECT":
            if not (grammar.AUTHORITY.fullmatch(target) and valid_host(target)):
                raise BadRequest("the target of CONNECT must be host:port.")
            self.authority = target
            return "", ""
        absolute = grammar.ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise BadRequest("the request target has none of the four forms of RFC 9112.")
        self.authority = absolute[2]
        if not valid_host(self.authority):
            raise BadRequest("the authority in the request target is not valid.")
        return absolute[3] or "/", absolute[4] or ""


def parse_request_line(line: bytes, limit: int) -> RequestLine:
    """Take apart one request line, given without its CRLF.

    :param limit: the most bytes a line may have.
    :raises URITooLong: it is over the limit. :raises VersionNotSupported: not HTTP/1.
    :raises BadRequest: anything else that RFC 9112 §3 does not allow.
    """
    match = grammar.REQUEST_LINE.fullmatch(line)
    if match is None or len(line) > limit:
        raise _wrong_line(line, limit)
    method, target, minor = match.groups()
    return RequestLine(method.decode("ascii"), target.decode("ascii"), int(minor))


def _impossible() -> BadRequest:
    """The same words however the head was cut into packets."""
    return BadRequest("the request contains a character that no HTTP/1.1 head may contain.")


def _wrong_line(line: bytes, limit: int) -> Exception:
    if len(line) > limit:
        return URITooLong(f"the request line is over {limit} bytes.")
    if grammar.IMPOSSIBLE.search(line):
        return _impossible()
    if grammar.OTHER_VERSION.fullmatch(line):
        return VersionNotSupported("this server speaks HTTP/1.1 and HTTP/1.0.")
    return BadRequest("the request line is not 'method target HTTP/1.1'.")


def tokens(value: str) -> list[str]:
    """The members of a list of tokens, in lower case (RFC 9110 §5.6.1)."""
    return [token.strip(" \t") for token in value.lower().split(",")]


def valid_host(host: str) -> bool:
    """Whether this is `uri-host [ ":" port ]` with a host (RFC 9110 §7.2, RFC 3986 §3.2.2)."""
    if not grammar.HOST.fullmatch(host):
        return False
    if host[0] != "[" or host[1] in "vV":
        return True
    try:
        IPv6Address(host[1 : host.index("]")])
    except ValueError:
        return False
    return True


class Fields:
    """The field lines of one request, as CGI variables, with what the server itself needs.

    `environ` maps CGI keys to values joined as CGI wants (RFC 3875 §4.1.18; Cookie by RFC 6265
    §5.4 with `; `); `dropped` names the fields that were left out (see `_cgi_key`); `close` and
    `keep_alive` say which of these tokens Connection lists (RFC 9110 §7.6.1).
    """

    __slots__ = ("close", "dropped", "environ", "keep_alive")

    def __init__(self, environ: dict[str, str], dropped: tuple[str, ...]) -> None:
        self.environ = environ
        self.dropped = dropped
        self.close = self.keep_alive = False
        connection = environ.get("HTTP_CONNECTION")
        if connection is not None:
            listed = tokens(connection)
            self.close = "close" in listed
            self.keep_alive = "keep-alive" in listed


def parse_fields(block: bytes, most: int, longest: int) -> Fields:
    """Take apart the field lines, given with the CRLF of each and without the empty line.

    :param most: how many lines there may be. :param longest: bytes that one line may have.
    :raises FieldsTooLarge: one of the limits is passed.
    :raises BadRequest: a line that RFC 9112 §5 does not allow, or a repeated field that may come
        only once.
    """
    if grammar.FIELDS.fullmatch(block) is None:
        raise _wrong_fields(block, most, longest)
    text = block.decode("latin-1")
    lines = grammar.FIELD.findall(text)
    if len(lines) > most:
        raise FieldsTooLarge(f"there are more than {most} header fields.")
    if len(block) > longest and max(map(len, text.split("\r\n"))) > longest:
        raise FieldsTooLarge(f"a header field is over {longest} bytes.")
    trailing_space = " \r" in text or "\t\r" in text
    environ: dict[str, str] = {}
    dropped: tuple[str, ...] = ()
    for name, value in lines:
        key = _keys.get(name)  # hot: a name seen before costs no call
        if key is None:
            key = _cgi_key(name)
        if trailing_space:
            value = value.rstrip(" \t")
        if key in environ:
            environ[key] = _joined(key, environ[key], value)
        elif key:
            environ[key] = value
        else:
            dropped += (name,)
    return Fields(environ, dropped)


def _joined(key: str, first: str, second: str) -> str:
    if key in _SINGLETONS:
        raise BadRequest("a header field that may come only once is repeated.")
    return f"{first}; {second}" if key == "HTTP_COOKIE" else f"{first}, {second}"


def _wrong_fields(block: bytes, most: int, longest: int) -> Exception:
    lines = block.split(b"\r\n")
    if len(lines) - 1 > most:
        return FieldsTooLarge(f"there are more than {most} header fields.")
    if max(map(len, lines)) > longest:
        return FieldsTooLarge(f"a header field is over {longest} bytes.")
    if grammar.IMPOSSIBLE.search(block):
        return _impossible()
    if re.search(rb"(?:\A|\n)[ \t]", block):
        return BadRequest("a header field is folded over several lines.")
    return BadRequest("a header field is not 'name: value' in the characters RFC 9110 allows.")


def check_beginning(start: bytes | bytearray, since: int) -> None:
    """Refuse a head that is not complete yet as soon as it can no longer become one.

    :param start: all that came so far. :param since: how much of it was checked before.
    :raises BadRequest: a byte that no head can contain, or a first byte that begins no method.
    """
    if grammar.IMPOSSIBLE.search(start, max(since - 1, 0)):
        raise _impossible()
    if since == 0 and start[:1] != b"\r" and not grammar.TOKEN.match(start):
        raise BadRequest("this is not an HTTP/1.1 request.")
