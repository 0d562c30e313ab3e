"""`python -m benchmarks`: compare the project with the peers installed beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
def main(options: runner.Options, base: str) -> None:
    """Measure the CPU time per request of WSGI servers, side by side on this machine.

    Without options: 5 rounds of 3 s for each server and workload, about 25 minutes. The raw
    samples go to benchmarks/results/ as JSON.
    """
    if options.list_:
        click.echo(runner.listing(SERVERS, WORKLOADS))
        return
    if options.load:
        run = runner.stored(options.load)
    else:
        settings = options.settings()
        chosen = runner.chosen_workloads(options.workloads, WORKLOADS)

        def one_by_one(present: Sequence[Server]) -> Iterator[list[Step]]:
            return ([step] for step in steps(present, chosen, settings))

        plan = runner.Plan(
            "benchmarks",
            runner.chosen_servers(options.servers, SERVERS),
            chosen,
            settings,
            one_by_one,
        )
        run = runner.measured(plan, base, _BASE)
        runner.save(run, options.output)
    click.echo(terminal(run))
    if options.write_docs:
        runner.document(run, options.docs, "published.json", write_docs)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
