"""How the text or TOML value of an option becomes a Python value: a `Kind` for each sort.

A kind's `parse` takes what a user wrote (a string, or a native value from TOML or Python), also
its own result, and raises `Unusable` with the rest of a sentence: "... is not a whole number;
give 1 to 1024". Who calls it puts the value and where it came from in front.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORT: Final = 8000
# sizeof(sun_path) less its NUL: 108 bytes on Linux, 104 on the BSDs and macOS.
_LONGEST_UNIX_PATH: Final = 107 if sys.platform == "linux" else 103
_LONGEST_DURATION: Final = 86400.0


class Unusable(Exception):
    """A value cannot be used; see the module. `item` holds the one of a list that is meant."""

    def __init__(self, problem: str, *item: object) -> None:
        super().__init__(problem)
        self.item = item


class Kind(NamedTuple, Generic[T]):
    """A sort of option."""

    parse: Callable[[object], T]
    """See the module."""
    metavar: str
    """What stands for the value in the help ("SECONDS")."""
    takes: str
    """The accepted values, units and limits in words, for the help and the settings page."""
    many: bool = False
    """The value is a tuple; on the command line the flag may be repeated."""
    show: Callable[[T], str] = str
    """A value, or the item of a tuple, for people."""


# --- addresses ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TCP:
    """A host name or address, and a port from 0 (the system picks one) to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """The path of a unix domain socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that the parent process passed on as this file descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address = TCP | Unix | Inherited

# Patterns are kept as text: compiling them takes longer than the rest of this module, and a start
# seldom needs more than one (re.fullmatch remembers it then).
_TCP: Final = r"(?:tcp://)?(?:\[(?P<v6>[^\]]*)\]|(?P<host>[A-Za-z0-9._*-]*))(?::(?P<port>.*))?"


def parse_address(value: object) -> Address:
    """HOST:PORT, HOST, :PORT, [V6]:PORT, unix:PATH or fd://N."""
    if isinstance(value, Address):
        return value
    text = parse_text(value)
    if text.startswith("unix:"):
        return Unix(_unix_path(text.removeprefix("unix:").removeprefix("//")))
    if text.startswith("fd://"):
        fd = text.removeprefix("fd://")
        if not re.fullmatch(r"[0-9]{1,9}", fd):
            raise Unusable("has no file descriptor number; give for example fd://3")
        return Inherited(int(fd))
    return _tcp(text)


def _tcp(text: str) -> TCP:
    if _is_v6(text):
        raise Unusable(f"is ambiguous; write [{text}] or [{text}]:{DEFAULT_PORT}")
    match = re.fullmatch(_TCP, text)
    if match is None or text in ("", ":") or (match["port"] or "").startswith("//"):
        raise Unusable("is no address; give HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N")
    if match["host"] and match["host"].isdigit() and match["port"] is None:
        raise Unusable(f"has no host; for a port on all interfaces write :{text}")
    if match["v6"] is not None and not _is_v6(match["v6"]):
        raise Unusable("has no IPv6 address within its brackets; give for example [::1]:8000")
    host = match["v6"] or match["host"]
    port = DEFAULT_PORT if match["port"] is None else _port(match["port"])
    # Nothing before the port means all interfaces, as in gunicorn.
    return TCP("0.0.0.0" if host in ("", "*") else host, port)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise Unusable("has no valid port; give 0 to 65535, 0 for a free one")
    return int(text)


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _unix_path(path: str) -> str:
    if not path or "\0" in path:
        raise Unusable("has no path; give for example unix:/run/wsgiserver.sock")
    if len(os.fsencode(path)) > _LONGEST_UNIX_PATH:
        raise Unusable(f"is too long for a socket; a path has at most {_LONGEST_UNIX_PATH} bytes")
    return path


def parse_network(value: object) -> IPNetwork:
    """An address, or a network in CIDR form."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    text = parse_text(value)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Unusable("is no IP address or network; give for example 10.0.0.0/8") from None
    raise Unusable(f"has bits set right of its prefix; write {meant}")


_EVERYONE: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def parse_networks(value: object) -> tuple[IPNetwork, ...]:
    """Networks separated by commas, or a list; `*` stands for every address."""
    items = split(value, ",")
    return _EVERYONE if items == ["*"] else _each(items, parse_network)


# --- scalars --------------------------------------------------------------------------------------


def parse_text(value: object) -> str:
    """A string without NUL and line breaks."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise Unusable("is not text; put it in quotes")
    if re.search(r"[\0\r\n]", value):
        raise Unusable("has a line break or a NUL in it; leave it out")
    return value


def parse_flag(value: object) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise Unusable("is neither true nor false")


def number(least: int, most: int) -> Kind[int]:
    """A whole number within limits, both included."""
    takes = f"{least} to {most}"

    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unusable(f"is not a whole number; give {takes}")
        if not least <= value <= most:
            raise Unusable(f"is out of range; give {takes}")
        return value

    return Kind(parse, "NUMBER", takes)


