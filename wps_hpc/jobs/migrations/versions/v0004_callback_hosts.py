"""The hosts of callbacks, so that one that does not answer keeps no others waiting."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column. Callbacks of an older version count as one host: they are few, and soon gone."""
    op.add_column("callbacks", sa.Column("host", sa.Text, nullable=False, server_default=""))
