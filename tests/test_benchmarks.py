"""The benchmarks: their arithmetic, what they read from /proc, and short runs of the real thing."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.apps import GREETING, count, hello
from benchmarks.idle import ask, connect, hold
from benchmarks.machine import default_cpus, pinned
from benchmarks.measure import (
    Load,
    LoadError,
    Sample,
    Settings,
    Step,
    apply_load,
    check,
    judge,
    measure_app,
    parse_load,
    rotated,
    steps,
)
from benchmarks.proctree import cpu_seconds, parse_stat, rss_bytes, tree
from benchmarks.report import (
    Run,
    as_markdown,
    as_text,
    cpu_table,
    detail_table,
    markdown,
    problems,
    summarise,
    write_docs,
    write_static_docs,
)
from benchmarks.runner import in_turn
from benchmarks.servers import HOST, ROOT, SERVERS, Server, StartError, choose, running
from benchmarks.static.__main__ import plan
from benchmarks.static.features import examine, table
from benchmarks.static.features import write_docs as write_features
from benchmarks.static.probes import ROWS, YES, byteranges, no
from benchmarks.static.report import GOALS, goals_table, section
from benchmarks.static.report import terminal as static_terminal
from benchmarks.static.servers import SERVERS as STATIC_SERVERS
from benchmarks.static.site import Site, make_site, make_tree, tree_body, tree_path, tree_sample
from benchmarks.static.syscalls import parse_summary
from benchmarks.static.systems import SYSTEMS, System
from benchmarks.static.workloads import workloads as static_workloads
from benchmarks.workloads import WORKLOADS, Workload
from wsgiserver.workers import WORKER_MODELS

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
needs_nginx = pytest.mark.skipif(
    not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"),
    reason="nginx is not installed",
)
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")

SERVER_CPU, LOAD_CPU = default_cpus()
WRK_OUTPUT = """\
Running 1s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   552.21us  108.02us   2.11ms   91.23%
  117032 requests in 1.00s, 15.18MB read

{"requests": 117032, "duration_us": 1000532, "bytes": 15916352, "p50_us": 530, "p99_us": 812, \
"connect": 0, "read": 0, "write": 0, "timeout": 0, "status": 0}
"""
LOAD = parse_load(WRK_OUTPUT)


def a_server(code: str) -> Server:
    """A server of the tests' own: Python code that finds its port in sys.argv[1]."""
    return Server("own", lambda _app, port: [sys.executable, "-c", code, str(port)])


WSGIREF = a_server(
    "import sys; from wsgiref.simple_server import make_server; from benchmarks.apps import hello;"
    "make_server('127.0.0.1', int(sys.argv[1]), hello).serve_forever()"
)


# --- what wrk says --------------------------------------------------------------------------------


