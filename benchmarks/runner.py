"""What the commands have in common: their options, the progress of a run, and its report."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.machine import default_cpus, describe
from benchmarks.measure import LoadError, Sample, Settings, Step, measure_app, require_wrk
from benchmarks.measure import wrk_version as wrk
from benchmarks.report import Run
from benchmarks.servers import HERE, ROOT, NotAvailable, Server, choose
from benchmarks.workloads import Workload

RESULTS: Final = HERE / "results"
# A 1-minute load average above this means that others compete for the CPUs.
_QUIET: Final = 0.5


# --- options --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """What the options of every comparison say; each has the name of its option."""

    servers: str
    workloads: str
    rounds: int
    seconds: int
    connections: int
    quick: bool
    server_cpu: int | None
    load_cpu: int | None
    output: Path | None
    write_docs: bool
    docs: Path
    load: Path | None
    list_: bool

    def settings(self) -> Settings:
        """How it is measured. Raises click.BadParameter for a CPU that there is not."""
        own_server, own_load = default_cpus()
        return Settings(
            rounds=1 if self.quick else self.rounds,
            seconds=1 if self.quick else self.seconds,
            connections=self.connections,
            server_cpu=_cpu("--server-cpu", self.server_cpu, own_server),
            load_cpu=_cpu("--load-cpu", self.load_cpu, own_load),
            warm_up=not self.quick,
        )


def options(rounds: int, seconds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every comparison, with these defaults; a command takes them as `Options`."""
    path = click.Path(dir_okay=False, path_type=Path)
    existing = click.Path(exists=True, dir_okay=False, path_type=Path)
    several = click.IntRange(1, 1000)
    all_ = (
        click.option("--servers", default="", help="Names or families, with commas; all: every."),
        click.option("--workloads", default="", help="Names, with commas; see --list."),
        click.option("--rounds", type=several, default=rounds, show_default=True),
        click.option("--seconds", type=click.IntRange(1, 600), default=seconds, show_default=True),
        click.option("--connections", type=click.IntRange(1, 10000), default=64, show_default=True),
        click.option("--quick", is_flag=True, help="A smoke run: 1 round of 1 s, no warm-up."),
        click.option("--server-cpu", type=int, help="Default: the last this process may use."),
        click.option("--load-cpu", type=int, help="Default: the first this process may use."),
        click.option("--output", type=path, help="For the raw samples, instead of results/."),
        click.option("--write-docs", is_flag=True, help="Write the part of benchmarks.md."),
        click.option(
            "--docs",
            type=click.Path(path_type=Path),
            default=ROOT / "docs",
            help="Instead of docs/.",
        ),
        click.option("--load", type=existing, help="Measure nothing; report this stored run."),
        click.option("--list", "list_", is_flag=True, help="List servers and workloads, and exit."),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def gathering(**given: Any) -> None:
            common = {each.name: given.pop(each.name) for each in fields(Options)}
            command(Options(**common), **given)

        wrapped: Callable[..., None] = gathering
        for option in reversed(all_):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _cpu(option: str, given: int | None, own: int) -> int:
    allowed = sorted(os.sched_getaffinity(0))
    if given is not None and given not in allowed:
        raise click.BadParameter(f"{given} is none of the CPUs {allowed}", param_hint=option)
    return own if given is None else given


def chosen_servers(names: str, table: Mapping[str, Server]) -> list[Server]:
    """What --servers asks for."""
    try:
        return choose(names, table)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--servers") from error


def chosen_workloads(names: str, table: Mapping[str, Workload]) -> list[Workload]:
    """What --workloads asks for, in the table's order."""
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(table)
    for name in wanted:
        if name not in table:
            raise click.BadParameter(
                f"no workload is called {name!r}; there are {', '.join(table)}",
                param_hint="--workloads",
            )
    return [workload for workload in table.values() if workload.name in wanted]


def listing(servers: Mapping[str, Server], workloads: Mapping[str, Workload]) -> str:
    """What --list prints."""
    lines = ["servers:"]
    for server in servers.values():
        facts = [] if server.default else ["only by name"]
        facts += [server.note] if server.note else []
        try:
            server.check()
        except NotAvailable as error:
            facts.append(str(error))
        lines.append(f"  {server.name:24}{'; '.join(facts)}".rstrip())
    lines.append("workloads:")
    return "\n".join(lines + [f"  {each.name:24}{each.title}" for each in workloads.values()])


# --- a run ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command measures.

    steps: of servers that can be started here → groups; the steps of a group take turns workload
    by workload, one group after the other.
    """

    module: str
    servers: Sequence[Server]
    workloads: Sequence[Workload]
    settings: Settings
    steps: Callable[[Sequence[Server]], Iterable[Sequence[Step]]]


def measured(plan: Plan, base: str, usual_base: str) -> Run:
    """Measure, with a line of progress for each step on standard error.

    base: the server that ratios refer to; empty for the usual one.
    """
    try:
        require_wrk()
    except LoadError as error:
        raise click.ClickException(str(error)) from error
    present, left_out = available(plan.servers)
    base = _base(base, usual_base, [server.name for server in present])
    if plan.settings.server_cpu == plan.settings.load_cpu:
        click.echo("warning: the servers and the load share one CPU; latencies mislead", err=True)
    busy = os.getloadavg()[0]
    if busy > _QUIET:
        click.echo(f"warning: the machine is busy (load {busy:.1f}); figures will vary", err=True)
    versions = {name: text for server in present for name, text in server.versions.items()}
    return Run(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        command=shlex.join(["python", "-m", plan.module, *sys.argv[1:]]),
        base=base,
        machine={**describe(), "Load average at the start": f"{busy:.1f}"},
        versions={**versions, "wrk": wrk()},
        left_out=left_out,
        notes={server.name: server.note for server in present},
        titles={workload.name: workload.title for workload in plan.workloads},
        samples=list(_progress([list(group) for group in plan.steps(present)])),
    )


def _base(asked: str, usual: str, present: Sequence[str]) -> str:
    """The server that ratios refer to: the one asked for, or the usual one, or the first one."""
    if not present:
        raise click.ClickException("none of these servers can be measured here")
    if asked and asked not in present:
        raise click.BadParameter(f"{asked!r} is not measured", param_hint="--base")
    return asked or (usual if usual in present else present[0])


def available(servers: Sequence[Server]) -> tuple[list[Server], dict[str, str]]:
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


def _progress(groups: Sequence[Sequence[Step]]) -> Iterator[Sample]:
    total, done = sum(len(step.workloads) for group in groups for step in group), 0
    try:
        for group in groups:
            for sample in in_turn(group):
                done += 1
                click.echo(f"[{done:{len(str(total))}}/{total}] {_line(sample)}", err=True)
                yield sample
    except KeyboardInterrupt:
        if not done:
            raise
        click.echo(f"interrupted: the report has {done} of {total} samples", err=True)


def in_turn(group: Sequence[Step]) -> Iterator[Sample]:
    """The samples of several servers: all with the first workload, all with the second one, ...

    Each starts before its first sample and runs until the last one of all.
    """
    with ExitStack() as stack:
        measurements = [
            stack.enter_context(
                closing(measure_app(step.server, step.workloads, step.settings, step.round))
            )
            for step in group
        ]
        for samples in zip(*measurements, strict=True):
            yield from samples


def _line(sample: Sample) -> str:
    figures = (
        sample.unable
        or sample.problem
        or f"{sample.cpu_us:.1f} µs, {sample.rate:,.0f}/s, p99 {sample.p99_us / 1000:.2f} ms"
    )
    return f"round {sample.round + 1}  {sample.server:24}{sample.workload:9}{figures}"


# --- its end --------------------------------------------------------------------------------------


def stored(path: Path) -> Run:
    """What --load names."""
    try:
        return Run.load(path)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--load") from error


def save(run: Run, output: Path | None) -> None:
    """Keep the raw samples: in `output`, or under a name of its own in results/."""
    path = output or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    run.save(path)
    click.echo(f"\nraw samples: {os.path.relpath(path)}", err=True)


def document(
    run: Run,
    docs: Path,
    published: str,
    write: Callable[[Run, Path, Callable[[Run, Path], None]], None],
) -> None:
    """Write a run's part of the documentation; if that is the project's, also store the run."""
    try:
        from benchmarks.plot import draw
    except ImportError as error:
        raise click.ClickException(f"--write-docs needs matplotlib: {error}") from error
    write(run, docs, draw)
    if docs == ROOT / "docs":
        run.save(RESULTS / published)
    click.echo(f"\nwritten: {os.path.relpath(docs / 'benchmarks.md')} and its plots", err=True)
