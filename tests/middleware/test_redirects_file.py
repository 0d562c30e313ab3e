"""`_redirects`: which rule answers, with what, and that no answer leads astray or in circles."""

from __future__ import annotations

from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.patterns import SiteFileError
from middleware.redirects_file import MAX_DYNAMIC, MAX_LOCATION, MAX_STATIC, Match, parse


def found(text: str, path: str, query: str = "", *, forced: bool = False) -> Match | None:
    return parse(text).match(path, query, forced=forced)


def located(text: str, path: str, query: str = "") -> str | None:
    match = found(text, path, query)
    assert match is None or match.target is None
    return None if match is None else match.location


# One rule of each kind that the IPFS specification knows.
SITE = """\
# a garden shop
/roses /flowers/rose.html
/tulips /flowers/tulip.html 301
/sale /winter.html 302
/start /home.html 200
/diary/:day/:month/:title /notes/:month/:day/:title 301
/beds/* /plots/:splat 307
/seeds/* /no-seeds.html 404
/closed/* /closed.html 410
/banned/* /law.html 451
/* /home.html 200
"""


@pytest.mark.parametrize(
    ("path", "status", "location", "target"),
    [
        ("/roses", 301, "/flowers/rose.html", None),  # 301 is the default (Netlify, GitLab, IPFS)
        ("/roses/", 301, "/flowers/rose.html", None),
        ("/tulips", 301, "/flowers/tulip.html", None),
        ("/sale", 302, "/winter.html", None),
        ("/start", 200, None, "/home.html"),
        ("/diary/09/may/rain", 301, "/notes/may/09/rain", None),
        ("/beds", 307, "/plots/", None),
        ("/beds/", 307, "/plots/", None),
        ("/beds/a/b/", 307, "/plots/a/b/", None),
        ("/seeds/x", 404, None, "/no-seeds.html"),
        ("/closed/x", 410, None, "/closed.html"),
        ("/banned/x", 451, None, "/law.html"),
        ("/what/ever", 200, None, "/home.html"),
        ("/", 200, None, "/home.html"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_site(path: str, status: int, location: str | None, target: str | None, end: str) -> None:
    match = found("\ufeff" + SITE.replace("\n", end), path)
    assert match is not None
    assert (match.status, match.location, match.target) == (status, location, target)


def test_the_first_match_wins_among_static_and_dynamic() -> None:
    text = "/a /1\n/:x /2\n/b /3\n/a /4\n/* /5"
    for path, line in [("/a", 1), ("/b", 2), ("/c", 2), ("/c/d", 5)]:
        match = found(text, path)
        assert match is not None and match.line == line


def test_forced_rules_are_asked_apart() -> None:
    text = "/a /1\n/a /2 302!\n/* /3 200!\n/b /4"
    assert found(text, "/a") == Match(1, 301, location="/1")
    assert found(text, "/a", forced=True) == Match(2, 302, location="/2")
    assert found(text, "/b") == Match(4, 301, location="/4")
    assert found(text, "/b", forced=True) == Match(3, 200, target="/3")
    assert found("/a /b", "/a", forced=True) is None


@pytest.mark.parametrize(
    ("rule", "path", "query", "location"),
    [
        # names within a segment, twice, and one the beginning of another
        ("/echo/* /:splat/and/:splat", "/echo/hill", "", "/hill/and/hill"),
        ("/log/:y/:m/all /log-:y-:m.html", "/log/1999/12/all", "", "/log-1999-12.html"),
        ("/t/:to/:tom /t-:tom/:to", "/t/1/2", "", "/t-2/1"),
        ("/no/:x /number:x", "/no/9", "", "/number9"),
        # what Cloudflare Pages allows in a target
        ("/find /?view=search 301", "/find", "a=1", "/?view=search"),
        ("/chat https://chat.example", "/chat", "", "https://chat.example"),
        ("/dir /dir/ 301", "/dir", "", "/dir/"),
        ("/dir /dir/ 301", "/dir/", "", None),
        ("/no/ /no 301", "/no/", "", "/no"),
        ("/no/ /no 301", "/no", "", None),
        ("/team/ /about/#people 301", "/team/", "a=1", "/about/?a=1#people"),
        ("/book/* https://book.a.b/:splat", "/book/x/y", "q", "https://book.a.b/x/y?q"),
        ("/p/:c/:n /p?c=:c&n=:n", "/p/a&b/c d?#", "x=1", "/p?c=a%26b&n=c%20d%3F%23"),
        # the query is passed on, without what the rule asked for (Netlify)
        ("/a /b", "/a", "x=1&y=%20", "/b?x=1&y=%20"),
        ("/shelf id=:id /book/:id 301", "/shelf", "id=spring", "/book/spring"),
        ("/shelf id=:id /book/:id 301", "/shelf", "a=1&id=5&b=2", "/book/5?a=1&b=2"),
        ("/shelf id=:id /book/:id 301", "/shelf", "id=", None),
        ("/shelf id=:id /book/:id 301", "/shelf", "", None),
        ("/shelf id=:id /book/:id 301", "/shelf", "ID=5", None),
        ("/shelf id=:id tag=:t /:t/:id", "/shelf", "tag=a&id=b", "/a/b"),
        ("/shelf id=:id tag=:t /:t/:id", "/shelf", "id=b", None),
        ("/s/* p=:v /o/:v/:splat", "/s/x/y", "p=1", "/o/1/x/y"),
        ("/s page=home /home", "/s", "page=home", "/home"),
        ("/s page=home /home", "/s", "page=away", None),
        ("/s page= /home", "/s", "page", "/home"),
        ("/s page=a%20b /home", "/s", "page=a+b", "/home"),
        ("/s id=:id /s", "/s", "id=5", "/s"),
        (
            "/go u=:u /out?u=:u",
            "/go",
            "u=https%3A%2F%2Fa.b%2F%3Fc%26d",
            "/out?u=https%3A%2F%2Fa.b%2F%3Fc%26d",
        ),
        # encoding
        ("/caf%C3%A9 /\xe9%20x/100%", "/caf\xe9", "", "/%C3%A9%20x/100%25"),
        ("/a/* /b/:splat", "/a/\xe9 %2F\u20ac", "", "/b/%C3%A9%20%252F%E2%82%AC"),
        ("/a /b#:~:text=x", "/a", "", "/b#:~:text=x"),
        ("/a /Talk%3APage", "/a", "", "/Talk%3APage"),
        ("/a\t \t/b   # why", "/a", "", "/b"),
    ],
)
def test_locations(rule: str, path: str, query: str, location: str | None) -> None:
    assert located(rule, path, query) == location


@pytest.mark.parametrize(
    ("rule", "path", "query", "location"),
    [
        ("/foo/* /:splat", "/foo//evil.example", "", "/evil.example"),
        ("/foo/* /:splat", "/foo////evil.example/", "", "/evil.example/"),
        ("/foo/* /:splat", "/foo/\\evil.example", "", "/%5Cevil.example"),
        ("/foo/* /:splat", "/foo//\\evil.example", "", "/%5Cevil.example"),
        ("/foo/* /:splat", "/foo/.//evil.example", "", None),
        ("/foo/* /x/:splat", "/foo/../..//evil.example", "", None),
        ("/foo/* /:splat", "/foo/%2fevil.example", "", "/%252fevil.example"),
        ("/foo u=:u /:u", "/foo", "u=/evil.example", "/%2Fevil.example"),
        ("/foo u=:u /:u", "/foo", "u=%5Cevil.example", "/%5Cevil.example"),
        ("/foo u=:u /x/:u", "/foo", "u=..", None),
        ("/foo u=:u /x/.:u", "/foo", "u=.", None),
        ("/foo/* /x:splat", "/foo/a\r\nSet-Cookie: a=b", "", "/xa%0D%0ASet-Cookie:%20a%3Db"),
        ("/a /b", "/a", "x\r\ny=\xff#z", "/b?x%0D%0Ay=%FF%23z"),
        (
            "/a/* https://good.example/:splat",
            "/a/@evil.example",
            "",
            "https://good.example/@evil.example",
        ),
        (
            "/a/* https://good.example/:splat",
            "/a//evil.example",
            "",
            "https://good.example//evil.example",
        ),
    ],
)
def test_the_client_never_chooses_the_host(
    rule: str, path: str, query: str, location: str | None
) -> None:
    assert located(rule, path, query) == location


@pytest.mark.parametrize(
    ("rule", "path", "query", "target"),
    [
        ("/a/* /b/:splat 200", "/a/x/y", "", "/b/x/y"),
        ("/a/* /:splat 200", "/a//etc/passwd", "", "/etc/passwd"),
        ("/a/* /b/:splat 200", "/a/../../etc/passwd", "", None),
        ("/a/* /b/.:splat 200", "/a//x", "", None),
        ("/a/* /b/:splat 200", "/a/\xe9", "", "/b/\xe9"),
        ("/a /b%20c/%C3%A9.html 200", "/a", "x=1", "/b c/\xe9.html"),
        ("/s id=:id /p/:id.html 200", "/s", "id=5", "/p/5.html"),
        ("/s id=:id /p/:id.html 200", "/s", "id=..%2F..%2Fx", None),
        ("/s id=:id /p/:id 200", "/s", "id=..", None),
        ("/en/* /en/404.html 404", "/en/what", "", "/en/404.html"),
        ("/a /a 200", "/a", "", "/a"),
    ],
)
def test_rewrites(rule: str, path: str, query: str, target: str | None) -> None:
    match = found(rule, path, query)
    assert (match and match.target) == target


@pytest.mark.parametrize(
    ("rule", "path", "query", "location"),
    [
        ("/docs/* /docs/new/:splat", "/docs/a", "", "/docs/new/a"),
        ("/docs/* /docs/new/:splat", "/docs/new/a", "", None),
        ("/docs/* /docs/new/:splat", "/docs/new", "", None),
        ("/blog/:year/:slug /:slug/:year", "/blog/1999/a", "", "/a/1999"),
        ("/blog/:year/:slug /:slug/:year", "/blog/blog/blog", "", "/blog/blog"),
        ("/:a/x/:b /:b/:a", "/1/x/2", "", "/2/1"),
        ("/* /x", "/a", "", "/x"),
        ("/* /x", "/x", "", None),
        ("/* /x", "/x/", "", "/x"),
        ("/en/* /:splat", "/en/en/a", "", "/en/a"),
        ("/en/* /:splat", "/en/a", "", "/a"),
        ("/* /en/:splat 302", "/", "", "/en/"),
        ("/* /en/:splat 302", "/en/", "", None),
        ("/a /a?x=1", "/a", "", "/a?x=1"),
        ("/a /a?x=1", "/a", "x=1", None),
        ("/:lang/about /about/:lang", "/en/about", "", "/about/en"),
        ("/:lang/about /about/:lang", "/about/about", "", None),
    ],
)
def test_no_rule_answers_its_own_target(
    rule: str, path: str, query: str, location: str | None
) -> None:
    assert located(rule, path, query) == location


def test_a_rule_left_out_gives_way_to_the_next() -> None:
    assert found("/docs/* /docs/new/:splat\n/* /404.html 404", "/docs/new/a") == Match(
        2, 404, target="/404.html"
    )


def test_a_location_too_long_for_a_header_is_none() -> None:
    assert located("/a/* /b/:splat", "/a/" + "x" * (MAX_LOCATION - 3)) is not None
    assert located("/a/* /b/:splat", "/a/" + "x" * (MAX_LOCATION - 2)) is None


@pytest.mark.parametrize("text", ["", "\ufeff", "# nothing\n\n", "\r\n"])
def test_an_empty_file_is_false(text: str) -> None:
    rules = parse(text)
    assert not rules
    assert rules.match("/", forced=False) is None
    assert parse("/a /b") and parse("/a /b 301!")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("a /b", "does not start with /"),
        ("https://old.example/* https://new.example/:splat", "names a host"),
        ("/a?x=1 /b", "'?'"),
        ("/a/*/b /c", "not at the end"),
        ("/a-:b /c", "whole segment"),
        ("/a", "no target"),
        ("/a 404", "no target"),
        ("/a x=1", "no target"),
        ("/a b", "leads nowhere"),
        ("/a //b.example/", "leads nowhere"),
        ("/a https:/b", "leads nowhere"),
        ("/a /\\b", "backslash"),
        ("/a ftp://b.example/", "no http(s) site"),
        ("/a javascript://x", "no http(s) site"),
        ("/a https://", "no http(s) site"),
        ("/:h https://:h/", "no http(s) site"),
        ("/:h https://:h.example/", "no http(s) site"),
        ("/* https://good.example:splat", "no http(s) site"),
        ("/* https://good.example@:splat", "no http(s) site"),
        ("/a https://me:secret@b.example/", "no http(s) site"),
        ("/a https://b\xfccher.example/", "no http(s) site"),
        ("/a /b/../c", ". or .."),
        ("/a /b/%2e%2E/c 200", ". or .."),
        ("/a /:b", "stands for nothing"),
        ("/a /b?c=:d", "stands for nothing"),
        ("/a /b/:splat", "stands for nothing"),
        ("/a /%ff", "UTF-8"),
        ("/a /b 300", "no status"),
        ("/a /b 30", "no status"),
        ("/a /b \u0663\u0660\u0661", "no status"),
        ("/a /b !", "no status"),
        ("/a /b 301!!", "no status"),
        ("/a /b 301 x", "too much"),
        ("/a https://b.example/ 200", "no proxy"),
        ("/a /b?c 200", "no ? and no #"),
        ("/a /b#c 404", "no ? and no #"),
        ("/ /alps 302 Country=ch,li", "condition 'Country=ch,li'"),
        ("/ /en 302 Language=en", "condition"),
        ("/ /en Language=en", "condition"),
        ("/staff/* 200! Role=staff", "condition"),
        ("/* /beta/:splat 302 Cookie=beta", "condition"),
        ("/a id=:1 /b", "no placeholder"),
        ("/a id=:x id=:y /b", "twice"),
        ("/a id=:x n=:x /b", "twice"),
        ("/:x id=:x /b", "twice"),
        ("/a =:x /b", "empty"),
        ("/a /a", "redirects /a to /a"),
        ("/a/ /a/", "again"),
        ("/* /:splat", "again"),
        ("/a/:x/:y /a/:y/:x 302", "redirects /a/x/y to /a/y/x"),
        ("/a\x00 /b", "U+0000"),
        ("/a /" + "b" * 2000, "at most 2000"),
    ],
)
def test_refused_with_the_line(rule: str, said: str) -> None:
    with pytest.raises(SiteFileError) as caught:
        parse(f"/ok /fine\n\n{rule}\n", "site/_redirects")
    assert (caught.value.line, caught.value.more) == (3, 0)
    assert str(caught.value).startswith("site/_redirects:3: ")
    assert said in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("end", "limit"), [("", MAX_STATIC), ("/*", MAX_DYNAMIC)])
