"""Config: the settings. This is the only place where an option is declared.

The command line, the environment variables, the keys of a file and docs/settings.md all follow
from the fields below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsgiserver import options
from wsgiserver.options import TCP, Address, Inherited, IPNetwork, Kind, Unix

__all__ = [
    "OPTIONS",
    "TCP",
    "WORKER_MODELS",
    "Address",
    "Config",
    "ConfigError",
    "Inherited",
    "Option",
    "Unix",
    "load",
    "show",
]

WORKER_MODELS: Final = (
    "single",
    "process",
    "thread",
    "nonblocking",
    "epoll",
    "gevent",
    "threadpool",
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
ENVIRON_PREFIX: Final = "WSGISERVER_"
CONFIG_FILE: Final = "wsgiserver.toml"
PYPROJECT: Final = "pyproject.toml"
PYPROJECT_TABLE: Final = "tool.wsgiserver"


class ConfigError(Exception):
    """A setting cannot be used; the text is one line: where it came from, what, what to do."""


class Option(NamedTuple):
    """What is known of an option beside its type; name and default come from its field."""

    group: str
    kind: Kind[Any]
    help: str
    flags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    name: str = ""
    default: Any = None

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return _variable(self.name)

    @property
    def flag(self) -> str:
        """Its long flag; the application is positional and has none."""
        return "--" + self.name.replace("_", "-") if self.name != "app" else "APP"

    @property
    def all_flags(self) -> list[str]:
        """Its flags as the help shows them: the short one, its own, other long ones."""
        own = [self.flag, f"--no-{self.flag[2:]}"] if self.is_flag else [self.flag]
        return sorted([*own, *self.flags], key=lambda flag: flag.startswith("--"))

    @property
    def is_flag(self) -> bool:
        """Whether it is switched on and off without a value."""
        return self.kind is options.FLAG

    @property
    def shown_default(self) -> str:
        """Its default for people."""
        if self.default in (None, "", ()):
            return "none"
        items = self.default if isinstance(self.default, tuple) else (self.default,)
        return ", ".join(map(self.kind.show, items))

    def literal(self, value: Any) -> str:
        """A value of it, not None, as TOML."""
        return f"0o{value:03o}" if self.kind is options.OCTAL else options.to_toml(value)


def _option(
    group: str, kind: Kind[Any], help: str, *flags: str, aliases: tuple[str, ...] = ()
) -> dict[str, Option]:
    """The metadata of a field: `flags` are further ones beside the long one of its name."""
    return {"option": Option(group, kind, help, flags, aliases)}


_APP: Final = "Application"
_SOCKETS: Final = "Sockets"
_WORKERS: Final = "Workers"
_FLEET: Final = "Fleet"
_TIMEOUTS: Final = "Timeouts"
_LIMITS: Final = "Limits"
_STATIC: Final = "Static files"
_LOGS: Final = "Logs"
_HTTP: Final = "HTTP"
_PROCESS: Final = "Process"
_DEVELOPMENT: Final = "Development"

_HEAD_SIZE: Final = options.size(64, 1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, checked. `Config()` has the defaults.

    The constructor takes what a user may write, too (`Config(bind="[::1]:0", keep_alive="2m")`);
    the attributes always have the types below.

    :raises ConfigError: a value cannot be used.
    """

    app: str = field(
        default="",
        metadata=_option(
            _APP,
            Kind(options.parse_text, "APP", "text"),
            "The application: `module:callable`, `module:factory()`, also with literal arguments, "
            "or `module`, which must hold `app` or `application`.",
            aliases=("wsgi_app",),
        ),
    )
    chdir: str = field(
        default="",
        metadata=_option(
            _APP,
            options.FOLDER,
            "Change to this folder before the application is imported; relative paths of other "
            "options start from it.",
        ),
    )
    pythonpath: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            _APP,
            options.PATHS,
            "Folders to look for modules in, after the current folder and before the rest.",
        ),
    )
    env: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            _APP,
            options.PAIRS,
            "Environment variables to set before the application is imported.",
            "-e",
        ),
    )

    bind: tuple[Address, ...] = field(
        default=(TCP("127.0.0.1", options.DEFAULT_PORT),),
        metadata=_option(
            _SOCKETS,
            options.ADDRESSES,
            "Where to listen. Without a host on all IPv4 interfaces; without a port on 8000; port "
            "0 takes a free one, and the log names it; `fd://N` is a socket of the parent process.",
            "-b",
        ),
    )
    backlog: int = field(
        default=2048,
        metadata=_option(
            _SOCKETS,
            options.number(1, 65535),
            "Connections that may wait to be accepted, at most; the kernel may cap it "
            "(net.core.somaxconn).",
        ),
    )

    worker_model: str = field(
        default="threadpool",
        metadata=_option(
            _WORKERS,
            options.choice(WORKER_MODELS, {"sync": "single", "gthread": "threadpool"}),
            "How connections are accepted and waited for, and where the application runs.",
            "-k",
            "--worker-class",
            aliases=("worker_class",),
        ),
    )
    # As waitress: enough that a few requests may wait for a database at the same time, few enough
    # that threads which compute do not crowd each other under the interpreter's lock.
    threads: int = field(
        default=4,
        metadata=_option(
            _WORKERS,
            options.number(1, 1024),
            "Threads that run the application in the `threadpool` model.",
        ),
    )
    worker_connections: int = field(
        default=10_000,
        metadata=_option(
            _WORKERS,
            options.number(1, 1_000_000),
            "Open client connections, at most; beyond it none is accepted until one closes. Each "
            "needs a file descriptor: the soft limit (`ulimit -n`) is raised to the hard one.",
        ),
    )
    workers: int = field(
        default=0,
        metadata=_option(
            _FLEET,
            options.WORKERS,
            "Processes that serve, watched over by one more that replaces those that end; `auto` "
            "is one for each processor. 0 serves in this process, without a supervisor.",
            "-w",
        ),
    )
    preload: bool = field(
        default=False,
        metadata=_option(
            _FLEET,
            options.FLAG,
            "Import the application once, before the workers are forked: a faster start and shared "
            "memory. SIGHUP cannot read changed code then.",
            aliases=("preload_app",),
        ),
    )
    max_requests: int = field(
        default=0,
        metadata=_option(
            _FLEET,
            options.number(0, 1_000_000_000),
            "Replace a worker when its application has answered about so many requests; 0 never "
            "does.",
        ),
    )
    max_requests_jitter: int = field(
        default=0,
        metadata=_option(
            _FLEET,
            options.number(0, 1_000_000_000),
            "Up to so many requests more, drawn anew for each worker.",
        ),
    )
    max_worker_lifetime: float = field(
        default=0.0,
        metadata=_option(
            _FLEET, options.duration(zero=True), "Replace a worker of this age; 0 never does."
        ),
    )
    max_rss: int = field(
        default=0,
        metadata=_option(
            _FLEET,
            options.size(0, 1 << 50),
            "Replace a worker whose resident memory is larger; 0 sets no limit.",
        ),
    )
    boot_timeout: float = field(
        default=60.0,
        metadata=_option(
            _FLEET,
            options.duration(zero=True),
            "How long a worker may take to import the application; then it is killed. 0 waits.",
        ),
    )
    heartbeat_timeout: float = field(
        default=0.0,
        metadata=_option(
            _FLEET,
            options.duration(zero=True),
            "Kill and replace a worker whose loop did not come round for so long; 0 never does. "
            "Where the application runs in the loop (`single`, `epoll`, `nonblocking`, `gevent`) "
            "this bounds its requests, too.",
        ),
    )

    keep_alive: float = field(
        default=75.0,
        metadata=_option(
            _TIMEOUTS,
            options.duration(zero=True),
            "How long an idle connection stays open for the next request. Keep it above the idle "
            "timeout of a load balancer in front (60 s is usual). 0 closes after each response.",
        ),
    )
    head_timeout: float = field(
        default=20.0,
        metadata=_option(
            _TIMEOUTS,
            options.duration(),
            "How long the request line and header fields may take to arrive, as a whole; then 408.",
        ),
    )
    body_timeout: float = field(
        default=30.0,
        metadata=_option(
            _TIMEOUTS,
            options.duration(),
            "How long a request body may pause between two reads; then 408.",
        ),
    )
    write_timeout: float = field(
        default=60.0,
        metadata=_option(
            _TIMEOUTS,
            options.duration(),
            "How long a client may take nothing of a response; then the connection is cut.",
        ),
    )
    graceful_timeout: float = field(
        default=30.0,
        metadata=_option(
            _TIMEOUTS,
            options.duration(),
            "How long requests may take to finish after SIGTERM or SIGINT; a second signal ends "
            "them at once.",
        ),
    )

    limit_request_line: int = field(
        default=8190,
        metadata=_option(
            _LIMITS, _HEAD_SIZE, "Longest request line; a longer one is answered with 414."
        ),
    )
    limit_request_fields: int = field(
        default=100,
        metadata=_option(
            _LIMITS,
            options.number(1, 32768),
            "Header fields in a request, at most; more are answered with 431.",
        ),
    )
    limit_request_field_size: int = field(
        default=8190,
        metadata=_option(
            _LIMITS, _HEAD_SIZE, "Longest header field; a longer one is answered with 431."
        ),
    )
    limit_request_body: int = field(
        default=1 << 30,
        metadata=_option(
            _LIMITS,
            options.size(0, 1 << 50),
            "Longest request body; a longer one is answered with 413. 0 sets no limit.",
        ),
    )
    spool_size: int = field(
        default=512 << 10,
        metadata=_option(
            _LIMITS,
            options.size(0, 1 << 40),
            "Bytes of a request body kept in memory; what is longer goes to a temporary file.",
        ),
    )
    spool_dir: str = field(
        default="",
        metadata=_option(
            _LIMITS,
            options.FOLDER,
            "Where those files are made; empty for the system's folder for temporary files.",
        ),
    )

    documents_root: str = field(
        default="",
        metadata=_option(
            _STATIC,
            options.FOLDER,
            "Serve the files of this folder: alone, or in front of the application.",
        ),
    )
    static_url: str = field(
        default="",
        metadata=_option(
            _STATIC,
            options.URL_PATH,
            "The URL path under which they appear; empty means `/static/` beside an application "
            "and `/` without one.",
        ),
    )

    index: str = field(
        default="index.html",
        metadata=_option(
            _STATIC,
            Kind(options.parse_text, "NAME", "name of a file"),
            "The file that answers for a folder; empty for none.",
        ),
    )
    clean_urls: bool = field(
        default=False,
        metadata=_option(_STATIC, options.FLAG, "Answer `/about` with the file `about.html`, too."),
    )
    fallback: str = field(
        default="",
        metadata=_option(
            _STATIC,
            Kind(options.parse_text, "NAME", "the name of a file below the folder"),
            "The file, such as `index.html`, that answers a browser's navigation to a page that "
            "does not exist: for single-page applications. A missing asset stays missing.",
            aliases=("spa", "spa_fallback", "page_fallback"),
        ),
    )
    listing: bool = field(
        default=False,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "Show folders that have no index.html, as HTML or (by Accept) JSON.",
            aliases=("autoindex", "directory_listing", "browse"),
        ),
    )
    not_found_page: bool = field(
        default=True,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "Answer what is missing with the nearest `404.html` up the tree, or with a built-in "
            "page; without it in one line of text. An application behind answers itself.",
        ),
    )
    dotfiles: bool = field(
        default=False,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "Serve names with a leading dot. `.well-known` always is (RFC 8615).",
        ),
    )
    symlink_roots: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            _STATIC,
            options.PATHS,
            "Folders outside into which symbolic links may lead. Others must stay inside.",
        ),
    )
    cache_control: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            _STATIC,
            Kind(
                options.parse_policies,
                "GLOB=VALUE",
                "`GLOB=VALUE`, one a line; or a table",
                many=True,
            ),
            "Cache-Control of the files that a glob matches, as `GLOB=VALUE`: "
            "`assets/*=public, max-age=3600`. `*` crosses slashes, the first match counts; what "
            "none matches is revalidated each time (`no-cache`).",
        ),
    )
    immutable: str = field(
        default="",
        metadata=_option(
            _STATIC,
            Kind(options.parse_text, "REGEX", "a regular expression, a manifest's path, or none"),
            "Which files never change, because their names do, so that browsers keep them for a "
            "year: a regular expression that is searched for in the path; the manifest of Django, "
            "Vite or webpack (the path of a file); or `none`. Empty: a hash of 12 digits or more "
            "between dots, as in `site.55e7cbb9ba48.css`.",
        ),
    )
    compression: bool = field(
        default=True,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "Compress small text files when they are first asked for, and keep that. Files that "
            "`wsgiserver compress` made beforehand are served in any case.",
        ),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            _STATIC,
            Kind(options.parse_paths, "ORIGIN", "`https://a.example`, with commas; `*`", many=True),
            "Other origins whose pages may read the files; `*` for all. Where none are named, "
            "fonts may be read by all, and nothing else.",
        ),
    )
    security_headers: bool = field(
        default=False,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "Send a preset with every file: Referrer-Policy, X-Frame-Options, "
            "Cross-Origin-Opener-Policy, Permissions-Policy, and HSTS over TLS.",
        ),
    )
    site_files: bool = field(
        default=True,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "Obey the files `_headers` and `_redirects` at the top of the folder (the formats of "
            "Netlify and Cloudflare Pages).",
        ),
    )
    live_reload: bool = field(
        default=False,
        metadata=_option(
            _STATIC,
            options.FLAG,
            "For development: pages reload in the browser when a file below the folder changes.",
        ),
    )

    access_log: str = field(
        default="",
        metadata=_option(
            _LOGS,
            options.FILE,
            "Write a line for every request to this file; `-` for standard output, empty for none.",
        ),
    )
    access_log_format: str = field(
        default="combined",
        metadata=_option(
            _LOGS,
            Kind(options.parse_text, "FORMAT", "`common`, `combined`, `json` or a format string"),
            "What the line holds; a format string has gunicorn's atoms: `%(h)s %(r)s %(s)s`.",
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_option(_LOGS, options.choice(LOG_LEVELS), "Leave out messages below this level."),
    )
    log_config: str = field(
        default="",
        metadata=_option(
            _LOGS,
            options.FILE,
            "Set up logging from this file: dictConfig from .toml or .json, fileConfig from .ini "
            "or .conf.",
        ),
    )

    server_header: str = field(
        default="wsgiserver",
        metadata=_option(
            _HTTP,
            options.HEADER,
            "The Server field of responses, unless the application sets it; empty sends none.",
        ),
    )
    forwarded_allow_ips: tuple[IPNetwork, ...] = field(
        default=(ip_network("127.0.0.1"), ip_network("::1")),
        metadata=_option(
            _HTTP,
            options.NETWORKS,
            "Proxies whose Forwarded and X-Forwarded-* fields set the client address, scheme and "
            "host. Never list more than your proxies: whoever is listed may pose as anyone.",
        ),
    )

    pid: str = field(
        default="",
        metadata=_option(
            _PROCESS, options.FILE, "Write the process id to this file while the server runs.", "-p"
        ),
    )
    user: str = field(
        default="",
        metadata=_option(
            _PROCESS, options.USER, "Become this user once the sockets are open.", "-u"
        ),
    )
    group: str = field(
        default="",
        metadata=_option(
            _PROCESS, options.GROUP, "Become this group once the sockets are open.", "-g"
        ),
    )
    umask: int | None = field(
        default=None,
        metadata=_option(
            _PROCESS,
            options.OCTAL,
            "The mask for the permissions of new files and unix sockets.",
            "-m",
        ),
    )

    reload: bool = field(
        default=False,
        metadata=_option(
            _DEVELOPMENT,
            options.FLAG,
            "Start anew when a Python file changes; needs watchfiles.",
        ),
    )
    reload_extra_file: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            _DEVELOPMENT,
            Kind(options.parse_paths, "PATTERN", "glob patterns, separated by commas", many=True),
            "Files to watch beside Python's: `templates/**/*.html`.",
        ),
    )

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = _parsed(option, getattr(self, name), _argument(name))
            object.__setattr__(self, name, value)

    @property
    def static_prefix(self) -> str:
        """The URL path of the static files: `static_url`, or its default for this application."""
        return self.static_url or ("/static/" if self.app else "/")

    @property
    def static_options(self) -> dict[str, Any]:
        """The options of the static files that differ from their defaults, by name."""
        named = (name for name, option in OPTIONS.items() if option.group == _STATIC)
        given = {name: getattr(self, name) for name in named}
        return {
            name: value
            for name, value in given.items()
            if name not in ("documents_root", "static_url") and value != OPTIONS[name].default
        }

    @classmethod
    def load(
        cls, cli: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
    ) -> Config:
        """Merge the sources, each over the one before: defaults, file, environment, command line.

        :param cli: values by option name; only options that were given.
        :param environ: its WSGISERVER_* are read.
        :param file: a TOML file; None looks for wsgiserver.toml, then for [tool.wsgiserver] in
            pyproject.toml, in the current folder.
        :raises ConfigError: an option is unknown, a value wrong, or the file cannot be read.
        """
        return load(cli, environ, file)[0]

    @classmethod
    def from_options(cls, **given: Any) -> Config:
        """The settings given as keyword arguments, the rest at their defaults.

        :raises ConfigError: an option is unknown or a value wrong.
        """
        return cls().replaced(**given)

    def replaced(self, **given: Any) -> Config:
        """These settings with those given as keyword arguments in their place.

        :raises ConfigError: an option is unknown or a value wrong.
        """
        return _merge(self, _by_name(given, _argument))


