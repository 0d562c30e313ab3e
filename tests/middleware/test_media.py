"""The media type table."""

from __future__ import annotations

import pytest

from middleware.media import _TYPES, UNKNOWN, content_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("A.HTML", "text/html; charset=utf-8"),
        ("site.css", "text/css; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("app.js.map", "application/json"),
        ("data.json", "application/json"),
        ("logo.svg", "image/svg+xml"),
        ("photo.avif", "image/avif"),
        ("font.woff2", "font/woff2"),
        ("code.wasm", "application/wasm"),
        ("app.webmanifest", "application/manifest+json"),
        ("data.tar.gz", "application/gzip"),
        ("data.zst", "application/zstd"),
        ("sub.dir/no_extension", UNKNOWN),
        ("README", UNKNOWN),
        ("html", UNKNOWN),
        (".html", UNKNOWN),
        ("x.", UNKNOWN),
        ("x.unheard-of", UNKNOWN),
        (".well-known/apple-app-site-association", "application/json"),
    ],
)
def test_content_type(name: str, expected: str) -> None:
    assert content_type(name) == expected


def test_table_is_written_in_lower_case_and_well_formed() -> None:
    for extension, media_type in _TYPES.items():
        assert extension == extension.lower()
        assert "." not in extension
        main, _, sub = media_type.partition("/")
        assert main in {"text", "image", "font", "audio", "video", "application", "model"}
        assert sub
        assert " " not in media_type
