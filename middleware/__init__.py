"""WSGI middleware that runs under every WSGI server; it knows none of them."""

from __future__ import annotations

from middleware.static import StaticFiles

__all__ = ["StaticFiles"]
