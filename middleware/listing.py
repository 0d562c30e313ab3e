"""The page of a directory that has no index file: read the directory, write HTML or JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote

from middleware.pages import PALETTE
from middleware.resolve import servable

_STYLE: Final = (
    PALETTE
    + """\
  * { box-sizing: border-box }
  html { background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
    text-size-adjust: 100%; scroll-padding-top: 3rem }
  body { max-width: 62rem; margin: 0 auto; font: 1rem/1.5 system-ui, sans-serif;
    padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 3rem) }
  nav, caption, p, th, td + td { color: var(--soft); font-size: .9375rem }
  nav ol { display: flex; flex-wrap: wrap; margin: 0; padding: 0; list-style: none }
  nav { margin-bottom: .5rem }
  nav li { overflow-wrap: anywhere }
  bdi { white-space: pre-wrap }
  nav li:not(:first-child)::before { content: "/"; margin: 0 .45em; opacity: .6 }
  h1 { margin: 0 0 1.25rem; font-size: clamp(1.5rem, 1.2rem + 1.6vw, 2.125rem); font-weight: 650;
    line-height: 1.2; letter-spacing: -.02em; overflow-wrap: anywhere }
  table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
  p { margin: 0 }
  caption { padding-bottom: .75rem; text-align: left }
  th { position: sticky; top: 0; z-index: 1; padding: .5rem .75rem; background: var(--paper);
    box-shadow: inset 0 -1px var(--line); font-weight: 600; text-align: left;
    white-space: nowrap }
  td { padding: 0 .75rem; border-bottom: 1px solid var(--line) }
  td + td { white-space: nowrap }
  th:first-child, td:first-child { width: 100%; padding-left: .5rem }
  th:nth-child(2), td:nth-child(2) { text-align: right }
  tbody tr:hover { background: var(--wash) }
  td a { display: flex; align-items: center; gap: .7rem; padding: .5rem 0; color: inherit;
    text-decoration: none; overflow-wrap: anywhere }
  td a > * { min-width: 0 }
  td a::before { content: ""; flex: none; width: 1.125rem; height: 1.125rem;
    background: var(--soft); opacity: .55;
    clip-path: polygon(14% 0, 60% 0, 60% 32%, 88% 32%, 88% 100%, 14% 100%, 14% 0,
      68% 0, 88% 23%, 68% 23%, 68% 0) }
  .directory a::before, .up a::before { background: var(--accent); opacity: 1;
    clip-path: polygon(0 12%, 40% 12%, 50% 25%, 100% 25%, 100% 90%, 0 90%) }
  .up a::before { clip-path: polygon(50% 8%, 92% 50%, 62% 50%, 62% 92%, 38% 92%, 38% 50%, 8% 50%) }
  .directory a { font-weight: 550 }
  nav a { color: var(--accent); text-underline-offset: .18em }
  td a:hover > * { text-decoration: underline; text-underline-offset: .18em }
  a:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px;
    border-radius: 3px }
  button { position: relative; margin: 0; padding: 0; border: 0; background: none;
    color: inherit; font: inherit; cursor: pointer }
  button:hover, [aria-sort] button { color: var(--ink) }
  button::after { content: ""; position: absolute; top: calc(50% - .2em); left: calc(100% + .3em);
    width: .55em; height: .45em; background: currentColor;
    clip-path: polygon(50% 0, 100% 100%, 0 100%) }
  th:nth-child(2) button::after { left: auto; right: calc(100% + .3em) }
  th:not([aria-sort]) button::after { opacity: 0 }
  th:not([aria-sort]) button:hover::after { opacity: .4 }
  [aria-sort="descending"] button::after { clip-path: polygon(0 0, 100% 0, 50% 100%) }
  @media (max-width: 36rem) {
    nav, caption, p, th, td + td { font-size: .8125rem }
    th, td { padding-left: .3rem; padding-right: .3rem }
    th:first-child, td:first-child { padding-left: 0 }
    time span, th span { display: none }
    td a { gap: .55rem }
  }
"""
)

# The rows come in the order of their names: a row's first place is its rank by name. Directories
# stay before files in every order.
_SCRIPT: Final = """\
const table = document.querySelector("table");
const headings = table ? [...table.tHead.rows[0].cells] : [];
const body = table?.querySelector("tbody.entries");
const entries = [...body?.rows ?? []].map((row, place) => ({
  row,
  isFile: Number(!row.classList.contains("directory")),
  ranks: [
    place,
    Number(row.querySelector("data")?.value ?? 0),
    Date.parse(row.querySelector("time").dateTime),
  ],
}));

