"""The folder on the cluster that a job's folder was sent to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column. Nobody noted it for jobs of an older version: they count as where the configuration says."""
    op.add_column("jobs", sa.Column("sent_to", sa.Text))
