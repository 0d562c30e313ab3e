"""What servers of static files do, asked over a socket: `python -m benchmarks.static.features`.

Each server that is installed is started on the same tree, in the configuration that its
documentation advises for a whole site; each row of the table is decided by its answers alone.
`--write-docs` writes the table into docs/static.md.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Final, NamedTuple

import click

from wsgiserver import __version__

HOST: Final = "127.0.0.1"
HOME: Final = Path(__file__).parents[2]
PAGE: Final = HOME / "docs" / "static.md"
OLD: Final = time.time() - 3600
SECRET: Final = b"a secret of the outside"
TEXT: Final = b"body { color: red }\n" * 100
A: Final = bytes(range(48, 58)) * 10
TIMEOUT: Final = 3.0

# --- the tree -------------------------------------------------------------------------------------


def make_tree(top: Path) -> Path:
    """Write the site, and what must never be served beside it."""
    (top / "outside.txt").write_bytes(SECRET)
    root = top / "site"
    for name, content in {
        "index.html": b"<title>home</title>",
        "404.html": b"<title>the page for what is missing</title>",
        "sub/404.html": b"<title>the page for what is missing in sub</title>",
        "sub/index.html": b"<title>sub</title>",
        "about.html": b"<title>about</title>",
        "a.txt": A,
        "one.txt": A,
        "long.txt": A * 100,
        "text.css": TEXT,
        "text.css.gz": gzip.compress(TEXT, mtime=0),
        "text.css.br": b"the br sibling",
        "text.css.zst": b"the zst sibling",
        "stale.css": TEXT,
        "stale.css.gz": b"the old state",
        "sibling.txt": b"its sibling leads outside",
        "app.55e7cbb9ba48.js": b"let app",
        "font.woff2": b"a font",
        "list/x.txt": b"x",
        ".env": SECRET,
        "_headers": b"/a.txt\n  X-Rule: obeyed\n",
        "_redirects": b"/old /a.txt 302\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))
    os.utime(root / "one.txt", (1, 1))
    os.utime(root / "stale.css.gz", (OLD - 3600, OLD - 3600))
    (root / "link.txt").symlink_to(top / "outside.txt")
    (root / "linked").mkdir()
    (root / "linked" / "index.html").symlink_to(top / "outside.txt")
    (root / "sibling.txt.gz").symlink_to(top / "outside.txt")
    for folder in (top, root):
        folder.chmod(0o755)
    return root


# --- the servers ----------------------------------------------------------------------------------

_NGINX: Final = """\
daemon off; worker_processes 1; {user} pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    types {{ text/html html; text/css css; text/plain txt; application/javascript js; }}
    default_type application/octet-stream; charset utf-8; charset_types text/css text/plain;
    access_log off; gzip_static on;
    gzip_vary on; client_body_temp_path {folder}; proxy_temp_path {folder};
    fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen {host}:{port}; root {root}; index index.html; error_page 404 /404.html;
        absolute_redirect off; disable_symlinks on from=$document_root;
        add_header X-Content-Type-Options nosniff always;
        location / {{ try_files $uri $uri/ $uri.html =404; }}
        location /list/ {{ autoindex on; }}
        location ~ /\\. {{ deny all; }}
        location ~ \\.woff2$ {{ add_header Access-Control-Allow-Origin *; }}
        location ~ "\\.[0-9a-f]{{12}}\\." {{
            add_header Cache-Control "public, max-age=31536000, immutable";
        }}
    }}
}}
"""
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
    @hashed path_regexp [.][0-9a-f]{{12}}[.]
    header @hashed Cache-Control "public, max-age=31536000, immutable"
    try_files {{path}} {{path}}.html {{path}}/
    file_server {{
        precompressed br zstd gzip
        hide .*
        browse
    }}
    handle_errors {{
        rewrite * /404.html
        file_server
    }}
}}
"""
_APPS: Final = """
import os
ROOT = os.environ["FEATURES_ROOT"]

def missing(environ, start_response):
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return [b""]

def whitenoise():
    from whitenoise import WhiteNoise
    return WhiteNoise(missing, root=ROOT, index_file=True)

def servestatic():
    from servestatic import ServeStatic
    return ServeStatic(missing, root=ROOT, index_file=True)

def werkzeug():
    from werkzeug.middleware.shared_data import SharedDataMiddleware
    return SharedDataMiddleware(missing, {"/": ROOT})

def starlette():
    from starlette.staticfiles import StaticFiles
    return StaticFiles(directory=ROOT, html=True)
"""


