"""The columns of the comparison of features: how each system is configured and started.

Each has the configuration that its documentation advises for a whole site, and what else it takes
to have a feature, as long as that is a matter of options.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.servers import HOST, PROJECT, Server, gunicorn, module
from benchmarks.static.apps import not_found
from benchmarks.static.servers import SERVERS

if TYPE_CHECKING:
    from wsgiref.headers import Headers

HASHED: Final = r"\.[0-9a-f]{12}\."
_ROOT: Final = "BENCHMARKS_ROOT"

_SITE_FILES: Final = frozenset({"`_headers`", "`_redirects`"})
_PAGES: Final = frozenset(
    {
        "the nearest 404.html up the tree",
        "clean URLs",
        "listing as HTML",
        "listing as JSON, by Accept",
    }
)
_SIBLINGS: Final = frozenset({"`gzip` sibling", "`br` sibling", "`zstd` sibling"})


@dataclass(frozen=True, slots=True)
class System:
    """A column of the table.

    modes: name of a mode (see `Row`) → how it is started for it; "site" always. What it does not
        do in this one it is asked again in the mode "alternative", where there is one.
    note: its configuration, beneath the table.
    without: rows of what it does not claim to have; a "no" there becomes a dash.
    compress: folder → the command that makes siblings in it.
    """

    name: str
    modes: Mapping[str, Server]
    note: str
    without: frozenset[str] = frozenset()
    compress: Callable[[Path], list[str]] | None = None
    alternative: str = ""

    @property
    def site(self) -> Server:
        """How it is started for most of the rows."""
        return self.modes["site"]


# --- this project ---------------------------------------------------------------------------------


def _project(*options: str) -> Server:
    return Server(
        PROJECT,
        lambda root, port: module(
            PROJECT, "--documents-root", root, "--bind", f"{HOST}:{port}", *options
        ),
        PROJECT,
    )


_OURS: Final = System(
    PROJECT,
    {
        "site": _project("--clean-urls", "--listing"),
        "application": _project("--fallback", "index.html"),
        "live": _project("--live-reload"),
    },
    "`--documents-root`, `--clean-urls`, `--listing`; `--fallback` and `--live-reload` for their "
    "rows",
    compress=lambda folder: module(PROJECT, "compress", str(folder)),
)


# --- nginx ----------------------------------------------------------------------------------------

_BROTLI: Final = Path("/usr/lib/nginx/modules/ngx_http_brotli_static_module.so")
_NGINX: Final = """\
{modules}
daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    types {{ text/html html; text/css css; text/plain txt; application/javascript js; }}
    default_type application/octet-stream;
    charset utf-8;
    charset_types text/css text/plain application/javascript;
    sendfile on;
    access_log off;
    gzip_static on;
    gzip_vary on;
    {brotli}
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    map $uri $kept {{ "~{hashed}" "public, max-age=31536000, immutable"; }}
    map $uri $readers {{ ~\\.woff2$ *; }}
    map $uri $above {{ ~^(?<directory>.*/)[^/]*$ $directory; }}
    map $http_accept $page {{ default /none; ~text/html /index.html; }}
    server {{
        listen {host}:{port};
        root {root};
        index index.html;
        absolute_redirect off;
        {symlinks}
        add_header X-Content-Type-Options nosniff always;
        add_header Cache-Control $kept;
        add_header Access-Control-Allow-Origin $readers;
        error_page 404 @missing;
        error_page 405 @method;
        if ($request_method = OPTIONS) {{ rewrite ^ /.options last; }}
        location / {{ {location} }}
        location /list/ {{ autoindex on; }}
        location /json/ {{ alias {root}/list/; autoindex on; autoindex_format json; }}
        location ~ /\\. {{ return 404; }}
        location = /.options {{
            internal;
            add_header Allow "GET, HEAD, OPTIONS";
            return 204;
        }}
        location @missing {{ try_files ${{above}}404.html /404.html =404; }}
        location @method {{
            add_header Allow "GET, HEAD, OPTIONS" always;
            return 405;
        }}
    }}
}}
"""


_SYMLINKS: Final = "disable_symlinks on from=$document_root;"
_CLEAN: Final = "try_files $uri $uri/ $uri.html =404;"


def _nginx(location: str, symlinks: str = _SYMLINKS) -> Server:
    def command(root: str, port: int) -> list[str]:
        folder = _folder(root, "nginx")
        brotli = _BROTLI.exists()
        text = _NGINX.format(
            modules=f"load_module {_BROTLI};" if brotli else "",
            brotli="brotli_static on;" if brotli else "",
            user="" if os.geteuid() else f"user {pwd.getpwuid(0).pw_name};",
            folder=folder,
            host=HOST,
            port=port,
            root=root,
            hashed=HASHED,
            location=location,
            symlinks=symlinks,
        )
        (folder / "nginx.conf").write_text(text)
        path = f"PATH={os.environ.get('PATH', os.defpath)}:/usr/sbin"
        configuration = str(folder / "nginx.conf")
        return ["env", path, "nginx", "-p", str(folder), "-c", configuration, "-e", "stderr"]

    return replace(SERVERS["nginx"], command=command)


def _folder(root: str, name: str) -> Path:
    """Where a server's own files go, beside the root."""
    folder = Path(root).parent / name
    folder.mkdir(exist_ok=True)
    return folder


