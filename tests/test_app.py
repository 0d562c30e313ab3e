"""Loading an application: what is found, and what is said when it is not."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from wsgiserver.app import AppError, load, with_files

SHOP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"shop"]

def create_app(name="shop", *, debug=False):
    def made(environ, start_response):
        start_response("200 OK", [])
        return [repr((name, debug)).encode()]
    return made

def needs(one, two, three_required, four): return app
def nothing(): return None
def broken(): raise RuntimeError("no database\\nsecond line")
def stops(): raise SystemExit("usage: shop")
async def coroutine_factory(): return app
async def asgi(scope, receive, send): ...
def asgi_shaped(scope, receive, send): ...
def decorated(*args, **kwargs): return app(*args, **kwargs)
def one_argument(scope): ...

class Callable:
    def __call__(self, environ, start_response): return app(environ, start_response)
    @property
    def trouble(self): raise AttributeError("inside of trouble")
    @property
    def worse(self): raise KeyError("inside of worse")

class AsgiCallable:
    async def __call__(self, scope, receive, send): ...

class ByThePEP:
    def __init__(self, environ, start_response): start_response("200 OK", [])
    def __iter__(self): yield b"pep"

instance = Callable()
asgi_instance = AsgiCallable()
number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, first on the module path, with some modules; forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "plain.py").write_text("from shop import app as application\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def body_of(app: Any) -> bytes:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return b"".join(app(environ, lambda status, headers, exc_info=None: None))


@pytest.mark.parametrize(
    ("spec", "body"),
    [
        ("shop:app", b"shop"),
        ("shop", b"shop"),
        ("plain", b"shop"),
        ("plain:application", b"shop"),
        ("shop:create_app()", b"('shop', False)"),
        ("shop:create_app('x', debug=True)", b"('x', True)"),
        ("shop:create_app(name=['a', {'b': -1}])", b"(['a', {'b': -1}], False)"),
        ("shop:create_app('a:b')", b"('a:b', False)"),
        ("shop:instance", b"shop"),
        ("shop:Callable()", b"shop"),
        ("shop:instance.__call__", b"shop"),
        ("shop:ByThePEP", b"pep"),
        ("shop:decorated", b"shop"),
    ],
)
def test_it_is_found(spec: str, body: bytes) -> None:
    assert body_of(load(spec)) == body


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("shop.py", "'shop.py' is a file, not a module; did you mean shop:app?"),
        ("shop.py:instance", "did you mean shop:instance?"),
        ("./shop.py", "did you mean shop:app?"),
        ("sub/shop.py", "did you mean sub.shop:app?"),
        (".", "'.' is a folder; to serve its files: --documents-root ."),
        ("shop:", "'shop:' names nothing after the colon; write shop:app"),
        (":app", "'' is not the name of a module"),
        ("my shop:app", "'my shop' is not the name of a module"),
        ("shop:(", "'shop:(' is not understood; write module:callable"),
        ("shop:app[0]", "is not understood"),
        ("shop:'app'", "is not understood"),
        ("shop:create_app(app)", "a factory takes literal arguments only"),
        ("shop:create_app(**{'name': 1})", "a factory takes literal arguments only"),
        ("shop:needs(1)", "does not fit the factory: missing a required argument: 'two'"),
        ("shopp:app", "there is no module 'shopp' in "),
        ("shopp:app", "; did you mean shop?"),
        ("entirely_other", "; start in its folder, or name that with --chdir or --pythonpath"),
        ("shop.app", "'shop' is not a package; did you mean shop:app?"),
        ("shop:ap", "module 'shop' has no 'ap'; did you mean shop:app?"),
        ("shop:zzz", "module 'shop' has no 'zzz'; it has app, "),
        ("shop:instance.zzz", "'shop:instance' has no 'zzz'"),
        ("shop:number", "'shop:number' is an object of type int, which cannot be called"),
        ("shop:number()", "'shop:number' cannot be called: it is an object of type int"),
        ("shop:nothing()", "'shop:nothing()' returned None, which cannot be called"),
        ("shop:nothing", "needs no arguments; did you mean shop:nothing()?"),
        ("shop:create_app", "did you mean shop:create_app()?"),
        ("shop:Callable", "'shop:Callable' is a class; did you mean an instance of it"),
        ("shop:one_argument", "does not take (environ, start_response)"),
        ("shop:asgi", "'shop:asgi' is an ASGI application; wsgiserver serves WSGI"),
        ("shop:asgi_shaped", "is an ASGI application"),
        ("shop:asgi_instance", "is an ASGI application"),
        ("shop:AsgiCallable()", "'shop:AsgiCallable()' returned an ASGI application"),
        ("shop:coroutine_factory()", "returned a coroutine; the factory must not be async"),
    ],
)
def test_a_mistake_is_told_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(AppError) as caught:
        load(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.trace == "", "there is nothing of the application's to be seen"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def create_app(): ...", "; did you mean lonely:create_app()?"),
        ("def build_my_app(): ...", "; did you mean lonely:build_my_app()?"),
        (
            "def create_app(): ...\ndef make_app(): ...",
            "; did you mean lonely:create_app() or lonely:make_app()?",
        ),
        ("from os import getcwd as app_dir", "; name what is the application: lonely:NAME"),
    ],
)
def test_a_module_without_app(folder: Path, text: str, message: str) -> None:
    (folder / "lonely.py").write_text(text)
    with pytest.raises(AppError) as caught:
        load("lonely")
    assert str(caught.value) == f"module 'lonely' has neither 'app' nor 'application'{message}"


def test_a_package_with_a_wsgi_module(folder: Path) -> None:
    (folder / "project").mkdir()
    (folder / "project" / "__init__.py").touch()
    (folder / "project" / "wsgi.py").write_text("from shop import app as application")
    with pytest.raises(AppError, match=r"did you mean project\.wsgi\?$"):
        load("project")
    with pytest.raises(AppError, match=r"did you mean project\.wsgi\?$"):
        load("project.wsg")
    assert body_of(load("project.wsgi")) == b"shop"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import not_installed_anywhere", "ModuleNotFoundError: No module named"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("x = (", "SyntaxError: '(' was never closed (failing.py, line 1)"),
        ("raise SystemExit(2)", "SystemExit: 2"),
        ("class E(Exception): pass\nraise E", "E"),
    ],
)
def test_the_application_fails_to_import(folder: Path, text: str, line: str) -> None:
    (folder / "failing.py").write_text(text)
    with pytest.raises(AppError) as caught:
        load("failing:app")
    assert str(caught.value).startswith(f"'failing' cannot be imported: {line}")
    assert "failing.py" in caught.value.trace
    own = (str(Path(load.__code__.co_filename)), str(importlib.__file__), "<frozen importlib")
    assert not any(name in caught.value.trace for name in own)


def test_a_missing_import_of_the_applications_own_name_is_its_fault(folder: Path) -> None:
    """`No module named 'outer.inner'` from within `outer` is not a typing mistake of the user."""
    (folder / "outer").mkdir()
    (folder / "outer" / "__init__.py").write_text("import outer.inner")
    with pytest.raises(AppError) as caught:
        load("outer.inner")
    assert "import outer.inner" in caught.value.trace


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("shop:broken()", "'shop:broken()' failed: RuntimeError: no database"),
        ("shop:stops()", "'shop:stops()' failed: SystemExit: usage: shop"),
        ("shop:instance.trouble", "shop:instance.trouble: AttributeError: inside of trouble"),
        ("shop:instance.worse", "shop:instance.worse: KeyError: 'inside of worse'"),
    ],
)
def test_the_application_fails_when_it_is_made(spec: str, message: str) -> None:
    with pytest.raises(AppError) as caught:
        load(spec)
    assert str(caught.value) == message
    frames = [line for line in caught.value.trace.splitlines() if line.startswith("  File ")]
    assert frames
    assert all("shop.py" in frame for frame in frames)


def test_a_chained_traceback_is_trimmed_as_a_whole(folder: Path) -> None:
    (folder / "chained.py").write_text(
        "import importlib\ntry:\n    importlib.import_module('not_there')\n"
        "except ImportError as error:\n    raise RuntimeError('wrapped') from error\n"
    )
    with pytest.raises(AppError) as caught:
        load("chained")
    assert "direct cause" in caught.value.trace
    assert "frozen importlib" not in caught.value.trace


# --- files ----------------------------------------------------------------------------------------


def head_of(app: Any, path: str) -> tuple[str, dict[str, str]]:
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    seen: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        seen.append((status, dict(headers)))

    chunks = app(environ, start_response)
    b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return seen[0]


def status_of(app: Any, path: str) -> str:
    return head_of(app, path)[0]


def header_of(app: Any, path: str, name: str) -> str:
    return head_of(app, path)[1].get(name, "")


def test_files_beside_an_application(folder: Path) -> None:
    (folder / "files").mkdir()
    (folder / "files" / "a.txt").write_text("file")
    app = with_files(load("shop:app"), "files", "/static/")
    assert status_of(app, "/static/a.txt") == "200 OK"
    assert body_of(app) == b"shop"
    alone = with_files(None, "files", "/")
    assert status_of(alone, "/a.txt") == "200 OK"
    assert status_of(alone, "/missing") == "404 Not Found"
    with pytest.raises(AppError, match=r"^documents_root 'missing': "):
        with_files(None, "missing", "/")


HASHED = "a.0123456789ab.json"


@pytest.mark.parametrize(
    ("immutable", "kept"),
    [
        (r"\.[0-9a-f]{12}\.json", {HASHED}),  # ends like the path of a manifest
        ("^a.*json", {HASHED, "a.json"}),
        ("manifest.json", {"a.json"}),
        ("./manifest.json", {"a.json"}),
        ("build (1)/manifest.json", {"a.json"}),
        ("none", set()),
        ("", {HASHED}),
    ],
)
def test_which_names_are_immutable(folder: Path, immutable: str, kept: set[str]) -> None:
    (folder / "files").mkdir()
    for name in (HASHED, "a.json"):
        (folder / "files" / name).write_text("{}")
    (folder / "build (1)").mkdir()
    for place in (folder, folder / "build (1)"):
        (place / "manifest.json").write_text('{"x.json": "a.json"}')
    options = {"immutable": immutable} if immutable else {}
    app = with_files(None, "files", "/", options)
    policies = {name: header_of(app, f"/{name}", "Cache-Control") for name in (HASHED, "a.json")}
    assert {name for name, value in policies.items() if "immutable" in value} == kept


def test_a_manifest_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "files").mkdir()
    with pytest.raises(AppError, match=r"the manifest .*none\.json cannot be read"):
        with_files(None, "files", "/", {"immutable": "dist/none.json"})


def test_the_applications_own_module_named_middleware_stays_its_own(folder: Path) -> None:
    """A name that projects use: neither may get the other's."""
    (folder / "middleware.py").write_text("OWN = True\n")
    (folder / "web.py").write_text("from middleware import OWN\nfrom shop import app\nassert OWN\n")
    (folder / "run.py").write_text(
        "from wsgiserver.app import load, with_files\n"
        "before = with_files(None, '.', '/')\n"
        "after = with_files(load('web:app'), '.', '/static/')\n"
        "import middleware\n"
        "assert middleware.OWN\n"
        "assert type(before).__module__ == type(after).__module__ == 'middleware.static'\n"
        "def status_of(app, path):\n"
        "    seen = []\n"
        "    environ = {'REQUEST_METHOD': 'GET', 'SCRIPT_NAME': '', 'PATH_INFO': path}\n"
        "    list(app(environ, lambda status, headers, exc_info=None: seen.append(status)))\n"
        "    return seen[0]\n"
        "assert status_of(before, '/web.py') == status_of(after, '/static/web.py') == '200 OK'\n"
        "assert status_of(before, '/nothing') == '404 Not Found'\n"
        "assert status_of(after, '/nothing') == '200 OK'\n"
        "print('fine')\n"
    )
    result = subprocess.run(
        [sys.executable, "run.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert (result.stdout, result.stderr) == ("fine\n", "")
