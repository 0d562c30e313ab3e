"""The built-in pages for what is not there, where the site has none of its own."""

from __future__ import annotations

from typing import Final, NamedTuple

# The colours of every built-in page, declared once, for light and for dark.
PALETTE: Final = """\
  :root { color-scheme: light dark; --ink: #1f2430; --paper: #fbfbf9; --soft: #646b78;
    --line: #e2e1dc; --accent: #0b625b; --wash: #eef3f1 }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8e8e4; --paper: #16181d; --soft: #9aa1ad;
      --line: #2c3038; --accent: #72cbbf; --wash: #1d2328 }
  }
"""

_BEFORE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
"""
_AFTER: Final = """\
  html { height: 100%; background: var(--paper); color: var(--ink) }
  body {
    min-height: 100%; margin: 0; display: grid; place-content: center; padding: 2rem;
    box-sizing: border-box; font: 1.0625rem/1.6 system-ui, sans-serif
  }
  p { margin: 0; max-width: 30rem }
  .code { font-size: clamp(4rem, 18vw, 8rem); font-weight: 700; line-height: 1;
    letter-spacing: -.04em }
  h1 { margin: 1rem 0 .25rem; font-size: 1.25rem; font-weight: 600 }
  h1, p { text-wrap: balance }
  .soft { color: var(--soft) }
</style>
<body>
  <p class="code" aria-hidden="true">{code}</p>
  <h1>{line}</h1>
  <p class="soft">{more}</p>
</body>
</html>
"""


class _Text(NamedTuple):
    title: str
    line: str
    more: str


_TEXTS: Final = {
    404: _Text(
        "Page not found",
        "There is no page at this address",
        "It may have moved, or the address may have a typing error.",
    ),
    410: _Text(
        "Page gone",
        "The page at this address is gone",
        "It was removed on purpose and will not come back.",
    ),
    451: _Text(
        "Page unavailable",
        "The page at this address cannot be shown",
        "It is not available for legal reasons.",
    ),
}


def _html(code: int, text: _Text) -> bytes:
    before, after = _BEFORE, _AFTER
    for name, value in {"code": str(code), **text._asdict()}.items():
        before, after = (part.replace(f"{{{name}}}", value) for part in (before, after))
    return (before + PALETTE + after).encode()


# They name nothing of the request: what is never repeated needs no escaping.
HTML: Final = {code: _html(code, text) for code, text in _TEXTS.items()}
"""The pages, by status code."""
LINES: Final = {code: f"{text.line}." for code, text in _TEXTS.items()}
"""The same in one line of plain text."""
