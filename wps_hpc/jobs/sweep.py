"""Removing what is over from a cluster that shares no filesystem with the server: job folders and launchers.

Nothing is remembered between two sweeps: what lies there is listed, and the database says which of it is still wanted.
So whatever was left by a crash, by a connection that was cut or by a job that was dismissed while it was sent, goes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wps_hpc.clusters.cluster import Cluster
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.purge import JOB_ID, ORPHAN_AGE
from wps_hpc.jobs.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """What one sweep did: job folders that were removed, and ``left``, those of no known job that stay for a while."""

    removed: int = 0
    left: int = 0


@dataclass(frozen=True)
class Sweeper:
    """Sweeps one cluster and account. ``launcher`` is the one that jobs are submitted with since ``started``."""

    cluster: Cluster
    store: Store
    launcher: Path
    clock: Callable[[], float] = time.time
    started: float = field(default_factory=time.time)

    def round(self) -> int:
        """Remove all that is over; how many job folders that were. What fails is logged, and left for the next time."""
        try:
            return self.sweep().removed
        except (TransportError, OSError) as error:
            log.warning("cluster %s: what is over there cannot be removed: %s", self.cluster.name, error)
            return 0

    def sweep(self) -> Swept:
        """Remove all that is over; raises TransportError, and OSError for the server's own folder."""
        depot = self.cluster.depot
        if depot is None or not depot.is_there():
            return Swept()
        depot.prepare()
        over, left = self._over(depot.job_folders())
        depot.remove_jobs(over)
        self._remove_launchers(depot)
        if over:
            log.info("cluster %s: removed the folders of %d jobs", self.cluster.name, len(over))
        return Swept(len(over), left)

    def _over(self, folders: Mapping[str, float]) -> tuple[list[str], int]:
        """Jobs of which nothing is wanted there any more: their scheduler has let go of them, and their results are
        here, or are no longer kept. And how many are nobody's, and not long enough yet."""
        ids = [job_id for job_id in folders if JOB_ID.fullmatch(job_id)]
        known, rows = self.store.get_many(ids), self.store.existing(ids)
        purged = [job_id for job_id in rows if job_id not in known]
        ended = [job_id for job_id, job in known.items() if self._is_over(job)]
        # Without a row: of a database that was put back to an earlier state, perhaps. It stays for a while.
        limit = self.clock() - ORPHAN_AGE
        strangers = [job_id for job_id in ids if job_id not in rows]
        orphans = [job_id for job_id in strangers if folders[job_id] < limit]
        return [*purged, *ended, *orphans], len(strangers) - len(orphans)

    def _is_over(self, job: Job) -> bool:
        return job.final and job.scheduler_gone and self.cluster.settings.cleanup == "fetched"

    def _remove_launchers(self, depot: Depot) -> None:
        """Other versions, once every job that may have been submitted with one of them has ended."""
        oldest = self.store.oldest_active()
        if oldest is None or oldest >= self.started:
            depot.remove_launchers_but(self.launcher)
