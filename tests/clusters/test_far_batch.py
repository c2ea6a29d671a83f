"""Slurm over both SSH transports, Grid Engine over one: the same jobs, and what only a connection can bring about.

How long it took to know is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.batch_system import BatchSystem
from tests.clusters.far import elsewhere, reach, table
from tests.clusters.hpc import token
from tests.clusters.login import SSH
from tests.clusters.matrix import LIMIT_ROW, MAIN_ROWS, OUTAGE_ROW, FaultMatrix, endless, outcome_unknown, running
from tests.clusters.site import Site, until
from tests.clusters.systems import SlurmSystem
from tests.services import require
from tests.services.slurm import Slurm
from tests.services.sshd import Sshd, running_sshd
from wps_hpc.cli.check import NOTE, OK, PROBLEM, check_login
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.transports import ssh_words
from wps_hpc.jobs.job import JobState

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def node(sshd: Sshd) -> Iterator[Sshd]:
    """A login node of this module's own, whose connections are cut and frozen."""
    with running_sshd(sshd.program) as own:
        yield own


@pytest.fixture(scope="module", params=SSH)
def system(request: pytest.FixtureRequest, slurm_cluster: Slurm, node: Sshd) -> BatchSystem:
    """Slurm over each SSH transport."""
    return reach(SlurmSystem(slurm_cluster), request.param, node)


class TestMainRows(FaultMatrix, only=MAIN_ROWS - LIMIT_ROW - OUTAGE_ROW):
    """What a connection has to show each time."""

    of = SlurmSystem


def test_a_login_node_that_goes_away_while_jobs_run(system: BatchSystem, site: Site, node: Sshd) -> None:
    """They run on, also in our books; what comes meanwhile waits."""
    go = site.folder / "go"
    job = running(site, site.mark("one", until=str(go)))
    node.stop()
    try:
        until(lambda: site.job(job.id).stale_since, "it is told that the scheduler does not answer")
        late = site.mark("late")
        until(lambda: system.waits_for_master(site.job(late.id)), "it waits")
        assert site.job(job.id).state is JobState.RUNNING
        go.touch()
    finally:
        node.start()
    for each in (job, late):
        assert site.ended(each.id, 120).state is JobState.SUCCEEDED
    assert site.runs() == {"one", "late"}
    assert len(system.accounted(token(site, late))) <= 1


@pytest.mark.parametrize("how", ["cut", "frozen"])
def test_a_connection_that_dies_when_the_job_was_made_but_not_told(
    system: BatchSystem, node: Sshd, tmp_path: Path, how: str
) -> None:
    """The outcome is unknown, the job is found by its name, and there is no second one."""
    body = f'{{submit}} "$@" >{tmp_path}/said\ntouch {tmp_path}/made\nsleep 4\ncat {tmp_path}/said'
    site = system.make_site(programs=system.wrap_submit(tmp_path, body), command_seconds=8.0)
    try:
        site.start_worker()
        job = site.mark("one")
        until((tmp_path / "made").exists, "the job is there")
        if how == "cut":
            node.cut()
            outcome_unknown(site)
        else:
            with node.frozen():
                outcome_unknown(site)
        ended = site.ended(job.id, 120)
        assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
        assert site.runs() == {"one"}
        until(lambda: system.accounted(token(site, job)), "accounting knows of it")
        assert len(system.accounted(token(site, job))) == 1
    finally:
        system.leave(site)


def test_jobs_in_a_folder_that_the_nodes_see_elsewhere(system: BatchSystem, tmp_path: Path) -> None:
    """Script, order and submit command name it as the nodes do."""
    require("a bind mount", os.geteuid() == 0, "run the tests as root")
    there = tmp_path / "on the node"
    site = system.make_site(more=f'root = "{there}"')
    here = str(site.settings.storage.root)
    try:
        with elsewhere(site, there):
            site.start_worker()
            go = site.folder / "go"
            job = running(site, site.mark("one", until=str(go)))
            script = site.job_folder(job).script.read_text()
            assert str(there) in script and here not in script
            launcher = site.launcher_pids(site.job(job.id))[0]
            command = Path(f"/proc/{launcher}/cmdline").read_text()
            assert str(there) in command and here not in command
            go.touch()
            assert site.ended(job.id).state is JobState.SUCCEEDED
    finally:
        system.leave(site)


def findings(system: BatchSystem, site: Site) -> list[tuple[str, str]]:
    """What ``check`` says of the login node, before it sends a probe."""
    cluster = build_clusters(site.settings)["hpc"]
    site.settings.storage.root.mkdir(mode=0o700, exist_ok=True)
    try:
        return [(finding.level, finding.text) for finding in check_login(cluster)]
    finally:
        cluster.close()


def test_check_says_what_a_login_node_is_like(system: BatchSystem, node: Sshd, tmp_path: Path) -> None:
    site = system.make_site()
    try:
        ((level, text),) = findings(system, site)
        assert level == OK and f"lets this server in as {node.account}" in text
    finally:
        system.leave(site)
    site = system.make_site(more=f'root = "{tmp_path}"')
    try:
        _, (level, text) = findings(system, site)
        assert level == NOTE and "set clusters.hpc.root" in text
    finally:
        system.leave(site)


def test_check_says_why_a_login_node_lets_nobody_in(system: BatchSystem, node: Sshd, tmp_path: Path) -> None:
    kind = next(name for name in SSH if f'transport = "{name}"' in system.always)
    unknown = SlurmSystem(system.slurm, always=table(kind, node, known_hosts=[str(tmp_path / "none")]))  # type: ignore[attr-defined]
    site = unknown.make_site()
    try:
        ((level, text),) = findings(unknown, site)
        assert level == PROBLEM and ssh_words.UNKNOWN_KEY in text
    finally:
        unknown.leave(site)


@pytest.mark.slow
def test_dismissed_while_nobody_can_be_asked(system: BatchSystem, site: Site, node: Sshd) -> None:
    """The wish is kept until the login node is back."""
    job = running(site, endless(site))
    node.stop()
    try:
        site.intake.dismiss(job.id, "the client")
        until(lambda: site.job(job.id).stale_since, "nobody answers")
    finally:
        node.start()
    until(lambda: site.job(job.id).scheduler_gone, "the batch system has let go of it")
    assert site.job(job.id).state is JobState.DISMISSED


class TestLastRows(FaultMatrix, only=LIMIT_ROW | OUTAGE_ROW):
    """The rest of the main rows: the jobs over their time limit have run through all of the above."""

    of = SlurmSystem


@pytest.mark.slow
class TestOtherRows(FaultMatrix, without=MAIN_ROWS):
    """All others: the folders are shared, so each of them makes sense."""

    of = SlurmSystem
