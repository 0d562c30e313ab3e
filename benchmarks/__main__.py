"""`python -m benchmarks`: compare the project with the peers installed beside it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.machine import default_cpus, describe
from benchmarks.measure import (
    LoadError,
    Sample,
    Settings,
    measure_app,
    require_wrk,
    steps,
    wrk_version,
)
from benchmarks.report import Run, terminal, write_docs
from benchmarks.servers import HERE, PROJECT, ROOT, SERVERS, NotAvailable, Server, choose
from benchmarks.workloads import WORKLOADS, Workload

_RESULTS = HERE / "results"
# A 1-minute load average above this means that others compete for the CPUs.
_QUIET = 0.5
_BASE = f"{PROJECT}-epoll"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--servers", default="", help="Names or families, with commas; all: every one.")
@click.option("--workloads", default="", help=f"Of {', '.join(WORKLOADS)}, with commas.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True)
@click.option("--connections", type=click.IntRange(1, 10000), default=64, show_default=True)
@click.option("--base", default="", help=f"What ratios refer to; default: {_BASE}.")
@click.option("--quick", is_flag=True, help="A smoke run: 1 round of 1 second, no warm-up.")
@click.option("--server-cpu", type=int, help="Default: the last this process may use.")
@click.option("--load-cpu", type=int, help="Default: the first this process may use.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the raw samples go; default: benchmarks/results/DATE-TIME.json.",
)
@click.option("--write-docs", is_flag=True, help="Write benchmarks.md and its plots to docs/.")
@click.option(
    "--docs", type=click.Path(path_type=Path), default=ROOT / "docs", help="Instead of docs/."
)
@click.option(
    "--load",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing; report this stored run.",
)
@click.option("--list", "list_", is_flag=True, help="List servers and workloads, and exit.")
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
        click.echo(_listing())
    elif load:
        _report(_stored(load), write_docs, docs)
    else:
        own_server, own_load = default_cpus()
        settings = Settings(
            rounds=1 if quick else rounds,
            seconds=1 if quick else seconds,
            connections=connections,
            server_cpu=_cpu("--server-cpu", server_cpu, own_server),
            load_cpu=_cpu("--load-cpu", load_cpu, own_load),
            warm_up=not quick,
        )
        run = _measured(_chosen_servers(servers), _chosen_workloads(workloads), base, settings)
        path = output or _RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
        run.save(path)
        _report(run, write_docs, docs)
        click.echo(f"\nraw samples: {os.path.relpath(path)}")


def _listing() -> str:
    lines = ["servers:"]
    for server in SERVERS.values():
        facts = [] if server.default else ["only by name"]
        facts += [server.note] if server.note else []
        try:
            server.check()
        except NotAvailable as error:
            facts.append(str(error))
        lines.append(f"  {server.name:24}{'; '.join(facts)}".rstrip())
    lines.append("workloads:")
    return "\n".join(lines + [f"  {each.name:24}{each.title}" for each in WORKLOADS.values()])


def _stored(path: Path) -> Run:
    try:
        return Run.load(path)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--load") from error


def _cpu(option: str, given: int | None, own: int) -> int:
    allowed = sorted(os.sched_getaffinity(0))
    if given is not None and given not in allowed:
        raise click.BadParameter(f"{given} is none of the CPUs {allowed}", param_hint=option)
    return own if given is None else given


def _chosen_servers(names: str) -> list[Server]:
    try:
        return choose(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--servers") from error


def _chosen_workloads(names: str) -> list[Workload]:
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(WORKLOADS)
    for name in wanted:
        if name not in WORKLOADS:
            raise click.BadParameter(
                f"no workload is called {name!r}; there are {', '.join(WORKLOADS)}",
                param_hint="--workloads",
            )
    return [workload for workload in WORKLOADS.values() if workload.name in wanted]


def _measured(
    servers: Sequence[Server], workloads: Sequence[Workload], base: str, settings: Settings
) -> Run:
    """Measure, with a line of progress for each step on standard error."""
    _require_tools()
    present, left_out = _available(servers)
    base = _base(base, [server.name for server in present])
    if settings.server_cpu == settings.load_cpu:
        click.echo("warning: the servers and the load share one CPU; latencies mislead", err=True)
    busy = os.getloadavg()[0]
    if busy > _QUIET:
        click.echo(f"warning: the machine is busy (load {busy:.1f}); figures will vary", err=True)
    versions = {server.package: server.version for server in present if server.package}
    return Run(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        base=base,
        machine={**describe(), "Load average at the start": f"{busy:.1f}"},
        versions={**versions, "wrk": wrk_version()},
        left_out=left_out,
        samples=list(_progress(present, workloads, settings)),
    )


def _base(asked: str, present: Sequence[str]) -> str:
    """The server that ratios refer to: the one asked for, or `_BASE`, or the first one."""
    if not present:
        raise click.ClickException("none of these servers can be measured here")
    if asked and asked not in present:
        raise click.BadParameter(f"{asked!r} is not measured", param_hint="--base")
    return asked or (_BASE if _BASE in present else present[0])


def _require_tools() -> None:
    try:
        require_wrk()
    except LoadError as error:
        raise click.ClickException(str(error)) from error


def _available(servers: Sequence[Server]) -> tuple[list[Server], dict[str, str]]:
    """Those that can be measured here, and name → reason for the others."""
    present: list[Server] = []
    left_out: dict[str, str] = {}
    for server in servers:
        try:
            server.check()
        except NotAvailable as error:
            left_out[server.name] = str(error)
            click.echo(f"{server.name}: left out: {error}", err=True)
        else:
            present.append(server)
    return present, left_out


def _progress(
    servers: Sequence[Server], workloads: Sequence[Workload], settings: Settings
) -> Iterator[Sample]:
    plan = list(steps(servers, workloads, settings.rounds))
    total, done = sum(len(group) for _, _, group in plan), 0
    try:
        for round_, server, group in plan:
            for sample in measure_app(server, group, settings, round_):
                done += 1
                click.echo(f"[{done:{len(str(total))}}/{total}] {_line(sample)}", err=True)
                yield sample
    except KeyboardInterrupt:
        if not done:
            raise
        click.echo(f"interrupted: the report has {done} of {total} samples", err=True)


def _line(sample: Sample) -> str:
    figures = sample.problem or (
        f"{sample.cpu_us:.1f} µs, {sample.rate:,.0f}/s, p99 {sample.p99_us / 1000:.2f} ms"
    )
    return f"round {sample.round + 1}  {sample.server:24}{sample.workload:9}{figures}"


def _report(run: Run, docs_wanted: bool, docs: Path) -> None:
    click.echo(terminal(run))
    if not docs_wanted:
        return
    try:
        from benchmarks.plot import draw
    except ImportError as error:
        raise click.ClickException(f"--write-docs needs matplotlib: {error}") from error
    write_docs(run, docs, draw)
    if docs == ROOT / "docs":
        run.save(_RESULTS / "published.json")
    click.echo(f"\nwritten: {os.path.relpath(docs / 'benchmarks.md')} and its plots")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
