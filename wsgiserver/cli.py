"""The command `wsgiserver`: from arguments, environment and file to a running server.

Exit status: 0 stopped as asked, 1 an address cannot be had, 2 a wrong setting, 3 an application
that cannot be loaded, 4 workers that do not come up; or what the first of them ended with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from wsgiserver import __version__
from wsgiserver.config import ENVIRON_PREFIX, OPTIONS, Config, ConfigError, Option, load, show
from wsgiserver.options import did_you_mean

if TYPE_CHECKING:
    from wsgiserver.context import WSGIApplication

NOT_BOUND: Final = 1
NOT_CONFIGURED: Final = 2
NOT_LOADED: Final = 3
NOT_STARTED: Final = 4
INTERRUPTED: Final = 130  # as a shell shows SIGINT

_SEE_HELP: Final = "; `wsgiserver --help` lists the options"
_DEFAULT_ROOT: Final = "html"
# A first word that is a command of its own; an application of that name is `compress:app`.
_COMPRESS: Final = "compress"
_NOTHING_TO_SERVE: Final = (
    "nothing to serve; type `wsgiserver module:app` for an application, or "
    "`wsgiserver --documents-root FOLDER` for files"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process.

    :returns: the exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [_COMPRESS]:
        return _compress(words[1:])
    try:
        asked = _command().main(
            args=words,
            prog_name="wsgiserver",
            standalone_mode=False,
            windows_expand_args=False,
        )
        return _run(asked) if isinstance(asked, Asked) else 0  # --help and --version are done
    except click.NoSuchOption as error:
        flags = [flag for param in _command().params for flag in param.opts if flag[:2] == "--"]
        near = did_you_mean(error.option_name, flags) or _SEE_HELP
        return _fail(f"{error.option_name}: there is no such option{near}", NOT_CONFIGURED)
    except click.ClickException as error:
        return _fail(error.format_message().rstrip(".") + _SEE_HELP, NOT_CONFIGURED)
    except ConfigError as error:
        return _fail(str(error), NOT_CONFIGURED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED


def _compress(words: list[str]) -> int:
    """`wsgiserver compress DIR`: the command of middleware/compress.py."""
    from wsgiserver.app import middleware_module

    compress = middleware_module("middleware.compress")
    status: int = compress.main(words, prog=f"wsgiserver {_COMPRESS}")
    return status


def _fail(message: str, status: int) -> int:
    click.echo(f"Error: {message}", err=True)
    return status


# --- the arguments --------------------------------------------------------------------------------


class Asked(NamedTuple):
    """What the command line says; `given` has the values by option name, as they were typed."""

    given: Mapping[str, Any]
    file: str | None
    check: bool
    show: bool


class _Command(click.Command):
    """A command whose help shows the options in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            option = OPTIONS.get(param.name or "")
            if record is not None:
                groups.setdefault(option.group if option else "This command", []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def _command() -> click.Command:
    parameters: list[click.Parameter] = [
        _parameter(option) for option in OPTIONS.values() if option.name != "app"
    ]
    return _Command(
        "wsgiserver",
        params=[click.Argument(["app"], required=False), *parameters, *_OWN_OPTIONS],
        callback=_asked,
        help=f"Serve a WSGI application over HTTP/1.1.\n\n{_plain(OPTIONS['app'].help)}",
        epilog=(
            f"Every option can also be given as an environment variable ({ENVIRON_PREFIX}THREADS) "
            "or a key in wsgiserver.toml or [tool.wsgiserver] in pyproject.toml (threads); the "
            "command line wins over the environment, and that over the file. "
            "wsgiserver compress DIR is a command of its own: it makes compressed siblings of "
            "the files of a site."
        ),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


_OWN_OPTIONS: Final = (
    click.Option(
        ["-c", "--config", "file"],
        metavar="FILE",
        help="Read the settings from this TOML file.",
        envvar=ENVIRON_PREFIX + "CONFIG",
    ),
    click.Option(
        ["--check-config", "check"],
        is_flag=True,
        help="Check the settings, load the application and exit.",
    ),
    click.Option(
        ["--print-config", "show"],
        is_flag=True,
        help="Print every setting, its value and its source, and exit.",
    ),
    click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=lambda ctx, param, value: _print_version(ctx) if value else None,
        help="Print the version and exit.",
    ),
)


def _parameter(option: Option) -> click.Option:
    choices = f" One of {option.kind.takes}." if option.kind.metavar == "NAME" else ""
    text = _plain(f"{option.help}{choices} [{option.shown_default}]")
    if option.is_flag:
        return click.Option(["/".join(option.all_flags), option.name], default=None, help=text)
    return click.Option(
        [*option.all_flags, option.name],
        metavar=option.kind.metavar,
        multiple=option.kind.many,
        help=text,
    )


def _plain(text: str) -> str:
    return text.replace("`", "")


def _print_version(ctx: click.Context) -> None:
    click.echo(f"wsgiserver {__version__}")
    ctx.exit()


@click.pass_context
def _asked(
    ctx: click.Context, /, file: str | None, check: bool, show: bool, **values: Any
) -> Asked:
    typed = click.core.ParameterSource.COMMANDLINE
    given = {name: values[name] for name in values if ctx.get_parameter_source(name) is typed}
    return Asked(given, file, check, show)


# --- the run --------------------------------------------------------------------------------------


def _run(asked: Asked) -> int:
    config, sources = load(asked.given, os.environ, Path(asked.file) if asked.file else None)
    if asked.show:
        click.echo(show(config, sources), nl=False)
        return 0
    if asked.check or not config.reload:
        return _serve(config, asked)
    from wsgiserver.listeners import BindError
    from wsgiserver.reload import supervise

    try:
        return supervise(config, _arguments(asked), final=(NOT_BOUND, NOT_CONFIGURED))
    except BindError as error:
        return _fail(str(error), NOT_BOUND)


def _arguments(asked: Asked) -> list[str]:
    """The command line again, without what only the reloader needs."""
    words = []
    for name in asked.given.keys() - {"app", "bind", "pid", "reload"}:
        value = asked.given[name]
        values = value if isinstance(value, tuple) else (value,)
        words += [f"{OPTIONS[name].flag}={item}" for item in values]
    if asked.file:
        words.append(f"--config={asked.file}")
    # An empty pid and the like: the environment and the file must not bring them back.
    words += ["--no-reload", "--pid="]
    return [*words, asked.given["app"]] if "app" in asked.given else words


def _serve(config: Config, asked: Asked) -> int:
    start = os.getcwd()
    _enter(config)
    _set_up_logs(config)  # the application and its files may have something to tell
    config = _with_something_to_serve(config)
    _check_model(config.worker_model)
    if config.workers and not asked.check:
        return _listen(None, config, asked, start)
    try:
        app = _load(config)
    except _NotLoaded as error:
        return error.status
    if asked.check:
        binds = ", ".join(map(str, config.bind))
        what = config.app or f"files of {config.documents_root}"
        click.echo(f"configuration ok: {what}, {config.worker_model}, {binds}")
        return 0
    return _listen(app, config, asked, start)


def _with_something_to_serve(config: Config) -> Config:
    if config.app or config.documents_root:
        return config
    if not Path(_DEFAULT_ROOT).is_dir():
        raise ConfigError(_NOTHING_TO_SERVE)
    return config.replaced(documents_root=_DEFAULT_ROOT)


class _NotLoaded(SystemExit):
    """The application cannot be loaded, which was told; ends the process of a worker, too."""

    @property
    def status(self) -> int:
        """The exit status."""
        return int(str(self.code))


def _load(config: Config) -> WSGIApplication:
    """The application of the settings, in a process that is fit for it."""
    from wsgiserver.app import AppError

    if config.worker_model == "gevent":  # it must be set up before the application
        from wsgiserver.workers.gevent import patch

        patch()
    try:
        return _application(config)
    except AppError as error:
        click.echo(error.trace, err=True, nl=False)
        raise _NotLoaded(_fail(str(error), NOT_LOADED)) from None
    except ConfigError as error:
        raise _NotLoaded(_fail(str(error), NOT_CONFIGURED)) from None


def _settings_anew(asked: Asked, start: str) -> Config:
    """For SIGHUP: as at the start, from the same places; `start`: the folder that it was in."""
    now = os.getcwd()
    os.chdir(start)
    try:
        config, _ = load(asked.given, os.environ, Path(asked.file) if asked.file else None)
    finally:
        os.chdir(now)
    return _with_something_to_serve(config)


def _set_up_logs(config: Config) -> None:
    from wsgiserver import logs

    try:
        logs.set_up(config)
        logs.compile_format(config.access_log_format)
    except logs.LogError as error:
        raise ConfigError(str(error)) from None


def _enter(config: Config) -> None:
    """Make this process what the application expects when it is imported."""
    if config.chdir:
        try:
            os.chdir(config.chdir)
        except OSError as error:
            raise ConfigError(f"chdir {config.chdir!r}: {error.strerror}") from None
    for pair in config.env:
        name, _, value = pair.partition("=")
        os.environ[name] = value
    # The current folder comes first also for the installed command, whose own folder is there.
    places = [os.getcwd(), *map(os.path.abspath, config.pythonpath)]
    sys.path[:0] = [place for place in places if place not in sys.path[:1]]


def _check_model(name: str) -> None:
    """Refuse a model that this system lacks."""
    from wsgiserver import workers

    try:
        workers.worker_class(name)
    except workers.ModelUnavailable as error:
        raise ConfigError(f"worker_model: {error}") from None


def _application(config: Config) -> WSGIApplication:
    from wsgiserver import app as apps

    app = apps.load(config.app) if config.app else None
    options = config.static_options
    if config.documents_root:
        return apps.with_files(app, config.documents_root, config.static_prefix, options)
    if options:
        raise ConfigError(f"{', '.join(options)}: there are no files; give documents_root, too")
    assert app is not None
    return app


def _listen(app: WSGIApplication | None, config: Config, asked: Asked, start: str) -> int:
    from wsgiserver.listeners import BindError
    from wsgiserver.server import FleetFailed, WSGIServer

    def reread() -> Config:
        return _settings_anew(asked, start)

    try:
        WSGIServer(app, config, load=_load, reread=reread).serve_forever()
    except BindError as error:
        return _fail(str(error), NOT_BOUND)
    except FleetFailed as error:
        return _fail(str(error), error.status if error.status != NOT_BOUND else NOT_STARTED)
    except _NotLoaded as error:  # preloaded
        return error.status
    return 0
