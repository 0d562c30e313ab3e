"""Write docs/settings.md from the options declared in wsgiserver/config.py.

python docs/generate_settings.py           write it
python docs/generate_settings.py --check   exit 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Final

from wsgiserver.config import ENVIRON_PREFIX, OPTIONS, WORKER_MODELS, Option

PAGE: Final = Path(__file__).with_name("settings.md")

INTRODUCTION: Final = f"""\
# Settings

This page is generated from `wsgiserver/config.py` by `python docs/generate_settings.py`.

Every setting can be given in four ways, each of which wins over the one before:

1. a key in `wsgiserver.toml`, or in the table `[tool.wsgiserver]` of `pyproject.toml`, in the
   folder where the server is started; if both are there, `wsgiserver.toml` counts alone.
   `-c FILE`, or the variable `{ENVIRON_PREFIX}CONFIG`, names another file instead;
2. an environment variable;
3. a flag on the command line;
4. from Python, a keyword argument: `WSGIServer(app, threads=8)`. No file, variable or command
   line is read then.

A list replaces the list of a weaker source; it is not added to it. In a file it is an array
(`bind = ["127.0.0.1:8000", "[::1]:8000"]`) or a string as in a variable. A flag that takes a list
may be repeated. An unknown key or variable, or a value that cannot be used, ends the start with
one line that says where it came from.

`wsgiserver --print-config` prints every setting with its value and its source, in the form of a
file that can be used with `-c`. `wsgiserver --check-config` also loads the application.
"""

# What %(x)s stands for in a format string; gunicorn's names.
ATOMS: Final = {
    "h": "client address",
    "l": "`-`",
    "u": "user (`REMOTE_USER`)",
    "t": "time, as `[31/Dec/2026:23:59:59 +0000]`",
    "r": "request line",
    "m": "method",
    "U": "path without query",
    "q": "query",
    "H": "protocol",
    "s": "status code",
    "st": "status code and reason",
    "B": "bytes of the response body",
    "b": "the same, `-` for none",
    "f": "`Referer` field",
    "a": "`User-Agent` field",
    "T": "time taken in seconds, whole",
    "M": "in milliseconds",
    "D": "in microseconds",
    "L": "in seconds, with six decimals",
    "p": "process id",
    "{name}i": "that request field",
    "{name}o": "that response field",
    "{name}e": "that variable of the WSGI environ",
}

NOTES: Final = f"""\
## Values

- Durations are seconds, whole or not, or carry a unit: `500ms`, `90s`, `2m`, `1h`.
- Sizes are bytes or carry a unit. `k`, `M`, `G` and `KiB`, `MiB`, `GiB` are powers of 1024, `kB`,
  `MB`, `GB` powers of 1000.
- Names (worker models, log levels) may be written in any case. The worker models are
  {", ".join(f"`{name}`" for name in WORKER_MODELS)}.
- True and false are `true`, `yes`, `on`, `1` and `false`, `no`, `off`, `0`.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for group, options in groupby(OPTIONS.values(), key=lambda option: option.group):
        rows = [_row(option) for option in options]
        parts.append("\n".join([f"## {group}", "", *_HEAD, *rows]) + "\n")
    atoms = "\n".join(f"| `%({atom})s` | {meaning} |" for atom, meaning in ATOMS.items())
    return "\n".join([*parts, NOTES, f"{_ATOMS_HEAD}\n{atoms}\n"])


_HEAD: Final = (
    "| key | flag | variable | default | takes | what it does |",
    "|---|---|---|---|---|---|",
)


_ATOMS_HEAD: Final = """\
## Access log format

`common` and `combined` are those of Apache; `json` writes one object a line. In a format string:

| atom | stands for |
|---|---|"""


def _row(option: Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.all_flags)
    keys = ", ".join(f"`{key}`" for key in (option.name, *option.aliases))
    default = "none" if option.shown_default == "none" else f"`{option.shown_default}`"
    cells = (keys, flags, f"`{option.variable}`", default, option.kind.takes, option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(arguments: list[str]) -> int:
    """See the module; the exit status."""
    text = page()
    if arguments == ["--check"]:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print(f"{PAGE.name} is not current; run `python docs/generate_settings.py`")
            return 1
        return 0
    if arguments:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
