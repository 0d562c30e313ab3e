"""Accept-Encoding -> a content coding, Accept -> what kind of answer is wanted (RFC 9110 12.5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

IDENTITY: Final = "identity"

_LONGEST_CACHED: Final = 512  # characters; browsers send 25, and everyone's headers share the cache

# 12.4.2: from 0 to 1 with at most three digits behind the dot.
_QVALUE: Final = r"0(?:\.[0-9]{0,3}+)?+|1(?:\.0{0,3}+)?+"

# Names from before the registry that mean the same (8.4.1.1, 8.4.1.3).
_ALIASES: Final = {"x-gzip": "gzip", "x-compress": "compress"}

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"

# Every repetition is possessive, so that a hostile header is read once.
# A member of Accept-Encoding in lower case, from the comma before it to the one behind it.
_CODING: Final = re.compile(
    rf"(?:^|,)[ \t]*+({_TOKEN})(?:[ \t]*+;[ \t]*+q=({_QVALUE}))?+[ \t]*+(?=,|\Z)"
)

# An element of a list in which commas may be quoted. An open quote takes all that follows.
_STRING: Final = r'"(?:[^"\\]++|\\.)*+"'
_ELEMENT: Final = re.compile(rf'(?:[^,"]++|{_STRING}|".*+)++', re.DOTALL)
_MEDIA_RANGE: Final = re.compile(
    rf"({_TOKEN}/{_TOKEN})((?:[ \t]*+;[ \t]*+(?:{_TOKEN}=(?:{_TOKEN}|{_STRING}))?+)*+)", re.DOTALL
)
_PARAMETER: Final = re.compile(rf";[ \t]*+({_TOKEN})=({_TOKEN}|{_STRING})", re.DOTALL)
_WEIGHT: Final = re.compile(_QVALUE)


def choose_coding(accept_encoding: str | None, available: Sequence[str]) -> str | None:
    """The content coding to answer with, by RFC 9110 12.5.3.

    accept_encoding: the header; None if there is none, and then nothing is coded: who does not
        ask may be a tool that stores what it gets.
    available: the codings that the server has, in lower case, the preferred one first; without
        "identity", which there always is.

    The coding with the highest weight, of several the one that the server prefers; "identity" is
    preferred last. None: the client accepts none of them, nor identity (406 is the answer then).

    A member that breaks the grammar, if only by a fourth digit of its weight, is ignored. A coding
    listed twice counts with its higher weight.
    """
    if accept_encoding is None:
        return IDENTITY
    if len(accept_encoding) > _LONGEST_CACHED:
        return _choose(accept_encoding, tuple(available))
    return _choose_cached(accept_encoding, tuple(available))


def _choose(header: str, available: tuple[str, ...]) -> str | None:
    weights = _coding_weights(header, {*available, IDENTITY, "*"})
    others = weights.get("*", 0.0)
    best, highest = None, 0.0
    for coding in available:
        weight = weights.get(coding, others)
        if weight > highest:
            best, highest = coding, weight
    # Unlisted, it is acceptable but the last choice, unless "*" speaks of it.
    identity = weights.get(IDENTITY, weights.get("*"))
    if identity is None:
        return best or IDENTITY
    return IDENTITY if identity > highest else best


_choose_cached = lru_cache(maxsize=256)(_choose)


def _coding_weights(header: str, wanted: set[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for member, weight in _CODING.findall(header.lower()):
        name = _ALIASES.get(member, member)
        if name in wanted:
            weights[name] = max(weights.get(name, 0.0), float(weight or 1))
    return weights


def accepts_html(accept: str | None) -> bool:
    """Whether the Accept header names text/html or application/xhtml+xml, with a weight over 0.

    That is how browsers ask for a page to go to. `*/*` and `text/*` do not count: scripts, images
    and fetch() send them too.
    """
    weights = _media_weights(accept)
    return max(weights.get("text/html", 0), weights.get("application/xhtml+xml", 0)) > 0


def prefers_json(accept: str | None) -> bool:
    """Whether the Accept header (None: absent) prefers application/json to text/html.

    Each has the weight of the most specific range that names it (RFC 9110 12.5.1); where the
    weights are equal, the one that is named more specifically is meant: `application/json, */*`
    is what a script sends, and `*/*` alone says nothing.
    """
    weights = _media_weights(accept)
    return _preference(weights, "application/json") > _preference(weights, "text/html")


def _preference(weights: dict[str, float], media_type: str) -> tuple[float, int]:
    """Its weight, and how specifically it is named: 2; by its top-level type: 1; else 0."""
    top_level = media_type.partition("/")[0]
    for specificity, wanted in ((2, media_type), (1, f"{top_level}/*"), (0, "*/*")):
        if weight := weights.get(wanted):
            return weight, specificity
        if weight is not None:
            break  # refused, which is no more than not to be named
    return 0.0, 0


def _media_weights(accept: str | None) -> dict[str, float]:
    """Media range in lower case -> its weight, of the members that keep to the grammar.

    Parameters other than `q` are left out: none of them tells one of our answers from another.
    A range listed twice counts with its higher weight.
    """
    weights: dict[str, float] = {}
    for element in _ELEMENT.findall(accept or ""):
        member = _MEDIA_RANGE.fullmatch(element.strip(" \t"))
        weight = _weight(member[2]) if member else None
        if member and weight is not None:
            name = member[1].lower()
            weights[name] = max(weights.get(name, 0.0), weight)
    return weights


def _weight(parameters: str) -> float | None:
    """The one named `q`, wherever it stands among them (12.5.1); None if it is not a weight."""
    if not parameters:
        return 1.0
    values = [value for name, value in _PARAMETER.findall(parameters) if name in ("q", "Q")]
    if not values:
        return 1.0
    return float(values[0]) if len(values) == 1 and _WEIGHT.fullmatch(values[0]) else None
