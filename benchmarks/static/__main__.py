"""`python -m benchmarks.static`: compare how the project and others serve files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from benchmarks import runner
from benchmarks.measure import Settings, Step, rotated
from benchmarks.report import Run, write_static_docs
from benchmarks.servers import Server
from benchmarks.static.report import section, terminal
from benchmarks.static.servers import BASE, DECIDING, SERVERS
from benchmarks.static.site import make_site
from benchmarks.static.syscalls import USUAL as SYSCALL_SERVERS
from benchmarks.static.syscalls import count_all
from benchmarks.static.tree import USUAL as TREE_SERVERS
from benchmarks.static.tree import measure_tree
from benchmarks.static.workloads import workloads as make_workloads
from benchmarks.workloads import Workload


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@runner.options(rounds=3, seconds=2)
@click.option(
    "--peer-rounds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help=f"Rounds of those that no goal is about (all but {', '.join(sorted(DECIDING))}).",
)
@click.option(
    "--tree",
    type=click.IntRange(1, 1_000_000),
    help="Instead: start and memory of servers over this many files.",
)
@click.option(
    "--asked",
    type=click.IntRange(1, 1_000_000),
    default=20_000,
    show_default=True,
    help="With --tree: how many different files are asked for.",
)
@click.option("--syscalls", is_flag=True, help="Instead: system calls per request (strace).")
def main(
    options: runner.Options, peer_rounds: int, tree: int | None, asked: int, syscalls: bool
) -> None:
    """Measure the CPU time per request for a static file, side by side on this machine.

    Without options: 3 rounds of 2 s for nginx, epoll and threadpool with each workload, one of 1 s
    for the others; under 6 minutes. The raw samples go to benchmarks/results/ as JSON.
    """
    settings = options.settings()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # nginx's worker may be another user
        if options.load:
            _report(runner.stored(options.load), options)
        elif tree:
            chosen = runner.chosen_servers(options.servers or TREE_SERVERS, SERVERS)
            click.echo(measure_tree(chosen, folder, tree, min(asked, tree), settings))
        else:
            site = make_site(folder / "site")
            table = make_workloads(site)
            wanted = runner.chosen_workloads(options.workloads, table)
            if options.list_:
                click.echo(runner.listing(SERVERS, table))
            elif syscalls:
                chosen = runner.chosen_servers(options.servers or SYSCALL_SERVERS, SERVERS)
                click.echo(count_all(chosen, wanted, settings))
            else:
                chosen = runner.chosen_servers(options.servers, SERVERS)
                run = _run(chosen, wanted, settings, peer_rounds)
                runner.save(run, options.output)
                _report(run, options)


def _run(
    servers: Sequence[Server],
    workloads: list[Workload],
    settings: Settings,
    peer_rounds: int,
) -> Run:
    def groups(present: Sequence[Server]) -> Iterator[list[Step]]:
        return plan(present, workloads, settings, peer_rounds)

    asked = runner.Plan("benchmarks.static", servers, workloads, settings, groups)
    return runner.measured(asked, "", BASE)


def plan(
    servers: Sequence[Server],
    workloads: list[Workload],
    settings: Settings,
    peer_rounds: int,
) -> Iterator[list[Step]]:
    """A group for each round: the deciding servers, and the peers whose turn it is.

    All of a group take turns, so that what is compared ran within seconds.
    """
    brief = replace(settings, seconds=max(1, settings.seconds // 2))
    peers = [server for server in servers if server.name not in DECIDING]
    for round_ in range(settings.rounds):
        turn = {
            peer.name
            for place, peer in enumerate(peers)
            if (round_ - place) % settings.rounds < peer_rounds
        }
        now = [server for server in servers if server.name in DECIDING or server.name in turn]
        yield [
            Step(round_, server, workloads, settings if server.name in DECIDING else brief)
            for server in rotated(now, round_, settings.rounds)
        ]


def _report(run: Run, options: runner.Options) -> None:
    click.echo(terminal(run))
    if options.write_docs:
        runner.document(run, options.docs, "published-static.json", _write_section)


def _write_section(run: Run, docs: Path, draw: Callable[[Run, Path], None]) -> None:
    write_static_docs(run, section(run), docs, draw)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.static")
