"""multipart/byteranges: the bytes, their count, and what two other parsers read in them."""

from __future__ import annotations

import email.policy
import io
from email import message_from_bytes
from email.message import EmailMessage

import pytest
from werkzeug.formparser import MultiPartParser
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, Preamble

from middleware.multipart import Multipart, part_cost
from middleware.ranges import Slice, parse_range

DATA = bytes(range(256)) * 8
HTML = "text/html; charset=utf-8"
SLICES = [Slice(1500, 1510), Slice(0, 3), Slice(13, 14), Slice(253, 262)]


def body(multipart: Multipart, data: bytes = DATA) -> bytes:
    """What a sender makes of it."""
    pieces = [head + data[part.start : part.stop] for head, part in multipart.parts]
    return b"".join(pieces) + multipart.tail


def test_the_bytes() -> None:
    multipart = Multipart([Slice(500, 502), Slice(65, 68)], 2048, "text/plain", "SEP")
    assert multipart.content_type == "multipart/byteranges; boundary=SEP"
    assert body(multipart) == (
        b"--SEP\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Range: bytes 500-501/2048\r\n"
        b"\r\n"
        b"\xf4\xf5\r\n"
        b"--SEP\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Range: bytes 65-67/2048\r\n"
        b"\r\n"
        b"ABC\r\n"
        b"--SEP--\r\n"
    )
    assert multipart.length == len(body(multipart))


def test_a_part_without_a_type() -> None:
    multipart = Multipart([Slice(65, 68)], 2048, None, "SEP")
    assert body(multipart) == (
        b"--SEP\r\nContent-Range: bytes 65-67/2048\r\n\r\nABC\r\n--SEP--\r\n"
    )
    assert multipart.length == len(body(multipart))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_length_is_counted(count: int) -> None:
    multipart = Multipart(SLICES[:count], len(DATA), HTML)
    assert multipart.length == len(body(multipart))


def test_the_boundary_is_new_each_time() -> None:
    made = {Multipart(SLICES, len(DATA), HTML).content_type for _ in range(100)}
    assert len(made) == 100


def test_the_email_parser_reads_it() -> None:
    multipart = Multipart(SLICES, len(DATA), HTML)
    head = f"Content-Type: {multipart.content_type}\r\n\r\n".encode()
    message = message_from_bytes(head + body(multipart), policy=email.policy.HTTP)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/byteranges"
    assert not message.defects
    assert not message.preamble
    read = []
    for part in message.iter_parts():
        assert not part.defects
        assert (part.get_content_type(), part.get_content_charset()) == ("text/html", "utf-8")
        read.append((part["Content-Range"], part.get_payload(decode=True)))
    assert read == [(s.content_range(len(DATA)), DATA[s.start : s.stop]) for s in SLICES]


def test_werkzeug_reads_it() -> None:
    """Its parser is for forms: each part must have a name, so one is put into the head here."""
    multipart = Multipart(SLICES, len(DATA), HTML, "SEP")
    disposition = b'Content-Disposition: form-data; name="part"; filename="f"\r\nContent-Type: '
    form = body(multipart).replace(b"Content-Type: ", disposition)
    _, files = MultiPartParser().parse(io.BytesIO(form), b"SEP", len(form))
    read = []
    for file in files.getlist("part"):
        with file.stream:
            read.append((file.content_type, file.headers["Content-Range"], file.read()))
    assert read == [(HTML, s.content_range(len(DATA)), DATA[s.start : s.stop]) for s in SLICES]


def test_werkzeug_finds_nothing_before_or_behind_it() -> None:
    multipart = Multipart(SLICES[:1], len(DATA), HTML, "SEP")
    disposition = b'Content-Disposition: form-data; name="part"\r\nContent-Type: '
    decoder = MultipartDecoder(b"SEP")
    decoder.receive_data(body(multipart).replace(b"Content-Type: ", disposition))
    decoder.receive_data(None)
    first, field, data, last = (decoder.next_event() for _ in range(4))
    assert isinstance(first, Preamble) and first.data == b""
    assert isinstance(field, Field) and not isinstance(field, File)
    assert isinstance(data, Data) and data.data == DATA[1500:1510]
    assert isinstance(last, Epilogue) and last.data.strip(b"\r\n") == b""


@pytest.mark.parametrize("boundary", ["", "a b", "a\r\nb", "a:b", "x" * 71, "\xe9"])
def test_what_cannot_be_a_boundary(boundary: str) -> None:
    with pytest.raises(ValueError, match="not a boundary"):
        Multipart(SLICES, len(DATA), HTML, boundary)


def test_no_parts() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Multipart([], len(DATA), HTML)


@pytest.mark.parametrize("media_type", [None, "a/b", HTML, "application/" + "x" * 200])
@pytest.mark.parametrize("size", [9, 10, 1000, 2**63])
def test_a_part_costs_no_more_than_is_said(size: int, media_type: str | None) -> None:
    parts = [Slice(0, 1), Slice(3, 4), Slice(size - 1, size), Slice(0, size)]
    multipart = Multipart(parts, size, media_type)
    cost = part_cost(size, media_type)
    assert max(len(head) for head, _ in multipart.parts) == cost
    assert len(multipart.tail) <= cost


@pytest.mark.parametrize("media_type", [None, HTML, "application/" + "x" * 200])
def test_a_storm_is_shorter_than_the_whole(media_type: str | None) -> None:
    """Sixteen one-byte ranges as near to each other as they may come, of files of any size."""
    several = 0
    for size in range(1, 8000, 7):
        cost = part_cost(size, media_type)
        asked = "bytes=" + ",".join(f"{n * (cost + 1)}-{n * (cost + 1)}" for n in range(16))
        slices = parse_range(asked, size, cost)
        if slices and len(slices) > 1:
            several += 1
            assert Multipart(slices, size, media_type).length < size
    assert several > 100
