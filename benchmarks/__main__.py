"""`python -m benchmarks`: compare the project with the peers installed beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from benchmarks import runner
from benchmarks.measure import Step, steps
from benchmarks.report import terminal, write_docs
from benchmarks.servers import PROJECT, SERVERS, Server
from benchmarks.workloads import WORKLOADS

_BASE: Final = f"{PROJECT}-epoll"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@runner.options(rounds=5, seconds=3)
@click.option("--base", default="", help=f"What ratios refer to; default: {_BASE}.")
def main(
    servers: str,
    workloads: str,
    rounds: int,
    seconds: int,
    connections: int,
    base: str,
    quick: bool,
    server_cpu: int | None,
    load_cpu: int | None,
    output: Path | None,
    write_docs: bool,
    docs: Path,
    load: Path | None,
    list_: bool,
) -> None:
    """Measure the CPU time per request of WSGI servers, side by side on this machine.

    Without options: 5 rounds of 3 s for each server and workload, about 25 minutes. The raw
    samples go to benchmarks/results/ as JSON.
    """
    if list_:
        click.echo(runner.listing(SERVERS, WORKLOADS))
        return
    if load:
        run = runner.stored(load)
    else:
        settings = runner.settings(rounds, seconds, connections, quick, server_cpu, load_cpu)
        chosen = runner.chosen_workloads(workloads, WORKLOADS)

        def one_by_one(present: Sequence[Server]) -> Iterator[list[Step]]:
            return ([step] for step in steps(present, chosen, settings))

        plan = runner.Plan(
            "benchmarks",
            runner.chosen_servers(servers, SERVERS),
            chosen,
            settings,
            one_by_one,
        )
        run = runner.measured(plan, base, _BASE)
        runner.save(run, output)
    click.echo(terminal(run))
    if write_docs:
        runner.document(run, docs, "published.json", _write_docs)


_write_docs = write_docs  # the option has the name of the function


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
