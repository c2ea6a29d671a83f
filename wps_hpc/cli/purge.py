"""``wps-hpc purge``: remove what is over now, instead of at the worker's next purge."""

from __future__ import annotations

import time

import click

from wps_hpc.cli.jobs import opened
from wps_hpc.cli.main import Chosen
from wps_hpc.cli.text import columns, moment
from wps_hpc.jobs.job import FINAL, Job


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list the jobs that would be removed.")
@click.pass_obj
def purge(chosen: Chosen, dry_run: bool) -> None:
    """Remove expired jobs with their folders, and what else nobody needs any more."""
    from wps_hpc.jobs.purge import Purger

    with opened(chosen) as (settings, store):
        if dry_run:
            ended = store.list_jobs(states=FINAL, limit=1_000_000)
            print_expired([job for job in ended if is_over(job, time.time())])
            return
        purged = Purger(settings, store).round()
    for name, count in vars(purged).items():
        click.echo(f"{name} removed: {count}")


def is_over(job: Job, now: float) -> bool:
    """Whether a purge at ``now`` takes the job."""
    return job.final and job.scheduler_gone and job.expires is not None and job.expires <= now


def print_expired(jobs: list[Job]) -> None:
    """One line for each job that a purge would take, and their number."""
    for line in columns((job.id, str(job.state), job.process, f"expired {moment(job.expires)}") for job in jobs):
        click.echo(line)
    click.echo(f"{len(jobs)} jobs would be removed")
