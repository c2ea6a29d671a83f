"""Who may see the list of jobs, and control them.

=====================================  =================  =======================
server                                 asker              sees and controls
=====================================  =================  =======================
no ``trusted_proxies``, on loopback    anybody            all jobs
no ``trusted_proxies``, public         anybody            nothing: both are off
``trusted_proxies``                    a named owner      the jobs of that owner
``trusted_proxies``                    nobody in          nothing
                                       particular
=====================================  =================  =======================

A single job can be looked at by whoever knows its address.
"""

from __future__ import annotations

from dataclasses import dataclass

from wps_hpc.config import Server
from wps_hpc.errors import ServiceError
from wps_hpc.jobs.job import Job


class AccessDenied(ServiceError):
    """The asker may not see the list of jobs, or may not control this job: NoApplicableCode with 403."""

    http_status = 403


@dataclass(frozen=True)
class Access:
    """The rule above, for one server."""

    server: Server

    @property
    def is_on(self) -> bool:
        """Whether anybody at all may list and control jobs by a protocol."""
        return bool(self.server.trusted_proxies) or not self.server.is_public

    def whose(self, owner: str | None) -> str | None:
        """The owner whose jobs the asker may list; None for those of all. Raises AccessDenied."""
        if not self.is_on:
            raise AccessDenied(
                "Listing and controlling jobs are off here: the server is public and does not know who is asking."
            )
        if self.server.trusted_proxies and owner is None:
            raise AccessDenied("Listing and controlling jobs are for users who have logged in.")
        return owner if self.server.trusted_proxies else None

    def check_control(self, job: Job, owner: str | None) -> None:
        """Raise AccessDenied unless the asker may control this job."""
        mine = self.whose(owner)
        if mine is not None and job.owner != mine:
            raise AccessDenied("This job belongs to somebody else.")
