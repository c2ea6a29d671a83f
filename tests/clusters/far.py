"""Batch systems of the fault matrix that are reached over SSH, with the jobs' folders under another path there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clusters.batch_system import BatchSystem
from tests.clusters.login import settings
from tests.clusters.site import Site
from tests.services.sshd import Sshd

#: What a way over a connection has to show each time, and what it has to when there is time.
FAR_ROWS = frozenset(
    {
        "test_however_a_job_ends_it_is_told_truly",
        "test_dismissed",
        "test_held_and_released",
        "test_check_sends_its_probe",
    }
)
MORE_FAR_ROWS = frozenset(
    {
        "test_cancelled_by_an_administrator_while_it_runs",
        "test_suspended_and_resumed",
        "test_what_is_refused_for_good",
        "test_a_worker_that_dies_neither_loses_nor_doubles_the_job",
        "test_a_master_that_is_down_at_submission_while_jobs_wait_and_run_and_at_their_end",
    }
)


def table(kind: str, sshd: Sshd, **more: Any) -> str:
    """The lines of a cluster's table for a transport to this login node."""
    own = settings(sshd, **more).model_dump(mode="json", exclude_unset=True)
    return f'transport = "{kind}"\nssh = {{ {", ".join(f"{name} = {_toml(value)}" for name, value in own.items())} }}'


def _toml(value: object) -> str:
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def reach(system: BatchSystem, kind: str, sshd: Sshd) -> BatchSystem:
    """The system over a transport."""
    system.always = "\n".join((system.always, table(kind, sshd)))
    return system


@contextmanager
def elsewhere(site: Site, there: Path) -> Iterator[None]:
    """Within the block, a site's storage is to be seen at ``there`` as well: a mount, as nodes have it."""
    here = site.settings.storage.root
    here.mkdir(mode=0o700, exist_ok=True)
    there.mkdir()
    subprocess.run(["mount", "--bind", str(here), str(there)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(there)], check=True)
