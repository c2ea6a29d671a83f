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


#: A cluster is started once: what needs it runs in one process, and first, also where several processes share the work.
CLUSTERS = ("slurm_cluster", "grid_engine")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests, by the cluster that they need or else by file, for pytest-xdist's ``--dist loadgroup``."""

    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            needed = [name for name in CLUSTERS if name in getattr(item, "fixturenames", ())]
            item.add_marker(pytest.mark.xdist_group(needed[0] if needed else str(item.path)))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    return CLUSTERS.index(group.args[0]) if group is not None and group.args[0] in CLUSTERS else len(CLUSTERS)
