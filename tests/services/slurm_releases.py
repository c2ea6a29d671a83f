"""The Slurm of other Debian releases, in folders that `make test-slurm-versions` makes once; delete one to renew it.

What is mounted there, and the daemons' view of it, is a mount namespace of the tests' own: the host never sees it, and
it is gone with its last process, however the tests end.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.schemas import ROOT
from tests.services import require
from tests.services.slurm import Slurm, running_slurm

#: The suites, from old to new; the tests' ordinary Slurm is the host's own.
RELEASES = ("trixie", "sid")
FOLDERS = ROOT / "tests" / ".slurm-versions"
HOW = "run `make test-slurm-versions` as root on Debian"
#: What the server runs.
COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
#: Mounts in the folder $1, beside what a system needs, the folder for temporary files, $2, at its own place: the
#: cluster and the sites of the tests are there, for both sides. So are the host's accounts. Ends with its input.
_ENTER = """
set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1$2"
mount --bind "$2" "$1$2"
for file in hosts passwd group; do mount --bind "/etc/$file" "$1/etc/$file"; done
echo entered
exec chroot "$1" cat
"""


@dataclass(frozen=True)
class Release:
    """A running Slurm of another release. ``programs`` is a folder with its commands, for use on the host."""

    suite: str
    slurm: Slurm
    programs: Path

    @property
    def version(self) -> str:
        """Its version, as its commands say it."""
        return self.slurm.run("sbatch", "--version").stdout.split()[1]


@contextmanager
def running_release(suite: str) -> Iterator[Release]:
    """A cluster of that Debian release's Slurm within the block."""
    root = FOLDERS / suite
    there = os.geteuid() == 0 and (root / "usr/bin/sbatch").exists()
    require(f"Debian {suite} with its Slurm", there, HOW)
    with _entered(root) as entrance, tempfile.TemporaryDirectory(prefix="wps-hpc-programs-") as programs:
        _write_programs(Path(programs), entrance)
        with running_slurm(entrance) as slurm:
            yield Release(suite, slurm, Path(programs))


@contextmanager
def _entered(root: Path) -> Iterator[tuple[str, ...]]:
    """The words before a command that run it in the folder, whose mounts are there within the block."""
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", _ENTER, "sh", str(root)]
    holder = subprocess.Popen(
        [*command, str(Path(tempfile.gettempdir()).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    with holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"entered\n", "the folder's mounts cannot be made"
        yield ("nsenter", f"--target={holder.pid}", "--mount", "--root", "--wd", "--")
        holder.stdin.close()


def _write_programs(folder: Path, entrance: tuple[str, ...]) -> None:
    folder.chmod(0o755)
    for name in COMMANDS:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {" ".join(entrance)} /usr/bin/{name} "$@"\n')
        program.chmod(0o755)
