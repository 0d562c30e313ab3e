"""A second parser of request heads, plain and slow: written from RFC 9112 and RFC 9110 a character
at a time, without regular expressions and without a line of the server's own code.

It says the same of a head as the server does, or one of them is wrong. Where the RFCs leave the
choice to the server, it makes the server's: which characters of a target are taken, which fields
are dropped, what is too long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

DIGIT: Final = "0123456789"
HEXDIG: Final = DIGIT + "abcdefABCDEF"
ALPHA: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TCHAR: Final = "!#$%&'*+-.^_`|~" + DIGIT + ALPHA  # RFC 9110 §5.6.2
UNRESERVED: Final = ALPHA + DIGIT + "-._~"  # RFC 3986 §2.3
SUB_DELIMS: Final = "!$&'()*+,;="  # RFC 3986 §2.2
# Fields that may not come twice: two of them would be two messages.
SINGLE: Final = ("host", "content-length", "content-type")


class Limits(NamedTuple):
    """The most bytes of a request line, the most fields, the most bytes of one, and of the body."""

    line: int = 8190
    fields: int = 100
    field_size: int = 8190
    body: int = 1 << 30


class Refused(Exception):
    """The head is answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Head:
    """What a head says. `body` is None, the number of its bytes, or "chunked"."""

    method: str = ""
    target: str = ""
    minor: int = 1
    path: str = ""
    query: str = ""
    authority: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    keep: bool = True
    waits: bool = False
    body: int | str | None = None


def read_head(data: bytes, limits: Limits) -> Head:
    """The meaning of a head, given without the empty line at its end.

    :raises Refused: it must not be served.
    """
    lines = data.decode("latin-1").split("\r\n")
    head = Head()
    _request_line(head, lines[0], limits)
    _fields(head, lines[1:], limits)
    _host(head)
    if head.method == "CONNECT":
        raise Refused(501)
    _connection(head)
    _expect(head)
    _framing(head, limits)
    return head


def _only(text: str, characters: str) -> bool:
    for character in text:
        if character not in characters:
            return False
    return text != ""


# -- RFC 9112 §3


def _request_line(head: Head, line: str, limits: Limits) -> None:
    if len(line) > limits.line:
        raise Refused(414)
    parts = line.split(" ")
    if len(parts) != 3:
        raise Refused(400)
    method, target, version = parts
    if not _only(method, TCHAR) or not _is_target(target):
        raise Refused(400)
    if len(version) != 8 or version[:5] != "HTTP/" or version[6] != ".":
        raise Refused(400)
    if version[5] not in DIGIT or version[7] not in DIGIT:
        raise Refused(400)
    if version[5] != "1":
        raise Refused(505)
    head.method, head.target, head.minor = method, target, int(version[7])
    _target(head, target)


def _is_target(target: str) -> bool:
    for character in target:
        if not "!" <= character <= "~" or character in '"<>#':
            return False
    return target != ""


def _target(head: Head, target: str) -> None:
    """The four forms of §3.2."""
    if target[0] == "/":
        path, head.query = _cut(target)
    elif target == "*" and head.method == "OPTIONS":
        path = ""
    elif head.method == "CONNECT":
        if not _is_host(target, needs_port=True):
            raise Refused(400)
        path, head.authority = "", target
    else:
        path = _absolute(head, target)
    head.path = _percent_decoded(path)


def _absolute(head: Head, target: str) -> str:
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise Refused(400)
    end = 0
    while end < len(rest) and rest[end] not in "/?":
        end += 1
    head.authority = rest[:end]
    if not _is_host(head.authority):
        raise Refused(400)
    path, head.query = _cut(rest[end:])
    return path or "/"


def _cut(text: str) -> tuple[str, str]:
    path, _, query = text.partition("?")
    return path, query


def _percent_decoded(path: str) -> str:
    """PEP 3333: the bytes of the path as latin-1."""
    found, at = "", 0
    while at < len(path):
        digits = path[at + 1 : at + 3]
        if path[at] == "%" and len(digits) == 2 and _only(digits, HEXDIG):
            found += chr(int(digits, 16))
            at += 3
        else:
            found += path[at]
            at += 1
    return found


# -- RFC 9112 §5


