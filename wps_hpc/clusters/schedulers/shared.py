"""What the dialects of command lines have in common."""

from __future__ import annotations

import math
import re

from wps_hpc.clusters.transports.base import Completed

#: The name of a submission at its scheduler; jobs that are called otherwise are somebody else's.
TOKEN = re.compile(r"[a-z][a-z0-9]{14}")
#: Added to the number of a signal by the shell; there are no signals above the other number.
SHELL_SIGNAL, LAST_SIGNAL = 128, 64
#: What is asked for beyond the walltime, where the launcher keeps it: time for start, clean-up and last files. Seconds.
SPARE_SECONDS = 300


def share(amount: int | None, among: int) -> int | None:
    """An equal part of an amount, rounded up; None of none."""
    return None if amount is None else math.ceil(amount / among)


def spare_walltime(walltime_s: int, most: int | None) -> int:
    """The walltime to ask for, in seconds: a little more, but not more than the queue gives."""
    return min(walltime_s + SPARE_SECONDS, walltime_s + SPARE_SECONDS if most is None else most)


def said(completed: Completed) -> str:
    """A command's exit code and words, for the operator."""
    return f"exit code {completed.exit_code}: {completed.stderr.strip() or completed.stdout.strip()}"[:500]
