"""The account that a job runs under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column: jobs of an older version run under the server's own account."""
    op.add_column("jobs", sa.Column("account", sa.String(100)))
