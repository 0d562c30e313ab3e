"""URL path -> what is there: a page, a directory, a redirect to one, or nothing; kept for a second.

Whatever is found is looked at again after a second at the latest: opened anew, by the same way,
since a link or a directory on the way may have changed too. If it is what it was, what had been
prepared is used on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from middleware import codings
from middleware.beneath import OpenFile, Root
from middleware.entries import Entries
from middleware.listing import Listing, read_directory
from middleware.page import Changed, Decorate, Page, file_page, signature
from middleware.resolve import Path, judge, servable

MAX_AGE: Final = 1.0
"""Seconds for which an answer may be given without looking at the file system."""

_MOST_PAGES: Final = 4096
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_OPEN: Final = 128
_MOST_OTHERS: Final = 4096  # directories, redirects, and names under which there is nothing
_LONGEST_KEY: Final = 1024

# What a name in a directory costs, in bytes, with its lines in the pages made of it.
_LISTED_NAME: Final = 1024

Siblings = dict[str, tuple[Sequence[str], OpenFile]]


class Looked:
    """What was seen at a URL path, if it was no page."""

    def __init__(self) -> None:
        self.fresh_until = 0.0

    @property
    def cost(self) -> tuple[int, int]:
        """Bytes of memory, open files; see entries.py."""
        return 256, 0


class Nothing(Looked):
    """There is nothing for the client at this path."""


class Moved(Looked):
    """A directory with a page of its own, asked for without the slash at the end."""


class Folder(Looked):
    """A directory without an index file, which may be listed; its pages are made when asked for.

    `url`: its URL path, decoded, with the slash at the end.
    """

    def __init__(self, url: str, listing: Listing) -> None:
        super().__init__()
        self.url = url
        self.listing = listing
        self.pages: dict[tuple[bool, str], Page] = {}  # whether JSON, and where it is mounted

    @property
    def cost(self) -> tuple[int, int]:
        """Bytes of memory, open files; see entries.py."""
        return 8192 + _LISTED_NAME * len(self.listing.entries), 0


Found = Page | Looked


class Site:
    """The files below a root, as pages.

    index: the file that answers for a directory, or None. clean_urls: `/about` is answered by
    about.html. listing: directories without an index are shown. compress: small texts are
    compressed. max_age: seconds until a look at the file system is repeated; 0: each time.
    decorate: adds to the headers of a file, by URL path and file path. remark: is told what the
    operator should know, once.
    """

    def __init__(
        self,
        root: Root,
        *,
        index: str | None,
        clean_urls: bool,
        listing: bool,
        dotfiles: bool,
        compress: bool,
        max_age: float,
        decorate: Decorate,
        remark: Callable[[str], None],
    ) -> None:
        self._root = root
        self._index = index
        self._clean_urls = clean_urls
        self._listing = listing
        self._dotfiles = dotfiles
        self._compress = compress
        self._max_age = max_age
        self._decorate = decorate
        self._remark = remark
        self._pages: Entries[Page] = Entries(_MOST_PAGES, _MOST_BYTES, _MOST_OPEN)
        self._others: Entries[Looked] = Entries(_MOST_OTHERS, _MOST_BYTES, 0)
        self._generation = 0

    def look_up(self, path: str) -> Found:
        """What is at a URL path, given as in PATH_INFO (each byte one latin-1 character).

        Raises Changed if it changed at this very moment; OSError if the system could not say.
        """
        found: Found | None = self._pages.get(path) or self._others.get(path)
        if found is not None and found.fresh_until > monotonic():
            return found
        return self._refresh(path, found)

    def weigh(self, path: str, page: Page) -> None:
        """Take note of what a page costs now that it was asked for."""
        page.release()
        self._pages.weigh(path, page)

    def forget(self, path: str) -> None:
        """Look at this path anew the next time it is asked for."""
        self._pages.drop(path)
        self._others.drop(path)

    def clear(self) -> None:
        """Look at every path anew: what the headers are made of has changed."""
        self._generation += 1  # for pages that other threads are making now, by the old rules
        self._pages.clear()
        self._others.clear()

    def _refresh(self, path: str, old: Found | None) -> Found:
        until = monotonic() + self._max_age  # from before the look: what it sees is not older
        found = self._resolve(path, old)
        found.fresh_until = until
        if len(path) <= _LONGEST_KEY:
            if isinstance(found, Page):
                self._others.drop(path)
                self._pages.put(path, found)
            else:
                self._pages.drop(path)
                self._others.put(path, found)
        return found

    def _resolve(self, path: str, old: Found | None) -> Found:
        judged = judge(path, dotfiles=self._dotfiles)
        if judged is None:
            return Nothing()
        parts = judged.parts
        url = "/" + "/".join(parts) + ("/" if judged.directory and parts else "")
        is_directory = judged.directory
        if not judged.directory:
            try:
                page = self._page(url, parts, old)
            except IsADirectoryError:
                page, is_directory = None, True
            if page is None and self._clean_urls and parts:
                page = self._file_or_none(url, (*parts[:-1], parts[-1] + ".html"), old)
            if page is not None:
                return page
        return self._directory(url, judged, old) if is_directory else Nothing()

    def _directory(self, url: str, judged: Path, old: Found | None) -> Found:
        parts = judged.parts
        if not judged.directory:
            # A directory without an index is no page: a redirect to it would only hide what an
            # application has under that name.
            return Moved() if self._answers(parts) else Nothing()
        page: Found | None = None
        if self._index is not None:
            page = self._file_or_none(url, (*parts, self._index), old)
        if page is None and self._listing:
            page = self._folder(url, parts)
        return page or Nothing()

    def _answers(self, parts: Sequence[str]) -> bool:
        """Whether a directory has a page: its index, or its listing."""
        if self._listing:
            return True
        if self._index is None or not self._servable((*parts, self._index)):
            return False
        try:
            self._root.open((*parts, self._index)).close()
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def _servable(self, parts: Sequence[str]) -> bool:
        return servable(parts, dotfiles=self._dotfiles)

    def _file_or_none(self, url: str, parts: Sequence[str], old: Found | None) -> Page | None:
        try:
            return self._page(url, parts, old)
        except IsADirectoryError:
            return None

    def _page(self, url: str, parts: Sequence[str], old: Found | None) -> Page | None:
        """The page of a file, the old one if nothing changed; None if there is no such file.

        IsADirectoryError: it is a directory.
        """
        if not self._servable(parts):
            return None
        try:
            file = self._root.open(parts)
        except FileNotFoundError:
            return None
        siblings: Siblings = {}
        generation = self._generation
        try:
            siblings = self._siblings(parts, file)
            if isinstance(old, Page) and self._still_is(old, parts, file, siblings):
                _close(file, siblings)
                return old
            page = file_page(
                self._root,
                url,
                parts,
                file,
                siblings,
                compress=self._compress,
                decorate=self._decorate,
            )
        except BaseException:
            _close(file, siblings)
            raise
        page.generation = generation
        return page

    def _still_is(
        self, page: Page, parts: Sequence[str], file: OpenFile, siblings: Siblings
    ) -> bool:
        """Whether a page would be made just like this again."""
        return (
            not page.young
            and page.generation == self._generation
            and page.path == "/".join(parts)
            and page.signature == signature(file, siblings)
        )

    def _siblings(self, parts: Sequence[str], source: OpenFile) -> Siblings:
        """The files beside a file that hold it in a content coding, unless they are older."""
        name = parts[-1]
        found: Siblings = {}
        if name.endswith(tuple(codings.SUFFIXES.values())):
            return found
        for coding, suffix in codings.SUFFIXES.items():
            where = (*parts[:-1], name + suffix)
            try:
                sibling = self._root.open(where)
            except (FileNotFoundError, IsADirectoryError):
                continue
            if _is_older(sibling, source):
                sibling.close()
                self._remark(
                    f"{'/'.join(where)!a} is older than {name!a} and is not used; "
                    "compress the file again"
                )
                continue
            found[coding] = where, sibling
        return found

    def _folder(self, url: str, parts: Sequence[str]) -> Folder | None:
        try:
            directory = self._root.open_directory(parts)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            listing = read_directory(
                directory,
                dotfiles=self._dotfiles,
                top=not parts,
                served=lambda name: self._leads_inside((*parts, name)),
            )
        finally:
            os.close(directory)
        if listing.left_out:
            shown = len(listing.entries)
            self._remark(f"{url!a} has too many names: its listing shows the first {shown:,}")
        return Folder(url, listing)

    def _leads_inside(self, parts: Sequence[str]) -> bool:
        try:
            self._root.open(parts).close()
        except IsADirectoryError:
            return True
        except OSError:
            return False
        return True


def _is_older(sibling: OpenFile, source: OpenFile) -> bool:
    """Whether a sibling was made of an earlier state of its source.

    Tools that give it the source's time may cut it: to whole seconds (archives, brotli), or by
    what is lost in a float (`os.utime(path, (atime, mtime))`).
    """
    lost = 10**9 - 1 if sibling.mtime_ns % 10**9 == 0 else 1000
    return sibling.mtime_ns + lost < source.mtime_ns


def _close(file: OpenFile, siblings: Mapping[str, tuple[Sequence[str], OpenFile]]) -> None:
    for each in (file, *(pair[1] for pair in siblings.values())):
        each.close()


__all__ = ["MAX_AGE", "Changed", "Folder", "Found", "Looked", "Moved", "Nothing", "Page", "Site"]