def test_the_figures_of_wrk_are_found_in_its_output() -> None:
    load = parse_load(WRK_OUTPUT)
    assert load == Load(117032, 1000532, 15916352, 530, 812, 0, 0, 0, 0, 0)
    assert load.errors == {}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("unable to connect to 127.0.0.1:1 Connection refused", "Connection refused"),
        ("", "its last line: nothing"),
        ('{"requests": 1', "wrk printed"),
        ('{"requests": 1}', "wrk printed"),
    ],
)
def test_output_without_figures_is_an_error_that_quotes_it(output: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        parse_load(output)


BLANK = Sample("s", "bare", 0, 64)


def test_cpu_time_is_divided_by_the_requests() -> None:
    sample = judge(BLANK, LOAD, cpu=1.17032)
    assert sample.cpu_us == pytest.approx(10.0)
    assert sample.rate == pytest.approx(117032 / 1.000532)
    assert not sample.problem


def test_any_error_makes_a_sample_a_problem() -> None:
    load = Load(**{**asdict(LOAD), "status": 7, "timeout": 2})
    assert judge(BLANK, load, 1.0).problem == "2 timeout errors, 7 status errors"
    load = Load(**{**asdict(LOAD), "requests": 0})
    assert judge(BLANK, load, 1.0).problem == "no request was answered"


# --- medians and ratios ---------------------------------------------------------------------------


def samples(server: str, costs: list[float], workload: str = "bare") -> list[Sample]:
    return [Sample(server, workload, n, 64, cost, 1e6 / cost) for n, cost in enumerate(costs)]


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    # The machine slows down threefold; a ratio of the medians would say 20 / 20 = 1.
    data = samples("base", [10.0, 20.0, 30.0]) + samples("peer", [20.0, 40.0, 15.0])
    cell = summarise(data, "base")["peer", "bare"]
    assert (cell.cpu_us, cell.low, cell.high, cell.ratio) == (20.0, 15.0, 40.0, 2.0)
    assert summarise(data, "base")["base", "bare"].ratio == 1.0


def test_rounds_that_the_base_lacks_or_failed_in_give_no_ratio() -> None:
    failed = Sample("base", "bare", 0, 64, cpu_us=1.0, problem="1 read errors")
    cells = summarise([failed, *samples("peer", [20.0, 40.0])], "base")
    assert cells["peer", "bare"].ratio is None
    assert cells["peer", "bare"].cpu_us == 30.0


def a_run(data: list[Sample], left_out: dict[str, str] | None = None) -> Run:
    return Run(
        date="2026-01-02",
        command="python -m benchmarks",
        base="wsgiserver-epoll",
        machine={"Kernel": "Linux 6"},
        versions={"waitress": "3.0"},
        left_out=left_out or {},
        notes={name: server.note for name, server in SERVERS.items()},
        titles={name: workload.title for name, workload in WORKLOADS.items()},
        samples=data,
    )


FAILED = Sample("granian", "bare", 1, 64, 1.0, problem="9 status errors")
RUN = a_run(
    samples("waitress", [100.0, 104.0])
    + samples("wsgiserver-epoll", [10.0, 10.4])
    + samples("wsgiserver-epoll", [20.0, 22.0], "flask")
    + samples("granian", [5.0])
    + [FAILED],
    {"bjoern": "not installed"},
)


def test_one_failed_round_makes_the_cell_invalid_and_visible() -> None:
    rows = {row[0]: row[1:] for row in cpu_table(RUN)}
    assert rows["granian"] == ["invalid", "–"]
    assert problems(RUN) == ["granian, bare: invalid, round 2: 9 status errors"]
    assert "9 status errors" in markdown(RUN)


def test_tables_have_servers_and_workloads_in_their_order() -> None:
    head, *rows = cpu_table(RUN)
    assert head == ["server", "bare headers", "Flask hello"]
    assert [row[0] for row in rows] == ["wsgiserver-epoll", "waitress", "granian"]
    assert rows[1] == ["waitress", "102 (×10.00)", "–"]
    assert [row[0] for row in detail_table(RUN, "flask")[1:]] == ["wsgiserver-epoll"]


def test_text_is_aligned_and_markdown_has_its_rule() -> None:
    table = [["server", "µs"], ["a", "1.0"], ["longer", "10.0"]]
    assert as_text(table) == "server    µs\na        1.0\nlonger  10.0"
    assert as_markdown(table).splitlines()[:2] == ["| server | µs |", "| --- | ---: |"]


def test_the_page_names_machine_versions_command_and_what_is_left_out() -> None:
    page = markdown(RUN)
    for fact in ("Linux 6", "| waitress | 3.0 |", "python -m benchmarks", "2026-01-02"):
        assert fact in page
    assert "bjoern: left out, not installed." in page


def test_a_run_survives_storing(tmp_path: Path) -> None:
    RUN.save(tmp_path / "new" / "run.json")
    assert Run.load(tmp_path / "new" / "run.json") == RUN


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"samples": [{"x": 1}]}'])
def test_a_file_that_holds_no_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json does not hold a run"):
        Run.load(tmp_path / "run.json")


def test_the_plot_is_drawn_as_svg_and_png(tmp_path: Path) -> None:
    plot = pytest.importorskip("benchmarks.plot", exc_type=ImportError)
    write_docs(RUN, tmp_path, plot.draw)
    svg = (tmp_path / "img" / "benchmarks.svg").read_text()
    assert "wsgiserver-epoll" in svg
    assert "×10.00" in svg
    assert (tmp_path / "img" / "benchmarks.png").read_bytes().startswith(b"\x89PNG")
    assert "img/benchmarks.svg" in (tmp_path / "benchmarks.md").read_text()


@pytest.mark.skipif(
    importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed"
)
def test_gunicorn_leaves_nothing_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several run at once, and a control socket there would have one name for all of them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with running(SERVERS["gunicorn-gthread"], "hello", {SERVER_CPU}) as up:
        check(up.port, WORKLOADS["bare"])
    assert list(tmp_path.iterdir()) == []


# --- the plan of a run ----------------------------------------------------------------------------


def test_every_worker_model_is_in_the_table() -> None:
    assert {f"wsgiserver-{model}" for model in WORKER_MODELS} <= SERVERS.keys()


