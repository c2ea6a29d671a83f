"""Fixtures for all tests. Real services live in `tests/services`, the OGC schemas in `tests/schemas.py`."""

from pathlib import Path

import pytest

from tests.schemas import required_ogc_folder

pytest_plugins = ["tests.services.postgres", "tests.services.pythons", "tests.services.slurm"]


@pytest.fixture(scope="session")
def ogc_schemas() -> Path:
    """The folder with the OGC schemas, laid out like schemas.opengis.net."""
    return required_ogc_folder()
