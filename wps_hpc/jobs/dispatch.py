"""Sending accepted jobs to their scheduler, each exactly once.

A submission is recorded as *unknown* before its command runs. What is still unknown afterwards (a crash, a time-out)
is looked up by its token; only a scheduler that certainly does not have it lets the job be submitted again.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.records import Failure, RecordError
from wps_hpc.clusters.cluster import Cluster
from wps_hpc.clusters.schedulers.base import (
    CouldNotAsk,
    JobOrder,
    Known,
    Refused,
    SubmitOutcome,
    Submitted,
)
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.config import Limits
from wps_hpc.jobs.job import Job, JobState, Submission, SubmitState
from wps_hpc.jobs.lease import LeaseLost
from wps_hpc.jobs.pack import Packer, PackFailed
from wps_hpc.jobs.sending import NotThere, Sender
from wps_hpc.jobs.store import Change, JobFields, NotWaiting, Store, StoreError, SubmissionChange

log = logging.getLogger(__name__)

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: How long after the submit command's own time limit a look-up's «none» begins to count, as a share of that limit.
LOOKUP_MARGIN = 1.0
#: So many look-ups must have said «none».
LOOKUPS_NEEDED = 2
#: A job of which so many submissions in a row, without a known outcome, have left no trace is not submitted again.
MOST_TRACELESS = 6
_NO_TRACE = "The scheduler does not take the job, and does not say why."
#: Stands for the scheduler id of a submission that a launcher has claimed and nobody else remembers.
FORGOTTEN = "forgotten"
_NOT_SENT = "Its files cannot be sent to the cluster at the moment."
#: First and longest pause before another try after a transient refusal, in seconds.
RETRY_FIRST, RETRY_LONGEST = 2.0, 120.0


@dataclass
class Dispatcher:
    """Submits the jobs of one cluster. ``changed`` is told the id of every job whose state it changed.

    ``places`` guards the count of free places, which all clusters share. ``clock`` gives times for the database,
    ``steady`` measures pauses, as it cannot be set. ``sender`` brings job folders to a cluster that does not see them.
    """

    cluster: Cluster
    limits: Limits
    store: Store
    packer: Packer
    epoch: int
    changed: Callable[[str], None]
    places: threading.Lock
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    sender: Sender | None = None
    _retries: dict[str, tuple[float, float]] = field(default_factory=dict)
    _traceless: Counter[str] = field(default_factory=Counter)

    def round(self) -> float | None:
        """Look unknown submissions up, then fill the free places with the oldest accepted jobs.

        Returns the seconds after which another round is due whatever happens, or None.
        """
        unknown = self.store.in_state(self.cluster.name, JobState.SUBMITTING, self.cluster.account)
        # Elsewhere nobody can look for what a launcher has claimed.
        unknown = [job for job in unknown if self.cluster.looks_at(job.sent_to)]
        followed = {*(job.id for job in unknown), *self._retries}
        self._traceless = Counter({job_id: count for job_id, count in self._traceless.items() if job_id in followed})
        for job in unknown:
            if not self._each(job, self._recover):
                break  # each of the others would wait for the command's whole time limit
        self._fill()
        return self.cluster.settings.query_seconds if unknown or self._retries else None

    def _fill(self) -> None:
        most = self.limits.parallel + len(self._retries) + (len(self.sender) if self.sender is not None else 0)
        waiting = self.store.next_accepted(self.cluster.name, most, self.cluster.account)
        self._forget_all_but({job.id for job in waiting})
        places = self.store.load().free(self.limits) if waiting else 0
        for job in waiting:
            if places <= 0:
                return
            not_before, _ = self._retries.get(job.id, (0.0, 0.0))
            if self.steady() >= not_before and self._each(job, self._send):
                places -= 1

    def _forget_all_but(self, waiting: Collection[str]) -> None:
        """Jobs that were dismissed or held between two tries are not tried again."""
        self._retries = {job_id: retry for job_id, retry in self._retries.items() if job_id in waiting}
        if self.sender is not None:
            self.sender.forget_all_but(waiting)

    def _each(self, job: Job, step: Callable[[Job], bool]) -> bool:
        """The answer of one job's step; what goes wrong with this job alone must keep no other from its turn."""
        try:
            return step(job)
        except (LeaseLost, StoreError):
            raise
        except Exception:
            log.exception("job %s: a defect; it is looked at again in the next round", job.id)
            return True

    def _send(self, job: Job) -> bool:
        """Submit one job, if there is a place left for it; false when it took none.

        One whose folder has yet to be sent keeps its place among those that are tried, and is submitted by a later
        round.
        """
        if self.sender is not None and job.id not in self.sender:
            return self._begin_sending(job, self.sender)
        order = self._order(job) if self.sender is None else self._arrived(job, self.sender)
        if order is None:
            return self.sender is not None and job.id in self.sender
        return self._submit_in_time(job, order)

    def _begin_sending(self, job: Job, sender: Sender) -> bool:
        order = self._order(job)
        if order is None:
            return False
        sender.begin(job.id, self.packer.folder(job), order)
        self._change(job, {"message": "its files are being sent to the cluster", "reason": None})
        return True

    def _arrived(self, job: Job, sender: Sender) -> JobOrder | None:
        """The order of a job whose folder is there; one that could not be sent is tried again later."""
        try:
            return sender.arrived(job.id)
        except NotThere as error:
            log.warning("job %s: its files cannot be sent: %s", job.id, error)
            self._retry_later(job)
            self._change(job, {"message": _NOT_SENT, "reason": _NOT_SENT})
            return None

    def _submit_in_time(self, job: Job, order: JobOrder) -> bool:
        begun = self.steady()
        with self.places:
            if self.store.load().free(self.limits) <= 0:
                return False
            submission = self._begun(job, order)
        if submission is None:
            return False
        if self.sender is not None:
            self.sender.done_with(job.id)
        reach(Failpoint.SUBMIT_BEFORE_COMMAND)
        if self.steady() - begun > self.cluster.settings.command_seconds:
            # Another worker may have looked the token up by now, and have found that nobody has it.
            log.warning("job %s: too late to submit %s; it is looked up instead", job.id, submission.token)
            return True
        self._submit(job, submission, order)
        return True

    def _order(self, job: Job) -> JobOrder | None:
        """The order for a job whose folder is complete now; None when that cannot be, and the job has failed."""
        try:
            return self.packer.pack(job, self.packer.request(job), self.cluster)
        except PackFailed as failed:
            failure = failed.failure
        except Exception as error:
            # Nobody has this job yet, so it can fail truthfully; otherwise it would stand before all others for ever.
            log.exception("job %s: cannot be prepared", job.id)
            text = "The job could not be prepared because of a fault in the server."
            failure = Failure("internal error", text, detail=repr(error))
        self._fail(job, failure)
        return None

    def _begun(self, job: Job, order: JobOrder) -> Submission | None:
        try:
            name, sent_to = self.cluster.name, self.cluster.sent_to
            return self.store.add_submission([job.id], order.token, name, self.epoch, sent_to)
        except NotWaiting:
            log.info("job %s was withdrawn before it was submitted", job.id)
            return None

    def _submit(self, job: Job, submission: Submission, order: JobOrder) -> None:
        outcome = self.cluster.submit(order)
        reach(Failpoint.SUBMIT_AFTER_COMMAND)
        self._note(job, order, outcome)
        self._record(job, submission, outcome)
        reach(Failpoint.SUBMIT_RECORDED)

    def _record(self, job: Job, submission: Submission, outcome: SubmitOutcome) -> None:
        if isinstance(outcome, Submitted):
            self._retries.pop(job.id, None)
            self._traceless.pop(job.id, None)
            self.store.submitted(job.id, submission.id, outcome.scheduler_id, self.epoch)
            self.changed(job.id)
        elif isinstance(outcome, Refused):
            self._refused(job, submission, outcome)
        else:
            log.warning("job %s: submission %s has no known outcome: %s", job.id, submission.token, outcome.why)

    def _refused(self, job: Job, submission: Submission, outcome: Refused) -> None:
        """Record the refusal together with what becomes of the job: a crash must not come between them."""
        log.warning("job %s: submission %s refused: %s", job.id, submission.token, outcome.why)
        refused = SubmissionChange(submission.id, {"state": SubmitState.REFUSED})
        if not outcome.transient:
            self._fail(job, Failure("could not be submitted", outcome.client_text, detail=outcome.why), refused)
            return
        self._retry_later(job)
        text = outcome.client_text
        self._change(job, {"state": JobState.ACCEPTED, "message": text, "reason": text}, refused)

    def _retry_later(self, job: Job) -> None:
        _, pause = self._retries.get(job.id, (0.0, RETRY_FIRST / 2))
        pause = min(pause * 2, RETRY_LONGEST)
        self._retries[job.id] = (self.steady() + pause * random.uniform(0.75, 1.25), pause)

    def _fail(self, job: Job, failure: Failure, *submissions: SubmissionChange) -> None:
        log.error("job %s: failed before it ran: %s (%s)", job.id, failure.text, failure.detail)
        self._retries.pop(job.id, None)
        dismissed = job.cancel_requested is not None
        ended: JobFields = {
            "state": JobState.DISMISSED if dismissed else JobState.FAILED,
            "message": f"dismissed by {job.cancelled_by or 'a client'}" if dismissed else failure.text,
            "failure": failure,
            "finished": self.clock(),
            "scheduler_gone": True,
        }
        self._change(job, ended, *submissions)

    def _change(self, job: Job, fields: JobFields, *submissions: SubmissionChange) -> None:
        """Change a job and its submission in one transaction; a job that ended meanwhile stays as it is."""
        applied = self.store.apply(self.epoch, [Change(job.id, fields)], submissions)
        for refusal in applied.refused.values():
            log.warning("job %s: left as it is: %s", job.id, refusal)
        if applied.jobs:
            self.changed(job.id)

    def _recover(self, job: Job) -> bool:
        """A job whose submission is unknown: find it, or make sure that nobody has it, then let it be sent again.

        False when the scheduler could not be asked: it need not be asked for the others either.
        """
        submission = self.store.submission(job.submission_id) if job.submission_id is not None else None
        if submission is None or submission.state is not SubmitState.UNKNOWN:
            return True
        if self.cluster.scheduler.idempotent_submit and job.cancel_requested is None:
            self._submit_same(job, submission)
            return True
        known = Known(submission.token, None, submission.prepared_at)
        found = self.cluster.lookup(known)
        if isinstance(found, str):
            self._record(job, submission, Submitted(found))
        elif isinstance(found, CouldNotAsk):
            log.warning("job %s: submission %s cannot be looked up: %s", job.id, submission.token, found.why)
            return False
        else:
            self._absent(job, submission)
        return True

    def _submit_same(self, job: Job, submission: Submission) -> None:
        try:
            order = self.packer.packed(job, self.cluster, submission.token)
        except (OSError, RecordError) as error:
            self._fail(job, Failure("lost", "The job's folder has been lost.", detail=str(error)))
            return
        self._submit(job, submission, order)

    def _absent(self, job: Job, submission: Submission) -> None:
        settled = submission.prepared_at + self.cluster.settings.command_seconds * (1 + LOOKUP_MARGIN)
        if self.clock() < settled:
            return
        claimed = self._claimed(job)
        if claimed is None:
            return
        if claimed:
            # It ran, and scheduler and accounting have forgotten it: what it left decides, and nothing runs again.
            self._record(job, submission, Submitted(FORGOTTEN))
            return
        lookups = submission.lookups + 1
        if lookups < LOOKUPS_NEEDED:
            self.store.apply(self.epoch, (), [SubmissionChange(submission.id, {"lookups": lookups})])
            return
        self._traceless[job.id] += 1
        lasting = self._traceless[job.id] >= MOST_TRACELESS
        text = _NO_TRACE if lasting else "being submitted again"
        why = f"the scheduler does not know the token; in a row: {self._traceless[job.id]}; see submit.log"
        self._refused(job, submission, Refused(why, text, transient=not lasting))

    def _claimed(self, job: Job) -> bool | None:
        """Whether a launcher took the job's submission, or may have; None when that cannot be told now."""
        folder = self.packer.folder(job)
        claim = folder.attempt(job.submission_number).claim
        if self.cluster.depot is None:
            return claim.exists()
        try:
            return self.cluster.depot.may_hold(job.id, claim.relative_to(folder.path).as_posix())
        except TransportError as error:
            log.warning("job %s: cannot be looked for: %s", job.id, error)
            return None

    def _note(self, job: Job, order: JobOrder, outcome: SubmitOutcome) -> None:
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {order.token} {outcome}\n"
        try:
            # The job may run already and have put a FIFO or a link in its place.
            with os.fdopen(os.open(self.packer.folder(job).submit_log, _APPEND, 0o600), "a") as stream:
                stream.write(line)
        except OSError as error:
            log.warning("job %s: submit.log cannot be written: %s", job.id, error)
