"""The outbox of callbacks to subscribers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, empty: no job of an older version has a subscriber."""
    op.create_table(
        "callbacks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_callbacks"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_callbacks_due", "callbacks", ["due"])
    op.create_index("ix_callbacks_job_id", "callbacks", ["job_id"])
