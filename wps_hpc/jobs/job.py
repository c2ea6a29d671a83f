"""Job, Submission, JobState: what is known of one Execute, and which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from joblauncher.formats.records import Failure


class JobState(StrEnum):
    """The life of a job, in the server's own words."""

    ACCEPTED = "accepted"
    STAGING = "staging"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DISMISSED = "dismissed"

    @property
    def final(self) -> bool:
        """Nothing follows this state."""
        return self in FINAL


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.DISMISSED})
ACTIVE = frozenset(JobState) - FINAL
PAUSED = frozenset({JobState.HELD, JobState.SUSPENDED})
#: States in which a scheduler has the job, or may have it.
AT_SCHEDULER = frozenset({JobState.SUBMITTING, JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED})

_S = JobState
#: Which state may follow which. Any state that is not final may fail or be dismissed; a held job that was never
#: submitted goes back to accepted when released; a job may be too fast to be seen queued or running.
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _S.ACCEPTED: frozenset({_S.STAGING, _S.SUBMITTING, _S.HELD, _S.FAILED, _S.DISMISSED}),
    _S.STAGING: frozenset({_S.ACCEPTED, _S.SUBMITTING, _S.HELD, _S.FAILED, _S.DISMISSED}),
    _S.SUBMITTING: frozenset(
        {_S.ACCEPTED, _S.QUEUED, _S.HELD, _S.RUNNING, _S.SUSPENDED, _S.SUCCEEDED, _S.FAILED, _S.DISMISSED}
    ),
    _S.QUEUED: frozenset({_S.ACCEPTED, _S.HELD, _S.RUNNING, _S.SUSPENDED, _S.SUCCEEDED, _S.FAILED, _S.DISMISSED}),
    _S.HELD: frozenset({_S.ACCEPTED, _S.QUEUED, _S.RUNNING, _S.SUCCEEDED, _S.FAILED, _S.DISMISSED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.HELD, _S.SUSPENDED, _S.SUCCEEDED, _S.FAILED, _S.DISMISSED}),
    _S.SUSPENDED: frozenset({_S.QUEUED, _S.HELD, _S.RUNNING, _S.SUCCEEDED, _S.FAILED, _S.DISMISSED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.DISMISSED: frozenset(),
}


class SubmitState(StrEnum):
    """What is known of a submission. ``UNKNOWN``: the command was or may have been run; its token must be looked up."""

    PREPARED = "prepared"
    UNKNOWN = "unknown"
    SUBMITTED = "submitted"
    REFUSED = "refused"


@dataclass(frozen=True)
class Submission:
    """One submission to a scheduler. Its jobs are its tasks (a single one until arrays come).

    Towards the scheduler a job is ``token`` + ``scheduler_id`` + ``submitted_at``, never the id alone. Times are Unix
    seconds, the server's.
    """

    id: int
    token: str
    cluster: str
    state: SubmitState
    prepared_at: float
    scheduler_id: str | None = None
    submitted_at: float | None = None
    lookups: int = 0
    ended_seen_at: float | None = None


@dataclass(frozen=True)
class Whereabouts:
    """Where jobs are: a cluster, the account there (None: the server's own), and the folder on the cluster that job
    folders were sent to (empty: none, both sides see the server's; None: none yet, or nobody noted it)."""

    cluster: str
    account: str | None
    sent_to: str | None


@dataclass(frozen=True)
class Job:
    """One Execute as the database has it. Times are Unix seconds, the server's; ``percent`` is 0 to 100.

    ``attempt`` is the attempt that counts: submission number plus the scheduler's restart count. ``request`` is the
    stored ExecuteRequest as JSON (see ``requestjson``). ``revision`` grows with every change. ``reason`` is the
    scheduler's or server's word on why the job waits. ``stale_since`` is set while its scheduler cannot be asked.
    ``wish`` is what a client asked for last: ``hold``, ``release``, ``suspend`` or ``resume`` (see ``Control``).
    ``staged`` says that every input lies in the job folder: staging takes accepted jobs that are not staged, dispatch
    those that are. ``state_since`` is when the job came into its state. ``submission_id`` is None while no scheduler
    has the job or may have it (so a held job without one was never submitted, or has come back). ``released``
    says that a client of WPS 2.0 has dismissed the job, to whom its identifier means nothing any more. ``account`` is
    the cluster's account that the job runs under; None: the one that the server itself uses there. ``sent_to`` is the
    folder on the cluster that the job's folder was sent to for its submission; empty where both sides see the server's.
    """

    id: str
    process: str
    process_version: str
    protocol: str
    mode: str
    state: JobState
    message: str
    percent: int
    created: float
    request: str
    revision: int = 1
    cluster: str = "local"
    owner: str | None = None
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    deadline: float | None = None
    reason: str | None = None
    stale_since: float | None = None
    failure: Failure | None = None
    cancel_requested: float | None = None
    cancelled_by: str | None = None
    wish: str | None = None
    submission_id: int | None = None
    submission_number: int = 0
    task: int = 0
    attempt: int = 0
    scheduler_gone: bool = False
    staged: bool = False
    state_since: float | None = None
    released: bool = False
    account: str | None = None
    sent_to: str | None = None

    @property
    def whereabouts(self) -> Whereabouts:
        """Where the job is."""
        return Whereabouts(self.cluster, self.account, self.sent_to)

    @property
    def restarts(self) -> int:
        """How often the scheduler has started the job again: attempts of its submission before the current one."""
        return max(0, self.attempt - self.submission_number)

    @property
    def final(self) -> bool:
        """The job's state will not change any more."""
        return self.state.final

    def is_over(self, now: float) -> bool:
        """Whether the time for which an ended job is kept is over, so that no client sees it any more. Its row stays
        until its scheduler has let go of it and it is purged."""
        return self.final and self.expires is not None and self.expires <= now


class TransitionError(RuntimeError):
    """A change of state that the table does not allow; a defect, never a client's fault."""


def check_transition(before: JobState, after: JobState) -> None:
    """Raise TransitionError unless ``after`` may follow ``before`` (staying is always allowed before the end)."""
    if after == before and not before.final:
        return
    if after not in TRANSITIONS[before]:
        raise TransitionError(f"{before} may not become {after}")


#: What may still be said of a job whose state is final.
AFTER_THE_END = frozenset({"scheduler_gone", "expires"})


def advanced(job: Job, fields: Mapping[str, Any], *, now: float, keep_seconds: float) -> Job:
    """The job after a change of ``fields``: the next revision, with what follows from a new state filled in.

    Raises TransitionError for a transition that the table lacks and for any other change of a final job. A job that
    enters running gets ``started``, one that ends ``finished`` and ``expires`` (``keep_seconds`` later) unless they are
    given; times are clamped to created ≤ started ≤ finished.
    """
    if job.final and not fields.keys() <= AFTER_THE_END:
        raise TransitionError(f"job {job.id} is {job.state}; {', '.join(sorted(fields))} cannot change any more")
    after = replace(job, **fields, revision=job.revision + 1)
    if after.state != job.state:
        check_transition(job.state, after.state)
        after = _entered(after, fields, now)
    return _expiring(_in_order(after), job.final or "expires" in fields, keep_seconds)


def _entered(job: Job, given: Mapping[str, Any], now: float) -> Job:
    """What holds from the moment a job is in its new state."""
    follows: dict[str, Any] = {"state_since": now}
    if job.state is JobState.ACCEPTED:
        follows |= {"submission_id": None, "sent_to": None}
    if job.state is JobState.RUNNING and job.started is None:
        follows["started"] = now
    if job.final:
        follows["scheduler_gone"] = job.scheduler_gone or job.submission_id is None
        follows["finished"] = now if job.finished is None else job.finished
    return replace(job, **{name: value for name, value in follows.items() if given.get(name) is None})


def _in_order(job: Job) -> Job:
    """Clocks of several hosts meet in these times; a client must never see them run backwards."""
    started = None if job.started is None else max(job.started, job.created)
    least = job.created if started is None else started
    finished = None if job.finished is None else max(job.finished, least)
    return (
        job if (started, finished) == (job.started, job.finished) else replace(job, started=started, finished=finished)
    )


def _expiring(job: Job, settled: bool, keep_seconds: float) -> Job:
    if settled or not job.final or job.finished is None:
        return job
    return replace(job, expires=job.finished + keep_seconds)


#: What each state is called by each protocol (05-007r7 table 55; 14-065r2 §9.5; 18-062r2 statusCode).
STATE_WORDS: Mapping[JobState, tuple[str, str, str]] = {
    _S.ACCEPTED: ("ProcessAccepted", "Accepted", "accepted"),
    _S.STAGING: ("ProcessAccepted", "Accepted", "accepted"),
    _S.SUBMITTING: ("ProcessAccepted", "Accepted", "accepted"),
    _S.QUEUED: ("ProcessAccepted", "Accepted", "accepted"),
    _S.HELD: ("ProcessAccepted", "Accepted", "accepted"),
    _S.RUNNING: ("ProcessStarted", "Running", "running"),
    _S.SUSPENDED: ("ProcessPaused", "Running", "running"),
    _S.SUCCEEDED: ("ProcessSucceeded", "Succeeded", "successful"),
    _S.FAILED: ("ProcessFailed", "Failed", "failed"),
    _S.DISMISSED: ("ProcessFailed", "Dismissed", "dismissed"),
}
