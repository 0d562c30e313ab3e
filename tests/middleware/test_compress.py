"""`wsgiserver compress DIR`: reproducible siblings, and nothing else touched."""

from __future__ import annotations

import gzip
import os
import pty
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from middleware import codings
from middleware.compress import compress_tree

HOME: Final = Path(__file__).parents[2]
OLD: Final = 1_700_000_000
TEXT: Final = b"body { color: red; margin: 0 }\n" * 200
SUFFIXES: Final = tuple(codings.SUFFIXES.values())


def noise(size: int) -> bytes:
    """What no coding makes shorter."""
    return random.Random(size).randbytes(size)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path / "site"
    for name, content in {
        "index.html": b"<p>hello</p>\n" * 200,
        "css/site.css": TEXT,
        "css/a name with spaces ü.css": TEXT,
        "noise.txt": noise(5000),
        "tiny.txt": b"tiny",
        "photo.png": TEXT,
        ".hidden.css": TEXT,
        "_headers": TEXT,
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (OLD, OLD))
    return top


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def made(root: Path) -> set[str]:
    return {name for name in files(root) if name.endswith(SUFFIXES)}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wsgiserver", "compress", *arguments],
        capture_output=True,
        text=True,
        cwd=HOME,
        check=False,
        timeout=60,
        **options,
    )


