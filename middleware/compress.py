"""The command `wsgiserver compress DIR`, which is `python -m middleware.compress DIR` too."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

import click

from middleware.codings import CODINGS, PACKAGES, CodingUnavailable, available
from middleware.compress_tree import MAX_SIZE, Report, compress_tree

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130  # as a shell shows SIGINT
TERMINATED: Final = 143  # and SIGTERM


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m middleware.compress") -> int:
    """Run the command with these arguments, by default those of the process.

    :returns: the exit status: 0, 1 if something could not be done, 2 for wrong use, 130 and 143
        after SIGINT and SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        status: int = _command.main(
            args=list(sys.argv[1:] if argv is None else argv),
            prog_name=prog,
            standalone_mode=False,
            windows_expand_args=False,
        )
        return status
    except click.ClickException as error:
        message = error.format_message().rstrip(".")
        click.echo(f"Error: {message}; `{prog} --help` lists the options", err=True)
    except (CodingUnavailable, OSError) as error:
        click.echo(f"Error: {error}", err=True)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return WRONG_USE


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


@click.command(
    epilog="What is up to date is left alone. What has the name of a sibling, but was not made by"
    " this command, is told and left too; then the exit status is 1.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--coding",
    "codings",
    multiple=True,
    type=click.Choice(CODINGS),
    help="Make this coding; may be repeated. [all that are installed]",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out files and folders of this name, or path below DIR; may be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Make so many at once. [one for each processor]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Make also what is up to date, and replace or remove what is in the way.",
)
@click.option("--dry-run", is_flag=True, help="Compress, but write and remove nothing.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def _command(
    folder: str,
    codings: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int | None,
    force: bool,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Put compressed siblings (.br, .zst, .gz) beside the files below DIR that gain from it."""
    for line in [] if quiet or codings else _missing():
        click.echo(line)
    with _Bar(shown=not quiet and sys.stderr.isatty()) as bar:
        report = compress_tree(
            folder,
            codings=codings or None,
            exclude=exclude,
            jobs=jobs,
            force=force,
            dry_run=dry_run,
            progress=bar.progress,
        )
    for path, reason in report.failures:
        click.echo(f"Error: {path or folder}: {reason}", err=True)
    for line in [] if quiet else _told(report, dry_run):
        click.echo(line)
    return FAILED if report.failures else 0


def _missing() -> list[str]:
    lacking = [coding for coding in CODINGS if coding not in available()]
    if not lacking:
        return []
    packages = " ".join(PACKAGES[coding] for coding in lacking)
    return [f"not installed, so not made: {', '.join(lacking)} (pip install {packages})"]


class _Bar:
    """A progress bar on the terminal, or nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._last = 0

    def __enter__(self) -> _Bar:
        return self

    def progress(self, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._bar is None:
            self._bar = click.progressbar(length=total, label="compressing", file=sys.stderr)
            self._bar.__enter__()
        self._bar.update(done - self._last)
        self._last = done

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*exc)


def _told(report: Report, dry_run: bool) -> Iterator[str]:
    for coding, made in report.made.items():
        if made.count:
            share = 100 * made.after / made.before
            yield (
                f"{coding:5}{made.count:6} made:"
                f" {_bytes(made.before)} -> {_bytes(made.after)} ({share:.1f} %)"
            )
    counts = [f"{report.kept} up to date"] if report.kept else []
    counts += [f"{report.removed} out of date and removed"] if report.removed else []
    if counts:
        yield f"siblings: {', '.join(counts)}"
    for reason, count in sorted(report.left_out.items()):
        yield f"left out: {count} {reason}"
    for path in report.too_large:
        yield _safe(f"left out, over {MAX_SIZE // 1024**2} MiB: {path}")
    for path in report.orphans:
        yield _safe(f"not removed, though what it would stand for is not there: {path}")
    done = "dry run, nothing written" if dry_run else "done"
    yield f"{done}: {report.files} files to compress, {report.seconds:.1f} seconds"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _safe(text: str) -> str:
    """The text as this terminal can show it."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