def parse_workers(value: object) -> int:
    """A number of workers; "auto" is one for each processor that this process may use."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return processors()
    return number(0, 512).parse(value)


def processors(quota: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Processors that this process may use: its affinity, and the quota of its control group."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        with open(quota, encoding="ascii") as file:
            most, period = file.read().split()
        return max(1, min(count, math.ceil(int(most) / int(period))))
    except (OSError, ValueError):  # no control group, or "max"
        return count


_DURATION: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|m|min|h)?"
_SECONDS: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def duration(*, zero: bool = False) -> Kind[float]:
    """A time in seconds, above 0 (or 0 too) and at most a day."""
    least = "0" if zero else "more than 0"

    def parse(value: object) -> float:
        if isinstance(value, str) and (match := re.fullmatch(_DURATION, value.strip().lower())):
            value = float(match[1]) * _SECONDS[match[2]]
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            raise Unusable("is not a duration; give seconds, or for example 500ms, 90s, 2m, 1h")
        if not (value > 0 or (zero and value == 0)) or value > _LONGEST_DURATION:
            raise Unusable(f"is out of range; give {least} and at most 24h")
        return float(value)

    takes = f"seconds, or `500ms`, `90s`, `2m`, `1h`; {least}, at most 24h"
    return Kind(parse, "DURATION", takes, show=lambda seconds: f"{seconds:g}s")


_SIZE: Final = r"([0-9]{1,15})\s*(?:([kmgt])(ib|b)?|b)?"


def size(least: int, most: int) -> Kind[int]:
    """A number of bytes within limits, both included; 10MB is 10^7, 10MiB and 10M are 10*2^20."""
    takes = f"{least} to {show_size(most)}"

    def parse(value: object) -> int:
        if isinstance(value, str) and (match := re.fullmatch(_SIZE, value.strip().lower())):
            decimal = match[3] == "b"
            power = "_kmgt".index(match[2] or "_")
            value = int(match[1]) * (1000 if decimal else 1024) ** power
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unusable("is not a size; give bytes, or for example 64k, 10MB, 10MiB")
        if not least <= value <= most:
            raise Unusable(f"is out of range; give {takes} bytes")
        return value

    return Kind(parse, "BYTES", f"bytes, or `64k`, `10MB`, `10MiB`; {takes}", show=show_size)


def show_size(count: int) -> str:
    """A number of bytes as people write it: 1GiB, 8190."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count and count % (1 << shift) == 0:
            return f"{count >> shift}{unit}"
    return str(count)


def choice(names: tuple[str, ...], aliases: Mapping[str, str] | None = None) -> Kind[str]:
    """One of some names, in any case; an alias becomes the name it stands for."""
    known = {name: name for name in names} | dict(aliases or {})
    others = "".join(f", {alias} ({name})" for alias, name in (aliases or {}).items())
    takes = ", ".join(names) + others

    def parse(value: object) -> str:
        found = known.get(value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            near = did_you_mean(str(value).lower(), known)
            raise Unusable(f"is not one of {', '.join(names)}{near}")
        return found

    return Kind(parse, "NAME", takes)


def parse_octal(value: object) -> int | None:
    """A file mode mask, octal if it is a string: 022, 0o22."""
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,6}", value.strip()):
        value = int(value, 8)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o777:
        raise Unusable("is not an octal mask; give 000 to 777, for example 022")
    return value


def parse_header_value(value: object) -> str:
    """A field value (RFC 9110 §5.5) of visible ASCII and spaces, also empty."""
    text = parse_text(value)
    if not re.fullmatch(r"(?:[!-~](?:[ -~]*[!-~])?)?", text):
        raise Unusable("cannot stand in a header; give visible ASCII characters")
    return text


def parse_url_path(value: object) -> str:
    """A URL path that begins and ends with a slash, or nothing."""
    text = parse_text(value)
    if not text:
        return text
    path = "/" + "/".join(part for part in text.split("/") if part) + "/"
    path = path if path != "//" else "/"
    if re.search(r"[\s?#%]|[^ -~]|/\.{1,2}/", path):
        raise Unusable("is not a URL path; give for example /static/, without escapes")
    if path != text:
        raise Unusable(f"must begin and end with one slash; write {path}")
    return text


def parse_user(value: object) -> str:
    """The name or number of a user that exists here (the number need not), or nothing."""
    return _account(value, "pwd", "getpwnam", "user")


def parse_group(value: object) -> str:
    """The name or number of a group that exists here (the number need not), or nothing."""
    return _account(value, "grp", "getgrnam", "group")


