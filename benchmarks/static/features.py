"""`python -m benchmarks.static.features`: what servers of static files do, asked over a socket.

Every system that is installed is started on loopback with the same tree of files, and asked the
same questions; a cell of the table is what came over the wire.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click

from benchmarks.servers import ROOT, NotAvailable, StartError, running
from benchmarks.static.probes import (
    ABSENT,
    ROWS,
    TREES,
    UNABLE,
    Client,
    Row,
    Verdict,
    make_tree,
    no,
    partly,
)
from benchmarks.static.systems import SYSTEMS, System

PAGE: Final = ROOT / "docs" / "static.md"
BEGIN, END = "<!-- features:begin -->", "<!-- features:end -->"
# Two at a time: most of the time is waiting, and more would not show a change within a second.
_AT_ONCE: Final = 2
_START_TIMEOUT: Final = 15.0

Column = dict[str, Verdict]
"""Name of a row → what the system did."""


def examine(system: System, rows: Sequence[Row] = ROWS) -> Column:
    """Start a system in each of its modes that a row needs, and ask it what these rows ask."""
    column: Column = {}
    for mode in dict.fromkeys(row.mode for row in rows):
        column |= _ask(system, mode, [row for row in rows if row.mode == mode])
    failed = [row for row in rows if row.mode == "site" and column[row.name].word == "no"]
    if failed and "alternative" in system.modes:
        for name, verdict in _ask(system, "alternative", failed).items():
            if verdict.word == "yes":
                column[name] = partly(system.alternative)
    return {row.name: _claimed(system, row.name, column[row.name]) for row in rows}


def _ask(system: System, mode: str, rows: Iterable[Row]) -> Column:
    server = system.site if mode in TREES else system.modes.get(mode)
    if server is None:
        return {row.name: ABSENT for row in rows}
    with tempfile.TemporaryDirectory(prefix="features-") as scratch:
        top = Path(scratch)
        root = TREES.get(mode, make_tree)(top)
        cpus = os.sched_getaffinity(0)
        try:
            with running(server, str(root), cpus, start_timeout=_START_TIMEOUT) as up:
                client = Client(up.port, root, system.compress)
                return {row.name: row.probe(client) for row in rows}
        except StartError as error:
            if mode not in TREES:
                raise click.ClickException(str(error)) from error
            return {row.name: no(UNABLE) for row in rows}


def _claimed(system: System, name: str, verdict: Verdict) -> Verdict:
    """A dash for what a system lacks by design; what was seen to be there stays."""
    return ABSENT if verdict.word == "no" and name in system.without else verdict


def table(columns: Mapping[str, Column], notes: Iterable[str] = ()) -> str:
    """The table in Markdown, with what came instead as footnotes, and the notes beneath."""
    footnotes: dict[str, int] = {}

    def cell(verdict: Verdict) -> str:
        if not verdict.instead:
            return verdict.word
        number = footnotes.setdefault(verdict.instead, len(footnotes) + 1)
        return f"{verdict.word} <sup>{number}</sup>"

    names = list(next(iter(columns.values()), {}))
    lines = [
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
        *(
            f"| {name} | " + " | ".join(cell(column[name]) for column in columns.values()) + " |"
            for name in names
        ),
    ]
    if footnotes:
        lines += ["", "What came instead:", ""]
        lines += [f"{number}. {text}" for text, number in footnotes.items()]
    systems = [f"- {note}" for note in notes]
    return "\n".join([*lines, "", *systems] if systems else lines)


def write_docs(text: str, page: Path = PAGE) -> None:
    """Put the table between its two marks in the page; a page that is not there is made.

    :raises ValueError: it has not got the two marks.
    """
    old = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the table; write {BEGIN} and {END} into it")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _note(system: System) -> str:
    versions = (f"{name} {version}" for name, version in system.site.versions.items())
    return f"{', '.join(versions)}: {system.note}."


def chosen(names: str) -> list[System]:
    """Those of a list of names with commas; all for an empty one.

    :raises ValueError: a name that none has.
    """
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    known = {system.name.lower(): system for system in SYSTEMS}
    for name in wanted:
        if name not in known:
            raise ValueError(f"no system is called {name!r}; there are {', '.join(known)}")
    return [system for name, system in known.items() if not wanted or name in wanted]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--systems", default="", help="Only these, with commas: wsgiserver,nginx.")
@click.option("--write-docs", "write", is_flag=True, help="Write the table into docs/static.md.")
def main(systems: str, write: bool) -> None:
    """Ask servers of static files the same questions; print a table. Takes half a minute."""
    present, notes = [], []
    try:
        asked = chosen(systems)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--systems") from error
    for system in asked:
        try:
            system.site.check()
        except NotAvailable as reason:
            notes.append(f"{system.name}: left out, {reason}.")
        else:
            present.append(system)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        columns = dict(
            zip((each.name for each in present), pool.map(examine, present), strict=True)
        )
    notes[:0] = map(_note, present)
    notes.append(
        "static-web-server: pip and apt did not have it; not run, and so without a column."
    )
    text = table(columns, notes)
    click.echo(text)
    if write:
        try:
            write_docs(text)
        except ValueError as error:
            raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.static.features")
