"""`wsgiserver compress DIR`: reproducible siblings, and nothing else touched."""

from __future__ import annotations

import gzip
import os
import pty
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest

from middleware import codings
from middleware.compress_file import NOT_OURS
from middleware.compress_tree import compress_tree
from middleware.folder import Folder

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


# --- what is not ours -----------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").compress(data))


def brotli(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli").compress(data))


def own(data: bytes, coding: str) -> bytes:
    """What this command writes."""
    return b"".join(codings.encoded([data], len(data), coding, marked=True))


BEFORE: Final = b"what was logged before\n" * 100
# Name → coding, and what somebody put there.
FOREIGN: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "gzip, with its time": ("gzip", lambda: gzip.compress(BEFORE)),
    "gzip -9n": ("gzip", lambda: gzip.compress(BEFORE, 9, mtime=0)),
    "as this writes it, without the mark": ("gzip", lambda: codings.encode(BEFORE, "gzip")),
    "ours, and more was appended": ("gzip", lambda: own(TEXT, "gzip") + gzip.compress(BEFORE)),
    "ours, cut": ("gzip", lambda: own(BEFORE, "gzip")[:-10]),
    "ours, damaged": ("gzip", lambda: own(BEFORE, "gzip")[:-8] + bytes(8)),
    "zstd without checksum": ("zstd", lambda: zstd(BEFORE)),
    "zstd, ours and more": ("zstd", lambda: own(TEXT, "zstd") + zstd(BEFORE)),
    "zstd, ours behind": ("zstd", lambda: zstd(BEFORE) + own(TEXT, "zstd")),
    "zstd, ours and cut": ("zstd", lambda: own(BEFORE, "zstd")[:-1]),
    "a page in Breton": ("br", lambda: b"<h1>Degemer mat</h1> pajenn e brezhoneg\n"),
    "a page in Breton that ends so": ("br", lambda: b"<h1>Degemer</h1>" + own(b"", "br")[-13:]),
    "somebody's brotli": ("br", lambda: brotli(BEFORE)),
    "br, ours and more": ("br", lambda: own(TEXT, "br") + brotli(BEFORE)),
}


