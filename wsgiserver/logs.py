"""The error log, the access log, and what of a request may stand in them.

Whatever a client sent is escaped before it is written: a log line is one line, whatever is in it
(CVE-2020-7694 is how that goes wrong).
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import localtime, monotonic, strftime, time
from typing import TYPE_CHECKING, Any, Final

from wsgiserver.http.errors import HTTPError

if TYPE_CHECKING:
    from wsgiserver.config import Config
    from wsgiserver.context import AccessLog

log = logging.getLogger("wsgiserver.error")
access_logger = logging.getLogger("wsgiserver.access")

FORMATS: Final = {
    "common": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s',
    "combined": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
}

_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\x9f\u2028\u2029]')


def escaped(text: str) -> str:
    r"""Text that can stand between quotes on one line: control characters as `\x1b`, `\"`, `\\`."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in '"\\':
        return "\\" + char
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


# -- setting up


class LogError(Exception):
    """A log cannot be set up; the text is one line for the user."""


def set_up(config: Config) -> None:
    """Configure logging: by `log_config` if given, else plain lines on stderr.

    :raises LogError: the file does not parse or names what does not exist.
    """
    if config.log_config:
        _set_up_from_file(Path(config.log_config))
        return
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(
            logging.Formatter(
                "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", "%Y-%m-%d %H:%M:%S %z"
            )
        )
        log.addHandler(handler)
        log.propagate = False
    log.setLevel(config.log_level.upper())


def _set_up_from_file(path: Path) -> None:
    try:
        if path.suffix in (".toml", ".json"):
            logging.config.dictConfig(_read_dict(path))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except Exception as error:
        raise LogError(f"log_config {path}: {str(error).splitlines()[0]}") from error


def _read_dict(path: Path) -> dict[str, Any]:
    import tomllib

    settings: dict[str, Any] = (
        tomllib.loads(path.read_text("utf-8"))
        if path.suffix == ".toml"
        else json.loads(path.read_text("utf-8"))
    )
    settings.setdefault("version", 1)
    settings.setdefault("disable_existing_loggers", False)
    return settings


# -- what connections tell


class Journal:
    """The server's side of `context.Journal`: where connections tell what happened.

    `access` is None when there is no access log, so that a request costs one test then.
    """

    def __init__(self, access: AccessLog | None = None) -> None:
        self.access = access
        self._named: set[str] = set()  # fields of clients that were told of
        self._own: set[str] = set()  # and those of the application

    def application_failed(self, environ: dict[str, Any], error: BaseException) -> None:
        """An application raised: its traceback, under the request it belongs to."""
        log.error("%s: the application failed", _request_of(environ), exc_info=error)

    def server_failed(self, peer: str, error: BaseException) -> None:
        """A fault of this server's own; please report it."""
        log.error("%s: the server itself failed", peer or "unix", exc_info=error)

    def response_wrong(self, environ: dict[str, Any], text: str) -> None:
        """An application's answer contradicts itself."""
        log.error("%s: %s", _request_of(environ), text)

    def refused(self, peer: str, error: HTTPError) -> None:
        """The server answered itself."""
        log.info("%s: refused with %s: %s", peer or "unix", error.status_line, error.detail)

    def hop_by_hop(self, names: Sequence[str]) -> None:
        """An application sent fields that belong to the server; each name is told once."""
        for name in _first_time(names, self._own):
            log.warning(
                "the application's header %s was left out: it belongs to the connection,"
                " which is the server's (told once)",
                name,
            )

    def fields_dropped(self, peer: str, names: Sequence[str]) -> None:
        """Fields that must not reach an application; each name is told once."""
        for name in _first_time(names, self._named):
            log.warning(
                "%s: dropped the header %s: it would pose as another one (told once)",
                peer or "unix",
                name,
            )


