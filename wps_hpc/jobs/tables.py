"""The tables of the job database, as SQLAlchemy Core has them; ``migrations`` brings a real database to this shape.

Times are Unix seconds. States are the words of ``JobState`` and ``SubmitState``.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

#: Constraint names that migrations can refer to on every database.
NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}

metadata = MetaData(naming_convention=NAMES)

#: One submission to a scheduler. Ids are never used again, so that a late report cannot hit another job.
submissions = Table(
    "submissions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token", String(15), nullable=False, unique=True),
    Column("cluster", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("prepared_at", Double, nullable=False),
    Column("scheduler_id", String(200)),
    Column("submitted_at", Double),
    Column("lookups", Integer, nullable=False),
    Column("ended_seen_at", Double),
    sqlite_autoincrement=True,
)

#: One Execute. ``request`` stands last: SQLite then reads the short columns without following overflow pages.
#: ``failure`` is JSON. An ``expired`` row is about to be purged and is nobody's any more.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("process", String(500), nullable=False),
    Column("process_version", String(100), nullable=False),
    Column("protocol", String(50), nullable=False),
    Column("mode", String(10), nullable=False),
    Column("state", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("cluster", String(100), nullable=False),
    Column("owner", String(500)),
    Column("started", Double),
    Column("finished", Double),
    Column("expires", Double),
    Column("deadline", Double),
    Column("reason", Text),
    Column("stale_since", Double),
    Column("failure", Text),
    Column("cancel_requested", Double),
    Column("cancelled_by", String(500)),
    Column("wish", String(20)),
    Column("submission_id", Integer, ForeignKey(submissions.c.id)),
    Column("submission_number", Integer, nullable=False),
    Column("task", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("scheduler_gone", Boolean, nullable=False),
    Column("staged", Boolean, nullable=False),
    Column("state_since", Double),
    Column("released", Boolean, nullable=False, server_default=false()),
    Column("account", String(100)),
    Column("sent_to", Text),
    Column("expired", Boolean, nullable=False, server_default=false()),
    Column("request", Text, nullable=False),
)
Index("ix_jobs_state_created", jobs.c.state, jobs.c.created)
Index("ix_jobs_created", jobs.c.created)
Index("ix_jobs_owner_created", jobs.c.owner, jobs.c.created)
Index("ix_jobs_expires", jobs.c.expires)
Index("ix_jobs_submission_id", jobs.c.submission_id)
Index("ix_jobs_scheduler_gone_submission_id", jobs.c.scheduler_gone, jobs.c.submission_id)

#: Which worker is the active one: a single row, made by the migration. ``expires`` is on the database's clock.
lease = Table(
    "lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("expires", Double, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

#: Who the server is, to whom folders on clusters belong: a single row, made by the migration.
server = Table(
    "server",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("identity", String(32), nullable=False),
    CheckConstraint("id = 1", name="single"),
)
