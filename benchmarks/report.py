"""From samples to what people read: medians, ratios, tables, docs/benchmarks.md, and the JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import Sample

_NONE: Final = "–"


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run, as it is stored: what was asked, on what machine, and every sample.

    machine, versions: label → value; left_out: server → why; base: the server that ratios refer to.
    notes: server → what to know of it; titles: workload → its heading; both in the tables' order.
    """

    date: str
    command: str
    base: str
    machine: dict[str, str]
    versions: dict[str, str]
    left_out: dict[str, str]
    notes: dict[str, str]
    titles: dict[str, str]
    samples: list[Sample]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote.

        :raises ValueError: the file holds something else.
        """
        try:
            raw = json.loads(path.read_text())
            return cls(**{**raw, "samples": [Sample(**sample) for sample in raw["samples"]]})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} does not hold a run of the benchmarks: {error}") from error

    @property
    def servers(self) -> list[str]:
        """The measured servers, in the order of the table of servers."""
        measured = {sample.server for sample in self.samples}
        return [name for name in self.notes if name in measured]

    @property
    def workloads(self) -> list[str]:
        """The measured workloads, in the order of the table of workloads."""
        measured = {sample.workload for sample in self.samples}
        return [name for name in self.titles if name in measured]


@dataclass(frozen=True, slots=True)
class Cell:
    """A server under a workload over all rounds: medians, and what went wrong.

    low, high: the smallest and largest CPU time of a round. ratio: the median over the rounds of
    this server's CPU time divided by the base's in the same round, None where none can be formed.
    """

    cpu_us: float
    low: float
    high: float
    ratio: float | None
    rate: float
    p50_us: float
    p99_us: float
    connections: int
    problem: str
    unable: str


def summarise(samples: Sequence[Sample], base: str) -> dict[tuple[str, str], Cell]:
    """(server, workload) → its cell.

    One round with a problem spoils the cell: errors are cheap to serve, so such a figure misleads.
    """
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.server, sample.workload), []).append(sample)
    return {
        (server, workload): _cell(group, groups.get((base, workload), []))
        for (server, workload), group in groups.items()
    }


def _cell(group: list[Sample], base: list[Sample]) -> Cell:
    bases = {each.round: each.cpu_us for each in base if not each.problem and each.cpu_us}
    ratios = [
        each.cpu_us / bases[each.round] for each in group if each.round in bases and not each.unable
    ]
    cpu = [each.cpu_us for each in group]
    return Cell(
        cpu_us=statistics.median(cpu),
        low=min(cpu),
        high=max(cpu),
        ratio=statistics.median(ratios) if ratios else None,
        rate=statistics.median(each.rate for each in group),
        p50_us=statistics.median(each.p50_us for each in group),
        p99_us=statistics.median(each.p99_us for each in group),
        connections=group[0].connections,
        problem=next((f"round {s.round + 1}: {s.problem}" for s in group if s.problem), ""),
        unable=next((sample.unable for sample in group if sample.unable), ""),
    )


# --- tables ---------------------------------------------------------------------------------------

Table = list[list[str]]  # the first row is the head


def cpu_table(run: Run) -> Table:
    """Servers by workloads: CPU µs per request, and its ratio to the base's."""
    cells = summarise(run.samples, run.base)
    rows = [
        [server, *(_cpu(cells.get((server, workload))) for workload in run.workloads)]
        for server in run.servers
    ]
    return [["server", *(run.titles[workload] for workload in run.workloads)], *rows]


def _cpu(cell: Cell | None) -> str:
    if cell is None or cell.unable:
        return _NONE
    if cell.problem:
        return "invalid"
    ratio = f" (×{cell.ratio:.2f})" if cell.ratio is not None else ""
    return f"{figure_text(cell.cpu_us)}{ratio}"


def figure_text(value: float) -> str:
    """Microseconds with as many digits as mean something."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def detail_table(run: Run, workload: str) -> Table:
    """One workload: CPU with its spread, requests per second, latencies, problems."""
    cells = summarise(run.samples, run.base)
    head = ["server", "CPU µs/request", "range", "× base", "requests/s", "p50 ms", "p99 ms"]
    rows = [
        [server, *_details(cells[server, workload])]
        for server in run.servers
        if (server, workload) in cells
    ]
    return [head, *rows]


def _details(cell: Cell) -> list[str]:
    if cell.unable:
        return [_NONE] * 6
    if cell.problem:
        return ["invalid", *[_NONE] * 5]
    return [
        figure_text(cell.cpu_us),
        f"{figure_text(cell.low)}–{figure_text(cell.high)}",
        _NONE if cell.ratio is None else f"{cell.ratio:.2f}",
        f"{cell.rate:,.0f}",
        f"{cell.p50_us / 1000:.2f}",
        f"{cell.p99_us / 1000:.2f}",
    ]


def as_text(table: Table) -> str:
    """For the terminal: columns padded, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *rest in table:
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """A GitHub table, figures to the right."""
    head, *rows = table
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def problems(run: Run) -> list[str]:
    """A line for what must not be compared, and for what a server is unable to do; with reasons."""
    invalid: dict[tuple[str, str], list[str]] = {}
    unable: dict[str, list[str]] = {}
    for (server, workload), cell in summarise(run.samples, run.base).items():
        if cell.unable:
            unable.setdefault(server, []).append(cell.unable)
        elif cell.problem:
            invalid.setdefault((server, cell.problem), []).append(workload)
    return [
        *(
            f"{server}, {', '.join(names)}: invalid, {why}"
            for (server, why), names in invalid.items()
        ),
        *(f"{server}, {_NONE}: {'; '.join(reasons)}." for server, reasons in unable.items()),
    ]


