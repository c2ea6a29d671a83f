"""A site whose jobs go to the tests' Slurm, and what Slurm has of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.clusters.site import Site
from tests.services.slurm import Slurm
from wps_hpc.jobs.job import Job

HPC = """
[clusters.hpc]
scheduler = "slurm"
{partition}
query_seconds = 0.3
command_seconds = {command_seconds}
lost_seconds = 3.0
environment = {{ PYTHONDONTWRITEBYTECODE = "1" }}
command_environment = {{ SLURM_CONF = "{conf}", PATH = "{path}" }}
{more}
"""
#: Longer than Slurm's own patience with itself in the tests (MessageTimeout).
COMMAND_SECONDS = 20.0
#: How long it took to know what became of each job of the fault matrix, from what happened to it.
TRUTHS: list[str] = []


def make_site(
    slurm: Slurm,
    *,
    programs: str = "",
    partition: str = 'partition = "long"',
    command_seconds: float = COMMAND_SECONDS,
    more: str = "",
    parallel: int = 20,
) -> Site:
    """A site whose jobs go to Slurm; ``programs`` is a folder of commands that come before Slurm's own."""
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-site-"))
    path = f"{programs}:{os.environ['PATH']}" if programs else os.environ["PATH"]
    tables = HPC.format(conf=slurm.conf, path=path, partition=partition, command_seconds=command_seconds, more=more)
    return Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}", parallel=parallel, cluster="hpc", clusters=tables)


def leave(site: Site, slurm: Slurm) -> None:
    """End a site and all that is its."""
    for job in site.store.list_jobs(limit=1000):
        if job.submission_id is not None and not job.scheduler_gone:
            slurm.run("scancel", f"--name={token(site, job)}")
    site.close()
    if site.settings.storage.root.is_mount():
        subprocess.run(["umount", "--lazy", str(site.settings.storage.root)], check=True)
    shutil.rmtree(site.folder)


def token(site: Site, job: Job) -> str:
    """The name of the job's submission at Slurm."""
    job = site.job(job.id)
    assert job.submission_id is not None
    submission = site.store.submission(job.submission_id)
    assert submission is not None
    return submission.token


def scheduler_id(site: Site, job: Job) -> str:
    """The id of the job at Slurm."""
    job = site.job(job.id)
    submission = site.store.submission(job.submission_id or 0)
    assert submission is not None and submission.scheduler_id
    return submission.scheduler_id


def told(site: Site, job: Job, since: float, patience: float = 120.0) -> tuple[str, str]:
    """State and cause of a job that has ended; how long that took is printed when all tests have run."""
    ended = site.ended(job.id, patience)
    cause = ended.failure.cause if ended.failure else ""
    row = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].removesuffix(" (call)")
    TRUTHS.append(f"{(ended.finished or 0) - since:6.1f} s  {row}: {ended.state}: {ended.message}")
    return ended.state.value, cause
