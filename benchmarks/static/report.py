"""The report on static files: tables, whether the goals are met, and their part of the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.report import (
    Cell,
    Run,
    Table,
    as_markdown,
    as_text,
    cpu_table,
    facts_table,
    notes,
    problems,
    summarise,
)
from benchmarks.servers import PROJECT
from benchmarks.static.servers import BASE


@dataclass(frozen=True, slots=True)
class Goal:
    """The CPU time per request that a server may take with a workload, in those of nginx."""

    server: str
    workload: str
    ratio: float


_SMALL: Final = ("small", "304", "head")
GOALS: Final = (
    *(Goal(f"{PROJECT}-epoll", workload, 1.0) for workload in _SMALL),
    *(Goal(f"{PROJECT}-epoll", workload, 1.1) for workload in ("100k", "10m")),
    *(Goal(f"{PROJECT}-threadpool", workload, 1.5) for workload in _SMALL),
)


def goals_table(run: Run) -> Table:
    """A row for each goal: what was measured, what was wanted, the verdict.

    The last column is the base's largest figure by its smallest: by how much the machine varies.
    """
    cells = summarise(run.samples, run.base)
    return [
        ["goal", f"× {BASE}", "at most", "verdict", f"{BASE} by itself"],
        *(_verdict(run, goal, cells.get((goal.server, goal.workload))) for goal in GOALS),
    ]


def _verdict(run: Run, goal: Goal, cell: Cell | None) -> list[str]:
    name = f"{goal.server}, {run.titles.get(goal.workload, goal.workload)}"
    if run.base != BASE or cell is None or cell.problem or cell.unable or cell.ratio is None:
        return [name, "–", f"{goal.ratio:.2f}", "not measured", "–"]
    # Judged as it is shown: what is measured is not known to a third digit.
    met = round(cell.ratio, 2) <= goal.ratio
    verdict = "met" if met else "missed"
    return [name, f"{cell.ratio:.2f}", f"{goal.ratio:.2f}", verdict, _spread(run, goal.workload)]


def _spread(run: Run, workload: str) -> str:
    figures = [
        each.cpu_us
        for each in run.samples
        if (each.server, each.workload) == (run.base, workload) and not each.problem and each.cpu_us
    ]
    return f"1–{max(figures) / min(figures):.2f}" if figures else "–"


def figures_table(run: Run, figure: Callable[[Cell], str]) -> Table:
    """Servers by workloads: one figure of each valid cell."""
    cells = summarise(run.samples, run.base)

    def text(cell: Cell | None) -> str:
        return "–" if cell is None or cell.unable or cell.problem else figure(cell)

    return [
        ["server", *(run.titles[workload] for workload in run.workloads)],
        *(
            [server, *(text(cells.get((server, workload))) for workload in run.workloads)]
            for server in run.servers
        ),
    ]


def _rate(cell: Cell) -> str:
    return f"{cell.rate:,.0f}"


def _p99(cell: Cell) -> str:
    return f"{cell.p99_us / 1000:.2f}"


def terminal(run: Run) -> str:
    """Everything for the terminal; the verdicts last."""
    parts = []
    for heading, table in (
        (f"CPU µs per request (× {run.base})", cpu_table(run)),
        ("requests/s", figures_table(run, _rate)),
        ("p99, ms", figures_table(run, _p99)),
    ):
        parts += [heading, as_text(table), ""]
    parts += [*notes(run), *problems(run), "", as_text(goals_table(run))]
    return "\n".join(parts)


_SECTION: Final = """\
## Static files

Generated on {date}; do not edit. Run it again on your machine with

    {command}

The same way of measuring, of files in a folder of random bytes. Each request has a browser's
headers; the connections are kept. The base is **{base}**. {deciding} are measured in every round
and take turns workload by workload; the others take their turn in one round, for half as long.
Before it is measured, each server must give the right answer twice on one connection (status,
length, every byte); a dash says that it does not, or was not measured. While it is measured, the
mean size of the answers must stay that of the checked one.

![CPU time per request by server and kind of request](img/benchmarks-static.svg)

### Goals

The last column says by how much the figures of {base} itself differ from round to round; a ratio
is known no better than that allows. Ten mebibytes are the kernel's copying, which varies most.

{goals}

### CPU time per request for a file, microseconds

{cpu}

{notes}

### Requests per second for a file

{rate}

### 99th percentile of the latency for a file, milliseconds

{p99}

### Machine and versions for files

{facts}
"""


def section(run: Run) -> str:
    """The part of docs/benchmarks.md."""
    return _SECTION.format(
        date=run.date,
        command=run.command,
        base=run.base,
        deciding=f"{BASE}, {PROJECT}-epoll and {PROJECT}-threadpool",
        goals=as_markdown(goals_table(run)),
        cpu=as_markdown(cpu_table(run)),
        notes="\n".join(f"- {line}" for line in [*notes(run), *problems(run)]),
        rate=as_markdown(figures_table(run, _rate)),
        p99=as_markdown(figures_table(run, _p99)),
        facts=facts_table(run),
    )
