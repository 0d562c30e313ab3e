"""Opening below a root: links, special files, swapped directories; both ways to do it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from middleware import beneath
from middleware.beneath import OpenFile, open_beneath


@pytest.fixture(params=["walk", "compare"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "walk" and not beneath._CAN_WALK:
        pytest.skip("this system cannot open relative to a directory")
    monkeypatch.setattr(beneath, "_CAN_WALK", request.param == "walk")
    return str(request.param)


def read(root: Path, path: str) -> bytes:
    with open_beneath(str(root), path.split("/")) as file:
        return os.read(file.fd, 1 << 20)


def link(root: Path, name: str, target: object) -> None:
    (root / name).symlink_to(str(target))


@pytest.mark.usefixtures("way")
class TestEitherWay:
    def test_reads_and_stats_one_descriptor(self, site: Path) -> None:
        with open_beneath(str(site), ["a.txt"]) as file:
            status = (site / "a.txt").stat()
            assert (file.size, file.mtime_ns, file.inode) == (
                100,
                status.st_mtime_ns,
                status.st_ino,
            )
            assert not os.get_inheritable(file.fd)
            fd = file.fd
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)

    def test_detach_leaves_it_open(self, site: Path) -> None:
        with open_beneath(str(site), ["a.txt"]) as file:
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
            open_beneath(str(site), [])

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
        current.unlink()
        link(tmp_path, "current", "root/bare")
        assert read(current, "b.txt") == b"b"
        current.unlink()
        with pytest.raises(FileNotFoundError):
            read(current, "b.txt")

    def test_long_names_and_chains(self, site: Path) -> None:
        link(site, "l0", "a.txt")
        for n in range(1, 60):
            link(site, f"l{n}", f"l{n - 1}")
        assert read(site, "l30") == b"0123456789" * 10
        with pytest.raises(FileNotFoundError):
            read(site, "n" * 256)


def test_links_without_end_are_missing(site: Path) -> None:
    for n in range(60):
        link(site, f"l{n}", f"l{n + 1}")
    with pytest.raises(FileNotFoundError):
        read(site, "l0")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_is_missing(site: Path) -> None:
    (site / "a.txt").chmod(0)
    with pytest.raises(FileNotFoundError):
        read(site, "a.txt")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM])
def test_a_system_that_cannot_say_is_not_taken_for_missing(
    site: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*args: object, **options: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(beneath, "_way", fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        open_beneath(str(site), ["a.txt"])
    assert not isinstance(caught.value, FileNotFoundError)


@pytest.mark.skipif(not beneath._CAN_WALK, reason="needs openat(2)")
def test_a_directory_swapped_for_a_link_never_leads_out(site: Path, tmp_path: Path) -> None:
    """While one thread exchanges d/ and a link to the outside, another reads d/b.txt."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "b.txt").write_bytes(b"outside")
    (site / "d").mkdir()
    (site / "d" / "b.txt").write_bytes(b"inside")
    link(site, "e", "../evil")
    done = threading.Event()

    def swap() -> None:
        for _ in range(400):
            os.rename(site / "d", site / "kept")
            os.rename(site / "e", site / "d")
            os.rename(site / "d", site / "e")
            os.rename(site / "kept", site / "d")
        done.set()

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    while not done.is_set():
        try:
            seen.add(read(site, "d/b.txt"))
        except FileNotFoundError:
            seen.add(b"")
    thread.join()
    assert b"outside" not in seen
    assert read(site, "d/b.txt") == b"inside"


def test_no_descriptor_is_left_whatever_happens(site: Path) -> None:
    link(site, "out", "../outside.txt")
    link(site, "loop", "loop")
    link(site, "in", "sub/../bare/b.txt")
    os.mkfifo(site / "fifo")

    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    before = descriptors()
    for path in ("a.txt", "sub", "out", "loop", "in", "fifo", "missing", "a.txt/x", "sub/x/y"):
        try:
            opened: OpenFile | None = open_beneath(str(site), path.split("/"))
        except OSError:
            opened = None
        if opened is not None:
            opened.close()
            opened.close()
        assert descriptors() == before, path
