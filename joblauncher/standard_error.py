"""The launcher's own words, on its standard error: for the operator, in the batch system's log."""

from __future__ import annotations

import os
import sys


def tell(text: str) -> None:
    """Say a line on standard error. Where that cannot be written, nobody is told, and nothing else comes of it."""
    try:
        print(f"joblauncher: {text}", file=sys.stderr, flush=True)
    except OSError:
        # It may lie on the very disk that is full; the status and the exit code say it all the same. What could not
        # be written must not be tried again at exit.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
