"""What docs/adding-a-scheduler.md names is there."""

import re

import pytest

from tests.schemas import ROOT
from wps_hpc import config
from wps_hpc.clusters import cluster
from wps_hpc.clusters.schedulers import base

PAGE = (ROOT / "docs" / "adding-a-scheduler.md").read_text()
FILES = sorted({path for path in re.findall(r"`([\w./]+/[\w./]+)`", PAGE) if "NAME" not in path})
TABLES = sorted(set(re.findall(r"`([A-Z_]{6,})`", PAGE)))


@pytest.mark.parametrize("path", FILES)
def test_every_file_exists(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "wps_hpc" / path).exists()


@pytest.mark.parametrize("name", TABLES)
def test_every_table_exists_and_has_every_scheduler_where_it_should(name: str) -> None:
    table = getattr(cluster, name, None) or getattr(config, name)
    if name in ("SCHEDULERS", "TRANSPORTS"):
        assert set(table) == set(config.Cluster.model_fields["scheduler"].annotation.__args__)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["Refused", "Unknown", "CouldNotAsk", "JobWord"])
def test_every_answer_exists(name: str) -> None:
    assert f"`{name}" in PAGE and hasattr(base, name)


@pytest.mark.parametrize("name", ["torque", "gridengine", "openpbs", "slurm"])
def test_every_scheduler_has_recordings_and_a_template(name: str) -> None:
    assert list((ROOT / "tests" / "recorded" / name).glob("*.yaml"))
    assert (ROOT / "batch_templates" / f"{cluster.TEMPLATES.get(name, name)}.sh.j2").exists()