_NGINX_SYSTEM: Final = System(
    "nginx",
    {
        "site": _nginx(_CLEAN),
        "alternative": _nginx(_CLEAN, symlinks=""),
        "application": _nginx(
            "try_files $uri $uri/ $page =404; location ~ \\.[^/]*$ { try_files $uri =404; }"
        ),
    },
    "`try_files` (clean URLs, fallback), `gzip_static`, `gzip_vary`, `charset`, `autoindex`, "
    "`autoindex_format`, `disable_symlinks on from=`, `absolute_redirect off`, `map` with "
    "`add_header`, `error_page 404` and `405` with named locations, `return 204` for OPTIONS"
    + ("; `brotli_static` of the module ngx_brotli" if _BROTLI.exists() else ""),
    _SITE_FILES | ({"`zstd` sibling"} | (set() if _BROTLI.exists() else {"`br` sibling"})),
    alternative="only without `disable_symlinks`",
)


# --- Caddy ----------------------------------------------------------------------------------------

_CADDY: Final = """\
{{
    admin off
    auto_https off
}}
http://:{port} {{
    bind {host}
    root * {root}
    header X-Content-Type-Options nosniff
    @fonts path *.woff2
    header @fonts Access-Control-Allow-Origin *
    @hashed {{
        path_regexp {hashed}
        file
    }}
    header @hashed Cache-Control "public, max-age=31536000, immutable"
    @options method OPTIONS
    header @options Allow "GET, HEAD, OPTIONS"
    respond @options 204
    @others not method GET HEAD OPTIONS
    header @others Allow "GET, HEAD, OPTIONS"
    respond @others 405
    {location}
    file_server {{
        precompressed br zstd gzip
        hide .*
        browse
    }}
    handle_errors {{
        @missing expression {{http.error.status_code}} == 404
        handle @missing {{
            try_files {{http.request.uri.path.dir}}404.html /404.html
            file_server
        }}
    }}
}}
"""
_NAVIGATION: Final = """\
@navigation {
        header Accept *text/html*
        not path_regexp [.][^/]*$
        not file {path} {path}/
    }
    rewrite @navigation /index.html
"""


def _caddy(location: str) -> Server:
    def command(root: str, port: int) -> list[str]:
        folder = _folder(root, "caddy")
        text = _CADDY.format(host=HOST, port=port, root=root, hashed=HASHED, location=location)
        (folder / "Caddyfile").write_text(text)
        # It keeps its state in the home directory.
        where = (f"HOME={folder}", f"XDG_CONFIG_HOME={folder}", f"XDG_DATA_HOME={folder}")
        run = ("caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile"))
        return ["env", *where, *run]

    return replace(SERVERS["caddy"], command=command)


_CADDY_SYSTEM: Final = System(
    "Caddy",
    {"site": _caddy("try_files {path} {path}.html"), "application": _caddy(_NAVIGATION)},
    "`file_server` with `precompressed`, `hide` and `browse`; `try_files`, `header` with matchers, "
    "`respond` for other methods, `handle_errors` for 404, `rewrite` for the fallback",
    _SITE_FILES,
)


