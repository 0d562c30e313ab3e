"""Pollers: five verbs over epoll, kqueue and poll, by which a readiness loop asks the kernel."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

from wsgiserver.states import READ, WRITE, Want

Poll = Callable[[float], "list[tuple[int, int]]"]


class Poller(Protocol):
    """`poll(seconds)` gives (descriptor, anything) pairs for what is ready, level-triggered."""

    poll: Poll

    def add(self, fd: int, want: Want) -> None: ...
    def change(self, fd: int, want: Want) -> None: ...
    def remove(self, fd: int) -> None: ...
    def close(self) -> None: ...


class Epoll:
    """epoll(7): the kernel keeps the set, a call costs only what is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.poll: Poll = self._epoll.poll  # hot: no frame of ours around the system call
        self._masks = {READ: select.EPOLLIN, WRITE: select.EPOLLOUT}

    def add(self, fd: int, want: Want) -> None:
        self._epoll.register(fd, self._masks[want])

    def change(self, fd: int, want: Want) -> None:
        self._epoll.modify(fd, self._masks[want])

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def close(self) -> None:
        self._epoll.close()


class Kqueue:
    """kqueue(2), on the BSDs and macOS."""

    def __init__(self) -> None:
        module: Any = select
        self._kqueue = module.kqueue()
        self._event = module.kevent
        self._filters = {READ: module.KQ_FILTER_READ, WRITE: module.KQ_FILTER_WRITE}
        self._add, self._delete = module.KQ_EV_ADD, module.KQ_EV_DELETE
        self._wants: dict[int, Want] = {}
        self.poll: Poll = self._poll

    def _poll(self, seconds: float) -> list[tuple[int, int]]:
        return [(event.ident, 0) for event in self._kqueue.control(None, 1024, seconds)]

    def add(self, fd: int, want: Want) -> None:
        self._kqueue.control([self._event(fd, self._filters[want], self._add)], 0)
        self._wants[fd] = want

    def change(self, fd: int, want: Want) -> None:
        self.remove(fd)
        self.add(fd, want)

    def remove(self, fd: int) -> None:
        self._kqueue.control([self._event(fd, self._filters[self._wants.pop(fd)], self._delete)], 0)

    def close(self) -> None:
        self._kqueue.close()


class PlainPoll:
    """poll(2), where there is nothing better: every call hands the whole set to the kernel."""

    def __init__(self) -> None:
        self._set = select.poll()
        self._masks = {READ: select.POLLIN, WRITE: select.POLLOUT}
        self.poll: Poll = self._poll

    def _poll(self, seconds: float) -> list[tuple[int, int]]:
        return self._set.poll(seconds * 1000)

    def add(self, fd: int, want: Want) -> None:
        self._set.register(fd, self._masks[want])

    change = add

    def remove(self, fd: int) -> None:
        self._set.unregister(fd)

    def close(self) -> None:
        pass


def best_poller() -> Poller:
    """The best that this system has."""
    if hasattr(select, "epoll"):
        return Epoll()
    if hasattr(select, "kqueue"):
        return Kqueue()
    return PlainPoll()
