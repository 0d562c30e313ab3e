"""Who may import whom: the layers of docs/architecture.md, and every file checked against them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parent.parent

# A module imports only from its own layer or from those above it in this table, in functions too.
LAYERS: Final = {
    "wsgiserver": {
        "L0": "http http.body http.errors http.framing http.grammar http.head http.response",
        "L1": "answers clock context files forwarded gateway request states",
        "L2": "connection",
        "L3": "drive",
        "L4": "workers.base workers.pollers workers.readiness",
        "L5": "workers.single workers.process workers.thread workers.gevent"
        " workers.nonblocking workers.epoll workers.threadpool",
        "L6": "options config fate fleet_plan listeners logs scoreboard signals workers",
        "L7": "supervisor",
        "L8": "app cli reload server __main__ .",
    },
    "middleware": {
        "L0": "beneath codings conditional cors entries folder media multipart negotiate pages"
        " patterns ranges security",
        "L1": "body caching compress compress_file compress_tree headers_file listing live_reload"
        " redirects_file resolve",
        "L2": "page site_files",
        "L3": "answer policy site",
        "L4": "static .",
    },
}
# The modules of these layers do not import each other either.
STRANGERS: Final = {("wsgiserver", "L5")}

# The one module that may import the other package, and only when it is needed.
MOUNTS_FILES: Final = "wsgiserver.app"

# Where a package from elsewhere may be imported: in these modules and what lies below them.
THIRD_PARTY: Final = {
    "brotli": ("middleware.codings",),
    "click": ("wsgiserver.cli", "middleware.compress"),
    "compression": ("middleware.codings",),  # Python 3.14 has zstd in its standard library
    "gevent": ("wsgiserver.workers.gevent",),
    "watchfiles": ("wsgiserver.reload",),
    "werkzeug": ("middleware",),
    "zstandard": ("middleware.codings",),
}
# All that these modules and what lies below them may use of the standard library.
_PURE: Final = frozenset(
    {
        *("__future__", "types", "typing", "collections", "collections.abc"),
        *("dataclasses", "enum", "functools", "re", "urllib.parse"),
    }
)
PURE: Final = {
    "wsgiserver.http": _PURE | {"ipaddress"},
    "wsgiserver.forwarded": _PURE | {"ipaddress"},
    "wsgiserver.connection": _PURE | {"io"},
    "wsgiserver.fleet_plan": _PURE,
    "wsgiserver.states": _PURE,
    "middleware.conditional": _PURE,
    "middleware.media": _PURE,
    "middleware.headers_file": _PURE,
    "middleware.multipart": _PURE | {"secrets"},
    "middleware.negotiate": _PURE,
    "middleware.patterns": _PURE,
    "middleware.ranges": _PURE,
    "middleware.redirects_file": _PURE,
}


class Place(NamedTuple):
    package: str
    layer: str
    rank: int


class Import(NamedTuple):
    line: int
    target: str
    typing_only: bool  # under `if TYPE_CHECKING:`
    lazy: bool  # inside a function


def places() -> dict[str, Place]:
    """Module → where the table puts it."""
    return {
        package if name == "." else f"{package}.{name}": Place(package, layer, rank)
        for package, layers in LAYERS.items()
        for rank, (layer, names) in enumerate(layers.items())
        for name in names.split()
    }


PLACES: Final = places()


def modules(root: Path) -> dict[str, Path]:
    """Module → its file, for the packages below `root`."""
    files = [path for package in LAYERS for path in sorted((root / package).rglob("*.py"))]
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


def violations(root: Path, module: str, path: Path) -> list[str]:
    """What breaks the table in a file, as `file:line: who → whom: why`."""
    file = path.relative_to(root)
    if module not in PLACES:
        return [f"{file}:1: {module} has no layer; put it into one, in {Path(__file__).name}"]
    return [
        f"{file}:{entry.line}: {shown(module)} → {shown(entry.target)}: {why}"
        for entry in imports(path, module)
        if (why := objection(module, entry))
    ]


def shown(module: str) -> str:
    return f"{module} ({PLACES[module].layer})" if module in PLACES else module


def objection(module: str, entry: Import) -> str | None:
    """Why `module` may not import that, if it may not."""
    top = entry.target.partition(".")[0]
    home, target = PLACES[module], PLACES.get(entry.target)
    if top in LAYERS and target is None:
        return "there is no such module in the table"
    if target is not None:
        return _objection_to_own(module, home, target, entry)
    if top not in sys.stdlib_module_names:
        allowed = THIRD_PARTY.get(top)
        if allowed is None:
            return f"{top} is not a dependency"
        if not any(below(module, place) for place in allowed):
            return f"{top} belongs to {' and '.join(allowed)}"
        return None
    for pure, names in PURE.items():
        if below(module, pure) and entry.target not in names:
            return f"{pure} is pure: no I/O, no clock, no logging"
    return None


def _objection_to_own(module: str, home: Place, target: Place, entry: Import) -> str | None:
    if target.package != home.package:
        if module != MOUNTS_FILES:
            return f"{home.package} and {target.package} do not know each other"
        return None if entry.lazy else f"{target.package} is imported only when it is needed"
    if entry.typing_only:
        return None  # a name for the type checker is no dependency
    if target.rank > home.rank:
        return "a lower layer does not import a higher one"
    if (home.package, home.layer) in STRANGERS and target == home and module != entry.target:
        return f"the modules of {home.layer} do not import each other"
    return None


def below(module: str, top: str) -> bool:
    return module == top or module.startswith(top + ".")


def imports(path: Path, module: str) -> Iterator[Import]:
    """Every import of a file, also those in functions and those by import_module("name")."""
    is_package = path.name == "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"), path)
    waiting: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while waiting:
        node, typing_only, lazy = waiting.pop()
        for target in targets(node, module, is_package):
            yield Import(getattr(node, "lineno", 1), target, typing_only, lazy)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = node.body if isinstance(node, ast.If) and names_type_checking(node.test) else []
        for child in ast.iter_child_nodes(node):
            waiting.append((child, typing_only or child in guarded, lazy))


def names_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def targets(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """The modules that this one statement or call imports."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=source, names=names, level=level):
            origin = _absolute(source or "", level, module, is_package)
            return [_submodule(origin, alias.name) for alias in names]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
    return []


