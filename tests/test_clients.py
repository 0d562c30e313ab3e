"""The clients of everyday use: curl, http.client, requests, httpx and urllib3.

The application is that of the contract tests (`tests.support.app`): what is new here is the client.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import httpx
import pytest
import requests
import urllib3

from tests.conftest import Fleet
from tests.support.server import Server
from tests.support.wire import TIMEOUT

CURL: Final = shutil.which("curl") or ""
# Larger than what is kept in memory and than the kernel's buffers, within limit_request_body.
CONTENT: Final = random.Random(11).randbytes(2 << 20)
DIGEST: Final = hashlib.sha256(CONTENT).hexdigest()
BLOCK: Final = 33_333


class Answer(NamedTuple):
    """What each client makes of an answer; names of fields in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


class Client(Protocol):
    """A client that keeps its connection. `body` is sent chunked if it is an iterator."""

    def __call__(self, method: str, url: str, body: bytes | Iterator[bytes] | None) -> Answer: ...


def pieces() -> Iterator[bytes]:
    """The content in blocks, of which a client cannot know the whole length."""
    for start in range(0, len(CONTENT), BLOCK):
        yield CONTENT[start : start + BLOCK]


def _fields(pairs: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in pairs}


class HTTPClient:
    """http.client."""

    def __init__(self, stack: ExitStack, server: Server) -> None:
        host, port = tcp(server)
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        stack.callback(self._connection.close)

    def __call__(self, method: str, url: str, body: bytes | Iterator[bytes] | None) -> Answer:
        chunked = body is not None and not isinstance(body, bytes)
        fields = {"Transfer-Encoding": "chunked"} if chunked else {}
        self._connection.request(method, url, body, fields, encode_chunked=chunked)
        answer = self._connection.getresponse()
        return Answer(answer.status, _fields(answer.getheaders()), answer.read())


class Requests:
    """requests, with a Session."""

    def __init__(self, stack: ExitStack, server: Server) -> None:
        self._base = base(server)
        self._session = stack.enter_context(requests.Session())
        self._session.trust_env = False  # no proxy of the environment

    def __call__(self, method: str, url: str, body: bytes | Iterator[bytes] | None) -> Answer:
        answer = self._session.request(method, self._base + url, data=body, timeout=TIMEOUT)
        return Answer(answer.status_code, _fields(answer.headers.items()), answer.content)


class HTTPX:
    """httpx, with a Client."""

    def __init__(self, stack: ExitStack, server: Server) -> None:
        self._client = stack.enter_context(
            httpx.Client(base_url=base(server), timeout=TIMEOUT, trust_env=False)
        )

    def __call__(self, method: str, url: str, body: bytes | Iterator[bytes] | None) -> Answer:
        answer = self._client.request(method, url, content=body)
        return Answer(answer.status_code, _fields(answer.headers.items()), answer.content)


class Urllib3:
    """urllib3, with a pool of one connection."""

    def __init__(self, stack: ExitStack, server: Server) -> None:
        self._base = base(server)
        self._pool = stack.enter_context(urllib3.PoolManager(maxsize=1, timeout=TIMEOUT))

    def __call__(self, method: str, url: str, body: bytes | Iterator[bytes] | None) -> Answer:
        answer = self._pool.request(method, self._base + url, body=body, retries=False)
        return Answer(answer.status, _fields(answer.headers.items()), answer.data)


KINDS: Final[dict[str, Callable[[ExitStack, Server], Client]]] = {
    "http.client": HTTPClient,
    "requests": Requests,
    "httpx": HTTPX,
    "urllib3": Urllib3,
}


def base(server: Server) -> str:
    """The URL of a server."""
    host, port = tcp(server)
    return f"http://{host}:{port}"


def tcp(server: Server) -> tuple[str, int]:
    """Host and port of a server's first address."""
    address = server.addresses[0]
    assert isinstance(address, tuple)
    return address


@pytest.fixture(params=["epoll", "threadpool"])
def server(request: pytest.FixtureRequest, fleet: Fleet) -> Server:
    """A server that runs the application in its loop, and one that runs it in threads."""
    return fleet(request.param)


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    """Each of Python's clients."""
    with ExitStack() as stack:
        yield KINDS[request.param](stack, server)


# --- the clients of Python ------------------------------------------------------------------------


def test_get(client: Client) -> None:
    answer = client("GET", "/blocks?block=one&block=two&header=X-A:+1", None)
    assert (answer.status, answer.body) == (200, b"onetwo")
    assert answer.fields["x-a"] == "1"
    assert answer.fields["content-length"] == "6"


def test_a_path_and_a_query_beyond_ascii(client: Client) -> None:
    answer = client("GET", "/environ/" + quote("ü b") + "?q=" + quote("é&"), None)
    environ = json.loads(answer.body)
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/environ/ü b"
    assert environ["QUERY_STRING"] == "q=%C3%A9%26"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "404 Not Found"])
def test_statuses_with_and_without_content(client: Client, status: str) -> None:
    for _ in range(2):  # the second time shows that the first left nothing behind
        answer = client("GET", f"/blocks?status={quote(status)}", None)
        assert (answer.status, answer.body) == (int(status[:3]), b"")


def test_post_with_a_length(client: Client) -> None:
    answer = client("POST", "/echo", CONTENT)
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == DIGEST
    assert answer.fields["x-content-length"] == str(len(CONTENT))


def test_post_without_content(client: Client) -> None:
    assert client("POST", "/echo", b"").body == b""


