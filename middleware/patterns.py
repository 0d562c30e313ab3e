"""What `_headers` and `_redirects` share: their lines, their errors, path patterns and templates.

A pattern is a URL path in which `:name` stands for one whole segment and `*`, at most once, for
any text; a template is a text in which `:name` and `:splat` stand for what a pattern caught.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

MAX_LINE: Final = 2000  # characters; the limit of Cloudflare Pages

_NAME: Final = re.compile(r":([A-Za-z][A-Za-z0-9_]*)")
# Nothing in either format needs them, and a terminal or an HTTP head would show them the wrong way.
_UNSEEN: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class SiteFileError(ValueError):
    """A `_headers` or `_redirects` file that cannot be used.

    `name`: of the file; `line`: number of the first bad line, from 1; `more`: how many other lines
    are bad. The message is one line: `_headers:12: what is wrong; what to do (and 2 more)`.
    """

    def __init__(self, name: str, line: int, problem: str, more: int = 0) -> None:
        self.name, self.line, self.problem, self.more = name, line, problem, more
        others = f" (and {more} more)" if more else ""
        super().__init__(f"{name}:{line}: {problem}{others}")


def refuse(name: str, problems: Iterable[tuple[int, str]]) -> None:
    """Raise SiteFileError for the first of `problems` (line number, what is wrong), if any."""
    found = sorted(problems)
    if found:
        raise SiteFileError(name, *found[0], more=len(found) - 1)


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, numbered from 1, without the white space around them."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        said = line.strip(" \t\r")
        if said and said[0] != "#":
            yield number, said


def check_line(line: str) -> None:
    """Raise ValueError for a line that is too long or has characters that do not show."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a line of {len(line)} characters; at most {MAX_LINE} are read")
    if unseen := _UNSEEN.search(line):
        raise ValueError(f"control character U+{ord(unseen[0]):04X}; remove it")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled path pattern. Matching takes time linear in the path's length.

    `names`: what it catches, `splat` among them; `literal`: the one path that it matches, without
    a slash at the end, or None if it has a placeholder or a splat; `example`: a path it matches.
    """

    names: tuple[str, ...]
    literal: str | None
    example: str
    _regex: re.Pattern[str]
    _open: bool  # it ends in the splat, which takes the slash at the end too

    def match(self, path: str) -> dict[str, str] | None:
        """What each name stands for in `path` (decoded text, "/..."), or None.

        One slash at the end, of the pattern or of the path, makes no difference (Netlify).
        """
        if self.literal is not None:
            return {} if path.removesuffix("/") == self.literal else None
        found = self._regex.fullmatch(path if self._open else path.removesuffix("/"))
        return None if found is None else found.groupdict("")


def compile_pattern(text: str, *, splat_inside: bool) -> Pattern:
    """Read a pattern; its literal parts may be percent-encoded (UTF-8).

    `splat_inside`: `*` may stand anywhere, not only at the end. A segment that is `*` alone may be
    missing with its slash: `/a/*` matches `/a` too (Netlify, GitLab). Raises ValueError.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError(f"{text!r} names a host, but rules see only the path; start it with /")
    if not text.startswith("/"):
        raise ValueError(f"the path {text!r} does not start with /; write it from the site's root")
    if part := re.search(r"[?#\s]", text):
        raise ValueError(
            f"{part[0]!r} in the path {text!r} never matches; leave it out or encode it"
        )
    if text.count("*") > 1:
        raise ValueError(f"{text!r} has more than one *; use :name for the single segments")
    if "*" in text[:-1] and not splat_inside:
        raise ValueError(f"* is not at the end of {text!r}; use :name for a segment in the middle")
    if wrong := re.search(rf"[^/]{_NAME.pattern}|{_NAME.pattern}[^/A-Za-z0-9_]", text):
        raise ValueError(
            f"{wrong[0]!r} in {text!r}: a placeholder is a whole segment; for a colon write %3A"
        )
    names = ("splat",) * text.count("*") + tuple(_NAME.findall(text))
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice in {text!r}; give each its own (* is :splat)")
    segments = text[1:].removesuffix("/").split("/")
    regex = "".join(map(_segment, segments))
    example = decode(_NAME.sub(r"\1", text).replace("*", "splat"))
    literal = None if names else example.removesuffix("/")
    return Pattern(names, literal, example, re.compile(regex, re.DOTALL), text.endswith("*"))


def _segment(text: str) -> str:
    """The regular expression of one segment and the slash before it."""
    if text == "*":
        return "(?:/(?P<splat>.*))?"
    if name := _NAME.fullmatch(text):
        return f"/(?P<{name[1]}>[^/]++)"
    return "/" + "(?P<splat>.*)".join(re.escape(decode(part)) for part in text.split("*"))


def decode(text: str) -> str:
    """Percent-decode to text; a % that encodes nothing is itself. ValueError if not UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{text!r} is not UTF-8 when decoded; encode it as UTF-8") from None


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and names by turns: `parts[0]` a text, `parts[1]` a name, `parts[2]` a text, ..."""

    parts: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text, with `values` where their names stand."""
        return "".join([values[part] if i % 2 else part for i, part in enumerate(self.parts)])


def compile_template(
    text: str, names: Collection[str], *, strict: bool, prepare: Callable[[str], str] = str
) -> Template:
    """Read a template that may use `names`; `prepare` is done once to each text between them.

    Another `:name` raises ValueError if `strict`, and is a part of the text if not.
    """
    parts, start = [], 0
    for found in _NAME.finditer(text):
        if found[1] in names:
            parts += [prepare(text[start : found.start()]), found[1]]
            start = found.end()
        elif strict:
            known = ", ".join(f":{name}" for name in names) or "none"
            raise ValueError(
                f"{found[0]} in {text!r} stands for nothing (known: {known}); for a colon write %3A"
            )
    return Template((*parts, prepare(text[start:])))
