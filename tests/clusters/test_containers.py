"""Jobs in containers by the local scheduler, the server and its jobs being an account without privileges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.ordinary import OrdinarySite
from tests.services.postgres import free_port

pytestmark = pytest.mark.cluster


def contained(image: Path | str, more: str = "", runtime: str = "apptainer") -> str:
    """The tables of a cluster whose jobs run in that image."""
    return f'[clusters.local.container]\nruntime = "{runtime}"\nimage = "{image}"\n{more}'


def opened(local: str) -> OrdinarySite:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-site-"))
    site = OrdinarySite(folder, f"sqlite:///{folder / 'jobs.sqlite'}", local=local)
    site.open()
    return site


@pytest.fixture(scope="module")
def site(images: Path) -> Iterator[OrdinarySite]:
    site = opened(contained(images / "examples.sif"))
    yield site
    site.close()


def test_look(site: OrdinarySite, tmp_path: Path) -> None:
    job = site.execute("look", outside="/etc/hostname", home="/home", port=free_port())
    seen = json.loads(site.result(job))
    print(json.dumps(seen, indent=1))
    assert 0
