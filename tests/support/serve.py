"""Serve the test application: `python -m tests.support.serve '{"worker_model": "epoll"}' CALLS`.

The options of WSGIServer come as JSON; CALLS is the file to which the application adds a line for
each call. The first line on standard output is JSON with the addresses.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_the_tests() -> None:
    """Tests that are killed leave no server behind, where the kernel sees to it (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Patch if the model needs it, as the command does; then import the rest, bind and serve."""
    end_with_the_tests()
    options = json.loads(sys.argv[1])
    if options["worker_model"] == "gevent":
        from wsgiserver.workers.gevent import patch

        patch()
    from tests.support.app import TestApplication
    from wsgiserver import WSGIServer

    server = WSGIServer(TestApplication(sys.argv[2]), **options)
    server.bind()
    print(json.dumps({"addresses": server.addresses}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
