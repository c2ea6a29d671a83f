"""The service that the conformance tests ask: the real one, over HTTP, with the example processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.clusters.wps2_wire import Wire, running
from tests.protocols.conftest import CheckedClient, settings_with
from tests.protocols.site import Site
from tests.services.website import Website, website
from wps_hpc.app import create_app


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One server for all standards."""
    with running(tmp_path_factory.mktemp("site")) as started:
        yield started


@pytest.fixture
def remote() -> Iterator[Website]:
    """Where inputs by reference come from."""
    with website() as site:
        yield site


@contextmanager
def in_memory() -> Iterator[tuple[CheckedClient, Site]]:
    """A client and a site in memory, with processes that the examples have not."""
    with TemporaryDirectory() as folder:
        site = Site(Path(folder))
        yield CheckedClient(create_app(settings_with(), site.backend)), site


@pytest.fixture
def memory() -> Iterator[tuple[CheckedClient, Site]]:
    """The same as a fixture."""
    with in_memory() as made:
        yield made
