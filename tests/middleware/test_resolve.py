"""URL path -> file: what is refused unseen, and what an existing site gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.resolve import Directory, File, judge, resolve


@pytest.mark.parametrize(
    ("path", "parts", "directory"),
    [
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
    "/" + "a/" * 3000,
]


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    assert judge(path, windows=False) is None


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_refused_costs_no_system_call(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*args: object) -> None:
        raise AssertionError(f"the file system was asked for {args}")

    monkeypatch.setattr("middleware.resolve.open_beneath", touched)
    assert resolve("/nowhere", path) is None


@pytest.mark.parametrize(
    "name",
    [
        "NUL", "nul.txt", "CON.txt.html", "CON  ", "CON . txt", "COM1", "COM\u00b9", "LPT\u00b3.x",
        "CONIN$", "a.txt.", "a.txt ", "a.txt::$DATA", "C:x", "SECRET~1.TXT", "a?b", "a*", "a<b",
    ],
)  # fmt: skip
def test_windows_names(name: str) -> None:
    path = "/b/" + name.encode().decode("latin-1")
    assert judge(path, windows=True) is None
    assert judge(path, windows=False) is not None


@pytest.mark.parametrize("name", ["console.txt", "COM10", "nul-1.txt", "auxiliary", "a.b.c", "com"])
def test_names_windows_does_not_mind(name: str) -> None:
    assert judge("/" + name, windows=True) == ((name,), False)


def content(root: Path, path: str, **options: object) -> str | bytes | None:
    found = resolve(str(root), path, **options)  # type: ignore[arg-type]
    if not isinstance(found, File):
        return "directory" if isinstance(found, Directory) else None
    with found.file as file:
        return os.read(file.fd, 1 << 20)


def test_files_and_directories(site: Path) -> None:
    home = (site / "index.html").read_bytes()
    assert content(site, "/a.txt") == b"0123456789" * 10
    assert content(site, "/") == home
    assert content(site, "") == "directory"
    assert content(site, "/index.html") == home
    assert content(site, "/sub") == "directory"
    assert content(site, "/sub/") == (site / "sub/index.html").read_bytes()
    assert content(site, "/bare") is None
    assert content(site, "/bare/") is None
    assert content(site, "/a.txt/") is None
    assert content(site, "/a.txt/x") is None
    assert content(site, "/missing") is None
    assert content(site, "/" + "n" * 300) is None


def test_options(site: Path) -> None:
    assert content(site, "/bare/", index="b.txt") == b"b"
    assert content(site, "/sub/", index=None) is None
    assert content(site, "/sub", index=None) is None
    assert content(site, "/.env", dotfiles=True) == (site / ".env").read_bytes()
    assert content(site, "/..", dotfiles=True) is None


def test_path_of_the_file_served(site: Path) -> None:
    found = resolve(str(site), "/sub/")
    assert isinstance(found, File)
    found.file.close()
    assert found.path == "sub/index.html"


def test_a_directory_called_index_is_no_page(site: Path) -> None:
    (site / "bare" / "index.html").mkdir()
    assert content(site, "/bare/") is None
    assert content(site, "/bare") is None
    assert content(site, "/bare/index.html") is None


PIECES = [
    "", ".", "..", "a.txt", "sub", "bare", "b.txt", "index.html", ".env", ".git", "config",
    "in", "out", "up", "loop", "abs", "chain", "dir", "missing", "root", "outside.txt",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=5), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_the_real_path(site: Path, pieces: list[str], slash: bool) -> None:
    """The model asks the operating system where the path ends, and looks whether that is inside."""
    links = {
        "in": "bare/b.txt",
        "out": "../outside.txt",
        "up": "..",
        "loop": "loop",
        "abs": str(site / "sub"),
        "chain": "dir/b.txt",
        "dir": "sub/../bare",
    }
    for name, target in links.items():
        if not (site / name).is_symlink():
            (site / name).symlink_to(target)
    path = "/" + "/".join(pieces) + ("/" if slash and pieces else "")

    def expected() -> str | bytes | None:
        names = path[1:].split("/")
        at_end = names[-1] == ""
        if at_end:
            names.pop()
        if any(name in ("", ".", "..") or name.startswith(".") for name in names):
            return None

        def served(*parts: str) -> bytes | None:
            try:
                real = Path(os.path.realpath(site.joinpath(*parts), strict=True))
            except OSError:
                return None
            inside = real.is_relative_to(site) and real.is_file()
            return real.read_bytes() if inside else None

        page = served(*names, "index.html")
        if at_end:
            return page
        return served(*names) or ("directory" if page else None)

    assert content(site, path) == expected()
