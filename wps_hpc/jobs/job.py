"""Job, Submission, JobState: what is known of one Execute, and which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
#: States in which a scheduler has the job, or may have it.
AT_SCHEDULER = frozenset(
    {JobState.SUBMITTING, JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED}
)

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
class Job:
    """One Execute as the database has it. Times are Unix seconds, the server's; ``percent`` is 0 to 100.

    ``attempt`` is the attempt that counts: submission number plus the scheduler's restart count. ``request`` is the
    stored ExecuteRequest as JSON (see ``requestjson``). ``revision`` grows with every change. ``reason`` is the
    scheduler's or server's word on why the job waits. ``stale_since`` is set while its scheduler cannot be asked.
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
    hold_requested: bool = False
    suspend_requested: bool = False
    submission_id: int | None = None
    submission_number: int = 0
    task: int = 0
    attempt: int = 0
    scheduler_gone: bool = False

    @property
    def final(self) -> bool:
        """The job's state will not change any more."""
        return self.state.final


class TransitionError(RuntimeError):
    """A change of state that the table does not allow; a defect, never a client's fault."""


def check_transition(before: JobState, after: JobState) -> None:
    """Raise TransitionError unless ``after`` may follow ``before`` (staying is always allowed before the end)."""
    if after == before and not before.final:
        return
    if after not in TRANSITIONS[before]:
        raise TransitionError(f"{before} may not become {after}")


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