def test_a_chunked_upload(client: Client) -> None:
    answer = client("POST", "/echo", pieces())
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == DIGEST


def test_head_and_then_get_on_the_same_connection(client: Client) -> None:
    head = client("HEAD", "/blocks?block=hello", None)
    assert (head.status, head.body) == (200, b"")
    get = client("GET", "/blocks?block=hello", None)
    assert get.body == b"hello"
    assert head.fields.keys() >= {"content-type", "date"}


def test_a_chunked_answer(client: Client) -> None:
    answer = client("GET", "/blocks?kind=generator&block=a&block=bc&block=def", None)
    assert answer.body == b"abcdef"
    assert answer.fields["transfer-encoding"] == "chunked"


def test_a_big_download(client: Client) -> None:
    """In as many chunks as there are numbers."""
    answer = client("GET", "/count?to=50000", None)
    whole = b"".join(b"%d\n" % number for number in range(50_000))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(whole).digest()


def test_a_big_file(client: Client, tmp_path: Path) -> None:
    """Far more than the kernel's buffers, by sendfile."""
    path = tmp_path / "big"
    path.write_bytes(CONTENT * 8)
    answer = client("GET", f"/file?path={quote(str(path))}&length={len(CONTENT) * 8}", None)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(CONTENT * 8).digest()


def test_the_connection_is_reused(client: Client) -> None:
    ports = set()
    for number in range(20):
        body = b"x" * number if number % 2 else None
        answer = client("POST" if body else "GET", f"/environ?{number}", body)
        environ = json.loads(answer.body)
        assert environ["QUERY_STRING"] == str(number)
        assert environ["body"] == "x" * len(body or b"")
        ports.add(environ["REMOTE_PORT"])
    assert len(ports) == 1


def test_a_refused_upload_is_told(client: Client) -> None:
    """The answer comes while the client is still sending, and must not be lost with a reset."""
    answer = client("POST", "/echo", b"x" * (4 << 20))
    assert answer.status == 413
    assert client("GET", "/blocks?block=after", None).body == b"after"


# --- curl -----------------------------------------------------------------------------------------

needs_curl = pytest.mark.skipif(not CURL, reason="there is no curl (apt install curl)")


def curl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run curl; without a proxy and without the user's configuration, and it must succeed."""
    done = subprocess.run(
        [CURL, "--disable", "--noproxy", "*", "-sS", "--max-time", "20", *arguments],
        input=data,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done


@needs_curl
def test_curl_gets_and_reuses(server: Server) -> None:
    url = base(server)
    done = curl("-v", f"{url}/blocks?block=one", f"{url}/blocks?kind=generator&block=two")
    assert done.stdout == b"onetwo"
    assert b"Re-using existing connection" in done.stderr


@needs_curl
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_speaks_both_versions(server: Server, version: str) -> None:
    done = curl(version, "--include", f"{base(server)}/blocks?kind=generator&block=a&block=b")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"ab"
    assert (b"Transfer-Encoding: chunked" in head) == (version == "--http1.1")


@needs_curl
def test_curl_head(server: Server) -> None:
    done = curl("--head", f"{base(server)}/blocks?block=hello")
    assert done.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert done.stdout.endswith(b"\r\n\r\n")


@needs_curl
@pytest.mark.parametrize("fields", [[], ["Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_curl_waits_for_100_continue(server: Server, fields: list[str], tmp_path: Path) -> None:
    """With a timeout for it above curl's limit: it would fail if the 100 did not come."""
    content = tmp_path / "content"
    content.write_bytes(CONTENT)
    more = [word for line in fields for word in ("--header", line)]
    done = curl(
        "-v",
        "--header",
        "Expect: 100-continue",
        "--expect100-timeout",
        "60",
        *more,
        "--data-binary",
        f"@{content}",
        f"{base(server)}/echo",
    )
    assert hashlib.sha256(done.stdout).hexdigest() == DIGEST
    assert re.search(rb"^< HTTP/1.1 100 Continue", done.stderr, re.MULTILINE)


@needs_curl
def test_curl_downloads_slowly(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(CONTENT * 4)
    url = f"{base(server)}/file?path={quote(str(path))}"
    done = curl("--limit-rate", "40M", url)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(CONTENT * 4).digest()


@needs_curl
def test_curl_uploads_what_it_reads(server: Server) -> None:
    """From a pipe it cannot know the length, and sends chunks."""
    done = curl("--upload-file", "-", f"{base(server)}/echo", data=CONTENT)
    assert hashlib.sha256(done.stdout).hexdigest() == DIGEST


@needs_curl
def test_curl_over_a_unix_socket_and_over_ipv6(server: Server) -> None:
    path = server.unix_path
    done = curl("--unix-socket", path, "http://localhost/blocks?block=unix")
    assert done.stdout == b"unix"
    for address in server.addresses:
        if isinstance(address, tuple) and ":" in address[0]:
            url = f"http://[{address[0]}]:{address[1]}/blocks?block=six"
            assert curl("--globoff", url).stdout == b"six"


@needs_curl
def test_many_curls_at_once(server: Server) -> None:
    """Eight connections in parallel, each with its own answer."""
    urls = [f"{base(server)}/blocks?block={number:04}" for number in range(40)]
    done = curl("--parallel", "--parallel-immediate", "--parallel-max", "8", *urls)
    found = re.findall(rb"\d{4}", done.stdout)
    assert sorted(found) == [b"%04d" % number for number in range(40)]
