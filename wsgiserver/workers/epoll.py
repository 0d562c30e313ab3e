"""`epoll`: one thread, one loop, ten thousand clients. The answer to C10K (nginx, lighttpd)."""

from __future__ import annotations

from wsgiserver.workers.readiness import Readiness


class EpollWorker(Readiness):
    """The readiness loop as it is: the application runs in the loop.

    Right for applications that compute briefly and do not wait: while one request runs, all others
    stand still.
    """