def _fields(head: Head, lines: list[str], limits: Limits) -> None:
    if len(lines) > limits.fields or any(len(line) > limits.field_size for line in lines):
        raise Refused(431)
    pairs = [_field(line) for line in lines]
    seen: list[str] = []
    for name, value in pairs:
        lower = name.lower()
        if lower in SINGLE and lower in seen:
            raise Refused(400)
        seen.append(lower)
        if "_" in name or lower == "proxy":
            head.dropped.append(name)
            continue
        key = lower.upper().replace("-", "_")
        if lower not in ("content-length", "content-type"):
            key = "HTTP_" + key
        if key in head.fields:
            separator = "; " if lower == "cookie" else ", "
            head.fields[key] += separator + value
        else:
            head.fields[key] = value


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _only(name, TCHAR):
        raise Refused(400)
    for character in value:
        if character != "\t" and (character < " " or character == "\x7f"):
            raise Refused(400)
    return name, value.strip(" \t")


# -- RFC 9112 §3.2, RFC 9110 §7.2, RFC 3986 §3.2.2


def _host(head: Head) -> None:
    host = head.fields.get("HTTP_HOST")
    if host is None:
        if head.minor > 0:
            raise Refused(400)
    elif not _is_host(host):
        raise Refused(400)


def _is_host(text: str, needs_port: bool = False) -> bool:
    """uri-host [ ":" port ], not empty; a port of up to five digits, a name of up to 255 bytes."""
    if text[:1] == "[":
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or not (_is_ipv6(inner) or _is_future(inner)):
            return False
    else:
        name, colon, port = text.partition(":")
        rest = colon + port
        if not _is_name(name):
            return False
    if not rest:
        return not needs_port
    port = rest[1:]
    if rest[0] != ":" or (port and not _only(port, DIGIT)) or len(port) > 5:
        return False
    return port != "" or not needs_port


def _is_name(name: str) -> bool:
    at = length = 0
    while at < len(name):
        if name[at] == "%":
            digits = name[at + 1 : at + 3]
            if len(digits) != 2 or not _only(digits, HEXDIG):
                return False
            at += 3
        elif name[at] in UNRESERVED + SUB_DELIMS:
            at += 1
        else:
            return False
        length += 1
    return 0 < length <= 255


def _is_future(text: str) -> bool:
    version, dot, rest = text[1:].partition(".")
    return (
        text[:1] in ("v", "V")
        and dot == "."
        and _only(version, HEXDIG)
        and _only(rest, UNRESERVED + SUB_DELIMS + ":")
    )


def _is_ipv6(text: str) -> bool:
    """Eight groups, or fewer with one `::`; the last two may be written as IPv4."""
    before, gap, after = text.partition("::")
    if not gap:
        return _groups(text, may_end_in_ipv4=True) == 8
    left = _groups(before, may_end_in_ipv4=False) if before else 0
    right = _groups(after, may_end_in_ipv4=True) if after else 0
    return left is not None and right is not None and left + right <= 7


def _groups(text: str, may_end_in_ipv4: bool) -> int | None:
    """How many 16-bit groups are written here; None if it is not only those."""
    count = 0
    groups = text.split(":")
    for place, group in enumerate(groups):
        if may_end_in_ipv4 and place == len(groups) - 1 and "." in group:
            if not _is_ipv4(group):
                return None
            count += 2
        elif len(group) <= 4 and _only(group, HEXDIG):
            count += 1
        else:
            return None
    return count


def _is_ipv4(text: str) -> bool:
    octets = text.split(".")
    for octet in octets:
        if not _only(octet, DIGIT) or len(octet) > 3 or int(octet) > 255:
            return False
        if len(octet) > 1 and octet[0] == "0":
            return False
    return len(octets) == 4


# -- RFC 9112 §6, §9.3; RFC 9110 §10.1.1


def _connection(head: Head) -> None:
    options = [
        option.strip(" \t").lower() for option in head.fields.get("HTTP_CONNECTION", "").split(",")
    ]
    if "close" in options:
        head.keep = False
    elif head.minor == 0:
        head.keep = "keep-alive" in options


def _expect(head: Head) -> None:
    expectation = head.fields.get("HTTP_EXPECT")
    if expectation is not None and head.minor > 0:
        if expectation.lower() != "100-continue":
            raise Refused(417)
        head.waits = True


def _framing(head: Head, limits: Limits) -> None:
    coding = head.fields.get("HTTP_TRANSFER_ENCODING")
    length = head.fields.get("CONTENT_LENGTH")
    if coding is not None:
        if length is not None or head.minor == 0:
            raise Refused(400)
        codings = [name.strip(" \t").lower() for name in coding.split(",")]
        if codings[-1] != "chunked" or codings.count("chunked") > 1:
            raise Refused(400)
        if len(codings) > 1:
            raise Refused(501)
        head.body = "chunked"
    elif length is not None:
        if not _only(length, DIGIT) or len(length) > 19:
            raise Refused(400)
        if int(length) > limits.body:
            raise Refused(413)
        head.body = int(length) or None
