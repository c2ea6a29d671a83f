"""Grid Engine over SSH: the rows that show a way to a batch system."""

from __future__ import annotations

import pytest

from tests.clusters.batch_system import BatchSystem
from tests.clusters.far import reach
from tests.clusters.matrix import MAIN_ROWS, FaultMatrix
from tests.clusters.systems import GridEngineSystem
from tests.services.gridengine import GridEngine
from tests.services.sshd import Sshd

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", params=["ssh_paramiko", pytest.param("ssh_openssh", marks=pytest.mark.slow)])
def system(request: pytest.FixtureRequest, grid_engine: GridEngine, sshd: Sshd) -> BatchSystem:
    """Grid Engine over an SSH transport."""
    return reach(GridEngineSystem(grid_engine), request.param, sshd)


class TestMainRows(FaultMatrix, only=MAIN_ROWS):
    """What a connection has to show each time."""

    of = GridEngineSystem


@pytest.mark.slow
class TestOtherRows(FaultMatrix, without=MAIN_ROWS):
    """All others: the folders are shared, so each of them makes sense."""

    of = GridEngineSystem
