"""The job database as the rest of the server sees it: jobs and submissions go in and out as frozen dataclasses.

Two kinds of callers. **Clients' side** (web processes, command line): ``add_job``, and requests to cancel, hold,
release, suspend and resume, which only set flags. **Worker's side**: everything that changes a job's state or a
submission, fenced by the epoch of the lease, so that a worker that was replaced changes nothing (LeaseLost).

Every call is one short transaction. All of them raise StoreBusy when the database is locked or away for too long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypedDict, Unpack

from sqlalchemy import (
    Connection,
    Row,
    Select,
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from joblauncher.formats.records import Failure
from wps_hpc.config import Limits, Settings
from wps_hpc.jobs import outbox, spent
from wps_hpc.jobs.admission import Load, check_admission
from wps_hpc.jobs.database import ADMISSION_LOCK, Database, StoreBusy, StoreError, StoreFull
from wps_hpc.jobs.job import (
    ACTIVE,
    AT_SCHEDULER,
    FINAL,
    Job,
    JobState,
    Submission,
    SubmitState,
    TransitionError,
    Whereabouts,
    advanced,
)
from wps_hpc.jobs.lease import LeaseLost, fence
from wps_hpc.jobs.request import Mode
from wps_hpc.jobs.tables import jobs, server, submissions

__all__ = [
    "Applied",
    "Change",
    "JobFields",
    "JobFilter",
    "LeaseLost",
    "NoSuchJob",
    "NotWaiting",
    "RevisionConflict",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "SubmissionChange",
    "SubmissionFields",
    "open_store",
]

DAY = 86_400.0
#: Ids that one statement names: databases have a limit on that (PostgreSQL 65,535), and a cluster has more folders.
_TOGETHER = 500


class NoSuchJob(StoreError):
    """There is no such job, or no longer."""


class RevisionConflict(StoreError):
    """Somebody else changed the job since it was read; read it again and decide anew."""


class NotWaiting(StoreError):
    """A job was to be submitted that does not wait for it any more: cancelled, held, or not staged."""


class JobFields(TypedDict, total=False):
    """What the worker may change of a job."""

    state: JobState
    message: str
    percent: int
    cluster: str
    started: float | None
    finished: float | None
    expires: float | None
    deadline: float | None
    reason: str | None
    stale_since: float | None
    failure: Failure | None
    cancel_requested: float | None
    cancelled_by: str | None
    wish: str | None
    submission_id: int | None
    attempt: int
    scheduler_gone: bool
    staged: bool
    request: str


class SubmissionFields(TypedDict, total=False):
    """What the worker may change of a submission."""

    state: SubmitState
    scheduler_id: str | None
    submitted_at: float | None
    lookups: int
    ended_seen_at: float | None


@dataclass(frozen=True)
class Change:
    """A change of one job, refused if its revision is another than ``expected_revision`` (None: whatever it is)."""

    job_id: str
    fields: JobFields
    expected_revision: int | None = None


@dataclass(frozen=True)
class SubmissionChange:
    """A change of one submission."""

    submission_id: int
    fields: SubmissionFields


@dataclass(frozen=True)
class Applied:
    """What became of many changes: the jobs as they are now, and why the others were not changed."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    refused: Mapping[str, StoreError | TransitionError] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs somebody wants to see; None leaves a question open.

    ``created_from`` and ``created_before`` are Unix seconds, the first included. A job's duration is from its start to
    its end, or to now; those that have not started have none and fit neither ``least_seconds`` nor ``most_seconds``.
    ``kept_at`` leaves out ended jobs whose time is over by then (see ``Job.is_over``).
    """

    states: frozenset[JobState] | None = None
    processes: frozenset[str] | None = None
    owner: str | None = None
    created_from: float | None = None
    created_before: float | None = None
    least_seconds: float | None = None
    most_seconds: float | None = None
    kept_at: float | None = None


_NAMES = tuple(entry.name for entry in fields(Job))
_COLUMNS = tuple(jobs.c[name] for name in _NAMES)
_STATE, _FAILURE = _NAMES.index("state"), _NAMES.index("failure")
_SUBMISSION_COLUMNS = tuple(submissions.c[entry.name] for entry in fields(Submission))

_SHOWN = jobs.c.expired.is_(False)
_HERE = and_(jobs.c.id == bindparam("job"), _SHOWN)
_UNSUBMITTED = jobs.c.submission_id.is_(None)
_ENDED = jobs.c.state.in_([state.value for state in FINAL])
_RUNNING_ON = jobs.c.state.in_([state.value for state in ACTIVE])
_HOLD_WISHED = func.coalesce(jobs.c.wish, "") == "hold"
_FREE_TO_GO = and_(~_HOLD_WISHED, jobs.c.cancel_requested.is_(None))
_OLDEST_FIRST = (jobs.c.created, jobs.c.id)
#: Jobs of one place: a cluster, and the account there (None: the server's own).
_AT = and_(
    jobs.c.cluster == bindparam("on"), jobs.c.account.is_not_distinct_from(bindparam("account_there", type_=String))
)

_ALL = select(*_COLUMNS).where(_SHOWN)
_GET = select(*_COLUMNS).where(_HERE)
_GET_MANY = _ALL.where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_READ_TO_CHANGE = _GET.with_for_update()
_READ_MANY_TO_CHANGE = _GET_MANY.with_for_update()
_NEXT_ACCEPTED = (
    _ALL.where(
        jobs.c.state == JobState.ACCEPTED.value,
        jobs.c.staged.is_(True),
        _FREE_TO_GO,
        _AT,
    )
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("most"))
)
_TO_STAGE = (
    _ALL.where(
        jobs.c.state == JobState.ACCEPTED.value,
        jobs.c.staged.is_(False),
        _FREE_TO_GO,
    )
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("most"))
)
_ASKED_WHILE_WAITING = _ALL.where(
    jobs.c.state.in_(["accepted", "staging", "held"]),
    _UNSUBMITTED,
    or_(
        jobs.c.cancel_requested.is_not(None),
        and_(jobs.c.state == "accepted", _HOLD_WISHED),
        and_(jobs.c.state == "held", jobs.c.wish == "release"),
    ),
).order_by(*_OLDEST_FIRST)
_WAITING_STALE = _ALL.where(
    jobs.c.state.in_(["accepted", "staging", "held"]), _UNSUBMITTED, jobs.c.stale_since.is_not(None)
).order_by(*_OLDEST_FIRST)
_IN_STATE = _ALL.where(jobs.c.state == bindparam("at"), _AT).order_by(*_OLDEST_FIRST)
_AT_SCHEDULER = _ALL.where(jobs.c.scheduler_gone.is_(False), jobs.c.submission_id.is_not(None), _AT).order_by(
    *_OLDEST_FIRST
)
_PLACES = select(jobs.c.cluster, jobs.c.account).where(or_(_RUNNING_ON, jobs.c.scheduler_gone.is_(False))).distinct()
_JOBS_OF_ACCOUNTS = (
    select(jobs.c.cluster, jobs.c.account, func.count())
    .where(jobs.c.account.is_not(None))
    .group_by(jobs.c.cluster, jobs.c.account)
)
_LAIN = and_(_AT, jobs.c.sent_to.is_not_distinct_from(bindparam("sent_there", type_=String)))
_ENDED_THERE = and_(jobs.c.scheduler_gone.is_(False), _ENDED)
_COUNTED = select(jobs.c.cluster, jobs.c.account, jobs.c.sent_to, func.count()).group_by(
    jobs.c.cluster, jobs.c.account, jobs.c.sent_to
)
_WHEREABOUTS = _COUNTED.where(_RUNNING_ON, _SHOWN)
_WHEREABOUTS_OF_ENDED = _COUNTED.where(_ENDED_THERE, _SHOWN)
_TO_STRAND = _ALL.where(
    _RUNNING_ON,
    _LAIN,
    or_(
        jobs.c.stale_since.is_(None),
        jobs.c.reason.is_distinct_from(bindparam("why", type_=String)),
        jobs.c.cancel_requested.is_not(None),
    ),
).order_by(*_OLDEST_FIRST)
_ENDED_AT = _ALL.where(_ENDED_THERE, _LAIN).order_by(*_OLDEST_FIRST)
_OVERDUE = _ALL.where(_RUNNING_ON, jobs.c.deadline < bindparam("moment"), jobs.c.cancel_requested.is_(None))

#: A job that is held waits because somebody wants it to.
_QUEUED_SINCE = _ALL.where(
    jobs.c.state == JobState.QUEUED.value, jobs.c.state_since < bindparam("moment"), jobs.c.cancel_requested.is_(None)
)

_MARKS = {
    "running": and_(jobs.c.state.in_([state.value for state in AT_SCHEDULER]), jobs.c.submission_id.is_not(None)),
    "parked": and_(_UNSUBMITTED, or_(~_FREE_TO_GO, jobs.c.state == "held")),
}
_LOAD = select(func.count(case((_MARKS["running"], 1))), func.count(case((_MARKS["parked"], 1))), func.count()).where(
    _RUNNING_ON, _SHOWN
)
_COUNTS = select(jobs.c.process, jobs.c.state, func.count()).where(_SHOWN).group_by(jobs.c.process, jobs.c.state)

_IDENTITY = select(server.c.identity)
_OLDEST_ACTIVE = select(func.min(jobs.c.created)).where(_RUNNING_ON)

_CHANGEABLE = tuple(name for name in _NAMES if name not in ("id", "created", "request"))
_WRITE = update(jobs).where(jobs.c.id == bindparam("job")).values({n: bindparam(f"to_{n}") for n in _CHANGEABLE})
_WRITE_REQUEST = update(jobs).where(jobs.c.id == bindparam("job")).values(request=bindparam("to_request"))
_INSERT = insert(jobs)

_SUBMISSIONS = select(*_SUBMISSION_COLUMNS).where(submissions.c.id.in_(bindparam("ids", expanding=True)))
_INSERT_SUBMISSION = insert(submissions).returning(submissions.c.id)


def _flags(unless: Any, **values: Any) -> Any:
    """An update that a client's wish makes: never of a job that has ended, and only if it says anything new."""
    news = {**values, "revision": jobs.c.revision + 1}
    return update(jobs).where(_HERE, _RUNNING_ON, unless).values(news)


