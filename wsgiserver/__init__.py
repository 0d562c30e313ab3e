"""A WSGI server: one HTTP/1.1 core under interchangeable worker models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Config", "ConfigError", "WSGIServer", "__version__", "make_server", "serve"]

if TYPE_CHECKING:
    from wsgiserver.config import Config, ConfigError
    from wsgiserver.server import WSGIServer, make_server, serve

_HOMES = {
    "Config": "wsgiserver.config",
    "ConfigError": "wsgiserver.config",
    "WSGIServer": "wsgiserver.server",
    "make_server": "wsgiserver.server",
    "serve": "wsgiserver.server",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import wsgiserver` stays light."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