class System(NamedTuple):
    """A column: its command by root, scratch folder and port, what it needs, and how it was set."""

    name: str
    command: Callable[[Path, Path, int], list[str]]
    needs: tuple[str, ...]
    note: str


def _python(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def _ours(root: Path, folder: Path, port: int) -> list[str]:
    options = ("--clean-urls", "--listing", "-b", f"{HOST}:{port}")
    return _python("wsgiserver", "--documents-root", str(root), *options)


def _nginx(root: Path, folder: Path, port: int) -> list[str]:
    user = "" if os.geteuid() else "user root;"
    text = _NGINX.format(root=root, folder=folder, port=port, host=HOST, user=user)
    (folder / "nginx.conf").write_text(text)
    program = which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or "nginx"
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def _caddy(root: Path, folder: Path, port: int) -> list[str]:
    (folder / "Caddyfile").write_text(_CADDY.format(root=root, port=port, host=HOST))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _under_waitress(name: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda root, folder, port: _python(
        "waitress", f"--listen={HOST}:{port}", "--call", f"features_apps:{name}"
    )


def _starlette(root: Path, folder: Path, port: int) -> list[str]:
    where = ("--host", HOST, "--port", str(port), "--log-level", "critical")
    return _python("uvicorn", "--factory", *where, "features_apps:starlette")


SYSTEMS: Final = (
    System("wsgiserver", _ours, (), "`--documents-root --clean-urls --listing`"),
    System(
        "nginx",
        _nginx,
        ("nginx",),
        "`try_files`, `error_page`, `gzip_static`, `autoindex`, `disable_symlinks`, `add_header`",
    ),
    System(
        "Caddy",
        _caddy,
        ("caddy",),
        "`file_server` with `precompressed`, `browse`, `hide`; `try_files`, `header`",
    ),
    System("whitenoise", _under_waitress("whitenoise"), ("whitenoise",), "`index_file=True`"),
    System("ServeStatic", _under_waitress("servestatic"), ("servestatic",), "`index_file=True`"),
    System("Starlette", _starlette, ("starlette", "uvicorn"), "`StaticFiles(html=True)`"),
    System("Werkzeug", _under_waitress("werkzeug"), ("werkzeug",), "`SharedDataMiddleware`"),
)


def installed(system: System) -> bool:
    """Whether all that it needs is here, as a program or as a package."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    return all(which(name, path=path) or find_spec(name) for name in system.needs)


def version(system: System) -> str:
    """The version of what is installed."""
    for name in system.needs[:1]:
        if find_spec(name):
            return metadata.version(name)
        program = which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or name
        words = [program, "-v"] if name == "nginx" else [program, "version"]
        told = subprocess.run(words, capture_output=True, text=True, check=False)
        found = re.search(r"[0-9]+(\.[0-9]+)+", told.stdout + told.stderr)
        return found[0] if found else ""
    return __version__


@contextmanager
def serving(system: System, root: Path, folder: Path) -> Iterator[int]:
    """Run a server; its port."""
    (folder / "features_apps.py").write_text(_APPS)
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        system.command(root, folder, port),
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            "PYTHONPATH": os.pathsep.join([str(HOME), str(folder)]),
            "FEATURES_ROOT": str(root),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise click.ClickException(f"a server did not start: {process.args!r}")


# --- asking ---------------------------------------------------------------------------------------


class Reply:
    """An answer; status 0 if none came in time or it cannot be read."""

    def __init__(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.body = body
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        values = [value for key, value in self._fields if key.lower() == name.lower()]
        return ", ".join(values)

    @property
    def names(self) -> dict[str, str]:
        """The fields that describe the answer."""
        own = ("date", "connection", "keep-alive", "server", "via", "transfer-encoding")
        return {key.lower(): value for key, value in self._fields if key.lower() not in own}


class Client:
    """Asks one server, each time on a connection of its own, exactly as told."""

    def __init__(self, port: int, root: Path) -> None:
        self.port = port
        self.root = root

    def __call__(self, target: str, *fields: str, method: str = "GET") -> Reply:
        """Send a request; `fields` are "Name: value"."""
        lines = [f"{method} {target} HTTP/1.1", "Host: site.example", "Connection: close", *fields]
        try:
            with socket.create_connection((HOST, self.port), TIMEOUT) as sock:
                sock.settimeout(TIMEOUT)
                sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
                response = http.client.HTTPResponse(sock, method=method)
                response.begin()
                body = response.read()
                return Reply(response.status, response.getheaders(), body)
        except (OSError, http.client.HTTPException, ValueError):
            return Reply(0, [], b"")

    @property
    def etag(self) -> str:
        """The tag of /a.txt, or one that never matches."""
        return self("/a.txt")["ETag"] or '"this server has none"'


# --- the rows -------------------------------------------------------------------------------------

Probe = Callable[[Client], bool]


def _multipart(ask: Client) -> bool:
    reply = ask("/long.txt", "Range: bytes=0-0,9998-9999")
    found = re.fullmatch(r'multipart/byteranges; ?boundary="?([^"]+)"?', reply["Content-Type"])
    if reply.status != 206 or found is None or reply["Content-Length"] != str(len(reply.body)):
        return False
    parts = (b"\r\n" + reply.body).split(b"\r\n--" + found[1].encode())
    contents = [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]]
    return contents == [A[:1], A[98:]] and parts[-1].startswith(b"--")


def _part(value: str, start: int, stop: int) -> Probe:
    def probe(ask: Client) -> bool:
        reply = ask("/a.txt", f"Range: {value}")
        return reply.status == 206 and reply.body == A[start:stop]

    return probe


def _is(status: int, target: str, *fields: str, method: str = "GET") -> Probe:
    return lambda ask: ask(target, *fields, method=method).status == status


def _tagged(status: int, field: str, *more: str) -> Probe:
    """The answer to a condition with the file's own tag in the place of {}."""
    return lambda ask: (
        ask("/a.txt", field.format(ask.etag.removeprefix("W/")), *more).status == (status)
    )


def _refused(*targets: str, fields: tuple[str, ...] = ()) -> Probe:
    def probe(ask: Client) -> bool:
        replies = [ask(target, *fields) for target in targets]
        return all(r.status in (400, 403, 404) and SECRET not in r.body for r in replies)

    return probe


def _kept_in(target: str, *fields: str) -> Probe:
    """The secret does not come out; a page of the server's own may."""

    def probe(ask: Client) -> bool:
        reply = ask(target, *fields)
        return 0 < reply.status < 500 and SECRET not in reply.body

    return probe


def _coding(header: str, wanted: str) -> Probe:
    def probe(ask: Client) -> bool:
        reply = ask("/text.css", f"Accept-Encoding: {header}")
        return reply.status == 200 and (reply["Content-Encoding"] or "identity") == wanted

    return probe


def _unsatisfiable(ask: Client) -> bool:
    reply = ask("/a.txt", "Range: bytes=100-")
    return reply.status == 416 and reply["Content-Range"] == "bytes */100"


def _tags_by_coding(ask: Client) -> bool:
    plain, coded = ask("/text.css"), ask("/text.css", "Accept-Encoding: gzip")
    return bool(plain["ETag"]) and bool(coded["ETag"]) and plain["ETag"] != coded["ETag"]


def _vary_on_304(ask: Client) -> bool:
    first = ask("/text.css", "Accept-Encoding: gzip")
    reply = ask("/text.css", "Accept-Encoding: gzip", f"If-None-Match: {first['ETag']}")
    return reply.status == 304 and "accept-encoding" in reply["Vary"].lower()


def _safe_sibling(ask: Client) -> bool:
    reply = ask("/sibling.txt", "Accept-Encoding: gzip")
    return reply.status == 200 and SECRET not in reply.body


def _slash(ask: Client) -> bool:
    location = ask("/sub?q=1")["Location"]
    return bool(location) and "//" not in location and location.endswith("sub/?q=1")


def _no_open_redirect(ask: Client) -> bool:
    targets = ("//evil.example/%2e%2e", "//sub", "/%5cevil.example/..", "///sub")
    return not any(ask(target)["Location"].startswith(("//", "/\\")) for target in targets)


def _head(ask: Client) -> bool:
    pairs = [(ask(t), ask(t, method="HEAD")) for t in ("/a.txt", "/missing")]
    return all(get.names == head.names and not head.body for get, head in pairs)


def _allow(ask: Client) -> bool:
    reply = ask("/a.txt", method="DELETE")
    return reply.status == 405 and "GET" in reply["Allow"]


def _appears(ask: Client) -> bool:
    """Asked for before it is there, so that a memory of its absence counts."""
    ask("/later.txt")
    (ask.root / "later.txt").write_bytes(b"here")
    time.sleep(1.1)
    reply = ask("/later.txt")
    (ask.root / "later.txt").unlink()
    return reply.status == 200 and reply.body == b"here"


def _changes(ask: Client) -> bool:
    path = ask.root / "changing.txt"
    path.write_bytes(b"the first state")
    os.utime(path, (OLD, OLD))
    time.sleep(1.1)
    ask("/changing.txt")
    path.write_bytes(b"the second")
    time.sleep(1.1)
    reply = ask("/changing.txt")
    path.unlink()
    return reply.status == 200 and reply.body == b"the second"


def _listing(ask: Client, *fields: str) -> Reply:
    return ask("/list/", *fields)


ROWS: Final[tuple[tuple[str, Probe], ...]] = (
    ("several ranges, correct multipart", _multipart),
    ("one-byte range", _part("bytes=0-0", 0, 1)),
    ("suffix longer than the file", _part("bytes=-1000", 0, 100)),
    ("unsatisfiable range: 416 with Content-Range", _unsatisfiable),
    ("malformed range ignored", _is(200, "/a.txt", "Range: bytes=5-4")),
    ("unknown range unit ignored", _is(200, "/a.txt", "Range: lines=0-4")),
    (
        "If-Range that does not match: the whole",
        _is(200, "/a.txt", 'If-Range: "x"', "Range: bytes=0-1"),
    ),
    ("If-None-Match with a list", _tagged(304, 'If-None-Match: "x", {}')),
    ("If-None-Match with a weak tag", _tagged(304, "If-None-Match: W/{}")),
    ("If-None-Match: `*`", _is(304, "/a.txt", "If-None-Match: *")),
    ("If-Match that does not match: 412", _is(412, "/a.txt", 'If-Match: "x"')),
    ("preconditions before Range", _tagged(304, "If-None-Match: {}", "Range: bytes=0-1")),
    ("another ETag for each coding", _tags_by_coding),
    ("`gzip;q=0` obeyed", _coding("gzip;q=0", "identity")),
    ("`br` sibling", _coding("br", "br")),
    ("`zstd` sibling", _coding("zstd", "zstd")),
    ("`gzip` sibling", _coding("gzip", "gzip")),
    ("Vary on 304", _vary_on_304),
    (
        "stale sibling not served",
        lambda ask: ask("/stale.css", "Accept-Encoding: gzip").body != b"the old state",
    ),
    ("link out of the root refused: file", _kept_in("/link.txt")),
    ("the same for an index file", _kept_in("/linked/")),
    ("the same for a sibling", _safe_sibling),
    (
        "`..%2f`, `%00`, `%5c` refused, no 500",
        _refused("/..%2foutside.txt", "/%2e%2e/outside.txt", "/a.txt%00", "/..%5coutside.txt"),
    ),
    ("dotfile not served", _kept_in("/.env")),
    ("`/a.txt/` is 404", _is(404, "/a.txt/")),
    ("slash redirect relative, query kept", _slash),
    ("no open redirect by `//`", _no_open_redirect),
    ("HEAD has the fields of GET", _head),
    ("405 with Allow", _allow),
    ("OPTIONS 204", _is(204, "/a.txt", method="OPTIONS")),
    ("nosniff", lambda ask: ask("/a.txt")["X-Content-Type-Options"] == "nosniff"),
    ("charset for text", lambda ask: "utf-8" in ask("/text.css")["Content-Type"].lower()),
    ("own 404.html", lambda ask: b"what is missing" in ask("/missing").body),
    ("the nearest 404.html", lambda ask: b"missing in sub" in ask("/sub/missing").body),
    ("clean URLs", lambda ask: b"about" in ask("/about").body),
    ("listing as HTML", lambda ask: b"x.txt" in _listing(ask).body),
    (
        "listing as JSON, by Accept",
        lambda ask: "json" in _listing(ask, "Accept: application/json")["Content-Type"],
    ),
    (
        "hashed name immutable",
        lambda ask: "immutable" in ask("/app.55e7cbb9ba48.js")["Cache-Control"],
    ),
    ("`_headers`", lambda ask: ask("/a.txt")["X-Rule"] == "obeyed"),
    ("`_redirects`", _is(302, "/old")),
    ("file of time 1 has a validator", lambda ask: bool(ask("/one.txt")["ETag"])),
    (
        "fonts for other origins",
        lambda ask: (
            ask("/font.woff2", "Origin: https://a.example")["Access-Control-Allow-Origin"] == "*"
        ),
    ),
    ("a new file appears within a second", _appears),
    ("a changed file shows within a second", _changes),
)


# --- the command ----------------------------------------------------------------------------------


def table(columns: dict[str, list[bool]], notes: list[str]) -> str:
    """The Markdown table, and under it how each system was set up."""
    lines = [
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for number, (label, _) in enumerate(ROWS):
        cells = ["yes" if column[number] else "no" for column in columns.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    counts = [f"**{sum(column)}**" for column in columns.values()]
    lines.append(f"| of {len(ROWS)} | " + " | ".join(counts) + " |")
    return "\n".join([*lines, "", *notes])


def write_docs(text: str) -> None:
    """Put the table between its two marks in docs/static.md."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- features:begin -->", "<!-- features:end -->"
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--write-docs", "write", is_flag=True, help="Write the table into docs/static.md.")
@click.option("--systems", default="", help="Only these, with commas: wsgiserver,nginx")
def main(write: bool, systems: str) -> None:
    """Ask each installed server of static files the same questions."""
    chosen = [s for s in SYSTEMS if not systems or s.name.lower() in systems.lower().split(",")]
    columns: dict[str, list[bool]] = {}
    notes = []
    for system in chosen:
        if not installed(system):
            notes.append(f"- {system.name}: not installed here, so not asked.")
            continue
        click.echo(f"{system.name}: asking {len(ROWS)} questions", err=True)
        with tempfile.TemporaryDirectory() as name:
            top = Path(name)
            root = make_tree(top)
            scratch = top / "scratch"
            scratch.mkdir()
            with serving(system, root, scratch) as port:
                client = Client(port, root)
                columns[system.name] = [probe(client) for _, probe in ROWS]
        notes.append(f"- {system.name} {version(system)}: {system.note}.")
    notes.append("- static-web-server: there was no way to run it here, so it is not in the table.")
    text = table(columns, notes)
    click.echo(text)
    if write:
        write_docs(text)


if __name__ == "__main__":
    main()
