"""URL path -> names: what is refused unseen.

What an existing tree gives for the others: test_path_model.py, test_static.py.
"""

from __future__ import annotations

import ntpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware import StaticFiles
from middleware.resolve import judge, servable


@pytest.mark.parametrize(
    ("path", "parts", "directory"),
    [
        ("/%252e%252e%c0%af", ("%252e%252e%c0%af",), False),
        ("/sub/_headers", ("sub", "_headers"), False),
        ("/_headersX", ("_headersX",), False),
        ("/_headers/x", ("_headers", "x"), False),  # the file of that name has nothing below it
        ("/headers", ("headers",), False),
        (
            "/\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x92\xbb.png",
            ("\U0001f468\u200d\U0001f4bb.png",),
            False,
        ),
        ("", (), False),
        ("/", (), True),
        ("/a.txt", ("a.txt",), False),
        ("/sub/", ("sub",), True),
        ("/sub/a b.txt", ("sub", "a b.txt"), False),
        ("/x:y/z", ("x:y", "z"), False),
        ("/...x", None, False),
        ("/%2e%2e/x", ("%2e%2e", "x"), False),  # decoded once: a name like any other
        ("/\xc3\xa9.txt", ("\xe9.txt",), False),  # UTF-8 as latin-1 characters
        ("/.well-known/acme", (".well-known", "acme"), False),
    ],
)
def test_judged(path: str, parts: tuple[str, ...] | None, directory: bool) -> None:
    judged = judge(path, windows=False)
    assert judged == (None if parts is None else (parts, directory))


REFUSED = [
    "a.txt",
    "*",
    "//",
    "//a.txt",
    "/a//b",
    "/a//",
    "/.",
    "/..",
    "/./a.txt",
    "/../a.txt",
    "/a/../b",
    "/a/..",
    "/a\x00.txt",
    "/..\x00/",
    "/a\nb",
    "/a\x7f",
    "/a\\b",
    "/\\\\host\\share",
    "/c:/windows/win.ini",
    "/x/C:",
    "/..\xc0\xaf",  # an overlong slash
    "/\xe9.txt",  # latin-1, not UTF-8
    "/\xed\xa0\x80",  # a surrogate
    "/\u0394",  # no byte: the server is broken
    "/.env",
    "/sub/.htpasswd",
    "/sub/.well-known/x",
    "/.well-known/.hidden",
    "/.ENV",
    "/.Well-Known/x",
    "/..;/x",
    "/..namedfork/rsrc",
    "/\xe2\x80\x8c.env",  # file systems without regard to case leave out U+200C
    "/.\xe2\x80\x8c/",
    "/sub/\xc2\xad.htpasswd",
    "/\xe2\x80\x8d",
    "//host/share/x",
    "/C:",
    "/c:/",
    "/\xc0\xae\xc0\xae/x",  # overlong dots
    "/\xe0\x80\xaf",
    "/\xf0\x80\x80\xaf",
    "/\xf4\x90\x80\x80",  # beyond Unicode
    "/\xed\xb3\xbf",
    "/_headers",
    "/_redirects",
    "/_HEADERS",
    "/_Redirects",
    "/_headers/",
    "/_headers.gz",
    "/_redirects.br",
    "/_HEADERS.Zst",
    "/_headers.html",
    "/_redirects~",
    "/_headers.br.bak",
    "/_header\xc5\xbf",  # the long s is an s to file systems without regard to case
    "/_re\xc2\xaddirects",
    "/" + "a/" * 3000,
]


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    assert judge(path, windows=False) is None


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_refused_costs_no_system_call(
    path: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = StaticFiles(site, not_found_page=False, site_files=False)

    def touched(*args: object) -> None:
        raise AssertionError(f"the file system was asked for {args}")

    monkeypatch.setattr("middleware.beneath._way", touched)
    answered: list[str] = []
    app(
        {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.url_scheme": "http"},
        lambda status, headers, exc_info=None: answered.append(status),  # type: ignore[arg-type]
    )
    assert answered == ["404 Not Found"]


@pytest.mark.parametrize("path", ["/.env", "/sub/.htpasswd", "/.git/config", "/.well-known/.x"])
def test_dotfiles_on_request(path: str) -> None:
    assert judge(path, dotfiles=True) == (tuple(path[1:].split("/")), False)


@pytest.mark.parametrize("path", ["/.", "/..", "/../x", "/x/./y", "/_headers", "/\xe2\x80\x8c.."])
def test_some_are_refused_with_dotfiles_too(path: str) -> None:
    assert judge(path, dotfiles=True) is None


def test_a_long_name_is_left_to_the_file_system() -> None:
    assert judge("/" + "n" * 300) == (("n" * 300,), False)
    assert judge("/" + "n/" * 2047) is not None
    assert judge("/" + "n/" * 2048) is None


@pytest.mark.parametrize(
    "name",
    [
        "NUL", "nul.txt", "nUl.tar.gz", "CON.txt.html", "CON  ", "CON . txt", "PRN", "aux.h",
        "COM1", "COM\u00b9", "COM\u00b2 .a", "LPT0", "LPT\u00b3.x", "CONIN$", "CONOUT$.x", "clock$",
        "a.", "a. .", "a.txt.", "a.txt ", "..", "...", "SECRET~1.TXT", "SE4F2A~1",
        "a.txt::$DATA", "index.html:", "a:stream", "C:x", "c:",
        "a?b", "a*", "a<b", "a>b", "a|b", 'a"b',
    ],
)  # fmt: skip
def test_windows_names(name: str) -> None:
    for path in (f"/b/{name}", f"/{name}/b"):
        path = path.encode().decode("latin-1")
        assert judge(path, windows=True) is None
        if name not in ("..", "...", "c:"):  # elsewhere they are served if they are there
            assert judge(path, windows=False) is not None


IS_RESERVED = getattr(ntpath, "isreserved", None)


@pytest.mark.skipif(IS_RESERVED is None, reason="Python 3.13 knows them")
@given(
    st.text(st.sampled_from("aAcCnNoOuUlLxXpPmMtT1230\u00b9$:. *~"), min_size=1)
    | st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["CON", "nul", "Prn", "aux", "COM1", "lpt9", "com\u00b3", "CONIN$"]),
            st.text(" .ax", max_size=4),
        ),
    )
)
def test_what_python_takes_for_reserved_is_refused(name: str) -> None:
    assert IS_RESERVED is not None
    if IS_RESERVED(name):
        assert not servable((name,), windows=True)


