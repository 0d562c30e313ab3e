"""Any tree and any URL path: what is served is what a slow, literal model of the rules says.

The model knows the tree as a table and never asks the file system. Beside it stands a second
opinion, that of the operating system: what is served must really lie below the root or a tree that
is named. Both ways of opening are asked.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from middleware import beneath
from middleware.beneath import Root
from middleware.resolve import judge

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the file system has a mind of its own about names"
)

SECRET: Final = b"secret of the outside"
INDEX: Final = "index.html"


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Fifo:
    pass


Node = bytes | Link | Fifo | Mapping[str, "Node"]
Served = bytes | str | None  # a file's bytes, "directory", or nothing

# "{root}" and the like are replaced by where the world lies.
SURROUNDINGS: Final[Mapping[str, Node]] = {
    "secret.txt": SECRET,
    "a": SECRET,
    INDEX: SECRET,
    "root2": {"a": SECRET, INDEX: SECRET},
    "outside": {"a": SECRET, "d": {"a": SECRET}, "back": Link("{world}/root")},
    "current": Link("root"),
    "alias": Link("tree"),
}


class World:
    """A directory with the root, a named tree, and what is outside, on disk and as a table."""

    def __init__(self, top: str, root: Mapping[str, Node], tree: Mapping[str, Node]) -> None:
        self.top = os.path.realpath(top)
        self.nodes: dict[str, Node] = {}
        self.links = 0  # that the latest look-up went through
        self._make(self.top, {**SURROUNDINGS, "root": root, "tree": tree})
        # The root is served by the name of a link to it, and the tree named by one.
        self.root = Root(f"{self.top}/current", symlink_roots=[f"{self.top}/alias"])
        self.tops = {
            f"{self.top}/current": f"{self.top}/root",
            f"{self.top}/root": f"{self.top}/root",
            f"{self.top}/alias": f"{self.top}/tree",
            f"{self.top}/tree": f"{self.top}/tree",
        }

    def _make(self, path: str, node: Node) -> None:
        match node:
            case bytes():
                Path(path).write_bytes(node)
            case Link(target):
                node = Link(target.replace("{world}", self.top))
                os.symlink(node.target, path)
            case Fifo():
                os.mkfifo(path)
            case _:
                os.makedirs(path, exist_ok=True)
                for name, below in node.items():
                    self._make(f"{path}/{name}", below)
        self.nodes[path] = node

    def expected(self, path: bytes) -> Served:
        """What the rules say of a URL path."""
        self.links = 0
        text = judged(path)
        if text is None:
            return None
        names = text[1:].split("/")
        directory = names[-1] == ""
        if directory:
            names[-1] = INDEX
        model = Model(self)
        node = model.look_up(names)
        self.links = model.links
        if isinstance(node, bytes):
            return node
        return "directory" if isinstance(node, Mapping) else None


def judged(path: bytes) -> str | None:
    """The decoded path if it is of the form that names a file or, with a slash, a directory."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    names = text.split("/")
    if names.pop(0) != "" or not names:
        return None
    checked = names[:-1] if names[-1] == "" else names
    for depth, name in enumerate(checked):
        if name == "" or (name[0] == "." and (depth, name) != (0, ".well-known")):
            return None
        if any(ord(c) < 32 or c in "\x7f\\" for c in name):
            return None
        if len(name) == 2 and name[1] == ":" and name[0].isascii() and name[0].isalpha():
            return None
    if len(checked) == 1:
        for own in ("_headers", "_redirects"):
            if checked[0].lower() == own or checked[0].lower().startswith((own + ".", own + "~")):
                return None
    return text


@dataclass
class Model:
    """One look-up in the table.

    todo: the names to come, and of each whether a link says it, that is, the operator.
    """

    world: World
    where: str = ""
    todo: list[tuple[str, bool]] = field(default_factory=list)
    links: int = 0

    def look_up(self, names: Sequence[str]) -> Node | None:
        self.where = f"{self.world.top}/root"
        self.todo = [(name, False) for name in names]
        while self.todo:
            if not self.step():
                return None
        return self.world.nodes[self.where]

    def step(self) -> bool:
        """Take the next name; False: it leads nowhere."""
        if not isinstance(self.world.nodes[self.where], Mapping):
            return False
        name, _ = self.todo.pop(0)
        if name in ("", "."):  # only links have these: a directory must be here, and is
            return True
        if name == "..":
            parent = os.path.dirname(self.where)
            if self.where in self.world.tops:
                return self.jump(parent)
            self.where = parent
            return True
        node = self.world.nodes.get(f"{self.where}/{name}")
        if not isinstance(node, Link):
            self.where = f"{self.where}/{name}"
            return node is not None
        self.links += 1
        if self.links > 40:
            return False
        self.todo[:0] = [(part, True) for part in node.target.split("/")]
        return self.jump("/") if node.target.startswith("/") else True

    def jump(self, start: str) -> bool:
        """Go on from `start`, outside, if the names that links say there lead into a tree."""
        said = 0
        while said < len(self.todo) and self.todo[said][1]:
            said += 1
        names = [name for name, _ in self.todo[:said]]
        ends_in_directory = names[-1:] in (["."], [""])
        names = [name for name in names if name not in ("", ".")]
        while names[:1] == [".."]:
            start = os.path.dirname(start)
            del names[0]
        target = start.rstrip("/") + "".join("/" + name for name in names)
        for top, real in self.world.tops.items():
            if (target + "/").startswith(top + "/"):
                rest = target[len(top) + 1 :].split("/") + [""] * ends_in_directory
                self.where = real
                self.todo[:said] = [(name, True) for name in rest]
                return True
        return False


