"""Opening below a root: links, special files, named trees, swapped directories; each way to do it.

That the ways agree on any tree is in test_path_model.py.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from middleware import beneath
from middleware.beneath import OpenFile, Root

WAYS: dict[str, Callable[[], beneath.Way | None]] = {
    "kernel": beneath._kernel_way,
    "walk": lambda: beneath._walk,
    "compare": lambda: beneath._compare,
}
RELATIVE = ["kernel", "walk"]  # to a descriptor: these look at nothing outside


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name != "compare" and not beneath._CAN_WALK:
        pytest.skip("this system cannot open relative to a directory")
    found = WAYS[name]()
    if found is None:
        pytest.skip("this system has no openat2(2)")
    monkeypatch.setattr(beneath, "_way", found)
    return name


relative = pytest.mark.parametrize("way", RELATIVE, indirect=True)


def read(root: Path | Root, path: str) -> bytes:
    with (root if isinstance(root, Root) else Root(root)).open(path.split("/")) as file:
        return os.read(file.fd, 1 << 20)


def link(root: Path, name: str, target: object) -> None:
    (root / name).symlink_to(str(target))


@pytest.mark.usefixtures("way")
class TestEitherWay:
    def test_reads_and_stats_one_descriptor(self, site: Path) -> None:
        with Root(site).open(["a.txt"]) as file:
            status = (site / "a.txt").stat()
            assert (file.device, file.inode) == (status.st_dev, status.st_ino)
            assert (file.size, file.mtime_ns, file.ctime_ns) == (
                100,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            assert not os.get_inheritable(file.fd)
            fd = file.fd
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)

    def test_detach_leaves_it_open(self, site: Path) -> None:
        with Root(site).open(["a.txt"]) as file:
            fd = file.detach()
        assert os.read(fd, 3) == b"012"
        os.close(fd)

    def test_links_inside_are_followed(self, site: Path) -> None:
        link(site, "l", "a.txt")
        link(site, "sub/up", "../bare/b.txt")
        link(site, "d", "bare")
        link(site, "abs", site / "bare" / "b.txt")
        link(site, "dots", "sub/.././bare//b.txt")
        assert read(site, "l") == b"0123456789" * 10
        for path in ("sub/up", "d/b.txt", "abs", "dots"):
            assert read(site, path) == b"b"

    def test_links_to_hidden_names_are_the_operators_choice(self, site: Path) -> None:
        """Kubernetes mounts a ConfigMap as page.html -> ..data/page.html, ..data -> ..2026."""
        (site / "..2026").mkdir()
        (site / "..2026" / "page.html").write_bytes(b"page")
        link(site, "..data", "..2026")
        link(site, "page.html", "..data/page.html")
        assert read(site, "page.html") == b"page"

    @pytest.mark.parametrize(
        "target",
        [
            "../outside.txt",
            "../root_secret/s.txt",
            "sub/../../outside.txt",
            "{root}/../outside.txt",
            "{root}_secret/s.txt",
            "{top}/outside.txt",
            "/etc/passwd",
            "/dev/zero",
            "dangling",
            "l",
            "a.txt/x",
            "/",
        ],
    )
    def test_links_out_and_to_nothing_are_missing(self, site: Path, target: str) -> None:
        (site / "_secret").mkdir()  # a root cut off as a mere string would lead here
        (site / "_secret" / "s.txt").write_bytes(b"s")
        link(site, "l", target.format(root=site, top=site.parent))
        with pytest.raises(FileNotFoundError):
            read(site, "l")

    def test_directory_links_out_are_missing(self, site: Path) -> None:
        link(site, "up", "..")
        link(site, "sub/root", "../..")
        for path in ("up/outside.txt", "up/root/a.txt/x", "sub/root/outside.txt"):
            with pytest.raises(FileNotFoundError):
                read(site, path)

    def test_directories_are_told(self, site: Path) -> None:
        link(site, "here", ".")
        link(site, "sub/home", "..")
        link(site, "abs", site)
        for path in ("sub", "here", "sub/home", "abs"):
            with pytest.raises(IsADirectoryError):
                read(site, path)
        with pytest.raises(IsADirectoryError):
            Root(site).open([])

    def test_special_files_are_missing_and_do_not_hang(self, site: Path) -> None:
        os.mkfifo(site / "fifo")
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            here = Path.cwd()
            os.chdir(site)  # a socket's path is limited to 108 bytes
            try:
                listener.bind("socket")
            finally:
                os.chdir(here)
            for name in ("fifo", "socket"):
                with pytest.raises(FileNotFoundError):
                    read(site, name)

    def test_the_root_may_be_a_link_that_changes(self, site: Path, tmp_path: Path) -> None:
        current = tmp_path / "current"
        link(tmp_path, "current", "root")
        link(site, "abs", current / "a.txt")
        assert read(current, "a.txt") == read(current, "abs") == b"0123456789" * 10
        root = Root(current)
        current.unlink()
        link(tmp_path, "current", "root/bare")
        assert read(root, "b.txt") == b"b"
        current.unlink()
        with pytest.raises(FileNotFoundError):
            read(root, "b.txt")
        current.mkdir()
        (current / "b.txt").write_bytes(b"new")
        assert read(root, "b.txt") == b"new"

    def test_long_names_and_chains(self, site: Path) -> None:
        link(site, "l0", "a.txt")
        for n in range(1, 60):
            link(site, f"l{n}", f"l{n - 1}")
        assert read(site, "l30") == b"0123456789" * 10
        (site / ("n" * 255)).write_bytes(b"n")
        assert read(site, "n" * 255) == b"n"
        with pytest.raises(FileNotFoundError):
            read(site, "n" * 256)

    def test_a_path_longer_than_one_call_takes(self, site: Path) -> None:
        here = os.open(site, os.O_RDONLY)
        names = ["d" * 250] * 17
        for name in names:
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
        os.close(here)
        if beneath._way is beneath._compare:
            return
        assert read(site, "/".join([*names, "f"])) == b""

    @pytest.mark.parametrize(
        "parts",
        [["..", "outside.txt"], ["."], [""], ["sub", "..", "a.txt"], ["a.txt\0.png"], ["\ud800"]],
    )
    def test_who_forgot_to_judge_gets_nothing(self, site: Path, parts: list[str]) -> None:
        with pytest.raises(FileNotFoundError):
            Root(site).open(parts)

    def test_a_name_that_is_not_utf8_is_opened_as_the_system_gave_it(self, site: Path) -> None:
        with open(os.fsencode(site) + b"/\xff.txt", "wb") as file:
            file.write(b"ff")
        with Root(site).open(["\udcff.txt"]) as opened:
            assert os.read(opened.fd, 9) == b"ff"

    def test_a_signature_tells_that_a_file_changed(self, site: Path) -> None:
        root = Root(site)
        with root.open(["a.txt"]) as file, root.open(["a.txt"]) as again:
            before = file.signature
            assert again.signature == before
        status = (site / "a.txt").stat()
        (site / "a.txt").write_bytes(b"9" * 100)
        os.utime(site / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
        with root.open(["a.txt"]) as file:
            assert file.signature[:4] == before[:4]  # only the ctime gives it away
            assert file.signature != before


@relative
@pytest.mark.usefixtures("way")
class TestRelative:
    """What holds where the path is not compared but opened relative to the root."""

    @pytest.mark.parametrize("target", ["a.txt/", "a.txt/.", "a.txt/..", "missing/..", "l2"])
    def test_a_link_to_a_file_as_a_directory_is_missing(self, site: Path, target: str) -> None:
        link(site, "l2", "a.txt/")
        link(site, "l", target)
        with pytest.raises(FileNotFoundError):
            read(site, "l")

    def test_links_without_end_are_missing(self, site: Path) -> None:
        for n in range(60):
            link(site, f"l{n}", f"l{n + 1}")
        (site / "l60").write_bytes(b"end")
        with pytest.raises(FileNotFoundError):
            read(site, "l0")
        with pytest.raises(FileNotFoundError):
            read(site, "l19")  # 41 links
        assert read(site, "l20") == b"end"  # 40

    def test_the_client_cannot_name_what_lies_outside(self, site: Path) -> None:
        link(site, "up", "..")
        link(site, "back", "../root/a.txt")
        link(site, "top", "/")
        assert read(site, "back") == b"0123456789" * 10
        for path in ("up/root/a.txt", f"top{site}/a.txt"):
            with pytest.raises(FileNotFoundError):
                read(site, path)

    def test_directories_are_opened_for_listing(self, site: Path) -> None:
        link(site, "here", ".")
        link(site, "abs", site / "sub")
        link(site, "up", "..")
        link(site, "file", "a.txt")
        os.mkfifo(site / "fifo")
        root = Root(site)

        def names(*parts: str) -> set[str]:
            fd = root.open_directory(parts)
            try:
                assert not os.get_inheritable(fd)
                with os.scandir(fd) as entries:
                    return {entry.name for entry in entries}
            finally:
                os.close(fd)

        assert names("bare") == {"b.txt"}
        assert names() == names("here") == set(os.listdir(site))
        assert names("abs") == {"index.html", ".htpasswd"}
        for path in ("a.txt", "a.txt/x", "file", "fifo"):
            with pytest.raises(NotADirectoryError):
                root.open_directory(path.split("/"))
        for path in ("missing", "up", "up/root", "bare/missing"):
            with pytest.raises(FileNotFoundError):
                root.open_directory(path.split("/"))

    def test_each_refused_link_is_reported_once(self, site: Path, tmp_path: Path) -> None:
        link(site, "out", "../outside.txt")
        link(site, "sub/abs", "/etc/passwd")
        link(site, "dir", "sub")
        link(site, "in", "dir/../out")
        link(site, "dangling", "nowhere")
        link(site, "loop", "loop")
        reports: list[str] = []
        root = Root(site, refused_link=reports.append)
        asked = ("out", "out", "sub/abs", "dir/abs", "in", "out/x", "dangling", "loop", "a.txt/x")
        for path in asked:
            with pytest.raises(FileNotFoundError):
                read(root, path)
        assert reports == [str(site / "out"), str(site / "sub" / "abs")]

    def test_the_link_that_climbs_is_reported_not_one_it_goes_through(self, site: Path) -> None:
        link(site, "through", "bare")
        link(site, "climbs", "through/../../x")
        reports: list[str] = []
        with pytest.raises(FileNotFoundError):
            read(Root(site, refused_link=reports.append), "climbs")
        assert reports == [str(site / "climbs")]

    def test_the_reports_are_bounded(self, site: Path) -> None:
        reports: list[str] = []
        root = Root(site, refused_link=reports.append)
        for n in range(150):
            link(site, f"out{n}", "..")
            with pytest.raises(FileNotFoundError):
                read(root, f"out{n}/x")
        assert len(reports) == 100


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A tree beside the root."""
    tree = tmp_path / "shared"
    (tree / "lib").mkdir(parents=True)
    (tree / "x.js").write_bytes(b"x")
    (tree / "lib" / "y.js").write_bytes(b"y")
    return tree


