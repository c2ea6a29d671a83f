"""A process that shows where it runs. Change this file, or put others beside it: the server sees it at once."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from typing import Annotated

from wps_hpc import Job, Resources, inputs, outputs, process


@process(version="1.0.0", keywords=["cluster"], resources=Resources(cores=1, memory_mb=100, walltime_s=300))
def node(
    seconds: Annotated[int, inputs.literal(title="Duration", uom="s", minimum=0, maximum=240)] = 5,
    *,
    job: Job,
) -> Annotated[str, outputs.literal(identifier="where", title="Where it ran")]:
    """Where it runs.

    Stays on a node of the cluster for a while, with progress, and says which one it was.

    Args:
        seconds: How long it stays there.

    Returns:
        Node and account, then Slurm's number of the job and the node's Apptainer, or the image that it runs in.
    """
    for second in range(seconds):
        job.progress(100 * second / seconds, f"second {second + 1} of {seconds}")
        time.sleep(1)
    return f"node {socket.gethostname()}, account {pwd.getpwuid(os.getuid()).pw_name}, {_surroundings()}"


def _surroundings() -> str:
    if image := os.environ.get("APPTAINER_CONTAINER"):
        return f"image {image}"
    apptainer = subprocess.run(["apptainer", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"Slurm job {os.environ['SLURM_JOB_ID']}, {apptainer}"
