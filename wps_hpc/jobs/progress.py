"""A job as a client sees it between two watch rounds: the row, and what the launcher has reported since."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from joblauncher.formats.folder import JobFolder, job_path
from wps_hpc.jobs.job import AT_SCHEDULER, Job, JobState
from wps_hpc.jobs.store import JobFilter, Store
from wps_hpc.jobs.trusted import Left, read_attempt
from wps_hpc.jobs.wake import Bell

#: The worker is asked to look at a job at most so often, in seconds, however often its clients poll.
ASK_EVERY = 0.5
_REMEMBERED = 10_000
#: The most that a job shows which has not ended.
ALMOST = 99


@dataclass
class Progress:
    """Reads jobs for clients. What the row says of a job's state counts; percent and message may be newer.

    A poll that finds the launcher further than the row (running, or at its end) asks the worker to look at this job
    now. Any number of threads may use it.
    """

    store: Store
    root: Path
    bell: Bell
    clock: Callable[[], float] = time.monotonic
    _asked: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, job_id: str) -> Job | None:
        """The job as of now, or None if there is none (any more). Raises StoreBusy."""
        job = self.store.get(job_id)
        if job is None or job.state not in AT_SCHEDULER or job.attempt == 0:
            return job
        left = read_attempt(JobFolder(job_path(self.root, job.id)), job.attempt)
        if _ahead(job, left):
            self._ask(job.id)
        if job.state is JobState.RUNNING and left.state in ("running", "succeeded"):
            # At its end, but not yet in the row: what was shown before must not be taken back.
            message = left.message if left.state == "running" else ""
            percent = max(job.percent, min(left.percent, ALMOST))
            return replace(job, message=message or job.message, percent=percent)
        return job

    def find(self, wanted: JobFilter, limit: int, before: tuple[float, str] | None = None) -> list[Job]:
        """The newest jobs that fit first, as their rows have them: a list reads nothing that a launcher wrote.

        ``before`` is (created, id) of the last one of the page before. Raises StoreBusy.
        """
        return self.store.find_jobs(wanted, limit, before)

    def _ask(self, job_id: str) -> None:
        now = self.clock()
        with self._lock:
            if now - self._asked.get(job_id, -ASK_EVERY) < ASK_EVERY:
                return
            self._asked[job_id] = now
            self._asked.move_to_end(job_id)
            if len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
        self.bell.ring_worker({job_id})


def _ahead(job: Job, left: Left) -> bool:
    """The launcher has written something that the row does not know of."""
    if left.state == "running":
        return job.state is not JobState.RUNNING or left.percent > job.percent or left.message != job.message
    return left.state in ("succeeded", "failed")
