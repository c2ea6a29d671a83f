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


def table(kind: str, sshd: Sshd, **more: Any) -> str:
    """The lines of a cluster's table for a transport to this login node."""
    own = settings(sshd, **more).model_dump(mode="json", exclude_unset=True)
    return f'transport = "{kind}"\nssh = {{ {", ".join(f"{name} = {_toml(value)}" for name, value in own.items())} }}'


def _toml(value: object) -> str:
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def reach(system: BatchSystem, kind: str, sshd: Sshd, **more: Any) -> BatchSystem:
    """The system over a transport; ``more``: settings of the connection that differ."""
    system.always = "\n".join((system.always, table(kind, sshd, **more)))
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
