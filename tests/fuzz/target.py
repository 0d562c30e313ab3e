"""What must hold for whatever a client sends: the target for a fuzzer.

`check` takes the bytes of one connection. Any fuzzer can call it; without one,

    python -m tests.fuzz.target SECONDS

damages the seeds in ./corpus at random for so long, and leaves an input that fails beside them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Final

from tests.helpers import Environ, Stage, echo
from tests.support.wire import Reply, replies
from wsgiserver.states import CLOSE, READ

CORPUS: Final = Path(__file__).parent / "corpus"
LIMITS: Final[dict[str, Any]] = {
    "limit_request_line": 512,
    "limit_request_field_size": 512,
    "limit_request_body": 4096,
    "spool_size": 1024,
}
STATUSES: Final = frozenset({100, 200, 400, 413, 414, 417, 431, 501, 505})

Outcome = tuple[list[tuple[str, str, bytes]], bool]


def seeds() -> list[bytes]:
    """The inputs to begin with."""
    return [path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))]


def check(data: bytes) -> None:
    """Fail if the server does with this input what it must never do."""
    whole = _serve([data] if data else [])
    assert _serve(bytes((byte,)) for byte in data) == whole, "it depends on how the bytes came"


def _serve(pieces: Iterable[bytes]) -> Outcome:
    """The requests that were served, and whether the rest was refused."""
    served: list[tuple[str, str, bytes]] = []

    def application(environ: Environ, start_response: object) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        environ["wsgi.input"].seek(0)
        served.append((environ["REQUEST_METHOD"], environ["RAW_URI"], body))
        return echo(environ, start_response)  # type: ignore[arg-type]

    stage = Stage(application, **LIMITS)
    driver = stage.connect()
    driver.give(*pieces)
    driver.give(b"")
    assert driver.conn.want in (READ, CLOSE)
    assert stage.notes.failures == []
    methods = [method for method, _, _ in served]
    # A refusal's text ends in LF; if nothing stands behind the fields, it was one of HEAD.
    methods.append("HEAD" if driver.sent.endswith(b"\r\n\r\n") else "GET")
    answers = replies(driver.sent, *methods)
    final = [reply for reply in answers if reply.status >= 200]
    assert {reply.status for reply in answers} <= STATUSES
    refused = len(stage.notes.refusals)
    assert len(final) == len(served) + refused
    _check_answers(final, served)
    assert len(stage.notes.lines) == len(final), "not one line of the access log for each answer"
    return served, bool(refused)


def _check_answers(final: list[Reply], served: list[tuple[str, str, bytes]]) -> None:
    for reply, (method, target, body) in zip(final, served, strict=False):
        assert reply.status == 200
        content = f"{method} {target} [".encode("latin-1") + body + b"]"
        assert reply.body == (b"" if method == "HEAD" else content)
    assert all(reply.closes for reply in final[len(served) :])


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The input with a few bytes changed, left out, put in, doubled or moved."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        size = chance.choice((1, 1, 1, 2, 8, 40))
        match chance.randrange(5):
            case 0:
                found[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                del found[at : at + size]
            case 2:
                found[at:at] = chance.choice(
                    (b"\r\n", b"\n", b"\0", b" ", b":", b"0", b"\x80", b",")
                )
            case 3:
                found[at:at] = found[at : at + size]
            case _:
                other = chance.randrange(len(found) + 1)
                found[at:at] = found[other : other + size]
    return bytes(found)


def main(seconds: float) -> None:
    """See the module."""
    chance, corpus, count = random.Random(), seeds(), 0
    end = monotonic() + seconds
    while monotonic() < end:
        data = damaged(chance.choice(corpus), chance)
        count += 1
        try:
            check(data)
        except Exception:
            path = CORPUS / f"found-{sha256(data).hexdigest()[:12]}.bin"
            path.write_bytes(data)
            print(f"{path} fails", file=sys.stderr)
            raise
    print(f"{count} inputs, no fault")


if __name__ == "__main__":
    main(float(sys.argv[1]))