def _first_time(names: Sequence[str], told: set[str]) -> list[str]:
    """Those of the names that were not told yet, fit for a line; at most a hundred in all."""
    new = []
    for name in names:
        if name.lower() not in told and len(told) < 100:
            told.add(name.lower())
            new.append(escaped(name[:100]))
    return new


def _request_of(environ: dict[str, Any]) -> str:
    # An application may have changed these in any way it desired (PEP 3333).
    method, target = str(environ.get("REQUEST_METHOD")), str(environ.get("RAW_URI"))
    path = target.partition("?")[0]  # a query may hold what no log should
    return f"{escaped(method)} {escaped(path)}"


# -- the access log


class Record:
    """One finished exchange, as the atoms of a format read it."""

    __slots__ = ("aborted", "environ", "headers", "seconds", "sent", "status")

    def __init__(
        self,
        environ: dict[str, Any],
        status: str,
        sent: int,
        headers: Sequence[tuple[str, str]],
        seconds: float,
        aborted: bool,
    ) -> None:
        self.environ = environ
        self.status = status
        self.sent = sent
        self.headers = headers
        self.seconds = seconds
        self.aborted = aborted


Atom = Callable[[Record], str]


def _variable(key: str) -> Atom:
    return lambda record: escaped(str(record.environ.get(key) or "-"))


def _request_line(record: Record) -> str:
    get = record.environ.get
    if get("REQUEST_METHOD") is None:
        return "-"
    return escaped(f"{get('REQUEST_METHOD')} {get('RAW_URI')} {get('SERVER_PROTOCOL')}")


def _remote_user(record: Record) -> str:
    return escaped(str(record.environ.get("REMOTE_USER") or "-"))


# gunicorn's atoms (docs/settings.md lists them), so that a format can be taken along.
_ATOMS: Final[dict[str, Atom]] = {
    "h": _variable("REMOTE_ADDR"),
    "l": lambda record: "-",
    "u": _remote_user,
    "t": lambda record: strftime("[%d/%b/%Y:%H:%M:%S %z]", localtime(time())),
    "r": _request_line,
    "m": _variable("REQUEST_METHOD"),
    "U": _variable("PATH_INFO"),
    "q": lambda record: escaped(str(record.environ.get("QUERY_STRING") or "")),
    "H": _variable("SERVER_PROTOCOL"),
    "s": lambda record: record.status[:3],
    "st": lambda record: escaped(record.status),
    "B": lambda record: str(record.sent),
    "b": lambda record: str(record.sent) if record.sent else "-",
    "f": _variable("HTTP_REFERER"),
    "a": _variable("HTTP_USER_AGENT"),
    "T": lambda record: str(int(record.seconds)),
    "M": lambda record: str(int(record.seconds * 1000)),
    "D": lambda record: str(int(record.seconds * 1_000_000)),
    "L": lambda record: f"{record.seconds:.6f}",
    "p": lambda record: f"<{os.getpid()}>",
}
_ATOM = re.compile(r"%\((?:\{([^}]+)\}([ioe])|([A-Za-z]{1,2}))\)s|%%")


def compile_format(text: str) -> Callable[[Record], str]:
    """A function that writes the line of a record.

    :param text: `common`, `combined`, `json`, or a format with gunicorn's atoms.
    :raises LogError: an atom that does not exist.
    """
    if text == "json":
        return _json_line
    text = FORMATS.get(text, text)
    parts: list[str] = []
    atoms: list[Atom] = []
    end = 0
    for match in _ATOM.finditer(text):
        parts.append(_literal(text[end : match.start()]))
        end = match.end()
        if match[0] == "%%":
            parts.append("%%")
        else:
            parts.append("%s")
            atoms.append(_atom(match))
    parts.append(_literal(text[end:]))
    pattern = "".join(parts)
    return lambda record: pattern % tuple([atom(record) for atom in atoms])


def _literal(text: str) -> str:
    if "%" in text:
        raise LogError(
            f"access_log_format: {text[text.index('%') :][:12]!r} is no atom; write them as"
            " '%(h)s', a per cent sign as '%%'"
        )
    return text


