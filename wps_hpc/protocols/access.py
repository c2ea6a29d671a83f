"""Who may see the list of jobs: the counterpart of ``control``, which says who may steer one."""

from __future__ import annotations

from wps_hpc.config import Server
from wps_hpc.errors import Forbidden


def whose_jobs(server: Server, owner: str | None) -> str | None:
    """The owner whose jobs the asker may list; None for all jobs, where only users of this host can ask.

    Raises Forbidden on a published server that does not know who is asking, and for nobody in particular where owners
    are known. A single job can be looked at by whoever knows its address.
    """
    if not server.job_control:
        raise Forbidden("The list of jobs is off: this service is public, and nobody says who is asking.")
    if server.trusted_proxies and owner is None:
        raise Forbidden("The list of jobs is for users who have logged in.")
    return owner if server.trusted_proxies else None
