"""The built-in page for a missing file, where the site has no 404.html of its own."""

from __future__ import annotations

from typing import Final

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
<title>Page not found</title>
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
  <p class="code" aria-hidden="true">404</p>
  <h1>There is no page at this address</h1>
  <p class="soft">It may have moved, or the address may have a typing error.</p>
</body>
</html>
"""

# It names nothing of the request: what is never repeated needs no escaping.
NOT_FOUND: Final = (_BEFORE + PALETTE + _AFTER).encode()
