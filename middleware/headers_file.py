"""`_headers`: response fields by path, in the format of Netlify and Cloudflare Pages.

# a path pattern, then the fields of all paths that match it
/assets/*
  Cache-Control: public, max-age=86400
/assets/*.json
  ! X-Frame-Options
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from middleware.patterns import (
    Pattern,
    Template,
    check_line,
    compile_pattern,
    compile_template,
    lines,
    refuse,
)

MAX_RULES: Final = 1000  # Cloudflare Pages: 100

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2

_FRAMING: Final = "frames the message, which is the server's part"
_CONTENT: Final = "depends on the file and on the request"
_CONNECTION: Final = "belongs to the connection, not to the page (RFC 9110 §7.6.1)"
_REFUSED: Final = {
    "accept-ranges": _CONTENT,
    "age": "is set by caches",
    "allow": _CONTENT,
    "basic-auth": "is a password, which would be sent to everybody; protect the path elsewhere",
    "connection": _CONNECTION,
    "content-encoding": _CONTENT,
    "content-length": _FRAMING,
    "content-range": _CONTENT,
    "date": "is set by the server",
    "etag": _CONTENT,
    "keep-alive": _CONNECTION,
    "last-modified": _CONTENT,
    "location": "is for redirects; write a rule in _redirects",
    "proxy-authenticate": _CONNECTION,
    "proxy-authorization": _CONNECTION,
    "proxy-connection": _CONNECTION,
    "status": "is no response field (PEP 3333)",
    "te": _CONNECTION,
    "trailer": _FRAMING,
    "trailers": _CONNECTION,
    "transfer-encoding": _FRAMING,
    "upgrade": _CONNECTION,
}
# Fields of which only one value is valid: the last rule's stands. (A comma may join values of
# lists only, RFC 9110 §5.3. Content-Security-Policy is such a list.)
_SINGLE: Final = frozenset(
    {
        *("access-control-allow-credentials", "access-control-allow-origin"),
        *("access-control-max-age", "content-disposition", "content-location", "content-type"),
        *("cross-origin-embedder-policy", "cross-origin-opener-policy"),
        *("cross-origin-resource-policy", "expires", "retry-after"),
        *("strict-transport-security", "x-content-type-options", "x-frame-options"),
    }
)


@dataclass(frozen=True, slots=True)
class _Field:
    """One line below a path: what `name` is set to, or None where the line removes it."""

    name: str
    value: Template | None


@dataclass(slots=True)
class _Rule:
    line: int
    pattern: Pattern | None = None  # None: refused, and what follows is read for its errors only
    fields: list[_Field] = field(default_factory=list)
    used: bool = False  # something follows the path, right or wrong


class HeaderRules:
    """The rules of one `_headers` file, as `parse` gives them; false when there are none."""

    def __init__(self, rules: Collection[tuple[Pattern, tuple[_Field, ...]]] = ()) -> None:
        self._rules = tuple(rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply(
        self,
        path: str,
        headers: list[tuple[str, str]],
        without: Collection[str] = frozenset(),
    ) -> list[tuple[str, str]]:
        """A new list: `headers` as all rules that match `path` change them, in the file's order.

        `path`: the decoded URL path as text, "/..."; `without`: lower-case names of fields that the
        rules leave alone. A value of the rules takes the place of those in `headers` and is joined
        to that of an earlier rule with ", " (Cloudflare, Netlify), except that Set-Cookie stays
        apart, the last one stands where a field has one value only, and Vary is added to.
        What `:name` and `:splat` stand for is percent-encoded.
        """
        found = self._found(path, without)
        kept = [header for header in headers if header[0].lower() not in found]
        varies = [value for name, value in headers if name.lower() == "vary"]
        for name, items in found.items():
            kept += _joined(name, items, varies)
        return kept

    def removed(self, path: str) -> frozenset[str]:
        """The names, in lower case, of the fields that the rules remove at this path."""
        return frozenset(name for name, items in self._found(path).items() if not items)

    def _found(
        self, path: str, without: Collection[str] = frozenset()
    ) -> dict[str, list[tuple[str, str]]]:
        """What the rules set each field to, by its name in lower case; to nothing: removed."""
        found: dict[str, list[tuple[str, str]]] = {}
        for pattern, fields in self._rules:
            caught = pattern.match(path)
            if caught is None:
                continue
            values = {name: quote(text, "/", errors="replace") for name, text in caught.items()}
            for item in fields:
                if item.name.lower() not in without:
                    _collect(found, item, values)
        return found


def _collect(
    found: dict[str, list[tuple[str, str]]], field: _Field, values: Mapping[str, str]
) -> None:
    items = found.setdefault(field.name.lower(), [])
    if field.value is None:
        items.clear()
    else:
        items.append((field.name, field.value.fill(values)))


def _joined(name: str, items: list[tuple[str, str]], varies: list[str]) -> list[tuple[str, str]]:
    if name == "set-cookie" or not items:
        return items
    if name in _SINGLE:
        return items[-1:]
    values = [value for _, value in items]
    if name == "vary":
        members = [member.strip() for member in ",".join(varies + values).split(",")]
        unique: dict[str, str] = {}
        for member in filter(None, members):
            unique.setdefault(member.lower(), member)
        values = list(unique.values())
    return [(items[0][0], ", ".join(values))]


def parse(text: str, name: str = "_headers") -> HeaderRules:
    """Read the text of a `_headers` file; `name` is what errors call it.

    Raises SiteFileError, which names the first bad line and counts the others.
    """
    rules: list[_Rule] = []
    problems = []
    for number, line in lines(text):
        try:
            if line[0] == "/" or re.match(r"[A-Za-z]+://", line):
                rules.append(_Rule(number))
                check_line(line)
                rules[-1].pattern = compile_pattern(line, splat_inside=True)
            else:
                if not rules:
                    raise ValueError("no path stands before this line; start with one, such as /*")
                rules[-1].used = True
                check_line(line)
                rules[-1].fields.append(_field(line, rules[-1].pattern))
        except ValueError as error:
            problems.append((number, str(error)))
    for rule in rules:
        if rule.pattern and not rule.used:
            problems.append((rule.line, "no field follows this path; add one or remove the path"))
    if len(rules) > MAX_RULES:
        problems.append((rules[MAX_RULES].line, f"more than {MAX_RULES} paths; use * to join some"))
    refuse(name, problems)
    return HeaderRules([(rule.pattern, tuple(rule.fields)) for rule in rules if rule.pattern])


def _field(line: str, pattern: Pattern | None) -> _Field:
    if line[0] == "!":
        field, value = line[1:].strip(), None
    else:
        field, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            raise ValueError(f"{line!r} is neither a path (/...) nor a field (Name: value)")
        if not value:
            raise ValueError(f"{field!r} has no value; to remove the field write ! {field}")
        if not value.isascii():
            _check_latin(value)
    if not _TOKEN.fullmatch(field):
        raise ValueError(f"{field!r} is not a field name; use letters, digits and hyphens")
    if reason := _REFUSED.get(field.lower()):
        raise ValueError(f"{field} {reason}; remove the line")
    if value is None:
        if field.lower() == "vary":
            raise ValueError("caches need Vary to tell the encodings apart; remove the line")
        return _Field(field, None)
    return _Field(field, compile_template(value, pattern.names if pattern else (), strict=False))


def _check_latin(value: str) -> None:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{value[error.start]!r} cannot stand in a field's value (latin-1 only); encode it"
        ) from None
