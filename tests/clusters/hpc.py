"""What a batch system has of a site's jobs, and what is told of how they end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.clusters.site import Site
from wps_hpc.jobs.job import Job

#: How long it took to know what became of each job of the fault matrix, from what happened to it.
TRUTHS: list[str] = []


def token(site: Site, job: Job) -> str:
    """The name of the job's submission at the batch system."""
    job = site.job(job.id)
    assert job.submission_id is not None
    submission = site.store.submission(job.submission_id)
    assert submission is not None
    return submission.token


def scheduler_id(site: Site, job: Job) -> str:
    """The id of the job at the batch system."""
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


def process_state(pid: int) -> str:
    """The kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def kill_without_notice(site: Site, job: Job) -> None:
    """Batch script and launcher die together, so that nothing tells of it but the batch system's accounting."""
    launcher = site.launcher_pids(job)[0]
    script = int(Path(f"/proc/{launcher}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (script, launcher):
        os.kill(pid, signal.SIGKILL)
