"""Config: what values become, what is refused and how, and which source wins."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgiserver import logs, workers
from wsgiserver.config import (
    OPTIONS,
    TCP,
    WORKER_MODELS,
    Config,
    ConfigError,
    Inherited,
    Unix,
    load,
    show,
)
from wsgiserver.options import Unusable, processors

REPOSITORY = Path(__file__).resolve().parent.parent


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder: nobody's wsgiserver.toml is found."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- values ---------------------------------------------------------------------------------------

GOOD: list[tuple[str, object, object]] = [
    ("workers", "3", 3),
    ("workers", 0, 0),
    ("workers", " AUTO ", processors()),
    ("bind", "127.0.0.1:80", (TCP("127.0.0.1", 80),)),
    ("bind", "example.org", (TCP("example.org", 8000),)),
    ("bind", ":8080", (TCP("0.0.0.0", 8080),)),
    ("bind", "*:8080", (TCP("0.0.0.0", 8080),)),
    ("bind", "tcp://localhost:0", (TCP("localhost", 0),)),
    ("bind", "[::1]:65535", (TCP("::1", 65535),)),
    ("bind", "[::]", (TCP("::", 8000),)),
    ("bind", "[fe80::1%eth0]:1", (TCP("fe80::1%eth0", 1),)),
    ("bind", "unix:/run/a b.sock", (Unix("/run/a"), TCP("b.sock", 8000))),
    ("bind", ["unix:/run/x.sock"], (Unix("/run/x.sock"),)),
    ("bind", "unix:///run/x.sock", (Unix("/run/x.sock"),)),
    ("bind", "unix:x.sock", (Unix("x.sock"),)),
    ("bind", "fd://3", (Inherited(3),)),
    ("bind", "a:1, [::1]:2 fd://4", (TCP("a", 1), TCP("::1", 2), Inherited(4))),
    ("bind", [TCP("a", 1), "b:2"], (TCP("a", 1), TCP("b", 2))),
    ("bind", "a:0,a:0", (TCP("a", 0), TCP("a", 0))),
    ("worker_model", "EPOLL", "epoll"),
    ("worker_model", "sync", "single"),
    ("worker_model", "gthread", "threadpool"),
    ("threads", "8", 8),
    ("threads", 1024, 1024),
    ("keep_alive", 0, 0.0),
    ("keep_alive", "0", 0.0),
    ("keep_alive", "2m", 120.0),
    ("keep_alive", "1h", 3600.0),
    ("keep_alive", "1.5", 1.5),
    ("head_timeout", "500ms", 0.5),
    ("head_timeout", "90 S", 90.0),
    ("head_timeout", "2min", 120.0),
    ("head_timeout", 3, 3.0),
    ("limit_request_body", "0", 0),
    ("limit_request_body", "64k", 65536),
    ("limit_request_body", "10MB", 10_000_000),
    ("limit_request_body", "10MiB", 10 << 20),
    ("limit_request_body", "10 m", 10 << 20),
    ("limit_request_body", "2GB", 2_000_000_000),
    ("limit_request_body", "100b", 100),
    ("limit_request_line", 64, 64),
    ("static_url", "/", "/"),
    ("static_url", "/a/b-c/", "/a/b-c/"),
    ("log_level", "WARNING", "warning"),
    ("server_header", "", ""),
    ("server_header", "me (1.0)", "me (1.0)"),
    ("pythonpath", "a, b", ("a", "b")),
    ("pythonpath", ["a,b", "c"], ("a", "b", "c")),
    ("env", "A=1\nB=x=y", ("A=1", "B=x=y")),
    ("env", ["A=1,2", "A=3"], ("A=3",)),
    ("env", ["A=line\nline"], ("A=line\nline",)),
    ("env", {"A": "1", "B": 2}, ("A=1", "B=2")),
    ("umask", "022", 0o22),
    ("umask", "0o027", 0o27),
    ("umask", 0o77, 0o77),
    ("umask", None, None),
    ("user", 12345, "12345"),
    ("user", "root", "root"),
    ("forwarded_allow_ips", "", ()),
    ("forwarded_allow_ips", "10.0.0.0/8, ::1", (network("10.0.0.0/8"), network("::1/128"))),
    ("forwarded_allow_ips", "*", (network("0.0.0.0/0"), network("::/0"))),
    ("forwarded_allow_ips", ["192.0.2.1"], (network("192.0.2.1/32"),)),
    ("reload", "yes", True),
    ("reload", "0", False),
    ("reload", True, True),
    ("app", "a:create('x, y', n=1)", "a:create('x, y', n=1)"),
    ("spool_dir", Path("/"), "/"),
]

BAD: list[tuple[str, object, str]] = [
    ("bind", "", "names no address"),
    ("bind", [], "names no address"),
    ("bind", "host:port", "has no valid port; give 0 to 65535"),
    ("bind", "host:65536", "has no valid port"),
    ("bind", "host:-1", "has no valid port"),
    ("bind", "host:", "has no valid port"),
    ("bind", "8000", "has no host; for a port on all interfaces write :8000"),
    ("bind", "::1", "is ambiguous; write [::1] or [::1]:8000"),
    ("bind", "[nothing]:80", "has no IPv6 address within its brackets"),
    ("bind", "http://localhost:8000", "is no address"),
    ("bind", "unix:", "has no path"),
    ("bind", "unix:/" + "x" * 200, "is too long for a socket"),
    ("bind", "fd://", "has no file descriptor number"),
    ("bind", "fd://-1", "has no file descriptor number"),
    ("bind", "a:1,a:1", "names a:1 twice"),
    ("bind", 8000, "is not text"),
    ("worker_model", "epol", "did you mean epoll?"),
    ("worker_model", "processpool", "is not one of single, process"),
    ("worker_model", 3, "is not one of"),
    ("threads", "many", "is not a whole number; give 1 to 1024"),
    ("threads", "+4", "is not a whole number"),
    ("threads", "1_0", "is not a whole number"),
    ("threads", 4.0, "is not a whole number"),
    ("threads", True, "is not a whole number"),
    ("threads", 0, "is out of range; give 1 to 1024"),
    ("backlog", 70000, "is out of range; give 1 to 65535"),
    ("keep_alive", "-1", "is not a duration"),
    ("keep_alive", -1, "is out of range; give 0 and at most 24h"),
    ("keep_alive", "soon", "is not a duration; give seconds"),
    ("keep_alive", float("nan"), "is not a duration"),
    ("keep_alive", float("inf"), "is out of range"),
    ("keep_alive", "25h", "is out of range"),
    ("head_timeout", 0, "is out of range; give more than 0"),
    ("head_timeout", True, "is not a duration"),
    ("limit_request_body", "10X", "is not a size"),
    ("limit_request_body", -1, "is out of range"),
    ("limit_request_line", 0, "is out of range; give 64 to 1MiB bytes"),
    ("static_url", "/static", "must begin and end with one slash; write /static/"),
    ("static_url", "static/", "write /static/"),
    ("static_url", "//a//b/", "write /a/b/"),
    ("static_url", "/a?b/", "is not a URL path"),
    ("static_url", "/../", "is not a URL path"),
    ("static_url", "/caf\xe9/", "is not a URL path"),
    ("log_level", "verbose", "is not one of debug, info"),
    ("server_header", "a\x1bb", "cannot stand in a header"),
    ("server_header", "a\r\nX: y", "has a line break"),
    ("workers", "many", "is not a whole number; give 0 to 512"),
    ("workers", -1, "is out of range; give 0 to 512"),
    ("workers", "513", "is out of range; give 0 to 512"),
    ("env", ["A"], "is not of the form NAME=VALUE"),
    ("env", ["=x"], "is not of the form NAME=VALUE"),
    ("env", 3, "is not a list of NAME=VALUE"),
    ("cache_control", "max-age=60", "names no files; for all of them write *=max-age=60"),
    ("cache_control", ["*.css=max-age=9", "No-Store"], "'No-Store' names no files; for all"),
    ("cache_control", {"public, max-age": "60"}, "names no files; for all of them write *=public"),
    ("cache_control", "*.css,*.js=max-age=60", "names several globs; give each a GLOB=VALUE"),
    ("cache_control", [3], "is not of the form NAME=VALUE"),
    ("cache_control", "*.css", "is not of the form NAME=VALUE"),
    ("umask", "888", "is not an octal mask"),
    ("umask", 0o1000, "is not an octal mask"),
    ("user", "no-such-user-here", "is no user of this system"),
    ("group", "no-such-group-here", "is no group of this system"),
    ("user", -1, "is not text"),
    ("forwarded_allow_ips", "10.0.0.1/8", "write 10.0.0.0/8"),
    ("forwarded_allow_ips", "proxy.local", "is no IP address or network"),
    ("reload", "maybe", "is neither true nor false"),
    ("app", 3, "is not text"),
    ("app", "a\0b", "has a line break or a NUL"),
    ("documents_root", "missing", "is no folder; give one that exists"),
    ("chdir", "missing", "is no folder"),
    ("spool_dir", "missing", "is no folder"),
    ("log_config", "missing.toml", "is no file"),
]


@pytest.mark.parametrize(("name", "written", "value"), GOOD)
def test_a_value_is_understood(name: str, written: object, value: object) -> None:
    found = getattr(Config.from_options(**{name: written}), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("name", "written", "problem"), BAD)
def test_a_value_is_refused_in_one_line(name: str, written: object, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_options(**{name: written})
    message = str(caught.value)
    assert message.startswith(f"argument {name}: ")
    assert problem in message
    assert "\n" not in message


def test_defaults() -> None:
    config = Config()
    assert config.bind == (TCP("127.0.0.1", 8000),)
    assert config.worker_model == "threadpool"
    assert config.keep_alive > 60, "load balancers close after 60 s; they must be the first"
    assert config.static_prefix == "/"
    assert Config(app="a:b").static_prefix == "/static/"
    assert Config(app="a:b", static_url="/x/").static_prefix == "/x/"
    assert config.umask is None


def test_it_cannot_be_changed_only_replaced() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.threads = 5  # type: ignore[misc]
    assert not hasattr(config, "__dict__")
    changed = config.replaced(threads="5", worker_class="sync")
    assert (changed.threads, changed.worker_model) == (5, "single")
    assert dataclasses.replace(config, keep_alive=1).keep_alive == 1.0
    assert config == Config()


def test_the_constructor_checks_too() -> None:
    assert Config(bind="[::1]:0").bind == (TCP("::1", 0),)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^argument threads: 0 is out of range"):
        Config(threads=0)


anything = st.one_of(
    st.text(max_size=30),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=5),
    st.lists(st.one_of(st.text(max_size=12), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    st.from_regex(r"\A[\[\]0-9a-f:.%*/-]{0,20}\Z"),
    st.from_regex(r"\A[0-9]{1,9}[. a-zA-Z]{0,4}\Z"),
)


@given(st.sampled_from(sorted(OPTIONS)), anything)
def test_whatever_is_given_is_refused_or_stays_what_it_became(name: str, written: Any) -> None:
    option = OPTIONS[name]
    try:
        value = option.kind.parse(written)
    except Unusable as problem:
        told = str(problem)
    else:
        told = ""
    assert "\n" not in told
    assert told or option.kind.parse(value) == value


# --- sources --------------------------------------------------------------------------------------


def test_the_order_of_the_sources() -> None:
    Path("wsgiserver.toml").write_text("threads = 2\nbacklog = 2\nkeep_alive = 2\n")
    environ = {"WSGISERVER_BACKLOG": "3", "WSGISERVER_KEEP_ALIVE": "3", "PATH": "/bin"}
    config, sources = load({"keep_alive": "4"}, environ)
    assert (config.threads, config.backlog, config.keep_alive) == (2, 3, 4.0)
    assert config.head_timeout == Config().head_timeout
    assert sources == {
        "threads": "wsgiserver.toml: threads",
        "backlog": "WSGISERVER_BACKLOG",
        "keep_alive": "--keep-alive",
    }
    assert Config.load({"keep_alive": "4"}, environ) == config


def test_a_list_replaces_the_weaker_list() -> None:
    Path("wsgiserver.toml").write_text('bind = ["a:1", "b:2"]\n')
    assert Config.load({}, {}).bind == (TCP("a", 1), TCP("b", 2))
    assert Config.load({}, {"WSGISERVER_BIND": "c:3,d:4"}).bind == (TCP("c", 3), TCP("d", 4))
    assert Config.load({"bind": ("e:5",)}, {"WSGISERVER_BIND": "c:3"}).bind == (TCP("e", 5),)


def test_toml_types_and_strings() -> None:
    Path("own.toml").write_text(
        "wsgi_app = 'x:y'\nthreads = '3'\nhead_timeout = 1.5\nreload = true\numask = 0o22\n"
        "limit_request_body = '1MiB'\nbind = 'fd://5'\n[env]\nA = '1'\n"
    )
    config = Config.load({}, {}, Path("own.toml"))
    assert (config.app, config.threads, config.head_timeout) == ("x:y", 3, 1.5)
    assert (config.reload, config.umask, config.limit_request_body) == (True, 0o22, 1 << 20)
    assert (config.bind, config.env) == ((Inherited(5),), ("A=1",))


def test_pyproject() -> None:
    Path("pyproject.toml").write_text("[tool.other]\nthreads = 9\n")
    assert Config.load({}, {}) == Config()
    Path("pyproject.toml").write_text("[tool.wsgiserver]\nthreads = 9\n")
    config, sources = load({}, {})
    assert config.threads == 9
    assert sources["threads"] == "pyproject.toml: [tool.wsgiserver] threads"
    Path("wsgiserver.toml").write_text("backlog = 5\n")
    assert Config.load({}, {}) == Config(backlog=5), "the file of its own counts alone"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("own.toml", None, "own.toml: cannot be read: No such file or directory; check --config"),
        ("own.toml", b"\xff", "own.toml: is not UTF-8 text"),
        ("own.toml", b"threads 4", "own.toml: is not valid TOML: "),
        (
            "own.toml",
            b"thread = 4",
            "own.toml: thread: there is no such option; did you mean own.toml: threads?",
        ),
        ("own.toml", b"zzzzz = 4", "own.toml: zzzzz: there is no such option; `wsgiserver --help`"),
        ("own.toml", b"threads = 0", "own.toml: threads: 0 is out of range"),
        ("own.toml", b"[threads]\nx = 1", "own.toml: threads: {'x': 1} is not a whole number"),
        ("own.toml", b"worker_class = 'epoll'\nworker_model = 'epoll'", "sets the same option"),
        ("pyproject.toml", b"", "pyproject.toml: there is no [tool.wsgiserver] in it; add one"),
        ("pyproject.toml", b"tool = 3", "pyproject.toml: there is no [tool.wsgiserver]"),
        ("pyproject.toml", b"tool.wsgiserver = 3", "tool.wsgiserver is no table"),
        (
            "pyproject.toml",
            b"[tool.wsgiserver]\nthread = 3",
            "pyproject.toml: [tool.wsgiserver] thread: there is no such option",
        ),
    ],
)  # fmt: skip
def test_a_file_is_refused_in_one_line(name: str, text: bytes | None, message: str) -> None:
    if text is not None:
        Path(name).write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        Config.load({}, {}, Path(name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^WSGISERVER_THREADS: 'x' is not a whole number"):
        Config.load({}, {"WSGISERVER_THREADS": "x"})
    with pytest.raises(ConfigError, match=r"did you mean WSGISERVER_THREADS\?$"):
        Config.load({}, {"WSGISERVER_THREAD": "3"})


def test_an_argument_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"argument thread: .*did you mean argument threads\?$"):
        Config.from_options(thread=3)


def test_variables_of_a_linked_service_are_not_options() -> None:
    environ = {
        "WSGISERVER_SERVICE_HOST": "10.0.0.1",
        "WSGISERVER_SERVICE_PORT_HTTP": "80",
        "WSGISERVER_PORT": "tcp://10.0.0.1:80",
        "WSGISERVER_PORT_80_TCP_ADDR": "10.0.0.1",
        "WSGISERVER_CONFIG": "x.toml",
    }
    assert Config.load({}, environ) == Config()


def test_paths_start_from_chdir(folder: Path) -> None:
    (folder / "inner" / "files").mkdir(parents=True)
    (folder / "inner" / "log.toml").touch()
    config = Config.from_options(chdir="inner", documents_root="files", log_config="log.toml")
    assert config.documents_root == "files"
    with pytest.raises(ConfigError, match="is no folder"):
        Config.from_options(documents_root="files")


# --- what follows from the declarations -----------------------------------------------------------


def test_what_is_shown_can_be_read_back(folder: Path) -> None:
    given = {
        "bind": ("[::1]:1", "unix:/x", "fd://3"),
        "env": ('A="quoted" \\ back', "B=\x7f\u2028\xe9"),
        "keep_alive": "1500ms",
        "umask": "7",
        "worker_model": "gthread",
        "server_header": "",
        "forwarded_allow_ips": "*",
        "reload": "on",
    }
    config, sources = load(given, {})
    text = show(config, sources)
    Path("shown.toml").write_text(text, encoding="utf-8")
    assert Config.load({}, {}, Path("shown.toml")) == config
    lines = text.splitlines()
    assert "keep_alive = 1.5  # --keep-alive" in lines
    assert "threads = 4  # default" in lines
    assert 'worker_model = "threadpool"  # --worker-model' in lines
    Path("shown.toml").write_text(show(Config(), {}), encoding="utf-8")
    assert Config.load({}, {}, Path("shown.toml")) == Config()


def test_each_default_is_what_its_parser_returns() -> None:
    for option in OPTIONS.values():
        assert option.kind.parse(option.default) == option.default
        assert option.help.endswith((".", "`.", ")."))


def test_the_models_are_those_that_exist() -> None:
    assert set(WORKER_MODELS) == set(workers.WORKER_MODELS)


def _generator(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "docs" / "generate_settings.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=30,
    )


def test_the_settings_page_is_current() -> None:
    result = _generator("--check")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


def test_the_settings_page_lists_every_option_and_atom() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    for option in OPTIONS.values():
        assert f"`{option.variable}`" in page
        assert f"`{option.flag}`" in page
    for atom in logs._ATOMS:
        assert f"`%({atom})s`" in page


@pytest.mark.parametrize(
    ("text", "most"),
    [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("", 4), ("900000 100000", 4)],
)
def test_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, most: int) -> None:
    """A container of half a processor on a machine of four has one."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert processors(str(quota)) == most
    assert processors(str(tmp_path / "none")) == 4
