"""One file of the site and its variants, with everything prepared that an answer needs.

A `Page` is made when a file was found and stands until the file, or one of its siblings in a
content coding, changes. Headers are prepared once; content is read when it is first asked for.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from werkzeug.http import http_date

from middleware import codings
from middleware.beneath import OpenFile, Root, Signature, is_young
from middleware.body import ONE_BLOCK, read_part
from middleware.conditional import Validators
from middleware.media import content_type
from middleware.negotiate import IDENTITY, choose_coding

Header = tuple[str, str]
Headers = list[Header]
Decorate = Callable[[str, str, Headers], Headers]

_LEAST_TO_COMPRESS: Final = 256
_LONGEST_TO_HASH: Final = 64 * 1024 * 1024

# For moments: who takes a file that is held open must be the only one. One lock for all, since
# pages are many and this is short.
_taking: Final = threading.Lock()

# What describes the content, which a 304 does not have (RFC 9110 15.4.5).
_OF_CONTENT: Final = frozenset(
    {
        "accept-ranges",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "last-modified",
        "x-content-type-options",
    }
)


class Changed(Exception):
    """A file is not any more what the page was made of; look it up again."""


class Content:
    """The bytes of one file: held in memory when there are few, else an open descriptor."""

    __slots__ = ("_data", "_file", "_is_shared", "_parts", "_root", "_signature", "size")

    def __init__(self, root: Root, parts: Sequence[str], file: OpenFile) -> None:
        self._root = root
        self._parts = tuple(parts)
        self._file: OpenFile | None = file
        self._is_shared = False  # others read it, or may: not to be given away or closed
        self._signature = file.signature
        self._data: bytes | None = None
        self.size = file.size

    @property
    def cost(self) -> tuple[int, int]:
        """Bytes of memory, open files."""
        return len(self._data or b""), int(self._file is not None)

    def release(self) -> None:
        """Close the file until it is asked for, unless others read it."""
        file = self._take()
        if file is not None:
            file.close()

    def data(self) -> bytes:
        """All of it. Raises Changed, OSError."""
        if self._data is not None:
            return self._data
        with self.own() as file:
            data = self._data = self._read(file)
        return data

    def everything(self) -> bytes:
        """All of it, however long, and not kept. Raises Changed, OSError."""
        with self.own() as file:
            return self._read(file)

    def _read(self, file: OpenFile) -> bytes:
        try:
            data = read_part(file, 0, self.size)
        except OSError:
            if file.unchanged():
                raise
            raise Changed from None  # it became shorter
        if not file.unchanged():
            raise Changed  # the bytes may be of two states
        return data

    def shared(self) -> OpenFile:
        """The file, open, for reading by position; stays open. Raises Changed, OSError."""
        file = self._file
        if file is None or not self._is_shared:
            with _taking:
                self._is_shared = True
                file = self._file
            if file is None:  # two threads may open it; one of the two leaves with its reader
                file = self._file = self._opened()
        if not file.unchanged():
            raise Changed  # bytes of now must not go under the tag of then
        return file

    def own(self) -> OpenFile:
        """The file, open, for the caller alone, who closes it. Raises Changed, OSError."""
        file = self._take()
        if file is None:
            return self._opened()
        if not file.unchanged():
            file.close()
            raise Changed
        return file

    def _take(self) -> OpenFile | None:
        with _taking:
            if self._is_shared:
                return None
            file, self._file = self._file, None
        return file

    def _opened(self) -> OpenFile:
        try:
            file = self._root.open(self._parts)
        except (FileNotFoundError, IsADirectoryError):
            raise Changed from None
        if file.signature != self._signature:
            file.close()
            raise Changed
        return file


class Made:
    """Bytes that are no file's: a listing, a page with a script put in, a compressed text."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    @property
    def cost(self) -> tuple[int, int]:
        """Bytes of memory, open files."""
        return self.size, 0

    def data(self) -> bytes:
        """All of it."""
        return self._data

    everything = data