_WISHES = {
    "cancel": _flags(
        jobs.c.cancel_requested.is_(None), cancel_requested=bindparam("moment"), cancelled_by=bindparam("who")
    ),
    "wish": _flags(jobs.c.wish.is_distinct_from(bindparam("what")), wish=bindparam("what")),
}

_RELEASE = update(jobs).where(_HERE, jobs.c.released.is_(False)).values(released=True, revision=jobs.c.revision + 1)

_PURGEABLE = and_(_ENDED, jobs.c.scheduler_gone.is_(True))
_MARK_EXPIRED = update(jobs).where(_PURGEABLE, _SHOWN, jobs.c.expires <= bindparam("moment")).values(expired=True)
_EXPIRE_NOW = update(jobs).where(_HERE, _ENDED).values(expires=bindparam("moment"))
_EXPIRED = select(jobs.c.id).where(jobs.c.expired.is_(True)).order_by(jobs.c.id).limit(bindparam("most"))
_EXISTING = select(jobs.c.id).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_REMOVE = delete(jobs).where(jobs.c.id == bindparam("job"), jobs.c.expired.is_(True)).returning(jobs.c.submission_id)
_REMOVE_SUBMISSION = delete(submissions).where(
    submissions.c.id == bindparam("submission"),
    ~select(jobs.c.id).where(jobs.c.submission_id == submissions.c.id).exists(),
)


