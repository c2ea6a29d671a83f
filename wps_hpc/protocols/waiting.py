"""Synchronous calls: a client that waits for its job gets it at its end, or is told why not."""

from __future__ import annotations

from wps_hpc.errors import SyncTimeLimit
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.protocols.ports import Intake

#: Who dismisses a synchronous call that takes too long; the worker says the same when it comes first.
TIME_LIMIT = "the time limit of synchronous calls"


def ended(intake: Intake, job: Job, seconds: float, advice: str) -> Job:
    """The job at its end; one that has not ended after ``seconds`` is dismissed.

    Raises SyncTimeLimit then, with ``advice``: how to run the process asynchronously by this client's protocol.
    """
    job = intake.wait(job.id, seconds)
    if not job.final:
        job = intake.dismiss(job.id, TIME_LIMIT)
    ended_by_limit = job.state is JobState.DISMISSED and job.cancelled_by == TIME_LIMIT
    if job.final and not ended_by_limit:
        return job
    raise SyncTimeLimit(
        f"{job.process} did not finish within the {seconds:g} s that this server waits in a synchronous call, so "
        f"the job was dismissed. {advice}"
    )
