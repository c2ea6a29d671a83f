"""``wps-hpc jobs``:

look at jobs and steer them, by the database and job folders that the configuration names.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from joblauncher.formats.folder import JobFolder, job_path
from wps_hpc.cli.main import EXIT_FAILED, Chosen
from wps_hpc.cli.text import columns, moment, printable
from wps_hpc.config import Settings
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.store import Store, open_store
from wps_hpc.jobs.wake import Bell

#: How often ``cancel --wait`` looks, in seconds.
LOOK_EVERY = 0.2
#: How much of each log is printed, in bytes.
LOG_BYTES = 1_000_000


@click.group()
def jobs() -> None:
    """Look at jobs, and cancel, hold or release them."""


@contextmanager
def opened(chosen: Chosen) -> Iterator[tuple[Settings, Store]]:
    """The settings and the job database, brought up to date."""
    settings = chosen.quiet_settings()
    store = open_store(settings)
    try:
        store.upgrade()
        yield settings, store
    finally:
        store.close()


@jobs.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState]),
    help="Only jobs in this state.",
)
@click.option("--process", help="Only jobs of this process.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_jobs(chosen: Chosen, states: tuple[str, ...], process: str | None, limit: int, as_json: bool) -> None:
    """List jobs, the newest first."""
    wanted = [JobState(state) for state in states] or None
    with opened(chosen) as (_, store):
        found = store.list_jobs(states=wanted, process=process, limit=limit)
    if as_json:
        click.echo(json.dumps([_facts(job) for job in found], indent=2))
        return
    header = ("ID", "STATE", "PERCENT", "PROCESS", "CREATED", "MESSAGE")
    rows = [(j.id, str(j.state), str(j.percent), j.process, moment(j.created), _one_line(j)) for j in found]
    click.echo("\n".join(columns([header, *rows])))


@jobs.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(chosen: Chosen, job_id: str, as_json: bool) -> None:
    """Show what is known of a job: its state and why, its times, its submission, its failure."""
    with opened(chosen) as (settings, store):
        job = _existing(store, job_id)
        facts = {**_facts(job), **_submission_facts(store, job), "folder": str(_folder(settings, job).path)}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    lines = columns((name, printable(_shown(name, value))) for name, value in _flat(facts) if value is not None)
    click.echo("\n".join(lines))


@jobs.command()
@click.argument("job_id")
@click.option("--stream", type=click.Choice(["stdout", "stderr", "both"]), default="both", help="Which of the two.")
@click.pass_obj
def log(chosen: Chosen, job_id: str, stream: str) -> None:
    """Print what a job's process wrote to its standard output and error (the end of it, if it is long)."""
    from wps_hpc.jobs.results import Results

    with opened(chosen) as (settings, store):
        job = _existing(store, job_id)
    for name in ("stdout", "stderr") if stream == "both" else (stream,):
        content = Results(settings).log(job, name, LOG_BYTES)
        if stream == "both":
            click.echo(f"==> {name} <==")
        click.echo(printable(content.decode(errors="replace")))


@jobs.command()
@click.argument("job_id")
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
@click.option("--timeout", default=60.0, show_default=True, help="Longest wait, in seconds.")
@click.pass_obj
def cancel(chosen: Chosen, job_id: str, wait: bool, timeout: float) -> int:
    """Cancel a job. The request stays until the scheduler shows the job gone."""
    by = f"{getpass.getuser()} (operator)"
    job = _ask(chosen, job_id, "cancel", lambda store: store.request_cancel(job_id, by))
    if wait and not job.final:
        job = _ended(chosen, job, timeout)
    click.echo(f"{job.id} {job.state}" + ("" if job.final else ": cancelling"))
    return 0 if job.final or not wait else EXIT_FAILED


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def hold(chosen: Chosen, job_id: str) -> None:
    """Keep a waiting job from running until it is released."""
    job = _ask(chosen, job_id, "hold", lambda store: store.request_hold(job_id))
    click.echo(f"{job.id} {job.state}: asked to hold")


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def release(chosen: Chosen, job_id: str) -> None:
    """Let a held job go on."""
    job = _ask(chosen, job_id, "release", lambda store: store.request_release(job_id))
    click.echo(f"{job.id} {job.state}: asked to go on")


def _ask(chosen: Chosen, job_id: str, what: str, request: Callable[[Store], Job | None]) -> Job:
    """Put a request to the worker into the database and wake the worker; refuses jobs that have ended."""
    with opened(chosen) as (settings, store):
        before = _existing(store, job_id)
        if before.final:
            raise click.ClickException(f"cannot {what} {job_id}: it has {_ENDED[before.state]}")
        job = request(store)
        bell = Bell(settings.storage.run, store.database)
        bell.ring_worker({job_id})
        bell.close()
    return job or before


_ENDED: Mapping[JobState, str] = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.DISMISSED: "been dismissed",
}


def _ended(chosen: Chosen, job: Job, timeout: float) -> Job:
    deadline = time.monotonic() + timeout
    with opened(chosen) as (_, store):
        while not job.final and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
            job = store.get(job.id) or job
    return job


def _existing(store: Store, job_id: str) -> Job:
    job = store.get(job_id)
    if job is None:
        raise click.ClickException(f"there is no job {job_id}")
    return job


def _folder(settings: Settings, job: Job) -> JobFolder:
    return JobFolder(job_path(settings.storage.root, job.id))


def _facts(job: Job) -> dict[str, Any]:
    facts = asdict(job)
    del facts["request"]
    return {**facts, "state": str(job.state)}


def _submission_facts(store: Store, job: Job) -> dict[str, Any]:
    submission = None if job.submission_id is None else store.submission(job.submission_id)
    if submission is None:
        return {}
    return {
        "token": submission.token,
        "scheduler_id": submission.scheduler_id,
        "submitted": submission.submitted_at,
        "submission_state": str(submission.state),
    }


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


_TIMES = frozenset(
    {"created", "started", "finished", "expires", "deadline", "cancel_requested", "stale_since", "state_since"}
) | {"submitted"}


def _shown(name: str, value: Any) -> str:
    return moment(value) if name in _TIMES else str(value)


def _one_line(job: Job) -> str:
    return printable(" ".join((job.reason or job.message).split()))