function sort(column, direction) {
  entries.sort((a, b) => a.isFile - b.isFile
    || direction * (a.ranks[column] - b.ranks[column])
    || a.ranks[0] - b.ranks[0]);
  const sorted = document.createDocumentFragment();
  for (const { row } of entries) sorted.append(row);
  body.append(sorted);
  for (const heading of headings) heading.removeAttribute("aria-sort");
  headings[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

headings.forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const now = heading.getAttribute("aria-sort");
    // The first click gives what is mostly looked for: the largest, the newest.
    const ascending = now ? now === "descending" : column === 0;
    sort(column, ascending ? 1 : -1);
  });
});
"""


def _source(text: str) -> str:
    """CSP3 2.3.1: what allows exactly this inline style or script."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_source(_STYLE)}",
        f"script-src {_source(_SCRIPT)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
"""The value of the header that goes with `html_page`: only its own style and script may run."""


class Entry(NamedTuple):
    """A name in a directory: `size` in bytes, `mtime` in whole seconds since 1970, UTC."""

    name: str
    directory: bool
    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory shows: directories first, then files, each in the order of their names.

    `left_out`: how many names were not looked at because there were more than the limit.
    """

    entries: tuple[Entry, ...]
    left_out: int = 0


def read_directory(
    directory: int | str,
    *,
    top: bool = False,
    dotfiles: bool = False,
    served: Callable[[str], bool] | None = None,
    limit: int = 10_000,
) -> Listing:
    """Read what the client may see of a directory.

    directory: a descriptor open for reading (not O_PATH), which stays open and is used by one
        caller at a time; a path where the system cannot list a descriptor (Windows).
    top: whether it is the root of the site, which has `_headers` and `_redirects` of its own.
    dotfiles: show names with a leading dot.
    served: whether the symbolic link of that name leads to something that may be served; asked
        before the target is looked at. None: links are not shown.
    limit: look at no more than this many names, the first in their order; at least 1.

    Left out is what cannot be asked for: fifos, sockets, devices, broken links, and names that
    are not `servable` (not UTF-8, control characters, backslash). OSError: it cannot be read.
    """
    count = 0
    kept: list[tuple[_Rank, os.DirEntry[str]]] = []
    with os.scandir(directory) as found:
        for each in found:
            name = _name(each.name)
            if name is None or (name[0] == "." and not dotfiles):
                continue
            # Only the place matters, not how deep it is or what is above.
            if not servable((name,) if top else ("above", name), dotfiles=dotfiles):
                continue
            count += 1
            kept.append((_rank(name), each))
            if len(kept) == 2 * limit:  # however many there are, memory stays bounded
                kept.sort()
                del kept[limit:]
        kept.sort()  # no two names are the same: it never comes to compare what follows them
        seen = [_entry(rank[1], each, served) for rank, each in kept[:limit]]
    entries = [entry for entry in seen if entry]
    entries.sort(key=lambda entry: not entry.directory)  # stable: the order of names remains
    return Listing(tuple(entries), max(0, count - limit))


_Rank = tuple[str, str]
_NUMBER: Final = re.compile(r"0*([0-9]+)")


def _rank(name: str) -> _Rank:
    """What names are ordered by: as people do, `part 2` before `Part 10`; last the name itself."""
    # A number is compared by how many digits it has, then by these.
    return _NUMBER.sub(lambda n: f"0{chr(len(n[1]))}{n[1]}", name.casefold()), name


def _name(raw: str) -> str | None:
    """The name as UTF-8, whatever the locale made of it; None if it is not."""
    try:
        return os.fsencode(raw).decode("utf-8")
    except UnicodeError:
        return None


def _entry(name: str, each: os.DirEntry[str], served: Callable[[str], bool] | None) -> Entry | None:
    try:
        if each.is_symlink() and not (served and served(name)):
            return None
        status = each.stat()
    except OSError:  # it went away meanwhile, or leads nowhere
        return None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    return Entry(
        name, stat.S_ISDIR(status.st_mode), status.st_size, int(status.st_mtime_ns // 10**9)
    )


def json_page(listing: Listing) -> bytes:
    """An array of objects with `name`, `type` ("file" or "directory"), `mtime` (RFC 3339, UTC)
    and, of files, `size` in bytes: nginx's format but for the times. One entry a line."""
    lines = []
    for entry in listing.entries:
        item: dict[str, str | int] = {
            "name": entry.name,
            "type": "directory" if entry.directory else "file",
        }
        if not entry.directory:
            item["size"] = entry.size
        item["mtime"] = _time(entry.mtime) + "Z"
        lines.append(json.dumps(item, ensure_ascii=False))
    return ("[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n").encode()


