"""Run by alembic: applies the versions over the connection, and in the transaction, that ``upgrade`` hands over."""

from __future__ import annotations

from alembic import context

import wps_hpc.jobs.outbox
import wps_hpc.jobs.spent  # noqa: F401 -- as does this one
from wps_hpc.jobs.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
