"""The preset of security headers: what a site can send without knowing anything of its content.

A Content-Security-Policy is not in it: which one is right depends on the pages (`_headers` is the
place for it).
"""

from __future__ import annotations

from typing import Final

PRESET: Final = (
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)

HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")
"""For answers over TLS only (RFC 6797 7.2); a year, this host alone."""