def test_too_many_rules(end: str, limit: int) -> None:
    text = "".join(f"/{i}{end} /x\n" for i in range(limit + 2))
    parse("".join(text.splitlines(True)[:limit]))
    with pytest.raises(SiteFileError, match=f"^_redirects:{limit + 1}: more than {limit} .*1 more"):
        parse(text + "bad\n")


PIECES = st.sampled_from(
    [
        *("/", "//", "*", ":a", ":splat", "x", "\n", " ", "https://h.example", "200", "301!"),
        *("?", "#", "=", "id=:id", "\\", ".", "..", "%", "\xe9", "/* /:splat 302\n", "/:a /x/:a\n"),
    ]
)
PATHS = st.lists(
    st.sampled_from(["/", "//", "a", "x", "\\", ".", "..", "\r\n", "\xe9", "h.example", "%2f", ":"])
).map(lambda parts: "/" + "".join(parts))
QUERIES = st.sampled_from(["", "id=/evil", "id=..", "id=x&a=\r\n", "\xff", "id=%5c"])


def check_error(error: SiteFileError, text: str) -> None:
    assert 1 <= error.line <= text.count("\n") + 1
    assert "\n" not in str(error)


@given(st.text() | st.lists(PIECES, max_size=12).map("".join), PATHS | st.text(), QUERIES)
@example("/* /x:splat 301\n", "//evil", "")
def test_any_text_is_read_or_refused_and_answers_are_safe(text: str, path: str, query: str) -> None:
    try:
        rules = parse(text)
    except SiteFileError as error:
        check_error(error, text)
        return
    for forced in (True, False):
        check(rules.match(path, query, forced=forced), path, query)