@pytest.mark.usefixtures("way")
class TestNamedTrees:
    def test_links_lead_there_and_on(self, site: Path, shared: Path) -> None:
        link(site, "abs.js", shared / "x.js")
        link(site, "rel.js", "../shared/x.js")
        link(site, "sub/rel.js", ".././../shared//lib/../x.js")
        link(site, "tree", shared)
        link(shared, "l.js", "lib/y.js")
        link(shared, "back", site / "bare")
        link(shared, "lib/back", "../../root/bare/b.txt")
        root = Root(site, symlink_roots=[shared])
        for path in ("abs.js", "rel.js", "sub/rel.js", "tree/x.js"):
            assert read(root, path) == b"x"
            with pytest.raises(FileNotFoundError):
                read(site, path)
        assert read(root, "tree/l.js") == read(root, "tree/lib/y.js") == b"y"
        assert read(root, "tree/back/b.txt") == read(root, "tree/lib/back") == b"b"
        with pytest.raises(IsADirectoryError):
            read(root, "tree")

    def test_they_end_at_their_own_top(self, site: Path, shared: Path) -> None:
        (shared.parent / "shared_not").mkdir()
        (shared.parent / "shared_not" / "x.js").write_bytes(b"secret")
        link(site, "tree", shared)
        link(site, "not", "../shared_not/x.js")
        link(shared, "up", "../outside.txt")
        link(shared, "out", shared.parent / "outside.txt")
        link(site, "dots", f"{shared}/../outside.txt")
        root = Root(site, symlink_roots=[shared])
        for path in ("not", "tree/up", "tree/out", "dots", "tree/a.txt", "tree/x.js/x"):
            with pytest.raises(FileNotFoundError):
                read(root, path)

    def test_they_may_be_links_and_named_by_either_path(self, site: Path, shared: Path) -> None:
        link(shared.parent, "alias", "shared")
        link(site, "real.js", shared / "x.js")
        link(site, "alias.js", shared.parent / "alias" / "x.js")
        link(site, "climb.js", "../shared/x.js")
        root = Root(site, symlink_roots=[shared.parent / "alias"])
        assert read(root, "real.js") == read(root, "alias.js") == read(root, "climb.js") == b"x"

    def test_a_link_may_climb_far(self, site: Path, shared: Path) -> None:
        link(site, "sub/x.js", "../../shared/lib/../x.js")
        link(site, "sub/home", f"../../../{site.parent.name}/root/a.txt")
        root = Root(site / "sub", symlink_roots=[shared, site])
        assert read(root, "x.js") == b"x"
        assert read(root, "home") == b"0123456789" * 10

    def test_the_root_may_lie_in_one(self, site: Path, shared: Path) -> None:
        link(site, "out", "../outside.txt")
        link(site, "x.js", shared / "x.js")
        root = Root(site, symlink_roots=[site.parent])
        assert read(root, "x.js") == b"x"
        assert read(root, "out") == (site.parent / "outside.txt").read_bytes()
        assert read(Root(site, symlink_roots=["/"]), "x.js") == b"x"