def serve(root: Root, path: bytes) -> Served:
    """As a server of files does it: judge, then open the file, or the index of a directory."""
    found = judge(path.decode("latin-1"), windows=False)
    if found is None:
        return None
    parts = (*found.parts, INDEX) if found.directory else found.parts
    try:
        with root.open(parts) as file:
            return os.read(file.fd, 1 << 16)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return "directory"


def ways() -> Iterator[tuple[str, beneath.Way]]:
    kernel = beneath._kernel_way()
    if kernel is not None:
        yield "openat2", kernel
    yield "walk", beneath._walk


@contextmanager
def opening_by(way: beneath.Way) -> Iterator[None]:
    before, beneath._way = beneath._way, way
    try:
        yield
    finally:
        beneath._way = before


def check(world: World, path: bytes) -> Served:
    """What is served for a path, which is what the model says whichever way it is opened."""
    expected = world.expected(path)
    for name, way in ways():
        with opening_by(way):
            served = serve(world.root, path)
        assert served == expected, (name, path)
        if isinstance(served, bytes):
            assert served != SECRET
            really_inside(world, path, served)
    return expected


def really_inside(world: World, path: bytes, served: bytes) -> None:
    """The operating system's word on where the path leads, without any of our rules."""
    below = path[1:] + INDEX.encode() * path.endswith(b"/")
    real = os.path.realpath(os.path.join(os.fsencode(world.top), b"root", below), strict=True)
    tops = [os.fsencode(f"{world.top}/{name}/") for name in ("root", "tree")]
    assert any(real.startswith(top) for top in tops), real
    assert Path(os.fsdecode(real)).read_bytes() == served


NAMES: Final = [
    "a", "b", "d", "l", "m", "é", "é", "x y", "a.txt", INDEX, ".env", ".well-known", "%2e%2e",
    "_headers", "_redirects", "_HEADERS.gz", "_redirects~", "_headersX", "c:", "cc:", "CON", "...",
    "a\nb", "a\\b", "~", "\udcff", "n" * 255,
]  # fmt: skip
COMMON: Final = ["a", "b", "d", "l", "m", INDEX]
names = st.sampled_from(COMMON) | st.sampled_from(COMMON) | st.sampled_from(NAMES)

targets = st.builds(
    lambda start, parts, end: (start + "/".join(parts) + end) or ".",
    st.sampled_from(
        [
            *(
                "",
                "",
                "",
                "./",
                "../",
                "../../",
                "../../../",
                "../tree/",
                "../root/",
                "../outside/",
            ),
            *("{world}/root/", "{world}/current/", "{world}/tree/", "{world}/alias/"),
            *("{world}/", "{world}/outside/", "{world}/outside/back/", "{world}/root2/", "/"),
            *("{world}//tree/./", "{world}/root/../tree/", "{world}/tree/../current/"),
        ]
    ),
    st.lists(names | st.sampled_from(["..", ".", "tree", "root"]), max_size=3),
    st.sampled_from(["", "", "", "/", "/."]),
)
leaves = st.one_of(
    st.just(b"inside"),
    st.integers(0, 9).map(lambda n: b"inside %d" % n),
    st.builds(Link, targets),
    st.builds(Link, targets),
    st.builds(Link, targets),
    st.builds(Fifo),
)


def directories(below: st.SearchStrategy[Node]) -> st.SearchStrategy[Mapping[str, Node]]:
    return st.dictionaries(names, below, max_size=6)


# Something to find in every tree, and links that often lead to it.
FURNITURE: Final[Mapping[str, Node]] = {
    "a": b"a",
    "d": {"a": b"d/a", INDEX: b"d/", "m": Link("../m"), "d": {INDEX: b"d/d/"}},
}
likely: Final = st.builds(
    Link,
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(
                [
                    "",
                    "d/../",
                    "../tree/",
                    "l/",
                    "{world}/root/",
                    "{world}/alias/",
                    "{world}/current/",
                ]
            ),
            st.sampled_from(["a", "d", "d/a", "d/", "l", "m", "m/a", "l/d", ".", "a/"]),
        ),
    ),
)


