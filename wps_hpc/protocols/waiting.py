"""How long the answer to an Execute waits for its job, in every protocol."""

from __future__ import annotations

from threading import BoundedSemaphore

from wps_hpc.config import Settings
from wps_hpc.errors import SyncTimeLimit
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.protocols.ports import Intake

#: Who dismisses a synchronous call that takes too long; the worker says the same when it comes first.
TIME_LIMIT = "the time limit of synchronous calls"


#: Of the threads of a web process one in so many may be waiting out a grace: it is a kindness to quick jobs, and must
#: not keep others from being accepted.
GRACE_SHARE = 4


class Waiting:
    """Waits for jobs within the limits of the site. One for all protocols of a web process; thread-safe."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._limits = settings.limits
        self._intake = intake
        self._graces = BoundedSemaphore(max(1, settings.server.web_threads // GRACE_SHARE))

    def finished(self, job: Job, advice: str) -> Job:
        """The job of a synchronous call at its end.

        When that does not come in time, the job is dismissed; raises SyncTimeLimit with ``advice``, which says how to
        run it asynchronously.
        """
        seconds = self._limits.sync_seconds
        job = self._intake.wait(job.id, seconds)
        if not job.final:
            job = self._intake.dismiss(job.id, TIME_LIMIT)
        ended_by_limit = job.state is JobState.DISMISSED and job.cancelled_by == TIME_LIMIT
        if job.final and not ended_by_limit:
            return job
        raise SyncTimeLimit(
            f"{job.process} did not finish within the {seconds:g} s that this server waits in a synchronous call, so "
            f"the job was dismissed. {advice}"
        )

    def settled(self, job: Job) -> Job:
        """The job of an asynchronous call after the grace in which a quick one ends (``limits.grace_seconds``); at
        once while many are waiting so already."""
        seconds = self._limits.grace_seconds
        if not seconds or job.final or not self._graces.acquire(blocking=False):
            return job
        try:
            return self._intake.wait(job.id, seconds)
        finally:
            self._graces.release()

    def patient(self, job: Job) -> Job:
        """The job of a call that may take as long as a synchronous one, but is not dismissed when it takes longer."""
        return self._intake.wait(job.id, self._limits.sync_seconds)
