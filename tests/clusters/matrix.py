"""The fault matrix's undisruptive rows, and what all schedulers' tests share: jobs that end in every way, and sites."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clusters.hpc import token, told
from tests.clusters.site import Site
from wps_hpc.jobs.job import Job, JobState

SITE = """
[clusters.hpc]
scheduler = "{scheduler}"
query_seconds = 0.3
command_seconds = {command_seconds}
lost_seconds = {lost_seconds}
environment = {{ PYTHONDONTWRITEBYTECODE = "1" }}
command_environment = {{ {variables} }}
{more}
"""


@dataclass(frozen=True)
class Row:
    """A job that ends by itself or is killed from outside, and what is told of it."""

    process: str
    inputs: Mapping[str, object]
    state: JobState
    cause: str = ""
    text: str = ""


#: Jobs that end by themselves, where the launcher keeps the limits.
ROWS = {
    "over its time limit": Row("end", {"how": "sleep", "minutes": 1}, JobState.FAILED, "time limit", "time limit"),
    "over its time limit and deaf": Row("end", {"how": "deaf", "minutes": 1}, JobState.FAILED, "time limit"),
    "succeeds": Row("mark", {"name": "one"}, JobState.SUCCEEDED),
    "raises": Row("end", {"how": "raise"}, JobState.FAILED, "process error", "this cannot be done"),
    "os._exit": Row("end", {"how": "exit"}, JobState.FAILED, "exit code", "exit code 3"),
    "segfaults": Row("end", {"how": "segfault"}, JobState.FAILED, "signal", "SIGSEGV"),
    "eats its memory": Row("end", {"how": "eat"}, JobState.FAILED, "out of memory"),
}


def open_site(
    scheduler: str,
    variables: Mapping[str, str],
    *,
    more: str = "",
    command_seconds: float = 20.0,
    lost_seconds: float = 5.0,
    parallel: int = 20,
) -> Site:
    """A site whose jobs go to a scheduler whose commands need these variables."""
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-site-"))
    tables = SITE.format(
        scheduler=scheduler,
        variables=", ".join(f'{name} = "{value}"' for name, value in variables.items()),
        command_seconds=command_seconds,
        lost_seconds=lost_seconds,
        more=more,
    )
    return Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}", parallel=parallel, cluster="hpc", clusters=tables)


def close_site(site: Site, cancel: Callable[[str], object]) -> None:
    """End a site and all that is its; ``cancel`` is called with the token of each job that may be left."""
    for job in site.store.list_jobs(limit=1000):
        if job.submission_id is not None and not job.scheduler_gone:
            cancel(token(site, job))
    site.close()
    shutil.rmtree(site.folder)


def submit_rows(site: Site) -> dict[str, Job]:
    """All rows, submitted together."""
    marks = {"folder": str(site.marks)}
    return {
        name: site.execute(row.process, **(dict(row.inputs) | (marks if row.process == "mark" else {})))
        for name, row in ROWS.items()
    }


def check_row(site: Site, job: Job, name: str, accounted: Callable[[str], Sequence[object]]) -> None:
    """Wait for the job of a row, and see what was told of it; ``accounted``: the scheduler's records of a token."""
    row = ROWS[name]
    told_as = told(site, job, job.created, 200)
    ended = site.job(job.id)
    assert told_as == (row.state.value, row.cause), ended
    assert row.text in ended.message
    assert len(accounted(token(site, ended))) <= 1
    if name == "succeeds":
        assert site.runs() == {"one"}
