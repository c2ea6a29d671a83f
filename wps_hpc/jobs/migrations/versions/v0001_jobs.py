"""The first tables: jobs, their submissions, the workers' lease, and the time spent in each state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INDEXED = (
    ["state", "created"],
    ["created"],
    ["owner", "created"],
    ["expires"],
    ["submission_id"],
    ["scheduler_gone", "submission_id"],
)


def upgrade() -> None:
    """Make the tables, and the lease that nobody holds yet."""
    _make_submissions()
    _make_jobs()
    _make_lease()
    _make_state_seconds()


def _make_submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("token", sa.String(15), nullable=False),
        sa.Column("cluster", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("prepared_at", sa.Double, nullable=False),
        sa.Column("scheduler_id", sa.String(200)),
        sa.Column("submitted_at", sa.Double),
        sa.Column("lookups", sa.Integer, nullable=False),
        sa.Column("ended_seen_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_submissions"),
        sa.UniqueConstraint("token", name="uq_submissions_token"),
        sqlite_autoincrement=True,
    )


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        *_what_was_asked(),
        *_what_became_of_it(),
        sa.Column("request", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name="fk_jobs_submission_id"),
    )
    for columns in INDEXED:
        op.create_index("ix_jobs_" + "_".join(columns), "jobs", columns)


def _what_was_asked() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("process", sa.String(500), nullable=False),
        sa.Column("process_version", sa.String(100), nullable=False),
        sa.Column("protocol", sa.String(50), nullable=False),
        sa.Column("mode", sa.String(10), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("percent", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("cluster", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(500)),
    )


def _what_became_of_it() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("started", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("expires", sa.Double),
        sa.Column("deadline", sa.Double),
        sa.Column("reason", sa.Text),
        sa.Column("stale_since", sa.Double),
        sa.Column("failure", sa.Text),
        sa.Column("cancel_requested", sa.Double),
        sa.Column("cancelled_by", sa.String(500)),
        sa.Column("wish", sa.String(20)),
        sa.Column("submission_id", sa.Integer),
        sa.Column("submission_number", sa.Integer, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("scheduler_gone", sa.Boolean, nullable=False),
        sa.Column("staged", sa.Boolean, nullable=False),
        sa.Column("state_since", sa.Double),
        sa.Column("expired", sa.Boolean, nullable=False, server_default=sa.false()),
    )


def _make_lease() -> None:
    lease = op.create_table(
        "lease",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lease"),
        sa.CheckConstraint("id = 1", name=op.f("ck_lease_single")),
    )
    op.bulk_insert(lease, [{"id": 1, "holder": "", "epoch": 0, "expires": 0.0}])


def _make_state_seconds() -> None:
    op.create_table(
        "state_seconds",
        sa.Column("process", sa.String(500), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("jobs", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("process", "state", name="pk_state_seconds"),
    )
