"""From samples to what people read: medians, ratios, tables, docs/benchmarks.md, and the JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import Sample
from benchmarks.servers import SERVERS
from benchmarks.workloads import WORKLOADS

_NONE: Final = "–"


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run, as it is stored: what was asked, on what machine, and every sample.

    machine, versions: label → value; left_out: server → why; base: the server that ratios refer to.
    """

    date: str
    command: str
    base: str
    machine: dict[str, str]
    versions: dict[str, str]
    left_out: dict[str, str]
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
        return _in_order({sample.server for sample in self.samples}, SERVERS)

    @property
    def workloads(self) -> list[str]:
        """The measured workloads, in the order of the table of workloads."""
        return _in_order({sample.workload for sample in self.samples}, WORKLOADS)


def _in_order(names: set[str], known: Iterable[str]) -> list[str]:
    """Known names in their order, then others (of an older stored run)."""
    order = list(known)
    return [name for name in order if name in names] + sorted(names - set(order))


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
    ratios = [each.cpu_us / bases[each.round] for each in group if each.round in bases]
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
    )


# --- tables ---------------------------------------------------------------------------------------

Table = list[list[str]]  # the first row is the head


def title(workload: str) -> str:
    """A workload's heading; the name itself for one that is no longer known."""
    return WORKLOADS[workload].title if workload in WORKLOADS else workload


def cpu_table(run: Run) -> Table:
    """Servers by workloads: CPU µs per request, and its ratio to the base's."""
    cells = summarise(run.samples, run.base)
    rows = [
        [server, *(_cpu(cells.get((server, workload))) for workload in run.workloads)]
        for server in run.servers
    ]
    return [["server", *map(title, run.workloads)], *rows]


def _cpu(cell: Cell | None) -> str:
    if cell is None:
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
    """A line for each cell that must not be compared, with its first problem."""
    return [
        f"{server}, {workload}: invalid, {cell.problem}"
        for (server, workload), cell in summarise(run.samples, run.base).items()
        if cell.problem
    ]


def notes(run: Run) -> list[str]:
    """A line for each measured server that has something to know, and each that was left out."""
    known = [f"{n}: {SERVERS[n].note}." for n in run.servers if n in SERVERS and SERVERS[n].note]
    return known + [f"{name}: left out, {why}." for name, why in run.left_out.items()]


def terminal(run: Run) -> str:
    """Everything for the terminal."""
    parts = [f"CPU µs per request (× {run.base})", as_text(cpu_table(run))]
    for workload in run.workloads:
        parts += ["", title(workload), as_text(detail_table(run, workload))]
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
        heading = title(workload)
        table = as_markdown(detail_table(run, workload))
        parts.append(f"### {heading[0].upper()}{heading[1:]}\n\n{table}\n")
    facts = {**run.machine, "Date": run.date, "Command": f"`{run.command}`", **run.versions}
    table = as_markdown([["", "value"], *map(list, facts.items())])
    parts.append(f"## Machine and versions\n\n{table}")
    return "\n".join(parts) + "\n"


def write_docs(run: Run, folder: Path, draw: Callable[[Run, Path], None]) -> None:
    """Write benchmarks.md and img/benchmarks.* to a folder; `draw` takes a path without suffix."""
    images = folder / "img"
    images.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(markdown(run))
    draw(run, images / "benchmarks")
