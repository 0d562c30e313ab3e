"""The worker models by name; each is imported when it is asked for."""

from __future__ import annotations

import os
import select
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wsgiserver.workers.base import Worker

WORKER_MODELS: Final = {
    "single": ("wsgiserver.workers.single", "SingleWorker"),
    "process": ("wsgiserver.workers.process", "ProcessWorker"),
    "thread": ("wsgiserver.workers.thread", "ThreadWorker"),
    "nonblocking": ("wsgiserver.workers.nonblocking", "NonblockingWorker"),
    "epoll": ("wsgiserver.workers.epoll", "EpollWorker"),
    "gevent": ("wsgiserver.workers.gevent", "GeventWorker"),
    "threadpool": ("wsgiserver.workers.threadpool", "ThreadPoolWorker"),
}


class ModelUnavailable(Exception):
    """This system lacks what a worker model needs; the text says what to do."""


def worker_class(model: str) -> type[Worker]:
    """The class of a worker model.

    :raises ModelUnavailable: the platform or an optional package is missing.
    """
    if model != "gevent" and not hasattr(select, "poll"):
        raise ModelUnavailable(f"worker model {model!r} needs poll(), which this system lacks")
    if model == "process" and not hasattr(os, "fork"):
        raise ModelUnavailable("worker model 'process' needs fork(), which this system lacks")
    module, name = WORKER_MODELS[model]
    try:
        found: type[Worker] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "gevent":
            raise
        raise ModelUnavailable(
            "worker model 'gevent' needs the gevent package: pip install gevent"
        ) from None
    return found
