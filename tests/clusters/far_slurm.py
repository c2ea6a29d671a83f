"""Slurm behind a login node that shares no file system with the server, with or without accounts of its owners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clusters.login import settings
from tests.clusters.site import Site
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import Slurm
from tests.services.sshd import Sshd
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.request import ExecuteRequest, Mode

SSH_TABLE = """
[clusters.hpc.ssh]
host = "{host}"
port = {port}
user = "{user}"
identity_files = [{keys}]
agent = false
known_hosts = ["{known_hosts}"]
config = "{config}"
connect_seconds = 30.0
"""


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
        port: int | None = None,
        more: str = "",
    ) -> None:
        accounts = accounts or {}
        always = f'transport = "{transport}"\nstaging = "sftp"\nroot = "{root}"\n{more}\n'
        if accounts:
            table = ", ".join(f'"{owner}" = "{account}"' for owner, account in accounts.items())
            # The nodes run the jobs as accounts that cannot read the tests' own Python.
            always += f'accounts = {{ {table} }}\npython = "/usr/bin/python3"\n'
        super().__init__(slurm, always=always)
        keys = [sshd.key(account) for account in accounts.values()] or [sshd.key()]
        own = settings(sshd)
        self._table = SSH_TABLE.format(
            host=sshd.host,
            port=port or sshd.port,
            user=sshd.account,
            keys=", ".join(f'"{key}"' for key in keys),
            known_hosts=own.known_hosts[0],
            config=own.config,
        )

    def make_site(self, *, more: str = "", **options: Any) -> Site:
        """See ``BatchSystem.make_site``."""
        return super().make_site(more=f"{self._table}\n{more}", **options)


def execute(site: Site, owner: str | None, process: str, **inputs: Any) -> Job:
    """Accept one asynchronous Execute of that owner."""
    request = ExecuteRequest(process, "test", site.given(**inputs), mode=Mode.ASYNC, owner=owner)
    return site.intake.execute(request)


def there(site: Site, job: Job, root: Path) -> Path:
    """The job's folder on the cluster."""
    return root / site.job_folder(job).path.relative_to(site.settings.storage.root)