@st.composite
def trees(draw: st.DrawFn) -> Mapping[str, Node]:
    drawn = draw(directories(leaves | directories(leaves | directories(leaves))))
    return {**FURNITURE, **drawn, "l": draw(likely), "m": draw(likely | st.builds(Link, targets))}


def within(tree: Mapping[str, Node], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all that is in a tree."""
    for name, node in tree.items():
        yield (*above, name)
        if isinstance(node, Mapping):
            yield from within(node, (*above, name))


@st.composite
def asked(draw: st.DrawFn, root: Mapping[str, Node]) -> bytes:
    """A URL path: to something in the tree, or through it and on, or near it."""
    links = [("l",), ("m",), ("d", "m")]
    parts = [*draw(st.sampled_from([(), *within(root)]) | st.sampled_from(links))]
    if draw(st.booleans()):
        parts += draw(st.lists(names | st.sampled_from(["root", "tree", "outside"]), max_size=2))
    if draw(st.integers(0, 7)) == 0:
        odd = [
            "",
            ".",
            "..",
            "\0",
            "..\\",
            "\udcc0\udcaf",
            "\udced\udca0\udc80",
            "a\0",
            "A",
            "n" * 256,
        ]
        parts.insert(draw(st.integers(0, len(parts))), draw(st.sampled_from(odd)))
    path = "/" + "/".join(parts) + draw(st.sampled_from(["", "", "/"]))
    return path.encode("utf-8", "surrogateescape")


@given(st.data(), trees(), trees())
@settings(max_examples=200, deadline=None)
def test_any_tree_and_any_path(
    data: st.DataObject, root: Mapping[str, Node], tree: Mapping[str, Node]
) -> None:
    with tempfile.TemporaryDirectory() as top:
        world = World(top, root, tree)
        paths = data.draw(st.lists(asked(root), min_size=1, max_size=12))
        before = len(os.listdir("/dev/fd"))
        for path in paths:
            served = check(world, path)
            event(
                f"{'a file' if isinstance(served, bytes) else served}, {min(world.links, 4)} links"
            )
        assert len(os.listdir("/dev/fd")) <= before  # fewer: what others left was collected


HAND_MADE_ROOT: Final[Mapping[str, Node]] = {
    "a": b"a of the root",
    INDEX: b"home",
    "sub": {"a": b"a of sub", INDEX: b"index of sub", "up": Link("../a"), "out": Link("../../a")},
    "to_sub": Link("sub"),
    "to_file_as_directory": Link("a/"),
    "to_tree": Link("../tree"),
    "to_alias": Link("{world}/alias/t"),
    "to_tree_and_back": Link("../tree/back/a"),
    "to_parent": Link(".."),
    "to_other": Link("../root2/a"),
    "by_a_link_outside": Link("{world}/outside/back/a"),
    "loop": Link("loop"),
    "dangling": Link("nothing"),
    "fifo": Fifo(),
    "_headers": b"/*",
    "d": {"_headers": b"a file like any other"},
}
HAND_MADE_TREE: Final[Mapping[str, Node]] = {
    "t": b"t of the tree",
    "back": Link("{world}/current"),
    "secret": Link("../secret.txt"),
}


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/a", b"a of the root"),
        ("/", b"home"),
        ("/sub", "directory"),
        ("/sub/", b"index of sub"),
        ("/sub/up", b"a of the root"),
        ("/sub/out", None),
        ("/to_sub/a", b"a of sub"),
        ("/to_sub/", b"index of sub"),
        ("/to_file_as_directory", None),
        ("/to_tree", "directory"),
        ("/to_tree/t", b"t of the tree"),
        ("/to_tree/back/sub/a", b"a of sub"),
        ("/to_tree/secret", None),
        ("/to_tree/", None),
        ("/to_alias", b"t of the tree"),
        ("/to_tree_and_back", b"a of the root"),
        ("/to_parent", None),
        ("/to_parent/root/a", None),
        ("/to_parent/tree/t", None),
        ("/to_other", None),
        ("/by_a_link_outside", None),
        ("/loop", None),
        ("/dangling", None),
        ("/fifo", None),
        ("/a/", None),
        ("/a/a", None),
        ("/_headers", None),
        ("/d/_headers", b"a file like any other"),
        ("/../root/a", None),
        ("/sub/../a", None),
    ],
)
def test_the_model_itself(tmp_path: Path, path: str, served: Served) -> None:
    """A tree made by hand, with answers that nobody computed."""
    assert check(World(str(tmp_path), HAND_MADE_ROOT, HAND_MADE_TREE), path.encode()) == served