def test_a_relative_link_climbs_from_where_the_root_really_is(site: Path, shared: Path) -> None:
    """The root is reached by a link; `..` is the parent of what it leads to, not of the link."""
    (site.parent / "elsewhere" / "shared").mkdir(parents=True)
    (site.parent / "elsewhere" / "shared" / "x.js").write_bytes(b"wrong")
    link(site.parent, "elsewhere/current", site)
    link(site, "x.js", "../shared/x.js")
    current = site.parent / "elsewhere" / "current"
    assert read(Root(current, symlink_roots=[shared]), "x.js") == b"x"


@pytest.mark.parametrize(
    ("path", "trees", "message"),
    [
        ("missing", [], "root does not exist: "),
        ("root/a.txt", [], "root is not a directory: "),
        ("root", ["missing"], "symlink root does not exist: "),
        ("root", ["root/sub", "root/a.txt"], "symlink root is not a directory: "),
    ],
)
def test_what_is_no_directory_is_refused_and_named(
    site: Path, path: str, trees: list[str], message: str
) -> None:
    top = site.parent
    bad = top / (trees[-1] if trees else path)
    with pytest.raises(ValueError, match=f"^{message}{bad}$"):
        Root(top / path, symlink_roots=[top / tree for tree in trees])


def test_one_tree_is_no_list_of_trees(site: Path) -> None:
    for wrong in (str(site), site):
        with pytest.raises(ValueError, match="symlink_roots must be a list"):
            Root(site, symlink_roots=wrong)  # type: ignore[arg-type]