def test_servers_are_chosen_by_name_family_or_all() -> None:
    assert [s.name for s in choose("waitress, gunicorn")] == [
        "gunicorn-sync",
        "gunicorn-gthread",
        "gunicorn-gevent",
        "waitress",
    ]
    assert [s.name for s in choose("all")] == list(SERVERS)
    assert {s.name for s in choose("")} == SERVERS.keys() - {
        "wsgiserver-single",
        "wsgiserver-process",
    }
    with pytest.raises(ValueError, match="'apache'; there are all, wsgiserver-"):
        choose("waitress,apache")


def test_each_round_has_every_server_and_begins_with_another() -> None:
    servers = choose("all")
    orders = [[s.name for s in rotated(servers, n, 5)] for n in range(5)]
    assert all(sorted(order) == sorted(SERVERS) for order in orders)
    assert len({order[0] for order in orders}) == 5


def test_servers_take_turns_within_an_application() -> None:
    plan = [
        (round_, server.name, [each.name for each in group])
        for round_, server, group, _ in steps(
            choose("waitress,floor"), list(WORKLOADS.values()), Settings(rounds=2)
        )
    ]
    assert plan == [
        (0, "waitress", ["bare", "browser", "varied"]),
        (0, "floor", ["bare", "browser", "varied"]),
        (0, "waitress", ["post"]),
        (0, "waitress", ["flask"]),
        (1, "waitress", ["bare", "browser", "varied"]),
        (1, "floor", ["bare", "browser", "varied"]),
        (1, "waitress", ["post"]),
        (1, "waitress", ["flask"]),
    ]


# --- /proc ----------------------------------------------------------------------------------------


def test_a_command_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    fields = "S 12 34 56 0 -1 4194304 1 2 3 4 100 20 3 1 20 0 1 0 99 1000 10"
    stat = parse_stat(f"77 (a) b (c) {fields}\n")
    assert (stat.pid, stat.parent, stat.session) == (77, 12, 56)
    assert stat.cpu == pytest.approx(124 / os.sysconf("SC_CLK_TCK"))


BURN = "import time\nwhile time.process_time() < 0.1: pass"


@pytest.fixture
def family() -> subprocess.Popen[str]:
    """A process that has waited for a busy grandchild, has an orphan, and now does nothing."""
    code = f"""
import os, subprocess, sys
subprocess.run([sys.executable, "-c", "import subprocess, sys;"
    "subprocess.run([sys.executable, '-c', sys.argv[1]])", {BURN!r}])
if os.fork() == 0:
    orphan = os.fork()
    if orphan == 0:
        sys.stdin.read()  # ends when the test closes the pipe
        os._exit(0)
    print(orphan, flush=True)
    os._exit(0)
os.wait()
print("ready", flush=True)
sys.stdin.read()
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_tree_counts_ended_children_and_orphans(family: subprocess.Popen[str]) -> None:
    with family:
        assert family.stdout
        assert family.stdin
        orphan = int(family.stdout.readline())
        assert family.stdout.readline() == "ready\n"
        assert {stat.pid for stat in tree(family.pid)} == {family.pid, orphan}
        assert cpu_seconds(family.pid) >= 0.09  # the grandchild's
        assert rss_bytes(family.pid) > rss_bytes(orphan) > 1 << 20
        family.stdin.close()
    with pytest.raises(ProcessLookupError):
        cpu_seconds(family.pid)


def test_cpu_time_and_memory_are_those_the_kernel_tells_a_process_itself() -> None:
    own = sum(os.times()[:4])
    assert cpu_seconds(os.getpid()) >= own - 0.03
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    [me] = [stat for stat in tree(os.getpid()) if stat.pid == os.getpid()]
    assert me.parent == os.getppid()
    assert 0 < rss_bytes(os.getpid()) < 4 * peak


def test_a_process_started_while_pinned_stays_there() -> None:
    before = os.sched_getaffinity(0)
    show = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
    with pinned({SERVER_CPU}):
        shown = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str({SERVER_CPU})
    assert os.sched_getaffinity(0) == before


# --- starting and checking ------------------------------------------------------------------------


def test_the_check_accepts_only_the_right_answer() -> None:
    with running(WSGIREF, "hello", {SERVER_CPU}) as up:
        check(up.port, WORKLOADS["bare"])
        check(up.port, WORKLOADS["browser"])
        with pytest.raises(StartError, match="1 KiB POST is answered with 200 b'Hello"):
            check(up.port, WORKLOADS["post"])
    with pytest.raises(StartError, match="no answer to bare headers"):
        check(up.port, WORKLOADS["bare"])  # it has been stopped


def test_a_server_that_ends_is_reported_with_its_last_line() -> None:
    broken = a_server("import sys; print('one'); sys.exit('no such option')")
    with (
        pytest.raises(StartError, match="own ended with 1: no such option"),
        running(broken, "hello", {SERVER_CPU}),
    ):
        pass
    [sample] = measure_app(broken, [WORKLOADS["bare"]], Settings(), 3)
    assert (sample.round, sample.requests) == (3, 0)
    assert "no such option" in sample.problem


def test_stopping_ends_children_that_ignore_sigterm() -> None:
    stubborn = a_server(
        "import os, signal, sys; from wsgiref.simple_server import make_server;"
        "from benchmarks.apps import hello;"
        "server = make_server('127.0.0.1', int(sys.argv[1]), hello);"
        "pid = os.fork();"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL if pid else signal.SIG_IGN);"
        "signal.pause() if pid else server.serve_forever()"
    )
    with running(stubborn, "hello", {SERVER_CPU}) as up:
        check(up.port, WORKLOADS["bare"])
        [child] = {stat.pid for stat in tree(up.pid)} - {up.pid}
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie that init has not collected yet."""
    try:
        return not re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return False


