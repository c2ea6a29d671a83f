"""TORQUE's dialect through the commands of Debian's slurm-wlm-torque, in front of the tests' Slurm.

It is no faithful TORQUE: there is no XML, no script by standard input, no exit status, and a held job is shown as
queued. The first two are put right by wrappers; what TORQUE really prints is in the recordings, and what it does with
jobs was not seen live.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clusters.hpc import token, told
from tests.clusters.matrix import ROWS, close_site, open_site
from tests.clusters.site import Site, until
from tests.services import require
from tests.services.slurm import Slurm
from wps_hpc.cli.check import OK, check_cluster
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, JobOrder, Known, Phase, Submitted
from wps_hpc.clusters.schedulers.torque import TorqueScheduler
from wps_hpc.clusters.scripts import load_template, render_script
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.config import Cluster
from wps_hpc.jobs.job import JobState
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

    @property
    def variables(self) -> dict[str, str]:
        """What a client's command needs."""
        return {"SLURM_CONF": str(self.slurm.conf), "PATH": f"{self.folder}:{os.environ['PATH']}"}

    def run(self, command: Command) -> Completed:
        """Run a command of the dialect."""
        program = self.folder / command.argv[0]
        done = self.slurm.run(str(program), *command.argv[1:], stdin=command.stdin.decode(), check=False)
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def torque(slurm_cluster: Slurm, tmp_path: Path) -> Torque:
    """TORQUE's commands in front of Slurm."""
    require("slurm-wlm-torque", UNPACKED.exists(), "unpack Debian's package for it (make services)")
    programs, folder = tmp_path / "programs", tmp_path / "bin"
    shutil.copytree(UNPACKED / "bin", programs)
    folder.mkdir()
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


@pytest.fixture
def site(torque: Torque) -> Iterator[Site]:
    """A site with a worker whose jobs go through these commands."""
    opened = open_site("torque", torque.variables, more='queue = "long"')
    opened.start_worker()
    yield opened
    close_site(opened, lambda name: torque.slurm.run("scancel", f"--name={name}", check=False))


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


ENDS = {name: row for name, row in ROWS.items() if name in ("succeeds", "raises", "os._exit")}


def test_however_a_job_ends_it_is_told_truly(site: Site) -> None:
    """By what its launcher left, for these commands give no exit status: to TORQUE's dialect that is a deleted job."""
    marks = {"folder": str(site.marks)}
    jobs = {
        name: site.execute(row.process, **(dict(row.inputs) | (marks if row.process == "mark" else {})))
        for name, row in ENDS.items()
    }
    for name, job in jobs.items():
        assert told(site, job, job.created) == (ENDS[name].state.value, ENDS[name].cause), name
    assert site.runs() == {"one"}


def test_dismissed_while_it_runs(site: Site, torque: Torque) -> None:
    job = site.mark("one", until=str(site.folder / "never"))
    site.in_state(job.id, JobState.RUNNING)
    site.intake.dismiss(job.id, "the client")
    assert site.ended(job.id).state is JobState.DISMISSED
    until(lambda: token(site, job) not in torque.slurm.run("squeue", "-h", "-o", "%j").stdout, "Slurm has let go of it")


def test_check_sends_its_probe(torque: Torque) -> None:
    opened = open_site("torque", torque.variables, more='queue = "long"')
    try:
        findings = list(check_cluster(opened.settings, build_clusters(opened.settings)["hpc"], 60))
        assert [finding.level for finding in findings] == [OK], findings
    finally:
        close_site(opened, lambda _: None)