def test_relative_paths_are_taken_from_the_current_directory_now(
    site: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(site, "x.js", shared / "x.js")
    monkeypatch.chdir(site.parent)
    root = Root("root", symlink_roots=["shared"])
    monkeypatch.chdir("/")
    assert (root.path, root.symlink_roots) == (str(site), (str(shared),))
    assert read(root, "x.js") == b"x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.usefixtures("way")
class TestPermissions:
    @pytest.fixture(autouse=True)
    def restore(self, site: Path) -> Iterator[None]:
        yield
        (site / "sub").chmod(0o755)

    def test_unreadable_is_missing(self, site: Path) -> None:
        (site / "a.txt").chmod(0)
        with pytest.raises(FileNotFoundError):
            read(site, "a.txt")

    def test_a_directory_may_be_passed_that_may_not_be_read(self, site: Path) -> None:
        (site / "sub").chmod(0o311)
        assert read(site, "sub/index.html").startswith(b"<!doctype")

    def test_what_may_not_be_searched_leads_nowhere(self, site: Path, way: str) -> None:
        link(site, "dots", "sub/../a.txt")
        (site / "sub").chmod(0o644)
        for path in ("sub/index.html", "dots") if way != "compare" else ("sub/index.html",):
            with pytest.raises(FileNotFoundError):
                read(site, path)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM])
