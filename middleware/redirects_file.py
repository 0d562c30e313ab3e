"""`_redirects`: redirects and rewrites by path, in the format of Netlify and Cloudflare Pages.

# from [name=value ...] to [status[!]]
/home         /
/news/*       /blog/:splat      302
/store id=:id /blog/:id         301!
/*            /index.html       200
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from middleware.patterns import (
    Pattern,
    Template,
    check_line,
    compile_pattern,
    compile_template,
    decode,
    lines,
    refuse,
)

MAX_STATIC: Final = 10_000  # Cloudflare Pages: 2,000
MAX_DYNAMIC: Final = 1_000  # with a placeholder or a splat; Cloudflare Pages: 100
MAX_LOCATION: Final = 8_000  # characters; longer ones are refused by browsers and proxies

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
REWRITES: Final = frozenset({200, 404, 410, 451})  # the last two: IPFS web-redirects-file

_TARGET: Final = re.compile(
    r"(?P<origin>[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:\#(?P<fragment>.*))?"
)
_ORIGIN: Final = re.compile(
    r"https?://(?:[a-z0-9][a-z0-9._-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE
)
_DOTS: Final = re.compile(r"/\.{1,2}(?:/|\Z)")  # a segment . or ..
_SLASHES: Final = re.compile(r"/{2,}")
_CONDITION: Final = re.compile(r"(Country|Language|Role|Cookie|Conditions|Signed)=", re.IGNORECASE)

# What stays as it is in a URL's path and in its query. A caught value has no part of its own
# there, so that ? # & = + \ % and all that is no URL character are encoded in it.
_CAUGHT_SAFE: Final = "/!$()*,:@"
_URL_SAFE: Final = "/!$()*,:@&'+;=?%"


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule says: `location` for a redirect, `target` for a rewrite; the other is None.

    `location`: a value for the Location field, ASCII: a path within the site (one slash first) or
    an http(s) URL that the rule names. `target`: decoded URL path within the site, to be judged
    like any other. `line`: the rule's line in the file.
    """

    line: int
    status: int
    location: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class _Param:
    """What a query parameter must be: `text`, or anything but empty where `named` (its name)."""

    text: str
    named: bool


class _Query:
    """The query of a request; taken apart when the first rule asks, and once for all rules."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def given(self) -> dict[str, str]:
        """The parameters by name, decoded; the first of each name."""
        given: dict[str, str] = {}
        for item in self.text.split("&"):
            key, _, value = item.partition("=")
            given.setdefault(unquote_plus(key), unquote_plus(value))
        return given


@dataclass(frozen=True, slots=True)
class _Target:
    origin: str
    path: Template
    query: Template | None
    fragment: Template


@dataclass(frozen=True, slots=True)
class _Rule:
    line: int
    pattern: Pattern
    params: Mapping[str, _Param]
    target: _Target
    status: int
    forced: bool

    def apply(self, path: str, query: _Query) -> Match | None:
        caught = self.pattern.match(path)
        asked = None if caught is None else self._asked(query)
        if caught is None or asked is None:
            return None
        if self.status in REWRITES:
            return self._rewrite(caught, asked)
        values = {name: quote(v, _CAUGHT_SAFE, errors="replace") for name, v in caught.items()}
        values |= {name: quote(v, "", errors="replace") for name, v in asked.items()}
        location = self._location(values, query.text)
        if location is None or self._is_own_target(path, query.text, location):
            return None
        return Match(self.line, self.status, location=location)

    def _asked(self, query: _Query) -> dict[str, str] | None:
        """The values of the query that the rule gives names to; None if it does not match."""
        if not self.params:
            return {}
        asked = {}
        for key, wanted in self.params.items():
            text = query.given.get(key)
            if text is None or not (text if wanted.named else text == wanted.text):
                return None
            if wanted.named:
                asked[wanted.text] = text
        return asked

    def _rewrite(self, caught: Mapping[str, str], asked: Mapping[str, str]) -> Match | None:
        if any("/" in value for value in asked.values()):
            return None  # the rule means one segment
        target = _SLASHES.sub("/", self.target.path.fill({**caught, **asked}))
        return None if _DOTS.search(target) else Match(self.line, self.status, target=target)

    def _location(self, values: Mapping[str, str], query: str) -> str | None:
        target = self.target
        path = target.path.fill(values)
        if not target.origin:
            path = _SLASHES.sub("/", path)  # "//host" would lead to another site
        if _DOTS.search(unquote(path)):
            return None
        passed = self._passed(query) if target.query is None else target.query.fill(values)
        fragment = target.fragment.fill(values)
        location = "".join(
            (target.origin, path, passed and "?" + passed, fragment and "#" + fragment)
        )
        return location if len(location) <= MAX_LOCATION else None

    def _passed(self, query: str) -> str:
        """The request's query without the parameters that the rule asks for."""
        if self.params:
            items = query.split("&")
            query = "&".join(
                item for item in items if unquote_plus(item.partition("=")[0]) not in self.params
            )
        return quote(query.encode("latin-1", "replace"), _URL_SAFE)

    def _is_own_target(self, path: str, query: str, location: str) -> bool:
        """Whether the request may be the result of this rule, which would send it on for ever.

        `/docs/* /docs/new/:splat` is for `/docs/a`, and not for `/docs/new/a`. Where each step
        makes the URL shorter (`/en/* /:splat`), it ends by itself.
        """
        if self.target.origin:
            return False
        to, _, to_query = location.partition("#")[0].partition("?")
        to = unquote(to)
        if self.pattern.match(to) is None or self._asked(_Query(to_query)) is None:
            return False  # it does not apply again
        first, *others = map(unquote, self.target.path.parts[::2])
        if not others:
            if path != first:
                return False
        elif path + "/" != first and not (
            path.startswith(first) and path[len(first) :].endswith(others[-1])
        ):
            return False
        same = to_query == quote(query.encode("latin-1", "replace"), _URL_SAFE)
        varies = self.target.query is not None and len(self.target.query.parts) > 1
        return (same or varies) and len(to) + len(to_query) >= len(path) + len(query)


