"""Serve the test application: `python -m tests.support.serve '{"worker_model": "epoll"}' CALLS`.

The options of WSGIServer come as JSON; CALLS is the file to which the application adds a line for
each call. The first line on standard output is JSON with the addresses.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Patch if the model needs it, as the command does; then import the rest, bind and serve."""
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
