"""Processes that end in every way in which a process can end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from joblauncher.formats import status
from joblauncher.formats.values import LiteralValue
from wps_hpc import Job, Resources, process


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


def _cleaned(job: Job, started: str) -> None:
    """Heeds the warning, and puts its things in order when it has to go."""
    job.on_time_warning(Path(f"{started}.warned").touch)
    try:
        time.sleep(600)
    finally:
        Path(f"{started}.cleaned").touch()


def _killed_its_launcher() -> None:
    """Nobody is left to write how this ended, except the batch script."""
    guard = os.getppid()
    os.kill(int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    time.sleep(600)


def _tore(job: Job) -> None:
    (job.workdir.parent / "status.xml").write_bytes(b"<wps:ExecuteResponse xmlns:wps=")
    _killed_its_launcher()


def _forged(job: Job) -> None:
    """A status that says «succeeded», without the record that belongs to it."""
    outputs = {"result": (LiteralValue("forged"),)}
    document = status.succeeded(status.StatusHead(job.id, "end"), "done", outputs, time.time())
    (job.workdir.parent / "status.xml").write_bytes(document)
    _killed_its_launcher()


def _blocked(job: Job) -> None:
    """A folder in the place of the status: no other can be put there."""
    path = job.workdir.parent / "status.xml"
    path.unlink()
    path.mkdir()


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


_ENDS: Mapping[str, Callable[[Job, str], None]] = {
    "raise": lambda job, started: _raised(),
    "exit": lambda job, started: _exited(),
    "segfault": lambda job, started: _killed(),
    "sleep": lambda job, started: _slept(),
    "deaf": lambda job, started: _deaf(),
    "clean": _cleaned,
    "eat": lambda job, started: _ate(),
    "child eats": lambda job, started: _fed_a_child(),
    "tear": lambda job, started: _tore(job),
    "forge": lambda job, started: _forged(job),
    "block": lambda job, started: _blocked(job),
}


def _small(minutes: int) -> Resources:
    return Resources(cores=1, memory_mb=120, walltime_s=60 * minutes)


def _resources(how: str, started: str, minutes: int) -> Resources:
    return _small(minutes)


@process(title="End", version="1.0.0", resources=_resources)
def end(how: str, started: str = "", minutes: int = 5, job: Job | None = None) -> str:
    """End in the way that is asked for, after the file ``started`` has been made.

    Returns:
        Nothing that anybody waits for.
    """
    assert job is not None
    if started:
        Path(started).touch()
    _ENDS[how](job, started)
    return how