class Variant:
    """One representation of a page (RFC 9110 3.2): the file in one content coding, or in none.

    `full`: the headers of a 206, without those of the range; `whole`: those of a 200;
    `not_modified`: those of a 304.
    `file`: what is sent from an open file; None where `content.data()` is sent, being short.
    """

    __slots__ = ("content", "file", "full", "not_modified", "size", "validators", "whole")

    def __init__(self, content: Content | Made, validators: Validators, full: Headers) -> None:
        self.content = content
        self.size = content.size
        self.file = content if isinstance(content, Content) and content.size > ONE_BLOCK else None
        self.validators = validators
        self.full = full
        self.whole = [*full, ("Content-Length", str(content.size))]
        self.not_modified = [pair for pair in full if pair[0].lower() not in _OF_CONTENT]


class Page:
    """A file that answers for a URL path.

    `url`: that path, decoded; `path`: of the file, below the root ("css/site.css"); `media_type`:
    its Content-Type; `signature`: what the file and its siblings were when the page was made;
    `young`: whether that may not tell a change; `generation`: of the rules that its headers were
    made by; `fresh_until`: in monotonic seconds, when to look again.
    """

    __slots__ = (
        "_decorate",
        "_variants",
        "codings",
        "fresh_until",
        "generation",
        "media_type",
        "path",
        "signature",
        "url",
        "young",
    )

    def __init__(self, url: str, path: str, media_type: str, decorate: Decorate) -> None:
        self.url = url
        self._decorate = decorate
        self._variants: dict[str, Variant] = {}
        self.path = path
        self.media_type = media_type
        self.signature: object = None
        self.young = False
        self.generation = 0
        self.fresh_until = 0.0
        self.codings: tuple[str, ...] = ()  # in which it can be had, in order of preference

    @property
    def cost(self) -> tuple[int, int]:
        """Bytes of memory, open files; see entries.py."""
        contents = {variant.content for variant in list(self._variants.values())}
        costs = [content.cost for content in contents]
        return 2048 + sum(memory for memory, _ in costs), sum(files for _, files in costs)

    def close_files(self) -> None:
        """Close what is open until it is asked for; for a page that nobody was given yet."""
        for variant in self._variants.values():
            if isinstance(variant.content, Content):
                variant.content.release()

    @property
    def plain(self) -> Variant:
        """The file itself, in no content coding."""
        return self._variants["identity"]

    def release(self) -> None:
        """Close what is open only because it was looked at: an answer without content, such as
        304, has no use for a file that is small enough to be read at once."""
        plain = self.plain
        if plain.file is None and isinstance(plain.content, Content):
            plain.content.release()

    def choose(self, accept_encoding: str | None) -> Variant | None:
        """The variant for an Accept-Encoding header; None if the client takes none of them.

        Raises Changed, OSError.
        """
        if not self.codings:
            # hot: nothing to choose from, and nobody who refuses the only thing there is
            if accept_encoding is None or ";" not in accept_encoding:
                return self.plain
        coding = choose_coding(accept_encoding, self.codings)
        if coding is None:
            return None
        variant = self._variants.get(coding) or self._compressed(coding)
        if variant is self.plain and coding != IDENTITY:
            # Coding it saves nothing; but will it be taken as it is?
            return variant if choose_coding(accept_encoding, ()) else None
        return variant

    def instead_with(self, data: bytes) -> Page:
        """A page like this one, of these bytes."""
        return made_page(self.url, self.path, self.media_type, data, self._decorate)

    def add(self, coding: str, content: Content | Made, validators: Validators) -> Variant:
        """Add a variant; "identity" is the file itself."""
        headers = [("Content-Type", self.media_type), ("X-Content-Type-Options", "nosniff")]
        headers.append(("Accept-Ranges", "bytes"))
        if validators.etag is not None:
            headers.append(("ETag", validators.etag))
        if validators.last_modified is not None:
            headers.append(("Last-Modified", http_date(validators.last_modified)))
        if coding != "identity":
            headers.append(("Content-Encoding", coding))
        if self.codings:
            headers.append(("Vary", "Accept-Encoding"))
        variant = Variant(content, validators, self._decorate(self.url, self.path, headers))
        self._variants[coding] = variant
        return variant

    def _compressed(self, coding: str) -> Variant:
        """The text in a coding that no sibling has; made once. Itself, if that saves nothing."""
        plain = self.plain
        data = plain.content.data()
        coded = codings.encode(data, coding, fast=True)
        if not codings.worth(len(data), len(coded)):
            self._variants[coding] = plain
            return plain
        return self.add(coding, Made(coded), _for_coding(plain.validators, coding))


