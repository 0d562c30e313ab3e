"""What a proxy says about its client: who is believed, and what the application sees then."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import Stage, get, hello
from wsgiserver.config import Config
from wsgiserver.context import Context
from wsgiserver.forwarded import apply_forwarded
from wsgiserver.http.errors import BadRequest
from wsgiserver.logs import Journal

TRUSTED = Context(
    hello,
    Config(forwarded_allow_ips=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    Journal(),
    multithread=False,
    multiprocess=False,
).trusts


def seen(peer: str = "10.0.0.1", **fields: str) -> dict[str, Any]:
    """The environ of a request with these fields (`X_FORWARDED_FOR`) as applications see it."""
    environ = {
        "REMOTE_ADDR": peer,
        "REMOTE_PORT": "4711",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "backend",
        **{f"HTTP_{name}": value for name, value in fields.items()},
    }
    apply_forwarded(environ, TRUSTED)
    return environ


def client(peer: str = "10.0.0.1", **fields: str) -> tuple[str, str, str, str]:
    environ = seen(peer, **fields)
    return (
        environ["REMOTE_ADDR"],
        environ["REMOTE_PORT"],
        environ["wsgi.url_scheme"],
        environ["HTTP_HOST"],
    )


NOTHING = ("10.0.0.1", "4711", "http", "backend")


def test_without_such_fields_nothing_changes() -> None:
    assert client() == NOTHING
    assert client("203.0.113.9") == ("203.0.113.9", *NOTHING[1:])


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9", "11.0.0.1"])
@pytest.mark.parametrize(
    "fields",
    [
        {"X_FORWARDED_FOR": "192.0.2.1"},
        {"X_FORWARDED_PROTO": "https", "X_FORWARDED_HOST": "evil.example"},
        {"FORWARDED": "for=192.0.2.1;proto=https;host=evil.example"},
        {"FORWARDED": 'not "valid'},
    ],
)
def test_a_peer_that_is_not_trusted_is_not_heard(peer: str, fields: dict[str, str]) -> None:
    assert client(peer, **fields) == (peer, *NOTHING[1:])


@pytest.mark.parametrize("peer", ["10.0.0.1", "fd00::1", "::ffff:10.0.0.1", "fd00::1%eth0", ""])
def test_a_trusted_peer_is_heard(peer: str) -> None:
    """Also by a mapped address and through a unix socket."""
    fields = {
        "X_FORWARDED_FOR": "192.0.2.1",
        "X_FORWARDED_PROTO": "https",
        "X_FORWARDED_HOST": "www.example",
    }
    assert client(peer, **fields) == ("192.0.2.1", "", "https", "www.example")


@pytest.mark.parametrize(
    ("value", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", ""),
        ("192.0.2.1:80", "192.0.2.1", "80"),
        ("2001:db8::1", "2001:db8::1", ""),
        ("[2001:db8::1]", "2001:db8::1", ""),
        ("[2001:db8::1]:8080", "2001:db8::1", "8080"),
        ("192.0.2.66, 192.0.2.1", "192.0.2.1", ""),  # what the client itself said is left of it
        ("127.0.0.1, 192.0.2.1", "192.0.2.1", ""),
        ("10.9.9.9, 192.0.2.1", "192.0.2.1", ""),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1", ""),
        ("192.0.2.1, 10.0.0.2, 10.0.0.3", "192.0.2.1", ""),
        ("192.0.2.66, 192.0.2.1, 10.0.0.2", "192.0.2.1", ""),
        ("192.0.2.1, 10.0.0.2:5555", "192.0.2.1", ""),  # the port is the proxy's, not the client's
        ("192.0.2.1:99, 10.0.0.2:5555", "192.0.2.1", "99"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3", ""),  # a client in the proxies' own network
        (" ,192.0.2.1 ,, ", "192.0.2.1", ""),
        ("unknown", "10.0.0.1", "4711"),
        ("", "10.0.0.1", "4711"),
    ],
)
def test_X_Forwarded_For(value: str, address: str, port: str) -> None:
    assert client(X_FORWARDED_FOR=value)[:2] == (address, port)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "x",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.1:99999",
            "[::1",
            "::1]",
            "1.2.3.4 5.6.7.8",
            "<b>",
        ),
        *("192.0.2.1:x", "fe80::1%<b>", "192.0.2.1\xa0x", "010.0.0.1"),
    ],
)
def test_X_Forwarded_For_that_is_no_list_of_addresses(value: str) -> None:
    with pytest.raises(BadRequest):
        seen(X_FORWARDED_FOR=value)


@pytest.mark.parametrize(
    ("addresses", "values", "wanted"),
    [
        ("192.0.2.1", "https", "https"),
        ("192.0.2.1, 10.0.0.2", "https, http", "https"),  # hop by hop
        ("192.0.2.1, 10.0.0.2", "http, https", "http"),
        ("192.0.2.66, 192.0.2.1", "https, http", "http"),
        ("192.0.2.66, 192.0.2.1", "https", "https"),  # one setter: the nearest proxy
        ("192.0.2.1", "http, https", "https"),
        ("", "HTTPS", "https"),
        ("192.0.2.1", "", "http"),
    ],
)
def test_X_Forwarded_Proto(addresses: str, values: str, wanted: str) -> None:
    assert client(X_FORWARDED_FOR=addresses, X_FORWARDED_PROTO=values)[2] == wanted


@pytest.mark.parametrize("value", ["ftp", "https://", "javascript", "ht tp"])
def test_other_schemes_are_refused(value: str) -> None:
    with pytest.raises(BadRequest):
        seen(X_FORWARDED_PROTO=value)
    with pytest.raises(BadRequest):
        seen(FORWARDED=f'proto="{value}"')


@pytest.mark.parametrize("value", ["a b", "a/b", "u@a", "[::1", "a:x", "<b>", "[1::2::3]"])
def test_hosts_that_are_not_valid_are_refused(value: str) -> None:
    with pytest.raises(BadRequest):
        seen(X_FORWARDED_HOST=value)
    with pytest.raises(BadRequest):
        seen(FORWARDED=f'host="{value}"')


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("for=192.0.2.1", ("192.0.2.1", "", "http", "backend")),
        ("For=192.0.2.1;Proto=HTTPS;Host=www.example", ("192.0.2.1", "", "https", "www.example")),
        ('for="192.0.2.1:80"', ("192.0.2.1", "80", "http", "backend")),
        ('for="[2001:db8::1]:80"', ("2001:db8::1", "80", "http", "backend")),
        ('for="[2001:db8::1]"', ("2001:db8::1", "", "http", "backend")),
        ("for=192.0.2.66, for=192.0.2.1", ("192.0.2.1", "", "http", "backend")),
        (
            "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http",
            ("192.0.2.1", "", "https", "backend"),
        ),
        ("for=192.0.2.1;by=10.0.0.2 ; host=a", ("192.0.2.1", "", "http", "a")),
        ('for=192.0.2.1;ext="a,b;c\\"d"', ("192.0.2.1", "", "http", "backend")),
        ("for=192.0.2.1;port=99", ("192.0.2.1", "", "http", "backend")),  # an extension, no port
        ("for=unknown", NOTHING),
        ("for=_hidden", NOTHING),
        ("for=192.0.2.66, for=_hidden", NOTHING),
        ('for="\\1\\92.0.2.1"', ("192.0.2.1", "", "http", "backend")),
        ("", NOTHING),
        (" , ;", NOTHING),
    ],
)
def test_Forwarded(value: str, wanted: tuple[str, str, str, str]) -> None:
    assert client(FORWARDED=value) == wanted


@pytest.mark.parametrize(
    "value",
    [
        *("x", "for", "for=", "=a", "for=a;for=b", "for = 192.0.2.1", "for=192.0.2.1 proto=https"),
        *('for="192.0.2.1', 'for=192.0.2.1"', 'for=192.0.2.1;proto=https"', 'for="a"b', "f(r=a"),
        *('for="192.0.2.1:99999"', "for=a;proto=http;Proto=https"),
    ],
)
def test_Forwarded_that_is_not_valid(value: str) -> None:
    with pytest.raises(BadRequest):
        seen(FORWARDED=value)


def test_Forwarded_of_a_client_does_not_count_behind_a_proxy_that_does_not_know_it() -> None:
    """nginx, HAProxy and others add X-Forwarded-For and pass on what else the client made up."""
    environ = seen(X_FORWARDED_FOR="192.0.2.1", FORWARDED="for=127.0.0.1;proto=https;host=evil")
    assert environ["REMOTE_ADDR"] == "192.0.2.1"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["HTTP_HOST"] == "backend"


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.sampled_from(["FORWARDED", "X_FORWARDED_FOR", "X_FORWARDED_PROTO", "X_FORWARDED_HOST"]),
    st.text('fohrpt=",;: \\[]1.2<%', max_size=16) | st.text(st.characters(max_codepoint=255)),
)
def test_whatever_is_forwarded(name: str, value: str) -> None:
    """Either it is refused, or what the application sees is well-formed."""
    try:
        address, port, scheme, host = client(**{name: value})
    except BadRequest:
        return
    assert ip_network(address)
    assert port == "" or 0 <= int(port) <= 65535
    assert scheme in ("http", "https")
    assert not set(host) & set(' \t"<>/@\\')


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("fd00::1", True), ("fe80::1", False), ("", True)],
)
def test_who_is_trusted(address: str, trusted: bool) -> None:
    assert TRUSTED(address) is trusted


def test_a_wrong_field_of_a_trusted_proxy_is_400() -> None:
    stage = Stage(hello, forwarded_allow_ips="10.0.0.1")
    for address, status in (("10.0.0.1", b"400"), ("10.0.0.2", b"200")):
        driver = stage.connect(address=address)
        driver.give(get("/", "X-Forwarded-For: nonsense"))
        assert driver.sent[9:12] == status
