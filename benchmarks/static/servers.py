"""How each server of files is started; `app` is here the root of what it serves."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.servers import (
    HOST,
    PROJECT,
    THREADS,
    NotAvailable,
    Server,
    granian,
    gunicorn,
    module,
)
from benchmarks.static.site import FOLDER

BASE: Final = "nginx"
# Those that the goals are about: measured in every round, at full length.
DECIDING: Final = frozenset({BASE, f"{PROJECT}-epoll", f"{PROJECT}-threadpool"})

_SBIN: Final = "/usr/sbin"  # not on every user's PATH


def _tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if found is None:
        raise NotAvailable(f"{name} is not installed (Debian: apt install {name})")
    return found


def _tool_version(name: str, *arguments: str) -> Callable[[], str]:
    def ask() -> str:
        result = subprocess.run(
            [_tool(name), *arguments], capture_output=True, text=True, check=False
        )
        found = re.search(r"\d+(\.\d+)+", result.stdout + result.stderr)
        return found[0] if found else "unknown"

    return ask


# --- nginx ----------------------------------------------------------------------------------------

_CACHE: Final = """\
    open_file_cache max=1000 inactive=60s;
    open_file_cache_errors on;
"""
_NGINX: Final = """\
daemon off;
worker_processes 1;
{user}pid nginx-{port}.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    types {{ text/html html; text/css css; application/octet-stream bin; }}
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
{cache}    access_log off;
    log_not_found off;
    keepalive_requests 1000000000;
{gzip}    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{ listen {host}:{port}; root {root}; }}
}}
"""


def _nginx(cache: str) -> Callable[[str, int], list[str]]:
    """Its configuration is written beside the root."""

    def command(root: str, port: int) -> list[str]:
        folder = Path(root).parent / f"nginx-{port}"
        folder.mkdir(exist_ok=True)
        text = _NGINX.format(
            user="" if os.geteuid() else f"user {pwd.getpwuid(0).pw_name};\n",
            cache=cache,
            gzip="    gzip_static on;\n" if _nginx_has("http_gzip_static_module") else "",
            folder=folder,
            host=HOST,
            port=port,
            root=root,
        )
        configuration = folder / "nginx.conf"
        configuration.write_text(text)
        return [_tool("nginx"), "-p", str(folder), "-c", str(configuration), "-e", "stderr"]

    return command


def _nginx_has(feature: str) -> bool:
    result = subprocess.run([_tool("nginx"), "-V"], capture_output=True, text=True, check=False)
    return f"--with-{feature}" in result.stderr


def _nginx_server(name: str, cache: str, note: str) -> Server:
    return Server(
        name,
        _nginx(cache),
        "nginx",
        note=f"1 worker, sendfile and tcp_nopush on, {note}",
        prepare=lambda: _tool("nginx"),
        ask_version=_tool_version("nginx", "-v"),
    )


# --- the others -----------------------------------------------------------------------------------

_APPS: Final = "benchmarks.static.apps"


def _project(model: str) -> Server:
    return Server(
        f"{PROJECT}-{model}",
        lambda root, port: module(
            PROJECT,
            "--documents-root",
            root,
            "--bind",
            f"{HOST}:{port}",
            "--worker-model",
            model,
        ),
        PROJECT,
        ("gevent",) if model == "gevent" else (),
    )


def _under_granian(app: str) -> Server:
    return Server(
        f"{app}-granian",
        lambda root, port: [*_env(root), *granian(f"{_APPS}:{app}", port)],
        app,
        (app, "granian"),
        note="1 worker, 1 thread for the application",
    )


def _under_gunicorn(app: str) -> Server:
    return Server(
        f"{app}-gunicorn",
        lambda root, port: [*_env(root), *gunicorn("gthread", f"{_APPS}:{app}", port)],
        app,
        (app, "gunicorn"),
        note=f"1 worker, gthread, {THREADS} threads",
    )


def _env(root: str) -> list[str]:
    return ["env", f"BENCHMARKS_ROOT={root}"]


def _granian_mount(root: str, port: int) -> list[str]:
    route = ("--static-path-route", f"/{FOLDER}", "--static-path-mount", f"{root}/{FOLDER}")
    return granian(f"{_APPS}:not_found", port, *route)


_CADDY: Final = """\
{{
    admin off
    auto_https off
}}
http://{host}:{port} {{
    root * {root}
    file_server {{
        precompressed gzip
    }}
}}
"""


def _caddy(root: str, port: int) -> list[str]:
    folder = Path(root).parent / f"caddy-{port}"
    folder.mkdir(exist_ok=True)
    configuration = folder / "Caddyfile"
    configuration.write_text(_CADDY.format(host=HOST, port=port, root=root))
    # It keeps its state in the home directory, and may be run without one.
    where = (f"HOME={folder}", f"XDG_CONFIG_HOME={folder}", f"XDG_DATA_HOME={folder}")
    return [
        "env",
        *where,
        _tool("caddy"),
        "run",
        "--config",
        str(configuration),
        "--adapter",
        "caddyfile",
    ]


_ALL: Final = (
    _nginx_server(BASE, _CACHE, "open_file_cache with errors"),
    _nginx_server("nginx-uncached", "", "no open_file_cache"),
    *map(_project, ("epoll", "threadpool", "gevent", "thread")),
    *(
        under(app)
        for app in ("whitenoise", "servestatic")
        for under in (_under_granian, _under_gunicorn)
    ),
    Server(
        "granian-mount", _granian_mount, "granian", ("granian",), note="its --static-path-mount"
    ),
    Server(
        "caddy",
        _caddy,
        "caddy",
        note="file_server with precompressed gzip",
        prepare=lambda: _tool("caddy"),
        ask_version=_tool_version("caddy", "version"),
    ),
)
SERVERS: Final = {server.name: server for server in _ALL}
