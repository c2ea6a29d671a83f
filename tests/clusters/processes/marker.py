"""Processes for tests that count runs: each run leaves a file that must not have been there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

from wps_hpc import Job, ProcessError, Resources, formats, inputs, process


def _mark(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


@process(title="Mark a run", version="1.0.0")
def mark(
    folder: Annotated[str, inputs.literal(abstract="Where the marker goes.")],
    name: str,
    seconds: float = 0.0,
    until: str = "",
    job: Job | None = None,
) -> str:
    """Create folder/name, which must not exist; take some seconds, or wait until the file ``until`` exists.

    Returns:
        The name.
    """
    assert job is not None
    _mark(Path(folder) / name)
    deadline = time.monotonic() + seconds
    job.progress(50, "marked")
    while time.monotonic() < deadline or (until and not Path(until).exists()):
        time.sleep(0.02)
    return name


@process(title="Mark every run", version="1.0.0", restartable=True)
def mark_run(folder: str, name: str, until: str, job: Job | None = None) -> str:
    """Create folder/name-<run>, and wait until the file until-<run> exists.

    Returns:
        The run.
    """
    assert job is not None
    run = job.workdir.parent.name
    _mark(Path(folder) / f"{name}-{run}")
    job.progress(50, "marked")
    while not Path(f"{until}-{run}").exists():
        time.sleep(0.02)
    return run


@process(title="Count characters", version="1.0.0")
def count_characters(text: Annotated[str, inputs.complex(formats.TEXT)]) -> int:
    """Count the characters of a text.

    Returns:
        How many there are.
    """
    return len(text)


@process(title="Fill the disk", version="1.0.0")
def fill(megabytes: int) -> int:
    """Write a file of some megabytes into the working directory.

    Returns:
        The megabytes that were written.
    """
    with Path("filler").open("wb") as stream:
        for _ in range(megabytes):
            stream.write(b"x" * 1_000_000)
    return megabytes


def _need(megabytes: int) -> Resources:
    if megabytes < 0:
        raise ProcessError("megabytes cannot be negative", "InvalidParameterValue", "megabytes")
    return Resources(cores=2, memory_mb=256 + megabytes * megabytes // megabytes)


@process(title="A size", version="1.0.0", resources=_need)
def sized(megabytes: int, unit: str = "MB") -> str:
    """Need as many megabytes as the input says.

    Returns:
        The size.
    """
    return f"{megabytes} {unit}"


@process(title="Run together", version="1.0.0")
def together(folder: str, name: str, seconds: float) -> int:
    """Run for some seconds, and leave in folder/seen a file that tells how many of these ran at that time.

    Returns:
        How many there were.
    """
    own = Path(folder) / "now" / name
    _mark(own)
    most, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, len(list(own.parent.iterdir())))
        time.sleep(0.01)
    (Path(folder) / "seen" / f"{most}-{name}").touch()
    own.unlink()
    return most
