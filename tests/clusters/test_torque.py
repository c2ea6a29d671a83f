"""TORQUE's dialect through the commands of Debian's slurm-wlm-torque, in front of the tests' Slurm.

It is no faithful TORQUE: there is no XML, no script by standard input, no exit status, and a held job is shown as
queued. The first two are put right by wrappers; what TORQUE really prints is in the recordings, and what it does with
jobs was not seen live.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.clusters.batch_system import ROWS, Row
from tests.clusters.matrix import FaultMatrix
from tests.clusters.site import until
from tests.clusters.systems import SlurmSystem
from tests.services import require
from tests.services.slurm import Slurm
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, JobOrder, Known, Phase, Submitted
from wps_hpc.clusters.schedulers.torque import TorqueScheduler
from wps_hpc.clusters.scripts import load_template, render_script
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.config import Cluster
from wps_hpc.processes.description import Resources

pytestmark = pytest.mark.cluster

UNPACKED = Path("/usr/local/lib/wps-hpc-tests/slurm-wlm-torque/usr")
WRAPPERS = {
    "qsub": 'cd {programs} && file=$(mktemp) && cat >"$file" && exec ./qsub "$@" "$file"',
    "qstat": '[ "$*" = -x ] && set -- -f; exec {programs}/qstat "$@"',
    "qdel": 'exec {programs}/qdel "$@"',
    "qhold": 'exec {programs}/qhold "$@"',
    "qrls": 'exec {programs}/qrls "$@"',
}


@dataclass(frozen=True)
class Torque:
    """The commands, in a folder of their own."""

    slurm: Slurm
    folder: Path

    def run(self, command: Command) -> Completed:
        """Run a command of the dialect."""
        program = self.folder / command.argv[0]
        done = self.slurm.run(str(program), *command.argv[1:], stdin=command.stdin.decode(), check=False)
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def torque(slurm_cluster: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Torque:
    """TORQUE's commands in front of Slurm."""
    require("slurm-wlm-torque", UNPACKED.exists(), "unpack Debian's package for it (make services)")
    programs, folder = tmp_path_factory.mktemp("programs"), tmp_path_factory.mktemp("bin")
    shutil.copytree(UNPACKED / "bin", programs, dirs_exist_ok=True)
    # They look for Slurm's commands where they are themselves.
    for name in ("sbatch", "salloc", "srun", "scancel", "squeue"):
        (programs / name).symlink_to(str(shutil.which(name)))
    libraries = next(UNPACKED.glob("lib/*/libslurm.so*")).parent
    modules = f"{next(libraries.glob('perl5/*'))}:{UNPACKED}/share/perl5"
    for name, body in WRAPPERS.items():
        wrapper = folder / name
        lines = ("#!/bin/sh", f"export PERL5LIB={modules} LD_LIBRARY_PATH={libraries}", body.format(programs=programs))
        wrapper.write_text("\n".join(lines) + "\n")
        wrapper.chmod(0o755)
    return Torque(slurm_cluster, folder)


ROWS_OF_COMMANDS = ("test_however_a_job_ends_it_is_told_truly", "test_dismissed", "test_check_sends_its_probe")


class TorqueSystem(SlurmSystem):
    """Slurm, reached by TORQUE's commands."""

    scheduler = "torque"
    submit = "qsub"
    lost_seconds = 5.0
    #: These commands give no exit status, which to TORQUE's dialect is a deleted job: it is told by what the launcher
    #: has left.
    rows: ClassVar[Mapping[str, Row]] = {name: ROWS[name] for name in ("succeeds", "raises", "os._exit")}

    def __init__(self, torque: Torque) -> None:
        super().__init__(torque.slurm, 'queue = "long"')
        self.folder = torque.folder

    def variables(self) -> dict[str, str]:
        """Those of Slurm, which these commands call."""
        variables = super().variables()
        return {**variables, "PATH": f"{self.folder}:{variables['PATH']}"}


@pytest.fixture(scope="module")
def system(torque: Torque) -> TorqueSystem:
    """The batch system as the server reaches it."""
    return TorqueSystem(torque)


class TestRows(FaultMatrix, only=ROWS_OF_COMMANDS):
    """The rows of the fault matrix that say something of the commands."""

    of = TorqueSystem


def test_submit_query_and_delete(torque: Torque, tmp_path: Path) -> None:
    scheduler = TorqueScheduler(Cluster(scheduler="torque", queue="long"))
    order = JobOrder("wtorque00000000", "job", "", str(tmp_path), ("sleep", "100"), 1, Resources(walltime_s=60))
    script = render_script(load_template("torque"), order, {}, scheduler.directives(order))
    outcome = scheduler.read_submit(torque.run(scheduler.submit_command(JobOrder(**{**vars(order), "script": script}))))
    assert isinstance(outcome, Submitted), outcome
    known = Known(order.token, outcome.scheduler_id, time.time())

    def phase() -> Phase | None:
        answer = scheduler.read_query(torque.run(scheduler.query_command()))
        assert not isinstance(answer, CouldNotAsk), answer
        word = answer.get(outcome.scheduler_id)
        assert word is None or word.token == order.token
        return None if word is None else word.phase

    until(lambda: phase() is Phase.RUNNING, "it runs")
    assert scheduler.read_lookup(torque.run(scheduler.lookup_command(known)), known) == outcome.scheduler_id
    assert scheduler.read_control(Control.CANCEL, torque.run(scheduler.control_command(Control.CANCEL, known))).done
    until(lambda: phase() is Phase.ENDED, "it has ended")