def check(match: Match | None, path: str, query: str) -> None:
    if match is None:
        return
    assert (match.location is None) != (match.target is None)
    if match.location is not None:
        assert match.location.startswith(("/", "https://h.example"))
        assert not match.location.startswith(("//", "/\\"))
        assert match.location.isascii() and match.location.isprintable()
        assert " " not in match.location and "\\" not in match.location
        to, _, to_query = match.location.partition("#")[0].partition("?")
        assert (unquote(to), unquote(to_query)) != (path, unquote(query))
    if match.target is not None:
        assert match.target.startswith("/") and not match.target.startswith("//")
        assert not {".", ".."} & set(match.target.split("/"))


RULES = [
    "/* /:splat/x",
    "/* /x/:splat",
    "/a/* /a/b/:splat",
    "/a/* /:splat",
    "/:p/* /:splat/:p",
    "/:p/:q /q/:q/:p",
    "/a/:p /a/p-:p",
    "/* /y?x=:splat",
    "/a id=:id /a/:id",
    "/a /a/",
    "/* /a",
    "/:p/a/:q /:q/:p/x",
    "/a id=:id /a?id=x:id",
    "/a id=:id /:id?id=a",
]
SHORT_PATHS = st.lists(st.sampled_from(["a", "b", "x", "q", "p-a", ""]), max_size=4)


@given(st.sampled_from(RULES), SHORT_PATHS, QUERIES)
def test_following_one_rule_comes_to_an_end(rule: str, parts: list[str], query: str) -> None:
    try:
        rules = parse(rule)
    except SiteFileError:
        return
    path = "/" + "/".join(parts)
    for _ in range(20):  # where browsers stop
        match = rules.match(path, query, forced=False)
        if match is None or match.location is None:
            return
        to, _, query = match.location.partition("?")
        path = unquote(to)
    pytest.fail(f"{rule!r} is still redirecting: {path}?{query}")


def test_a_query_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rules ask for a parameter; and not at all by those for other paths."""
    taken: list[str] = []

    def counted(text: str) -> str:
        taken.append(text)
        return unquote_plus(text)

    text = "".join(f"/store id={n} /{n}\n/x/{n}/* id={n} /{n}\n" for n in range(500))
    rules = parse(text)
    monkeypatch.setattr("middleware.redirects_file.unquote_plus", counted)
    query = "&".join(f"k{n}=v" for n in range(1000))
    for path, most in [("/nothing", 0), ("/store", 2000), ("/x/3/y", 2000)]:
        taken.clear()
        assert rules.match(path, query, forced=False) is None
        assert len(taken) == most
