"""Slurm behind a login node that shares no file system with the server, with or without accounts of its owners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clusters.far import table
from tests.clusters.site import Site
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import Slurm
from tests.services.sshd import Sshd
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.request import ExecuteRequest, Mode


class FarSlurm(SlurmSystem):
    """Slurm by ``transport``; job folders are sent to ``root`` there. ``accounts``: owners to accounts."""

    def __init__(
        self,
        slurm: Slurm,
        sshd: Sshd,
        root: str,
        *,
        transport: str = "ssh_paramiko",
        accounts: Mapping[str, str] | None = None,
        **ssh: Any,
    ) -> None:
        """``ssh``: settings of the connection that differ."""
        accounts = accounts or {}
        always = f'staging = "sftp"\nroot = "{root}"\n'
        if accounts:
            listed = ", ".join(f'"{owner}" = "{account}"' for owner, account in accounts.items())
            # The nodes run the jobs as accounts that cannot read the tests' own Python.
            always += f'accounts = {{ {listed} }}\npython = "/usr/bin/python3"\n'
            ssh = {"identity_files": [str(sshd.key(account)) for account in accounts.values()], **ssh}
        super().__init__(slurm, always=always + table(transport, sshd, **ssh))


def execute(site: Site, owner: str | None, process: str, **inputs: Any) -> Job:
    """Accept one asynchronous Execute of that owner."""
    request = ExecuteRequest(process, "test", site.given(**inputs), mode=Mode.ASYNC, owner=owner)
    return site.intake.execute(request)


def there(site: Site, job: Job, root: Path) -> Path:
    """The job's folder on the cluster."""
    return root / site.job_folder(job).path.relative_to(site.settings.storage.root)