def notes(run: Run) -> list[str]:
    """A line for each measured server that has something to know, and each that was left out."""
    known = [f"{name}: {run.notes[name]}." for name in run.servers if run.notes[name]]
    return known + [f"{name}: left out, {why}." for name, why in run.left_out.items()]


def terminal(run: Run) -> str:
    """Everything for the terminal."""
    parts = [f"CPU µs per request (× {run.base})", as_text(cpu_table(run))]
    for workload in run.workloads:
        parts += ["", run.titles[workload], as_text(detail_table(run, workload))]
    parts += ["", *notes(run), *problems(run)]
    return "\n".join(parts).rstrip()


# --- docs/benchmarks.md ---------------------------------------------------------------------------

_INTRODUCTION: Final = """\
# Benchmarks

Generated on {date}; do not edit. Run it again on your machine with

    {command}

Only figures of one run can be compared, and only their ratios carry over to another machine.

The server is pinned to one CPU and the load generator ([wrk](https://github.com/wg/wrk), one
thread) to another. The servers take turns over several rounds, in another order each time. What
counts is the CPU time that the whole tree of the server's processes spends for a request, user and
system: it is steadier than requests per second when the machine is shared. Each figure is the
median over the rounds; the ratio (×) is the median of each round's ratio to the base of the same
round, **{base}**. Before it is measured, each server must give the right answer; a cell with a
single failed request is `invalid`. Access logs are off everywhere.

![CPU time per request by server and workload](img/benchmarks.svg)

## CPU time per request, microseconds

{table}

{notes}
"""


def markdown(run: Run) -> str:
    """docs/benchmarks.md."""
    parts = [
        _INTRODUCTION.format(
            command=run.command,
            date=run.date,
            base=run.base,
            table=as_markdown(cpu_table(run)),
            notes="\n".join(f"- {line}" for line in [*notes(run), *problems(run)]),
        ),
        "## Throughput and latency\n",
    ]
    for workload in run.workloads:
        heading = run.titles[workload]
        table = as_markdown(detail_table(run, workload))
        parts.append(f"### {heading[0].upper()}{heading[1:]}\n\n{table}\n")
    parts.append(f"## Machine and versions\n\n{facts_table(run)}")
    return "\n".join(parts) + "\n"


def facts_table(run: Run) -> str:
    """What the figures depend on, as Markdown."""
    facts = {**run.machine, "Date": run.date, "Command": f"`{run.command}`", **run.versions}
    return as_markdown([["", "value"], *map(list, facts.items())])


# What follows it in benchmarks.md is the other command's.
_BORDER: Final = "<!-- What follows is written by `python -m benchmarks.static --write-docs`. -->\n"


def write_docs(run: Run, folder: Path, draw: Callable[[Run, Path], None]) -> None:
    """Write benchmarks.md but its part on static files, and img/benchmarks.*, to a folder.

    draw: takes a path without suffix.
    """
    _, static = _parts(folder)
    _write(folder, markdown(run), static)
    draw(run, folder / "img" / "benchmarks")


def write_static_docs(run: Run, text: str, folder: Path, draw: Callable[[Run, Path], None]) -> None:
    """Write the part of benchmarks.md on static files, and img/benchmarks-static.*, to a folder."""
    first, _ = _parts(folder)
    _write(folder, first, text)
    draw(run, folder / "img" / "benchmarks-static")


def _parts(folder: Path) -> tuple[str, str]:
    page = folder / "benchmarks.md"
    first, _, static = (page.read_text() if page.exists() else "").partition(_BORDER)
    return first, static


def _write(folder: Path, first: str, static: str) -> None:
    (folder / "img").mkdir(parents=True, exist_ok=True)
    parts = [part.strip() + "\n" for part in (first, _BORDER if static else "", static) if part]
    (folder / "benchmarks.md").write_text("\n".join(parts))