@dataclass(slots=True)
class _Table:
    static: dict[str, list[_Rule]] = field(default_factory=dict)
    dynamic: list[_Rule] = field(default_factory=list)


class RedirectRules:
    """The rules of one `_redirects` file, as `parse` gives them; false when there are none."""

    def __init__(self, rules: Iterable[_Rule] = ()) -> None:
        self._tables = {True: _Table(), False: _Table()}
        for rule in rules:
            table = self._tables[rule.forced]
            if rule.pattern.literal is None:
                table.dynamic.append(rule)
            else:
                table.static.setdefault(rule.pattern.literal, []).append(rule)

    def __bool__(self) -> bool:
        return any(table.static or table.dynamic for table in self._tables.values())

    def match(self, path: str, query: str = "", *, forced: bool) -> Match | None:
        """The first rule in the file that fits, among those with `!` or among those without.

        `path`: the decoded URL path as text, "/..."; `query`: as QUERY_STRING. Ask with `forced`
        before a file is looked for, and without where there was none (Netlify's shadowing).
        A path with a segment `.` or `..` fits no rule.
        """
        table = self._tables[forced]
        if not (table.static or table.dynamic) or ("/." in path and _DOTS.search(path)):
            return None
        first = None
        asked = _Query(query)
        for rule in table.static.get(path.removesuffix("/"), ()):
            first = rule.apply(path, asked)
            if first is not None:
                break
        for rule in table.dynamic:
            if first is not None and first.line < rule.line:
                break
            found = rule.apply(path, asked)
            if found is not None:
                return found
        return first


def parse(text: str, name: str = "_redirects") -> RedirectRules:
    """Read the text of a `_redirects` file; `name` is what errors call it.

    Raises SiteFileError, which names the first bad line and counts the others.
    """
    rules, problems = [], []
    counts = {"static": MAX_STATIC, "dynamic": MAX_DYNAMIC}
    for number, line in lines(text):
        try:
            check_line(line)
            rule = _rule(number, line)
            kind = "static" if rule.pattern.literal is not None else "dynamic"
            counts[kind] -= 1
            if counts[kind] == -1:
                limit = MAX_STATIC if kind == "static" else MAX_DYNAMIC
                raise ValueError(f"more than {limit} {kind} rules; join some with * or :name")
            rules.append(rule)
        except ValueError as error:
            problems.append((number, str(error)))
    refuse(name, problems)
    return RedirectRules(rules)


