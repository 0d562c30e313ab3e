"""Client address, scheme and host from a trusted proxy: X-Forwarded-* and Forwarded (RFC 7239).

Only a peer in `forwarded_allow_ips` is listened to. Proxies append, so the list is read
from the right: each address that is itself trusted is one more proxy, the first other one is the
client, and what stands left of it is only what that client says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from wsgiserver.http import grammar
from wsgiserver.http.errors import BadRequest
from wsgiserver.http.head import valid_host

_TOKEN = grammar.TOKEN.pattern.decode("ascii")
# RFC 7239 §4: forwarded-pair = token "=" ( token / quoted-string ); unquoted `:` and `[` are wrong
# by that grammar but sent so often that taking them is what peers do.
_PAIR = re.compile(rf'({_TOKEN})=(?:([^\s",;=]+)|"((?:[^"\\]|\\.)*+)")')
_NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([0-9.]+):(\d{1,5})")

Hop = dict[str, str]  # "for", "port" (of it), "proto", "host"


def apply_forwarded(environ: dict[str, Any], trusts: Callable[[str], bool]) -> None:
    """Set REMOTE_ADDR, REMOTE_PORT, wsgi.url_scheme and HTTP_HOST to what a trusted proxy says.

    :param environ: with the fields of the request as CGI variables, and with REMOTE_ADDR.
    :param trusts: whether an address belongs to a trusted proxy.
    :raises BadRequest: a forwarding field that does not parse: it comes from a proxy of the
        operator's, so guessing would hide a mistake in its configuration.
    """
    x_forwarded = (
        "HTTP_X_FORWARDED_FOR" in environ
        or "HTTP_X_FORWARDED_PROTO" in environ
        or "HTTP_X_FORWARDED_HOST" in environ
    )
    if not (x_forwarded or "HTTP_FORWARDED" in environ) or not trusts(environ["REMOTE_ADDR"]):
        return
    # Most proxies write X-Forwarded-* and pass on a Forwarded that the client made up; so that
    # counts only where it stands alone (docs/decisions/005).
    hops = _x_forwarded(environ) if x_forwarded else _forwarded(environ["HTTP_FORWARDED"])
    _set_client(environ, _client_hop(hops, trusts))


def _client_hop(hops: list[Hop], trusts: Callable[[str], bool]) -> Hop:
    """The hop that describes the client: walk from the right over the trusted ones."""
    chosen: Hop = {}
    for hop in reversed(hops):
        if "for" in hop:
            chosen.pop("port", None)  # it belonged to the last proxy
        chosen.update(hop)
        address = hop.get("for")
        if address is None or not _is_address(address) or not trusts(address):
            break
    return chosen


def _set_client(environ: dict[str, Any], hop: Hop) -> None:
    address = hop.get("for", "")
    if _is_address(address):
        environ["REMOTE_ADDR"] = address
        environ["REMOTE_PORT"] = hop.get("port", "")
    if "proto" in hop:
        if hop["proto"].lower() not in ("http", "https"):
            raise BadRequest("a proxy forwarded a scheme other than http and https.")
        environ["wsgi.url_scheme"] = hop["proto"].lower()
    if "host" in hop:
        if not valid_host(hop["host"]):
            raise BadRequest("a proxy forwarded a host that is not valid.")
        environ["HTTP_HOST"] = hop["host"]


def _is_address(text: str) -> bool:
    if "%" in text:  # a zone means nothing beyond its host, and may be any text
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _node(text: str) -> Hop:
    """An address, with its port if it has one: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`."""
    match = _NODE.fullmatch(text)
    if match is None:
        return {"for": text}
    address, port = match[1] or match[3], match[2] or match[4]
    if port and int(port) > 65535:
        raise BadRequest("a proxy forwarded a port above 65535.")
    return {"for": address, "port": port} if port else {"for": address}


def _forwarded(value: str) -> list[Hop]:
    """The elements of a Forwarded field, the nearest proxy's last (RFC 7239 §4)."""
    hops = []
    for element in _split(value, ","):
        hop: Hop = {}
        for pair in _split(element, ";"):
            match = _PAIR.fullmatch(pair)
            if match is None or match[1].lower() in hop:
                raise BadRequest("a proxy sent a Forwarded field that is not valid.")
            text = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
            name = match[1].lower()
            if name == "for":
                hop.update(_node(text))
            elif name in ("proto", "host"):
                hop[name] = text
        hops.append(hop)
    return hops


_QUOTES_CLOSED: Final = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*+")*+')
_PARTS: Final = {
    separator: re.compile(rf'(?:[^"{separator}]|"(?:[^"\\]|\\.)*+")++') for separator in ",;"
}


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that stand outside of quotes; empty parts are left out."""
    if not _QUOTES_CLOSED.fullmatch(text):
        raise BadRequest("a proxy sent a Forwarded field with an open quote.")
    parts = [part.strip(" \t") for part in _PARTS[separator].findall(text)]
    return [part for part in parts if part]


def _x_forwarded(environ: dict[str, Any]) -> list[Hop]:
    """The same from X-Forwarded-For, -Proto and -Host.

    Proto and Host belong to the hop at the same place of the list if there are as many of them as
    addresses; else there is one setter, the nearest proxy, and its last word counts.
    """
    hops = [_node(address) for address in _list(environ, "HTTP_X_FORWARDED_FOR")] or [{}]
    for key, name in (("HTTP_X_FORWARDED_PROTO", "proto"), ("HTTP_X_FORWARDED_HOST", "host")):
        values = _list(environ, key)
        if len(values) == len(hops):
            for hop, value in zip(hops, values, strict=True):
                hop[name] = value
        elif values:
            hops[-1][name] = values[-1]
    for hop in hops:
        if "for" in hop and not _is_address(hop["for"]) and hop["for"].lower() != "unknown":
            raise BadRequest("a proxy sent an X-Forwarded-For that is not a list of addresses.")
    return hops


def _list(environ: dict[str, Any], key: str) -> list[str]:
    return [part for part in map(str.strip, environ.get(key, "").split(",")) if part]
