"""Jobs whose identifier was released: WPS 2.0 knows them no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: How such jobs were marked before.
_MARKED = "UPDATE jobs SET released = :yes WHERE cancelled_by LIKE '%(Dismiss of WPS 2.0)'"


def upgrade() -> None:
    """Add the column, and set it where the words of the dismissal said so."""
    op.add_column("jobs", sa.Column("released", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute(sa.text(_MARKED).bindparams(sa.bindparam("yes", True, sa.Boolean)))
