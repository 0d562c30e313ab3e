"""The grammar of RFC 9110, RFC 9112 and RFC 3986 that the server judges by, as regular expressions.

All quantifiers that could backtrack are possessive (`*+`, `++`): matching is linear in the input.
"""

from __future__ import annotations

import re

# RFC 9110 §5.6.2: token = 1*tchar
TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(TCHAR + rb"++")

# RFC 9110 §5.5: field-value = VCHAR, obs-text (0x80-0xff), SP and HTAB; no other control character.
VALUE_CHAR = rb"[\t\x20-\x7e\x80-\xff]"

# RFC 9112 §3.2: the four request-target forms hold visible ASCII only. RFC 3986 also excludes
# `"`, `<`, `>` and, since a target has no fragment, `#`; what browsers send unescaped (`|`, `^`,
# `[`, `]`, `{`, `}`, `\` and a lone `%`) is taken.
TARGET_CHAR = rb"[!$-;=?-~]"

# RFC 9112 §3: method SP request-target SP HTTP-version. One space each, nothing else.
REQUEST_LINE = re.compile(
    rb"(" + TCHAR + rb"++) (/" + TARGET_CHAR + rb"*+|" + TARGET_CHAR + rb"++) HTTP/1\.([0-9])"
)
# Only to tell a wrong version (505) from a wrong line (400).
OTHER_VERSION = re.compile(TCHAR + rb"++ " + TARGET_CHAR + rb"++ HTTP/[0-9]\.[0-9]")

# RFC 9112 §5: field-line = field-name ":" OWS field-value OWS. No space before the colon (§5.1),
# no obs-fold (§5.2), no bare CR or LF (§2.2), all of which this expression leaves no room for.
FIELDS = re.compile(rb"(?:" + TCHAR + rb"++:" + VALUE_CHAR + rb"*+\r\n)*+")
FIELD = re.compile(r"([^:]++):[ \t]*+([^\r]*+)\r\n")

# RFC 9112 §2.2: empty lines before a request are ignored.
EMPTY_LINES = re.compile(rb"\A(?:\r\n)++")

# What can never be part of a head: seen in the first bytes of a head that is not complete yet,
# it is refused at once (a TLS hello, a bare LF or CR, a NUL) instead of waiting for more.
IMPOSSIBLE = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")

# RFC 9110 §7.2 and RFC 3986 §3.2.2: uri-host; an empty one is refused (RFC 9110 §4.2.1).
_URI_HOST = (
    r"(?:\[(?:[0-9A-Fa-f:.]{2,45}|[vV][0-9A-Fa-f]{1,4}\.[0-9A-Za-z:._~!$&'()*+,;=-]{1,64})\]"
    r"|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255}+)"
)
# Host = uri-host [ ":" port ]; port = *DIGIT
HOST = re.compile(_URI_HOST + r"(?::[0-9]{0,5})?")
# RFC 9112 §3.2.2: absolute-form; userinfo in it is an error (RFC 9110 §4.2.4).
ABSOLUTE = re.compile(r"(?i:(https?))://([^/?]++)(/[^?]*+)?(?:\?(.*+))?")
# RFC 9112 §3.2.3: authority-form = uri-host ":" port
AUTHORITY = re.compile(_URI_HOST + r":[0-9]{1,5}")

# RFC 9110 §8.6: 1*DIGIT. 19 digits are below 2**64 and end the parsing of absurd numbers.
CONTENT_LENGTH = re.compile(r"[0-9]{1,19}")

# RFC 9112 §7.1: chunk = chunk-size [ chunk-ext ] CRLF; §7.1.1: the extensions' full grammar.
QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+\""
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*+;[ \t]*+"
    + TCHAR
    + rb"++(?:[ \t]*+=[ \t]*+(?:"
    + TCHAR
    + rb"++|"
    + QUOTED
    + rb"))?)*+\r\n"
)
# How a chunk line that is not complete yet must begin.
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}+(?:[ \t;\r]|\Z)")

# PEP 3333 on the way out: status "200 OK"; names are tokens, values have no control character.
STATUS = re.compile(r"([2-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?")
FIELD_NAME = re.compile(TCHAR.decode("ascii") + r"++")
FIELD_VALUE = re.compile(VALUE_CHAR.decode("latin-1") + r"*+")
