"""HTTP/1.1 as pure functions and values: no socket, no clock, no logging, no WSGI."""
