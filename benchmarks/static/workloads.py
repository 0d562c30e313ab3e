"""What is asked of the servers of files: one workload is one column of the table."""

from __future__ import annotations

from benchmarks.static.site import FOLDER, MANY, Site, many_path
from benchmarks.workloads import BROWSER, Workload

_RANGE = (5_000_000, 1000)  # its first byte, and how many


def workloads(site: Site) -> dict[str, Workload]:
    """Name → workload, over these files. All have a browser's headers and keep the connection."""
    all_ = (
        _workload(site, "small", "1 KiB", "small.html"),
        _many(site),
        _workload(site, "304", "304", "small.html", status=304, answer=b"", conditional=True),
        _workload(site, "head", "HEAD", "small.html", method="HEAD"),
        _workload(site, "404", "404", "missing.html", status=404, answer=None),
        _workload(site, "10k", "10 KiB", "medium.css"),
        _workload(site, "100k", "100 KiB", "large.bin"),
        _workload(site, "10m", "10 MiB", "huge.bin"),
        _range(site),
        _gzip(site),
    )
    return {each.name: each for each in all_}


def _workload(
    site: Site,
    name: str,
    title: str,
    file: str,
    answer: bytes | None = b"whole",
    status: int = 200,
    method: str = "GET",
    conditional: bool = False,
) -> Workload:
    """`answer`: b"whole" stands for the file itself."""
    path = f"/{FOLDER}/{file}"
    return Workload(
        name,
        title,
        app=str(site.root),
        headers=tuple(BROWSER.items()),
        method=method,
        path=path,
        answer=site.bodies[path] if answer == b"whole" else answer,
        status=status,
        conditional=conditional,
        keep_alive=True,
    )


def _many(site: Site) -> Workload:
    first, *others = (many_path(number) for number in range(MANY))
    return Workload(
        "many",
        f"{MANY} × 1 KiB",
        app=str(site.root),
        script="walk.lua",
        arguments=(many_path("%03d"), str(MANY)),
        headers=tuple(BROWSER.items()),
        path=first,
        answer=site.bodies[first],
        more=tuple((path, site.bodies[path]) for path in others),
        keep_alive=True,
    )


def _range(site: Site) -> Workload:
    path, (first, count) = f"/{FOLDER}/huge.bin", _RANGE
    return Workload(
        "range",
        f"range of {count:,} B",
        app=str(site.root),
        headers=(*BROWSER.items(), ("Range", f"bytes={first}-{first + count - 1}")),
        path=path,
        status=206,
        answer=site.bodies[path][first : first + count],
        keep_alive=True,
    )


def _gzip(site: Site) -> Workload:
    # Not all of them know other codings, and those that do may prefer one; the bytes must be equal.
    headers = {**BROWSER, "Accept-Encoding": "gzip"}
    path = f"/{FOLDER}/text.css"
    return Workload(
        "gzip",
        "10 KiB with .gz",
        app=str(site.root),
        headers=tuple(headers.items()),
        path=path,
        answer=site.bodies[path + ".gz"],
        coding="gzip",
        keep_alive=True,
    )
