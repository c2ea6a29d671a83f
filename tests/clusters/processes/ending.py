"""Processes that end in every way in which a process can end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from wps_hpc import Resources, process


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _exited() -> None:
    os._exit(3)


def _raised() -> None:
    raise ValueError("this cannot be done")


def _slept() -> None:
    time.sleep(600)


def _deaf() -> None:
    """Ends for nobody: only SIGKILL helps."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def _ate() -> None:
    memory = [bytearray(8 << 20)]
    while True:
        memory.append(bytearray(os.urandom(1 << 20) * 8))


def _fed_a_child() -> None:
    """A child process eats the memory, and dies of it; the process itself goes on."""
    pid = os.fork()
    if pid == 0:
        _ate()
    os.waitpid(pid, 0)


_ENDS = {
    "raise": _raised,
    "exit": _exited,
    "segfault": _killed,
    "sleep": _slept,
    "deaf": _deaf,
    "eat": _ate,
    "child eats": _fed_a_child,
}


def _small(minutes: int) -> Resources:
    return Resources(cores=1, memory_mb=120, walltime_s=60 * minutes)


def _resources(how: str, started: str, minutes: int) -> Resources:
    return _small(minutes)


@process(title="End", version="1.0.0", resources=_resources)
def end(how: str, started: str = "", minutes: int = 5) -> str:
    """End in the way that is asked for, after the file ``started`` has been made.

    Returns:
        Nothing that anybody waits for.
    """
    if started:
        Path(started).touch()
    _ENDS[how]()
    return how
