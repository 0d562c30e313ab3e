"""`_headers`: what is set, joined, replaced, removed and refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.headers_file import MAX_RULES, parse
from middleware.patterns import SiteFileError

Headers = list[tuple[str, str]]


def applied(text: str, path: str, *headers: tuple[str, str]) -> Headers:
    return parse(text).apply(path, list(headers))


# As at Cloudflare Pages, a path takes the fields of all the rules that match it.
SITE = """\
# a comment
/office/plan
  Permissions-Policy: camera=()
  Referrer-Policy: same-origin

/media/*
  Access-Control-Allow-Origin: *
  X-Robots-Tag: noarchive

/*
  X-Robots-Tag: noindex
"""


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (
            "/office/plan",
            [
                ("Permissions-Policy", "camera=()"),
                ("Referrer-Policy", "same-origin"),
                ("X-Robots-Tag", "noindex"),
            ],
        ),
        (
            "/media/a/b.css",
            [("Access-Control-Allow-Origin", "*"), ("X-Robots-Tag", "noarchive, noindex")],
        ),
        ("/", [("X-Robots-Tag", "noindex")]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_all_matching_rules_apply_in_order(path: str, headers: Headers, end: str) -> None:
    assert applied("\ufeff" + SITE.replace("\n", end), path) == headers


def test_the_servers_own_value_is_replaced_and_the_rest_kept() -> None:
    given = [("Cache-Control", "no-cache"), ("Content-Type", "text/html"), ("ETag", '"1"')]
    rules = parse("/*\n  cache-control: public\n  Cache-Control: max-age=60")
    assert rules.apply("/a", given) == [
        ("Content-Type", "text/html"),
        ("ETag", '"1"'),
        ("cache-control", "public, max-age=60"),
    ]
    assert given[0] == ("Cache-Control", "no-cache")  # a new list
    assert parse("/b\n  A: b").apply("/a", given) == given


def test_a_field_is_removed_and_may_come_back() -> None:
    text = (
        "/*\n  Content-Security-Policy: default-src 'self'\n/*.jpg\n  ! content-security-policy\n"
    )
    own = ("Content-Security-Policy", "x")
    assert applied(text, "/a.html", own) == [("Content-Security-Policy", "default-src 'self'")]
    assert applied(text, "/a.jpg", own) == []
    again = text + "/a.jpg\n  Content-Security-Policy: sandbox\n"
    assert applied(again, "/a.jpg", own) == [("Content-Security-Policy", "sandbox")]
    assert applied("/*\n  !X-A", "/", ("x-a", "1"), ("X-B", "2")) == [("X-B", "2")]


def test_cookies_stay_apart() -> None:
    text = "/*\n  Set-Cookie: a=1\n/b\n  Set-Cookie: b=2\n"
    assert applied(text, "/b") == [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]


def test_the_last_value_stands_where_one_only_is_valid() -> None:
    text = "/*\n  X-Frame-Options: DENY\n  Content-Type: a/b\n/b\n  X-Frame-Options: SAMEORIGIN\n"
    expected = [("X-Frame-Options", "SAMEORIGIN"), ("Content-Type", "a/b")]
    assert applied(text, "/b", ("Content-Type", "x/y")) == expected


@pytest.mark.parametrize(
    ("own", "rules", "all_of_it"),
    [
        ("Accept-Encoding", "Origin", "Accept-Encoding, Origin"),
        ("Accept-Encoding", "accept-encoding ,, Origin", "Accept-Encoding, Origin"),
        ("A, b", "B, a, C", "A, b, C"),
    ],
)
def test_vary_is_added_to(own: str, rules: str, all_of_it: str) -> None:
    assert applied(f"/*\n  Vary: {rules}", "/", ("vary", own)) == [("Vary", all_of_it)]


def test_fields_left_alone() -> None:
    rules = parse("/*\n  Cache-Control: public\n  ! X-Own\n  X-A: b\n")
    own = [("Cache-Control", "no-cache"), ("X-Own", "1")]
    without = frozenset({"cache-control", "x-own"})
    assert rules.apply("/", own, without) == [*own, ("X-A", "b")]


def test_placeholders_in_values_are_encoded() -> None:
    text = '/films/:title\n  X-Name: seen: ":title" at :time\n/*\n  Link: <https://a.b/:splat>; x\n'
    assert applied(text, "/films/a b\r\n\xe9;,\u20ac") == [
        ("X-Name", 'seen: "a%20b%0D%0A%C3%A9%3B%2C%E2%82%AC" at :time'),
        ("Link", "<https://a.b/films/a%20b%0D%0A%C3%A9%3B%2C%E2%82%AC>; x"),
    ]


@pytest.mark.parametrize("text", ["", "\ufeff", "# nothing\n\n", "\r\n  \r\n"])
def test_an_empty_file_is_false(text: str) -> None:
    rules = parse(text)
    assert not rules
    assert rules.apply("/", [("A", "b")]) == [("A", "b")]
    assert parse(SITE)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("X: y\n/*\n  A: b", 1, "no path stands before"),
        ("/*\n", 1, "no field follows"),
        ("/a\n/b\n  X: y", 1, "no field follows"),
        ("/*\n  A: b\nblog/*\n  A: b", 3, "neither a path"),
        ("https://:name.example/*\n  X: y", 1, "names a host"),
        ("/a/*/b/*\n  X: y", 1, "more than one *"),
        ("/a b\n  X: y", 1, "' '"),
        ("/*\n  No colon", 2, "neither a path"),
        ("/*\n  a b: c", 2, "is not a field name"),
        ("/*\n  : c", 2, "is not a field name"),
        ("/*\n  \xe9: c", 2, "is not a field name"),
        ("/*\n  ! A: b", 2, "is not a field name"),
        ("/*\n  !", 2, "is not a field name"),
        ("/*\n  X:", 2, "no value"),
        ("/*\n  X: a\x01b", 2, "U+0001"),
        ("/*\n  X: a\rb", 2, "U+000D"),
        ("/*\n  X: a\x85b", 2, "U+0085"),
        ("/*\n  X: \u20ac", 2, "latin-1"),
        ("/*\n  X: " + "y" * 2000, 2, "at most 2000"),
        ("/*\n  ! Vary", 2, "encodings"),
        ("/*\n  Basic-Auth: me:secret", 2, "password"),
        ("/*\n  Location: /x", 2, "_redirects"),
        ("/a\n  X: y\n" * (MAX_RULES + 1), 2 * MAX_RULES + 1, "more than 1000 paths"),
    ],
)
def test_refused_with_the_line(text: str, line: int, said: str) -> None:
    with pytest.raises(SiteFileError) as caught:
        parse(text, "site/_headers")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"site/_headers:{line}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


SERVERS = """
    Accept-Ranges Age Allow Connection Content-Encoding Content-Length Content-Range Date ETag
    Keep-Alive Last-Modified Proxy-Authenticate Proxy-Connection Status TE Trailer
    Transfer-Encoding Upgrade
"""


@pytest.mark.parametrize("name", SERVERS.split())
def test_the_servers_fields_are_refused_both_ways(name: str) -> None:
    for line in (f"{name}: x", f"! {name.upper()}"):
        with pytest.raises(SiteFileError, match=f"(?i)^_headers:2: {name} .*; remove the line$"):
            parse(f"/*\n  {line}\n")


def test_errors_are_counted_and_none_follows_from_another() -> None:
    with pytest.raises(SiteFileError) as caught:
        parse("/*\n  Date: x\n\nhttps://a.b/*\n  X: y\n  Bad\n/c\n  nothing\n")
    assert (caught.value.line, caught.value.more) == (2, 3)


PIECES = st.sampled_from(
    ["/", "*", ":a", "x", "\n", "\n  ", ": ", "! ", "#", "%", "\r", "\xe9", "/*\n  X: y\n", "Vary"]
)


def check_error(error: SiteFileError, text: str) -> None:
    assert 1 <= error.line <= text.count("\n") + 1
    assert "\n" not in str(error)


@given(st.text() | st.lists(PIECES).map("".join), st.text())
def test_any_text_is_read_or_refused_and_values_are_safe(text: str, path: str) -> None:
    try:
        rules = parse(text)
    except SiteFileError as error:
        check_error(error, text)
        return
    for name, value in rules.apply("/" + path, [("Vary", "Accept-Encoding")]):
        assert name
        assert not set(value) & set("\r\n\0")
        value.encode("latin-1")
