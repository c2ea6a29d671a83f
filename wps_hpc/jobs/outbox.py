"""The outbox of callbacks: what is to be told to subscribers, recorded in the transaction that makes it true.

A row is there from the moment that its job has changed until it was delivered, given up, or its job is gone. So nothing
is lost whenever a process dies, and what was sent just before a crash is sent again: a subscriber hears of everything
at least once, or for as many times as the configuration says in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import fence
from wps_hpc.jobs.requestjson import subscriber_of
from wps_hpc.jobs.tables import metadata

if TYPE_CHECKING:
    from wps_hpc.jobs.database import Database

#: ``attempts`` have failed so far; the next one is due at ``due``, in Unix seconds.
callbacks = Table(
    "callbacks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", String(36), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("uri", Text, nullable=False),
    Column("due", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_callbacks_due", callbacks.c.due)
Index("ix_callbacks_job_id", callbacks.c.job_id)


@dataclass(frozen=True)
class Callback:
    """One thing to tell one subscriber. ``kind`` is a field of ``Subscriber``."""

    id: int
    job_id: str
    kind: str
    uri: str
    due: float
    attempts: int


#: What is told when a job comes into a state. A job that was dismissed has failed for whoever waits for its results.
KINDS: Mapping[JobState, str] = {
    JobState.RUNNING: "in_progress",
    JobState.SUCCEEDED: "success",
    JobState.FAILED: "failed",
    JobState.DISMISSED: "failed",
}

_INSERT = insert(callbacks)
_DUE = (
    select(*callbacks.c).where(callbacks.c.due <= bindparam("now")).order_by(callbacks.c.due).limit(bindparam("most"))
)
_NEXT = select(func.min(callbacks.c.due))
_COUNT = select(func.count()).select_from(callbacks)
_DONE = delete(callbacks).where(callbacks.c.id == bindparam("row"))
_OVERTAKEN = delete(callbacks).where(callbacks.c.job_id == bindparam("job"), callbacks.c.kind == "in_progress")
_OF_JOB = delete(callbacks).where(callbacks.c.job_id == bindparam("job"))
_LATER = (
    update(callbacks)
    .where(callbacks.c.id == bindparam("row"))
    .values(attempts=bindparam("failed"), due=bindparam("again"))
)


def record(connection: Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Put what is to be told of jobs (before, after) into the outbox, in the transaction that changes the jobs.

    The end of a job overtakes the news that it runs.
    """
    for before, after in changes:
        if before.state != after.state:
            if after.final and subscriber_of(after.request) is not None:
                connection.execute(_OVERTAKEN, {"job": after.id})
            for callback in _news(before, after):
                connection.execute(_INSERT, {name: v for name, v in asdict(callback).items() if name != "id"})


def _news(before: Job, after: Job) -> Iterator[Callback]:
    kind = KINDS.get(after.state)
    # A job that was suspended, or runs anew, has been said to run.
    if kind is None or (kind == "in_progress" and before.started is not None):
        return
    subscriber = subscriber_of(after.request)
    uri: str | None = None if subscriber is None else getattr(subscriber, kind)
    if uri is not None:
        yield Callback(0, after.id, kind, uri, after.state_since or after.created, 0)


def forget(connection: Connection, job_id: str) -> None:
    """Nothing more is to be told of a job that is gone."""
    connection.execute(_OF_JOB, {"job": job_id})


class Outbox:
    """The worker's side: what is due, and what became of it. Changes are fenced by the epoch of the lease."""

    def __init__(self, database: Database, epoch: int) -> None:
        self._database = database
        self._epoch = epoch

    def due(self, now: float, most: int) -> list[Callback]:
        """What is to be sent now, the longest due first."""
        query = {"now": now, "most": most}
        rows = self._database.read(lambda connection: connection.execute(_DUE, query).all())
        return [Callback(*row) for row in rows]

    def next_due(self) -> float | None:
        """When something is due next; None when the outbox is empty."""
        found: float | None = self._database.read(lambda connection: connection.execute(_NEXT).scalar_one())
        return found

    def done(self, callback: Callback) -> None:
        """It was delivered, or is not to be tried again. Raises LeaseLost."""
        self._write(_DONE, {"row": callback.id})

    def later(self, callback: Callback, due: float) -> None:
        """It could not be delivered and is to be tried again. Raises LeaseLost."""
        self._write(_LATER, {"row": callback.id, "failed": callback.attempts + 1, "again": due})

    def _write(self, statement: object, values: Mapping[str, object]) -> None:
        def work(connection: Connection) -> None:
            fence(connection, self._epoch)
            connection.execute(statement, values)  # type: ignore[call-overload]

        self._database.write(work)


def waiting(database: Database) -> int:
    """How many callbacks are yet to be delivered, for the metrics."""
    count: int = database.read(lambda connection: connection.execute(_COUNT).scalar_one())
    return count
