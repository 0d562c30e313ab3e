"""Path patterns against a slow literal model, templates, and the lines of the site files."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.patterns import (
    MAX_LINE,
    SiteFileError,
    check_line,
    compile_pattern,
    compile_template,
    lines,
    refuse,
)


@pytest.mark.parametrize(
    ("pattern", "path", "caught"),
    [
        ("/fig/", "/fig/", {}),
        ("/fig/", "/fig", {}),
        ("/fig", "/fig/", {}),
        ("/fig", "/fig/nut", None),
        ("/fig", "/fig//", None),
        ("/fig", "/Fig", None),  # paths are case-sensitive
        ("/", "/", {}),
        ("/", "/a", None),
        ("/*", "/", {"splat": ""}),
        ("/*", "/a/b", {"splat": "a/b"}),
        ("/fig/*", "/fig/pea/nut/", {"splat": "pea/nut/"}),
        ("/fig/*", "/fig/", {"splat": ""}),
        ("/fig/*", "/fig", {"splat": ""}),
        ("/fig/*", "/fignut", None),
        ("/fig*", "/fignut/x", {"splat": "nut/x"}),
        ("/fig/*/nut", "/fig/ivy/elm/nut", {"splat": "ivy/elm"}),
        ("/fig/*/nut", "/fig/nut", {"splat": ""}),
        ("/fig/*/nut", "/fig/xnut", None),
        ("/*.jpg", "/a/b.jpg", {"splat": "a/b"}),
        ("/*.jpg", "/a/b.jpeg", None),
        ("/a.b", "/axb", None),
        ("/:year/:month", "/2024/05/", {"year": "2024", "month": "05"}),
        ("/:year/:month", "/2024/", None),
        ("/:x/fig", "/fig", None),
        ("/fig/:x", "/fig/", None),
        ("/fig/:x/nut", "/fig/a/b/nut", None),
        ("/:a/*", "/x", {"a": "x", "splat": ""}),
        ("/a%20b/%C3%A9", "/a b/\xe9", {}),
        ("/\xe9", "/\xe9", {}),
        ("/100%", "/100%", {}),
        ("/Talk%3APage", "/Talk:Page", {}),
        ("/a%2Ab", "/a*b", {}),
        ("/:x", "/a\nb", {"x": "a\nb"}),
        ("/*", "/a\nb\n", {"splat": "a\nb\n"}),
        ("/at/12:30", "/at/12:30", {}),  # a name starts with a letter
    ],
)
def test_matches(pattern: str, path: str, caught: dict[str, str] | None) -> None:
    assert compile_pattern(pattern, splat_inside=True).match(path) == caught


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "does not start with /"),
        ("foo/*", "does not start with /"),
        ("https://example.com/*", "names a host"),
        ("/a?b=1", "'?'"),
        ("/a#b", "'#'"),
        ("/a b", "' '"),
        ("/*/a/*", "more than one *"),
        ("/**", "more than one *"),
        ("/a-:b", "whole segment"),
        ("/:a-:b", "whole segment"),
        ("/:a.html", "whole segment"),
        ("/:a/:a", "twice"),
        ("/:splat/*", "twice"),
        ("/%ff", "UTF-8"),
    ],
)
def test_patterns_refused(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"; ") as caught:
        compile_pattern(pattern, splat_inside=True)
    assert said in str(caught.value)


def test_a_splat_in_the_middle_only_where_allowed() -> None:
    with pytest.raises(ValueError, match="not at the end"):
        compile_pattern("/*/a", splat_inside=False)
    assert compile_pattern("/a*", splat_inside=False).match("/ab") == {"splat": "b"}


def model(pattern: str, path: str) -> bool:
    """Whether the path matches, by trying everything; for patterns without percent-encoding."""
    if not pattern.endswith("*"):
        pattern, path = pattern.removesuffix("/"), path.removesuffix("/")
    choices = [pattern, pattern.replace("/*/", "/"), pattern.removesuffix("/*")]
    return any(_walk(choice, path) for choice in choices)


def _walk(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "*":
        return any(_walk(pattern[1:], path[i:]) for i in range(len(path) + 1))
    if pattern[0] == ":":
        _, slash, rest = pattern.partition("/")
        segment = path.partition("/")[0]
        return bool(segment) and _walk(slash + rest, path[len(segment) :])
    return path[:1] == pattern[0] and _walk(pattern[1:], path[1:])


SEGMENTS = st.sampled_from(["a", "b", "ab", "", "a.b"])
PARTS = st.sampled_from([":x", ":y", "*", "a*", "*b"]) | SEGMENTS
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PARTS, max_size=4).map(lambda parts: "/" + "/".join(parts)), PATHS)
@example("/*/b", "/b")
@example("/a/*", "/a")
@example("/*/", "/")
@example("//", "/")
@example("/:x//", "/a/")
def test_matches_as_the_model_does(text: str, path: str) -> None:
    try:
        pattern = compile_pattern(text, splat_inside=True)
    except ValueError:
        assert text.count("*") > 1 or text.count(":x") > 1 or text.count(":y") > 1
        return
    caught = pattern.match(path)
    assert (caught is not None) == model(text, path)
    assert caught is None or set(caught) == set(pattern.names)
    assert caught is None or not any("/" in caught.get(name, "") for name in "xy")
    assert pattern.match(pattern.example) is not None


def test_a_long_path_takes_no_long_time() -> None:
    pattern = compile_pattern(
        "/*/" + "/".join(f":n{i}" for i in range(20)) + "/x", splat_inside=True
    )
    start = time.process_time()
    assert pattern.match("/a" * 20_000) is None
    assert pattern.match("/" * 20_000) is None
    assert time.process_time() - start < 1


def test_a_template_is_filled() -> None:
    template = compile_template("/:a-:ab/:splat.html", ["a", "ab", "splat"], strict=True)
    assert template.fill({"a": "1", "ab": ":a", "splat": "x/y"}) == "/1-:a/x/y.html"


def test_an_unknown_name_is_refused_or_text() -> None:
    with pytest.raises(ValueError, match=r":b in '/:b' stands for nothing \(known: :a\)"):
        compile_template("/:b", ["a"], strict=True)
    template = compile_template("/:b:a data: 1:2", ["a"], strict=False, prepare=str.upper)
    assert template.fill({"a": "x"}) == "/:Bx DATA: 1:2"


def test_lines_are_numbered_and_nute() -> None:
    text = "\ufeff/a\r\n\r\n  # no\n\t X: y \t\n#\n/b"
    assert list(lines(text)) == [(1, "/a"), (4, "X: y"), (6, "/b")]


@pytest.mark.parametrize("char", ["\x00", "\r", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\ud800"])
def test_what_does_not_show_is_refused(char: str) -> None:
    with pytest.raises(ValueError, match=rf"control character U\+{ord(char):04X}; "):
        check_line(f"/a{char}b")


def test_long_lines_are_refused() -> None:
    check_line("/" * MAX_LINE)
    with pytest.raises(ValueError, match="2001 characters"):
        check_line("/" * (MAX_LINE + 1))


def test_the_error_names_the_first_line_and_counts_the_others() -> None:
    refuse("_headers", [])
    with pytest.raises(SiteFileError) as caught:
        refuse("_headers", [(12, "no; yes"), (7, "bad; good"), (30, "x")])
    error = caught.value
    assert str(error) == "_headers:7: bad; good (and 2 more)"
    assert (error.name, error.line, error.problem, error.more) == ("_headers", 7, "bad; good", 2)
    assert str(SiteFileError("f", 1, "bad; good")) == "f:1: bad; good"
