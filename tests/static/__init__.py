"""StaticFiles on the wire: real servers, raw bytes, files that change."""