def decoded(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.decompress(data)
    if suffix == ".br":
        return bytes(pytest.importorskip("brotli").decompress(data))
    whole = pytest.importorskip("zstandard").ZstdDecompressor().decompressobj()
    return bytes(whole.decompress(data))


def test_what_is_made(root: Path) -> None:
    before = files(root)
    report = compress_tree(str(root))
    assert not report.failures
    after = files(root)
    assert {name: after[name] for name in before} == before
    suffixes = [codings.SUFFIXES[coding] for coding in codings.available()]
    sources = ["index.html", "css/site.css", "css/a name with spaces ü.css"]
    assert made(root) == {name + suffix for name in sources for suffix in suffixes}
    for name in sources:
        for suffix in suffixes:
            sibling = root / (name + suffix)
            assert decoded(sibling.read_bytes(), suffix) == before[name]
            assert sibling.stat().st_mtime_ns == (root / name).stat().st_mtime_ns
            assert sibling.stat().st_mode & 0o666 == (root / name).stat().st_mode & 0o666


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_same_bytes_again(root: Path, tmp_path: Path, jobs: int) -> None:
    compress_tree(str(root), jobs=2)
    first = files(root)
    compress_tree(str(root), jobs=jobs, force=True)
    assert files(root) == first


def test_what_is_up_to_date_stays(root: Path) -> None:
    compress_tree(str(root))
    places = {name: (root / name).stat().st_ino for name in made(root)}
    report = compress_tree(str(root))
    assert report.kept == len(places)
    assert {name: (root / name).stat().st_ino for name in made(root)} == places


def test_a_changed_file_gets_new_siblings(root: Path) -> None:
    compress_tree(str(root))
    (root / "css/site.css").write_bytes(TEXT * 2)
    compress_tree(str(root))
    assert gzip.decompress((root / "css/site.css.gz").read_bytes()) == TEXT * 2


def test_one_that_is_not_worth_it_any_more_goes(root: Path) -> None:
    compress_tree(str(root))
    (root / "index.html").write_bytes(noise(4000))
    compress_tree(str(root))
    assert not any(name.startswith("index.html.") for name in made(root))


def test_an_orphan_is_told_and_left(root: Path) -> None:
    (root / "gone.css.gz").write_bytes(b"perhaps somebody's own")
    report = compress_tree(str(root))
    assert any("gone.css.gz" in path for path in report.orphans)
    assert (root / "gone.css.gz").read_bytes() == b"perhaps somebody's own"


def test_links_out_of_the_tree_are_left(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.css").write_bytes(TEXT)
    (root / "folder").symlink_to(outside)
    (root / "css/site.css.gz").symlink_to(outside / "o.css")
    compress_tree(str(root))
    assert sorted(os.listdir(outside)) == ["o.css"]
    assert (outside / "o.css").read_bytes() == TEXT


@pytest.mark.parametrize("size", [6, 6000])
def test_an_archive_with_such_a_name_stays(root: Path, size: int) -> None:
    """A rotated log beside the log of now: told, and left; --force replaces it."""
    (root / "log.txt").write_bytes(b"now\n" * (size // 4))
    archive = root / "log.txt.gz"
    archive.write_bytes(gzip.compress(b"what was logged before\n" * 100))  # with its time
    kept = archive.read_bytes()
    result = run(str(root), "--coding", "gzip")
    assert result.returncode == 1
    assert "log.txt.gz: in the way, and not made by this command" in result.stderr
    assert archive.read_bytes() == kept
    assert run(str(root), "--coding", "gzip", "--force").returncode == 0
    assert archive.exists() is (size > 200)


@pytest.mark.parametrize("coding", codings.available())
def test_its_own_are_known(root: Path, coding: str) -> None:
    compress_tree(str(root), codings=[coding])
    (root / "css/site.css").write_bytes(TEXT * 3)
    report = compress_tree(str(root), codings=[coding])
    assert not report.failures and report.made[coding].count == 1


def test_links_inside_the_tree(root: Path) -> None:
    """A link to a file is served as that file is, so it has siblings too; a loop harms nobody."""
    (root / "link.css").symlink_to("css/site.css")
    (root / "loop.css").symlink_to("loop.css")
    (root / "folder").symlink_to("css")
    report = compress_tree(str(root), codings=["gzip"])
    assert not report.failures
    assert gzip.decompress((root / "link.css.gz").read_bytes()) == TEXT
    assert (root / "link.css.gz").stat().st_mtime == OLD
    assert report.left_out["links to folders"] == 1
    assert report.left_out["links that lead outside, or to no file"] == 1


def test_what_is_no_file_is_never_waited_for(root: Path) -> None:
    os.mkfifo(root / "fifo.css")
    report = compress_tree(str(root), codings=["gzip"])
    assert report.left_out["no regular files"] == 1
    assert not report.failures


def test_odd_names(root: Path) -> None:
    """Those that can be asked for are compressed, the others are left."""
    odd = ["-rf.css", "%2e.css", "a;b&c.css", "x" * 247 + ".css", "\N{SNOWMAN}.css"]
    for name in odd:
        (root / name).write_bytes(TEXT)
    for raw in (b"\xff.css", b"line\nbreak.css"):
        Path(os.fsdecode(os.path.join(os.fsencode(root), raw))).write_bytes(TEXT)
    assert not compress_tree(str(root), codings=["gzip"]).failures
    assert {f"{name}.gz" for name in odd} <= made(root)
    assert not any("break" in name or "\udcff" in name for name in made(root))


def test_well_known_files_are_served_and_so_compressed(root: Path) -> None:
    for name in (".well-known/a.json", ".git/a.json", "_redirects", "_headers.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(TEXT)
    compress_tree(str(root), codings=["gzip"], exclude=["css", "/index.html", "noise*"])
    assert made(root) == {".well-known/a.json.gz"}


def test_an_empty_sibling_is_made_anew(root: Path) -> None:
    """It is what a crash of the machine may leave, and would be served as an empty page."""
    sibling = root / "index.html.gz"
    sibling.touch()
    os.utime(sibling, (OLD, OLD))
    compress_tree(str(root), codings=["gzip"])
    assert gzip.decompress(sibling.read_bytes()) == (root / "index.html").read_bytes()


def test_a_file_that_grows_meanwhile_is_told(root: Path) -> None:
    """No sibling of a mixture is written. The larger files come first; this is during them."""
    for number in range(4):
        (root / f"large{number}.txt").write_bytes(noise(600_000).hex().encode())

    def grow(done: int, total: int) -> None:
        with (root / "css/site.css").open("ab") as file:
            file.write(b"more")

    report = compress_tree(str(root), codings=["gzip"], jobs=1, progress=grow)
    assert [path for path, _ in report.failures] == ["css/site.css.gz"]
    assert "run this again" in report.failures[0][1]
    assert not (root / "css/site.css.gz").exists()
    assert (root / "large3.txt.gz").exists()


def test_what_other_users_may_not_read_they_may_not_read_compressed(root: Path) -> None:
    (root / "index.html").chmod(0o640)
    compress_tree(str(root), codings=["gzip"])
    assert (root / "index.html.gz").stat().st_mode & 0o777 == 0o640


def test_an_unreadable_file_does_not_stop_the_others(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (root / "index.html").chmod(0)
    report = compress_tree(str(root), codings=["gzip"])
    (root / "index.html").chmod(0o600)
    assert report.failures == [("index.html.gz", "Permission denied")]
    assert "css/site.css.gz" in made(root)


@pytest.mark.parametrize("jobs", [0, -1])
def test_wrong_arguments_of_the_function(root: Path, jobs: int) -> None:
    with pytest.raises(ValueError, match="jobs"):
        compress_tree(root, jobs=jobs)
    with pytest.raises(codings.CodingUnavailable, match="'lzma' is not one of br, zstd, gzip"):
        compress_tree(root, codings=["lzma"])
    with pytest.raises(NotADirectoryError):
        compress_tree(root / "index.html")


# --- the encoders ---------------------------------------------------------------------------------

SAMPLES: Final = (b"", b"x", TEXT, noise(300_000), TEXT * 100, noise(1000) * 1000)


@pytest.mark.parametrize("coding", codings.available())
@pytest.mark.parametrize("fast", [False, True])
def test_what_is_encoded_is_decoded_by_others(coding: str, fast: bool) -> None:
    for data in SAMPLES:
        result = codings.encode(data, coding, fast=fast)
        assert decoded(result, codings.SUFFIXES[coding]) == data
        assert codings.encode(data, coding, fast=fast) == result


def test_gzip_says_nothing_of_when_and_where() -> None:
    assert codings.encode(TEXT, "gzip")[:10] == bytes.fromhex("1f8b08000000000002ff")


@pytest.mark.parametrize("fast", [False, True])
def test_a_window_of_zstd_is_no_larger_than_browsers_take(fast: bool) -> None:
    """RFC 9659: 8 MiB."""
    zstandard = pytest.importorskip("zstandard")
    frame = codings.encode(bytes(20_000_000), "zstd", fast=fast)
    assert zstandard.get_frame_parameters(frame).window_size <= 8 * 1024 * 1024


def test_what_is_worth_it() -> None:
    assert codings.worth(1000, 950)
    assert not codings.worth(1000, 951)
    assert not codings.worth(0, 1)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("a.html a.css a.js a.json a.svg a.wasm a.ttf a.ico a.webmanifest a.xml a.md A.CSS", True),
        ("a.png a.jpg a.woff2 a.mp4 a.zip a.pdf a.css.br a.css.zst a.css.gz a.ts a LICENSE", False),
    ],
)
def test_what_can_be_compressed(names: str, expected: bool) -> None:
    assert {name: codings.compressible(name) for name in names.split()} == dict.fromkeys(
        names.split(), expected
    )


# --- the command ----------------------------------------------------------------------------------


def test_the_command(root: Path) -> None:
    result = run(str(root), "--coding", "gzip", "--exclude", "css")
    assert (result.returncode, result.stderr) == (0, "")
    assert made(root) == {"index.html.gz"}
    assert "gzip" in result.stdout and "1 made" in result.stdout


def test_a_dry_run_writes_nothing(root: Path) -> None:
    assert run(str(root), "--dry-run").returncode == 0
    assert made(root) == set()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nowhere/at/all"], "'/nowhere/at/all' does not exist"),
        ([], "Missing argument 'DIR'"),
        ([".", "--coding", "lzma"], "'lzma' is not one of"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], told: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert told in result.stderr and result.stderr.count("\n") == 1


def test_a_full_disk_leaves_nothing_half_written(root: Path) -> None:
    (root / "large.txt").write_bytes(noise(400_000).hex().encode())

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    result = run(str(root), "--coding", "gzip", preexec_fn=limit)
    assert result.returncode == 1
    assert "large.txt" in result.stderr
    left = {name for name in files(root) if name.startswith(".") or "/." in name}
    assert left == {".hidden.css"}
    assert "large.txt.gz" not in made(root)


def test_interrupted(root: Path) -> None:
    """SIGINT in the middle: only whole siblings, no temporary files, 130."""
    for number in range(40):
        (root / f"n{number}.txt").write_bytes(noise(300_000 + number).hex().encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "wsgiserver", "compress", str(root), "--jobs", "2"],
        cwd=HOME,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 30
    while not made(root) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    found = files(root)
    assert {name for name in found if Path(name).name.startswith(".")} == {".hidden.css"}
    for name in made(root):
        source, suffix = os.path.splitext(name)
        assert decoded(found[name], suffix) == found[source]


def test_a_progress_bar_on_a_terminal(root: Path) -> None:
    leader, follower = pty.openpty()
    try:
        process = subprocess.run(
            [sys.executable, "-m", "wsgiserver", "compress", str(root)],
            cwd=HOME,
            stdout=subprocess.DEVNULL,
            stderr=follower,
            timeout=60,
            check=False,
        )
        shown = os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)
    assert process.returncode == 0
    assert b"compressing" in shown and b"100%" in shown