def test_a_system_that_cannot_say_is_not_taken_for_missing(
    site: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*args: object, **options: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(beneath, "_way", fail)
    for look in (Root(site).open, Root(site).open_directory):
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            look(["a.txt"])
        assert not isinstance(caught.value, FileNotFoundError | NotADirectoryError)


LIMITED = """
import errno, os, resource, sys
from middleware import beneath
way = {"kernel": beneath._kernel_way, "walk": lambda: beneath._walk}[sys.argv[2]]()
if way is None:
    sys.exit("none")
beneath._way = way
root = beneath.Root(sys.argv[1])
root.open(["a.txt"]).close()
lowest = os.dup(0)
os.close(lowest)
for more in (0, 1):
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, 64))
    try:
        root.open(["a.txt"])
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    else:
        sys.exit("it was opened")
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, 64))
root.open(["a.txt"]).close()
"""


@pytest.mark.parametrize("name", RELATIVE)
def test_no_descriptors_left_is_no_answer_about_the_file(site: Path, name: str) -> None:
    run = [sys.executable, "-c", LIMITED, str(site), name]
    done = subprocess.run(run, capture_output=True, text=True, timeout=30)
    if done.stderr == "none\n":
        pytest.skip("this system has no openat2(2)")
    assert done.returncode == 0, done.stderr


@relative
@pytest.mark.usefixtures("way")
def test_a_directory_swapped_for_a_link_never_leads_out(site: Path, tmp_path: Path) -> None:
    """While one thread exchanges d/ and a link to the outside, another opens d/b.txt."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "b.txt").write_bytes(b"outside")
    (site / "d").mkdir()
    (site / "d" / "b.txt").write_bytes(b"inside")
    link(site, "e", "../evil")
    root = Root(site)
    enough = threading.Event()

    def swap() -> None:
        while not enough.is_set():
            os.rename(site / "d", site / "kept")
            os.rename(site / "e", site / "d")
            os.rename(site / "d", site / "e")
            os.rename(site / "kept", site / "d")

    thread = threading.Thread(target=swap)
    before = descriptors()
    thread.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(read(root, "d/b.txt"))
            except FileNotFoundError:
                seen.add(b"")
    finally:
        enough.set()
        thread.join()
    assert seen <= {b"inside", b""}
    assert descriptors() == before
    assert read(root, "d/b.txt") == b"inside"


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.usefixtures("way")
def test_no_descriptor_is_left_whatever_happens(site: Path, shared: Path) -> None:
    link(site, "out", "../outside.txt")
    link(site, "loop", "loop")
    link(site, "in", "sub/../bare/b.txt")
    link(site, "tree", shared)
    link(site, "sub/over", "../../shared/lib/../x.js")
    os.mkfifo(site / "fifo")
    root = Root(site, symlink_roots=[shared])
    before = descriptors()
    for path in (
        *("a.txt", "sub", "out", "loop", "in", "fifo", "missing", "a.txt/x", "sub/x/y"),
        *("tree", "tree/x.js", "tree/lib/y.js", "tree/nothing", "sub/over"),
    ):
        try:
            opened: OpenFile | None = root.open(path.split("/"))
        except OSError:
            opened = None
        if opened is not None:
            opened.close()
            opened.close()
        assert descriptors() == before, path


class TestWhichWay:
    """Without openat2(2), for whatever reason, the walk gives the same answers."""

    @pytest.fixture(autouse=True)
    def undecided(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(beneath, "_way", None)

    @pytest.mark.skipif(sys.platform != "linux", reason="openat2(2) is Linux's")
    def test_the_kernel_is_asked_where_it_answers(self, site: Path) -> None:
        kernel = beneath._kernel_way()
        if kernel is None:
            pytest.skip("this kernel, or a filter, has no openat2(2)")
        assert read(site, "a.txt") == b"0123456789" * 10
        assert beneath._way is not None
        assert beneath._way.__code__ is kernel.__code__

    def test_without_ctypes(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ctypes", None)
        assert read(site, "a.txt") == b"0123456789" * 10
        assert beneath._way is beneath._walk

    def test_a_kernel_that_does_not_know_the_call(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(beneath, "_OPENAT2", 100_000)
        assert read(site, "a.txt") == b"0123456789" * 10
        assert beneath._way is beneath._walk

    @pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
    @pytest.mark.parametrize("fault", ["ENOSYS", "EPERM", "EINVAL", "E2BIG"])
    def test_a_filter_that_refuses_the_call(self, site: Path, fault: str, tmp_path: Path) -> None:
        done = traced(
            ["-e", f"inject=openat2:error={fault}"],
            "from middleware import beneath\n"
            "assert beneath.Root(sys.argv[1]).open(['a.txt']).size == 100\n"
            "assert beneath._way is beneath._walk\n",
            site,
        )
        assert kernel_calls(done) == 1, done

    @pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
    @pytest.mark.parametrize(
        ("fault", "calls"), [("EAGAIN:when=2+", 9), ("EINTR:when=2..4", 5), ("EPERM:when=2+", 2)]
    )
    def test_a_call_that_fails_later(self, site: Path, fault: str, calls: int) -> None:
        """The first call is the probe. EAGAIN: something was renamed, which may go on."""
        done = traced(
            ["-e", f"inject=openat2:error={fault}"],
            "from middleware import beneath\n"
            "assert beneath.Root(sys.argv[1]).open(['a.txt']).size == 100\n",
            site,
        )
        if done.count("= -1 EXDEV") != 1:
            pytest.skip("this kernel has no openat2(2)")
        assert kernel_calls(done) == calls, done


def kernel_calls(trace: str) -> int:
    """How often openat2(2) was called; its name may also stand in what was read."""
    return len(re.findall(r"^(?:[0-9]+ +)?openat2\(", trace, re.MULTILINE))


def traced(options: list[str], code: str, site: Path) -> str:
    """What strace writes while Python runs `code`, with the site's path as its argument."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip().splitlines()[-1]}")
    trace = site.parent / "trace"
    python = [sys.executable, "-c", f"import os, sys\n{code}", str(site)]
    done = subprocess.run(
        [strace, "-f", "-qq", "-s", "200", *options, "-o", str(trace), *python],
        env={**os.environ, "PYTHONDEVMODE": "", "PYTHONWARNINGS": ""},
        cwd=Path(beneath.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return trace.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
def test_a_hit_is_one_look_at_the_name_the_client_chose(site: Path) -> None:
    """openat of the root, openat2, fstat, close; nothing asks for the name before it is open."""
    found = traced(
        [],
        "from middleware import beneath\n"
        "root = beneath.Root(sys.argv[1])\n"
        "root.open(['a.txt']).close()\n"
        "os.getpgid(0)\n"
        "root.open(['sub', 'index.html']).close()\n"
        "os.getpgid(0)\n"
        "if beneath._way is beneath._walk: os.getsid(0)\n",
        site,
    )
    calls = [line.split(None, 1)[1] for line in found.splitlines()]
    if any(call.startswith("getsid(") for call in calls):
        pytest.skip("this kernel has no openat2(2)")
    start, end = (i for i, call in enumerate(calls) if call.startswith("getpgid("))
    calls = calls[start + 1 : end]
    names = [re.sub("^newfstatat|^statx", "fstat", call.partition("(")[0]) for call in calls]
    assert names == ["openat", "openat2", "close", "fstat", "close"], calls
    assert f'"{site}", ' in calls[0]
    assert "O_PATH" in calls[0]
    assert '"sub/index.html"' in calls[1]
    assert "RESOLVE_BENEATH" in calls[1]
    assert [call for call in calls if "index.html" in call] == [calls[1]]
