"""How long jobs stay in each state, summed by process:

what the metrics show, and what purging must not take away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Double, Integer, String, Table, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.tables import metadata

if TYPE_CHECKING:
    from wps_hpc.jobs.database import Database

#: ``jobs`` have left the state after ``seconds`` altogether; for a final state they have entered it, after none.
state_seconds = Table(
    "state_seconds",
    metadata,
    Column("process", String(500), primary_key=True),
    Column("state", String(20), primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
)


def _upsert(insert: Any) -> Any:
    new = insert(state_seconds).values(
        process=bindparam("p"), state=bindparam("s"), jobs=bindparam("n"), seconds=bindparam("t")
    )
    added = {name: state_seconds.c[name] + new.excluded[name] for name in ("jobs", "seconds")}
    return new.on_conflict_do_update(index_elements=["process", "state"], set_=added)


_ADD = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}


@dataclass(frozen=True)
class Spent:
    """How many jobs of a process have been in a state, and for how many seconds altogether."""

    process: str
    state: JobState
    jobs: int
    seconds: float


def stays(before: Job, after: Job) -> list[Spent]:
    """What a change of a job adds:

    its stay in the former state, and its end. Nothing if the state is the same.
    """
    if before.state == after.state:
        return []
    since = before.created if before.state_since is None else before.state_since
    until = since if after.state_since is None else after.state_since
    left = Spent(before.process, before.state, 1, max(0.0, until - since))
    return [left, Spent(after.process, after.state, 1, 0.0)] if after.final else [left]


def record(connection: Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Add the stays of jobs (before, after) to the sums, in the transaction that changes the jobs."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for stay in (stay for before, after in changes for stay in stays(before, after)):
        entry = sums[stay.process, stay.state.value]
        entry[0] += stay.jobs
        entry[1] += stay.seconds
    # In one order everywhere, so that two transactions cannot wait for each other.
    for (process, state), (jobs, seconds) in sorted(sums.items()):
        connection.execute(_ADD[connection.dialect.name], {"p": process, "s": state, "n": jobs, "t": seconds})


def read(database: Database) -> list[Spent]:
    """All sums."""
    rows = database.read(lambda connection: connection.execute(select(state_seconds)).all())
    return [Spent(row.process, JobState(row.state), row.jobs, row.seconds) for row in rows]