@needs_cc
def test_the_floor_compiles_and_answers() -> None:
    SERVERS["floor"].check()
    with running(SERVERS["floor"], "hello", {SERVER_CPU}) as up:
        for name in ("bare", "browser", "varied"):
            check(up.port, WORKLOADS[name])
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize("app", [hello, count])
def test_the_applications_keep_to_pep_3333(app: object) -> None:
    webtest = pytest.importorskip("webtest")
    client = webtest.TestApp(app, lint=True)
    answer = client.post("/", b"x" * 1024, content_type="application/octet-stream")
    assert answer.body == (b"1024\n" if app is count else GREETING)


# --- the real thing, briefly ----------------------------------------------------------------------


@needs_wrk
def test_every_varied_request_differs_in_its_path_and_six_headers() -> None:
    heads: list[list[bytes]] = []
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=record, args=(listener, heads))
        thread.start()
        load = apply_load(listener.getsockname()[1], WORKLOADS["varied"], 1, 1, LOAD_CPU)
        thread.join()
    assert load.requests
    assert not load.errors
    assert len(heads) > 20
    for line in range(len(heads[0])):
        values = {head[line] for head in heads}
        fixed = heads[0][line].startswith((b"Host:", b"Accept:"))
        assert len(values) == (1 if fixed else len(heads)), values
    assert len(heads[0]) == 9


def record(listener: socket.socket, heads: list[list[bytes]]) -> None:
    """Answer one connection until it closes, and keep the lines of the first thousand requests.

    wrk first makes a connection that it asks nothing on, to see whether the server is there.
    """
    while not heads:
        connection, _ = listener.accept()
        with connection:
            while request := receive(connection):
                if len(heads) < 1000:
                    heads.append(request.rstrip().split(b"\r\n"))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