def _account(value: object, module: str, function: str, what: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = str(value)
    text = parse_text(value)
    if not text or text.isdigit():
        return text
    from importlib import import_module

    try:
        getattr(import_module(module), function)(text)
    except ImportError:
        raise Unusable(f"cannot be used: this system has no {what}s to change to") from None
    except KeyError:
        raise Unusable(f"is no {what} of this system; give a name from it, or a number") from None
    return text


# --- lists ----------------------------------------------------------------------------------------


def split(value: object, separators: str) -> list[object]:
    """The items of a list or of a string; the items of a list may be such strings themselves."""
    if isinstance(value, str):
        return [part for part in map(str.strip, re.split(f"[{separators}\n]", value)) if part]
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        return [value]
    items: list[object] = []
    for item in value:
        items += split(item, separators) if isinstance(item, str) else [item]
    return items


def _each(items: Iterable[object], parse: Callable[[object], T]) -> tuple[T, ...]:
    parsed = []
    for item in items:
        try:
            parsed.append(parse(item))
        except Unusable as problem:
            raise Unusable(str(problem), item) from None
    return tuple(parsed)


def parse_addresses(value: object) -> tuple[Address, ...]:
    """One or more addresses, separated by commas or spaces, or a list."""
    addresses = _each(split(value, ", "), parse_address)
    if not addresses:
        raise Unusable(f"names no address; give for example 127.0.0.1:{DEFAULT_PORT}")
    for index, address in enumerate(addresses):
        free = isinstance(address, TCP) and address.port == 0
        if not free and address in addresses[:index]:
            raise Unusable(f"names {address} twice; leave one out")
    return addresses


def parse_paths(value: object) -> tuple[str, ...]:
    """Paths separated by commas, or a list."""
    return _each(split(value, ","), parse_text)


def _lines(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, str):
        return [line for line in value.splitlines() if line.strip()]
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise Unusable("is not a list of NAME=VALUE")
    return list(value)


def parse_pairs(value: object) -> tuple[str, ...]:
    """NAME=VALUE lines, a list of such, or a table; a later one of the same name wins."""
    pairs: dict[str, str] = {}
    for item in _lines(value):
        text = item if isinstance(item, str) else ""
        name, equals, _ = text.partition("=")
        if not equals or not name.strip() or "\0" in text:
            raise Unusable("is not of the form NAME=VALUE", item)
        pairs[name] = text
    return tuple(pairs.values())


# RFC 9111 5.2.2, RFC 5861, RFC 8246: what no glob is meant by.
_CACHE_DIRECTIVE: Final = re.compile(
    r"(?:max-age|s-maxage|no-cache|no-store|no-transform|must-revalidate|must-understand"
    r"|proxy-revalidate|public|private|immutable|stale-while-revalidate|stale-if-error)\b",
    re.IGNORECASE,
)


def parse_policies(value: object) -> tuple[str, ...]:
    """Values of Cache-Control by glob, as GLOB=VALUE lines, a list of such, or a table."""
    items = _lines(value)
    for item in items:
        if not isinstance(item, str):
            continue  # refused with the other pairs
        glob, _, _ = item.strip().partition("=")
        if _CACHE_DIRECTIVE.match(glob):
            raise Unusable(f"names no files; for all of them write *={item.strip()}", item)
        if "," in glob.replace("[,]", ""):
            raise Unusable(
                "names several globs; give each a GLOB=VALUE of its own ([,] is a comma in a name)",
                item,
            )
    return parse_pairs(items)


def to_toml(value: object) -> str:
    """A parsed value as a TOML literal that `parse` takes back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(to_toml(item) for item in value)}]"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def did_you_mean(word: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """`; did you mean X?` if something known is near to `word`, else nothing."""
    from difflib import get_close_matches  # imported late: only an error needs it

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {show(near[0])}?" if near else ""


FILE: Final = Kind(parse_text, "FILE", "path of a file")
FOLDER: Final = Kind(parse_text, "FOLDER", "path of a folder")
FLAG: Final = Kind(parse_flag, "", "true or false", show=to_toml)
ADDRESSES: Final = Kind(
    parse_addresses,
    "ADDRESS",
    "`HOST:PORT`, `HOST`, `:PORT`, `[IPV6]:PORT`, `unix:PATH`, `fd://N`; port 0 to 65535",
    many=True,
)
NETWORKS: Final = Kind(parse_networks, "NETWORKS", "addresses and CIDR networks with commas; `*`")
PATHS: Final = Kind(parse_paths, "PATH", "paths, separated by commas", many=True)
WORKERS: Final = Kind(parse_workers, "NUMBER", "0 to 512, or `auto`")
PAIRS: Final = Kind(parse_pairs, "NAME=VALUE", "`NAME=VALUE`, one a line; or a table", many=True)
OCTAL: Final = Kind(parse_octal, "MASK", "octal, 000 to 777")
HEADER: Final = Kind(parse_header_value, "TEXT", "visible ASCII; empty for none")
URL_PATH: Final = Kind(parse_url_path, "PATH", "a URL path between slashes")
USER: Final = Kind(parse_user, "USER", "name or number")
GROUP: Final = Kind(parse_group, "GROUP", "name or number")