def file_page(
    root: Root,
    url: str,
    parts: Sequence[str],
    file: OpenFile,
    siblings: Mapping[str, tuple[Sequence[str], OpenFile]],
    *,
    compress: bool,
    decorate: Decorate,
) -> Page:
    """The page of an open file, and of its siblings by content coding.

    The files are the page's from now on. Raises Changed, OSError.
    """
    path = "/".join(parts)
    page = Page(url, path, content_type(path), decorate)
    made: tuple[str, ...] = ()
    if compress and _LEAST_TO_COMPRESS <= file.size <= ONE_BLOCK and codings.compressible(path):
        made = codings.available()
    # A sibling is smaller than what can be made in a moment, and costs nothing: it comes first.
    ready = tuple(name for name in codings.CODINGS if name in siblings)
    page.codings = ready + tuple(name for name in made if name not in siblings)
    states = (file, *(opened for _, opened in siblings.values()))
    page.young = any(is_young(each.mtime_ns) for each in states)
    page.signature = signature(file, siblings)
    sources = {"identity": (parts, file), **siblings}
    for coding, (where, opened) in sources.items():
        content = Content(root, where, opened)
        page.add(coding, content, _validators(content, opened, coding))
        if coding != "identity":
            content.release()
    return page


def made_page(url: str, path: str, media_type: str, data: bytes, decorate: Decorate) -> Page:
    """A page of bytes that are no file's; its ETag is made of them."""
    page = Page(url, path, media_type, decorate)
    page.add("identity", Made(data), Validators(f'"{_digest(data)}"'))
    return page


def signature(
    file: OpenFile, siblings: Mapping[str, tuple[Sequence[str], OpenFile]]
) -> tuple[tuple[str, Signature], ...]:
    """What tells one state of a file and its siblings from another."""
    states = {"identity": file, **{coding: pair[1] for coding, pair in siblings.items()}}
    return tuple((coding, each.signature) for coding, each in states.items())


def _validators(content: Content, file: OpenFile, coding: str) -> Validators:
    """From integers alone, so neither rounding nor a time zone can change them.

    A time of 0 or 1 s is what reproducible builds give every file: it tells nothing, and neither
    does one before 1970, so the tag is made of the content. A time in the future must not be sent
    (RFC 9110 8.8.2.1): now stands for it. A file that may still be written to within the clock's
    tick has a weak tag (8.8.1).
    """
    seconds = file.mtime_ns // 1_000_000_000
    if seconds <= 1:
        return _for_coding(Validators(_content_tag(content)), coding)
    etag = f'"{file.mtime_ns:x}-{file.size:x}-{file.inode:x}"'
    if is_young(file.mtime_ns):  # not the tag that the file has later, which would match it weakly
        etag = f'W/{etag[:-1]}-young"'
    return _for_coding(Validators(etag, min(seconds, int(time.time()))), coding)


def _for_coding(plain: Validators, coding: str) -> Validators:
    """The validators of the same state in a content coding: another representation (8.8.3.3)."""
    if coding == "identity" or plain.etag is None:
        return plain
    return Validators(f'{plain.etag[:-1]}-{coding}"', plain.last_modified)


def _content_tag(content: Content) -> str | None:
    if content.size > _LONGEST_TO_HASH:
        return None  # it would hold up everybody for too long
    if content.size <= ONE_BLOCK:
        return f'"{_digest(content.data())}"'
    digest = hashlib.blake2b(digest_size=16)
    file = content.shared()
    for start in range(0, content.size, ONE_BLOCK):
        digest.update(read_part(file, start, min(ONE_BLOCK, content.size - start)))
    return f'"{digest.hexdigest()}"'


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