def _atom(match: re.Match[str]) -> Atom:
    name, kind, plain = match.groups()
    if plain is not None:
        if plain not in _ATOMS:
            raise LogError(f"access_log_format: there is no atom %({plain})s")
        return _ATOMS[plain]
    if kind == "i":
        key = name.upper().replace("-", "_")
        return _variable(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key)
    if kind == "e":
        return _variable(name)
    return lambda record: _response_header(record, name.lower())


def _response_header(record: Record, lower: str) -> str:
    return escaped(next((value for name, value in record.headers if name.lower() == lower), "-"))


def _json_line(record: Record) -> str:
    environ = record.environ
    stamp = time()
    return json.dumps(
        {
            "time": strftime("%Y-%m-%dT%H:%M:%S", localtime(stamp))
            + f".{int(stamp % 1 * 1000):03d}"
            + strftime("%z", localtime(stamp)),
            "remote_addr": environ.get("REMOTE_ADDR", ""),
            "method": environ.get("REQUEST_METHOD"),
            "target": environ.get("RAW_URI"),
            "protocol": environ.get("SERVER_PROTOCOL"),
            "host": environ.get("HTTP_HOST"),
            "status": int(record.status[:3]) if record.status[:3].isdigit() else None,
            "bytes": record.sent,
            "seconds": round(record.seconds, 6),
            "aborted": record.aborted,
            "referer": environ.get("HTTP_REFERER"),
            "user_agent": environ.get("HTTP_USER_AGENT"),
            "pid": os.getpid(),
        },
        default=str,
    )


class AccessWriter:
    """Writes each line with one write(2), so that lines of threads and processes never mix."""

    def __init__(self, path: str, line_of: Callable[[Record], str]) -> None:
        """:raises LogError: the file cannot be opened for appending."""
        self._line_of = line_of
        self._complained = 0.0
        self._path = path
        self._fd = _open(path)

    def __call__(self, *fields: Any) -> None:
        """Log one exchange; see `Record` for the fields. A full disk costs the line, no more."""
        line = self._line_of(Record(*fields)) + "\n"
        if self._fd < 0:
            return  # a flow that outlived the grace of the stop; its number may be another file's
        try:
            os.write(self._fd, line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            if monotonic() >= self._complained:
                self._complained = monotonic() + 1
                log.warning("the access log cannot be written: %s", error.strerror)

    def reopen(self) -> None:
        """Go on in the file that has this path now (logrotate renames the old one).

        :raises LogError: it cannot be opened; the lines go on where they went.
        """
        if self._path == "-" or self._fd < 0:
            return
        fd = _open(self._path)
        try:
            os.dup2(fd, self._fd, inheritable=False)  # one step, for threads that write
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        os.close(fd)


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.dup(sys.stdout.fileno()) if path == "-" else os.open(path, flags, 0o644)
    except OSError as error:
        raise LogError(f"access_log {path}: {error.strerror}") from error


class AccessLogger:
    """Hands the lines to the logger `wsgiserver.access`, when `log_config` set one up."""

    def __init__(self, line_of: Callable[[Record], str]) -> None:
        self._line_of = line_of

    def __call__(self, *fields: Any) -> None:
        """Log one exchange; see `Record` for the fields."""
        access_logger.info("%s", self._line_of(Record(*fields)))

    def reopen(self) -> None:
        """The logger's handlers are made anew by `set_up`."""

    def close(self) -> None:
        """Nothing is held open here."""


def open_access_log(config: Config) -> AccessWriter | AccessLogger | None:
    """The access log of the settings; None if they want none.

    :raises LogError: its format or its file is wrong.
    """
    if not config.access_log and not (config.log_config and access_logger.handlers):
        return None
    line_of = compile_format(config.access_log_format)
    if config.log_config and access_logger.handlers:
        return AccessLogger(line_of)
    return AccessWriter(config.access_log, line_of)