# --- libraries of Python --------------------------------------------------------------------------


def _nosniff(headers: Headers, _path: str, _url: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"


def _closed_world(package: str, name: str, autorefresh: bool) -> object:
    return getattr(import_module(package), name)(
        not_found,
        root=os.environ[_ROOT],
        index_file=True,
        autorefresh=autorefresh,
        immutable_file_test=HASHED,
        add_headers_function=_nosniff,
    )


def whitenoise(autorefresh: bool = False) -> object:
    """The application that gunicorn is told to run."""
    return _closed_world("whitenoise", "WhiteNoise", autorefresh)


def servestatic(autorefresh: bool = False) -> object:
    """The application that gunicorn is told to run."""
    return _closed_world("servestatic", "ServeStatic", autorefresh)


def werkzeug() -> object:
    """The application that gunicorn is told to run."""
    middleware = import_module("werkzeug.middleware.shared_data")
    # Matched with what the URL names below the prefix.
    return middleware.SharedDataMiddleware(not_found, {"/": os.environ[_ROOT]}, disallow=".*")


def starlette() -> object:
    """The application that uvicorn is told to run."""
    files = import_module("starlette.staticfiles").StaticFiles(
        directory=os.environ[_ROOT], html=True
    )
    cors = import_module("starlette.middleware.cors").CORSMiddleware
    site = import_module("starlette.routing").Mount("/", app=files)
    app = import_module("starlette.applications").Starlette(routes=[site])
    app.add_middleware(cors, allow_origins=["*"])
    return app


def _python(
    app: str, package: str, server: str, command: Callable[[str, int], list[str]]
) -> Server:
    """`command`: (MODULE:NAME, port) → that of the server; `app` is what NAME is here."""
    return Server(
        package,
        lambda root, port: ["env", f"{_ROOT}={root}", *command(f"{__name__}:{app}", port)],
        package,
        (package, server),
    )


def _gunicorn(app: str, package: str) -> Server:
    return _python(app, package, "gunicorn", partial(gunicorn, "gthread"))


def _uvicorn(app: str, port: int) -> list[str]:
    words = ("--factory", "--host", HOST, "--port", str(port), "--lifespan", "off")
    return module("uvicorn", *words, "--log-level", "critical", app)


def _closed(package: str) -> dict[str, Server]:
    return {
        "site": _gunicorn(f"{package}()", package),
        "alternative": _gunicorn(f"{package}(autorefresh=True)", package),
    }


_CLOSED_NOTE: Final = "under gunicorn; `index_file`, `immutable_file_test`, `add_headers_function`"
_AUTOREFRESH: Final = "only with `autorefresh`, which is for development"


def _servestatic_compress(folder: Path) -> list[str]:
    made = folder.with_name("made")
    return module("servestatic.cli", "--compress", str(folder), str(made))


SYSTEMS: Final = (
    _OURS,
    _NGINX_SYSTEM,
    _CADDY_SYSTEM,
    System(
        "whitenoise",
        _closed("whitenoise"),
        _CLOSED_NOTE,
        _SITE_FILES | _PAGES | {"own 404.html", "`zstd` sibling"},
        lambda folder: module("whitenoise.compress", "-q", str(folder)),
        _AUTOREFRESH,
    ),
    System(
        "ServeStatic",
        _closed("servestatic"),
        _CLOSED_NOTE,
        _SITE_FILES | _PAGES | {"own 404.html"},
        _servestatic_compress,
        _AUTOREFRESH,
    ),
    System(
        "Starlette",
        {"site": _python("starlette", "starlette", "uvicorn", _uvicorn)},
        "`Mount` of `StaticFiles(html=True)`, `CORSMiddleware`, under uvicorn",
        _SITE_FILES | _PAGES | _SIBLINGS | {"hashed names immutable", "nosniff"},
    ),
    System(
        "Werkzeug",
        {"site": _gunicorn("werkzeug()", "werkzeug")},
        "`SharedDataMiddleware` with `disallow`, under gunicorn",
        _SITE_FILES
        | _PAGES
        | _SIBLINGS
        | {"hashed names immutable", "nosniff", "own 404.html", "fonts for other origins"},
    ),
)