def _absolute(source: str, level: int, module: str, is_package: bool) -> str:
    if not level:
        return source
    parts = module.split(".")
    base = parts[: len(parts) - level + is_package]
    return ".".join([*base, source] if source else base)


def _submodule(origin: str, name: str) -> str:
    """`from origin import name`: the module `origin.name` if there is one, else `origin`."""
    whole = f"{origin}.{name}"
    return whole if whole in PLACES or whole in _PURE else origin


def test_every_import_follows_the_layers() -> None:
    wrong = [line for item in modules(ROOT).items() for line in violations(ROOT, *item)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_table_names_no_module_that_is_gone() -> None:
    assert PLACES.keys() - modules(ROOT).keys() == set()


SEEDS: Final = [
    ("wsgiserver/clock.py", "import wsgiserver.server", "clock (L1) → wsgiserver.server (L8)"),
    ("wsgiserver/clock.py", "from .connection import Want", "wsgiserver.connection (L2): a lower"),
    ("wsgiserver/clock.py", "from . import drive", "→ wsgiserver.drive (L3): a lower layer"),
    (
        "wsgiserver/drive.py",
        "def f():\n    from wsgiserver import workers",
        "workers (L6): a lower",
    ),
    ("wsgiserver/drive.py", "from wsgiserver import Config", "→ wsgiserver (L8): a lower layer"),
    ("wsgiserver/http/head.py", "import socket", "→ socket: wsgiserver.http is pure"),
    (
        "wsgiserver/http/head.py",
        "if TYPE_CHECKING:\n    import os",
        "→ os: wsgiserver.http is pure",
    ),
    ("wsgiserver/connection.py", "from time import monotonic", "connection is pure"),
    ("wsgiserver/workers/epoll.py", "from .thread import ThreadWorker", "do not import each other"),
    (
        "wsgiserver/workers/epoll.py",
        "from gevent import spawn",
        "gevent belongs to wsgiserver.work",
    ),
    ("wsgiserver/gateway.py", "import werkzeug.http", "werkzeug belongs to middleware"),
    ("wsgiserver/gateway.py", "import numpy", "numpy is not a dependency"),
    ("wsgiserver/server.py", "import_module('middleware')", "do not know each other"),
    ("wsgiserver/app.py", "from middleware import StaticFiles", "only when it is needed"),
    ("middleware/static.py", "if TYPE_CHECKING:\n    import wsgiserver", "do not know each other"),
    (
        "middleware/media.py",
        "from middleware.static import StaticFiles",
        "→ middleware.static (L4)",
    ),
    ("wsgiserver/new.py", "", "new.py:1: wsgiserver.new has no layer; put it into one"),
    ("wsgiserver/app.py", "import wsgiserver.new", "there is no such module in the table"),
]


@pytest.mark.parametrize(("file", "code", "message"), SEEDS)
def test_a_wrong_import_is_found(tmp_path: Path, file: str, code: str, message: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    before = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).exists() else ""
    path.write_text(f"{before}\n{code}\n", encoding="utf-8")
    [(module, _)] = modules(tmp_path).items()
    [line] = violations(tmp_path, module, path)
    assert line.startswith(f"{file}:")
    assert message in line
