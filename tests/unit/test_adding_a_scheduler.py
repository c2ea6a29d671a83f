"""What docs/adding-a-scheduler.md names is there."""

import re
from types import ModuleType

import pytest

from tests.clusters import (
    test_drmaa,
    test_far_batch,
    test_far_gridengine,
    test_far_staged,
    test_gridengine,
    test_gridengine_staged,
    test_slurm,
)
from tests.clusters.batch_system import BatchSystem
from tests.clusters.matrix import MAIN_ROWS, FaultMatrix
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


def rows(matrix: type[FaultMatrix]) -> set[str]:
    """The names of the tests that a matrix has."""
    return {name for name in dir(matrix) if name.startswith("test_") and callable(getattr(matrix, name))}


@pytest.mark.parametrize("part", [BatchSystem, FaultMatrix])
def test_what_the_matrix_is_made_of_is_named(part: type) -> None:
    assert f"`{part.__name__}`" in PAGE


@pytest.mark.parametrize("matrix", [test_slurm.TestFaultMatrix, test_gridengine.TestFaultMatrix])
def test_a_scheduler_that_is_tested_for_real_has_all_rows(matrix: type[FaultMatrix]) -> None:
    assert matrix.of.scheduler in cluster.SCHEDULERS
    assert rows(matrix) == rows(FaultMatrix)


def test_a_second_way_to_a_scheduler_has_the_main_rows() -> None:
    assert rows(test_drmaa.TestMainRows) == MAIN_ROWS < rows(FaultMatrix)


def rows_of(module: ModuleType, *, each_time: bool = False) -> set[str]:
    """The rows that a module has in all its matrices; ``each_time``: without those that are marked slow."""
    matrices = {part for part in vars(module).values() if isinstance(part, type) and issubclass(part, FaultMatrix)}
    slow = {part for part in matrices if any(mark.name == "slow" for mark in getattr(part, "pytestmark", ()))}
    chosen = matrices - {FaultMatrix} - (slow if each_time else set())
    return set().union(*(rows(matrix) for matrix in chosen))


@pytest.mark.parametrize("module", [test_far_batch, test_far_gridengine, test_far_staged, test_gridengine_staged])
def test_over_ssh_there_are_all_rows_in_time(module: ModuleType) -> None:
    assert rows_of(module) == rows(FaultMatrix)


@pytest.mark.parametrize("module", [test_far_batch, test_far_gridengine])
def test_over_ssh_there_are_the_main_rows_each_time(module: ModuleType) -> None:
    assert rows_of(module, each_time=True) == MAIN_ROWS


def test_where_folders_are_sent_there_are_main_rows_each_time() -> None:
    assert set() < rows_of(test_far_staged, each_time=True) < MAIN_ROWS
