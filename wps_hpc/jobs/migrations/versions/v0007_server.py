"""Who the server is: a name that folders on clusters are marked with."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table with its one row. It is drawn once, and stays as long as the database, also in its copies."""
    server = op.create_table(
        "server",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("identity", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_server"),
        sa.CheckConstraint("id = 1", name=op.f("ck_server_single")),
    )
    op.bulk_insert(server, [{"id": 1, "identity": secrets.token_hex(16)}])
