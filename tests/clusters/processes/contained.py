"""Processes that say what they see from where they run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from wps_hpc import Job, Resources, process


def _tried(attempt: Callable[[], object]) -> str:
    """What came of it, or why nothing did."""
    try:
        return f"{attempt()}"
    except (OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def _written(path: Path) -> str:
    with path.open("ab") as stream:
        stream.write(b"!")
    return "written"


def _reached(address: tuple[str, int]) -> str:
    with socket.create_connection(address, 5):
        return "reached"


def _processes() -> list[str]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@process(title="Look around", version="1.0.0", resources=Resources(walltime_s=60))
def look(outside: str, home: str, port: int, shared: str = "", job: Job | None = None) -> str:
    """Say what can be seen, written and reached from within the job.

    Returns:
        A JSON object.
    """
    assert job is not None
    folder = job.workdir.parents[2]
    seen: Mapping[str, Callable[[], object]] = {
        "outside": Path(outside).read_text,
        "home": lambda: sorted(path.name for path in Path(home).iterdir()),
        "manifest": lambda: _written(folder / "manifest.json"),
        "folder": lambda: _written(folder / "more"),
        "sibling": lambda: (job.workdir.parents[1] / "77").mkdir(),
        "other jobs": lambda: sorted(path.name for path in folder.parents[1].glob("*/*")),
        "launcher": lambda: _written(next(folder.parents[2].glob("launcher/*/joblauncher.pyz"))),
        "work": lambda: _written(job.workdir / "mine"),
        "network": lambda: _reached(("127.0.0.1", port)),
        "interfaces": lambda: [line.split(":")[0].strip() for line in _lines("/proc/net/dev") if ":" in line],
        "shared": lambda: Path(shared).read_text() if shared else "",
        "where": os.getcwd,
        "account": os.getuid,
    }
    told = {name: _tried(look) for name, look in seen.items()}
    return json.dumps({**told, "environment": dict(os.environ), "processes": _processes()})


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


@process(title="Run a command", version="1.0.0", resources=Resources(walltime_s=60))
def run_command(script: str, job: Job | None = None) -> str:
    """Run a line of shell where the job's commands run.

    Returns:
        Its exit code, and what it said.
    """
    assert job is not None
    done = subprocess.run(job.command("/bin/sh", "-c", script), capture_output=True, text=True, check=False)
    return f"{done.returncode}: {done.stdout}{done.stderr}"


@process(title="Eat with the container", version="1.0.0", resources=Resources(cores=1, memory_mb=120, walltime_s=300))
def eat_all(job: Job | None = None) -> str:
    """Offer the container's first process to the out-of-memory killer, and then take more memory than there is.

    Returns:
        Nothing that anybody waits for.
    """
    Path("/proc/1/oom_score_adj").write_text("1000")
    taken = [bytearray(8 << 20)]
    while True:
        taken.append(bytearray(os.urandom(1 << 20) * 8))
