"""`WSGIServer`: binds, picks the worker model and runs it, here or in a thread for embedding."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from wsgiserver import __version__, logs, workers
from wsgiserver.config import Config, ConfigError
from wsgiserver.context import Context, WSGIApplication
from wsgiserver.fleet_plan import Limits
from wsgiserver.listeners import close_listeners, open_listeners, url_of
from wsgiserver.signals import StopPipe, StopSignals
from wsgiserver.supervisor import Seat, Settings, Supervisor, share_memory
from wsgiserver.workers.base import PATIENCE, RETIRE

if TYPE_CHECKING:
    from types import TracebackType

    from wsgiserver.logs import AccessLogger, AccessWriter
    from wsgiserver.workers.base import Worker

log = logging.getLogger("wsgiserver.error")

Address = tuple[str, int] | str

# What SIGHUP does not change: it is done once, before the first worker.
_FIXED: Final = (
    *("bind", "backlog", "pid", "umask", "preload", "reload"),
    *("chdir", "env", "pythonpath"),
)


class FleetFailed(Exception):
    """The workers do not come up; `status` is the exit status of the first that ended."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the workers do not come up (exit status {status})")
        self.status = status


class WSGIServer:
    """Serves one WSGI application.

    :param app: the application (PEP 3333); or None with `load`. :param config: the settings; or
        give single ones as keyword arguments, by the names in docs/settings.md, which win over
        `config`.
    :param load: makes the application from the settings; where there are workers (and no
        `preload`) each of them calls it for itself.
    :param reread: reads the settings anew for SIGHUP; ConfigError says why it cannot.
    :raises ConfigError: a setting is wrong.

    Either `serve_forever()`, which stops on SIGTERM and SIGINT; or, in tests and other programs,
    `start()` and `stop()`, which is what a `with` statement calls::

        with WSGIServer(app, bind="127.0.0.1:0") as server:
            host, port = server.addresses[0]
    """

    def __init__(
        self,
        app: WSGIApplication | None,
        config: Config | None = None,
        *,
        load: Callable[[Config], WSGIApplication] | None = None,
        reread: Callable[[], Config] | None = None,
        **options: Any,
    ) -> None:
        if app is None and load is None:
            raise ConfigError("there is no application; give it, or a function that loads it")
        self.app = app
        self._load = load
        self._reread = reread
        self.config = config.replaced(**options) if config else Config.from_options(**options)
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._pipe: StopPipe | None = None
        self._worker: Worker | None = None
        self._failure: BaseException | None = None
        self._access: AccessWriter | AccessLogger | None = None
        self._former = self.config  # before the last reload
        self._stop_asked = False  # also before there is anything to stop
        self._ended = threading.Event()  # serve_forever does not run
        self._ended.set()

    # -- listening

    def bind(self) -> None:
        """Listen on the addresses of the settings; does nothing if that was done before.

        :raises BindError: one of them cannot be had.
        """
        if not self._sockets:
            self._sockets = open_listeners(self.config.bind, self.config.backlog)

    @property
    def addresses(self) -> list[Address]:
        """What is listened on: (host, port), with the real port for 0, or a unix socket's path."""
        return [_address(sock) for sock in self._sockets]

    @property
    def urls(self) -> list[str]:
        """The same as a person would type it: `http://127.0.0.1:8000`."""
        return [url_of(sock) for sock in self._sockets]

    # -- running

    def serve_forever(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop()`, then finish what was accepted and return.

        :raises BindError: an address cannot be had. :raises ConfigError: a setting cannot be
            carried out on this system. :raises FleetFailed: the workers do not come up.
        """
        if self.config.workers:
            self._supervise()
            return
        model = self._model()
        self._ended.clear()
        try:
            with ExitStack() as stack:
                self._prepare(stack)
                pipe = self._may_be_stopped(stack)
                stack.enter_context(
                    StopSignals(
                        pipe, self.config.graceful_timeout, self._begin_to_stop, self._abandon
                    )
                )
                self._announce()
                self._work(model, pipe)
                log.info("stopped")
        finally:
            self._stop_asked = False
            self._ended.set()

    def start(self) -> None:
        """Serve in a thread of its own; returns when connections are accepted.

        The process' logging, umask and limit of open files are set up as for `serve_forever`.

        :raises BindError: an address cannot be had. :raises ConfigError: as `serve_forever`.
        :raises RuntimeError: it runs already.
        """
        if self._thread is not None:
            raise RuntimeError("this server runs already")
        if self.config.workers:
            raise ConfigError("workers: a fleet needs serve_forever(), in the main thread")
        model = self._model()
        self._stop_asked = False
        with ExitStack() as stack:
            self._prepare(stack)
            pipe = self._may_be_stopped(stack)
            running = stack.pop_all()

        def run() -> None:
            with running:
                try:
                    self._work(model, pipe)
                except BaseException as error:
                    self._failure = error

        self._thread = threading.Thread(target=run, name="wsgiserver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop gracefully: accepted requests finish within `graceful_timeout`.

        After `start()` it returns when they have. While `serve_forever` runs in another thread, or
        is about to, it returns at once.
        """
        self._stop_asked = True
        if self._pipe is not None:
            self._pipe.ask()
            self._begin_to_stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            self._stop_asked = False
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure

    def __enter__(self) -> WSGIServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- the steps

    def _model(self) -> type[Worker]:
        try:
            return workers.worker_class(self.config.worker_model)
        except workers.ModelUnavailable as error:
            raise ConfigError(f"worker_model: {error}") from None

    def _prepare(self, stack: ExitStack) -> None:
        """What can fail, before the first connection is accepted; `stack` undoes it."""
        config = self.config
        self._open_logs()
        stack.callback(self._close_logs)
        _raise_descriptor_limit()
        if config.umask is not None:
            os.umask(config.umask)
        self.bind()
        stack.callback(self._close_sockets)
        if config.pid:
            stack.enter_context(PidFile(config.pid))

    def _open_logs(self) -> None:
        try:
            logs.set_up(self.config)
            access = logs.open_access_log(self.config)
        except logs.LogError as error:
            raise ConfigError(str(error)) from None
        self._close_logs()
        self._access = access

    def _close_logs(self) -> None:
        access, self._access = self._access, None
        if access is not None:
            access.close()

    def _may_be_stopped(self, stack: ExitStack) -> StopPipe:
        _drop_privileges(self.config.user, self.config.group)
        pipe = self._pipe = StopPipe()
        stack.callback(self._close_pipe)
        if self._stop_asked:
            pipe.ask()
        return pipe

    def _work(self, model: type[Worker], pipe: StopPipe) -> None:
        self._make_worker(model, pipe, multiprocess=False)
        assert self._worker is not None
        self._worker.run()

    def _make_worker(self, model: type[Worker], pipe: StopPipe, *, multiprocess: bool) -> None:
        config = self.config
        if self.app is None:
            assert self._load is not None
            self.app = self._load(config)
        context = Context(
            self.app,
            config,
            logs.Journal(self._access),
            multithread=model.multithread,
            multiprocess=model.multiprocess or multiprocess,
        )
        self._worker = model(
            context,
            self._sockets,
            pipe.fd,
            grace=config.graceful_timeout,
            most=config.worker_connections,
            threads=config.threads,
        )

    # -- a fleet of workers

    def _supervise(self) -> None:
        """Fork workers and watch over them."""
        if not hasattr(os, "fork"):
            raise ConfigError("workers: this system has no fork(); use 0")
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError("workers: a fleet needs the main thread, where signals arrive")
        if self.config.preload and self.app is None:
            assert self._load is not None
            self.app = self._load(self.config)
        with ExitStack() as stack:
            self._prepare(stack)
            if self.app is not None:
                share_memory()
            supervisor = Supervisor(
                self._fleet_settings(),
                self._be_worker,
                announce=self._announce,
                reload=self._settings_anew,
                undo=self._undo_settings,
                reopen=self._reopen_logs,
                last_call=self._close_sockets,
            )
            status = supervisor.run()
            if status:
                raise FleetFailed(status)
            log.info("stopped")

    def _fleet_settings(self) -> Settings:
        config = self.config
        limits = Limits(
            boot=config.boot_timeout,
            heartbeat=config.heartbeat_timeout,
            grace=config.graceful_timeout,
            lifetime=config.max_worker_lifetime,
        )
        return Settings(
            config.workers,
            limits,
            config.max_requests,
            config.max_requests_jitter,
            config.max_rss,
        )

    def _settings_anew(self) -> Settings:
        """For SIGHUP. ValueError: they cannot be used."""
        try:
            config = self._reread() if self._reread is not None else self.config
            fixed = {name: getattr(self.config, name) for name in _FIXED}
            if not config.workers:  # whether there is a fleet at all is fixed, too
                config = replace(config, workers=self.config.workers)
            changed = [name for name in _FIXED if getattr(config, name) != fixed[name]]
            before, self.config = self.config, replace(config, **fixed)
            try:
                self._model()
                self._open_logs()
            except ConfigError:
                self.config = before
                raise
            self._former = before
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if changed:
            log.warning("SIGHUP: %s: changing this takes a restart", ", ".join(changed))
        if self.config.preload:
            log.warning("SIGHUP: the application is preloaded: its code stays as it is")
        return self._fleet_settings()

    def _undo_settings(self) -> None:
        """The reload failed: workers that start from now on have the settings of before."""
        self.config = self._former
        try:
            self._open_logs()
        except ConfigError as error:
            log.error("the logs stay as they are: %s", error)

    def _reopen_logs(self) -> None:
        try:
            logs.set_up(self.config)
            if self._access is not None:
                self._access.reopen()
        except logs.LogError as error:
            log.error("SIGUSR1: %s; the lines go on where they went", error)

    def _be_worker(self, seat: Seat) -> int:
        """What a worker does, in its own process."""
        try:
            model = self._model()
            with ExitStack() as stack:
                pipe = self._may_be_stopped(stack)
                stack.callback(self._close_sockets)
                stack.callback(self._close_logs)
                self._make_worker(model, pipe, multiprocess=True)
                # After the application was imported, which may have handlers of its own.
                signal.signal(signal.SIGUSR1, lambda *_: self._reopen_logs())
                stack.enter_context(
                    StopSignals(
                        pipe,
                        self.config.graceful_timeout,
                        self._begin_to_stop,
                        self._abandon,
                        stop=(signal.SIGTERM,),
                        quick=(signal.SIGQUIT,),
                        patient=(RETIRE,),
                        once=True,
                    )
                )
                assert self._worker is not None
                self._worker.pulse = seat.pulse
                seat.pulse(0)
                seat.ready()
                self._worker.run()
        except ConfigError as error:
            log.error("%s", error)
            return 2
        return 0

    def _begin_to_stop(self, patient: bool = False) -> None:
        if self._worker is not None:
            self._worker.context.patience = PATIENCE if patient else 0.0
            self._worker.begin_to_stop()

    def _abandon(self) -> None:
        if self._worker is not None:
            self._worker.abandon()
        self._close_sockets()

    def _close_sockets(self) -> None:
        sockets, self._sockets = self._sockets, []
        close_listeners(sockets)

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _announce(self) -> None:
        config = self.config
        threads = f", {config.threads} threads" if config.worker_model == "threadpool" else ""
        workers = ""
        if config.workers:
            workers = f", {config.workers} worker{'s' if config.workers > 1 else ''}"
        log.info(
            "wsgiserver %s, worker model %s%s%s, Python %s",
            __version__,
            config.worker_model,
            threads,
            workers,
            sys.version.split()[0],
        )
        for url in self.urls:
            log.info("listening on %s", url)


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else os.fsdecode(name)


class PidFile:
    """A file with the process id while the server runs; one of a process that ended is replaced."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> PidFile:
        """:raises ConfigError: a process with the file's id lives, or it cannot be written."""
        pid = self._read()
        if pid > 0 and pid != os.getpid() and _lives(pid):
            raise ConfigError(f"pid {self._path}: a process with its id {pid} is running")
        try:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigError(f"pid {self._path}: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._read() == os.getpid():
            try:
                os.unlink(self._path)
            except OSError:
                log.warning("the pid file %s could not be removed", self._path)

    def _read(self) -> int:
        try:
            with open(self._path, encoding="ascii") as file:
                return int(file.read(32))
        except (OSError, ValueError):
            return 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # another user's
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _raise_descriptor_limit() -> None:
    """Each connection is a descriptor; take as many as the system grants this process."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            log.debug("the limit of open files stays at %d", soft)


def _drop_privileges(user: str, group: str) -> None:
    """Become `user` and `group` (names or numbers), for good and with that user's other groups.

    :raises ConfigError: they do not exist, or this process may not become them.
    """
    if not (user or group):
        return
    import grp
    import pwd

    try:
        # A number needs no entry: containers run under ids that nobody has a name for.
        entry = pwd.getpwnam(user) if user and not user.isdigit() else None
        uid = entry.pw_uid if entry else int(user or os.getuid())
        gid = entry.pw_gid if entry else os.getgid()
        if group:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        if os.geteuid() == 0:
            os.setgroups([gid] if entry is None else os.getgrouplist(entry.pw_name, gid))
        os.setgid(gid)
        os.setuid(uid)
    except KeyError as error:
        raise ConfigError(f"user/group: {error.args[0]}") from None
    except PermissionError:
        raise ConfigError(
            f"user/group: only root may become {user or group}; start as root or leave them out"
        ) from None


def serve(app: WSGIApplication, **options: Any) -> None:
    """Serve `app` until SIGTERM or SIGINT; options by the names in docs/settings.md."""
    WSGIServer(app, **options).serve_forever()


def make_server(host: str, port: int, app: WSGIApplication, **options: Any) -> WSGIServer:
    """As `wsgiref.simple_server.make_server`: a server that listens already.

    Call `serve_forever()` on it, and `shutdown()` from another thread to end that.
    """
    from wsgiserver.config import TCP

    server = _CompatibleServer(app, bind=[TCP(host, port)], **options)
    server.bind()
    return server


class _CompatibleServer(WSGIServer):
    """What programs written for wsgiref expect besides `serve_forever`."""

    @property
    def server_address(self) -> Address:
        return self.addresses[0]

    @property
    def server_port(self) -> int:
        address = self.addresses[0]
        return address[1] if isinstance(address, tuple) else 0

    def shutdown(self) -> None:
        """Stop, and wait until `serve_forever` has ended in its thread."""
        self.stop()
        self._ended.wait()

    def server_close(self) -> None:
        """Stop listening; a server that runs is shut down before."""
        if not self._ended.is_set():
            self.shutdown()
        self._close_sockets()