@pytest.mark.parametrize("name", ["console.txt", "COM10", "nul-1.txt", "auxiliary", "a.b.c", "com"])
def test_names_windows_does_not_mind(name: str) -> None:
    assert judge("/" + name, windows=True) == ((name,), False)


NAMES = [".env", ".well-known", "_headers", "NUL", "a.", "c:", "x:y", "\u200c.a", "a~1", "\udcff"]


class TestServable:
    """The same rules for names that the file system gives, which listings show."""

    def test_the_root_itself(self) -> None:
        assert servable(())

    @pytest.mark.parametrize("name", ["", "a/b", "/", "\udcff", "a\0", ".", "..", "\\"])
    def test_what_no_url_names(self, name: str) -> None:
        assert not servable((name,), dotfiles=True, windows=False)
        assert not servable(("a", name, "b"), dotfiles=True, windows=False)

    @given(
        st.lists(st.text(max_size=12) | st.sampled_from(NAMES), max_size=4),
        st.booleans(),
        st.booleans(),
    )
    def test_agrees_with_judge(self, parts: list[str], dotfiles: bool, windows: bool) -> None:
        """A name that is shown can be asked for, and one that is not cannot."""
        shown = servable(parts, dotfiles=dotfiles, windows=windows)
        try:
            path = "".join("/" + part for part in parts).encode().decode("latin-1")
        except UnicodeEncodeError:
            assert not shown
            return
        found = judge(path, dotfiles=dotfiles, windows=windows)
        if shown:
            assert found == (tuple(parts), False)
        elif not any("/" in part or part == "" for part in parts):
            assert found is None

    @given(
        st.sampled_from([".env", "_headers", "_redirects.gz"]),
        st.lists(st.tuples(st.integers(0, 12), st.sampled_from("\u00ad\u200b\u200d\ufe0f\ufeff"))),
    )
    def test_no_spelling_that_a_file_system_equates(
        self, name: str, ignored: list[tuple[int, str]]
    ) -> None:
        """ext4's casefold and HFS+ find the file under all of these."""
        spelt = name.swapcase()
        for position, character in ignored:
            spelt = spelt[:position] + character + spelt[position:]
        assert not servable((spelt,), windows=False)
