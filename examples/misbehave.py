"""A process that goes wrong in the way it is told, for operators who want to see what their clients then see.

Plain Python. Not for a public service: offer it while you set one up.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Callable

from wps_hpc import Job, ProcessError, Resources, inputs, outputs, process

#: Bytes that are taken at once, and written at once.
BLOCK = 16 * 1024 * 1024


def refuse() -> None:
    """End as an author who tells the client what is wrong."""
    raise ProcessError("this is the sentence that the process has for its client", "InvalidParameterValue", "how")


def raise_exception() -> None:
    """End by a defect of the process: an exception that nobody caught."""
    raise ZeroDivisionError("a defect of the process")


def leave() -> None:
    """End with an exit code, without a result."""
    sys.exit(3)


def vanish() -> None:
    """End at once, without any of Python's clean-up."""
    os._exit(4)


def segfault() -> None:
    """Die as compiled code does that reads where it must not."""
    os.kill(os.getpid(), signal.SIGSEGV)


def take_memory() -> None:
    """Take memory, and touch it, until somebody puts an end to it."""
    taken: list[bytearray] = []
    while True:
        taken.append(bytearray(b"x") * BLOCK)


def take_time() -> None:
    """Do nothing until the time limit."""
    while True:
        time.sleep(60)


def fill_disk() -> None:
    """Write into the working directory until the disk is full. Think before you try this one."""
    with Path("filler").open("wb") as stream:
        while True:
            stream.write(b"x" * BLOCK)


#: How to go wrong, by name.
WAYS: Mapping[str, Callable[[], None]] = {
    "error": refuse,
    "exception": raise_exception,
    "exit": leave,
    "vanish": vanish,
    "segfault": segfault,
    "memory": take_memory,
    "time": take_time,
    "disk": fill_disk,
}


@process(
    version="1.0.0",
    keywords=["test", "failure"],
    resources=Resources(cores=1, memory_mb=256, walltime_s=60),
    sync="cluster",
)
def misbehave(
    how: Annotated[str, inputs.literal(title="How", allowed=tuple(WAYS))],
    *,
    job: Job,
) -> Annotated[str, outputs.literal(identifier="nothing", title="Nothing", abstract="Never given: the job fails.")]:
    """Go wrong.

    Fails in one of the ways in which processes fail, to see what a client is told and what the log says.

    Args:
        how: Error (a sentence for the client), exception (a defect), exit (an exit code), vanish (no word at all),
            segfault (a signal), memory, time and disk (more than the job was given).
    """
    job.progress(10, f"about to fail: {how}")
    WAYS[how]()
    return "still here"
