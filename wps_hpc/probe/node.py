"""The process that ``wps-hpc check`` runs on a node:

it tells where it runs, as whom, and what it finds there.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import sys
import time

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
        }
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # An account that the node's user database does not have; the number tells.
        return "unknown"
