"""The benchmarks: their arithmetic, what they read from /proc, and short runs of the real thing."""

from __future__ import annotations

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
from dataclasses import asdict
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
)
from benchmarks.servers import HOST, ROOT, SERVERS, Server, StartError, choose, running
from benchmarks.workloads import WORKLOADS
from wsgiserver.workers import WORKER_MODELS

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
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
        for round_, server, group in steps(
            choose("waitress,floor"), list(WORKLOADS.values()), rounds=2
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