class Store:
    """The jobs and submissions of one server. Any number of threads and processes may use one database at a time.

    ``keep_seconds`` is how long a job stays after its end.
    """

    def __init__(self, url: str, *, keep_seconds: float = 7 * DAY, busy_seconds: float = 10.0) -> None:
        """``url`` is SQLAlchemy's; ``busy_seconds`` bounds the wait for a locked or restarting database."""
        self.database = Database(url, busy_seconds=busy_seconds)
        self.keep_seconds = keep_seconds

    def upgrade(self) -> None:
        """Make the tables, or bring those of an older version to this one's shape. Call once at every start."""
        self.database.upgrade()

    def close(self) -> None:
        """Let go of the connections."""
        self.database.close()

    def identity(self) -> str:
        """Who the server is: 32 letters and digits that were drawn when the database was made, and stay."""
        found: str = self.database.read(lambda connection: connection.execute(_IDENTITY).scalar_one())
        return found

    # Reading

    def get(self, job_id: str) -> Job | None:
        """The job, or None if there is none (any more)."""
        row = self.database.read(lambda connection: connection.execute(_GET, {"job": job_id}).one_or_none())
        return None if row is None else _job(row)

    def get_many(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """Those of the jobs that exist, by id."""
        return {job.id: job for job in map(_job, self._having(_GET_MANY, job_ids))}

    def list_jobs(
        self,
        states: Iterable[JobState] | None = None,
        process: str | None = None,
        owner: str | None = None,
        limit: int = 100,
        before: tuple[float, str] | None = None,
    ) -> list[Job]:
        """The newest jobs first; ``before`` is (created, id) of the last one of the page before."""
        wanted = JobFilter(
            states=None if states is None else frozenset(states),
            processes=None if process is None else frozenset({process}),
            owner=owner,
        )
        return self.find_jobs(wanted, limit, before)

    def find_jobs(self, wanted: JobFilter, limit: int, before: tuple[float, str] | None = None) -> list[Job]:
        """The newest jobs that fit first; ``before`` is (created, id) of the last one of the page before."""
        query = _ALL.where(*_conditions(wanted, time.time()))
        if before is not None:
            query = query.where(_older_than(*before))
        return self._jobs(query.order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(limit))

    def count_by_process(self) -> dict[tuple[str, JobState], int]:
        """How many jobs there are of each process in each state."""
        rows = self.database.read(lambda connection: connection.execute(_COUNTS).all())
        return {(process, JobState(state)): count for process, state, count in rows}

    def count_by_state(self) -> dict[JobState, int]:
        """How many jobs there are in each state; every state is there."""
        counts = dict.fromkeys(JobState, 0)
        for (_, state), count in self.count_by_process().items():
            counts[state] += count
        return counts

    def load(self) -> Load:
        """How many jobs run and wait now."""
        return self.database.read(_load)

    # Clients' side

    def add_job(self, job: Job, *, limits: Limits) -> None:
        """Put a new job in the line, or raise ServerBusy. Counting and inserting are one transaction."""

        def admit(connection: Connection) -> None:
            self.database.lock(connection, ADMISSION_LOCK)
            check_admission(_load(connection), Mode(job.mode), limits)
            connection.execute(_INSERT, _values(replace(job, state_since=job.created)))

        self.database.write(admit)

    def request_cancel(self, job_id: str, by: str) -> Job | None:
        """Ask the worker to end the job; ``by`` is told to the client («dismissed by …»). The first request counts."""
        return self._wish("cancel", job_id, moment=time.time(), who=by)

    def release_id(self, job_id: str) -> None:
        """Let the job's identifier mean nothing any more to clients of WPS 2.0, whoever dismissed it first."""
        self._execute(_RELEASE, job=job_id)

    def request_hold(self, job_id: str) -> Job | None:
        """Ask that the job waits until it is released."""
        return self._wish("wish", job_id, what="hold")

    def request_release(self, job_id: str) -> Job | None:
        """Ask that a held job goes on."""
        return self._wish("wish", job_id, what="release")

    def request_suspend(self, job_id: str) -> Job | None:
        """Ask that a running job pauses."""
        return self._wish("wish", job_id, what="suspend")

    def request_resume(self, job_id: str) -> Job | None:
        """Ask that a suspended job runs on."""
        return self._wish("wish", job_id, what="resume")

    # Worker's side

    def change(
        self, job_id: str, epoch: int, *, expected_revision: int | None = None, **fields: Unpack[JobFields]
    ) -> Job:
        """Change one job and return it as it is now.

        Raises LeaseLost, NoSuchJob, RevisionConflict, and TransitionError (see ``job.advanced``).
        """
        applied = self.apply(epoch, [Change(job_id, fields, expected_revision)])
        for refusal in applied.refused.values():
            raise refusal
        return applied.jobs[job_id]

    def apply(
        self, epoch: int, changes: Sequence[Change] = (), submission_changes: Sequence[SubmissionChange] = ()
    ) -> Applied:
        """Many changes in one transaction. A job that cannot be changed does not keep the others from it."""

        def all_of_them(connection: Connection) -> Applied:
            fence(connection, epoch)
            for change in submission_changes:
                connection.execute(_submission_update(change))
            return self._apply(connection, changes) if changes else Applied()

        return self.database.write(all_of_them)

    def add_submission(
        self, job_ids: Sequence[str], token: str, cluster: str, epoch: int, sent_to: str | None = None
    ) -> Submission:
        """Record, before the submit command is run, that staged, accepted jobs are being submitted together, whose
        folders were ``sent_to`` (see ``Job``).

        They become ``submitting``, as its tasks in this order; the submission is ``unknown`` until its outcome is
        recorded. Their submission number is the next that no attempt has had. Raises NotWaiting, with nothing changed,
        when one of them does not wait any more.
        """
        planned = Submission(0, token, cluster, SubmitState.UNKNOWN, time.time())
        return self.database.write(lambda connection: self._submit(connection, job_ids, planned, epoch, sent_to))

    def submitted(self, job_id: str, submission_id: int, scheduler_id: str, epoch: int) -> Job:
        """Record that the scheduler took a submission of one job, which becomes ``queued`` if it was ``submitting``."""
        known: SubmissionFields = {
            "state": SubmitState.SUBMITTED,
            "scheduler_id": scheduler_id,
            "submitted_at": time.time(),
        }

        def record(connection: Connection) -> Job:
            fence(connection, epoch)
            connection.execute(_submission_update(SubmissionChange(submission_id, known)))
            job = _read_to_change(connection, [job_id]).get(job_id)
            if job is None:
                raise NoSuchJob(f"there is no job {job_id}")
            if job.state is not JobState.SUBMITTING:
                return job
            queued = self._advanced(job, {"state": JobState.QUEUED, "reason": None})
            _write(connection, [(job, queued)])
            return queued

        return self.database.write(record)

    def change_submission(self, submission_id: int, epoch: int, **fields: Unpack[SubmissionFields]) -> Submission:
        """Change one submission and return it as it is now."""
        self.apply(epoch, (), [SubmissionChange(submission_id, fields)])
        changed = self.submission(submission_id)
        if changed is None:
            raise StoreError(f"there is no submission {submission_id}")
        return changed

    def submission(self, submission_id: int) -> Submission | None:
        """The submission, or None."""
        return self.submissions([submission_id]).get(submission_id)

    def submissions(self, submission_ids: Iterable[int]) -> dict[int, Submission]:
        """Those of the submissions that exist, by id."""
        return {row.id: _submission(row) for row in self._having(_SUBMISSIONS, submission_ids)}

    def to_stage(self, limit: int) -> list[Job]:
        """Accepted jobs whose inputs have yet to be fetched, the oldest first; without those held or cancelled."""
        return self._jobs(_TO_STAGE, most=limit)

    def next_accepted(self, cluster: str, limit: int, account: str | None = None) -> list[Job]:
        """Accepted, staged jobs of a cluster and account, the oldest first; without those held or cancelled."""
        return self._jobs(_NEXT_ACCEPTED, on=cluster, account_there=account, most=limit)

    def in_state(self, cluster: str, state: JobState, account: str | None = None) -> list[Job]:
        """Jobs of a cluster and account in one state, the oldest first."""
        return self._jobs(_IN_STATE, at=state.value, on=cluster, account_there=account)

    def places(self) -> set[tuple[str, str | None]]:
        """Clusters, with the accounts there, of all jobs that somebody has to look after."""
        rows = self.database.read(lambda connection: connection.execute(_PLACES).all())
        return {(cluster, account) for cluster, account in rows}

    def active(self, cluster: str, account: str | None = None) -> list[Job]:
        """Jobs that the cluster's scheduler has or may have under that account, the oldest first.

        Also those that are to be cancelled, and those that have ended without the scheduler having let go of them
        (``scheduler_gone``). A job whose submission is still unknown has no scheduler id yet.
        """
        return self._jobs(_AT_SCHEDULER, on=cluster, account_there=account)

    def asked_while_waiting(self) -> list[Job]:
        """Jobs that no scheduler has and whose flags ask for something: to be dismissed, held (``accepted`` →
        ``held``) or released (``held`` → ``accepted``)."""
        return self._jobs(_ASKED_WHILE_WAITING)

    def waiting_stale(self) -> list[Job]:
        """Jobs that no scheduler has and that are marked stale: nobody looked after them when they were last seen."""
        return self._jobs(_WAITING_STALE)

    def whereabouts(self) -> dict[Whereabouts, int]:
        """Where the jobs are that have not ended, and how many."""
        return self._counted(_WHEREABOUTS)

    def whereabouts_of_ended(self) -> dict[Whereabouts, int]:
        """Where the jobs were that have ended without the scheduler having let go of them, and how many."""
        return self._counted(_WHEREABOUTS_OF_ENDED)

    def jobs_of_accounts(self) -> dict[tuple[str, str], int]:
        """How many jobs have a row, hidden or not, of each account of each cluster."""
        rows = self.database.read(lambda connection: connection.execute(_JOBS_OF_ACCOUNTS).all())
        return {(cluster, account): count for cluster, account, count in rows}

    def to_strand(self, where: Whereabouts, reason: str) -> list[Job]:
        """The jobs there that have not ended, the oldest first; without those that are stale for that reason already,
        unless they are to be cancelled."""
        place = {"on": where.cluster, "account_there": where.account, "sent_there": where.sent_to}
        return self._jobs(_TO_STRAND, why=reason, **place)

    def ended_at(self, where: Whereabouts) -> list[Job]:
        """The jobs there that have ended without the scheduler having let go of them, the oldest first."""
        return self._jobs(_ENDED_AT, on=where.cluster, account_there=where.account, sent_there=where.sent_to)

    def overdue(self, now: float) -> list[Job]:
        """Jobs that are past their deadline and that nobody has asked to cancel yet."""
        return self._jobs(_OVERDUE, moment=now)

    def queued_since(self, moment: float) -> list[Job]:
        """Jobs that have waited in a scheduler's queue since before that moment and that nobody has asked to cancel."""
        return self._jobs(_QUEUED_SINCE, moment=moment)

    def oldest_active(self) -> float | None:
        """When the oldest job that has not ended was created."""
        created: float | None = self.database.read(lambda c: c.execute(_OLDEST_ACTIVE).scalar_one())
        return created

    def restart_staging(self, epoch: int) -> list[Job]:
        """Send jobs that a former worker was staging back to ``accepted``; a new worker's first act."""
        found = self.list_jobs(states=[JobState.STAGING], limit=1_000_000)
        changes = [Change(job.id, {"state": JobState.ACCEPTED}, job.revision) for job in found]
        return list(self.apply(epoch, changes).jobs.values())

    # Purging

    def expire_now(self, job_id: str, now: float) -> bool:
        """Let the next purge take an ended job, before its time; false when there is none."""
        return self._execute(_EXPIRE_NOW, job=job_id, moment=now) == 1

    def mark_expired(self, now: float) -> int:
        """Hide all jobs whose time is over and that their scheduler does not have any more; how many there were."""
        return self._execute(_MARK_EXPIRED, moment=now)

    def marked_expired(self, limit: int = 1000) -> list[str]:
        """Ids of hidden jobs, whose folders have to go before their rows."""
        query = {"most": limit}
        return list(self.database.read(lambda connection: connection.execute(_EXPIRED, query).scalars().all()))

    def remove(self, job_id: str) -> None:
        """Forget a hidden job for good, and its submission with the last of its jobs."""

        def forget(connection: Connection) -> None:
            submission_id = connection.execute(_REMOVE, {"job": job_id}).scalar_one_or_none()
            outbox.forget(connection, job_id)
            if submission_id is not None:
                connection.execute(_REMOVE_SUBMISSION, {"submission": submission_id})

        self.database.write(forget)

    def existing(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the ids that have a row, hidden or not."""
        return {job_id for (job_id,) in self._having(_EXISTING, job_ids)}

    def _jobs(self, query: Select[Any], **parameters: Any) -> list[Job]:
        rows = self.database.read(lambda connection: connection.execute(query, parameters).all())
        return [_job(row) for row in rows]

    def _having(self, query: Select[Any], ids: Iterable[Any]) -> list[Row[Any]]:
        wanted = list(ids)
        return self.database.read(lambda connection: _for_each(connection, query, wanted))

    def _counted(self, query: Select[Any]) -> dict[Whereabouts, int]:
        rows = self.database.read(lambda connection: connection.execute(query).all())
        return {Whereabouts(cluster, account, sent_to): count for cluster, account, sent_to, count in rows}

    def _execute(self, statement: Any, **parameters: Any) -> int:
        return self.database.write(lambda connection: connection.execute(statement, parameters).rowcount)

    def _wish(self, wish: str, job_id: str, **parameters: Any) -> Job | None:
        self._execute(_WISHES[wish], job=job_id, **parameters)
        return self.get(job_id)

    def _apply(self, connection: Connection, changes: Sequence[Change]) -> Applied:
        current = _read_to_change(connection, [change.job_id for change in changes])
        steps: list[tuple[Job, Job]] = []
        refused: dict[str, StoreError | TransitionError] = {}
        for change in changes:
            try:
                after = self._changed(current, change)
                steps.append((current[change.job_id], after))
                current[change.job_id] = after
            except (StoreError, TransitionError) as refusal:
                refused[change.job_id] = refusal
        _write(connection, steps, [change.job_id for change in changes if "request" in change.fields])
        return Applied({after.id: after for _, after in steps}, refused)

    def _changed(self, current: Mapping[str, Job], change: Change) -> Job:
        job = current.get(change.job_id)
        if job is None:
            raise NoSuchJob(f"there is no job {change.job_id}")
        if change.expected_revision not in (None, job.revision):
            raise RevisionConflict(f"job {job.id}: revision {job.revision}, not {change.expected_revision}")
        return self._advanced(job, change.fields)

    def _advanced(self, job: Job, fields: Mapping[str, Any]) -> Job:
        return advanced(job, fields, now=time.time(), keep_seconds=self.keep_seconds)

    def _submit(
        self, connection: Connection, job_ids: Sequence[str], planned: Submission, epoch: int, sent_to: str | None
    ) -> Submission:
        fence(connection, epoch)
        current = _read_to_change(connection, job_ids)
        waiting = [_waiting(current.get(job_id), job_id) for job_id in job_ids]
        values = {name: value for name, value in asdict(planned).items() if name != "id"}
        number = connection.execute(_INSERT_SUBMISSION, {**values, "state": planned.state.value}).scalar_one()
        there = {"sent_to": sent_to}
        steps = [(job, self._advanced(job, _task_fields(job, number, n) | there)) for n, job in enumerate(waiting)]
        _write(connection, steps)
        return replace(planned, id=number)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return Store(settings.database_url, keep_seconds=settings.storage.keep_days * DAY)


def _job(row: Row[Any]) -> Job:
    values = list(row)
    values[_STATE] = JobState(values[_STATE])
    if values[_FAILURE] is not None:
        values[_FAILURE] = Failure(**json.loads(values[_FAILURE]))
    return Job(*values)


def _values(job: Job) -> dict[str, Any]:
    failure = None if job.failure is None else json.dumps(asdict(job.failure))
    return {**vars(job), "state": job.state.value, "failure": failure}


def _submission(row: Row[Any]) -> Submission:
    return replace(Submission(*list(row)), state=SubmitState(row.state))


def _older_than(created: float, job_id: str) -> Any:
    return or_(jobs.c.created < created, and_(jobs.c.created == created, jobs.c.id < job_id))


def _conditions(wanted: JobFilter, now: float) -> Iterator[Any]:
    """What a row must be to fit."""
    if wanted.states is not None:
        yield jobs.c.state.in_([state.value for state in wanted.states])
    if wanted.processes is not None:
        yield jobs.c.process.in_(wanted.processes)
    if wanted.kept_at is not None:
        yield or_(~_ENDED, jobs.c.expires.is_(None), jobs.c.expires > wanted.kept_at)
    duration = func.coalesce(jobs.c.finished, now) - jobs.c.started
    compared = (
        (jobs.c.owner.__eq__, wanted.owner),
        (jobs.c.created.__ge__, wanted.created_from),
        (jobs.c.created.__lt__, wanted.created_before),
        (duration.__ge__, wanted.least_seconds),
        (duration.__le__, wanted.most_seconds),
    )
    yield from (fits(value) for fits, value in compared if value is not None)


def _load(connection: Connection) -> Load:
    running, parked, everything = connection.execute(_LOAD).one()
    return Load(running, everything - running - parked, parked)


def _for_each(connection: Connection, query: Select[Any], ids: Sequence[Any]) -> list[Row[Any]]:
    """The rows with these ids, of which there may be any number."""
    some = (ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER))
    return [row for each in some for row in connection.execute(query, {"ids": each})]


def _read_to_change(connection: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    if len(job_ids) == 1:
        rows: Iterable[Row[Any]] = connection.execute(_READ_TO_CHANGE, {"job": job_ids[0]})
    else:
        rows = _for_each(connection, _READ_MANY_TO_CHANGE, job_ids)
    return {job.id: job for job in map(_job, rows)}


def _write(connection: Connection, steps: Sequence[tuple[Job, Job]], with_request: Sequence[str] = ()) -> None:
    """Store jobs (before, after). Always all columns, so that there is one statement to prepare; the request, which may
    be long, only where it was changed."""
    rows = {after.id: _values(after) for _, after in steps}
    parameters = [{"job": key, **{f"to_{n}": row[n] for n in _CHANGEABLE}} for key, row in rows.items()]
    requests = [{"job": key, "to_request": rows[key]["request"]} for key in with_request if key in rows]
    if parameters:
        connection.execute(_WRITE, parameters[0] if len(parameters) == 1 else parameters)
    if requests:
        connection.execute(_WRITE_REQUEST, requests)
    spent.record(connection, steps)
    outbox.record(connection, steps)


def _submission_update(change: SubmissionChange) -> Any:
    values: dict[str, Any] = dict(change.fields)
    if "state" in change.fields:
        values["state"] = change.fields["state"].value
    return update(submissions).where(submissions.c.id == change.submission_id).values(values)


def _waiting(job: Job | None, job_id: str) -> Job:
    """The job, if it may be submitted now."""
    if job is None:
        raise NoSuchJob(f"there is no job {job_id}")
    withdrawn = job.wish == "hold" or job.cancel_requested is not None
    if job.state is not JobState.ACCEPTED or not job.staged or withdrawn:
        raise NotWaiting(f"job {job.id} does not wait to be submitted (it is {job.state})")
    return job


def _task_fields(job: Job, submission_id: int, task: int) -> dict[str, Any]:
    """Attempts are numbered from the submission number on, so the next one starts behind the last attempt."""
    number = max(job.submission_number, job.attempt) + 1
    return {
        "state": JobState.SUBMITTING,
        "submission_id": submission_id,
        "submission_number": number,
        "attempt": number,
        "task": task,
    }