OPTIONS: Final[dict[str, Option]] = {
    each.name: each.metadata["option"]._replace(name=each.name, default=each.default)
    for each in fields(Config)
}
_NAMES: Final = {
    key: option.name for option in OPTIONS.values() for key in (option.name, *option.aliases)
}

# Where a value came from (a flag, a variable, a key of a file), and the value as it was written.
_Given = tuple[str, object]


def load(
    cli: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> tuple[Config, dict[str, str]]:
    """`Config.load`, and where each value that is not a default came from, by option name."""
    given = _from_file(file) | _from_environ(environ) | _by_name(cli, _flag)
    return _merge(Config(), given), {name: where for name, (where, _) in given.items()}


def _merge(config: Config, given: Mapping[str, _Given]) -> Config:
    values = {name: _parsed(OPTIONS[name], raw, where) for name, (where, raw) in given.items()}
    config = replace(config, **values)
    for name, (where, _) in given.items():
        _check_path(config, name, where)
    return config


def _check_path(config: Config, name: str, where: str) -> None:
    """Refuse a folder or file that is to be read and is not there, before anything is started."""
    path = getattr(config, name)
    if name not in ("chdir", "documents_root", "spool_dir", "log_config") or not path:
        return
    place = Path(path) if name == "chdir" else Path(config.chdir, path)
    what, there = ("file", place.is_file()) if name == "log_config" else ("folder", place.is_dir())
    if not there:
        raise ConfigError(f"{where}: {path!r} is no {what}; give one that exists")


def _parsed(option: Option, raw: object, where: str) -> Any:
    try:
        return option.kind.parse(raw)
    except options.Unusable as problem:
        shown = problem.item[0] if problem.item else raw
        raise ConfigError(f"{where}: {shown!r} {problem}") from None


def _by_name(values: Mapping[str, Any], where: Callable[[str], str]) -> dict[str, _Given]:
    """Values by option name, aliases resolved; `where` says where the value of a key is from."""
    given: dict[str, _Given] = {}
    for key, value in values.items():
        name = _NAMES.get(key)
        if name is None:
            near = options.did_you_mean(key, _NAMES, where) or "; `wsgiserver --help` lists them"
            raise ConfigError(f"{where(key)}: there is no such option{near}")
        if name in given:
            raise ConfigError(f"{where(key)}: {given[name][0]} sets the same option; keep one")
        given[name] = (where(key), value)
    return given


def show(config: Config, sources: Mapping[str, str]) -> str:
    """All settings as a TOML file that can be read back, each with where its value came from."""
    lines: list[str] = []
    heading = ""
    for name, option in OPTIONS.items():
        if option.group != heading:
            heading = option.group
            lines += ["", f"# {heading}"] if lines else [f"# {heading}"]
        value = getattr(config, name)
        setting = f"{name} = {option.literal(value)}" if value is not None else f"# {name} = unset"
        lines.append(f"{setting}  # {sources.get(name, 'default')}")
    return "\n".join(lines) + "\n"


def _argument(key: str) -> str:
    return f"argument {key}"


def _flag(key: str) -> str:
    return OPTIONS[key].flag


def _variable(key: str) -> str:
    return ENVIRON_PREFIX + key.upper()


# A service named "wsgiserver" makes Kubernetes and Docker set variables like these; not options.
_LINK_VARIABLE: Final = r"SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP)(_.*)?)?"


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    values = {}
    for variable, value in environ.items():
        name = variable.removeprefix(ENVIRON_PREFIX)
        if name in (variable, "CONFIG") or re.fullmatch(_LINK_VARIABLE, name):
            continue
        values[name.lower()] = value
    return _by_name(values, _variable)


def _from_file(file: Path | None) -> dict[str, _Given]:
    if file is None:
        own, project = Path(CONFIG_FILE), Path(PYPROJECT)
        if own.is_file():
            file = own
        elif project.is_file() and _table(project) is not None:
            file = project
        else:
            return {}
    table = _table(file)
    if table is None:
        raise ConfigError(f"{file}: there is no [{PYPROJECT_TABLE}] in it; add one")
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {PYPROJECT_TABLE} is no table; write [{PYPROJECT_TABLE}]")
    inside = f"[{PYPROJECT_TABLE}] " if file.name == PYPROJECT else ""
    return _by_name(table, lambda key: f"{file}: {inside}{key}")


def _table(file: Path) -> Any:
    """The settings in a TOML file; None if it is a pyproject.toml that has none."""
    import tomllib  # imported late: most starts have no file

    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror or error}; check --config"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text; a TOML file must be") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}") from None
    if file.name != PYPROJECT:
        return table
    tools = table.get("tool")
    return tools.get("wsgiserver") if isinstance(tools, dict) else None
