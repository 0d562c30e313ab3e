"""The built-in page for a missing file, where the site has no 404.html of its own."""

from __future__ import annotations

from typing import Final

# It names nothing of the request: what is never repeated needs no escaping.
NOT_FOUND: Final = b"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Page not found</title>
<style>
  :root { color-scheme: light dark; --ink: #1f2430; --paper: #fbfbf9; --soft: #6b7280 }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8e8e4; --paper: #16181d; --soft: #9aa1ad }
  }
  html { height: 100%; background: var(--paper); color: var(--ink) }
  body {
    min-height: 100%; margin: 0; display: grid; place-content: center; padding: 2rem;
    box-sizing: border-box; font: 1.0625rem/1.6 system-ui, sans-serif
  }
  p { margin: 0; max-width: 30rem }
  .code { font-size: clamp(4rem, 18vw, 8rem); font-weight: 700; line-height: 1;
    letter-spacing: -.04em }
  h1 { margin: 1rem 0 .25rem; font-size: 1.25rem; font-weight: 600 }
  .soft { color: var(--soft) }
</style>
<body>
  <p class="code" aria-hidden="true">404</p>
  <h1>There is no page at this address</h1>
  <p class="soft">It may have moved, or the address may have a typing error.</p>
</body>
</html>
"""