def html_page(listing: Listing, path: str, *, root: str = "/") -> bytes:
    """The page of the directory at the URL path `path`, decoded, which ends in a slash.

    root: the URL path of the topmost directory that has a page; ends in a slash, and `path`
    begins with it. All links are relative. Send `CONTENT_SECURITY_POLICY` along.
    """
    parts = path.removeprefix(root).split("/")[:-1]
    title = escape(f"Index of {path}".translate(_SEEN))
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width">\n',
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n<body>\n",
            _heading(root, parts),
            _table(listing, top=not parts),
            f'<script type="module">{_SCRIPT}</script>\n</body>\n</html>\n',
        ]
    ).encode()


# Overrides and embeddings of the writing direction, which make `exe.jpg` of a name in `gpj.exe`.
_SEEN: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def _text(name: str) -> str:
    """A name as text of the page: it cannot be markup, nor change the text around it."""
    return f"<bdi>{escape(name.translate(_SEEN))}</bdi>"


def _heading(root: str, parts: list[str]) -> str:
    if not parts:
        return f"<h1>Index of {_text(root)}</h1>\n"
    names = [root, *parts[:-1]]
    crumbs = [
        f'<li><a href="{"../" * (len(parts) - i)}">{_text(name)}</a></li>\n'
        for i, name in enumerate(names)
    ]
    here = f"<h1>{_text(parts[-1])}</h1>\n"
    return f'<nav aria-label="Above this directory"><ol>\n{"".join(crumbs)}</ol></nav>\n{here}'


_COLUMNS: Final = """\
<thead><tr><th scope="col" aria-sort="ascending">Name</th><th scope="col">Size</th>\
<th scope="col">Modified<span> (UTC)</span></th></tr></thead>
"""
_UP: Final = """\
<tbody><tr class="up"><td colspan="3"><a href="../"><span>Parent directory</span></a></td></tr>\
</tbody>
"""


def _table(listing: Listing, *, top: bool) -> str:
    if not listing.entries:
        return "<p>There are no files here.</p>\n"
    rows = "".join(map(_row, listing.entries))
    return (
        f"<table>\n<caption>{_summary(listing)}</caption>\n{_COLUMNS}{'' if top else _UP}"
        f'<tbody class="entries">\n{rows}</tbody>\n</table>\n'
    )


def _summary(listing: Listing) -> str:
    sizes = [entry.size for entry in listing.entries if not entry.directory]
    directories = len(listing.entries) - len(sizes)
    counts = []
    if directories:
        counts.append("1 directory" if directories == 1 else f"{directories:,} directories")
    if sizes:
        counts.append("1 file" if len(sizes) == 1 else f"{len(sizes):,} files")
        counts.append(_human(sum(sizes)))
    more = ""
    if listing.left_out:
        more = f" Only the first names are shown; {listing.left_out:,} more are left out."
    return f"{', '.join(counts)}.{more}"


def _row(entry: Entry) -> str:
    href = "./" + quote(entry.name, safe="") + "/" * entry.directory
    name = _text(entry.name + "/" * entry.directory)
    kind, size = ' class="directory"', ""
    if not entry.directory:
        kind = ""
        size = (
            f'<data value="{entry.size}" title="{entry.size:,} bytes">{_human(entry.size)}</data>'
        )
    moment = _time(entry.mtime)
    date, clock = moment[:10], moment[11:16]
    return (
        f'<tr{kind}><td><a href="{href}">{name}</a></td><td>{size}</td>'
        f'<td><time datetime="{moment}Z">{date}<span> {clock}</span></time></td></tr>\n'
    )


def _human(size: int) -> str:
    """Bytes as people read them, to about three digits: `999 B`, `1.5 KiB`, `20 MiB`."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        amount /= 1024
        if amount < 1023.5 or unit == "EiB":
            break
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _time(seconds: int) -> str:
    """`2026-08-21T09:30:00`, in UTC; what a calendar cannot hold becomes its first or last day."""
    first, last = -62_135_596_800, 253_402_300_799  # the years 1 to 9999
    moment = _EPOCH + timedelta(seconds=min(max(seconds, first), last))
    return moment.isoformat()[:19]
