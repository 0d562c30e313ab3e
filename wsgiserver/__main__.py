"""`python -m wsgiserver`: the same as the command `wsgiserver`."""

from __future__ import annotations

import sys

from wsgiserver.cli import main

if __name__ == "__main__":
    sys.exit(main())
