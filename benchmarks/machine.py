"""The machine: its CPUs, which of them a process may use, and the versions a report must name."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@contextmanager
def pinned(cpus: Iterable[int]) -> Iterator[None]:
    """Run on these CPUs for a while; a process started within inherits them and stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cpus))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def default_cpus() -> tuple[int, int]:
    """(the server's CPU, the load's): the last and the first this process may use.

    The first takes most interrupts, so the server has the other. On a machine with one CPU both
    are the same.
    """
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[-1], cpus[0]


def describe() -> dict[str, str]:
    """What a report says about this machine: label → value."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} CPUs",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def package_version(name: str) -> str | None:
    """The version of an installed distribution, or None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
