"""The fault matrix on batch systems that share no folder with the server, which reaches them over SSH.

How long it took to know is printed.
"""

from __future__ import annotations

import pytest

from tests.clusters.batch_system import BatchSystem
from tests.clusters.far import reach
from tests.clusters.matrix import LIMIT_ROW, OUTAGE_ROW, FaultMatrix
from tests.clusters.staged import StagedSlurm
from tests.services.slurm import Slurm
from tests.services.sshd import Sshd

pytestmark = pytest.mark.cluster

#: Those of the main rows in which it matters when files come to be known: each time, as is that of the outage. In the
#: others the batch system has the say, wherever the folder lies; that of the time limit takes long besides, and that of
#: dismissal is in test_far_slurm.py.
TRAVELLING_ROWS = frozenset({"test_however_a_job_ends_it_is_told_truly", "test_check_sends_its_probe"})


@pytest.fixture(scope="module", params=["ssh_paramiko", pytest.param("ssh_openssh", marks=pytest.mark.slow)])
def system(request: pytest.FixtureRequest, slurm_cluster: Slurm, sshd: Sshd) -> BatchSystem:
    """Slurm, to which folders are sent over an SSH transport."""
    return reach(StagedSlurm(slurm_cluster), request.param, sshd)


class TestRowsThatDifferByStaging(FaultMatrix, only=TRAVELLING_ROWS):
    """Each time."""

    of = StagedSlurm


@pytest.mark.slow
class TestTimeLimit(FaultMatrix, only=LIMIT_ROW):
    """Before anything disturbs it."""

    of = StagedSlurm


class TestOutage(FaultMatrix, only=OUTAGE_ROW):
    """Each time: what a job left is known, and no word of the batch system's."""

    of = StagedSlurm


@pytest.mark.slow
class TestOtherRows(FaultMatrix, without=TRAVELLING_ROWS | LIMIT_ROW | OUTAGE_ROW):
    """All others."""

    of = StagedSlurm
