"""The process that ``wps-hpc check`` runs on a node:

it tells where it runs, as whom, and what it finds there.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from wps_hpc import Job, process


@process(identifier="wps-hpc-probe", version="1.0.0")
def probe(job: Job) -> str:
    """Tell about the node.

    Returns:
        A JSON object.
    """
    written = job.workdir / "written-by-the-probe"
    written.write_text("written on the node", encoding="utf-8")
    return json.dumps(
        {
            "host": socket.gethostname(),
            "user": _user(),
            "uid": os.getuid(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "time": time.time(),
            "folder": str(job.workdir),
            **_container(job),
        }
    )


#: File systems that are no files of the node's.
_OWN = ("proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "squashfs")


def _container(job: Job) -> dict[str, Sequence[str]]:
    """What there is where the job's commands run; where that is not here, what the runtime said as well."""
    mounts, said = _read(job, "/proc/self/mounts")
    network, _ = _read(job, "/proc/net/dev")
    rows = [line.split(" ") for line in mounts.splitlines()]
    places = [row[1] for row in rows if len(row) > 2 and row[2] not in _OWN and not row[2].startswith("fuse")]
    interfaces = [line.partition(":")[0].strip() for line in network.splitlines() if ":" in line]
    return {"mounts": places, "interfaces": interfaces, "runtime": said.partition("\n")[0]}


def _read(job: Job, path: str) -> tuple[str, str]:
    """A file's text, and what was said on the way."""
    if not job.entered:
        return Path(path).read_text(encoding="utf-8"), ""
    done = subprocess.run(job.command("cat", path), capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # An account that the node's user database does not have; the number tells.
        return "unknown"
