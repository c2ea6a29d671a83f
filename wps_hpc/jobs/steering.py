"""What clients may do with jobs beside asking for them: list them, pause and resume them, and be done with them.

Everything here sets flags and wakes the worker, which does as asked; how far it has come shows in the job's state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from wps_hpc.errors import NotFound
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.store import JobFilter, Store
from wps_hpc.jobs.wake import Bell

_S = JobState
#: What pausing means where a job is: one that waits is held, one that runs is suspended.
_PAUSES: Mapping[JobState, Callable[[Store, str], Job | None]] = {
    **dict.fromkeys((_S.ACCEPTED, _S.STAGING, _S.SUBMITTING, _S.QUEUED), Store.request_hold),
    _S.RUNNING: Store.request_suspend,
}
#: What resuming means; a job whose pause has not come about yet has the wish for it taken back.
_RESUMES: Mapping[JobState, Callable[[Store, str], Job | None]] = {
    **dict.fromkeys((_S.ACCEPTED, _S.STAGING, _S.SUBMITTING, _S.QUEUED, _S.HELD), Store.request_release),
    **dict.fromkeys((_S.RUNNING, _S.SUSPENDED), Store.request_resume),
}


class Steering:
    """Lists jobs and steers them. Any number of threads may use it. Every method raises StoreBusy."""

    def __init__(self, store: Store, bell: Bell) -> None:
        self._store = store
        self._bell = bell

    def find(self, wanted: JobFilter, limit: int, before: tuple[float, str] | None = None) -> list[Job]:
        """The newest jobs that fit first; ``before`` is (created, id) of the last one of the page before."""
        return self._store.find_jobs(wanted, limit, before)

    def pause(self, job: Job) -> Job:
        """Ask that the job waits until it is resumed; the answer is the job as it is now. Raises NotFound.

        A job that has paused, or has ended, stays as it is.
        """
        return self._ask(_PAUSES.get(job.state), job)

    def resume(self, job: Job) -> Job:
        """Ask that a paused job goes on; the answer is the job as it is now. Raises NotFound."""
        return self._ask(_RESUMES.get(job.state), job)

    def remove(self, job: Job) -> None:
        """Let go of an ended job before its time: of its record at once, of its files at the next purge.

        One that its scheduler still has stays until the scheduler has let go of it.
        """
        now = time.time()
        self._store.expire_now(job.id, now)
        self._store.mark_expired(now)

    def _ask(self, request: Callable[[Store, str], Job | None] | None, job: Job) -> Job:
        if request is None:
            return job
        asked = request(self._store, job.id)
        if asked is None:
            raise NotFound(f"There is no job {job.id} here any more.", "jobId")
        self._bell.ring_worker({job.id})
        return asked
