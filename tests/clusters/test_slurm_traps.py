"""Rare conditions on a real Slurm in which a bridge loses a job, runs it twice, or tells a wrong cause."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clusters.hpc import scheduler_id, told
from tests.clusters.site import Site, until
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import CLUSTER, Slurm
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.progress import Progress

pytestmark = pytest.mark.cluster

AWAY = "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2\nexit 1\n"


@contextmanager
def running_site(slurm: Slurm, kind: type[SlurmSystem] = SlurmSystem, **options: str) -> Iterator[Site]:
    """A site with a worker."""
    system = kind(slurm)
    site = system.make_site(**options)
    try:
        site.start_worker()
        yield site
    finally:
        system.leave(site)


def restartable(site: Site) -> Job:
    """A restartable job that has begun its first run."""
    job = site.execute("mark_run", folder=str(site.marks), name="run", until=str(site.folder / "go"))
    until(lambda: "run-1" in site.runs(), "its first run")
    return site.in_state(job.id, JobState.RUNNING)


def test_one_cluster_among_several_is_named(slurm_cluster: Slurm) -> None:
    """sbatch gives «id;cluster» then, squeue the id alone: jobs are found all the same."""
    with running_site(slurm_cluster, more=f'slurm_cluster = "{CLUSTER}"') as site:
        job = site.mark("one", until=str(site.folder / "go"))
        other = site.mark("two", until=str(site.folder / "never"))
        for each in (job, other):
            site.in_state(each.id, JobState.RUNNING)
        site.store.request_suspend(job.id)
        site.in_state(job.id, JobState.SUSPENDED)
        site.store.request_resume(job.id)
        site.in_state(job.id, JobState.RUNNING)
        site.intake.dismiss(other.id, "the client")
        assert site.ended(other.id).state is JobState.DISMISSED
        (site.folder / "go").touch()
        assert site.ended(job.id).state is JobState.SUCCEEDED


class WithOwnVariables(SlurmSystem):
    """Its commands have variables that jobs may not have."""

    def variables(self) -> dict[str, str]:
        """See ``BatchSystem``."""
        return {**super().variables(), "OF_COMMANDS": "secret", "TZ": "Europe/Vienna"}


def test_a_job_gets_the_variables_that_are_listed_and_the_node_reads_no_login_files(slurm_cluster: Slurm) -> None:
    with running_site(slurm_cluster, WithOwnVariables) as site:
        job = site.mark("one", until=str(site.folder / "go"))
        job = site.in_state(job.id, JobState.RUNNING)
        until(site.job_folder(job).attempt(job.attempt).claim.exists, "its launcher is there")
        launcher = Path(f"/proc/{site.launcher_pids(job)[0]}/environ").read_text().split("\0")
        (site.folder / "go").touch()
        assert site.ended(job.id).state is JobState.SUCCEEDED
    names = {line.partition("=")[0] for line in launcher}
    assert {"PATH", "HOME", "SLURM_CONF", "SLURM_JOB_ID"} <= names and "TZ=Europe/Vienna" in launcher
    assert not names & {"OF_COMMANDS", "SLURM_GET_USER_ENV"}


def test_an_ended_job_that_is_put_back_into_the_queue_does_not_run_again(slurm_cluster: Slurm) -> None:
    with running_site(slurm_cluster) as site:
        job = restartable(site)
        (site.folder / "go-1").touch()
        assert site.ended(job.id).state is JobState.SUCCEEDED
        until(lambda: site.job(job.id).scheduler_gone, "Slurm has let go of it")
        number = scheduler_id(site, job)
        slurm_cluster.run("scontrol", "requeue", number)

        def state() -> str:
            return slurm_cluster.run("squeue", "-h", "-t", "all", "-j", number, "-O", "State:20,RestartCnt:6").stdout

        until(lambda: state().split() == ["FAILED", "1"], "its second launcher has left")
        assert site.runs() == {"run-1"}
        assert site.job(job.id).state is JobState.SUCCEEDED


def test_a_job_is_requeued_while_the_server_cannot_ask(slurm_cluster: Slurm, tmp_path: Path) -> None:
    """All that the server sees is a launcher that was ordered to end: nothing is concluded from that."""
    with running_site(slurm_cluster, programs=str(tmp_path)) as site:
        job = restartable(site)
        squeue = tmp_path / "squeue"
        squeue.write_text(AWAY)
        squeue.chmod(0o755)
        until(lambda: site.job(job.id).stale_since, "it is told that the scheduler does not answer")
        slurm_cluster.run("scontrol", "requeue", scheduler_id(site, job))
        progress = Progress(site.store, site.settings.storage.root, site.bell)
        until(lambda: progress.get(job.id) and "run-2" in site.runs(), "its second run, while a client polls")
        assert site.job(job.id).state is JobState.RUNNING
        squeue.unlink()
        until(lambda: site.job(job.id).attempt == 2, "the second run is seen")
        (site.folder / "go-2").touch()
        assert site.ended(job.id).state is JobState.SUCCEEDED


def test_an_epilog_that_takes_longer_than_the_grace(slurm_cluster: Slurm) -> None:
    """Slurm says «preempted» only when it is over, and a client polls all the time."""
    epilog = slurm_cluster.folder / "epilog"
    epilog.write_text("#!/bin/sh\nsleep 20\n")
    epilog.chmod(0o755)
    before, slurm_cluster.extra = slurm_cluster.extra, f"Epilog={epilog}"
    slurm_cluster.reconfigure(min_job_age=300)
    try:
        with running_site(slurm_cluster) as site:
            job = site.mark("one", until=str(site.folder / "never"))
            until(site.runs, "it runs")
            site.in_state(job.id, JobState.RUNNING)
            since = time.time()
            urgent = ("-p", "urgent", "--nodes=3", "--exclusive", "-o", "/dev/null", "-J", "urgent")
            slurm_cluster.run("sbatch", *urgent, stdin="#!/bin/sh\nsleep 1\n")
            progress = Progress(site.store, site.settings.storage.root, site.bell)
            until(lambda: (found := progress.get(job.id)) is not None and found.final, "its end, while a client polls")
            assert told(site, job, since) == ("failed", "preempted")
    finally:
        slurm_cluster.run("scancel", "--name=urgent")
        slurm_cluster.extra = before
        slurm_cluster.reconfigure(min_job_age=300)
        slurm_cluster.wait_idle()