@needs_wrk
@needs_cc
def test_a_quick_run_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--write-docs"]
    command += ["--servers", "wsgiserver-epoll,floor", "--workloads", "varied,post"]
    command += ["--docs", str(tmp_path), "--output", str(tmp_path / "run.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if importlib.util.find_spec("matplotlib"):
        assert result.returncode == 0, result.stderr
        assert "wsgiserver-epoll" in (tmp_path / "benchmarks.md").read_text()
    stored = json.loads((tmp_path / "run.json").read_text())["samples"]
    keys = [(s["server"], s["workload"]) for s in stored]
    assert keys == [
        ("wsgiserver-epoll", "varied"),
        ("floor", "varied"),
        ("wsgiserver-epoll", "post"),
    ]
    for sample in stored:
        assert not sample["problem"]
        assert sample["requests"] > 100
        assert 1 < sample["cpu_us"] < 10_000
    assert "every request different" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--servers", "apache"], "no server is called 'apache'"),
        (["--workloads", "bare,nope"], "no workload is called 'nope'"),
        (["--servers", "waitress", "--base", "granian"], "'granian' is not measured"),
        (["--server-cpu", "100000"], "100000 is none of the CPUs"),
        (["--load", "setup.cfg"], "does not"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_idle_connections_are_counted_as_alive_only_if_they_answer_again() -> None:
    with running(WSGIREF, "hello", {SERVER_CPU}) as up:
        outcome = hold(up, connections=3, seconds=0.1)  # wsgiref closes after each response
    assert (outcome.connections, outcome.alive) == (3, 0)
    assert 0 < outcome.p50_ms <= outcome.p99_ms


def test_an_idle_connection_is_asked_over_its_own_source_address() -> None:
    with running(WSGIREF, "hello", {SERVER_CPU}) as up, connect(up.port, 12_000) as connection:
        assert connection.getsockname()[0] == "127.0.0.4"
        assert ask(connection)
        assert not ask(connection)


def test_the_idle_command_prints_one_line_of_figures() -> None:
    command = [sys.executable, "-m", "benchmarks.idle", "--connections", "50", "--seconds", "0.1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(
        r"wsgiserver-epoll: 50 idle connections, -?\d+ bytes each; new requests p50 [\d.]+ ms, "
        r"p99 [\d.]+ ms \(before: p50 [\d.]+ ms\); idle CPU [\d.]+ %; 50 of 50 still answer\n",
        result.stdout,
    )


def test_too_many_idle_connections_are_refused_with_the_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard > 900_000:
        pytest.skip("this system has no such limit")
    command = [sys.executable, "-m", "benchmarks.idle", "--connections", str(hard)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"hard limit of {hard}" in result.stderr


# --- static files ---------------------------------------------------------------------------------

# Serves a folder so that each answer is wrong in the way that its last argument says.
WRONG = """
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
root, port, fault = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.0" if fault == "close" else "HTTP/1.1"
    def __init__(self, *a): super().__init__(*a, directory=root)
    def do_HEAD(self):
        super().do_HEAD()
        self.wfile.write(b"a body" if fault == "body" else b"")
    def copyfile(self, source, out):
        data = source.read()
        out.write(data[:-1] + b"!" if fault == "bytes" else data)
    def send_error(self, code, *a):
        body = b"none"
        self.send_response(200 if fault == "status" else code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def wrong(fault: str) -> Server:
    return Server("wrong", lambda root, port: [sys.executable, "-c", WRONG, root, str(port), fault])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("benchmarks") / "site")


@pytest.fixture(scope="module")
def file_workloads(site: Site) -> dict[str, Workload]:
    return static_workloads(site)


def test_the_files_are_the_same_each_time_old_and_of_their_sizes(
    site: Site, tmp_path: Path
) -> None:
    assert make_site(tmp_path / "other").bodies == site.bodies
    sizes = {name: len(body) for name, body in site.bodies.items() if "/many/" not in name}
    assert sizes["/static/small.html"] == 1024
    assert sizes["/static/huge.bin"] == 10 << 20
    assert len(set(site.bodies.values())) == 100 + len(sizes)
    text = site.bodies["/static/text.css"]
    assert gzip.decompress(site.bodies["/static/text.css.gz"]) == text
    for name, body in site.bodies.items():
        file = Path(f"{site.root}{name}")
        assert file.read_bytes() == body
        assert 3590 < file.parent.stat().st_mtime - file.stat().st_mtime < 3700


def test_a_tree_has_as_many_different_files_and_a_sample_of_it_does_not_repeat(
    tmp_path: Path,
) -> None:
    make_tree(tmp_path / "tree", 1200)
    files = [file for file in (tmp_path / "tree").rglob("*") if file.is_file()]
    assert len({file.read_bytes() for file in files}) == len(files) == 1200
    assert Path(f"{tmp_path}/tree{tree_path(1100)}").read_bytes() == tree_body(1100)
    assert len(set(tree_sample(1200, 900))) == 900
    assert list(tree_sample(1200, 900)) == list(tree_sample(1200, 900))


@pytest.mark.parametrize(
    ("fault", "workload", "message"),
    [
        ("bytes", "small", "1 KiB is answered with 200 1024 other bytes"),
        ("close", "small", "1 KiB: the connection is closed after the answer"),
        ("body", "head", "(no answer to HEAD|HEAD is answered with 200 and a body)"),
        ("status", "404", "404 is answered with 200 b'none'"),
        ("none", "304", "304: the answer 200 has no ETag"),
        ("none", "range", "range of 1,000 B is answered with 200"),
        ("none", "gzip", "10 KiB with .gz is answered with 200 and the coding identity"),
    ],
)
def test_a_wrong_answer_is_not_measured(
    file_workloads: dict[str, Workload], fault: str, workload: str, message: str
) -> None:
    wanted = file_workloads[workload]
    with (
        running(wrong(fault), wanted.app, {SERVER_CPU}) as up,
        pytest.raises(StartError, match=message),
    ):
        check(up.port, wanted)


@needs_nginx
def test_nginx_gives_the_right_answer_to_everything(
    file_workloads: dict[str, Workload],
) -> None:
    server = STATIC_SERVERS["nginx"]
    server.check()
    with running(server, file_workloads["small"].app, {SERVER_CPU}) as up:
        found = {name: check(up.port, each) for name, each in file_workloads.items()}
    assert dict(found["304"].headers)["If-None-Match"].startswith('"')
    assert 1024 < found["small"].size < 2048
    assert found["head"].size == found["small"].size - 1024
    assert found["304"].size < 500


def test_the_project_gives_the_right_answer_to_the_common_requests(
    file_workloads: dict[str, Workload],
) -> None:
    server = STATIC_SERVERS["wsgiserver-epoll"]
    with running(server, file_workloads["small"].app, {SERVER_CPU}) as up:
        for name in ("small", "many", "304", "head", "404", "10k", "100k", "10m", "range"):
            check(up.port, file_workloads[name])


@needs_cc
def test_heads_are_asked_over_kept_connections_and_counted(
    file_workloads: dict[str, Workload],
) -> None:
    head = file_workloads["head"]
    with running(STATIC_SERVERS["wsgiserver-epoll"], head.app, {SERVER_CPU}) as up:
        found = check(up.port, head)
        load = apply_load(up.port, head, 1, 4, LOAD_CPU, found.headers)
    assert not load.errors
    assert load.requests > 100
    assert load.bytes == pytest.approx(load.requests * found.size, rel=0.01)
    assert 0 < load.p50_us <= load.p99_us


@needs_cc
@pytest.mark.parametrize(
    ("fault", "workload", "kind"), [("body", "head", "read"), ("none", "404", "status")]
)
def test_heads_counts_bodies_and_refusals_as_errors(
    file_workloads: dict[str, Workload], fault: str, workload: str, kind: str
) -> None:
    asked = replace(file_workloads[workload], method="HEAD")
    with running(wrong(fault), asked.app, {SERVER_CPU}) as up:
        load = apply_load(up.port, asked, 1, 1, LOAD_CPU)
    assert load.errors.get(kind)


@needs_wrk
def test_many_paths_are_walked_through(file_workloads: dict[str, Workload]) -> None:
    heads: list[list[bytes]] = []
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=record, args=(listener, heads))
        thread.start()
        apply_load(listener.getsockname()[1], file_workloads["many"], 1, 1, LOAD_CPU)
        thread.join()
    many = file_workloads["many"]
    expected = {many.path, *(path for path, _ in many.more)}
    assert len(heads) > 200
    assert {head[0].split()[1].decode() for head in heads} == expected
    assert len({head[0] for head in heads[:100]}) == 100
    assert any(line.startswith(b"User-Agent: Mozilla") for line in heads[0])


def test_answers_of_another_size_than_the_checked_one_are_a_problem() -> None:
    mean = LOAD.bytes // LOAD.requests
    assert not judge(BLANK, LOAD, 1.0, size=mean).problem
    problem = judge(BLANK, LOAD, 1.0, size=1200).problem
    assert problem == f"an answer had {mean} bytes on average, the checked one 1,200"


def test_answers_that_must_be_refusals_are_a_problem_where_they_are_not() -> None:
    refused = replace(LOAD, status=LOAD.requests)
    assert not judge(BLANK, refused, 1.0, status=404).problem
    assert judge(BLANK, replace(LOAD, status=LOAD.requests - 3), 1.0, status=404).problem == (
        "3 status errors"
    )


def test_a_large_answer_under_way_counts_by_its_share() -> None:
    load = replace(LOAD, requests=10, bytes=12 * (10 << 20), duration_us=1_000_000)
    sample = judge(BLANK, load, cpu=1.2, size=10 << 20)
    assert sample.cpu_us == pytest.approx(100_000)
    assert sample.rate == pytest.approx(12)
    assert not sample.problem


def test_deciding_servers_are_in_each_round_and_every_peer_in_as_many_as_asked(
    file_workloads: dict[str, Workload],
) -> None:
    settings = Settings(rounds=3, seconds=4)
    groups = list(plan(list(STATIC_SERVERS.values()), list(file_workloads.values()), settings, 1))
    assert [step.round for group in groups for step in group[:1]] == [0, 1, 2]
    seconds: dict[str, list[int]] = {}
    for step in (step for group in groups for step in group):
        seconds.setdefault(step.server.name, []).append(step.settings.seconds)
    assert seconds.pop("nginx") == [4, 4, 4]
    assert seconds.pop("wsgiserver-epoll") == [4, 4, 4]
    assert seconds.pop("wsgiserver-threadpool") == [4, 4, 4]
    assert set(map(tuple, seconds.values())) == {(2,)}
    assert seconds.keys() == STATIC_SERVERS.keys() - {
        "nginx",
        "wsgiserver-epoll",
        "wsgiserver-threadpool",
    }


def static_run(costs: dict[tuple[str, str], float]) -> Run:
    return Run(
        date="2026-01-02",
        command="python -m benchmarks.static",
        base="nginx",
        machine={"Kernel": "Linux 6"},
        versions={"nginx": "1.22.1"},
        left_out={"caddy": "caddy is not installed"},
        notes={name: server.note for name, server in STATIC_SERVERS.items()},
        titles={"small": "1 KiB", "head": "HEAD"},
        samples=[
            Sample(server, workload, 0, 64, cost, 1e6 / cost)
            for (server, workload), cost in costs.items()
        ]
        + [Sample("granian-mount", "head", 0, 64, unable="HEAD has no Content-Length")],
    )


STATIC_RUN = static_run(
    {
        ("nginx", "small"): 10.0,
        ("nginx", "head"): 10.0,
        ("wsgiserver-epoll", "small"): 10.04,
        ("wsgiserver-epoll", "head"): 10.1,
        ("wsgiserver-threadpool", "small"): 15.0,
    }
)


def test_each_goal_has_its_verdict() -> None:
    _, *rows = goals_table(STATIC_RUN)
    assert len(rows) == len(GOALS)
    verdicts = {row[0]: row[1:] for row in rows}
    spread = verdicts["wsgiserver-epoll, 1 KiB"][-1]
    assert re.fullmatch(r"1–\d\.\d\d", spread)
    assert verdicts["wsgiserver-epoll, 1 KiB"] == ["1.00", "1.00", "met", spread]
    assert verdicts["wsgiserver-epoll, HEAD"][:3] == ["1.01", "1.00", "missed"]
    assert verdicts["wsgiserver-threadpool, 1 KiB"][:3] == ["1.50", "1.50", "met"]
    assert verdicts["wsgiserver-threadpool, HEAD"] == ["–", "1.50", "not measured", "–"]
    assert static_terminal(STATIC_RUN).splitlines()[-1].split()[-3:] == ["not", "measured", "–"]


def test_what_a_server_is_unable_to_do_is_a_dash_with_its_reason() -> None:
    rows = {row[0]: row[1:] for row in cpu_table(STATIC_RUN)}
    assert rows["granian-mount"] == ["–", "–"]
    assert problems(STATIC_RUN) == ["granian-mount, –: HEAD has no Content-Length."]
    assert "HEAD has no Content-Length" in section(STATIC_RUN)


def test_neither_command_overwrites_what_the_other_wrote(tmp_path: Path) -> None:
    drawn: list[str] = []

    def draw(_run: Run, path: Path) -> None:
        drawn.append(path.name)

    page = tmp_path / "benchmarks.md"
    write_static_docs(STATIC_RUN, section(STATIC_RUN), tmp_path, draw)
    write_docs(RUN, tmp_path, draw)
    both = page.read_text()
    assert both.index("# Benchmarks") < both.index("## Static files")
    write_static_docs(STATIC_RUN, section(STATIC_RUN), tmp_path, draw)
    assert page.read_text() == both
    write_static_docs(STATIC_RUN, "## Static files, again\n", tmp_path, draw)
    write_docs(RUN, tmp_path, draw)
    assert page.read_text() == both[: both.index("## Static")] + "## Static files, again\n"
    assert set(drawn) == {"benchmarks", "benchmarks-static"}


def test_the_summary_of_strace_is_read_without_its_total() -> None:
    text = """\
    calls syscall
--------- ----------------
      400 setsockopt
      200 sendfile
--------- ----------------
      600 total
"""
    assert parse_summary(text) == {"setsockopt": 400, "sendfile": 200}


@needs_wrk
def test_servers_of_a_group_take_turns_workload_by_workload(
    file_workloads: dict[str, Workload],
) -> None:
    settings = Settings(1, 1, 2, SERVER_CPU, LOAD_CPU, warm_up=False)
    wanted = [file_workloads["small"], file_workloads["404"]]
    first, second = (
        replace(STATIC_SERVERS["wsgiserver-epoll"], name=name) for name in ("first", "second")
    )
    samples = list(in_turn([Step(0, server, wanted, settings) for server in (first, second)]))
    assert [(sample.server, sample.workload) for sample in samples] == [
        ("first", "small"),
        ("second", "small"),
        ("first", "404"),
        ("second", "404"),
    ]
    for sample in samples:
        assert not sample.problem, sample
        assert not sample.unable, sample
        assert 1 < sample.cpu_us < 10_000


def static_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.static", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_tree_command_prints_start_and_memory() -> None:
    result = static_command("--tree", "300", "--asked", "200", "--servers", "wsgiserver-epoll")
    assert result.returncode == 0, result.stderr
    name, *figures = result.stdout.splitlines()[-1].split()
    assert name == "wsgiserver-epoll"
    start, first, after, cpu = map(float, figures)
    assert 0 < start < 20
    assert 5 < first <= after + 1
    assert 0 <= cpu < 100_000


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_the_syscalls_command_counts_those_of_a_request() -> None:
    result = static_command("--syscalls", "--servers", "wsgiserver-epoll", "--workloads", "304")
    assert result.returncode == 0, result.stderr
    if "strace cannot trace" in result.stdout:
        pytest.skip(result.stdout)
    line = result.stdout.splitlines()[-1]
    assert re.match(r"wsgiserver-epoll +\d+\.\d  \w+ \d", line), result.stdout
    assert re.search(r"(recv|recvfrom|read) 1\b", line)


def test_a_server_of_files_that_nobody_knows_is_named_in_one_line() -> None:
    result = static_command("--servers", "apache")
    assert result.returncode == 2
    assert "no server is called 'apache'; there are all, nginx" in result.stderr


# --- the features of servers of files -------------------------------------------------------------


def test_no_feature_is_claimed_in_vain() -> None:
    """Every row of the comparison in docs/static.md is true of this server, asked on the wire."""
    project = SYSTEMS[0]
    assert project.name == "wsgiserver"
    assert not project.without
    assert {name: verdict for name, verdict in examine(project).items() if verdict != YES} == {}


@needs_nginx
def test_a_lack_is_told_with_what_came_instead() -> None:
    names = {"`gzip` sibling": "yes", "stale sibling not served": "no", "`_headers`": "–"}
    rows = [row for row in ROWS if row.name in names]
    column = examine(next(system for system in SYSTEMS if system.name == "nginx"), rows)
    assert {name: verdict.word for name, verdict in column.items()} == names
    assert column["stale sibling not served"].instead == "the old sibling"


def test_every_system_is_asked_about_known_rows() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for system in SYSTEMS:
        assert system.without <= set(names), system.name


def test_a_server_that_only_greets_has_no_feature_but_what_it_does_not_do() -> None:
    greeter = System("own", {"site": WSGIREF}, "")
    words = {name: verdict.word for name, verdict in examine(greeter).items()}
    assert {name for name, word in words.items() if word == "yes"} <= {
        "no redirect to another host by `//`",
        "HEAD has the fields of GET",
    }
    assert words["several ranges: correct multipart"] == "–"
    assert words["page of a single-page application, for navigations only"] == "–"
    assert words["dotfile hidden"] == words["own 404.html"] == "no"


PART = b"Content-Type: text/plain\r\nContent-Range: bytes 0-1/10000\r\n\r\nab"
WHOLE = b"--x\r\n" + PART + b"\r\n--x--\r\n"


def test_parts_are_read_strictly() -> None:
    assert byteranges(WHOLE, "x") == [(0, 1, b"ab")]
    assert byteranges(WHOLE.replace(b"--x--", b"--x\r\n" + PART + b"\r\n--x--"), "x") == (
        [(0, 1, b"ab")] * 2
    )
    assert byteranges(WHOLE.replace(b"\r\n", b"\n"), "x") == []
    assert byteranges(WHOLE.removesuffix(b"--\r\n"), "x") == []
    assert byteranges(b"preamble" + WHOLE, "x") == []
    assert byteranges(WHOLE.replace(b"--x\r\n", b"--xContent\r\n"), "x") == []


def test_equal_footnotes_are_told_once() -> None:
    text = table(
        {"ours": {"a": YES, "b": YES}, "theirs": {"a": no("416"), "b": no("416")}}, ["theirs 1.0"]
    )
    assert text.splitlines()[2:] == [
        "| a | yes | no <sup>1</sup> |",
        "| b | yes | no <sup>1</sup> |",
        "",
        "What came instead:",
        "",
        "1. 416",
        "",
        "- theirs 1.0",
    ]


def test_the_table_takes_its_place_in_the_page_and_no_other(tmp_path: Path) -> None:
    page = tmp_path / "static.md"
    write_features("first", page)
    page.write_text(f"# Title\n\n{page.read_text()}\nThe end.\n")
    write_features("second", page)
    block = "<!-- features:begin -->\nsecond\n<!-- features:end -->"
    assert page.read_text() == f"# Title\n\n{block}\n\nThe end.\n"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="has no place for the table; write <!-- features:begin"):
        write_features("third", page)
    assert page.read_text() == "no marks\n"


def test_a_system_that_nobody_knows_is_named_in_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.static.features", "--systems", "apache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no system is called 'apache'; there are wsgiserver, nginx" in result.stderr
