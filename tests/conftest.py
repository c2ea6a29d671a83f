"""Fixtures for all tests. Real services live in `tests/services`, the OGC schemas in `tests/schemas.py`."""

import signal
from pathlib import Path

import pytest

from tests.schemas import required_ogc_folder

# A shell starts what it puts into the background with SIGINT ignored, and so would be every child of the tests, among
# them those that a test ends by Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.services.postgres",
    "tests.services.pythons",
    "tests.services.slurm",
    "tests.services.gridengine",
    "tests.services.containers",
    "tests.services.sshd",
]


@pytest.fixture(scope="session")
def ogc_schemas() -> Path:
    """The folder with the OGC schemas, laid out like schemas.opengis.net."""
    return required_ogc_folder()


#: The files of tests on these come first: they take the longest, which matters where two processes share the files.
CLUSTERS = ("slurm_cluster", "grid_engine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests on a cluster first, otherwise in their order."""
    first = {item.path for item in items if not {*CLUSTERS}.isdisjoint(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in first)
