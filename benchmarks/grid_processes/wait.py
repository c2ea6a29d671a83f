"""The process of the benchmark on Grid Engine, for this server; ``pywps_wait.py`` is the same for PyWPS."""

from __future__ import annotations

import os
import time
from pathlib import Path

from wps_hpc import Resources, process


def _resources(mark: str, until: str, limit: int) -> Resources:
    return Resources(walltime_s=limit)


@process(title="Wait", version="1.0", resources=_resources)
def wait(mark: str, until: str, limit: int) -> str:
    """Leave time and process id in the file ``mark``, and wait until the file ``until`` exists.

    ``limit`` is the walltime, in seconds.
    """
    Path(mark).write_text(f"{time.time()} {os.getpid()}\n")
    while not Path(until).exists():
        time.sleep(0.1)
    return mark
