"""Jobs that no scheduler has yet: fetching their inputs, and holding, releasing or dismissing them while they wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import Failure
from wps_hpc import config
from wps_hpc.jobs import requestjson
from wps_hpc.jobs.job import Job, JobState, Whereabouts
from wps_hpc.jobs.places import Astray, astray
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.jobs.staging import Stager, StagingFailed
from wps_hpc.jobs.store import Change, JobFields, Store

log = logging.getLogger(__name__)

#: How often deadlines are looked at, in seconds.
DEADLINES = 1.0
#: Jobs that are changed in one transaction: clients wait for it.
TOGETHER = 500

Staged = Future[ExecuteRequest]


@dataclass
class Desk:
    """What the active worker does with jobs before their submission. ``changed`` is told every job that it changed.

    ``pool`` runs the staging of whole jobs (each of which fetches its inputs over the stager's own pool); ``wake`` is
    called from its threads when one is done. ``most`` jobs are staged at the same time. ``clusters`` are those that are
    configured; ``unmanned`` tells those of them, with the accounts there, that cannot be used
    at the moment. ``queue_seconds`` is how long a job may wait in a scheduler's queue (None: for ever).
    """

    root: Path
    store: Store
    stager: Stager
    pool: Executor
    most: int
    epoch: int
    changed: Callable[[str], None]
    wake: Callable[[], None]
    clusters: Mapping[str, config.Cluster]
    queue_seconds: float | None = None
    clock: Callable[[], float] = time.time
    unmanned: Callable[[], Collection[tuple[str, str | None]]] = tuple
    _staging: dict[str, tuple[Job, Staged]] = field(default_factory=dict)
    _withdrawn: set[str] = field(default_factory=set)
    _closed: bool = False

    def recover(self) -> None:
        """A new worker's first act: what a former one was fetching is fetched again."""
        for job in self.store.restart_staging(self.epoch):
            log.info("job %s: staging starts again", job.id)

    def round(self) -> float | None:
        """Act on what clients asked for, take in what was fetched, and start fetching for more jobs."""
        self._end_calls()
        self._clear_queues()
        for job in self.store.asked_while_waiting():
            self._act(job)
        self._strand_all()
        self._finish_staging()
        free = self.most - len(self._staging)
        for job in self.store.to_stage(free) if free > 0 else ():
            self._start_staging(job)
        return DEADLINES

    def _end_calls(self) -> None:
        """Nobody waits any more for what a synchronous call began."""
        for job in self.store.overdue(self.clock()):
            if not self._is_out_of_reach(job):
                self.store.request_cancel(job.id, "the time limit of synchronous calls")

    def _is_out_of_reach(self, job: Job) -> bool:
        """Whether a scheduler may have the job, and it can be neither asked nor told: no limit ends what runs on. A
        client may still give it up."""
        return job.submission_id is not None and astray(self.clusters, job.whereabouts) is not None

    def _clear_queues(self) -> None:
        """What waits for ever (for a job that will not end, more than its queue gives) is nobody's to wait for."""
        if self.queue_seconds is None:
            return
        for job in self.store.queued_since(self.clock() - self.queue_seconds):
            if self._is_out_of_reach(job):
                continue  # nobody has looked whether it still waits
            log.warning("job %s: waited for %g s: %s", job.id, self.queue_seconds, job.message)
            self.store.request_cancel(job.id, "the time limit of this service on waiting in the queue")

    def close(self) -> None:
        """Let unfinished fetches end early; their jobs stay in staging for the next worker."""
        self._closed = True
        self._withdrawn.update(list(self._staging))

    def _act(self, job: Job) -> None:
        """A flag on a job that waits: the cancel first, then hold or release."""
        if job.cancel_requested is not None:
            if job.id in self._staging:
                self._withdrawn.add(job.id)
            self._end(job, JobState.DISMISSED, f"dismissed by {job.cancelled_by}", None)
        elif job.wish == "hold":
            self._follow(job, {"state": JobState.HELD, "message": "held before submission", "wish": None})
        elif job.wish == "release":
            self._follow(job, {"state": JobState.ACCEPTED, "message": "waiting for a place", "wish": None})

    def _strand_all(self) -> None:
        """Jobs that are where nobody looks after them, as the configuration has changed; and those that wait, and are
        looked after again: no scheduler has them, so no watcher says so."""
        waiting = [job for job in self.store.waiting_stale() if self._neglected(job.whereabouts) is None]
        self._apply_all([Change(job.id, {"stale_since": None, "reason": None}) for job in waiting])
        self._forget_ended()
        for where, count in self.store.whereabouts().items():
            why = astray(self.clusters, where)
            if why is not None and self._strand(self.store.to_strand(where, why.reason), why):
                log.error("%s", why.told(count))
            elif why is None and (reason := self._neglected(where)) is not None:
                news = [job for job in self.store.to_strand(where, reason) if job.reason != reason]
                self._mark_stale(news, reason)

    def _neglected(self, where: Whereabouts) -> str | None:
        """Why nobody looks after jobs there, for clients; None when somebody does."""
        why = astray(self.clusters, where)
        if why is not None:
            return why.reason
        if (where.cluster, where.account) in self.unmanned():
            return f"its cluster ({where.cluster}) cannot be used at the moment"
        return None

    def _forget_ended(self) -> None:
        """Jobs that have ended, and whose scheduler nobody can ask any more when it lets go of them: they would stay
        for ever, as nothing is purged that a scheduler may have."""
        for where in self.store.whereabouts_of_ended():
            why = astray(self.clusters, where)
            if why is not None:
                self._let_go(self.store.ended_at(where), why)

    def _let_go(self, ended: Sequence[Job], why: Astray) -> None:
        for job in ended:
            log.warning("job %s: has ended; %s, so nobody asks when its scheduler lets go of it", job.id, why.setting)
        self._apply_all([Change(job.id, {"scheduler_gone": True}) for job in ended])

    def _strand(self, jobs: Sequence[Job], why: Astray) -> bool:
        """Let jobs wait for the return of what was, and end those that are given up; whether there was news of any."""
        for job in jobs:
            if job.cancel_requested is not None:
                log.warning("job %s: given up; %s, so its scheduler is not told", job.id, why.setting)
                self._end(job, JobState.DISMISSED, f"dismissed by {job.cancelled_by}", None)
        return self._mark_stale([job for job in jobs if job.cancel_requested is None], why.reason)

    def _mark_stale(self, jobs: Sequence[Job], reason: str) -> bool:
        """Tell that nobody looks after these jobs, and why; whether any was changed."""
        for job in jobs:
            log.warning("job %s: stale: %s", job.id, reason)
        now = self.clock()
        return self._apply_all(
            [Change(job.id, {"stale_since": job.stale_since or now, "reason": reason}) for job in jobs]
        )

    def _follow(self, job: Job, fields: JobFields) -> None:
        """Do as wished, unless the client has wished for something else meanwhile: the next round sees that."""
        self._apply(job, fields, job.revision)

    def _start_staging(self, job: Job) -> None:
        if not self._apply(job, {"state": JobState.STAGING, "message": "fetching inputs"}):
            return
        future = self.pool.submit(self._stage, job)
        self._staging[job.id] = (job, future)
        future.add_done_callback(lambda _: self.wake())

    def _stage(self, job: Job) -> ExecuteRequest:
        folder = JobFolder(job_path(self.root, job.id))
        request = requestjson.from_json(job.request, folder)
        return self.stager.stage(job.id, folder, request, lambda: job.id in self._withdrawn)

    def _finish_staging(self) -> None:
        for job, future in list(self._staging.values()):
            # In this order: what ends after the closing may have ended by it, which is no fault of the job.
            if future.done() and not self._closed:
                del self._staging[job.id]
                self._take_in(job, future)
                self._withdrawn.discard(job.id)

    def _take_in(self, job: Job, future: Staged) -> None:
        try:
            request = future.result()
        except StagingFailed as failed:
            self._end(job, JobState.FAILED, failed.failure.text, failed.failure)
            return
        except Exception as error:
            log.exception("job %s: staging broke off", job.id)
            text = "The inputs could not be fetched because of a fault in the server."
            self._end(job, JobState.FAILED, text, Failure("internal error", text, detail=repr(error)))
            return
        staged: JobFields = {
            "state": JobState.ACCEPTED,
            "message": "inputs are here; waiting for a place",
            "staged": True,
            "request": requestjson.to_json(request),
        }
        if self._apply(job, staged):
            requestjson.forget_secrets(JobFolder(job_path(self.root, job.id)))
        reach(Failpoint.STAGE_RECORDED)

    def _end(self, job: Job, state: JobState, message: str, failure: Failure | None) -> None:
        log.info("job %s: %s before it was submitted: %s", job.id, state, message)
        ended: JobFields = {"state": state, "message": message, "failure": failure, "scheduler_gone": True}
        if self._apply(job, ended):
            requestjson.forget_secrets(JobFolder(job_path(self.root, job.id)))

    def _apply(self, job: Job, fields: JobFields, revision: int | None = None) -> bool:
        """Change the job unless it became something else meanwhile (dismissed while it was staged, say)."""
        return self._apply_all([Change(job.id, fields, revision)])

    def _apply_all(self, changes: Sequence[Change]) -> bool:
        """Change many jobs, in transactions that are short; whether any was changed."""
        some = (changes[start : start + TOGETHER] for start in range(0, len(changes), TOGETHER))
        return sum(map(self._applied, some)) > 0

    def _applied(self, changes: Sequence[Change]) -> int:
        applied = self.store.apply(self.epoch, changes)
        for job_id, refusal in applied.refused.items():
            log.info("job %s: left as it is: %s", job_id, refusal)
        for job_id in applied.jobs:
            self.changed(job_id)
        return len(applied.jobs)