@pytest.mark.parametrize("size", [6, 6000])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_proven_ours_stays(root: Path, name: str, size: int) -> None:
    """Whether it were replaced or removed: told in one line, and left, with its time."""
    coding, content = FOREIGN[name]
    (root / "log.txt").write_bytes(b"now\n" * (size // 4))
    sibling = root / f"log.txt{codings.SUFFIXES[coding]}"
    sibling.write_bytes(content())
    os.utime(sibling, (OLD, OLD))
    before = sibling.read_bytes()
    for _ in range(2):
        report = compress_tree(root, codings=[coding])
        assert report.failures == [(sibling.name, NOT_OURS)]
    assert (sibling.read_bytes(), sibling.stat().st_mtime) == (before, OLD)
    assert not compress_tree(root, codings=[coding], force=True, dry_run=True).failures
    assert sibling.read_bytes() == before
    assert not compress_tree(root, codings=[coding], force=True).failures
    assert sibling.exists() is (size > 200)


def test_an_archive_with_such_a_name_is_one_line(root: Path) -> None:
    (root / "log.txt").write_bytes(b"now\n")
    (root / "log.txt.gz").write_bytes(gzip.compress(BEFORE, mtime=0))
    result = run(str(root), "--coding", "gzip")
    assert (result.returncode, result.stderr) == (1, f"Error: log.txt.gz: {NOT_OURS}\n")
    assert run(str(root), "--coding", "gzip", "--force").returncode == 0
    assert not (root / "log.txt.gz").exists()


def test_what_comes_meanwhile_stays(root: Path) -> None:
    """A log is archived while it is being compressed."""
    for number in range(4):
        (root / f"large{number}.txt").write_bytes(noise(600_000).hex().encode())

    def archive(done: int, total: int) -> None:
        if not (root / "index.html.gz").exists():
            (root / "index.html.gz").write_bytes(b"somebody's own")

    report = compress_tree(root, codings=["gzip"], jobs=1, progress=archive)
    assert report.failures == [("index.html.gz", NOT_OURS)]
    assert (root / "index.html.gz").read_bytes() == b"somebody's own"


@pytest.mark.parametrize("coding", codings.available())
def test_what_others_made_of_the_same_content_is_up_to_date(root: Path, coding: str) -> None:
    made = {"gzip": gzip.compress, "zstd": zstd, "br": brotli}[coding](TEXT)
    sibling = root / f"css/site.css{codings.SUFFIXES[coding]}"
    sibling.write_bytes(made)
    report = compress_tree(root, codings=[coding])
    assert (report.kept, report.failures) == (1, [])
    assert sibling.read_bytes() == made


@pytest.mark.parametrize("coding", codings.available())
def test_its_own_are_known(root: Path, coding: str) -> None:
    compress_tree(str(root), codings=[coding])
    (root / "css/site.css").write_bytes(TEXT * 3)
    report = compress_tree(str(root), codings=[coding])
    assert not report.failures and report.made[coding].count == 1


# --- what is up to date ---------------------------------------------------------------------------


@pytest.mark.parametrize("coding", codings.available())
@pytest.mark.parametrize("then", [0, 1, OLD, OLD - 1000], ids=["0", "1", "same", "older"])
def test_another_content_is_seen_whatever_the_time(root: Path, coding: str, then: int) -> None:
    """Reproducible builds give all files one time; a release that is rolled back has older ones."""
    page = root / "css/site.css"
    os.utime(page, (max(then, OLD) if then > 1 else then,) * 2)
    compress_tree(root, codings=[coding])
    other = TEXT.replace(b"red", b"RED")
    page.write_bytes(other)
    os.utime(page, (then, then))
    report = compress_tree(root, codings=[coding])
    assert (report.made[coding].count, report.failures) == (1, [])
    sibling = page.with_name(f"site.css{codings.SUFFIXES[coding]}")
    assert decoded(sibling.read_bytes(), sibling.suffix) == other
    assert sibling.stat().st_mtime == then


@pytest.mark.parametrize("then", [OLD - 1000, OLD + 1000], ids=["older", "newer"])
def test_the_same_content_of_another_time(root: Path, then: int) -> None:
    """It is not compressed again; one that is older than its file would not be served."""
    compress_tree(root)
    siblings = {root / name for name in made(root)}
    places = {path: path.stat().st_ino for path in siblings}
    for path in siblings:
        os.utime(path, (then, then))
    dry = compress_tree(root, dry_run=True)
    assert {path.stat().st_mtime for path in siblings} == {then}
    report = compress_tree(root)
    assert dry.kept == report.kept == len(siblings)
    assert {path: path.stat().st_ino for path in siblings} == places
    assert {path.stat().st_mtime for path in siblings} == {max(then, OLD)}


# --- somebody else's folder -----------------------------------------------------------------------


def test_a_folder_swapped_for_a_link_meanwhile(root: Path, tmp_path: Path) -> None:
    """Its owner may do that while root compresses what is in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "site.css").write_bytes(TEXT)
    os.utime(outside / "site.css", (OLD, OLD))
    for number in range(4):
        (root / f"large{number}.txt").write_bytes(noise(600_000).hex().encode())

    def swap(done: int, total: int) -> None:
        if not (root / "css").is_symlink():
            (root / "css").rename(root / "css2")
            (root / "css").symlink_to(outside)

    report = compress_tree(root, codings=["gzip"], jobs=1, progress=swap)
    assert os.listdir(outside) == ["site.css"]
    assert {path for path, _ in report.failures} == {
        "css/site.css.gz",
        "css/a name with spaces ü.css.gz",
    }


def test_a_folder_goes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    with Folder(tmp_path / "link") as top, top.below(["b"]) as inner:  # the first was asked for
        assert [entry.name for entry in top.entries()] == ["b"]
        assert inner.entries() == []
    for names in (["link"], ["link", "b"], ["a", "missing"]):
        with Folder(tmp_path) as top, pytest.raises(OSError, match=r"director"):
            top.below(names)


def test_a_new_file_swapped_for_a_link_gives_nothing_away(tmp_path: Path) -> None:
    """Owner, mode and time go to the file that was written, not to what has its name then."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"root only")
    victim.chmod(0o600)
    os.utime(victim, (OLD, OLD))
    (tmp_path / "theirs").mkdir()
    model = tmp_path / "theirs" / "a.css"
    model.write_bytes(TEXT)
    model.chmod(0o666)
    if os.geteuid() == 0:
        os.chown(model, 65534, 65534)
    before = victim.stat()
    with Folder(tmp_path / "theirs") as folder, folder.new() as new:
        [temporary] = (tmp_path / "theirs").glob(".compress-*")
        temporary.unlink()
        temporary.symlink_to(victim)
        new.content.write(b"new")
        new.like(model.stat(), 1)
        new.put("a.css.gz")
    assert victim.stat() == before
    assert victim.read_bytes() == b"root only"


def test_a_new_file_is_whole_or_not_there(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        with folder.new() as new:
            new.content.write(b"half")
        assert os.listdir(tmp_path) == []
        with folder.new() as new:
            new.content.write(b"whole")
            new.put("a")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"whole"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize(("mode", "given"), [(0o664, 0o644), (0o660, 0o600), (0o646, 0o666)])
def test_rights_of_a_group_are_not_given_to_another(tmp_path: Path, mode: int, given: int) -> None:
    """Who is not root cannot give a file to a group that he is not in."""
    model = tmp_path / "model"
    model.touch()
    model.chmod(mode)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    with Folder(theirs) as folder:
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(65534)
        os.seteuid(65534)
        try:
            with folder.new() as new:
                new.like(os.stat_result((mode, 0, 0, 1, 0, 0, 0, 0, 0, 0)), OLD * 10**9)
                new.put("a")
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
    status = (theirs / "a").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (given, 65534, OLD)


# --- links, names, what happens meanwhile ---------------------------------------------------------


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


def test_a_large_file_is_never_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "large.txt").write_bytes(noise(4_000_000).hex().encode())
    compress_tree(
        tmp_path, codings=["gzip"], dry_run=True
    )  # what is imported and kept is not meant
    tracemalloc.start()
    try:
        report = compress_tree(tmp_path, codings=["gzip"], jobs=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.made["gzip"].after > 4_000_000
    assert peak < 2_500_000


def test_the_function_needs_no_click(root: Path) -> None:
    code = (
        "import sys; sys.modules['click'] = None\n"
        "from middleware.compress_tree import compress_tree\n"
        "print(compress_tree(sys.argv[1], codings=['gzip']).made['gzip'].count)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], cwd=HOME, capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"3\n", b"")


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


@pytest.mark.parametrize("coding", codings.available())
def test_the_mark_is_passed_over_by_others(coding: str, tmp_path: Path) -> None:
    suffix = codings.SUFFIXES[coding]
    for data in SAMPLES:
        pieces = [data[at : at + 99_999] for at in range(0, len(data), 99_999)]
        result = b"".join(codings.encoded(pieces, len(data), coding, marked=True))
        assert decoded(result, suffix) == data
        assert b"".join(codings.decoded(BytesIO(result), coding)) == data
        assert codings.is_marked(BytesIO(result), coding)
        plain = codings.encode(data, coding)
        assert not codings.is_marked(BytesIO(plain), coding)
        assert len(result) <= len(plain) + 24
    program = {"gzip": "gzip", "zstd": "zstd", "br": "brotli"}[coding]
    if shutil.which(program):
        (tmp_path / f"a{suffix}").write_bytes(own(TEXT, coding))
        command = [program, "-dc", f"a{suffix}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (TEXT, b"")


@pytest.mark.parametrize("coding", codings.available())
def test_what_is_no_whole_stream_is_not_decoded(coding: str) -> None:
    whole = own(TEXT, coding)
    for data in (b"", TEXT, whole[:-20], whole + b"\0", whole + whole, b"\0" + whole):
        with pytest.raises(ValueError, match=coding):
            list(codings.decoded(BytesIO(data), coding))


@pytest.mark.parametrize("coding", codings.available())
def test_a_bomb_is_decoded_in_pieces(coding: str) -> None:
    size = {"gzip": 50_000_000, "zstd": 100_000_000, "br": 20_000_000}[coding]
    bomb = codings.encode(bytes(size), coding)
    sizes = [len(piece) for piece in codings.decoded(BytesIO(bomb), coding)]
    assert sum(sizes) == size
    # All 20 MB of brotli fit into its smallest piece.
    assert max(sizes) <= {"gzip": 4_300_000, "zstd": 34_000_000, "br": size}[coding]


def test_a_window_of_zstd_that_browsers_refuse_is_refused() -> None:
    zstandard = pytest.importorskip("zstandard")
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=24)
    data = zstandard.ZstdCompressor(compression_params=wide).compress(noise(17_000_000))
    with pytest.raises(ValueError, match="memory"):
        list(codings.decoded(BytesIO(data), "zstd"))


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
