"""Records what squeue and sacct say of jobs in every state that can be made.

``python -m tests.record_slurm [suite ...]``: without a suite it records from the host's own Slurm, else from those that
``make test-slurm-versions`` has made. The answers go to ``tests/recorded/slurm``, with what the dialect reads of them
as the expectation, to be read over.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from tests.clusters.site import until
from tests.services.slurm import Slurm, running_slurm
from tests.services.slurm_releases import running_release
from tests.unit.test_scheduler_slurm import RECORDED, SCHEDULER, as_recorded
from wps_hpc.clusters.schedulers.base import Known
from wps_hpc.clusters.transports.base import Command, Completed

FOLDER = RECORDED[0].parent
#: Token, script, and options of sbatch.
JOBS: tuple[tuple[str, str, str], ...] = (
    ("wok000000000000", "exit 0", ""),
    ("wcode0000000000", "exit 7", ""),
    ("wsig00000000000", "kill -9 $$", ""),
    ("wnoout000000000", "exit 0", "--output=/dev/null/out"),
    ("woom00000000000", "python3 -c 'x = bytearray(400 << 20); x[::4096] = b\"1\" * len(x[::4096])'", "--mem=50M"),
    ("wrun00000000000", "sleep 600", "-t 20"),
    ("wagain000000000", "sleep 600", "-t 20 --requeue"),
    ("wstop0000000000", "sleep 600", "-t 20"),
    ("wcanr0000000000", "sleep 600", "-t 20"),
    ("wcanq0000000000", "exit 0", "--hold"),
    ("wheld0000000000", "exit 0", "--hold"),
    ("wlong0000000000", "exit 0", "-p short -t 60"),
    ("wbegin000000000", "exit 0", "--begin=now+1hour"),
    ("wdep00000000000", "exit 0", "--dependency=afterok:{wrun00000000000}"),
    ("wnever000000000", "exit 0", "--dependency=afterok:{wcode0000000000}"),
)


def main(suites: list[str]) -> None:
    """Record from each of the suites."""
    for suite in suites or [None]:
        with ExitStack() as stack:
            slurm = stack.enter_context(running_release(suite)).slurm if suite else stack.enter_context(running_slurm())
            record(slurm)


def record(slurm: Slurm) -> None:
    """All recordings of one Slurm."""
    version = slurm.run("sbatch", "--version").stdout.split()[1]
    known = Known("wrun00000000000", submitted(slurm)["wrun00000000000"], time.time())
    write(slurm, version, "squeue-many", SCHEDULER.query_command())
    write(slurm, version, "squeue-lookup-running", SCHEDULER.lookup_command(known))
    write(
        slurm, version, "sacct-many", SCHEDULER.accounting_command([Known(job[0], None, time.time()) for job in JOBS])
    )
    write(slurm, version, "squeue-lookup-none", SCHEDULER.lookup_command(Known("wzzz00000000000", None, time.time())))


def submitted(slurm: Slurm) -> dict[str, str]:
    """Ids of all jobs by token, once each is in the state that it is there for."""
    ids: dict[str, str] = {}
    for token, script, options in JOBS:
        words = ["sbatch", "--parsable", "-p", "long", f"--job-name={token}", "--output=/dev/null", "--chdir=/"]
        asked = slurm.run(*words, *options.format(**ids).split(), stdin=f"#!/bin/sh\n{script}\n", check=False)
        if asked.returncode == 0:
            ids[token] = asked.stdout.strip()
    ended = ("wok000000000000", "wcode0000000000", "wsig00000000000", "wnoout000000000", "woom00000000000")
    until(lambda: not any(active(slurm, token) for token in ended), "these have ended")
    until(lambda: all(active(slurm, f"w{name}") for name in ("run00000000000", "again000000000")), "these run")
    slurm.run("scancel", ids["wcanr0000000000"], ids["wcanq0000000000"])
    slurm.run("scancel", "--full", "--signal=STOP", ids["wstop0000000000"])
    slurm.run("scontrol", "requeue", ids["wagain000000000"])
    until(lambda: not active(slurm, "wcanr0000000000"), "it is cancelled")
    until(lambda: "PENDING" in state(slurm, "wagain000000000"), "it waits again")
    slurm.run("sbatch", "--hold", "-J", "somebody\nelse", "-o", "/dev/null", stdin="#!/bin/sh\n")
    until(lambda: accounted(slurm, "wcanr0000000000").startswith("CANCELLED"), "accounting has seen the last of them")
    return ids


def accounted(slurm: Slurm, token: str) -> str:
    """The state of a job in accounting."""
    said = slurm.run("sacct", "-n", "-P", "-X", "-S", "now-1days", f"--name={token}", "-o", "State")
    return said.stdout.strip()


def active(slurm: Slurm, token: str) -> str:
    """The row of a job that has not ended."""
    return slurm.run("squeue", "-h", f"--name={token}", "-o", "%T").stdout.strip()


def state(slurm: Slurm, token: str) -> str:
    """The state of a job."""
    return slurm.run("squeue", "-h", "-t", "all", f"--name={token}", "-o", "%T").stdout.strip()


def write(slurm: Slurm, version: str, case: str, command: Command | None) -> None:
    """Record one command's answer."""
    assert command is not None
    done = slurm.run("env", *(f"{name}={value}" for name, value in command.env), *command.argv, check=False)
    known = [Known(job[0], None, 0.0) for job in JOBS]
    completed = Completed(done.returncode, done.stdout, done.stderr)
    accounted = command.argv[0] == "sacct"
    answer = SCHEDULER.read_accounting(completed, known) if accounted else SCHEDULER.read_query(completed)
    content: dict[str, Any] = {
        "slurm": version,
        "command": list(command.argv),
        "exit_code": done.returncode,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "expected": as_recorded(answer),
    }
    path = Path(FOLDER) / f"{version.rpartition('.')[0]}-{case}.yaml"
    path.write_text(yaml.dump(content, Dumper=Block, sort_keys=False, width=1000))
    print(path)


class Block(yaml.SafeDumper):
    """Writes lines as lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Block.add_representer(str, _text)

if __name__ == "__main__":
    main(sys.argv[1:])