def _rule(number: int, line: str) -> _Rule:
    source, *words = re.split(r"[ \t]+", re.split(r"[ \t]#", line)[0].rstrip(" \t"))
    pattern = compile_pattern(source, splat_inside=False)
    params: dict[str, _Param] = {}
    while words and "=" in words[0] and not re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*:/", words[0]):
        key, _, value = words.pop(0).partition("=")
        if not key or decode(key) in params:
            raise ValueError(f"the query parameter {key!r} is empty or stands twice; remove one")
        params[decode(key)] = _param(value)
    for word in words[1:]:
        if _CONDITION.match(word):
            raise ValueError(f"the condition {word!r} is not supported; remove the rule")
    if not words or re.fullmatch(r"[0-9]+!?", words[0]):
        raise ValueError("no target; write: from to [status]")
    to, status, *rest = [*words, "301"] if len(words) == 1 else words
    if rest:
        raise ValueError(f"{rest[0]!r} is too much; write: from [name=value ...] to [status]")
    code = _status(status)
    named = [param.text for param in params.values() if param.named]
    names = (*pattern.names, *named)
    if len(set(names)) < len(names):
        raise ValueError("a name stands twice before the target; give each value its own")
    target = _target(to, names, rewrite=code in REWRITES)
    rule = _Rule(number, pattern, params, target, code, status.endswith("!"))
    if code in REDIRECTS:
        _check_loop(rule)
    return rule


def _param(value: str) -> _Param:
    if not value.startswith(":"):
        return _Param(decode(value), named=False)
    if not re.fullmatch(r":[A-Za-z][A-Za-z0-9_]*", value):
        raise ValueError(f"{value!r} is no placeholder; name it with letters, digits and _")
    return _Param(value[1:], named=True)


def _status(word: str) -> int:
    if re.fullmatch(r"[1-9][0-9]{2}!?", word) and int(word[:3]) in REDIRECTS | REWRITES:
        return int(word[:3])
    known = ", ".join(map(str, sorted(REDIRECTS | REWRITES)))
    raise ValueError(f"{word!r} is no status that a rule can have; use one of {known}")


def _target(text: str, names: tuple[str, ...], *, rewrite: bool) -> _Target:
    found = _TARGET.fullmatch(text)
    assert found is not None  # any line matches
    origin, path, query, fragment = found.group("origin", "path", "query", "fragment")
    if "\\" in text:
        raise ValueError(f"the target {text!r} has a backslash; write /, or %5C if it is meant")
    if origin is None and not re.match(r"/(?!/)", path):
        raise ValueError(f"the target {text!r} leads nowhere; start it with one / or with https://")
    if origin is not None and not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{origin!r} is no http(s) site that a rule can name; write host[:port] in ASCII,"
            " without a user or a placeholder"
        )
    if _DOTS.search(decode(path)):
        raise ValueError(f"the target {text!r} has a segment . or ..; write the path without it")
    if rewrite and origin is not None:
        raise ValueError(f"{text!r} is another site, and this is no proxy; use 302, or a path")
    if rewrite and not (query is None and fragment is None):
        raise ValueError(f"the target {text!r} is a file, which has no ? and no #; write the path")
    prepare = decode if rewrite else _url
    return _Target(
        origin or "",
        compile_template(path, names, strict=True, prepare=prepare),
        None if query is None else compile_template(query, names, strict=True, prepare=_url),
        # Not strict: text fragments (#:~:text=) have colons.
        compile_template(fragment or "", names, strict=False, prepare=_url),
    )


def _url(text: str) -> str:
    """A part of a URL as the file has it, with all encoded that may not stand in one."""
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text), _URL_SAFE)


def _check_loop(rule: _Rule) -> None:
    """Raise ValueError for a redirect that never leads anywhere but to itself."""
    path = rule.pattern.example
    named = [param.text for param in rule.params.values() if param.named]
    values = {name: name for name in (*rule.pattern.names, *named)}
    query = "&".join(f"{quote(key, '')}={quote(p.text, '')}" for key, p in rule.params.items())
    location = rule._location(values, query)
    if location is not None and rule._is_own_target(path, query, location):
        raise ValueError(
            f"redirects {path} to {location}, which it would redirect again; name another target"
        )
